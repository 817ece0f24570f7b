//===- FacadeTest.cpp - The compiler's table of C functions ---------------===//
//
// Through the C interface only, as Python and the runtime see it.
//
//===----------------------------------------------------------------------===//
#include "codegen/Compiler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace {

const heddle_compiler_api &api() { return *heddle_compiler(); }

/// The message of an error, "" for success; frees it.
std::string messageOf(heddle_error *error) {
  if (!error) {
    return "";
  }
  std::string message = heddle_error_message(error);
  heddle_error_free(error);
  return message;
}

std::string take(char *text) {
  std::string copy = text ? text : "";
  std::free(text);
  return copy;
}

std::string spec(const std::string &pattern, const std::string &rest = "") {
  return "func.func @f(%q: tensor<?x1x?x2xf32>, %k: tensor<?x1x?x2xf32>, %v: tensor<?x1x?x2xf32>)\n"
         "    -> tensor<?x1x?x2xf32> {\n"
         "  %o = attn.attend %q segment(%k, %v) where(" +
         pattern + ") " + rest +
         "\n"
         "    : tensor<?x1x?x2xf32> segment(tensor<?x1x?x2xf32>, tensor<?x1x?x2xf32>) -> tensor<?x1x?x2xf32>\n"
         "  return %o : tensor<?x1x?x2xf32>\n}\n";
}

struct Matrix {
  std::vector<float> data;
  heddle_tensor view = {};
  Matrix(int64_t rows, float first, float step) {
    for (int64_t n = 0; n < 2 * rows; ++n) {
      data.push_back(first + step * static_cast<float>(n));
    }
    view = {data.data(), HEDDLE_F32, 4, {1, 1, rows, 2}, {2 * rows, 2 * rows, 2, 1}};
  }
};

struct Doubles {
  std::vector<double> data;
  heddle_tensor view = {};
  explicit Doubles(int64_t rows) : data(static_cast<size_t>(2 * rows)) {
    view = {data.data(), HEDDLE_F64, 4, {1, 1, rows, 2}, {2 * rows, 2 * rows, 2, 1}};
  }
};

TEST(Facade, PatternQuestions) {
  int32_t yes = -1;
  EXPECT_EQ(messageOf(api().pattern_is_equal("causal & window(63, 63)", "window(63, 0)", &yes)), "");
  EXPECT_EQ(yes, 1);
  EXPECT_EQ(messageOf(api().pattern_is_equal("causal", "window(63, 0)", &yes)), "");
  EXPECT_EQ(yes, 0);
  EXPECT_EQ(messageOf(api().pattern_is_subset("window(63, 0)", "causal", &yes)), "");
  EXPECT_EQ(yes, 1);
  EXPECT_EQ(messageOf(api().pattern_is_subset("causal", "window(63, 0)", &yes)), "");
  EXPECT_EQ(yes, 0);
  EXPECT_EQ(messageOf(api().pattern_is_empty("causal & ~causal", &yes)), "");
  EXPECT_EQ(yes, 1);
  EXPECT_EQ(messageOf(api().pattern_is_empty("stride(2) & stride(2, 1)", &yes)), "");
  EXPECT_EQ(yes, 1);
  EXPECT_EQ(messageOf(api().pattern_is_empty("block(4)", &yes)), "");
  EXPECT_EQ(yes, 0);
}

TEST(Facade, PatternExample) {
  int32_t found = -1;
  int64_t pair[2] = {0, 0};
  EXPECT_EQ(messageOf(api().pattern_example("causal", "window(5, 0)", &found, pair)), "");
  ASSERT_EQ(found, 1);
  EXPECT_GT(pair[0] - pair[1], 5);
  EXPECT_EQ(messageOf(api().pattern_example("window(5, 0)", "causal", &found, pair)), "");
  EXPECT_EQ(found, 0);
}

TEST(Facade, PatternErrorsArePlaced) {
  int32_t yes = -1;
  EXPECT_EQ(messageOf(api().pattern_is_empty("causal & windo(3, 0)", &yes)),
            "<pattern>:1:10: error: expected a pattern, but got 'windo'; did you mean 'window'?\n"
            "  causal & windo(3, 0)\n"
            "           ^");
  EXPECT_EQ(messageOf(api().pattern_is_empty("causal &\n  ", &yes)).substr(0, 15), "<pattern>:2:3: ");
  EXPECT_NE(messageOf(api().pattern_is_empty("", &yes)), "");
}

TEST(Facade, UndecidedIsAnError) {
  int32_t yes = -1;
  EXPECT_NE(messageOf(api().pattern_is_empty("same(%a, %b) & causal", &yes)), "");
}

TEST(Facade, CompileGivesAnArtifact) {
  void *artifact = nullptr;
  size_t size = 0;
  ASSERT_EQ(messageOf(api().compile(spec("causal").c_str(), "native", &artifact, &size, nullptr)), "");
  heddle_kernel *kernel = nullptr;
  EXPECT_EQ(messageOf(heddle_kernel_load(artifact, size, &kernel)), "");
  std::free(artifact);
  std::string manifest = heddle_kernel_manifest(kernel);
  for (const char *name : {"\"q\"", "\"k\"", "\"v\""}) {
    EXPECT_NE(manifest.find(name), std::string::npos) << manifest;
  }
  heddle_kernel_release(kernel);
}

/// Micro-kernels are compiled once for all, and parts by several threads: neither may be seen in the artifact.
TEST(Facade, ArtifactsDependOnTheSpecAlone) {
  // The second one has several parts.
  const std::string patterns[] = {"window(7, 0)",
                                  "grid(8, window(1, 1), window(2, 2)) | stride(6) | (causal & block(5))"};
  auto compile = [](const std::string &pattern) {
    void *artifact = nullptr;
    size_t size = 0;
    char *remarks = nullptr;
    EXPECT_EQ(messageOf(api().compile(spec(pattern).c_str(), "x86-64-v3", &artifact, &size, &remarks)), "");
    take(remarks);
    std::string bytes(static_cast<const char *>(artifact), size);
    std::free(artifact);
    return bytes;
  };
  std::vector<std::string> found(2 * std::size(patterns));
  std::vector<std::thread> threads;
  for (size_t n = 0; n < found.size(); ++n) {
    threads.emplace_back([&, n] { found[n] = compile(patterns[n / 2]); });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  for (size_t n = 0; n < found.size(); ++n) {
    EXPECT_EQ(found[n], compile(patterns[n / 2])) << patterns[n / 2];
  }
}

TEST(Facade, DiagnosticsHaveLineAndColumn) {
  void *artifact = nullptr;
  size_t size = 0;
  std::string message = messageOf(api().compile(spec("casual").c_str(), "native", &artifact, &size, nullptr));
  EXPECT_EQ(message.rfind("<spec>:3:45: error: ", 0), 0u) << message;
  EXPECT_NE(message.find("'casual'"), std::string::npos) << message;
  char *text = nullptr;
  EXPECT_NE(
      messageOf(api().print_ir("", "native", "attn", &text)).find("expected a module with one function, but got 0"),
      std::string::npos);
  EXPECT_NE(messageOf(api().explain(spec("causal").c_str(), "n=x", 0, &text)).find("'n=x'"), std::string::npos);
}

TEST(Facade, ExplainKeepsArgumentNames) {
  char *text = nullptr;
  ASSERT_EQ(messageOf(api().explain(spec("causal").c_str(), "n=16", 1, &text)), "");
  std::string json = take(text);
  EXPECT_NE(json.find("\"arguments\":[\"q\",\"k\",\"v\"]"), std::string::npos) << json;
  EXPECT_NE(json.find("\"live_pairs\":136"), std::string::npos) << json;
}

/// Uniform scores: out is the mean of the live values.
TEST(Facade, ReferenceIsTheFormula) {
  Matrix q(4, 0, 0), k(4, 1, 1), v(4, 1, 1);
  Doubles out(4);
  heddle_tensor args[] = {q.view, k.view, v.view};
  ASSERT_EQ(messageOf(api().reference(spec("causal").c_str(), args, 3, &out.view, 1)), "");
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(out.data[static_cast<size_t>(2 * i)], 1 + static_cast<double>(i), 1e-12);
  }
  EXPECT_NE(messageOf(api().reference(spec("causal").c_str(), args, 2, &out.view, 1)), "");
}

/// sum p |v| where all p are equal, times (2e-6 sqrt(keys) + 2^-22 (|lse| + log keys)).
TEST(Facade, ToleranceScalesWithMagnitude) {
  Matrix q(4, 0, 0), k(4, 1, 1), v(4, -1, -1);
  Doubles small(4), large(4);
  heddle_tensor args[] = {q.view, k.view, v.view};
  ASSERT_EQ(messageOf(api().tolerance(spec("causal").c_str(), args, 3, &small.view, 1)), "");
  for (int64_t i = 0; i < 4; ++i) {
    double mean = 1 + static_cast<double>(i), lse = std::log(mean);
    EXPECT_NEAR(small.data[static_cast<size_t>(2 * i)],
                (2e-6 * 2 + std::ldexp(1.0, -22) * (lse + std::log(4.0))) * mean, 1e-15);
  }
  Matrix tenfold(4, -10, -10);
  args[2] = tenfold.view;
  ASSERT_EQ(messageOf(api().tolerance(spec("causal").c_str(), args, 3, &large.view, 1)), "");
  for (size_t n = 0; n < small.data.size(); ++n) {
    EXPECT_NEAR(large.data[n], 10 * small.data[n], 1e-14);
  }
}

/// Without a softmax the weights are the scores: sum |w| |v|, over |sum w| for `sum`.
TEST(Facade, ToleranceOfOtherNormalizers) {
  Matrix q(1, 1, 0), k(2, 1, -1), v(2, 1, 0); // scaled dots: (1 + 0) s and (-1 - 2) s, s = 1/sqrt(2)
  Doubles none(1), sum(1);
  heddle_tensor args[] = {q.view, k.view, v.view};
  double s = 1 / std::sqrt(2.0), unit = 2e-6 * std::sqrt(2.0);
  ASSERT_EQ(messageOf(api().tolerance(spec("full", "normalizer(none)").c_str(), args, 3, &none.view, 1)), "");
  EXPECT_NEAR(none.data[0], unit * 4 * s, 1e-13);
  ASSERT_EQ(messageOf(api().tolerance(spec("full", "normalizer(sum)").c_str(), args, 3, &sum.view, 1)), "");
  EXPECT_NEAR(sum.data[0], unit * 4 / 2, 1e-13);
}

} // namespace
