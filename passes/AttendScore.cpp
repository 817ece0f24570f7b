//===- AttendScore.cpp - Scores of a chunk -----------------------------===//
//
// Score regions on lanes, sums of dots, and dead pairs (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"
#include "passes/LoadedRows.h"
#include "passes/ScoreParts.h"
#include "passes/ScoreRegion.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

Value AttendTiler::emitRegion(Region &region, Value args, ArrayRef<Value> arguments,
                              ArrayRef<std::pair<Value, Value>> given) {
  auto captured = [&](int64_t a) { return e.toPtr(slot(args, sig.argSlot(a))); };
  return e.splat(emitScoreRegion(e, sig, args, region, arguments, captured, given));
}

Value AttendTiler::emitPart(Value part, Value args, ArrayRef<Value> arguments) {
  auto captured = [&](int64_t a) { return e.toPtr(slot(args, sig.argSlot(a))); };
  return emitScorePart(e, sig, args, part, arguments, captured);
}

/// The greatest of `top` and rows [first, last) of a column of S.
Value AttendTiler::topOf(Value column, Value first, Value last, Value top) {
  constexpr int64_t kUnroll = 4;
  Value whole = e.add(first, e.mul(e.floorDiv(e.sub(last, first), kUnroll), kUnroll));
  auto row = [&](Value k) { return e.loadRow(e.at(column, e.mul(k, kColumn * 4))); };
  Values tops = e.loop(first, whole, kUnroll, Values(kUnroll, top), [&](Value k, ValueRange acc) {
    Values next;
    for (int64_t n = 0; n < kUnroll; ++n) {
      next.push_back(e.max(row(e.add(k, n)), acc[n]));
    }
    return next;
  });
  Value all = e.max(e.max(tops[0], tops[1]), e.max(tops[2], tops[3]));
  return e.loop(whole, last, 1, {all}, [&](Value k, ValueRange acc) { return Values{e.max(row(k), acc[0])}; })[0];
}

/// S := -inf (or 0) where keys [first, last) of a chunk in runs are outside of a lane's interval. Returns the greatest
/// of these scores and `top`.
Value AttendTiler::maskRun(const Uniform &u, const Stratum &s, Value lane, Value column, Value first, Value last,
                           Value top) {
  Value byte = e.mul(lane, 4), lo, hi;
  for (const LaneInterval &i : intervals(s)) {
    if (i.varies) {
      Value x = e.load(e.vec(e.i32), e.at(in(u, i.lo), byte), 4);
      Value y = e.load(e.vec(e.i32), e.at(in(u, i.hi), byte), 4);
      lo = lo ? e.max(lo, x) : x;
      hi = hi ? e.min(hi, y) : y;
    }
  }
  // lo <= j < hi is one comparison without signs.
  Value size = e.select(e.lt(lo, hi), e.sub(hi, lo), e.constant(e.vec(e.i32), int64_t(0)));
  int64_t step = std::min(s.key[0].step, kFar); // farther keys are in chunks of their own
  Value origin = e.toInt(e.load(e.i32, in(u, fKeys), 4), e.i64);
  Value from = e.sub(e.splat(e.toInt(e.add(origin, e.mul(first, s.key[0].step)), e.i32)), lo);
  Value dead = e.constant(e.vec(e.f32), softmax() ? -INFINITY : 0.0), steps = e.constant(e.vec(e.i32), step);
  return e.loop(first, last, 1, {top, from}, [&](Value k, ValueRange v) {
    Value score = e.at(column, e.mul(k, kColumn * 4));
    Value x = e.select(e.cmp(arith::CmpIPredicate::ult, v[1], size), e.loadRow(score), dead);
    e.store(x, score, 4);
    return Values{e.max(x, v[0]), e.add(v[1], steps)};
  })[0];
}

/// A segment's score for pairs of lanes and keys, and what it reads from squares of them.
class AttendTiler::PairScore {
public:
  PairScore(AttendTiler &t, const Uniform &u, int64_t segment, bool byLane)
      : t(t), e(t.e), u(u), dots(t.sig.segments[segment].dots.size()), region(t.score(segment)) {
    for (size_t dot = 0; dot < dots; ++dot) {
      Value scale; // what packing left out
      if (t.pairs && !t.scalesLate(segment)) {
        Value x = t.scaleOf(u, t.packOf(segment, int64_t(dot)));
        scale = e.max(x, e.sub(e.constant(e.f32, 0.0), x));
      }
      scales.push_back(scale);
    }
    if (!region) {
      return;
    }
    loads = loadsAlongKeys(*region);
    parts = scoreParts(*region, byLane, loads);
    auto allocate = [&] { return t.in(u, t.frame.allocate(t.vl * t.vl * 4)); };
    loadSquares = llvm::map_to_vector(loads, [&](auto) { return allocate(); });
    partSquares = llvm::map_to_vector(parts, [&](auto) { return allocate(); });
    offsets = loads.empty() ? Value() : t.in(u, t.frame.allocate(t.vl * 8));
  }

  bool readsSquares() const { return !loads.empty() || !parts.empty(); }

  /// The lanes at `lane`.
  void begin(Value lane, Value queries, Value head) {
    query = queries;
    this->head = head;
    columns.clear();
    for (size_t dot = 0; dot < std::max<size_t>(dots, 1); ++dot) {
      columns.push_back(t.scoresOf(u, int64_t(dot), lane));
    }
  }

  void fill(Value keys, Value count) {
    for (auto [load, square] : llvm::zip(loads, loadSquares)) {
      fillSquare(e, t.sig, u.args, load, {u.b, head, query}, keys, count, square, offsets);
    }
    rows.clear();
    const KeySquare square{query, keys, count};
    for (auto [part, memory] : llvm::zip(parts, partSquares)) {
      auto compute = [&, value = part.value](Value i, Value j) {
        SmallVector<Value> arguments(dots);
        arguments.append({u.b, head, i, j});
        return t.emitPart(value, u.args, arguments);
      };
      if (part.ofKey) {
        fillByKey(e, square, memory, [&](Value j) { return compute({}, j); });
        rows.push_back({memory, e.c(4)});
      } else {
        rows.push_back(fillByDistance(e, square, memory, compute));
      }
    }
  }

  /// The score with key k at position j, number `number` of its square, in base 2 where it is an exponent.
  Value at(Value k, Value j, Value number) {
    SmallVector<Value> arguments;
    for (size_t dot = 0; dot < dots; ++dot) {
      Value x = e.loadRow(e.at(columns[dot], e.mul(k, kColumn * 4)));
      arguments.push_back(scales[dot] ? e.mul(x, scales[dot]) : x);
    }
    if (!region) {
      Value sum = arguments[0];
      for (Value x : ArrayRef<Value>(arguments).drop_front()) {
        sum = e.add(sum, x);
      }
      return sum;
    }
    arguments.append({u.b, head, query, j});
    SmallVector<std::pair<Value, Value>> given;
    for (auto [load, square] : llvm::zip(loads, loadSquares)) {
      given.emplace_back(load->getResult(0), squareRow(e, load, e.at(square, e.mul(number, t.vl * 4))));
    }
    for (auto [part, row] : llvm::zip(parts, rows)) {
      Value from = e.at(row.start, e.mul(number, row.pitch));
      given.emplace_back(part.value, part.ofKey ? e.splat(e.load(e.f32, from, 4)) : e.load(e.vec(e.f32), from, 4));
    }
    Value x = t.emitRegion(*region, u.args, arguments, given);
    return t.softmax() ? e.mul(x, e.constant(x.getType(), kLog2E)) : x;
  }

  Value column() const { return columns[0]; }

private:
  AttendTiler &t;
  Emitter &e;
  const Uniform &u;
  size_t dots;
  Region *region;
  SmallVector<Value> scales, columns;
  SmallVector<Operation *> loads; ///< along the keys
  SmallVector<ScorePart> parts;
  SmallVector<Value> loadSquares, partSquares;
  SmallVector<PartRows> rows; ///< of parts
  Value offsets, query, head;
};

/// Whether lanes are live for a key: bits at `live`.
Value AttendTiler::liveLanes(Value live, Value k) {
  Type bits = builder.getIntegerType(vl), word = builder.getIntegerType(std::max<int64_t>(vl, 8));
  Value w = e.load(word, e.at(live, e.mul(k, liveRow())), 1);
  if (bits != word) {
    w = arith::TruncIOp::create(builder, e.loc, bits, w);
  }
  return LLVM::BitcastOp::create(builder, e.loc, e.vec(e.i1), w);
}

/// score(args, scratch, b, h): S := the region's scores in base 2; masked: dead pairs become -inf (0 where
/// weights are not exponentials). tops := the greatest of each lane.
/// With `byLane`, each lane has a head of its own.
void AttendTiler::emitScore(int64_t n, bool masked, bool byLane) {
  const Stratum &s = schedule.strata[n];
  std::string what = std::string(masked ? "score_masked" : "score") + (byLane ? "_heads" : "");
  auto fn = function(name(what, n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  PairScore score(*this, u, s.segment, byLane);
  Value dead = e.constant(e.vec(e.f32), softmax() ? -INFINITY : 0.0);
  e.loop(e.c(0), e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn), vl, [&](Value lane) {
    Value range = e.at(in(u, fColumns), e.mul(e.floorDiv(lane, kColumn), 16));
    Value first = e.load(e.i64, range, 8), last = e.load(e.i64, e.at(range, 8), 8);
    Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    score.begin(lane, query, byLane ? e.load(e.vec(e.i64), e.at(in(u, fHeads), e.mul(lane, 8)), 8) : u.h);
    Value live = masked ? liveOf(u, lane) : Value();
    // Key k; `number` counts the keys of its square.
    auto scoreKey = [&](Value k, Value number, Value top) {
      Value j = e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64);
      Value x = score.at(k, j, number);
      x = masked ? e.select(liveLanes(live, k), x, dead) : x;
      e.store(x, e.at(score.column(), e.mul(k, kColumn * 4)), 4);
      return Values{e.max(x, top)};
    };
    Values top = {e.constant(e.vec(e.f32), -INFINITY)};
    if (masked && leavesSure(s)) {
      Value sureRange = e.at(in(u, fSure), e.mul(e.floorDiv(lane, kColumn), 16));
      Value sure = e.load(e.i64, sureRange, 8), unsure = e.load(e.i64, e.at(sureRange, 8), 8);
      Value before = maskRun(u, s, lane, score.column(), first, sure, top[0]);
      top = {maskRun(u, s, lane, score.column(), unsure, last, topOf(score.column(), sure, unsure, before))};
    } else if (!score.readsSquares()) {
      top = e.loop(first, last, 1, top, [&](Value k, ValueRange tops) { return scoreKey(k, {}, tops[0]); });
    } else {
      top = e.loop(first, last, vl, top, [&](Value k, ValueRange tops) {
        Value count = e.min(e.sub(last, k), e.c(vl));
        score.fill(e.at(in(u, fKeys), e.mul(k, 4)), count);
        return e.loop(e.c(0), count, 1, tops,
                      [&](Value n, ValueRange inner) { return scoreKey(e.add(k, n), n, inner[0]); });
      });
    }
    e.store(top[0], e.at(in(u, fTops), e.mul(lane, 4)), 4);
  });
  func::ReturnOp::create(builder, e.loc);
}
} // namespace heddle
