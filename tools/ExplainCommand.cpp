//===- ExplainCommand.cpp - heddle explain --------------------------------===//

#include "tools/Commands.h"

#include <cstdio>

namespace heddle::tools {

int runExplain(const ExplainOptions &options) {
  Shape checked(options.source.shape);
  Spec spec = readSpec(options.source);
  Progress progress("explaining");
  char *text = nullptr;
  check(compiler().explain(spec.text.c_str(), options.source.shape.c_str(), options.json, &text), &spec);
  std::string out = take(text);
  std::fputs(out.c_str(), stdout);
  if (!out.empty() && out.back() != '\n') {
    std::fputc('\n', stdout);
  }
  return 0;
}

} // namespace heddle::tools
