//===- LowerScan.cpp - attn.scan as a kernel ------------------------------===//
//
// Rows of one residue class of one block are a chain. A task takes some chains
// of one head; registers of columns run down a chain, so that every row of x is
// read once, whole, and the running value stays f32. Where that makes few tasks,
// columns are dealt out too.
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"

#include <cmath>

using namespace mlir;

namespace heddle {

static constexpr int64_t kChains = 16; // a task

void lowerScan(attn::ScanOp op, OpKernel &k) {
  int64_t step = op.getStride();
  std::optional<uint64_t> block = op.getBlock();
  auto sizeOf = [&](int64_t axis) { return k.sizeOf(op.getInput(), axis); };
  AffineExpr blocks = block ? sizeOf(2).ceilDiv(*block) : k.number(1);
  int64_t classes = block ? std::min<int64_t>(step, *block) : step;
  k.result({sizeOf(0), sizeOf(1), sizeOf(2), sizeOf(3)});
  AffineExpr whole = sizeOf(0) * sizeOf(1) * (blocks * classes).ceilDiv(kChains);
  k.launch(k.gpu ? whole : whole * sizeOf(3).ceilDiv(k.stripOf(sizeOf(3).ceilDiv(OpKernel::kStrip), whole)),
           sizeOf(0) * sizeOf(1) * sizeOf(2) * sizeOf(3) * OpKernel::kMoved);

  TensorView x = k.operand(op.getInput()), y = k.resultView(0);
  Value rows = x.size[2], length = block ? k.c(*block) : rows;
  Value chains = block ? k.mul(k.ceilDiv(rows, *block), classes) : k.c(classes);
  Value runs = k.ceilDiv(chains, kChains), strip = x.size[3];
  if (!k.gpu) {
    strip = k.stripOf(k.ceilDiv(x.size[3], OpKernel::kStrip), k.product({x.size[0], x.size[1], runs}));
  }
  Value strips = k.gpu ? k.c(1) : k.ceilDiv(x.size[3], strip);
  Emitter::Values at = k.split(k.task, {x.size[0], x.size[1], runs, strips});
  Value left = k.product({at[3], strip}), width = k.min(k.sub(x.size[3], left), strip);
  Value to = k.address(y, {at[0], at[1]});
  Value contiguous = k.both(k.adjacent(x), k.adjacent(y));
  Value begin = k.mul(at[2], kChains), end = k.min(k.add(begin, k.c(kChains)), chains);
  bool isMax = op.getKind() == attn::PoolKind::Max, isMean = op.getKind() == attn::PoolKind::Mean;
  bool exclusive = op.getExclusive();
  k.rows(begin, end, [&](Value chain) {
    Value which = k.floorDiv(chain, classes), lo = k.mul(which, length);
    Value first = k.add(lo, k.sub(chain, k.mul(which, classes)));
    Value hi = k.min(k.add(lo, length), rows);
    Value count = k.max(k.ceilDiv(k.sub(hi, first), step), k.c(0));
    k.columns(width, contiguous, 4, [&](ArrayRef<Value> some, bool vector) {
      Emitter::Values cols;
      for (Value col : some) {
        cols.push_back(k.add(left, col));
      }
      Type type = vector ? Type(k.vec(k.f32)) : k.f32;
      Emitter::Values sums(cols.size(), k.constant(type, isMax ? -INFINITY : 0.0));
      k.loop(k.c(0), count, 1, sums, [&](Value t, ValueRange acc) {
        Value place = op.getReverse() ? k.sub(k.sub(count, t), k.c(1)) : t;
        Value n = k.add(first, k.mul(place, step));
        // Rows so far; the mean of none is 0 / 1.
        Value seen = k.max(exclusive ? t : k.add(t, k.c(1)), k.c(1));
        Value divisor = arith::SIToFPOp::create(k.b, k.loc, k.f32, seen);
        Emitter::Values next;
        for (auto [col, a] : llvm::zip(cols, acc)) {
          Value v = k.read(x, {at[0], at[1], n, col}, vector);
          // acc = max(acc, x[n]) or acc + x[n]
          next.push_back(isMax ? arith::MaximumFOp::create(k.b, k.loc, a, v).getResult() : k.add(a, v));
          Value out = exclusive ? a : next.back();
          if (isMean) {
            out = arith::DivFOp::create(k.b, k.loc, out, vector ? k.splat(divisor) : divisor);
          }
          k.storeF32As(y.type, out, k.at(k.at2(to, n, y.stride[2]), k.mul(col, y.stride[3])));
        }
        return next;
      });
    });
  });
}

} // namespace heddle
