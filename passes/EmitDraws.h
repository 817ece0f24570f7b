//===- EmitDraws.h - The generator of random_blocks as functions ----------===//
//
// A row of random_blocks is drawn at run time, by code whose size depends on
// neither the number of blocks nor the nesting of the pattern.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_EMITDRAWS_H
#define HEDDLE_PASSES_EMITDRAWS_H

#include "passes/Emitter.h"

namespace heddle {

/// The name of a private function of the module, added there at the first call, on i64 or on lanes of them:
/// draw(seed, u, first, t) or drawn(seed, u, first, last, block), see ExprKind. It takes time
/// in proportion to the draws that it looks at.
llvm::StringRef declareDraws(Emitter &e, mlir::ModuleOp module, bool isDraw, bool lanes);

} // namespace heddle

#endif // HEDDLE_PASSES_EMITDRAWS_H
