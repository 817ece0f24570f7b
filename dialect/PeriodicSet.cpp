//===- PeriodicSet.cpp - Exact sets of integers ---------------------------===//
//
// Canonical form: each tail has its least period; `lo` is the largest number
// below which the left tail gives the set, `hi` the least from which on the
// right tail does. Both are unique unless the set is periodic as a whole (then
// 0). Where they cross, the tails agree in between and both are put at `hi`.
//
//===----------------------------------------------------------------------===//
#include "dialect/PeriodicSet.h"

#include <algorithm>
#include <numeric>

namespace heddle {

namespace {

__extension__ using Wide = __int128;

int64_t floorDivide(int64_t a, int64_t b) { return a / b - ((a % b != 0) && (a < 0)); }
int64_t floorModulo(int64_t a, int64_t b) { return a - floorDivide(a, b) * b; }

void append(std::vector<Interval> &list, Interval x) {
  if (x.begin >= x.end) {
    return;
  }
  if (!list.empty() && list.back().end >= x.begin) {
    list.back().end = std::max(list.back().end, x.end);
  } else {
    list.push_back(x);
  }
}

/// The tail's intervals in [begin, end); stops after `cap` of them.
void listTail(const PeriodicSet::Tail &t, int64_t begin, int64_t end, std::vector<Interval> &out, size_t cap) {
  if (begin >= end || t.isEmpty()) {
    return;
  }
  if (t.isFull()) {
    append(out, {begin, end});
    return;
  }
  for (int64_t base = floorDivide(begin, t.period) * t.period; base < end; base += t.period) {
    for (const Interval &m : t.mask) {
      append(out, {std::max(base + m.begin, begin), std::min(base + m.end, end)});
    }
    if (out.size() > cap) {
      return;
    }
  }
}

int64_t maskSize(const PeriodicSet::Tail &t, int64_t upTo) {
  int64_t n = 0;
  for (const Interval &m : t.mask) {
    n += std::max<int64_t>(std::min(m.end, upTo) - m.begin, 0);
  }
  return n;
}

/// Elements of the tail in [0, x), negative for x < 0.
Wide tailPrefix(const PeriodicSet::Tail &t, int64_t x) {
  int64_t q = floorDivide(x, t.period);
  return Wide(q) * maskSize(t, t.period) + maskSize(t, x - q * t.period);
}

bool inMask(const PeriodicSet::Tail &t, int64_t x) {
  int64_t r = floorModulo(x, t.period);
  auto it = std::upper_bound(t.mask.begin(), t.mask.end(), r, [](int64_t v, const Interval &m) { return v < m.begin; });
  return it != t.mask.begin() && r < std::prev(it)->end;
}

/// True where the mask repeats every `p` (a divisor of the period).
bool repeats(const PeriodicSet::Tail &t, int64_t p) {
  PeriodicSet::Tail candidate{p, {}};
  for (const Interval &m : t.mask) {
    append(candidate.mask, {m.begin, std::min(m.end, p)});
    if (m.end >= p) {
      break;
    }
  }
  std::vector<Interval> unrolled;
  listTail(candidate, 0, t.period, unrolled, t.mask.size());
  return unrolled == t.mask;
}

/// Gives the tail its least period.
void minimize(PeriodicSet::Tail &t) {
  if (t.isEmpty() || t.isFull()) {
    t = t.isEmpty() ? PeriodicSet::Tail{} : PeriodicSet::Tail{1, {{0, 1}}};
    return;
  }
  int64_t rest = t.period;
  for (int64_t q = 2; rest > 1; ++q) {
    if (q * q > rest) {
      q = rest;
    }
    while (rest % q == 0) {
      rest /= q;
      int64_t p = t.period / q;
      if (!repeats(t, p)) {
        continue;
      }
      std::vector<Interval> mask;
      for (const Interval &m : t.mask) {
        append(mask, {m.begin, std::min(m.end, p)});
      }
      t = {p, std::move(mask)};
    }
  }
}

std::optional<int64_t> commonPeriod(int64_t a, int64_t b) {
  int64_t lcm = a / std::gcd(a, b) * b; // Both at most 2^16.
  return lcm <= PeriodicSet::maxPeriod ? std::optional(lcm) : std::nullopt;
}

std::optional<PeriodicSet::Tail> combineTails(const PeriodicSet::Tail &a, const PeriodicSet::Tail &b, unsigned table) {
  // A constant tail keeps or drops the other one whatever its period.
  std::optional<int64_t> period = commonPeriod(a.period, b.period);
  if (!period) {
    return std::nullopt;
  }
  std::vector<Interval> ia, ib;
  listTail(a, 0, *period, ia, PeriodicSet::maxIntervals);
  listTail(b, 0, *period, ib, PeriodicSet::maxIntervals);
  PeriodicSet::Tail t{*period, combineIntervals(ia, ib, 0, *period, table)};
  minimize(t);
  return t;
}

PeriodicSet::Tail movedTail(const PeriodicSet::Tail &t, int64_t shift) {
  int64_t s = floorModulo(shift, t.period);
  std::vector<Interval> mask;
  for (int64_t turn : {s - t.period, s}) {
    for (const Interval &m : t.mask) {
      append(mask, {std::max<int64_t>(m.begin + turn, 0), std::min(m.end + turn, t.period)});
    }
  }
  return {t.period, std::move(mask)};
}

PeriodicSet::Tail negatedTail(const PeriodicSet::Tail &t) {
  // -x mod p: [b, e) goes to (p - e, p - b], moved by one to be half open.
  std::vector<Interval> mask;
  for (auto m = t.mask.rbegin(); m != t.mask.rend(); ++m) {
    append(mask, {t.period - m->end, t.period - m->begin});
  }
  return movedTail({t.period, std::move(mask)}, 1);
}

} // namespace

std::vector<Interval> combineIntervals(const std::vector<Interval> &a, const std::vector<Interval> &b, int64_t begin,
                                       int64_t end, unsigned table) {
  std::vector<Interval> out;
  size_t ka = 0, kb = 0;
  int64_t x = begin;
  while (x < end) {
    while (ka < a.size() && a[ka].end <= x) {
      ++ka;
    }
    while (kb < b.size() && b[kb].end <= x) {
      ++kb;
    }
    bool inA = ka < a.size() && a[ka].begin <= x, inB = kb < b.size() && b[kb].begin <= x;
    int64_t next = end;
    if (ka < a.size()) {
      next = std::min(next, inA ? a[ka].end : a[ka].begin);
    }
    if (kb < b.size()) {
      next = std::min(next, inB ? b[kb].end : b[kb].begin);
    }
    if ((table >> (2 * inA + inB)) & 1) {
      append(out, {x, next});
    }
    x = next;
  }
  return out;
}

std::optional<PeriodicSet> PeriodicSet::normalized(Tail left, Tail right, int64_t lo, int64_t hi,
                                                   std::vector<Interval> middle) {
  if (middle.size() > maxIntervals || lo < -maxBound || hi > maxBound) {
    return std::nullopt;
  }
  minimize(left);
  minimize(right);
  PeriodicSet s;
  s.left = left;
  s.right = right;
  std::optional<int64_t> period = commonPeriod(left.period, right.period);
  if (!period) {
    return std::nullopt;
  }
  // First place where the set leaves its left tail, last where it is not yet its right tail.
  std::vector<Interval> fromLeft, fromRight;
  listTail(left, lo, hi + *period, fromLeft, maxIntervals);
  listTail(right, lo - *period, hi, fromRight, maxIntervals);
  if (fromLeft.size() > maxIntervals || fromRight.size() > maxIntervals) {
    return std::nullopt;
  }
  std::vector<Interval> rightPart = middle, leftPart;
  listTail(right, hi, hi + *period, rightPart, 2 * maxIntervals);
  listTail(left, lo - *period, lo, leftPart, 2 * maxIntervals);
  for (const Interval &m : middle) {
    append(leftPart, m);
  }
  std::vector<Interval> departs = combineIntervals(fromLeft, rightPart, lo, hi + *period, keepDifferent);
  std::vector<Interval> arrives = combineIntervals(fromRight, leftPart, lo - *period, hi, keepDifferent);
  if (departs.empty()) { // The left tail everywhere.
    s.right = s.left;
    return s;
  }
  if (arrives.empty()) {
    s.left = s.right;
    return s;
  }
  int64_t newLo = departs.front().begin, newHi = arrives.back().end;
  if (newLo >= newHi) {
    s.lo = s.hi = newHi;
    return s;
  }
  s.lo = newLo;
  s.hi = newHi;
  std::vector<Interval> whole;
  listTail(left, std::min(newLo, lo), lo, whole, maxIntervals);
  for (const Interval &m : middle) {
    append(whole, m);
  }
  listTail(right, hi, std::max(newHi, hi), whole, maxIntervals);
  s.middle = combineIntervals(whole, {}, newLo, newHi, 0b1100);
  return s;
}

PeriodicSet PeriodicSet::all() {
  PeriodicSet s;
  s.left = s.right = {1, {{0, 1}}};
  return s;
}

std::optional<PeriodicSet> PeriodicSet::interval(int64_t begin, int64_t end) {
  if (begin >= end) {
    return PeriodicSet();
  }
  return normalized({}, {}, begin, end, {{begin, end}});
}

std::optional<PeriodicSet> PeriodicSet::from(int64_t begin) { return normalized({}, {1, {{0, 1}}}, begin, begin, {}); }

std::optional<PeriodicSet> PeriodicSet::below(int64_t end) { return normalized({1, {{0, 1}}}, {}, end, end, {}); }

std::optional<PeriodicSet> PeriodicSet::ofIntervals(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(), [](const Interval &a, const Interval &b) { return a.begin < b.begin; });
  std::vector<Interval> middle;
  for (const Interval &x : intervals) {
    append(middle, x);
  }
  if (middle.empty()) {
    return PeriodicSet();
  }
  int64_t begin = middle.front().begin, end = middle.back().end;
  return normalized({}, {}, begin, end, std::move(middle));
}

std::optional<PeriodicSet> PeriodicSet::periodic(int64_t n, std::vector<Interval> residues) {
  if (n <= 0 || n > maxPeriod) {
    return std::nullopt;
  }
  std::sort(residues.begin(), residues.end(), [](const Interval &a, const Interval &b) { return a.begin < b.begin; });
  Tail t{n, {}};
  for (const Interval &x : residues) {
    append(t.mask, {std::max<int64_t>(x.begin, 0), std::min(x.end, n)});
  }
  return normalized(t, t, 0, 0, {});
}

bool PeriodicSet::contains(int64_t x) const {
  if (x < lo) {
    return inMask(left, x);
  }
  if (x >= hi) {
    return inMask(right, x);
  }
  auto it = std::upper_bound(middle.begin(), middle.end(), x, [](int64_t v, const Interval &m) { return v < m.begin; });
  return it != middle.begin() && x < std::prev(it)->end;
}

std::optional<PeriodicSet> PeriodicSet::combine(const PeriodicSet &o, unsigned table) const {
  std::optional<Tail> newLeft = combineTails(left, o.left, table);
  std::optional<Tail> newRight = combineTails(right, o.right, table);
  if (!newLeft || !newRight) {
    return std::nullopt;
  }
  int64_t begin = std::min(lo, o.lo), end = std::max(hi, o.hi);
  auto listed = [&](const PeriodicSet &s) {
    std::vector<Interval> out;
    listTail(s.left, begin, std::min(s.lo, end), out, maxIntervals);
    for (const Interval &m : s.middle) {
      append(out, m);
    }
    if (out.size() <= maxIntervals) {
      listTail(s.right, std::max(s.hi, begin), end, out, maxIntervals);
    }
    return out;
  };
  std::vector<Interval> a = listed(*this), b = listed(o);
  if (a.size() > maxIntervals || b.size() > maxIntervals) {
    return std::nullopt;
  }
  return normalized(std::move(*newLeft), std::move(*newRight), begin, end, combineIntervals(a, b, begin, end, table));
}

std::optional<PeriodicSet> PeriodicSet::unite(const PeriodicSet &o) const { return combine(o, keepEither); }
std::optional<PeriodicSet> PeriodicSet::intersect(const PeriodicSet &o) const { return combine(o, keepBoth); }
std::optional<PeriodicSet> PeriodicSet::subtract(const PeriodicSet &o) const { return combine(o, keepFirstOnly); }

PeriodicSet PeriodicSet::complement() const {
  // Canonical already: the boundaries of a set and of its complement agree.
  auto flip = [](Tail t) {
    t.mask = combineIntervals(t.mask, {}, 0, t.period, 0b0011);
    return t;
  };
  PeriodicSet s;
  s.left = flip(left);
  s.right = flip(right);
  s.lo = lo;
  s.hi = hi;
  s.middle = combineIntervals(middle, {}, lo, hi, 0b0011);
  return s;
}

std::optional<PeriodicSet> PeriodicSet::shifted(int64_t a) const {
  if (a < -maxBound || a > maxBound) {
    return std::nullopt;
  }
  std::vector<Interval> moved;
  for (const Interval &m : middle) {
    moved.push_back({m.begin + a, m.end + a});
  }
  return normalized(movedTail(left, a), movedTail(right, a), lo + a, hi + a, std::move(moved));
}

PeriodicSet PeriodicSet::negated() const {
  std::vector<Interval> mirrored;
  for (auto m = middle.rbegin(); m != middle.rend(); ++m) {
    mirrored.push_back({1 - m->end, 1 - m->begin});
  }
  return *normalized(negatedTail(right), negatedTail(left), 1 - hi, 1 - lo, std::move(mirrored));
}

std::optional<PeriodicSet> PeriodicSet::scaled(int64_t n) const {
  if (n <= 0) {
    return std::nullopt;
  }
  int64_t reach = std::max({lo, -lo, hi, -hi, int64_t{1}});
  if (reach > maxBound / n) {
    return std::nullopt;
  }
  auto scale = [n](const std::vector<Interval> &list) {
    std::vector<Interval> out;
    for (const Interval &m : list) {
      out.push_back({m.begin * n, m.end * n});
    }
    return out;
  };
  auto scaleTail = [&](const Tail &t) -> std::optional<Tail> {
    if (t.isEmpty() || t.isFull()) {
      return t;
    }
    if (n > maxPeriod / t.period) {
      return std::nullopt;
    }
    return Tail{t.period * n, scale(t.mask)};
  };
  std::optional<Tail> newLeft = scaleTail(left), newRight = scaleTail(right);
  if (!newLeft || !newRight) {
    return std::nullopt;
  }
  return normalized(std::move(*newLeft), std::move(*newRight), lo * n, hi * n, scale(middle));
}

std::optional<int64_t> PeriodicSet::min() const {
  if (!left.isEmpty() || isEmpty()) {
    return std::nullopt;
  }
  if (!middle.empty()) {
    return middle.front().begin;
  }
  std::vector<Interval> first;
  listTail(right, hi, hi + right.period, first, maxIntervals);
  return first.front().begin;
}

std::optional<int64_t> PeriodicSet::max() const {
  std::optional<int64_t> m = right.isEmpty() ? negated().min() : std::nullopt;
  return m ? std::optional(-*m) : std::nullopt;
}

int64_t PeriodicSet::count(int64_t begin, int64_t end) const {
  begin = std::max(begin, -2 * maxBound);
  end = std::min(end, 2 * maxBound);
  if (begin >= end) {
    return 0;
  }
  Wide n = 0;
  if (begin < lo) {
    n += tailPrefix(left, std::min(lo, end)) - tailPrefix(left, begin);
  }
  if (end > hi) {
    n += tailPrefix(right, end) - tailPrefix(right, std::max(hi, begin));
  }
  for (const Interval &m : middle) {
    if (m.begin >= end) {
      break;
    }
    n += std::max<int64_t>(std::min(m.end, end) - std::max(m.begin, begin), 0);
  }
  return static_cast<int64_t>(n);
}

std::vector<Interval> PeriodicSet::intervals(int64_t begin, int64_t end) const {
  std::vector<Interval> out;
  constexpr size_t noCap = static_cast<size_t>(-1);
  listTail(left, begin, std::min(lo, end), out, noCap);
  for (const Interval &m : middle) {
    append(out, {std::max(m.begin, begin), std::min(m.end, end)});
  }
  listTail(right, std::max(hi, begin), end, out, noCap);
  return out;
}

std::string PeriodicSet::str() const {
  auto list = [](const std::vector<Interval> &items) {
    std::string s = "{";
    for (const Interval &x : items) {
      s += "[" + std::to_string(x.begin) + "," + std::to_string(x.end) + ")";
    }
    return s + "}";
  };
  return list(left.mask) + " mod " + std::to_string(left.period) + " < " + std::to_string(lo) + " " + list(middle) +
         " " + std::to_string(hi) + " <= " + list(right.mask) + " mod " + std::to_string(right.period);
}

} // namespace heddle
