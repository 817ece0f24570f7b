//===- TileObjects.h - Micro-kernels, compiled once in a process ----------===//
//
// A micro-kernel's code depends on its declaration and on the target, not on the
// pattern, and a dozen of them are most of a kernel's code. So each is compiled
// by itself, to an object that all kernels of the process use, and those that are
// missing are compiled while the rest of a kernel is.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_X86_TILEOBJECTS_H
#define HEDDLE_CODEGEN_X86_TILEOBJECTS_H

#include "codegen/Helpers.h"
#include "codegen/x86/X86Target.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <vector>

namespace heddle {

struct TileObject;

/// Gives declared micro-kernels their bodies for a target.
void buildMicroKernels(mlir::OpPassManager &pm, const X86Target &target);

/// The micro-kernels of one kernel.
class TileObjects {
public:
  /// Takes over the micro-kernels that a module declares: they become functions of another object. `helpers` gets the
  /// tasks that compile those which no kernel of the process has used yet.
  void take(mlir::ModuleOp module, const X86Target &target, Helpers &helpers);
  /// After the tasks: adds the objects, in the order of their declarations. False with `error` set where one did not
  /// compile.
  bool give(std::vector<llvm::StringRef> &objects, std::string &error) const;

private:
  std::vector<TileObject *> all; ///< they live as long as the process
};

} // namespace heddle

#endif // HEDDLE_CODEGEN_X86_TILEOBJECTS_H
