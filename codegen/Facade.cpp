//===- Facade.cpp - The compiler as a table of C functions ----------------===//
//
// Fills codegen/Compiler.h's table. Nothing that the compiler throws or reports
// leaves as anything but an error value.
//
//===----------------------------------------------------------------------===//

#include "codegen/Facade.h"

#include "codegen/Compile.h"
#include "codegen/Compiler.h"
#include "codegen/Dump.h"
#include "codegen/Explain.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace heddle::facade {

char *copyText(const std::string &text) {
  char *copy = static_cast<char *>(std::malloc(text.size() + 1));
  if (copy) {
    std::memcpy(copy, text.c_str(), text.size() + 1);
  }
  return copy;
}

static heddle_error *outOfMemory() { return heddle_error_create(HEDDLE_SYSTEM, "out of memory"); }

static heddle_error *giveText(heddle_error *error, const std::string &result, char **text) {
  if (error) {
    return error;
  }
  *text = copyText(result);
  return *text ? nullptr : outOfMemory();
}

/// Bytes as the caller's.
static heddle_error *giveBytes(const std::string &bytes, void **out, size_t *size) {
  *out = std::malloc(std::max<size_t>(bytes.size(), 1));
  if (!*out) {
    return outOfMemory();
  }
  std::memcpy(*out, bytes.data(), bytes.size());
  *size = bytes.size();
  return nullptr;
}

static heddle_error *compile(const char *spec, const char *target, void **artifact, size_t *size, char **remarks) {
  return guarded([&]() -> heddle_error * {
    std::string bytes, notes;
    heddle_error *error = compileModule(spec, target, bytes, notes);
    if (const std::string folder = dumpFolder(); !folder.empty()) {
      dumpStages(folder, spec, target, notes);
    }
    if (remarks) {
      *remarks = copyText(notes);
    }
    if (error) {
      return error;
    }
    return giveBytes(bytes, artifact, size);
  });
}

static heddle_error *printIR(const char *spec, const char *target, const char *stage, char **text) {
  return guarded([&] {
    std::string result;
    heddle_error *error = printStage(spec, target, stage, result);
    return giveText(error, result, text);
  });
}

static heddle_error *explain(const char *spec, const char *sizes, int32_t json, char **text) {
  return guarded([&] {
    std::string result;
    heddle_error *error = explainModule(spec, sizes, json != 0, result);
    return giveText(error, result, text);
  });
}

static heddle_error *assembleModule(const char *ptx, const char *target, void **cubin, size_t *size) {
  return guarded([&]() -> heddle_error * {
    std::string bytes;
    heddle_error *error = assembleText(ptx, target, bytes);
    return error ? error : giveBytes(bytes, cubin, size);
  });
}

} // namespace heddle::facade

const heddle_compiler_api *heddle_compiler(void) {
  using namespace heddle::facade;
  static const heddle_compiler_api api = {1,
                                          compile,
                                          printIR,
                                          explain,
                                          reference,
                                          patternIsEmpty,
                                          patternIsSubset,
                                          patternIsEqual,
                                          patternExample,
                                          tolerance,
                                          assembleModule};
  return &api;
}
