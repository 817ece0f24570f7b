//===- Attn.h - The attn dialect --------------------------------*- C++ -*-===//
//
// Declarations of the dialect, its attributes and operations (generated from
// AttnDialect.td, AttnAttrs.td and AttnOps.td).
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ATTN_H
#define HEDDLE_DIALECT_ATTN_H

#include "dialect/Pattern.h"
#include "dialect/Schedule.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "llvm/ADT/Hashing.h"

namespace heddle {

/// Structural equality and hash, which attributes are uniqued by.
inline bool operator==(const Pattern &a, const Pattern &b) { return a.same(b); }
inline llvm::hash_code hash_value(const Pattern &p) { return p.hash(); }
inline bool operator==(const Schedule &a, const Schedule &b) { return a.same(b); }
inline llvm::hash_code hash_value(const Schedule &s) { return s.hash(); }

} // namespace heddle

#include "dialect/AttnDialect.h.inc"

#include "dialect/AttnEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialect/AttnAttrs.h.inc"

#define GET_OP_CLASSES
#include "dialect/AttnOps.h.inc"

#endif // HEDDLE_DIALECT_ATTN_H
