//===- GpuShape.h - Tile sizes and shared memory of a GPU kernel ----------===//
//
// Chooses how many queries and keys a block takes at a time, how deep its ring
// of key tiles is and into how many parts the value columns are cut, so that
// everything fits the target's shared memory and registers.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_GPUSHAPE_H
#define HEDDLE_PASSES_GPU_GPUSHAPE_H

#include "passes/KernelSignature.h"

#include <optional>

namespace heddle {

/// Bytes of one row of `d` elements in shared memory: padded so that eight rows
/// 16 bytes wide lie in different banks (an odd number of 16-byte units).
int64_t sharedPitch(int64_t d, int64_t elementBytes);

/// `d` rounded up to what one row of a matrix instruction takes (32 bytes).
int64_t paddedDim(int64_t d, int64_t elementBytes);

struct GpuShape {
  int64_t lanes = 64;   ///< queries of a schedule's tile
  int64_t rows = 64;    ///< of them, those of one block: 16 a warp
  int64_t keys = 64;    ///< of a key tile
  int64_t stages = 2;   ///< key tiles in shared memory
  int64_t columns = 64; ///< value columns of one block, padded
  int64_t chunks = 1;   ///< blocks that share a query tile, each with its columns
  bool bySums = false;  ///< rows of Q and K fit no tile: each dot is a sum of its own, in f32
  bool skewed = false;  ///< a key tile comes with the relative rows of its distances, for products

  int64_t threads() const { return rows * 2; }
  int64_t warps() const { return rows / 16; }
  /// Relative rows that a key tile comes with: the distances of neighboring queries from neighboring keys.
  int64_t distances() const { return rows + keys; }
  int64_t subTiles() const { return std::max<int64_t>(lanes / rows, 1); }
  int64_t pairs() const { return std::max<int64_t>(rows / lanes, 1); } ///< schedule's tiles that a block takes
};

/// Whether a dot is computed pair by pair, so that its rows need no tile.
inline bool dotBySums(const GpuShape &shape, const DotSource &dot) {
  return shape.bySums || (dot.relative && !shape.skewed);
}

/// Rows that a dot needs in a stage of the ring.
inline int64_t stagedRows(const GpuShape &shape, const DotSource &dot) {
  return dotBySums(shape, dot) ? 0 : dot.relative ? shape.distances() : shape.keys;
}

/// Words of a row of the products with relative rows, of a warp's 16 queries: an odd number, for the skewed read.
inline int64_t relativePitch(const GpuShape &shape) { return shape.keys + 17; }

/// Bytes that a block's sums, or products with relative rows, pass through.
int64_t relativeBytes(const GpuShape &shape, const KernelSignature &sig);

/// Distinct (query tensor, dot) pairs of all segments; each has a tile in shared memory. Those that meet relative rows
/// only count where they are `skewed`.
llvm::SmallVector<DotSource> queryTensors(const KernelSignature &sig, bool skewed);

/// Whether any dot is with relative rows.
bool hasRelative(const KernelSignature &sig);

/// Shared bytes of the Q tiles and the ring, without tables.
int64_t tileBytes(const GpuShape &shape, const KernelSignature &sig);

/// The first shape, from large to small, that leaves `tables(shape)` room in `sharedBytes`.
std::optional<GpuShape> chooseGpuShape(const KernelSignature &sig, int64_t sharedBytes,
                                       llvm::function_ref<int64_t(const GpuShape &)> tables);

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_GPUSHAPE_H
