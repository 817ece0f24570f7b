//===- maps.h - Tensor maps of sm_90's copy engine -------------*- C++ -*-===//
//
// How the copy engine walks a tensor, made at launch from a bundle's recipes
// (docs/abi.md, "Kernels for a GPU"). python/heddle/_maps.py makes the same ones.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_MAPS_H
#define HEDDLE_RUNTIME_MAPS_H

#include "heddle/runtime.h"
#include "runtime/src/manifest.h"

#include <cstdint>
#include <optional>

namespace heddle::rt {

/// cuTensorMapEncodeTiled. Types: 32-bit sizes of boxes, 64-bit dimensions and strides.
using EncodeTensorMap = int (*)(void *map, int type, uint32_t rank, void *address, const uint64_t *dims,
                                const uint64_t *strides, const uint32_t *box, const uint32_t *elementStrides,
                                int interleave, int swizzle, int promotion, int fill);

/// What the driver is asked to encode, innermost dimension first: 16-bit elements, 128-byte swizzle, zeros outside.
struct TensorMap {
  static constexpr uint32_t maxRank = 5;
  static constexpr size_t bytes = 128, alignment = 64; ///< of the encoded map

  uint64_t address = 0;
  heddle_dtype dtype = HEDDLE_F16;
  uint32_t rank = 0;
  uint64_t dims[maxRank] = {};
  uint64_t strides[maxRank] = {}; ///< bytes; strides[n] of dimension n + 1
  uint32_t box[maxRank] = {};

  /// The map of boxes of `rows` rows, `step` apart, of a tensor [B, H, N, D] whose record (address, sizes, strides) is
  /// given; null where there can be none.
  static std::optional<TensorMap> make(const int64_t *record, heddle_dtype dtype, const GpuPlan::MapRecipe &recipe);

  /// Has the driver write the map; its answer.
  int encode(EncodeTensorMap driver, void *into) const;
};

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_MAPS_H
