//===- GpuOrder.h - Which tiles of a kernel are the longest ---------------===//
//
// Blocks take tiles in the order of their predicted cost, the longest first, so
// that what is left at the end is short. The cost of a tile is what its stream
// holds: the keys that the schedule's bounds give its queries. It is counted when a
// kernel is compiled, at a length of many tiles, for its direction: whether it
// grows or falls along the sequence.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_GPUORDER_H
#define HEDDLE_PASSES_GPU_GPUORDER_H

#include "dialect/Schedule.h"

#include "llvm/ADT/ArrayRef.h"

namespace heddle {

/// Keys of the queries of tile `number`, where every tile spans `span` positions and there are `tiles` of them: the
/// mean over some of its queries, summed over the strata `members`. What only a run shows (loads, scalars) counts as 0
/// or 64.
double predictedKeys(const Schedule &schedule, llvm::ArrayRef<int64_t> members, int64_t span, int64_t number,
                     int64_t tiles);

/// Whether tiles further on have more keys; false where there is no trend.
bool laterTilesCostMore(const Schedule &schedule, llvm::ArrayRef<int64_t> members, int64_t span);

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_GPUORDER_H
