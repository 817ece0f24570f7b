//===- AttendKeys.cpp - Keys of a stratum ------------------------------===//
//
// From the bounds of a stratum, lane by lane, to runs of keys that are pushed to the
// chunk: nested loops over the key digits whose innermost is a run, in up to three
// parts (masked, full, masked) (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/AttendTiler.h"
#include "passes/BoxTest.h"
#include "passes/StratumCost.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

SmallVector<LaneInterval> AttendTiler::intervals(const Stratum &s) {
  SmallVector<LaneInterval> out;
  bool varies = !s.lower.empty() || !s.upper.empty() || bool(s.guard) || bool(s.list) || bool(s.ids) || decidesByRow(s);
  out.push_back({&s.lower, &s.upper, varies, fLower[0], fUpper[0]});
  for (auto [n, d] : llvm::enumerate(s.key)) {
    out.push_back({&d.lower, &d.upper, !d.lower.empty() || !d.upper.empty(), fLower[n + 1], fUpper[n + 1]});
  }
  return out;
}

/// True where some tile of the stratum may hold a pair that is not live.
bool AttendTiler::maskable(const Stratum &s) {
  return bool(s.residual) || llvm::any_of(intervals(s), [](const LaneInterval &i) { return i.varies; });
}

SmallVector<AttendTiler::Range> AttendTiler::emitBounds(const Uniform &u, const Stratum &s,
                                                        ArrayRef<LaneInterval> intervals,
                                                        llvm::function_ref<Value(Value, Value)> alive) {
  Type lanes = e.vec(e.i64);
  Value plus = e.constant(lanes, kFar), minus = e.constant(lanes, -kFar);
  Values init;
  for (size_t n = 0; n < intervals.size(); ++n) {
    init.append({plus, minus, minus, plus});
  }
  bool any = llvm::any_of(intervals, [](const LaneInterval &i) { return i.varies; });
  Values reduced = init;
  if (any) {
    reduced = e.loop(e.c(0), e.c(kLanes), vl, init, [&](Value lane, ValueRange acc) {
      Value query = e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
      ExprScope at = scope(u, s.segment, query, {});
      Value dead;
      if (s.guard) {
        Value live = e.splat(emitExpr(e, s.guard, at));
        dead = arith::XOrIOp::create(builder, e.loc, live, e.constant(live.getType(), int64_t(1)));
      }
      if (alive) {
        Value other = e.flip(e.splat(alive(lane, query)));
        dead = dead ? e.either(dead, other) : other;
      }
      SmallVector<std::pair<Value, Value>> ends;
      for (const LaneInterval &i : intervals) {
        Value lo = minus, hi = plus;
        for (const Expr &x : *i.lower) {
          lo = e.max(lo, e.splat(emitExpr(e, x, at)));
        }
        for (const Expr &x : *i.upper) {
          hi = e.min(hi, e.splat(emitExpr(e, x, at)));
        }
        lo = e.min(lo, plus);
        hi = e.max(hi, minus);
        if (i.varies) {
          Value empty = e.ge(lo, hi);
          dead = dead ? e.either(dead, empty) : empty;
        }
        ends.emplace_back(lo, hi);
      }
      Values next;
      for (auto [n, i] : llvm::enumerate(intervals)) {
        // A lane without a live key widens nothing and lets no tile be full.
        Value lo = e.select(dead, plus, ends[n].first), hi = e.select(dead, minus, ends[n].second);
        next.append(
            {e.min(acc[4 * n], lo), e.max(acc[4 * n + 1], hi), e.max(acc[4 * n + 2], lo), e.min(acc[4 * n + 3], hi)});
        e.store(e.toInt(lo, e.i32), e.at(in(u, i.lo), e.mul(lane, 4)), 4);
        e.store(e.toInt(hi, e.i32), e.at(in(u, i.hi), e.mul(lane, 4)), 4);
      }
      return next;
    });
  }
  SmallVector<Range> out;
  for (size_t n = 0; n < intervals.size(); ++n) {
    if (!any) {
      out.push_back({e.c(-kFar), e.c(kFar), e.c(-kFar), e.c(kFar)});
      continue;
    }
    auto reduce = [&](vector::CombiningKind kind, Value v) {
      return vector::ReductionOp::create(builder, e.loc, kind, v).getResult();
    };
    using Kind = vector::CombiningKind;
    out.push_back({reduce(Kind::MINSI, reduced[4 * n]), reduce(Kind::MAXSI, reduced[4 * n + 1]),
                   reduce(Kind::MAXSI, reduced[4 * n + 2]), reduce(Kind::MINSI, reduced[4 * n + 3])});
  }
  return out;
}

void AttendTiler::beginSegment(const Uniform &u, int64_t segment) {
  const SegmentSignature &s = sig.segments[segment];
  int64_t v = sig.argSlot(s.v);
  e.store(headBase(u, v, true), in(u, fValueBase), 8);
  e.store(rowStride(u, v), in(u, fValueStride), 8);
  for (auto [n, dot] : llvm::enumerate(s.dots)) {
    int64_t k = sig.argSlot(dot.k);
    e.store(headBase(u, k, true), in(u, fKeyBase[n]), 8);
    e.store(rowStride(u, k), in(u, fKeyStride[n]), 8);
  }
  e.store(e.c(0), in(u, fCount), 8);
  e.store(e.c(0), in(u, fMasked), 8);
  e.store(e.c(kFar), in(u, fNewKeys), 8);
}

/// The stratum once for each of its choices.
void AttendTiler::emitChoices(const Uniform &u, int64_t n, Value split, Value minPosition) {
  if (schedule.strata[n].choices == 0) {
    emitStratum(u, n, split, minPosition);
    return;
  }
  const Stratum &s = schedule.strata[n];
  Value end = e.c(s.choices);
  if (Expr existing = endOfChoices(s)) {
    end = e.min(end, emitExpr(e, existing, scope(u, s.segment, {}, {})));
  }
  e.loop(e.c(0), end, 1, [&](Value choice) {
    e.store(choice, in(u, fChoice), 8);
    emitStratum(u, n, split, minPosition);
  });
}

void AttendTiler::emitStratum(const Uniform &u, int64_t n, Value split, Value minPosition) {
  const Stratum &s = schedule.strata[n];
  if (bool(s.list) || bool(s.ids) || byRow(s)) {
    // Not split: the first split has all of them.
    Value mine = splitKeys ? e.eq(split, e.c(0)) : e.constant(e.i1, int64_t(1));
    e.ifThen(mine, [&] {
      if (splitKeys) {
        e.store(e.c(1), in(u, fTouched), 8);
      }
      if (byRow(s)) {
        e.call(name("rows", n), {}, {u.args, u.scratch, u.b, u.h});
      } else {
        s.list ? emitShared(u, n) : emitSorted(u, n);
      }
    });
    return;
  }
  SmallVector<LaneInterval> list = intervals(s);
  SmallVector<Range> ranges;
  if (decidesByRow(s)) {
    emitSparse(u, n, split);
    ranges = emitBounds(u, s, list, [&](Value lane, Value) {
      Value sparse = e.load(e.vec(e.i64), e.at(in(u, fSparse[n]), e.mul(lane, 8)), 8);
      return e.eq(sparse, e.constant(sparse.getType(), int64_t(0)));
    });
  } else {
    ranges = emitBounds(u, s, list);
  }
  // j itself is also clipped to the rows that exist, for all lanes alike.
  Value koff = kOffset(u, s.segment);
  Value rowsEnd = e.add(koff, keyRows(u, s.segment));
  Value rowsFirst = koff;
  if (splitKeys) {
    Value keys = slot(u.args, header::kKeysPerSplit);
    rowsFirst = e.add(koff, e.mul(split, keys));
    rowsEnd = e.min(rowsEnd, e.add(rowsFirst, keys));
  }
  ranges[0].lo = e.max(ranges[0].lo, rowsFirst);
  ranges[0].hi = e.min(ranges[0].hi, rowsEnd);
  e.ifThen(e.lt(ranges[0].lo, ranges[0].hi), [&] {
    if (splitKeys) {
      e.store(e.c(1), in(u, fTouched), 8);
    }
    beginSegment(u, s.segment);
    e.store(newKeys(u, s), in(u, fNewKeys), 8);
    hoist(u, n);
    if (inBoxes(s)) {
      emitBoxes(u, s, list, ranges);
    }
    SmallVector<Value> phases;
    for (const KeyDigit &d : s.key) {
      phases.push_back(d.phase ? emitExpr(e, d.phase, scope(u, s.segment, minPosition, {})) : e.c(0));
    }
    // With a condition per pair, no tile is full unless a bracket shows it.
    Value full = s.residual ? emitBracket(u, s, ranges[0]) : e.constant(e.i1, int64_t(1));
    emitWalk(u, n, 0, e.c(0), full, ranges, phases);
    Value count = e.load(e.i64, in(u, fCount), 8);
    e.ifThen(e.lt(e.c(0), count), [&] { e.call(name("flush", n), {}, {u.args, u.scratch, u.b, u.h}); });
  });
}

/// The first and end value of a digit: of its `own` bounds, those that `all` bounds of the position leave, from the
/// first in phase; `base` is what the digits before it add up to.
std::pair<Value, Value> AttendTiler::digitRange(const Stratum &s, size_t digit, Value base, std::pair<Value, Value> all,
                                                std::pair<Value, Value> own, ArrayRef<Value> phases) {
  const KeyDigit &d = s.key[digit];
  Value lo = e.max(own.first, e.floorDiv(e.sub(all.first, base), d.radix));
  Value hi = e.min(own.second, e.add(e.floorDiv(e.sub(e.add(all.second, -1), base), d.radix), 1));
  if (digit > 0 && d.extent > 0) {
    lo = e.max(lo, e.c(0));
    hi = e.min(hi, e.c(d.extent));
  }
  if (d.step > 1) {
    lo = e.add(lo, e.floorMod(e.sub(phases[digit], lo), d.step));
  }
  return {lo, hi};
}

/// Loops over the values of key digit `digit`; `base` is the position that the digits before it add up to, and
/// `full` says that all lanes have them.
void AttendTiler::emitWalk(const Uniform &u, int64_t n, size_t digit, Value base, Value full, ArrayRef<Range> ranges,
                           ArrayRef<Value> phases) {
  const Stratum &s = schedule.strata[n];
  const KeyDigit &d = s.key[digit];
  const Range &all = ranges[0], &own = ranges[digit + 1];
  auto [lo, hi] = digitRange(s, digit, base, {all.lo, all.hi}, {own.lo, own.hi}, phases);
  if (digit + 1 < s.key.size()) {
    e.loop(lo, hi, d.step, [&](Value value) {
      Value inside = e.both(e.ge(value, own.fullLo), e.lt(value, own.fullHi));
      emitWalk(u, n, digit + 1, e.add(base, e.mul(value, d.radix)), e.both(full, inside), ranges, phases);
    });
    return;
  }
  emitRun(u, n, base, lo, hi, full, all, own);
}

/// The last digit: a run lo, lo + step, ... < hi, of which [a, b) is live for every lane.
void AttendTiler::emitRun(const Uniform &u, int64_t n, Value base, Value lo, Value hi, Value full, const Range &all,
                          const Range &own) {
  const Stratum &s = schedule.strata[n];
  const KeyDigit &d = s.key.back();
  auto steps = [&](Value length) { return e.max(e.floorDiv(e.add(length, d.step - 1), d.step), e.c(0)); };
  auto push = [&](Value first, Value count, int64_t masked) {
    e.call(name("push", n), {}, {u.args, u.scratch, u.b, u.h, e.add(base, first), count, e.c(masked), e.c(d.step)});
  };
  if (!maskable(s)) {
    push(lo, steps(e.sub(hi, lo)), 0);
    return;
  }
  Value allFrom = e.max(own.fullLo, e.sub(all.fullLo, base)), allUntil = e.min(own.fullHi, e.sub(all.fullHi, base));
  if (hasBoxTest(s.residual) && s.ids.isNull()) { // the runs of sorted keys are ranks, whose positions lie anywhere
    emitTested(u, s, base, lo, hi, [&](Value from, Value until, Value must) {
      if (s.key.size() > 1) { // `full` alone knows of the digits before
        must = e.constant(e.i1, int64_t(0));
      }
      Value inside = e.both(e.le(allFrom, from), e.le(until, allUntil));
      Value count = steps(e.sub(until, from)), whole = e.select(e.both(inside, e.either(full, must)), count, e.c(0));
      push(from, whole, 0);
      push(from, e.sub(count, whole), 1);
    });
    return;
  }
  lo = e.sub(lo, e.select(e.lt(lo, hi), keysBefore(u, n, e.add(base, lo)), e.c(0)));
  Value total = steps(e.sub(hi, lo));
  Value a = e.max(lo, allFrom), b = e.min(hi, allUntil);
  Value before = e.min(steps(e.sub(a, lo)), total);
  Value until = e.max(e.min(steps(e.sub(b, lo)), total), before);
  before = e.select(full, before, total);
  until = e.select(full, until, total);
  push(lo, before, 1);
  push(e.add(lo, e.mul(before, d.step)), e.sub(until, before), 0);
  push(e.add(lo, e.mul(until, d.step)), e.sub(total, until), 1);
}

/// Calls push(first, end, must) for the boxes of a run in which some pair may meet the stratum's condition; `must`:
/// all do.
void AttendTiler::emitTested(const Uniform &u, const Stratum &s, Value base, Value lo, Value hi,
                             llvm::function_ref<void(Value, Value, Value)> push) {
  using Kind = vector::CombiningKind;
  Type lanes = e.vec(e.i64);
  Values span = e.loop(e.c(0), e.c(kLanes), vl, {e.constant(lanes, kFar), e.constant(lanes, -kFar)},
                       [&](Value lane, ValueRange acc) {
                         Value i = e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
                         return Values{e.min(acc[0], i), e.max(acc[1], i)};
                       });
  auto reduce = [&](Kind kind, Value v) { return vector::ReductionOp::create(builder, e.loc, kind, v).getResult(); };
  Between query{reduce(Kind::MINSI, span[0]), reduce(Kind::MAXSI, span[1])};
  ExprScope uniform = scope(u, s.segment, {}, {});
  KeyBoxes boxes = keyBoxesOf(s.residual);
  int64_t box = kBoxKeys * s.key.back().step;
  Value first = lo;
  if (bool(boxes.place) && s.key.back().step == 1) {
    box = boxes.keys;
    Value place = e.toInt(emitExpr(e, boxes.place, scope(u, s.segment, {}, e.add(base, lo))), e.i64);
    first = e.sub(lo, e.floorMod(place, box));
  }
  e.loop(first, hi, box, [&](Value begin) {
    Value from = e.max(begin, lo), until = e.min(e.add(begin, box), hi);
    Between key{e.add(base, from), e.add(e.add(base, until), -1)};
    auto row = [&](const Expr &load) { return testMaskRows(u, s, load, key.first, e.sub(until, from)); };
    Truth holds = emitBoxTest(e, s.residual, uniform, query, key, row);
    e.ifThen(holds.may, [&] { push(from, until, holds.must); });
  });
}
} // namespace heddle
