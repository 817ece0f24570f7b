//===- ExplainCommand.cpp - heddle explain --------------------------------===//

#include "tools/Commands.h"

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
  char *text = nullptr;
  check(compiler().explain(spec.text.c_str(), sizes.c_str(), options.json, &text), &spec);
  std::string out = take(text);
  std::fputs(out.c_str(), stdout);
  if (!out.empty() && out.back() != '\n') {
    std::fputc('\n', stdout);
  }
  return 0;
}

} // namespace heddle::tools
