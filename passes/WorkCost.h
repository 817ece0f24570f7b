//===- WorkCost.h - Work of a stratum, by kind ----------------------------===//
//
// What a stratum's counts mean in units of work that cost about the same wherever
// they occur. Free of MLIR.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_WORKCOST_H
#define HEDDLE_PASSES_WORKCOST_H

#include "passes/StratumCost.h"

#include <array>
#include <string>

namespace heddle {

/// Kinds of work, in units that cost about the same wherever they occur.
enum class Work : uint8_t {
  Dots,       ///< scored pairs times d
  Values,     ///< weighted pairs times dv
  Softmax,    ///< weighted pairs
  Regions,    ///< instructions of lanes for the scores of weighted pairs
  Masks,      ///< weighted pairs of chunks with a mask
  Live,       ///< keys of chunks with a mask times columns of lanes
  Conditions, ///< the same times the part of the condition that is on both query and key
  Keys,       ///< keys of all query tiles
  Runs,       ///< runs of keys: values of the outer digits
  Columns,    ///< columns of lanes of all chunks times dv: the accumulators
  Chunks,     ///< chunks
  Tiles,      ///< query tiles times the size of a stratum's bounds
  Rows,       ///< queries times (d + dv), for each tiling of the queries
  Copies,     ///< values of keys that are copied first: rows far apart, or of 16 bits
  FarKeys,    ///< keys times d times the doublings by which they lie farther apart than half a page
  OwnPairs,   ///< pairs of queries that are taken one at a time, times (d + dv)
  OwnRuns,    ///< runs of keys of such queries
  OwnRows,    ///< such queries that have keys, once for each segment
  Calls,      ///< launches
};
inline constexpr size_t kWorkKinds = static_cast<size_t>(Work::Calls) + 1;
const char *nameOf(Work kind);

struct WorkAmounts {
  std::array<double, kWorkKinds> amounts{};
  double &operator[](Work kind) { return amounts[static_cast<size_t>(kind)]; }
  double operator[](Work kind) const { return amounts[static_cast<size_t>(kind)]; }
  void add(const WorkAmounts &o, double times = 1);
};

/// What one stratum does with (d, dv) wide rows.
struct StratumShape {
  double d = 64, dv = 64;    ///< d sums over the dots
  double scoreWork = 0;      ///< instructions of lanes for a pair's score, where it is not just one dot
  double elementBytes = 4;   ///< of a stored element
  bool copiesValues = false; ///< 16-bit rows are copied for every tile
};
/// A stratum's own work; that of whole rows (Rows, OwnRows) and of the launch is the kernel's.
WorkAmounts workOf(const Stratum &s, const StratumCost &cost, const StratumShape &shape);

/// Seconds of a unit of each kind of work for rows of `type` ("f32", "bf16", "f16"), measured on an AMD EPYC of the
/// fifth generation.
std::array<double, kWorkKinds> usualSeconds(const std::string &type);

} // namespace heddle

#endif // HEDDLE_PASSES_WORKCOST_H
