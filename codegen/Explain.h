//===- Explain.h - What a spec will cost, and why -------------------------===//
//
// Runs the scheduler on a spec and says what it decided: the strata, how many
// pairs are live, how many are executed beside them, with and without a mask.
// Nothing is compiled and nothing runs.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_EXPLAIN_H
#define HEDDLE_CODEGEN_EXPLAIN_H

#include "heddle/runtime.h"

#include <string>

namespace heddle {

/// `sizes` is "b=1,h=8,nq=4096,nk=4096,d=64", every part optional; also hk, hv,
/// dv, n (nq and nk), nk0, nk1, ... (of one segment), q_offset, and the values
/// of the function's integer arguments by name. Null on success.
heddle_error *explainModule(const char *spec, const char *sizes, bool json, std::string &text);

} // namespace heddle

#endif // HEDDLE_CODEGEN_EXPLAIN_H
