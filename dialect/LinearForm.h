//===- LinearForm.h - Normal form of quasi-affine expressions -------------===//
//
// A quasi-affine integer expression as a constant plus integer multiples of
// atoms. `e mod n` is written e - n * (e floordiv n), so every quotient is an
// atom once and differences of bounds cancel. What is not affine (a load, a
// minimum) is an opaque atom.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_LINEARFORM_H
#define HEDDLE_DIALECT_LINEARFORM_H

#include "dialect/Expr.h"

#include <map>
#include <optional>

namespace heddle {

/// constant + sum of factor * atom.
struct LinearForm {
  struct Term {
    Expr atom;
    int64_t factor;
  };
  int64_t constant = 0;
  std::map<std::string, Term> terms; ///< by the text of the atom (huge ones: by identity); factors are not 0

  LinearForm() = default;
  LinearForm(int64_t c) : constant(c) {} // NOLINT: integers convert.
  /// The form of an integer (or boolean, as 0 and 1) expression.
  static LinearForm of(const Expr &e);

  Expr expr() const;
  bool isConstant() const { return terms.empty(); }
  bool mentions(Sym s) const;
  /// This minus the key, where the key is in nothing else; else nullopt.
  std::optional<LinearForm> withoutKey() const;
  bool hasLoad() const;
  bool operator==(const LinearForm &o) const;
  /// Throws std::overflow_error past 64 bits.
  LinearForm &add(const LinearForm &o, int64_t factor = 1);
  /// Divides by n where every coefficient and the constant are multiples.
  std::optional<LinearForm> dividedBy(int64_t n) const;
};

LinearForm operator+(LinearForm a, const LinearForm &b);
LinearForm operator-(LinearForm a, const LinearForm &b);
LinearForm operator*(LinearForm a, int64_t n);
LinearForm floorDiv(const LinearForm &a, int64_t n);
LinearForm floorMod(const LinearForm &a, int64_t n);

/// An upper bound of the form over all integers, found by n * (e floordiv n) in
/// [e - n + 1, e] alone; nullopt where that leaves an unbounded atom.
std::optional<int64_t> upperBound(const LinearForm &f);
std::optional<int64_t> lowerBound(const LinearForm &f);

/// True where the expression, as a tree, has more nodes than `count`.
bool isLargerThan(const Expr &e, int64_t count);

/// The expression with every integer part in its linear form.
Expr simplify(const Expr &e);

/// Integer arithmetic that rounds down.
constexpr int64_t floorQuotient(int64_t a, int64_t n) { return a / n - ((a % n != 0 && (a < 0) != (n < 0)) ? 1 : 0); }
constexpr int64_t floorRemainder(int64_t a, int64_t n) { return a - n * floorQuotient(a, n); }

} // namespace heddle

#endif // HEDDLE_DIALECT_LINEARFORM_H
