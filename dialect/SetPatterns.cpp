//===- SetPatterns.cpp - Patterns that spell a one-dimensional set --------===//
//
// One text for each set of i - j, of j, or of i: the canonical representation
// of PeriodicSet is cut into parts (finite, right tail, left tail), and each
// part has one spelling.
//
//===----------------------------------------------------------------------===//
#include "dialect/SetPatterns.h"

#include <algorithm>

namespace heddle {

namespace {

Pattern leaf(PatternKind kind, std::vector<IntArg> ints) {
  PatternNode n;
  n.kind = kind;
  n.ints = std::move(ints);
  return Pattern::make(std::move(n));
}

Pattern listPattern(PatternKind kind, std::vector<RangeArg> ranges) {
  PatternNode n;
  n.kind = kind;
  n.ranges = std::move(ranges);
  return Pattern::make(std::move(n));
}

const IntArg infinity{IntArg::Infinity, 0};

/// How the three coordinates spell the parts of a set.
class Speller {
public:
  virtual ~Speller() = default;
  virtual Pattern from(int64_t x) const = 0; ///< [x, inf)
  virtual Pattern upTo(int64_t x) const = 0; ///< (-inf, x]
  virtual Pattern finite(const std::vector<Interval> &list) const = 0;
  virtual Pattern periodic(const PeriodicSet::Tail &t) const = 0;
  /// Some finite sets read better as a whole (dilated windows).
  Pattern spell(const PeriodicSet &s) const;

private:
  Pattern tail(const PeriodicSet::Tail &t, const Pattern &ray) const {
    return t.isFull() ? ray : andPattern({ray, periodic(t)});
  }
};

Pattern Speller::spell(const PeriodicSet &s) const {
  if (s.isEmpty()) {
    return Pattern::empty();
  }
  if (s.isAll()) {
    return Pattern::full();
  }
  const PeriodicSet::Tail &left = s.leftTail(), &right = s.rightTail();
  Interval split = s.split();
  if (left.isFull() && right.isFull()) { // All but finitely many.
    return negatedPattern(spell(s.complement()));
  }
  if (left == right && split.begin == split.end && split.begin == 0) {
    return periodic(left);
  }
  std::vector<Pattern> parts;
  std::vector<Interval> finitePart = s.finite();
  if (left == right && !left.isEmpty()) {
    // Periodic with finitely many more?
    std::optional<PeriodicSet> whole = PeriodicSet::periodic(left.period, left.mask);
    std::optional<PeriodicSet> missing = whole ? whole->subtract(s) : std::nullopt;
    if (missing && missing->isEmpty()) {
      return orPattern({periodic(left), finite(finitePart)});
    }
  }
  if (!right.isEmpty()) {
    std::vector<Interval> first = s.intervals(split.end, split.end + right.period);
    int64_t begin = first.front().begin;
    if (right.isFull() && !finitePart.empty() && finitePart.back().end == begin) {
      begin = finitePart.back().begin; // One interval.
      finitePart.pop_back();
    }
    parts.push_back(tail(right, from(begin)));
  }
  if (!left.isEmpty()) {
    std::vector<Interval> last = s.intervals(split.begin - left.period, split.begin);
    int64_t end = last.back().end;
    if (left.isFull() && !finitePart.empty() && finitePart.front().begin == end) {
      end = finitePart.front().end;
      finitePart.erase(finitePart.begin());
    }
    parts.push_back(tail(left, upTo(end - 1)));
  }
  if (!finitePart.empty()) {
    parts.push_back(finite(finitePart));
  }
  return orPattern(std::move(parts));
}

class Diffs : public Speller {
public:
  Pattern from(int64_t x) const override { return leaf(PatternKind::Causal, {x}); }
  Pattern upTo(int64_t x) const override {
    return x >= 0 ? leaf(PatternKind::Window, {x, infinity, 1}) : negatedPattern(leaf(PatternKind::Causal, {x + 1}));
  }

  Pattern finite(const std::vector<Interval> &list) const override {
    if (std::optional<Pattern> window = dilatedWindow(list)) {
      return *window;
    }
    std::vector<Pattern> parts;
    std::vector<IntArg> points;
    for (const Interval &x : list) {
      if (x.end - x.begin == 1) {
        points.emplace_back(x.begin);
      } else {
        parts.push_back(single(x));
      }
    }
    if (!points.empty()) {
      parts.push_back(leaf(PatternKind::Offsets, std::move(points)));
    }
    return orPattern(std::move(parts));
  }

  Pattern periodic(const PeriodicSet::Tail &t) const override {
    int64_t live = 0;
    for (const Interval &m : t.mask) {
      live += m.end - m.begin;
    }
    if (live > 16 && t.mask.size() < static_cast<size_t>(live)) {
      return residues(t);
    }
    std::vector<Pattern> parts;
    for (const Interval &m : t.mask) {
      for (int64_t r = m.begin; r < m.end; ++r) {
        parts.push_back(leaf(PatternKind::Stride, {t.period, r}));
      }
    }
    return orPattern(std::move(parts));
  }

private:
  static Pattern single(const Interval &x) {
    int64_t first = x.begin, last = x.end - 1;
    if (first <= 0 && last >= 0) {
      return leaf(PatternKind::Window, {last, -first, 1});
    }
    if (first > 0) {
      return andPattern({leaf(PatternKind::Causal, {first}), leaf(PatternKind::Window, {last, 0, 1})});
    }
    return andPattern(
        {negatedPattern(leaf(PatternKind::Causal, {last + 1})), leaf(PatternKind::Window, {0, -first, 1})});
  }

  /// Three or more equidistant points around 0.
  static std::optional<Pattern> dilatedWindow(const std::vector<Interval> &list) {
    if (list.size() < 3 || list.front().begin > 0 || list.back().begin < 0) {
      return std::nullopt;
    }
    int64_t step = list[1].begin - list[0].begin;
    for (size_t k = 0; k < list.size(); ++k) {
      bool even = list[k].begin == list[0].begin + static_cast<int64_t>(k) * step;
      if (list[k].end - list[k].begin != 1 || !even || list[k].begin % step != 0) {
        return std::nullopt;
      }
    }
    return leaf(PatternKind::Window, {list.back().begin / step, -list.front().begin / step, step});
  }

  static Pattern residues(const PeriodicSet::Tail &t) {
    std::vector<Pattern> parts;
    for (const Interval &m : t.mask) {
      Expr r = floorMod(Expr::symbol(Sym::Query) - Expr::symbol(Sym::Key), Expr(t.period));
      PatternNode n;
      n.kind = PatternKind::Holds;
      n.exprs = {m.begin == 0        ? r < Expr(m.end)
                 : m.end == t.period ? r >= Expr(m.begin)
                                     : (r >= Expr(m.begin)) && (r < Expr(m.end))};
      parts.push_back(Pattern::make(std::move(n)));
    }
    return orPattern(std::move(parts));
  }
};

/// Keys or queries.
class Lists : public Speller {
public:
  Lists(PatternKind list, PatternKind mod) : list(list), mod(mod) {}

  Pattern from(int64_t x) const override { return listPattern(list, {{x, infinity}}); }
  Pattern upTo(int64_t x) const override { return negatedPattern(from(x + 1)); }
  Pattern finite(const std::vector<Interval> &intervals) const override {
    std::vector<RangeArg> ranges;
    for (const Interval &x : intervals) {
      ranges.push_back({x.begin, x.end});
    }
    return listPattern(list, std::move(ranges));
  }
  Pattern periodic(const PeriodicSet::Tail &t) const override {
    std::vector<Pattern> parts;
    for (const Interval &m : t.mask) {
      parts.push_back(leaf(mod, {t.period, m.begin, m.end}));
    }
    return orPattern(std::move(parts));
  }

private:
  PatternKind list, mod;
};

Pattern naryPattern(PatternKind kind, std::vector<Pattern> parts) {
  std::vector<std::pair<std::string, Pattern>> flat;
  for (const Pattern &p : parts) {
    if (p->kind == kind) {
      for (const Pattern &c : p->children) {
        flat.emplace_back(c.str(), c);
      }
    } else {
      flat.emplace_back(p.str(), p);
    }
  }
  std::sort(flat.begin(), flat.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
  PatternNode n;
  n.kind = kind;
  const std::string *previous = nullptr;
  for (const auto &[text, p] : flat) {
    if (!previous || text != *previous) {
      n.children.push_back(p);
    }
    previous = &text;
  }
  if (n.children.size() == 1) {
    return n.children[0];
  }
  return Pattern::make(std::move(n));
}

} // namespace

Pattern andPattern(std::vector<Pattern> parts) {
  return parts.empty() ? Pattern::full() : naryPattern(PatternKind::And, std::move(parts));
}

Pattern orPattern(std::vector<Pattern> parts) {
  return parts.empty() ? Pattern::empty() : naryPattern(PatternKind::Or, std::move(parts));
}

Pattern negatedPattern(const Pattern &p) {
  std::vector<Pattern> children;
  switch (p->kind) {
  case PatternKind::Empty:
    return Pattern::full();
  case PatternKind::Not:
    return p->children[0];
  case PatternKind::And:
  case PatternKind::Or:
    for (const Pattern &c : p->children) {
      children.push_back(negatedPattern(c));
    }
    return p->kind == PatternKind::And ? orPattern(std::move(children)) : andPattern(std::move(children));
  default:
    return ~p;
  }
}

Pattern patternOfDiffs(const PeriodicSet &diffs) { return Diffs().spell(diffs); }
Pattern patternOfKeys(const PeriodicSet &keys) { return Lists(PatternKind::Keys, PatternKind::KeyMod).spell(keys); }
Pattern patternOfQueries(const PeriodicSet &queries) {
  return Lists(PatternKind::Queries, PatternKind::QueryMod).spell(queries);
}

} // namespace heddle
