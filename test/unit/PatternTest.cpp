//===- PatternTest.cpp - Text, meaning, canonical form, rows --------------===//
//
// Random patterns against independent predicates (PatternOracle.h), on windows
// that reach below zero.
//
//===----------------------------------------------------------------------===//
#include "dialect/Pattern.h"
#include "dialect/PatternMeaning.h"
#include "dialect/RowSets.h"
#include "test/unit/PatternOracle.h"

#include <gtest/gtest.h>

using namespace heddle;
using namespace heddle::test;

namespace {

Pattern parsed(const std::string &text) {
  auto r = parsePattern(text);
  if (auto *e = std::get_if<PatternError>(&r)) {
    ADD_FAILURE() << text << "\n" << e->offset << ": " << e->message;
    return Pattern::empty();
  }
  return std::get<Pattern>(r);
}

std::string errorOf(const std::string &text) {
  auto r = parsePattern(text);
  if (auto *e = std::get_if<PatternError>(&r)) {
    return std::to_string(e->offset) + ": " + e->message;
  }
  return "parses";
}

/// The error of a pattern that a user writes, with its place.
std::string problemAt(const std::string &text) {
  auto r = parseVerified(text, {});
  auto *e = std::get_if<PatternError>(&r);
  return e ? std::to_string(e->offset) + ": " + e->message : "verifies";
}

std::string problemOf(const std::string &text) { return parsed(text).verify().value_or("verifies"); }

std::string canonical(const std::string &text) { return canonicalize(parsed(text)).str(); }

constexpr int64_t low = -14, high = 34;

ExprEnv envOf(const Pair &p) {
  ExprEnv env;
  env.i = p.i;
  env.j = p.j;
  env.h = p.h;
  env.nq = p.nq;
  env.nk = p.nk;
  return env;
}

/// The first pair on which the pattern and the oracle differ, or nothing.
std::optional<Pair> firstDifference(const Pattern &p, const Oracle &o, int64_t h) {
  for (int64_t i = low; i < high; ++i) {
    for (int64_t j = low; j < high; ++j) {
      Pair pair{i, j, h, high, high - 2};
      if (p.contains(envOf(pair)) != o.live(pair)) {
        return pair;
      }
    }
  }
  return std::nullopt;
}

std::string show(const std::optional<Pair> &p) {
  return p ? "i = " + std::to_string(p->i) + ", j = " + std::to_string(p->j) : "";
}

} // namespace

TEST(PatternMeaning, PrimitivesAgreeWithDefinitions) {
  OracleGenerator g(1);
  for (int k = 0; k < 1500; ++k) {
    Oracle o = g.primitive();
    std::optional<Pair> d = firstDifference(parsed(o.text), o, 0);
    ASSERT_FALSE(d) << o.text << " at " << show(d);
  }
}

TEST(PatternMeaning, RandomExpressionsAgreeWithDefinitions) {
  OracleGenerator g(2);
  for (int k = 0; k < 1500; ++k) {
    Oracle o = g.pattern(static_cast<int>(g.upTo(1, 5)));
    std::optional<Pair> d = firstDifference(parsed(o.text), o, k % 2);
    ASSERT_FALSE(d) << o.text << " at " << show(d);
  }
}

TEST(PatternText, PrintedTextParsesToTheSameTree) {
  OracleGenerator g(3);
  for (int k = 0; k < 5000; ++k) {
    Pattern p = parsed(g.pattern(5).text);
    ASSERT_FALSE(p.verify()) << p.str() << "\n" << *p.verify();
    ASSERT_TRUE(parsed(p.str()).same(p)) << p.str();
    ASSERT_TRUE(parsed(p.str({}, /*words=*/true)).same(p)) << p.str({}, true);
    ASSERT_EQ(parsed(p.str()).hash(), p.hash());
  }
}

TEST(PatternText, ParenthesesOnlyWhereNeeded) {
  for (const char *text : {"full",
                           "~full",
                           "~~full",
                           "~(full)",
                           "causal & (window(63, 0) | stride(64))",
                           "causal - block(4) - keys([0])",
                           "causal - (block(4) - keys([0]))",
                           "~(causal & block(2))",
                           "causal(3) | ~block(2) & stride(64, phase = 1)",
                           "window(3, inf, dilation = 2)",
                           "window(%0, %1)",
                           "keys([0 to 4, 9, 2 to end, end - 1])",
                           "keys(%2) & queries(%3)",
                           "neighborhood(7, 100, dilation = 2)",
                           "past_blocks(4, inclusive = true)",
                           "coarse(1, 64, same(%0, %1))",
                           "grid(8, window(1, 1), grid(2, full, causal))",
                           "remap(affine_map<(x) -> (x floordiv 8, x mod 8)>, window(1, 1), full)",
                           "affine_set<(i, j)[nq, nk] : ((i - j) >= 0, ((i + nq) mod 4) == 0)>",
                           "per_head([causal, window(1, 1)])",
                           "lengths(%0) & between(%1, %2) & cluster(%3)",
                           "holds(b, h, i, j : ((i >= j) & (%0[b, i] == %0[b, j])))",
                           "holds(b, h, i, j : (exp(float(%0[h])) > 0.5))",
                           "random_blocks(64, 3, 42)",
                           "offsets([0, 1, -2])",
                           "shift(3, packed(%0, %1, causal))",
                           "offsets(%0) | positions(%1, %2, block(4))",
                           "coarse(1, 64, listed(%0)) & csr(%1, %2) & mask(%3) & between_queries(%4, %5)"}) {
    EXPECT_EQ(parsed(text).str(), text);
  }
}

TEST(PatternText, PythonPrecedenceInHolds) {
  auto text = [](const char *condition) { return parsed(std::string("holds(b, h, i, j : ") + condition + ")").str(); };
  EXPECT_EQ(text("i - j * 2 + 1 < 4 or not i == j and h > 0"),
            "holds(b, h, i, j : ((((i - (j * 2)) + 1) < 4) | ((~(i == j)) & (h > 0))))");
  EXPECT_EQ(text("0 <= i - j < 5"), "holds(b, h, i, j : ((0 <= (i - j)) & ((i - j) < 5)))");
  EXPECT_EQ(text("i & 7 == 3"), "holds(b, h, i, j : ((i & 7) == 3))");
  EXPECT_EQ(text("i // 8 % 3 == -j >> 1"), "holds(b, h, i, j : (((i floordiv 8) mod 3) == ((-j) >> 1)))");
  EXPECT_EQ(text("1 + 2 * 3 == 7"), "holds(b, h, i, j : true)");
}

TEST(PatternText, Errors) {
  EXPECT_EQ(errorOf(""), "0: expected a pattern, but got the end of the text");
  EXPECT_EQ(errorOf("caussal"), "0: expected a pattern, but got 'caussal'; did you mean 'causal'?");
  EXPECT_EQ(errorOf("causal & "), "9: expected a pattern, but got the end of the text");
  EXPECT_EQ(errorOf("window(3)"), "8: expected 'right' of 'window', but got ')'");
  EXPECT_EQ(errorOf("window(3, 3, 1, 2)"), "16: expected at most 3 parameters of 'window', but got more");
  EXPECT_EQ(errorOf("stride(4, phaze = 1)"), "10: expected a parameter of 'stride', but got 'phaze'");
  EXPECT_EQ(errorOf("block(99999999999999999999)"), "6: expected an integer of 64 bits, but got a larger one");
  EXPECT_EQ(errorOf("keys(%x)"), "5: expected the name of an operand, but got '%x'");
  EXPECT_EQ(errorOf("offsets([0 to 5000])"),
            "9: expected a range of at most 4096 literal offsets (see 'window'), but got another one");
  EXPECT_EQ(errorOf("keys([%0])"),
            "8: expected 'to' after a run-time integer (one position is 'holds(b, h, i, j : j == %n)'), but got ']'");
  EXPECT_EQ(errorOf("keys([inf])"), "9: expected 'to' after 'inf' or the largest integer, but got ']'");
  EXPECT_EQ(errorOf("window(left = 1, 2)"), "17: expected a named parameter, but got '2'");
  EXPECT_EQ(errorOf("affine_set<(i, j)[i] : (i >= 0)>"), "17: expected distinct names, but got 'i' twice");
  EXPECT_EQ(errorOf("affine_set<(i, j) : (i / 2 >= 0)>"), "23: expected an affine operator, but got '/'");
  EXPECT_EQ(errorOf("remap(affine_map<(x) -> (y)>, full)"), "25: expected a dimension or a symbol, but got 'y'");
  EXPECT_EQ(errorOf("holds(b, h, i, j : size(3, 1) > 2)"),
            "19: expected an operand without indices as the first argument of 'size', but got 3");
  EXPECT_EQ(errorOf("holds(b, h, i, j : float(3) > 2)"), "25: expected a load from an operand, but got '3'");
  EXPECT_EQ(errorOf("holds(b, h, i, j : %0[i * 0.5] > 2)"),
            "22: expected an integer index, but got a floating-point value");
  EXPECT_EQ(errorOf("holds(b, h, b, j : i > 1)"), "12: expected distinct names, but got 'b' twice");
  EXPECT_EQ(errorOf("same(1, 2)"), "5: expected a run-time operand such as %x, but got '1'");
  EXPECT_EQ(errorOf("window(1.5, 0)"), "7: expected an integer, but got '1.5'");
  EXPECT_EQ(errorOf("block(4k)"), "6: expected an integer, but got '4k'");
  EXPECT_EQ(errorOf("causal(1, 2)"), "10: expected at most 1 parameter of 'causal', but got more");
  EXPECT_EQ(errorOf("~not causal"), "1: expected a pattern, but got 'not'; did you mean '~'?");
  EXPECT_EQ(errorOf("causal)"), "6: expected the end of the text, but got ')'");
  EXPECT_EQ(errorOf("affine_set<(i, j) : (i * j >= 0)>"),
            "23: expected a product with a constant, but got a product of two variables");
  EXPECT_EQ(errorOf("holds(b, h, i, j : i + 0.5)"), "19: expected a condition, but got a floating-point value");
  EXPECT_EQ(errorOf("holds(b, h, i, j : i + k)").substr(0, 4), "23: ");
  EXPECT_EQ(errorOf("holds(b, h, i, j : i >= j && j > 3)"), "26: expected 'and' between conditions, but got '&&'");
  EXPECT_EQ(errorOf("holds(b, h, i, j : i >= j || j > 3)"), "26: expected 'or' between conditions, but got '||'");
  EXPECT_EQ(errorOf("holds(b, h, i, j : !(i > j))"), "19: expected 'not' in front of a condition, but got '!'");
  // Python's precedence, which is rarely what is meant here.
  EXPECT_EQ(errorOf("holds(b, h, i, j : i >= j & i - j < 8)"),
            "26: expected 'and', 'or' or parentheses between two comparisons, but got '&', which binds tighter than "
            "they do");
  EXPECT_EQ(errorOf("holds(b, h, i, j : 0 <= (i & 7) < 4)"), "parses");
  EXPECT_EQ(errorOf("holds(b, h, i, j : i & 7 == j & 7)"), "parses");
  EXPECT_EQ(errorOf("holds(b, h, i, j : 0 < max(i & 7, j) < 4)"), "parses");
  EXPECT_NE(errorOf(std::string(100000, '(')).find("nesting"), std::string::npos);
  EXPECT_NE(errorOf(std::string(100000, '~')).find("nesting"), std::string::npos);
  EXPECT_NE(errorOf("holds(b, h, i, j : " + std::string(100000, '-')).find("nesting"), std::string::npos);
}

TEST(PatternText, LongChainsDoNotNest) {
  std::string text = "causal", sum = "i";
  for (int k = 0; k < 20000; ++k) {
    text += " | causal";
    sum += " + i";
  }
  EXPECT_EQ(parsed(text)->children.size(), 20001u);
  EXPECT_NE(errorOf("holds(b, h, i, j : " + sum + " < 3)").find("at most 600"), std::string::npos);
}

TEST(PatternVerify, Problems) {
  EXPECT_EQ(problemOf("window(-1, 3)"), "expected a left count of at least 0 in 'window', but got -1");
  EXPECT_EQ(problemOf("block(0)"), "expected a positive constant as the block in 'block', but got 0");
  EXPECT_EQ(problemOf("block(%0)"), "expected a positive constant as the block in 'block', but got a run-time integer");
  EXPECT_EQ(problemOf("stride(4, phase = 4)"), "expected a phase in [0, 4) in 'stride', but got 4");
  EXPECT_EQ(problemOf("key_mod(4, 1, 9)"), "expected 0 <= lo < hi <= n in 'key_mod', but got lo = 1, hi = 9, n = 4");
  EXPECT_EQ(problemOf("keys([3 to 1])"),
            "expected a range that does not end before it starts in 'keys', but got 3 to 1");
  EXPECT_EQ(problemOf("neighborhood(7, 12, dilation = 2)"),
            "expected size * dilation of at most the extent 12 in 'neighborhood', but got 7 * 2");
  EXPECT_EQ(problemOf("causal & mask(%0) & coarse(4, listed(%1))"), "verifies");
  EXPECT_EQ(problemOf("causal(9223372036854775807)"),
            "expected integers of at most 2^62 in 'causal', but got 9223372036854775807");
  EXPECT_EQ(problemOf("window(inf, %0) & keys(%1)"), "verifies");
  // Of a pattern that users write, the primitive is found that breaks its constraint.
  EXPECT_EQ(problemAt("causal & (full | key_mod(4, 0, 5))"),
            "17: expected 0 <= lo < hi <= n in 'key_mod', but got lo = 0, hi = 5, n = 4");
  EXPECT_EQ(problemAt("grid(8, causal, coarse(0, full)) - full"),
            "16: expected a positive constant as the block in 'coarse', but got 0");
  EXPECT_EQ(problemAt("keys([4 to end]) & offsets([inf])"),
            "19: expected 'inf' only as the bound of a window or of a range in 'offsets', but got it elsewhere");
  EXPECT_EQ(problemAt("full - causal(end)"),
            "7: expected 'end' only in lists of positions in 'causal', but got it elsewhere");
  EXPECT_EQ(problemAt("neighborhood(3, 8, causal = 2)"),
            "0: expected true or false as 'causal' in 'neighborhood', but got 2");
  EXPECT_EQ(problemAt("causal & coarse(4, listed(%1))"), "verifies");
}

TEST(PatternQueries, Dependence) {
  EXPECT_TRUE(parsed("keys([0]) | causal").dependsOnQuery());
  EXPECT_FALSE(parsed("keys([0]) & same(%0, %1)").dependsOnQuery());
  EXPECT_FALSE(parsed("holds(b, h, i, j : j < 3)").dependsOnQuery());
  Pattern p = parsed("window(%3, 0) & keys(%1) & holds(b, h, i, j : %5[b, %2] > i)");
  EXPECT_EQ(p.tensorOperands(), (std::vector<int64_t>{1, 5}));
  EXPECT_EQ(p.scalarOperands(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(p.renumber([](int64_t n) { return n + 10; }).str(),
            "window(%13, 0) & keys(%11) & holds(b, h, i, j : (%15[b, %12] > i))");
  EXPECT_EQ(p.withLoadTypes([](int64_t) { return ExprType::Float; }).str(),
            "window(%3, 0) & keys(%1) & holds(b, h, i, j : (float(%5[b, %2]) > i))");
}

TEST(PatternMeaning, RunTimeOperands) {
  ExprEnv env;
  std::vector<double> ids = {0, 0, -1, 1, 1, 1};
  env.load = [&](int64_t operand, const std::vector<int64_t> &at) {
    auto row = static_cast<size_t>(at.back());
    switch (operand) {
    case 0:
      return ids[row];
    case 1:
      return 4.0; // length
    default:
      return static_cast<double>(row) + (operand == 2 ? -1 : 2); // between
    }
  };
  env.scalar = [](int64_t) { return int64_t{2}; };
  Pattern same = parsed("cluster(%0)"), lengths = parsed("lengths(%1)");
  Pattern between = parsed("between(%2, %3)"), window = parsed("window(%4, 0)");
  Pattern shifted = parsed("shift(1, cluster(%0))");
  env.qOffset = 10;
  env.kOffset = 20;
  for (int64_t r = 0; r < 6; ++r) {
    for (int64_t c = 0; c < 6; ++c) {
      env.i = r + 10;
      env.j = c + 20;
      auto q = static_cast<size_t>(r), k = static_cast<size_t>(c);
      EXPECT_EQ(same.contains(env), ids[q] >= 0 && ids[q] == ids[k]);
      EXPECT_EQ(lengths.contains(env), c < 4);
      EXPECT_EQ(between.contains(env), c >= r - 1 && c < r + 2);
      EXPECT_FALSE(window.contains(env)); // Positions: keys lie 10 ahead.
      if (r > 0 && c > 0) {
        EXPECT_EQ(shifted.contains(env), ids[q - 1] >= 0 && ids[q - 1] == ids[k - 1]);
      }
    }
  }
}

TEST(PatternMeaning, RandomBlocksAreDistinctAndSpread) {
  Pattern p = parsed("random_blocks(4, 3, 7)");
  std::set<std::vector<int64_t>> rows;
  for (int64_t block = -3; block < 30; ++block) {
    std::vector<int64_t> keys;
    for (int64_t j = -8; j < 100; ++j) {
      ExprEnv env;
      env.i = block * 4 + 1;
      env.j = j;
      env.nk = 90; // 23 blocks, the last one of 2 keys
      if (p.contains(env)) {
        EXPECT_GE(j, 0);
        if (j % 4 == 0) {
          keys.push_back(j / 4);
        }
      }
    }
    EXPECT_EQ(keys.size(), 3u);
    EXPECT_LT(keys.back(), 23);
    rows.insert(keys);
  }
  EXPECT_GT(rows.size(), 25u);
}

TEST(PatternMeaning, RandomBlocksOneByOne) {
  for (int64_t perRow : {0, 1, 3, 8, 40}) {
    for (int64_t blocks : {0, 1, 5, 23}) {
      const int64_t count = std::min(perRow, blocks), first = blocks - count;
      for (int64_t u = -3; u < 12; ++u) {
        std::vector<int64_t> row = randomBlocksOfRow(u, blocks, perRow, 7), taken, tested;
        for (int64_t t = first; t < blocks; ++t) {
          taken.push_back(randomBlockOfDraw(7, u, first, t));
        }
        std::sort(taken.begin(), taken.end());
        EXPECT_EQ(taken, row);
        for (int64_t block = -2; block < blocks + 2; ++block) {
          if (isRandomBlock(7, u, first, blocks, block)) {
            tested.push_back(block);
          }
        }
        EXPECT_EQ(tested, row);
      }
    }
  }
}

TEST(Canonicalize, EqualSpellings) {
  const std::pair<const char *, const char *> spellings[] = {
      {"window(63, 0)", "causal & window(63, 63)"},
      {"window(63, 0)", "holds(b, h, i, j : (i >= j) & (i - j < 64))"},
      {"window(64, 0)", "affine_set<(i, j)[nq, nk] : (i - j >= 0, j - i + 64 >= 0)>"},
      {"window(3, 3)", "holds(b, h, i, j : abs(i - j) <= 3)"},
      {"window(3, 3, dilation = 2)", "window(6, 6) & stride(2)"},
      {"stride(8)", "holds(b, h, i, j : (i - j) % 8 == 0)"},
      {"stride(8)", "holds(b, h, i, j : i % 8 == j % 8)"},
      {"stride(8)", "holds(b, h, i, j : (i & 7) == (j & 7))"},
      {"stride(12)", "stride(6) & stride(4)"},
      {"full", "stride(2) | stride(2, phase = 1)"},
      {"~full", "causal & ~causal"},
      {"block(64)", "holds(b, h, i, j : i // 64 == j // 64)"},
      {"block(64)", "coarse(64, causal) & ~coarse(64, causal(1))"},
      {"coarse(64, window(1, 1))", "holds(b, h, i, j : abs(i // 64 - j // 64) <= 1)"},
      {"coarse(8, causal)", "coarse(2, coarse(4, causal))"},
      {"parent(16)", "holds(b, h, i, j : i == j // 16)"},
      {"past_blocks(64)", "holds(b, h, i, j : (j + 1) * 64 <= i)"},
      {"grid(8, window(1, 1), window(1, 1))",
       "holds(b, h, i, j : (abs(i // 8 - j // 8) <= 1) & (abs(i % 8 - j % 8) <= 1))"},
      {"grid(8, causal, stride(2))", "remap(affine_map<(x) -> (x floordiv 8, x mod 8)>, causal, stride(2))"},
      {"keys([0 to 8, 20])", "keys([20]) | keys([4 to 8]) | keys([0 to 4])"},
      {"keys([3])", "shift(3, keys([0]))"},
      {"~keys([4 to inf]) | window(9, 0)", "holds(b, h, i, j : (j < 4) | ((i >= j) & (i - j < 10)))"},
      {"key_mod(4, 1, 3)", "holds(b, h, i, j : (j % 4 == 1) | (j % 4 == 2))"},
      {"queries([2 to 5])", "holds(b, h, i, j : min(max(i, 2), 4) == i)"},
      {"queries([0])", "holds(b, h, i, j : select(i, 0, 1) == 1)"},
      {"causal", "per_head([causal, window(inf, 0)])"},
      {"causal & same(%0, %0)", "cluster(%0) & causal & causal"},
  };
  for (const auto &[a, b] : spellings) {
    EXPECT_EQ(canonical(a), canonical(b)) << a << "\n" << b;
  }
  EXPECT_EQ(canonical("causal & window(63, 63)"), "window(63, 0)");
  EXPECT_EQ(canonical("causal & (window(63, 0) | stride(64))"), "causal(64) & stride(64) | window(63, 0)");
  EXPECT_EQ(canonical("holds(b, h, i, j : (i >= j) & (%0[b, i] == %0[b, j]))"),
            "causal & holds(b, h, i, j : (%0[b, i] == %0[b, j]))");
}

TEST(Canonicalize, KeepsMembershipAndIsStable) {
  OracleGenerator g(4);
  for (int k = 0; k < 2500; ++k) {
    Oracle o = g.pattern(static_cast<int>(g.upTo(0, 4)));
    Pattern c = canonicalize(parsed(o.text));
    ASSERT_FALSE(c.verify()) << o.text << "\n" << c.str() << "\n" << *c.verify();
    std::optional<Pair> d = firstDifference(c, o, k % 2);
    ASSERT_FALSE(d) << o.text << "\n" << c.str() << "\nat " << show(d);
    ASSERT_TRUE(parsed(c.str()).same(c)) << c.str();
    ASSERT_EQ(canonicalize(c).str(), c.str()) << o.text;
  }
}

TEST(Canonicalize, ConditionsKeepMembership) {
  OracleGenerator g(5);
  for (int k = 0; k < 4000; ++k) {
    Oracle o = g.condition();
    Pattern c = canonicalize(parsed(o.text));
    std::optional<Pair> d = firstDifference(c, o, 0);
    ASSERT_FALSE(d) << o.text << "\n" << c.str() << "\nat " << show(d);
  }
}

TEST(Canonicalize, OneDimensionalSetsAreExact) {
  OracleGenerator g(6);
  int found = 0;
  for (int k = 0; k < 3000; ++k) {
    Oracle o = g.pattern(static_cast<int>(g.upTo(0, 3)));
    Pattern p = parsed(o.text);
    std::optional<PeriodicSet> diffs = diffSet(p), keys = keySet(p), queries = querySet(p);
    found += diffs.has_value() + keys.has_value() + queries.has_value();
    for (int64_t i = low; i < high; ++i) {
      for (int64_t j = low; j < high; ++j) {
        Pair pair{i, j, k % 2, high, high - 2};
        bool live = o.live(pair);
        ASSERT_TRUE(!diffs || diffs->contains(i - j) == live) << o.text;
        ASSERT_TRUE(!keys || keys->contains(j) == live) << o.text;
        ASSERT_TRUE(!queries || queries->contains(i) == live) << o.text;
      }
    }
  }
  EXPECT_GT(found, 1000);
}

TEST(RowSets, AgreeWithDefinitions) {
  OracleGenerator g(7);
  for (int k = 0; k < 1500; ++k) {
    Oracle o = g.pattern(static_cast<int>(g.upTo(0, 5)));
    RowShape shape;
    shape.nq = g.upTo(0, 24);
    shape.nk = g.upTo(0, 24);
    shape.qOffset = g.upTo(-6, 12);
    shape.kOffset = g.upTo(-6, 12);
    shape.h = k % 2;
    RowSets rows(parsed(o.text), shape);
    std::vector<uint8_t> mask = rows.mask();
    int64_t live = 0;
    for (int64_t r = 0; r < shape.nq; ++r) {
      for (int64_t c = 0; c < shape.nk; ++c) {
        Pair pair{r + shape.qOffset, c + shape.kOffset, shape.h, shape.nq + shape.qOffset, shape.nk + shape.kOffset};
        bool expected = o.live(pair);
        live += expected;
        ASSERT_EQ(mask[static_cast<size_t>(r * shape.nk + c)] != 0, expected)
            << o.text << " at row " << r << ", key row " << c;
      }
    }
    ASSERT_EQ(rows.count(), live) << o.text;
    int64_t bq = g.upTo(1, 9), bk = g.upTo(1, 9);
    std::vector<TileClass> tiles = rows.tiles(bq, bk);
    size_t tile = 0;
    for (int64_t r = 0; shape.nk > 0 && r < shape.nq; r += bq) {
      for (int64_t c = 0; c < shape.nk; c += bk, ++tile) {
        int64_t in = 0, all = 0;
        for (int64_t y = r; y < std::min(r + bq, shape.nq); ++y) {
          for (int64_t x = c; x < std::min(c + bk, shape.nk); ++x, ++all) {
            in += mask[static_cast<size_t>(y * shape.nk + x)];
          }
        }
        ASSERT_EQ(tiles[tile], in == 0 ? TileClass::Empty : in == all ? TileClass::Full : TileClass::Partial) << o.text;
      }
    }
    ASSERT_EQ(tile, tiles.size());
  }
}

TEST(RowSets, RunTimeOperandsAgreeWithMembership) {
  RowShape shape;
  shape.nq = 20;
  shape.nk = 17;
  shape.qOffset = 3;
  shape.scalar = [](int64_t n) { return n == 9 ? int64_t{4} : int64_t{1}; };
  shape.load = [](int64_t operand, const std::vector<int64_t> &at) {
    int64_t row = at.back();
    return operand == 4 ? 11.0 : static_cast<double>((row * 7 + operand) % 5 - 1);
  };
  for (int64_t kOffset : {0, 5}) {
    shape.kOffset = kOffset;
    for (const char *text : {"window(%9, 1)", "window(%9, %8, dilation = 2)", "causal(%9)", "stride(5, phase = %9)",
                             "keys(%0) & causal(-20)", "queries(%1) | keys([%9 to end - 8])", "global_tokens(%2)",
                             "lengths(%4) - cluster(%1)", "between(%0, %4)", "coarse(2, cluster(%1))",
                             "coarse(1, 4, keys(%1))", "grid(3, keys(%0), same(%1, %2))", "shift(%8, between(%0, %4))",
                             "per_head([lengths(%4), full]) & key_mod(6, 1, %9)", "offsets([%9, 0])",
                             "holds(b, h, i, j : (%3[b, i] > %3[b, j]) | (krow < %9))"}) {
      Pattern p = parsed(text);
      ASSERT_FALSE(p.verify()) << *p.verify();
      std::vector<uint8_t> bits = mask(p, shape);
      int64_t live = 0;
      for (int64_t r = 0; r < shape.nq; ++r) {
        for (int64_t c = 0; c < shape.nk; ++c) {
          ExprEnv env;
          env.i = r + shape.qOffset;
          env.j = c + shape.kOffset;
          env.qOffset = shape.qOffset;
          env.kOffset = shape.kOffset;
          env.nq = shape.nq + shape.qOffset;
          env.nk = shape.nk + shape.kOffset;
          env.scalar = shape.scalar;
          env.load = shape.load;
          ASSERT_EQ(bits[static_cast<size_t>(r * shape.nk + c)] != 0, p.contains(env))
              << text << " at row " << r << ", key row " << c;
          live += p.contains(env);
        }
      }
      ASSERT_EQ(count(p, shape), live) << text;
    }
  }
}

TEST(RowSets, LongSequencesNeedNoMask) {
  RowShape shape;
  shape.nq = shape.nk = 100000;
  int64_t n = shape.nq;
  EXPECT_EQ(count(parsed("causal"), shape), n * (n + 1) / 2);
  EXPECT_EQ(count(parsed("window(63, 0)"), shape), 64 * n - 63 * 64 / 2);
  // Row i of the strided pattern: keys i, i - 64, ... beside the window of 64.
  int64_t strided = 0;
  for (int64_t i = 0; i < n; ++i) {
    strided += std::min<int64_t>(i + 1, 64) + i / 64;
  }
  EXPECT_EQ(count(parsed("causal & (window(63, 0) | stride(64))"), shape), strided);
  RowSets rows(parsed("window(127, 0)"), shape);
  std::vector<TileClass> tiles = rows.tiles(64, 64);
  auto across = static_cast<size_t>((n + 63) / 64);
  EXPECT_EQ(tiles[5 * across + 4], TileClass::Full);
  EXPECT_EQ(tiles[5 * across + 5], TileClass::Partial);
  EXPECT_EQ(tiles[5 * across + 3], TileClass::Partial);
  EXPECT_EQ(tiles[5 * across + 2], TileClass::Empty);
}
