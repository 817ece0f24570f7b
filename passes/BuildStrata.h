//===- BuildStrata.h - From a pattern to disjoint strata ------------------===//
//
// The heart of the scheduler: splits a pattern into disjoint strata in digit
// coordinates (dialect/Schedule.h), exactly where it can, else as a masked
// stratum with a note that says why.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_BUILDSTRATA_H
#define HEDDLE_PASSES_BUILDSTRATA_H

#include "dialect/Schedule.h"

namespace heddle {

struct StrataLimits {
  int64_t lanes = 64;          ///< queries of one tile
  int64_t maxTerms = 24;       ///< strata of one pattern; past it, one masked stratum
  int64_t maxSuperTile = 4096; ///< query positions that may share one softmax state
  double maxCode = 240;        ///< of codeOf(strata); past it, the rest is one masked stratum
};

/// Milliseconds that the code of these strata adds to a compilation, about: what was measured over random patterns.
double codeOf(const std::vector<Stratum> &strata);

/// The strata of one segment's pattern: disjoint, their union is the pattern on
/// all integer pairs. What has no digits becomes masked, with a note. Throws a
/// std::exception only where a constant times a block size passes 64 bits. Bounds
/// on j itself are in the stratum's lower and upper, or, where they are multiples
/// of the leading digit's radix, on that digit.
std::vector<Stratum> buildStrata(const Pattern &p, int64_t segment, const StrataLimits &limits = {});

/// The rows of a result are as wide as their accumulators, in whole registers.
constexpr bool resultHoldsAcc(bool isF32, int64_t dv) { return isF32 && dv % 16 == 0; }

/// Every tile has all strata of its queries, and a softmax state of its own.
bool takeQueriesAlike(const std::vector<Stratum> &strata);

/// Positions that must share one online-softmax state so that every stratum's
/// query tiles are well filled: 64 for bands, 64 * n for stride(n); capped where strata take the queries differently.
int64_t superTileFor(const std::vector<Stratum> &strata, const StrataLimits &limits = {});

} // namespace heddle

#endif // HEDDLE_PASSES_BUILDSTRATA_H
