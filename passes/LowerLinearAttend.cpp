//===- LowerLinearAttend.cpp - attn.linear_attend as a kernel -------------===//
//
// A task takes one key head and up to 64 columns of v; its state S [D, 64] lies in
// scratch, with z beside it as the column that a v of ones would give. Causal: a
// scan over chunks of 64 rows, in which
//   O   = exp(G_i) phi(Q) S                       what came before the chunk
//   A   = phi(Q) phi(K)^T exp(G_i - G_j), j <= i  inside of the chunk
//   O  += A V
//   S   = exp(G_C) S + phi(K)^T exp(G_C - G_j) V
// with G from the chunk's start. All keys: first S, then O = phi(Q) S.
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;

namespace heddle {

namespace {
class LinearAttend {
public:
  LinearAttend(attn::LinearAttendOp op, OpKernel &k) : op(op), k(k), kChunk(k.tile(64, 32)), kCols(k.tile(64, 32)) {}
  void emit();

private:
  int64_t argument(Value v) { return cast<BlockArgument>(v).getArgNumber(); }
  void describe();
  void loadState();
  void storeState();
  void stageKeys(Value n, Value rows);
  void stageQueries(Value n, Value rows, Value head);
  void applyFeature(Value rowsOf, Value rows);
  void transposeKeys(Value rows);
  void addUp(Value n, Value rows);
  void inside(Value n, Value rows);
  void finishRows(Value n, Value rows, Value head);
  void forHeads(llvm::function_ref<void(Value)> body);
  Value rowOf(Value buffer, Value row, int64_t width) { return k.at(buffer, k.mul(row, width * 4)); }
  Value exp(Value x) { return math::ExpOp::create(k.b, k.loc, x); }
  Value loadSum(Value row) { return k.load(k.f32, k.at(sums, k.mul(row, 4)), 4); }

  attn::LinearAttendOp op;
  OpKernel &k;
  const int64_t kChunk, kCols;         ///< rows of a chunk; columns of a task
  int64_t d = 0, depth = 0, width = 0; ///< D, D and the columns of S in whole registers
  bool causal = false, decayed = false, normalized = false;
  TensorView q, key, v, g, y;
  Value b, h, col, cols, group;
  Value S, KT, K, Q, V, O, A, sums, factors;
};
} // namespace

void LinearAttend::describe() {
  int64_t aq = argument(op.getQ()), ak = argument(op.getK()), av = argument(op.getV());
  AffineExpr B = k.size(aq, 0), Hq = k.size(aq, 1), H = k.size(ak, 1), Nk = k.size(ak, 2), Dv = k.size(av, 3);
  k.expect(ak, 0, B);
  k.expectDivides(ak, 1, Hq);
  k.expect(ak, 3, k.size(aq, 3));
  if (causal) {
    k.expect(ak, 2, k.size(aq, 2));
  }
  k.expect(av, 0, B);
  k.expect(av, 1, H);
  k.expect(av, 2, Nk);
  if (decayed) {
    int64_t a = argument(op.getDecay());
    k.expect(a, 0, B);
    k.expect(a, 1, H);
    k.expect(a, 2, Nk);
  }
  AffineExpr state[] = {B, H, k.size(aq, 3), Dv};
  for (auto [n, value] : llvm::enumerate(op.getStates())) {
    for (int64_t axis = 0; axis < (n == 0 ? 4 : 3); ++axis) {
      k.expect(argument(value), axis, state[axis]);
    }
  }
  k.result({B, Hq, k.size(aq, 2), Dv});
  for (size_t n = 0; n < op.getNewStates().size(); ++n) {
    k.result(ArrayRef(state).take_front(n == 0 ? 4 : 3));
  }
  k.launch(B * H * Dv.ceilDiv(kCols), B * (Hq * k.size(aq, 2) + H * Nk) * k.size(aq, 3) * Dv);
  q = k.argument(aq);
  key = k.argument(ak);
  v = k.argument(av);
  if (decayed) {
    g = k.argument(argument(op.getDecay()));
  }
  y = k.resultView(0);
}

/// S from the state before, or zeros.
void LinearAttend::loadState() {
  if (op.getStates().empty()) {
    k.fillZero(S, k.c(depth * width * 4));
    return;
  }
  TensorView s = k.argument(argument(op.getStates()[0]));
  k.fillZero(S, k.c(depth * width * 4));
  k.stage(S, k.c(width * 4), k.address(s, {b, h, k.c(0), col}), s.stride[2], s.stride[3], k.c(d), cols, s.type);
  if (normalized) {
    TensorView z = k.argument(argument(op.getStates()[1]));
    k.rows(k.c(0), k.c(d), [&](Value c) {
      k.store(k.load(k.f32, k.address(z, {b, h, c}), 4), k.at(rowOf(S, c, width), kCols * 4), 4);
    });
  }
}

void LinearAttend::storeState() {
  if (op.getNewStates().empty()) {
    return;
  }
  TensorView s = k.resultView(1);
  k.unstage(k.address(s, {b, h, k.c(0), col}), s.stride[2], s.stride[3], S, k.c(width * 4), k.c(d), cols, s.type);
  if (normalized) {
    TensorView z = k.resultView(2);
    k.ifThen(k.eq(col, k.c(0)), [&] {
      k.rows(k.c(0), k.c(d), [&](Value c) {
        k.store(k.load(k.f32, k.at(rowOf(S, c, width), kCols * 4), 4), k.address(z, {b, h, c}), 4);
      });
    });
  }
}

/// phi of the d columns of `rows` rows.
void LinearAttend::applyFeature(Value buffer, Value rows) {
  if (op.getFeature().empty()) {
    return;
  }
  k.rows(k.c(0), rows, [&](Value row) {
    Value here = rowOf(buffer, row, depth);
    k.columns(k.c(d), k.constant(k.i1, int64_t(1)), 2, [&](ArrayRef<Value> some, bool vector) {
      for (Value c : some) {
        Value at = k.at(here, k.mul(c, 4));
        Value x = k.load(vector ? Type(k.vec(k.f32)) : k.f32, at, 4);
        k.store(k.applyRegion(op.getFeature(), x), at, 4);
      }
    });
  });
}

void LinearAttend::stageKeys(Value n, Value rows) {
  k.stage(K, k.c(depth * 4), k.address(key, {b, h, n}), key.stride[2], key.stride[3], rows, k.c(d), key.type);
  applyFeature(K, rows);
  k.stage(V, k.c(width * 4), k.address(v, {b, h, n, col}), v.stride[2], v.stride[3], rows, cols, v.type);
  if (normalized) {
    k.rows(k.c(0), rows, [&](Value r) { k.store(k.constant(k.f32, 1.0), k.at(rowOf(V, r, width), kCols * 4), 4); });
  }
}

void LinearAttend::stageQueries(Value n, Value rows, Value head) {
  k.stage(Q, k.c(depth * 4), k.address(q, {b, head, n}), q.stride[2], q.stride[3], rows, k.c(d), q.type);
  applyFeature(Q, rows);
}

/// KT[d][j] = K[j][d], columns past the rows zero.
void LinearAttend::transposeKeys(Value rows) {
  k.rows(k.c(0), k.c(d), [&](Value c) {
    Value line = rowOf(KT, c, kChunk), column = k.at(K, k.mul(c, 4));
    auto zero = [&](Value j) { k.store(k.constant(k.f32, 0.0), k.at(line, k.mul(j, 4)), 4); };
    auto move = [&](Value j) { k.store(k.load(k.f32, rowOf(column, j, depth), 4), k.at(line, k.mul(j, 4)), 4); };
    if (k.gpu) {
      k.lanes(k.c(kChunk), [&](Value j) { k.ifElse(k.lt(j, rows), [&] { move(j); }, [&] { zero(j); }); });
      return;
    }
    k.loop(k.c(0), rows, 1, move);
    k.loop(rows, k.c(kChunk), 1, zero);
  });
}

/// S = exp(G_C) S + phi(K)^T exp(G_C - G_j) V
void LinearAttend::addUp(Value, Value rows) {
  if (decayed) {
    Value total = loadSum(k.sub(rows, k.c(1)));
    auto scale = [&](Value buffer, Value count, llvm::function_ref<Value(Value)> by) {
      k.rows(k.c(0), count, [&](Value r) {
        Value factor = k.splat(by(r));
        k.lanes(k.c(width), [&](Value c) {
          Value at = k.at(rowOf(buffer, r, width), k.mul(c, 4));
          k.store(k.mul(k.loadRow(at), factor), at, 4);
        });
      });
    };
    scale(S, k.c(d), [&](Value) { return exp(total); });
    scale(V, rows, [&](Value r) { return exp(k.sub(total, loadSum(r))); });
  }
  k.multiply(S, k.c(width * 4), K, k.c(4), k.c(depth * 4), V, k.c(width * 4), k.c(d), rows, k.c(width));
}

/// O = exp(G_i) phi(Q) S + A V
void LinearAttend::inside(Value, Value rows) {
  k.fillZero(O, k.mul(rows, width * 4));
  k.multiply(O, k.c(width * 4), Q, k.c(depth * 4), k.c(4), S, k.c(width * 4), rows, k.c(d), k.c(width));
  k.fillZero(A, k.mul(rows, kChunk * 4));
  k.multiply(A, k.c(kChunk * 4), Q, k.c(depth * 4), k.c(4), KT, k.c(kChunk * 4), rows, k.c(d), k.c(kChunk));
  k.rows(k.c(0), rows, [&](Value i) {
    Value line = rowOf(A, i, kChunk), row = k.splat(i);
    if (decayed) {
      Value factor = k.splat(exp(loadSum(i)));
      k.lanes(k.c(width), [&](Value c) {
        Value at = k.at(rowOf(O, i, width), k.mul(c, 4));
        k.store(k.mul(k.loadRow(at), factor), at, 4);
      });
    }
    k.lanes(k.c(kChunk), [&](Value j) {
      Value at = k.at(line, k.mul(j, 4)), x = k.loadRow(at);
      Value live = k.le(k.add(k.iota(), k.splat(j)), row);
      if (decayed) {
        // Dead pairs have a positive difference, which must not overflow.
        Value gap = k.sub(k.splat(loadSum(i)), k.loadRow(k.at(sums, k.mul(j, 4))));
        x = k.mul(x, exp(k.select(live, gap, k.splat(k.constant(k.f32, 0.0)))));
      }
      k.store(k.select(live, x, k.splat(k.constant(k.f32, 0.0))), at, 4);
    });
  });
  k.multiply(O, k.c(width * 4), A, k.c(kChunk * 4), k.c(4), V, k.c(width * 4), rows, rows, k.c(width));
}

/// Divides by phi(q) . z + eps and writes rows of O.
void LinearAttend::finishRows(Value n, Value rows, Value head) {
  if (normalized) {
    double eps = op.getEpsAttr() ? op.getEpsAttr().getValueAsDouble() : 0;
    k.rows(k.c(0), rows, [&](Value r) {
      Value line = rowOf(O, r, width);
      Value below = k.add(k.load(k.f32, k.at(line, kCols * 4), 4), k.constant(k.f32, eps));
      k.lanes(k.padded(cols), [&](Value c) {
        Value at = k.at(line, k.mul(c, 4));
        k.store(arith::DivFOp::create(k.b, k.loc, k.loadRow(at), k.splat(below)), at, 4);
      });
    });
  }
  k.unstage(k.address(y, {b, head, n, col}), y.stride[2], y.stride[3], O, k.c(width * 4), rows, cols, y.type);
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
  int64_t vl = k.target.width;
  depth = llvm::alignTo(d, vl);
  width = kCols + (normalized ? vl : 0);
  Emitter::Values t = k.split(k.task, {key.size[0], key.size[1], k.ceilDiv(v.size[3], kCols)});
  b = t[0];
  h = t[1];
  col = k.mul(t[2], kCols);
  cols = k.min(k.sub(v.size[3], col), k.c(kCols));
  group = arith::DivSIOp::create(k.b, k.loc, q.size[1], key.size[1]);
  S = k.allocate(depth * width * 4);
  K = k.allocate(kChunk * depth * 4);
  KT = k.allocate(depth * kChunk * 4);
  Q = k.allocate(kChunk * depth * 4);
  V = k.allocate(kChunk * width * 4);
  O = k.allocate(kChunk * width * 4);
  A = k.allocate(kChunk * kChunk * 4);
  sums = k.allocate(kChunk * 4);
  k.fillZero(V, k.c(kChunk * width * 4)); // columns that nothing is copied to
  loadState();
  auto chunks = [&](Value all, llvm::function_ref<void(Value, Value)> body) {
    k.loop(k.c(0), all, kChunk, [&](Value n) { body(n, k.min(k.sub(all, n), k.c(kChunk))); });
  };
  if (causal) {
    chunks(key.size[2], [&](Value n, Value rows) {
      stageKeys(n, rows);
      transposeKeys(rows);
      if (decayed) {
        // G from the chunk's start; past the rows it is not read by live pairs.
        k.fillZero(sums, k.c(kChunk * 4));
        Value from = k.address(g, {b, h, n});
        k.alone([&] {
          k.loop(k.c(0), rows, 1, ValueRange{k.constant(k.f32, 0.0)}, [&](Value r, ValueRange sum) {
            Value next = k.add(sum[0], k.load(k.f32, k.at2(from, r, g.stride[2]), 4));
            k.store(next, k.at(sums, k.mul(r, 4)), 4);
            return Emitter::Values{next};
          });
        });
      }
      forHeads([&](Value head) {
        stageQueries(n, rows, head);
        inside(n, rows);
        finishRows(n, rows, head);
      });
      addUp(n, rows);
    });
  } else {
    chunks(key.size[2], [&](Value n, Value rows) {
      stageKeys(n, rows);
      addUp(n, rows);
    });
    forHeads([&](Value head) {
      chunks(q.size[2], [&](Value n, Value rows) {
        stageQueries(n, rows, head);
        k.fillZero(O, k.mul(rows, width * 4));
        k.multiply(O, k.c(width * 4), Q, k.c(depth * 4), k.c(4), S, k.c(width * 4), rows, k.c(d), k.c(width));
        finishRows(n, rows, head);
      });
    });
  }
  storeState();
}

void lowerLinearAttend(attn::LinearAttendOp op, OpKernel &kernel) { LinearAttend(op, kernel).emit(); }

} // namespace heddle
