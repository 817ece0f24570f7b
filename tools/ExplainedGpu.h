//===- ExplainedGpu.h - The kernels of a GPU target -----------------------===//
//
// Compiles a spec for a GPU and says what came out: which kernels, of which kind
// and why, their tiles, stages, shared memory, and, where ptxas is found, registers
// and spills.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TOOLS_EXPLAINEDGPU_H
#define HEDDLE_TOOLS_EXPLAINEDGPU_H

#include "tools/Support.h"

#include <nlohmann/json.hpp>

namespace heddle::tools {

/// Of each kernel of a program (one of a spec of one op): its name and the manifest's "gpu" (docs/abi.md).
nlohmann::json gpuKernels(const Spec &spec, const std::string &target);

/// The same in words.
std::string gpuWords(const nlohmann::json &kernels, const std::string &target);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_EXPLAINEDGPU_H
