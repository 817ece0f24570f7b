//===- gpu.h - Kernels for a GPU: load and launch --------------*- C++ -*-===//
//
// The driver (libcuda.so.1, or what HEDDLE_CUDA_LIBRARY names) is opened by
// dlopen when the first GPU kernel is loaded or launched; nothing here needs its
// headers. A kernel's code is loaded once for each CUDA context. A launch fills
// argument blocks and tensor maps on the caller's stack and queues kernels on the caller's stream:
// it allocates no device memory and waits for nothing.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_GPU_H
#define HEDDLE_RUNTIME_GPU_H

#include "runtime/src/launch.h"

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace heddle::rt {

/// What is loaded in one context, by name.
using GpuFunctions = std::map<std::string, void *, std::less<>>;

/// The code of one kernel, by context. A cubin is loaded when one of its kernels is asked for.
class GpuModules {
public:
  GpuModules() = default;
  GpuModules(const GpuModules &) = delete;
  GpuModules &operator=(const GpuModules &) = delete;
  ~GpuModules();

  /// Functions of the current context, those of `kernels` among them; `code` is the PTX, then the cubins.
  Error get(const GpuPlan &plan, std::string_view code, const std::vector<GpuPlan::Kernel> &kernels,
            const GpuFunctions **functions);

private:
  struct Loaded {
    std::map<int64_t, void *> modules; ///< by the number of the cubin; -1: the PTX
    GpuFunctions functions;
  };
  std::mutex mutex;
  std::map<void *, Loaded> byContext;
};

/// Device memory that a launch of one kernel (no program) needs beside its results: `launch` is prepared.
Error gpuWorkspace(const Manifest &manifest, const Launch &launch, size_t &bytes);

/// Queues the kernels of one prepared launch: those on tensor maps where every map can be made, else the others.
/// `workspace` has gpuWorkspace() bytes.
Error gpuLaunch(const Manifest &manifest, GpuModules &modules, std::string_view code, Launch &launch, void *workspace,
                void *stream);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_GPU_H
