//===- checks.h - What HEDDLE_CHECK=1 asks of a call ----------------------===//
//
// Kernels trust the contents of index tensors: that lists have distinct
// entries, that row pointers ascend. Looking costs time, so it is done on
// request only.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_CHECKS_H
#define HEDDLE_RUNTIME_CHECKS_H

#include "runtime/src/manifest.h"

namespace heddle::rt {

/// True where the environment says HEDDLE_CHECK=1, now.
bool isChecking();

/// Contents of the operands, whose shapes are right. `keys` are those of each segment.
Error checkContents(const Manifest &manifest, const heddle_tensor *args, int64_t queries,
                    const std::vector<int64_t> &keys);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_CHECKS_H
