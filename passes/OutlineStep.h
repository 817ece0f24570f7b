//===- OutlineStep.h - One op of a program as a module of its own ---------===//
//
// A step is a module with one function, whose arguments are the op's operands, in
// the order of the spec, then what the glue in the step reads (FuseGlue.h) and the
// lists of rows that an op reads through (FuseGather.h). `heddle.inputs` and
// `heddle.outputs` of the module are the numbers of its values in the program.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_OUTLINESTEP_H
#define HEDDLE_PASSES_OUTLINESTEP_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/FuseGather.h"
#include "passes/FuseGlue.h"

namespace heddle {

/// What is known of a program while its ops become steps.
struct ProgramPlan {
  llvm::DenseMap<mlir::Value, int64_t> numbers; ///< of values that lie in memory
  int64_t count = 0;                            ///< of numbers so far
  GluePlan glue;
  GatherPlan gathers;

  void number(mlir::Value v) { numbers[v] = count++; }
  /// The op has no step: others do its work.
  bool isInOthers(mlir::Operation &op) const {
    return glue.inlined.contains(&op) || glue.joined.contains(&op) || gathers.read.contains(&op);
  }
  /// The ops whose work the step of `op` is, besides glue that it reads.
  llvm::SmallVector<mlir::Operation *> mainOps(mlir::Operation &op) const;
};

/// Appends the step of `op`, number `step`, to the module of `fn`. The op's results have no numbers yet.
llvm::LogicalResult outlineStep(mlir::func::FuncOp fn, mlir::Operation &op, int64_t step, const ProgramPlan &program);

} // namespace heddle

#endif // HEDDLE_PASSES_OUTLINESTEP_H
