//===- ScalarOps.h - Scalar operations that LLVM has not, or not everywhere ===//
#ifndef HEDDLE_PASSES_SCALAROPS_H
#define HEDDLE_PASSES_SCALAROPS_H

#include "mlir/IR/Builders.h"

namespace heddle {

/// The result of `op`, an operation of scalar code, on `operands` (scalars or vectors of one length): of divisions and
/// shifts, which are undefined for some operands and 0 there as in ScalarCode, and of functions that LLVM has no code
/// for. Null for any other operation, which stands for itself.
mlir::Value emitScalarOp(mlir::OpBuilder &b, mlir::Location loc, mlir::Operation &op,
                         llvm::ArrayRef<mlir::Value> operands);

} // namespace heddle

#endif // HEDDLE_PASSES_SCALAROPS_H
