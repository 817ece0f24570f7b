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

#include "codegen/Helpers.h"
#include "codegen/nvptx/NvptxTarget.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"

#include <memory>
#include <vector>

namespace heddle {

struct GpuCode {
  std::string ptx;
  std::vector<std::string> cubins;  ///< none where there is no ptxas
  llvm::StringMap<int64_t> cubinOf; ///< by a kernel's name
  llvm::StringMap<KernelUsage> usage;
};

/// A module and the context that it alone is in.
struct OwnModule {
  std::unique_ptr<llvm::LLVMContext> context = std::make_unique<llvm::LLVMContext>();
  std::unique_ptr<llvm::Module> module;
};

/// A module's kernels while helpers make code of them: `begin`, then what else the caller has to do, then, when the
/// helpers have finished, `end`.
class GpuAssembly {
public:
  GpuAssembly();
  ~GpuAssembly();

  /// Deals out the kernels of a module as translated, not optimized yet, to tasks of `helpers`, which must finish
  /// before this goes. Errors are told by `end`.
  void begin(OwnModule whole, const NvptxTarget &target, Helpers &helpers);
  /// The code, whichever thread made which part of it when; false with `error`.
  bool end(GpuCode &out, std::string &error);

private:
  struct Part;

  std::string error;
  llvm::SmallVector<char> bitcode; ///< of the whole module, where parts read it
  std::vector<std::unique_ptr<Part>> parts;
};

} // namespace heddle

#endif // HEDDLE_CODEGEN_NVPTX_GPUCODE_H
