//===- IntervalTable.h - Long lists of intervals as data --------*- C++ -*-===//
//
// A condition that is a disjunction of many intervals of one integer,
//
//   (j >= i - 447 & j < i - 446) | (j >= i - 531 & j < i - 530) | ...
//
// is no code of its own for each of them, which would take LLVM more than
// linear time: the ends of the intervals in ascending order are a table,
//
//   x in [e_0, e_1) + [e_2, e_3) + ...    iff    the number of ends <= x is odd
//
// and that number is found by bisection.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_INTERVALTABLE_H
#define HEDDLE_PASSES_INTERVALTABLE_H

#include "dialect/Expr.h"
#include "passes/Emitter.h"

#include "mlir/IR/BuiltinOps.h"

#include <optional>

namespace heddle {

struct IntervalTable {
  Expr x;
  std::vector<int64_t> ends; ///< ascending, distinct, an even number
  std::vector<Expr> rest;    ///< disjuncts of another kind
};

/// The table of a boolean that is a disjunction with at least 16 intervals of one integer, else nullopt.
std::optional<IntervalTable> intervalTableOf(const Expr &e);

/// How many ends are <= x (i64, one or lanes), by a function of `module`, which holds the table.
mlir::Value emitEndsUpTo(Emitter &e, mlir::ModuleOp module, const std::vector<int64_t> &ends, mlir::Value x);

} // namespace heddle

#endif // HEDDLE_PASSES_INTERVALTABLE_H
