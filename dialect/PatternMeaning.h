//===- PatternMeaning.h - Definitions that need more than a formula -------===//
//
// The two closed-form primitives whose rows are computed, for everything that
// must agree with Pattern::contains.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_PATTERNMEANING_H
#define HEDDLE_DIALECT_PATTERNMEANING_H

#include "dialect/Pattern.h"

namespace heddle {

/// a floordiv b and a mod b for b > 0.
int64_t floorDivInt(int64_t a, int64_t b);
int64_t floorModInt(int64_t a, int64_t b);

/// The key blocks of one query block under random_blocks, ascending.
std::vector<int64_t> randomBlocksOfRow(int64_t queryBlock, int64_t keyBlocks, int64_t perRow, int64_t seed);

/// True where one of the draws first <= t < last of row u takes the block, that is where some r(t) is the block, or
/// the block is itself such a t whose r(t) was taken before. With first = m - min(p, m) and last = m: where the row
/// has the block.
bool isRandomBlock(int64_t seed, int64_t u, int64_t first, int64_t last, int64_t block);
/// The block that draw t takes, where the draws begin at `first`.
int64_t randomBlockOfDraw(int64_t seed, int64_t u, int64_t first, int64_t t);

/// Keys phase + dilation * t for begin <= t < end.
struct KeyWindow {
  int64_t begin = 0, end = 0, phase = 0;
};

/// The keys of query i under neighborhood(size, extent, stride, dilation, causal).
KeyWindow neighborhoodOfRow(int64_t i, int64_t size, int64_t extent, int64_t stride, int64_t dilation, bool causal);

} // namespace heddle

#endif // HEDDLE_DIALECT_PATTERNMEANING_H
