//===- LinearForm.cpp - Normal form of quasi-affine expressions -----------===//
//
// Builds and bounds linear forms; see the header for the representation.
//
//===----------------------------------------------------------------------===//
#include "dialect/LinearForm.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <stdexcept>

namespace heddle {

namespace {

int64_t countNodes(const Expr &e, int64_t limit) {
  int64_t count = 1;
  for (size_t k = 0; k < e->args.size() && count <= limit; ++k) {
    count += countNodes(e->args[k], limit - count);
  }
  return count;
}

std::string keyOf(const Expr &atom) {
  constexpr int64_t kTextNodes = 400;
  if (!isLargerThan(atom, kTextNodes)) {
    return atom.str();
  }
  // Equal trees at other addresses count as different atoms, which only loses
  // simplifications.
  return "@" + std::to_string(reinterpret_cast<uintptr_t>(&*atom));
}

void addTerm(LinearForm &f, const Expr &atom, int64_t factor) {
  if (factor == 0) {
    return;
  }
  std::string key = keyOf(atom);
  auto [it, isNew] = f.terms.try_emplace(std::move(key), LinearForm::Term{atom, factor});
  if (!isNew && (it->second.factor += factor) == 0) {
    f.terms.erase(it);
  }
}

LinearForm atomForm(const Expr &e) {
  LinearForm f;
  addTerm(f, e, 1);
  return f;
}

bool isPositiveInt(const Expr &e) { return e->kind == ExprKind::Int && e->value > 0; }

/// Keeps one side of a minimum or maximum where the sides are comparable.
LinearForm extremum(const Expr &e) {
  LinearForm a = LinearForm::of(e->args[0]), b = LinearForm::of(e->args[1]);
  const bool isMin = e->kind == ExprKind::Min;
  std::optional<int64_t> top = upperBound(a - b), bottom = lowerBound(a - b);
  if (top && *top <= 0) {
    return isMin ? a : b;
  }
  if (bottom && *bottom >= 0) {
    return isMin ? b : a;
  }
  return atomForm(Expr::make(e->kind, {a.expr(), b.expr()}));
}

} // namespace

bool isLargerThan(const Expr &e, int64_t count) { return countNodes(e, count) > count; }

LinearForm LinearForm::of(const Expr &e) {
  switch (e->kind) {
  case ExprKind::Int:
    return LinearForm(e->value);
  case ExprKind::Symbol:
    if (e->symbol == Sym::KeyRow) {
      return of(Expr::symbol(Sym::Key)) - of(Expr::symbol(Sym::KeyOffset));
    }
    return atomForm(e);
  case ExprKind::Add:
    return of(e->args[0]) + of(e->args[1]);
  case ExprKind::Sub:
    return of(e->args[0]) - of(e->args[1]);
  case ExprKind::Neg:
    return of(e->args[0]) * -1;
  case ExprKind::Mul: {
    LinearForm a = of(e->args[0]), b = of(e->args[1]);
    if (a.isConstant()) {
      return b * a.constant;
    }
    if (b.isConstant()) {
      return a * b.constant;
    }
    return atomForm(Expr::make(ExprKind::Mul, {a.expr(), b.expr()}));
  }
  case ExprKind::FloorDiv:
    if (e->type == ExprType::Int && isPositiveInt(e->args[1])) {
      return floorDiv(of(e->args[0]), e->args[1]->value);
    }
    break;
  case ExprKind::Mod:
    if (e->type == ExprType::Int && isPositiveInt(e->args[1])) {
      return floorMod(of(e->args[0]), e->args[1]->value);
    }
    break;
  case ExprKind::Min:
  case ExprKind::Max:
    if (e->type == ExprType::Int) {
      return extremum(e);
    }
    break;
  default:
    break;
  }
  if (e->args.empty()) {
    return atomForm(e);
  }
  Expr s = simplify(e);
  return s->kind == ExprKind::Int ? LinearForm(s->value) : atomForm(s);
}

namespace {

/// Splits off c * ((N floordiv n) mod m), that is
/// c * (N floordiv n) - c * m * (N floordiv (n * m)).
bool takeQuotientRemainder(LinearForm &f, Expr &remainder, int64_t &factor) {
  auto isQuotient = [](const Expr &e) { return e->kind == ExprKind::FloorDiv && isPositiveInt(e->args[1]); };
  for (const auto &[key, low] : f.terms) {
    for (const auto &[otherKey, high] : f.terms) {
      if (&low == &high || !isQuotient(low.atom) || !isQuotient(high.atom)) {
        continue;
      }
      const int64_t n = low.atom->args[1]->value, wide = high.atom->args[1]->value;
      if (wide % n == 0 && wide > n && high.factor == -low.factor * (wide / n) &&
          low.atom->args[0].same(high.atom->args[0])) {
        remainder = floorMod(low.atom, Expr(wide / n));
        factor = low.factor;
        const std::string first = key, second = otherKey;
        f.terms.erase(first);
        f.terms.erase(second);
        return true;
      }
    }
  }
  return false;
}

/// Splits off c * (N mod n), that is c * N - c * n * (N floordiv n), where the
/// form has all of it.
bool takeRemainder(LinearForm &f, Expr &remainder, int64_t &factor) {
  for (const auto &[key, t] : f.terms) {
    if (t.atom->kind != ExprKind::FloorDiv || !isPositiveInt(t.atom->args[1]) ||
        t.factor % t.atom->args[1]->value != 0) {
      continue;
    }
    const int64_t n = t.atom->args[1]->value, c = -t.factor / n;
    LinearForm numerator = LinearForm::of(t.atom->args[0]);
    LinearForm rest = f - (numerator - LinearForm::of(t.atom) * n) * c;
    if (rest.terms.size() + numerator.terms.size() + 1 == f.terms.size()) {
      remainder = floorMod(t.atom->args[0], t.atom->args[1]);
      factor = c;
      f = std::move(rest);
      return true;
    }
  }
  return takeQuotientRemainder(f, remainder, factor);
}

} // namespace

Expr LinearForm::expr() const {
  LinearForm rest = *this;
  Expr remainder;
  if (int64_t factor = 0; takeRemainder(rest, remainder, factor)) {
    Expr part = factor == 1 || factor == -1 ? remainder : remainder * Expr(std::abs(factor));
    if (rest.isConstant() && rest.constant == 0) {
      return factor < 0 ? Expr::make(ExprKind::Neg, {part}) : part;
    }
    if (factor < 0) {
      return rest.expr() - part;
    }
    return rest.constant < 0 && rest.isConstant() ? part - Expr(-rest.constant)
           : rest.isConstant()                    ? part + rest.expr()
                                                  : rest.expr() + part;
  }
  Expr sum;
  auto accumulate = [&](const Term &t) {
    int64_t n = t.factor < 0 ? -t.factor : t.factor;
    Expr part = n == 1 ? t.atom : t.atom * Expr(n);
    if (sum.isNull()) {
      sum = t.factor < 0 ? Expr::make(ExprKind::Neg, {part}) : part;
    } else {
      sum = t.factor < 0 ? sum - part : sum + part;
    }
  };
  for (const auto &[key, t] : terms) {
    if (t.factor > 0) {
      accumulate(t);
    }
  }
  for (const auto &[key, t] : terms) {
    if (t.factor < 0) {
      accumulate(t);
    }
  }
  if (sum.isNull()) {
    return Expr(constant);
  }
  if (constant == 0) {
    return sum;
  }
  return constant < 0 ? sum - Expr(-constant) : sum + Expr(constant);
}

bool LinearForm::mentions(Sym s) const {
  return std::any_of(terms.begin(), terms.end(), [&](const auto &t) { return t.second.atom.mentions(s); });
}

std::optional<LinearForm> LinearForm::withoutKey() const {
  LinearForm rest = *this - of(Expr::symbol(Sym::Key));
  return rest.expr().onKey() ? std::nullopt : std::optional(std::move(rest));
}

bool LinearForm::hasLoad() const {
  return std::any_of(terms.begin(), terms.end(), [](const auto &t) { return t.second.atom.hasLoad(); });
}

bool LinearForm::operator==(const LinearForm &o) const {
  return constant == o.constant && terms.size() == o.terms.size() &&
         std::equal(terms.begin(), terms.end(), o.terms.begin(), [](const auto &a, const auto &b) {
           return a.first == b.first && a.second.factor == b.second.factor;
         });
}

namespace {

int64_t multiplyAdd(int64_t a, int64_t b, int64_t c) {
  int64_t product = 0, sum = 0;
  if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(product, c, &sum)) {
    throw std::overflow_error("expected constants whose multiples fit in 64 bits");
  }
  return sum;
}

} // namespace

LinearForm &LinearForm::add(const LinearForm &o, int64_t factor) {
  constant = multiplyAdd(o.constant, factor, constant);
  for (const auto &[key, t] : o.terms) {
    auto it = terms.try_emplace(key, Term{t.atom, 0}).first;
    it->second.factor = multiplyAdd(t.factor, factor, it->second.factor);
    if (it->second.factor == 0) {
      terms.erase(it);
    }
  }
  return *this;
}

std::optional<LinearForm> LinearForm::dividedBy(int64_t n) const {
  LinearForm r = *this;
  if (r.constant % n != 0) {
    return std::nullopt;
  }
  r.constant /= n;
  for (auto &[key, t] : r.terms) {
    if (t.factor % n != 0) {
      return std::nullopt;
    }
    t.factor /= n;
  }
  return r;
}

LinearForm operator+(LinearForm a, const LinearForm &b) { return std::move(a.add(b)); }
LinearForm operator-(LinearForm a, const LinearForm &b) { return std::move(a.add(b, -1)); }
LinearForm operator*(LinearForm a, int64_t n) {
  LinearForm r;
  return std::move(r.add(a, n));
}

LinearForm floorDiv(const LinearForm &a, int64_t n) {
  if (n == 1) {
    return a;
  }
  // (n * u + w) floordiv n = u + w floordiv n.
  LinearForm whole, rest;
  whole.constant = floorQuotient(a.constant, n);
  rest.constant = floorRemainder(a.constant, n);
  int64_t common = n;
  for (const auto &[key, t] : a.terms) {
    if (t.factor % n == 0) {
      whole.terms.emplace(key, LinearForm::Term{t.atom, t.factor / n});
    } else {
      rest.terms.emplace(key, t);
      common = std::gcd(common, t.factor);
    }
  }
  if (rest.terms.empty()) {
    return whole;
  }
  // (g * u + c) floordiv (g * m) = (u + c floordiv g) floordiv m.
  if (common > 1) {
    rest.constant = floorQuotient(rest.constant, common);
    for (auto &[key, t] : rest.terms) {
      t.factor /= common;
    }
    return whole + floorDiv(rest, n / common);
  }
  // (u floordiv m + c) floordiv n = (u + m * c) floordiv (m * n).
  if (rest.terms.size() == 1) {
    const LinearForm::Term &t = rest.terms.begin()->second;
    if (t.factor == 1 && t.atom->kind == ExprKind::FloorDiv && isPositiveInt(t.atom->args[1])) {
      int64_t m = t.atom->args[1]->value;
      LinearForm inner = LinearForm::of(t.atom->args[0]);
      int64_t product, shift;
      if (!__builtin_mul_overflow(m, n, &product) && !__builtin_mul_overflow(m, rest.constant, &shift) &&
          !__builtin_add_overflow(inner.constant, shift, &inner.constant)) {
        return whole + floorDiv(inner, product);
      }
    }
  }
  return whole + atomForm(Expr::make(ExprKind::FloorDiv, {rest.expr(), Expr(n)}));
}

LinearForm floorMod(const LinearForm &a, int64_t n) { return a - floorDiv(a, n) * n; }

namespace {

using Wide = __int128;

/// A linear form scaled by `scale` > 0, in wide integers.
struct WideForm {
  Wide constant = 0, scale = 1;
  std::map<std::string, std::pair<Expr, Wide>> terms;

  void add(const LinearForm &f, Wide factor) {
    constant += f.constant * factor;
    for (const auto &[key, t] : f.terms) {
      auto [it, isNew] = terms.try_emplace(key, t.atom, 0);
      if ((it->second.second += t.factor * factor) == 0) {
        terms.erase(it);
      }
    }
  }
};

std::optional<Wide> boundOf(WideForm f, int depth) {
  constexpr Wide kLimit = Wide(1) << 100;
  // A product of a value that is not large and 64 bits fits.
  auto isLarge = [](Wide v) { return v > (Wide(1) << 60) || v < -(Wide(1) << 60); };
  while (!f.terms.empty()) {
    // The outermost atom has the longest text: no other atom contains it.
    auto it = std::max_element(f.terms.begin(), f.terms.end(),
                               [](const auto &a, const auto &b) { return a.first.size() < b.first.size(); });
    auto [atom, factor] = it->second;
    if (isLarge(f.scale) || isLarge(f.constant) ||
        std::any_of(f.terms.begin(), f.terms.end(), [&](const auto &t) { return isLarge(t.second.second); })) {
      return std::nullopt;
    }
    f.terms.erase(it);
    if (atom->kind == ExprKind::FloorDiv && isPositiveInt(atom->args[1])) {
      Wide n = atom->args[1]->value;
      f.scale *= n;
      f.constant *= n;
      for (auto &[key, t] : f.terms) {
        t.second *= n;
      }
      f.add(LinearForm::of(atom->args[0]), factor);
      if (factor < 0) {
        f.constant -= factor * (n - 1);
      }
    } else if ((atom->kind == ExprKind::Min || atom->kind == ExprKind::Max) && depth > 0) {
      WideForm a = f, b = f;
      a.add(LinearForm::of(atom->args[0]), factor);
      b.add(LinearForm::of(atom->args[1]), factor);
      std::optional<Wide> boundA = boundOf(std::move(a), depth - 1);
      std::optional<Wide> boundB = boundOf(std::move(b), depth - 1);
      if ((atom->kind == ExprKind::Min) == (factor > 0)) {
        // Either side is an upper bound.
        return boundA && boundB ? std::min(*boundA, *boundB) : boundA ? boundA : boundB;
      }
      return boundA && boundB ? std::optional<Wide>(std::max(*boundA, *boundB)) : std::nullopt;
    } else {
      return std::nullopt;
    }
    if (f.scale > kLimit || f.constant > kLimit || f.constant < -kLimit) {
      return std::nullopt;
    }
  }
  Wide q = f.constant / f.scale;
  return f.constant % f.scale != 0 && f.constant < 0 ? q - 1 : q;
}

} // namespace

std::optional<int64_t> upperBound(const LinearForm &form) {
  WideForm f;
  f.add(form, 1);
  std::optional<Wide> b = boundOf(std::move(f), 4);
  if (!b || *b > INT64_MAX || *b < INT64_MIN) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*b);
}

std::optional<int64_t> lowerBound(const LinearForm &f) {
  std::optional<int64_t> b = upperBound(f * -1);
  return b && *b != INT64_MIN ? std::optional<int64_t>(-*b) : std::nullopt;
}

namespace {

/// Bits of integers, as in hashes: what is inside may rely on wrapping.
bool isBitwise(const Expr &e) {
  switch (e->kind) {
  case ExprKind::And:
  case ExprKind::Or:
  case ExprKind::Xor:
  case ExprKind::Not:
    return e->type == ExprType::Int;
  case ExprKind::Shl:
  case ExprKind::Shr:
    return true;
  default:
    return false;
  }
}

} // namespace

Expr simplify(const Expr &e) {
  if (e->args.empty() || isBitwise(e)) {
    return e;
  }
  if (e->type == ExprType::Int) {
    switch (e->kind) {
    case ExprKind::Add:
    case ExprKind::Sub:
    case ExprKind::Neg:
    case ExprKind::Mul:
    case ExprKind::FloorDiv:
    case ExprKind::Mod:
    case ExprKind::Min:
    case ExprKind::Max: {
      // Divisors that are not positive literals stay as they are.
      bool isDivision = e->kind == ExprKind::FloorDiv || e->kind == ExprKind::Mod;
      if (!isDivision || isPositiveInt(e->args[1])) {
        return LinearForm::of(e).expr();
      }
      break;
    }
    default:
      break;
    }
  }
  std::vector<Expr> args;
  for (const Expr &a : e->args) {
    args.push_back(simplify(a));
  }
  if (e->kind == ExprKind::Load) {
    return Expr::load(e->value, std::move(args), e->type);
  }
  return Expr::make(e->kind, std::move(args));
}

} // namespace heddle
