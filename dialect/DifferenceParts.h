//===- DifferenceParts.h - Patterns in i - j alone, in few parts ----------===//
//
// A pattern that depends on d = i - j alone is eventually periodic on both
// sides. It is tabulated over its thresholds and two periods, and cut into
// intervals and arithmetic progressions of runs.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_DIFFERENCEPARTS_H
#define HEDDLE_DIALECT_DIFFERENCEPARTS_H

#include "dialect/Pattern.h"

namespace heddle {

/// lo <= d <= hi (absent: unbounded) and, where period > 0,
/// (d - start) mod period < length.
struct DifferencePart {
  std::optional<int64_t> lo, hi;
  int64_t period = 0, start = 0, length = 0;
};

/// True where only literals and i - j decide.
bool isDifference(const Pattern &p);

/// Disjoint parts of p (of its complement where `negated`); nullopt where the
/// table or the number of parts would be too large.
std::optional<std::vector<DifferencePart>> differenceParts(const Pattern &p, bool negated);

} // namespace heddle

#endif // HEDDLE_DIALECT_DIFFERENCEPARTS_H
