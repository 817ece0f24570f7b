//===- Support.h - What the heddle subcommands share ----------------------===//
//
// Errors with exit codes, reading a spec from a file, stdin or an inline
// pattern, the compiler library (loaded on first use, so that `heddle cache`
// never pays for LLVM), and the progress line.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TOOLS_SUPPORT_H
#define HEDDLE_TOOLS_SUPPORT_H

#include "codegen/Compiler.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

namespace heddle::tools {

/// What main prints after "heddle: " before it exits with `code`: 2 for input
/// that the user can mend, 1 for everything else.
struct Failure : std::runtime_error {
  Failure(int code, const std::string &message) : std::runtime_error(message), code(code) {}
  int code;
};

/// Sizes by name, as `b=1,h=8,n=4096,d=64`; `n` stands for nq and nk. Names that
/// are not sizes give values to the spec's scalar arguments.
class Shape {
public:
  explicit Shape(const std::string &text = "");
  /// The size, or `otherwise` where it was not given.
  int64_t get(const std::string &name, int64_t otherwise) const;
  bool has(const std::string &name) const { return values.count(name) != 0; }
  const std::map<std::string, int64_t> &all() const { return values; }

private:
  std::map<std::string, int64_t> values;
};

/// Where a spec comes from, as the command line gave it.
struct SpecSource {
  std::string path;                   ///< a file, or "-"
  std::optional<std::string> pattern; ///< --pattern TEXT: a spec is made around it
  std::string shape;                  ///< --shape
  std::string dtype;                  ///< --dtype; empty: as the spec says, f32 for a pattern
};

/// A spec's text, and what its locations are called.
struct Spec {
  std::string text;
  std::string name;      ///< replaces `<spec>` in messages
  int64_t firstLine = 1; ///< the line of `text` that is line 1 of `name`
  /// Puts the name that the user knows in front of line:column.
  std::string located(const std::string &diagnostics) const;
};

Spec readSpec(const SpecSource &source);

/// The compiler's function table; throws where the library is missing.
const heddle_compiler_api &compiler();

/// Throws the error's message, if there is an error, as a Failure.
void check(heddle_error *error, const Spec *spec = nullptr);

/// Frees a malloc'ed string of the C interfaces.
std::string take(char *text);

/// What the compiler says about a spec, at sizes as "b=1,h=8"; with this process's threads where they name none.
std::string explain(const Spec &spec, std::string sizes, bool json);

/// The kernel of a spec, from the cache or compiled.
struct Kernel {
  Kernel(const Spec &spec, const std::string &target);
  ~Kernel();
  Kernel(const Kernel &) = delete;
  Kernel &operator=(const Kernel &) = delete;
  heddle_kernel *handle = nullptr;
  std::string remarks; ///< of the compilation, empty on a cache hit
  bool compiled = false;
};

/// Prints `what`, with the seconds so far, on stderr once it takes longer than
/// two seconds, and erases the line at the end.
class Progress {
public:
  explicit Progress(std::string what);
  ~Progress();

private:
  std::mutex mutex;
  std::condition_variable done;
  bool finished = false;
  std::thread thread;
};

inline double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_SUPPORT_H
