//===- heddle-opt.cpp - Runs passes on a module ---------------------------===//
//
// The opt-style tool: parses a module of the attn dialect and upstream's, runs
// any pass or pipeline, and prints the result; -verify-diagnostics and
// -split-input-file as in mlir-opt.
//
//===----------------------------------------------------------------------===//
#include "tools/Dialects.h"

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

#ifdef HEDDLE_HAS_PASSES
#include "passes/Passes.h"
#endif

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  heddle::registerDialects(registry);
  registry.insert<mlir::amx::AMXDialect>();
  mlir::registerTransformsPasses();
#ifdef HEDDLE_HAS_PASSES
  heddle::registerPasses();
#endif
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "heddle-opt: runs passes on attention programs\n", registry));
}
