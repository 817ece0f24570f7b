//===- AttendState.cpp - The state (m, l, acc) of a tile ---------------===//
//
// (m, l, acc) is a commutative monoid: it is cleared, merged with that of other
// groups of strata or splits of the keys, and finished as out = acc / l and
// lse = m + log l (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Math/IR/Math.h"
#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// (m, l) of a tile := (-inf, 0).
void AttendTiler::clearSums(Value state) {
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    Value at = e.at(state, e.mul(lane, 4));
    e.store(e.constant(e.vec(e.f32), -INFINITY), at, 4);
    e.store(e.constant(e.vec(e.f32), 0.0), e.at(at, sumsAt(kLanes)), 4);
  });
}

/// acc of a tile := 0, as far as it has queries.
void AttendTiler::clearAcc(const Uniform &u, Value state) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  Value rows = e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn);
  constexpr int64_t kUnroll = 4; // divides the registers of a column's rows
  e.loop(e.c(accAt(kLanes)), e.add(e.mul(rows, accRow()), accAt(kLanes)), vl * 4 * kUnroll, [&](Value at) {
    for (int64_t r = 0; r < kUnroll; ++r) {
      e.store(e.constant(e.vec(e.f32), 0.0), e.at(state, e.add(at, r * vl * 4)), 4);
    }
  });
}

/// The tile's acc := 0, if no chunk has written it yet.
void AttendTiler::beginAcc(const Uniform &u) {
  Value begins = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fBegins), 8), e.c(0));
  e.ifThen(begins, [&] {
    clearAcc(u, in(u, fTile));
    e.store(e.c(0), in(u, fBegins), 8);
  });
}

void AttendTiler::copyState(const Uniform &u, Value from, Value to) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  auto copy = [&](Value lo, Value hi) {
    e.loop(lo, hi, vl * 4, [&](Value at) { e.store(e.loadRow(e.at(from, at)), e.at(to, at), 4); });
  };
  copy(e.c(0), e.c(accAt(kLanes)));
  copy(e.c(accAt(kLanes)), e.add(e.mul(lanes, accRow()), accAt(kLanes)));
}

/// Two states merge to m' = max(m, n), l' = l 2^(m - m') + k 2^(n - m'), acc likewise: {m', 2^(m - m'), 2^(n - m')}.
/// An empty state changes no bit of the other.
std::tuple<Value, Value, Value> AttendTiler::mergeFactors(Value m, Value n) {
  Value top = e.max(n, m);
  Value dead = e.cmp(arith::CmpFPredicate::OEQ, top, e.constant(top.getType(), -INFINITY));
  Value base = e.select(dead, e.constant(top.getType(), 0.0), top);
  return {top, e.exp2(e.sub(m, base)), e.exp2(e.sub(n, base))};
}

/// fold(lanes, state, total): total := total merged with a state, row by row.
void AttendTiler::emitFold() {
  auto fn = function("attend_fold", {e.i64, e.ptr, e.ptr});
  Value lanes = fn.getArgument(0), state = fn.getArgument(1), total = fn.getArgument(2);
  auto rows = [&](Value lane, llvm::function_ref<Value(Value, Value, Value)> join) {
    Value end = e.min(e.add(lane, vl), lanes);
    e.loop(lane, end, 1, [&](Value row) {
      Value first = e.add(e.mul(row, accRow()), accAt(kLanes));
      e.loop(first, e.add(first, accRow()), vl * 4, [&](Value at) {
        Value to = e.at(total, at);
        e.store(join(row, e.loadRow(to), e.loadRow(e.at(state, at))), to, 4);
      });
    });
  };
  e.loop(e.c(0), lanes, vl, [&](Value lane) {
    Value byte = e.mul(lane, 4);
    Value mt = e.at(total, byte), ms = e.at(state, byte);
    Value lt = e.at(mt, sumsAt(kLanes)), ls = e.at(ms, sumsAt(kLanes));
    if (!softmax()) {
      e.store(e.add(e.loadRow(lt), e.loadRow(ls)), lt, 4);
      rows(lane, [&](Value, Value x, Value y) { return e.add(x, y); });
      return;
    }
    auto [top, keep, take] = mergeFactors(e.loadRow(mt), e.loadRow(ms));
    e.store(top, mt, 4);
    e.store(e.fma(e.loadRow(lt), keep, e.mul(e.loadRow(ls), take)), lt, 4);
    // The factors take the place of the state's m and l, which nobody needs any more.
    e.store(keep, ms, 4);
    e.store(take, ls, 4);
    rows(lane, [&](Value row, Value x, Value y) {
      Value at = e.at(state, e.mul(row, 4));
      Value k = e.splat(e.load(e.f32, at, 4)), t = e.splat(e.load(e.f32, e.at(at, sumsAt(kLanes)), 4));
      return e.fma(x, k, e.mul(y, t));
    });
  });
  func::ReturnOp::create(builder, e.loc);
}

/// The factors by which a super-tile's rows and the tile's own acc are merged, of each lane, to fTops and fUnusedTops;
/// the tile's m and l become those of both.
void AttendTiler::mergeSums(const Uniform &u, Value state) {
  auto cell = [&](int64_t offset, Value lane) { return e.at(in(u, offset), e.mul(lane, 4)); };
  int64_t tileSum = fTile + sumsAt(kLanes), keep = fTops, take = fUnusedTops;
  eachRowOf(u, [&](Value lane, Value row) {
    Value maximum = e.at(state, e.mul(row, 4));
    e.store(e.load(e.f32, maximum, 4), cell(keep, lane), 4);
    e.store(e.load(e.f32, e.at(maximum, sumsAt(stateRows())), 4), cell(take, lane), 4);
  });
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    Value mine = e.loadRow(cell(fTile, lane)), theirs = e.loadRow(cell(keep, lane));
    Value l = e.loadRow(cell(tileSum, lane)), other = e.loadRow(cell(take, lane));
    if (!softmax()) {
      e.store(e.add(l, other), cell(tileSum, lane), 4);
      return;
    }
    auto [top, a, b] = mergeFactors(theirs, mine);
    e.store(top, cell(fTile, lane), 4);
    e.store(e.fma(other, a, e.mul(l, b)), cell(tileSum, lane), 4);
    e.store(a, cell(keep, lane), 4);
    e.store(b, cell(take, lane), 4);
  });
}

/// body(lane, row) for the lanes that hold a query, with its row in the super-tile's state.
void AttendTiler::eachRowOf(const Uniform &u, llvm::function_ref<void(Value, Value)> body) {
  e.loop(e.c(0), e.load(e.i64, in(u, fLanes), 8), 1, [&](Value lane) {
    Value row = e.load(e.i64, e.at(in(u, fState), e.mul(lane, 8)), 8);
    e.ifThen(e.ge(row, e.c(0)), [&] { body(lane, row); });
  });
}

/// Merges (m, l, acc) of the tile and of its rows in a super-tile's state, which the first group finds empty. The last
/// group leaves the result with the tile, others with the rows.
void AttendTiler::mergeState(const Uniform &u, const Strata &group, Value state) {
  const bool fresh = &group == &groups.front(), last = finishes(group);
  if (!fresh) {
    mergeSums(u, state);
  }
  auto factor = [&](int64_t table, Value lane) { return e.load(e.f32, e.at(in(u, table), e.mul(lane, 4)), 4); };
  auto merged = [&](Value lane, Value x, Value y) {
    auto as = [&](Value v) { return isa<VectorType>(x.getType()) ? e.splat(v) : v; };
    return softmax() ? e.fma(x, as(factor(fUnusedTops, lane)), e.mul(y, as(factor(fTops, lane)))) : e.add(x, y);
  };
  auto mergeRow = [&](Value lane, Value held) {
    Value own = e.at(in(u, fTile + accAt(kLanes)), e.mul(lane, accRow()));
    e.loop(e.c(0), e.c(accRow()), vl * 4, [&](Value d) {
      Value x = e.loadRow(e.at(own, d));
      x = fresh ? x : merged(lane, x, e.loadRow(e.at(held, d)));
      e.store(x, e.at(last ? own : held, d), 4);
    });
  };
  auto mergeElements = [&](Value lane, Value held, Value stride) {
    Value own = e.at(in(u, fTile + accAt(kLanes)), e.mul(lane, accRow()));
    e.loop(e.c(0), e.c(sig.dv), 1, [&](Value d) {
      Value mine = e.at(own, e.mul(d, 4)), theirs = e.at(held, e.mul(d, stride));
      Value x = e.load(e.f32, mine, 4);
      x = fresh ? x : merged(lane, x, e.load(e.f32, theirs, 4));
      e.store(x, last ? mine : theirs, 4);
    });
  };
  eachRowOf(u, [&](Value lane, Value row) {
    if (!last) {
      auto keepSum = [&](int64_t from, Value to) {
        e.store(e.load(e.f32, e.at(in(u, from), e.mul(lane, 4)), 4), to, 4);
      };
      Value maximum = e.at(state, e.mul(row, 4));
      keepSum(fTile, maximum);
      keepSum(fTile + sumsAt(kLanes), e.at(maximum, sumsAt(stateRows())));
    }
    if (!accInResult()) {
      mergeRow(lane, e.at(e.at(state, accAt(stateRows())), e.mul(row, accRow())));
      return;
    }
    int64_t out = sig.resultSlot(sig.out);
    Value position = e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8), stride = elementStride(u, out);
    Value head = e.load(e.i64, e.at(in(u, fHeads), e.mul(lane, 8)), 8);
    Value place = e.add(e.mul(u.b, slot(u.args, out + 5)), e.mul(head, slot(u.args, out + 6)));
    Value held = e.add(e.mul(place, bytes()), e.mul(e.sub(position, u.qOffset), rowStride(u, out)));
    held = e.toPtr(e.add(slot(u.args, out), held));
    e.ifElse(e.eq(stride, e.c(bytes())), [&] { mergeRow(lane, held); }, [&] { mergeElements(lane, held, stride); });
  });
}

/// True where an element of the tile's acc is NaN or infinite: x * 0 is 0 otherwise.
Value AttendTiler::notFinite(const Uniform &u) {
  constexpr int64_t kUnroll = 4;
  Value zero = e.constant(e.vec(e.f32), 0.0), lanes = e.load(e.i64, in(u, fLanes), 8);
  constexpr int64_t kRows = 8; // products with values write so many rows at least
  Value bytes = e.mul(e.floorDiv(e.add(lanes, kRows - 1), kRows), kRows * accRow());
  Value acc = in(u, fTile + accAt(kLanes));
  Values sums = e.loop(e.c(0), bytes, kUnroll * vl * 4, Values(kUnroll, zero), [&](Value at, ValueRange sum) {
    Values next;
    for (int64_t r = 0; r < kUnroll; ++r) {
      next.push_back(e.fma(e.loadRow(e.at(acc, e.add(at, r * vl * 4))), zero, sum[r]));
    }
    return next;
  });
  Value sum = e.add(e.add(sums[0], sums[1]), e.add(sums[2], sums[3]));
  return e.any(e.cmp(arith::CmpFPredicate::UNO, sum, sum));
}

/// The factors 1 / l of the lanes, to fTops; a sink joins m and l here.
void AttendTiler::finishSums(const Uniform &u, Value state) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8), one = e.constant(e.vec(e.f32), 1.0);
  if (sig.sink >= 0) {
    int64_t record = sig.argSlot(sig.sink);
    Value stride = e.mul(slot(u.args, record + 5), 4), base = e.toPtr(slot(u.args, record));
    e.loop(e.c(0), lanes, 1, [&](Value lane) {
      Value head = e.load(e.i64, e.at(in(u, fHeads), e.mul(lane, 8)), 8);
      Value sink = e.load(e.f32, e.at(base, e.mul(head, stride)), 4);
      e.store(e.mul(sink, e.constant(e.f32, kLog2E)), e.at(in(u, fUnusedTops), e.mul(lane, 4)), 4);
    });
  }
  e.loop(e.c(0), lanes, vl, [&](Value lane) {
    Value maxima = e.at(state, e.mul(lane, 4)), sums = e.at(maxima, sumsAt(kLanes));
    Value m = e.loadRow(maxima), l = e.loadRow(sums), zero = e.constant(e.vec(e.f32), 0.0), scaled = one;
    Value factor = one;
    if (sig.attend.getNormalizer() != attn::Normalizer::None) {
      Value dead = e.cmp(arith::CmpFPredicate::OEQ, l, zero);
      if (sig.sink >= 0) {
        Value sink = e.loadRow(e.at(in(u, fUnusedTops), e.mul(lane, 4))), top = e.max(sink, m);
        // A sink of -inf, or a row without keys, must not make inf - inf.
        Value empty = e.cmp(arith::CmpFPredicate::OEQ, top, e.constant(e.vec(e.f32), -INFINITY));
        Value safe = e.select(empty, zero, top);
        scaled = e.exp2(e.sub(m, safe));
        l = e.add(e.mul(l, scaled), e.exp2(e.sub(sink, safe)));
        e.store(top, maxima, 4);
      }
      factor = e.select(dead, zero, arith::DivFOp::create(builder, e.loc, scaled, l));
      // lse is -inf in a row without keys, whatever its sink.
      e.store(e.select(dead, zero, l), sums, 4);
    }
    e.store(factor, e.at(in(u, fTops), e.mul(lane, 4)), 4);
  });
}

/// lse = m + log l.
void AttendTiler::finishLse(const Uniform &u, Value state) {
  int64_t record = sig.resultSlot(sig.lse);
  Value base = slot(u.args, record), lanes = e.load(e.i64, in(u, fLanes), 8);
  e.ifThen(e.cmp(arith::CmpIPredicate::ne, base, e.c(0)), [&] {
    e.loop(e.c(0), lanes, 1, [&](Value lane) {
      auto lanesOwn = [&](int64_t table) { return e.load(e.i64, e.at(in(u, table), e.mul(lane, 8)), 8); };
      Value maxima = e.at(state, e.mul(lane, 4));
      Value m = e.load(e.f32, maxima, 4), l = e.load(e.f32, e.at(maxima, sumsAt(kLanes)), 4);
      Value log = e.mul(e.add(m, math::Log2Op::create(builder, e.loc, l)), e.constant(e.f32, kLn2));
      Value dead = e.cmp(arith::CmpFPredicate::OEQ, l, e.constant(e.f32, 0.0));
      Value offset = e.add(e.mul(u.b, slot(u.args, record + 5)), e.mul(lanesOwn(fHeads), slot(u.args, record + 6)));
      offset = e.add(offset, e.mul(e.sub(lanesOwn(fPositions), u.qOffset), slot(u.args, record + 7)));
      e.ifThen(e.ge(lanesOwn(fState), e.c(0)), [&] {
        e.store(e.select(dead, e.constant(e.f32, -INFINITY), log), e.at(e.toPtr(base), e.mul(offset, 4)), 4);
      });
    });
  });
}

/// out = acc / l and lse of the lanes that hold a query, from the state of a tile. Returns whether acc is finite.
Value AttendTiler::finishLanes(const Uniform &u, Value state) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  finishSums(u, state);
  if (sig.lse >= 0 && sig.attend.getNormalizer() != attn::Normalizer::None) {
    finishLse(u, state);
  }
  int64_t out = sig.resultSlot(sig.out);
  tableOfRows(u, out, fOutRows);
  Value acc = e.splat(e.toInt(e.at(state, accAt(kLanes))));
  e.loop(e.c(0), lanes, vl, [&](Value lane) {
    Value own = e.load(e.vec(e.i64), e.at(in(u, fState), e.mul(lane, 8)), 8),
          zero = e.constant(own.getType(), int64_t(0));
    Value row = e.mul(e.add(e.splat(lane), e.iota()), e.splat(e.c(accRow())));
    e.store(e.add(acc, row), e.at(in(u, fStateRows), e.mul(lane, 8)), 8);
    Value to = e.at(in(u, fOutRows), e.mul(lane, 8));
    e.store(e.select(e.ge(own, zero), e.load(e.vec(e.i64), to, 8), zero), to, 8);
  });
  return e.call(declareTileKernel(module, TileKernel::Finish, sig.dv, sig.storage), {e.i1},
                {lanes, in(u, fStateRows), in(u, fTops), in(u, fOutRows), elementStride(u, out)})[0];
}
} // namespace heddle
