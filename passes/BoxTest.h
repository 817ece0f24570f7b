//===- BoxTest.h - What a condition may be on a box of pairs --------------===//
//
// Interval arithmetic at run time: from ranges of the query and of the key, the
// ranges of a condition's integer parts, and from those whether it may hold for
// some pair of the box, or must for all. A box for which it may not is skipped.
// Where a box takes few elements of a tensor, they are looked through.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_BOXTEST_H
#define HEDDLE_PASSES_BOXTEST_H

#include "passes/EmitExpr.h"
#include "passes/KnownRanges.h"

namespace heddle {

/// First and last value. `known` (null: always): false where, at run time, nothing can be said of them.
struct Between {
  mlir::Value first, last, known = {};
};

/// At run time: false only where no pair of the box meets a condition, and true only where every pair does.
struct Truth {
  mlir::Value may, must;
};
/// Of a condition that hasBoxTest(); `uniform` is a scope without query and key, `row` tells of a load that
/// isRowOfKeys().
Truth emitBoxTest(Emitter &e, const Expr &condition, const ExprScope &uniform, Between query, Between key,
                  llvm::function_ref<Truth(const Expr &)> row);

} // namespace heddle

#endif // HEDDLE_PASSES_BOXTEST_H
