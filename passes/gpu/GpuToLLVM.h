//===- GpuToLLVM.h - Kernels of attn-tile-gpu to the LLVM dialect ---------===//
//
// Such kernels hold no vectors but LLVM's, so that one conversion walks over them
// where the CPU's pipeline takes a pass for each dialect.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_GPUTOLLVM_H
#define HEDDLE_PASSES_GPU_GPUTOLLVM_H

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/PassManager.h"

namespace heddle {

/// What the conversion asks of each dialect.
void registerGpuToLLVM(mlir::DialectRegistry &registry);

/// scf, arith, math, cf and func to the LLVM dialect.
void buildGpuToLLVM(mlir::OpPassManager &pm);

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_GPUTOLLVM_H
