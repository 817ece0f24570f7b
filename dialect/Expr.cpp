//===- Expr.cpp - Scalar expressions over a query and a key ---------------===//
//
// Building, with constant folding, and comparing; ExprText.cpp prints, ExprEvaluate.cpp evaluates.
//
// Integers are 64 bits and wrap, as compiled code does; folding leaves alone
// what would overflow. Every node comes out of `Expr::make`, which is a
// function of its arguments: that is why parsing printed text gives the same
// tree back.
//
//===----------------------------------------------------------------------===//
#include "dialect/Expr.h"

#include "dialect/ExprArithmetic.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <unordered_map>

namespace heddle {

namespace {

constexpr uint32_t maxDepth = 2000;

Expr finish(ExprNode n) {
  auto mix = [&](uint64_t x) { n.hash = (n.hash ^ x) * 0x9e3779b97f4a7c15u + (n.hash >> 29); };
  mix(static_cast<uint64_t>(n.kind) * 64 + static_cast<uint64_t>(n.type));
  mix(static_cast<uint64_t>(n.value));
  mix(std::isnan(n.num) ? 1 : std::bit_cast<uint64_t>(n.num));
  if (n.kind == ExprKind::Symbol) {
    mix(static_cast<uint64_t>(n.symbol));
    n.mentioned = 1u << static_cast<unsigned>(n.symbol);
  }
  n.loads = n.kind == ExprKind::Load;
  for (const Expr &a : n.args) {
    n.depth = std::max(n.depth, a->depth + 1);
    n.mentioned |= a->mentioned;
    n.loads |= a->loads;
    mix(a->hash);
  }
  if (n.depth > maxDepth) {
    throw std::length_error("expected an expression nested at most 2000 deep");
  }
  return Expr(std::make_shared<const ExprNode>(std::move(n)));
}

Expr boolean(bool v) {
  ExprNode n;
  n.kind = ExprKind::Int;
  n.type = ExprType::Bool;
  n.value = v;
  return finish(std::move(n));
}

bool isConst(const Expr &e) { return e->kind == ExprKind::Int; }
bool isBool(const Expr &e) { return e->type == ExprType::Bool; }
bool isFloat(const Expr &e) { return e->type == ExprType::Float; }
bool isTrue(const Expr &e) { return isConst(e) && isBool(e) && e->value; }
bool isFalse(const Expr &e) { return isConst(e) && isBool(e) && !e->value; }

ExprType promoted(const std::vector<Expr> &args) {
  return std::any_of(args.begin(), args.end(), isFloat) ? ExprType::Float : ExprType::Int;
}

ExprType typeOf(ExprKind kind, const std::vector<Expr> &args) {
  switch (kind) {
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Mul:
  case ExprKind::Neg:
  case ExprKind::FloorDiv:
  case ExprKind::Mod:
  case ExprKind::Min:
  case ExprKind::Max:
  case ExprKind::Abs:
    return promoted(args);
  case ExprKind::And:
  case ExprKind::Or:
  case ExprKind::Xor:
  case ExprKind::Not:
    return std::all_of(args.begin(), args.end(), isBool) ? ExprType::Bool : ExprType::Int;
  case ExprKind::Select: {
    std::vector<Expr> values(args.begin() + 1, args.end());
    return std::all_of(values.begin(), values.end(), isBool) ? ExprType::Bool : promoted(values);
  }
  case ExprKind::Lt:
  case ExprKind::Le:
  case ExprKind::Gt:
  case ExprKind::Ge:
  case ExprKind::Eq:
  case ExprKind::Ne:
  case ExprKind::Drawn:
  case ExprKind::Member:
    return ExprType::Bool;
  case ExprKind::Draw:
  case ExprKind::Int:
  case ExprKind::Symbol:
  case ExprKind::Scalar:
  case ExprKind::Load:
  case ExprKind::Shl:
  case ExprKind::Shr:
  case ExprKind::Search:
  case ExprKind::Size:
    return ExprType::Int;
  default:
    return ExprType::Float;
  }
}

/// The constant value of an integer operation, where it does not overflow.
bool foldIntegers(ExprKind kind, int64_t a, int64_t b, int64_t &r) {
  switch (kind) {
  case ExprKind::Add:
    return !__builtin_add_overflow(a, b, &r);
  case ExprKind::Sub:
    return !__builtin_sub_overflow(a, b, &r);
  case ExprKind::Mul:
    return !__builtin_mul_overflow(a, b, &r);
  case ExprKind::FloorDiv:
    r = floorDivide(a, b);
    return b != 0 && b != -1;
  case ExprKind::Mod:
    r = floorModulo(a, b);
    return b != 0;
  case ExprKind::Min:
    r = std::min(a, b);
    return true;
  case ExprKind::Max:
    r = std::max(a, b);
    return true;
  case ExprKind::And:
    r = a & b;
    return true;
  case ExprKind::Or:
    r = a | b;
    return true;
  case ExprKind::Xor:
    r = a ^ b;
    return true;
  case ExprKind::Shl:
    r = shiftLeft(a, b);
    return b >= 0 && b < 63 && shiftRight(r, b) == a;
  case ExprKind::Shr:
    r = shiftRight(a, b);
    return b >= 0 && b < 64;
  default:
    return false;
  }
}

/// A folded form of kind(a, b), or null.
Expr foldBinary(ExprKind kind, ExprType type, const Expr &a, const Expr &b) {
  if (isConst(a) && isConst(b)) {
    if (isComparison(kind)) {
      return boolean(compare(kind, a->value, b->value));
    }
    int64_t r = 0;
    if (foldIntegers(kind, a->value, b->value, r)) {
      return type == ExprType::Bool ? boolean(r) : Expr(r);
    }
    return {};
  }
  bool intA = a->type == ExprType::Int, intB = b->type == ExprType::Int;
  switch (kind) {
  case ExprKind::Add:
    if (intB && a.isInt(0)) {
      return b;
    }
    [[fallthrough]];
  case ExprKind::Sub:
    return intA && b.isInt(0) ? a : Expr();
  case ExprKind::Mul:
    if (intA && intB && (a.isInt(0) || b.isInt(0))) {
      return Expr(0);
    }
    if (intB && a.isInt(1)) {
      return b;
    }
    return intA && b.isInt(1) ? a : Expr();
  case ExprKind::FloorDiv:
    return intA && b.isInt(1) ? a : Expr();
  case ExprKind::Mod:
    return intA && b.isInt(1) ? Expr(0) : Expr();
  case ExprKind::And:
    if (isTrue(a) || (isFalse(b) && isBool(a))) {
      return isBool(b) ? b : Expr();
    }
    return isBool(a) && isTrue(b) ? a : isFalse(a) && isBool(b) ? a : Expr();
  case ExprKind::Or:
    if (isFalse(a) || (isTrue(b) && isBool(a))) {
      return isBool(b) ? b : Expr();
    }
    return isBool(a) && isFalse(b) ? a : isTrue(a) && isBool(b) ? a : Expr();
  default:
    return {};
  }
}

Expr foldUnary(ExprKind kind, const Expr &a) {
  if (a->kind == ExprKind::Float && kind == ExprKind::Neg) {
    return Expr::number(-a->num);
  }
  if (!isConst(a)) {
    return {};
  }
  constexpr int64_t least = std::numeric_limits<int64_t>::min();
  switch (kind) {
  case ExprKind::Neg:
    return a->value == least ? Expr() : Expr(-a->value);
  case ExprKind::Abs:
    return a->value == least ? Expr() : Expr(std::abs(a->value));
  case ExprKind::Not:
    return isBool(a) ? boolean(!a->value) : Expr(~a->value);
  default:
    return {};
  }
}

} // namespace

Expr::Expr(int64_t value) {
  ExprNode n;
  n.kind = ExprKind::Int;
  n.value = value;
  *this = finish(std::move(n));
}

Expr Expr::boolean(bool value) { return heddle::boolean(value); }

Expr Expr::symbol(Sym s) {
  ExprNode n;
  n.kind = ExprKind::Symbol;
  n.symbol = s;
  return finish(std::move(n));
}

Expr Expr::number(double v) {
  ExprNode n;
  n.kind = ExprKind::Float;
  n.type = ExprType::Float;
  n.num = v;
  return finish(std::move(n));
}

Expr Expr::scalar(int64_t operand) {
  ExprNode n;
  n.kind = ExprKind::Scalar;
  n.value = operand;
  return finish(std::move(n));
}

Expr Expr::load(int64_t operand, std::vector<Expr> indices, ExprType type) {
  ExprNode n;
  n.kind = ExprKind::Load;
  n.type = type;
  n.value = operand;
  n.args = std::move(indices);
  return finish(std::move(n));
}

Expr Expr::member(int64_t operand, std::vector<Expr> at, Expr lo, Expr hi, Expr x) {
  at.insert(at.begin(), reference(operand));
  at.insert(at.end(), {std::move(lo), std::move(hi), std::move(x)});
  return make(ExprKind::Member, std::move(at));
}

Expr Expr::make(ExprKind kind, std::vector<Expr> args) {
  ExprNode n;
  n.kind = kind;
  n.type = typeOf(kind, args);
  Expr folded;
  if (args.size() == 1) {
    folded = foldUnary(kind, args[0]);
  } else if (args.size() == 2) {
    folded = foldBinary(kind, n.type, args[0], args[1]);
  } else if (kind == ExprKind::Select && isConst(args[0])) {
    const Expr &taken = args[0]->value ? args[1] : args[2];
    folded = taken->type == n.type ? taken : Expr();
  }
  if (folded) {
    return folded;
  }
  n.args = std::move(args);
  return finish(std::move(n));
}

bool Expr::isInt(int64_t v) const {
  return node && node->kind == ExprKind::Int && node->type == ExprType::Int && node->value == v;
}

bool Expr::isSymbol(Sym s) const { return node && node->kind == ExprKind::Symbol && node->symbol == s; }

bool Expr::same(const Expr &o) const {
  if (node == o.node) {
    return true;
  }
  if (!node || !o.node || node->hash != o->hash || node->kind != o->kind || node->type != o->type ||
      node->value != o->value || node->args.size() != o->args.size()) {
    return false;
  }
  if (node->kind == ExprKind::Symbol && node->symbol != o->symbol) {
    return false;
  }
  bool nans = std::isnan(node->num) && std::isnan(o->num);
  if (!nans && std::bit_cast<uint64_t>(node->num) != std::bit_cast<uint64_t>(o->num)) {
    return false;
  }
  for (size_t k = 0; k < node->args.size(); ++k) {
    if (!node->args[k].same(o->args[k])) {
      return false;
    }
  }
  return true;
}

/// Replaces leaves below `e`; `done` holds what shared nodes became.
static Expr substituted(const Expr &e, const std::function<Expr(const ExprNode &)> &fn,
                        std::unordered_map<const ExprNode *, Expr> &done) {
  if (e.isNull()) {
    return e;
  }
  if (e->args.empty() || e->kind == ExprKind::Load) {
    if (Expr r = fn(*e)) {
      return r;
    }
  }
  if (e->args.empty()) {
    return e;
  }
  auto found = done.find(&*e);
  if (found != done.end()) {
    return found->second;
  }
  std::vector<Expr> args;
  bool changed = false;
  for (const Expr &a : e->args) {
    args.push_back(substituted(a, fn, done));
    changed |= &*args.back() != &*a;
  }
  Expr result = e;
  if (changed) {
    result = e->kind == ExprKind::Load ? Expr::load(e->value, std::move(args), e->type)
                                       : Expr::make(e->kind, std::move(args));
  }
  done.emplace(&*e, result);
  return result;
}

Expr Expr::substitute(const std::function<Expr(const ExprNode &)> &fn) const {
  std::unordered_map<const ExprNode *, Expr> done;
  return substituted(*this, fn, done);
}

bool Expr::mentions(Sym s) const { return node && (node->mentioned >> static_cast<unsigned>(s) & 1) != 0; }

bool Expr::hasLoad() const { return node && node->loads; }

Expr operator+(Expr a, Expr b) { return Expr::make(ExprKind::Add, {std::move(a), std::move(b)}); }
Expr operator-(Expr a, Expr b) { return Expr::make(ExprKind::Sub, {std::move(a), std::move(b)}); }
Expr operator*(Expr a, Expr b) { return Expr::make(ExprKind::Mul, {std::move(a), std::move(b)}); }
Expr floorDiv(Expr a, Expr b) { return Expr::make(ExprKind::FloorDiv, {std::move(a), std::move(b)}); }
Expr floorMod(Expr a, Expr b) { return Expr::make(ExprKind::Mod, {std::move(a), std::move(b)}); }
Expr min(Expr a, Expr b) { return Expr::make(ExprKind::Min, {std::move(a), std::move(b)}); }
Expr max(Expr a, Expr b) { return Expr::make(ExprKind::Max, {std::move(a), std::move(b)}); }
Expr operator&&(Expr a, Expr b) { return Expr::make(ExprKind::And, {std::move(a), std::move(b)}); }
Expr operator||(Expr a, Expr b) { return Expr::make(ExprKind::Or, {std::move(a), std::move(b)}); }
Expr operator!(Expr a) { return Expr::make(ExprKind::Not, {std::move(a)}); }
Expr operator<(Expr a, Expr b) { return Expr::make(ExprKind::Lt, {std::move(a), std::move(b)}); }
Expr operator<=(Expr a, Expr b) { return Expr::make(ExprKind::Le, {std::move(a), std::move(b)}); }
Expr operator>(Expr a, Expr b) { return Expr::make(ExprKind::Gt, {std::move(a), std::move(b)}); }
Expr operator>=(Expr a, Expr b) { return Expr::make(ExprKind::Ge, {std::move(a), std::move(b)}); }
Expr equal(Expr a, Expr b) { return Expr::make(ExprKind::Eq, {std::move(a), std::move(b)}); }
Expr notEqual(Expr a, Expr b) { return Expr::make(ExprKind::Ne, {std::move(a), std::move(b)}); }

} // namespace heddle
