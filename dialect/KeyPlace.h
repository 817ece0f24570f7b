//===- KeyPlace.h - A coordinate of the key position ----------------------===//
//
// Operators such as coarse, grid and remap evaluate their children at other
// coordinates. A place says how such a coordinate y comes from the key position
// j: where possible as digit(j) - offset, else as an expression of j.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_KEYPLACE_H
#define HEDDLE_DIALECT_KEYPLACE_H

#include "dialect/Terms.h"

namespace heddle {

/// y = (j floordiv radix) mod (modulus / radix) - offset where isDigit (modulus
/// 0: radix is that of a plain quotient); always y = `expr`.
struct KeyPlace {
  bool isDigit = true;
  int64_t radix = 1, modulus = 0;
  LinearForm offset;
  Expr expr = Expr::symbol(Sym::Key);

  /// Values of the digit; 0: unbounded.
  int64_t extent() const { return modulus == 0 ? 0 : modulus / radix; }
  KeyPlace dividedBy(int64_t n) const;
  KeyPlace modulo(int64_t n) const;
  KeyPlace plus(const LinearForm &a) const;
  /// The place of map(y), where `map` is an expression of Sym::Query.
  KeyPlace mapped(const Expr &map) const;

  /// y >= e, y < e and y = e (mod n), e free of the key.
  Literal lower(const LinearForm &e) const;
  Literal upper(const LinearForm &e) const;
  Literal residue(const LinearForm &e, int64_t n) const;
  /// (y - start) mod n < length, 0 < length < n, as disjoint terms.
  Terms run(const LinearForm &start, int64_t length, int64_t n) const;
};

} // namespace heddle

#endif // HEDDLE_DIALECT_KEYPLACE_H
