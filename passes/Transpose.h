//===- Transpose.h - Squares of elements, transposed in registers ---------===//
#ifndef HEDDLE_PASSES_TRANSPOSE_H
#define HEDDLE_PASSES_TRANSPOSE_H

#include "passes/Emitter.h"

namespace heddle {

/// Transposes as many registers as each has lanes, by swapping the bit `h` of row and column numbers, for each h.
inline void transposeSquare(Emitter &e, llvm::MutableArrayRef<mlir::Value> rows) {
  int64_t vl = e.target.width;
  for (int64_t h = vl / 2; h >= 1; h /= 2) {
    llvm::SmallVector<int64_t> upper(vl), lower(vl);
    for (int64_t x = 0; x < vl; ++x) {
      upper[x] = (x & h) ? vl + x - h : x;
      lower[x] = (x & h) ? vl + x : x + h;
    }
    for (int64_t x = 0; x < vl; ++x) {
      if (x & h) {
        continue;
      }
      mlir::Value top = rows[x], bottom = rows[x + h];
      rows[x] = mlir::vector::ShuffleOp::create(e.b, e.loc, top, bottom, upper);
      rows[x + h] = mlir::vector::ShuffleOp::create(e.b, e.loc, top, bottom, lower);
    }
  }
}

} // namespace heddle

#endif // HEDDLE_PASSES_TRANSPOSE_H
