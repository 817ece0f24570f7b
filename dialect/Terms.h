//===- Terms.h - A pattern as conjunctions of simple conditions -----------===//
//
// Negation goes to the leaves, and every leaf is a conjunction of literals that
// know their own complement: one-sided bounds on a digit of the key position,
// residues, affine inequalities, and opaque booleans. Both the strata and the
// exact sets start from here.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_TERMS_H
#define HEDDLE_DIALECT_TERMS_H

#include "dialect/LinearForm.h"
#include "dialect/Pattern.h"

#include <stdexcept>

namespace heddle {

/// One condition. With v the digit (j floordiv radix) mod (modulus / radix) of
/// the key position (modulus 0: j itself, radix 1) and e the form:
struct Literal {
  enum Kind : uint8_t {
    Lower,   ///< v >= e
    Upper,   ///< v < e
    Step,    ///< (v - e) mod step = 0
    Compare, ///< e >= 0, where e may mention both positions
    Opaque,  ///< `condition` holds
    Member,  ///< `condition` holds, which says that for one c in [0, choices), the value of Sym::Choice in
             ///< the form e, e <= v < e + step
  } kind = Opaque;
  int64_t radix = 1, modulus = 0, step = 0, choices = 0;
  LinearForm form;
  Expr condition;

  /// The literal is `condition`, maybe said in other words too.
  bool isCondition() const { return kind == Opaque || kind == Member; }

  bool sameDigit(const Literal &o) const { return radix == o.radix && modulus == o.modulus; }
  bool operator==(const Literal &o) const;
  /// The digit v as an expression of the key.
  Expr digit() const;
  /// The literal as a boolean expression of the pair.
  Expr expr() const;
  /// Disjoint literals whose union is the complement.
  std::vector<Literal> negated() const;
};

/// All literals hold. Kept free of literals that others imply, as far as
/// comparing pairs of them shows it.
class Term {
public:
  const std::vector<Literal> &literals() const { return list; }
  /// Conjoins a literal; false where the term became empty (it is then
  /// unusable). True does not promise that it is not.
  bool add(Literal l);
  bool add(const Term &o);
  Expr expr() const;
  bool hasLoad() const;

private:
  enum class Verdict { Keep, Redundant, Empty, Replaces };
  static Verdict compare(const Literal &have, const Literal &l);
  std::vector<Literal> list;
};

/// A union of terms, not necessarily disjoint.
using Terms = std::vector<Term>;

/// How far an expansion may go, and a deeper emptiness test than Term's own.
struct TermLimits {
  size_t maxTerms = 4096;
  /// True where the term is certainly empty; null: never asked.
  std::function<bool(const Term &)> isEmpty;
};

/// Thrown where `maxTerms` is passed or the pattern has no terms; the reason is
/// for remarks.
struct TermsOverflow : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The terms of p (of its complement where `negated`), for heads h with
/// `h mod period` as resolved by the caller: p must be free of `per_head`.
Terms buildTerms(const Pattern &p, bool negated, const TermLimits &limits = {});

/// a & b, a & ~b as disjoint pieces of each term of a (b one term).
Terms intersect(const Terms &a, const Terms &b, const TermLimits &limits);
Terms subtract(const Term &a, const Term &b, const TermLimits &limits);

/// a | b | .. and a & b & .. as trees of small height.
Expr disjunction(const std::vector<Expr> &all);
Expr conjunction(const std::vector<Expr> &all);

/// True for a bound of j itself by a constant.
bool isConstantBound(const Literal &l);
/// The bounds of j that cover the constant bounds of all terms.
std::vector<Literal> constantHull(const Terms &terms);

/// Membership as one expression of (Batch, Head, Query, Key); also `per_head`.
Expr predicate(const Pattern &p);

/// Heads behave alike modulo the period: the least common multiple of the
/// lengths of all `per_head` lists (0 where it passes `cap`).
int64_t headPeriod(const Pattern &p, int64_t cap = 4096);
/// p with every `per_head` list replaced by its entry for head h.
Pattern forHead(const Pattern &p, int64_t h);

} // namespace heddle

#endif // HEDDLE_DIALECT_TERMS_H
