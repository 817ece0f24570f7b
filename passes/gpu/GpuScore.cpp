//===- GpuScore.cpp - Score regions as one thread's scalar code -----------===//
//
// Clones a score region for one pair. Functions that have no instruction (tanh,
// erf, ..) are left to attn-tile-gpu's expansion into polynomials.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
#include "passes/gpu/GpuKernel.h"

using namespace mlir;

namespace heddle {

namespace {
class RegionCloner {
public:
  RegionCloner(WarpEmitter &e, const KernelSignature &sig, Value args) : e(e), sig(sig), args(args) {}

  Value emit(Region &region, ArrayRef<Value> arguments) {
    for (auto [from, to] : llvm::zip(region.getArguments(), arguments)) {
      map.map(from, to);
    }
    for (Operation &op : region.front()) {
      if (auto yield = dyn_cast<attn::YieldOp>(op)) {
        return value(yield.getScore());
      }
      clone(op);
    }
    llvm_unreachable("a score region without a yield");
  }

private:
  WarpEmitter &e;
  const KernelSignature &sig;
  Value args;
  IRMapping map;

  Type lowered(Type t) { return t.isIndex() ? Type(e.i64) : t; }

  /// The value of a captured scalar stands in its record (docs/abi.md).
  Value captured(BlockArgument argument) {
    Value address = e.at(args, (sig.argSlot(argument.getArgNumber()) + 1) * 8);
    Type type = argument.getType();
    if (isa<FloatType>(type)) {
      Value x = e.load(e.f64, address, 8);
      return type.isF64() ? x : arith::TruncFOp::create(e.b, e.loc, type, x).getResult();
    }
    return e.toInt(e.load(e.i64, address, 8), lowered(type));
  }

  Value value(Value v) {
    if (Value known = map.lookupOrNull(v)) {
      return known;
    }
    if (auto constant = v.getDefiningOp<arith::ConstantOp>()) {
      clone(*constant); // hoisted out of the region
      return map.lookup(v);
    }
    return captured(cast<BlockArgument>(v));
  }

  void load(attn::LoadOp op) {
    auto type = cast<RankedTensorType>(op.getTensor().getType());
    OperandRecord record{sig.argSlot(cast<BlockArgument>(op.getTensor()).getArgNumber()), type.getElementType(),
                         type.getRank()};
    SmallVector<Value> indices;
    for (Value i : op.getIndices()) {
      indices.push_back(value(i));
    }
    Value v = emitLoad(e, args, record, indices);
    // bf16 was widened to f32; uses in the region expect its own type.
    Type element = type.getElementType();
    if (isa<FloatType>(element) && v.getType() != element) {
      v = arith::TruncFOp::create(e.b, e.loc, element, v);
    }
    map.map(op.getResult(), v);
  }

  void clone(Operation &op) {
    if (auto l = dyn_cast<attn::LoadOp>(op)) {
      return load(l);
    }
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      auto attr = constant.getValue();
      Value v = isa<IntegerAttr>(attr) && constant.getType().isIndex()
                    ? e.c(cast<IntegerAttr>(attr).getInt())
                    : arith::ConstantOp::create(e.b, e.loc, cast<TypedAttr>(attr)).getResult();
      map.map(constant.getResult(), v);
      return;
    }
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(op)) {
      map.map(op.getResult(0), e.toInt(value(op.getOperand(0)), lowered(op.getResult(0).getType())));
      return;
    }
    SmallVector<Value> operands;
    for (Value v : op.getOperands()) {
      operands.push_back(value(v));
    }
    OperationState state(e.loc, op.getName(), operands, {}, op.getAttrs());
    for (Type t : op.getResultTypes()) {
      state.addTypes(lowered(t));
    }
    Operation *copy = e.b.create(state);
    for (auto [from, to] : llvm::zip(op.getResults(), copy->getResults())) {
      map.map(from, to);
    }
  }
};
} // namespace

Value emitScoreRegion(WarpEmitter &e, const KernelSignature &sig, Value args, Region &region,
                      ArrayRef<Value> arguments) {
  return RegionCloner(e, sig, args).emit(region, arguments);
}

} // namespace heddle
