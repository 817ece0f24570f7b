//===- Facade.h - Entries of the compiler's table, by subject -------------===//
#ifndef HEDDLE_CODEGEN_FACADE_H
#define HEDDLE_CODEGEN_FACADE_H

#include "heddle/runtime.h"

#include <exception>
#include <string>

namespace heddle::facade {

/// malloc'ed and zero-terminated; null where memory is exhausted.
char *copyText(const std::string &text);

/// Runs `body`; what it throws becomes an error.
template <typename Body> heddle_error *guarded(Body body) {
  try {
    return body();
  } catch (const std::exception &error) {
    return heddle_error_create(HEDDLE_SYSTEM, error.what());
  } catch (...) {
    return heddle_error_create(HEDDLE_SYSTEM, "the compiler failed without saying why");
  }
}

// The table's entries; codegen/Compiler.h says what they do.
heddle_error *reference(const char *spec, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
                        int32_t numResults);
heddle_error *tolerance(const char *spec, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
                        int32_t numResults);
heddle_error *patternIsEmpty(const char *p, int32_t *answer);
heddle_error *patternIsSubset(const char *p, const char *q, int32_t *answer);
heddle_error *patternIsEqual(const char *p, const char *q, int32_t *answer);
heddle_error *patternExample(const char *p, const char *q, int32_t *found, int64_t pair[2]);

} // namespace heddle::facade

#endif // HEDDLE_CODEGEN_FACADE_H
