//===- RowBlock.cpp - Blocks of queries that are taken one at a time ------===//
//
// What queries that are taken one at a time (RowKeys.cpp) do with their lists of
// keys, for a block of queries at once: the dots of all, then their softmax, then
// their values, so that neighbors that do share keys find them in the first-level
// cache. Beside the arithmetic, rows are asked for: those that the next block has
// by run-time lists, and a block ahead of the last key of each query, its query and
// its output.
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

#include "passes/RowKernels.h"

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

/// The cache that rows are asked into.
static constexpr int kLevel = 1;

class AttendTiler::RowBlock {
public:
  /// `a`: the arguments of row_block(args, scratch, b, h, lane, place, count, ahead).
  RowBlock(AttendTiler &t, int64_t n, const RowSet &set, ValueRange a)
      : t(t), e(t.e), g(t.schedule.strata[n].segment), segment(t.sig.segments[g]), u(t.uniform(a[0], a[1], a[2], a[3])),
        lane0(a[4]), place0(a[5]), queries(a[6]), ahead(a[7]), scored(t.isScored(g)), koff(t.kOffset(u, g)),
        other(e.floorMod(e.add(place0, kRowBlock), 2 * kRowBlock)), lastRow(e.add(e.add(koff, t.keyRows(u, g)), -1)) {
    auto isList = [&](int64_t m) { return bool(t.schedule.strata[m].list); };
    lists = llvm::any_of(set.members, isList);
    scanned = llvm::any_of(set.members, [&](int64_t m) { return t.decidesByRow(t.schedule.strata[m]); });
    runs = !scanned && !llvm::all_of(set.members, isList);
  }

  /// S := the dots.
  void emitDots() {
    for (auto [dot, source] : llvm::enumerate(segment.dots)) {
      source.relative ? emitRelativeDots(dot, source) : emitUsualDots(dot, source);
    }
  }

  /// S := weights; m and l with them, and what acc is to be multiplied with.
  void emitWeights() {
    eachQuery(nullptr, [&](const Query &query) {
      Value scores = t.rowScores(u, 0, query.number), byte = e.mul(query.lane, 4), factor = e.constant(e.f32, 1.0);
      Value m = e.at(t.in(u, t.fTile), byte), l = e.at(t.in(u, t.fTile + t.sumsAt(kLanes)), byte);
      if (scored || segment.dots.empty()) {
        t.emitRowScores(ofLane(query.lane), g, query.count, positionOf(query), query.keys, query.number);
      }
      if (t.softmax()) {
        auto kernel = declareRowKernel(t.module, RowKernel::Softmax, 0, t.wide(), t.pairs);
        factor = e.call(kernel, {e.f32}, {scores, query.count, m, l})[0];
      } else if (t.sig.attend.getNormalizer() == attn::Normalizer::Sum) {
        Value sum = e.loop(e.c(0), query.count, 1, {e.load(e.f32, l, 4)}, [&](Value at, ValueRange acc) {
          return Values{e.add(acc[0], e.load(e.f32, e.at(scores, e.mul(at, 4)), 4))};
        })[0];
        e.store(sum, l, 4);
      }
      e.store(factor, e.at(t.in(u, t.fRowFactors), e.mul(query.number, 4)), 4);
    });
  }

  /// acc := factor * acc + S V; the lists are used up.
  void emitValues() {
    int64_t record = t.sig.argSlot(segment.v);
    const Rows rows = rowsOf(record);
    auto fetch = [&](Value number) {
      fetchNext(number, rows, t.sig.dv * t.bytes());
      if (t.direct) {
        fetchQuery(number, t.sig.resultSlot(t.sig.out), t.sig.dv * t.bytes());
      }
    };
    eachQuery(fetch, [&](const Query &query) {
      Value factor = e.load(e.f32, e.at(t.in(u, t.fRowFactors), e.mul(query.number, 4)), 4);
      auto kernel = scored ? RowKernel::ValuesExact : RowKernel::Values;
      e.call(declareRowKernel(t.module, kernel, t.sig.dv, t.sig.storage, t.pairs), {},
             {query.keys, query.count, rows.base, rows.stride, rows.unit, t.rowScores(u, 0, query.number), factor,
              e.at(t.in(u, t.fTile + t.accAt(kLanes)), e.mul(query.lane, t.accRow()))});
      e.store(e.c(0), e.at(t.in(u, t.fRowCounts), e.mul(query.place, 8)), 8);
    });
  }

private:
  /// A query with keys: its number in the block, its lane, the place of its list, the list and its length.
  struct Query {
    Value number, lane, place, keys, count;
  };

  /// A tensor's rows, addressed by position: the address that position 0 would have, bytes between rows and elements.
  struct Rows {
    Value base, stride, unit;
  };

  Rows rowsOf(int64_t record) {
    Value base = e.toPtr(e.sub(t.headBase(u, record, true), e.mul(koff, t.rowStride(u, record))));
    Value stride = t.rowStride(u, record), unit = t.elementStride(u, record);
    return {base, stride, unit};
  }

  /// before(number) for each query of the block, and body for each that has keys.
  void eachQuery(llvm::function_ref<void(Value)> before, llvm::function_ref<void(const Query &)> body) {
    e.loop(e.c(0), queries, 1, [&](Value number) {
      if (before) {
        before(number);
      }
      Value place = e.add(place0, number), count = e.load(e.i64, e.at(t.in(u, t.fRowCounts), e.mul(place, 8)), 8);
      Value keys = e.at(t.in(u, t.fRowKeys), e.mul(place, t.slots * 4));
      e.ifThen(e.lt(e.c(0), count), [&] { body({number, e.add(lane0, number), place, keys, count}); });
    });
  }

  Value positionOf(const Query &query) { return e.load(e.i64, e.at(t.in(u, t.fPositions), e.mul(query.lane, 8)), 8); }

  /// The lanes of a tile may be of several heads, which share keys.
  Uniform ofLane(Value lane) {
    Uniform own = u;
    own.h = t.groupHeads ? e.load(e.i64, e.at(t.in(u, t.fHeads), e.mul(lane, 8)), 8) : u.h;
    return own;
  }

  void emitUsualDots(size_t dot, const DotSource &source) {
    const Rows rows = rowsOf(t.sig.argSlot(source.k));
    auto fetch = [&](Value number) {
      fetchNext(number, rows, source.d * t.bytes());
      fetchQuery(number, t.sig.argSlot(source.q), source.d * t.bytes());
    };
    eachQuery(fetch, [&](const Query &query) {
      Value position = positionOf(query), scores = t.rowScores(u, dot, query.number);
      e.call(declareRowKernel(t.module, RowKernel::Dots, source.d, t.sig.storage, t.pairs), {},
             {query.keys, query.count, rows.base, rows.stride, rows.unit,
              t.queryRow(ofLane(query.lane), g, dot, position), t.scaleOf(u, t.packOf(g, int64_t(dot))), scores});
    });
  }

  void emitRelativeDots(size_t dot, const DotSource &source) {
    auto fetch = [&](Value number) { fetchQuery(number, t.sig.argSlot(source.q), source.d * t.bytes()); };
    eachQuery(fetch, [&](const Query &query) {
      Value position = positionOf(query), scores = t.rowScores(u, dot, query.number);
      t.emitRowQuery(u, g, dot, position, true);
      e.loop(e.c(0), query.count, 1, [&](Value at) {
        Value j = e.toInt(e.load(e.i32, e.at(query.keys, e.mul(at, 4)), 4), e.i64);
        e.store(t.relativeRow(u, source, position, j), e.at(t.in(u, t.fKeyTable[dot]), e.mul(at, 8)), 8);
      });
      t.emitRowDots(u, g, dot, query.count, scores);
    });
  }

  /// Asks for rows of keys or values that queries after this block have.
  void fetchNext(Value number, const Rows &rows, int64_t rowBytes) {
    if (runs) {
      // What lies before its last key, the queries before have had.
      Value top = e.load(e.i64, e.at(t.in(u, t.fRowTops), e.mul(e.add(place0, number), 8)), 8);
      Value next = e.min(e.add(top, kRowBlock), lastRow);
      e.prefetch(e.at(rows.base, e.mul(next, rows.stride)), rowBytes, kLevel);
    }
    if (!lists && !scanned) {
      return;
    }
    e.ifThen(e.lt(number, ahead), [&] {
      Value place = e.add(other, number), news = e.at(t.in(u, t.fRowNews), e.mul(place, kRowNews * 4));
      Value count = e.load(e.i64, e.at(t.in(u, lists ? t.fRowNewCounts : t.fRowCounts), e.mul(place, 8)), 8);
      if (!lists) { // the first of its list
        news = e.at(t.in(u, t.fRowKeys), e.mul(place, t.slots * 4));
        count = e.min(count, e.c(kRowNews));
      }
      e.loop(e.c(0), count, 1, [&](Value at) {
        Value j = e.toInt(e.load(e.i32, e.at(news, e.mul(at, 4)), 4), e.i64);
        e.prefetch(e.at(rows.base, e.mul(j, rows.stride)), rowBytes, 2);
      });
    });
  }

  /// Asks for the row of a query of the next block, in a tensor like q or the result.
  void fetchQuery(Value number, int64_t record, int64_t rowBytes) {
    Value query = e.load(e.i64, e.at(t.in(u, t.fPositions), e.mul(e.add(lane0, number), 8)), 8);
    Value row = e.sub(e.add(query, kRowBlock), u.qOffset);
    e.prefetch(e.toPtr(t.rowAddress(u, record, t.headBase(u, record, false), row, u.h)), rowBytes, kLevel);
  }

  AttendTiler &t;
  Emitter &e;
  int64_t g; ///< the segment's number
  const SegmentSignature &segment;
  Uniform u;
  Value lane0, place0, queries, ahead;
  bool scored;
  Value koff, other, lastRow; ///< first and last position of a key; the place of the next block's lists
  bool lists, scanned, runs;  ///< where keys come from: run-time lists, conditions that are tried, runs
};

/// row_block(args, scratch, b, h, lane, place, count, ahead): queries lane, lane + 1, ... with the lists from `place`
/// on, which are used up; `ahead`: queries of the next block, whose new rows are asked for.
void AttendTiler::emitRowBlock(int64_t n) {
  const RowSet &set = rowSets.find(n)->second;
  auto fn = function(name("row_block", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64, e.i64, e.i64});
  RowBlock block(*this, n, set, fn.getArguments());
  block.emitDots();
  block.emitWeights();
  block.emitValues();
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
