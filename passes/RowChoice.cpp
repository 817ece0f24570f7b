//===- RowChoice.cpp - Tiles of queries, or queries one at a time ---------===//
//
// A pair of a tile costs less than one of a single query (it shares loads, and
// its softmax is vertical), but a tile runs the union of its queries' keys, and
// has fixed parts: packing, bounds, live bits, runs. Both are counted on sample
// tiles. What they cost is measured once and does not depend on the machine that
// compiles: a spec's kernel must not.
//
//===----------------------------------------------------------------------===//
#include "passes/RowChoice.h"

#include "dialect/LinearForm.h"
#include "passes/StratumCost.h"

#include <algorithm>

namespace heddle {

namespace {

bool isKnown(const Expr &e) {
  return e->kind != ExprKind::Scalar && e->kind != ExprKind::Load &&
         std::all_of(e->args.begin(), e->args.end(), isKnown);
}

bool isSampled(const Expr &e) { return e.isNull() || (!isLargerThan(e, 400) && isKnown(e)); }

/// Only bounds: conditions on pairs and keys are for tiles.
bool canRunByRow(const Stratum &s) {
  if (!s.keep.isNull() || !s.residual.isNull() || !s.list.isNull() || !s.ids.isNull() || s.choices != 0) {
    return false;
  }
  auto sampled = [](const std::vector<Expr> &all) { return std::all_of(all.begin(), all.end(), isSampled); };
  return isSampled(s.guard) && sampled(s.lower) && sampled(s.upper) &&
         std::all_of(s.key.begin(), s.key.end(), [&](const KeyDigit &digit) {
           return isSampled(digit.phase) && sampled(digit.lower) && sampled(digit.upper);
         });
}

/// Nanoseconds, with rows of f32.
struct Costs {
  double tile, keys; ///< as tiles; of a query's keys, where queries are taken one at a time
  double row;        ///< of such queries, once for all strata
};

Costs costsOf(const Stratum &s, double width) {
  constexpr int64_t kRows = 8192, kChunk = 192, kSamples = 6;
  ExprEnv env;
  env.nq = env.nk = kRows;
  const StratumCost cost = costOf(s, env, kRows, kRows, kChunk, kSamples);
  const double tile = cost.scored * width * 0.0093 + cost.weighted * 0.09 + cost.masked * 0.05 + cost.maskedKeys * 1.2 +
                      cost.runs * 26 + cost.queryTiles * 150 + cost.rows * width * 0.04;
  return {tile, cost.live * width * 0.017 + cost.ownRuns * 5, cost.rows * 30};
}

/// Tilings of the queries: each has its state merged and its queries packed.
size_t tilingsOf(const std::vector<Stratum> &strata) {
  std::vector<std::vector<QueryDigit>> seen;
  for (const Stratum &s : strata) {
    const std::vector<QueryDigit> own = s.byRow ? std::vector<QueryDigit>{QueryDigit()} : s.query;
    if (std::find(seen.begin(), seen.end(), own) == seen.end()) {
      seen.push_back(own);
    }
  }
  return seen.size();
}

} // namespace

void chooseRows(std::vector<Stratum> &strata, const std::vector<int64_t> &widths) {
  const size_t before = tilingsOf(strata);
  double tile = 0, row = 0, fixed = 0;
  for (Stratum &s : strata) {
    if (!canRunByRow(s)) {
      continue;
    }
    const Costs costs = costsOf(s, static_cast<double>(widths[static_cast<size_t>(s.segment)]));
    s.byRow = costs.keys < 0.9 * costs.tile;
    if (s.byRow) {
      tile += costs.tile;
      row += costs.keys;
      fixed = std::max(fixed, costs.row);
    }
  }
  if (row + fixed > 0.6 * tile || tilingsOf(strata) > before) {
    for (Stratum &s : strata) {
      s.byRow = false;
    }
  }
}

} // namespace heddle
