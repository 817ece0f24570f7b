//===- AttendScore.cpp - Scores of a chunk -----------------------------===//
//
// Score regions on lanes, sums of dots, and dead pairs (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/IRMapping.h"
#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

namespace {
/// Clones a score region's scalar code onto lanes: what depends on the query or on a dot is a vector, the rest
/// stays scalar.
class RegionEmitter {
public:
  RegionEmitter(Emitter &e, const KernelSignature &sig, Value args) : e(e), sig(sig), args(args) {}

  Value emit(Region &region, ArrayRef<Value> arguments) {
    for (auto [from, to] : llvm::zip(region.getArguments(), arguments)) {
      map.map(from, to);
    }
    for (Operation &op : region.front()) {
      if (auto yield = dyn_cast<attn::YieldOp>(op)) {
        return e.splat(value(yield.getScore()));
      }
      clone(op);
    }
    llvm_unreachable("a score region without a yield");
  }

private:
  Emitter &e;
  const KernelSignature &sig;
  Value args;
  IRMapping map;

  Type lowered(Type t) { return t.isIndex() ? Type(e.i64) : t; }

  Value value(Value v) {
    if (Value known = map.lookupOrNull(v)) {
      return known;
    }
    if (auto constant = v.getDefiningOp<arith::ConstantOp>()) {
      clone(*constant); // hoisted out of the region
      return map.lookup(v);
    }
    // A captured scalar: its record points to a double or an i64.
    int64_t slot = sig.argSlot(cast<BlockArgument>(v).getArgNumber());
    Value address = e.toPtr(e.load(e.i64, e.at(args, slot * 8), 8));
    if (isa<FloatType>(v.getType())) {
      Value x = e.load(e.f64, address, 8);
      return v.getType().isF64() ? x : arith::TruncFOp::create(e.b, e.loc, v.getType(), x).getResult();
    }
    return e.toInt(e.load(e.i64, address, 8), lowered(v.getType()));
  }

  void clone(Operation &op) {
    if (auto load = dyn_cast<attn::LoadOp>(op)) {
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
      return;
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

Value AttendTiler::emitRegion(Region &region, Value args, ArrayRef<Value> arguments) {
  return RegionEmitter(e, sig, args).emit(region, arguments);
}

/// score(args, scratch, b, h): S := the region's scores in base 2; masked: dead pairs become -inf (0 where
/// weights are not exponentials). tops := the greatest of each lane.
/// With `byLane`, each lane has a head of its own.
void AttendTiler::emitScore(int64_t n, bool masked, bool byLane) {
  const Stratum &s = schedule.strata[n];
  const SegmentSignature &segment = sig.segments[s.segment];
  std::string what = std::string(masked ? "score_masked" : "score") + (byLane ? "_heads" : "");
  auto fn = function(name(what, n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  SmallVector<Value> scales; // what packing left out
  for (size_t dot = 0; dot < segment.dots.size(); ++dot) {
    Value scale;
    if (pairs) {
      Value x = scaleOf(u, packOf(s.segment, dot));
      scale = e.max(x, e.sub(e.constant(e.f32, 0.0), x));
    }
    scales.push_back(scale);
  }
  Value dead = e.constant(e.vec(e.f32), softmax() ? -INFINITY : 0.0);
  e.loop(e.c(0), e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn), vl, [&](Value lane) {
    Value range = e.at(in(u, fColumns), e.mul(e.floorDiv(lane, kColumn), 16));
    Value first = e.load(e.i64, range, 8), last = e.load(e.i64, e.at(range, 8), 8);
    Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    Value head = byLane ? e.load(e.vec(e.i64), e.at(in(u, fHeads), e.mul(lane, 8)), 8) : u.h;
    SmallVector<Value> columns;
    for (size_t dot = 0; dot < std::max<size_t>(segment.dots.size(), 1); ++dot) {
      columns.push_back(scoresOf(u, dot, lane));
    }
    Value live = masked ? liveOf(u, lane) : Value();
    Values top = e.loop(first, last, 1, {e.constant(e.vec(e.f32), -INFINITY)}, [&](Value k, ValueRange tops) {
      Value j = e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64);
      Value offset = e.mul(k, kColumn * 4);
      SmallVector<Value> dots;
      for (size_t dot = 0; dot < segment.dots.size(); ++dot) {
        Value x = e.loadRow(e.at(columns[dot], offset));
        dots.push_back(scales[dot] ? e.mul(x, scales[dot]) : x);
      }
      Value x;
      if (Region *region = score(s.segment)) {
        SmallVector<Value> arguments(dots);
        arguments.append({u.b, head, query, j});
        x = emitRegion(*region, u.args, arguments);
        if (softmax()) {
          x = e.mul(x, e.constant(x.getType(), kLog2E));
        }
      } else {
        x = dots[0];
        for (Value d : ArrayRef<Value>(dots).drop_front()) {
          x = e.add(x, d);
        }
      }
      if (masked) {
        Type bits = builder.getIntegerType(vl), word = builder.getIntegerType(std::max<int64_t>(vl, 8));
        Value w = e.load(word, e.at(live, e.mul(k, liveRow())), 1);
        if (bits != word) {
          w = arith::TruncIOp::create(builder, e.loc, bits, w);
        }
        x = e.select(LLVM::BitcastOp::create(builder, e.loc, e.vec(e.i1), w), x, dead);
      }
      e.store(x, e.at(columns[0], offset), 4);
      return Values{e.max(x, tops[0])};
    });
    e.store(top[0], e.at(in(u, fTops), e.mul(lane, 4)), 4);
  });
  func::ReturnOp::create(builder, e.loc);
}
} // namespace heddle
