//===- KnownRanges.cpp - Of what a condition's range can be computed ------===//

#include "passes/KnownRanges.h"

#include "dialect/LinearForm.h"

#include <algorithm>
#include <cmath>

namespace heddle {

bool KnownRanges::isUniform(const Expr &x) { return !x.onQuery() && !x.onKey(); }

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
  case ExprKind::Load:
    return loadsFew(x) ? std::optional<double>(kMostLoaded) : std::nullopt;
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
    return isRowOfKeys(x) || loadsFew(x);
  }
}

bool KnownRanges::loadsFew(const Expr &x) {
  if (x->kind != ExprKind::Load || x->type == ExprType::Float || isUniform(x)) {
    return false;
  }
  double elements = 1;
  for (const Expr &index : x->args) {
    std::optional<double> own = most(index) ? span(index) : std::nullopt;
    if (!own) {
      return false;
    }
    elements *= *own + 1;
  }
  return elements <= kBoxElements;
}

std::optional<double> KnownRanges::span(const Expr &x) {
  if (auto seen = spans.find(&*x); seen != spans.end()) {
    return seen->second;
  }
  return spans[&*x] = isUniform(x) ? 0 : computeSpan(x);
}

std::optional<double> KnownRanges::computeSpan(const Expr &x) {
  constexpr double kTile = 64; // queries
  auto arg = [&](size_t n) { return span(x->args[n]); };
  switch (x->kind) {
  case ExprKind::Symbol:
    return (x->symbol == Sym::Key || x->symbol == Sym::KeyRow ? double(kBoxKeys) : kTile) - 1;
  case ExprKind::Add:
  case ExprKind::Sub:
    return arg(0) && arg(1) ? std::optional(*arg(0) + *arg(1)) : std::nullopt;
  case ExprKind::Min:
  case ExprKind::Max:
    return arg(0) && arg(1) ? std::optional(std::max(*arg(0), *arg(1))) : std::nullopt;
  case ExprKind::Mul: {
    const size_t factor = x->args[0]->kind == ExprKind::Int ? 0 : 1;
    const Expr &by = x->args[factor];
    return by->kind == ExprKind::Int && arg(1 - factor)
               ? std::optional(*arg(1 - factor) * std::abs(static_cast<double>(by->value)))
               : std::nullopt;
  }
  case ExprKind::Neg:
  case ExprKind::Abs:
    return arg(0);
  case ExprKind::FloorDiv:
    return arg(0) ? std::optional(std::ceil(*arg(0) / static_cast<double>(x->args[1]->value))) : std::nullopt;
  case ExprKind::Mod:
    return arg(0) ? std::optional(std::min(*arg(0), static_cast<double>(x->args[1]->value - 1))) : std::nullopt;
  default:
    return std::nullopt;
  }
}

/// The key plus what neither query nor key changes.
static bool isKeyPlusUniform(const Expr &x) {
  std::optional<LinearForm> rest = LinearForm::of(x).withoutKey();
  return rest && KnownRanges::isUniform(rest->expr());
}

bool readsNeighbors(const Expr &x) {
  if (x->kind != ExprKind::Load || x->args.empty()) {
    return false;
  }
  auto onKey = [](const Expr &index) { return index.onKey(); };
  return std::none_of(x->args.begin(), std::prev(x->args.end()), onKey) &&
         LinearForm::of(x->args.back()).withoutKey().has_value();
}

bool isRowOfKeys(const Expr &x) {
  auto isUniform = [](const Expr &index) { return KnownRanges::isUniform(index); };
  return readsNeighbors(x) && x->type == ExprType::Bool && isKeyPlusUniform(x->args.back()) &&
         !std::all_of(x->args.begin(), std::prev(x->args.end()), isUniform);
}

std::vector<Expr> loadsWhere(const Expr &x, bool (*wanted)(const Expr &)) {
  std::vector<Expr> found;
  if (wanted(x)) {
    return {x};
  }
  for (const Expr &arg : x->args) {
    for (const Expr &load : loadsWhere(arg, wanted)) {
      if (std::none_of(found.begin(), found.end(), [&](const Expr &seen) { return seen.same(load); })) {
        found.push_back(load);
      }
    }
  }
  return found;
}

namespace {
class RunFinder {
public:
  /// False where a load finds the key otherwise.
  bool visit(const Expr &x) {
    return x->kind == ExprKind::Load ? all(x->args, [&](const Expr &index) { return visitIndex(index); })
                                     : all(x->args, [&](const Expr &arg) { return visit(arg); });
  }
  int64_t length = 0; ///< of the shortest runs; 0: there is none
  Expr place;

private:
  template <typename Fn> static bool all(const std::vector<Expr> &all, Fn fn) {
    return std::all_of(all.begin(), all.end(), fn);
  }
  bool visitIndex(const Expr &x) {
    if (!x.onKey()) {
      return true;
    }
    if (x->kind == ExprKind::FloorDiv && x->args[1]->kind == ExprKind::Int && isKeyPlusUniform(x->args[0])) {
      if (length == 0 || x->args[1]->value < length) {
        length = x->args[1]->value;
        place = x->args[0];
      }
      return true;
    }
    return !x->args.empty() && all(x->args, [&](const Expr &arg) { return visitIndex(arg); });
  }
};
} // namespace

KeyBoxes keyBoxesOf(const Expr &condition) {
  constexpr int64_t kFewest = 16, kMost = 128;
  RunFinder finder;
  if (!finder.visit(condition) || finder.length == 0) {
    return {};
  }
  for (int64_t parts = 1; finder.length / parts >= kFewest; ++parts) {
    if (finder.length % parts == 0 && finder.length / parts <= kMost) {
      return {finder.length / parts, finder.place};
    }
  }
  return {};
}

bool hasBoxTest(const Expr &condition) {
  constexpr int64_t kMostNodes = 600; // beyond, its code takes long to compile
  return !condition.isNull() && !KnownRanges::isUniform(condition) && !isLargerThan(condition, kMostNodes) &&
         KnownRanges().isKnown(condition);
}

} // namespace heddle
