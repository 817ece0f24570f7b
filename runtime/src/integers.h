//===- integers.h - Elements of index tensors -----------------------------===//
#ifndef HEDDLE_RUNTIME_INTEGERS_H
#define HEDDLE_RUNTIME_INTEGERS_H

#include "heddle/runtime.h"

#include <cstdint>

namespace heddle::rt {

/// The element at `offset` (in elements) of a tensor of i64, i32 or i8.
inline int64_t readInteger(const heddle_tensor &t, int64_t offset) {
  switch (t.dtype) {
  case HEDDLE_I64:
    return static_cast<const int64_t *>(t.data)[offset];
  case HEDDLE_I32:
    return static_cast<const int32_t *>(t.data)[offset];
  default:
    return static_cast<const int8_t *>(t.data)[offset];
  }
}

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_INTEGERS_H
