//===- error.h - Errors as values ------------------------------*- C++ -*-===//
//
// Inside the runtime an error is an owned heddle_error (null on success), so
// that it can cross the C ABI as it is. Every C entry point that allocates runs
// its body through guarded(), which turns a stray C++ exception into a value.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_ERROR_H
#define HEDDLE_RUNTIME_ERROR_H

#include "heddle/runtime.h"

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>

struct heddle_error {
  heddle_code code;
  std::string message;
};

namespace heddle::rt {

struct ErrorDeleter {
  void operator()(heddle_error *error) const { heddle_error_free(error); }
};

/// Null on success.
using Error = std::unique_ptr<heddle_error, ErrorDeleter>;

/// A new error; where memory is exhausted, the one static error that says so.
Error makeError(heddle_code code, std::string_view message);
inline Error invalidValue(std::string_view message) { return makeError(HEDDLE_INVALID_VALUE, message); }
inline Error invalidType(std::string_view message) { return makeError(HEDDLE_INVALID_TYPE, message); }
inline Error systemError(std::string_view message) { return makeError(HEDDLE_SYSTEM, message); }

/// "<what>: <strerror(code)>"
Error errnoError(std::string_view what, int code);

/// Runs `body` (which returns an Error) and hands its error to the C caller.
template <typename Body> heddle_error *guarded(Body &&body) noexcept {
  try {
    return body().release();
  } catch (const std::bad_alloc &) {
    return makeError(HEDDLE_SYSTEM, "expected enough memory, but the allocation failed").release();
  } catch (const std::exception &e) {
    return makeError(HEDDLE_SYSTEM, e.what()).release();
  } catch (...) {
    return makeError(HEDDLE_SYSTEM, "expected no exception in the runtime, but got one").release();
  }
}

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_ERROR_H
