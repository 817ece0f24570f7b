//===- Check.cpp - A kernel's results against the reference ---------------===//
//
// The compiler library runs the reference interpreter, and says how far each
// element may be from it.
//
//===----------------------------------------------------------------------===//

#include "tools/Check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace heddle::tools {

static std::vector<Tensor> doubles(const Problem &problem) {
  std::vector<Tensor> tensors;
  for (const Tensor &result : problem.results) {
    const heddle_tensor &view = result.view();
    tensors.emplace_back(HEDDLE_F64, std::vector<int64_t>(view.shape, view.shape + view.rank));
  }
  return tensors;
}

static std::vector<heddle_tensor> views(const std::vector<Tensor> &tensors) {
  std::vector<heddle_tensor> out;
  for (const Tensor &tensor : tensors) {
    out.push_back(tensor.view());
  }
  return out;
}

/// "out[0, 3, 17, 5]: expected 0.25, but got 0.5"
static std::string place(const Slot &slot, const Tensor &tensor, int64_t flat, double expected, double got) {
  std::string index;
  for (int32_t n = tensor.view().rank; n-- > 0;) {
    int64_t size = tensor.view().shape[n];
    index = std::to_string(flat % size) + (index.empty() ? "" : ", ") + index;
    flat /= size;
  }
  char values[96];
  std::snprintf(values, sizeof values, "]: expected %.9g, but got %.9g", expected, got);
  return (slot.role.empty() ? slot.name : slot.role) + "[" + index + values;
}

CheckResult checkResults(const Spec &spec, const Problem &problem) {
  std::vector<Tensor> expected = doubles(problem), allowed = doubles(problem);
  std::vector<heddle_tensor> args = views(problem.values), want = views(expected), limits = views(allowed);
  auto numArgs = static_cast<int32_t>(args.size()), numResults = static_cast<int32_t>(want.size());
  const heddle_compiler_api &api = compiler();
  check(api.reference(spec.text.c_str(), args.data(), numArgs, want.data(), numResults), &spec);
  check(api.tolerance(spec.text.c_str(), args.data(), numArgs, limits.data(), numResults), &spec);
  CheckResult result;
  for (size_t r = 0; r < expected.size(); ++r) {
    for (int64_t n = 0; n < expected[r].size(); ++n) {
      double e = expected[r].get(n), got = problem.results[r].get(n);
      bool same = e == got || (std::isnan(e) && std::isnan(got));
      double error = same ? 0 : std::fabs(e - got);
      double worst = same ? 0 : error / allowed[r].get(n);
      worst = std::isnan(worst) ? INFINITY : worst;
      result.error = std::max(result.error, std::isnan(error) ? INFINITY : error);
      if (worst > result.worst) {
        result.worst = worst;
        result.where = place(problem.outs[r], expected[r], n, e, got);
      }
    }
    result.elements += expected[r].size();
  }
  return result;
}

} // namespace heddle::tools
