//===- maps.cpp - Tensor maps of sm_90's copy engine ----------------------===//
#include "runtime/src/maps.h"

#include <algorithm>

using namespace heddle::rt;

// The driver API's numbers (cuda.h).
static constexpr int typeFloat16 = 6, typeBFloat16 = 9; // CU_TENSOR_MAP_DATA_TYPE_FLOAT16, _BFLOAT16
static constexpr int swizzle128 = 3, promote256 = 3; // CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B

static constexpr int64_t itemBytes = 2, unit = 16, strideLimit = int64_t(1) << 40;
static constexpr uint32_t panel = 64; ///< columns of a box: 128 bytes

std::optional<TensorMap> TensorMap::make(const int64_t *record, heddle_dtype dtype, const GpuPlan::MapRecipe &recipe) {
  const int64_t *sizes = record + 1, *steps = record + 5;
  int64_t batches = sizes[0], heads = sizes[1], rows = sizes[2], columns = sizes[3];
  bool sixteen = dtype == HEDDLE_F16 || dtype == HEDDLE_BF16;
  if (!sixteen || std::min({batches, heads, rows, columns}) < 1 || (columns > 1 && steps[3] != 1) ||
      record[0] % unit != 0) {
    return std::nullopt;
  }
  TensorMap map;
  map.address = uint64_t(record[0]);
  map.dtype = dtype;
  map.dims[map.rank++] = uint64_t(columns);
  int64_t dense = (columns * itemBytes + unit - 1) / unit * unit;
  bool fits = true;
  auto axis = [&](int64_t count, int64_t step, int64_t times, bool repeats) {
    int64_t stride = 0;
    bool past = __builtin_mul_overflow(step, itemBytes * times, &stride);
    bool alone = count == 1 || (repeats && step == 0);
    map.dims[map.rank] = uint64_t(alone ? 1 : count);
    map.strides[map.rank - 1] = uint64_t(alone ? dense : stride);
    ++map.rank;
    fits = fits && (alone || (!past && stride % unit == 0 && stride > 0 && stride < strideLimit));
  };
  map.box[0] = panel;
  if (recipe.step == 1) {
    axis(rows, steps[2], 1, false);
    map.box[1] = uint32_t(recipe.rows);
  } else {
    axis(std::min(rows, recipe.step), steps[2], 1, false);
    axis(std::max<int64_t>(rows / recipe.step, 1), steps[2], recipe.step, false);
    map.box[1] = 1;
    map.box[2] = uint32_t(recipe.rows);
  }
  for (int64_t n : {1, 0}) {
    map.box[map.rank] = 1;
    axis(sizes[n], steps[n], 1, true);
  }
  return fits ? std::optional(map) : std::nullopt;
}

int TensorMap::encode(EncodeTensorMap driver, void *into) const {
  static constexpr uint32_t ones[maxRank] = {1, 1, 1, 1, 1};
  return driver(into, dtype == HEDDLE_F16 ? typeFloat16 : typeBFloat16, rank, reinterpret_cast<void *>(address), dims,
                strides, box, ones, /*interleave=*/0, swizzle128, promote256, /*fill=*/0);
}
