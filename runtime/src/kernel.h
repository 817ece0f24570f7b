//===- kernel.h - A loaded artefact ----------------------------*- C++ -*-===//
//
// What a heddle_kernel is made of.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_KERNEL_H
#define HEDDLE_RUNTIME_KERNEL_H

#include "runtime/src/gpu.h"
#include "runtime/src/loader.h"
#include "runtime/src/manifest.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

/// Immutable after loading (but for what each CUDA context has loaded), so any number of threads may run it at once.
struct heddle_kernel {
  std::atomic<int64_t> references{1};
  std::string bytes;        ///< the artefact, for heddle_kernel_save()
  std::string manifestText; ///< JSON
  heddle::rt::Manifest manifest;
  heddle::rt::LoadedObject object;
  std::string_view gpuCode; ///< PTX and cubin in `bytes`
  heddle::rt::GpuModules gpuModules;
  std::vector<std::unique_ptr<heddle_kernel>> parts; ///< of a program: its kernels
};

namespace heddle::rt {

/// Whole file into `out`. `found` is false where there is no such file (no error).
Error readFile(const std::string &path, std::string &out, bool &found);

/// Writes to a file beside `path` and renames it: readers see all or nothing.
Error writeFileAtomically(const std::string &path, std::string_view bytes);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_KERNEL_H
