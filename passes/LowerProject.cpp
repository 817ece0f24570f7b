//===- LowerProject.cpp - attn.project as a kernel ------------------------===//
//
// y = E^T x is a product with the sequence as its depth. A task takes 128 rows of
// y by up to 256 columns, its sums in scratch; it walks the sequence in chunks,
// which are copied to f32, or to pairs of bf16 where the target multiplies such,
// so that both operands lie still and dense. With blocks
// (y[r c + o] = sum over n of e[n, r] x[n c + o]) each o is a product of its own.
// Several projects by the same weights walk the sequence together. One row of y may be
// computed in parts of the sequence, each a task's and a row (SplitProgram.cpp).
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"

using namespace mlir;

namespace heddle {

namespace {
class Projects {
public:
  Projects(ArrayRef<attn::ProjectOp> ops, OpKernel &k)
      : ops(ops), k(k), op(ops.front()), block(op.getBlock()), atE(OpKernel::numberOf(op.getWeights())),
        rank(cast<RankedTensorType>(op.getWeights().getType()).getRank()), e(k.argument(atE)) {
    if (auto given = op->getAttrOfType<IntegerAttr>("heddle.part")) {
      part = given.getInt();
    }
  }

  void emit() {
    describe();
    place();
    beginSums();
    Value start = k.c(0), end = depth;
    residue = t[2];
    if (part > 0) {
      start = k.mul(t[2], part);
      end = k.min(depth, k.add(start, k.c(part)));
      residue = k.c(0);
    }
    k.loop(start, end, step, [&](Value n) { emitChunk(n, k.min(k.sub(end, n), k.c(step))); });
    for (auto [which, y] : llvm::enumerate(ys)) {
      Value to = k.address(y, {t[0], t[1], k.add(t[2], k.mul(row, block)), col});
      k.unstage(to, k.mul(y.stride[2], block), y.stride[3], sums[which], line, height, width, y.type);
    }
  }

private:
  /// The launch, and views of operands and results.
  void describe() {
    AffineExpr B = k.sizeOf(op.getInput(), 0), H = k.sizeOf(op.getInput(), 1), D = k.sizeOf(op.getInput(), 3);
    AffineExpr N = k.size(atE, rank - 2), R = k.size(atE, rank - 1);
    // Of what tasks are told apart by: blocks, or parts. No part at all would leave no zeros.
    AffineExpr pieces = part > 0 ? N.floorDiv(part) + 1 : k.number(block);
    for (attn::ProjectOp one : ops) {
      k.expectOf(one.getInput(), 2, N * block);
      k.result({B, H, part > 0 ? pieces : R * block, D});
      xs.push_back(k.operand(one.getInput()));
      ys.push_back(k.resultView(int64_t(ys.size())));
    }
    if (rank == 4) {
      k.expect(atE, 0, B, true);
    }
    if (rank >= 3) {
      k.expect(atE, rank - 3, H, true);
    }
    k.launch(B * H * pieces * R.ceilDiv(kRows) * D.ceilDiv(kCols),
             B * H * block * N * (R + OpKernel::kMoved / 2) * D * int64_t(ops.size()));
  }

  /// Where the task's rows and columns are.
  void place() {
    const TensorView &like = xs[0];
    depth = e.size[rank - 2], rows = e.size[rank - 1];
    Value cols = like.size[3];
    t = k.split(k.task, {like.size[0], like.size[1], part > 0 ? ys[0].size[2] : k.c(block), k.ceilDiv(rows, kRows),
                         k.ceilDiv(cols, kCols)});
    row = k.mul(t[3], kRows), col = k.mul(t[4], kCols);
    height = k.min(k.sub(rows, row), k.c(kRows)), width = k.min(k.sub(cols, col), k.c(kCols));
    weights = e.base;
    if (rank == 4) {
      weights = k.at(weights, k.mul(t[0], e.stride[0]));
    }
    if (rank >= 3) {
      weights = k.at(weights, k.mul(t[1], e.stride[rank - 3]));
    }
    weights = k.at(weights, k.mul(row, e.stride[rank - 1]));
  }

  /// Sums := 0, and what is staged how.
  void beginSums() {
    wide = k.padded(width), line = k.mul(wide, 4);
    for (const TensorView &one : xs) {
      sums.push_back(k.allocate(kRows * kCols * 4));
      stagedX.push_back(k.allocate(kDepth * kCols * 4));
      k.fillZero(sums.back(), k.mul(line, height));
      pairs &= k.multipliesPairs(one, e);
      // x is read in place where it is f32 with whole registers of adjacent columns.
      bool can = one.type.isF32() && !one.glue;
      inPlace.push_back(can ? k.both(k.adjacent(one), k.eq(wide, width)) : k.constant(k.i1, int64_t(0)));
    }
    stagedE = k.allocate(kDepth * kRows * 4);
    step = pairs ? 2 * kDepth : kDepth;
    // Few columns of e lie in as many cache lines as one: they are read in place.
    narrow = e.type.isF32() && !k.gpu ? k.le(rows, k.c(16)) : k.constant(k.i1, int64_t(0));
  }

  /// Rows [n, n + many) of the sequence.
  void emitChunk(Value n, Value many) {
    Value eHere = k.at2(weights, n, e.stride[rank - 2]);
    if (pairs) {
      k.stagePairs(stagedE, k.c(kRows * 4), eHere, e.stride[rank - 2], e.stride[rank - 1], many, height);
      for (auto [which, x] : llvm::enumerate(xs)) {
        k.stagePairs(stagedX[which], line, placeOf(x, n), k.mul(x.stride[2], block), x.stride[3], many, width);
        product(which, stagedE, stagedX[which], line, k.ceilDiv(many, 2));
      }
      return;
    }
    Value weightsHere = stageWeights(eHere, many);
    SmallVector<OpKernel::Staged> glue;
    for (auto [which, x] : llvm::enumerate(xs)) {
      if (x.glue) {
        glue.push_back({stagedX[which], line, &x});
      }
    }
    k.stage(glue, {t[0], t[1]}, k.add(residue, k.mul(n, block)), block, col, many, width);
    for (auto [which, x] : llvm::enumerate(xs)) {
      if (x.glue) {
        product(which, weightsHere, stagedX[which], line, many);
        continue;
      }
      Value xHere = placeOf(x, n), xStep = k.mul(x.stride[2], block);
      k.ifElse(
          inPlace[which], [&, which = which] { product(which, weightsHere, xHere, xStep, many); },
          [&, which = which, &x = x] {
            k.stage(stagedX[which], line, xHere, xStep, x.stride[3], many, width, x.type);
            product(which, weightsHere, stagedX[which], line, many);
          });
    }
  }

  /// The chunk's weights as f32: staged, or in place where they are narrow.
  Value stageWeights(Value eHere, Value many) {
    int64_t known = cast<RankedTensorType>(op.getWeights().getType()).getDimSize(rank - 1);
    int64_t asked = (ShapedType::isDynamic(known) ? kRows : std::min(known, kRows)) * e.bytes;
    k.ifThen(k.flip(narrow), [&] {
      // Rows of e may be pages apart: the next chunk's are asked for beside this one's.
      auto beside = [&](Value r) { k.prefetch(k.at2(eHere, k.add(r, kDepth), e.stride[rank - 2]), asked, 2); };
      k.stage(stagedE, k.c(kRows * 4), eHere, e.stride[rank - 2], e.stride[rank - 1], many, height, e.type,
              {nullptr, nullptr, beside});
    });
    return k.select(narrow, eHere, stagedE);
  }

  Value placeOf(const TensorView &x, Value n) {
    return k.address(x, {t[0], t[1], k.add(residue, k.mul(n, block)), col});
  }

  /// y[r, :] += sum over n of e[n, r] x[n, :]
  void product(size_t which, Value E, Value X, Value stride, Value count) {
    k.multiply(sums[which], line, E, k.select(narrow, e.stride[rank - 1], k.c(4)),
               k.select(narrow, e.stride[rank - 2], k.c(kRows * 4)), X, stride, height, count, wide, /*fresh=*/false,
               pairs);
  }

  ArrayRef<attn::ProjectOp> ops;
  OpKernel &k;
  attn::ProjectOp op;
  int64_t block, atE, rank, part = 0;
  const int64_t kRows = k.tile(128, 48), kCols = k.tile(256, 64), kDepth = k.tile(64, 32);
  TensorView e;
  SmallVector<TensorView> xs, ys;
  Emitter::Values t; ///< the task: batch, head, block or part, and tiles of rows and of columns
  Value depth, rows, row, col, height, width, weights, residue;
  Emitter::Values sums, stagedX, inPlace;
  Value wide, line, stagedE, narrow;
  bool pairs = true;
  int64_t step = 0;
};
} // namespace

void lowerProject(ArrayRef<attn::ProjectOp> ops, OpKernel &k) { Projects(ops, k).emit(); }

} // namespace heddle
