//===- GpuShape.cpp - Tile sizes and shared memory of a GPU kernel --------===//

#include "passes/gpu/GpuShape.h"

namespace heddle {

static int64_t roundUp(int64_t x, int64_t n) { return (x + n - 1) / n * n; }

int64_t paddedDim(int64_t d, int64_t elementBytes) { return roundUp(d * elementBytes, 32) / elementBytes; }

int64_t sharedPitch(int64_t d, int64_t elementBytes) { return paddedDim(d, elementBytes) * elementBytes + 16; }

llvm::SmallVector<DotSource> queryTensors(const KernelSignature &sig, bool skewed) {
  llvm::SmallVector<DotSource> out;
  for (const SegmentSignature &s : sig.segments) {
    for (const DotSource &dot : s.dots) {
      if ((skewed || !dot.relative) && llvm::none_of(out, [&](const DotSource &o) { return o.q == dot.q; })) {
        out.push_back(dot);
      }
    }
  }
  return out;
}

bool hasRelative(const KernelSignature &sig) {
  return llvm::any_of(sig.segments, [](const SegmentSignature &s) {
    return llvm::any_of(s.dots, [](const DotSource &dot) { return dot.relative; });
  });
}

static int64_t bytesOf(const KernelSignature &sig) { return sig.storage.isF32() ? 4 : 2; }

int64_t relativeBytes(const GpuShape &shape, const KernelSignature &sig) {
  if (shape.skewed) {
    return shape.rows * relativePitch(shape) * 4;
  }
  return shape.bySums || hasRelative(sig) ? shape.rows * shape.keys * 4 : 0;
}

int64_t tileBytes(const GpuShape &shape, const KernelSignature &sig) {
  int64_t bytes = bytesOf(sig), queries = 0, keys = 0;
  for (const DotSource &dot : queryTensors(sig, shape.skewed)) {
    queries += shape.bySums ? 0 : shape.rows * sharedPitch(dot.d, bytes);
  }
  for (const SegmentSignature &s : sig.segments) {
    int64_t own = 0;
    for (const DotSource &dot : s.dots) {
      own += stagedRows(shape, dot) * sharedPitch(dot.d, bytes);
    }
    keys = std::max(keys, own);
  }
  int64_t stage = keys + shape.keys * sharedPitch(shape.columns, bytes);
  int64_t out = shape.rows * sharedPitch(shape.columns, bytes); // in the tiles' place
  return std::max(queries + shape.stages * stage, out) + relativeBytes(shape, sig);
}

std::optional<GpuShape> chooseGpuShape(const KernelSignature &sig, int64_t sharedBytes,
                                       llvm::function_ref<int64_t(const GpuShape &)> tables) {
  size_t dots = 0;
  for (const SegmentSignature &s : sig.segments) {
    dots = std::max(dots, s.dots.size());
  }
  // The accumulator takes columns / 2 registers of a thread, the scores keys / 2 for each dot.
  int64_t most = sig.storage.isF32() || dots > 1 ? 128 : 256, dv = roundUp(sig.dv, 16);
  GpuShape shape;
  shape.chunks = (dv + most - 1) / most;
  shape.columns = roundUp((dv + shape.chunks - 1) / shape.chunks, 16);
  int64_t mostKeys = dots > 2 || shape.columns > 192 || sig.storage.isF32() ? 32 : 64;
  // Products with relative rows take keys / 2 + 8 registers beside the scores.
  bool narrow = sig.storage.isF32() || shape.columns > 64;
  auto fits = [&] {
    for (int64_t stages : {2, 1}) {
      for (int64_t rows : {64, 32, 16}) {
        for (int64_t keys : {64, 32, 16}) {
          shape.stages = stages;
          shape.rows = rows;
          shape.keys = keys;
          if (keys <= (narrow && shape.skewed ? 32 : mostKeys) &&
              tileBytes(shape, sig) + tables(shape) <= sharedBytes) {
            return true;
          }
        }
      }
    }
    return false;
  };
  shape.skewed = hasRelative(sig);
  if (shape.skewed && fits()) {
    return shape;
  }
  shape.skewed = false;
  for (bool bySums : {false, true}) {
    shape.bySums = bySums;
    if (fits()) {
      return shape;
    }
  }
  return std::nullopt;
}

} // namespace heddle
