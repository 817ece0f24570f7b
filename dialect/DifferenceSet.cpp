//===- DifferenceSet.cpp - Patterns of the distance as sets of integers ---===//
//
// The boolean operations are those of PeriodicSet, which are exact.
//
//===----------------------------------------------------------------------===//
#include "dialect/DifferenceSet.h"

#include <algorithm>

namespace heddle {

static std::optional<PeriodicSet> windowSet(const PatternNode &n) {
  int64_t dilation = n.ints[2].value;
  auto reach = [&](size_t k) -> std::optional<int64_t> {
    int64_t v = 0;
    if (__builtin_mul_overflow(n.ints[k].value, dilation, &v) || v > PeriodicSet::maxBound / 2 ||
        v < -PeriodicSet::maxBound / 2) {
      return std::nullopt;
    }
    return v;
  };
  std::optional<PeriodicSet> s = PeriodicSet::all();
  if (n.ints[0].kind != IntArg::Infinity) {
    std::optional<int64_t> left = reach(0);
    std::optional<PeriodicSet> ray = left ? PeriodicSet::below(*left + 1) : std::nullopt;
    s = ray ? s->intersect(*ray) : std::nullopt;
  }
  if (s && n.ints[1].kind != IntArg::Infinity) {
    std::optional<int64_t> right = reach(1);
    std::optional<PeriodicSet> ray = right ? PeriodicSet::from(-*right) : std::nullopt;
    s = ray ? s->intersect(*ray) : std::nullopt;
  }
  if (s && dilation != 1) {
    std::optional<PeriodicSet> lattice = PeriodicSet::periodic(dilation, {{0, 1}});
    s = lattice ? s->intersect(*lattice) : std::nullopt;
  }
  return s;
}

std::optional<PeriodicSet> primitiveDifferences(const PatternNode &n) {
  switch (n.kind) {
  case PatternKind::Causal:
    return PeriodicSet::from(n.ints.empty() ? 0 : n.ints[0].value);
  case PatternKind::Window:
    return windowSet(n);
  case PatternKind::Stride:
    return PeriodicSet::periodic(n.ints[0].value, {{n.ints[1].value, n.ints[1].value + 1}});
  case PatternKind::Offsets: {
    std::vector<Interval> points;
    for (const IntArg &a : n.ints) {
      points.push_back({a.value, a.value + 1});
    }
    return PeriodicSet::ofIntervals(std::move(points));
  }
  default:
    return std::nullopt;
  }
}

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

std::optional<PeriodicSet> differenceSet(const Pattern &p) {
  switch (p->kind) {
  case PatternKind::Full:
    return PeriodicSet::all();
  case PatternKind::Empty:
    return PeriodicSet();
  case PatternKind::Shift: // moves both positions
  case PatternKind::And:
  case PatternKind::Or:
  case PatternKind::Sub:
  case PatternKind::Not: {
    std::optional<PeriodicSet> set = differenceSet(p->children[0]);
    for (size_t k = 1; set && k < p->children.size(); ++k) {
      std::optional<PeriodicSet> next = differenceSet(p->children[k]);
      set = !next                         ? std::nullopt
            : p->kind == PatternKind::And ? set->intersect(*next)
            : p->kind == PatternKind::Or  ? set->unite(*next)
                                          : set->subtract(*next);
    }
    return set && p->kind == PatternKind::Not ? std::optional(set->complement()) : set;
  }
  default:
    return primitiveDifferences(*p);
  }
}

} // namespace heddle
