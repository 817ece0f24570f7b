//===- StratumCostTest.cpp - Counts of explain against the definition -----===//
//
// What explain says of a pattern must be what the definition says: live pairs
// are counted exactly, every live pair lies in a tile that is executed, and a
// pair that is called unmasked is live.
//
//===----------------------------------------------------------------------===//
#include "passes/StratumCost.h"
#include "RandomPattern.h"
#include "passes/BuildStrata.h"

#include <gtest/gtest.h>

using namespace heddle;
using namespace heddle::test;

namespace {

struct Rows {
  int64_t rows, keys, qOffset, kOffset;
};

ExprEnv environment(const Rows &r) {
  ExprEnv env;
  env.qOffset = r.qOffset;
  env.kOffset = r.kOffset;
  env.nq = r.qOffset + r.rows;
  env.nk = r.kOffset + r.keys;
  return env;
}

void expectCountsOf(const std::string &text, const Rows &r) {
  SCOPED_TRACE(text + " on " + std::to_string(r.rows) + " x " + std::to_string(r.keys) + " from (" +
               std::to_string(r.qOffset) + ", " + std::to_string(r.kOffset) + ")");
  Pattern p = parsed(text);
  std::vector<int> live(static_cast<size_t>(r.rows * r.keys)), executed = live, unmasked = live;
  int64_t expected = 0;
  ExprEnv env = environment(r);
  for (int64_t i = 0; i < r.rows; ++i) {
    for (int64_t j = 0; j < r.keys; ++j) {
      env.i = r.qOffset + i;
      env.j = r.kOffset + j;
      live[static_cast<size_t>(i * r.keys + j)] = p.contains(env);
      expected += p.contains(env);
    }
  }
  double counted = 0, inTiles = 0;
  for (const Stratum &s : buildStrata(p, 0)) {
    if (!isLiveForHead(s, 0)) {
      continue;
    }
    StratumCost cost = costOf(s, environment(r), r.rows, r.keys, 96);
    EXPECT_TRUE(cost.exact);
    counted += cost.live;
    inTiles += cost.executed;
    EXPECT_LE(cost.unmasked, cost.executed);
    EXPECT_LE(cost.unmasked, cost.live);
    EXPECT_GE(cost.scored, cost.live);
    EXPECT_GE(cost.weighted, cost.live);
    EXPECT_LE(cost.masked, cost.weighted);
    forEachExecutedPair(s, environment(r), r.rows, r.keys, 16, [&](int64_t i, int64_t j, bool masked) {
      ASSERT_TRUE(i >= r.qOffset && i < r.qOffset + r.rows && j >= r.kOffset && j < r.kOffset + r.keys)
          << i << ", " << j;
      auto at = static_cast<size_t>((i - r.qOffset) * r.keys + j - r.kOffset);
      (masked ? executed : unmasked)[at] = 1;
    });
  }
  EXPECT_EQ(counted, static_cast<double>(expected));
  EXPECT_GE(inTiles, counted);
  for (size_t at = 0; at < live.size(); ++at) {
    ASSERT_GE(executed[at], live[at]) << "a live pair that no tile executes: row " << at / static_cast<size_t>(r.keys)
                                      << ", key " << at % static_cast<size_t>(r.keys);
    ASSERT_LE(unmasked[at], live[at]) << "a dead pair without a mask";
  }
}

constexpr Rows kShapes[] = {{100, 100, 0, 0}, {17, 90, 73, 0}, {70, 41, -20, 11}, {1, 200, 199, 0}};

TEST(StratumCost, ColumnsHaveTheirOwnKeys) {
  auto counted = [](const char *text) {
    std::vector<Stratum> strata = buildStrata(parsed(text), 0);
    return costOf(strata.at(0), environment({960, 960, 0, 0}), 960, 960, 96);
  };
  EXPECT_EQ(counted("full").scored, 960.0 * 960);
  EXPECT_EQ(counted("full").masked, 0);
  // 16 lanes of a window of 48 need 63 keys, and up to five more of the groups at the ends; 64 lanes would need 111.
  EXPECT_LE(counted("window(47, 0)").scored, 960.0 * 68);
  EXPECT_EQ(counted("causal").queryTiles, 15);
}

TEST(StratumCost, NamedPatterns) {
  for (const char *text : {"full", "causal", "window(5, 3)", "stride(7)", "causal & (window(7, 0) | stride(8))",
                           "window(4, 4, 3)", "block(16)", "keys([0 to 4, 9])", "queries([3])", "coarse(8, causal(1))",
                           "grid(10, window(2, 2), window(1, 1))", "key_mod(8, 2, 5)", "parent(4)", "past_blocks(4)",
                           "neighborhood(7, 100)", "offsets([0, 1, 2, 4, 8])", "causal - window(3, 0)",
                           "query_mod(5, 0, 4) & key_mod(7, 1, 3)"}) {
    for (const Rows &r : kShapes) {
      expectCountsOf(text, r);
    }
  }
}

TEST(StratumCost, KeysOfATable) {
  const std::string list = "offsets([-40, -31, -9, -2, 0, 1, 3, 8, 15, 21, 22, 34, 47, 58, 59, 60, 77, 90, 95, 111, "
                           "130, 141, 152, 167, 180])";
  for (const std::string &text : {list, "causal & " + list, list + " & holds(b, h, i, j : (i * j) mod 3 < 2)",
                                  std::string("grid(12, offsets([0, 1, 3, -2, -4]), offsets([0, 2, -3, 5, 6]))")}) {
    for (const Rows &r : kShapes) {
      expectCountsOf(text, r);
      const Pattern p = parsed(text);
      std::vector<Stratum> strata = buildStrata(p, 0);
      ASSERT_EQ(strata.size(), 1U) << text;
      strata[0].byRow = true;
      ExprEnv env = environment(r);
      int64_t visited = 0;
      forEachExecutedPair(strata[0], env, r.rows, r.keys, 16, [&](int64_t i, int64_t j, bool) {
        env.i = i;
        env.j = j;
        EXPECT_TRUE(p.contains(env)) << text << ": " << i << ", " << j;
        ++visited;
      });
      const StratumCost cost = costOf(strata[0], environment(r), r.rows, r.keys, 16);
      EXPECT_EQ(cost.live, static_cast<double>(visited)) << text;
      EXPECT_EQ(cost.executed, cost.live) << text;
    }
  }
}

TEST(StratumCost, RandomPatterns) {
  RandomPattern random(20);
  for (int n = 0; n < 150; ++n) {
    expectCountsOf(random.text(3), kShapes[n % 4]);
  }
}

TEST(StratumCost, NoRowsOrKeys) {
  expectCountsOf("causal", {0, 100, 0, 0});
  expectCountsOf("causal", {100, 0, 0, 0});
}

TEST(StratumCost, ChoicesEndWithTheBlocks) {
  std::vector<Stratum> strata = buildStrata(parsed("random_blocks(8, 65536, 3)"), 0);
  ASSERT_EQ(strata.size(), 1U);
  Expr end = endOfChoices(strata[0]);
  ASSERT_FALSE(end.isNull());
  EXPECT_EQ(evaluateInt(end, environment({300, 290, 0, 10})), 38);
  EXPECT_TRUE(endOfChoices(buildStrata(parsed("causal"), 0)[0]).isNull());
}

TEST(StratumCost, DenseNeedsNoMask) {
  std::vector<Stratum> strata = buildStrata(parsed("full"), 0);
  ASSERT_EQ(strata.size(), 1u);
  StratumCost cost = costOf(strata[0], environment({128, 192, 0, 0}), 128, 192, 96);
  EXPECT_EQ(cost.executed, 128.0 * 192);
  EXPECT_EQ(cost.unmasked, cost.executed);
  EXPECT_EQ(cost.fullTiles, 4);
  EXPECT_EQ(cost.partialTiles, 0);
}

} // namespace
