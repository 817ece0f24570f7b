//===- VectorTargets.h - Vector targets by register width -----------------===//
#ifndef HEDDLE_PASSES_VECTORTARGETS_H
#define HEDDLE_PASSES_VECTORTARGETS_H

#include "passes/Emitter.h"

namespace heddle {

/// 16: AVX-512 (x86-64-v4); 8: AVX2 with FMA and F16C (x86-64-v3); 4: x86-64-v2.
/// `bf16`: AVX512_BF16 too.
inline VectorTarget vectorTarget(int64_t width, bool bf16) {
  return {.width = width,
          .fma = width >= 8,
          .f16c = width >= 8,
          .avx512 = width == 16,
          .bf16 = bf16 && width == 16,
          .registers = width == 16 ? 32 : 16};
}

} // namespace heddle

#endif // HEDDLE_PASSES_VECTORTARGETS_H
