//===- program.h - Kernels of ops, and programs of kernels -----*- C++ -*-===//
//
// A kernel of an op on whole tensors says in its manifest, as expressions of its
// arguments' sizes, how large its results are, how many tasks there are and which
// sizes must agree. A program is a list of kernels that run one after another on
// its arguments and on what earlier ones left (docs/abi.md).
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_PROGRAM_H
#define HEDDLE_RUNTIME_PROGRAM_H

#include "runtime/src/launch.h"

#include <functional>

namespace heddle::rt {

/// Checks one tensor against what a manifest says of it alone: data, type, rank, static sizes.
Error checkAgainst(const Argument &arg, const heddle_tensor &t);

/// prepareLaunch() of a kernel with manifest.op.
Error prepareOp(const Manifest &manifest, const heddle_tensor *args, const heddle_tensor *results, Launch &launch);

/// Types and sizes (dense strides, no data) of what a kernel would write for these arguments, of which only types
/// and sizes are read.
Error inferResults(const Manifest &manifest, const heddle_tensor *args, heddle_tensor *results);

/// Runs one kernel of a program.
using RunKernel = std::function<Error(int kernel, const heddle_tensor *args, int32_t numArgs,
                                      const heddle_tensor *results, int32_t numResults)>;
/// The manifest of one kernel of a program.
using KernelManifest = std::function<const Manifest &(int kernel)>;

/// Infers the results of a whole program.
Error inferProgram(const Manifest &manifest, const KernelManifest &kernels, const heddle_tensor *args,
                   heddle_tensor *results);

/// Memory for the tensors between the steps, 64-byte aligned; null: there is none.
using ProgramMemory = std::function<void *(size_t bytes)>;

/// Runs the steps; what lies between them is in `memory` (where that is null, memory of this thread). Two tensors
/// share a place if their lifetimes do not meet.
Error runProgram(const Manifest &manifest, const KernelManifest &kernels, const RunKernel &run,
                 const heddle_tensor *args, const heddle_tensor *results, const ProgramMemory &memory = nullptr);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_PROGRAM_H
