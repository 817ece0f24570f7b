//===- FuseGather.h - Which gathered rows have no copy ----------*- C++ -*-===//
//
// An attend reads rows by their addresses, and a merge each row once, so rows that
// attn.gather_rows would copy can be read where they lie: a step's argument is then
// the tensor itself, with the list's number as its attribute `heddle.rows`, and has
// the gathered tensor's type.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_FUSEGATHER_H
#define HEDDLE_PASSES_FUSEGATHER_H

#include "dialect/Attn.h"
#include "llvm/ADT/DenseSet.h"

namespace heddle {

struct GatherPlan {
  llvm::DenseSet<mlir::Operation *> read; ///< by their attends and merges, without a kernel
  /// Others that an attend or a merge reads as rows, and why they are copied.
  llvm::DenseMap<mlir::Operation *, std::string> apart;
};

/// Decides for the ops of a function.
GatherPlan planGathers(mlir::Block &body);

} // namespace heddle

#endif // HEDDLE_PASSES_FUSEGATHER_H
