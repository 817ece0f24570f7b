//===- scratch.h - Memory that grows and is used again --------------------===//
//
// What a thread keeps from call to call, so that calls of one size allocate once.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_SCRATCH_H
#define HEDDLE_RUNTIME_SCRATCH_H

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace heddle::rt {

class Scratch {
public:
  Scratch() = default;
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  ~Scratch() { std::free(memory); }

  /// At least `wanted` bytes on a cache line's boundary, with any contents; null where they cannot be had.
  void *get(size_t wanted) {
    if (wanted = std::max<size_t>(wanted, 1); wanted > size) {
      std::free(memory);
      size = (wanted + 63) / 64 * 64;
      memory = std::aligned_alloc(64, size);
      size = memory ? size : 0;
    }
    return memory;
  }

  /// Gives the memory back where it is larger than `kept` bytes.
  void trim(size_t kept) {
    if (size > kept) {
      std::free(memory);
      memory = nullptr;
      size = 0;
    }
  }

private:
  void *memory = nullptr;
  size_t size = 0;
};

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_SCRATCH_H
