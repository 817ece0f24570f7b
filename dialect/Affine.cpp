//===- Affine.cpp - Quasi-affine expressions in normal form ---------------===//
//
// Every step is an identity of the integers:
//   e mod n = e - n (e floordiv n)
//   (n q + r) floordiv n = q + r floordiv n
//   (g x + c) floordiv (g m) = (x + c floordiv g) floordiv m
//   ((x floordiv a) + c) floordiv b = (x + a c) floordiv (a b)
//
//===----------------------------------------------------------------------===//
#include "dialect/Affine.h"

#include "dialect/PatternMeaning.h"

#include <algorithm>
#include <numeric>

namespace heddle {

namespace {

__extension__ using Wide = __int128;
constexpr int64_t maxCoefficient = int64_t{1} << 40;
constexpr size_t maxTerms = 32, maxKey = 2000;

using Result = std::optional<Linear>;

bool fits(Wide v) { return v <= PeriodicSet::maxBound && v >= -PeriodicSet::maxBound; }

/// a + k * b
Result plus(Linear a, const Linear &b, int64_t k) {
  Wide c = Wide(a.constant) + Wide(k) * b.constant;
  if (!fits(c)) {
    return std::nullopt;
  }
  a.constant = static_cast<int64_t>(c);
  for (const auto &[key, term] : b.terms) {
    auto [it, isNew] = a.terms.try_emplace(key, term);
    Wide sum = (isNew ? Wide(0) : Wide(it->second.coefficient)) + Wide(k) * term.coefficient;
    if (sum > maxCoefficient || sum < -maxCoefficient) {
      return std::nullopt;
    }
    it->second.coefficient = static_cast<int64_t>(sum);
    if (sum == 0) {
      a.terms.erase(it);
    }
  }
  return a.terms.size() <= maxTerms ? Result(std::move(a)) : std::nullopt;
}

/// Range of the terms of `f` that have one, plus its constant; nullopt where one has none.
std::optional<Interval> rangeOf(const Linear &f, const VariableRanges &ranges) {
  Wide least = f.constant, most = f.constant;
  for (const auto &[key, term] : f.terms) {
    auto it = ranges.find(key);
    if (it == ranges.end() || it->second.begin >= it->second.end) {
      return std::nullopt;
    }
    Wide a = Wide(term.coefficient) * it->second.begin;
    Wide b = Wide(term.coefficient) * (it->second.end - 1);
    least += std::min(a, b);
    most += std::max(a, b);
  }
  if (!fits(least) || !fits(most)) {
    return std::nullopt;
  }
  return Interval{static_cast<int64_t>(least), static_cast<int64_t>(most) + 1};
}

/// The quotient f floordiv n for a sum whose coefficients are reduced.
Result reducedQuotient(Linear f, int64_t n, const VariableRanges &ranges) {
  if (std::optional<Interval> r = rangeOf(f, ranges)) {
    if (floorDivInt(r->begin, n) == floorDivInt(r->end - 1, n)) {
      Linear c;
      c.constant = floorDivInt(r->begin, n);
      return c;
    }
  }
  // Divide by the common factor of n and the terms that can be large.
  int64_t g = n;
  for (const auto &[key, term] : f.terms) {
    if (!ranges.count(key)) {
      g = std::gcd(g, term.coefficient);
    }
  }
  if (g > 1) {
    Linear small, large;
    small.constant = f.constant;
    for (const auto &[key, term] : f.terms) {
      (term.coefficient % g == 0 ? large : small).terms.emplace(key, term);
    }
    std::optional<Interval> r = rangeOf(small, ranges);
    if (r && floorDivInt(r->begin, g) == floorDivInt(r->end - 1, g)) {
      for (auto &entry : large.terms) {
        entry.second.coefficient /= g;
      }
      large.constant = floorDivInt(r->begin, g);
      return n == g ? Result(std::move(large)) : reducedQuotient(std::move(large), n / g, ranges);
    }
  }
  if (f.terms.size() == 1) {
    const Linear::Term &only = f.terms.begin()->second;
    if (only.coefficient == 1 && only.numerator && only.divisor <= maxCoefficient / n) {
      Linear c;
      c.constant = f.constant;
      if (Result whole = plus(*only.numerator, c, only.divisor)) {
        return reducedQuotient(std::move(*whole), only.divisor * n, ranges);
      }
    }
  }
  Linear::Term term;
  term.coefficient = 1;
  term.divisor = n;
  term.numerator = std::make_shared<const Linear>(std::move(f));
  std::string key = "(" + term.numerator->key() + ") floordiv " + std::to_string(n);
  if (key.size() > maxKey) {
    return std::nullopt;
  }
  Linear q;
  q.terms.emplace(std::move(key), std::move(term));
  return q;
}

Result quotient(const Linear &f, int64_t n, const VariableRanges &ranges) {
  if (n <= 0 || n > maxCoefficient) {
    return std::nullopt;
  }
  Linear whole, rest;
  whole.constant = floorDivInt(f.constant, n);
  rest.constant = floorModInt(f.constant, n);
  for (const auto &[key, term] : f.terms) {
    Linear::Term q = term, r = term;
    q.coefficient = floorDivInt(term.coefficient, n);
    r.coefficient = floorModInt(term.coefficient, n);
    if (q.coefficient) {
      whole.terms.emplace(key, q);
    }
    if (r.coefficient) {
      rest.terms.emplace(key, r);
    }
  }
  Result reduced = reducedQuotient(std::move(rest), n, ranges);
  return reduced ? plus(std::move(whole), *reduced, 1) : std::nullopt;
}

Result linearizeBinary(const ExprNode &n, const VariableRanges &ranges) {
  Result a = linearize(n.args[0], ranges), b = linearize(n.args[1], ranges);
  if (!a || !b) {
    return std::nullopt;
  }
  switch (n.kind) {
  case ExprKind::Add:
    return plus(std::move(*a), *b, 1);
  case ExprKind::Sub:
    return plus(std::move(*a), *b, -1);
  case ExprKind::Mul:
    if (!b->terms.empty()) {
      std::swap(a, b);
    }
    return b->terms.empty() ? plus({}, *a, b->constant) : std::nullopt;
  case ExprKind::FloorDiv:
    return b->terms.empty() ? quotient(*a, b->constant, ranges) : std::nullopt;
  case ExprKind::Mod: {
    Result q = b->terms.empty() ? quotient(*a, b->constant, ranges) : std::nullopt;
    return q ? plus(std::move(*a), *q, -b->constant) : std::nullopt;
  }
  default:
    return std::nullopt;
  }
}

} // namespace

std::string Linear::key() const {
  std::string s = std::to_string(constant);
  for (const auto &[name, term] : terms) {
    s += "+" + std::to_string(term.coefficient) + "*" + name;
  }
  return s;
}

Expr Linear::expr() const {
  Expr sum;
  auto add = [&sum](int64_t coefficient, const Expr &e) {
    if (sum.isNull()) {
      sum = Expr(coefficient) * e;
    } else if (coefficient < 0) {
      sum = sum - Expr(-coefficient) * e;
    } else {
      sum = sum + Expr(coefficient) * e;
    }
  };
  for (const auto &entry : terms) {
    const Term &t = entry.second;
    add(t.coefficient, t.numerator ? floorDiv(t.numerator->expr(), Expr(t.divisor)) : t.variable);
  }
  if (sum.isNull()) {
    return Expr(constant);
  }
  return constant < 0 ? sum - Expr(-constant) : sum + Expr(constant);
}

std::set<std::string> Linear::variables() const {
  std::set<std::string> found;
  for (const auto &[key, term] : terms) {
    if (term.numerator) {
      found.merge(term.numerator->variables());
    } else {
      found.insert(key);
    }
  }
  return found;
}

std::set<int64_t> Linear::divisorsOf(const std::string &variable) const {
  std::set<int64_t> found;
  for (const auto &entry : terms) {
    const Term &t = entry.second;
    if (t.numerator && t.numerator->variables().count(variable)) {
      found.insert(t.divisor);
      found.merge(t.numerator->divisorsOf(variable));
    }
  }
  return found;
}

int64_t Linear::coefficientOf(const std::string &variable) const {
  auto it = terms.find(variable);
  return it == terms.end() ? 0 : it->second.coefficient;
}

std::optional<Linear> linearize(const Expr &e, const VariableRanges &ranges) {
  const ExprNode &n = *e;
  if (n.type != ExprType::Int) {
    return std::nullopt;
  }
  Linear f;
  switch (n.kind) {
  case ExprKind::Int:
    f.constant = n.value;
    return fits(n.value) ? Result(f) : std::nullopt;
  case ExprKind::Symbol:
  case ExprKind::Scalar:
    f.terms[e.str()] = {1, e, nullptr, 1};
    return f;
  case ExprKind::Neg: {
    Result a = linearize(n.args[0], ranges);
    return a ? plus({}, *a, -1) : std::nullopt;
  }
  default:
    return n.args.size() == 2 ? linearizeBinary(n, ranges) : std::nullopt;
  }
}

int64_t evaluate(const Linear &f, const std::function<int64_t(const std::string &)> &value) {
  auto sum = static_cast<uint64_t>(f.constant);
  for (const auto &[key, term] : f.terms) {
    int64_t v = term.numerator ? floorDivInt(evaluate(*term.numerator, value), term.divisor) : value(key);
    sum += static_cast<uint64_t>(term.coefficient) * static_cast<uint64_t>(v);
  }
  return static_cast<int64_t>(sum);
}

std::optional<PeriodAndSlope> periodOf(const Linear &f, const std::string &variable) {
  PeriodAndSlope all;
  for (const auto &[key, term] : f.terms) {
    PeriodAndSlope one;
    if (!term.numerator) {
      one.slope = key == variable ? 1 : 0;
    } else {
      std::optional<PeriodAndSlope> inner = periodOf(*term.numerator, variable);
      if (!inner) {
        return std::nullopt;
      }
      int64_t turns = term.divisor / std::gcd(term.divisor, inner->slope);
      if (turns > PeriodicSet::maxPeriod / inner->period) {
        return std::nullopt;
      }
      one = {inner->period * turns, static_cast<int64_t>(Wide(inner->slope) * turns / term.divisor)};
    }
    int64_t period = std::lcm(all.period, one.period); // Both at most 2^16.
    if (period > PeriodicSet::maxPeriod) {
      return std::nullopt;
    }
    Wide slope = Wide(all.slope) * (period / all.period) + Wide(one.slope) * (period / one.period) * term.coefficient;
    if (slope > maxCoefficient || slope < -maxCoefficient) {
      return std::nullopt;
    }
    all = {period, static_cast<int64_t>(slope)};
  }
  return all;
}

std::optional<PeriodicSet> solve(const Linear &f, const std::string &variable, bool equality) {
  std::optional<PeriodAndSlope> ps = periodOf(f, variable);
  if (!ps) {
    return std::nullopt;
  }
  int64_t period = ps->period, slope = ps->slope;
  std::vector<int64_t> values(static_cast<size_t>(period));
  for (int64_t r = 0; r < period; ++r) {
    values[static_cast<size_t>(r)] = evaluate(f, [r](const std::string &) { return r; });
  }
  std::vector<Interval> pieces;
  if (slope == 0) {
    for (int64_t r = 0; r < period; ++r) {
      int64_t v = values[static_cast<size_t>(r)];
      if (equality ? v == 0 : v >= 0) {
        pieces.push_back({r, r + 1});
      }
    }
    return PeriodicSet::periodic(period, std::move(pieces));
  }
  // In class r: f(r + period * k) = f(r) + slope * k.
  constexpr int64_t far = PeriodicSet::maxBound / 4;
  std::vector<int64_t> turn; // First (slope > 0) or last k that is live.
  for (int64_t r = 0; r < period; ++r) {
    int64_t v = values[static_cast<size_t>(r)];
    if (equality) {
      if (v % slope == 0 && std::abs(-v / slope) < far / period) {
        int64_t x = r + period * (-v / slope);
        pieces.push_back({x, x + 1});
      } else if (v % slope == 0) {
        return std::nullopt;
      }
      continue;
    }
    int64_t k = slope > 0 ? -floorDivInt(v, slope) : floorDivInt(v, -slope);
    if (k > far / period || k < -far / period) {
      return std::nullopt;
    }
    turn.push_back(r + period * k);
  }
  if (equality) {
    return PeriodicSet::ofIntervals(std::move(pieces));
  }
  int64_t least = *std::min_element(turn.begin(), turn.end());
  int64_t most = *std::max_element(turn.begin(), turn.end());
  if (most - least > int64_t{1} << 20) {
    return std::nullopt;
  }
  for (int64_t x = least; x < most; ++x) {
    int64_t t = turn[static_cast<size_t>(floorModInt(x, period))];
    if (slope > 0 ? x >= t : x <= t) {
      pieces.push_back({x, x + 1});
    }
  }
  std::optional<PeriodicSet> near = PeriodicSet::ofIntervals(std::move(pieces));
  std::optional<PeriodicSet> ray = slope > 0 ? PeriodicSet::from(most) : PeriodicSet::below(least + 1);
  if (slope < 0 && most > least) {
    // x = most itself is live; [least, most) is listed above.
    std::optional<PeriodicSet> last = PeriodicSet::interval(most, most + 1);
    near = near && last ? near->unite(*last) : std::nullopt;
  }
  return near && ray ? near->unite(*ray) : std::nullopt;
}

} // namespace heddle
