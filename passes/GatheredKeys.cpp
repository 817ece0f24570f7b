//===- GatheredKeys.cpp - Keys from run-time lists and ids ----------------===//
//
// The part of the tiling pass for gathered strata, whose keys come from tables:
//
//   shared lists   coarse(64, 64, listed(%i)): for each list that the tile's
//                  queries have, its entries give runs of keys, which are pushed
//                  to the chunk as any other run; lanes with another list are dead
//   sorted ids     same(%a, %b): queries and keys in the order of their ids, as
//                  the runtime sorted them; a lane's keys are one run of ranks,
//                  and bounds on positions narrow it by bisection, since the keys
//                  of one id keep their order
//   own lists      listed(%i): queries share nothing (RowKeys.cpp)
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

#include "dialect/ListKeys.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;
using Kind = vector::CombiningKind;

Value AttendTiler::gatherI32(Value base, Value index) {
  if (!Emitter::isVector(index)) {
    return e.toInt(e.load(e.i32, e.at(base, e.mul(index, 4)), 4), e.i64);
  }
  Value addresses = LLVM::GEPOp::create(builder, e.loc, e.vec(e.ptr), e.i32, base, ArrayRef<LLVM::GEPArg>{index});
  Value all = e.constant(e.vec(e.i1), int64_t(1));
  Value loaded = LLVM::masked_gather::create(builder, e.loc, e.vec(e.i32), addresses, all, ValueRange{},
                                             builder.getI32IntegerAttr(4));
  return e.toInt(loaded, e.i64);
}

//===--- Sorted ids -------------------------------------------------------===//

int64_t AttendTiler::orderOf(const Stratum &s) {
  if (s.ids.isNull()) {
    return -1;
  }
  for (auto [n, order] : llvm::enumerate(orders)) {
    if (order.segment == s.segment && order.ids.same(s.ids)) {
      return int64_t(n);
    }
  }
  auto argument = [&](size_t side) { return sig.patternOperands[s.ids->args[side]->value]; };
  orders.push_back({s.ids, s.segment, argument(0), argument(1)});
  return int64_t(orders.size()) - 1;
}

void AttendTiler::describeOrders() {
  SmallVector<Attribute> all;
  for (const RowOrder &order : orders) {
    int64_t within = direct ? 0 : schedule.superTile;
    all.push_back(builder.getDenseI64ArrayAttr({order.query, order.key, within}));
  }
  module->setAttr("heddle.orders", builder.getArrayAttr(all));
}

Value AttendTiler::orderTable(const Uniform &u, int64_t order, int64_t table) {
  int64_t first = sig.orderSlot() + 6 * order;
  Value batches = slot(u.args, first + 4), heads = slot(u.args, first + 5);
  Value h = arith::DivSIOp::create(builder, e.loc, e.mul(u.h, heads), u.heads);
  Value b = e.select(e.eq(batches, e.c(1)), e.c(0), u.b);
  Value rows = table == 1 ? keyRows(u, orders[order].segment) : u.nq;
  Value list = e.add(e.mul(b, heads), h);
  return e.at(e.toPtr(slot(u.args, first + table)), e.mul(e.mul(list, rows), 4));
}

/// The tile's lanes have runs of ranks; their hull is pushed, and where a lane's run ends inside, it is masked.
void AttendTiler::emitSorted(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  int64_t order = orderOf(s);
  Value keys = orderTable(u, order, 1), starts = orderTable(u, order, 2), ends = orderTable(u, order, 3);
  Value koff = kOffset(u, s.segment);
  Type lanes = e.vec(e.i64);
  Value plus = e.constant(lanes, kFar), minus = e.constant(lanes, -kFar);
  Values found = e.loop(e.c(0), e.c(kLanes), vl, {plus, minus, minus, plus}, [&](Value lane, ValueRange acc) {
    Value query = e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    ExprScope at = scope(u, s.segment, query, {});
    Value row = e.sub(query, u.qOffset), lo = gatherI32(starts, row), hi = gatherI32(ends, row);
    // The first rank in [lo, hi) whose position is at least `bound`.
    auto bisect = [&](Value from, Value until, Value bound) {
      Value length = e.max(vector::ReductionOp::create(builder, e.loc, Kind::MAXSI, e.sub(until, from)), e.c(0));
      Value steps = e.sub(e.c(64), math::CountLeadingZerosOp::create(builder, e.loc, length));
      return e.loop(e.c(0), steps, 1, {from, until}, [&](Value, ValueRange v) {
        Value open = e.lt(v[0], v[1]), mid = e.floorDiv(e.add(v[0], v[1]), 2);
        Value position = e.add(gatherI32(keys, e.select(open, mid, e.constant(lanes, int64_t(0)))), koff);
        Value below = e.both(open, e.lt(position, bound));
        return Values{e.select(below, e.add(mid, 1), v[0]), e.select(e.both(open, e.flip(below)), mid, v[1])};
      })[0];
    };
    for (const Expr &x : s.lower) {
      lo = bisect(lo, hi, e.splat(emitExpr(e, x, at)));
    }
    for (const Expr &x : s.upper) {
      hi = bisect(lo, hi, e.splat(emitExpr(e, x, at)));
    }
    Value dead = e.ge(lo, hi);
    if (s.guard) {
      dead = e.either(dead, e.flip(e.splat(emitExpr(e, s.guard, at))));
    }
    lo = e.select(dead, plus, lo);
    hi = e.select(dead, minus, hi);
    e.store(e.toInt(lo, e.i32), e.at(in(u, fLower[0]), e.mul(lane, 4)), 4);
    e.store(e.toInt(hi, e.i32), e.at(in(u, fUpper[0]), e.mul(lane, 4)), 4);
    return Values{e.min(acc[0], lo), e.max(acc[1], hi), e.max(acc[2], lo), e.min(acc[3], hi)};
  });
  auto reduce = [&](Kind kind, Value v) { return vector::ReductionOp::create(builder, e.loc, kind, v).getResult(); };
  Range all{reduce(Kind::MINSI, found[0]), reduce(Kind::MAXSI, found[1]), reduce(Kind::MAXSI, found[2]),
            reduce(Kind::MINSI, found[3])};
  Range any{e.c(-kFar), e.c(kFar), e.c(-kFar), e.c(kFar)};
  e.ifThen(e.lt(all.lo, all.hi), [&] {
    beginSegment(u, s.segment);
    hoist(u, n);
    Value full = e.constant(e.i1, int64_t(s.residual ? 0 : 1));
    emitRun(u, n, e.c(0), all.lo, all.hi, full, all, any);
    Value count = e.load(e.i64, in(u, fCount), 8);
    e.ifThen(e.lt(e.c(0), count), [&] { e.call(name("flush", n), {}, {u.args, u.scratch, u.b, u.h}); });
  });
}

//===--- Shared lists -----------------------------------------------------===//

void AttendTiler::emitShared(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  SmallVector<LaneInterval> list = intervals(s);
  Value koff = kOffset(u, s.segment), rowsEnd = e.add(koff, keyRows(u, s.segment));
  beginSegment(u, s.segment);
  hoist(u, n);
  auto walk = [&](Value row, llvm::function_ref<Value(Value, Value)> alive) {
    SmallVector<Range> ranges = emitBounds(u, s, list, alive);
    ranges[0].lo = e.max(ranges[0].lo, koff);
    ranges[0].hi = e.min(ranges[0].hi, rowsEnd);
    e.ifThen(e.lt(ranges[0].lo, ranges[0].hi), [&] {
      ExprScope at = scope(u, s.segment, {}, {});
      if (row) {
        at.give(s.list, listRow(s.list), row);
      }
      EmittedList entries = emitList(e, s.list, at);
      Value full = e.constant(e.i1, int64_t(s.residual ? 0 : 1));
      e.loop(entries.lo, entries.hi, 1, [&](Value t) {
        at.entry = entries.entry(e, t);
        Value first = emitExpr(e, s.first, at);
        Value lo = e.max(first, ranges[0].lo), hi = e.min(e.add(first, s.run), ranges[0].hi);
        e.ifThen(e.lt(lo, hi), [&] { emitRun(u, n, e.c(0), lo, hi, full, ranges[0], ranges[1]); });
      });
      Value count = e.load(e.i64, in(u, fCount), 8);
      e.ifThen(e.lt(e.c(0), count), [&] { e.call(name("flush", n), {}, {u.args, u.scratch, u.b, u.h}); });
    });
  };
  if (listSharing(s.list) == 0) {
    walk({}, {});
    return;
  }
  // The lists that the tile's lanes have, one after the other.
  Expr row = listRow(s.list);
  auto rowOf = [&](Value query) { return e.splat(emitExpr(e, row, scope(u, s.segment, query, {}))); };
  Type lanes = e.vec(e.i64);
  Values found = e.loop(e.c(0), e.c(kLanes), vl, {e.constant(lanes, kFar), e.constant(lanes, -kFar)},
                        [&](Value lane, ValueRange acc) {
                          Value r = rowOf(e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8));
                          return Values{e.min(acc[0], r), e.max(acc[1], r)};
                        });
  Value first = vector::ReductionOp::create(builder, e.loc, Kind::MINSI, found[0]);
  Value last = vector::ReductionOp::create(builder, e.loc, Kind::MAXSI, found[1]);
  e.loop(first, e.add(last, 1), 1,
         [&](Value r) { walk(r, [&](Value, Value query) { return e.eq(rowOf(query), r); }); });
}

//===--- One query's rows ------------------------------------------------------===//

namespace {
/// Calls body(emitter of some width, first element) for whole registers of a row of d elements, then for ever narrower
/// ones.
void inRegisters(Emitter &e, int64_t d, llvm::function_ref<void(Emitter &, int64_t, int64_t)> body) {
  int64_t done = 0;
  for (int64_t width = e.target.width; width >= 1; width /= 2) {
    int64_t end = done + (d - done) / width * width;
    if (end > done) {
      VectorTarget narrow = e.target;
      narrow.width = width;
      Emitter piece(e.b, e.loc, narrow);
      body(piece, done, end);
      done = end;
    }
  }
}

Value sumOf(Emitter &e, Value v) {
  return vector::ReductionOp::create(e.b, e.loc, Kind::ADD, v, arith::FastMathFlags::reassoc);
}
} // namespace

Value AttendTiler::queryRow(const Uniform &u, int64_t segment, size_t dot, Value query) {
  Pack &pack = packOf(segment, int64_t(dot));
  int64_t record = sig.argSlot(pack.q);
  Value row = e.toPtr(rowAddress(u, record, headBase(u, record, false), e.sub(query, u.qOffset), u.h));
  Value stride = elementStride(u, record), to = in(u, fRowQueries[dot]);
  Type bits = sig.storage.isF32() ? e.i32 : e.i16;
  return e.ifElse(
      e.eq(stride, e.c(bytes())), {e.ptr}, [&] { return Values{row}; },
      [&] {
        e.loop(e.c(0), e.c(pack.d), 1, [&](Value d) {
          Value x = e.load(bits, e.at(row, e.mul(d, stride)), bytes());
          e.store(x, e.at(to, e.mul(d, bytes())), bytes());
        });
        return Values{to};
      })[0];
}

/// The query's row of a dot, times the scale, as adjacent f32.
void AttendTiler::emitRowQuery(const Uniform &u, int64_t segment, size_t dot, Value query, bool whole) {
  Pack &pack = packOf(segment, int64_t(dot));
  int64_t record = sig.argSlot(pack.q);
  Value row = e.toPtr(rowAddress(u, record, headBase(u, record, false), e.sub(query, u.qOffset), u.h));
  Value stride = elementStride(u, record), scale = scaleOf(u, pack), to = in(u, fRowQueries[dot]);
  if (!whole && pairs) {
    Value negative = e.cmp(arith::CmpFPredicate::OLT, scale, e.constant(e.f32, 0.0));
    scale = e.select(negative, e.constant(e.f32, -1.0), e.constant(e.f32, 1.0));
  }
  auto adjacent = [&] {
    inRegisters(e, pack.d, [&](Emitter &piece, int64_t from, int64_t until) {
      piece.loop(e.c(from), e.c(until), piece.target.width, [&](Value d) {
        Value x = piece.loadAsF32(sig.storage, piece.at(row, piece.mul(d, bytes())), true);
        piece.store(piece.mul(x, scale), piece.at(to, piece.mul(d, 4)), 4);
      });
    });
  };
  auto apart = [&] {
    e.loop(e.c(0), e.c(pack.d), 1, [&](Value d) {
      Value x = e.loadAsF32(sig.storage, e.at(row, e.mul(d, stride)), false);
      e.store(e.mul(x, scale), e.at(to, e.mul(d, 4)), 4);
    });
  };
  e.ifElse(e.eq(stride, e.c(bytes())), adjacent, apart);
}

/// S[t] = q . k_t, four keys at a time.
void AttendTiler::emitRowDots(const Uniform &u, int64_t segment, size_t dot, Value count, Value scores) {
  constexpr int64_t kKeys = 4;
  const DotSource &source = sig.segments[segment].dots[dot];
  Value table = in(u, fKeyTable[dot]), q = in(u, fRowQueries[dot]);
  Value stride = elementStride(u, sig.argSlot(source.k));
  auto rowAt = [&](Value t) { return e.toPtr(e.load(e.i64, e.at(table, e.mul(t, 8)), 8)); };
  // The last group is filled up with the last key.
  Value last = e.load(e.i64, e.at(table, e.mul(e.add(count, -1), 8)), 8);
  e.loop(count, e.add(count, kKeys - 1), 1, [&](Value t) { e.store(last, e.at(table, e.mul(t, 8)), 8); });
  auto adjacent = [&] {
    e.loop(e.c(0), count, kKeys, [&](Value t) {
      SmallVector<Value> rows, sums(kKeys);
      for (int64_t k = 0; k < kKeys; ++k) {
        rows.push_back(rowAt(e.add(t, k)));
      }
      inRegisters(e, source.d, [&](Emitter &piece, int64_t from, int64_t until) {
        Values zero(kKeys, piece.constant(piece.vec(e.f32), 0.0));
        Values parts = piece.loop(e.c(from), e.c(until), piece.target.width, zero, [&](Value d, ValueRange acc) {
          Value x = piece.loadRow(piece.at(q, piece.mul(d, 4)));
          Value byte = piece.mul(d, bytes());
          Values next;
          for (int64_t k = 0; k < kKeys; ++k) {
            next.push_back(piece.fma(piece.loadAsF32(sig.storage, piece.at(rows[k], byte), true), x, acc[k]));
          }
          return next;
        });
        for (int64_t k = 0; k < kKeys; ++k) {
          Value sum = sumOf(piece, parts[k]);
          sums[k] = sums[k] ? e.add(sums[k], sum) : sum;
        }
      });
      for (int64_t k = 0; k < kKeys; ++k) {
        e.store(sums[k], e.at(scores, e.mul(e.add(t, k), 4)), 4);
      }
    });
  };
  auto apart = [&] {
    e.loop(e.c(0), count, 1, [&](Value t) {
      Value row = rowAt(t);
      Values sum = e.loop(e.c(0), e.c(source.d), 1, {e.constant(e.f32, 0.0)}, [&](Value d, ValueRange acc) {
        Value x = e.loadAsF32(sig.storage, e.at(row, e.mul(d, stride)), false);
        return Values{e.fma(x, e.load(e.f32, e.at(q, e.mul(d, 4)), 4), acc[0])};
      });
      e.store(sum[0], e.at(scores, e.mul(t, 4)), 4);
    });
  };
  e.ifElse(e.eq(stride, e.c(bytes())), adjacent, apart);
}

} // namespace heddle
