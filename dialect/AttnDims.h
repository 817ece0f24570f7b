//===- AttnDims.h - The roles of dimensions ---------------------*- C++ -*-===//
//
// Names the dimensions of attention's tensors once, so that nobody indexes a
// shape by number.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ATTNDIMS_H
#define HEDDLE_DIALECT_ATTNDIMS_H

#include "mlir/IR/BuiltinTypes.h"

namespace heddle::attn {

/// A tensor `[batch, heads, rows, features]`: q, k, v, out, or a side of a dot.
struct RowsType {
  static constexpr int64_t rank = 4;
  mlir::RankedTensorType type;
  int64_t batch() const { return type.getDimSize(0); }
  int64_t heads() const { return type.getDimSize(1); }
  int64_t rows() const { return type.getDimSize(2); }
  int64_t features() const { return type.getDimSize(3); }
};

/// True where two sizes can be equal at run time.
inline bool mayEqual(int64_t a, int64_t b) {
  return mlir::ShapedType::isDynamic(a) || mlir::ShapedType::isDynamic(b) || a == b;
}

/// True where a size `a` can be `b` or a broadcast 1.
inline bool mayBroadcast(int64_t a, int64_t b) { return a == 1 || mayEqual(a, b); }

} // namespace heddle::attn

#endif // HEDDLE_DIALECT_ATTNDIMS_H
