//===- RunProgram.cpp - heddle run on a spec of several ops ---------------===//
//
// The arguments of such a function have no roles: their open sizes follow from
// their ranks ([b, h, n, d], [b, h, n], [n, ..], [b, n] of integers, [n]) unless
// --shape gives them by name and axis (`e.0=1024`). The runtime says what the
// results are like; the reference interpreter checks them.
//
//===----------------------------------------------------------------------===//

#include "tools/RunProgram.h"

#include "tools/Words.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace heddle::tools {

namespace {

using Clock = std::chrono::steady_clock;

struct Formal {
  std::string name, type;
  bool scalar = false;
  std::vector<int64_t> dims;
};

std::vector<Formal> formalsOf(const nlohmann::json &manifest) {
  std::vector<Formal> out;
  for (const nlohmann::json &a : manifest["args"]) {
    out.push_back({a.value("name", "arg" + std::to_string(out.size())), a.value("type", ""), a.value("scalar", false),
                   a.value("dims", std::vector<int64_t>())});
  }
  return out;
}

std::vector<int64_t> shapeOf(const Formal &f, const Shape &shape) {
  const int64_t b = shape.get("b", 1), h = shape.get("h", 8), n = shape.get("n", shape.get("nq", 1024));
  const bool floats = f.type == "f32" || f.type == "f16" || f.type == "bf16";
  std::vector<int64_t> open;
  switch (f.dims.size()) {
  case 1:
    open = {n};
    break;
  case 2:
    open = floats ? std::vector<int64_t>{n, n} : std::vector<int64_t>{b, n};
    break;
  case 3:
    open = {b, h, n};
    break;
  default:
    open = {b, h, n, shape.get("d", 64)};
  }
  std::vector<int64_t> sizes = f.dims;
  for (size_t axis = 0; axis < sizes.size(); ++axis) {
    if (sizes[axis] < 0) {
      sizes[axis] = shape.get(f.name + "." + std::to_string(axis), axis < open.size() ? open[axis] : 1);
    }
  }
  return sizes;
}

void checkNames(const std::vector<Formal> &formals, const Shape &shape) {
  std::string known = "b h n nq d";
  for (const Formal &f : formals) {
    known += f.scalar ? " " + f.name : "";
    for (size_t axis = 0; axis < f.dims.size(); ++axis) {
      known += f.dims[axis] < 0 ? " " + f.name + "." + std::to_string(axis) : "";
    }
  }
  for (const auto &[name, value] : shape.all()) {
    if ((" " + known + " ").find(" " + name + " ") == std::string::npos) {
      throw Failure(2, "expected sizes of: " + known + "; but got '" + name + "'");
    }
  }
}

Tensor filled(const Formal &f, const Shape &shape, std::mt19937_64 &random) {
  if (f.scalar) {
    const bool isFloat = f.type == "f32" || f.type == "f64";
    Tensor value(isFloat ? HEDDLE_F64 : HEDDLE_I64, {});
    value.set(0, static_cast<double>(shape.get(f.name, isFloat ? 1 : 0)));
    return value;
  }
  Tensor t(dtypeOf(f.type), shapeOf(f, shape));
  std::normal_distribution<double> normal;
  const int64_t rows = t.view().rank > 0 ? std::max<int64_t>(t.view().shape[t.view().rank - 1], 1) : 1;
  for (int64_t n = 0; n < t.size(); ++n) {
    const heddle_dtype type = t.view().dtype;
    const auto word = static_cast<int64_t>(random() >> 1);
    t.set(n, type <= HEDDLE_F64 ? normal(random) : static_cast<double>(type == HEDDLE_BOOL ? word % 2 : word % rows));
  }
  return t;
}

std::vector<heddle_tensor> views(const std::vector<Tensor> &tensors) {
  std::vector<heddle_tensor> out;
  for (const Tensor &t : tensors) {
    out.push_back(t.view());
  }
  return out;
}

/// A function's arguments and results, and how to run it.
struct Call {
  Call(const Spec &spec, const Kernel &kernel, const Shape &shape, uint64_t seed) : spec(spec), kernel(kernel) {
    const auto formals = formalsOf(nlohmann::json::parse(heddle_kernel_manifest(kernel.handle)));
    checkNames(formals, shape);
    std::mt19937_64 random(seed);
    for (const Formal &f : formals) {
      values.push_back(filled(f, shape, random));
      sizes += (sizes.empty() ? "" : " ") + f.name + "=";
      const heddle_tensor &view = values.back().view();
      for (int32_t n = 0; n < view.rank; ++n) {
        sizes += (n ? "x" : "") + std::to_string(view.shape[n]);
      }
      sizes += f.scalar ? std::to_string(static_cast<int64_t>(values.back().get(0))) : "";
    }
    arguments = views(values);
    std::vector<heddle_tensor> made(static_cast<size_t>(heddle_kernel_num_results(kernel.handle)));
    check(heddle_kernel_infer(kernel.handle, arguments.data(), count(arguments), made.data(), count(made)), &spec);
    for (const heddle_tensor &m : made) {
      const std::vector<int64_t> like(m.shape, m.shape + m.rank);
      results.emplace_back(static_cast<heddle_dtype>(m.dtype), like);
      expected.emplace_back(m.dtype <= HEDDLE_F64 ? HEDDLE_F64 : static_cast<heddle_dtype>(m.dtype), like);
    }
  }
  void run(int threads) const {
    std::vector<heddle_tensor> out = views(results);
    heddle_run_options options = {threads, 0};
    check(heddle_kernel_run(kernel.handle, arguments.data(), count(arguments), out.data(), count(out), &options),
          &spec);
  }
  /// The largest error as a share of the largest value, of each result the worst.
  double error() const {
    std::vector<heddle_tensor> out = views(expected);
    check(compiler().reference(spec.text.c_str(), arguments.data(), count(arguments), out.data(), count(out)), &spec);
    double worst = 0;
    for (size_t r = 0; r < results.size(); ++r) {
      double most = 0, off = 0;
      for (int64_t n = 0; n < results[r].size(); ++n) {
        const double e = expected[r].get(n), got = results[r].get(n);
        const bool same = e == got || (std::isnan(e) && std::isnan(got));
        most = std::isfinite(e) ? std::max(most, std::fabs(e)) : most;
        const double difference = same ? 0 : std::fabs(e - got);
        off = std::max(off, std::isnan(difference) ? INFINITY : difference);
      }
      worst = std::max(worst, off == 0 ? 0 : off / std::max(most, 1e-30));
    }
    return worst;
  }
  static int32_t count(const std::vector<heddle_tensor> &v) { return static_cast<int32_t>(v.size()); }

  const Spec &spec;
  const Kernel &kernel;
  std::vector<Tensor> values, results, expected;
  std::vector<heddle_tensor> arguments;
  std::string sizes;
};

} // namespace

bool isProgram(const Spec &spec) { return nlohmann::json::parse(explain(spec, "", true)).contains("ops"); }

int runProgram(const Spec &spec, const RunOptions &options) {
  const auto began = Clock::now();
  const Kernel kernel(spec, options.target);
  const double compileSeconds = secondsSince(began);
  const nlohmann::json manifest = nlohmann::json::parse(heddle_kernel_manifest(kernel.handle));
  const Shape shape(options.source.shape);
  Call call(spec, kernel, shape, options.seed);
  call.run(options.threads);
  std::vector<double> times;
  const auto start = Clock::now();
  while (options.repeat > 0 ? times.size() < static_cast<size_t>(options.repeat)
                            : times.size() < 3 || (times.size() < 100 && secondsSince(start) < 0.5)) {
    const auto begin = Clock::now();
    call.run(options.threads);
    times.push_back(secondsSince(begin));
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const size_t steps = manifest["steps"].size();
  nlohmann::json json = {
      {"spec", spec.name},
      {"sizes", call.sizes},
      {"threads", options.threads},
      {"steps", steps},
      {"compile_seconds", compileSeconds},
      {"cached", !kernel.compiled},
      {"time", {{"median_seconds", median}, {"best_seconds", times.front()}, {"runs", times.size()}}}};
  if (!options.json) {
    line("spec",
         spec.name + ", " + std::to_string(steps) + (steps == 1 ? " op" : " ops") + ", target " + options.target);
    line("sizes", call.sizes);
    line("kernel", (kernel.compiled ? "compiled in " : "from the cache in ") + seconds(compileSeconds));
    if (!kernel.remarks.empty()) {
      line("remarks", spec.located(kernel.remarks));
    }
    line("time", seconds(median) + ", median of " + std::to_string(times.size()) + " (" + seconds(times.front()) +
                     " to " + seconds(times.back()) + "), " + std::to_string(options.threads) + " threads");
  }
  bool passed = true;
  if (options.check) {
    Progress progress("checking against the reference interpreter");
    bool half = false;
    for (const char *side : {"args", "results"}) {
      for (const nlohmann::json &slot : manifest[side]) {
        half |= slot.value("type", "") == "f16" || slot.value("type", "") == "bf16";
      }
    }
    // There is no tolerance for chains of ops: a few roundings of what is stored between them.
    const double error = call.error(), allowed = half ? 3e-2 : 1e-4;
    passed = error <= allowed;
    json["check"] = {{"passed", passed}, {"relative_error", error}, {"allowed", allowed}};
    if (!options.json) {
      char text[96];
      std::snprintf(text, sizeof text, "%s: largest error %.3g of the largest value (allowed %.3g)",
                    passed ? "ok" : "FAILED", error, allowed);
      line("check", text);
    }
  }
  if (options.json) {
    std::printf("%s\n", json.dump().c_str());
  }
  return passed ? 0 : 1;
}

} // namespace heddle::tools
