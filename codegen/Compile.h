//===- Compile.h - From a spec's text to an artefact ----------------------===//
//
// The whole way: parse, schedule, tile, lower, LLVM, object, container. Errors
// are values with the diagnostics as their message (file:line:column first).
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_COMPILE_H
#define HEDDLE_CODEGEN_COMPILE_H

#include "heddle/runtime.h"

#include <string>

namespace heddle {

/// Compiles `spec` for `target` ("native", "x86-64-v2", "-v3", "-v4"): *artifact are the bytes of docs/abi.md;
/// *remarks the warnings and remarks, one a line. Null on success.
heddle_error *compileModule(const char *spec, const char *target, std::string &artifact, std::string &remarks);

/// The IR after `stage`: "attn", "schedule", "tiles", "vector", "llvm", "llvm-ir", "asm".
heddle_error *printStage(const char *spec, const char *target, const char *stage, std::string &text);

/// The cubin of a PTX module for a GPU target; empty where no ptxas is found.
heddle_error *assembleText(const char *ptx, const char *target, std::string &cubin);

} // namespace heddle

#endif // HEDDLE_CODEGEN_COMPILE_H
