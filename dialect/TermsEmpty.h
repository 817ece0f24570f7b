//===- TermsEmpty.h - Integer emptiness of a term -------------------------===//
//
// The one place where a term meets MLIR's Presburger library.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_TERMSEMPTY_H
#define HEDDLE_DIALECT_TERMSEMPTY_H

#include "dialect/Terms.h"

namespace heddle {

/// Values of the variables of a sample point.
struct TermSample {
  int64_t query = 0, key = 0, queryEnd = 0, keyEnd = 0;
};

enum class Emptiness : uint8_t {
  Empty,    ///< proved
  NotEmpty, ///< proved: there is an integer point
  Unknown,  ///< satisfiable with opaque parts taken as free, or past the limits
};

/// Whether the term has an integer point. Loads, run-time integers, batch and
/// head are free variables (one for each distinct expression), so Empty is
/// always right and NotEmpty is only said of terms without them. `sample`, if
/// given, receives a point where one was found.
Emptiness emptiness(const Term &t, TermSample *sample = nullptr);

} // namespace heddle

#endif // HEDDLE_DIALECT_TERMSEMPTY_H
