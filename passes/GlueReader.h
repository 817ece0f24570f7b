//===- GlueReader.h - Values of glue where a kernel reads them --*- C++ -*-===//
//
// Glue is a tree of linalg.generic over the kernel's arguments. Here it is computed
// element by element, or a register of elements along one of its dimensions. Floats
// are f32; what would lie in memory between two generics is rounded to its type.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GLUEREADER_H
#define HEDDLE_PASSES_GLUEREADER_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/IRMapping.h"
#include "passes/OpKernel.h"

namespace heddle {

class GlueReader {
public:
  GlueReader(OpKernel &k, OpKernel::AllComputed &computed) : k(k), computed(computed) {}

  /// The results of `op` at indices of its loops; a register along loop `lane` where that is not -1.
  llvm::SmallVector<mlir::Value> results(mlir::linalg::GenericOp op, llvm::ArrayRef<mlir::Value> at, int64_t lane);
  /// A tensor at indices of its dimensions.
  mlir::Value tensor(mlir::Value tensor, llvm::ArrayRef<mlir::Value> at, int64_t lane);

  /// Why glue has no kernel, empty where it has one.
  static std::string whyNot(mlir::linalg::GenericOp op);
  /// Prepares for reading: views of the arguments, checks of their sizes. Asked for where the kernel begins.
  static mlir::LogicalResult prepare(OpKernel &k, mlir::Value tensor);
  /// An argument and its axis that has the size of an axis of a tensor; no argument where there is none.
  static std::pair<mlir::Value, int64_t> sourceOf(mlir::Value tensor, int64_t axis);
  /// True where a register along axis `lane` is of adjacent elements in all arguments, or of one element.
  static mlir::Value isAdjacent(OpKernel &k, mlir::Value tensor, int64_t lane);

private:
  mlir::Value load(const TensorView &view, llvm::ArrayRef<mlir::Value> at, int64_t lane);
  mlir::Value valueOf(mlir::Value v, mlir::IRMapping &map);
  mlir::Value clone(mlir::Operation &inner, mlir::IRMapping &map);
  mlir::Value rounded(mlir::Type storage, mlir::Value v);
  mlir::Type lowered(mlir::Type t) { return mlir::isa<mlir::FloatType>(t) ? k.f32 : t.isIndex() ? k.i64 : t; }

  OpKernel &k;
  OpKernel::AllComputed &computed;
  llvm::ArrayRef<mlir::Value> loops; ///< of the generic that is being computed
  int64_t lane = -1;
};

} // namespace heddle

#endif // HEDDLE_PASSES_GLUEREADER_H
