//===- GpuMath.h - Functions of floats on the GPU -------------------------===//
#ifndef HEDDLE_PASSES_GPU_GPUMATH_H
#define HEDDLE_PASSES_GPU_GPUMATH_H

#include "mlir/IR/BuiltinOps.h"

namespace heddle {

/// Replaces functions that have no instruction (exp, tanh, erf, ..) by MLIR's polynomials, and exp2 by the special
/// function unit; what is not f32 is computed in f32, because libdevice is not at hand.
void expandGpuMath(mlir::ModuleOp module);

/// Moves private functions, which expressions call (the draws of random_blocks), to where the kernels are.
void moveHelpers(mlir::ModuleOp module);

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_GPUMATH_H
