//===- PeriodicSetTest.cpp - One-dimensional sets against brute force -----===//
//
// Random chains of operations beside the same chain on a window of booleans.
//
//===----------------------------------------------------------------------===//
#include "dialect/PeriodicSet.h"

#include <gtest/gtest.h>

#include <random>

using namespace heddle;

namespace {

constexpr int64_t reach = 200;

class Generator {
public:
  explicit Generator(unsigned seed) : random(seed) {}
  int64_t upTo(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); }
  PeriodicSet base() {
    switch (upTo(0, 4)) {
    case 0:
      return *PeriodicSet::interval(upTo(-15, 15), upTo(-15, 15));
    case 1:
      return *PeriodicSet::from(upTo(-15, 15));
    case 2:
      return *PeriodicSet::below(upTo(-15, 15));
    case 3: {
      int64_t n = upTo(1, 6), lo = upTo(0, n - 1);
      return *PeriodicSet::periodic(n, {{lo, upTo(lo + 1, n)}});
    }
    default:
      return *PeriodicSet::ofIntervals({{upTo(-9, 0), upTo(0, 9)}, {upTo(-9, 20), upTo(9, 20)}});
    }
  }

private:
  std::mt19937 random;
};

std::vector<bool> window(const PeriodicSet &s) {
  std::vector<bool> w;
  for (int64_t x = -reach; x <= reach; ++x) {
    w.push_back(s.contains(x));
  }
  return w;
}

} // namespace

TEST(PeriodicSet, BooleanOperations) {
  Generator g(1);
  for (int k = 0; k < 20000; ++k) {
    PeriodicSet a = g.base(), b = g.base(), c = g.base();
    a = *a.unite(c);
    std::vector<bool> wa = window(a), wb = window(b);
    std::vector<bool> sum = window(*a.unite(b)), common = window(*a.intersect(b)), difference = window(*a.subtract(b)),
                      rest = window(a.complement());
    for (size_t x = 0; x < wa.size(); ++x) {
      ASSERT_EQ(sum[x], wa[x] || wb[x]);
      ASSERT_EQ(common[x], wa[x] && wb[x]);
      ASSERT_EQ(difference[x], wa[x] && !wb[x]);
      ASSERT_EQ(rest[x], !wa[x]);
    }
  }
}

TEST(PeriodicSet, EqualSetsHaveEqualRepresentations) {
  Generator g(2);
  for (int k = 0; k < 20000; ++k) {
    PeriodicSet a = *g.base().unite(g.base()), b = g.base();
    // a = (a & b) | (a - b), and De Morgan, and two mirrors.
    ASSERT_EQ(*a.intersect(b)->unite(*a.subtract(b)), a) << a.str();
    ASSERT_EQ(a.unite(b)->complement(), *a.complement().intersect(b.complement())) << a.str();
    ASSERT_EQ(a.negated().negated(), a) << a.str();
    ASSERT_EQ(*a.shifted(7)->shifted(-7), a) << a.str();
    ASSERT_TRUE(a.subtract(a)->isEmpty());
    ASSERT_TRUE(a.unite(a.complement())->isAll());
  }
}

TEST(PeriodicSet, Maps) {
  Generator g(3);
  for (int k = 0; k < 20000; ++k) {
    PeriodicSet a = *g.base().unite(g.base());
    int64_t shift = g.upTo(-20, 20), n = g.upTo(1, 4);
    PeriodicSet moved = *a.shifted(shift), mirrored = a.negated(), scaled = *a.scaled(n);
    for (int64_t x = -reach; x <= reach; ++x) {
      ASSERT_EQ(moved.contains(x), a.contains(x - shift)) << a.str();
      ASSERT_EQ(mirrored.contains(x), a.contains(-x)) << a.str();
      int64_t q = x >= 0 ? x / n : -((-x + n - 1) / n);
      ASSERT_EQ(scaled.contains(x), a.contains(q)) << a.str();
    }
  }
}

TEST(PeriodicSet, CountsIntervalsAndEnds) {
  Generator g(4);
  for (int k = 0; k < 20000; ++k) {
    PeriodicSet a = *g.base().intersect(*g.base().unite(g.base()));
    int64_t begin = g.upTo(-60, 60), end = g.upTo(-60, 60), n = 0;
    for (int64_t x = begin; x < end; ++x) {
      n += a.contains(x);
    }
    ASSERT_EQ(a.count(begin, end), n) << a.str();
    int64_t listed = 0, previous = INT64_MIN;
    for (const Interval &x : a.intervals(begin, end)) {
      ASSERT_LT(x.begin, x.end);
      ASSERT_LT(previous, x.begin); // Maximal: never adjacent.
      previous = x.end;
      for (int64_t y = x.begin; y < x.end; ++y, ++listed) {
        ASSERT_TRUE(a.contains(y));
      }
    }
    ASSERT_EQ(listed, n);
    if (std::optional<int64_t> least = a.min()) {
      ASSERT_TRUE(a.contains(*least));
      ASSERT_EQ(a.count(*least - 300, *least), 0);
    } else {
      ASSERT_TRUE(a.isEmpty() || a.count(-300, -100) > 0) << a.str();
    }
    if (std::optional<int64_t> most = a.max()) {
      ASSERT_TRUE(a.contains(*most));
      ASSERT_EQ(a.count(*most + 1, *most + 300), 0);
    }
  }
}

TEST(PeriodicSet, CapsGiveNothing) {
  EXPECT_FALSE(PeriodicSet::periodic(PeriodicSet::maxPeriod + 1, {{0, 1}}));
  EXPECT_FALSE(PeriodicSet::from(INT64_MAX));
  EXPECT_FALSE(PeriodicSet::interval(INT64_MIN, 0));
  PeriodicSet a = *PeriodicSet::periodic(65521, {{0, 1}}), b = *PeriodicSet::periodic(3, {{0, 1}});
  EXPECT_FALSE(a.unite(b));
  EXPECT_FALSE(a.scaled(2));
  EXPECT_FALSE(a.shifted(INT64_MAX));
  EXPECT_FALSE(PeriodicSet::interval(0, 1000000)->intersect(b)); // 333,334 intervals.
}
