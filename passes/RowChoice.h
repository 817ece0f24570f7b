//===- RowChoice.h - Tiles of queries, or queries one at a time -----------===//
#ifndef HEDDLE_PASSES_ROWCHOICE_H
#define HEDDLE_PASSES_ROWCHOICE_H

#include "passes/WorkCost.h"

namespace heddle {

/// Sets `byRow` on the strata whose pairs cost less when each query takes its own keys than in tiles, whose lanes take
/// the union of their keys, where sequences are long enough to fill tiles. Returns Schedule::rowsUpTo, where none is.
/// `shapes`: of each segment; `type`: of the rows ("f32", "bf16", "f16").
int64_t chooseRows(std::vector<Stratum> &strata, const std::vector<StratumShape> &shapes, const std::string &type);

} // namespace heddle

#endif // HEDDLE_PASSES_ROWCHOICE_H
