//===- PatternSet.h - Exact questions about patterns ----------------------===//
//
// Emptiness, containment and equality of patterns as sets of integer pairs, for
// all lengths and all heads. Containment is emptiness of `A & ~B`, where ~B is
// never formed: the terms of B are taken away from those of A one by one, and
// MLIR's Presburger library only decides whether a conjunction has an integer
// point. (Its complement, subtraction, comparison and simplification lose
// points on sets with divisions; see PatternSetTest.)
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_PATTERNSET_H
#define HEDDLE_DIALECT_PATTERNSET_H

#include "dialect/Pattern.h"

namespace heddle {

/// A pair, and the head and lengths for which it is one.
struct PatternPoint {
  int64_t head = 0, query = 0, key = 0;
  /// One past the last positions; only `end` and affine sets read them.
  int64_t queryEnd = 0, keyEnd = 0;
};

struct SetAnswer {
  enum Verdict : uint8_t {
    Yes,
    No,
    Undecided, ///< past the limits, or it depends on run-time operands
  } verdict = Undecided;
  /// Where the answer is No: a pair that shows it, checked by Pattern::contains.
  std::optional<PatternPoint> witness;
  /// Where the answer is Undecided: why, "expected ..., but got ...".
  std::string reason;
};

/// Work allowed for one question.
struct SetLimits {
  int64_t solverCalls = 4000;
  int64_t terms = 4096;
  double seconds = 0.5;         ///< for the terms of one head
  int64_t tablePairs = 3000000; ///< pairs of a bounded check that is a proof
};

/// No pair is live, for any head and any lengths. Run-time operands count as
/// unknown, so that `causal & same(%0, %1) & ~causal` is empty.
SetAnswer isEmpty(const Pattern &p, const SetLimits &limits = {});
/// Every pair of `a` is one of `b`. The witness is in a and not in b.
SetAnswer isSubset(const Pattern &a, const Pattern &b, const SetLimits &limits = {});
/// The witness is in exactly one of them.
SetAnswer isEqual(const Pattern &a, const Pattern &b, const SetLimits &limits = {});

} // namespace heddle

#endif // HEDDLE_DIALECT_PATTERNSET_H
