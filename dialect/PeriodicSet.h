//===- PeriodicSet.h - Exact sets of integers -----------------------------===//
//
// Sets of integers that are periodic far to the left and far to the right,
// with finitely many intervals in between: closed under the boolean operations,
// shifts, negation and scaling, and canonical (equal sets have equal
// representations). Windows, strides, dilation and lists of offsets are such
// sets in i - j; lists and residues of keys or queries are in j or i.
//
// Periods and the number of intervals are capped; an operation whose result
// would pass a cap returns nullopt.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_PERIODICSET_H
#define HEDDLE_DIALECT_PERIODICSET_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace heddle {

/// Half-open interval [begin, end).
struct Interval {
  int64_t begin = 0, end = 0;
  bool operator==(const Interval &) const = default;
};

/// Boolean combination of two sorted lists of disjoint intervals inside
/// [begin, end); bit 2 * inA + inB of `table` says what is kept.
std::vector<Interval> combineIntervals(const std::vector<Interval> &a, const std::vector<Interval> &b, int64_t begin,
                                       int64_t end, unsigned table);
constexpr unsigned keepBoth = 0b1000, keepEither = 0b1110, keepFirstOnly = 0b0100, keepDifferent = 0b0110;

class PeriodicSet {
public:
  static constexpr int64_t maxPeriod = 65536;
  static constexpr size_t maxIntervals = 65536;
  /// Ends of intervals stay within +-maxBound.
  static constexpr int64_t maxBound = int64_t{1} << 61;

  /// x with x mod period in one of `mask` (sorted, disjoint, not adjacent, in
  /// [0, period)); the period is the least one.
  struct Tail {
    int64_t period = 1;
    std::vector<Interval> mask;
    bool isEmpty() const { return mask.empty(); }
    bool isFull() const { return mask.size() == 1 && mask[0] == Interval{0, period}; }
    bool operator==(const Tail &) const = default;
  };

  PeriodicSet() = default; ///< empty
  static PeriodicSet all();
  /// [begin, end); ends past maxBound give nullopt.
  static std::optional<PeriodicSet> interval(int64_t begin, int64_t end);
  static std::optional<PeriodicSet> from(int64_t begin);
  static std::optional<PeriodicSet> below(int64_t end);
  /// Any intervals, in any order.
  static std::optional<PeriodicSet> ofIntervals(std::vector<Interval> intervals);
  /// x with x mod n in one of `residues` (any order, inside [0, n)).
  static std::optional<PeriodicSet> periodic(int64_t n, std::vector<Interval> residues);

  bool contains(int64_t x) const;
  bool isEmpty() const { return left.isEmpty() && right.isEmpty() && middle.empty(); }
  bool isAll() const { return left.isFull() && right.isFull() && lo == hi; }
  bool operator==(const PeriodicSet &) const = default;

  std::optional<PeriodicSet> unite(const PeriodicSet &o) const;
  std::optional<PeriodicSet> intersect(const PeriodicSet &o) const;
  std::optional<PeriodicSet> subtract(const PeriodicSet &o) const;
  PeriodicSet complement() const;
  /// { x + a }.
  std::optional<PeriodicSet> shifted(int64_t a) const;
  /// { -x }.
  PeriodicSet negated() const;
  /// { y : y floordiv n in the set } = n x + [0, n).
  std::optional<PeriodicSet> scaled(int64_t n) const;

  /// Least and greatest element; nullopt where there is none or no bound.
  std::optional<int64_t> min() const;
  std::optional<int64_t> max() const;
  /// Number of elements in [begin, end), without listing them.
  int64_t count(int64_t begin, int64_t end) const;
  /// The maximal intervals of the set within [begin, end), ascending.
  std::vector<Interval> intervals(int64_t begin, int64_t end) const;

  /// The set is leftTail() below split().begin, finite() in split(), rightTail() from its end on.
  const Tail &leftTail() const { return left; }
  const Tail &rightTail() const { return right; }
  Interval split() const { return {lo, hi}; }
  const std::vector<Interval> &finite() const { return middle; }

  /// Intervals of the representation.
  size_t pieces() const { return left.mask.size() + middle.size() + right.mask.size(); }

  /// For messages and tests.
  std::string str() const;

private:
  static std::optional<PeriodicSet> normalized(Tail left, Tail right, int64_t lo, int64_t hi,
                                               std::vector<Interval> middle);
  std::optional<PeriodicSet> combine(const PeriodicSet &o, unsigned table) const;

  Tail left, right;
  int64_t lo = 0, hi = 0;
  std::vector<Interval> middle;
};

} // namespace heddle

#endif // HEDDLE_DIALECT_PERIODICSET_H
