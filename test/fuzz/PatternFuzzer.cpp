//===- PatternFuzzer.cpp - Any bytes as the text of a pattern -------------===//
//
// The parser of patterns takes any bytes: it returns a pattern or a located
// error and never crashes. What it accepts it prints, and the print parses to
// the same tree; what the verifier accepts has a canonical form with the same
// members. docs/testing.md says how to run it.
//
//===----------------------------------------------------------------------===//

#include "dialect/Pattern.h"

#include <cstdio>
#include <cstdlib>

using namespace heddle;

static void require(bool holds, const char *what, const std::string &text) {
  if (!holds) {
    std::fprintf(stderr, "expected %s for: %s\n", what, text.c_str());
    std::abort();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string text(reinterpret_cast<const char *>(data), size);
  auto parsed = parsePattern(text);
  if (const auto *error = std::get_if<PatternError>(&parsed)) {
    require(!error->message.empty() && error->offset <= size, "a located error", text);
    return 0;
  }
  const Pattern &p = std::get<Pattern>(parsed);
  std::string printed = p.str();
  auto again = parsePattern(printed);
  require(std::holds_alternative<Pattern>(again), "the print to parse", printed);
  require(std::get<Pattern>(again).same(p), "the print to be the same pattern", printed);
  // A verified pattern has members; sizes of canonical forms are capped, but random_blocks draws for each row.
  if (p.verify() || p.hasOperands() || !p.scalarOperands().empty() || printed.find("random") != std::string::npos) {
    return 0;
  }
  Pattern c = canonicalize(p);
  ExprEnv env;
  env.nq = env.nk = 24;
  for (env.i = 0; env.i < env.nq; env.i += 5) {
    for (env.j = 0; env.j < env.nk; env.j += 3) {
      require(p.contains(env) == c.contains(env), "the canonical form to have the same members", printed);
    }
  }
  return 0;
}
