//===- GpuCode.h - A module's kernels as PTX and cubins -------------------===//
//
// The kernels of one module are dealt out to parts, which threads of their own
// optimize, emit and assemble; most of the time is ptxas's, which takes a module's
// kernels one after another. Each part is a cubin, so that a launcher loads those
// that it needs; the PTX is joined to one module again, for the driver to compile
// where no cubin runs.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_NVPTX_GPUCODE_H
#define HEDDLE_CODEGEN_NVPTX_GPUCODE_H

#include "codegen/nvptx/NvptxTarget.h"

#include "llvm/ADT/StringMap.h"

#include <vector>

namespace heddle {

struct GpuCode {
  std::string ptx;
  std::vector<std::string> cubins;  ///< none where there is no ptxas
  llvm::StringMap<int64_t> cubinOf; ///< by a kernel's name
  llvm::StringMap<KernelUsage> usage;
};

/// The code of a module as translated, not optimized yet; false with `error`.
bool emitGpuCode(std::unique_ptr<llvm::Module> module, const NvptxTarget &target, GpuCode &out, std::string &error);

} // namespace heddle

#endif // HEDDLE_CODEGEN_NVPTX_GPUCODE_H
