//===- artifact.h - The artefact's container -------------------*- C++ -*-===//
//
// One byte string that holds a kernel (docs/abi.md):
//
//   "HEDDLE\0\1" | u64 manifest size | u64 object size | SHA-256 of what follows
//   | manifest (JSON) | object (ELF64 relocatable)            little-endian
//
// The compiler writes it, the runtime reads it. There is no slack: every byte
// is either checked by value or covered by the checksum.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_ARTIFACT_H
#define HEDDLE_RUNTIME_ARTIFACT_H

#include "runtime/src/error.h"

#include <string_view>

namespace heddle::rt {

/// Views into the bytes that readArtifact() was given.
struct Artifact {
  std::string_view manifest;
  std::string_view object;
};

/// The container as one string.
std::string writeArtifact(std::string_view manifest, std::string_view object);

/// The same, malloc'ed, as heddle_compile_fn and heddle_compiler_api::compile
/// hand it over. Null where memory is exhausted.
void *mallocArtifact(std::string_view manifest, std::string_view object, size_t *size);

/// Checks magic, sizes and checksum. Any byte string is safe to pass.
Error readArtifact(std::string_view bytes, Artifact &out);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_ARTIFACT_H
