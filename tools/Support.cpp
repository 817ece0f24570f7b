//===- Support.cpp - What the heddle subcommands share --------------------===//

#include "tools/Support.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <sstream>
#include <unistd.h>

namespace heddle::tools {

Shape::Shape(const std::string &text) {
  std::stringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    size_t equals = item.find('=');
    std::string name = item.substr(0, equals);
    size_t used = 0;
    int64_t value = 0;
    try {
      if (equals != std::string::npos) {
        value = std::stoll(item.substr(equals + 1), &used);
      }
    } catch (const std::exception &) {
      used = 0;
    }
    if (name.empty() || used == 0 || used != item.size() - equals - 1) {
      throw Failure(2, "expected name=integer between commas, as in b=1,h=8,n=4096,d=64, but got '" + item + "'");
    }
    if (!values.emplace(name, value).second) {
      throw Failure(2, "expected each size once, but got '" + name + "' twice");
    }
  }
  for (const char *name : {"b", "h", "hk", "hv", "n", "nq", "nk", "d", "dv"}) {
    if (get(name, 0) < 0) {
      throw Failure(2, std::string("expected ") + name + " >= 0, but got " + std::to_string(get(name, 0)));
    }
  }
}

int64_t Shape::get(const std::string &name, int64_t otherwise) const {
  auto found = values.find(name);
  if (found == values.end() && (name == "nq" || name == "nk")) {
    found = values.find("n");
  }
  return found == values.end() ? otherwise : found->second;
}

std::string Spec::located(const std::string &diagnostics) const {
  static const std::string mark = "<spec>:";
  std::string out;
  std::stringstream lines(diagnostics);
  bool shown = true; // the source line under a message is text that the user wrote
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(mark, 0) == 0) {
      char *end = nullptr;
      long number = std::strtol(line.c_str() + mark.size(), &end, 10);
      shown = number >= firstLine;
      std::string rest = shown ? end : line.substr(std::min(line.find(": "), line.size()));
      line = shown ? name + ":" + std::to_string(number - firstLine + 1) + rest : name + rest;
    } else if (!shown && line.rfind("  ", 0) == 0) {
      continue;
    }
    out += line + "\n";
  }
  while (!out.empty() && out.back() == '\n') {
    out.pop_back();
  }
  return out;
}

const heddle_compiler_api &compiler() {
  static const heddle_compiler_api *api = [] {
    // RUNPATH of this program leads to the library of the same build or installation.
    void *library = dlopen("libheddle-compiler.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      throw Failure(1, std::string("expected the compiler library beside this program, but got: ") + dlerror());
    }
    auto entry = reinterpret_cast<const heddle_compiler_api *(*)()>(dlsym(library, "heddle_compiler"));
    const heddle_compiler_api *found = entry ? entry() : nullptr;
    if (!found || found->version != 1) {
      throw Failure(1, "expected version 1 of libheddle-compiler.so, but got another");
    }
    return found;
  }();
  return *api;
}

void check(heddle_error *error, const Spec *spec) {
  if (!error) {
    return;
  }
  std::string message = heddle_error_message(error);
  int code = heddle_error_code(error) == HEDDLE_SYSTEM ? 1 : 2;
  heddle_error_free(error);
  throw Failure(code, spec ? spec->located(message) : message);
}

std::string take(char *text) {
  std::string copy = text ? text : "";
  std::free(text);
  return copy;
}

std::string explain(const Spec &spec, std::string sizes, bool json) {
  // Of a size that is named twice, the last counts.
  sizes = "threads=" + std::to_string(heddle_num_threads()) + (sizes.empty() ? "" : "," + sizes);
  char *text = nullptr;
  check(compiler().explain(spec.text.c_str(), sizes.c_str(), json, &text), &spec);
  return take(text);
}

/// Puts the compiler's build into the cache's keys, without loading it.
static void identifyCompiler() {
  static const bool done = [] {
    std::error_code ignored;
    auto folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
    for (const char *place :
         {"../lib/libheddle-compiler.so", "libheddle-compiler.so", "../heddle/libheddle-compiler.so"}) {
      if (std::filesystem::exists(folder / place, ignored)) {
        heddle_set_build_id_from_file((folder / place).c_str());
        break;
      }
    }
    return true;
  }();
  (void)done;
}

Kernel::Kernel(const Spec &spec, const std::string &target) {
  auto compile = [](void *context, const char *text, const char *target, void **artifact,
                    size_t *size) -> heddle_error * {
    auto *self = static_cast<Kernel *>(context);
    char *remarks = nullptr;
    heddle_error *error = nullptr;
    try {
      error = compiler().compile(text, target, artifact, size, &remarks);
    } catch (const Failure &failure) {
      error = heddle_error_create(HEDDLE_SYSTEM, failure.what());
    }
    self->compiled = true;
    self->remarks = take(remarks);
    return error;
  };
  identifyCompiler();
  check(heddle_cache_get(spec.text.c_str(), spec.text.c_str(), target.c_str(), compile, this, &handle), &spec);
}

Kernel::~Kernel() {
  if (handle) {
    heddle_kernel_release(handle);
  }
}

Progress::Progress(std::string what) {
  thread = std::thread([this, what = std::move(what)] {
    auto start = std::chrono::steady_clock::now();
    bool shown = false, terminal = isatty(STDERR_FILENO);
    std::unique_lock<std::mutex> lock(mutex);
    while (!done.wait_for(lock, shown && !terminal ? std::chrono::seconds(10) : std::chrono::seconds(2),
                          [this] { return finished; })) {
      shown = true;
      std::fprintf(stderr, terminal ? "\r%s ... %.0f s " : "%s ... %.0f s\n", what.c_str(), secondsSince(start));
      std::fflush(stderr);
    }
    if (shown && terminal) {
      std::fprintf(stderr, "\r\033[K");
    }
  });
}

Progress::~Progress() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    finished = true;
  }
  done.notify_all();
  thread.join();
}

} // namespace heddle::tools
