//===- StrataTest.cpp - Strata against the definition ---------------------===//
//
// Every pair of a window, negatives included: in the pattern iff in exactly one
// stratum. The structure of the important strata is stated as well.
//
//===----------------------------------------------------------------------===//
#include "RandomPattern.h"
#include "dialect/KeyTable.h"
#include "passes/BuildStrata.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <stdexcept>

using namespace heddle;
using namespace heddle::test;

namespace {

struct Window {
  int64_t lo = -30, hi = 60;
};

ExprEnv pairAt(int64_t i, int64_t j) {
  ExprEnv env;
  env.i = i;
  env.j = j;
  env.nq = 50;
  env.nk = 40;
  return env;
}

/// The first pair that is not covered exactly once, or empty.
std::string firstMistake(const Pattern &p, const std::vector<Stratum> &strata, Window w = {}, int64_t heads = 1) {
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = w.lo; i < w.hi; ++i) {
      for (int64_t j = w.lo; j < w.hi; ++j) {
        ExprEnv env = pairAt(i, j);
        env.h = h;
        int count = 0;
        for (const Stratum &s : strata) {
          count += contains(s, env);
        }
        if (count != static_cast<int>(p.contains(env))) {
          return "head " + std::to_string(h) + ", pair (" + std::to_string(i) + ", " + std::to_string(j) + ") in " +
                 std::to_string(count) + " strata";
        }
      }
    }
  }
  return "";
}

std::string textOf(const std::vector<Stratum> &strata) {
  Schedule s;
  s.strata = strata;
  return str(s);
}

/// Every tile box takes each query once, has at most 64 lanes, and one phase.
std::string firstTileMistake(const Stratum &s) {
  int64_t lanes = 1, period = 1;
  for (size_t k = 0; k < s.query.size(); ++k) {
    const QueryDigit &d = s.query[k];
    lanes *= d.tile;
    if ((d.extent == 0) != (k == 0)) {
      return "extent of digit " + std::to_string(k);
    }
    if (k > 0 && d.extent * d.radix != s.query[k - 1].radix) {
      return "digits do not meet";
    }
    if (d.tile < 1) {
      return "empty tile";
    }
  }
  if (s.query.back().radix != 1 || lanes > 64) {
    return "radix or lanes";
  }
  period = s.query[0].radix * s.query[0].tile;
  // Queries of the tile that starts at leading value 3 * tile and (by period) all alike.
  for (int64_t i = 3 * period; i < 4 * period; ++i) {
    int64_t rest = i, first = 0;
    for (const QueryDigit &d : s.query) {
      const int64_t value = rest / d.radix;
      rest %= d.radix;
      first += value / d.tile * d.tile * d.radix;
    }
    for (const KeyDigit &d : s.key) {
      if (!d.phase.isNull() && evaluateInt(d.phase, pairAt(i, 0)) != evaluateInt(d.phase, pairAt(first, 0))) {
        return "phase of query " + std::to_string(i);
      }
    }
  }
  return "";
}

bool isMasked(const std::vector<Stratum> &strata) {
  for (const Stratum &s : strata) {
    if (!s.residual.isNull()) {
      return true;
    }
  }
  return false;
}

class Named : public testing::TestWithParam<const char *> {};

TEST_P(Named, CoversEveryPairOnceWithoutMasks) {
  Pattern p = parsed(GetParam());
  std::vector<Stratum> strata = buildStrata(p, 0);
  const bool perHead = std::string(GetParam()).find("per_head") != std::string::npos;
  EXPECT_EQ(firstMistake(p, strata, {}, perHead ? 4 : 1), "") << textOf(strata);
  EXPECT_FALSE(isMasked(strata)) << textOf(strata);
  for (const Stratum &s : strata) {
    EXPECT_EQ(firstTileMistake(s), "") << textOf({s});
  }
}

INSTANTIATE_TEST_SUITE_P(
    Primitives, Named,
    testing::Values("full", "~full", "causal", "causal(1)", "causal(-3)", "window(3, 0)", "window(2, 5)",
                    "window(inf, 4)", "window(4, inf)", "window(3, 3, dilation = 4)", "window(inf, 0, dilation = 3)",
                    "stride(5)", "stride(5, phase = 2)", "block(7)", "block(64)", "keys([0 to 4, 9])",
                    "keys([3 to end])", "keys([5 to end - 7])", "queries([0 to 4, 9])", "global_tokens([0, 1])",
                    "key_mod(8, 6, 8)", "key_mod(8, 3, 4)", "query_mod(6, 1, 4)", "offsets([0, 1, 2, 4, 8])",
                    "coarse(4, causal)", "coarse(4, window(1, 0))", "coarse(4, stride(2))", "coarse(2, 4, causal)",
                    "grid(9, window(1, 1), window(2, 3))", "grid(9, full, causal)",
                    "grid(12, window(1, 1), window(1, 1, dilation = 3))", "grid(12, stride(2), window(1, 1))",
                    "grid(16, window(1, 1), grid(4, window(1, 1), window(1, 1)))",
                    "remap(affine_map<(x) -> (x floordiv 6, x mod 6)>, window(1, 1), causal)", "shift(3, block(8))",
                    "shift(-2, keys([0 to 3]))", "neighborhood(5, 40)", "neighborhood(5, 40, stride = 3)",
                    "neighborhood(5, 40, dilation = 3)", "neighborhood(5, 40, causal = true)",
                    "neighborhood(4, 37, stride = 2, dilation = 2)", "random_blocks(8, 2, 5)",
                    "random_blocks(7, 2, 1) | window(3, 3)", "random_blocks(16, 3, 9)", "random_blocks(4, 11, 3)",
                    "random_blocks(3, 100, 3)", "coarse(3, random_blocks(4, 3, 7))",
                    "coarse(2, 5, random_blocks(2, 3, 7))", "grid(8, random_blocks(2, 2, 1), window(1, 1))",
                    "grid(9, window(1, 1), random_blocks(2, 1, 1))", "shift(5, random_blocks(4, 2, 1))",

                    "holds(b, h, i, j : (i - j) * (i - j) < 50)", "holds(b, h, i, j : 2 * (i - j) * (i - j) >= 50)",
                    "holds(b, h, i, j : (i - j) * (i - j) == 25)", "holds(b, h, i, j : (i - j) * (i - j) != 25)",
                    "holds(b, h, i, j : (i - j) * (i - j) + 3 > 2)", "past_blocks(4)",
                    "past_blocks(4, size = 3, inclusive = true)", "parent(4)",
                    "per_head([causal, window(3, 0), causal])"));

INSTANTIATE_TEST_SUITE_P(Complements, Named,
                         testing::Values("~causal", "~window(3, 2)", "~window(3, 3, dilation = 4)", "~stride(5)",
                                         "~stride(2)", "~stride(16)", "~block(7)", "~keys([0 to 4, 9])",
                                         "~queries([0 to 4])", "~global_tokens([0])", "~key_mod(8, 3, 5)",
                                         "~offsets([0, 2, 4, 8])", "~coarse(4, window(1, 0))",
                                         "~grid(9, window(1, 1), window(2, 3))", "~parent(4)", "~past_blocks(4)"));

INSTANTIATE_TEST_SUITE_P(
    Systems, Named,
    testing::Values("causal & (window(15, 0) | stride(16))", "causal & (block(16) | key_mod(16, 12, 16))",
                    "window(6, 6) | keys([0 to 4])", "window(3, 3, dilation = 4) | keys([0 to 4])",
                    "causal & (block(8) | coarse(8, offsets([1])))", "window(2, 0)", "causal & block(8)",
                    "past_blocks(8)", "past_blocks(3)", "global_tokens([0 to 3]) | window(5, 5)",
                    "global_tokens([0 to 3]) | coarse(4, window(1, 1))", "causal & (window(10, 0) | keys([0 to 4]))",
                    "causal | keys([0 to 12])", "block(12) | window(3, 0)",
                    "grid(10, window(1, 1), window(1, 1)) & causal", "per_head([block(8), causal & stride(4)])",
                    "window(2, 2, dilation = 2) | window(2, 2, dilation = 3)",
                    "grid(5, full, grid(5, window(0, 4, dilation = 4), full))", "coarse(4, block(3)) & causal",
                    "causal - window(5, 0)", "stride(4) & stride(6)", "stride(6, phase = 1) | stride(6, phase = 2)"));

TEST(Strata, HeadsShareWhatTheyHaveInCommon) {
  std::vector<Stratum> s = buildStrata(parsed("block(64) | per_head([stride(64), window(63, 0), stride(64)])"), 0);
  auto isBlock = [](const Stratum &x) { return x.kind == StratumKind::Block; };
  ASSERT_EQ(std::count_if(s.begin(), s.end(), isBlock), 1) << textOf(s);
  EXPECT_EQ(std::find_if(s.begin(), s.end(), isBlock)->headPeriod, 1) << textOf(s);
}

TEST(Strata, MuchCodeBecomesOneMaskedStratum) {
  Pattern p = parsed("grid(12, stride(2) | stride(5, 3) | window(1, 1, dilation = 4), stride(3) | stride(4, 1)) | "
                     "stride(7) | stride(9, 2) | stride(11, 5) | coarse(5, stride(3)) | coarse(7, stride(2))");
  StrataLimits few, many;
  few.maxCode = 150;
  many.maxCode = 1e6;
  std::vector<Stratum> all = buildStrata(p, 0, many), some = buildStrata(p, 0, few);
  EXPECT_LT(some.size(), all.size());
  EXPECT_LT(codeOf(some), 2 * few.maxCode);
  EXPECT_EQ(firstMistake(p, some, {}, 1), "") << textOf(some);
}

TEST(Strata, RandomBlocksThatMeetAreMasked) {
  for (const char *text :
       {"~random_blocks(8, 2, 5)", "random_blocks(4, 3, 1) & random_blocks(3, 7, 2)",
        "random_blocks(4, 3, 1) | random_blocks(4, 3, 2)", "random_blocks(4, 5, 1) - random_blocks(4, 2, 1)",
        "remap(affine_map<(x) -> (-x)>, random_blocks(4, 2, 1))"}) {
    Pattern p = parsed(text);
    std::vector<Stratum> strata = buildStrata(p, 0);
    EXPECT_EQ(firstMistake(p, strata, {}, 1), "") << textOf(strata);
  }
}

TEST(Strata, RandomBlocksAreOneStratumHoweverMany) {
  for (const char *text : {"random_blocks(64, 3, 1)", "random_blocks(64, 300, 1)", "coarse(4, random_blocks(16, 9, 1))",
                           "random_blocks(64, 3, 1) & random_blocks(64, 9, 2)"}) {
    std::vector<Stratum> s = buildStrata(parsed(text), 0);
    ASSERT_EQ(s.size(), 1u) << text;
    EXPECT_GE(s[0].choices, 3) << text;
  }
}

TEST(Strata, ManyDistancesAreATableOfKeys) {
  std::string list = "0";
  std::vector<int64_t> keys;
  for (int64_t n = 30; n > 0; --n) {
    list += ", " + std::to_string(n * n - 40);
    keys.push_back(40 - n * n);
  }
  keys.push_back(0);
  std::sort(keys.begin(), keys.end());
  for (const auto &[text, bound] :
       {std::pair("offsets([", "(i - 860)"), std::pair("causal & offsets([", "(i - 860)")}) {
    Pattern p = parsed(text + list + "])");
    std::vector<Stratum> s = buildStrata(p, 0);
    ASSERT_EQ(s.size(), 1u) << textOf(s);
    std::optional<KeyTable> table = keyTableOf(s[0]);
    ASSERT_TRUE(table) << textOf(s);
    EXPECT_EQ(table->base.str(), "i");
    EXPECT_TRUE(std::includes(keys.begin(), keys.end(), table->entries.begin(), table->entries.end()));
    EXPECT_EQ(s[0].lower[0].str(), bound);
    EXPECT_EQ(firstMistake(p, s, {}, 1), "") << textOf(s);
    Schedule schedule;
    s[0].byRow = true;
    schedule.strata = s;
    auto back = parseSchedule(str(schedule));
    ASSERT_TRUE(std::holds_alternative<Schedule>(back)) << std::get<PatternError>(back).message;
    EXPECT_TRUE(schedule.same(std::get<Schedule>(back)));
  }
  // In a grid, they are places of a row and a column; where both ends of a column are in reach, on either side.
  for (const auto &[text, count] :
       {std::pair("grid(12, offsets([0, 1, 3, -2, -4]), offsets([0, 2, -3, 5, 6]))", 1),
        std::pair("grid(9, offsets([0, 2, 5, -3, 9, -7]), offsets([0, 2, -3, 6, -5, 4, -1]))", 2),
        std::pair("grid(35, offsets([0, 2, -1, 5]), grid(5, offsets([0, 3, 1]), "
                  "offsets([0, -2])))",
                  1)}) {
    Pattern p = parsed(text);
    std::vector<Stratum> s = buildStrata(p, 0);
    EXPECT_EQ(s.size(), static_cast<size_t>(count)) << textOf(s);
    for (const Stratum &part : s) {
      EXPECT_TRUE(keyTableOf(part)) << text;
    }
    EXPECT_EQ(firstMistake(p, s, {}, 1), "") << textOf(s);
  }
  for (const char *text : {"offsets([0, 9, 50, 51, 200, 417])", "window(3, 3)", "stride(3) & window(90, 90)"}) {
    for (const Stratum &few : buildStrata(parsed(text), 0)) {
      EXPECT_FALSE(keyTableOf(few)) << text;
    }
  }
}

TEST(Strata, StridedSparseIsABandAndOneLattice) {
  std::vector<Stratum> s = buildStrata(parsed("causal & (window(63, 0) | stride(64))"), 0);
  ASSERT_EQ(s.size(), 2u) << textOf(s);
  EXPECT_EQ(s[0].kind, StratumKind::Band);
  EXPECT_EQ(s[1].kind, StratumKind::Lattice);
  ASSERT_EQ(s[1].upper.size(), 1u);
  EXPECT_EQ(s[1].upper[0].str(), "(i - 63)");
  EXPECT_EQ(s[1].key[0].step, 64);
  ASSERT_EQ(s[1].query.size(), 2u);
  EXPECT_EQ(s[1].query[0].tile, 64);
  EXPECT_EQ(superTileFor(s), 4096);
}

TEST(Strata, QueriesOfOneClassShareTiles) {
  std::vector<Stratum> s = buildStrata(parsed("query_mod(4, 0, 1) | window(31, 0)"), 0);
  ASSERT_EQ(s.size(), 3u) << textOf(s);
  for (const Stratum &rows : {s[1], s[2]}) {
    EXPECT_EQ(rows.query, (std::vector<QueryDigit>{{4, 0, 64}, {1, 4, 1}})) << textOf(s);
  }
}

TEST(Strata, SortedQueriesShareLargeSuperTiles) {
  EXPECT_EQ(superTileFor(buildStrata(parsed("cluster(%0) | window(32, 32)"), 0)), 4096);
  EXPECT_EQ(superTileFor(buildStrata(parsed("window(32, 32)"), 0)), 64);
}

TEST(Strata, LatticesFillTilesHoweverFarApartTheirQueriesAre) {
  for (int64_t step : {64, 100, 512, 4096, 100000}) {
    std::string text = "stride(" + std::to_string(step) + ")";
    EXPECT_EQ(superTileFor(buildStrata(parsed(text), 0)), 64 * step);
    // Other strata of the kernel merge their states in memory, which ends the super-tile.
    EXPECT_LE(superTileFor(buildStrata(parsed("causal & (window(63, 0) | " + text + ")"), 0)), 4096);
  }
}

TEST(Strata, FixedSparseIsABlockBandAndColumns) {
  std::vector<Stratum> s = buildStrata(parsed("causal & (block(128) | key_mod(128, 120, 128))"), 0);
  ASSERT_EQ(s.size(), 2u) << textOf(s);
  EXPECT_EQ(s[1].key.size(), 2u);
  EXPECT_EQ(s[1].key[0].radix, 128);
  EXPECT_EQ(s[1].key[0].upper.size(), 1u);
}

TEST(Strata, DilationIsOneLattice) {
  std::vector<Stratum> s = buildStrata(parsed("window(32, 32, dilation = 8)"), 0);
  ASSERT_EQ(s.size(), 1u) << textOf(s);
  EXPECT_EQ(s[0].key[0].step, 8);
  EXPECT_EQ(s[0].lower[0].str(), "(i - 256)");
}

TEST(Strata, WindowAndGlobalKeysAreThreePieces) {
  std::vector<Stratum> s = buildStrata(parsed("window(256, 256) | keys([0 to 4])"), 0);
  EXPECT_EQ(s.size(), 3u) << textOf(s);
}

TEST(Strata, GridTilesAreSquares) {
  std::vector<Stratum> s = buildStrata(parsed("grid(64, window(3, 3), window(3, 3))"), 0);
  ASSERT_EQ(s.size(), 1u) << textOf(s);
  ASSERT_EQ(s[0].query.size(), 2u);
  EXPECT_EQ(s[0].query[0].tile, 8);
  EXPECT_EQ(s[0].query[1].tile, 8);
  EXPECT_EQ(superTileFor(s), 512);
}

TEST(Strata, DistancesOfTwoDigitsBoundBoth) {
  for (const char *text : {"holds(b, h, i, j : abs(i // 16 - j // 16) + 2 * abs(i % 16 - j % 16) <= 6)",
                           "holds(b, h, i, j : (i // 16 - j // 16) * (i // 16 - j // 16) + "
                           "3 * (i % 16 - j % 16) * (i % 16 - j % 16) < 40)"}) {
    Pattern p = parsed(text);
    std::vector<Stratum> s = buildStrata(p, 0);
    ASSERT_EQ(s.size(), 1u) << textOf(s);
    EXPECT_EQ(firstMistake(p, s), "") << textOf(s);
    ASSERT_EQ(s[0].key.size(), 2u) << textOf(s);
    ASSERT_EQ(s[0].key[0].lower.size(), 1u) << textOf(s);
    EXPECT_EQ(s[0].key[0].lower[0].str(), "((i floordiv 16) - 6)");
    ASSERT_EQ(s[0].key[1].upper.size(), 1u) << textOf(s);
    EXPECT_EQ(s[0].key[1].upper[0].str(), "((i mod 16) + 4)");
  }
}

TEST(Strata, NestedGridTilesAreCubes) {
  std::vector<Stratum> s = buildStrata(parsed("grid(1024, window(1, 1), grid(32, window(1, 1), window(1, 1)))"), 0);
  ASSERT_EQ(s.size(), 1u) << textOf(s);
  ASSERT_EQ(s[0].query.size(), 3u);
  for (const QueryDigit &d : s[0].query) {
    EXPECT_EQ(d.tile, 4);
  }
}

TEST(Strata, LongListsAreConditionsOnOneSide) {
  std::string list = "0";
  for (int k = 1; k < 400; ++k) {
    list += ", " + std::to_string(3 * k);
  }
  for (const char *name : {"keys", "queries", "global_tokens", "offsets"}) {
    for (const char *rest : {" | window(2, 2)", " & causal", " - block(8)"}) {
      Pattern p = parsed(std::string(name) + "([" + list + "])" + rest);
      std::vector<Stratum> s = buildStrata(p, 0);
      EXPECT_LE(s.size(), 64u) << name << rest;
      EXPECT_EQ(firstMistake(p, s), "") << name << rest;
    }
  }
}

TEST(Strata, BigWindowsNeedNoTables) {
  for (const char *text :
       {"window(1000000, 3000000, dilation = 7)", "causal & window(100000000, 0)", "stride(65536) | window(1048576, 0)",
        "block(1048576) & stride(12)", "causal(4611686018427387904)", "window(4611686018427387904, 0, dilation = 64)",
        "window(1000000, 0) | keys([0 to 4])"}) {
    Pattern p = parsed(text);
    std::vector<Stratum> s = buildStrata(p, 0);
    EXPECT_FALSE(isMasked(s)) << text << " " << textOf(s);
    EXPECT_EQ(firstMistake(p, s), "") << text;
  }
}

TEST(Strata, HugeConstantsAreNotWrong) {
  for (const char *text : {"coarse(4611686018427387904, causal(4))", "block(9223372036854775807)",
                           "shift(9000000000000000000, keys([9223372036854775806]))",
                           "coarse(4000000000, coarse(4000000000, window(3, 3)))"}) {
    Pattern p = parsed(text);
    try {
      EXPECT_EQ(firstMistake(p, buildStrata(p, 0)), "") << text;
    } catch (const std::overflow_error &) { // says so instead
    }
  }
}

TEST(Strata, FarResiduesAreTakenOneByOne) {
  // A tile of 64 residues that are further apart than any call is long would have one query.
  for (const char *text : {"stride(1000000)", "stride(4611686018427387904, 2305843009213693952)",
                           "window(3, 3, dilation = 1099511627776)", "offsets([1099511627776, 0])"}) {
    std::vector<Stratum> s = buildStrata(parsed(text), 0);
    EXPECT_EQ(firstMistake(parsed(text), s), "") << text;
    for (const Stratum &stratum : s) {
      EXPECT_EQ(stratum.query.size(), 1u) << text << "\n" << textOf(s);
    }
    EXPECT_LE(superTileFor(s), 4096) << text;
  }
}

TEST(Strata, RandomExpressionsAreCoveredOnce) {
  const char *count = std::getenv("HEDDLE_RANDOM_PATTERNS");
  const int n = count ? std::atoi(count) : 1500;
  RandomPattern random(20240817);
  int masked = 0;
  double slowest = 0;
  std::string slow;
  for (int k = 0; k < n; ++k) {
    const std::string text = random.text(k % 6);
    Pattern p = parsed(text);
    const std::clock_t start = std::clock();
    std::vector<Stratum> strata = buildStrata(p, 0);
    const double time = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    if (time > slowest) {
      slowest = time;
      slow = text;
    }
    masked += isMasked(strata);
    ASSERT_EQ(firstMistake(p, strata, {-20, 40}), "") << text << "\n" << textOf(strata);
    for (const Stratum &s : strata) {
      ASSERT_EQ(firstTileMistake(s), "") << text << "\n" << textOf({s});
    }
  }
  RecordProperty("masked", masked);
  std::printf("%d of %d masked; slowest %.0f ms: %s\n", masked, n, slowest * 1e3, slow.c_str());
  EXPECT_LT(masked, n / 3);
}

} // namespace
