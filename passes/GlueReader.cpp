//===- GlueReader.cpp - Values of glue where a kernel reads them ----------===//

#include "passes/GlueReader.h"

#include "passes/ScalarOps.h"

using namespace mlir;

namespace heddle {

std::string GlueReader::whyNot(linalg::GenericOp op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (op.getNumReductionLoops() > 0) {
    return "expected elementwise glue, with parallel loops only, but got a reduction; attn.pool, attn.project and "
           "attn.convolve reduce";
  }
  if (op.getNumLoops() < 1 || op.getNumLoops() > 4) {
    os << "expected glue of 1 to 4 dimensions, but got " << op.getNumLoops();
    return text;
  }
  for (OpOperand &init : op.getDpsInitsMutable()) {
    if (op.payloadUsesValueFromOperand(&init)) {
      return "expected glue that does not read what its result held before, but got one that does";
    }
    if (!op.getMatchingIndexingMap(&init).isIdentity()) {
      os << "expected a result that is indexed by the loops in order, but got "
         << AffineMapAttr::get(op.getMatchingIndexingMap(&init));
      return text;
    }
  }
  llvm::SmallBitVector sized(op.getNumLoops());
  for (OpOperand *in : op.getDpsInputOperands()) {
    for (AffineExpr e : op.getMatchingIndexingMap(in).getResults()) {
      if (auto dim = dyn_cast<AffineDimExpr>(e)) {
        sized.set(dim.getPosition());
      } else if (!isa<AffineConstantExpr>(e)) {
        os << "expected operands that are indexed by loops or constants, but got "
           << AffineMapAttr::get(op.getMatchingIndexingMap(in));
        return text;
      }
    }
  }
  return sized.all() ? "" : "expected every size of the result to be one of an operand, but got one that is not";
}

std::pair<Value, int64_t> GlueReader::sourceOf(Value tensor, int64_t axis) {
  auto glue = tensor.getDefiningOp<linalg::GenericOp>();
  if (!glue) {
    return {tensor, axis};
  }
  for (OpOperand *in : glue.getDpsInputOperands()) {
    for (auto [place, e] : llvm::enumerate(glue.getMatchingIndexingMap(in).getResults())) {
      if (auto dim = dyn_cast<AffineDimExpr>(e); dim && dim.getPosition() == axis) {
        return sourceOf(in->get(), int64_t(place));
      }
    }
  }
  return {Value(), 0};
}

LogicalResult GlueReader::prepare(OpKernel &k, Value tensor) {
  auto glue = tensor.getDefiningOp<linalg::GenericOp>();
  if (!glue) {
    if (isa<RankedTensorType>(tensor.getType()) && !k.leaves.contains(tensor)) {
      k.leaves[tensor] = k.argument(OpKernel::numberOf(tensor));
    }
    return success();
  }
  if (!k.known.insert(glue).second) {
    return success();
  }
  if (std::string why = whyNot(glue); !why.empty()) {
    return glue.emitOpError(why);
  }
  for (OpOperand *in : glue.getDpsInputOperands()) {
    if (!isa<RankedTensorType>(in->get().getType())) {
      continue;
    }
    if (failed(prepare(k, in->get()))) {
      return failure();
    }
    for (auto [place, e] : llvm::enumerate(glue.getMatchingIndexingMap(in).getResults())) {
      auto dim = dyn_cast<AffineDimExpr>(e);
      if (!dim) {
        continue;
      }
      auto own = sourceOf(in->get(), int64_t(place)), whole = sourceOf(glue->getResult(0), dim.getPosition());
      if (own != whole) {
        k.expectOf(own.first, own.second, k.sizeOf(whole.first, whole.second));
      }
    }
  }
  // Readers rely on what the type says.
  for (auto [axis, size] : llvm::enumerate(cast<RankedTensorType>(glue->getResult(0).getType()).getShape())) {
    auto [argument, place] = sourceOf(glue->getResult(0), int64_t(axis));
    if (!ShapedType::isDynamic(size) && cast<RankedTensorType>(argument.getType()).isDynamicDim(place)) {
      k.expectOf(argument, place, k.number(size));
    }
  }
  return success();
}

Value GlueReader::isAdjacent(OpKernel &k, Value tensor, int64_t lane) {
  Value yes = k.constant(k.i1, int64_t(1));
  auto glue = tensor.getDefiningOp<linalg::GenericOp>();
  if (!glue) {
    const TensorView &view = k.leaves[tensor];
    return lane < 0 ? yes : k.eq(view.stride[lane], k.c(view.bytes));
  }
  for (OpOperand *in : glue.getDpsInputOperands()) {
    if (!isa<RankedTensorType>(in->get().getType())) {
      continue;
    }
    int64_t along = -1, places = 0;
    for (auto [place, e] : llvm::enumerate(glue.getMatchingIndexingMap(in).getResults())) {
      if (auto dim = dyn_cast<AffineDimExpr>(e); dim && dim.getPosition() == lane) {
        along = int64_t(place);
        ++places;
      }
    }
    // A diagonal's elements are never adjacent.
    yes = places > 1 ? k.constant(k.i1, int64_t(0)) : k.both(yes, isAdjacent(k, in->get(), along));
  }
  return yes;
}

Value GlueReader::load(const TensorView &view, ArrayRef<Value> at, int64_t along) {
  Value place = k.address(view, at);
  const bool lanes = along >= 0;
  if (isa<FloatType>(view.type) && !view.type.isF64()) {
    return k.loadAsF32(view.type, place, lanes);
  }
  Type stored = view.type.isInteger(1) ? k.i8 : view.type;
  Value v = k.load(lanes ? Type(k.vec(stored)) : stored, place, view.bytes);
  return view.type.isInteger(1) ? k.cmp(arith::CmpIPredicate::ne, v, k.constant(v.getType(), int64_t(0))) : v;
}

/// As if it had been stored as `storage` and loaded again.
Value GlueReader::rounded(Type storage, Value v) {
  if (storage.isF16() && k.target.f16c) {
    Value half = arith::TruncFOp::create(k.b, k.loc, k.typeLike(v, storage), v);
    return arith::ExtFOp::create(k.b, k.loc, v.getType(), half);
  }
  if (storage.isF16() || storage.isBF16()) {
    Value place = k.allocate(k.target.width * 2);
    k.storeF32As(storage, v, place);
    return k.loadAsF32(storage, place, Emitter::isVector(v));
  }
  return v;
}

Value GlueReader::tensor(Value tensor, ArrayRef<Value> at, int64_t along) {
  for (const OpKernel::Computed &c : computed) {
    if (c.tensor == tensor && c.lane == along && ArrayRef<Value>(c.index) == at) {
      return c.made;
    }
  }
  Value made;
  if (auto glue = tensor.getDefiningOp<linalg::GenericOp>()) {
    GlueReader inner(k, computed);
    made = inner.results(glue, at, along)[cast<OpResult>(tensor).getResultNumber()];
    made = rounded(cast<RankedTensorType>(tensor.getType()).getElementType(), made);
  } else {
    made = load(k.leaves[tensor], at, along);
  }
  computed.push_back({tensor, made, llvm::to_vector<4>(at), along});
  return made;
}

/// A value of the region, a constant, or a number that the function is given.
Value GlueReader::valueOf(Value v, IRMapping &map) {
  if (Value known = map.lookupOrNull(v)) {
    return known;
  }
  if (Operation *def = v.getDefiningOp()) {
    return clone(*def, map);
  }
  // A scalar's record points to an i64 or a double.
  Value place = k.scalarAddress(OpKernel::numberOf(v));
  Value made = isa<FloatType>(v.getType())
                   ? arith::TruncFOp::create(k.b, k.loc, k.f32, k.load(k.f64, place, 8)).getResult()
                   : k.toInt(k.load(k.i64, place, 8), lowered(v.getType()));
  map.map(v, made);
  return made;
}

Value GlueReader::clone(Operation &inner, IRMapping &map) {
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
    Value at = loops[index.getDim()];
    return give(int64_t(index.getDim()) == lane ? k.add(k.iota(), k.splat(at)) : at);
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

SmallVector<Value> GlueReader::results(linalg::GenericOp op, ArrayRef<Value> at, int64_t along) {
  loops = at;
  lane = along;
  IRMapping map;
  for (OpOperand *in : op.getDpsInputOperands()) {
    Value argument = op.getMatchingBlockArgument(in);
    if (!isa<RankedTensorType>(in->get().getType())) {
      map.map(argument, valueOf(in->get(), map));
      continue;
    }
    SmallVector<Value> index;
    int64_t axis = -1;
    for (auto [place, e] : llvm::enumerate(op.getMatchingIndexingMap(in).getResults())) {
      auto dim = dyn_cast<AffineDimExpr>(e);
      index.push_back(dim ? at[dim.getPosition()] : k.c(cast<AffineConstantExpr>(e).getValue()));
      axis = dim && dim.getPosition() == along ? int64_t(place) : axis;
    }
    map.map(argument, tensor(in->get(), index, axis));
  }
  for (Operation &inner : op.getRegion().front().without_terminator()) {
    if (!map.contains(inner.getResult(0))) {
      clone(inner, map);
    }
  }
  SmallVector<Value> values;
  for (Value v : op.getRegion().front().getTerminator()->getOperands()) {
    Value value = valueOf(v, map);
    values.push_back(lane >= 0 ? k.splat(value) : value);
  }
  return values;
}

//===----------------------------------------------------------------------===//
// Operands of an op's kernel
//===----------------------------------------------------------------------===//

AffineExpr OpKernel::sizeOf(Value operand, int64_t axis) {
  auto [argument, place] = GlueReader::sourceOf(operand, axis);
  return size(numberOf(argument), place);
}

void OpKernel::expectOf(Value operand, int64_t axis, AffineExpr want, bool orOne) {
  auto [argument, place] = GlueReader::sourceOf(operand, axis);
  expect(numberOf(argument), place, want, orOne);
}

void OpKernel::expectDividesOf(Value operand, int64_t axis, AffineExpr want) {
  auto [argument, place] = GlueReader::sourceOf(operand, axis);
  expectDivides(numberOf(argument), place, want);
}

TensorView OpKernel::operand(Value operand) {
  if (!operand.getDefiningOp<linalg::GenericOp>()) {
    return argument(numberOf(operand));
  }
  TensorView v;
  v.glue = operand;
  v.type = cast<RankedTensorType>(operand.getType()).getElementType();
  v.bytes = v.type.getIntOrFloatBitWidth() / 8;
  [[maybe_unused]] LogicalResult ready = GlueReader::prepare(*this, operand);
  assert(succeeded(ready) && "glue without a kernel is no operand");
  for (int64_t axis = 0; axis < cast<RankedTensorType>(operand.getType()).getRank(); ++axis) {
    auto [argument, place] = GlueReader::sourceOf(operand, axis);
    v.size.push_back(leaves[argument].size[place]);
  }
  return v;
}

Value OpKernel::adjacent(const TensorView &v) {
  return v.glue ? GlueReader::isAdjacent(*this, v.glue, int64_t(v.size.size()) - 1) : eq(v.stride.back(), c(v.bytes));
}

Value OpKernel::read(const TensorView &v, ArrayRef<Value> index, bool vector, AllComputed *computed) {
  if (!v.glue) {
    return loadAsF32(v.type, address(v, index), vector);
  }
  AllComputed own;
  return GlueReader(*this, computed ? *computed : own).tensor(v.glue, index, vector ? int64_t(v.size.size()) - 1 : -1);
}

void OpKernel::stage(ArrayRef<Staged> all, ArrayRef<Value> head, Value first, int64_t step, Value left, Value rows,
                     Value cols, const Staging &how) {
  SmallVector<Staged> glue;
  for (const Staged &s : all) {
    if (s.view->glue) {
      glue.push_back(s);
      continue;
    }
    SmallVector<Value> start(head);
    start.append({first, left});
    stage(s.to, s.toStride, address(*s.view, start), mul(s.view->stride[2], step), s.view->stride[3], rows, cols,
          s.view->type, how);
  }
  if (glue.empty()) {
    return;
  }
  Value contiguous = constant(i1, int64_t(1));
  for (const Staged &s : glue) {
    contiguous = both(contiguous, adjacent(*s.view));
  }
  loop(c(0), rows, 1, [&](Value row) {
    Value n = add(first, mul(row, step));
    auto compute = [&] {
      columns(cols, contiguous, 4, [&](ArrayRef<Value> some, bool vector) {
        for (Value col : some) {
          AllComputed computed;
          SmallVector<Value> index(head);
          index.append({n, add(left, col)});
          for (const Staged &s : glue) {
            Value x = read(*s.view, index, vector, &computed);
            x = how.region ? applyRegion(*how.region, x) : x;
            store(x, at(at2(s.to, row, s.toStride), mul(col, 4)), 4);
          }
        }
      });
      loop(cols, padded(cols), 1, [&](Value col) {
        for (const Staged &s : glue) {
          store(constant(f32, 0.0), at(at2(s.to, row, s.toStride), mul(col, 4)), 4);
        }
      });
    };
    if (!how.keep) {
      return compute();
    }
    ifElse(how.keep(row), compute, [&] {
      for (const Staged &s : glue) {
        fillZero(at2(s.to, row, s.toStride), mul(padded(cols), 4));
      }
    });
  });
}

} // namespace heddle
