//===- Condition.cpp - Conditions in negation normal form -----------------===//
//
// A comparison F(X) >= 0 with X = min(x, y): where F grows with X it is
// F(x) >= 0 and F(y) >= 0; where F falls, the same with `or`; where neither is
// known, (x <= y and F(x) >= 0) or (x > y and F(y) >= 0). max, abs and select
// likewise. A budget bounds the number of atoms; past it a comparison stays as
// it is.
//
//===----------------------------------------------------------------------===//
#include "dialect/Condition.h"

#include "dialect/Affine.h"
#include "dialect/LinearForm.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

namespace heddle {

namespace {

constexpr int maxAtoms = 512, maxSteps = 4096, maxSize = 2000;

/// Number of nodes, counted no further than past maxSize.
int sizeOf(const Expr &e) {
  int n = 1;
  for (const Expr &a : e->args) {
    n += n > maxSize ? 0 : sizeOf(a);
  }
  return n;
}

Condition constant(bool v) { return {v ? Condition::And : Condition::Or, {}, {}}; }

Condition nary(Condition::Kind kind, Condition a, Condition b) {
  Condition c{kind, {}, {}};
  for (Condition *x : {&a, &b}) {
    bool constantNode = (x->kind == Condition::And || x->kind == Condition::Or);
    if (x->kind == kind) {
      std::move(x->children.begin(), x->children.end(), std::back_inserter(c.children));
    } else if (constantNode && x->children.empty()) {
      return std::move(*x); // `false` in an `and`, `true` in an `or`.
    } else {
      c.children.push_back(std::move(*x));
    }
  }
  return c.children.size() == 1 ? Condition(c.children[0]) : c;
}

bool isPowerOfTwo(int64_t v) { return v > 0 && (v & (v - 1)) == 0; }

/// Shifts and masks by constants as multiplication, floordiv and mod.
Expr withoutBits(const Expr &e) {
  if (e->args.empty()) {
    return e;
  }
  std::vector<Expr> args;
  for (const Expr &a : e->args) {
    args.push_back(withoutBits(a));
  }
  if (e->kind == ExprKind::Load) {
    return Expr::load(e->value, std::move(args), e->type);
  }
  if (args.size() == 2 && e->type == ExprType::Int) {
    auto literal = [](const Expr &x) { return x->kind == ExprKind::Int && x->type == ExprType::Int; };
    if (e->kind == ExprKind::And) {
      for (int k : {0, 1}) {
        const Expr &mask = args[static_cast<size_t>(k)], &x = args[static_cast<size_t>(1 - k)];
        if (literal(mask) && mask->value < (int64_t{1} << 40) && isPowerOfTwo(mask->value + 1) &&
            x->type == ExprType::Int) {
          return floorMod(x, Expr(mask->value + 1));
        }
      }
    }
    bool count = literal(args[1]) && args[1]->value >= 0 && args[1]->value < 40;
    if (count && args[0]->type == ExprType::Int && e->kind == ExprKind::Shr) {
      return floorDiv(args[0], Expr(int64_t{1} << args[1]->value));
    }
    if (count && args[0]->type == ExprType::Int && e->kind == ExprKind::Shl) {
      return args[0] * Expr(int64_t{1} << args[1]->value);
    }
  }
  return Expr::make(e->kind, std::move(args));
}

/// A node of `e` that splits it into cases, innermost first; null where none.
Expr findPiecewise(const Expr &e) {
  for (const Expr &a : e->args) {
    if (Expr found = findPiecewise(a)) {
      return found;
    }
  }
  switch (e->kind) {
  case ExprKind::Min:
  case ExprKind::Max:
  case ExprKind::Abs:
  case ExprKind::Select:
    return e;
  default:
    return {};
  }
}

Expr replaced(const Expr &e, const Expr &node, const Expr &by) {
  if (e.same(node)) {
    return by;
  }
  if (e->args.empty()) {
    return e;
  }
  std::vector<Expr> args;
  for (const Expr &a : e->args) {
    args.push_back(replaced(a, node, by));
  }
  return e->kind == ExprKind::Load ? Expr::load(e->value, std::move(args), e->type)
                                   : Expr::make(e->kind, std::move(args));
}

enum class Trend : uint8_t { Constant, Grows, Falls, Unknown };

Trend opposite(Trend t) { return t == Trend::Grows ? Trend::Falls : t == Trend::Falls ? Trend::Grows : t; }

Trend sum(Trend a, Trend b) {
  if (a == Trend::Constant || a == b) {
    return b;
  }
  return b == Trend::Constant ? a : Trend::Unknown;
}

/// How `e` follows `node`.
Trend trendOf(const Expr &e, const Expr &node) {
  if (e.same(node)) {
    return Trend::Grows;
  }
  if (e->args.empty()) {
    return Trend::Constant;
  }
  std::vector<Trend> t;
  for (const Expr &a : e->args) {
    t.push_back(trendOf(a, node));
  }
  if (std::all_of(t.begin(), t.end(), [](Trend x) { return x == Trend::Constant; })) {
    return Trend::Constant;
  }
  switch (e->kind) {
  case ExprKind::Neg:
    return opposite(t[0]);
  case ExprKind::Add:
  case ExprKind::Min:
  case ExprKind::Max:
    return sum(t[0], t[1]);
  case ExprKind::Sub:
    return sum(t[0], opposite(t[1]));
  case ExprKind::Mul:
    for (size_t k : {0, 1}) {
      if (e->args[k]->kind == ExprKind::Int) {
        return e->args[k]->value < 0 ? opposite(t[1 - k]) : t[1 - k];
      }
    }
    return Trend::Unknown;
  case ExprKind::FloorDiv:
    return e->args[1]->kind == ExprKind::Int && e->args[1]->value > 0 ? t[0] : Trend::Unknown;
  default:
    return Trend::Unknown;
  }
}

/// k with a = k * b; 0 where there is none.
int64_t ratioOf(const LinearForm &a, const LinearForm &b) {
  if (a.terms.empty() || b.terms.empty() || a.terms.begin()->second.factor % b.terms.begin()->second.factor != 0) {
    return 0;
  }
  const int64_t k = a.terms.begin()->second.factor / b.terms.begin()->second.factor;
  return std::abs(k) < (1 << 20) && a == b * k ? k : 0;
}

/// x and f with e = f * x * x; f is 0 where e is no square.
std::pair<int64_t, Expr> squareOf(const Expr &e) {
  if (e->kind != ExprKind::Mul) {
    return {0, e};
  }
  try {
    const LinearForm a = LinearForm::of(e->args[0]), b = LinearForm::of(e->args[1]);
    const int64_t k = ratioOf(a, b);
    return k != 0 ? std::pair(k, e->args[1]) : std::pair(ratioOf(b, a), e->args[0]);
  } catch (const std::overflow_error &) { // of constants
    return {0, e};
  }
}

/// `constant` and terms, each with its factor: of |x| (isSquare false), of x * x, or of anything else (x null).
struct SumTerm {
  int64_t factor;
  Expr x;
  bool isSquare;
};
struct Sum {
  int64_t constant = 0;
  std::vector<SumTerm> terms;
};

/// Adds factor * e; false past 64 bits or kMaxTerms.
bool addTo(Sum &sum, const Expr &e, int64_t factor) {
  constexpr size_t kMaxTerms = 8;
  switch (e->kind) {
  case ExprKind::Int: {
    int64_t value = 0;
    return !__builtin_mul_overflow(e->value, factor, &value) &&
           !__builtin_add_overflow(sum.constant, value, &sum.constant);
  }
  case ExprKind::Add:
    return addTo(sum, e->args[0], factor) && addTo(sum, e->args[1], factor);
  case ExprKind::Sub:
    return addTo(sum, e->args[0], factor) && addTo(sum, e->args[1], -factor);
  case ExprKind::Neg:
    return addTo(sum, e->args[0], -factor);
  case ExprKind::Mul:
    for (size_t k : {0, 1}) {
      if (e->args[k]->kind == ExprKind::Int) {
        int64_t value = 0;
        return !__builtin_mul_overflow(e->args[k]->value, factor, &value) && addTo(sum, e->args[1 - k], value);
      }
    }
    break;
  default:
    break;
  }
  const auto [square, root] = squareOf(e);
  if (square != 0 && __builtin_mul_overflow(factor, square, &factor)) {
    return false;
  }
  sum.terms.push_back({factor, square != 0 ? root : e->kind == ExprKind::Abs ? e->args[0] : Expr(), square != 0});
  return sum.terms.size() <= kMaxTerms && factor > INT32_MIN && factor < INT32_MAX;
}

/// The largest s with s * s <= n, n >= 0.
int64_t squareRoot(int64_t n) {
  auto s = static_cast<int64_t>(std::sqrt(static_cast<double>(n)));
  constexpr int64_t kLargest = 3037000499; // its square is the last in 64 bits
  s = std::min(s, kLargest);
  while (s * s > n) {
    --s;
  }
  while (s < kLargest && (s + 1) * (s + 1) <= n) {
    ++s;
  }
  return s;
}

class Splitter {
public:
  Condition split(const Expr &e, bool negated);

private:
  Condition opaque(const Expr &e, bool negated);
  Condition comparison(const Expr &e, bool negated);
  Condition affine(const Expr &e, bool equality);
  Condition cases(const Expr &e, const Expr &node, bool equality);
  std::optional<Condition> square(const Expr &e, bool equality);
  Condition boundsOf(const Expr &e);
  bool isSupported(const Expr &e) const;

  int atoms = 0, steps = 0;
  bool overflow = false;
};

Condition Splitter::opaque(const Expr &e, bool negated) {
  ++atoms;
  if (!negated) {
    return {Condition::Opaque, {}, e};
  }
  bool real = false;
  for (const Expr &a : e->args) {
    real |= a->type == ExprType::Float; // NaN: not (a < b) is not a >= b.
  }
  if (!real && e->kind >= ExprKind::Lt && e->kind <= ExprKind::Ne) {
    constexpr ExprKind flipped[] = {ExprKind::Ge, ExprKind::Gt, ExprKind::Le, ExprKind::Lt, ExprKind::Ne, ExprKind::Eq};
    auto k = static_cast<size_t>(e->kind) - static_cast<size_t>(ExprKind::Lt);
    return {Condition::Opaque, {}, Expr::make(flipped[k], e->args)};
  }
  return {Condition::Opaque, {}, e->kind == ExprKind::Not ? e->args[0] : !e};
}

/// Nothing in `e` but integers that the case split and linearize understand.
bool Splitter::isSupported(const Expr &e) const {
  switch (e->kind) {
  case ExprKind::Int:
  case ExprKind::Symbol:
  case ExprKind::Scalar:
    return e->type == ExprType::Int;
  case ExprKind::Select:
    return e->type == ExprType::Int && isSupported(e->args[1]) && isSupported(e->args[2]);
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Mul:
  case ExprKind::Neg:
  case ExprKind::FloorDiv:
  case ExprKind::Mod:
  case ExprKind::Min:
  case ExprKind::Max:
  case ExprKind::Abs:
    return e->type == ExprType::Int &&
           std::all_of(e->args.begin(), e->args.end(), [this](const Expr &a) { return isSupported(a); });
  default:
    return false;
  }
}

Condition Splitter::cases(const Expr &e, const Expr &node, bool equality) {
  auto both = [&](Condition::Kind kind, const Expr &x, const Expr &y) {
    return nary(kind, affine(replaced(e, node, x), equality), affine(replaced(e, node, y), equality));
  };
  auto either = [&](const Expr &condition, const Expr &x, const Expr &y) {
    Condition first = nary(Condition::And, split(condition, false), affine(replaced(e, node, x), equality));
    Condition second = nary(Condition::And, split(condition, true), affine(replaced(e, node, y), equality));
    return nary(Condition::Or, std::move(first), std::move(second));
  };
  if (node->kind == ExprKind::Select) {
    return either(node->args[0], node->args[1], node->args[2]);
  }
  Expr x = node->args[0];
  Expr y = node->kind == ExprKind::Abs ? Expr(0) - x : node->args[1];
  bool isMin = node->kind == ExprKind::Min;
  Trend trend = equality ? Trend::Unknown : trendOf(e, node);
  if (trend == Trend::Grows || trend == Trend::Falls) {
    return both(isMin == (trend == Trend::Grows) ? Condition::And : Condition::Or, x, y);
  }
  return either(isMin ? x <= y : x >= y, x, y);
}

/// c - f * x * x >= 0 (or == 0) as bounds of x; nullopt where e is another form.
std::optional<Condition> Splitter::square(const Expr &e, bool equality) {
  Sum sum;
  if (!addTo(sum, e, 1) || sum.terms.size() != 1 || sum.terms[0].factor == 0 || !sum.terms[0].isSquare) {
    return std::nullopt;
  }
  if (equality) {
    return nary(Condition::And, *square(e, false), *square(Expr(0) - e, false));
  }
  const Expr &x = sum.terms[0].x;
  const int64_t c = sum.constant, f = std::abs(sum.terms[0].factor);
  if (sum.terms[0].factor < 0) { // f * x * x <= c
    if (c < 0) {
      return constant(false);
    }
    const Expr most(squareRoot(c / f));
    return nary(Condition::And, affine(most - x, false), affine(most + x, false));
  }
  if (c >= 0) {
    return constant(true);
  }
  // f * x * x >= -c, which is more than 0.
  const Expr least(squareRoot((-(c + 1)) / f) + 1);
  return nary(Condition::Or, affine(x - least, false), affine(Expr(0) - x - least, false));
}

/// What e >= 0 says of each x, where e is c - a |x| - b y * y - ..: a |x| <= c, b y * y <= c. Two sides of a digit
/// that only their sum bounds would not be seen in it.
Condition Splitter::boundsOf(const Expr &e) {
  Sum sum;
  const bool isSum =
      addTo(sum, e, 1) && sum.terms.size() > 1 && sum.constant >= 0 &&
      std::all_of(sum.terms.begin(), sum.terms.end(), [](const SumTerm &t) { return t.factor < 0 && !t.x.isNull(); });
  Condition all = constant(true);
  const int atomsBefore = atoms;
  const bool overflowBefore = overflow;
  for (const auto &[factor, x, isSquare] : sum.terms) {
    if (!isSum || overflow) {
      break;
    }
    const int64_t c = sum.constant / -factor;
    const Expr most(isSquare ? squareRoot(c) : c);
    all = nary(Condition::And, std::move(all), nary(Condition::And, affine(most - x, false), affine(most + x, false)));
  }
  if (overflow) { // they only help
    overflow = overflowBefore;
    atoms = atomsBefore;
    return constant(true);
  }
  return all;
}

/// e >= 0, or e == 0.
Condition Splitter::affine(const Expr &e, bool equality) {
  if (atoms > maxAtoms || ++steps > maxSteps || e->depth > Expr::maxHeight) {
    overflow = true;
    return constant(false);
  }
  if (e->kind == ExprKind::Int) {
    return constant(equality ? e->value == 0 : e->value >= 0);
  }
  if (std::optional<Condition> bounds = square(e, equality)) {
    return *bounds;
  }
  if (Expr node = findPiecewise(e)) {
    if (equality && node->kind != ExprKind::Select && trendOf(e, node) != Trend::Unknown) {
      return nary(Condition::And, affine(e, false), affine(Expr(0) - e, false));
    }
    return cases(e, node, equality);
  }
  if (!linearize(e)) {
    overflow = true;
    return constant(false);
  }
  ++atoms;
  return {Condition::Affine, {}, equality ? equal(e, Expr(0)) : e >= Expr(0)};
}

Condition Splitter::comparison(const Expr &original, bool negated) {
  if (sizeOf(original) > maxSize) {
    return opaque(original, negated);
  }
  Expr a = withoutBits(original->args[0]), b = withoutBits(original->args[1]);
  bool boolA = a->type == ExprType::Bool, boolB = b->type == ExprType::Bool;
  ExprKind kind = original->kind;
  if (boolA && boolB && (kind == ExprKind::Eq || kind == ExprKind::Ne)) {
    return split(Expr::make(ExprKind::Xor, {a, b}), negated == (kind == ExprKind::Ne));
  }
  auto asInteger = [](const Expr &e) {
    return e->type == ExprType::Bool ? Expr::make(ExprKind::Select, {e, Expr(1), Expr(0)}) : e;
  };
  a = asInteger(a);
  b = asInteger(b);
  if (!isSupported(a) || !isSupported(b)) {
    return opaque(original, negated);
  }
  int atomsBefore = atoms;
  bool overflowBefore = overflow;
  overflow = false;
  // Everything as e >= 0 or e == 0.
  if (negated) {
    constexpr ExprKind flipped[] = {ExprKind::Ge, ExprKind::Gt, ExprKind::Le, ExprKind::Lt, ExprKind::Ne, ExprKind::Eq};
    kind = flipped[static_cast<size_t>(kind) - static_cast<size_t>(ExprKind::Lt)];
  }
  const bool strict = kind == ExprKind::Lt || kind == ExprKind::Gt;
  const bool falls = kind == ExprKind::Lt || kind == ExprKind::Le;
  const Expr gap = (falls ? b - a : a - b) - Expr(strict ? 1 : 0);
  Condition result = kind == ExprKind::Ne
                         ? nary(Condition::Or, affine(gap - Expr(1), false), affine(Expr(-1) - gap, false))
                         : affine(gap, kind == ExprKind::Eq);
  const bool unknown = overflow;
  overflow = overflowBefore;
  if (unknown) {
    atoms = atomsBefore;
    result = opaque(original, negated);
  }
  return kind == ExprKind::Ne || kind == ExprKind::Eq ? result : nary(Condition::And, boundsOf(gap), std::move(result));
}

Condition Splitter::split(const Expr &e, bool negated) {
  if (e->kind == ExprKind::Int) {
    return constant((e->value != 0) != negated);
  }
  if (atoms > maxAtoms) {
    overflow = true;
    return opaque(e, negated);
  }
  if (e->kind >= ExprKind::Lt && e->kind <= ExprKind::Ne) {
    return comparison(e, negated);
  }
  if (e->type != ExprType::Bool) { // The condition of a select may be a number.
    return split(notEqual(e, Expr(0)), negated);
  }
  switch (e->kind) {
  case ExprKind::Not:
    return split(e->args[0], !negated);
  case ExprKind::And:
  case ExprKind::Or: {
    bool isAnd = (e->kind == ExprKind::And) != negated;
    Condition a = split(e->args[0], negated);
    return nary(isAnd ? Condition::And : Condition::Or, std::move(a), split(e->args[1], negated));
  }
  case ExprKind::Xor: { // Negated: both or neither.
    const Expr &x = e->args[0], &y = e->args[1];
    Condition first = nary(Condition::And, split(x, false), split(y, !negated));
    Condition second = nary(Condition::And, split(x, true), split(y, negated));
    return nary(Condition::Or, std::move(first), std::move(second));
  }
  case ExprKind::Select: {
    Condition first = nary(Condition::And, split(e->args[0], false), split(e->args[1], negated));
    Condition second = nary(Condition::And, split(e->args[0], true), split(e->args[2], negated));
    return nary(Condition::Or, std::move(first), std::move(second));
  }
  default:
    return opaque(e, negated);
  }
}

} // namespace

Condition splitCondition(const Expr &e, bool negated) { return Splitter().split(e, negated); }

Expr toExpr(const Condition &c) {
  if (c.kind == Condition::Affine || c.kind == Condition::Opaque) {
    return c.atom;
  }
  Expr e = Expr::boolean(c.kind == Condition::And);
  for (const Condition &child : c.children) {
    e = c.kind == Condition::And ? Expr::make(ExprKind::And, {e, toExpr(child)})
                                 : Expr::make(ExprKind::Or, {e, toExpr(child)});
  }
  return e;
}

} // namespace heddle
