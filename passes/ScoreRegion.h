//===- ScoreRegion.h - A score region's code in a kernel ------------------===//
#ifndef HEDDLE_PASSES_SCOREREGION_H
#define HEDDLE_PASSES_SCOREREGION_H

#include "passes/EmitExpr.h"
#include "passes/KernelSignature.h"

namespace heddle {

/// The score that a region computes of (dots.., b, h, i, j), each a scalar or lanes: what depends on lanes is a
/// vector, the rest stays scalar. `args` is the argument block; `captured` gives the address of the f64 or i64 of a
/// scalar argument that the region reads. `given`: values of the region that are known already.
mlir::Value emitScoreRegion(Emitter &e, const KernelSignature &sig, mlir::Value args, mlir::Region &region,
                            llvm::ArrayRef<mlir::Value> arguments,
                            llvm::function_ref<mlir::Value(int64_t argument)> captured,
                            llvm::ArrayRef<std::pair<mlir::Value, mlir::Value>> given = {});

/// One value of the region, where its arguments are these; null: arguments that it does not need.
mlir::Value emitScorePart(Emitter &e, const KernelSignature &sig, mlir::Value args, mlir::Value part,
                          llvm::ArrayRef<mlir::Value> arguments,
                          llvm::function_ref<mlir::Value(int64_t argument)> captured);

} // namespace heddle

#endif // HEDDLE_PASSES_SCOREREGION_H
