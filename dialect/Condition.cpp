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

#include <algorithm>

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

class Splitter {
public:
  Condition split(const Expr &e, bool negated);

private:
  Condition opaque(const Expr &e, bool negated);
  Condition comparison(const Expr &e, bool negated);
  Condition affine(const Expr &e, bool equality);
  Condition cases(const Expr &e, const Expr &node, bool equality);
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

/// e >= 0, or e == 0.
Condition Splitter::affine(const Expr &e, bool equality) {
  if (atoms > maxAtoms || ++steps > maxSteps || e->depth > Expr::maxHeight) {
    overflow = true;
    return constant(false);
  }
  if (e->kind == ExprKind::Int) {
    return constant(equality ? e->value == 0 : e->value >= 0);
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
  Condition result;
  // Everything as e >= 0 or e == 0.
  if (negated) {
    constexpr ExprKind flipped[] = {ExprKind::Ge, ExprKind::Gt, ExprKind::Le, ExprKind::Lt, ExprKind::Ne, ExprKind::Eq};
    kind = flipped[static_cast<size_t>(kind) - static_cast<size_t>(ExprKind::Lt)];
  }
  switch (kind) {
  case ExprKind::Lt:
    result = affine(b - a - Expr(1), false);
    break;
  case ExprKind::Le:
    result = affine(b - a, false);
    break;
  case ExprKind::Gt:
    result = affine(a - b - Expr(1), false);
    break;
  case ExprKind::Ge:
    result = affine(a - b, false);
    break;
  case ExprKind::Eq:
    result = affine(a - b, true);
    break;
  default:
    result = nary(Condition::Or, affine(a - b - Expr(1), false), affine(b - a - Expr(1), false));
    break;
  }
  if (overflow) {
    atoms = atomsBefore;
    overflow = overflowBefore;
    return opaque(original, negated);
  }
  overflow = overflowBefore;
  return result;
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
