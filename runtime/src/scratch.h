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
    now = wanted;
    if (wanted = std::max<size_t>(wanted, 1); wanted > size) {
      std::free(memory);
      size = (wanted + 63) / 64 * 64;
      memory = std::aligned_alloc(64, size);
      size = memory ? size : 0;
    }
    return memory;
  }

  /// Gives memory of more than `kept` bytes back, unless the last two uses both took most of it: what is used again and
  /// again would otherwise be mapped and zeroed by the system each time.
  void trim(size_t kept) {
    if (size > kept && std::min(now, before) <= size / 2) {
      std::free(memory);
      memory = nullptr;
      size = 0;
    }
    before = now;
  }

private:
  void *memory = nullptr;
  size_t size = 0;
  size_t now = 0, before = 0; ///< what the last uses wanted
};

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_SCRATCH_H
