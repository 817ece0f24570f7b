//===- FmaPeak.cpp - What this machine's cores can multiply and add -------===//
//
// Sixteen independent accumulators of the widest vectors keep every FMA unit
// busy at its latency; nothing touches memory. The best of several short runs
// counts, because a limit is what was once reached.
//
//===----------------------------------------------------------------------===//

#include "tools/FmaPeak.h"

#include "heddle/runtime.h"
#include "tools/Support.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <sys/stat.h>

namespace heddle::tools {

namespace {

constexpr int kAccumulators = 16;

/// `rounds` * kAccumulators FMAs on vectors of `Lanes` floats; returns FLOPs done.
template <int Lanes> [[gnu::always_inline]] inline double chain(int64_t rounds, volatile float *sink) {
  using Vector __attribute__((ext_vector_type(Lanes))) = float;
  Vector acc[kAccumulators], a = 0.999f, b = 0.001f;
  for (int n = 0; n < kAccumulators; ++n) {
    acc[n] = static_cast<float>(n);
  }
  for (int64_t r = 0; r < rounds; ++r) {
#pragma clang loop unroll(full)
    for (int n = 0; n < kAccumulators; ++n) {
      acc[n] = __builtin_elementwise_fma(acc[n], a, b);
    }
  }
  float sum = 0;
  for (int n = 0; n < kAccumulators; ++n) {
    sum += acc[n][0];
  }
  *sink = sum;
  return 2.0 * Lanes * kAccumulators * static_cast<double>(rounds);
}

#if defined(__x86_64__)
[[gnu::target("avx512f,fma")]] double chain512(int64_t rounds, volatile float *sink) { return chain<16>(rounds, sink); }
[[gnu::target("avx2,fma")]] double chain256(int64_t rounds, volatile float *sink) { return chain<8>(rounds, sink); }
#endif

/// Without FMA instructions: a multiplication and an addition.
double chain128(int64_t rounds, volatile float *sink) {
  using Vector __attribute__((ext_vector_type(4))) = float;
  Vector acc[8], a = 0.999f, b = 0.001f;
  for (Vector &v : acc) {
    v = 1.0f;
  }
  for (int64_t r = 0; r < rounds; ++r) {
    for (Vector &v : acc) {
      v = v * a + b;
    }
  }
  float sum = 0;
  for (Vector &v : acc) {
    sum += v[0];
  }
  *sink = sum;
  return 2.0 * 4 * 8 * static_cast<double>(rounds);
}

using Chain = double (*)(int64_t, volatile float *);

Chain chooseChain() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return chain512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return chain256;
  }
#endif
  return chain128;
}

double measure(int threads, int repeats) {
  struct Work {
    Chain chain;
    std::vector<double> flops;
  } work{chooseChain(), std::vector<double>(static_cast<size_t>(threads))};
  double best = 0;
  for (int n = 0; n < repeats; ++n) {
    auto start = std::chrono::steady_clock::now();
    heddle_parallel(
        threads, threads,
        [](void *context, int64_t task, int32_t) {
          auto *w = static_cast<Work *>(context);
          volatile float sink = 0;
          w->flops[static_cast<size_t>(task)] = w->chain(1000000, &sink);
        },
        &work);
    double flops = 0;
    for (double f : work.flops) {
      flops += f;
    }
    best = std::max(best, flops / secondsSince(start) * 1e-9);
  }
  return best;
}

} // namespace

double fmaPeak(int threads) {
  std::string folder = heddle_cache_path();
  std::string path = folder + "/fma-peak-" + std::to_string(std::hash<std::string>()(heddle_host_features())) + "-" +
                     std::to_string(threads);
  double known = 0;
  if (!folder.empty()) {
    std::ifstream(path) >> known;
  }
  // A busy machine measures too little: once more each time, and the best of all times counts.
  double peak = measure(threads, known > 0 ? 4 : 32);
  if (peak > known && !folder.empty()) {
    std::ofstream(path) << peak << "\n";
  }
  return std::max(peak, known);
}

} // namespace heddle::tools
