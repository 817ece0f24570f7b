//===- Dump.cpp - What a compilation made, as files -----------------------===//
//
// Every stage is compiled again up to its end: a compilation that nobody looks
// into keeps nothing of its stages.
//
//===----------------------------------------------------------------------===//

#include "codegen/Dump.h"

#include "codegen/Compile.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/SHA256.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace heddle {

std::string dumpFolder() {
  const char *folder = std::getenv("HEDDLE_DUMP_DIR");
  return folder ? folder : "";
}

/// The name of the first function of a spec's text, as far as it suits a file; "kernel" where there is none.
static std::string functionName(llvm::StringRef spec) {
  llvm::StringRef rest = spec.split("func.func").second;
  rest = rest.substr(std::min(rest.find('@'), rest.size())).drop_front(rest.contains('@'));
  llvm::StringRef name = rest.take_while([](unsigned char c) { return std::isalnum(c) || c == '_'; }).take_front(64);
  return name.empty() ? "kernel" : name.str();
}

static std::string folderName(llvm::StringRef spec, llvm::StringRef target) {
  llvm::SHA256 hash;
  hash.update(spec);
  hash.update(llvm::StringRef("\0", 1));
  hash.update(target);
  return functionName(spec) + "-" + llvm::toHex(hash.final(), /*LowerCase=*/true).substr(0, 12);
}

void dumpStages(const std::string &folder, const char *spec, const char *target, const std::string &remarks) {
  namespace fs = std::filesystem;
  const fs::path place = fs::path(folder) / folderName(spec, target);
  std::error_code failed;
  fs::create_directories(place, failed);
  auto write = [&](const std::string &name, const std::string &text) {
    if (!failed) {
      std::ofstream file(place / name, std::ios::binary);
      file << text;
      file.close();
      failed = file ? failed : std::make_error_code(std::errc::io_error);
    }
  };
  write("0-spec.mlir", spec);
  const bool gpu = llvm::StringRef(target).starts_with("sm_");
  int number = 1;
  for (const char *stage : {"attn", "schedule", "tiles", "vector", "llvm", "llvm-ir", "asm"}) {
    std::string text;
    if (heddle_error *error = printStage(spec, target, stage, text)) {
      text = heddle_error_message(error);
      heddle_error_free(error);
    }
    const llvm::StringRef name(stage);
    const char *ending = name == "asm" ? (gpu ? ".ptx" : ".s") : name == "llvm-ir" ? ".ll" : ".mlir";
    write(std::to_string(number++) + "-" + stage + ending, text);
  }
  if (!remarks.empty()) {
    write("remarks.txt", remarks);
  }
  if (failed) {
    std::fprintf(stderr, "heddle: warning: expected HEDDLE_DUMP_DIR to be a folder to write to, but got '%s': %s\n",
                 folder.c_str(), failed.message().c_str());
  }
}

} // namespace heddle
