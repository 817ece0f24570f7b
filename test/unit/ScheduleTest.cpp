//===- ScheduleTest.cpp - Text and meaning of strata ----------------------===//
//
// The text of a schedule gives the schedule back, and a stratum holds exactly
// the pairs that its digits describe.
//
//===----------------------------------------------------------------------===//
#include "dialect/Schedule.h"

#include <gtest/gtest.h>

using namespace heddle;

namespace {

const Expr i = Expr::symbol(Sym::Query), j = Expr::symbol(Sym::Key);

/// causal & stride(8), by residue class.
Stratum lattice() {
  Stratum s;
  s.kind = StratumKind::Lattice;
  s.query = {{8, 0, 64}, {1, 8, 1}};
  KeyDigit d;
  d.step = 8;
  d.phase = floorMod(i, Expr(8));
  d.upper = {i + Expr(1)};
  s.key = {d};
  return s;
}

Stratum masked() {
  Stratum s;
  s.kind = StratumKind::Masked;
  s.segment = 1;
  s.headPeriod = 3;
  s.heads = {0, 2};
  s.query = {{}};
  s.key = {{64, 0, 1, {}, {Expr(0)}, {floorDiv(i, Expr(64)) + Expr(1)}}, {1, 64, 1, {}, {}, {}}};
  s.lower = {Expr(0)};
  s.upper = {Expr::symbol(Sym::KeyEnd), Expr::scalar(4)};
  s.guard = i >= Expr(2);
  s.keep = Expr::load(0, {Expr::symbol(Sym::Batch), j}, ExprType::Bool);
  s.residual = (i < j) || equal(floorMod(i, Expr(2)), Expr(0));
  s.note = "needs \"quotes\" and a \\";
  return s;
}

ExprEnv pair(int64_t query, int64_t key) {
  ExprEnv env;
  env.i = query;
  env.j = key;
  env.nk = 1000;
  env.scalar = [](int64_t) { return int64_t{500}; };
  env.load = [](int64_t, const std::vector<int64_t> &at) { return at[1] % 5 ? 1.0 : 0.0; };
  return env;
}

} // namespace

TEST(Schedule, TextRoundTrips) {
  Schedule s;
  s.superTile = 512;
  s.rowsUpTo = 3000;
  s.strata = {lattice(), masked(), Stratum()};
  s.strata[0].byRow = true;
  std::string text = str(s);
  auto parsed = parseSchedule(text);
  ASSERT_TRUE(std::holds_alternative<Schedule>(parsed)) << std::get<PatternError>(parsed).message;
  EXPECT_EQ(str(std::get<Schedule>(parsed)), text);
  const Schedule &back = std::get<Schedule>(parsed);
  ASSERT_EQ(back.strata.size(), 3u);
  EXPECT_EQ(back.superTile, 512);
  EXPECT_EQ(back.rowsUpTo, 3000);
  EXPECT_TRUE(back.strata[0].byRow && !back.strata[1].byRow);
  EXPECT_EQ(back.strata[1].note, s.strata[1].note);
  EXPECT_EQ(back.strata[1].heads, s.strata[1].heads);
  EXPECT_TRUE(back.strata[1].residual.same(s.strata[1].residual));
  EXPECT_TRUE(back.strata[0].key[0].phase.same(s.strata[0].key[0].phase));
  EXPECT_EQ(text.find_first_of("<>"), std::string::npos); // Stands in an attribute.
}

TEST(Schedule, ShortSequencesMayBeTakenByRow) {
  Schedule s;
  s.rowsUpTo = 3000;
  s.strata = {lattice()};
  EXPECT_TRUE(s.atLength(3000).strata[0].byRow);
  EXPECT_FALSE(s.atLength(3001).strata[0].byRow);
  s.rowsUpTo = 0;
  EXPECT_FALSE(s.atLength(1).strata[0].byRow);
}

TEST(Schedule, Errors) {
  auto error = [](const char *text) {
    auto r = parseSchedule(text);
    auto *e = std::get_if<PatternError>(&r);
    return e ? std::to_string(e->offset) + ": " + e->message : "parses";
  };
  EXPECT_EQ(error("super_tile = 64, strip {}"), "17: expected the kind of a stratum, but got 'strip'");
  EXPECT_EQ(error("band {size = 3}"), "6: expected a field, but got 'size'");
  EXPECT_EQ(error("band {key = [{radix = 0}]}"), "22: expected a positive integer, but got 0");
  EXPECT_EQ(error("band {note = \"open}"), "19: expected '\"', but got the end of the text");
  EXPECT_EQ(error("band {}, band {segment = 2}"), "parses");
  EXPECT_EQ(error("band {by_row = 1}"), "parses");
  EXPECT_EQ(error("masked {keep = (j < 3), by_row = 1}"),
            "0: expected by_row only where a stratum has bounds or a list, but got a condition on pairs or ids");
}

TEST(Schedule, MembershipFollowsTheDigits) {
  Stratum a = lattice(), b = masked();
  for (int64_t q = -20; q < 140; ++q) {
    for (int64_t k = -20; k < 140; ++k) {
      ExprEnv env = pair(q, k);
      EXPECT_EQ(contains(a, env), k <= q && (q - k) % 8 == 0) << q << " " << k;
      env.h = 4; // 4 mod 3 = 1 is not listed.
      EXPECT_FALSE(contains(b, env));
      env.h = 5;
      bool live = q >= 2 && k >= 0 && k / 64 <= q / 64 && k % 5 != 0 && (q < k || q % 2 == 0);
      EXPECT_EQ(contains(b, env), live) << q << " " << k;
    }
  }
}
