//===- CostModel.h - Predicted time of a schedule -------------------------===//
//
// The time of a kernel on one thread is a sum of kinds of work (pairs whose dots
// are computed, keys whose addresses are looked up, query tiles, ...) times what
// a unit of each costs on the machine, beside the time to read what must be read:
// they overlap, the less the more alike they are (measured: the root of the sum of
// squares). The constants are measured by `bench/costmodel.py --fit`, by least
// squares over kernels made for it, and lie beside the kernel cache; without them,
// those of a common AVX-512 machine stand in.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_COSTMODEL_H
#define HEDDLE_CODEGEN_COSTMODEL_H

#include "passes/WorkCost.h"

#include <cmath>

namespace heddle {

/// Seconds of a unit of each kind of work, for one type of rows, on one thread.
struct MachineModel {
  std::array<double, kWorkKinds> seconds{};
  double bandwidth = 25e9;       ///< bytes a second, one thread
  double sharedBandwidth = 36e9; ///< all threads together
  double threadShare = 0.97;     ///< speed that a thread keeps beside others
  bool measured = false;

  /// The machine's constants for rows of `type` ("f32", "bf16", "f16").
  static MachineModel load(const std::string &type);

  double computeSeconds(const WorkAmounts &w, int64_t threads, double tasks) const;
  double memorySeconds(double bytes, int64_t threads) const;
  /// Of both beside each other.
  static double togetherSeconds(double compute, double memory) { return std::hypot(compute, memory); }
};

} // namespace heddle

#endif // HEDDLE_CODEGEN_COSTMODEL_H
