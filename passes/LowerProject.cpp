//===- LowerProject.cpp - attn.project as a kernel ------------------------===//
//
// y = E^T x is a product with the sequence as its depth. A task takes 128 rows of
// y by up to 256 columns, its sums in scratch; it walks the sequence in chunks,
// which are copied to f32, or to pairs of bf16 where the target multiplies such,
// so that both operands lie still and dense. With blocks
// (y[r c + o] = sum over n of e[n, r] x[n c + o]) each o is a product of its own.
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"

using namespace mlir;

namespace heddle {

void lowerProject(attn::ProjectOp op, OpKernel &k) {
  const int64_t kRows = k.tile(128, 48), kCols = k.tile(256, 64), kDepth = k.tile(64, 32);
  int64_t block = op.getBlock();
  int64_t rank = cast<RankedTensorType>(op.getWeights().getType()).getRank();
  AffineExpr B = k.size(0, 0), H = k.size(0, 1), N = k.size(1, rank - 2), R = k.size(1, rank - 1), D = k.size(0, 3);
  k.expect(0, 2, N * block);
  if (rank == 4) {
    k.expect(1, 0, B, true);
  }
  if (rank >= 3) {
    k.expect(1, rank - 3, H, true);
  }
  k.result({B, H, R * block, D});
  k.launch(B * H * block * R.ceilDiv(kRows) * D.ceilDiv(kCols), B * H * block * N * R * D);

  TensorView x = k.argument(0), e = k.argument(1), y = k.resultView(0);
  Value depth = e.size[rank - 2], rows = e.size[rank - 1], cols = x.size[3];
  Emitter::Values t =
      k.split(k.task, {x.size[0], x.size[1], k.c(block), k.ceilDiv(rows, kRows), k.ceilDiv(cols, kCols)});
  Value row = k.mul(t[3], kRows), col = k.mul(t[4], kCols);
  Value height = k.min(k.sub(rows, row), k.c(kRows)), width = k.min(k.sub(cols, col), k.c(kCols));
  Value from = k.address(x, {t[0], t[1], t[2], col}), to = k.address(y, {t[0], t[1], t[2], col});
  Value weights = e.base;
  if (rank == 4) {
    weights = k.at(weights, k.mul(t[0], e.stride[0]));
  }
  if (rank >= 3) {
    weights = k.at(weights, k.mul(t[1], e.stride[rank - 3]));
  }
  weights = k.at(weights, k.mul(row, e.stride[rank - 1]));

  Value sums = k.allocate(kRows * kCols * 4), stagedX = k.allocate(kDepth * kCols * 4),
        stagedE = k.allocate(kDepth * kRows * 4);
  Value wide = k.padded(width), line = k.mul(wide, 4);
  Value xStep = k.mul(x.stride[2], block);
  k.fillZero(sums, k.mul(line, height));
  const bool pairs = k.multipliesPairs(x.type, e.type);
  const int64_t step = pairs ? 2 * kDepth : kDepth;
  // x is read in place where it is f32 with whole registers of adjacent columns.
  Value inPlace = x.type.isF32() ? k.both(k.adjacent(x), k.eq(wide, width)) : k.constant(k.i1, int64_t(0));
  // Few columns of e lie in as many cache lines as one: they are read in place.
  Value narrow = e.type.isF32() && !k.gpu ? k.le(rows, k.c(16)) : k.constant(k.i1, int64_t(0));
  int64_t known = cast<RankedTensorType>(op.getWeights().getType()).getDimSize(rank - 1);
  int64_t asked = (ShapedType::isDynamic(known) ? kRows : std::min(known, kRows)) * e.bytes;
  k.loop(k.c(0), depth, step, [&](Value n) {
    Value many = k.min(k.sub(depth, n), k.c(step));
    Value xHere = k.at2(from, n, xStep), eHere = k.at2(weights, n, e.stride[rank - 2]);
    Value weightsHere = stagedE;
    // y[r, :] += sum over n of e[n, r] x[n, :]
    auto product = [&](Value B, Value stride, Value count) {
      k.multiply(sums, line, weightsHere, k.select(narrow, e.stride[rank - 1], k.c(4)),
                 k.select(narrow, e.stride[rank - 2], k.c(kRows * 4)), B, stride, height, count, wide, /*fresh=*/false,
                 pairs);
    };
    if (pairs) {
      k.stagePairs(stagedE, k.c(kRows * 4), eHere, e.stride[rank - 2], e.stride[rank - 1], many, height);
      k.stagePairs(stagedX, line, xHere, xStep, x.stride[3], many, width);
      return product(stagedX, line, k.ceilDiv(many, 2));
    }
    k.ifThen(k.flip(narrow), [&] {
      // Rows of e may be pages apart: the next chunk's are asked for beside this one's.
      auto beside = [&](Value r) { k.prefetch(k.at2(eHere, k.add(r, kDepth), e.stride[rank - 2]), asked, 2); };
      k.stage(stagedE, k.c(kRows * 4), eHere, e.stride[rank - 2], e.stride[rank - 1], many, height, e.type,
              {nullptr, nullptr, beside});
    });
    weightsHere = k.select(narrow, eHere, stagedE);
    k.ifElse(
        inPlace, [&] { product(xHere, xStep, many); },
        [&] {
          k.stage(stagedX, line, xHere, xStep, x.stride[3], many, width, x.type);
          product(stagedX, line, many);
        });
  });
  k.unstage(k.at(to, k.mul(row, k.mul(y.stride[2], block))), k.mul(y.stride[2], block), y.stride[3], sums, line, height,
            width, y.type);
}

} // namespace heddle
