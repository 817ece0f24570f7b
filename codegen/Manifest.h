//===- Manifest.h - What the runtime must know of a kernel ----------------===//
#ifndef HEDDLE_CODEGEN_MANIFEST_H
#define HEDDLE_CODEGEN_MANIFEST_H

#include "passes/KernelSignature.h"

#include "llvm/Support/JSON.h"

namespace heddle {

/// The manifest of docs/abi.md, but for what is known only after lowering
/// ("target", "features", and those on sizes and splits: docs/abi.md).
llvm::json::Object describeKernel(const KernelSignature &signature);

} // namespace heddle

#endif // HEDDLE_CODEGEN_MANIFEST_H
