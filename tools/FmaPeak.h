//===- FmaPeak.h - What this machine's cores can multiply and add ---------===//
#ifndef HEDDLE_TOOLS_FMAPEAK_H
#define HEDDLE_TOOLS_FMAPEAK_H

namespace heddle::tools {

/// f32 GFLOP/s that `threads` threads reach together on independent fused
/// multiply-adds in registers: the limit that a kernel is compared with.
/// Measured once for a machine and thread count, and kept beside the cache.
double fmaPeak(int threads);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_FMAPEAK_H
