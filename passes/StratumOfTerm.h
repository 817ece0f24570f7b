//===- StratumOfTerm.h - One term in digit coordinates --------------------===//
//
// Turns a conjunction of literals into a stratum.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_STRATUMOFTERM_H
#define HEDDLE_PASSES_STRATUMOFTERM_H

#include "dialect/Terms.h"
#include "passes/BuildStrata.h"

namespace heddle {

/// The literal whose entries or ids give the keys of the term; null where keys are walked by digits.
const Literal *keySource(const Term &t);

/// The stratum of exactly the pairs of `t`. Literals without common digits
/// become its residual, and the note names them.
Stratum stratumOfTerm(const Term &t, const StrataLimits &limits);

} // namespace heddle

#endif // HEDDLE_PASSES_STRATUMOFTERM_H
