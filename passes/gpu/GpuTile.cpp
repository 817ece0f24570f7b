//===- GpuTile.cpp - The tile program: scores, softmax, accumulation ------===//
//
// Fragments are those of mma.sync (PTX ISA, "matrix fragments for mma.m16n8k16"
// and m16n8k8): a warp owns 16 rows, thread l the rows l / 4 and l / 4 + 8 and, of
// each 8 columns, 2 (l mod 4) and the next. So the accumulators of S are, packed
// in pairs, the first operand of P V. In TF32 the operand's columns are t and
// t + 4 instead: there key 2 t takes the place of column t and key 2 t + 1 that of
// t + 4, in P and in V alike.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "passes/ScoreRegion.h"
#include "passes/gpu/GpuKernel.h"

#include <cmath>

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

static constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
static constexpr double kInfinity = std::numeric_limits<double>::infinity();

//===--- Fragments --------------------------------------------------------===//

void GpuKernel::loadQueries() {
  for (auto [n, q] : llvm::enumerate(queries)) {
    Rows rows = rowsOf(sig.argSlot(q.q), false, q.d);
    loadRows(rows, e.k(sRow), shape.rows, q.d, e.k(q.d * bytes), e.k(sQuery[n]), packs ? e.k(sHead) : Value());
  }
  e.commitGroup();
}

/// Steps of 32 bytes along a row of `d` elements.
static int64_t stepsOf(int64_t d, int64_t bytes) { return paddedDim(d, bytes) * bytes / 32; }

/// A few query fragments stay in registers.
int64_t GpuKernel::keptFragments() const {
  bool some = storage.isF32() || queries.size() != 1 || stepsOf(queries[0].d, bytes) > 8 || shape.columns > 128;
  return some ? 0 : stepsOf(queries[0].d, bytes);
}

void GpuKernel::keepQueries(Value now, Values &fragments) {
  if (fragments.empty()) {
    return;
  }
  Values before = fragments;
  SmallVector<Type> types(fragments.size(), e.i32);
  fragments = e.ifElse(
      now, types,
      [&] {
        Values all;
        for (int64_t step = 0; step < keptFragments(); ++step) {
          llvm::append_range(all, queryFragment(0, e.k(step)));
        }
        return all;
      },
      [&] { return before; });
  queryFragments.clear();
  for (int64_t step = 0; step < keptFragments(); ++step) {
    queryFragments.emplace_back(ArrayRef<Value>(fragments).slice(step * 4, 4));
  }
}

Values GpuKernel::queryFragment(int64_t tensor, Value step) {
  int64_t pitch = sharedPitch(queries[tensor].d, bytes);
  Value base = e.add(e.mul(e.shl(warp, 4), pitch), e.add(e.shl(step, 5), sQuery[tensor]));
  if (!storage.isF32()) {
    // Matrices: rows 0-7 and 8-15 of the first 16 bytes, then of the next.
    Value row = e.bitAnd(lane, 15), half = e.shr(lane, 4);
    return e.ldmatrix4(e.add(base, e.add(e.mul(row, pitch), e.shl(half, 4))), false);
  }
  Value at = e.add(base, e.add(e.mul(group8, pitch), e.shl(quad, 2)));
  Values out;
  for (int64_t c : {0, 1, 2, 3}) {
    out.push_back(e.loadShared(e.f32, e.add(at, (c % 2) * 8 * pitch + (c / 2) * 16), 4));
  }
  return out;
}

/// B fragments of keys 16 pair to 16 pair + 7, and of the next eight.
Values GpuKernel::keyFragments(Value base, int64_t pitch, int64_t pair, Value step) {
  base = e.add(e.add(base, pair * 16 * pitch), e.shl(step, 5));
  if (!storage.isF32()) {
    Value row = e.add(e.bitAnd(lane, 7), e.shl(e.shr(lane, 4), 3)), half = e.bitAnd(e.shr(lane, 3), 1);
    return e.ldmatrix4(e.add(base, e.add(e.mul(row, pitch), e.shl(half, 4))), false);
  }
  Value at = e.add(base, e.add(e.mul(group8, pitch), e.shl(quad, 2)));
  Values out;
  for (int64_t c : {0, 1, 2, 3}) {
    out.push_back(e.loadShared(e.f32, e.add(at, (c / 2) * 8 * pitch + (c % 2) * 16), 4));
  }
  return out;
}

/// B fragments of value columns 16 pair to 16 pair + 7, and of the next eight, for one step of keys.
Values GpuKernel::valueFragments(Value base, int64_t pair, int64_t step) {
  int64_t pitch = sharedPitch(shape.columns, bytes);
  if (!storage.isF32()) {
    Value row = e.bitAnd(lane, 15), half = e.shr(lane, 4);
    base = e.add(base, step * 16 * pitch + pair * 32);
    return e.ldmatrix4(e.add(base, e.add(e.mul(row, pitch), e.shl(half, 4))), true);
  }
  Value at = e.add(e.add(base, step * 8 * pitch + pair * 64), e.add(e.mul(quad, 2 * pitch), e.shl(group8, 2)));
  Values out;
  for (int64_t c : {0, 1, 2, 3}) {
    out.push_back(e.loadShared(e.f32, e.add(at, (c % 2) * pitch + (c / 2) * 32), 4));
  }
  return out;
}

Values GpuKernel::weightFragment(const Values &w, int64_t step) {
  if (storage.isF32()) {
    const Value *c = &w[step * 4];
    return {c[0], c[2], c[1], c[3]};
  }
  Values out;
  for (int64_t n : {0, 1}) {
    const Value *c = &w[(2 * step + n) * 4];
    out.push_back(e.pack(storage, c[0], c[1]));
    out.push_back(e.pack(storage, c[2], c[3]));
  }
  return out;
}

/// C[0..3] += A B. In f32: three TF32 products, the small ones first.
void GpuKernel::multiply(ArrayRef<Value> a, ArrayRef<Value> bb, MutableArrayRef<Value> c) {
  auto once = [&](ValueRange x, ValueRange y) { llvm::copy(e.mma(storage, x, y, c), c.begin()); };
  if (!storage.isF32()) {
    once(a, bb);
    return;
  }
  struct Parts {
    Values high, finite, low;
  };
  auto split = [&](ArrayRef<Value> values) {
    Parts p;
    for (Value v : values) {
      auto [high, finite, low] = e.splitTF32(v);
      p.high.push_back(high);
      p.finite.push_back(finite);
      p.low.push_back(low);
    }
    return p;
  };
  Parts x = split(a), y = split(bb);
  once(x.low, y.finite);
  once(x.finite, y.low);
  once(x.high, y.high);
}

//===--- Scores -----------------------------------------------------------===//

/// Q K^T of one dot: four accumulators for each eight keys.
Values GpuKernel::dot(const DotSource &source, Value base) { return products(source, base, shape.keys / 16); }

/// Q times 16 `pairs` rows.
Values GpuKernel::products(const DotSource &source, Value base, int64_t pairs) {
  int64_t tensor = llvm::find_if(queries, [&](const DotSource &q) { return q.q == source.q; }) - queries.begin();
  int64_t pitch = sharedPitch(source.d, bytes), steps = stepsOf(source.d, bytes);
  Values zero(pairs * 8, e.f(0.0));
  auto one = [&](Value step, const Values &kept, ValueRange carried) {
    Values s(carried), a = kept.empty() ? queryFragment(tensor, step) : kept;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      Values bb = keyFragments(base, pitch, pair, step);
      multiply(a, ArrayRef<Value>(bb).take_front(2), MutableArrayRef<Value>(s).slice(pair * 8, 4));
      multiply(a, ArrayRef<Value>(bb).drop_front(2), MutableArrayRef<Value>(s).slice(pair * 8 + 4, 4));
    }
    return s;
  };
  // Unrolled where registers allow it: products with relative rows and scores are alive together.
  if (steps > (!storage.isF32() ? 16 : shape.skewed ? 4 : 8)) {
    return loop(e.k(0), e.k(steps), 1, zero, [&](Value step, ValueRange carried) { return one(step, {}, carried); });
  }
  Values s = zero;
  for (int64_t step = 0; step < steps; ++step) {
    s = one(e.k(step), queryFragments.empty() ? Values() : queryFragments[step], s);
  }
  return s;
}

bool GpuKernel::scored() const {
  return llvm::any_of(segmentsUsed, [&](int64_t g) {
    ArrayRef<DotSource> dots = sig.segments[g].dots;
    return regionIn(g) || dots.size() != 1 || dots[0].relative;
  });
}

//===--- Relative rows ----------------------------------------------------===//

void GpuKernel::keepSpans() {
  auto of = [&](Value row) { return e.loadShared(e.i32, e.add(e.shl(row, 2), sPosition), 4); };
  Value own = of(e.add(e.shl(warp, 4), e.bitAnd(lane, 15)));
  spanOfWarp[0] = e.reduceMin(own);
  spanOfWarp[1] = e.reduceMax(own);
  Value least = own, most = own;
  for (int64_t first = 0; first < shape.rows; first += 32) {
    Value position = of(e.add(e.remu(lane, shape.rows), first));
    least = e.min(least, position);
    most = e.max(most, position);
  }
  spanOfRows[0] = e.reduceMin(least);
  spanOfRows[1] = e.reduceMax(most);
}

GpuKernel::Distances GpuKernel::distancesOf(size_t source, Value table) {
  Value least = e.k(kBeyondPositions), most = e.k(-kBeyondPositions);
  for (int64_t first = 0; first < shape.keys; first += 32) {
    Value key = e.loadShared(e.i32, e.add(table, e.shl(e.add(e.remu(lane, shape.keys), first), 2)), 4);
    Value there = e.ge(key, e.k(0));
    least = e.select(there, e.min(least, key), least);
    most = e.select(there, e.max(most, key), most);
  }
  least = e.reduceMin(least);
  most = e.reduceMax(most);
  Value none = e.lt(most, least), offset = e.narrow(sources[source].kOffset);
  least = e.add(e.select(none, e.k(0), least), offset);
  most = e.add(e.select(none, e.k(0), most), offset);
  auto fits = [&](const Value(&span)[2], int64_t rows) {
    return e.lt(e.add(e.sub(span[1], span[0]), e.sub(most, least)), rows + shape.keys);
  };
  // The block's rows are loaded together, each warp reads its own: both must be near one another.
  Value loaded = fits(spanOfRows, shape.rows), own = fits(spanOfWarp, 16);
  return {e.sub(spanOfRows[0], most), e.sub(spanOfWarp[0], most), loaded, e.both(loaded, own)};
}

/// q_i . r[clamp(i - j + shift)] as products with the tile's distances, T[i][x] = q_i . r[clamp(least + x)], of which
/// each pair reads its own: S[i][j] = T[i][i - j + shift - least].
Values GpuKernel::relativeDot(size_t source, size_t number, Value base, Value table) {
  const DotSource &dot = sig.segments[segmentsUsed[source]].dots[number];
  Distances tile = distancesOf(source, table);
  SmallVector<Type> types(scoreCount(), e.f32);
  return e.ifElse(
      tile.read, types,
      [&] {
        int64_t pitch = relativePitch(shape) * 4, spread = shape.keys + 16;
        Value first = e.min(e.sub(tile.ofWarp, tile.least), e.k(shape.distances() - spread));
        Values t = products(dot, e.add(base, e.mul(first, sharedPitch(dot.d, bytes))), spread / 16);
        Value own = e.add(e.mul(e.shl(warp, 4), pitch), sRelative);
        NVVM::SyncWarpOp::create(e.b, e.loc, e.k(-1)); // what was there is read
        for (auto [n, v] : llvm::enumerate(t)) {
          Value row = e.add(group8, int64_t(n / 2 % 2) * 8), column = e.add(e.shl(quad, 1), int64_t(n / 4 * 8 + n % 2));
          e.storeShared(v, e.add(e.add(own, e.mul(row, pitch)), e.shl(column, 2)), 4);
        }
        NVVM::SyncWarpOp::create(e.b, e.loc, e.k(-1));
        // Distance of the pair less that of column 0.
        Value start = e.add(e.add(tile.least, first), e.narrow(sources[source].kOffset));
        Value rows[2], places[2];
        for (int64_t half : {0, 1}) {
          Value row = e.add(group8, 8 * half);
          Value position = e.loadShared(e.i32, e.add(e.shl(e.add(e.shl(warp, 4), row), 2), sPosition), 4);
          rows[half] = e.sub(position, start);
          places[half] = e.add(own, e.mul(row, pitch));
        }
        Values out;
        for (int64_t n = 0; n < scoreCount(); ++n) {
          Value column = e.add(e.shl(quad, 1), (n / 4) * 8 + n % 2);
          Value key = e.loadShared(e.i32, e.add(table, e.shl(column, 2)), 4);
          Value x = e.max(e.min(e.sub(rows[(n / 2) % 2], key), e.k(spread - 1)), e.k(0)); // of a key that is not there
          out.push_back(e.loadShared(e.f32, e.add(places[(n / 2) % 2], e.shl(x, 2)), 4));
        }
        return out;
      },
      [&] { return dotOfPairs(source, number, table); });
}

/// q_i . k_j, or q_i . r[clamp(i - j + shift)], of this thread's scores, each by itself: sums in f32 in the order of d.
/// They pass through shared memory, so that the code is that of one score.
Values GpuKernel::dotOfPairs(size_t source, size_t number, Value table) {
  const DotSource &dot = sig.segments[segmentsUsed[source]].dots[number];
  const Rows &rows = sources[source].keys[number];
  Rows queryRows = rowsOf(sig.argSlot(dot.q), false, dot.d);
  Value last = e.add(slot(sig.argSlot(dot.k) + 3), -1);
  Value own = e.add(e.add(e.mul(warp, relativeBytes(shape, sig) / shape.warps()), e.shl(lane, 2)), sRelative);
  auto element = [&](Value address) -> Value {
    Value x = LLVM::LoadOp::create(e.b, e.loc, storage, e.toGlobal(address), unsigned(bytes));
    return storage.isF32() ? x : arith::ExtFOp::create(e.b, e.loc, e.f32, x).getResult();
  };
  loop(e.k(0), e.k(scoreCount()), 1, {}, [&](Value n, ValueRange) {
    Value column = e.add(e.add(e.shl(e.shr(n, 2), 3), e.shl(quad, 1)), e.bitAnd(n, 1));
    Value row = e.add(e.add(e.shl(warp, 4), group8), e.shl(e.bitAnd(e.shr(n, 1), 1), 3));
    Value key = e.loadShared(e.i32, e.add(table, e.shl(column, 2)), 4);
    Value query = e.loadShared(e.i32, e.add(e.shl(row, 2), sRow), 4);
    Value there = e.both(e.ge(key, e.k(0)), e.ge(query, e.k(0)));
    Value sum = e.ifElse(
        there, TypeRange{e.f32},
        [&] {
          Value number = e.wide(key);
          if (dot.relative) {
            Value i = e.wide(e.loadShared(e.i32, e.add(e.shl(row, 2), sPosition), 4));
            Value j = e.add(number, sources[source].kOffset);
            number = e.max(e.min(e.add(e.sub(i, j), dot.shift), last), e.c(0));
          }
          Value from = e.add(rows.base, e.mul(number, rows.stride));
          Value with = e.add(queryRows.base, e.mul(e.wide(query), queryRows.stride));
          if (packs) {
            Value head = e.wide(e.loadShared(e.i32, e.add(e.shl(row, 2), sHead), 4));
            with = e.add(with, e.mul(head, queryRows.head));
          }
          return loop(e.k(0), e.k(dot.d), 1, {e.f(0.0)}, [&](Value x, ValueRange carried) {
            Value at = e.wide(x);
            Value a = element(e.add(with, e.mul(at, queryRows.element)));
            Value b = element(e.add(from, e.mul(at, rows.element)));
            return Values{e.fma(a, b, carried[0])};
          });
        },
        [&] { return Values{e.f(0.0)}; })[0];
    e.storeShared(sum, e.add(own, e.shl(n, 7)), 4);
    return Values{};
  });
  Values out;
  for (int64_t n = 0; n < scoreCount(); ++n) {
    out.push_back(e.loadShared(e.f32, e.add(own, n * 128), 4));
  }
  return out;
}

/// Scores of one segment's tile: in base 2 unless the scale is fused, natural where weights are no exponentials.
Values GpuKernel::scores(size_t source, Value stage, Value table) {
  int64_t g = segmentsUsed[source];
  const SegmentSignature &segment = sig.segments[g];
  Value at = e.add(stage, shape.keys * sharedPitch(shape.columns, bytes));
  SmallVector<Values> dots;
  for (auto [number, d] : llvm::enumerate(segment.dots)) {
    if (dotBySums(shape, d)) {
      dots.push_back(dotOfPairs(source, number, table));
      continue;
    }
    dots.push_back(d.relative ? relativeDot(source, number, at, table) : dot(d, at));
    at = e.add(at, stagedRows(shape, d) * sharedPitch(d.d, bytes));
  }
  return scoresOf(source, dots, table);
}

Values GpuKernel::scoresOf(size_t source, ArrayRef<Values> dots, Value table) {
  if (fused) {
    return dots[0];
  }
  int64_t g = segmentsUsed[source];
  Region *region = sig.attend.getScore(g);
  Value scale = scaleOf(g, softmaxed() && !region);
  Values out;
  Value rows[2], rowHeads[2];
  if (region) {
    for (int64_t half = 0; half < 2; ++half) {
      rowHeads[half] = headOfRow(half);
      Value row = e.add(e.add(e.shl(warp, 4), group8), 8 * half);
      rows[half] = e.wide(e.loadShared(e.i32, e.add(e.shl(row, 2), sPosition), 4));
    }
  }
  for (int64_t n = 0; n < scoreCount(); ++n) {
    SmallVector<Value> arguments;
    for (const Values &d : dots) {
      arguments.push_back(e.mul(d[n], scale));
    }
    if (!region) {
      Value x = arguments[0];
      for (Value d : ArrayRef<Value>(arguments).drop_front()) {
        x = e.add(x, d);
      }
      out.push_back(x);
      continue;
    }
    Value column = e.add(e.shl(quad, 1), (n / 4) * 8 + n % 2);
    Value j = e.add(e.wide(e.loadShared(e.i32, e.add(table, e.shl(column, 2)), 4)), sources[source].kOffset);
    arguments.append({b, rowHeads[(n / 2) % 2], rows[(n / 2) % 2], j});
    // A scalar's value stands in its record (docs/abi.md).
    auto captured = [&](int64_t a) { return e.at(args, (sig.argSlot(a) + 1) * 8); };
    Value x = emitScoreRegion(e, sig, args, *region, arguments, captured);
    out.push_back(softmaxed() ? e.mul(x, e.f(kLog2E)) : x);
  }
  return out;
}

//===--- Softmax ----------------------------------------------------------===//

/// scores become weights; state is {acc.., m of two rows, l of two rows}.
void GpuKernel::softmax(Values &s, Values &state) {
  size_t acc = accCount();
  auto half = [](int64_t n) { return (n / 2) % 2; };
  if (!softmaxed()) {
    if (sig.attend.getNormalizer() == attn::Normalizer::Sum) {
      for (auto [n, x] : llvm::enumerate(s)) {
        Value &l = state[acc + 2 + half(n)];
        l = e.add(l, x);
      }
    }
    return;
  }
  // newMax = max(oldMax, rowMax(S)); a quad of threads shares a row.
  Value top[2] = {state[acc], state[acc + 1]}, shift[2];
  for (auto [n, x] : llvm::enumerate(s)) {
    top[half(n)] = e.maxNum(top[half(n)], x);
  }
  for (int64_t r : {0, 1}) {
    top[r] = e.maxNum(top[r], e.shuffleXor(top[r], 1));
    top[r] = e.maxNum(top[r], e.shuffleXor(top[r], 2));
    // A row without a live key yet must not make inf - inf.
    Value none = e.cmp(arith::CmpFPredicate::OEQ, top[r], e.f(-kInfinity));
    shift[r] = e.select(none, e.f(0.0), top[r]);
    if (fused) {
      shift[r] = e.mul(shift[r], scaleConstant);
    }
    Value minus = arith::NegFOp::create(e.b, e.loc, shift[r]);
    shift[r] = minus;
  }
  auto power = [&](Value x, int64_t r) {
    return e.exp2Fast(fused ? e.fma(x, scaleConstant, shift[r]) : e.add(x, shift[r]));
  };
  // l = l * 2^(oldMax - newMax) + sum P; acc likewise.
  Value factor[2];
  for (int64_t r : {0, 1}) {
    // The old maximum rounds as the new one did, so that a factor of 1 is 1.
    Value old = fused ? e.mul(state[acc + r], scaleConstant) : state[acc + r];
    factor[r] = e.exp2Fast(e.add(old, shift[r]));
    state[acc + r] = top[r];
    state[acc + 2 + r] = e.mul(state[acc + 2 + r], factor[r]);
  }
  for (auto [n, x] : llvm::enumerate(s)) {
    x = power(x, half(n));
    Value &l = state[acc + 2 + half(n)];
    l = e.add(l, x);
  }
  for (size_t n = 0; n < acc; ++n) {
    state[n] = e.mul(state[n], factor[half(n)]);
  }
}

//===--- Accumulation -----------------------------------------------------===//

void GpuKernel::accumulate(const Values &weights, Values &state, Value stage) {
  int64_t steps = shape.keys / (storage.isF32() ? 8 : 16);
  for (int64_t step = 0; step < steps; ++step) {
    Values a = weightFragment(weights, step);
    for (int64_t pair = 0; pair < shape.columns / 16; ++pair) {
      Values bb = valueFragments(stage, pair, step);
      multiply(a, ArrayRef<Value>(bb).take_front(2), MutableArrayRef<Value>(state).slice(pair * 8, 4));
      multiply(a, ArrayRef<Value>(bb).drop_front(2), MutableArrayRef<Value>(state).slice(pair * 8 + 4, 4));
    }
  }
}

/// True for all threads where `wanted` holds and the tile's V has an element that is not finite.
Value GpuKernel::nonFinite(Value stage, Value wanted) {
  return e.ifElse(
      wanted, TypeRange{e.i1},
      [&] {
        int64_t pitch = sharedPitch(shape.columns, bytes), words = shape.columns * bytes / 4;
        int64_t low = storage.isF16() ? 0x7c00 : 0x7f80, exponent = storage.isF32() ? 0x7f800000 : low << 16;
        Value found = loop(tid, e.k(shape.keys * words), shape.threads(), {e.no()}, [&](Value c, ValueRange carried) {
          Value row = e.divu(c, words), column = e.shl(e.remu(c, words), 2);
          Value v = e.loadShared(e.i32, e.add(e.add(stage, e.mul(row, pitch)), column), 4);
          Value bad = e.eq(e.bitAnd(v, exponent), exponent);
          if (!storage.isF32()) {
            bad = e.either(bad, e.eq(e.bitAnd(v, low), low));
          }
          return Values{e.either(carried[0], bad)};
        })[0];
        return Values{e.barrierAny(found)};
      },
      [&] { return Values{e.no()}; })[0];
}

/// The same sum key by key, leaving out weights of 0 (dead keys), where V is not finite: rare, so slow and small. The
/// block's weights pass through shared memory.
void GpuKernel::accumulateExact(const Values &weights, Values &state, Value stage) {
  int64_t pitch = sharedPitch(shape.columns, bytes), row = shape.keys * 4;
  // All warps are done with the tile's keys (nonFinite has a barrier): their room may be taken.
  Value scratch = sWeights >= 0 ? e.k(sWeights) : e.add(stage, shape.keys * pitch);
  Value own[2];
  for (int64_t half : {0, 1}) {
    own[half] = e.add(scratch, e.mul(e.add(e.add(e.shl(warp, 4), group8), 8 * half), row));
  }
  for (auto [n, w] : llvm::enumerate(weights)) {
    Value column = e.add(e.shl(quad, 1), int64_t(n / 4) * 8 + int64_t(n % 2));
    e.storeShared(w, e.add(own[(n / 2) % 2], e.shl(column, 2)), 4);
  }
  e.barrier();
  Value first = e.add(stage, e.mul(e.shl(quad, 1), bytes));
  Values acc(state.begin(), state.begin() + accCount());
  acc = loop(e.k(0), e.k(shape.keys), 1, acc, [&](Value key, ValueRange carried) {
    Values next(carried);
    Value w[2], live[2];
    for (int64_t half : {0, 1}) {
      w[half] = e.loadShared(e.f32, e.add(own[half], e.shl(key, 2)), 4);
      live[half] = e.cmp(arith::CmpFPredicate::UNE, w[half], e.f(0.0));
    }
    Value at = e.add(first, e.mul(key, pitch));
    for (int64_t n = 0; n < accCount(); ++n) {
      int64_t half = (n / 2) % 2;
      Value v = e.loadShared(storage, e.add(at, ((n / 4) * 8 + n % 2) * bytes), unsigned(bytes));
      v = storage.isF32() ? v : arith::ExtFOp::create(e.b, e.loc, e.f32, v).getResult();
      next[n] = e.select(live[half], e.fma(w[half], v, next[n]), next[n]);
    }
    return next;
  });
  llvm::copy(acc, state.begin());
}

//===--- One tile of the stream -------------------------------------------===//

static Values branch(WarpEmitter &e, Value condition, llvm::function_ref<Values()> then,
                     llvm::function_ref<Values()> otherwise) {
  return e.ifElse(condition, TypeRange{}, then, otherwise);
}

/// Loads and tables of tiles behind this one; the tile's own are there then. With one stage the tile comes when the one
/// before is done with.
void GpuKernel::loadAhead(Value tile, Value first, Value begun) {
  int64_t ahead = shape.stages - 1;
  if (ahead > 0) {
    // Queries come with the first tile: nothing waits for them alone.
    e.ifThen(begun, [&] { e.waitGroup(ahead - 1); });
  }
  e.barrier();
  Value next = ahead > 0 ? e.add(tile, ahead) : tile;
  issueLoads(next, e.both(e.ge(next, first), e.lt(next, tiles)));
  writeTable(e.add(tile, shape.stages), tid, shape.threads());
  if (ahead == 0) {
    e.waitGroup(0);
    e.barrier();
  }
}

void GpuKernel::carefulStep(Value tile, Values &state) {
  Value n = memberOf(tile), table = tableOf(tile);
  Value stage = e.add(e.mul(e.remu(tile, shape.stages), stageBytes), sRing);
  auto alike = [&](size_t x, size_t y) { return sameScores(x, y); };
  Values s = perSegment(n, alike, [&](size_t source) { return scores(source, stage, table); });
  s = masked(s, liveWords(table, n));
  softmax(s, state);
  e.barrier(); // the weights take the place of the keys
  accumulateExact(s, state, stage);
}

void GpuKernel::step(Value tile, Values &state) {
  if (careful) {
    return carefulStep(tile, state);
  }
  Value n = memberOf(tile), table = tableOf(tile);
  Value stage = e.add(e.mul(e.remu(tile, shape.stages), stageBytes), sRing);
  Value x = e.mul(e.sub(tile, descriptor(n, 0)), shape.keys);
  Value partial = e.invert(fullTile(n, x, table)), alive;
  auto scoresOfTile = [&] {
    auto alike = [&](size_t x, size_t y) { return sameScores(x, y); };
    return perSegment(n, alike, [&](size_t source) { return scores(source, stage, table); });
  };
  Values s;
  if (sparse()) {
    // Which pairs live is known before their scores: a warp without any leaves the tile out.
    Values none((shape.keys + 63) / 64, e.k(-1));
    Values words = branch(e, partial, [&] { return liveWords(table, n); }, [&] { return none; });
    Value any = words[0];
    for (Value w : ArrayRef<Value>(words).drop_front()) {
      any = e.either(any, w);
    }
    alive = e.anyInWarp(e.invert(e.eq(any, 0)));
    Values dead(scoreCount(), e.f(softmaxed() ? -kInfinity : 0.0));
    s = branch(
        e, alive,
        [&] {
          Values own = scoresOfTile();
          return branch(e, partial, [&] { return this->masked(own, words); }, [&] { return own; });
        },
        [&] { return dead; });
    partial = e.both(partial, anyKey(table));
  } else {
    s = scoresOfTile();
    s = branch(e, partial, [&] { return this->masked(s, liveWords(table, n)); }, [&] { return s; });
  }
  bool anyMask = false;
  for (size_t m = 0; m < members.size(); ++m) {
    anyMask |= maskable(m);
  }
  softmax(s, state);
  if (!anyMask && !scored() && !storage.isF32()) {
    accumulate(s, state, stage); // the only dead keys are past the end, where V is 0
    return;
  }
  Value exact = nonFinite(stage, scored() || storage.isF32() ? e.yes() : partial);
  Values before = state;
  Values acc = branch(
      e, exact,
      [&] {
        Values next = before;
        accumulateExact(s, next, stage);
        return Values(next.begin(), next.begin() + accCount());
      },
      [&] {
        Values same(before.begin(), before.begin() + accCount());
        auto products = [&] {
          Values next = before;
          accumulate(s, next, stage);
          return Values(next.begin(), next.begin() + accCount());
        };
        return alive ? branch(e, alive, products, [&] { return same; }) : products();
      });
  llvm::copy(acc, state.begin());
}

//===--- State and results ------------------------------------------------===//

/// Rows of the workspace: those of all heads, for each split.
Value GpuKernel::allRows() { return e.mul(e.mul(e.mul(slot(0), heads), nq), e.wide(splits)); }

/// The number of a query's row among them.
Value GpuKernel::rowNumber(Value head, Value row, Value inSplit) {
  Value number = e.add(e.mul(e.add(e.mul(b, heads), head), nq), e.wide(row));
  return e.add(number, e.mul(e.wide(inSplit), e.mul(e.mul(slot(0), heads), nq)));
}

/// Address of acc[row, column] in the workspace.
Value GpuKernel::stateAddress(Value number, Value column) {
  Value at = e.add(e.mul(number, sig.dv), e.wide(column));
  return e.add(slot(header::kMemory), e.mul(at, 4));
}

/// Address of m (0) or l (1) of a row, behind the accumulators; blocks that share a row by columns have their own.
Value GpuKernel::momentAddress(Value number, Value inChunk, int64_t which) {
  Value all = allRows();
  Value at = e.add(e.mul(e.add(e.mul(e.wide(inChunk), 2), which), all), number);
  return e.add(slot(header::kMemory), e.mul(e.add(e.mul(all, sig.dv), at), 4));
}

static Value threadRow(WarpEmitter &e, Value warp, Value group8, int64_t half) {
  return e.add(e.add(e.shl(warp, 4), group8), 8 * half);
}

/// Head of one of this thread's two rows (i64).
Value GpuKernel::headOfRow(int64_t half) {
  if (!packs) {
    return h;
  }
  return e.add(h, e.wide(e.loadShared(e.i32, e.add(e.shl(threadRow(e, warp, group8, half), 2), sHead), 4)));
}

/// Accumulators of one of this thread's two rows, with their columns less that of the quad and of the chunk.
void GpuKernel::forEachPlace(int64_t half, llvm::function_ref<void(int64_t n, int64_t column)> body) {
  for (int64_t n = 0; n < accCount(); ++n) {
    if ((n / 2) % 2 == half) {
      body(n, (n / 4) * 8 + n % 2);
    }
  }
}

Value GpuKernel::pairOf(Value x, Value y) {
  Value v = LLVM::PoisonOp::create(e.b, e.loc, VectorType::get({2}, e.f32));
  v = LLVM::InsertElementOp::create(e.b, e.loc, v, x, e.k(0));
  return LLVM::InsertElementOp::create(e.b, e.loc, v, y, e.k(1));
}

Value GpuKernel::readState(Value address, Type type, unsigned align) {
  return LLVM::LoadOp::create(e.b, e.loc, type, e.toGlobal(address), align);
}

/// acc of one of this thread's rows from the workspace, in forEachPlace's order.
Values GpuKernel::loadAccumulators(int64_t half, Value number) {
  Values out;
  int64_t width = stateWidth();
  forEachPlace(half, [&](int64_t n, int64_t column) {
    if (width == 2 && n % 2 == 1) {
      return; // came with the one before
    }
    // A column that does not exist repeats the last one; it is never stored.
    Value at = e.add(e.add(e.shl(quad, 1), column), e.mul(chunk, shape.columns));
    at = shape.chunks * shape.columns > sig.dv ? e.min(at, e.k(sig.dv - width)) : at;
    Type type = width == 2 ? Type(VectorType::get({2}, e.f32)) : Type(e.f32);
    Value v = readState(stateAddress(number, at), type, unsigned(4 * width));
    for (int64_t c = 0; c < width; ++c) {
      out.push_back(width == 1 ? v : LLVM::ExtractElementOp::create(e.b, e.loc, v, e.k(c)).getResult());
    }
  });
  return out;
}

/// Row of one of this thread's two, below zero for none, and its number in the workspace.
std::pair<Value, Value> GpuKernel::stateRow(int64_t half) {
  Value row = e.loadShared(e.i32, e.add(e.shl(threadRow(e, warp, group8, half), 2), sRow), 4);
  return {row, rowNumber(headOfRow(half), row, split)};
}

Values GpuKernel::initialState(bool withAccumulators) {
  if (fused) {
    scaleConstant = scaleOf(0, true);
  }
  Values state(accCount(), e.f(0.0));
  state.append({e.f(-kInfinity), e.f(-kInfinity), e.f(0.0), e.f(0.0)});
  if (!loadsState) {
    return state;
  }
  auto eachAcc = [&](int64_t half, llvm::function_ref<void(int64_t n)> body) {
    if (withAccumulators) {
      forEachPlace(half, [&](int64_t n, int64_t) { body(n); });
    }
  };
  for (int64_t half : {0, 1}) {
    auto [row, at] = stateRow(half);
    Value number = at;
    Values before;
    eachAcc(half, [&](int64_t n) { before.push_back(state[n]); });
    before.append({state[accCount() + half], state[accCount() + 2 + half]});
    SmallVector<Type> types(before.size(), e.f32);
    Values loaded = e.ifElse(
        e.ge(row, e.k(0)), types,
        [&] {
          Values out = withAccumulators ? loadAccumulators(half, number) : Values();
          out.push_back(readState(momentAddress(number, chunk, 0), e.f32, 4));
          // l is a sum over the quad's threads: one of them takes it.
          Value l = readState(momentAddress(number, chunk, 1), e.f32, 4);
          out.push_back(e.select(e.eq(quad, 0), l, e.f(0.0)));
          return out;
        },
        [&] { return before; });
    size_t next = 0;
    eachAcc(half, [&](int64_t n) { state[n] = loaded[next++]; });
    state[accCount() + half] = loaded[next];
    state[accCount() + 2 + half] = loaded[next + 1];
  }
  return state;
}

/// acc += acc of the workspace * 2^(m of the workspace - m), for a state that began without it.
void GpuKernel::addAccumulators(Values &state) {
  for (int64_t half : {0, 1}) {
    auto [row, at] = stateRow(half);
    Value number = at, m = state[accCount() + half];
    Values before;
    forEachPlace(half, [&](int64_t n, int64_t) { before.push_back(state[n]); });
    SmallVector<Type> types(before.size(), e.f32);
    Values sums = e.ifElse(
        e.ge(row, e.k(0)), types,
        [&] {
          Value factor = e.f(1.0);
          if (softmaxed()) {
            Value old = readState(momentAddress(number, chunk, 0), e.f32, 4), shift = e.sub(old, m);
            Value none = e.cmp(arith::CmpFPredicate::OEQ, old, e.f(-kInfinity));
            factor = e.select(none, e.f(0.0), e.exp2Fast(fused ? e.mul(shift, scaleConstant) : shift));
          }
          Values out = loadAccumulators(half, number);
          for (auto [v, own] : llvm::zip(out, before)) {
            v = e.fma(v, factor, own);
          }
          return out;
        },
        [&] { return before; });
    size_t next = 0;
    forEachPlace(half, [&](int64_t n, int64_t) { state[n] = sums[next++]; });
  }
}

/// l of a row from the partial sums of its four threads.
static Value quadSum(WarpEmitter &e, Value l) {
  l = e.add(l, e.shuffleXor(l, 1));
  return e.add(l, e.shuffleXor(l, 2));
}

void GpuKernel::storeState(const Values &state) {
  for (int64_t half : {0, 1}) {
    Value row = e.loadShared(e.i32, e.add(e.shl(threadRow(e, warp, group8, half), 2), sRow), 4);
    Value there = e.ge(row, e.k(0)), l = quadSum(e, state[accCount() + 2 + half]);
    Value number = rowNumber(headOfRow(half), row, split);
    e.ifThen(there, [&] {
      int64_t width = stateWidth();
      bool padded = shape.chunks * shape.columns > sig.dv;
      forEachPlace(half, [&](int64_t n, int64_t at) {
        if (width == 2 && n % 2 == 1) {
          return; // goes with the one before
        }
        Value column = e.add(e.add(e.shl(quad, 1), at), e.mul(chunk, shape.columns));
        Value v = width == 2 ? pairOf(state[n], state[n + 1]) : state[n];
        auto store = [&] {
          LLVM::StoreOp::create(e.b, e.loc, v, e.toGlobal(stateAddress(number, column)), unsigned(4 * width));
        };
        if (padded) {
          e.ifThen(e.lt(column, sig.dv), store);
        } else {
          store();
        }
      });
      e.ifThen(e.eq(quad, 0), [&] {
        LLVM::StoreOp::create(e.b, e.loc, state[accCount() + half], e.toGlobal(momentAddress(number, chunk, 0)), 4u);
        LLVM::StoreOp::create(e.b, e.loc, l, e.toGlobal(momentAddress(number, chunk, 1)), 4u);
      });
    });
  }
}

/// What acc is multiplied by, and lse: a sink joins the sum here.
Value GpuKernel::finishFactor(Value head, Value &m, Value &l, Value &lse) {
  if (sig.attend.getNormalizer() == attn::Normalizer::None) {
    return e.f(1.0);
  }
  Value zero = e.f(0.0);
  Value dead = e.cmp(arith::CmpFPredicate::OEQ, l, zero);
  Value top = m, scaled = e.f(1.0);
  if (fused) {
    // m counts in units of the scale; -inf stays.
    top = e.mul(m, scaleConstant);
    m = top;
  }
  if (sig.sink >= 0) {
    int64_t record = sig.argSlot(sig.sink);
    Value address = e.toGlobal(e.add(slot(record), e.mul(e.mul(head, slot(record + 5)), 4)));
    Value sink = e.mul(LLVM::LoadOp::create(e.b, e.loc, e.f32, address, 4u), e.f(kLog2E));
    top = e.max(sink, m);
    Value safe = e.select(e.cmp(arith::CmpFPredicate::OEQ, top, e.f(-kInfinity)), zero, top);
    scaled = e.exp2Fast(e.sub(m, safe));
    l = e.add(e.mul(l, scaled), e.exp2Fast(e.sub(sink, safe)));
  }
  if (sig.lse >= 0) {
    Value log = e.add(top, e.log2Fast(l));
    lse = e.select(dead, e.f(-kInfinity), e.mul(log, e.f(kLn2)));
  }
  return e.select(dead, zero, arith::DivFOp::create(e.b, e.loc, scaled, l));
}

void GpuKernel::storeLse(Value head, Value row, Value lse) {
  int64_t record = sig.resultSlot(sig.lse);
  Value base = slot(record);
  e.ifThen(e.cmp(arith::CmpIPredicate::ne, base, e.c(0)), [&] {
    Value offset =
        e.add(e.add(e.mul(b, slot(record + 5)), e.mul(head, slot(record + 6))), e.mul(e.wide(row), slot(record + 7)));
    LLVM::StoreOp::create(e.b, e.loc, lse, e.toGlobal(e.add(base, e.mul(offset, 4))), 4u);
  });
}

void GpuKernel::finish(Values state) {
  shareRows();
  for (int64_t half : {0, 1}) {
    Value local = threadRow(e, warp, group8, half);
    Value row = e.loadShared(e.i32, e.add(e.shl(local, 2), sRow), 4);
    Value m = state[accCount() + half], l = quadSum(e, state[accCount() + 2 + half]), lse;
    Value head = headOfRow(half), factor = finishFactor(head, m, l, lse);
    e.ifThen(e.ge(row, e.k(0)), [&] {
      for (int64_t n = 0; n < accCount(); n += 4) {
        Value x = e.mul(state[n + 2 * half], factor), y = e.mul(state[n + 2 * half + 1], factor);
        if (storage.isF32()) {
          Value unit = e.add(e.shr(quad, 1), n / 2);
          e.storeShared(pairOf(x, y), e.add(sharedUnit(local, unit), e.shl(e.bitAnd(quad, 1), 3)), 8);
        } else {
          e.storeShared(e.pack(storage, x, y), e.add(sharedUnit(local, e.k(n / 4)), e.shl(quad, 2)), 4);
        }
      }
      if (lse) {
        e.ifThen(e.both(e.eq(quad, 0), e.eq(chunk, 0)), [&] { storeLse(head, row, lse); });
      }
    });
  }
  NVVM::SyncWarpOp::create(e.b, e.loc, e.k(-1));
  storeRows();
}

void GpuKernel::shareRows() { e.barrier(); }

Value GpuKernel::sharedUnit(Value row, Value unit) {
  return e.add(e.add(e.mul(row, sharedPitch(shape.columns, bytes)), e.shl(unit, 4)), 0);
}

/// The warp's rows from shared memory: 16 bytes a thread where addresses allow it, else element by element.
void GpuKernel::storeRows() {
  Rows out = rowsOf(sig.resultSlot(sig.out), false, sig.dv);
  Value first = e.mul(chunk, shape.columns), columns = e.min(e.sub(e.k(sig.dv), first), e.k(shape.columns));
  Value base = e.add(out.base, e.mul(e.wide(first), out.element));
  auto each = [&](int64_t perRow, int64_t unroll, llvm::function_ref<void(Value, Value, Value, Value)> body) {
    auto one = [&](Value c) {
      Value local = e.add(e.shl(warp, 4), e.divu(c, perRow)), at = e.shl(local, 2);
      Value number = e.loadShared(e.i32, e.add(at, sRow), 4), offset = e.mul(e.wide(number), out.stride);
      if (packs) {
        offset = e.add(offset, e.mul(e.wide(e.loadShared(e.i32, e.add(at, sHead), 4)), out.head));
      }
      body(local, e.remu(c, perRow), number, e.add(base, offset));
    };
    int64_t total = 16 * perRow, step = 32 * unroll;
    if (total <= step) {
      for (int64_t n = 0; n < total; n += 32) {
        one(e.add(lane, n));
      }
      return;
    }
    loop(lane, e.k(total), step, {}, [&](Value c, ValueRange) {
      for (int64_t n = 0; n < unroll; ++n) {
        one(e.add(c, 32 * n));
      }
      return Values{};
    });
  };
  auto wide = [&] {
    // The columns that exist are whole units, also those of a part of them. At most 512 bytes a row: no loop, whose
    // pointers would take registers beside the accumulators.
    each(shape.columns * bytes / 16, 16, [&](Value local, Value unit, Value number, Value row) {
      Value there = e.both(e.ge(number, e.k(0)), e.lt(e.shl(unit, 4), e.mul(columns, bytes)));
      e.ifThen(there, [&] {
        Type four = VectorType::get({4}, e.i32);
        Value v = e.loadShared(four, sharedUnit(local, unit), 16);
        LLVM::StoreOp::create(e.b, e.loc, v, e.toGlobal(e.add(row, e.wide(e.shl(unit, 4)))), 16u);
      });
    });
  };
  auto single = [&] {
    Type element = storage.isF32() ? e.i32 : e.i16;
    int64_t perUnit = 16 / bytes;
    each(shape.columns, 1, [&](Value local, Value column, Value number, Value row) {
      e.ifThen(e.both(e.ge(number, e.k(0)), e.lt(column, columns)), [&] {
        Value within = e.mul(e.remu(column, perUnit), bytes);
        Value v = e.loadShared(element, e.add(sharedUnit(local, e.divu(column, perUnit)), within), unsigned(bytes));
        Value at = e.toGlobal(e.add(row, e.mul(e.wide(column), out.element)));
        LLVM::StoreOp::create(e.b, e.loc, v, at, unsigned(bytes));
      });
    });
  };
  if (sig.dv * bytes % 16 != 0) {
    single();
    return;
  }
  e.ifElse(out.aligned, wide, single);
}

/// m = max m_s;  l = sum l_s 2^(m_s - m);  acc likewise, over the splits s in order.
void GpuKernel::emitMerge(LLVM::LLVMFuncOp function) {
  OpBuilder &builder = e.b;
  builder.setInsertionPointToStart(function.addEntryBlock(builder));
  args = function.getArgument(0);
  tid = e.threadId();
  heads = slot(1);
  nq = slot(2);
  splits = e.narrow(slot(header::kSplits));
  Value x = e.wide(e.blockId()), all = e.divu(x, nq), row = e.narrow(e.sub(x, e.mul(all, nq)));
  b = e.divu(all, heads);
  h = e.sub(all, e.mul(b, heads));
  if (fused) {
    scaleConstant = scaleOf(0, true);
  }
  auto load = [&](Value address) {
    return LLVM::LoadOp::create(e.b, e.loc, e.f32, e.toGlobal(address), 4u).getResult();
  };
  Rows out = rowsOf(sig.resultSlot(sig.out), false, sig.dv);
  for (int64_t part = 0; part < shape.chunks; ++part) {
    Value own = e.k(part);
    Value m = loop(e.k(0), splits, 1, {e.f(-kInfinity)}, [&](Value s, ValueRange top) {
      return Values{e.maxNum(top[0], load(momentAddress(rowNumber(h, row, s), own, 0)))};
    })[0];
    Value none = e.cmp(arith::CmpFPredicate::OEQ, m, e.f(-kInfinity)), shift = e.select(none, e.f(0.0), m);
    // A split without live keys has no weight, whatever else.
    auto weight = [&](Value s) -> Value {
      if (!softmaxed()) {
        return e.f(1.0);
      }
      Value difference = e.sub(load(momentAddress(rowNumber(h, row, s), own, 0)), shift);
      return e.exp2Fast(fused ? e.mul(difference, scaleConstant) : difference);
    };
    Value l = loop(e.k(0), splits, 1, {e.f(0.0)}, [&](Value s, ValueRange sum) {
      return Values{e.fma(load(momentAddress(rowNumber(h, row, s), own, 1)), weight(s), sum[0])};
    })[0];
    Value lse, factor = finishFactor(h, m, l, lse);
    int64_t first = part * shape.columns, last = std::min(sig.dv, first + shape.columns);
    loop(e.add(tid, first), e.k(last), kMergeThreads, {}, [&](Value column, ValueRange) {
      Value sum = loop(e.k(0), splits, 1, {e.f(0.0)}, [&](Value s, ValueRange acc) {
        return Values{e.fma(load(stateAddress(rowNumber(h, row, s), column)), weight(s), acc[0])};
      })[0];
      Value v = e.mul(sum, factor);
      v = storage.isF32() ? v : arith::TruncFOp::create(e.b, e.loc, storage, v).getResult();
      Value address = e.add(e.add(out.base, e.mul(e.wide(row), out.stride)), e.mul(e.wide(column), out.element));
      LLVM::StoreOp::create(e.b, e.loc, v, e.toGlobal(address), unsigned(bytes));
      return Values{};
    });
    if (lse && part == 0) {
      e.ifThen(e.eq(tid, 0), [&] { storeLse(h, row, lse); });
    }
  }
  LLVM::ReturnOp::create(e.b, e.loc, ValueRange{});
}

} // namespace heddle
