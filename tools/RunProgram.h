//===- RunProgram.h - heddle run on a spec of several ops -----------------===//
#ifndef HEDDLE_TOOLS_RUNPROGRAM_H
#define HEDDLE_TOOLS_RUNPROGRAM_H

#include "tools/Commands.h"
#include "tools/Tensors.h"

#include <nlohmann/json.hpp>

namespace heddle::tools {

/// True for a spec that becomes several kernels (docs/abi.md, format 2).
bool isProgram(const Spec &spec);

/// Runs it on random data, prints its time, and checks it where that is asked for. Exit code 0 or 1.
int runProgram(const Spec &spec, const RunOptions &options);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_RUNPROGRAM_H
