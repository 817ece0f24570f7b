//===- LowerGlue.cpp - linalg.generic between ops of a spec as a kernel ---===//
//
// Elementwise glue: all iterators parallel, the result indexed by the loops as they
// stand. A task takes some rows of the result; columns are on lanes. Floats are
// computed in f32 whatever their storage type, and rounded once when stored.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/IRMapping.h"
#include "passes/KernelSignature.h"
#include "passes/OpKernel.h"
#include "passes/ScalarOps.h"

using namespace mlir;

namespace heddle {

static constexpr int64_t kRows = 64; // a task

namespace {
class Glue {
public:
  Glue(linalg::GenericOp op, OpKernel &k) : op(op), k(k), loops(op.getNumLoops()) {}
  LogicalResult emit();

private:
  LogicalResult check();
  LogicalResult describe();
  void body(ArrayRef<Value> cols, bool vector);
  Value load(const TensorView &view, AffineMap map, Value col, bool vector);
  void store(const TensorView &view, AffineMap map, Value value, Value col);
  Value address(const TensorView &view, AffineMap map, Value col);
  Value clone(Operation &inner, IRMapping &map, Value col, bool vector);
  Value valueOf(Value v, IRMapping &map);
  int64_t argument(Value v) { return cast<BlockArgument>(v).getArgNumber(); }
  /// True where the innermost loop walks adjacent elements, or none, of an operand.
  Value walksAdjacent(const TensorView &view, AffineMap map);
  bool usesInner(AffineMap map) { return map.isFunctionOfDim(loops - 1); }
  Type lowered(Type t) { return isa<FloatType>(t) ? k.f32 : t.isIndex() ? k.i64 : t; }

  linalg::GenericOp op;
  OpKernel &k;
  unsigned loops;
  SmallVector<TensorView> ins, outs;
  SmallVector<AffineExpr> sizes;
  SmallVector<Value> at; ///< indices of the outer loops
};
} // namespace

LogicalResult Glue::check() {
  if (op.getNumReductionLoops() > 0) {
    return op.emitOpError("expected elementwise glue, with parallel loops only, but got a reduction; attn.pool, "
                          "attn.project and attn.convolve reduce");
  }
  if (loops < 1 || loops > 4) {
    return op.emitOpError("expected glue of 1 to 4 dimensions, but got ") << loops;
  }
  for (OpOperand &init : op.getDpsInitsMutable()) {
    if (op.payloadUsesValueFromOperand(&init)) {
      return op.emitOpError("expected glue that does not read what its result held before, but got one that does");
    }
    if (!op.getMatchingIndexingMap(&init).isIdentity()) {
      return op.emitOpError("expected a result that is indexed by the loops in order, but got ")
             << AffineMapAttr::get(op.getMatchingIndexingMap(&init));
    }
  }
  for (OpOperand *in : op.getDpsInputOperands()) {
    for (AffineExpr e : op.getMatchingIndexingMap(in).getResults()) {
      if (!isa<AffineDimExpr, AffineConstantExpr>(e)) {
        return op.emitOpError("expected operands that are indexed by loops or constants, but got ")
               << AffineMapAttr::get(op.getMatchingIndexingMap(in));
      }
    }
  }
  return success();
}

LogicalResult Glue::describe() {
  sizes.assign(loops, AffineExpr());
  for (OpOperand *in : op.getDpsInputOperands()) {
    if (!isa<RankedTensorType>(in->get().getType())) {
      continue;
    }
    for (auto [axis, e] : llvm::enumerate(op.getMatchingIndexingMap(in).getResults())) {
      if (auto dim = dyn_cast<AffineDimExpr>(e)) {
        AffineExpr size = k.size(argument(in->get()), axis);
        if (!sizes[dim.getPosition()]) {
          sizes[dim.getPosition()] = size;
        } else {
          k.expect(argument(in->get()), axis, sizes[dim.getPosition()]);
        }
      }
    }
  }
  if (llvm::is_contained(sizes, AffineExpr())) {
    return op.emitOpError("expected every size of the result to be one of an operand, but got one that is not");
  }
  AffineExpr rows = k.number(1);
  for (AffineExpr size : ArrayRef(sizes).drop_back()) {
    rows = rows * size;
  }
  for (Value v : op.getResults()) {
    (void)v;
    k.result(sizes);
  }
  k.launch(rows.ceilDiv(kRows), rows * sizes.back() * OpKernel::kMoved);
  return success();
}

Value Glue::walksAdjacent(const TensorView &view, AffineMap map) {
  for (auto [axis, e] : llvm::enumerate(map.getResults())) {
    if (auto dim = dyn_cast<AffineDimExpr>(e); dim && dim.getPosition() == loops - 1) {
      return k.eq(view.stride[axis], k.c(view.bytes));
    }
  }
  return k.constant(k.i1, int64_t(1));
}

Value Glue::address(const TensorView &view, AffineMap map, Value col) {
  Value place = view.base;
  for (auto [axis, e] : llvm::enumerate(map.getResults())) {
    Value index;
    if (auto constant = dyn_cast<AffineConstantExpr>(e)) {
      index = k.c(constant.getValue());
    } else {
      unsigned dim = cast<AffineDimExpr>(e).getPosition();
      index = dim == loops - 1 ? col : at[dim];
    }
    place = k.at2(place, index, view.stride[axis]);
  }
  return place;
}

Value Glue::load(const TensorView &view, AffineMap map, Value col, bool vector) {
  Value place = address(view, map, col);
  bool lanes = vector && usesInner(map);
  if (isa<FloatType>(view.type) && !view.type.isF64()) {
    return k.loadAsF32(view.type, place, lanes);
  }
  Type stored = view.type.isInteger(1) ? k.i8 : view.type;
  Value v = k.load(lanes ? Type(k.vec(stored)) : stored, place, view.bytes);
  return view.type.isInteger(1) ? k.cmp(arith::CmpIPredicate::ne, v, k.constant(v.getType(), int64_t(0))) : v;
}

void Glue::store(const TensorView &view, AffineMap map, Value value, Value col) {
  Value place = address(view, map, col);
  if (isa<FloatType>(view.type)) {
    k.storeF32As(view.type, value, place);
  } else {
    Type stored = view.type.isInteger(1) ? k.i8 : view.type;
    k.store(k.toInt(value, stored), place, view.bytes);
  }
}

/// A value of the region, a constant, or a number that the function is given.
Value Glue::valueOf(Value v, IRMapping &map) {
  if (Value known = map.lookupOrNull(v)) {
    return known;
  }
  if (Operation *def = v.getDefiningOp()) {
    return clone(*def, map, {}, false);
  }
  // A scalar's record points to an i64 or a double.
  Value place = k.scalarAddress(argument(v));
  Value made = isa<FloatType>(v.getType())
                   ? arith::TruncFOp::create(k.b, k.loc, k.f32, k.load(k.f64, place, 8)).getResult()
                   : k.toInt(k.load(k.i64, place, 8), lowered(v.getType()));
  map.map(v, made);
  return made;
}

Value Glue::clone(Operation &inner, IRMapping &map, Value col, bool vector) {
  auto give = [&](Value v) {
    map.map(inner.getResult(0), v);
    return v;
  };
  if (auto constant = dyn_cast<arith::ConstantOp>(inner)) {
    if (auto number = dyn_cast<FloatAttr>(constant.getValue())) {
      return give(k.constant(k.f32, number.getValueAsDouble()));
    }
    return give(k.constant(lowered(constant.getType()), cast<IntegerAttr>(constant.getValue()).getInt()));
  }
  if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
    if (index.getDim() + 1 < loops) {
      return give(at[index.getDim()]);
    }
    return give(vector ? k.add(k.iota(), k.splat(col)) : col);
  }
  SmallVector<Value> operands;
  bool lanes = false;
  for (Value v : inner.getOperands()) {
    operands.push_back(valueOf(v, map));
    lanes |= Emitter::isVector(operands.back());
  }
  if (isa<arith::ExtFOp, arith::TruncFOp>(inner)) {
    return give(operands[0]);
  }
  if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(inner)) {
    return give(k.toInt(operands[0], lowered(inner.getResult(0).getType())));
  }
  if (lanes) {
    for (Value &v : operands) {
      v = k.splat(v);
    }
  }
  if (Value made = emitScalarOp(k.b, k.loc, inner, operands)) {
    return give(made);
  }
  OperationState state(k.loc, inner.getName(), operands, {}, inner.getAttrs());
  Type type = lowered(inner.getResult(0).getType());
  state.addTypes(lanes ? Type(k.vec(type)) : type);
  return give(k.b.create(state)->getResult(0));
}

void Glue::body(ArrayRef<Value> cols, bool vector) {
  for (Value col : cols) {
    IRMapping map;
    size_t n = 0;
    for (OpOperand *in : op.getDpsInputOperands()) {
      Value argument = op.getMatchingBlockArgument(in);
      if (isa<RankedTensorType>(in->get().getType())) {
        map.map(argument, load(ins[n], op.getMatchingIndexingMap(in), col, vector));
      } else {
        map.map(argument, valueOf(in->get(), map));
      }
      ++n;
    }
    for (Operation &inner : op.getRegion().front().without_terminator()) {
      if (!map.contains(inner.getResult(0))) {
        clone(inner, map, col, vector);
      }
    }
    Operation *yield = op.getRegion().front().getTerminator();
    for (auto [r, v] : llvm::enumerate(yield->getOperands())) {
      Value value = valueOf(v, map);
      store(outs[r], op.getMatchingIndexingMap(op.getDpsInitOperand(r)), vector ? k.splat(value) : value, col);
    }
  }
}

LogicalResult Glue::emit() {
  if (failed(check()) || failed(describe())) {
    return failure();
  }
  Value contiguous = k.constant(k.i1, int64_t(1));
  for (OpOperand *in : op.getDpsInputOperands()) {
    bool tensor = isa<RankedTensorType>(in->get().getType());
    ins.push_back(tensor ? k.argument(argument(in->get())) : TensorView());
    if (tensor) {
      contiguous = k.both(contiguous, walksAdjacent(ins.back(), op.getMatchingIndexingMap(in)));
    }
  }
  for (auto [r, v] : llvm::enumerate(op.getResults())) {
    outs.push_back(k.resultView(r));
    contiguous = k.both(contiguous, k.adjacent(outs.back()));
  }
  SmallVector<Value> outer(outs[0].size.begin(), outs[0].size.end() - 1);
  Value rows = k.c(1);
  for (Value size : outer) {
    rows = arith::MulIOp::create(k.b, k.loc, rows, size);
  }
  Value first = k.mul(k.task, kRows), last = k.min(k.add(first, k.c(kRows)), rows);
  k.rows(first, last, [&](Value row) {
    at.clear();
    if (!outer.empty()) {
      Emitter::Values split = k.split(row, outer);
      at.assign(split.begin(), split.end());
    }
    k.columns(outs[0].size.back(), contiguous, 1, [&](ArrayRef<Value> cols, bool vector) { body(cols, vector); });
  });
  return success();
}

LogicalResult lowerGlue(linalg::GenericOp op, OpKernel &kernel) { return Glue(op, kernel).emit(); }

} // namespace heddle
