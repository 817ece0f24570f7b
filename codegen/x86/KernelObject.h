//===- KernelObject.h - A kernel's object, compiled in parts --------------===//
#ifndef HEDDLE_CODEGEN_X86_KERNELOBJECT_H
#define HEDDLE_CODEGEN_X86_KERNELOBJECT_H

#include "codegen/x86/TileObjects.h"

namespace heddle {

/// Object of a module in the LLVM dialect, joined with its micro-kernels. A large module's functions are dealt out to
/// parts that `helpers` compile at once; the parts depend on the module alone. Takes the functions out of the module.
/// False with `error` set where LLVM has no code for it.
bool emitKernelObject(mlir::ModuleOp lowered, const X86Target &target, llvm::StringRef entry, const TileObjects &tiles,
                      Helpers &helpers, llvm::SmallVectorImpl<char> &out, std::string &error);

} // namespace heddle

#endif // HEDDLE_CODEGEN_X86_KERNELOBJECT_H
