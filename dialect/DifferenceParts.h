//===- DifferenceParts.h - Patterns in i - j alone, in few parts ----------===//
//
// A pattern that depends on d = i - j alone is a set of integers that is
// periodic far out on both sides (DifferenceSet.h). It is cut into intervals and
// arithmetic progressions of runs.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_DIFFERENCEPARTS_H
#define HEDDLE_DIALECT_DIFFERENCEPARTS_H

#include "dialect/DifferenceSet.h"

namespace heddle {

/// lo <= d <= hi (absent: unbounded) and, where period > 0,
/// (d - start) mod period < length.
struct DifferencePart {
  std::optional<int64_t> lo, hi;
  int64_t period = 0, start = 0, length = 0;
};

/// Disjoint parts of p (of its complement where `negated`); nullopt where the
/// set or the number of parts would be too large.
std::optional<std::vector<DifferencePart>> differenceParts(const Pattern &p, bool negated);

} // namespace heddle

#endif // HEDDLE_DIALECT_DIFFERENCEPARTS_H
