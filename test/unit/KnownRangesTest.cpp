//===- KnownRangesTest.cpp - What is known of a condition on a box --------===//

#include "passes/KnownRanges.h"

#include <gtest/gtest.h>

using namespace heddle;

namespace {

const Expr kQuery = Expr::symbol(Sym::Query), kKey = Expr::symbol(Sym::Key), kRow = Expr::symbol(Sym::KeyRow);

Expr loaded(std::vector<Expr> at, ExprType type = ExprType::Bool) { return Expr::load(0, std::move(at), type); }

TEST(KnownRanges, LoadsOfFewElements) {
  auto loadsFew = [](const Expr &load) { return KnownRanges().loadsFew(load); };
  EXPECT_TRUE(loadsFew(loaded({floorDiv(kQuery, 64), floorDiv(kKey, 64)})));
  EXPECT_TRUE(loadsFew(loaded({floorDiv(kKey + 5, 32)}, ExprType::Int)));
  EXPECT_TRUE(loadsFew(loaded({floorMod(kKey, 8)}, ExprType::Int)));
  EXPECT_FALSE(loadsFew(loaded({kQuery, floorDiv(kKey, 64)}))) << "64 rows";
  EXPECT_FALSE(loadsFew(loaded({floorDiv(kQuery, 16), floorDiv(kKey, 8)}))) << "5 rows of 7";
  EXPECT_FALSE(loadsFew(loaded({floorDiv(kKey, 64)}, ExprType::Float)));
  EXPECT_FALSE(loadsFew(loaded({Expr(3)}))) << "the same for all pairs";
  EXPECT_FALSE(loadsFew(loaded({kQuery * kKey}))) << "an index of which no range is known";
}

TEST(KnownRanges, ConditionsOnSuchLoads) {
  EXPECT_TRUE(hasBoxTest(loaded({floorDiv(kQuery, 64), floorDiv(kKey, 64)})));
  EXPECT_TRUE(hasBoxTest(Expr::make(ExprKind::Eq, {loaded({floorDiv(kKey, 64)}, ExprType::Int), Expr(2)})));
  EXPECT_FALSE(hasBoxTest(Expr::make(ExprKind::Eq, {loaded({kKey}, ExprType::Int), Expr(2)})));
}

TEST(KnownRanges, BoxesAreRunsOfALoad) {
  auto boxes = [](const Expr &index) { return keyBoxesOf(loaded({floorDiv(kQuery, 64), index})); };
  EXPECT_EQ(boxes(floorDiv(kRow, 64)).keys, 64);
  EXPECT_TRUE(boxes(floorDiv(kRow, 64)).place.same(kRow));
  EXPECT_EQ(boxes(floorDiv(kKey, 256)).keys, 128) << "in equal parts";
  EXPECT_EQ(boxes(floorDiv(kKey, 100)).keys, 100);
  for (const Expr &index : {floorDiv(kKey, 131), floorDiv(kKey, 4), kKey, floorDiv(kKey + kQuery, 64)}) {
    EXPECT_EQ(boxes(index).keys, kBoxKeys) << index.str();
    EXPECT_TRUE(boxes(index).place.isNull()) << index.str();
  }
}

} // namespace
