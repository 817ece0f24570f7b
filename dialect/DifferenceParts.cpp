//===- DifferenceParts.cpp - Patterns in i - j alone, in few parts --------===//
//
// Cutting a set of distances: its tails, and the runs between them.
//
//===----------------------------------------------------------------------===//
#include "dialect/DifferenceParts.h"
#include "dialect/LinearForm.h"

#include <algorithm>

namespace heddle {

namespace {

constexpr size_t kMaxParts = 24;

class Cutter {
public:
  explicit Cutter(const PeriodicSet &set) : set(set) {}

  std::vector<DifferencePart> cut() {
    const auto [lo, hi] = set.split();
    const PeriodicSet::Tail &left = set.leftTail(), &right = set.rightTail();
    if (left == right && lo == hi) {
      tail(std::nullopt, std::nullopt, right, 0);
      return std::move(parts);
    }
    tail(std::nullopt, lo - 1, left, lo - left.period);
    core(set.finite());
    tail(hi, std::nullopt, right, hi);
    joinNeighbors();
    return std::move(parts);
  }

private:
  const PeriodicSet &set;
  std::vector<DifferencePart> parts;

  /// The runs of a tail, between lo and hi, from the one at `base` or next on.
  void tail(std::optional<int64_t> lo, std::optional<int64_t> hi, const PeriodicSet::Tail &t, int64_t base) {
    if (t.isFull()) {
      parts.push_back({lo, hi});
      return;
    }
    std::vector<Interval> runs = t.mask;
    if (runs.size() > 1 && runs.front().begin == 0 && runs.back().end == t.period) {
      runs.back().end += runs.front().end; // one run, around the end of the period
      runs.erase(runs.begin());
    }
    std::sort(runs.begin(), runs.end(), [&](const Interval &a, const Interval &b) {
      return floorRemainder(a.begin - base, t.period) < floorRemainder(b.begin - base, t.period);
    });
    for (const Interval &run : runs) {
      parts.push_back({lo, hi, t.period, run.begin, run.end - run.begin});
    }
  }

  void core(const std::vector<Interval> &finite) {
    std::vector<std::pair<int64_t, int64_t>> runs; // first, length
    for (const Interval &run : finite) {
      runs.emplace_back(run.begin, run.end - run.begin);
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

std::optional<std::vector<DifferencePart>> differenceParts(const Pattern &p, bool negated) {
  std::optional<PeriodicSet> set = differenceSet(p);
  if (!set) {
    return std::nullopt;
  }
  std::vector<DifferencePart> parts = Cutter(negated ? set->complement() : *set).cut();
  if (!negated && p->kind == PatternKind::Or && parts.size() > 1) {
    // Operand by operand can be simpler: windows of two dilations.
    std::vector<DifferencePart> split;
    std::optional<PeriodicSet> covered = PeriodicSet();
    for (const Pattern &c : p->children) {
      std::optional<PeriodicSet> own = differenceSet(c), fresh = own ? own->subtract(*covered) : std::nullopt;
      covered = fresh ? covered->unite(*own) : std::nullopt;
      if (!covered || split.size() >= parts.size()) {
        break;
      }
      std::vector<DifferencePart> more = Cutter(*fresh).cut();
      split.insert(split.end(), more.begin(), more.end());
    }
    if (covered && split.size() < parts.size()) {
      parts = std::move(split);
    }
  }
  return parts.size() > kMaxParts ? std::nullopt : std::optional(std::move(parts));
}

} // namespace heddle
