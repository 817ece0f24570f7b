//===- TileSoftmax.cpp - P of a tile --------------------------------------===//

#include "passes/TileBody.h"

using namespace mlir;

namespace heddle {

/// Where scale * tops exceeds m by more than kSlack it becomes m, and l and acc are rescaled; else m stays, and weights
/// up to 2^kSlack are none the worse.
TileBody::Weighed TileBody::beginSoftmax(Value lane) {
  Value scores = args[0], columns = args[1], pitch = args[3], scale = args[4], tops = args[5], maxima = args[6],
        sums = args[7], acc = args[8];
  Value column = floorDiv(lane, kColumn), byte = mul(lane, 4);
  auto [first, last] = keysOf(columns, column);
  Weighed w{
      at(scores, add(mul(column, pitch), mul(floorMod(lane, kColumn), 4))), first, last, {}, {}, {}, at(sums, byte)};
  Value minusInf = constant(vec(f32), -std::numeric_limits<double>::infinity());
  Value maxAt = at(maxima, byte), oldMax = loadRow(maxAt), top = loadRow(at(tops, byte));
  if (pairs) {
    top = mul(top, splat(scale));
  }
  Value moves = cmp(arith::CmpFPredicate::OGT, top, add(oldMax, constant(vec(f32), kSlack)));
  Value newMax = select(moves, top, oldMax);
  // A row without a live key yet subtracts 0, so that 2^(-inf) = 0 and not NaN.
  w.base = select(cmp(arith::CmpFPredicate::OEQ, newMax, minusInf), constant(vec(f32), 0.0), newMax);
  w.minusBase = sub(constant(vec(f32), 0.0), w.base);
  // Keys up to the next multiple of the unrolling are dead.
  w.end = add(first, both(add(sub(last, first), kUnroll - 1), c(-kUnroll)));
  loop(last, w.end, 1, [&](Value k) { store(minusInf, at(w.s, mul(k, kRow)), 4); });
  ifThen(any(moves), [&] {
    Value alpha = exp2(sub(oldMax, w.base));
    store(mul(loadRow(w.sumAt), alpha), w.sumAt, 4);
    store(newMax, maxAt, 4);
    store(alpha, at(tops, byte), 4); // the tops are used up
    // An acc without a key yet is 0.
    Value begun = any(cmp(arith::CmpFPredicate::UNE, oldMax, minusInf));
    loop(c(0), select(begun, c(vl), c(0)), 1, [&](Value q) {
      Value a = load(f32, at(tops, add(byte, mul(q, 4))), 4);
      ifThen(cmp(arith::CmpFPredicate::UNE, a, constant(f32, 1.0)), [&] {
        Value row = at(acc, mul(add(lane, q), paddedRow(d) * 4)), all = splat(a);
        loop(c(0), c(paddedRow(d)), vl, [&](Value dim) {
          Value address = at(row, mul(dim, 4));
          store(mul(loadRow(address), all), address, 4);
        });
      });
    });
  });
  return w;
}

/// P = 2^(scale * S - m) of keys [k, k + kUnroll), added to the sums. Native: P in pairs of keys, rounded to bf16.
/// beside(n) is called after each weight.
Emitter::Values TileBody::weigh(const Weighed &w, Value k, ValueRange sums, llvm::function_ref<void(int64_t)> beside) {
  Value from = at(w.s, mul(k, kRow));
  // Over scores that were read already: key k's pair lies at half its offset.
  Value to = pairs ? at(w.s, mul(k, kRow / 2)) : from;
  Values next(sums), p;
  for (int64_t u = 0; u < kUnroll; ++u) {
    Value x = loadRow(at(from, u * kRow));
    p.push_back(exp2(pairs ? fma(x, splat(args[4]), w.minusBase) : sub(x, w.base)));
    Value &sum = next[u % next.size()];
    sum = add(sum, p[u]);
    if (!pairs) {
      store(p[u], at(to, u * kRow), 4);
    } else if (u % 2 == 1) {
      auto name = b.getStringAttr("llvm.x86.avx512bf16.cvtne2ps2bf16.512");
      Type halves = VectorType::get({2 * vl}, b.getBF16Type());
      SmallVector<int64_t> order(2 * vl);
      for (int64_t x = 0; x < 2 * vl; ++x) {
        order[x] = x / 2 + (x % 2) * vl;
      }
      Value both = LLVM::CallIntrinsicOp::create(b, loc, halves, name, ValueRange{p[u], p[u - 1]}).getResult(0);
      store(vector::ShuffleOp::create(b, loc, both, both, order), at(to, u / 2 * kRow), 4);
    }
    if (beside) {
      beside(u);
    }
  }
  return next;
}

/// l += the sums.
void TileBody::endSoftmax(const Weighed &w, ValueRange sums) {
  Value sum = sums[0];
  for (Value more : sums.drop_front()) {
    sum = add(sum, more);
  }
  store(add(loadRow(w.sumAt), sum), w.sumAt, 4);
}

void TileBody::softmax() {
  Value columns = args[1], lanes = args[2];
  loop(c(0), mul(columnCount(lanes), kColumn), vl, [&](Value lane) {
    auto [first, last] = keysOf(columns, floorDiv(lane, kColumn));
    ifThen(lt(first, last), [&] {
      Weighed w = beginSoftmax(lane);
      Values none(kSums, constant(vec(f32), 0.0));
      endSoftmax(w, loop(w.first, w.end, kUnroll, none, [&](Value k, ValueRange sums) { return weigh(w, k, sums); }));
    });
  });
}

/// l += sum over keys of S.
void TileBody::weights() {
  Value scores = args[0], columns = args[1], lanes = args[2], pitch = args[3], sums = args[4];
  loop(c(0), mul(columnCount(lanes), kColumn), vl, [&](Value lane) {
    Value column = floorDiv(lane, kColumn);
    auto [first, last] = keysOf(columns, column);
    Value s = at(scores, add(mul(column, pitch), mul(floorMod(lane, kColumn), 4))), lAt = at(sums, mul(lane, 4));
    Values sum = loop(first, last, 1, Values{loadRow(lAt)},
                      [&](Value k, ValueRange acc) { return Values{add(acc[0], loadRow(at(s, mul(k, kRow))))}; });
    store(sum[0], lAt, 4);
  });
}

} // namespace heddle
