//===- FuseGlue.cpp - Which glue has no kernel of its own -----------------===//

#include "passes/FuseGlue.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/GlueReader.h"
#include "passes/Passes.h"
#include "llvm/Support/Format.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_FUSEGLUEPASS
#include "passes/Passes.h.inc"

// Cycles of a register of 16 elements, on one core: what lies between two kernels comes from the third-level cache at
// best, at some 8 bytes a cycle.
static constexpr double kRead = 8, kWrite = 14;

double glueCycles(linalg::GenericOp op) {
  double cycles = 0;
  for (Operation &inner : op.getRegion().front().without_terminator()) {
    if (inner.hasTrait<OpTrait::ConstantLike>() || isa<arith::ExtFOp, arith::TruncFOp>(inner)) {
      continue; // in f32 whatever the storage type
    }
    const bool slow = isa<arith::DivFOp, arith::RemFOp, arith::DivSIOp, arith::RemSIOp, math::SqrtOp>(inner);
    const bool wave = isa<math::ExpOp, math::Exp2Op>(inner);
    const bool plain = isa<arith::ArithDialect>(inner.getDialect()) || isa<math::AbsFOp, math::FmaOp>(inner) ||
                       isa<linalg::IndexOp>(inner);
    cycles += slow || wave ? 10 : plain ? 1 : 30;
  }
  return cycles;
}

/// Cycles of what a register of glue reads, of tensors as large as the result.
static double readCycles(linalg::GenericOp op) {
  double cycles = 0;
  for (OpOperand *in : op.getDpsInputOperands()) {
    AffineMap map = op.getMatchingIndexingMap(in);
    unsigned dims = 0;
    for (AffineExpr e : map.getResults()) {
      dims += isa<AffineDimExpr>(e);
    }
    cycles += dims == op.getNumLoops() && map.isFunctionOfDim(op.getNumLoops() - 1) ? kRead : 1;
  }
  return cycles;
}

static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// How often an op's kernel reads an element of an operand; none where it cannot compute glue.
static std::optional<int64_t> readsOf(OpOperand &use) {
  const unsigned n = use.getOperandNumber();
  auto size = [](Value v, unsigned axis, int64_t unknown) {
    int64_t size = cast<RankedTensorType>(v.getType()).getDimSize(axis);
    return ShapedType::isDynamic(size) ? unknown : size;
  };
  Type element = cast<RankedTensorType>(use.get().getType()).getElementType();
  Operation *op = use.getOwner();
  if (isa<attn::PoolOp, attn::ScanOp>(op)) {
    auto pool = dyn_cast<attn::PoolOp>(op);
    return pool ? ceilDiv(int64_t(pool.getSize()), int64_t(pool.getStep())) : 1;
  }
  if (auto project = dyn_cast<attn::ProjectOp>(op); project && n == 0) {
    auto type = cast<RankedTensorType>(project.getWeights().getType());
    const int64_t rows = size(project.getWeights(), type.getRank() - 1, 1);
    // Many rows are worth the products of pairs of bf16, which take operands from memory.
    return element.isBF16() && rows > 16 ? std::nullopt : std::optional(ceilDiv(rows, 128));
  }
  if (auto convolve = dyn_cast<attn::ConvolveOp>(op); convolve && n == 0) {
    auto type = cast<RankedTensorType>(convolve.getWeights().getType());
    if (type.getRank() != 4 || element.isBF16()) {
      return std::nullopt;
    }
    const int64_t taps = type.getDimSize(1), step = convolve.getStride().value_or(taps);
    return ceilDiv(taps, step) * ceilDiv(size(convolve.getWeights(), 3, 64), 256);
  }
  if (auto linear = dyn_cast<attn::LinearAttendOp>(op)) {
    const bool decay = linear.getDecay() && use.get() == linear.getDecay();
    if (n >= 3 && !decay) {
      return std::nullopt; // a state
    }
    return n == 2 ? 1 : ceilDiv(size(linear.getV(), 3, 64), 64);
  }
  return std::nullopt;
}

/// Why no kernel can compute glue where it reads it; empty for glue with one result of floats.
static std::string whyUnreadable(linalg::GenericOp op) {
  if (op->getNumResults() != 1) {
    return "it has several results";
  }
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!type || !(type.getElementType().isF32() || type.getElementType().isF16() || type.getElementType().isBF16())) {
    return "its result is not of f32, f16 or bf16";
  }
  return GlueReader::whyNot(op);
}

/// Beyond this, glue is better spread over all threads: the kernels that would compute it have few tasks.
static constexpr double kMostCycles = 32;

/// The op that wrote what glue reads element by element, which might compute it instead; null where there is none.
static Operation *writerOf(linalg::GenericOp op) {
  for (OpOperand *in : op.getDpsInputOperands()) {
    Operation *def = in->get().getDefiningOp();
    if (def && isa<attn::AttnDialect>(def->getDialect()) && op.getMatchingIndexingMap(in).isIdentity()) {
      return def;
    }
  }
  return nullptr;
}

/// Why glue's readers do not compute it, empty where they do; `own`: how often they read an element.
static std::string whyApart(linalg::GenericOp op, const llvm::DenseMap<Operation *, int64_t> &reads, int64_t &own) {
  if (std::string why = whyUnreadable(op); !why.empty()) {
    return why;
  }
  own = 0;
  for (OpOperand &use : op->getUses()) {
    Operation *by = use.getOwner();
    if (auto reader = dyn_cast<linalg::GenericOp>(by)) {
      // Each of the reader's elements reads one of its own.
      if (reader.isDpsInit(&use) || !reader.getMatchingIndexingMap(&use).isIdentity() ||
          !GlueReader::whyNot(reader).empty()) {
        return "other glue reads an element of it at several places";
      }
      auto found = reads.find(reader);
      own += found == reads.end() ? 1 : found->second;
    } else if (std::optional<int64_t> many = readsOf(use)) {
      own += *many;
    } else if (by->hasTrait<OpTrait::IsTerminator>()) {
      Operation *writer = writerOf(op);
      return "the spec returns it" + (writer ? ", and " + writer->getName().getStringRef().str() +
                                                   ", whose result it reads, computes no glue as it writes"
                                             : std::string());
    } else {
      return by->getName().getStringRef().str() + " reads it, whose kernel computes no glue of this operand";
    }
  }
  const double cycles = glueCycles(op), read = readCycles(op);
  if (cycles > kMostCycles) {
    return "it takes long, and is better spread over all threads";
  }
  if (own == 0) {
    return "nothing reads it";
  }
  const bool worthIt = double(own) * (cycles + read) <= cycles + read + kWrite + double(own) * kRead;
  return worthIt ? "" : "its readers would compute an element " + std::to_string(own) + " times";
}

std::string costOfGlue(linalg::GenericOp op) {
  double bytes = 0;
  auto add = [&](Value v, AffineMap map) {
    auto type = dyn_cast<RankedTensorType>(v.getType());
    // An operand that a loop repeats is read from a cache.
    bytes += type && map.getNumResults() == map.getNumDims() && map.isPermutation()
                 ? std::max(1.0, type.getElementTypeBitWidth() / 8.0)
                 : 0;
  };
  for (OpOperand *in : op.getDpsInputOperands()) {
    add(in->get(), op.getMatchingIndexingMap(in));
  }
  for (OpOperand &out : op.getDpsInitsMutable()) {
    add(out.get(), op.getMatchingIndexingMap(&out));
  }
  const double cycles = (glueCycles(op) + readCycles(op) + kWrite) / 16;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%g bytes and about %.2g cycles an element", bytes, cycles);
  return text;
}

/// The arguments and results of ops that an operand is computed from.
static void leavesOf(Value v, const GluePlan &plan, SmallVectorImpl<Value> &leaves) {
  Operation *def = v.getDefiningOp();
  if (!def || !plan.inlined.contains(def)) {
    leaves.push_back(v);
    return;
  }
  for (Value in : cast<linalg::GenericOp>(def).getInputs()) {
    if (isa<RankedTensorType>(in.getType())) {
      leavesOf(in, plan, leaves);
    }
  }
}

/// True where an axis of two operands has one size whatever the arguments.
static bool isSameSize(Value a, Value b, int64_t axis, const GluePlan &plan) {
  auto known = [&](Value v) { return cast<RankedTensorType>(v.getType()).getDimSize(axis); };
  if (!ShapedType::isDynamic(known(a)) && known(a) == known(b)) {
    return true;
  }
  // Sizes of glue's operands are checked to agree.
  std::function<void(Value, int64_t, SmallVectorImpl<std::pair<Value, int64_t>> &)> sources =
      [&](Value v, int64_t place, SmallVectorImpl<std::pair<Value, int64_t>> &found) {
        Operation *def = v.getDefiningOp();
        if (!def || !plan.inlined.contains(def)) {
          found.push_back({v, place});
          return;
        }
        auto glue = cast<linalg::GenericOp>(def);
        for (OpOperand *in : glue.getDpsInputOperands()) {
          for (auto [n, e] : llvm::enumerate(glue.getMatchingIndexingMap(in).getResults())) {
            if (auto dim = dyn_cast<AffineDimExpr>(e); dim && dim.getPosition() == place) {
              sources(in->get(), int64_t(n), found);
            }
          }
        }
      };
  SmallVector<std::pair<Value, int64_t>> ofA, ofB;
  sources(a, axis, ofA);
  sources(b, axis, ofB);
  return llvm::any_of(ofA, [&](auto &source) { return llvm::is_contained(ofB, source); });
}

/// True where `later` can be done where `first` is: by the same weights, of tensors that there are, one of them shared.
static bool canJoin(attn::ProjectOp first, attn::ProjectOp later, const GluePlan &plan) {
  if (first.getWeights() != later.getWeights() || first.getBlock() != later.getBlock() ||
      first->getAttr("heddle.part") != later->getAttr("heddle.part") ||
      first.getResult().getType() != later.getResult().getType()) {
    return false;
  }
  for (int64_t axis : {0, 1, 3}) {
    if (!isSameSize(first.getInput(), later.getInput(), axis, plan)) {
      return false;
    }
  }
  SmallVector<Value> ofFirst, ofLater;
  leavesOf(first.getInput(), plan, ofFirst);
  leavesOf(later.getInput(), plan, ofLater);
  bool shared = false;
  for (Value leaf : ofLater) {
    Operation *def = leaf.getDefiningOp();
    if (def && !def->isBeforeInBlock(first)) {
      return false;
    }
    shared |= llvm::is_contained(ofFirst, leaf);
  }
  return shared;
}

static constexpr size_t kTogether = 4; // projects at most; each has its own sums in scratch memory

GluePlan planGlue(Block &body) {
  GluePlan plan;
  llvm::DenseMap<Operation *, int64_t> reads; // of an element, where glue is computed by its readers
  for (Operation &op : llvm::reverse(body)) {
    auto glue = dyn_cast<linalg::GenericOp>(op);
    int64_t own = 0;
    if (!glue) {
      continue;
    }
    std::string why = whyApart(glue, reads, own);
    if (why.empty()) {
      plan.inlined.insert(&op);
      reads[&op] = own;
    } else {
      plan.apart[&op] = std::move(why);
    }
  }
  SmallVector<attn::ProjectOp> first;
  for (auto op : body.getOps<attn::ProjectOp>()) {
    auto *leader = llvm::find_if(first, [&](attn::ProjectOp other) {
      return plan.together[other].size() + 1 < kTogether && canJoin(other, op, plan);
    });
    if (leader == first.end()) {
      first.push_back(op);
    } else {
      plan.together[*leader].push_back(op);
      plan.joined.insert(op);
    }
  }
  return plan;
}

//===----------------------------------------------------------------------===//
// Glue into glue
//===----------------------------------------------------------------------===//

/// A result that is read once goes into its reader, unless that repeats it along a dimension: what takes divisions or
/// functions is then computed once, and read.
static bool mayFuse(OpOperand *use) {
  auto producer = use->get().getDefiningOp<linalg::GenericOp>();
  auto reader = dyn_cast<linalg::GenericOp>(use->getOwner());
  if (!producer || !reader || !producer->hasOneUse()) {
    return false;
  }
  return reader.getMatchingIndexingMap(use).isPermutation() || glueCycles(producer) < 8;
}

namespace {
struct FuseGluePass : impl::FuseGluePassBase<FuseGluePass> {
  using Base::Base;
  void runOnOperation() override {
    MLIRContext *context = &getContext();
    RewritePatternSet patterns(context);
    linalg::populateElementwiseOpsFusionPatterns(patterns, mayFuse);
    linalg::GenericOp::getCanonicalizationPatterns(patterns, context);
    affine::AffineApplyOp::getCanonicalizationPatterns(patterns, context);
    tensor::EmptyOp::getCanonicalizationPatterns(patterns, context);
    linalg::populateConstantFoldLinalgOperations(patterns, mayFuse);
    context->getLoadedDialect<linalg::LinalgDialect>()->getCanonicalizationPatterns(patterns);
    GreedyRewriteConfig config;
    config.setUseTopDownTraversal(true);
    (void)applyPatternsGreedily(getOperation(), std::move(patterns), config);
  }
};
} // namespace

} // namespace heddle
