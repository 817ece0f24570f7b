//===- RowGather.cpp - The list of one query's keys -----------------------===//
//
// Of queries that are taken one at a time (RowKeys.cpp): each finds its keys by
// itself where they are not few in a row. They come from
//
//   runs        in the intervals of a stratum's digits, all or those that meet a
//               condition (ScannedKeys.cpp)
//   a table     of distances or places: entries between two ends that were found
//               for all lanes at once
//   a list      of the run-time pattern, entry by entry
//
// Whenever they fill a chunk, what is there is computed.
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

#include "passes/IntervalTable.h"

using namespace mlir;

namespace heddle {

class AttendTiler::RowGather {
public:
  /// `a`: the arguments of row_gather(args, scratch, b, h, lane, place).
  RowGather(AttendTiler &t, int64_t n, ValueRange a)
      : t(t), e(t.e), n(n), segment(t.schedule.strata[n].segment), u(t.uniform(a[0], a[1], a[2], a[3])), lane(a[4]),
        place(a[5]), query(e.load(e.i64, e.at(t.in(u, t.fPositions), e.mul(lane, 8)), 8)),
        keys(e.at(t.in(u, t.fRowKeys), e.mul(place, t.slots * 4))),
        countAt(e.at(t.in(u, t.fRowCounts), e.mul(place, 8))),
        news(e.at(t.in(u, t.fRowNews), e.mul(place, kRowNews * 4))),
        newsAt(e.at(t.in(u, t.fRowNewCounts), e.mul(place, 8))), koff(t.kOffset(u, segment)),
        rowsEnd(e.add(koff, t.keyRows(u, segment))), topAt(e.at(t.in(u, t.fRowTops), e.mul(place, 8))) {}

  /// Appends the keys of member `member` of the set.
  void emit(const RowSet &set, size_t member) {
    const Stratum &s = t.schedule.strata[set.members[member]];
    const SmallVector<LaneInterval> &list = set.intervals[member];
    if (set.few[member] > 0) {
      return; // there already
    }
    if (const std::optional<KeyTable> &table = set.tables[member]) {
      Value from = ofLane(list[0].lo), until = ofLane(list[0].hi);
      pushTable(s, *table, set.bases[member], from, until);
    } else if (list.empty()) {
      pushList(s);
    } else {
      pushRuns(s, list);
    }
  }

private:
  /// An i32 of the lane.
  Value ofLane(int64_t offset) { return e.toInt(e.load(e.i32, e.at(t.in(u, offset), e.mul(lane, 4)), 4), e.i64); }

  void flush() {
    t.fillGroup(u, place);
    e.call(t.name("row_block", n), {}, {u.args, u.scratch, u.b, u.h, lane, place, e.c(1), e.c(0)});
  }

  void flushWhenFull(Value count) {
    e.store(count, countAt, 8);
    e.ifThen(e.ge(count, e.c(t.schedule.keyChunk)), [&] { flush(); });
  }

  /// Appends a key; `note` says what else is to be known of it.
  void push(Value j, llvm::function_ref<void(Value)> note) {
    Value count = e.load(e.i64, countAt, 8);
    e.store(e.toInt(j, e.i32), e.at(keys, e.mul(count, 4)), 4);
    note(j);
    flushWhenFull(e.add(count, 1));
  }

  /// A key that no query before had, perhaps.
  void noteNew(Value j) {
    Value count = e.load(e.i64, newsAt, 8);
    e.store(e.toInt(j, e.i32), e.at(news, e.mul(count, 4)), 4);
    e.store(e.min(e.add(count, 1), e.c(kRowNews - 1)), newsAt, 8);
  }

  /// Calls fill(done, address, count) for what the list still holds of `total` keys, until all are done.
  void inPieces(Value total, llvm::function_ref<void(Value, Value, Value)> fill) {
    scf::WhileOp::create(
        t.builder, e.loc, TypeRange{e.i64}, ValueRange{e.c(0)},
        [&](OpBuilder &b, Location, ValueRange v) { scf::ConditionOp::create(b, e.loc, e.lt(v[0], total), v); },
        [&](OpBuilder &b, Location, ValueRange v) {
          Value count = e.load(e.i64, countAt, 8);
          Value take = e.min(e.sub(e.c(t.schedule.keyChunk), count), e.sub(total, v[0]));
          fill(v[0], e.at(keys, e.mul(count, 4)), take); // whole registers: the table has room behind the last key
          flushWhenFull(e.add(count, take));
          scf::YieldOp::create(b, e.loc, ValueRange{e.add(v[0], take)});
        });
  }

  /// Keys first, first + step, ...
  void pushRun(Value first, Value step, Value total) {
    Value steps = e.mul(e.toInt(e.iota(), e.i32), e.splat(e.toInt(step, e.i32)));
    inPieces(total, [&](Value done, Value to, Value take) {
      Value start = e.add(first, e.mul(done, step));
      e.loop(e.c(0), take, t.vl, [&](Value at) {
        Value from = e.splat(e.toInt(e.add(start, e.mul(at, step)), e.i32));
        e.store(e.add(from, steps), e.at(to, e.mul(at, 4)), 4);
      });
    });
    Value last = e.select(e.lt(e.c(0), total), e.add(first, e.mul(e.add(total, -1), step)), e.c(-kFar));
    e.store(e.max(e.load(e.i64, topAt, 8), last), topAt, 8);
  }

  /// Calls take(j) where the conditions hold for the pair with the key at j.
  void considered(const Stratum &s, const Expr &residual, llvm::function_ref<void(Value)> take, Value j) {
    Value live;
    ExprScope pair = t.scope(u, segment, query, j);
    for (const Expr &condition : {s.keep, residual}) {
      if (condition) {
        Value holds = emitExpr(e, condition, pair);
        live = live ? e.both(live, holds) : holds;
      }
    }
    live ? e.ifThen(live, [&] { take(j); }) : take(j);
  }

  /// Entries [from, until) of a table, which ascend.
  void pushTable(const Stratum &s, const KeyTable &table, int64_t bases, Value from, Value until) {
    Value base = e.load(e.i64, e.at(t.in(u, bases), e.mul(lane, 8)), 8);
    Value entries = emitEnds(e, t.module, table.entries);
    auto keyAt = [&](Value entry) { return e.add(base, e.load(e.i64, e.at(entries, e.mul(entry, 8)), 8)); };
    if (bool(s.keep) || bool(table.rest)) {
      auto take = [&](Value j) { push(j, [&](Value key) { e.store(key, topAt, 8); }); };
      e.loop(from, until, 1, [&](Value entry) { considered(s, table.rest, take, keyAt(entry)); });
      return;
    }
    inPieces(e.sub(until, from), [&](Value done, Value to, Value take) {
      Value first = e.at(entries, e.mul(e.add(from, done), 8));
      e.loop(e.c(0), take, t.vl, [&](Value at) {
        Value entry = e.load(e.vec(e.i64), e.at(first, e.mul(at, 8)), 8);
        e.store(e.toInt(e.add(entry, e.splat(base)), e.i32), e.at(to, e.mul(at, 4)), 4);
      });
    });
    e.ifThen(e.lt(from, until), [&] { e.store(e.max(e.load(e.i64, topAt, 8), keyAt(e.add(until, -1))), topAt, 8); });
  }

  /// The entries of the query's list in the stratum's bounds, each a key or a run of keys.
  void pushList(const Stratum &s) {
    ExprScope at = t.scope(u, segment, query, {});
    Value lo = koff, hi = rowsEnd;
    for (const Expr &x : s.lower) {
      lo = e.max(lo, emitExpr(e, x, at));
    }
    for (const Expr &x : s.upper) {
      hi = e.min(hi, emitExpr(e, x, at));
    }
    auto take = [&](Value j) { push(j, [&](Value key) { noteNew(key); }); };
    auto consider = [&](Value j) { considered(s, s.residual, take, j); };
    auto entriesOf = [&] {
      EmittedList entries = emitList(e, s.list, at);
      e.loop(entries.lo, entries.hi, 1, [&](Value number) {
        at.entry = entries.entry(e, number);
        Value first = emitExpr(e, s.first, at);
        if (s.run == 1) {
          e.ifThen(e.both(e.le(lo, first), e.lt(first, hi)), [&] { consider(first); });
        } else {
          e.loop(e.max(first, lo), e.min(e.add(first, s.run), hi), 1, consider);
        }
      });
    };
    s.guard ? e.ifThen(emitExpr(e, s.guard, at), entriesOf) : entriesOf();
  }

  /// The keys in the lane's intervals, of j and of each digit.
  void pushRuns(const Stratum &s, ArrayRef<LaneInterval> list) {
    // Without any bound, none were stored.
    bool stored = llvm::any_of(list, [](const LaneInterval &i) { return i.varies; });
    SmallVector<std::pair<Value, Value>> ranges;
    for (const LaneInterval &i : list) {
      if (stored) {
        Value lo = ofLane(i.lo), hi = ofLane(i.hi);
        ranges.emplace_back(lo, hi);
      } else {
        ranges.emplace_back(e.c(-kFar), e.c(kFar));
      }
    }
    ranges[0] = {e.max(ranges[0].first, koff), e.min(ranges[0].second, rowsEnd)};
    SmallVector<Value> phases;
    for (const KeyDigit &d : s.key) {
      phases.push_back(d.phase ? emitExpr(e, d.phase, t.scope(u, segment, query, {})) : e.c(0));
    }
    auto run = [&](Value first, Value step, Value total) { pushRun(first, step, total); };
    auto flushNow = [&] { flush(); };
    auto scan = [&](Value first, Value, Value total) {
      t.scanRun(u, s, {query, keys, countAt, flushNow}, first, total);
    };
    e.ifThen(e.lt(ranges[0].first, ranges[0].second), [&] {
      t.decidesByRow(s) ? walk(s, 0, e.c(0), ranges, phases, scan) : walk(s, 0, e.c(0), ranges, phases, run);
    });
  }

  /// Calls run(first position, step, count) for the runs of the query's keys; `ranges` are its intervals, of j and of
  /// each digit.
  void walk(const Stratum &s, size_t digit, Value base, ArrayRef<std::pair<Value, Value>> ranges,
            ArrayRef<Value> phases, llvm::function_ref<void(Value, Value, Value)> run) {
    const KeyDigit &d = s.key[digit];
    auto [lo, hi] = t.digitRange(s, digit, base, ranges[0], ranges[digit + 1], phases);
    if (digit + 1 < s.key.size()) {
      e.loop(lo, hi, d.step,
             [&](Value value) { walk(s, digit + 1, e.add(base, e.mul(value, d.radix)), ranges, phases, run); });
      return;
    }
    Value count = e.max(e.floorDiv(e.add(e.sub(hi, lo), d.step - 1), d.step), e.c(0));
    run(e.add(base, e.mul(lo, d.radix)), e.c(d.step * d.radix), count);
  }

  AttendTiler &t;
  Emitter &e;
  int64_t n, segment;
  Uniform u;
  Value lane, place, query;
  Value keys, countAt;        ///< the list, and how many it has
  Value news, newsAt;         ///< keys that are asked for early, and how many
  Value koff, rowsEnd, topAt; ///< the segment's positions, and the highest of the list
};

/// row_gather(args, scratch, b, h, lane, place): the keys of one query, computed whenever they fill a chunk.
void AttendTiler::emitRowGather(int64_t n) {
  const RowSet &set = rowSets.find(n)->second;
  auto fn = function(name("row_gather", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64});
  RowGather gather(*this, n, fn.getArguments());
  for (size_t member = 0; member < set.members.size(); ++member) {
    gather.emit(set, member);
  }
  func::ReturnOp::create(builder, e.loc);
}
} // namespace heddle
