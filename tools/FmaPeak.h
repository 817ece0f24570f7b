//===- FmaPeak.h - What this machine's cores can multiply and add ---------===//
#ifndef HEDDLE_TOOLS_FMAPEAK_H
#define HEDDLE_TOOLS_FMAPEAK_H

namespace heddle::tools {

/// f32 GFLOP/s that `threads` threads reach together on independent fused
/// multiply-adds in registers: the limit that a kernel is compared with.
/// The best that was ever measured for this machine and thread count; kept in
/// the cache's folder.
double fmaPeak(int threads);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_FMAPEAK_H
