//===- ReferenceAttend.h - One attend, pair by pair -------------*- C++ -*-===//
#ifndef HEDDLE_DIALECT_REFERENCEATTEND_H
#define HEDDLE_DIALECT_REFERENCEATTEND_H

#include "dialect/Attn.h"
#include "dialect/ScalarCode.h"
#include "heddle/runtime.h"

#include "llvm/ADT/DenseMap.h"

#include <functional>
#include <string>
#include <utility>

namespace heddle {

/// Where the values of a function's body are while it runs.
struct Environment {
  llvm::DenseMap<mlir::Value, heddle_tensor> tensors;
  llvm::DenseMap<mlir::Value, Scalar> scalars;
};

/// Gives memory for out, of the shape `[B, Hq, Nq, Dv]`, and for lse; of either, data may be null: it is not written.
using AllocateResults = std::function<std::pair<heddle_tensor, heddle_tensor>(llvm::ArrayRef<int64_t> outShape)>;

/// Executes an attend in double precision. False with `error` set where operands do not fit; nothing is allocated then.
bool runReferenceAttend(attn::AttendOp op, const Environment &env, const AllocateResults &allocate, std::string &error);

} // namespace heddle

#endif // HEDDLE_DIALECT_REFERENCEATTEND_H
