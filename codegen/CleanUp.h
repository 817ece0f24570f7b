//===- CleanUp.h - What LLVM does to a kernel's module --------------------===//
#ifndef HEDDLE_CODEGEN_CLEANUP_H
#define HEDDLE_CODEGEN_CLEANUP_H

#include "llvm/IR/PassManager.h"
#include "llvm/Target/TargetMachine.h"

namespace heddle {

/// Clean-up, common subexpressions and loop-invariant code. Kernels come vectorized, unrolled and without allocas: the
/// rest of O2 takes as long again and changes nothing measurable. `prepare` adds passes on the module before.
void cleanUp(llvm::Module &module, llvm::TargetMachine &machine,
             llvm::function_ref<void(llvm::ModulePassManager &)> prepare = {});

} // namespace heddle

#endif // HEDDLE_CODEGEN_CLEANUP_H
