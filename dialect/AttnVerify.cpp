//===- AttnVerify.cpp - Accessors and verifiers of the attn operations ----===//
//
// Each check carries the number of its constraint in docs/spec.md.
//
//===----------------------------------------------------------------------===//
#include "dialect/Attn.h"
#include "dialect/AttnDims.h"
#include "dialect/PatternTables.h"
#include "dialect/ScalarCode.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseSet.h"

#include <cmath>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

#define GET_OP_CLASSES
#include "dialect/AttnOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Accessors
//===----------------------------------------------------------------------===//

Region *AttendOp::getScore(int64_t g) {
  Region &region = getScores()[g];
  return region.empty() ? nullptr : &region;
}

SmallVector<std::pair<Value, Value>> AttendOp::getDots(int64_t g) {
  ArrayRef<int64_t> counts = getDotCounts();
  if (counts[g] < 0) {
    return {{getQ(), getKeys()[g]}};
  }
  int64_t first = 0;
  for (int64_t n : counts.take_front(g)) {
    first += std::max<int64_t>(n, 0);
  }
  SmallVector<std::pair<Value, Value>> dots;
  for (int64_t n = first; n < first + counts[g]; ++n) {
    dots.emplace_back(getDotQueries()[n], getDotKeys()[n]);
  }
  return dots;
}

std::optional<int64_t> AttendOp::getDotShift(int64_t g, int64_t dot) {
  if (!getDotShiftsAttr() || getDotCounts()[g] < 0) {
    return std::nullopt;
  }
  for (int64_t n : getDotCounts().take_front(g)) {
    dot += std::max<int64_t>(n, 0);
  }
  int64_t shift = getDotShiftsAttr()[dot];
  return shift == kNoShift ? std::nullopt : std::optional(shift);
}

OpFoldResult AttendOp::getQOffsetOr() {
  if (getQOffset()) {
    return getQOffset();
  }
  return getStaticQOffsetAttr() ? OpFoldResult(getStaticQOffsetAttr()) : OpFoldResult();
}

OpFoldResult AttendOp::getKOffset(int64_t g) {
  ArrayRef<int64_t> offsets = getStaticKOffsets();
  if (!ShapedType::isDynamic(offsets[g])) {
    return Builder(getContext()).getI64IntegerAttr(offsets[g]);
  }
  return getKOffsets()[llvm::count(offsets.take_front(g), ShapedType::kDynamic)];
}

OpFoldResult AttendOp::getSegmentScale(int64_t g) {
  ArrayRef<bool> dynamic = getSegmentScaleDynamic();
  if (dynamic[g]) {
    return getSegmentScales()[llvm::count(dynamic.take_front(g), true)];
  }
  if (double scale = getStaticSegmentScales()[g]; !std::isnan(scale)) {
    return Builder(getContext()).getF64FloatAttr(scale);
  }
  if (getScale()) {
    return getScale();
  }
  return getStaticScaleAttr() ? OpFoldResult(getStaticScaleAttr()) : OpFoldResult();
}

void AttendOp::getAsmResultNames(OpAsmSetValueNameFn setName) {
  setName(getOut(), "out");
  if (getLse()) {
    setName(getLse(), "lse");
  }
}

void AttendOp::getAsmBlockArgumentNames(Region &region, OpAsmSetValueNameFn setName) {
  if (region.empty() || region.getNumArguments() < 4) {
    return;
  }
  unsigned dots = region.getNumArguments() - 4;
  for (unsigned n = 0; n < dots; ++n) {
    setName(region.getArgument(n), "s");
  }
  const char *const names[] = {"b", "h", "i", "j"};
  for (unsigned n = 0; n < 4; ++n) {
    setName(region.getArgument(dots + n), names[n]);
  }
}

//===----------------------------------------------------------------------===//
// attend: constraints
//===----------------------------------------------------------------------===//

namespace {

constexpr int64_t maxFeatures = 1024;
constexpr int64_t maxPosition = int64_t(1) << 30;

/// The checks of one attend, in the order of docs/spec.md.
class AttendVerifier {
public:
  explicit AttendVerifier(AttendOp op) : op(op), segments(op.getKeys().size()) {}

  LogicalResult run() {
    if (failed(checkSegments()) || failed(checkRows()) || failed(checkElementTypes()) || failed(checkOut()) ||
        failed(checkOffsets()) || failed(checkScales()) || failed(checkSink()) || failed(checkPatternOperands()) ||
        failed(checkCaptures())) {
      return failure();
    }
    for (int64_t g = 0; g < segments; ++g) {
      if (failed(checkSegment(g)) || failed(checkPattern(g))) {
        return failure();
      }
    }
    return checkNeedsQOffset();
  }

private:
  LogicalResult checkSegments();
  LogicalResult checkRows();
  LogicalResult checkElementTypes();
  LogicalResult checkOut();
  LogicalResult checkOffsets();
  LogicalResult checkScales();
  LogicalResult checkSink();
  LogicalResult checkPatternOperands();
  LogicalResult checkCaptures();
  LogicalResult checkSegment(int64_t g);
  LogicalResult checkDots(int64_t g);
  LogicalResult checkPattern(int64_t g);
  LogicalResult checkNeedsQOffset();

  LogicalResult checkCount(StringRef what, int64_t got);
  LogicalResult checkRank4(Value value, const Twine &name);
  LogicalResult checkHeads(RowsType key, const Twine &name);
  LogicalResult checkBatch(RowsType key, const Twine &name);
  LogicalResult checkFeatures(RowsType rows, const Twine &name);
  LogicalResult checkOffsetType(Value value, const Twine &name);
  LogicalResult checkFinite(double scale, const Twine &name);

  LogicalResult checkPacked(const PatternNode &node);
  LogicalResult checkNode(const PatternNode &node);
  LogicalResult checkExpr(const Expr &expr);
  /// Operand n is a tensor of one of `ranks` dimensions whose elements are
  /// integers (or flags, i1); the last dimension has size `rows`.
  LogicalResult checkOperand(const OperandUse &use, int64_t g);
  LogicalResult checkScalar(int64_t n);
  LogicalResult checkNumber(int64_t n);

  RowsType rowsOf(Value value) { return {cast<RankedTensorType>(value.getType())}; }
  RowsType q() { return rowsOf(op.getQ()); }

  AttendOp op;
  int64_t segments;
};

} // namespace

LogicalResult AttendVerifier::checkCount(StringRef what, int64_t got) {
  if (got == segments) {
    return success();
  }
  return op.emitOpError("expected one ") << what << " for each of " << segments << " segments, but got " << got;
}

// attend_c1: at least one segment, and everything that is per segment once for each.
LogicalResult AttendVerifier::checkSegments() {
  if (segments == 0) {
    return op.emitOpError("expected at least one segment, but got none");
  }
  if (failed(checkCount("value tensor", op.getValues().size())) ||
      failed(checkCount("pattern", op.getPatterns().size())) ||
      failed(checkCount("key offset", op.getStaticKOffsets().size())) ||
      failed(checkCount("scale", op.getStaticSegmentScales().size())) ||
      failed(checkCount("flag of a run-time scale", op.getSegmentScaleDynamic().size())) ||
      failed(checkCount("count of dots", op.getDotCounts().size())) ||
      failed(checkCount("score region", op.getScores().size()))) {
    return failure();
  }
  auto expect = [&](StringRef what, int64_t expected, int64_t got) -> LogicalResult {
    if (expected == got) {
      return success();
    }
    return op.emitOpError("expected ") << expected << " " << what << ", but got " << got;
  };
  int64_t dots = 0;
  for (int64_t count : op.getDotCounts()) {
    if (count < -1 || count > maxFeatures) {
      return op.emitOpError("expected a count of dots from -1 to ") << maxFeatures << ", but got " << count;
    }
    dots += std::max<int64_t>(count, 0);
  }
  return success(succeeded(expect("run-time key offsets", llvm::count(op.getStaticKOffsets(), ShapedType::kDynamic),
                                  op.getKOffsets().size())) &&
                 succeeded(expect("run-time segment scales", llvm::count(op.getSegmentScaleDynamic(), true),
                                  op.getSegmentScales().size())) &&
                 succeeded(expect("queries of dots", dots, op.getDotQueries().size())) &&
                 succeeded(expect("keys of dots", dots, op.getDotKeys().size())));
}

LogicalResult AttendVerifier::checkRank4(Value value, const Twine &name) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getRank() == RowsType::rank) {
    return success();
  }
  return op.emitOpError("expected ") << name << " to have rank 4, [B, H, N, D], but got " << type;
}

// attend_c2: q, every k and v, and both sides of every dot have rank 4.
LogicalResult AttendVerifier::checkRows() {
  if (failed(checkRank4(op.getQ(), "q"))) {
    return failure();
  }
  for (int64_t g = 0; g < segments; ++g) {
    if (failed(checkRank4(op.getKeys()[g], "k of segment " + Twine(g))) ||
        failed(checkRank4(op.getValues()[g], "v of segment " + Twine(g)))) {
      return failure();
    }
  }
  for (auto [query, key] : llvm::zip(op.getDotQueries(), op.getDotKeys())) {
    if (failed(checkRank4(query, "the query of a dot")) || failed(checkRank4(key, "the key of a dot"))) {
      return failure();
    }
  }
  return success();
}

// attend_c3: these tensors have one element type, f32, f16 or bf16.
LogicalResult AttendVerifier::checkElementTypes() {
  Type expected = q().type.getElementType();
  if (!expected.isF32() && !expected.isF16() && !expected.isBF16()) {
    return op.emitOpError("expected q to have element type f32, f16 or bf16, but got ") << expected;
  }
  auto check = [&](ValueRange values, StringRef name) -> LogicalResult {
    for (Value value : values) {
      Type got = rowsOf(value).type.getElementType();
      if (got != expected) {
        return op.emitOpError("expected ") << name << " to have q's element type " << expected << ", but got " << got;
      }
    }
    return success();
  };
  return success(succeeded(check(op.getKeys(), "k")) && succeeded(check(op.getValues(), "v")) &&
                 succeeded(check(op.getDotQueries(), "the query of a dot")) &&
                 succeeded(check(op.getDotKeys(), "the key of a dot")));
}

// attend_c6: the query heads are a multiple of the heads of every k and v.
LogicalResult AttendVerifier::checkHeads(RowsType key, const Twine &name) {
  if (ShapedType::isDynamic(q().heads()) || ShapedType::isDynamic(key.heads()) ||
      (key.heads() > 0 && q().heads() % key.heads() == 0)) {
    return success();
  }
  return op.emitOpError("expected q's number of heads to be a multiple of that of ")
         << name << ", " << key.heads() << ", but got " << q().heads();
}

// attend_c5: the batch of every k and v is q's, or 1.
LogicalResult AttendVerifier::checkBatch(RowsType key, const Twine &name) {
  if (mayBroadcast(key.batch(), q().batch())) {
    return success();
  }
  return op.emitOpError("expected the batch of ")
         << name << " to be 1 or " << q().batch() << ", but got " << key.batch();
}

// attend_c4: D and Dv are from 1 to 1024.
LogicalResult AttendVerifier::checkFeatures(RowsType rows, const Twine &name) {
  if (ShapedType::isDynamic(rows.features()) || (rows.features() >= 1 && rows.features() <= maxFeatures)) {
    return success();
  }
  return op.emitOpError("expected the last dimension of ")
         << name << " to be from 1 to " << maxFeatures << ", but got " << rows.features();
}

LogicalResult AttendVerifier::checkOut() {
  // attend_c9: out is [B, Hq, Nq, Dv] of q's element type.
  auto out = cast<RankedTensorType>(op.getOut().getType());
  RowsType v = rowsOf(op.getValues().front());
  SmallVector<int64_t> shape = {q().batch(), q().heads(), q().rows(), v.features()};
  auto same = [](ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
    return a.size() == b.size() &&
           llvm::all_of(llvm::zip(a, b), [](auto p) { return mayEqual(std::get<0>(p), std::get<1>(p)); });
  };
  if (out.getElementType() != q().type.getElementType() || !same(out.getShape(), shape)) {
    return op.emitOpError("expected out to be ")
           << RankedTensorType::get(shape, q().type.getElementType()) << ", but got " << out;
  }
  if (!op.getLse()) {
    return success();
  }
  // attend_c10: lse is [B, Hq, Nq] of f32.
  auto lse = cast<RankedTensorType>(op.getLse().getType());
  if (!lse.getElementType().isF32() || !same(lse.getShape(), ArrayRef(shape).drop_back())) {
    return op.emitOpError("expected lse to be ")
           << RankedTensorType::get(ArrayRef(shape).drop_back(), Float32Type::get(op.getContext())) << ", but got "
           << lse;
  }
  // attend_c11: only softmax has an lse.
  if (op.getNormalizer() != Normalizer::Softmax) {
    return op.emitOpError("expected normalizer softmax where lse is asked for, but got ")
           << stringifyNormalizer(op.getNormalizer());
  }
  return success();
}

LogicalResult AttendVerifier::checkOffsetType(Value value, const Twine &name) {
  if (value.getType().isIndex()) {
    return success();
  }
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (type && type.getRank() == 1 && type.getElementType().isInteger(64) &&
      mayBroadcast(type.getDimSize(0), q().batch())) {
    return success();
  }
  return op.emitOpError("expected ") << name << " to be an index or a tensor<?xi64> of size B or 1, but got "
                                     << value.getType();
}

// attend_c15: q_offset is given at most once; offsets are an integer (below 2^30 in
// magnitude), an index, or i64 per batch.
LogicalResult AttendVerifier::checkOffsets() {
  int kinds = (op.getQOffset() ? 1 : 0) + (op.getStaticQOffset() ? 1 : 0) + (op.getQOffsetEnd() ? 1 : 0);
  if (kinds > 1) {
    return op.emitOpError("expected q_offset to be one of a value, an integer and end, but got ")
           << kinds << " of them";
  }
  if (op.getQOffset() && failed(checkOffsetType(op.getQOffset(), "q_offset"))) {
    return failure();
  }
  for (Value offset : op.getKOffsets()) {
    if (failed(checkOffsetType(offset, "k_offset"))) {
      return failure();
    }
  }
  SmallVector<int64_t> literals(op.getStaticKOffsets());
  literals.push_back(op.getStaticQOffset().value_or(0));
  for (int64_t literal : literals) {
    if (!ShapedType::isDynamic(literal) && (literal <= -maxPosition || literal >= maxPosition)) {
      return op.emitOpError("expected an offset below 2^30 in magnitude, but got ") << literal;
    }
  }
  return success();
}

LogicalResult AttendVerifier::checkFinite(double scale, const Twine &name) {
  if (std::isfinite(scale)) {
    return success();
  }
  return op.emitOpError("expected ") << name << " to be finite, but got " << std::to_string(scale);
}

// attend_c16: a scale is finite, and given at most once.
LogicalResult AttendVerifier::checkScales() {
  if (op.getScale() && op.getStaticScale()) {
    return op.emitOpError("expected scale to be a value or a number, but got both");
  }
  if (op.getStaticScale() && failed(checkFinite(op.getStaticScale()->convertToDouble(), "scale"))) {
    return failure();
  }
  for (int64_t g = 0; g < segments; ++g) {
    double scale = op.getStaticSegmentScales()[g];
    bool given = !std::isnan(scale);
    if (given && op.getSegmentScaleDynamic()[g]) {
      return op.emitOpError("expected the scale of segment ") << g << " to be a value or a number, but got both";
    }
    if (given && failed(checkFinite(scale, "the scale of segment " + Twine(g)))) {
      return failure();
    }
  }
  return success();
}

// attend_c17: sink is f32 of rank 1, one a query head or one for all; it needs softmax.
LogicalResult AttendVerifier::checkSink() {
  if (!op.getSink()) {
    return success();
  }
  auto type = cast<RankedTensorType>(op.getSink().getType());
  if (!type.getElementType().isF32() || type.getRank() != 1 || !mayBroadcast(type.getDimSize(0), q().heads())) {
    return op.emitOpError("expected sink to be tensor<?xf32> of size Hq or 1, but got ") << type;
  }
  if (op.getNormalizer() != Normalizer::Softmax) {
    return op.emitOpError("expected normalizer softmax where a sink is given, but got ")
           << stringifyNormalizer(op.getNormalizer());
  }
  return success();
}

LogicalResult AttendVerifier::checkSegment(int64_t g) {
  RowsType k = rowsOf(op.getKeys()[g]), v = rowsOf(op.getValues()[g]);
  if (failed(checkBatch(k, "k of segment " + Twine(g))) || failed(checkBatch(v, "v of segment " + Twine(g))) ||
      failed(checkHeads(k, "k of segment " + Twine(g))) || failed(checkHeads(v, "v of segment " + Twine(g))) ||
      failed(checkFeatures(q(), "q")) || failed(checkFeatures(v, "v of segment " + Twine(g)))) {
    return failure();
  }
  // attend_c7: k and v of a segment have the same number of rows.
  if (!mayEqual(k.rows(), v.rows())) {
    return op.emitOpError("expected k and v of segment ")
           << g << " to have the same number of rows, but got " << k.rows() << " and " << v.rows();
  }
  // attend_c8: all segments have one Dv.
  RowsType first = rowsOf(op.getValues().front());
  if (!mayEqual(v.features(), first.features())) {
    return op.emitOpError("expected v of segment ")
           << g << " to have " << first.features() << " features as in segment 0, but got " << v.features();
  }
  return checkDots(g);
}

LogicalResult AttendVerifier::checkDots(int64_t g) {
  int64_t segmentRows = rowsOf(op.getKeys()[g]).rows();
  // attend_c26: one shift for each dot, below 2^30 in magnitude.
  if (DenseI64ArrayAttr shifts = op.getDotShiftsAttr()) {
    auto isSmall = [](int64_t c) { return c == AttendOp::kNoShift || std::abs(c) < (int64_t(1) << 30); };
    if (shifts.size() != int64_t(op.getDotKeys().size()) || !llvm::all_of(shifts.asArrayRef(), isSmall)) {
      return op.emitOpError("expected ") << op.getDotKeys().size()
                                         << " shifts of dots, below 2^30 in magnitude, but got " << shifts.size()
                                         << " or a larger one";
    }
  }
  for (auto [n, dot] : llvm::enumerate(op.getDots(g))) {
    auto [query, key] = dot;
    RowsType a = rowsOf(query), b = rowsOf(key);
    // attend_c12: the two sides of a dot have one number of features.
    if (!mayEqual(a.features(), b.features())) {
      bool usual = op.getDotCounts()[g] < 0;
      return op.emitOpError("expected ") << (usual ? "q and k" : "both sides of a dot") << " of segment " << g
                                         << " to have the same number of features, but got " << a.features() << " and "
                                         << b.features();
    }
    if (query == op.getQ() && key == op.getKeys()[g]) {
      continue;
    }
    // attend_c13: a dot's query is [B or 1, Hq, Nq, *], its key [B or 1, H, Nk, *].
    if (!mayEqual(a.heads(), q().heads()) || !mayEqual(a.rows(), q().rows())) {
      return op.emitOpError("expected the query of a dot to have the heads and rows of q, ")
             << q().type << ", but got " << a.type;
    }
    if (!op.getDotShift(g, int64_t(n)) && !mayEqual(b.rows(), segmentRows)) {
      return op.emitOpError("expected the key of a dot of segment ")
             << g << " to have " << segmentRows << " rows, but got " << b.rows();
    }
    if (failed(checkBatch(a, "the query of a dot")) || failed(checkBatch(b, "the key of a dot")) ||
        failed(checkHeads(b, "the key of a dot")) || failed(checkFeatures(a, "the query of a dot"))) {
      return failure();
    }
  }
  // attend_c14: a segment without dots has a score region.
  if (op.getDotCounts()[g] == 0 && !op.getScore(g)) {
    return op.emitOpError("expected segment ") << g << " to have a score region where it has no dots, but got none";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// attend: patterns
//===----------------------------------------------------------------------===//

// attend_c18: every pattern operand is named by some pattern, and every number names one.
LogicalResult AttendVerifier::checkPatternOperands() {
  int64_t count = op.getPatternOperands().size();
  llvm::BitVector used(count);
  for (int64_t g = 0; g < segments; ++g) {
    const heddle::Pattern &pattern = op.getPattern(g);
    for (const std::vector<int64_t> &numbers : {pattern.tensorOperands(), pattern.scalarOperands()}) {
      for (int64_t n : numbers) {
        if (n < 0 || n >= count) {
          return op.emitOpError("expected operand numbers of patterns to be below ") << count << ", but got %" << n;
        }
        used.set(n);
      }
    }
  }
  if (int64_t n = used.find_first_unset(); n >= 0) {
    return op.emitOpError("expected every pattern operand to be named by a pattern, but got %")
           << n << " without a use";
  }
  return success();
}

static bool isInteger(Type type) { return type.isInteger(8) || type.isInteger(32) || type.isInteger(64); }
static bool isFloat(Type type) { return type.isF16() || type.isBF16() || type.isF32() || type.isF64(); }

// attend_c19: operands have the type that their pattern says.
LogicalResult AttendVerifier::checkScalar(int64_t n) {
  Type type = op.getPatternOperands()[n].getType();
  if (type.isIndex()) {
    return success();
  }
  return op.emitOpError("expected run-time integer %") << n << " of a pattern to be an index, but got " << type;
}

/// "[B, Hq, Nq]" of "bhq".
static std::string shapeOfAxes(StringRef letters) {
  std::string text = "[";
  for (char letter : letters) {
    text += text.size() > 1 ? ", " : "";
    text += letter == 'b' ? "B" : letter == 'h' ? "H" : letter == '.' ? "n" : letter == 'Q' ? "N + 1" : "N";
  }
  return text + "]";
}

// pattern_c1: an operand of a primitive has the shape and the elements that the table of docs/spec.md gives it.
// pattern_c2: it has a row for each query or key, or for each block of them inside coarse.
LogicalResult AttendVerifier::checkOperand(const OperandUse &use, int64_t g) {
  int64_t n = use.operand, nq = q().rows(), nk = rowsOf(op.getKeys()[g]).rows();
  StringRef pattern = use.info->name;
  Type given = op.getPatternOperands()[n].getType();
  auto type = dyn_cast<RankedTensorType>(given);
  const char *letters = type ? axesOf(use, type.getRank()) : nullptr;
  bool good = letters && (use.info->flags ? type.getElementType().isInteger(1) : isInteger(type.getElementType()));
  for (int64_t k = 0; good && k < type.getRank(); ++k) {
    good = letters[k] != 'b' || mayBroadcast(type.getDimSize(k), q().batch());
  }
  if (!good) {
    InFlightDiagnostic diag = op.emitOpError("expected operand %")
                              << n << " of " << pattern << " to be a tensor of "
                              << (use.info->flags ? "i1" : "i8, i32 or i64") << " with shape ";
    llvm::interleave(
        use.info->axes[use.position], [&](const char *one) { diag << shapeOfAxes(one); }, [&] { diag << " or "; });
    return diag << ", but got " << given;
  }
  for (int64_t k = 0; k < type.getRank(); ++k) {
    bool byKey = letters[k] == 'k';
    int64_t divisor = byKey ? use.keyDivisor : use.queryDivisor, rows = byKey ? nk : nq;
    if ((!byKey && letters[k] != 'q' && letters[k] != 'Q') || divisor == 0 || ShapedType::isDynamic(rows)) {
      continue;
    }
    rows = (rows + divisor - 1) / divisor + (letters[k] == 'Q' ? 1 : 0);
    if (!mayEqual(type.getDimSize(k), rows)) {
      return op.emitOpError("expected operand %")
             << n << " of " << pattern << " to have " << rows << " rows, but got " << type.getDimSize(k);
    }
  }
  return success();
}

LogicalResult AttendVerifier::checkExpr(const Expr &expr) {
  if (expr.isNull()) {
    return success();
  }
  // An explicit stack: expressions may be deep, and share parts.
  SmallVector<const ExprNode *> stack = {&*expr};
  llvm::DenseSet<const ExprNode *> seen;
  while (!stack.empty()) {
    const ExprNode *node = stack.pop_back_val();
    if (!seen.insert(node).second) {
      continue;
    }
    for (const Expr &arg : node->args) {
      stack.push_back(&*arg);
    }
    if (node->kind == ExprKind::Scalar && failed(checkScalar(node->value))) {
      return failure();
    }
    if (node->kind != ExprKind::Load) {
      continue;
    }
    Type given = op.getPatternOperands()[node->value].getType();
    auto type = dyn_cast<RankedTensorType>(given);
    StringRef kind = node->type == ExprType::Float ? "floats" : node->type == ExprType::Bool ? "i1" : "i8, i32 or i64";
    auto matches = [&](Type element) {
      return node->type == ExprType::Float  ? isFloat(element)
             : node->type == ExprType::Bool ? element.isInteger(1)
                                            : isInteger(element);
    };
    if (!type || type.getRank() != static_cast<int64_t>(node->args.size()) || !matches(type.getElementType())) {
      return op.emitOpError("expected operand %") << node->value << " of a load to be a tensor of " << kind
                                                  << " with rank " << node->args.size() << ", but got " << given;
    }
  }
  return success();
}

// packed_c1: the queries are in as many sequences as the keys.
LogicalResult AttendVerifier::checkPacked(const PatternNode &node) {
  auto starts = [&](int64_t operand) {
    auto type = dyn_cast<RankedTensorType>(op.getPatternOperands()[operand].getType());
    return type && type.getRank() == 1 ? type.getDimSize(0) : ShapedType::kDynamic;
  };
  const int64_t queries = starts(node.operands[0]), keys = starts(node.operands[1]);
  if (ShapedType::isDynamic(queries) || ShapedType::isDynamic(keys) || queries == keys) {
    return success();
  }
  return op.emitOpError("expected operands of packed to have the same number of starts, but got ")
         << queries << " and " << keys;
}

LogicalResult AttendVerifier::checkNode(const PatternNode &node) {
  if (node.kind == PatternKind::Packed && failed(checkPacked(node))) {
    return failure();
  }
  auto checkInt = [&](const IntArg &arg) -> LogicalResult {
    return arg.kind == IntArg::Operand ? checkScalar(arg.value) : success();
  };
  for (const IntArg &arg : node.ints) {
    if (failed(checkInt(arg))) {
      return failure();
    }
  }
  for (const RangeArg &range : node.ranges) {
    if (failed(checkInt(range.lo)) || failed(checkInt(range.hi))) {
      return failure();
    }
  }
  for (const Expr &expr : node.exprs) {
    if (failed(checkExpr(expr))) {
      return failure();
    }
  }
  return success();
}

LogicalResult AttendVerifier::checkPattern(int64_t g) {
  const heddle::Pattern &pattern = op.getPattern(g);
  // attend_c20: the pattern's own constraints.
  if (std::optional<std::string> broken = pattern.verify()) {
    return op.emitOpError() << *broken;
  }
  SmallVector<const PatternNode *> stack = {&*pattern};
  while (!stack.empty()) {
    const PatternNode *node = stack.pop_back_val();
    if (failed(checkNode(*node))) {
      return failure();
    }
    for (const heddle::Pattern &child : node->children) {
      stack.push_back(&*child);
    }
  }
  for (const OperandUse &use : operandUses(pattern)) {
    if (failed(checkOperand(use, g))) {
      return failure();
    }
  }
  return success();
}

// attend_c21: where Nq and Nk differ and a pattern depends on i, q_offset is given.
LogicalResult AttendVerifier::checkNeedsQOffset() {
  if (op.hasQOffset()) {
    return success();
  }
  for (int64_t g = 0; g < segments; ++g) {
    int64_t nk = rowsOf(op.getKeys()[g]).rows();
    if (!mayEqual(q().rows(), nk) && op.getPattern(g).dependsOnQuery()) {
      return op.emitOpError("expected q_offset where the numbers of queries and of keys of segment ")
             << g << " differ and its pattern depends on the query, but got none; write q_offset(0), q_offset(end) or "
             << "q_offset(%n)";
    }
  }
  return success();
}

// attend_c22: a capture is a tensor of i1, i8, i32, i64 or floats, or a scalar index, i64 or float.
LogicalResult AttendVerifier::checkCaptures() {
  for (Value capture : op.getCaptures()) {
    Type type = capture.getType();
    auto tensor = dyn_cast<RankedTensorType>(type);
    Type element = tensor ? tensor.getElementType() : type;
    bool good = isFloat(element) || element.isInteger(64) ||
                (tensor ? element.isInteger(1) || isInteger(element) : element.isIndex());
    if (!good) {
      return op.emitOpError("expected a capture to be a tensor of i1, i8, i32, i64 or floats, or a scalar index, i64 "
                            "or float, but got ")
             << type;
    }
  }
  return success();
}

LogicalResult AttendOp::verify() { return AttendVerifier(*this).run(); }

//===----------------------------------------------------------------------===//
// attend: score regions
//===----------------------------------------------------------------------===//

// attend_c23: one block, one f32 for each dot and then b, h, i, j as index, attn.yield at its end.
static LogicalResult checkSignature(AttendOp op, Region &region, int64_t dots) {
  auto describe = [&]() {
    return op.emitOpError("expected the score region to have ")
           << dots << " f32 arguments, one for each dot, and then 4 of type index, ";
  };
  if (!region.hasOneBlock()) {
    return op.emitOpError("expected the score region to have one block, but got ") << region.getBlocks().size();
  }
  Block &block = region.front();
  if (static_cast<int64_t>(block.getNumArguments()) != dots + 4) {
    return describe() << "but got " << block.getNumArguments() << " arguments";
  }
  for (BlockArgument argument : block.getArguments()) {
    Type type = argument.getType();
    if (argument.getArgNumber() < dots ? !type.isF32() : !type.isIndex()) {
      return describe() << "but got " << type << " as argument " << argument.getArgNumber();
    }
  }
  if (block.empty() || !isa<YieldOp>(block.back())) {
    return op.emitOpError("expected the score region to end in attn.yield, but got no attn.yield there");
  }
  return success();
}

/// True for a type that score code computes with.
static bool isScalarType(Type type) {
  return type.isIndex() || isFloat(type) || (type.isInteger() && type.getIntOrFloatBitWidth() <= 64);
}

LogicalResult AttendOp::verifyRegions() {
  for (auto [g, region] : llvm::enumerate(getScores())) {
    if (region.empty()) {
      continue;
    }
    int64_t count = getDotCounts()[g];
    if (failed(checkSignature(*this, region, count < 0 ? 1 : count))) {
      return failure();
    }
    for (Operation &inner : region.front()) {
      // attend_c24: scalar operations of arith and math, and attn.load.
      bool known = isa<LoadOp, YieldOp>(inner) || ScalarCode::knows(&inner);
      if (!known || !llvm::all_of(inner.getResultTypes(), isScalarType)) {
        return inner.emitOpError("expected a scalar operation of arith or math that heddle has, or attn.load, in a "
                                 "score region, but got this one");
      }
      // attend_c25: values from above are captures or constants.
      for (Value operand : inner.getOperands()) {
        bool inside = operand.getParentRegion() == &region;
        if (!inside && !llvm::is_contained(getCaptures(), operand) && !matchPattern(operand, m_Constant())) {
          return inner.emitOpError("expected values from outside the score region to be listed in captures(...), but "
                                   "got one that is not");
        }
      }
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// load (yield_c1, the parent of attn.yield, is its trait HasParent)
//===----------------------------------------------------------------------===//

LogicalResult LoadOp::verify() {
  auto type = cast<RankedTensorType>(getTensor().getType());
  // load_c1: one index for each dimension.
  if (type.getRank() != static_cast<int64_t>(getIndices().size())) {
    return emitOpError("expected ") << type.getRank() << " indices, one for each dimension, but got "
                                    << getIndices().size();
  }
  // load_c2: a constant index lies in a static dimension.
  for (auto [size, index] : llvm::zip(type.getShape(), getIndices())) {
    APInt value;
    if (!ShapedType::isDynamic(size) && matchPattern(index, m_ConstantInt(&value)) &&
        (value.isNegative() || value.sge(size))) {
      return emitOpError("expected an index from 0 to ") << size - 1 << ", but got " << value.getSExtValue();
    }
  }
  // load_c3: inside a score region.
  if (!(*this)->getParentOfType<AttendOp>()) {
    return emitOpError("expected to be inside a score region of attn.attend, but got another parent");
  }
  return success();
}
