//===- Affine.h - Quasi-affine expressions in normal form -----------------===//
//
// Sums of integer multiples of variables and of quotients (sum floordiv n), with
// the rewrites that make equal digits look equal: mod is written as a quotient,
// coefficients inside a quotient are reduced, quotients of quotients collapse,
// and digits too small to reach the next multiple are dropped.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_AFFINE_H
#define HEDDLE_DIALECT_AFFINE_H

#include "dialect/Expr.h"
#include "dialect/PeriodicSet.h"

#include <map>
#include <memory>
#include <optional>
#include <set>

namespace heddle {

/// constant + sum of coefficient * term. A term is a variable (a Symbol or
/// Scalar leaf) or a quotient; the map's key is its text.
struct Linear {
  struct Term {
    int64_t coefficient = 0;
    Expr variable;                           ///< null for a quotient
    std::shared_ptr<const Linear> numerator; ///< of a quotient
    int64_t divisor = 1;
  };
  std::map<std::string, Term> terms;
  int64_t constant = 0;

  std::string key() const;
  Expr expr() const;
  /// Texts of the variables that occur anywhere.
  std::set<std::string> variables() const;
  /// Divisors of the quotients that mention `variable`.
  std::set<int64_t> divisorsOf(const std::string &variable) const;
  /// The coefficient of a bare variable (0 where it has none).
  int64_t coefficientOf(const std::string &variable) const;
};

/// Ranges [begin, end) of variables, by text.
using VariableRanges = std::map<std::string, Interval>;

/// Nullopt where `e` is not quasi-affine (or grows past the caps).
std::optional<Linear> linearize(const Expr &e, const VariableRanges &ranges = {});

/// { x : f(x) >= 0 }, or f(x) == 0, for f in one variable.
std::optional<PeriodicSet> solve(const Linear &f, const std::string &variable, bool equality);

/// Value of f where `value` gives the variables'.
int64_t evaluate(const Linear &f, const std::function<int64_t(const std::string &)> &value);

/// The least p (at most PeriodicSet::maxPeriod) and s with f(x + p) = f(x) + s in `variable`.
struct PeriodAndSlope {
  int64_t period = 1, slope = 0;
};
std::optional<PeriodAndSlope> periodOf(const Linear &f, const std::string &variable);

} // namespace heddle

#endif // HEDDLE_DIALECT_AFFINE_H
