//===- ExplainAttend.h - What one attend will cost, and why -----*- C++ -*-===//
#ifndef HEDDLE_CODEGEN_EXPLAINATTEND_H
#define HEDDLE_CODEGEN_EXPLAINATTEND_H

#include "codegen/ExplainSizes.h"
#include "dialect/Attn.h"

#include "llvm/Support/JSON.h"

namespace heddle {

/// The facts of an attend that has a schedule, at these sizes: segments with their strata, pairs, work, time.
llvm::json::Object explainAttend(attn::AttendOp op, const Sizes &sizes);

} // namespace heddle

#endif // HEDDLE_CODEGEN_EXPLAINATTEND_H
