//===- Commands.h - The subcommands of heddle -----------------------------===//
//
// One function per subcommand; each returns the exit code or throws Failure.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TOOLS_COMMANDS_H
#define HEDDLE_TOOLS_COMMANDS_H

#include "tools/Support.h"

namespace heddle::tools {

struct CompileOptions {
  SpecSource source;
  std::string target = "native", output, stage;
  bool remarks = false;
};
/// Writes an object, assembly, shared object, bundle or IR, by the ending of `output`.
int runCompile(const CompileOptions &options);

struct RunOptions {
  SpecSource source;
  std::string target = "native";
  bool check = false, checkFull = false, compareDense = false, json = false;
  int repeat = 0;  ///< 0: as many as fit in half a second, 3 to 100
  int threads = 0; ///< 0: the runtime's default
  uint64_t seed = 0;
};
/// Runs the spec on random data, times it, and compares it with the reference.
int runRun(const RunOptions &options);

/// Runs the spec as `run` does. `sizes` receives those of the data, as the explain interface takes them, with the
/// threads and the measured time.
void measure(const RunOptions &options, std::string &sizes);

struct ExplainOptions {
  SpecSource source;
  std::string target; ///< a GPU, whose kernels are explained too; or empty
  bool json = false, run = false;
  int threads = 0; ///< 0: the runtime's default
};
int runExplain(const ExplainOptions &options);

struct ShowOptions {
  SpecSource source;
  std::string output = "-";
  int64_t head = 0, size = 0, segment = -1;
  uint64_t seed = 0;
};
/// Draws the pattern and its tiles.
int runShow(const ShowOptions &options);

struct CacheOptions {
  std::string action;
  bool json = false;
};
int runCache(const CacheOptions &options);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_COMMANDS_H
