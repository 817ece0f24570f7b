//===- AttnTensorVerify.cpp - Verifiers of the ops on whole tensors -------===//
//
// Each check carries the number of its constraint in docs/spec.md.
//
//===----------------------------------------------------------------------===//
#include "dialect/Attn.h"
#include "dialect/AttnDims.h"
#include "dialect/ScalarCode.h"
#include "mlir/IR/Matchers.h"

#include <cmath>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

namespace {

constexpr int64_t unknown = ShapedType::kDynamic;
constexpr int64_t maxPosition = int64_t(1) << 30;

bool isStorage(Type t) { return t.isF32() || t.isF16() || t.isBF16(); }
bool isRowNumber(Type t) { return t.isInteger(32) || t.isInteger(64); }

/// One expected size: any of a static one or 1.
struct Size {
  int64_t size = unknown;
  bool orOne = false;
};

RankedTensorType typeOf(Value v) { return cast<RankedTensorType>(v.getType()); }
int64_t dim(Value v, int64_t n) { return typeOf(v).getDimSize(n); }

std::string text(ArrayRef<Size> sizes) {
  std::string s = "[";
  for (auto [n, size] : llvm::enumerate(sizes)) {
    std::string one = ShapedType::isDynamic(size.size) ? "?" : std::to_string(size.size);
    s += (n ? ", " : "") + (size.orOne && one != "1" ? "1 or " + one : one);
  }
  return s + "]";
}

LogicalResult expectShape(Operation *op, StringRef what, Value v, ArrayRef<Size> sizes) {
  ArrayRef<int64_t> got = typeOf(v).getShape();
  bool fits = got.size() == sizes.size();
  for (size_t n = 0; fits && n < got.size(); ++n) {
    fits = sizes[n].orOne ? mayBroadcast(got[n], sizes[n].size) : mayEqual(got[n], sizes[n].size);
  }
  if (fits) {
    return success();
  }
  return op->emitOpError("expected ") << what << " to have shape " << text(sizes) << ", but got " << v.getType();
}

LogicalResult expectRows(Operation *op, StringRef what, Value v) {
  RankedTensorType t = typeOf(v);
  if (t.getRank() == 4 && isStorage(t.getElementType())) {
    return success();
  }
  return op->emitOpError("expected ") << what << " to be [B, H, N, D] of f32, f16 or bf16, but got " << t;
}

LogicalResult expectElement(Operation *op, StringRef what, Value v, Type element) {
  if (typeOf(v).getElementType() == element) {
    return success();
  }
  return op->emitOpError("expected ") << what << " to have element type " << element << ", but got " << v.getType();
}

LogicalResult expectPositive(Operation *op, StringRef what, int64_t n) {
  if (n >= 1 && n < maxPosition) {
    return success();
  }
  return op->emitOpError("expected ") << what << " from 1 to " << maxPosition - 1 << ", but got " << n;
}

LogicalResult expectOffset(Operation *op, int64_t n) {
  if (std::abs(n) < maxPosition) {
    return success();
  }
  return op->emitOpError("expected an offset below 2^30 in magnitude, but got ") << n;
}

LogicalResult expectEps(Operation *op, std::optional<double> eps) {
  if (!eps || (std::isfinite(*eps) && *eps >= 0)) {
    return success();
  }
  return op->emitOpError("expected a finite eps of at least 0, but got ") << *eps;
}

/// Windows of `size` rows with a step, see attn.pool.
int64_t windowCount(int64_t rows, int64_t size, int64_t step, int64_t offset, bool partial) {
  if (ShapedType::isDynamic(rows)) {
    return unknown;
  }
  if (partial) {
    return llvm::divideCeil(rows, step);
  }
  return rows - offset < size ? 0 : (rows - offset - size) / step + 1;
}

/// `[1 or B, M]` or `[1 or B, 1 or H, M]` of i32 or i64; m is M.
LogicalResult expectRowList(Operation *op, Value rows, int64_t batch, int64_t heads, int64_t m) {
  RankedTensorType t = typeOf(rows);
  if (!isRowNumber(t.getElementType()) || (t.getRank() != 2 && t.getRank() != 3)) {
    return op->emitOpError("expected rows to be [B, M] or [B, H, M] of i32 or i64, but got ") << t;
  }
  SmallVector<Size> sizes = {{batch, true}};
  if (t.getRank() == 3) {
    sizes.push_back({heads, true});
  }
  sizes.push_back({m});
  return expectShape(op, "rows", rows, sizes);
}

} // namespace

//===----------------------------------------------------------------------===//
// Summaries
//===----------------------------------------------------------------------===//

LogicalResult PoolOp::verify() {
  // pool_c1: x is [B, H, N, D] of a storage type, y has its element type.
  if (failed(expectRows(*this, "x", getInput())) ||
      failed(expectElement(*this, "the result", getResult(), typeOf(getInput()).getElementType()))) {
    return failure();
  }
  // pool_c2: size and stride are at least 1, the offset is a position.
  if (failed(expectPositive(*this, "a size", getSize())) || failed(expectPositive(*this, "a stride", getStep())) ||
      failed(expectOffset(*this, getOffset()))) {
    return failure();
  }
  // pool_c3: y is [B, H, M, D].
  int64_t m = windowCount(dim(getInput(), 2), getSize(), getStep(), getOffset(), getPartial());
  return expectShape(*this, "the result", getResult(),
                     {{dim(getInput(), 0)}, {dim(getInput(), 1)}, {m}, {dim(getInput(), 3)}});
}

LogicalResult ScanOp::verify() {
  // scan_c1: x is [B, H, N, D] of a storage type, y has its type.
  if (failed(expectRows(*this, "x", getInput())) ||
      failed(expectElement(*this, "the result", getResult(), typeOf(getInput()).getElementType())) ||
      failed(expectShape(*this, "the result", getResult(),
                         {{dim(getInput(), 0)}, {dim(getInput(), 1)}, {dim(getInput(), 2)}, {dim(getInput(), 3)}}))) {
    return failure();
  }
  // scan_c2: stride and block are at least 1.
  if (failed(expectPositive(*this, "a stride", getStride()))) {
    return failure();
  }
  return expectPositive(*this, "a block", getBlock().value_or(1));
}

LogicalResult ConvolveOp::verify() {
  // convolve_c1: x is [B, H, N, D] of a storage type, y has its element type.
  if (failed(expectRows(*this, "x", getInput())) ||
      failed(expectElement(*this, "the result", getResult(), typeOf(getInput()).getElementType()))) {
    return failure();
  }
  // convolve_c2: the stride is at least 1, the offset is a position.
  if (failed(expectPositive(*this, "a stride", getStride().value_or(1))) || failed(expectOffset(*this, getOffset()))) {
    return failure();
  }
  // convolve_c3: w is [1 or H, T, D, E] or [1 or H, T, D] of a storage type, T known and at least 1.
  RankedTensorType w = typeOf(getWeights());
  if (!isStorage(w.getElementType()) || (w.getRank() != 3 && w.getRank() != 4)) {
    return emitOpError("expected w to be [H, T, D, E] or [H, T, D] of f32, f16 or bf16, but got ") << w;
  }
  if (w.isDynamicDim(1) || w.getDimSize(1) < 1) {
    return emitOpError("expected w with a static number of taps of at least 1, but got ") << w;
  }
  SmallVector<Size> wide = {{dim(getInput(), 1), true}, {}, {dim(getInput(), 3)}};
  if (w.getRank() == 4) {
    wide.push_back({});
  }
  if (failed(expectShape(*this, "w", getWeights(), wide))) {
    return failure();
  }
  int64_t taps = w.getDimSize(1), e = w.getRank() == 4 ? w.getDimSize(3) : dim(getInput(), 3);
  // convolve_c4: bias is [1 or H, E] of a storage type.
  if (getBias()) {
    if (!isStorage(typeOf(getBias()).getElementType())) {
      return emitOpError("expected bias to be f32, f16 or bf16, but got ") << getBias().getType();
    }
    if (failed(expectShape(*this, "bias", getBias(), {{dim(getInput(), 1), true}, {e}}))) {
      return failure();
    }
  }
  // convolve_c5: y is [B, H, M, E].
  int64_t m = windowCount(dim(getInput(), 2), taps, getStride().value_or(taps), getOffset(), getPartial());
  return expectShape(*this, "the result", getResult(), {{dim(getInput(), 0)}, {dim(getInput(), 1)}, {m}, {e}});
}

LogicalResult ProjectOp::verify() {
  // project_c1: x is [B, H, N, D] of a storage type, y has its element type.
  if (failed(expectRows(*this, "x", getInput())) ||
      failed(expectElement(*this, "the result", getResult(), typeOf(getInput()).getElementType()))) {
    return failure();
  }
  // project_c2: a block has at least one row, and N is a multiple of it.
  int64_t n = dim(getInput(), 2), block = getBlock();
  if (failed(expectPositive(*this, "a block", block))) {
    return failure();
  }
  if (!ShapedType::isDynamic(n) && n % block != 0) {
    return emitOpError("expected x with a multiple of ") << block << " rows, but got " << n;
  }
  // project_c3: e is [N, R], [1 or H, N, R] or [1 or B, 1 or H, N, R] of a storage type.
  RankedTensorType e = typeOf(getWeights());
  if (!isStorage(e.getElementType()) || e.getRank() < 2 || e.getRank() > 4) {
    return emitOpError("expected e to be [N, R], [H, N, R] or [B, H, N, R] of f32, f16 or bf16, but got ") << e;
  }
  SmallVector<Size> sizes;
  for (int64_t d = 4 - e.getRank(); d < 2; ++d) {
    sizes.push_back({dim(getInput(), d), true});
  }
  sizes.append({{ShapedType::isDynamic(n) ? n : n / block}, {}});
  if (failed(expectShape(*this, "e", getWeights(), sizes))) {
    return failure();
  }
  // project_c4: y is [B, H, R, D], R times the block's rows.
  int64_t r = e.getShape().back();
  return expectShape(
      *this, "the result", getResult(),
      {{dim(getInput(), 0)}, {dim(getInput(), 1)}, {ShapedType::isDynamic(r) ? r : r * block}, {dim(getInput(), 3)}});
}

//===----------------------------------------------------------------------===//
// Linear attention
//===----------------------------------------------------------------------===//

LogicalResult LinearAttendOp::verify() {
  Value q = getQ(), k = getK(), v = getV();
  Type element = typeOf(q).getElementType();
  // linear_attend_c1: q, k, v and out are rows of one storage type.
  for (auto [what, value] : {std::pair("q", q), std::pair("k", k), std::pair("v", v)}) {
    if (failed(expectRows(*this, what, value)) || failed(expectElement(*this, what, value, element))) {
      return failure();
    }
  }
  if (failed(expectElement(*this, "the result", getOut(), element))) {
    return failure();
  }
  // linear_attend_c2: k is [B, H, Nk, D], v is [B, H, Nk, Dv]; Hq is a multiple of H; Nq = Nk where it is causal.
  int64_t rows = getCausal() ? dim(q, 2) : dim(k, 2);
  if (!mayEqual(dim(k, 1), dim(v, 1))) {
    return emitOpError("expected k and v to have one number of heads, since each has a state of its own, but got ")
           << dim(k, 1) << " and " << dim(v, 1);
  }
  if (failed(expectShape(*this, "k", k, {{dim(q, 0)}, {}, {rows}, {dim(q, 3)}})) ||
      failed(expectShape(*this, "v", v, {{dim(q, 0)}, {dim(k, 1)}, {dim(k, 2)}, {}}))) {
    return failure();
  }
  int64_t hq = dim(q, 1), h = dim(k, 1);
  if (!ShapedType::isDynamic(hq) && !ShapedType::isDynamic(h) && (h < 1 || hq % h != 0)) {
    return emitOpError("expected q's heads to be a multiple of the ") << h << " of k, but got " << hq;
  }
  // linear_attend_c3: decay is [B, H, Nk] or [B, H, Nk, D] of f32 and causal.
  if (getDecay()) {
    if (!getCausal()) {
      return emitOpError("expected causal where there is a decay, but got attention to all keys");
    }
    SmallVector<Size> sizes = {{dim(q, 0)}, {h}, {dim(k, 2)}};
    if (typeOf(getDecay()).getRank() == 4) {
      sizes.push_back({dim(k, 3)});
    }
    if (failed(expectElement(*this, "decay", getDecay(), Float32Type::get(getContext()))) ||
        failed(expectShape(*this, "decay", getDecay(), sizes))) {
      return failure();
    }
  }
  // linear_attend_c4: the normalizer is sum or none, eps is finite and at least 0.
  if (getNormalizer() == Normalizer::Softmax) {
    return emitOpError("expected normalizer sum or none, but got softmax");
  }
  std::optional<double> eps;
  if (getEpsAttr()) {
    eps = getEpsAttr().getValueAsDouble();
  }
  if (failed(expectEps(*this, eps))) {
    return failure();
  }
  // linear_attend_c5: states come as S, z, or S alone without a normalizer, f32; as results all or none.
  size_t wanted = getNormalizer() == Normalizer::Sum ? 2 : 1;
  for (auto [what, states] :
       {std::pair("given", ValueRange(getStates())), std::pair("new", ValueRange(getNewStates()))}) {
    if (!states.empty() && states.size() != wanted) {
      return emitOpError("expected ") << wanted << " " << what << " states, but got " << states.size();
    }
    SmallVector<Size> sizes = {{dim(q, 0)}, {h}, {dim(q, 3)}, {dim(v, 3)}};
    for (Value state : states) {
      if (failed(expectElement(*this, "a state", state, Float32Type::get(getContext()))) ||
          failed(expectShape(*this, "a state", state, sizes))) {
        return failure();
      }
      sizes.pop_back();
    }
  }
  // linear_attend_c6: out is [B, Hq, Nq, Dv].
  return expectShape(*this, "the result", getOut(), {{dim(q, 0)}, {hq}, {dim(q, 2)}, {dim(v, 3)}});
}

LogicalResult LinearAttendOp::verifyRegions() {
  Region &region = getFeature();
  if (region.empty()) {
    return success();
  }
  // linear_attend_c7: the feature region has one block of scalar arith and math from one f32 to one f32.
  if (!region.hasOneBlock() || region.front().getNumArguments() != 1 ||
      !region.front().getArgument(0).getType().isF32()) {
    return emitOpError("expected the feature region to have one block with one f32 argument, but got another one");
  }
  if (region.front().empty() || !isa<YieldOp>(region.front().back())) {
    return emitOpError("expected the feature region to end in attn.yield, but got no attn.yield there");
  }
  for (Operation &inner : region.front()) {
    if (!isa<YieldOp>(inner) && !ScalarCode::knows(&inner)) {
      return inner.emitOpError("expected a scalar operation of arith or math that heddle has in a feature region, but "
                               "got this one");
    }
    for (Value operand : inner.getOperands()) {
      // Constants move out of regions where ops of a function share them.
      if (operand.getParentRegion() != &region && !matchPattern(operand, m_Constant())) {
        return inner.emitOpError("expected only values of the feature region itself, but got one from outside");
      }
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Row classes
//===----------------------------------------------------------------------===//

LogicalResult GroupOp::verify() {
  // group_c1: ids are [B, N] or [B, H, N] of i32 or i64.
  RankedTensorType ids = typeOf(getIds());
  if (!isRowNumber(ids.getElementType()) || (ids.getRank() != 2 && ids.getRank() != 3)) {
    return emitOpError("expected ids to be [B, N] or [B, H, N] of i32 or i64, but got ") << ids;
  }
  // group_c2: there is at least one group.
  if (failed(expectPositive(*this, "a number of groups", getGroups()))) {
    return failure();
  }
  // group_c3: the permutation is i32 of ids' shape, offsets i32 with groups + 1 in place of N.
  Type i32 = IntegerType::get(getContext(), 32);
  SmallVector<Size> sizes;
  for (int64_t d : ids.getShape()) {
    sizes.push_back({d});
  }
  if (failed(expectElement(*this, "the permutation", getPermutation(), i32)) ||
      failed(expectElement(*this, "offsets", getOffsets(), i32)) ||
      failed(expectShape(*this, "the permutation", getPermutation(), sizes))) {
    return failure();
  }
  sizes.back() = {int64_t(getGroups()) + 1};
  return expectShape(*this, "offsets", getOffsets(), sizes);
}

LogicalResult GatherRowsOp::verify() {
  // gather_rows_c1: x is [B, H, N, D] or [B, H, N].
  RankedTensorType x = typeOf(getInput());
  if (x.getRank() != 3 && x.getRank() != 4) {
    return emitOpError("expected x to be [B, H, N, D] or [B, H, N], but got ") << x;
  }
  if (!isStorage(x.getElementType()) && !isRowNumber(x.getElementType())) {
    return emitOpError("expected x to be f32, f16, bf16, i32 or i64, but got ") << x;
  }
  // gather_rows_c2: rows are [1 or B, M] or [1 or B, 1 or H, M] of i32 or i64.
  if (failed(expectRowList(*this, getRows(), x.getDimSize(0), x.getDimSize(1), unknown))) {
    return failure();
  }
  // gather_rows_c3: y is [B, H, M, D] or [B, H, M] of x's element type.
  SmallVector<Size> sizes = {{x.getDimSize(0)}, {x.getDimSize(1)}, {typeOf(getRows()).getShape().back()}};
  if (x.getRank() == 4) {
    sizes.push_back({x.getDimSize(3)});
  }
  if (failed(expectElement(*this, "the result", getResult(), x.getElementType()))) {
    return failure();
  }
  return expectShape(*this, "the result", getResult(), sizes);
}

LogicalResult ScatterRowsOp::verify() {
  // scatter_rows_c1: source is [B, H, M, D], base [B, H, N, D] of one storage type.
  RankedTensorType source = typeOf(getSource());
  if (failed(expectRows(*this, "source", getSource())) || failed(expectRows(*this, "base", getBase())) ||
      failed(expectElement(*this, "base", getBase(), source.getElementType())) ||
      failed(expectShape(*this, "base", getBase(),
                         {{source.getDimSize(0)}, {source.getDimSize(1)}, {}, {source.getDimSize(3)}}))) {
    return failure();
  }
  // scatter_rows_c2: rows are [1 or B, M] or [1 or B, 1 or H, M] of i32 or i64.
  if (failed(expectRowList(*this, getRows(), source.getDimSize(0), source.getDimSize(1), source.getDimSize(2)))) {
    return failure();
  }
  // scatter_rows_c3: eps goes with mean, is finite and at least 0.
  if (getEpsAttr() && getKind() != ScatterKind::Mean) {
    return emitOpError("expected eps only with mean, but got it with ") << stringifyScatterKind(getKind());
  }
  std::optional<double> eps;
  if (getEpsAttr()) {
    eps = getEpsAttr().getValueAsDouble();
  }
  if (failed(expectEps(*this, eps))) {
    return failure();
  }
  // scatter_rows_c4: y has base's shape and element type.
  SmallVector<Size> sizes;
  for (int64_t d : typeOf(getBase()).getShape()) {
    sizes.push_back({d});
  }
  if (failed(expectElement(*this, "the result", getResult(), source.getElementType()))) {
    return failure();
  }
  return expectShape(*this, "the result", getResult(), sizes);
}

LogicalResult MergeOp::verify() {
  // merge_c1: at least one part.
  if (getParts().empty()) {
    return emitOpError("expected at least one part, but got none");
  }
  // merge_c2: parts are [B, H, N, D] of one storage type, each lse [B, H, N] of f32; the results likewise.
  RankedTensorType first = typeOf(getParts()[0]);
  if (failed(expectRows(*this, "a part", getParts()[0]))) {
    return failure();
  }
  SmallVector<Size> sizes;
  for (int64_t d : first.getShape()) {
    sizes.push_back({d});
  }
  auto same = [&](StringRef what, Value v) {
    return success(succeeded(expectElement(*this, what, v, first.getElementType())) &&
                   succeeded(expectShape(*this, what, v, sizes)));
  };
  auto sums = [&](StringRef what, Value v) {
    return success(succeeded(expectElement(*this, what, v, Float32Type::get(getContext()))) &&
                   succeeded(expectShape(*this, what, v, ArrayRef(sizes).drop_back())));
  };
  for (auto [part, lse] : llvm::zip(getParts(), getLses())) {
    if (failed(same("a part", part)) || failed(sums("an lse", lse))) {
      return failure();
    }
  }
  return success(succeeded(same("the result", getOut())) && succeeded(sums("the new lse", getLse())));
}
