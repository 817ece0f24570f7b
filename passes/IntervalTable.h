//===- IntervalTable.h - Long lists of intervals in the code ----*- C++ -*-===//
//
// The ends of many intervals (dialect/KeyTable.h) are no code of their own for
// each of them, which would take LLVM more than linear time, but data of the
// module; how many are at most x is found by bisection.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_INTERVALTABLE_H
#define HEDDLE_PASSES_INTERVALTABLE_H

#include "dialect/KeyTable.h"
#include "passes/Emitter.h"

#include "mlir/IR/BuiltinOps.h"

namespace heddle {

/// How many ends are <= x (i64, one or lanes), by a function of `module`, which holds the table.
mlir::Value emitEndsUpTo(Emitter &e, mlir::ModuleOp module, const std::vector<int64_t> &ends, mlir::Value x);

/// Whether the number of ends <= x (i64) is odd, by branches: for code that has no tables.
mlir::Value emitOddUpTo(Emitter &e, llvm::ArrayRef<int64_t> ends, mlir::Value x);

/// Address of the table of these ends; what a register reads behind the last one exists.
mlir::Value emitEnds(Emitter &e, mlir::ModuleOp module, const std::vector<int64_t> &ends);

} // namespace heddle

#endif // HEDDLE_PASSES_INTERVALTABLE_H
