//===- KeyTable.h - Long lists of intervals as data -------------*- C++ -*-===//
//
// A condition that is a disjunction of many intervals of one integer,
//
//   (j >= i - 447 & j < i - 446) | (j >= i - 531 & j < i - 530) | ...
//
// is a table: the ends of the intervals in ascending order,
//
//   x in [e_0, e_1) + [e_2, e_3) + ...    iff    the number of ends <= x is odd
//
// Where x can be solved for the key, the table says what a query's keys are, and
// nothing else has to be walked.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_KEYTABLE_H
#define HEDDLE_DIALECT_KEYTABLE_H

#include "dialect/Schedule.h"

#include <functional>
#include <optional>

namespace heddle {

struct IntervalTable {
  Expr x;
  std::vector<int64_t> ends; ///< ascending, distinct, an even number
  std::vector<Expr> rest;    ///< disjuncts of another kind
};

/// Intervals that are a table; fewer are compared one by one.
inline constexpr size_t kTableIntervals = 16;

/// The table of a boolean that is a disjunction with at least kTableIntervals intervals of one integer, else nullopt.
std::optional<IntervalTable> intervalTableOf(const Expr &e);

/// The keys of a query: j = base + entry, where `rest` holds.
struct KeyTable {
  Expr base;                    ///< of the query
  std::vector<int64_t> entries; ///< ascending
  Expr rest;                    ///< further conditions on the pair; null: none

  /// Calls visit(j) for the keys in [lo, hi) of a query whose base has this value, conditions apart.
  void forEach(int64_t baseValue, int64_t lo, int64_t hi, const std::function<void(int64_t)> &visit) const;
  /// How many these are.
  int64_t count(int64_t baseValue, int64_t lo, int64_t hi) const;
};

/// The table of a stratum whose condition lists the keys of each query (not too many), with the bounds of its digits
/// among the further conditions; else nullopt.
std::optional<KeyTable> keyTableOf(const Stratum &s);

} // namespace heddle

#endif // HEDDLE_DIALECT_KEYTABLE_H
