//===- TermsCondition.h - Terms of a written condition --------------------===//
//
// The conditions of `holds` and `affine_set` as terms.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_TERMSCONDITION_H
#define HEDDLE_DIALECT_TERMSCONDITION_H

#include "dialect/Terms.h"

namespace heddle {

/// The terms of a boolean (or integer: not zero) expression of Query and Key,
/// or of its complement. Comparisons of quasi-affine integers are solved for
/// the key where they have it in one digit; anything else stays opaque.
Terms conditionTerms(const Expr &condition, bool negated);

} // namespace heddle

#endif // HEDDLE_DIALECT_TERMSCONDITION_H
