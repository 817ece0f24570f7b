//===- LowerGlue.cpp - linalg.generic between ops of a spec as a kernel ---===//
//
// Elementwise glue: all iterators parallel, the result indexed by the loops as they
// stand. A task takes some rows of the result; columns are on lanes. Floats are
// computed in f32 whatever their storage type, and rounded once when stored. Glue
// that its readers compute has no kernel (FuseGlue.h).
//
//===----------------------------------------------------------------------===//

#include "passes/GlueReader.h"

using namespace mlir;

namespace heddle {

static constexpr int64_t kRows = 64; // a task

LogicalResult lowerGlue(linalg::GenericOp op, OpKernel &k) {
  if (failed(GlueReader::prepare(k, op.getResult(0)))) {
    return failure();
  }
  SmallVector<AffineExpr> sizes;
  AffineExpr rows = k.number(1);
  for (unsigned axis = 0; axis < op.getNumLoops(); ++axis) {
    sizes.push_back(k.sizeOf(op.getResult(0), axis));
    rows = axis + 1 < op.getNumLoops() ? rows * sizes.back() : rows;
  }
  SmallVector<TensorView> outs;
  const int64_t lane = int64_t(op.getNumLoops()) - 1;
  Value contiguous = GlueReader::isAdjacent(k, op.getResult(0), lane);
  for (auto [r, v] : llvm::enumerate(op.getResults())) {
    k.result(sizes);
    outs.push_back(k.resultView(int64_t(r)));
    contiguous = k.both(contiguous, k.adjacent(outs.back()));
  }
  k.launch(rows.ceilDiv(kRows), rows * sizes.back() * OpKernel::kMoved);
  SmallVector<Value> outer(outs[0].size.begin(), outs[0].size.end() - 1);
  Value all = k.c(1);
  for (Value size : outer) {
    all = arith::MulIOp::create(k.b, k.loc, all, size);
  }
  Value first = k.mul(k.task, kRows), last = k.min(k.add(first, k.c(kRows)), all);
  k.rows(first, last, [&](Value row) {
    SmallVector<Value> at;
    if (!outer.empty()) {
      Emitter::Values split = k.split(row, outer);
      at.assign(split.begin(), split.end());
    }
    k.columns(outs[0].size.back(), contiguous, 2, [&](ArrayRef<Value> cols, bool vector) {
      for (Value col : cols) {
        OpKernel::AllComputed computed;
        SmallVector<Value> index(at);
        index.push_back(col);
        GlueReader reader(k, computed);
        for (auto [out, value] : llvm::zip(outs, reader.results(op, index, vector ? lane : -1))) {
          Value place = k.address(out, index);
          if (isa<FloatType>(out.type)) {
            k.storeF32As(out.type, value, place);
          } else {
            k.store(k.toInt(value, out.type.isInteger(1) ? k.i8 : out.type), place, out.bytes);
          }
        }
      }
    });
  });
  return success();
}

} // namespace heddle
