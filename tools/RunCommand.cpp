//===- RunCommand.cpp - heddle run ----------------------------------------===//

#include "tools/Check.h"
#include "tools/Commands.h"
#include "tools/Explained.h"
#include "tools/FmaPeak.h"
#include "tools/RunProgram.h"
#include "tools/Words.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace heddle::tools {

namespace {

using Clock = std::chrono::steady_clock;

struct Timing {
  double median = 0, best = 0, worst = 0;
  int runs = 0;
};

void runOnce(const Spec &spec, heddle_kernel *kernel, const Problem &problem, int threads) {
  std::vector<heddle_tensor> args, results;
  for (const Tensor &value : problem.values) {
    args.push_back(value.view());
  }
  for (const Tensor &result : problem.results) {
    results.push_back(result.view());
  }
  heddle_run_options options = {threads, 0};
  check(heddle_kernel_run(kernel, args.data(), static_cast<int32_t>(args.size()), results.data(),
                          static_cast<int32_t>(results.size()), &options),
        &spec);
}

Timing timeRuns(const Spec &spec, heddle_kernel *kernel, const Problem &problem, const RunOptions &options) {
  Progress progress("timing");
  std::vector<double> times;
  auto start = Clock::now();
  auto more = [&](int done) {
    return options.repeat > 0 ? done < options.repeat : done < 3 || (done < 100 && secondsSince(start) < 0.5);
  };
  while (more(static_cast<int>(times.size()))) {
    auto begin = Clock::now();
    runOnce(spec, kernel, problem, options.threads);
    times.push_back(secondsSince(begin));
  }
  std::sort(times.begin(), times.end());
  size_t middle = times.size() / 2;
  double median = times.size() % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  return {median, times.front(), times.back(), static_cast<int>(times.size())};
}

std::string sizesInWords(const Problem &p) {
  std::string text = "b=" + std::to_string(p.b) + " h=" + std::to_string(p.h);
  text += p.hk != p.h ? " hk=" + std::to_string(p.hk) : "";
  text += p.hv != p.hk ? " hv=" + std::to_string(p.hv) : "";
  text += " nq=" + std::to_string(p.nq);
  for (size_t g = 0; g < p.nk.size(); ++g) {
    text += (p.nk.size() > 1 ? " nk" + std::to_string(g) : std::string(" nk")) + "=" + std::to_string(p.nk[g]);
  }
  return text + " d=" + std::to_string(p.d) + (p.dv != p.d ? " dv=" + std::to_string(p.dv) : "");
}

/// The same sizes and type without a pattern.
SpecSource denseSource(const Problem &p) {
  SpecSource source;
  source.pattern = "full";
  source.dtype = p.dtype;
  int64_t keys = 0;
  for (int64_t n : p.nk) {
    keys += n;
  }
  source.shape = "b=" + std::to_string(p.b) + ",h=" + std::to_string(p.h) + ",hk=" + std::to_string(p.hk) +
                 ",hv=" + std::to_string(p.hv) + ",nq=" + std::to_string(p.nq) + ",nk=" + std::to_string(keys) +
                 ",d=" + std::to_string(p.d) + ",dv=" + std::to_string(p.dv);
  return source;
}

/// One spec with its kernel and data.
struct Bench {
  Bench(Spec given, const Shape &shape, const RunOptions &options)
      : spec(std::move(given)), compileStart(Clock::now()), kernel(spec, options.target),
        compileSeconds(secondsSince(compileStart)), problem(heddle_kernel_manifest(kernel.handle), shape),
        explained(spec, problem.sizes()) {
    problem.fill(explained.patterns, options.seed, shape);
    explained = Explained(spec, problem.sizes());
    pairs = countLivePairs(explained, problem);
    runOnce(spec, kernel.handle, problem, options.threads);
  }
  Spec spec;
  Clock::time_point compileStart;
  Kernel kernel;
  double compileSeconds;
  Problem problem;
  Explained explained;
  LivePairs pairs;
};

/// A problem of the same spec on which the reference takes a few seconds.
struct CheckRun {
  CheckResult result;
  std::string sizes;
  bool shortened = false;
};

CheckRun checkRun(const Bench &bench, const RunOptions &options) {
  // About 0.25 us for each pair that the reference looks at, 2 ns for each product.
  auto cost = [&](const Problem &p) {
    double pairs = 0;
    for (int64_t n : p.nk) {
      pairs += static_cast<double>(p.b * p.h) * static_cast<double>(p.nq) * static_cast<double>(n);
    }
    double share = bench.pairs.all > 0 ? bench.pairs.live / bench.pairs.all : 1;
    return pairs * (0.25e-6 + share * 2e-9 * static_cast<double>(p.d + p.dv));
  };
  constexpr double kEnough = 4;
  Problem problem = bench.problem;
  CheckRun run;
  if (!options.checkFull && cost(problem) > kEnough) {
    std::string text = options.source.shape;
    // Batches and lengths shrink; heads, widths and run-time scalars stay.
    double factor = std::sqrt(kEnough / cost(problem) * static_cast<double>(problem.b));
    auto shrink = [&](int64_t n) {
      return std::max<int64_t>(std::min<int64_t>(n, 64),
                               static_cast<int64_t>(static_cast<double>(n) * std::min(factor, 1.0)));
    };
    std::string sizes = "b=1,nq=" + std::to_string(shrink(problem.nq)) + ",nk=" + std::to_string(shrink(problem.nk[0]));
    for (size_t g = 0; g < problem.nk.size(); ++g) {
      sizes += ",nk" + std::to_string(g) + "=" + std::to_string(shrink(problem.nk[g]));
    }
    Shape given(text);
    for (const auto &[name, value] : given.all()) {
      if (name != "b" && name != "n" && name.rfind("nq", 0) != 0 && name.rfind("nk", 0) != 0) {
        sizes += "," + name + "=" + std::to_string(value);
      }
    }
    Shape shape(sizes);
    problem = Problem(heddle_kernel_manifest(bench.kernel.handle), shape);
    problem.fill(bench.explained.patterns, options.seed, shape);
    runOnce(bench.spec, bench.kernel.handle, problem, options.threads);
    run.shortened = true;
  }
  run.sizes = sizesInWords(problem);
  Progress progress("checking against the reference interpreter");
  run.result = checkResults(bench.spec, problem);
  return run;
}

nlohmann::json timingJson(const Timing &t) {
  return {{"median_seconds", t.median}, {"best_seconds", t.best}, {"worst_seconds", t.worst}, {"runs", t.runs}};
}

std::string format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char *pattern, ...) {
  char text[512];
  va_list args;
  va_start(args, pattern);
  std::vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  return text;
}

} // namespace

/// Sizes, threads and time as the explain interface takes them.
static std::string measuredSizes(const Bench &bench, const Timing &timing, int threads) {
  return bench.problem.sizes() + ",threads=" + std::to_string(threads) +
         ",measured_ns=" + std::to_string(std::llround(timing.median * 1e9));
}

void measure(const RunOptions &given, std::string &sizes) {
  RunOptions options = given;
  if (options.threads == 0) {
    options.threads = heddle_num_threads();
  }
  Bench bench(readSpec(options.source), Shape(options.source.shape), options);
  sizes = measuredSizes(bench, timeRuns(bench.spec, bench.kernel.handle, bench.problem, options), options.threads);
}

int runRun(const RunOptions &given) {
  RunOptions options = given;
  options.check |= options.checkFull;
  if (options.threads == 0) {
    options.threads = heddle_num_threads();
  }
  const Spec spec = readSpec(options.source);
  if (isProgram(spec)) {
    return runProgram(spec, options);
  }
  Bench bench(spec, Shape(options.source.shape), options);
  Timing timing = timeRuns(bench.spec, bench.kernel.handle, bench.problem, options);
  const LivePairs &pairs = bench.pairs;
  double speed = pairs.flops / timing.median * 1e-9, peak = fmaPeak(options.threads);

  nlohmann::json json = {{"spec", bench.spec.name},
                         {"dtype", bench.problem.dtype},
                         {"sizes", bench.problem.sizes()},
                         {"threads", options.threads},
                         {"compile_seconds", bench.compileSeconds},
                         {"cached", !bench.kernel.compiled},
                         {"live_pairs", pairs.live},
                         {"live_pairs_exact", pairs.exact},
                         {"pairs", pairs.all},
                         {"flops", pairs.flops},
                         {"time", timingJson(timing)},
                         {"gflops", speed},
                         {"fma_peak_gflops", peak}};
  const nlohmann::json told = Explained(bench.spec, measuredSizes(bench, timing, options.threads)).json["time"];
  json["predicted_seconds"] = told["predicted_seconds"];
  if (!options.json) {
    line("spec", bench.spec.name + ", " + bench.problem.dtype + ", target " + options.target);
    line("sizes", sizesInWords(bench.problem));
    line("kernel", (bench.kernel.compiled ? "compiled in " : "from the cache in ") + seconds(bench.compileSeconds));
    if (!bench.kernel.remarks.empty()) {
      line("remarks", bench.spec.located(bench.kernel.remarks));
    }
    line("live pairs", (pairs.exact ? "" : "about ") + grouped(pairs.live) + " of " + grouped(pairs.all) +
                           format(" (%.3g %%)", pairs.all > 0 ? 100 * pairs.live / pairs.all : 0.0));
    line("time", seconds(timing.median) + ", median of " + std::to_string(timing.runs) + " (" + seconds(timing.best) +
                     " to " + seconds(timing.worst) + "), " + std::to_string(options.threads) + " threads");
    if (told["predicted_seconds"].is_number()) {
      line("predicted", seconds(told["predicted_seconds"].get<double>()) +
                            (told["machine"] == "measured" ? "" : " by the constants of a usual machine"));
    }
    line("speed", format("%.4g GFLOP/s on live pairs, %.3g %% of %.4g GFLOP/s that f32 multiply-adds reach here", speed,
                         100 * speed / peak, peak));
  }

  if (options.compareDense) {
    SpecSource source = denseSource(bench.problem);
    Bench dense(readSpec(source), Shape(source.shape), options);
    Timing other = timeRuns(dense.spec, dense.kernel.handle, dense.problem, options);
    json["dense"] = {{"time", timingJson(other)}, {"pairs", dense.pairs.all}};
    if (!options.json) {
      line("dense", seconds(other.median) + format(": %.3g times as long, for %.3g times the pairs",
                                                   other.median / timing.median,
                                                   pairs.live > 0 ? dense.pairs.all / pairs.live : 0.0));
    }
  }

  bool passed = true;
  if (options.check) {
    CheckRun run = checkRun(bench, options);
    passed = run.result.passed();
    json["check"] = {{"passed", passed},
                     {"worst_over_tolerance", run.result.worst},
                     {"max_error", run.result.error},
                     {"elements", run.result.elements},
                     {"sizes", run.sizes},
                     {"shortened", run.shortened}};
    if (!options.json) {
      std::string text = passed ? "ok" : "FAILED at " + run.result.where;
      text += format(": largest error %.3g, worst %.3g of the tolerance, ", run.result.error, run.result.worst) +
              grouped(static_cast<double>(run.result.elements)) + " elements";
      line("check", text + (run.shortened ? ", the same kernel at " + run.sizes : ""));
    }
  }
  if (options.json) {
    std::printf("%s\n", json.dump().c_str());
  }
  return passed ? 0 : 1;
}

} // namespace heddle::tools
