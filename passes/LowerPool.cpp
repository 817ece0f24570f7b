//===- LowerPool.cpp - attn.pool as a kernel ------------------------------===//
//
// A task takes some rows of y; for each, registers of columns run down the rows
// of its window, so that every row of x is read once, whole.
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"

#include <cmath>

using namespace mlir;

namespace heddle {

void lowerPool(attn::PoolOp op, OpKernel &k) {
  int64_t size = op.getSize(), step = op.getStep(), offset = op.getOffset();
  const int64_t kRows = size < 256 || k.gpu ? 16 : 1; // of y, a task
  auto sizeOf = [&](int64_t axis) { return k.sizeOf(op.getInput(), axis); };
  AffineExpr rows = op.getPartial() ? sizeOf(2).ceilDiv(step) : (sizeOf(2) - (offset + size)).floorDiv(step) + 1;
  k.result({sizeOf(0), sizeOf(1), rows, sizeOf(3)});
  k.launch(sizeOf(0) * sizeOf(1) * rows.ceilDiv(kRows),
           sizeOf(0) * sizeOf(1) * rows * sizeOf(3) * size * (OpKernel::kMoved / 2));

  TensorView x = k.operand(op.getInput()), y = k.resultView(0);
  Emitter::Values at = k.split(k.task, {x.size[0], x.size[1], k.ceilDiv(y.size[2], kRows)});
  Value to = k.address(y, {at[0], at[1]});
  Value contiguous = k.both(k.adjacent(x), k.adjacent(y));
  Value first = k.mul(at[2], kRows), last = k.min(k.add(first, k.c(kRows)), y.size[2]);
  bool isMax = op.getKind() == attn::PoolKind::Max, isMean = op.getKind() == attn::PoolKind::Mean;
  k.rows(first, last, [&](Value m) {
    Value start = k.add(k.mul(m, step), offset);
    Value lo = k.max(start, k.c(0)), hi = k.min(k.add(start, size), x.size[2]);
    Value some = k.lt(lo, hi);
    Value count = arith::SIToFPOp::create(k.b, k.loc, k.f32, k.sub(hi, lo));
    k.columns(x.size[3], contiguous, 4, [&](ArrayRef<Value> cols, bool vector) {
      Type type = vector ? Type(k.vec(k.f32)) : k.f32;
      Emitter::Values sums(cols.size(), k.constant(type, isMax ? -INFINITY : 0.0));
      // acc = max(acc, x[n]) or acc + x[n]
      sums = k.loop(lo, hi, 1, sums, [&](Value n, ValueRange acc) {
        Emitter::Values next;
        for (auto [col, a] : llvm::zip(cols, acc)) {
          Value v = k.read(x, {at[0], at[1], n, col}, vector);
          next.push_back(isMax ? arith::MaximumFOp::create(k.b, k.loc, a, v).getResult() : k.add(a, v));
        }
        return next;
      });
      for (auto [col, sum] : llvm::zip(cols, sums)) {
        Value v = sum;
        if (isMean) {
          v = arith::DivFOp::create(k.b, k.loc, v, vector ? k.splat(count) : count);
        }
        v = k.select(vector ? k.splat(some) : some, v, k.constant(type, 0.0));
        k.storeF32As(y.type, v, k.at(k.at2(to, m, y.stride[2]), k.mul(col, y.stride[3])));
      }
    });
  });
}

} // namespace heddle
