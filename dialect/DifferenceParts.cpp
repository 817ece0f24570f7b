//===- DifferenceParts.cpp - Patterns in i - j alone, in few parts --------===//
//
// Tabulation and cutting; see the header. Beyond all thresholds T membership
// has a period that divides the common multiple L of all moduli, so a table of
// [-T - 2L, T + 2L] decides the set.
//
//===----------------------------------------------------------------------===//
#include "dialect/DifferenceParts.h"
#include "dialect/LinearForm.h"

#include <algorithm>
#include <numeric>

namespace heddle {

namespace {

constexpr int64_t kMaxReach = int64_t(1) << 19;
constexpr size_t kMaxParts = 24;

/// Membership of every d in [-reach, reach].
struct Table {
  int64_t reach;
  std::vector<uint8_t> bits;
  explicit Table(int64_t reach) : reach(reach), bits(static_cast<size_t>(2 * reach + 1)) {}
  uint8_t &operator[](int64_t d) { return bits[static_cast<size_t>(d + reach)]; }
  bool at(int64_t d) const { return bits[static_cast<size_t>(d + reach)] != 0; }
};

/// Largest threshold and common multiple of the moduli; false past the cap.
bool measure(const Pattern &p, int64_t &threshold, int64_t &period) {
  auto reach = [&](__int128 v) {
    v = v < 0 ? -v : v;
    if (v > kMaxReach) {
      return false;
    }
    threshold = std::max(threshold, static_cast<int64_t>(v) + 1);
    return true;
  };
  auto modulus = [&](int64_t n) {
    __int128 l = static_cast<__int128>(period) / std::gcd(period, n) * n;
    period = l > kMaxReach ? kMaxReach + 1 : static_cast<int64_t>(l);
    return period <= kMaxReach;
  };
  switch (p->kind) {
  case PatternKind::Causal:
    return reach(p->ints[0].value);
  case PatternKind::Window: {
    const int64_t n = p->ints[2].value;
    for (int k = 0; k < 2; ++k) {
      if (p->ints[k].kind == IntArg::Literal && !reach(static_cast<__int128>(p->ints[k].value) * n)) {
        return false;
      }
    }
    return modulus(n);
  }
  case PatternKind::Stride:
    return modulus(p->ints[0].value);
  case PatternKind::Offsets:
    return std::all_of(p->ints.begin(), p->ints.end(), [&](const IntArg &a) { return reach(a.value); });
  default:
    return std::all_of(p->children.begin(), p->children.end(),
                       [&](const Pattern &c) { return measure(c, threshold, period); });
  }
}

Table tabulate(const Pattern &p, int64_t reach) {
  Table t(reach);
  auto fill = [&](auto holds) {
    for (int64_t d = -reach; d <= reach; ++d) {
      t[d] = holds(d);
    }
  };
  switch (p->kind) {
  case PatternKind::Causal:
    fill([&](int64_t d) { return d >= p->ints[0].value; });
    break;
  case PatternKind::Window: {
    const int64_t n = p->ints[2].value;
    const int64_t most = p->ints[0].kind == IntArg::Infinity ? reach : p->ints[0].value * n;
    const int64_t least = p->ints[1].kind == IntArg::Infinity ? -reach : -p->ints[1].value * n;
    fill([&](int64_t d) { return d >= least && d <= most && d % n == 0; });
    break;
  }
  case PatternKind::Stride:
    fill([&](int64_t d) { return floorRemainder(d - p->ints[1].value, p->ints[0].value) == 0; });
    break;
  case PatternKind::Offsets:
    for (const IntArg &a : p->ints) {
      t[a.value] = 1;
    }
    break;
  case PatternKind::Full:
    fill([](int64_t) { return true; });
    break;
  case PatternKind::Empty:
    break;
  default: {
    t = tabulate(p->children[0], reach);
    if (p->kind == PatternKind::Not) {
      fill([&, u = t](int64_t d) { return !u.at(d); });
    }
    for (size_t k = 1; k < p->children.size(); ++k) {
      Table u = tabulate(p->children[k], reach);
      for (size_t n = 0; n < t.bits.size(); ++n) {
        t.bits[n] = p->kind == PatternKind::Or    ? t.bits[n] | u.bits[n]
                    : p->kind == PatternKind::And ? t.bits[n] & u.bits[n]
                                                  : t.bits[n] & !u.bits[n];
      }
    }
  }
  }
  return t;
}

/// One side's tail: membership of d >= from (or d <= from) has the period.
struct Tail {
  int64_t from, period;
};

Tail findTail(const Table &t, int64_t period, bool right) {
  auto at = [&](int64_t d) { return t.at(right ? d : -d); };
  for (int64_t p = 1; p < period; ++p) {
    bool fits = period % p == 0;
    for (int64_t d = t.reach - 2 * period + 1; fits && d + p <= t.reach; ++d) {
      fits = at(d) == at(d + p);
    }
    if (fits) {
      period = p;
      break;
    }
  }
  int64_t from = t.reach - period;
  while (from > -t.reach && at(from - 1) == at(from - 1 + period)) {
    --from;
  }
  return {right ? from : -from, period};
}

class Cutter {
public:
  Cutter(const Table &t, int64_t period) : t(t), period(period) {}

  std::vector<DifferencePart> cut() {
    Tail right = findTail(t, period, true), left = findTail(t, period, false);
    if (right.from == -t.reach) {
      tail(std::nullopt, std::nullopt, right.period, 0);
      return std::move(parts);
    }
    left.from = std::min(left.from, right.from - 1);
    tail(std::nullopt, left.from, left.period, left.from - left.period + 1);
    core(left.from + 1, right.from - 1);
    tail(right.from, std::nullopt, right.period, right.from);
    joinNeighbors();
    return std::move(parts);
  }

private:
  const Table &t;
  int64_t period;
  std::vector<DifferencePart> parts;

  /// The runs of one period [base, base + n), repeated between lo and hi.
  void tail(std::optional<int64_t> lo, std::optional<int64_t> hi, int64_t n, int64_t base) {
    auto at = [&](int64_t k) { return t.at(base + floorRemainder(k, n)); };
    int64_t members = 0;
    for (int64_t k = 0; k < n; ++k) {
      members += at(k);
    }
    if (members == n) {
      parts.push_back({lo, hi});
      return;
    }
    for (int64_t k = 0; k < n; ++k) {
      if (at(k) && !at(k - 1)) {
        int64_t length = 1;
        while (at(k + length)) {
          ++length;
        }
        parts.push_back({lo, hi, n, floorRemainder(base + k, n), length});
      }
    }
  }

  void core(int64_t lo, int64_t hi) {
    std::vector<std::pair<int64_t, int64_t>> runs; // first, length
    for (int64_t d = lo; d <= hi; ++d) {
      if (!t.at(d)) {
        continue;
      }
      if (!runs.empty() && runs.back().first + runs.back().second == d) {
        ++runs.back().second;
      } else {
        runs.emplace_back(d, 1);
      }
    }
    for (size_t k = 0; k < runs.size();) {
      const auto [first, length] = runs[k];
      size_t count = 1;
      int64_t gap = k + 1 < runs.size() ? runs[k + 1].first - first : 0;
      while (k + count < runs.size() && runs[k + count].second == length &&
             runs[k + count].first - runs[k + count - 1].first == gap) {
        ++count;
      }
      if (count >= 3 || (count == 2 && length == 1 && gap <= 64)) {
        const int64_t last = first + static_cast<int64_t>(count - 1) * gap + length - 1;
        parts.push_back({first, last, gap, floorRemainder(first, gap), length});
        k += count;
      } else {
        parts.push_back({first, first + length - 1});
        ++k;
      }
    }
  }

  /// An interval that ends where the next part, an interval too, begins.
  void joinNeighbors() {
    for (size_t k = 0; k + 1 < parts.size();) {
      DifferencePart &a = parts[k], &b = parts[k + 1];
      if (a.period == 0 && b.period == 0 && a.hi && b.lo && *a.hi + 1 == *b.lo) {
        a.hi = b.hi;
        parts.erase(parts.begin() + static_cast<ptrdiff_t>(k) + 1);
      } else {
        ++k;
      }
    }
  }
};

} // namespace

bool isDifference(const Pattern &p) {
  auto literal = [](const IntArg &a) { return a.kind == IntArg::Literal; };
  switch (p->kind) {
  case PatternKind::Full:
  case PatternKind::Empty:
    return true;
  case PatternKind::Causal:
  case PatternKind::Stride:
    return std::all_of(p->ints.begin(), p->ints.end(), literal);
  case PatternKind::Offsets:
    return p->operands.empty() && std::all_of(p->ints.begin(), p->ints.end(), literal);
  case PatternKind::Window:
    return std::all_of(p->ints.begin(), p->ints.end(), [](const IntArg &a) { return a.kind <= IntArg::Infinity; });
  case PatternKind::Shift:
  case PatternKind::And:
  case PatternKind::Or:
  case PatternKind::Sub:
  case PatternKind::Not:
    return std::all_of(p->children.begin(), p->children.end(), isDifference);
  default:
    return false;
  }
}

std::optional<std::vector<DifferencePart>> differenceParts(const Pattern &p, bool negated) {
  int64_t threshold = 1, period = 1;
  if (!measure(p, threshold, period)) {
    return std::nullopt;
  }
  const int64_t reach = threshold + 2 * period;
  Table whole = tabulate(p, reach);
  if (negated) {
    for (uint8_t &b : whole.bits) {
      b = !b;
    }
  }
  std::vector<DifferencePart> parts = Cutter(whole, period).cut();
  if (!negated && p->kind == PatternKind::Or && parts.size() > 1) {
    // Operand by operand can be simpler: windows of two dilations.
    std::vector<DifferencePart> split;
    Table covered(reach);
    for (const Pattern &c : p->children) {
      Table own = tabulate(c, reach), fresh = own;
      for (size_t k = 0; k < own.bits.size(); ++k) {
        fresh.bits[k] = own.bits[k] && !covered.bits[k];
        covered.bits[k] |= own.bits[k];
      }
      std::vector<DifferencePart> more = Cutter(fresh, period).cut();
      split.insert(split.end(), more.begin(), more.end());
    }
    if (split.size() < parts.size()) {
      parts = std::move(split);
    }
  }
  return parts.size() > kMaxParts ? std::nullopt : std::optional(std::move(parts));
}

} // namespace heddle
