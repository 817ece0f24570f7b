//===- GpuOrder.cpp - Which tiles of a kernel are the longest -------------===//

#include "passes/gpu/GpuOrder.h"

#include <algorithm>

namespace heddle {

/// Tiles at which the cost is counted, and queries of each.
static constexpr int64_t kTiles = 32, kQueries = 4;
/// Deeper expressions (draws) are left out: they have no trend.
static constexpr uint32_t kMostDepth = 64;
/// Stands for integers that are given at run time.
static constexpr int64_t kScalar = 64;

static bool counts(const std::vector<Expr> &list) {
  return std::all_of(list.begin(), list.end(), [](const Expr &x) { return x->depth <= kMostDepth; });
}

static int64_t largest(const std::vector<Expr> &list, int64_t least, const ExprEnv &env) {
  for (const Expr &x : list) {
    least = std::max(least, evaluateInt(x, env));
  }
  return least;
}

static int64_t smallest(const std::vector<Expr> &list, int64_t most, const ExprEnv &env) {
  for (const Expr &x : list) {
    most = std::min(most, evaluateInt(x, env));
  }
  return most;
}

/// Keys of one query in one stratum, between its digits' bounds.
static double keysOf(const Stratum &s, const ExprEnv &env) {
  if (!s.guard.isNull() && s.guard->depth <= kMostDepth && !evaluateBool(s.guard, env)) {
    return 0;
  }
  if (!counts(s.lower) || !counts(s.upper)) {
    return 0;
  }
  int64_t lo = largest(s.lower, 0, env), hi = smallest(s.upper, env.nk, env);
  double keys = lo < hi ? 1 : 0;
  for (size_t k = 0; k < s.key.size() && keys > 0; ++k) {
    const KeyDigit &d = s.key[k];
    if (!counts(d.lower) || !counts(d.upper)) {
      return 0;
    }
    int64_t from = k == 0 ? lo / d.radix : 0, to = k == 0 ? (hi - 1) / d.radix + 1 : d.extent;
    from = largest(d.lower, from, env);
    to = smallest(d.upper, to, env);
    keys *= double(std::max<int64_t>(to - from, 0)) / double(d.step);
  }
  return keys;
}

double predictedKeys(const Schedule &schedule, llvm::ArrayRef<int64_t> members, int64_t span, int64_t number,
                     int64_t tiles) {
  ExprEnv env;
  env.nq = env.nk = span * tiles;
  env.heads = 1;
  env.scalar = [](int64_t) { return kScalar; };
  env.load = [](int64_t, const std::vector<int64_t> &) { return 0.0; };
  env.size = [](int64_t, int64_t) { return int64_t(1); };
  double keys = 0;
  for (int64_t query = 0; query < kQueries; ++query) {
    env.i = number * span + query * span / kQueries;
    for (int64_t n : members) {
      keys += keysOf(schedule.strata[size_t(n)], env);
    }
  }
  return keys / double(kQueries);
}

bool laterTilesCostMore(const Schedule &schedule, llvm::ArrayRef<int64_t> members, int64_t span) {
  span = std::min<int64_t>(span, int64_t(1) << 24);
  double trend = 0, all = 0;
  for (int64_t n = 0; n < kTiles; ++n) {
    double keys = predictedKeys(schedule, members, span, n, kTiles);
    trend += keys * double(2 * n - kTiles + 1);
    all += keys * double(kTiles);
  }
  return trend > 0.01 * all;
}

} // namespace heddle
