//===- ExplainCommand.cpp - heddle explain --------------------------------===//

#include "tools/Commands.h"
#include "tools/ExplainedGpu.h"

#include <cstdio>

namespace heddle::tools {

int runExplain(const ExplainOptions &options) {
  Shape checked(options.source.shape);
  Spec spec = readSpec(options.source);
  std::string sizes = options.source.shape;
  if (options.run) {
    RunOptions run;
    run.source = options.source;
    run.threads = options.threads;
    measure(run, sizes);
  } else if (options.threads > 0) {
    sizes += (sizes.empty() ? "threads=" : ",threads=") + std::to_string(options.threads);
  }
  Progress progress("explaining");
  std::string out = explain(spec, sizes, options.json);
  if (!options.target.empty()) {
    nlohmann::json kernels = gpuKernels(spec, options.target);
    if (options.json) {
      nlohmann::json all = nlohmann::json::parse(out);
      all["kernels"] = {{"target", options.target}, {"ops", std::move(kernels)}};
      out = all.dump();
    } else {
      out += (out.empty() || out.back() == '\n' ? "" : "\n") + gpuWords(kernels, options.target);
    }
  }
  std::fputs(out.c_str(), stdout);
  if (!out.empty() && out.back() != '\n') {
    std::fputc('\n', stdout);
  }
  return 0;
}

} // namespace heddle::tools
