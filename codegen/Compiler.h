//===- Compiler.h - The compiler as a table of C functions ----------------===//
//
// libheddle-compiler.so exports one symbol, heddle_compiler(), so that Python
// and the runtime can load the compiler (and with it LLVM) only when something
// must be compiled, proved or explained. Everything crosses as text, buffers
// and handles. Strings are malloc'ed; the caller frees them.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_COMPILER_H
#define HEDDLE_CODEGEN_COMPILER_H

#include "heddle/runtime.h"

extern "C" {

typedef struct heddle_compiler_api {
  int32_t version; // 1

  /// Compiles a module with one function (the dialect's text). `target`:
  /// "native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "sapphirerapids", "emulated-amx" (X86Target.h), or a GPU's.
  /// The artefact is malloc'ed.
  /// Diagnostics, with line and column, are the error's message; remarks and
  /// warnings go to *remarks where it is not null (one per line).
  heddle_error *(*compile)(const char *spec, const char *target, void **artifact, size_t *size, char **remarks);

  /// The IR after a stage: "attn" (parsed and canonicalised), "schedule",
  /// "tiles", "vector", "llvm" (dialect), "llvm-ir", "asm".
  heddle_error *(*print_ir)(const char *spec, const char *target, const char *stage, char **text);

  /// The schedule in words or JSON for given sizes. `sizes`: "b=1,h=8,nq=4096,nk=4096,d=64".
  heddle_error *(*explain)(const char *spec, const char *sizes, int32_t json, char **text);

  /// Executes the spec pair by pair in double precision; results are f64 tensors
  /// or the spec's dtypes.
  heddle_error *(*reference)(const char *spec, const heddle_tensor *args, int32_t num_args,
                             const heddle_tensor *results, int32_t num_results);

  /// Exact questions on closed-form patterns in text form, over all integer pairs
  /// (nk and nq symbolic). *answer is 0 or 1. A pattern with run-time operands, or one
  /// past the set library's caps, is an error that says so.
  heddle_error *(*pattern_is_empty)(const char *p, int32_t *answer);
  heddle_error *(*pattern_is_subset)(const char *p, const char *q, int32_t *answer);
  heddle_error *(*pattern_is_equal)(const char *p, const char *q, int32_t *answer);
  /// A pair in p and not in q: *found 0 or 1, pair = {i, j}.
  heddle_error *(*pattern_example)(const char *p, const char *q, int32_t *found, int64_t pair[2]);

  /// The absolute error that docs/numerics.md allows for each element of each result, for these arguments: f64
  /// results, dense. Of a function with one attn.attend.
  heddle_error *(*tolerance)(const char *spec, const heddle_tensor *args, int32_t num_args,
                             const heddle_tensor *results, int32_t num_results);

  /// The cubin of a whole PTX module for a GPU target, malloc'ed; *size is 0 where no ptxas is found.
  heddle_error *(*assemble)(const char *ptx, const char *target, void **cubin, size_t *size);
} heddle_compiler_api;

HEDDLE_API const heddle_compiler_api *heddle_compiler(void);

} // extern "C"

#endif // HEDDLE_CODEGEN_COMPILER_H
