//===- launch.h - From tensors to the argument block -----------*- C++ -*-===//
//
// Checks the tensors of one call against the manifest and builds the block of
// docs/abi.md. Cheap: no allocation once a thread has launched a kernel of the
// same size before.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_LAUNCH_H
#define HEDDLE_RUNTIME_LAUNCH_H

#include "runtime/src/manifest.h"

#include <cstdlib>
#include <memory>
#include <vector>

namespace heddle::rt {

/// One call, ready to run.
struct Launch {
  std::vector<int64_t> block;   ///< the argument block
  std::vector<int64_t> storage; ///< offsets and converted scalars; the block points into it
  std::vector<int32_t> orders;  ///< tables of sorted rows (orders.h); the block points into them too
  size_t orderSlot = 0;         ///< the first slot of the orders
  struct Free {
    void operator()(char *p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> zeros; ///< a row for entries of lists that are out of range; nobody writes to it
  size_t zerosSize = 0;
  int64_t units = 0; ///< super-tiles, over all batches and blocks of heads
  double work = 0;   ///< multiply-adds if every pair were live
};

/// Slots that open the block; phases (docs/abi.md).
enum HeaderSlot : size_t {
  SlotBatches = 0,
  SlotHeads,
  SlotQueries,
  SlotTiles,
  SlotPhase,
  SlotParts,
  SlotHeadsPerTile,
  SlotKeysPerSplit,
  SlotSplits,
  SlotMemory,
  SlotFirstUnit,
  SlotHeadsPerSection, ///< of a GPU
  HeaderSlots = 16,
  RecordSlots = 9 ///< of each argument and result, behind the header
};
enum Phase : int64_t { PhaseWhole = 0, PhasePartial, PhaseMerge, PhaseFirstGroup };

/// The tensors as the kernel counts them: one that is read through a list has as many rows as the list. Wrong sizes of
/// a list are an error.
Error seeThroughLists(const Manifest &manifest, const heddle_tensor *args, std::vector<heddle_tensor> &seen);

/// Fills `launch`, or says which tensor is wrong and how.
Error prepareLaunch(const Manifest &manifest, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
                    int32_t numResults, Launch &launch);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_LAUNCH_H
