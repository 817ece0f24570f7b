//===- RandomPattern.h - Random pattern expressions for tests -------------===//
//
// Closed-form patterns with small parameters, so that a small window of pairs
// shows their whole structure.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TEST_UNIT_RANDOMPATTERN_H
#define HEDDLE_TEST_UNIT_RANDOMPATTERN_H

#include "dialect/Pattern.h"

#include <random>
#include <sstream>

namespace heddle::test {

/// Writes random patterns as text.
class RandomPattern {
public:
  explicit RandomPattern(unsigned seed) : random(seed) {}

  std::string text(int depth) {
    if (depth == 0 || upTo(0, 5) == 0) {
      return leaf();
    }
    switch (upTo(0, 10)) {
    case 0:
    case 1:
    case 2:
      return "(" + text(depth - 1) + " & " + text(depth - 1) + ")";
    case 3:
    case 4:
    case 5:
      return "(" + text(depth - 1) + " | " + text(depth - 1) + ")";
    case 6:
      return "(" + text(depth - 1) + " - " + text(depth - 1) + ")";
    case 7:
      return "~" + text(depth - 1);
    case 8:
      return "coarse(" + number(2, 4) + ", " + text(depth - 1) + ")";
    case 9:
      return "shift(" + number(-5, 5) + ", " + text(depth - 1) + ")";
    default:
      return "grid(" + number(3, 6) + ", " + text(depth - 1) + ", " + text(depth - 1) + ")";
    }
  }

  /// A number in [lo, hi].
  int64_t upTo(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); }

private:
  std::mt19937 random;

  std::string number(int64_t lo, int64_t hi) { return std::to_string(upTo(lo, hi)); }

  std::string residues(const char *name) {
    const int64_t n = upTo(3, 8), lo = upTo(0, n - 1);
    std::ostringstream s;
    s << name << "(" << n << ", " << lo << ", " << upTo(lo + 1, n) << ")";
    return s.str();
  }

  std::string range(const char *name) {
    const int64_t lo = upTo(-6, 14);
    std::ostringstream s;
    s << name << "([" << lo << " to " << lo + upTo(1, 9);
    if (upTo(0, 2) == 0) {
      s << ", " << lo + upTo(10, 14);
    }
    s << "])";
    return s.str();
  }

  std::string offsets() {
    std::string s = "offsets([" + number(-6, 16);
    for (int64_t k = upTo(0, 3); k > 0; --k) {
      s += ", " + number(-6, 16);
    }
    return s + "])";
  }

  std::string leaf() {
    switch (upTo(0, 14)) {
    case 0:
      return "causal";
    case 1:
      return "causal(" + number(-3, 6) + ")";
    case 2:
    case 3:
      return "window(" + number(0, 9) + ", " + number(0, 9) + ")";
    case 4:
      return "window(" + number(0, 4) + ", " + number(0, 4) + ", dilation = " + number(2, 5) + ")";
    case 5: {
      const int64_t n = upTo(2, 8);
      return "stride(" + std::to_string(n) + ", phase = " + number(0, n - 1) + ")";
    }
    case 6:
    case 7:
      return "block(" + number(2, 9) + ")";
    case 8:
      return range("keys");
    case 9:
      return range("queries");
    case 10:
      return residues("key_mod");
    case 11:
      return residues("query_mod");
    case 12:
      return "past_blocks(" + number(1, 5) + ")";
    case 13:
      return upTo(0, 1) == 0
                 ? "parent(" + number(1, 5) + ")"
                 : "neighborhood(" + number(1, 5) + ", " + number(8, 24) + ", stride = " + number(1, 1) + ")";
    default:
      return offsets();
    }
  }
};

inline Pattern parsed(const std::string &text) {
  auto result = parsePattern(text);
  if (auto *error = std::get_if<PatternError>(&result)) {
    throw std::runtime_error(text + ": " + error->message);
  }
  return std::get<Pattern>(result);
}

} // namespace heddle::test

#endif // HEDDLE_TEST_UNIT_RANDOMPATTERN_H
