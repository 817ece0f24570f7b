//===- PatternOracle.h - Random patterns with independent predicates ------===//
//
// Each random pattern comes as text and as a predicate on one pair that is
// written here from the definitions, sharing no code with the library.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TEST_UNIT_PATTERNORACLE_H
#define HEDDLE_TEST_UNIT_PATTERNORACLE_H

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace heddle::test {

/// One pair and what its membership may depend on.
struct Pair {
  int64_t i = 0, j = 0, h = 0, nq = 0, nk = 0;
};

struct Oracle {
  std::string text;
  std::function<bool(const Pair &)> live;
};

struct IntOracle {
  std::string text;
  std::function<int64_t(const Pair &)> value;
};

/// Largest q with q * b <= a, by counting.
inline int64_t quotientDown(int64_t a, int64_t b) {
  int64_t q = a / b;
  while (q * b > a) {
    --q;
  }
  while ((q + 1) * b <= a) {
    ++q;
  }
  return q;
}
inline int64_t remainderOf(int64_t a, int64_t b) { return a - b * quotientDown(a, b); }

/// NATTEN's window: walk the residue class and clamp.
inline bool isNeighbor(int64_t i, int64_t j, int64_t size, int64_t extent, int64_t stride, int64_t dilation,
                       bool causal) {
  if (i < 0 || j < 0 || i >= extent || j >= extent || i % dilation != j % dilation) {
    return false;
  }
  int64_t length = 0;
  for (int64_t x = i % dilation; x < extent; x += dilation) {
    ++length;
  }
  int64_t a = i / dilation, b = j / dilation, group = a / stride * stride;
  if (causal) {
    int64_t leader = std::min(group + stride - 1, length - 1);
    return b <= a && b > leader - size;
  }
  int64_t leader = std::min(group + stride / 2, length - 1);
  int64_t start = leader - size / 2;
  while (start + size > length) {
    --start;
  }
  return b >= std::max<int64_t>(start, 0) && b < std::max<int64_t>(start, 0) + size;
}

class OracleGenerator {
public:
  explicit OracleGenerator(unsigned seed) : random(seed) {}

  int64_t upTo(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); }

  Oracle pattern(int depth) {
    if (depth == 0 || upTo(0, 5) == 0) {
      return upTo(0, 4) == 0 ? condition() : primitive();
    }
    switch (upTo(0, 11)) {
    case 0:
    case 1:
    case 2:
      return both(depth);
    case 3:
    case 4:
    case 5:
      return either(depth);
    case 6: {
      Oracle a = pattern(depth - 1), b = pattern(depth - 1);
      return {"(" + a.text + ") - (" + b.text + ")", [=](const Pair &p) { return a.live(p) && !b.live(p); }};
    }
    case 7: {
      Oracle a = pattern(depth - 1);
      return {"~(" + a.text + ")", [=](const Pair &p) { return !a.live(p); }};
    }
    case 8: {
      int64_t n = upTo(1, 4), m = upTo(0, 1) ? n : upTo(1, 4);
      Oracle a = pattern(depth - 1);
      return {"coarse(" + str(n) + ", " + str(m) + ", " + a.text + ")",
              [=](const Pair &p) { return a.live(at(p, quotientDown(p.i, n), quotientDown(p.j, m))); }};
    }
    case 9: {
      int64_t w = upTo(1, 6);
      Oracle a = pattern(depth - 1), b = pattern(depth - 1);
      return {"grid(" + str(w) + ", " + a.text + ", " + b.text + ")", [=](const Pair &p) {
                return a.live(at(p, quotientDown(p.i, w), quotientDown(p.j, w))) &&
                       b.live(at(p, remainderOf(p.i, w), remainderOf(p.j, w)));
              }};
    }
    case 10: {
      int64_t a = upTo(-5, 5);
      Oracle x = pattern(depth - 1);
      return {"shift(" + str(a) + ", " + x.text + ")", [=](const Pair &p) { return x.live(at(p, p.i - a, p.j - a)); }};
    }
    default:
      return upTo(0, 1) ? perHead(depth) : remap(depth);
    }
  }

  /// A quasi-affine (or bitwise) integer expression of i and j.
  IntOracle integer(int depth) {
    if (depth == 0) {
      switch (upTo(0, 4)) {
      case 0:
      case 1:
        return {"i", [](const Pair &p) { return p.i; }};
      case 2:
      case 3:
        return {"j", [](const Pair &p) { return p.j; }};
      default: {
        int64_t c = upTo(-9, 9);
        return {str(c), [c](const Pair &) { return c; }};
      }
      }
    }
    IntOracle a = integer(depth - 1);
    int64_t n = upTo(1, 6);
    switch (upTo(0, 10)) {
    case 0:
    case 1:
    case 2: {
      IntOracle b = integer(depth - 1);
      return {"(" + a.text + " - " + b.text + ")", [=](const Pair &p) { return a.value(p) - b.value(p); }};
    }
    case 3: {
      IntOracle b = integer(depth - 1);
      return {"(" + a.text + " + " + b.text + ")", [=](const Pair &p) { return a.value(p) + b.value(p); }};
    }
    case 4:
      return {"(" + a.text + " // " + str(n) + ")", [=](const Pair &p) { return quotientDown(a.value(p), n); }};
    case 5:
      return {"(" + a.text + " mod " + str(n) + ")", [=](const Pair &p) { return remainderOf(a.value(p), n); }};
    case 6: {
      IntOracle b = integer(depth - 1);
      return {"min(" + a.text + ", " + b.text + ")", [=](const Pair &p) { return std::min(a.value(p), b.value(p)); }};
    }
    case 7: {
      IntOracle b = integer(depth - 1);
      return {"max(" + a.text + ", " + b.text + ")", [=](const Pair &p) { return std::max(a.value(p), b.value(p)); }};
    }
    case 8:
      return {"abs(" + a.text + ")", [=](const Pair &p) { return std::abs(a.value(p)); }};
    case 9:
      return {"(" + str(n) + " * " + a.text + ")", [=](const Pair &p) { return n * a.value(p); }};
    default: {
      IntOracle b = integer(depth - 1);
      return {"select(i < " + str(n) + ", " + a.text + ", " + b.text + ")",
              [=](const Pair &p) { return p.i < n ? a.value(p) : b.value(p); }};
    }
    }
  }

  Oracle comparison() {
    IntOracle a = integer(static_cast<int>(upTo(1, 2))), b = integer(static_cast<int>(upTo(0, 1)));
    switch (upTo(0, 5)) {
    case 0:
      return {"(" + a.text + " < " + b.text + ")", [=](const Pair &p) { return a.value(p) < b.value(p); }};
    case 1:
      return {"(" + a.text + " <= " + b.text + ")", [=](const Pair &p) { return a.value(p) <= b.value(p); }};
    case 2:
      return {"(" + a.text + " > " + b.text + ")", [=](const Pair &p) { return a.value(p) > b.value(p); }};
    case 3:
      return {"(" + a.text + " >= " + b.text + ")", [=](const Pair &p) { return a.value(p) >= b.value(p); }};
    case 4:
      return {"(" + a.text + " == " + b.text + ")", [=](const Pair &p) { return a.value(p) == b.value(p); }};
    default:
      return {"(" + a.text + " != " + b.text + ")", [=](const Pair &p) { return a.value(p) != b.value(p); }};
    }
  }

  Oracle boolean(int depth) {
    if (depth == 0) {
      return comparison();
    }
    Oracle a = boolean(depth - 1), b = boolean(depth - 1);
    switch (upTo(0, 4)) {
    case 0:
      return {"(" + a.text + " & " + b.text + ")", [=](const Pair &p) { return a.live(p) && b.live(p); }};
    case 1:
      return {"(" + a.text + " | " + b.text + ")", [=](const Pair &p) { return a.live(p) || b.live(p); }};
    case 2:
      return {"(" + a.text + " ^ " + b.text + ")", [=](const Pair &p) { return a.live(p) != b.live(p); }};
    case 3:
      return {"(~" + a.text + ")", [=](const Pair &p) { return !a.live(p); }};
    default:
      return {"(" + a.text + " == " + b.text + ")", [=](const Pair &p) { return a.live(p) == b.live(p); }};
    }
  }

  Oracle condition() {
    Oracle c = boolean(static_cast<int>(upTo(0, 2)));
    return {"holds(b, h, i, j : " + c.text + ")", c.live};
  }

  Oracle primitive() {
    int64_t n = upTo(1, 8), a = upTo(-6, 9);
    switch (upTo(0, 18)) {
    case 0:
      return {"full", [](const Pair &) { return true; }};
    case 1:
      return {"causal", [](const Pair &p) { return p.j <= p.i; }};
    case 2:
      return {"causal(" + str(a) + ")", [=](const Pair &p) { return p.j <= p.i - a; }};
    case 3: {
      int64_t left = upTo(0, 9), right = upTo(0, 9), d = upTo(1, 3);
      return {"window(" + str(left) + ", " + str(right) + ", dilation = " + str(d) + ")", [=](const Pair &p) {
                int64_t x = p.j - p.i;
                return -left * d <= x && x <= right * d && remainderOf(x, d) == 0;
              }};
    }
    case 4: {
      int64_t left = upTo(0, 9);
      return {"window(" + str(left) + ", inf)", [=](const Pair &p) { return p.j - p.i >= -left; }};
    }
    case 5:
      return {"window(inf, " + str(n) + ", " + str(2) + ")",
              [=](const Pair &p) { return p.j - p.i <= 2 * n && remainderOf(p.j - p.i, 2) == 0; }};
    case 6: {
      int64_t phase = upTo(0, n - 1);
      return {"stride(" + str(n) + ", phase = " + str(phase) + ")",
              [=](const Pair &p) { return remainderOf(p.i - p.j, n) == phase; }};
    }
    case 7:
      return {"block(" + str(n) + ")", [=](const Pair &p) { return quotientDown(p.i, n) == quotientDown(p.j, n); }};
    case 8:
      return {"keys([" + str(a) + " to " + str(a + 5) + ", 12, end - 3 to inf])",
              [=](const Pair &p) { return (p.j >= a && p.j < a + 5) || p.j == 12 || p.j >= p.nk - 3; }};
    case 9:
      return {"queries([" + str(a) + ", " + str(a) + " to " + str(a + 3) + "])",
              [=](const Pair &p) { return p.i >= a && p.i < a + 3; }};
    case 10:
      return {"global_tokens([0 to 2, end - 1])", [](const Pair &p) {
                return (p.j >= 0 && p.j < 2) || (p.i >= 0 && p.i < 2) || p.j == p.nk - 1 || p.i == p.nq - 1;
              }};
    case 11: {
      int64_t lo = upTo(0, n - 1), hi = upTo(lo + 1, n);
      return {"key_mod(" + str(n) + ", " + str(lo) + ", " + str(hi) + ")",
              [=](const Pair &p) { return remainderOf(p.j, n) >= lo && remainderOf(p.j, n) < hi; }};
    }
    case 12: {
      int64_t lo = upTo(0, n - 1), hi = upTo(lo + 1, n);
      return {"query_mod(" + str(n) + ", " + str(lo) + ", " + str(hi) + ")",
              [=](const Pair &p) { return remainderOf(p.i, n) >= lo && remainderOf(p.i, n) < hi; }};
    }
    case 13:
      return {"offsets([0, " + str(a) + ", 2 to 4])", [=](const Pair &p) {
                int64_t d = p.i - p.j;
                return d == 0 || d == a || d == 2 || d == 3;
              }};
    case 14: {
      int64_t size = upTo(1, 5), dilation = upTo(1, 2), stride = upTo(1, size);
      int64_t extent = upTo(size * dilation, 30);
      bool causal = upTo(0, 1);
      return {"neighborhood(" + str(size) + ", " + str(extent) + ", stride = " + str(stride) +
                  ", dilation = " + str(dilation) + ", causal = " + (causal ? "true" : "false") + ")",
              [=](const Pair &p) { return isNeighbor(p.i, p.j, size, extent, stride, dilation, causal); }};
    }
    case 15: {
      bool inclusive = upTo(0, 1);
      int64_t size = upTo(0, 9);
      return {"past_blocks(" + str(n) + ", size = " + str(size) + ", inclusive = " + (inclusive ? "true" : "false") +
                  ")",
              [=](const Pair &p) { return p.j * n + size <= p.i + (inclusive ? 1 : 0); }};
    }
    case 16:
      return {"parent(" + str(n) + ")", [=](const Pair &p) { return p.i == quotientDown(p.j, n); }};
    case 17:
      return {"affine_set<(i, j)[nq, nk] : (i - j + " + str(n) + " >= 0, nk - j >= 2, (i + j) mod " + str(n) +
                  " == 0)>",
              [=](const Pair &p) { return p.i - p.j + n >= 0 && p.nk - p.j >= 2 && remainderOf(p.i + p.j, n) == 0; }};
    default:
      return {"~full", [](const Pair &) { return false; }};
    }
  }

private:
  static std::string str(int64_t v) { return std::to_string(v); }
  static Pair at(Pair p, int64_t i, int64_t j) {
    p.i = i;
    p.j = j;
    return p;
  }

  Oracle both(int depth) {
    Oracle a = pattern(depth - 1), b = pattern(depth - 1);
    return {"(" + a.text + ") & (" + b.text + ")", [=](const Pair &p) { return a.live(p) && b.live(p); }};
  }
  Oracle either(int depth) {
    Oracle a = pattern(depth - 1), b = pattern(depth - 1);
    return {"(" + a.text + ") | (" + b.text + ")", [=](const Pair &p) { return a.live(p) || b.live(p); }};
  }
  Oracle perHead(int depth) {
    Oracle a = pattern(depth - 1), b = pattern(depth - 1);
    return {"per_head([" + a.text + ", " + b.text + "])",
            [=](const Pair &p) { return p.h % 2 == 0 ? a.live(p) : b.live(p); }};
  }
  Oracle remap(int depth) {
    Oracle a = pattern(depth - 1), b = pattern(depth - 1);
    int64_t n = upTo(1, 4), w = upTo(1, 4), c = upTo(-3, 3);
    return {"remap(affine_map<(x) -> ((x floordiv " + str(n) + ") mod " + str(w) + ", 2 * x + " + str(c) + ")>, " +
                a.text + ", " + b.text + ")",
            [=](const Pair &p) {
              return a.live(at(p, remainderOf(quotientDown(p.i, n), w), remainderOf(quotientDown(p.j, n), w))) &&
                     b.live(at(p, 2 * p.i + c, 2 * p.j + c));
            }};
  }

  std::mt19937 random;
};

} // namespace heddle::test

#endif // HEDDLE_TEST_UNIT_PATTERNORACLE_H
