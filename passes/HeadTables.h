//===- HeadTables.h - What a stratum makes of the head --------------------===//
//
// Queries of several heads share a tile where nothing that decides on their keys
// differs between them. A table that has a dimension for heads does not, where that
// dimension has one element, or one for all heads of the tile: known at launch.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_HEADTABLES_H
#define HEDDLE_PASSES_HEADTABLES_H

#include "dialect/Schedule.h"
#include "passes/EmitExpr.h"
#include "llvm/ADT/SetVector.h"

namespace heddle {

/// (operand, dimension) of tables that are indexed by the head.
using HeadTables = llvm::SmallSetVector<std::pair<int64_t, int64_t>, 4>;

/// Adds those that decide on the stratum's keys. False where these differ by head in another way too.
bool collectHeadTables(const Stratum &s, llvm::ArrayRef<OperandRecord> records, HeadTables &out);

} // namespace heddle

#endif // HEDDLE_PASSES_HEADTABLES_H
