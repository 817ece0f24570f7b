//===- CompileCommand.cpp - heddle compile --------------------------------===//
//
// Writes what the compiler made, by the ending of OUT. The bundle is the
// artefact itself (docs/abi.md); object and manifest are its parts.
//
//===----------------------------------------------------------------------===//

#include "tools/Artifact.h"
#include "tools/Commands.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char **environ;

namespace heddle::tools {

namespace {

bool endsWith(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// Writes a file beside its final name and renames it, so that a failure leaves no half.
void writeFile(const std::string &path, const std::string &data) {
  if (path == "-") {
    std::fwrite(data.data(), 1, data.size(), stdout);
    return;
  }
  struct stat status;
  bool plain = stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
  std::string temporary = plain ? path + ".tmp" + std::to_string(getpid()) : path;
  std::ofstream file(temporary, std::ios::binary);
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
  file.close();
  if (!file || (plain && std::rename(temporary.c_str(), path.c_str()) != 0)) {
    std::string why = std::strerror(errno);
    if (plain) {
      std::remove(temporary.c_str());
    }
    throw Failure(1, "could not write " + path + ": " + why);
  }
}

/// The first of `names` in PATH; "" where none is there.
std::string findProgram(std::initializer_list<const char *> names) {
  const char *path = std::getenv("PATH");
  for (const char *name : names) {
    std::string rest = path ? path : "";
    while (!rest.empty()) {
      size_t colon = rest.find(':');
      std::string candidate = rest.substr(0, colon) + "/" + name;
      if (access(candidate.c_str(), X_OK) == 0) {
        return candidate;
      }
      rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
    }
  }
  return "";
}

void linkShared(const std::string &object, const std::string &output) {
  std::string linker = findProgram({"ld.lld", "ld.lld-22"});
  if (linker.empty()) {
    throw Failure(1,
                  "expected ld.lld in PATH to link a shared object, but found none (Debian: apt-get install lld-22); "
                  "a .o or .bundle needs no linker");
  }
  char temporary[] = "/tmp/heddle-XXXXXX.o";
  int fd = mkstemps(temporary, 2);
  if (fd < 0) {
    throw Failure(1, std::string("could not write a temporary file: ") + std::strerror(errno));
  }
  close(fd);
  writeFile(temporary, object);
  std::vector<std::string> words = {linker, "-shared", "--build-id=none", "-o", output, temporary};
  std::vector<char *> args;
  for (std::string &word : words) {
    args.push_back(word.data());
  }
  args.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  int rc = posix_spawn(&pid, linker.c_str(), nullptr, nullptr, args.data(), environ);
  if (rc == 0) {
    waitpid(pid, &status, 0);
  }
  unlink(temporary);
  if (rc != 0 || status != 0) {
    throw Failure(1, linker + " could not link " + output);
  }
}

std::string printStage(const Spec &spec, const std::string &target, const std::string &stage) {
  Progress progress("compiling");
  char *text = nullptr;
  check(compiler().print_ir(spec.text.c_str(), target.c_str(), stage.c_str(), &text), &spec);
  return take(text);
}

/// All kernels in one cubin.
std::string cubinOf(const Spec &spec, const std::string &target) {
  if (target.rfind("sm_", 0) != 0) {
    throw Failure(2, "expected a GPU target (--target=sm_80) for a .cubin");
  }
  std::string ptx = printStage(spec, target, "asm"), mark = "\n.version ";
  if (ptx.find(mark) != ptx.rfind(mark)) {
    throw Failure(2, "expected a spec of one op for a .cubin, but got several: a .bundle holds them all");
  }
  Progress progress("assembling");
  void *data = nullptr;
  size_t size = 0;
  check(compiler().assemble(ptx.c_str(), target.c_str(), &data, &size));
  std::string cubin(static_cast<const char *>(data), size);
  std::free(data);
  if (size == 0) {
    throw Failure(1, "expected ptxas in PATH (or HEDDLE_PTXAS) to make a .cubin, but found none; a .ptx needs none");
  }
  return cubin;
}

/// The IR stage that an ending means; "" where it is not IR.
std::string stageFor(const CompileOptions &options) {
  if (!options.stage.empty()) {
    return options.stage;
  }
  const std::string &out = options.output;
  return endsWith(out, ".s") || endsWith(out, ".ptx") ? "asm"
         : endsWith(out, ".ll")                       ? "llvm-ir"
         : endsWith(out, ".mlir") || out == "-"       ? "tiles"
                                                      : "";
}

} // namespace

int runCompile(const CompileOptions &options) {
  const std::string &out = options.output;
  std::string stage = stageFor(options);
  bool binary = endsWith(out, ".bundle") || endsWith(out, ".o") || endsWith(out, ".so") || endsWith(out, ".json") ||
                endsWith(out, ".cubin");
  if (stage.empty() && !binary) {
    throw Failure(2,
                  "expected an output that ends in .bundle, .o, .so, .s, .ptx, .cubin, .ll, .mlir or .json, but got '" +
                      out + "'");
  }
  if (!stage.empty() && binary) {
    throw Failure(2, "expected --stage with an output of text (.mlir, .ll, .s or -), but got '" + out + "'");
  }
  Spec spec = readSpec(options.source);
  if (!stage.empty()) {
    writeFile(out, printStage(spec, options.target, stage));
    return 0;
  }
  if (endsWith(out, ".cubin")) {
    writeFile(out, cubinOf(spec, options.target));
    return 0;
  }
  Artifact artifact = compileSpec(spec, options.target);
  if (options.remarks && !artifact.remarks.empty()) {
    std::fprintf(stderr, "%s\n", artifact.remarks.c_str());
  }
  if (endsWith(out, ".so")) {
    linkShared(artifact.object(), out);
  } else {
    writeFile(out, endsWith(out, ".o")      ? artifact.object()
                   : endsWith(out, ".json") ? artifact.manifest()
                                            : artifact.bytes);
  }
  return 0;
}

} // namespace heddle::tools
