//===- TermsCondition.cpp - Terms of a written condition ------------------===//
//
// Boolean structure becomes terms; a comparison is brought to f >= 0 and solved
// for the key: c * j + g >= 0, quotients of the key, residues of the key and of
// i - j. Minima, maxima, absolute values and selections inside a comparison are
// split into their cases.
//
//===----------------------------------------------------------------------===//
#include "dialect/TermsCondition.h"
#include "dialect/KeyPlace.h"

#include <algorithm>

namespace heddle {

namespace {

constexpr size_t kMaxConditionTerms = 256;

Terms single(Literal l) {
  Term t;
  return t.add(std::move(l)) ? Terms{std::move(t)} : Terms{};
}

Terms opaque(const Expr &condition, bool negated) {
  Literal l;
  l.condition = simplify(condition);
  return single(negated ? l.negated()[0] : l);
}

Terms compareTerms(LinearForm f) {
  Literal l;
  l.kind = Literal::Compare;
  l.form = std::move(f);
  return single(std::move(l));
}

bool mentionsKey(const Expr &e) { return e.mentions(Sym::Key); }

/// Splits f into its part free of the key and the terms that mention it.
std::vector<LinearForm::Term> takeKeyTerms(LinearForm &f) {
  std::vector<LinearForm::Term> out;
  for (auto it = f.terms.begin(); it != f.terms.end();) {
    if (mentionsKey(it->second.atom)) {
      out.push_back(it->second);
      it = f.terms.erase(it);
    } else {
      ++it;
    }
  }
  return out;
}

bool isKey(const Expr &e) { return e->kind == ExprKind::Symbol && e->symbol == Sym::Key; }
bool isQuotient(const Expr &e) {
  return e->kind == ExprKind::FloorDiv && e->args[1]->kind == ExprKind::Int && e->args[1]->value > 0;
}

/// f = sign * (N mod n) + constant, N = keySign * j + rest.
struct ResidueForm {
  int64_t sign, n, constant, keySign;
  LinearForm rest;
};

std::optional<ResidueForm> residueForm(const LinearForm &f) {
  for (const auto &[key, t] : f.terms) {
    if (!isQuotient(t.atom) || !mentionsKey(t.atom)) {
      continue;
    }
    const int64_t n = t.atom->args[1]->value;
    if (t.factor != n && t.factor != -n) {
      continue;
    }
    ResidueForm r;
    r.sign = t.factor == -n ? 1 : -1;
    r.n = n;
    LinearForm numerator = LinearForm::of(t.atom->args[0]);
    LinearForm left = f - floorMod(numerator, n) * r.sign;
    if (!left.isConstant()) {
      continue;
    }
    r.constant = left.constant;
    std::vector<LinearForm::Term> keys = takeKeyTerms(numerator);
    if (keys.size() != 1 || !isKey(keys[0].atom) || (keys[0].factor != 1 && keys[0].factor != -1)) {
      continue;
    }
    r.keySign = keys[0].factor;
    r.rest = std::move(numerator);
    return r;
  }
  return std::nullopt;
}

/// Terms of first <= N mod n < first + length.
Terms residueRun(const ResidueForm &r, int64_t first, int64_t length) {
  const int64_t end = std::min(first + length, r.n);
  first = std::max<int64_t>(first, 0);
  length = end - first;
  if (length <= 0) {
    return {};
  }
  if (length >= r.n) {
    return {Term()};
  }
  LinearForm start = r.keySign > 0 ? LinearForm(first) - r.rest : r.rest - LinearForm(first + length - 1);
  return KeyPlace().run(start, length, r.n);
}

/// f >= 0.
Terms solve(const LinearForm &f, int depth = 0) {
  if (std::optional<ResidueForm> r = residueForm(f)) {
    return r->sign > 0 ? residueRun(*r, -r->constant, r->n + std::max<int64_t>(r->constant, 0))
                       : residueRun(*r, 0, r->constant + 1);
  }
  LinearForm g = f;
  std::vector<LinearForm::Term> keys = takeKeyTerms(g);
  if (keys.size() == 1) {
    const int64_t c = keys[0].factor;
    // c * y >= -g: y >= -(g floordiv c), or y <= g floordiv |c|.
    LinearForm bound = c > 0 ? floorDiv(g, c) * -1 : floorDiv(g, -c);
    if (isKey(keys[0].atom)) {
      return single(c > 0 ? KeyPlace().lower(bound) : KeyPlace().upper(bound + LinearForm(1)));
    }
    if (isQuotient(keys[0].atom) && depth < 8) {
      const int64_t n = keys[0].atom->args[1]->value;
      LinearForm numerator = LinearForm::of(keys[0].atom->args[0]);
      return solve(c > 0 ? numerator - bound * n : bound * n + LinearForm(n - 1) - numerator, depth + 1);
    }
  }
  if (keys.size() == 2) {
    // c * (j mod n) + g, with j mod n = j - n * (j floordiv n).
    const bool keyFirst = isKey(keys[0].atom);
    const LinearForm::Term &key = keys[keyFirst ? 0 : 1], &quotient = keys[keyFirst ? 1 : 0];
    if (isKey(key.atom) && isQuotient(quotient.atom) && isKey(quotient.atom->args[0]) &&
        quotient.factor == -key.factor * quotient.atom->args[1]->value) {
      const int64_t c = key.factor, n = quotient.atom->args[1]->value;
      KeyPlace digit = KeyPlace().modulo(n);
      return single(c > 0 ? digit.lower(floorDiv(g, c) * -1) : digit.upper(floorDiv(g, -c) + LinearForm(1)));
    }
  }
  return compareTerms(f);
}

/// The first minimum, maximum, absolute value or selection of integers.
Expr findCase(const Expr &e) {
  switch (e->kind) {
  case ExprKind::Min:
  case ExprKind::Max:
  case ExprKind::Abs:
  case ExprKind::Select:
    if (e->type == ExprType::Int) {
      return e;
    }
    break;
  case ExprKind::Load:
    return {};
  default:
    break;
  }
  for (const Expr &a : e->args) {
    if (Expr found = findCase(a)) {
      return found;
    }
  }
  return {};
}

Expr replace(const Expr &e, const Expr &what, const Expr &by) {
  if (e.same(what)) {
    return by;
  }
  if (e->args.empty() || e->kind == ExprKind::Load) {
    return e;
  }
  std::vector<Expr> args;
  for (const Expr &a : e->args) {
    args.push_back(replace(a, what, by));
  }
  return Expr::make(e->kind, std::move(args));
}

bool isIntegral(const Expr &e) {
  return e->type != ExprType::Float && std::all_of(e->args.begin(), e->args.end(), [&](const Expr &a) {
           return e->kind == ExprKind::Load || isIntegral(a);
         });
}

class ConditionBuilder {
public:
  Terms build(const Expr &e, bool negated) {
    const ExprNode &n = *e;
    if (n.type != ExprType::Bool) {
      return n.type == ExprType::Int ? comparison(notEqual(e, Expr(0)), negated) : opaque(e, negated);
    }
    switch (n.kind) {
    case ExprKind::Int:
      return (n.value != 0) != negated ? Terms{Term()} : Terms{};
    case ExprKind::And:
    case ExprKind::Or:
      return (n.kind == ExprKind::Or) != negated ? both(build(n.args[0], negated), build(n.args[1], negated), true)
                                                 : both(build(n.args[0], negated), build(n.args[1], negated), false);
    case ExprKind::Not:
      return build(n.args[0], !negated);
    case ExprKind::Xor:
      return exclusive(n.args[0], n.args[1], negated);
    case ExprKind::Select: {
      const Expr &c = n.args[0];
      return both(both(build(c, false), build(n.args[1], negated), false),
                  both(build(c, true), build(n.args[2], negated), false), true);
    }
    case ExprKind::Lt:
    case ExprKind::Le:
    case ExprKind::Gt:
    case ExprKind::Ge:
    case ExprKind::Eq:
    case ExprKind::Ne:
      if (n.args[0]->type == ExprType::Bool && n.args[1]->type == ExprType::Bool &&
          (n.kind == ExprKind::Eq || n.kind == ExprKind::Ne)) {
        return exclusive(n.args[0], n.args[1], (n.kind == ExprKind::Eq) != negated);
      }
      return isIntegral(e) ? comparison(e, negated) : opaque(e, negated);
    default:
      return opaque(e, negated);
    }
  }

private:
  static Terms both(Terms a, Terms b, bool isUnion) {
    if (isUnion) {
      std::move(b.begin(), b.end(), std::back_inserter(a));
    } else {
      a = intersect(a, b, {});
    }
    if (a.size() > kMaxConditionTerms) {
      throw TermsOverflow{"a condition of too many cases"};
    }
    return a;
  }

  /// a xor b (negated: a = b).
  Terms exclusive(const Expr &a, const Expr &b, bool negated) {
    return both(both(build(a, false), build(b, !negated), false), both(build(a, true), build(b, negated), false), true);
  }

  Terms cases(const Expr &e, bool negated, const Expr &what) {
    Expr condition, yes, no;
    if (what->kind == ExprKind::Select) {
      condition = what->args[0], yes = what->args[1], no = what->args[2];
    } else if (what->kind == ExprKind::Abs) {
      condition = what->args[0] >= Expr(0), yes = what->args[0];
      no = Expr::make(ExprKind::Neg, {what->args[0]});
    } else {
      const bool isMin = what->kind == ExprKind::Min;
      condition = isMin ? what->args[0] <= what->args[1] : what->args[0] >= what->args[1];
      yes = what->args[0], no = what->args[1];
    }
    return both(both(build(condition, false), build(replace(e, what, yes), negated), false),
                both(build(condition, true), build(replace(e, what, no), negated), false), true);
  }

  Terms comparison(const Expr &e, bool negated) {
    if (e->kind == ExprKind::Int) {
      return build(e, negated);
    }
    if (Expr what = findCase(e)) {
      return cases(e, negated, what);
    }
    const bool isEquality = e->kind == ExprKind::Eq || e->kind == ExprKind::Ne;
    if (isEquality && e.hasLoad() && mentionsKey(e)) {
      return opaque(equal(e->args[0], e->args[1]), (e->kind == ExprKind::Ne) != negated);
    }
    LinearForm gap = LinearForm::of(e->args[0]) - LinearForm::of(e->args[1]);
    const LinearForm one(1);
    switch (e->kind) {
    case ExprKind::Lt:
      return solve(negated ? gap : gap * -1 - one);
    case ExprKind::Le:
      return solve(negated ? gap - one : gap * -1);
    case ExprKind::Gt:
      return solve(negated ? gap * -1 : gap - one);
    case ExprKind::Ge:
      return solve(negated ? gap * -1 - one : gap);
    default:
      return equality(gap, (e->kind == ExprKind::Ne) != negated);
    }
  }

  static Terms equality(const LinearForm &gap, bool negated) {
    if (std::optional<ResidueForm> r = residueForm(gap)) {
      const int64_t value = -r->constant * r->sign;
      if (value < 0 || value >= r->n) {
        return negated ? Terms{Term()} : Terms{};
      }
      if (!negated) {
        return residueRun(*r, value, 1);
      }
      return both(residueRun(*r, 0, value), residueRun(*r, value + 1, r->n - value - 1), true);
    }
    if (negated) {
      return both(solve(gap - LinearForm(1)), solve(gap * -1 - LinearForm(1)), true);
    }
    return both(solve(gap), solve(gap * -1), false);
  }
};

} // namespace

Terms conditionTerms(const Expr &condition, bool negated) { return ConditionBuilder().build(condition, negated); }

} // namespace heddle
