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
//                   run-time lists
//   row_block(n)    the dots of all queries of a block, then their softmax, then
//                   their values: neighbors that do share keys find them in the
//                   first-level cache. Beside the arithmetic, rows are asked for:
//                   those that the next block has by run-time lists, and a block
//                   ahead of the last key of each query, its query and its output
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

/// Queries of a block.
static constexpr int64_t kBlock = 16;
/// Rows of a query that are asked for early.
static constexpr int64_t kNews = 32;
/// The cache that rows are asked into.
static constexpr int kLevel = 1;
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
  fRowKeys = frame.allocate(2 * kBlock * slots * 4);
  fRowCounts = frame.allocate(2 * kBlock * 8);
  fRowNews = frame.allocate(2 * kBlock * kNews * 4);
  fRowNewCounts = frame.allocate(2 * kBlock * 8);
  fRowTops = frame.allocate(2 * kBlock * 8);
  fRowFactors = frame.allocate(2 * kBlock * 4);
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
  auto placeOf = [&](Value lane) { return e.floorMod(lane, 2 * kBlock); };
  auto gatherBlock = [&](Value first) {
    Value end = e.min(e.add(first, kBlock), lanes);
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
  e.loop(e.c(0), lanes, kBlock, [&](Value first) {
    Value next = e.add(first, kBlock), more = e.lt(next, lanes);
    e.ifThen(more, [&] { gatherBlock(next); });
    Value count = e.min(e.sub(lanes, first), e.c(kBlock));
    Value ahead = e.select(more, e.min(e.sub(lanes, next), e.c(kBlock)), e.c(0));
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

/// Calls run(first position, step, count) for the runs of one query's keys; `ranges` are its intervals, of j and of
/// each digit.
void AttendTiler::emitRowWalk(const Uniform &u, const Stratum &s, size_t digit, Value base,
                              ArrayRef<std::pair<Value, Value>> ranges, ArrayRef<Value> phases,
                              llvm::function_ref<void(Value, Value, Value)> run) {
  const KeyDigit &d = s.key[digit];
  auto [lo, hi] = digitRange(s, digit, base, ranges[0], ranges[digit + 1], phases);
  if (digit + 1 < s.key.size()) {
    e.loop(lo, hi, d.step,
           [&](Value value) { emitRowWalk(u, s, digit + 1, e.add(base, e.mul(value, d.radix)), ranges, phases, run); });
    return;
  }
  Value count = e.max(e.floorDiv(e.add(e.sub(hi, lo), d.step - 1), d.step), e.c(0));
  run(e.add(base, e.mul(lo, d.radix)), e.c(d.step * d.radix), count);
}

/// row_gather(args, scratch, b, h, lane, place): the keys of one query, computed whenever they fill a chunk.
void AttendTiler::emitRowGather(int64_t n) {
  const RowSet &set = rowSets.find(n)->second;
  int64_t segment = schedule.strata[n].segment;
  auto fn = function(name("row_gather", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value lane = a[4], place = a[5];
  Value query = e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
  Value keys = e.at(in(u, fRowKeys), e.mul(place, slots * 4)), countAt = e.at(in(u, fRowCounts), e.mul(place, 8));
  Value news = e.at(in(u, fRowNews), e.mul(place, kNews * 4)), newsAt = e.at(in(u, fRowNewCounts), e.mul(place, 8));
  Value koff = kOffset(u, segment), rowsEnd = e.add(koff, keyRows(u, segment));
  Value topAt = e.at(in(u, fRowTops), e.mul(place, 8));
  auto noteNew = [&](Value j) {
    Value count = e.load(e.i64, newsAt, 8);
    e.store(e.toInt(j, e.i32), e.at(news, e.mul(count, 4)), 4);
    e.store(e.min(e.add(count, 1), e.c(kNews - 1)), newsAt, 8);
  };
  auto flushWhenFull = [&](Value count) {
    e.store(count, countAt, 8);
    e.ifThen(e.ge(count, e.c(schedule.keyChunk)), [&] {
      fillGroup(u, place);
      e.call(name("row_block", n), {}, {a[0], a[1], a[2], a[3], lane, place, e.c(1), e.c(0)});
    });
  };
  // Calls fill(done, address, count) for what the list still holds of `total` keys, until all are done.
  auto inPieces = [&](Value total, llvm::function_ref<void(Value, Value, Value)> fill) {
    scf::WhileOp::create(
        builder, e.loc, TypeRange{e.i64}, ValueRange{e.c(0)},
        [&](OpBuilder &, Location, ValueRange v) { scf::ConditionOp::create(builder, e.loc, e.lt(v[0], total), v); },
        [&](OpBuilder &, Location, ValueRange v) {
          Value count = e.load(e.i64, countAt, 8);
          Value take = e.min(e.sub(e.c(schedule.keyChunk), count), e.sub(total, v[0]));
          fill(v[0], e.at(keys, e.mul(count, 4)), take); // whole registers: the table has room behind the last key
          flushWhenFull(e.add(count, take));
          scf::YieldOp::create(builder, e.loc, ValueRange{e.add(v[0], take)});
        });
  };
  auto pushRun = [&](Value first, Value step, Value total) {
    Value steps = e.mul(e.toInt(e.iota(), e.i32), e.splat(e.toInt(step, e.i32)));
    inPieces(total, [&](Value done, Value to, Value take) {
      Value start = e.add(first, e.mul(done, step));
      e.loop(e.c(0), take, vl, [&](Value t) {
        Value from = e.splat(e.toInt(e.add(start, e.mul(t, step)), e.i32));
        e.store(e.add(from, steps), e.at(to, e.mul(t, 4)), 4);
      });
    });
    Value last = e.select(e.lt(e.c(0), total), e.add(first, e.mul(e.add(total, -1), step)), e.c(-kFar));
    e.store(e.max(e.load(e.i64, topAt, 8), last), topAt, 8);
  };
  // Calls take(j) where the conditions hold for the pair with the key at j.
  auto considered = [&](const Stratum &s, const Expr &residual, llvm::function_ref<void(Value)> take, Value j) {
    Value live;
    ExprScope pair = scope(u, segment, query, j);
    for (const Expr &condition : {s.keep, residual}) {
      if (condition) {
        Value holds = emitExpr(e, condition, pair);
        live = live ? e.both(live, holds) : holds;
      }
    }
    live ? e.ifThen(live, [&] { take(j); }) : take(j);
  };
  // Entries [from, until) of a table.
  auto pushTable = [&](const Stratum &s, const KeyTable &table, int64_t bases, Value from, Value until) {
    Value base = e.load(e.i64, e.at(in(u, bases), e.mul(lane, 8)), 8), entries = emitEnds(e, module, table.entries);
    auto keyAt = [&](Value n) { return e.add(base, e.load(e.i64, e.at(entries, e.mul(n, 8)), 8)); };
    if (bool(s.keep) || bool(table.rest)) {
      e.loop(from, until, 1, [&](Value n) {
        auto take = [&](Value j) {
          Value count = e.load(e.i64, countAt, 8);
          e.store(e.toInt(j, e.i32), e.at(keys, e.mul(count, 4)), 4);
          e.store(j, topAt, 8);
          flushWhenFull(e.add(count, 1));
        };
        considered(s, table.rest, take, keyAt(n));
      });
      return;
    }
    inPieces(e.sub(until, from), [&](Value done, Value to, Value take) {
      Value first = e.at(entries, e.mul(e.add(from, done), 8));
      e.loop(e.c(0), take, vl, [&](Value t) {
        Value entry = e.load(e.vec(e.i64), e.at(first, e.mul(t, 8)), 8);
        e.store(e.toInt(e.add(entry, e.splat(base)), e.i32), e.at(to, e.mul(t, 4)), 4);
      });
    });
    e.ifThen(e.lt(from, until), [&] { e.store(e.max(e.load(e.i64, topAt, 8), keyAt(e.add(until, -1))), topAt, 8); });
  };
  auto gatherList = [&](const Stratum &s) {
    ExprScope at = scope(u, segment, query, {});
    Value lo = koff, hi = rowsEnd;
    for (const Expr &x : s.lower) {
      lo = e.max(lo, emitExpr(e, x, at));
    }
    for (const Expr &x : s.upper) {
      hi = e.min(hi, emitExpr(e, x, at));
    }
    auto take = [&](Value j) {
      Value count = e.load(e.i64, countAt, 8);
      e.store(e.toInt(j, e.i32), e.at(keys, e.mul(count, 4)), 4);
      noteNew(j);
      flushWhenFull(e.add(count, 1));
    };
    auto consider = [&](Value j) { considered(s, s.residual, take, j); };
    auto entriesOf = [&] {
      EmittedList entries = emitList(e, s.list, at);
      e.loop(entries.lo, entries.hi, 1, [&](Value t) {
        at.entry = entries.entry(e, t);
        Value first = emitExpr(e, s.first, at);
        if (s.run == 1) {
          e.ifThen(e.both(e.le(lo, first), e.lt(first, hi)), [&] { consider(first); });
        } else {
          e.loop(e.max(first, lo), e.min(e.add(first, s.run), hi), 1, consider);
        }
      });
    };
    s.guard ? e.ifThen(emitExpr(e, s.guard, at), entriesOf) : entriesOf();
  };
  for (auto [member, list, few, table, bases] : llvm::zip(set.members, set.intervals, set.few, set.tables, set.bases)) {
    const Stratum &s = schedule.strata[member];
    if (few > 0) {
      continue; // there already
    }
    if (table) {
      auto entry = [&](int64_t place) { return e.toInt(e.load(e.i32, e.at(in(u, place), e.mul(lane, 4)), 4), e.i64); };
      pushTable(s, *table, bases, entry(list[0].lo), entry(list[0].hi));
      continue;
    }
    if (list.empty()) {
      gatherList(s);
      continue;
    }
    // Without any bound, none were stored.
    bool stored = llvm::any_of(list, [](const LaneInterval &i) { return i.varies; });
    SmallVector<std::pair<Value, Value>> ranges;
    for (const LaneInterval &i : list) {
      if (!stored) {
        ranges.emplace_back(e.c(-kFar), e.c(kFar));
        continue;
      }
      auto end = [&](int64_t offset) { return e.toInt(e.load(e.i32, e.at(in(u, offset), e.mul(lane, 4)), 4), e.i64); };
      ranges.emplace_back(end(i.lo), end(i.hi));
    }
    ranges[0] = {e.max(ranges[0].first, koff), e.min(ranges[0].second, rowsEnd)};
    SmallVector<Value> phases;
    for (const KeyDigit &d : s.key) {
      phases.push_back(d.phase ? emitExpr(e, d.phase, scope(u, segment, query, {})) : e.c(0));
    }
    auto flush = [&] {
      fillGroup(u, place);
      e.call(name("row_block", n), {}, {a[0], a[1], a[2], a[3], lane, place, e.c(1), e.c(0)});
    };
    auto scan = [&](Value first, Value, Value total) { scanRun(u, s, {query, keys, countAt, flush}, first, total); };
    e.ifThen(e.lt(ranges[0].first, ranges[0].second), [&] {
      decidesByRow(s) ? emitRowWalk(u, s, 0, e.c(0), ranges, phases, scan)
                      : emitRowWalk(u, s, 0, e.c(0), ranges, phases, pushRun);
    });
  }
  func::ReturnOp::create(builder, e.loc);
}

/// row_block(args, scratch, b, h, lane, place, count, ahead): queries lane, lane + 1, ... with the lists from `place`
/// on, which are used up; `ahead`: queries of the next block, whose new rows are asked for.
void AttendTiler::emitRowBlock(int64_t n) {
  const Stratum &s = schedule.strata[n];
  const SegmentSignature &segment = sig.segments[s.segment];
  auto fn = function(name("row_block", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value lane0 = a[4], place0 = a[5], queries = a[6], ahead = a[7];
  bool scored = isScored(s.segment);
  Value koff = kOffset(u, s.segment), other = e.floorMod(e.add(place0, kBlock), 2 * kBlock);
  // Row 0 of a tensor, moved so that positions address it.
  auto origin = [&](int64_t record) {
    return e.toPtr(e.sub(headBase(u, record, true), e.mul(koff, rowStride(u, record))));
  };
  const RowSet &set = rowSets.find(n)->second;
  bool lists = llvm::any_of(set.members, [&](int64_t m) { return bool(schedule.strata[m].list); });
  bool scanned = llvm::any_of(set.members, [&](int64_t m) { return decidesByRow(schedule.strata[m]); });
  bool runs = !scanned && !llvm::all_of(set.members, [&](int64_t m) { return bool(schedule.strata[m].list); });
  Value lastRow = e.add(e.add(koff, keyRows(u, s.segment)), -1);
  auto fetchNext = [&](Value x, Value base, Value stride, int64_t rowBytes) {
    if (runs) {
      // What lies before its last key, the queries before have had.
      Value top = e.load(e.i64, e.at(in(u, fRowTops), e.mul(e.add(place0, x), 8)), 8);
      e.prefetch(e.at(base, e.mul(e.min(e.add(top, kBlock), lastRow), stride)), rowBytes, kLevel);
    }
    if (!lists && !scanned) {
      return;
    }
    e.ifThen(e.lt(x, ahead), [&] {
      Value place = e.add(other, x), news = e.at(in(u, fRowNews), e.mul(place, kNews * 4));
      Value count = e.load(e.i64, e.at(in(u, lists ? fRowNewCounts : fRowCounts), e.mul(place, 8)), 8);
      if (!lists) { // the first of its list
        news = e.at(in(u, fRowKeys), e.mul(place, slots * 4));
        count = e.min(count, e.c(kNews));
      }
      e.loop(e.c(0), count, 1, [&](Value t) {
        Value j = e.toInt(e.load(e.i32, e.at(news, e.mul(t, 4)), 4), e.i64);
        e.prefetch(e.at(base, e.mul(j, stride)), rowBytes, 2);
      });
    });
  };
  // body(x, lane, place, keys, count) for each query that has keys.
  auto eachQuery = [&](llvm::function_ref<void(Value)> before,
                       llvm::function_ref<void(Value, Value, Value, Value, Value)> body) {
    e.loop(e.c(0), queries, 1, [&](Value x) {
      before(x);
      Value place = e.add(place0, x), count = e.load(e.i64, e.at(in(u, fRowCounts), e.mul(place, 8)), 8);
      Value keys = e.at(in(u, fRowKeys), e.mul(place, slots * 4));
      e.ifThen(e.lt(e.c(0), count), [&] { body(x, e.add(lane0, x), place, keys, count); });
    });
  };
  auto nothing = [](Value) {};
  // The row of a query of the next block, in a tensor like q or the result.
  auto fetchQuery = [&](Value x, int64_t record, int64_t rowBytes) {
    Value query = e.load(e.i64, e.at(in(u, fPositions), e.mul(e.add(lane0, x), 8)), 8);
    Value row = e.sub(e.add(query, kBlock), u.qOffset);
    e.prefetch(e.toPtr(rowAddress(u, record, headBase(u, record, false), row, u.h)), rowBytes, kLevel);
  };
  // The lanes of a tile may be of several heads, which share keys.
  auto ofLane = [&](Value lane) {
    Uniform own = u;
    own.h = groupHeads ? e.load(e.i64, e.at(in(u, fHeads), e.mul(lane, 8)), 8) : u.h;
    return own;
  };
  auto queryOf = [&](Value lane) { return e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8); };
  for (auto [dot, source] : llvm::enumerate(segment.dots)) {
    int64_t record = sig.argSlot(source.k);
    bool relative = source.relative;
    Value base = relative ? Value() : origin(record), stride = rowStride(u, record);
    Value unit = elementStride(u, record);
    auto fetch = [&, d = source.d, &source = source](Value x) {
      if (!relative) {
        fetchNext(x, base, stride, d * bytes());
      }
      fetchQuery(x, sig.argSlot(source.q), d * bytes());
    };
    eachQuery(fetch, [&, dot = dot, &source = source](Value x, Value lane, Value, Value keys, Value count) {
      Value query = queryOf(lane), scores = rowScores(u, dot, x);
      if (relative) {
        emitRowQuery(u, s.segment, dot, query, true);
        e.loop(e.c(0), count, 1, [&](Value t) {
          Value j = e.toInt(e.load(e.i32, e.at(keys, e.mul(t, 4)), 4), e.i64);
          e.store(relativeRow(u, source, query, j), e.at(in(u, fKeyTable[dot]), e.mul(t, 8)), 8);
        });
        emitRowDots(u, s.segment, dot, count, scores);
        return;
      }
      e.call(declareRowKernel(module, RowKernel::Dots, source.d, sig.storage, pairs), {},
             {keys, count, base, stride, unit, queryRow(ofLane(lane), s.segment, dot, query),
              scaleOf(u, packOf(s.segment, int64_t(dot))), scores});
    });
  }
  eachQuery(nothing, [&](Value x, Value lane, Value, Value keys, Value count) {
    Value scores = rowScores(u, 0, x), byte = e.mul(lane, 4), factor = e.constant(e.f32, 1.0);
    Value m = e.at(in(u, fTile), byte), l = e.at(in(u, fTile + sumsAt(kLanes)), byte);
    if (scored || segment.dots.empty()) {
      emitRowScores(ofLane(lane), s.segment, count, queryOf(lane), keys, x);
    }
    if (softmax()) {
      factor =
          e.call(declareRowKernel(module, RowKernel::Softmax, 0, wide(), pairs), {e.f32}, {scores, count, m, l})[0];
    } else if (sig.attend.getNormalizer() == attn::Normalizer::Sum) {
      Value sum = e.loop(e.c(0), count, 1, {e.load(e.f32, l, 4)}, [&](Value t, ValueRange acc) {
        return Values{e.add(acc[0], e.load(e.f32, e.at(scores, e.mul(t, 4)), 4))};
      })[0];
      e.store(sum, l, 4);
    }
    e.store(factor, e.at(in(u, fRowFactors), e.mul(x, 4)), 4);
  });
  int64_t record = sig.argSlot(segment.v);
  Value base = origin(record), stride = rowStride(u, record), unit = elementStride(u, record);
  auto kernel = scored ? RowKernel::ValuesExact : RowKernel::Values;
  eachQuery(
      [&](Value x) {
        fetchNext(x, base, stride, sig.dv * bytes());
        if (direct) {
          fetchQuery(x, sig.resultSlot(sig.out), sig.dv * bytes());
        }
      },
      [&](Value x, Value lane, Value place, Value keys, Value count) {
        Value factor = e.load(e.f32, e.at(in(u, fRowFactors), e.mul(x, 4)), 4);
        e.call(declareRowKernel(module, kernel, sig.dv, sig.storage, pairs), {},
               {keys, count, base, stride, unit, rowScores(u, 0, x), factor,
                e.at(in(u, fTile + accAt(kLanes)), e.mul(lane, accRow()))});
        e.store(e.c(0), e.at(in(u, fRowCounts), e.mul(place, 8)), 8);
      });
  func::ReturnOp::create(builder, e.loc);
}

/// S of one query := the score of the dots in base 2.
void AttendTiler::emitRowScores(const Uniform &u, int64_t segment, Value count, Value query, Value keys, Value place) {
  const SegmentSignature &s = sig.segments[segment];
  Value dead = e.constant(e.vec(e.f32), softmax() ? -INFINITY : 0.0);
  Region *region = score(segment);
  e.loop(e.c(0), count, vl, [&](Value t) {
    Values dots;
    for (size_t dot = 0; dot < s.dots.size(); ++dot) {
      dots.push_back(e.loadRow(e.at(rowScores(u, dot, place), e.mul(t, 4))));
    }
    Value x;
    if (region) {
      Values arguments(dots);
      // Behind the last key, the table holds whatever it held: the last key stands in, so that loads are in bounds.
      Value last = e.splat(e.load(e.i32, e.at(keys, e.mul(e.add(count, -1), 4)), 4));
      Value inside = e.lt(e.add(e.iota(), t), e.splat(count));
      Value j = e.select(inside, e.load(e.vec(e.i32), e.at(keys, e.mul(t, 4)), 4), last);
      arguments.append({u.b, u.h, query, e.toInt(j, e.i64)});
      x = e.splat(emitRegion(*region, u.args, arguments));
      if (softmax()) {
        x = e.mul(x, e.constant(x.getType(), kLog2E));
      }
    } else {
      x = dots[0];
      for (Value y : ArrayRef<Value>(dots).drop_front()) {
        x = e.add(x, y);
      }
    }
    Value inside = e.lt(e.add(e.iota(), t), e.splat(count));
    e.store(e.select(inside, x, dead), e.at(rowScores(u, 0, place), e.mul(t, 4)), 4);
  });
}

} // namespace heddle
