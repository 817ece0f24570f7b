//===- Terms.cpp - Literals and terms -------------------------------------===//
//
// Conjunction with cheap simplification, and disjoint subtraction. Every
// comparison of two literals rests on a bound of the difference of their forms
// (LinearForm.h), so a literal is dropped, or a term called empty, only where
// that holds for all integers.
//
//===----------------------------------------------------------------------===//
#include "dialect/Terms.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace heddle {

//===----------------------------------------------------------------------===//
// Literals
//===----------------------------------------------------------------------===//

bool Literal::operator==(const Literal &o) const {
  if (kind != o.kind) {
    return false;
  }
  if (isCondition()) {
    return condition.same(o.condition);
  }
  return sameDigit(o) && step == o.step && form == o.form;
}

namespace {

/// A remainder among the terms of a sum.
bool hasRemainder(const Expr &e) {
  switch (e->kind) {
  case ExprKind::Mod:
    return true;
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Neg:
  case ExprKind::Mul:
    return std::any_of(e->args.begin(), e->args.end(), hasRemainder);
  default:
    return false;
  }
}

} // namespace

Expr Literal::digit() const {
  Expr v = Expr::symbol(Sym::Key);
  if (radix != 1) {
    v = floorDiv(v, Expr(radix));
  }
  return modulus == 0 ? v : floorMod(v, Expr(modulus / radix));
}

Expr Literal::expr() const {
  switch (kind) {
  case Lower:
    return digit() >= form.expr();
  case Upper:
    return digit() < form.expr();
  case Step:
    return equal(floorMod(digit() - form.expr(), Expr(step)), Expr(0));
  case Compare: {
    // Both sides free of negative factors, i >= 4 instead of i - 4 >= 0, unless
    // that would tear a remainder apart.
    if (Expr whole = form.expr(); hasRemainder(whole)) {
      return whole >= Expr(0);
    }
    LinearForm left, right;
    for (const auto &[key, t] : form.terms) {
      (t.factor > 0 ? left : right).terms.emplace(key, LinearForm::Term{t.atom, std::abs(t.factor)});
    }
    (form.constant > 0 ? left : right).constant = std::abs(form.constant);
    return left.expr() >= right.expr();
  }
  case Opaque:
  case Member:
    break;
  }
  return condition;
}

namespace {

/// (v - e) mod step != 0 on a digit of `extent` values (0: unbounded).
std::vector<Literal> negatedStep(const Literal &l) {
  std::vector<Literal> out;
  const int64_t extent = l.modulus == 0 ? 0 : l.modulus / l.radix;
  if (l.step <= 4) {
    for (int64_t k = 1; k < l.step; ++k) {
      Literal other = l;
      other.form.constant += k;
      if (other.form.isConstant()) {
        other.form = floorMod(other.form, l.step);
      }
      out.push_back(std::move(other));
    }
    return out;
  }
  if (extent % l.step != 0) {
    Literal c;
    c.kind = Literal::Compare;
    c.form = floorMod(LinearForm::of(l.digit()) - l.form, l.step) - LinearForm(1);
    return {c};
  }
  Literal below = l;
  below.kind = Literal::Upper;
  below.modulus = l.radix * l.step;
  below.step = 0;
  below.form = floorMod(l.form, l.step);
  Literal above = below;
  above.kind = Literal::Lower;
  above.form.constant += 1;
  if (!(below.form.isConstant() && below.form.constant <= 0)) {
    out.push_back(below);
  }
  if (!(above.form.isConstant() && above.form.constant >= l.step)) {
    out.push_back(above);
  }
  return out;
}

} // namespace

std::vector<Literal> Literal::negated() const {
  Literal n = *this;
  switch (kind) {
  case Lower:
    n.kind = Upper;
    break;
  case Upper:
    n.kind = Lower;
    break;
  case Step:
    return negatedStep(*this);
  case Compare:
    n.form = form * -1 - LinearForm(1);
    break;
  case Opaque:
    n.condition = condition->kind == ExprKind::Not ? condition->args[0] : !condition;
    break;
  case Member:
    n = Literal();
    n.condition = !condition;
    break;
  }
  return {std::move(n)};
}

//===----------------------------------------------------------------------===//
// Terms
//===----------------------------------------------------------------------===//

namespace {

bool neverPositive(const LinearForm &f) {
  std::optional<int64_t> top = upperBound(f);
  return top && *top <= 0;
}

/// What one literal alone says: true, false, or nullopt.
std::optional<bool> constantTruth(const Literal &l) {
  switch (l.kind) {
  case Literal::Lower:
  case Literal::Upper: {
    if (l.modulus == 0) {
      return std::nullopt;
    }
    // The digit lies in [0, extent).
    const LinearForm extent(l.modulus / l.radix);
    const bool isLower = l.kind == Literal::Lower;
    if (neverPositive(l.form)) {
      return isLower;
    }
    return neverPositive(extent - l.form) ? std::optional<bool>(!isLower) : std::nullopt;
  }
  case Literal::Step:
    return l.step == 1 ? std::optional<bool>(true) : std::nullopt;
  case Literal::Compare: {
    if (neverPositive(l.form * -1)) {
      return true;
    }
    std::optional<int64_t> top = upperBound(l.form);
    return top && *top < 0 ? std::optional<bool>(false) : std::nullopt;
  }
  case Literal::Opaque:
    return l.condition->kind == ExprKind::Int ? std::optional<bool>(l.condition->value != 0) : std::nullopt;
  case Literal::Member:
    break;
  }
  return std::nullopt;
}

/// The bound's form in units of the smaller radix, so that digits that share
/// their modulus compare: (j mod R) floordiv r >= e iff j mod R >= r * e.
LinearForm scaled(const Literal &l) { return l.form * l.radix; }

} // namespace

Term::Verdict Term::compare(const Literal &have, const Literal &l) {
  if (have == l) {
    return Verdict::Redundant;
  }
  const bool boundsOfOne = have.modulus == l.modulus && have.kind <= Literal::Upper && l.kind <= Literal::Upper;
  if (boundsOfOne && have.kind == l.kind) {
    // The larger lower bound and the smaller upper bound remain.
    LinearForm gap = l.kind == Literal::Lower ? scaled(l) - scaled(have) : scaled(have) - scaled(l);
    if (neverPositive(gap)) {
      return Verdict::Redundant;
    }
    return neverPositive(gap * -1) ? Verdict::Replaces : Verdict::Keep;
  }
  if (boundsOfOne) {
    const Literal &low = have.kind == Literal::Lower ? have : l;
    const Literal &high = have.kind == Literal::Lower ? l : have;
    return neverPositive(scaled(high) - scaled(low)) ? Verdict::Empty : Verdict::Keep;
  }
  if (have.kind == Literal::Step && l.kind == Literal::Step && have.sameDigit(l)) {
    LinearForm gap = have.form - l.form;
    const int64_t common = std::gcd(have.step, l.step);
    LinearForm rest = floorMod(gap, common);
    if (!rest.isConstant()) {
      return Verdict::Keep;
    }
    if (rest.constant != 0) {
      return Verdict::Empty;
    }
    return common == l.step ? Verdict::Redundant : common == have.step ? Verdict::Replaces : Verdict::Keep;
  }
  if (have.kind == Literal::Compare && l.kind == Literal::Compare) {
    std::optional<int64_t> top = upperBound(have.form + l.form);
    if (top && *top < 0) {
      return Verdict::Empty;
    }
    if (neverPositive(have.form - l.form)) {
      return Verdict::Redundant;
    }
    return neverPositive(l.form - have.form) ? Verdict::Replaces : Verdict::Keep;
  }
  if (have.isCondition() && l.isCondition()) {
    return have.negated()[0].condition.same(l.condition) ? Verdict::Empty : Verdict::Keep;
  }
  return Verdict::Keep;
}

bool Term::add(Literal l) {
  if (std::optional<bool> truth = constantTruth(l)) {
    return *truth;
  }
  for (size_t k = 0; k < list.size();) {
    switch (compare(list[k], l)) {
    case Verdict::Redundant:
      return true;
    case Verdict::Empty:
      return false;
    case Verdict::Replaces:
      list.erase(list.begin() + static_cast<ptrdiff_t>(k));
      break;
    case Verdict::Keep:
      ++k;
      break;
    }
  }
  list.push_back(std::move(l));
  return true;
}

bool Term::add(const Term &o) {
  return std::all_of(o.list.begin(), o.list.end(), [&](const Literal &l) { return add(l); });
}

Expr Term::expr() const {
  std::vector<Expr> all;
  for (const Literal &l : list) {
    all.push_back(l.expr());
  }
  return conjunction(all);
}

bool Term::hasLoad() const {
  return std::any_of(list.begin(), list.end(),
                     [](const Literal &l) { return l.isCondition() ? l.condition.hasLoad() : l.form.hasLoad(); });
}

//===----------------------------------------------------------------------===//
// Unions of terms
//===----------------------------------------------------------------------===//

namespace {

Expr balanced(const std::vector<Expr> &all, size_t begin, size_t end, bool isUnion) {
  if (begin == end) {
    return Expr::boolean(!isUnion);
  }
  if (begin + 1 == end) {
    return all[begin];
  }
  const size_t middle = begin + (end - begin) / 2;
  Expr a = balanced(all, begin, middle, isUnion), b = balanced(all, middle, end, isUnion);
  return isUnion ? a || b : a && b;
}

} // namespace

Expr disjunction(const std::vector<Expr> &all) { return balanced(all, 0, all.size(), true); }
Expr conjunction(const std::vector<Expr> &all) { return balanced(all, 0, all.size(), false); }

bool isConstantBound(const Literal &l) { return l.kind <= Literal::Upper && l.modulus == 0 && l.form.isConstant(); }

std::vector<Literal> constantHull(const Terms &terms) {
  std::vector<Literal> hull;
  for (Literal::Kind kind : {Literal::Lower, Literal::Upper}) {
    Literal widest;
    size_t found = 0;
    for (const Term &t : terms) {
      for (const Literal &l : t.literals()) {
        if (isConstantBound(l) && l.kind == kind) {
          const bool wider =
              kind == Literal::Lower ? l.form.constant < widest.form.constant : l.form.constant > widest.form.constant;
          widest = found == 0 || wider ? l : widest;
          ++found;
        }
      }
    }
    if (found > 0 && found == terms.size()) {
      hull.push_back(widest);
    }
  }
  return hull;
}

namespace {

bool certainlyEmpty(const Term &t, const TermLimits &limits) {
  return limits.isEmpty && t.literals().size() > 1 && limits.isEmpty(t);
}

void checkSize(const Terms &t, const TermLimits &limits) {
  if (t.size() > limits.maxTerms) {
    throw TermsOverflow{"more than " + std::to_string(limits.maxTerms) + " terms"};
  }
}

} // namespace

Terms intersect(const Terms &a, const Terms &b, const TermLimits &limits) {
  Terms out;
  for (const Term &x : a) {
    for (const Term &y : b) {
      Term both = x;
      if (both.add(y) && (x.literals().empty() || y.literals().empty() || !certainlyEmpty(both, limits))) {
        out.push_back(std::move(both));
        checkSize(out, limits);
      }
    }
  }
  return out;
}

Terms subtract(const Term &a, const Term &b, const TermLimits &limits) {
  Term both = a;
  if (!both.add(b) || certainlyEmpty(both, limits)) {
    return {a};
  }
  // a & ~(b1 & b2 & ..) = a & ~b1 | a & b1 & ~b2 | ..
  Terms out;
  Term prefix = a;
  for (const Literal &l : b.literals()) {
    for (Literal &n : l.negated()) {
      Term piece = prefix;
      if (piece.add(std::move(n)) && !certainlyEmpty(piece, limits)) {
        out.push_back(std::move(piece));
        checkSize(out, limits);
      }
    }
    if (!prefix.add(l)) {
      break;
    }
  }
  return out;
}

} // namespace heddle
