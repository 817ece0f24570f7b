//===- ScoreParts.h - What many pairs of a score region share -------------===//
//
// A bias by the distance i - j has 31 values for 16 queries and 16 keys, and what
// depends on the key alone has 16, not 256. Where such a part is dear (a loaded
// bias, a logarithm), its values are computed for a square of lanes x keys at once
// and read from there.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_SCOREPARTS_H
#define HEDDLE_PASSES_SCOREPARTS_H

#include "passes/Emitter.h"

#include "mlir/IR/Region.h"

namespace heddle {

struct ScorePart {
  mlir::Value value; ///< f32
  bool ofKey;        ///< of (b, h, j); else of (b, h, i - j)
};

/// The largest parts of a score region (arguments: dots, b, h, i, j) that depend on the distance alone or the key alone
/// and cost more than reading them back. Without those that read the head where each lane has its own. `loads` loses
/// those that only parts read.
llvm::SmallVector<ScorePart> scoreParts(mlir::Region &region, bool headByLane,
                                        llvm::SmallVectorImpl<mlir::Operation *> &loads);

/// About how many instructions of lanes it takes to make a pair's score of its dots: none of a single one without a
/// region.
double scoreWork(mlir::Region *region, size_t dots);

/// The queries of a register's lanes and `count` keys, no more than lanes: positions at `keys` (i32).
struct KeySquare {
  mlir::Value queries, keys, count;
};

/// A part's values for the square in `memory` (width rows of width words); `part` computes them of lanes or scalars
/// (i, j). Key number n has its values at `start` + n `pitch`.
struct PartRows {
  mlir::Value start, pitch;
};
PartRows fillByDistance(Emitter &e, const KeySquare &square, mlir::Value memory,
                        llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> part);

/// Of a part that depends on the key: a word for each.
void fillByKey(Emitter &e, const KeySquare &square, mlir::Value memory,
               llvm::function_ref<mlir::Value(mlir::Value)> part);

} // namespace heddle

#endif // HEDDLE_PASSES_SCOREPARTS_H
