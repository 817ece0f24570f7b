//===- LowerLinearAttend.cpp - attn.linear_attend as a kernel -------------===//
//
// A task takes one key head and up to 64 columns of v; its state, S [D, 64] and
// z [D], lies in scratch. Causal: a scan over chunks of 16 rows, in which
//   A   = phi(Q) phi(K)^T exp(G_i - G_j), j <= i  inside of the chunk
//   O   = exp(G_i) phi(Q) S + A V
//   S   = exp(G_C) S + phi(K)^T exp(G_C - G_j) V
// and z alike, with a v of ones; G is from the chunk's start. Rows of A below the
// diagonal are computed in bands. All keys: first S, then O = phi(Q) S. A sum of
// weights divides rows of phi(Q) and A, so that O is written once.
//
// Where each of the D channels has a decay of its own, A is no product of matrices
// whose factors stay finite. It is computed for queries on lanes, channel by
// channel, from the last key to the first, while a register X [i] goes along:
//   X   = phi(q_ic);   A_j += X phi(k_jc),  X_i *= exp(g_jc) for i >= j
// The rest is as above with factors for each channel, products of exp(g) and never
// differences of G. On a GPU the state walks row by row,
//   S   = diag(exp(g_i)) S + phi(k_i) v_i^T,   o_i = phi(q_i) S
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"
#include "passes/Transpose.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;

namespace heddle {

namespace {
class LinearAttend {
public:
  LinearAttend(attn::LinearAttendOp op, OpKernel &k)
      : op(op), k(k), byChannel(hasChannels(op)), byRows(byChannel && k.gpu), kChunk(k.tile(byChannel ? k.target.width
                                                                                            : op.getCausal() ? 16
                                                                                                             : 64,
                                                                                            32)),
        kCols(k.tile(64, 32)) {}
  void emit();

private:
  static bool hasChannels(attn::LinearAttendOp op) {
    return op.getDecay() && cast<RankedTensorType>(op.getDecay().getType()).getRank() == 4;
  }
  void describe();
  void loadState();
  void storeState();
  void ask(const TensorView &x, Value from, Value r, int64_t count);
  void stageKeys(Value n, Value rows);
  void stageQueries(Value n, Value rows, Value head);
  void transpose(Value from, Value to, Value rows);
  void sumDecay(Value n, Value rows);
  void stageDecay(Value n, Value rows);
  void chainDecay(Value rows);
  void pairsByChannel(int64_t count);
  void insideByChannel(Value rows);
  void advance(Value r);
  void advanceSum(Value r);
  void scaleKeys(Value rows);
  void addUpKeys(Value rows, Value kept);
  void addUp(Value rows);
  void inside(Value rows);
  Value areFinite(Value rows);
  void addPairs(Value out, Value stride, Value rows);
  void finish(Value n, Value rows, Value head);
  void forHeads(llvm::function_ref<void(Value)> body);
  void forBands(Value rows, llvm::function_ref<void(Value, Value, Value)> body);
  /// buffer[row][c] *= factor for c < count.
  void scaleRow(Value buffer, Value row, int64_t width, Value count, Value factor);
  Value rowOf(Value buffer, Value row, int64_t width) { return k.at(buffer, k.mul(row, width * 4)); }
  Value exp(Value x) { return math::ExpOp::create(k.b, k.loc, x); }
  Value number(Value buffer, Value row) { return k.load(k.f32, k.at(buffer, k.mul(row, 4)), 4); }
  Value zero(bool vector) { return k.constant(vector ? Type(k.vec(k.f32)) : k.f32, 0.0); }

  attn::LinearAttendOp op;
  OpKernel &k;
  const bool byChannel; ///< each channel has a decay of its own
  const bool byRows;    ///< the state walks row by row
  /// Rows of a chunk; columns of a task. A scan multiplies pairs inside of its chunks as well, which is less work the
  /// shorter they are; the state has to be read and written for each.
  const int64_t kChunk, kCols;
  int64_t d = 0, depth = 0; ///< D, also in whole registers
  bool causal = false, decayed = false, normalized = false;
  TensorView q, key, v, g, y;
  Value b, h, col, cols, wide, group;               ///< `wide`: the task's columns in whole registers
  Value S, Z, KT, K, Q, V, O, A, G, P, sums, norms; ///< KT: keys (by channel: queries) as columns; G, P: see stageDecay
  Value finite;                                     ///< all values of a chunk are
  Value keysInPlace, keys, keyStride;               ///< k's rows are read where they lie, or from K
  Value valuesInPlace, values, valueStride;         ///< v's, or from V
};
} // namespace

void LinearAttend::describe() {
  Value atQ = op.getQ(), atK = op.getK(), atV = op.getV();
  AffineExpr B = k.sizeOf(atQ, 0), Hq = k.sizeOf(atQ, 1), Nq = k.sizeOf(atQ, 2), D = k.sizeOf(atQ, 3);
  AffineExpr H = k.sizeOf(atK, 1), Nk = k.sizeOf(atK, 2), Dv = k.sizeOf(atV, 3);
  k.expectOf(atK, 0, B);
  k.expectDividesOf(atK, 1, Hq);
  k.expectOf(atK, 3, D);
  if (causal) {
    k.expectOf(atK, 2, Nq);
  }
  k.expectOf(atV, 0, B);
  k.expectOf(atV, 1, H);
  k.expectOf(atV, 2, Nk);
  if (decayed) {
    k.expectOf(op.getDecay(), 0, B);
    k.expectOf(op.getDecay(), 1, H);
    k.expectOf(op.getDecay(), 2, Nk);
    if (byChannel) {
      k.expectOf(op.getDecay(), 3, k.sizeOf(atK, 3));
    }
  }
  AffineExpr state[] = {B, H, D, Dv};
  for (auto [n, value] : llvm::enumerate(op.getStates())) {
    for (int64_t axis = 0; axis < (n == 0 ? 4 : 3); ++axis) {
      k.expect(OpKernel::numberOf(value), axis, state[axis]);
    }
  }
  k.result({B, Hq, Nq, Dv});
  for (size_t n = 0; n < op.getNewStates().size(); ++n) {
    k.result(ArrayRef(state).take_front(n == 0 ? 4 : 3));
  }
  k.launch(B * H * Dv.ceilDiv(kCols), B * (Hq * Nq + H * Nk) * D * Dv);
  q = k.operand(atQ);
  key = k.operand(atK);
  v = k.operand(atV);
  if (decayed) {
    g = k.operand(op.getDecay());
  }
  y = k.resultView(0);
}

/// S from the state before, or zeros.
void LinearAttend::loadState() {
  k.fillZero(Z, k.c(depth * 4));
  if (op.getStates().empty()) {
    k.fillZero(S, k.c(depth * kCols * 4));
    return;
  }
  TensorView s = k.argument(OpKernel::numberOf(op.getStates()[0]));
  k.stage(S, k.c(kCols * 4), k.address(s, {b, h, k.c(0), col}), s.stride[2], s.stride[3], k.c(d), cols, s.type);
  if (normalized) {
    TensorView z = k.argument(OpKernel::numberOf(op.getStates()[1]));
    k.stage(Z, k.c(depth * 4), k.address(z, {b, h}), k.c(0), z.stride[2], k.c(1), k.c(d), z.type);
  }
}

void LinearAttend::storeState() {
  if (op.getNewStates().empty()) {
    return;
  }
  TensorView s = k.resultView(1);
  k.unstage(k.address(s, {b, h, k.c(0), col}), s.stride[2], s.stride[3], S, k.c(kCols * 4), k.c(d), cols, s.type);
  if (normalized) {
    TensorView z = k.resultView(2);
    k.ifThen(k.eq(col, k.c(0)),
             [&] { k.unstage(k.address(z, {b, h}), k.c(0), z.stride[2], Z, k.c(depth * 4), k.c(1), k.c(d), z.type); });
  }
}

/// Asks for the rows of the next chunk, behind row `r` of this one, which begins at `from`.
void LinearAttend::ask(const TensorView &x, Value from, Value r, int64_t count) {
  if (x.glue) {
    return;
  }
  k.prefetch(k.at2(from, k.add(r, kChunk), x.stride[2]), count * x.bytes, 2);
}

void LinearAttend::stageKeys(Value n, Value rows) {
  Value from = key.glue ? K : k.address(key, {b, h, n}), fromV = v.glue ? V : k.address(v, {b, h, n, col});
  auto beside = [&](Value r) {
    ask(key, from, r, d);
    ask(v, fromV, r, kCols);
  };
  keys = K;
  keyStride = k.c(depth * 4);
  auto stageK = [&] {
    k.stage({{K, k.c(depth * 4), &key}}, {b, h}, n, 1, k.c(0), rows, k.c(d), {nullptr, &op.getFeature(), beside});
  };
  if (key.glue) {
    stageK();
  } else {
    keys = k.select(keysInPlace, from, K);
    keyStride = k.select(keysInPlace, key.stride[2], keyStride);
    k.ifThen(k.flip(keysInPlace), stageK);
  }
  values = V;
  valueStride = k.c(kCols * 4);
  auto stageV = [&] { k.stage({{V, k.c(kCols * 4), &v}}, {b, h}, n, 1, col, rows, cols); };
  if (v.glue) {
    stageV();
  } else {
    values = k.select(valuesInPlace, fromV, V);
    valueStride = k.select(valuesInPlace, v.stride[2], valueStride);
    k.ifThen(k.flip(valuesInPlace), stageV);
  }
}

void LinearAttend::stageQueries(Value n, Value rows, Value head) {
  Value from = q.glue ? Q : k.address(q, {b, head, n}), to = k.address(y, {b, head, n, col});
  auto beside = [&](Value r) {
    ask(q, from, r, d);
    ask(y, to, r, kCols);
  };
  k.stage({{Q, k.c(depth * 4), &q}}, {b, head}, n, 1, k.c(0), rows, k.c(d), {nullptr, &op.getFeature(), beside});
}

/// to[d][j] = from[j][d]; what is past the rows meets no live pair.
void LinearAttend::transpose(Value from, Value to, Value rows) {
  if (k.gpu) {
    k.rows(k.c(0), k.c(d), [&](Value c) {
      k.lanes(rows, [&](Value j) {
        k.store(k.load(k.f32, k.at(rowOf(from, j, depth), k.mul(c, 4)), 4), k.at(rowOf(to, c, kChunk), k.mul(j, 4)), 4);
      });
    });
    return;
  }
  int64_t vl = k.target.width;
  k.loop(k.c(0), k.c(depth), vl, [&](Value c) {
    k.loop(k.c(0), k.padded(rows), vl, [&](Value j) {
      Emitter::Values square;
      for (int64_t n = 0; n < vl; ++n) {
        square.push_back(k.loadRow(k.at(rowOf(from, k.add(j, n), depth), k.mul(c, 4))));
      }
      transposeSquare(k, square);
      for (int64_t n = 0; n < vl; ++n) {
        k.store(square[n], k.at(rowOf(to, k.add(c, n), kChunk), k.mul(j, 4)), 4);
      }
    });
  });
}

/// exp(kNothing) is 0 in f32.
static constexpr double kNothing = -110;

/// G from the chunk's start; past the rows it is not read by live pairs.
void LinearAttend::sumDecay(Value n, Value rows) {
  k.fillZero(sums, k.c(kChunk * 4));
  k.alone([&] {
    k.loop(k.c(0), rows, 1, ValueRange{zero(false)}, [&](Value r, ValueRange sum) {
      // A state that is dropped (-inf) leaves finite differences.
      Value next = k.add(sum[0], k.max(k.constant(k.f32, kNothing), k.read(g, {b, h, k.add(n, r)}, false)));
      k.store(next, k.at(sums, k.mul(r, 4)), 4);
      return Emitter::Values{next};
    });
  });
}

/// G[r] = exp(g_r), channel by channel
void LinearAttend::stageDecay(Value n, Value rows) {
  k.stage({{G, k.c(depth * 4), &g}}, {b, h}, n, 1, k.c(0), rows, k.c(d));
  k.rows(k.c(0), rows, [&](Value r) {
    k.lanes(k.c(depth), [&](Value c) {
      Value at = k.at(rowOf(G, r, depth), k.mul(c, 4));
      k.store(exp(k.loadRow(at)), at, 4);
    });
  });
}

/// P[r] = G[0] ... G[r]
void LinearAttend::chainDecay(Value rows) {
  k.lanes(k.c(depth), [&](Value c) {
    Value one = k.splat(k.constant(k.f32, 1.0)), there = k.mul(c, 4);
    k.loop(k.c(0), rows, 1, ValueRange{one}, [&](Value r, ValueRange before) {
      Value next = k.mul(before[0], k.loadRow(k.at(rowOf(G, r, depth), there)));
      k.store(next, k.at(rowOf(P, r, depth), there), 4);
      return Emitter::Values{next};
    });
  });
}

/// A of a chunk of at most `count` rows: lane i has query i. Lanes before key j hold what is no pair.
void LinearAttend::pairsByChannel(int64_t count) {
  const int64_t vl = k.target.width;
  Value lane = k.iota();
  Emitter::Values all(count, k.splat(zero(false)));
  all = k.loop(k.c(0), k.c(d), 1, all, [&](Value c, ValueRange before) {
    Emitter::Values sums(before.begin(), before.end());
    Value x = k.loadRow(rowOf(KT, c, kChunk)), there = k.mul(c, 4);
    for (int64_t j = count - 1; j >= 0; --j) {
      sums[j] = k.fma(x, k.splat(number(rowOf(K, k.c(j), depth), c)), sums[j]);
      Value decay = k.splat(k.load(k.f32, k.at(rowOf(G, k.c(j), depth), there), 4));
      x = k.select(k.ge(lane, k.splat(k.c(j))), k.mul(x, decay), x);
    }
    return sums;
  });
  all.resize(vl, k.splat(zero(false)));
  transposeSquare(k, all);
  for (int64_t i = 0; i < count; ++i) {
    Value live = k.le(lane, k.splat(k.c(i)));
    k.store(k.select(live, all[i], k.splat(zero(false))), rowOf(A, k.c(i), kChunk), 4);
  }
}

/// A = sum over c of phi(q_ic) phi(k_jc) exp(G_ic - G_jc), j <= i; Q = exp(G) phi(Q)
void LinearAttend::insideByChannel(Value rows) {
  constexpr int64_t kFewRows = 4; // decoding: the same sums, without the keys that are not there
  transpose(Q, KT, rows);
  k.ifElse(k.le(rows, k.c(kFewRows)), [&] { pairsByChannel(kFewRows); }, [&] { pairsByChannel(kChunk); });
  k.rows(k.c(0), rows, [&](Value r) {
    k.lanes(k.c(depth), [&](Value c) {
      Value at = k.at(rowOf(Q, r, depth), k.mul(c, 4));
      k.store(k.mul(k.loadRow(at), k.loadRow(k.at(rowOf(P, r, depth), k.mul(c, 4)))), at, 4);
    });
  });
}

/// S = diag(G[r]) S + K[r] V[r]^T
void LinearAttend::advance(Value r) {
  Value kept = rowOf(G, r, depth), key = rowOf(K, r, depth), row = k.at2(values, r, valueStride);
  Value always = k.constant(k.i1, int64_t(1));
  k.rows(k.c(0), k.c(d), [&](Value c) {
    Value decay = number(kept, c), weight = number(key, c);
    k.columns(wide, always, 4, [&](ArrayRef<Value> some, bool vector) {
      for (Value e : some) {
        Type type = vector ? Type(k.vec(k.f32)) : k.f32;
        Value at = k.at(rowOf(S, c, kCols), k.mul(e, 4));
        Value old = k.mul(vector ? k.splat(decay) : decay, k.load(type, at, 4));
        k.store(k.fma(vector ? k.splat(weight) : weight, k.load(type, k.at(row, k.mul(e, 4)), 4), old), at, 4);
      }
    });
  });
}

/// z = diag(G[r]) z + K[r]
void LinearAttend::advanceSum(Value r) {
  k.lanes(k.c(depth), [&](Value c) {
    Value at = k.at(Z, k.mul(c, 4)), there = k.mul(c, 4);
    k.store(
        k.fma(k.loadRow(k.at(rowOf(G, r, depth), there)), k.loadRow(at), k.loadRow(k.at(rowOf(K, r, depth), there))),
        at, 4);
  });
  k.barrier();
}

void LinearAttend::scaleRow(Value buffer, Value row, int64_t width, Value count, Value factor) {
  factor = k.splat(factor);
  k.lanes(count, [&](Value c) {
    Value at = k.at(rowOf(buffer, row, width), k.mul(c, 4));
    k.store(k.mul(k.loadRow(at), factor), at, 4);
  });
}

/// S = exp(G_C) S + phi(K)^T exp(G_C - G_j) V, and z alike
void LinearAttend::addUp(Value rows) {
  auto add = [&] { k.multiply(S, k.c(kCols * 4), keys, k.c(4), keyStride, values, valueStride, k.c(d), rows, wide); };
  Value kept;
  if (byChannel) {
    kept = rowOf(P, k.sub(rows, k.c(1)), depth);
    auto scaleAndAdd = [&] {
      k.rows(k.c(0), k.c(d), [&](Value r) { scaleRow(S, r, kCols, wide, number(kept, r)); });
      scaleKeys(rows);
      add();
    };
    // Decoding reads the state once less; products and sums are the same.
    k.ifElse(k.eq(rows, k.c(1)), [&] { advance(k.c(0)); }, scaleAndAdd);
  } else {
    if (decayed) {
      Value total = number(sums, k.sub(rows, k.c(1)));
      kept = exp(total);
      k.rows(k.c(0), k.c(d), [&](Value r) { scaleRow(S, r, kCols, wide, kept); });
      k.rows(k.c(0), rows, [&](Value r) { scaleRow(K, r, depth, k.c(depth), exp(k.sub(total, number(sums, r)))); });
    }
    add();
  }
  if (normalized) {
    addUpKeys(rows, kept);
  }
}

/// Keys times what comes behind them, from the last one to the first: exp(G_C - G_j) by channel
void LinearAttend::scaleKeys(Value rows) {
  k.lanes(k.c(depth), [&](Value c) {
    Value one = k.splat(k.constant(k.f32, 1.0)), there = k.mul(c, 4);
    k.loop(k.c(0), rows, 1, ValueRange{one}, [&](Value n, ValueRange behind) {
      Value r = k.sub(k.sub(rows, n), k.c(1)), at = k.at(rowOf(K, r, depth), there);
      k.store(k.mul(k.loadRow(at), behind[0]), at, 4);
      return Emitter::Values{k.mul(behind[0], k.loadRow(k.at(rowOf(G, r, depth), there)))};
    });
  });
}

/// z = kept z + sum of the keys
void LinearAttend::addUpKeys(Value rows, Value kept) {
  k.columns(k.c(depth), k.constant(k.i1, int64_t(1)), 4, [&](ArrayRef<Value> some, bool vector) {
    Emitter::Values sums;
    for (Value c : some) {
      Type type = vector ? Type(k.vec(k.f32)) : k.f32;
      Value old = k.load(type, k.at(Z, k.mul(c, 4)), 4);
      if (byChannel) {
        old = k.mul(old, k.load(type, k.at(kept, k.mul(c, 4)), 4));
      } else if (decayed) {
        old = k.mul(old, vector ? k.splat(kept) : kept);
      }
      sums.push_back(old);
    }
    sums = k.loop(k.c(0), rows, 1, sums, [&](Value r, ValueRange acc) {
      Emitter::Values next;
      for (auto [c, sum] : llvm::zip(some, acc)) {
        next.push_back(k.add(sum, k.load(sum.getType(), k.at(k.at2(keys, r, keyStride), k.mul(c, 4)), 4)));
      }
      return next;
    });
    for (auto [c, sum] : llvm::zip(some, sums)) {
      k.store(sum, k.at(Z, k.mul(c, 4)), 4);
    }
  });
  k.barrier();
}

/// O += A V. Rows of a band read values behind their own with weight 0, which only finite ones allow.
void LinearAttend::addPairs(Value out, Value stride, Value rows) {
  auto add = [&](Value r, Value height) {
    k.multiply(k.at2(out, r, stride), stride, rowOf(A, r, kChunk), k.c(kChunk * 4), k.c(4), values, valueStride, height,
               k.add(r, height), wide);
  };
  auto inBands = [&] { forBands(rows, [&](Value r, Value height, Value) { add(r, height); }); };
  k.ifElse(finite, inBands, [&] { k.loop(k.c(0), rows, 1, [&](Value r) { add(r, k.c(1)); }); });
}

/// Whether all values of the chunk are finite: 0 times each adds up to 0.
Value LinearAttend::areFinite(Value rows) {
  Value none = zero(false);
  k.columns(wide, k.constant(k.i1, int64_t(1)), 4, [&](ArrayRef<Value> some, bool) {
    Emitter::Values sums(some.size(), k.splat(none));
    sums = k.loop(k.c(0), rows, 1, sums, [&](Value r, ValueRange above) {
      Emitter::Values next;
      for (auto [c, sum] : llvm::zip(some, above)) {
        next.push_back(k.fma(k.loadRow(k.at(k.at2(values, r, valueStride), k.mul(c, 4))), k.splat(none), sum));
      }
      return next;
    });
    for (auto [c, sum] : llvm::zip(some, sums)) {
      k.store(sum, k.at(O, k.mul(c, 4)), 4);
    }
  });
  k.barrier();
  Value sum = k.loop(k.c(0), wide, k.target.width, ValueRange{k.splat(none)}, [&](Value c, ValueRange before) {
    return Emitter::Values{k.add(before[0], k.loadRow(k.at(O, k.mul(c, 4))))};
  })[0];
  k.barrier();
  return k.cmp(arith::CmpFPredicate::OEQ, k.sumOfLanes(sum), none);
}

/// body(first row, rows, columns that they may see), the columns in whole registers.
void LinearAttend::forBands(Value rows, llvm::function_ref<void(Value, Value, Value)> body) {
  int64_t tall = k.gpu ? kChunk : OpKernel::kTall;
  k.loop(k.c(0), rows, tall, [&](Value r) {
    Value height = k.min(k.sub(rows, r), k.c(tall));
    body(r, height, k.padded(k.add(r, height)));
  });
}

/// A = phi(Q) phi(K)^T exp(G_i - G_j), j <= i; Q = exp(G_i) phi(Q)
void LinearAttend::inside(Value rows) {
  forBands(rows, [&](Value r, Value height, Value seen) {
    k.multiply(rowOf(A, r, kChunk), k.c(kChunk * 4), rowOf(Q, r, depth), k.c(depth * 4), k.c(4), KT, k.c(kChunk * 4),
               height, k.c(d), seen, /*fresh=*/true);
    k.rows(r, k.add(r, height), [&](Value i) {
      Value row = k.splat(i), none = k.splat(zero(false));
      k.lanes(seen, [&](Value j) {
        Value at = k.at(rowOf(A, i, kChunk), k.mul(j, 4)), x = k.loadRow(at);
        Value live = k.le(k.add(k.iota(), k.splat(j)), row);
        if (decayed) {
          // Dead pairs have a positive difference, which must not overflow.
          Value gap = k.sub(k.splat(number(sums, i)), k.loadRow(k.at(sums, k.mul(j, 4))));
          x = k.mul(x, exp(k.select(live, gap, none)));
        }
        k.store(k.select(live, x, none), at, 4);
      });
      if (decayed) {
        scaleRow(Q, i, depth, k.c(depth), exp(number(sums, i)));
      }
    });
  });
}

/// Divides rows of Q and A (where there are pairs inside of a chunk) by their sum, phi(q) . z + eps and the row of A,
/// and writes O = Q S + A V.
void LinearAttend::finish(Value n, Value rows, Value head) {
  const bool inPairs = causal && !byRows;
  if (normalized) {
    double eps = op.getEpsAttr() ? op.getEpsAttr().getValueAsDouble() : 0;
    int64_t vl = k.target.width;
    k.each(k.c(0), rows, [&](Value r) {
      Value sum = k.loop(k.c(0), k.c(depth), vl, ValueRange{k.splat(zero(false))}, [&](Value c, ValueRange sum) {
        Value at = k.mul(c, 4);
        return Emitter::Values{k.fma(k.loadRow(k.at(rowOf(Q, r, depth), at)), k.loadRow(k.at(Z, at)), sum[0])};
      })[0];
      if (inPairs) {
        sum = k.loop(k.c(0), k.padded(k.add(r, 1)), vl, ValueRange{sum}, [&](Value j, ValueRange sum) {
          return Emitter::Values{k.add(sum[0], k.loadRow(k.at(rowOf(A, r, kChunk), k.mul(j, 4))))};
        })[0];
      }
      Value below = k.add(k.sumOfLanes(sum), k.constant(k.f32, eps));
      k.store(arith::DivFOp::create(k.b, k.loc, k.constant(k.f32, 1.0), below), k.at(norms, k.mul(r, 4)), 4);
    });
    k.rows(k.c(0), rows, [&](Value r) {
      Value factor = number(norms, r);
      scaleRow(Q, r, depth, k.c(depth), factor);
      if (inPairs) {
        scaleRow(A, r, kChunk, k.padded(k.add(r, 1)), factor);
      }
    });
  }
  Value to = k.address(y, {b, head, n, col});
  Value inPlace = y.type.isF32() && !k.gpu ? k.both(k.adjacent(y), k.eq(wide, cols)) : k.constant(k.i1, int64_t(0));
  Value out = k.select(inPlace, to, O), stride = k.select(inPlace, y.stride[2], k.c(kCols * 4));
  k.multiply(out, stride, Q, k.c(depth * 4), k.c(4), S, k.c(kCols * 4), rows, k.c(d), wide, /*fresh=*/true);
  if (inPairs) {
    addPairs(out, stride, rows);
  }
  k.ifThen(k.flip(inPlace), [&] { k.unstage(to, y.stride[2], y.stride[3], O, k.c(kCols * 4), rows, cols, y.type); });
}

void LinearAttend::forHeads(llvm::function_ref<void(Value)> body) {
  k.loop(k.c(0), group, 1, [&](Value n) { body(k.add(arith::MulIOp::create(k.b, k.loc, h, group).getResult(), n)); });
}

void LinearAttend::emit() {
  causal = op.getCausal();
  decayed = static_cast<bool>(op.getDecay());
  normalized = op.getNormalizer() == attn::Normalizer::Sum;
  d = cast<RankedTensorType>(op.getK().getType()).getDimSize(3);
  if (ShapedType::isDynamic(d)) {
    d = cast<RankedTensorType>(op.getQ().getType()).getDimSize(3);
  }
  describe();
  depth = llvm::alignTo(d, k.target.width);
  Emitter::Values t = k.split(k.task, {key.size[0], key.size[1], k.ceilDiv(v.size[3], kCols)});
  b = t[0];
  h = t[1];
  col = k.mul(t[2], kCols);
  cols = k.min(k.sub(v.size[3], col), k.c(kCols));
  wide = k.padded(cols);
  group = arith::DivSIOp::create(k.b, k.loc, q.size[1], key.size[1]);
  S = k.allocate(depth * kCols * 4);
  Z = k.allocate(depth * 4);
  K = k.allocate(kChunk * depth * 4);
  KT = k.allocate(depth * kChunk * 4);
  Q = k.allocate(kChunk * depth * 4);
  V = k.allocate(kChunk * kCols * 4);
  O = k.allocate(kChunk * kCols * 4);
  A = k.allocate(kChunk * kChunk * 4);
  G = byChannel ? k.allocate(kChunk * depth * 4) : Value();
  P = byChannel && !byRows ? k.allocate(kChunk * depth * 4) : Value();
  sums = k.allocate(kChunk * 4);
  norms = k.allocate(kChunk * 4);
  valuesInPlace = v.type.isF32() && !k.gpu ? k.both(k.adjacent(v), k.eq(wide, cols)) : k.constant(k.i1, int64_t(0));
  // Keys as they are: only sums over them are wanted, and no element past a row's end is read.
  bool plain = op.getFeature().empty() && !causal && !decayed && key.type.isF32() && d == depth && !k.gpu;
  keysInPlace = plain ? k.adjacent(key) : k.constant(k.i1, int64_t(0));
  loadState();
  auto chunks = [&](Value all, llvm::function_ref<void(Value, Value)> body) {
    k.loop(k.c(0), all, kChunk, [&](Value n) { body(n, k.min(k.sub(all, n), k.c(kChunk))); });
  };
  if (byRows) {
    chunks(key.size[2], [&](Value n, Value rows) {
      stageKeys(n, rows);
      stageDecay(n, rows);
      k.loop(k.c(0), rows, 1, [&](Value r) {
        advance(r);
        if (normalized) {
          advanceSum(r);
        }
        forHeads([&](Value head) {
          stageQueries(k.add(n, r), k.c(1), head);
          finish(k.add(n, r), k.c(1), head);
        });
      });
    });
  } else if (causal) {
    chunks(key.size[2], [&](Value n, Value rows) {
      stageKeys(n, rows);
      if (byChannel) {
        stageDecay(n, rows);
        chainDecay(rows);
      } else {
        transpose(K, KT, rows);
        if (decayed) {
          sumDecay(n, rows);
        }
      }
      finite = areFinite(rows);
      forHeads([&](Value head) {
        stageQueries(n, rows, head);
        byChannel ? insideByChannel(rows) : inside(rows);
        finish(n, rows, head);
      });
      addUp(rows);
    });
  } else {
    chunks(key.size[2], [&](Value n, Value rows) {
      stageKeys(n, rows);
      addUp(rows);
    });
    forHeads([&](Value head) {
      chunks(q.size[2], [&](Value n, Value rows) {
        stageQueries(n, rows, head);
        finish(n, rows, head);
      });
    });
  }
  storeState();
}

void lowerLinearAttend(attn::LinearAttendOp op, OpKernel &kernel) { LinearAttend(op, kernel).emit(); }

} // namespace heddle
