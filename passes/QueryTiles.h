//===- QueryTiles.h - Digits of the query for one stratum -----------------===//
//
// Chooses which queries share a tile.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_QUERYTILES_H
#define HEDDLE_PASSES_QUERYTILES_H

#include "dialect/LinearForm.h"
#include "passes/BuildStrata.h"

namespace heddle {

/// A part of the query position: (i floordiv radix) mod (modulus / radix).
struct QuerySlice {
  int64_t radix, modulus;
};

/// Slices that determine `e mod n`; nullopt where more than the position does
/// (a load). Two queries that agree in all of them agree in e mod n.
std::optional<std::vector<QuerySlice>> slicesOf(const LinearForm &e, int64_t n);

/// Sets s.query: every slice in `uniform` is constant in a tile, and among the
/// shapes with at most `limits.lanes` queries the one that walks the fewest keys
/// per query on sample tiles. False where the slices have no common digits.
bool chooseQueryDigits(Stratum &s, const std::vector<QuerySlice> &uniform, const StrataLimits &limits);

} // namespace heddle

#endif // HEDDLE_PASSES_QUERYTILES_H
