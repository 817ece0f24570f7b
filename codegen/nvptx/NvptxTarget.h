//===- NvptxTarget.h - NVIDIA targets: PTX, and cubin where ptxas is ------===//
#ifndef HEDDLE_CODEGEN_NVPTX_NVPTXTARGET_H
#define HEDDLE_CODEGEN_NVPTX_NVPTXTARGET_H

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"

#include <memory>
#include <optional>
#include <string>

namespace heddle {

struct NvptxTarget {
  std::string chip;        ///< sm_80, sm_90a, ..
  int64_t sharedBytes = 0; ///< of a block: what every chip that runs this code has
  std::string ptxFeature;  ///< LLVM's name of the PTX version
  bool hopper = false;     ///< tensor copies and warpgroup products

  /// "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a"; nullopt for other names.
  static std::optional<NvptxTarget> parse(llvm::StringRef name);
};

std::unique_ptr<llvm::TargetMachine> createTargetMachine(const NvptxTarget &target, std::string &error);

/// Clean-up, common subexpressions and loop-invariant code; marks the target.
void optimize(llvm::Module &module, llvm::TargetMachine &machine, const NvptxTarget &target);

/// PTX of an optimized module; false where LLVM cannot emit it.
bool emitPtx(llvm::Module &module, llvm::TargetMachine &machine, std::string &ptx);

/// What ptxas says of a kernel.
struct KernelUsage {
  int64_t registers = 0;  ///< of a thread
  int64_t spillBytes = 0; ///< stored and loaded
};

/// Runs ptxas (HEDDLE_PTXAS, PATH, or the usual place of the CUDA toolkit). True with a cubin, and what each kernel
/// takes in `usage` (may be null); false with `message` empty where there is no ptxas, else with what it said. `quick`:
/// half the time, with loops that it does not unroll.
bool assemble(const std::string &ptx, const NvptxTarget &target, bool quick, std::string &cubin,
              llvm::StringMap<KernelUsage> *usage, std::string &message);

} // namespace heddle

#endif // HEDDLE_CODEGEN_NVPTX_NVPTXTARGET_H
