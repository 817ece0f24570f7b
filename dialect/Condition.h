//===- Condition.h - Conditions in negation normal form -------------------===//
//
// Splits the boolean expression of `holds` or `affine_set` into a tree of `and`
// and `or` over atoms. Comparisons of quasi-affine integers become `e >= 0` or
// `e == 0` with min, max, abs, select, shifts and masks by constants written
// out; anything else stays one opaque atom.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_CONDITION_H
#define HEDDLE_DIALECT_CONDITION_H

#include "dialect/Expr.h"

namespace heddle {

struct Condition {
  enum Kind : uint8_t {
    And,    ///< all children; none: true
    Or,     ///< any child; none: false
    Affine, ///< `atom` is Ge(e, 0) or Eq(e, 0), e quasi-affine (see linearize)
    Opaque, ///< `atom` is any other condition
  } kind = And;
  std::vector<Condition> children;
  Expr atom;
};

/// The condition (of type Bool), or its negation, with negation at the atoms.
Condition splitCondition(const Expr &e, bool negated = false);

/// The same as one expression.
Expr toExpr(const Condition &c);

} // namespace heddle

#endif // HEDDLE_DIALECT_CONDITION_H
