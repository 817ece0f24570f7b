//===- Check.h - A kernel's results against the reference -----------------===//
#ifndef HEDDLE_TOOLS_CHECK_H
#define HEDDLE_TOOLS_CHECK_H

#include "tools/Tensors.h"

namespace heddle::tools {

struct CheckResult {
  /// Largest |error| / tolerance over all elements: passed where it is at most 1.
  double worst = 0;
  /// Largest |error|, and where the worst element is.
  double error = 0;
  std::string where;
  int64_t elements = 0;
  bool passed() const { return worst <= 1; }
};

/// Runs the reference interpreter on the arguments of `problem` and compares it
/// with the results there (docs/numerics.md has the tolerance).
CheckResult checkResults(const Spec &spec, const Problem &problem);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_CHECK_H
