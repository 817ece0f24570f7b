//===- loader.h - Maps a relocatable object into memory --------*- C++ -*-===//
//
// Just enough of a linker for what the compiler emits: one ELF64 relocatable
// x86-64 object, position independent, that needs nothing but memcpy, memset,
// memmove and libm.
//
// Contract. load() accepts any byte string: an object that is truncated,
// damaged, or asks for something that is not in the list of loader.cpp is an
// error that names it, never a crash, a leak, or a read past the end. Nothing
// of the object is executed while loading (no constructors, no ifuncs). No page
// is ever writable and executable. What the code does when it is called later
// is beyond the loader: an artefact is trusted as a shared library is.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_LOADER_H
#define HEDDLE_RUNTIME_LOADER_H

#include "runtime/src/error.h"

#include <cstdint>
#include <string_view>

namespace heddle::rt {

/// A mapped object; unmapped by the destructor.
class LoadedObject {
public:
  LoadedObject() = default;
  LoadedObject(const LoadedObject &) = delete;
  LoadedObject &operator=(const LoadedObject &) = delete;
  ~LoadedObject();

  /// Maps `bytes` and finds the function `entry`. May be called once.
  Error load(std::string_view bytes, std::string_view entry);

  /// Address of the entry point.
  void *entry() const { return entryPoint; }

private:
  void *base = nullptr;
  size_t size = 0;
  void *entryPoint = nullptr;
};

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_LOADER_H
