//===- RowChoice.h - Tiles of queries, or queries one at a time -----------===//
#ifndef HEDDLE_PASSES_ROWCHOICE_H
#define HEDDLE_PASSES_ROWCHOICE_H

#include "dialect/Schedule.h"

namespace heddle {

/// Sets `byRow` on the strata whose pairs cost less when each query takes its own keys than in tiles, whose lanes take
/// the union of their keys. `widths`: of each segment, elements of a row of K (all dots) and of V together.
void chooseRows(std::vector<Stratum> &strata, const std::vector<int64_t> &widths);

} // namespace heddle

#endif // HEDDLE_PASSES_ROWCHOICE_H
