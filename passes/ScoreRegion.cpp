//===- ScoreRegion.cpp - A score region's code in a kernel ----------------===//

#include "passes/ScoreRegion.h"
#include "passes/ScalarOps.h"

#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace heddle {

namespace {
class RegionCloner {
public:
  RegionCloner(Emitter &e, const KernelSignature &sig, Value args, llvm::function_ref<Value(int64_t)> captured)
      : e(e), sig(sig), args(args), captured(captured) {}

  /// `wanted` and what it needs.
  Value emit(Region &region, Value wanted, ArrayRef<Value> arguments, ArrayRef<std::pair<Value, Value>> given) {
    for (auto [from, to] : llvm::zip(region.getArguments(), arguments)) {
      if (to) {
        map.map(from, to);
      }
    }
    for (auto [from, to] : given) {
      map.map(from, to);
    }
    return value(wanted);
  }

private:
  Emitter &e;
  const KernelSignature &sig;
  Value args;
  llvm::function_ref<Value(int64_t)> captured;
  IRMapping map;

  Type lowered(Type t) { return t.isIndex() ? Type(e.i64) : t; }

  Value value(Value v) {
    if (Value known = map.lookupOrNull(v)) {
      return known;
    }
    if (Operation *op = v.getDefiningOp()) {
      clone(*op);
      return map.lookup(v);
    }
    Value address = captured(cast<BlockArgument>(v).getArgNumber());
    Type type = v.getType();
    if (isa<FloatType>(type)) {
      Value x = e.load(e.f64, address, 8);
      return type.isF64() ? x : arith::TruncFOp::create(e.b, e.loc, type, x).getResult();
    }
    return e.toInt(e.load(e.i64, address, 8), lowered(type));
  }

  void clone(attn::LoadOp load) {
    auto type = cast<RankedTensorType>(load.getTensor().getType());
    OperandRecord record{sig.argSlot(cast<BlockArgument>(load.getTensor()).getArgNumber()), type.getElementType(),
                         type.getRank()};
    SmallVector<Value> indices;
    for (Value i : load.getIndices()) {
      indices.push_back(value(i));
    }
    Value v = emitLoad(e, args, record, indices);
    // A 16-bit float was widened to f32; uses in the region expect its own type.
    Type element = type.getElementType();
    if (isa<FloatType>(element) && Emitter::elementType(v) != element) {
      v = arith::TruncFOp::create(e.b, e.loc, e.typeLike(v, element), v);
    }
    map.map(load.getResult(), v);
  }

  void clone(arith::ConstantOp constant) {
    auto attr = constant.getValue();
    Value v = isa<IntegerAttr>(attr) && constant.getType().isIndex()
                  ? e.c(cast<IntegerAttr>(attr).getInt())
                  : arith::ConstantOp::create(e.b, e.loc, cast<TypedAttr>(attr)).getResult();
    map.map(constant.getResult(), v);
  }

  void clone(Operation &op) {
    if (auto load = dyn_cast<attn::LoadOp>(op)) {
      return clone(load);
    }
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      return clone(constant);
    }
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(op)) {
      map.map(op.getResult(0), e.toInt(value(op.getOperand(0)), lowered(op.getResult(0).getType())));
      return;
    }
    SmallVector<Value> operands;
    bool lanes = false;
    for (Value v : op.getOperands()) {
      operands.push_back(value(v));
      lanes |= Emitter::isVector(operands.back());
    }
    if (lanes) {
      for (Value &v : operands) {
        v = e.splat(v);
      }
    }
    if (Value made = emitScalarOp(e.b, e.loc, op, operands)) {
      map.map(op.getResult(0), made);
      return;
    }
    OperationState state(e.loc, op.getName(), operands, {}, op.getAttrs());
    for (Type t : op.getResultTypes()) {
      state.addTypes(lanes ? Type(e.vec(lowered(t))) : lowered(t));
    }
    Operation *copy = e.b.create(state);
    for (auto [from, to] : llvm::zip(op.getResults(), copy->getResults())) {
      map.map(from, to);
    }
  }
};
} // namespace

Value emitScoreRegion(Emitter &e, const KernelSignature &sig, Value args, Region &region, ArrayRef<Value> arguments,
                      llvm::function_ref<Value(int64_t)> captured, ArrayRef<std::pair<Value, Value>> given) {
  RegionCloner cloner(e, sig, args, captured);
  return cloner.emit(region, cast<attn::YieldOp>(region.front().getTerminator()).getScore(), arguments, given);
}

Value emitScorePart(Emitter &e, const KernelSignature &sig, Value args, Value part, ArrayRef<Value> arguments,
                    llvm::function_ref<Value(int64_t)> captured) {
  return RegionCloner(e, sig, args, captured).emit(*part.getParentRegion(), part, arguments, {});
}

} // namespace heddle
