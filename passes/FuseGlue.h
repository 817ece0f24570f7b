//===- FuseGlue.h - Which glue has no kernel of its own ---------*- C++ -*-===//
//
// Elementwise glue whose every reader is an op that can compute it while it reads
// has no kernel and no place in memory (SplitProgram.cpp puts it into its readers'
// steps, GlueReader.h computes it there). With several readers, or one that reads
// an element several times, it is computed several times: that is done where it
// costs less than writing and reading the result.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_FUSEGLUE_H
#define HEDDLE_PASSES_FUSEGLUE_H

#include "dialect/Attn.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "llvm/ADT/DenseSet.h"

namespace heddle {

struct GluePlan {
  llvm::DenseSet<mlir::Operation *> inlined;            ///< computed by its readers
  llvm::DenseMap<mlir::Operation *, std::string> apart; ///< other glue, and why it has a kernel of its own
  /// Projects by the same weights that read the same tensors: the first one's step does the others' work.
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<attn::ProjectOp>> together;
  llvm::DenseSet<mlir::Operation *> joined; ///< the others
};

/// Decides for the ops of a function.
GluePlan planGlue(mlir::Block &body);

/// Cycles of a register of elements of glue, without its reads.
double glueCycles(mlir::linalg::GenericOp op);

/// What glue with a kernel of its own moves and takes, in words.
std::string costOfGlue(mlir::linalg::GenericOp op);

} // namespace heddle

#endif // HEDDLE_PASSES_FUSEGLUE_H
