//===- EmitExpr.h - From pattern expressions to scalar and lane code ------===//
//
// Turns a heddle::Expr into arith operations: scalar where all it reads is
// uniform over the lanes, else one vector. Integers are i64, floats f64,
// conditions i1, as in the reference's evaluation.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_EMITEXPR_H
#define HEDDLE_PASSES_EMITEXPR_H

#include "dialect/Expr.h"
#include "passes/Emitter.h"

namespace heddle {

/// Where an operand's record lies in the argument block, and what it holds.
struct OperandRecord {
  int64_t slot = 0;
  mlir::Type element; ///< of the tensor; null for a run-time scalar
  int64_t rank = 0;
  bool inlined = false; ///< a scalar stands in the record's second slot (GPU)
};

/// Of `count` indices for a tensor of `rank` dimensions, the second is dropped first, then the first.
bool droppedIndex(size_t count, int64_t rank, size_t k);

/// Element of a tensor record at clamped indices (i64 scalars or lanes), in the
/// tensor's own element type.
mlir::Value emitLoad(Emitter &e, mlir::Value args, const OperandRecord &record, llvm::ArrayRef<mlir::Value> indices);

/// The values of the symbols at one place of the generated code. A null value
/// must not be mentioned by the expression.
struct ExprScope {
  mlir::Value args; ///< the argument block
  mlir::Value batch, head, heads, query, key, qOffset, kOffset, queryEnd, keyEnd;
  llvm::ArrayRef<OperandRecord> operands;
  /// Where the stratum's present choice lies: an i64 so many bytes into the scratch memory.
  mlir::Value scratch;
  int64_t choiceAt = 0;
  mlir::ModuleOp module; ///< takes the functions that an expression calls
  /// Subexpressions (by node) whose values are at hand.
  llvm::SmallVector<std::pair<const ExprNode *, mlir::Value>> given;
  mlir::Value entry = {}; ///< Sym::Entry

  /// Gives every occurrence of `x` in `where` the value v.
  void give(const Expr &where, const Expr &x, mlir::Value v);
};

/// The entries that a member expression asks: those at lo <= t < hi.
struct EmittedList {
  mlir::Value args, lo, hi;
  OperandRecord record;
  llvm::SmallVector<mlir::Value> at; ///< indices of the leading dimensions

  mlir::Value entry(Emitter &e, mlir::Value t) const;
};
EmittedList emitList(Emitter &e, const Expr &member, const ExprScope &scope);

mlir::Value emitExpr(Emitter &e, const Expr &expr, const ExprScope &scope);

/// The byte offset of a load's element 0 of the last dimension: of all its indices but the last.
mlir::Value emitRowOffset(Emitter &e, const Expr &load, const ExprScope &scope);

} // namespace heddle

#endif // HEDDLE_PASSES_EMITEXPR_H
