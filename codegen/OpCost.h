//===- OpCost.h - What ops on whole tensors read and compute --------------===//
#ifndef HEDDLE_CODEGEN_OPCOST_H
#define HEDDLE_CODEGEN_OPCOST_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/DenseMap.h"

#include <functional>
#include <optional>

namespace heddle {

struct OpCost {
  double flops = 0; ///< multiplications and additions
  double bytes = 0; ///< operands and results, each once
};

/// Costs of a function's ops in order, at given sizes.
class OpCosts {
public:
  /// Size of a dynamic dimension of an argument; none where it is not known.
  using SizeOf = std::function<std::optional<int64_t>(mlir::Value, int64_t axis)>;
  explicit OpCosts(SizeOf sizeOf) : sizeOf(std::move(sizeOf)) {}

  /// None where a size is not known. An attention over pairs has bytes alone: its pairs are counted elsewhere.
  std::optional<OpCost> costOf(mlir::Operation &op);

private:
  using Shape = llvm::SmallVector<int64_t, 4>;
  std::optional<Shape> shapeOf(mlir::Value v);
  std::optional<Shape> inferred(mlir::Operation &op, unsigned result);
  std::optional<double> elements(mlir::Value v);

  SizeOf sizeOf;
  llvm::DenseMap<mlir::Value, std::optional<Shape>> known;
};

} // namespace heddle

#endif // HEDDLE_CODEGEN_OPCOST_H
