//===- error.cpp - Errors as values ---------------------------------------===//
//
// The C accessors of heddle_error, and an error that needs no memory.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/error.h"

#include <cstdlib>
#include <cstring>

namespace {
heddle_error *outOfMemory() {
  // Short enough for the string's inline buffer: no allocation.
  static heddle_error error{HEDDLE_SYSTEM, "out of memory"};
  return &error;
}
} // namespace

heddle::rt::Error heddle::rt::makeError(heddle_code code, std::string_view message) {
  try {
    return Error(new heddle_error{code, std::string(message)});
  } catch (...) {
    return Error(outOfMemory());
  }
}

heddle::rt::Error heddle::rt::errnoError(std::string_view what, int code) {
  char buffer[128];
  return systemError(std::string(what) + ": " + strerror_r(code, buffer, sizeof buffer));
}

heddle_code heddle_error_code(const heddle_error *error) { return error->code; }

const char *heddle_error_message(const heddle_error *error) { return error->message.c_str(); }

void heddle_error_free(heddle_error *error) {
  if (error != outOfMemory()) {
    delete error;
  }
}

heddle_error *heddle_error_create(heddle_code code, const char *message) {
  return heddle::rt::makeError(code, message ? message : "").release();
}

void heddle_free(void *pointer) { std::free(pointer); }
