//===- LowerRows.cpp - attn.group, gather_rows, merge ---------------------===//
//
// Ops that move whole rows: memory is their limit, so each row is read and written
// once, by registers of columns where they are adjacent.
//
//===----------------------------------------------------------------------===//

#include "passes/RowLists.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;

namespace heddle {

static constexpr int64_t kRows = 64;   // moved by a task
static constexpr int64_t kAhead = 16;  // rows that are asked for before they are read
static constexpr int64_t kAsked = 512; // bytes of a row, at most

/// Asks for the row of `x` that entry `m` of a list names; any entry will do.
static void askForRow(OpKernel &k, const TensorView &x, Value from, const TensorView &rows, Value list, Value m,
                      int64_t elements) {
  if (k.gpu) {
    return;
  }
  int64_t bytes = ShapedType::isDynamic(elements) ? kAsked : std::min(kAsked, elements * x.bytes);
  k.prefetch(k.at2(from, loadRow(k, rows, k.at2(list, m, rows.stride.back())), x.stride[2]), bytes, 2);
}

//===----------------------------------------------------------------------===//
// group
//===----------------------------------------------------------------------===//

/// On a GPU a thread takes a group and looks through the whole list, twice: to count its rows, and to place them.
/// `place(c)` is the address of offsets[c], groupOf(n) the group of row n (`groups`: out of range).
static void groupByThreads(OpKernel &k, int64_t groups, Value rows, llvm::function_ref<Value(Value)> place,
                           llvm::function_ref<Value(Value)> groupOf, llvm::function_ref<void(Value, Value)> put) {
  auto mine = [&](llvm::function_ref<void(Value)> body) {
    k.barrier();
    k.loop(k.thread, k.c(groups + 1), OpKernel::kThreads, body);
    k.barrier();
  };
  auto walk = [&](Value c, Value start, llvm::function_ref<void(Value, Value)> body) {
    return k.loop(k.c(0), rows, 1, ValueRange{start}, [&](Value n, ValueRange count) {
      Value same = k.eq(groupOf(n), c);
      k.ifThen(same, [&] { body(n, count[0]); });
      return Emitter::Values{k.add(count[0], k.toInt(same, k.i64))};
    })[0];
  };
  mine([&](Value c) { k.store(k.toInt(walk(c, k.c(0), [](Value, Value) {}), k.i32), place(c), 4); });
  // Counts become places, one after another.
  k.alone([&] {
    k.loop(k.c(0), k.c(groups + 1), 1, ValueRange{k.c32(0)}, [&](Value c, ValueRange sum) {
      Value count = k.load(k.i32, place(c), 4);
      k.store(sum[0], place(c), 4);
      return Emitter::Values{k.add(sum[0], count)};
    });
  });
  mine([&](Value c) { walk(c, k.toInt(k.load(k.i32, place(c), 4), k.i64), put); });
}

/// One task a list: count, prefix sums, place. Stable, because rows are placed in order.
void lowerGroup(attn::GroupOp op, OpKernel &k) {
  int64_t rank = rankOf(op.getIds()), groups = op.getGroups();
  SmallVector<AffineExpr> lists, places;
  AffineExpr tasks = k.size(0, 0), all = k.size(0, rank - 1);
  for (int64_t n = 0; n < rank; ++n) {
    lists.push_back(k.size(0, n));
  }
  places = lists;
  places.back() = k.number(groups + 1);
  if (rank == 3) {
    tasks = tasks * k.size(0, 1);
  }
  k.result(lists);
  k.result(places);
  k.launch(tasks, tasks * all * OpKernel::kMoved);

  TensorView ids = k.argument(0), permutation = k.resultView(0), offsets = k.resultView(1);
  SmallVector<Value> at = {k.task};
  if (rank == 3) {
    Emitter::Values split = k.split(k.task, {ids.size[0], ids.size[1]});
    at.assign(split.begin(), split.end());
  }
  Value from = k.address(ids, at), to = k.address(permutation, at), begin = k.address(offsets, at);
  Value rows = ids.size.back(), width = k.c(groups);
  auto place = [&](Value c) { return k.at2(begin, c, offsets.stride.back()); };
  auto groupOf = [&](Value n) {
    Value id = loadRow(k, ids, k.at2(from, n, ids.stride.back()));
    return k.select(k.both(k.ge(id, k.c(0)), k.lt(id, width)), id, width);
  };
  if (k.gpu) {
    return groupByThreads(k, groups, rows, place, groupOf, [&](Value n, Value next) {
      k.store(k.toInt(n, k.i32), k.at2(to, next, permutation.stride.back()), 4);
    });
  }
  // offsets[c] counts the rows of group c (at `groups`: those out of range), then becomes the place of the next one,
  // and last where the next group begins.
  k.loop(k.c(0), k.c(groups + 1), 1, [&](Value c) { k.store(k.c32(0), place(c), 4); });
  k.loop(k.c(0), rows, 1, [&](Value n) {
    Value there = place(groupOf(n));
    k.store(k.add(k.load(k.i32, there, 4), 1), there, 4);
  });
  k.loop(k.c(0), k.c(groups + 1), 1, ValueRange{k.c32(0)}, [&](Value c, ValueRange sum) {
    Value count = k.load(k.i32, place(c), 4);
    k.store(sum[0], place(c), 4);
    return Emitter::Values{k.add(sum[0], count)};
  });
  k.loop(k.c(0), rows, 1, [&](Value n) {
    Value there = place(groupOf(n)), next = k.load(k.i32, there, 4);
    k.store(k.toInt(n, k.i32), k.at2(to, k.toInt(next, k.i64), permutation.stride.back()), 4);
    k.store(k.add(next, 1), there, 4);
  });
  // Now offsets[c] is where group c + 1 begins.
  k.loop(k.c(0), k.c(groups), 1, ValueRange{k.c32(0)}, [&](Value c, ValueRange start) {
    Value end = k.load(k.i32, place(c), 4);
    k.store(start[0], place(c), 4);
    return Emitter::Values{end};
  });
  // offsets[groups] counted on through the rows out of range; take them back.
  Value last = k.load(k.i32, place(width), 4), outside = k.c(0);
  outside = k.loop(k.c(0), rows, 1, ValueRange{k.c32(0)}, [&](Value n, ValueRange sum) {
    Value out = k.toInt(k.eq(groupOf(n), width), k.i32);
    return Emitter::Values{k.add(sum[0], out)};
  })[0];
  k.store(k.sub(last, outside), place(width), 4);
}

//===----------------------------------------------------------------------===//
// gather_rows
//===----------------------------------------------------------------------===//

/// Copies `count` elements of a row, or zeros where `keep` is false.
static void copyRow(OpKernel &k, const TensorView &x, const TensorView &y, Value from, Value to, Value keep,
                    Value count, Value contiguous) {
  Type bits = k.b.getIntegerType(8 * x.bytes);
  k.columns(count, contiguous, 4, [&](ArrayRef<Value> cols, bool vector) {
    Type type = vector ? Type(k.vec(bits)) : bits;
    for (Value col : cols) {
      Value there = k.at2(to, col, y.stride.back());
      k.ifElse(
          keep, [&] { k.store(k.load(type, k.at2(from, col, x.stride.back()), x.bytes), there, x.bytes); },
          [&] { k.store(k.constant(type, int64_t(0)), there, x.bytes); });
    }
  });
}

void lowerGatherRows(attn::GatherRowsOp op, OpKernel &k) {
  int64_t rank = rankOf(op.getInput()), listRank = rankOf(op.getRows());
  AffineExpr B = k.size(0, 0), H = k.size(0, 1), M = k.size(1, listRank - 1);
  AffineExpr D = rank == 4 ? k.size(0, 3) : k.number(1);
  expectList(k, 1, listRank, B, H);
  SmallVector<AffineExpr> sizes = {B, H, M};
  if (rank == 4) {
    sizes.push_back(D);
  }
  k.result(sizes);
  k.launch(B * H * M.ceilDiv(kRows), B * H * M * D * OpKernel::kMoved);

  TensorView x = k.argument(0), rows = k.argument(1), y = k.resultView(0);
  Value count = rows.size.back();
  Emitter::Values at = k.split(k.task, {x.size[0], x.size[1], k.ceilDiv(count, kRows)});
  Value from = k.address(x, {at[0], at[1]}), to = k.address(y, {at[0], at[1]}), list = listBase(k, rows, at[0], at[1]);
  Value first = k.mul(at[2], kRows), last = k.min(k.add(first, k.c(kRows)), count);
  Value contiguous = rank == 4 ? k.both(k.adjacent(x), k.adjacent(y)) : k.constant(k.i1, int64_t(0));
  Value width = rank == 4 ? x.size[3] : k.c(1);
  int64_t elements = rank == 4 ? cast<RankedTensorType>(op.getInput().getType()).getDimSize(3) : 1;
  k.rows(first, last, [&](Value m) {
    if (rank == 4) {
      askForRow(k, x, from, rows, list, k.min(k.add(m, kAhead), k.sub(last, k.c(1))), elements);
    }
    Value n = loadRow(k, rows, k.at2(list, m, rows.stride.back()));
    Value there = k.both(k.ge(n, k.c(0)), k.lt(n, x.size[2]));
    copyRow(k, x, y, k.at2(from, n, x.stride[2]), k.at2(to, m, y.stride[2]), there, width, contiguous);
  });
}

//===----------------------------------------------------------------------===//
// merge
//===----------------------------------------------------------------------===//

namespace {
/// An operand of a merge: rows where they lie, or read through a list (FuseGather.h).
struct MergedRows {
  MergedRows(OpKernel &k, Value operand)
      : k(k), arg(OpKernel::numberOf(operand)), listArg(k.listOf(arg)),
        type(cast<RankedTensorType>(operand.getType())) {}
  AffineExpr count() const { return listArg < 0 ? k.size(arg, 2) : k.size(listArg, listRank() - 1); }
  void expect(ArrayRef<AffineExpr> shape) const;
  void load();
  /// Its row n of head (b, h); a row that the list does not have is zeros.
  struct Row {
    Value there; ///< null: always
    Value address, stride;
  };
  /// `safe`: memory that may be read in place of a row that is not there, `step` apart.
  Row row(Value b, Value h, Value n, Value safe, Value step) const;
  void ask(Value b, Value h, Value n) const;

  OpKernel &k;
  int64_t arg, listArg;
  RankedTensorType type;
  TensorView x, list;

private:
  int64_t listRank() const { return int64_t(k.argumentType(listArg).getRank()); }
};
} // namespace

void MergedRows::expect(ArrayRef<AffineExpr> shape) const {
  for (int64_t n = 0; n < type.getRank(); ++n) {
    if (n != 2 || listArg < 0) {
      k.expect(arg, n, shape[n]);
    }
  }
  if (listArg >= 0) {
    expectList(k, listArg, listRank(), shape[0], shape[1]);
    k.expect(listArg, listRank() - 1, shape[2]);
  }
}

void MergedRows::load() {
  x = k.argument(arg);
  if (listArg >= 0) {
    list = k.argument(listArg);
  }
}

MergedRows::Row MergedRows::row(Value b, Value h, Value n, Value safe, Value step) const {
  Value stride = x.stride.back();
  if (listArg < 0) {
    return {Value(), k.address(x, {b, h, n}), stride};
  }
  Value r = loadRow(k, list, k.at2(listBase(k, list, b, h), n, list.stride.back()));
  Value there = k.both(k.ge(r, k.c(0)), k.lt(r, x.size[2]));
  return {there, k.select(there, k.address(x, {b, h, r}), safe), k.select(there, stride, step)};
}

void MergedRows::ask(Value b, Value h, Value n) const {
  if (listArg >= 0 && type.getRank() == 4) {
    askForRow(k, x, k.address(x, {b, h}), list, listBase(k, list, b, h), n, type.getDimSize(3));
  }
}

void lowerMerge(attn::MergeOp op, OpKernel &k) {
  auto parts = int64_t(op.getParts().size());
  SmallVector<MergedRows, 2> x, l;
  for (auto [part, lse] : llvm::zip(op.getParts(), op.getLses())) {
    x.emplace_back(k, part);
    l.emplace_back(k, lse);
  }
  AffineExpr B = k.size(x[0].arg, 0), H = k.size(x[0].arg, 1), N = x[0].count(), D = k.size(x[0].arg, 3);
  AffineExpr shape[] = {B, H, N, D};
  for (int64_t p = 0; p < parts; ++p) {
    x[p].expect(shape);
    l[p].expect(shape);
  }
  k.result(shape);
  k.result(ArrayRef(shape).drop_back());
  k.launch(B * H * N.ceilDiv(kRows), B * H * N * D * parts * OpKernel::kMoved);

  TensorView y = k.resultView(0), lse = k.resultView(1);
  for (int64_t p = 0; p < parts; ++p) {
    x[p].load();
    l[p].load();
  }
  Emitter::Values at = k.split(k.task, {y.size[0], y.size[1], k.ceilDiv(y.size[2], kRows)});
  Value contiguous = k.adjacent(y);
  for (const MergedRows &t : x) {
    contiguous = k.both(contiguous, k.adjacent(t.x));
  }
  Value first = k.mul(at[2], kRows), last = k.min(k.add(first, k.c(kRows)), y.size[2]);
  Value infinity = k.constant(k.f32, -INFINITY), nothing = k.constant(k.f32, 0.0);
  k.rows(first, last, [&](Value n) {
    SmallVector<Value> row = {at[0], at[1], n}, logs, weights;
    SmallVector<MergedRows::Row> sources;
    Value out = k.address(y, row), sum = k.address(lse, row);
    for (const MergedRows &t : x) {
      t.ask(at[0], at[1], k.min(k.add(n, kAhead), k.sub(last, k.c(1))));
      sources.push_back(t.row(at[0], at[1], n, out, y.stride[3]));
    }
    // m = max lse_p;  w_p = exp(lse_p - m);  Z = sum w_p
    Value m = infinity;
    for (const MergedRows &t : l) {
      MergedRows::Row from = t.row(at[0], at[1], n, sum, k.c(0));
      Value log = k.load(k.f32, from.address, 4);
      logs.push_back(from.there ? k.select(from.there, log, nothing) : log);
      m = arith::MaximumFOp::create(k.b, k.loc, m, logs.back());
    }
    Value z = nothing;
    for (Value v : logs) {
      Value dead = k.cmp(arith::CmpFPredicate::OEQ, v, infinity);
      Value same = k.cmp(arith::CmpFPredicate::OEQ, v, m); // inf - inf is no number
      Value w = math::ExpOp::create(k.b, k.loc, k.sub(v, m));
      w = k.select(dead, nothing, k.select(same, k.constant(k.f32, 1.0), w));
      weights.push_back(w);
      z = k.add(z, w);
    }
    Value empty = k.cmp(arith::CmpFPredicate::OEQ, z, nothing);
    Value log = k.add(m, math::LogOp::create(k.b, k.loc, z).getResult());
    k.store(k.select(empty, infinity, log), sum, 4);
    k.columns(y.size[3], contiguous, 1, [&](ArrayRef<Value> cols, bool vector) {
      auto wide = [&](Value v) { return vector ? k.splat(v) : v; };
      Value sum = wide(nothing);
      for (auto [t, from, w] : llvm::zip(x, sources, weights)) {
        Value v = k.loadAsF32(t.x.type, k.at2(from.address, cols[0], from.stride), vector);
        v = from.there ? k.select(wide(from.there), v, wide(nothing)) : v;
        // A part without keys does not count, whatever its rows hold.
        Value live = wide(k.cmp(arith::CmpFPredicate::UNE, w, nothing));
        sum = k.add(sum, k.select(live, k.mul(v, wide(w)), wide(nothing)));
      }
      Value mean = arith::DivFOp::create(k.b, k.loc, sum, wide(k.select(empty, k.constant(k.f32, 1.0), z)));
      k.storeF32As(y.type, mean, k.at2(out, cols[0], y.stride[3]));
    });
  });
}

} // namespace heddle
