//===- SetPatterns.h - Building patterns in canonical text ----------------===//
//
// `and` and `or` with sorted, flattened, distinct children, and negation at the
// leaves: the pieces that canonical text is made of.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_SETPATTERNS_H
#define HEDDLE_DIALECT_SETPATTERNS_H

#include "dialect/Pattern.h"

namespace heddle {

Pattern andPattern(std::vector<Pattern> parts);
Pattern orPattern(std::vector<Pattern> parts);
/// The complement, with De Morgan's laws applied down to primitives.
Pattern negatedPattern(const Pattern &p);

} // namespace heddle

#endif // HEDDLE_DIALECT_SETPATTERNS_H
