//===- WidenGlue.cpp - Glue gives glue f32, whatever its storage type -----===//
//
// Glue computes in f32 and rounds what is stored. How much of it one pass over
// memory computes depends on what else reads a value and on what the spec returns;
// the bits must not. So what glue reads of glue is never rounded, and what an op
// reads or the spec returns always is:
//
//   %y = glue(%x) : bf16                 %w = glue(%x) : f32
//   %z = glue(%y) : bf16            ->   %y = round(%w) : bf16
//   %o = attn.pool %y                    %z = glue(%w) : bf16
//                                        %o = attn.pool %y
//
// Fusion then decides as ever what is stored, in f32 where glue alone reads it.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "passes/Passes.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_WIDENGLUEPASS
#include "passes/Passes.h.inc"

static bool isShort(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && (tensor.getElementType().isF16() || tensor.getElementType().isBF16());
}

/// `type` with elements of f32.
static RankedTensorType wide(Type type) {
  return cast<RankedTensorType>(type).clone(Float32Type::get(type.getContext()));
}

/// The operands by which glue reads a value, also through casts of its sizes; true where there are any.
static bool readsOfGlue(Value v, SmallVectorImpl<OpOperand *> &reads) {
  for (OpOperand &use : v.getUses()) {
    auto glue = dyn_cast<linalg::GenericOp>(use.getOwner());
    if (glue && glue.isDpsInput(&use)) {
      reads.push_back(&use);
    } else if (auto cast = dyn_cast<tensor::CastOp>(use.getOwner()); cast && isShort(cast.getType())) {
      readsOfGlue(cast.getDest(), reads);
    }
  }
  return !reads.empty();
}

/// A tensor of f32 as large as `like`.
static Value emptyLike(OpBuilder &b, Location loc, Value like) {
  SmallVector<Value> sizes;
  auto type = wide(like.getType());
  for (int64_t axis = 0; axis < type.getRank(); ++axis) {
    if (type.isDynamicDim(axis)) {
      sizes.push_back(tensor::DimOp::create(b, loc, like, axis));
    }
  }
  return tensor::EmptyOp::create(b, loc, type, sizes);
}

/// Makes a result f32, and gives what it was, rounded from it.
static Value widen(linalg::GenericOp op, unsigned n) {
  OpBuilder b(op);
  const Location loc = op.getLoc();
  const Value init = op.getDpsInitOperand(n)->get();
  const Type was = op->getResult(n).getType(), element = cast<RankedTensorType>(was).getElementType();
  op.getDpsInitsMutable()[n].set(emptyLike(b, loc, init));
  op.getRegionOutputArgs()[n].setType(b.getF32Type());
  op->getResult(n).setType(wide(was));
  OpOperand &yielded = op.getRegion().front().getTerminator()->getOpOperand(n);
  auto rounding = yielded.get().getDefiningOp<arith::TruncFOp>();
  b.setInsertionPoint(yielded.getOwner());
  yielded.set(rounding && rounding.getIn().getType().isF32()
                  ? rounding.getIn()
                  : arith::ExtFOp::create(b, loc, b.getF32Type(), yielded.get()).getResult());
  b.setInsertionPointAfter(op);
  const unsigned rank = op.getNumLoops();
  SmallVector<AffineMap> maps(2, b.getMultiDimIdentityMap(rank));
  SmallVector<utils::IteratorType> loops(rank, utils::IteratorType::parallel);
  auto rounded = linalg::GenericOp::create(
      b, loc, was, op->getResult(n), init, maps, loops, [&](OpBuilder &inner, Location at, ValueRange args) {
        linalg::YieldOp::create(inner, at, arith::TruncFOp::create(inner, at, element, args[0]).getResult());
      });
  return rounded.getResult(0);
}

/// Makes an operand of glue f32.
static void readWide(OpOperand &read, Value from) {
  auto glue = cast<linalg::GenericOp>(read.getOwner());
  BlockArgument arg = glue.getMatchingBlockArgument(&read);
  OpBuilder b = OpBuilder::atBlockBegin(glue.getBlock());
  Operation *before = read.get().getDefiningOp();
  if (isa<tensor::CastOp>(before)) {
    b.setInsertionPointAfter(before);
    from = tensor::CastOp::create(b, glue.getLoc(), wide(read.get().getType()), from);
  }
  const Type element = arg.getType();
  read.set(from);
  while (isa<tensor::CastOp>(before) && before->use_empty()) {
    Operation *cast = before;
    before = cast->getOperand(0).getDefiningOp();
    cast->erase();
  }
  arg.setType(b.getF32Type());
  if (arg.use_empty()) {
    return;
  }
  b.setInsertionPointToStart(&glue.getRegion().front());
  auto narrow = arith::TruncFOp::create(b, glue.getLoc(), element, arg);
  arg.replaceAllUsesExcept(narrow, narrow);
  for (Operation *user : llvm::make_early_inc_range(narrow->getUsers())) {
    if (auto ext = dyn_cast<arith::ExtFOp>(user); ext && ext.getType().isF32()) {
      ext.replaceAllUsesWith(Value(arg));
      ext.erase();
    }
  }
  if (narrow->use_empty()) {
    narrow.erase();
  }
}

namespace {
struct WidenGluePass : impl::WidenGluePassBase<WidenGluePass> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<linalg::GenericOp> all;
    getOperation()->walk([&](linalg::GenericOp op) { all.push_back(op); });
    for (linalg::GenericOp op : all) {
      for (unsigned n = 0; n < op->getNumResults(); ++n) {
        Value result = op->getResult(n);
        SmallVector<OpOperand *> reads;
        OpOperand *init = op.getDpsInitOperand(n);
        if (!isShort(result.getType()) || op.payloadUsesValueFromOperand(init) ||
            !op.getMatchingIndexingMap(init).isIdentity() || !readsOfGlue(result, reads)) {
          continue;
        }
        Value rounded = widen(op, n);
        result.replaceUsesWithIf(rounded, [&](OpOperand &use) {
          return use.getOwner() != rounded.getDefiningOp() && !isa<tensor::DimOp>(use.getOwner());
        });
        for (OpOperand *read : reads) {
          readWide(*read, result);
        }
        if (rounded.use_empty()) {
          rounded.getDefiningOp()->erase();
        }
      }
    }
  }
};
} // namespace

} // namespace heddle
