//===- RowLists.h - Lists of rows, as ops on rows read them ---------------===//
#ifndef HEDDLE_PASSES_ROWLISTS_H
#define HEDDLE_PASSES_ROWLISTS_H

#include "passes/OpKernel.h"

namespace heddle {

/// A row number of a list as i64.
inline mlir::Value loadRow(OpKernel &k, const TensorView &rows, mlir::Value address) {
  return k.toInt(k.load(rows.type, address, rows.bytes), k.i64);
}

/// Base of a list `[1 or B, M]` or `[1 or B, 1 or H, M]` for (b, h); its last stride walks m.
inline mlir::Value listBase(OpKernel &k, const TensorView &rows, mlir::Value b, mlir::Value h) {
  llvm::SmallVector<mlir::Value> at = {b};
  if (rows.size.size() == 3) {
    at.push_back(h);
  }
  return k.address(rows, at);
}

/// Argument `arg` is such a list, of any length.
inline void expectList(OpKernel &k, int64_t arg, int64_t rank, mlir::AffineExpr batch, mlir::AffineExpr heads) {
  k.expect(arg, 0, batch, true);
  if (rank == 3) {
    k.expect(arg, 1, heads, true);
  }
}

inline int64_t rankOf(mlir::Value v) { return mlir::cast<mlir::RankedTensorType>(v.getType()).getRank(); }

} // namespace heddle

#endif // HEDDLE_PASSES_ROWLISTS_H
