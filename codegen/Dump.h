//===- Dump.h - What a compilation made, as files ---------------*- C++ -*-===//
//
// Where HEDDLE_DUMP_DIR names a folder, every compilation leaves one of its own
// there, <function>-<12 digits of the hash of spec and target>:
//
//   0-spec.mlir 1-attn.mlir 2-schedule.mlir 3-tiles.mlir 4-vector.mlir
//   5-llvm.mlir 6-llvm-ir.ll 7-asm.s (.ptx for a GPU) remarks.txt
//
// A stage that fails leaves its diagnostics in place of its IR. Kernels that come
// from the cache are not compiled, and leave nothing.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_DUMP_H
#define HEDDLE_CODEGEN_DUMP_H

#include <string>

namespace heddle {

/// The folder that HEDDLE_DUMP_DIR names, "" for none.
std::string dumpFolder();

/// Writes the files of one compilation below `folder`. What cannot be written is a warning on stderr, not an error.
void dumpStages(const std::string &folder, const char *spec, const char *target, const std::string &remarks);

} // namespace heddle

#endif // HEDDLE_CODEGEN_DUMP_H
