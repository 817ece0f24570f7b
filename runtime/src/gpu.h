//===- gpu.h - Kernels for a GPU: load and launch --------------*- C++ -*-===//
//
// The driver (libcuda.so.1, or what HEDDLE_CUDA_LIBRARY names) is opened by
// dlopen when the first GPU kernel is loaded or launched; nothing here needs its
// headers. A kernel's code is loaded once for each CUDA context. A launch fills
// argument blocks on the caller's stack and queues kernels on the caller's stream:
// it allocates no device memory and waits for nothing.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_GPU_H
#define HEDDLE_RUNTIME_GPU_H

#include "runtime/src/launch.h"

#include <map>
#include <mutex>

namespace heddle::rt {

/// The code of one kernel, by context.
class GpuModules {
public:
  GpuModules() = default;
  GpuModules(const GpuModules &) = delete;
  GpuModules &operator=(const GpuModules &) = delete;
  ~GpuModules();

  /// The functions of `plan` in the current context, in order; loads `code` (PTX, then the cubin) the first time.
  Error get(const GpuPlan &plan, std::string_view code, const std::vector<void *> **functions);

private:
  struct Loaded {
    void *module = nullptr;
    std::vector<void *> functions;
  };
  std::mutex mutex;
  std::map<void *, Loaded> byContext;
};

/// Device memory that a launch of one kernel (no program) needs beside its results: `launch` is prepared.
Error gpuWorkspace(const Manifest &manifest, const Launch &launch, size_t &bytes);

/// Queues the kernels of one prepared launch; `workspace` has gpuWorkspace() bytes.
Error gpuLaunch(const Manifest &manifest, const std::vector<void *> &functions, Launch &launch, void *workspace,
                void *stream);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_GPU_H
