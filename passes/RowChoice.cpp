//===- RowChoice.cpp - Tiles of queries, or queries one at a time ---------===//
//
// A pair of a tile costs less than one of a single query (it shares loads, and
// its softmax is vertical), but a tile runs the union of its queries' keys, and
// has fixed parts: packing, bounds, live bits, runs. Both are counted on sample
// tiles, and predicted with the cost model's usual constants, whatever machine
// compiles: a spec's kernel must not depend on it.
//
//===----------------------------------------------------------------------===//
#include "passes/RowChoice.h"

#include "dialect/KeyTable.h"
#include "dialect/LinearForm.h"
#include "passes/BuildStrata.h"

#include <algorithm>
#include <numeric>

namespace heddle {

namespace {

bool isKnown(const Expr &e) {
  return e->kind != ExprKind::Scalar && e->kind != ExprKind::Load &&
         std::all_of(e->args.begin(), e->args.end(), isKnown);
}

bool isSampled(const Expr &e) { return e.isNull() || (!isLargerThan(e, 400) && isKnown(e)); }

/// Only bounds, and keys that a table gives: other conditions on pairs and keys are for tiles.
bool canRunByRow(const Stratum &s) {
  if (!s.list.isNull() || !s.ids.isNull()) {
    return false;
  }
  if (!s.keep.isNull() || !s.residual.isNull()) {
    const std::optional<KeyTable> table = keyTableOf(s);
    if (!table || !isSampled(table->base) || !isSampled(table->rest) || !isSampled(s.keep)) {
      return false;
    }
  }
  auto sampled = [](const std::vector<Expr> &all) { return std::all_of(all.begin(), all.end(), isSampled); };
  return isSampled(s.guard) && sampled(s.lower) && sampled(s.upper) &&
         std::all_of(s.key.begin(), s.key.end(), [&](const KeyDigit &digit) {
           return isSampled(digit.phase) && sampled(digit.lower) && sampled(digit.upper);
         });
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

/// Seconds of the strata of one segment that may be taken by row.
struct SegmentSeconds {
  double tiles = 0, rows = 0, ownRows = 0; ///< `rows` without what each query takes that has keys, `ownRows`
};

class RowChoice {
public:
  RowChoice(std::vector<Stratum> &strata, const std::vector<StratumShape> &shapes, const std::string &type)
      : strata(strata), shapes(shapes), seconds(usualSeconds(type)) {
    for (const StratumShape &shape : shapes) {
      rowWidth = std::max(rowWidth, shape.d + shape.dv);
    }
  }

  static constexpr int64_t kMostKeys = int64_t(1) << 26;

  /// Sets `byRow` where that takes, for so many queries and keys, less than `share` of the time of tiles; false where
  /// it does for none.
  bool chooseAt(int64_t rows, double share);

private:
  std::vector<Stratum> &strata;
  const std::vector<StratumShape> &shapes;
  const std::array<double, kWorkKinds> seconds;
  double rowWidth = 0;
  int64_t rowCount = 0;

  double second(Work kind) const { return seconds[static_cast<size_t>(kind)]; }
  double ofTilings() const { return static_cast<double>(tilingsOf(strata) * rowCount) * second(Work::Rows) * rowWidth; }
  StratumCost costAt(const Stratum &s, int64_t keys) const {
    constexpr int64_t kChunk = 192, kSamples = 6;
    ExprEnv env;
    env.nq = rowCount;
    env.nk = keys;
    return costOf(s, env, rowCount, keys, kChunk, kSamples);
  }
  /// Queries may have keys only far behind their own position: query i of `parent(64)`, those from 64 i on.
  int64_t keysOf(const Stratum &s) const {
    for (int64_t keys = rowCount; keys <= kMostKeys && s.key.size() == 1; keys *= 8) {
      if (costAt(s, keys).rows >= static_cast<double>(rowCount / 2)) {
        return keys;
      }
    }
    return rowCount;
  }
  double secondsOf(const Stratum &s, const StratumCost &cost) const {
    const WorkAmounts w = workOf(s, cost, shapes[static_cast<size_t>(s.segment)]);
    return std::inner_product(w.amounts.begin(), w.amounts.end(), seconds.begin(), 0.0);
  }
  std::vector<SegmentSeconds> chooseStrata();
};

/// Each stratum by itself; the queries' own time comes later.
std::vector<SegmentSeconds> RowChoice::chooseStrata() {
  std::vector<SegmentSeconds> segments(shapes.size());
  for (Stratum &s : strata) {
    if (!canRunByRow(s)) {
      continue;
    }
    const int64_t keys = keysOf(s);
    const double tile = secondsOf(s, costAt(s, keys));
    s.byRow = true;
    const StratumCost cost = costAt(s, keys);
    const double row = secondsOf(s, cost);
    s.byRow = row < tile;
    if (s.byRow) {
      SegmentSeconds &all = segments[static_cast<size_t>(s.segment)];
      all.tiles += tile;
      all.rows += row;
      all.ownRows = std::max(all.ownRows, cost.ownRows);
    }
  }
  return segments;
}

bool RowChoice::chooseAt(int64_t rows, double share) {
  rowCount = rows;
  double inTiles = ofTilings(), byRow = 0;
  bool any = false;
  // A query's keys of one segment are one list.
  const std::vector<SegmentSeconds> segments = chooseStrata();
  for (size_t n = 0; n < segments.size(); ++n) {
    const SegmentSeconds &segment = segments[n];
    const double own = segment.rows + segment.ownRows * second(Work::OwnRows);
    if (own < segment.tiles) {
      inTiles += segment.tiles;
      byRow += own;
      any = true;
      continue;
    }
    for (Stratum &s : strata) {
      s.byRow &= s.segment != static_cast<int64_t>(n);
    }
  }
  if (any && byRow + ofTilings() < share * inTiles) {
    return true;
  }
  for (Stratum &s : strata) {
    s.byRow = false;
  }
  return false;
}

} // namespace

int64_t chooseRows(std::vector<Stratum> &strata, const std::vector<StratumShape> &shapes, const std::string &type) {
  constexpr int64_t kUsual = 8192, kShort = 4096;
  // What is counted and measured is not exact: tiles stay where rows are not clearly better.
  constexpr double kClearly = 0.8;
  // Rows that fill tiles, however far apart the queries of one are: what is wrong for long rows costs the most.
  int64_t longest = kUsual;
  for (const Stratum &s : strata) {
    longest = std::max(longest, s.query[0].tile * std::min(s.query[0].radix, RowChoice::kMostKeys / s.query[0].tile));
  }
  RowChoice choice(strata, shapes, type);
  if (choice.chooseAt(longest, kClearly) || !takeQueriesAlike(strata)) {
    return 0;
  }
  for (int64_t rows = longest / 2; rows >= kShort; rows -= rows / 4) {
    const bool all =
        choice.chooseAt(rows, 1) && std::all_of(strata.begin(), strata.end(), [](const Stratum &s) { return s.byRow; });
    for (Stratum &s : strata) {
      s.byRow = false;
    }
    if (all) {
      return rows;
    }
  }
  return 0;
}

} // namespace heddle
