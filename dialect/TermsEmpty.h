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

/// Asks many related questions: points of earlier terms and a small scan answer
/// most of them, the solver the rest, up to a number of calls.
class EmptinessOracle {
public:
  explicit EmptinessOracle(int64_t solverCalls) : callsLeft(solverCalls) {}

  /// True where the term is certainly empty.
  bool isEmpty(const Term &t);
  int64_t callsLeft;

private:
  std::vector<TermSample> points; ///< the last ones found, newest last
  bool hasKnownPoint(const Term &t);
  bool scan(const Term &t);
  void remember(const TermSample &p);
};

} // namespace heddle

#endif // HEDDLE_DIALECT_TERMSEMPTY_H
