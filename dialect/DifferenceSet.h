//===- DifferenceSet.h - Patterns of the distance as sets of integers -----===//
//
// A pattern in which only i - j and literals decide is a set of distances.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_DIFFERENCESET_H
#define HEDDLE_DIALECT_DIFFERENCESET_H

#include "dialect/Pattern.h"
#include "dialect/PeriodicSet.h"

namespace heddle {

/// { i - j } of causal, window, stride and offsets with literals; nullopt of other kinds, and past a cap of
/// PeriodicSet.
std::optional<PeriodicSet> primitiveDifferences(const PatternNode &n);

/// True where only literals and i - j decide.
bool isDifference(const Pattern &p);

/// { i - j } of a pattern for which isDifference holds; nullopt past a cap.
std::optional<PeriodicSet> differenceSet(const Pattern &p);

} // namespace heddle

#endif // HEDDLE_DIALECT_DIFFERENCESET_H
