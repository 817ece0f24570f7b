//===- KnownRanges.cpp - Of what a condition's range can be computed ------===//

#include "passes/KnownRanges.h"

#include "dialect/LinearForm.h"

namespace heddle {

bool KnownRanges::isUniform(const Expr &x) {
  return !x.mentions(Sym::Query) && !x.mentions(Sym::QueryRow) && !x.mentions(Sym::Key) && !x.mentions(Sym::KeyRow);
}

std::optional<double> KnownRanges::most(const Expr &x) {
  if (auto seen = sizes.find(&*x); seen != sizes.end()) {
    return seen->second;
  }
  std::optional<double> size = compute(x);
  if (size && *size > 0x1p60) {
    size.reset(); // sums of ranges stay within 64 bits
  }
  return sizes[&*x] = size;
}

bool KnownRanges::isKnown(const Expr &x) {
  if (auto seen = truths.find(&*x); seen != truths.end()) {
    return seen->second;
  }
  return truths[&*x] = decide(x);
}

std::optional<double> KnownRanges::compute(const Expr &x) {
  constexpr double kPosition = 0x1p33;
  if (x->type != ExprType::Int) {
    return std::nullopt;
  }
  auto arg = [&](size_t n) { return most(x->args[n]); };
  auto divisor = [&] { return x->args[1]->kind == ExprKind::Int && x->args[1]->value > 0; };
  switch (x->kind) {
  case ExprKind::Int:
    return std::abs(static_cast<double>(x->value));
  case ExprKind::Symbol:
    return x->symbol == Sym::Entry ? std::nullopt : std::optional(kPosition);
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Min:
  case ExprKind::Max:
    return arg(0) && arg(1) ? std::optional(*arg(0) + *arg(1)) : std::nullopt;
  case ExprKind::Mul: {
    bool constant = x->args[0]->kind == ExprKind::Int || x->args[1]->kind == ExprKind::Int;
    return constant && arg(0) && arg(1) ? std::optional(*arg(0) * *arg(1)) : std::nullopt;
  }
  case ExprKind::Neg:
  case ExprKind::Abs:
    return arg(0);
  case ExprKind::FloorDiv:
    return divisor() && arg(0) ? std::optional(*arg(0) + 1) : std::nullopt;
  case ExprKind::Mod:
    return divisor() && arg(0) ? arg(1) : std::nullopt;
  default:
    return std::nullopt;
  }
}

bool KnownRanges::decide(const Expr &x) {
  if (isUniform(x)) {
    return true;
  }
  switch (x->kind) {
  case ExprKind::And:
  case ExprKind::Or:
    return isKnown(x->args[0]) || isKnown(x->args[1]);
  case ExprKind::Not:
    return isKnown(x->args[0]);
  case ExprKind::Lt:
  case ExprKind::Le:
  case ExprKind::Gt:
  case ExprKind::Ge:
  case ExprKind::Eq:
  case ExprKind::Ne:
    return most(x->args[0]) && most(x->args[1]);
  default:
    return isRowOfKeys(x);
  }
}

bool isRowOfKeys(const Expr &x) {
  if (x->kind != ExprKind::Load || x->type != ExprType::Bool || x->args.empty()) {
    return false;
  }
  auto onKey = [](const Expr &e) { return e.mentions(Sym::Key) || e.mentions(Sym::KeyRow); };
  LinearForm rest = LinearForm::of(x->args.back());
  int64_t factor = 0;
  for (Sym s : {Sym::Key, Sym::KeyRow}) {
    const LinearForm key = LinearForm::of(Expr::symbol(s));
    if (auto found = rest.terms.find(key.terms.begin()->first); found != rest.terms.end()) {
      const int64_t own = found->second.factor;
      factor += own;
      rest.add(key, -own);
    }
  }
  bool byQuery = false;
  for (size_t n = 0; n + 1 < x->args.size(); ++n) {
    if (onKey(x->args[n])) {
      return false;
    }
    byQuery |= !KnownRanges::isUniform(x->args[n]);
  }
  return factor == 1 && byQuery && KnownRanges::isUniform(rest.expr());
}

bool hasBoxTest(const Expr &condition) {
  constexpr int64_t kMostNodes = 600; // beyond, its code takes long to compile
  return !condition.isNull() && !KnownRanges::isUniform(condition) && !isLargerThan(condition, kMostNodes) &&
         KnownRanges().isKnown(condition);
}

} // namespace heddle
