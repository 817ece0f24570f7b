//===- Manifest.h - What the runtime must know of a kernel ----------------===//
#ifndef HEDDLE_CODEGEN_MANIFEST_H
#define HEDDLE_CODEGEN_MANIFEST_H

#include "passes/KernelSignature.h"

#include "llvm/Support/JSON.h"

namespace heddle {

/// The manifest of docs/abi.md, but for what is known only after lowering
/// ("target", "features", and those on sizes and splits: docs/abi.md).
llvm::json::Object describeKernel(const KernelSignature &signature);

/// The same for a step of one op on whole tensors, but for "tasks", "work" and "checks" (describeLaunch).
llvm::json::Object describeOp(mlir::func::FuncOp step);
/// Adds what attn-lower-ops found out, from the module's `heddle.launch`.
void describeLaunch(mlir::ModuleOp lowered, llvm::json::Object &manifest);

/// The manifest of a program that attn-split-program made; `kernels` has the number of each step's kernel, `sizes`
/// the bytes of each kernel.
llvm::json::Object describeProgram(mlir::ModuleOp split, llvm::ArrayRef<int64_t> kernels,
                                   llvm::ArrayRef<int64_t> sizes);

} // namespace heddle

#endif // HEDDLE_CODEGEN_MANIFEST_H
