//===- SplitProgram.h - Kernels and programs ------------------------------===//
#ifndef HEDDLE_PASSES_SPLITPROGRAM_H
#define HEDDLE_PASSES_SPLITPROGRAM_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace heddle {

/// True where `func` is more than one attend on its arguments, whose results it returns (out first).
bool isProgram(mlir::func::FuncOp func);

} // namespace heddle

#endif // HEDDLE_PASSES_SPLITPROGRAM_H
