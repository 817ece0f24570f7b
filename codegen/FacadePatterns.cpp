//===- FacadePatterns.cpp - Exact questions on patterns -------------------===//

#include "codegen/Facade.h"

namespace heddle::facade {

static heddle_error *later() { return heddle_error_create(HEDDLE_SYSTEM, "exact questions on patterns are not built in"); }

heddle_error *patternIsEmpty(const char *, int32_t *) { return later(); }
heddle_error *patternIsSubset(const char *, const char *, int32_t *) { return later(); }
heddle_error *patternIsEqual(const char *, const char *, int32_t *) { return later(); }
heddle_error *patternExample(const char *, const char *, int32_t *, int64_t[2]) { return later(); }

} // namespace heddle::facade
