//===- ReferenceTest.cpp - The reference interpreter ----------------------===//
//
// Small cases worked out by hand: the expected numbers stand in closed form
// beside each case, so that no other implementation is needed to believe them.
//
//===----------------------------------------------------------------------===//
#include "dialect/Reference.h"
#include "dialect/Attn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

using namespace heddle;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

/// A dense tensor with its data.
template <typename T> struct Tensor {
  std::vector<int64_t> shape;
  std::vector<T> data;
  heddle_dtype dtype;
  heddle_tensor view() {
    heddle_tensor t = {};
    t.data = data.data();
    t.dtype = dtype;
    t.rank = static_cast<int32_t>(shape.size());
    int64_t stride = 1;
    for (int64_t n = t.rank - 1; n >= 0; --n) {
      t.shape[n] = shape[n];
      t.strides[n] = stride;
      stride *= shape[n];
    }
    return t;
  }
};

int64_t sizeOf(const std::vector<int64_t> &shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
}

Tensor<double> doubles(std::vector<int64_t> shape, std::vector<double> data) {
  EXPECT_EQ(sizeOf(shape), static_cast<int64_t>(data.size()));
  return {std::move(shape), std::move(data), HEDDLE_F64};
}
Tensor<double> zeros(std::vector<int64_t> shape) {
  std::vector<double> data(sizeOf(shape), -77);
  return {std::move(shape), std::move(data), HEDDLE_F64};
}
Tensor<int32_t> integers(std::vector<int64_t> shape, std::vector<int32_t> data) {
  return {std::move(shape), std::move(data), HEDDLE_I32};
}
Tensor<uint8_t> flags(std::vector<int64_t> shape, std::vector<uint8_t> data) {
  return {std::move(shape), std::move(data), HEDDLE_BOOL};
}

heddle_tensor scalar(int64_t &value) {
  heddle_tensor t = {};
  t.data = &value;
  t.dtype = HEDDLE_I64;
  return t;
}
heddle_tensor scalar(double &value) {
  heddle_tensor t = {};
  t.data = &value;
  t.dtype = HEDDLE_F64;
  return t;
}

class ReferenceTest : public ::testing::Test {
protected:
  ReferenceTest() {
    context
        .loadDialect<attn::AttnDialect, mlir::func::FuncDialect, mlir::arith::ArithDialect, mlir::math::MathDialect>();
  }
  /// Runs the function of `text`; the error text, empty where there was none.
  std::string run(const std::string &text, std::vector<heddle_tensor> args, std::vector<heddle_tensor> results) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    if (!module) {
      return "the text does not parse";
    }
    std::string error;
    auto func = *module->getOps<mlir::func::FuncOp>().begin();
    bool good = runReference(func, args, results, error);
    EXPECT_EQ(good, error.empty());
    return error;
  }
  mlir::MLIRContext context;
};

/// One head, D = Dv = 1, f32: arguments q, k, v and `more`; `body` follows `attn.attend %q `.
std::string tiny(const std::string &body, const std::string &more = "", const std::string &operands = "",
                 bool lse = false) {
  std::string t = "tensor<?x?x?x1xf32>";
  std::string results = lse ? t + ", tensor<?x?x?xf32>" : t;
  return "func.func @f(%q: " + t + ", %k: " + t + ", %v: " + t + more + ") -> (" + results + ") {\n" +
         (lse ? "  %o, %l = " : "  %o = ") + "attn.attend %q " + body + " : " + t + " segment(" + t + ", " + t + ")" +
         (operands.empty() ? "" : " operands(" + operands + ")") + " -> " + results + "\n  return %o" +
         (lse ? ", %l" : "") + " : " + results + "\n}\n";
}

} // namespace

TEST_F(ReferenceTest, SoftmaxByHand) {
  // Scores of the one query: log 1, log 2, log 3. Weights 1/6, 2/6, 3/6.
  auto q = doubles({1, 1, 1, 1}, {1});
  auto k = doubles({1, 1, 3, 1}, {0, std::log(2), std::log(3)});
  auto v = doubles({1, 1, 3, 1}, {6, 60, 600});
  auto o = zeros({1, 1, 1, 1}), l = zeros({1, 1, 1});
  EXPECT_EQ(run(tiny("segment(%k, %v) lse", "", "", true), {q.view(), k.view(), v.view()}, {o.view(), l.view()}), "");
  EXPECT_NEAR(o.data[0], 1 + 20 + 300, 1e-12);
  EXPECT_NEAR(l.data[0], std::log(6), 1e-14);
}

TEST_F(ReferenceTest, ScaleOffsetsAndCausal) {
  // Scores are 0 under scale 0, so a row's result is the mean of its live values.
  auto q = doubles({1, 1, 3, 1}, {5, 5, 5});
  auto k = doubles({1, 1, 3, 1}, {7, 8, 9});
  auto v = doubles({1, 1, 3, 1}, {1, 3, 8});
  auto o = zeros({1, 1, 3, 1});
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal) scale(0.0)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data, (std::vector<double>{1, 2, 4}));
  // q_offset 1: row 0 sees keys 0 and 1. k_offset 2 on top: keys stand at 2, 3, 4.
  EXPECT_EQ(
      run(tiny("segment(%k, %v) where(causal) scale(0.0) q_offset(1)"), {q.view(), k.view(), v.view()}, {o.view()}),
      "");
  EXPECT_EQ(o.data, (std::vector<double>{2, 4, 4}));
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal) k_offset(2) scale(0.0) q_offset(1)"),
                {q.view(), k.view(), v.view()}, {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{0, 1, 2}));
}

TEST_F(ReferenceTest, OffsetEndAndPerBatch) {
  auto q = doubles({2, 1, 1, 1}, {5, 5});
  auto k = doubles({1, 1, 4, 1}, {0, 0, 0, 0}); // shared by both batches
  auto v = doubles({1, 1, 4, 1}, {1, 3, 8, 0});
  auto o = zeros({2, 1, 1, 1});
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal) q_offset(end)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data, (std::vector<double>{3, 3}));
  Tensor<int64_t> offset{{2}, {0, 2}, HEDDLE_I64};
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal) q_offset(%c)", ", %c: tensor<?xi64>", "tensor<?xi64>"),
                {q.view(), k.view(), v.view(), offset.view()}, {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{1, 4}));
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal)"), {q.view(), k.view(), v.view()}, {o.view()}),
            "expected q_offset where the numbers of queries, 1, and of keys, 4 of segment 0 differ and its pattern "
            "depends on the query, but got none");
}

TEST_F(ReferenceTest, EmptyRowAndSink) {
  auto q = doubles({1, 1, 2, 1}, {1, 1});
  auto k = doubles({1, 1, 2, 1}, {0, 0});
  auto v = doubles({1, 1, 2, 1}, {4, 6});
  auto o = zeros({1, 1, 2, 1}), l = zeros({1, 1, 2});
  // Row 0 has no live key; row 1 has key 0 with score 0.
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal(1)) lse", "", "", true), {q.view(), k.view(), v.view()},
                {o.view(), l.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{0, 4}));
  EXPECT_EQ(l.data, (std::vector<double>{-inf, 0}));
  // A sink of log 3 takes three quarters of row 1; a row without a live key stays empty.
  auto sink = doubles({1}, {std::log(3)});
  EXPECT_EQ(run(tiny("segment(%k, %v) where(causal(1)) sink(%s) lse", ", %s: tensor<?xf32>", "tensor<?xf32>", true),
                {q.view(), k.view(), v.view(), sink.view()}, {o.view(), l.view()}),
            "");
  EXPECT_NEAR(o.data[0], 0, 0);
  EXPECT_NEAR(o.data[1], 1, 1e-14);
  EXPECT_EQ(l.data[0], -inf);
  EXPECT_NEAR(l.data[1], std::log(4), 1e-14);
}

TEST_F(ReferenceTest, DeadPairsNeverTouchTheResult) {
  double nan = std::nan("");
  auto q = doubles({1, 1, 3, 1}, {1, 1, 1});
  auto k = doubles({1, 1, 3, 1}, {0, nan, 0});
  auto v = doubles({1, 1, 3, 1}, {4, inf, 6});
  auto o = zeros({1, 1, 3, 1});
  // Each row sees its own key only: the bad key reaches row 1 alone.
  EXPECT_EQ(run(tiny("segment(%k, %v) where(window(0, 0))"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data[0], 4);
  EXPECT_TRUE(std::isnan(o.data[1]));
  EXPECT_EQ(o.data[2], 6);
  // A score of -inf is a dead pair: here all three of them.
  k.data = {-inf, -inf, -inf};
  EXPECT_EQ(run(tiny("segment(%k, %v)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data, (std::vector<double>{0, 0, 0}));
  // A score of +inf is NaN.
  k.data = {0, inf, 0};
  EXPECT_EQ(run(tiny("segment(%k, %v)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_TRUE(std::isnan(o.data[0]));
}

TEST_F(ReferenceTest, Normalizers) {
  auto q = doubles({1, 1, 1, 1}, {2});
  auto k = doubles({1, 1, 3, 1}, {1, 3, 4});
  auto v = doubles({1, 1, 3, 1}, {1, 10, 100});
  auto o = zeros({1, 1, 1, 1});
  EXPECT_EQ(run(tiny("segment(%k, %v) normalizer(none)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data[0], 2 + 60 + 800);
  EXPECT_EQ(run(tiny("segment(%k, %v) normalizer(sum)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_NEAR(o.data[0], 862.0 / 16, 1e-12);
  EXPECT_EQ(run(tiny("segment(%k, %v) where(~full) normalizer(sum)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data[0], 0);
}

TEST_F(ReferenceTest, GroupedHeadsAndStrides) {
  // Four query heads, two key heads; the key of head g is the constant 10^g as a value.
  auto q = doubles({1, 4, 1, 1}, {0, 0, 0, 0});
  auto k = doubles({1, 2, 1, 1}, {0, 0});
  auto v = doubles({1, 2, 1, 1}, {1, 10});
  auto o = zeros({1, 4, 1, 1});
  EXPECT_EQ(run(tiny("segment(%k, %v)"), {q.view(), k.view(), v.view()}, {o.view()}), "");
  EXPECT_EQ(o.data, (std::vector<double>{1, 1, 10, 10}));
  // Values backwards by a negative stride, results with a gap.
  heddle_tensor reversed = v.view();
  reversed.data = v.data.data() + 1;
  reversed.strides[1] = -1;
  auto wide = zeros({1, 4, 1, 3});
  heddle_tensor gap = wide.view();
  gap.shape[3] = 1;
  EXPECT_EQ(run(tiny("segment(%k, %v)"), {q.view(), k.view(), reversed}, {gap}), "");
  EXPECT_EQ(wide.data, (std::vector<double>{10, -77, -77, 10, -77, -77, 1, -77, -77, 1, -77, -77}));
  // Three query heads do not go with two key heads.
  auto q3 = doubles({1, 3, 1, 1}, {0, 0, 0});
  auto o3 = zeros({1, 3, 1, 1});
  EXPECT_EQ(run(tiny("segment(%k, %v)"), {q3.view(), k.view(), v.view()}, {o3.view()}),
            "expected q's number of heads to be a multiple of that of k of segment 0, 2, but got 3");
}

TEST_F(ReferenceTest, RunTimeOperands) {
  auto q = doubles({2, 1, 3, 1}, {0, 0, 0, 0, 0, 0});
  auto k = doubles({2, 1, 3, 1}, {0, 0, 0, 0, 0, 0});
  auto v = doubles({2, 1, 3, 1}, {1, 3, 8, 10, 30, 80});
  auto o = zeros({2, 1, 3, 1});
  std::vector<heddle_tensor> args = {q.view(), k.view(), v.view()};
  auto with = [&](heddle_tensor more) {
    std::vector<heddle_tensor> all = args;
    all.push_back(more);
    return all;
  };
  // Documents: batch 0 has rows {0, 1} and {2}; in batch 1 the id of row 1 is negative.
  auto ids = integers({2, 3}, {4, 4, 5, 0, -1, 0});
  EXPECT_EQ(run(tiny("segment(%k, %v) where(same(%d, %d))", ", %d: tensor<?x?xi32>", "tensor<?x?xi32>"),
                with(ids.view()), {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{2, 2, 8, 45, 0, 45}));
  auto lengths = integers({2}, {1, 2});
  EXPECT_EQ(run(tiny("segment(%k, %v) where(lengths(%n))", ", %n: tensor<?xi32>", "tensor<?xi32>"),
                with(lengths.view()), {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{1, 1, 1, 20, 20, 20}));
  auto valid = flags({1, 3}, {0, 1, 1}); // one batch for both
  EXPECT_EQ(run(tiny("segment(%k, %v) where(keys(%f))", ", %f: tensor<?x?xi1>", "tensor<?x?xi1>"), with(valid.view()),
                {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{5.5, 5.5, 5.5, 55, 55, 55}));
  int64_t width = 1;
  EXPECT_EQ(run(tiny("segment(%k, %v) where(window(%w, 0))", ", %w: index", "index"), with(scalar(width)), {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{1, 2, 5.5, 10, 20, 55}));
  auto lo = integers({1, 3}, {0, 1, 2}), hi = integers({1, 3}, {3, 2, 2});
  auto both = with(lo.view());
  both.push_back(hi.view());
  EXPECT_EQ(run(tiny("segment(%k, %v) where(between(%lo, %hi))", ", %lo: tensor<?x?xi32>, %hi: tensor<?x?xi32>",
                     "tensor<?x?xi32>, tensor<?x?xi32>"),
                both, {o.view()}),
            "");
  EXPECT_EQ(o.data, (std::vector<double>{4, 3, 0, 40, 30, 0}));
  auto three = integers({2, 2}, {0, 0, 0, 0});
  EXPECT_EQ(run(tiny("segment(%k, %v) where(same(%d, %d))", ", %d: tensor<?x?xi32>", "tensor<?x?xi32>"),
                with(three.view()), {o.view()}),
            "expected operand %0 of a pattern to have 3 rows, but got [2, 2] of i32");
}

TEST_F(ReferenceTest, ScoreRegionReadsAndClamps) {
  // s' = slopes[h] * (i - j), with j = 0, 1 and i = 1; slopes has one entry, so h = 1 is clamped.
  auto q = doubles({1, 2, 1, 1}, {0, 0});
  auto k = doubles({1, 1, 2, 1}, {0, 0});
  auto v = doubles({1, 1, 2, 1}, {3, 30});
  auto slopes = doubles({1}, {std::log(2)});
  auto o = zeros({1, 2, 1, 1});
  EXPECT_EQ(run(tiny(R"(segment(%k, %v) score(%s, %b, %h, %i, %j) {
        %m = attn.load %t[%h] : tensor<?xf32>
        %d = arith.subi %i, %j : index
        %n = arith.index_cast %d : index to i64
        %f = arith.sitofp %n : i64 to f32
        %x = arith.mulf %m, %f : f32
        attn.yield %x : f32
      } q_offset(1) captures(%t))",
                     ", %t: tensor<?xf32>", "tensor<?xf32>"),
                {q.view(), k.view(), v.view(), slopes.view()}, {o.view()}),
            "");
  // Weights 2/3 and 1/3.
  EXPECT_NEAR(o.data[0], 12, 1e-12);
  EXPECT_NEAR(o.data[1], 12, 1e-12);
}

TEST_F(ReferenceTest, IntegersRoundAndWrap) {
  // The weight is the integer code of each pair, written as a float; j = 0, 1, i = -3.
  auto q = doubles({1, 1, 1, 1}, {0});
  auto k = doubles({1, 1, 2, 1}, {0, 0});
  auto v = doubles({1, 1, 2, 1}, {1, 0});
  auto o = zeros({1, 1, 1, 1});
  auto code = [&](const std::string &lines) {
    std::string text = tiny("segment(%k, %v) dots() score(%b, %h, %i, %j) {\n%c2 = arith.constant 2 : index\n"
                            "%c5 = arith.constant 5 : index\n" +
                            lines + R"(
        %n = arith.index_cast %r : index to i64
        %f = arith.sitofp %n : i64 to f32
        attn.yield %f : f32
      } q_offset(-3) normalizer(none))");
    EXPECT_EQ(run(text, {q.view(), k.view(), v.view()}, {o.view()}), "");
    return o.data[0];
  };
  EXPECT_EQ(code("%r = arith.floordivsi %i, %c2 : index"), -2);
  EXPECT_EQ(code("%r = arith.divsi %i, %c2 : index"), -1);
  EXPECT_EQ(code("%r = arith.ceildivsi %i, %c2 : index"), -1);
  EXPECT_EQ(code("%r = arith.remsi %i, %c2 : index"), -1);
  EXPECT_EQ(code("%r = arith.maxsi %i, %c2 : index"), 2);
  EXPECT_EQ(code("%r = arith.minui %i, %c2 : index"), 2);
  EXPECT_EQ(code("%r = arith.shli %i, %c2 : index"), -12);
  EXPECT_EQ(code("%x = arith.index_cast %c5 : index to i32\n%y = arith.trunci %x : i32 to i2\n"
                 "%r = arith.index_cast %y : i2 to index"),
            1);
  EXPECT_EQ(code("%x = arith.cmpi slt, %i, %c2 : index\n%r = arith.select %x, %c5, %c2 : index"), 5);
  EXPECT_EQ(code("%x = arith.cmpi ult, %i, %c2 : index\n%r = arith.select %x, %c5, %c2 : index"), 2);
}

TEST_F(ReferenceTest, SegmentsShareOneNormalizer) {
  // The summary's score is log 2 against 0 for each of the two raw keys: weights 1/4, 1/4, 2/4.
  std::string t = "tensor<?x?x?x1xf32>";
  std::string text = "func.func @f(%q: " + t + ", %k: " + t + ", %v: " + t + ", %k2: " + t + ", %v2: " + t +
                     ", %s: f32) -> " + t + " {\n  %o = attn.attend %q scale(%s) segment(%k, %v)" +
                     " segment(%k2, %v2) scale(2.0) : " + t + " segment(" + t + ", " + t + ") segment(" + t + ", " + t +
                     ") operands(f32) -> " + t + "\n  return %o : " + t + "\n}\n";
  auto q = doubles({1, 1, 1, 1}, {1});
  auto k = doubles({1, 1, 2, 1}, {5, 9});
  auto v = doubles({1, 1, 2, 1}, {4, 8});
  auto k2 = doubles({1, 1, 1, 1}, {std::log(2) / 2});
  auto v2 = doubles({1, 1, 1, 1}, {100});
  auto o = zeros({1, 1, 1, 1});
  double scale = 0;
  EXPECT_EQ(run(text, {q.view(), k.view(), v.view(), k2.view(), v2.view(), scalar(scale)}, {o.view()}), "");
  EXPECT_NEAR(o.data[0], 1 + 2 + 50, 1e-12);
  scale = inf;
  EXPECT_EQ(run(text, {q.view(), k.view(), v.view(), k2.view(), v2.view(), scalar(scale)}, {o.view()}),
            "expected scale to be finite, but got inf");
}

TEST_F(ReferenceTest, ChainedAttendsAndOtherDtypes) {
  // Two hops of causal(1) under scale 0; bf16 storage in, f16 out.
  std::string t = "tensor<?x?x?x1xbf16>";
  std::string attend =
      " segment(%k, %v) where(window(1, 0)) scale(0.0) : " + t + " segment(" + t + ", " + t + ") -> " + t;
  std::string text = "func.func @f(%q: " + t + ", %k: " + t + ", %v: " + t + ") -> " + t + " {\n  %a = attn.attend %q" +
                     attend + "\n  %o = attn.attend %q segment(%k, %a) where(window(1, 0)) scale(0.0) : " + t +
                     " segment(" + t + ", " + t + ") -> " + t + "\n  return %o : " + t + "\n}\n";
  Tensor<uint16_t> ones{{1, 1, 3, 1}, {0x3f80, 0x3f80, 0x3f80}, HEDDLE_BF16};
  Tensor<uint16_t> v{{1, 1, 3, 1}, {0x3f80, 0x4040, 0x4100}, HEDDLE_BF16}; // 1, 3, 8
  Tensor<uint16_t> o{{1, 1, 3, 1}, {0, 0, 0}, HEDDLE_F16};
  EXPECT_EQ(run(text, {ones.view(), ones.view(), v.view()}, {o.view()}), "");
  // First hop 1, 2, 5.5; second 1, 1.5, 3.75.
  EXPECT_EQ(o.data, (std::vector<uint16_t>{0x3c00, 0x3e00, 0x4380}));
}

TEST_F(ReferenceTest, RefusesWhatDoesNotFit) {
  auto q = doubles({1, 1, 1, 1}, {0});
  auto bad = integers({1, 1, 1, 1}, {0});
  auto o = zeros({1, 1, 1, 1});
  std::string text = tiny("segment(%k, %v)");
  EXPECT_EQ(run(text, {q.view(), q.view()}, {o.view()}), "expected 3 arguments, but got 2");
  EXPECT_EQ(run(text, {q.view(), q.view(), bad.view()}, {o.view()}),
            "expected argument 2 to be tensor<?x?x?x1xf32>, but got [1, 1, 1, 1] of i32");
  auto wide = zeros({1, 1, 1, 2});
  EXPECT_EQ(run(text, {q.view(), wide.view(), q.view()}, {o.view()}),
            "expected argument 1 to be tensor<?x?x?x1xf32>, but got [1, 1, 1, 2] of f64");
  EXPECT_EQ(run(text, {q.view(), q.view(), q.view()}, {wide.view()}),
            "expected result 0 to be [1, 1, 1, 1] of f64 or another float, but got another shape or dtype");
}
