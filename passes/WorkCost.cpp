//===- WorkCost.cpp - Work of a stratum, by kind --------------------------===//

#include "passes/WorkCost.h"

#include "dialect/KeyTable.h"

#include <cmath>

namespace heddle {

static constexpr const char *kNames[] = {"dots",     "values",    "softmax",  "regions",  "masks", "live", "conditions",
                                         "keys",     "runs",      "columns",  "chunks",   "tiles", "rows", "copies",
                                         "far_keys", "own_pairs", "own_runs", "own_rows", "calls"};
static_assert(std::size(kNames) == kWorkKinds);

const char *nameOf(Work kind) { return kNames[static_cast<size_t>(kind)]; }

void WorkAmounts::add(const WorkAmounts &o, double times) {
  for (size_t n = 0; n < kWorkKinds; ++n) {
    amounts[n] += o.amounts[n] * times;
  }
}

static double nodesOf(const Expr &e) {
  double count = e.isNull() ? 0 : 1;
  for (size_t n = 0; !e.isNull() && n < e->args.size(); ++n) {
    count += nodesOf(e->args[n]);
  }
  return count;
}

/// Nodes of a condition that are evaluated for each pair: what reads the query alone is evaluated once a tile, and
/// what reads the key alone is a scalar.
static double pairNodesOf(const Expr &e) {
  if (e.isNull()) {
    return 0;
  }
  const bool query = e.onQuery();
  const bool key = e.onKey();
  if (std::optional<IntervalTable> table = query && key ? intervalTableOf(e) : std::nullopt) {
    constexpr double kStep = 38; // a step of the bisection loads from as many places as there are lanes
    double nodes = kStep * std::log2(static_cast<double>(table->ends.size() + 1));
    for (const Expr &other : table->rest) {
      nodes += pairNodesOf(other);
    }
    return nodes;
  }
  double count = query && key ? 1 : 0;
  for (size_t n = 0; query && key && n < e->args.size(); ++n) {
    count += pairNodesOf(e->args[n]);
  }
  return count;
}

static double nodesOf(const std::vector<Expr> &all) {
  double count = 0;
  for (const Expr &e : all) {
    count += nodesOf(e);
  }
  return count;
}

WorkAmounts workOf(const Stratum &s, const StratumCost &cost, const StratumShape &shape) {
  // As in the tile loops: rows so far apart fall into few sets of the cache, and values are copied.
  constexpr double kFarRows = 2048;
  constexpr int64_t kScattered = 2; // rows from one key of a table to the next
  WorkAmounts w;
  const KeyDigit &last = s.key.back();
  const double apart = static_cast<double>(last.step * last.radix) * shape.dv * shape.elementBytes;
  double bounds = nodesOf(s.lower) + nodesOf(s.upper) + nodesOf(s.guard);
  for (const KeyDigit &digit : s.key) {
    bounds += nodesOf(digit.lower) + nodesOf(digit.upper) + nodesOf(digit.phase);
  }
  if (s.byRow) {
    // Of many rows far apart, the next queries need none: each comes from a cache farther away.
    const std::optional<KeyTable> table = keyTableOf(s);
    const bool scattered = table && table->entries.back() - table->entries.front() >
                                        kScattered * static_cast<int64_t>(table->entries.size());
    const bool far = scattered || (apart >= kFarRows && cost.live > 4 * cost.ownRuns);
    w[Work::OwnPairs] = cost.live * (shape.d + shape.dv) * (far ? 2.7 : 1);
    w[Work::OwnRuns] = cost.ownRuns;
    w[Work::Regions] = shape.scoreWork * cost.live;
    return w;
  }
  w[Work::Dots] = cost.scored * shape.d;
  w[Work::Values] = cost.weighted * shape.dv;
  w[Work::Softmax] = cost.weighted;
  w[Work::Regions] = shape.scoreWork * cost.weighted;
  w[Work::Masks] = cost.masked;
  w[Work::Live] = cost.maskedKeys;
  w[Work::Conditions] = cost.maskedKeys * pairNodesOf(s.residual);
  w[Work::Keys] = cost.keys * (s.keep.isNull() ? 1 : 4);
  w[Work::Runs] = cost.runs;
  w[Work::Columns] = cost.columns * shape.dv;
  w[Work::Chunks] = cost.fullTiles + cost.partialTiles;
  w[Work::Tiles] = cost.queryTiles * (10 + bounds);
  w[Work::Copies] = apart >= kFarRows || shape.copiesValues ? cost.keys * shape.dv : 0;
  w[Work::FarKeys] = apart >= kFarRows ? cost.keys * shape.d * std::log2(apart / kFarRows) : 0;
  return w;
}

// In the order of Work.
std::array<double, kWorkKinds> usualSeconds(const std::string &type) {
  if (type == "bf16") {
    return {7.77e-12, 0,        7.65e-11, 1.3e-11,  7.36e-11, 0,       3.68e-10, 0,       4.05e-08, 0,
            4.78e-08, 5.57e-09, 9.04e-11, 2.87e-11, 2.98e-11, 1.6e-11, 2.5e-09,  2.8e-08, 5.1e-06};
  }
  return {1.68e-11, 0,        3.46e-11, 1.3e-11,  9.44e-11, 4e-10,   2.68e-10, 0,       5.69e-08, 0,
          5.59e-09, 7.95e-09, 1.15e-10, 1.82e-11, 4.31e-11, 2.2e-11, 2.5e-09,  2.4e-08, 4.77e-06};
}

} // namespace heddle
