//===- RowSets.h - Patterns on rows that exist ----------------------------===//
//
// The live keys of one query as intervals, and what follows from them: masks,
// counts, and which tiles are empty or full. Computed by recursion on the
// pattern, with exact one-dimensional sets where they apply; pairs are tested
// one by one only under `holds` of what is not quasi-affine and run-time ids.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ROWSETS_H
#define HEDDLE_DIALECT_ROWSETS_H

#include "dialect/Pattern.h"
#include "dialect/PeriodicSet.h"

namespace heddle {

/// The rows that exist, for one batch entry and one query head. `scalar` and
/// `load` are as in ExprEnv (needed for run-time operands only).
struct RowShape {
  int64_t nq = 0, nk = 0;           ///< numbers of rows
  int64_t qOffset = 0, kOffset = 0; ///< position = row + offset
  int64_t b = 0, h = 0;
  std::function<int64_t(int64_t)> scalar;
  std::function<double(int64_t, const std::vector<int64_t> &)> load;
  std::function<int64_t(int64_t, int64_t)> size;
  int64_t heads = 0; ///< query heads, where known
};

enum class TileClass : uint8_t { Empty, Partial, Full };

class RowSets {
public:
  /// `p` must verify.
  RowSets(const Pattern &p, RowShape shape);
  ~RowSets();
  RowSets(RowSets &&) noexcept;
  RowSets &operator=(RowSets &&) noexcept;

  /// Live key *positions* of one query row, in [kOffset, kOffset + nk).
  std::vector<Interval> row(int64_t queryRow) const;
  /// Live pairs. O(nq) for patterns of i - j alone.
  int64_t count() const;
  /// Row-major [nq, nk], 1 where live.
  std::vector<uint8_t> mask() const;
  /// Row-major [ceil(nq / bq), ceil(nk / bk)]; border tiles go by the rows that exist.
  std::vector<TileClass> tiles(int64_t bq, int64_t bk) const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

/// One-call forms.
std::vector<uint8_t> mask(const Pattern &p, const RowShape &shape);
int64_t count(const Pattern &p, const RowShape &shape);

} // namespace heddle

#endif // HEDDLE_DIALECT_ROWSETS_H
