//===- LoadedRows.h - Loads of a score region along the keys --------------===//
//
// A score that loads t[.., i, j] has queries on lanes and takes key after key: each
// key would gather from as many rows as there are lanes, though the elements of a
// row lie in the order of the keys. Here a square of lanes x keys is read row by
// row and transposed in registers, at a fraction of the cost.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_LOADEDROWS_H
#define HEDDLE_PASSES_LOADEDROWS_H

#include "passes/Emitter.h"
#include "passes/KernelSignature.h"

namespace heddle {

/// Loads of a score region (arguments: dots, b, h, i, j) whose last index is j plus what does not depend on j, whose
/// other indices do not depend on j, and which differ by query: 32-bit elements, or 16-bit floats.
llvm::SmallVector<mlir::Operation *> loadsAlongKeys(mlir::Region &region);

/// The square of one such load: row n of `square` (width words a row) becomes its values, widened to 32 bits, at the
/// lanes' queries and at key number n of `count` <= width positions at `keys` (i32). `arguments` are b, h and i of
/// the lanes; `offsets` is room for width words of 64 bits.
void fillSquare(Emitter &e, const KernelSignature &sig, mlir::Value args, mlir::Operation *load,
                llvm::ArrayRef<mlir::Value> arguments, mlir::Value keys, mlir::Value count, mlir::Value square,
                mlir::Value offsets);

/// A row of the square as values of the load's element type.
mlir::Value squareRow(Emitter &e, mlir::Operation *load, mlir::Value address);

} // namespace heddle

#endif // HEDDLE_PASSES_LOADEDROWS_H
