//===- Reference.h - The reference interpreter ------------------*- C++ -*-===//
//
// Executes a function of attn.attend pair by pair in double precision, straight
// from docs/spec.md. It is what every kernel is checked against, so it shares no
// code with a lowering: no sets, no tiles, no schedule, one `contains` per pair.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_REFERENCE_H
#define HEDDLE_DIALECT_REFERENCE_H

#include "heddle/runtime.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/ADT/ArrayRef.h"

#include <string>

namespace heddle {

/// Runs `func`: any number of attn.attend and scalar operations of arith and
/// math, then return. `args` has one view for each argument, in order, with any
/// strides; a tensor of floats may have any float dtype (f64 too), one of
/// integers any integer dtype. A scalar has rank 0 and points to an int64_t or a
/// double. `results` has one view for each result; values are rounded once to its
/// dtype (f64, f32, f16 or bf16). A result whose data is null is not written.
/// False with `error` set where sizes or dtypes do not fit, or an operation is
/// unknown; then no result has been written.
bool runReference(mlir::func::FuncOp func, llvm::ArrayRef<heddle_tensor> args, llvm::ArrayRef<heddle_tensor> results,
                  std::string &error);

} // namespace heddle

#endif // HEDDLE_DIALECT_REFERENCE_H
