//===- LowerScatterRows.cpp - attn.scatter_rows as a kernel ---------------===//
//
// A task owns a range of y's rows and looks through the whole list for them, so that
// no two tasks write one row and sums come in the list's order: a first walk counts
// each row's sources (for overwrite: keeps the last one), a second adds them up, a
// strip of columns at a time.
//
//===----------------------------------------------------------------------===//

#include "passes/RowLists.h"

using namespace mlir;

namespace heddle {

static constexpr int64_t kSearch = 1024; // entries of a list that are looked through at once
static constexpr int64_t kStrip = 64;    // columns of sums

/// Calls body(m, r) for the entries of a list, in its order, that name a row r + first with 0 <= r < owned: those of a
/// part of the list are collected first, a register at a time.
static void forOwned(OpKernel &k, const TensorView &rows, Value list, Value first, Value owned,
                     llvm::function_ref<void(Value, Value)> body) {
  int64_t vl = k.target.width;
  Value found = k.allocate((kSearch + vl) * 4), count = rows.size.back(), stride = rows.stride.back();
  auto mine = [&](Value r) {
    Value end = isa<VectorType>(r.getType()) ? k.splat(k.toInt(owned, rows.type)) : owned;
    return k.both(k.ge(r, k.constant(r.getType(), int64_t(0))), k.lt(r, end));
  };
  auto place = [&](Value n) { return k.at(found, k.mul(n, 4)); };
  auto rowOf = [&](Value m) { return k.sub(loadRow(k, rows, k.at2(list, m, stride)), first); };
  auto collect = [&](Value from, Value until) {
    Value wide = k.select(k.eq(stride, k.c(rows.bytes)), k.mul(k.floorDiv(k.sub(until, from), vl), vl), k.c(0));
    Value middle = k.add(from, wide), start = k.splat(k.toInt(first, rows.type));
    Value some = k.loop(from, middle, vl, ValueRange{k.c(0)}, [&](Value m, ValueRange seen) {
      Value live = mine(k.sub(k.load(k.vec(rows.type), k.at2(list, m, stride), rows.bytes), start));
      Value entries = k.add(k.splat(k.toInt(m, k.i32)), k.toInt(k.iota(), k.i32));
      k.store(k.compress(entries, live), place(seen[0]), 4);
      return Emitter::Values{k.add(seen[0], k.countTrue(live))};
    })[0];
    return k.loop(middle, until, 1, ValueRange{some}, [&](Value m, ValueRange seen) {
      k.store(k.toInt(m, k.i32), place(seen[0]), 4);
      return Emitter::Values{k.add(seen[0], k.toInt(mine(rowOf(m)), k.i64))};
    })[0];
  };
  k.loop(k.c(0), count, kSearch, [&](Value from) {
    Value all = collect(from, k.min(k.add(from, kSearch), count));
    k.loop(k.c(0), all, 1, [&](Value n) {
      Value m = k.toInt(k.load(k.i32, place(n), 4), k.i64);
      body(m, rowOf(m));
    });
  });
}

namespace {
class Scatter {
public:
  Scatter(attn::ScatterRowsOp op, OpKernel &k)
      : op(op), k(k), source(k.argument(0)), rows(k.argument(1)), base(k.argument(2)), y(k.resultView(0)) {}

  void emit() {
    Emitter::Values at = k.split(k.task, {base.size[0], base.size[1], k.ceilDiv(base.size[2], kOwned)});
    from = k.address(source, {at[0], at[1]}), under = k.address(base, {at[0], at[1]});
    to = k.address(y, {at[0], at[1]}), list = listBase(k, rows, at[0], at[1]);
    first = k.mul(at[2], kOwned), owned = k.min(k.sub(base.size[2], first), k.c(kOwned));
    width = base.size[3];
    contiguous = k.both(k.adjacent(source), k.both(k.adjacent(base), k.adjacent(y)));
    countSources();
    op.getKind() == attn::ScatterKind::Overwrite ? emitLast() : emitSums();
  }

  static void describe(attn::ScatterRowsOp op, OpKernel &k) {
    int64_t listRank = rankOf(op.getRows());
    AffineExpr B = k.size(2, 0), H = k.size(2, 1), N = k.size(2, 2), D = k.size(2, 3);
    k.expect(0, 0, B);
    k.expect(0, 1, H);
    k.expect(0, 3, D);
    expectList(k, 1, listRank, B, H);
    k.expect(1, listRank - 1, k.size(0, 2));
    k.result({B, H, N, D});
    k.launch(B * H * N.ceilDiv(k.tile(kOwnedOnCpu, kOwnedOnGpu)), B * H * (N + k.size(0, 2)) * D * OpKernel::kMoved);
  }

private:
  /// Of each owned row: how many sources it has; for overwrite, the number of the last one plus 1.
  void countSources() {
    counts = k.allocate(kOwned * 4);
    k.fillZero(counts, k.mul(owned, 4));
    const bool sums = op.getKind() != attn::ScatterKind::Overwrite;
    auto countRow = [&](Value m, Value r) {
      Value old = k.load(k.i32, counter(r), 4);
      k.store(sums ? k.add(old, 1) : k.add(k.toInt(m, k.i32), 1), counter(r), 4);
    };
    forMine(countRow, true);
  }

  Value counter(Value r) { return k.at(counts, k.mul(r, 4)); }

  /// body(m, r) for the entries that name an owned row r. On a GPU, with `byThread` a row's entries are one thread's,
  /// in the list's order.
  void forMine(llvm::function_ref<void(Value m, Value r)> body, bool byThread) {
    if (!k.gpu) {
      return forOwned(k, rows, list, first, owned, body);
    }
    k.loop(k.c(0), rows.size.back(), 1, [&](Value m) {
      Value r = k.sub(loadRow(k, rows, k.at2(list, m, rows.stride.back())), first);
      Value mine = k.both(k.ge(r, k.c(0)), k.lt(r, owned));
      if (byThread) {
        mine = k.both(mine, k.eq(k.floorMod(r, OpKernel::kThreads), k.thread));
      }
      k.ifThen(mine, [&] { body(m, r); });
    });
  }

  Value outRow(Value r) { return k.at2(to, k.add(first, r), y.stride[2]); }

  Value zero(bool vector) { return k.constant(vector ? Type(k.vec(k.f32)) : k.f32, 0.0); }

  /// Row n of a tensor, column by column.
  auto rowOf(const TensorView &x, Value start, Value n) {
    return [this, &x, start = k.at2(start, n, x.stride[2])](Value col, bool vector) {
      return k.loadAsF32(x.type, k.at2(start, col, x.stride[3]), vector);
    };
  }

  void write(Value r, llvm::function_ref<Value(Value, bool)> value) {
    k.columns(width, contiguous, 4, [&](ArrayRef<Value> cols, bool vector) {
      for (Value col : cols) {
        k.storeF32As(y.type, value(col, vector), k.at2(outRow(r), col, y.stride[3]));
      }
    });
  }

  /// y[n] = source[last m of n], else base[n]
  void emitLast() {
    k.rows(k.c(0), owned, [&](Value r) {
      Value m = k.sub(k.toInt(k.load(k.i32, counter(r), 4), k.i64), k.c(1));
      k.ifElse(
          k.ge(m, k.c(0)), [&] { write(r, rowOf(source, from, m)); },
          [&] {
            if (op.getZeros()) {
              write(r, [&](Value, bool vector) { return zero(vector); });
            } else {
              write(r, rowOf(base, under, k.add(first, r)));
            }
          });
    });
  }

  /// Sums are kept in f32, for a strip of columns at a time.
  void emitSums() {
    strip = k.allocate(kOwned * kStrip * 4);
    k.loop(k.c(0), width, kStrip, [&](Value left) {
      Value cols = k.min(k.sub(width, left), k.c(kStrip));
      k.fillZero(strip, k.mul(owned, kStrip * 4));
      forMine([&](Value m, Value r) { addRow(m, r, left, cols); }, false);
      k.rows(k.c(0), owned, [&](Value r) { writeSum(r, left, cols); });
    });
  }

  Value sumOf(Value r) { return k.at(strip, k.mul(r, kStrip * 4)); }

  /// acc[n] += source[m]
  void addRow(Value m, Value r, Value left, Value cols) {
    auto value = rowOf(source, from, m);
    k.columns(cols, contiguous, 4, [&](ArrayRef<Value> some, bool vector) {
      for (Value col : some) {
        Value there = k.at(sumOf(r), k.mul(col, 4));
        Value old = k.load(vector ? Type(k.vec(k.f32)) : k.f32, there, 4);
        k.store(k.add(old, value(k.add(left, col), vector)), there, 4);
      }
    });
  }

  /// y[n] = acc[n], for the mean divided by the number of sources; base[n] where there is none.
  void writeSum(Value r, Value left, Value cols) {
    const bool mean = op.getKind() == attn::ScatterKind::Mean;
    const double eps = op.getEpsAttr() ? op.getEpsAttr().getValueAsDouble() : 0;
    Value n = k.load(k.i32, counter(r), 4);
    Value below = k.add(arith::SIToFPOp::create(k.b, k.loc, k.f32, n).getResult(), k.constant(k.f32, eps));
    Value share = arith::DivFOp::create(k.b, k.loc, k.constant(k.f32, 1.0), below);
    Value some = k.cmp(arith::CmpIPredicate::sgt, n, k.c32(0));
    auto keep = rowOf(base, under, k.add(first, r));
    k.columns(cols, contiguous, 4, [&](ArrayRef<Value> part, bool vector) {
      for (Value col : part) {
        Value there = k.add(left, col);
        Value sum = k.load(vector ? Type(k.vec(k.f32)) : k.f32, k.at(sumOf(r), k.mul(col, 4)), 4);
        if (mean) {
          sum = k.mul(sum, vector ? k.splat(share) : share);
        }
        Value other = op.getZeros() ? zero(vector) : keep(there, vector);
        Value v = k.select(vector ? k.splat(some) : some, sum, other);
        k.storeF32As(y.type, v, k.at2(outRow(r), there, y.stride[3]));
      }
    });
  }

  static constexpr int64_t kOwnedOnCpu = 1024, kOwnedOnGpu = 256;
  attn::ScatterRowsOp op;
  OpKernel &k;
  const int64_t kOwned = k.tile(kOwnedOnCpu, kOwnedOnGpu); ///< rows of a task
  TensorView source, rows, base, y;
  Value from, under, to, list; ///< of the task's head
  Value first, owned;          ///< the task's rows
  Value width, contiguous;     ///< columns, and whether all tensors have them adjacent
  Value counts, strip;
};
} // namespace

void lowerScatterRows(attn::ScatterRowsOp op, OpKernel &k) {
  Scatter::describe(op, k);
  Scatter(op, k).emit();
}

} // namespace heddle
