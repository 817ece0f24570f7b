//===- RowKeys.cpp - Queries that are taken one at a time -----------------===//
//
// The part of the tiling pass for strata that are `by_row`: where neighbors share
// few keys, and where each query has a run-time list of its own. d lies on lanes,
// no pair is computed in vain, and nothing is masked.
//
//   rows(n)         for each block of queries of the tile: the lists of the next
//                   block are made, this one is computed; keys of short runs join
//                   the lists of several queries at a time
//   row_gather(n)   one query's list: its other keys, from runs and from entries of
//                   run-time lists (RowGather.cpp)
//   row_block(n)    the dots of all queries of a block, then their softmax, then
//                   their values (RowBlock.cpp)
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

#include "dialect/LinearForm.h"
#include "dialect/ListKeys.h"
#include "passes/IntervalTable.h"
#include "passes/RowKernels.h"

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

/// Keys of a run that is scattered to lists, key by key, and of all such runs of a query.
static constexpr int64_t kFew = 8, kFewInAll = 64;

bool AttendTiler::byRow(const Stratum &s) { return s.byRow || (bool(s.list) && gathersByRow(s.list)); }

/// Most keys of a query where they are one run, and few; else 0.
int64_t AttendTiler::fewKeys(const Stratum &s) {
  if (bool(s.list) || bool(s.residual) || s.choices > 0 || s.key.size() != 1 || s.key[0].radix != 1) {
    return 0;
  }
  int64_t most = kFew + 1, step = s.key[0].step;
  if (step > kFar / (kFew + 1)) {
    return 0; // lists are filled in 32 bits
  }
  for (const auto &[lower, upper] : {std::pair(&s.lower, &s.upper), std::pair(&s.key[0].lower, &s.key[0].upper)}) {
    for (const Expr &lo : *lower) {
      for (const Expr &hi : *upper) {
        std::optional<int64_t> span = upperBound(LinearForm::of(hi) - LinearForm::of(lo));
        if (span) {
          most = std::min(most, std::max<int64_t>((*span + step - 1) / step, 1));
        }
      }
    }
  }
  return most <= kFew ? most : 0;
}

/// Strata for all heads and without choices join one list; others have lists of their own.
void AttendTiler::planRows() {
  SmallVector<Strata> all(groups);
  all.push_back(near);
  for (const Strata &group : all) {
    llvm::SmallDenseMap<int64_t, int64_t> leaders;
    for (int64_t n : group.members) {
      const Stratum &s = schedule.strata[n];
      if (!byRow(s) && !decidesByRow(s)) {
        continue;
      }
      int64_t leader = n;
      if (byRow(s) && s.headPeriod <= 1 && s.choices == 0) {
        leader = leaders.try_emplace(s.segment, n).first->second;
      }
      rowSets[leader].members.push_back(n);
    }
  }
}

void AttendTiler::layoutRows() {
  if (rowSets.empty()) {
    return;
  }
  for (const Stratum &s : schedule.strata) {
    fSparse.push_back(decidesByRow(s) ? frame.allocate(kLanes * 8) : -1);
  }
  fRowKeys = frame.allocate(2 * kRowBlock * slots * 4);
  fRowCounts = frame.allocate(2 * kRowBlock * 8);
  fRowNews = frame.allocate(2 * kRowBlock * kRowNews * 4);
  fRowNewCounts = frame.allocate(2 * kRowBlock * 8);
  fRowTops = frame.allocate(2 * kRowBlock * 8);
  fRowFactors = frame.allocate(2 * kRowBlock * 4);
  for (auto &[leader, set] : rowSets) {
    int64_t room = std::min(kFewInAll, schedule.keyChunk - 1);
    for (int64_t n : set.members) {
      const Stratum &s = schedule.strata[n];
      int64_t few = fewKeys(s);
      set.few.push_back(few <= room ? few : 0);
      room -= set.few.back();
      set.intervals.emplace_back();
      set.tables.push_back(keyTableOf(s));
      set.bases.push_back(set.tables.back() ? frame.allocate(kLanes * 8) : -1);
      if (bool(s.list)) {
        continue;
      }
      // All members' bounds are known before the first query.
      for (LaneInterval interval : intervals(s)) {
        interval.lo = frame.allocate(kLanes * 4);
        interval.hi = frame.allocate(kLanes * 4);
        set.intervals.back().push_back(interval);
      }
    }
  }
}

/// rows(args, scratch, b, h): the tile's queries, block by block.
void AttendTiler::emitRows(int64_t n) {
  const RowSet &set = rowSets.find(n)->second;
  bool each = llvm::is_contained(set.few, 0), together = llvm::any_of(set.few, [](int64_t f) { return f > 0; });
  emitRowBlock(n);
  if (each) {
    emitRowGather(n);
  }
  int64_t segment = schedule.strata[n].segment;
  auto fn = function(name("rows", n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  beginSegment(u, segment);
  for (auto [member, list, table, bases] : llvm::zip(set.members, set.intervals, set.tables, set.bases)) {
    if (!list.empty()) {
      emitBounds(u, schedule.strata[member], list);
    }
    if (table) {
      findEntries(u, schedule.strata[member], *table, list[0], bases);
    }
  }
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  auto placeOf = [&](Value lane) { return e.floorMod(lane, 2 * kRowBlock); };
  auto gatherBlock = [&](Value first) {
    Value end = e.min(e.add(first, kRowBlock), lanes);
    e.loop(first, end, vl, [&](Value lane) {
      Value place = e.mul(placeOf(lane), 8), zero = e.constant(e.vec(e.i64), int64_t(0));
      e.store(zero, e.at(in(u, fRowCounts), place), 8);
      e.store(zero, e.at(in(u, fRowNewCounts), place), 8);
      e.store(e.constant(e.vec(e.i64), -kFar), e.at(in(u, fRowTops), place), 8);
      if (together) {
        emitFewKeys(u, set, lane, lanes, placeOf(lane));
      }
    });
    if (each) {
      e.loop(first, end, 1, [&](Value lane) {
        Value row = e.load(e.i64, e.at(in(u, fState), e.mul(lane, 8)), 8), taken = e.ge(row, e.c(0));
        if (fSparse[n] >= 0) {
          Value sparse = e.load(e.i64, e.at(in(u, fSparse[n]), e.mul(lane, 8)), 8);
          taken = e.both(taken, e.cmp(arith::CmpIPredicate::ne, sparse, e.c(0)));
        }
        e.ifThen(taken, [&] { e.call(name("row_gather", n), {}, {a[0], a[1], a[2], a[3], lane, placeOf(lane)}); });
      });
    }
    e.loop(first, end, 1, [&](Value lane) { fillGroup(u, placeOf(lane)); });
  };
  gatherBlock(e.c(0));
  e.loop(e.c(0), lanes, kRowBlock, [&](Value first) {
    Value next = e.add(first, kRowBlock), more = e.lt(next, lanes);
    e.ifThen(more, [&] { gatherBlock(next); });
    Value count = e.min(e.sub(lanes, first), e.c(kRowBlock));
    Value ahead = e.select(more, e.min(e.sub(lanes, next), e.c(kRowBlock)), e.c(0));
    e.call(name("row_block", n), {}, {a[0], a[1], a[2], a[3], first, placeOf(first), count, ahead});
  });
  func::ReturnOp::create(builder, e.loc);
}

/// The last group of a list is filled up with its last key. Long before the dots read it: what was just written piece
/// by piece cannot be loaded at once.
void AttendTiler::fillGroup(const Uniform &u, Value place) {
  Value keys = e.at(in(u, fRowKeys), e.mul(place, slots * 4));
  Value count = e.load(e.i64, e.at(in(u, fRowCounts), e.mul(place, 8)), 8);
  Value last = e.load(e.i32, e.at(keys, e.mul(e.max(e.add(count, -1), e.c(0)), 4)), 4);
  for (int64_t t = 0; t + 1 < kRowGroup; ++t) {
    e.store(last, e.at(keys, e.mul(e.add(count, t), 4)), 4);
  }
}

/// Short runs of a register of lanes: their first keys, second keys, ... are scattered to the ends of the lists.
void AttendTiler::emitFewKeys(const Uniform &u, const RowSet &set, Value lane, Value lanes, Value place) {
  Type type = e.vec(e.i32);
  Value row = e.load(e.vec(e.i64), e.at(in(u, fState), e.mul(lane, 8)), 8);
  Value exists = e.both(e.ge(row, e.constant(row.getType(), int64_t(0))), e.lt(e.add(e.iota(), lane), e.splat(lanes)));
  int64_t segment = schedule.strata[set.members[0]].segment;
  Value koff = kOffset(u, segment);
  Value firstRow = e.splat(e.toInt(koff, e.i32)), endRow = e.splat(e.toInt(e.add(koff, keyRows(u, segment)), e.i32));
  Value lists = e.mul(e.toInt(e.add(e.iota(), place), e.i32), slots), base = in(u, fRowKeys);
  Value counts = e.constant(type, int64_t(0)), one = e.constant(type, int64_t(1)), tops = e.constant(type, -kFar);
  Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
  for (auto [member, list, few] : llvm::zip(set.members, set.intervals, set.few)) {
    const KeyDigit &digit = schedule.strata[member].key[0];
    if (few == 0) {
      continue;
    }
    Value lo = firstRow, hi = endRow;
    for (const LaneInterval &i : list) {
      lo = e.max(lo, e.load(type, e.at(in(u, i.lo), e.mul(lane, 4)), 4));
      hi = e.min(hi, e.load(type, e.at(in(u, i.hi), e.mul(lane, 4)), 4));
    }
    if (digit.step > 1) {
      Value phase = digit.phase ? e.splat(emitExpr(e, digit.phase, scope(u, segment, query, {})))
                                : e.constant(query.getType(), int64_t(0));
      lo = e.add(lo, e.toInt(e.floorMod(e.sub(phase, e.toInt(lo, e.i64)), digit.step), e.i32));
    }
    for (int64_t t = 0; t < few; ++t) {
      Value key = e.add(lo, t * digit.step), live = e.both(exists, e.lt(key, hi));
      Value index = e.add(lists, counts);
      Value to = LLVM::GEPOp::create(builder, e.loc, e.vec(e.ptr), e.i32, base, ArrayRef<LLVM::GEPArg>{index});
      LLVM::masked_scatter::create(builder, e.loc, key, to, live, builder.getI32IntegerAttr(4));
      counts = e.select(live, e.add(counts, one), counts);
      tops = e.select(live, e.max(tops, key), tops);
    }
  }
  e.store(e.toInt(counts, e.i64), e.at(in(u, fRowCounts), e.mul(place, 8)), 8);
  e.store(e.toInt(tops, e.i64), e.at(in(u, fRowTops), e.mul(place, 8)), 8);
}

/// Of each lane: what the entries of a table are added to, and which entries give keys in the lane's interval, whose
/// place they take.
void AttendTiler::findEntries(const Uniform &u, const Stratum &s, const KeyTable &table, const LaneInterval &interval,
                              int64_t bases) {
  Type wideInt = e.vec(e.i64), narrow = e.vec(e.i32);
  Value first = e.splat(kOffset(u, s.segment)), end = e.add(first, e.splat(keyRows(u, s.segment)));
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    Value query = e.load(wideInt, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    Value base = e.splat(e.toInt(emitExpr(e, table.base, scope(u, s.segment, query, {})), e.i64));
    e.store(base, e.at(in(u, bases), e.mul(lane, 8)), 8);
    Value lo = first, hi = end;
    if (interval.varies) { // else none was stored
      lo = e.max(lo, e.toInt(e.load(narrow, e.at(in(u, interval.lo), e.mul(lane, 4)), 4), e.i64));
      hi = e.min(hi, e.toInt(e.load(narrow, e.at(in(u, interval.hi), e.mul(lane, 4)), 4), e.i64));
    }
    for (auto [bound, place] : {std::pair(lo, interval.lo), std::pair(hi, interval.hi)}) {
      Value last = e.sub(e.sub(bound, base), e.constant(wideInt, int64_t(1)));
      Value entries = emitEndsUpTo(e, module, table.entries, last);
      e.store(e.toInt(entries, e.i32), e.at(in(u, place), e.mul(lane, 4)), 4);
    }
  });
}

} // namespace heddle
