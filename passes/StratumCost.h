//===- StratumCost.h - Pairs that a stratum has, and that its tiles run ---===//
//
// Evaluates a stratum's bounds row by row and tile by tile: what is live, what
// the tiles execute, and how much of it needs no mask. Free of MLIR.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_STRATUMCOST_H
#define HEDDLE_PASSES_STRATUMCOST_H

#include "dialect/Schedule.h"

#include <functional>

namespace heddle {

/// Counts over all query rows of one head.
struct StratumCost {
  double live = 0;                        ///< live pairs
  double executed = 0;                    ///< pairs that run, live or not: the mean of the two below
  double unmasked = 0;                    ///< of these, in full tiles
  double queryTiles = 0;                  ///< query tiles with at least one key to look at
  double fullTiles = 0, partialTiles = 0; ///< chunks of keys of these tiles
  double scored = 0;     ///< pairs whose dots are computed: groups of keys with a live lane in a column
  double weighted = 0;   ///< pairs that softmax and values see: a column's first to last live group
  double masked = 0;     ///< of these, in chunks with a mask
  double keys = 0;       ///< keys of all query tiles
  double runs = 0;       ///< runs in which they lie: values of the outer digits
  double maskedKeys = 0; ///< keys of chunks with a mask, times columns of lanes
  double columns = 0;    ///< columns of lanes of all chunks
  double rows = 0;       ///< lanes of all query tiles
  double ownRuns = 0;    ///< runs of keys of all queries, each by itself
  double ownRows = 0;    ///< queries that have keys
  /// False where rows or tiles were sampled, because counting all would take long.
  bool exact = true;
};

/// `env` gives offsets, ends, head and run-time values; i and j are set here. Rows
/// are [0, rows), keys [0, keys).
/// At most `maxTiles` tiles are counted. A stratum that is `byRow` runs its live pairs and no tiles.
StratumCost costOf(const Stratum &s, ExprEnv env, int64_t rows, int64_t keys, int64_t keyChunk, int64_t maxTiles = 512);

/// Calls visit(i, j, masked) for each pair of positions that a tile executes; a
/// pair of a tile with at least one full chunk of keys comes a second time, with
/// masked = false, where it is live for all rows of the tile.
void forEachExecutedPair(const Stratum &s, ExprEnv env, int64_t rows, int64_t keys, int64_t keyChunk,
                         const std::function<void(int64_t, int64_t, bool)> &visit);

/// The number of the first choice that, like all after it, no pair has, as far as the guard demands something of the
/// choice alone; mentions neither query nor key. Null: not known.
Expr endOfChoices(const Stratum &s);

/// True where the stratum has pairs for query head h.
bool isLiveForHead(const Stratum &s, int64_t h);

} // namespace heddle

#endif // HEDDLE_PASSES_STRATUMCOST_H
