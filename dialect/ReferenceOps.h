//===- ReferenceOps.h - Ops on whole tensors, interpreted -------*- C++ -*-===//
//
// The part of the reference interpreter that executes pool, convolve, project,
// linear_attend, group, gather_rows, scatter_rows and merge, element by element in
// doubles, straight from the formulas of AttnTensorOps.td.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_REFERENCEOPS_H
#define HEDDLE_DIALECT_REFERENCEOPS_H

#include "dialect/ScalarCode.h"

#include "mlir/IR/Operation.h"

#include <functional>
#include <string>
#include <vector>

namespace heddle {

/// A dense tensor in doubles, which hold every integer that a row number can be.
struct ReferenceTensor {
  std::vector<int64_t> shape;
  std::vector<double> data;
  bool integers = false;

  ReferenceTensor() = default;
  explicit ReferenceTensor(std::vector<int64_t> sizes) : shape(std::move(sizes)) {
    int64_t count = 1;
    for (int64_t n : shape) {
      count *= n;
    }
    data.assign(static_cast<size_t>(count), 0.0);
  }
  /// The element at `index`; a dimension of size 1 repeats.
  double &at(llvm::ArrayRef<int64_t> index) {
    int64_t flat = 0;
    for (size_t n = 0; n < shape.size(); ++n) {
      flat = flat * shape[n] + (shape[n] == 1 ? 0 : index[n]);
    }
    return data[static_cast<size_t>(flat)];
  }
};

/// True for an op that runTensorOp knows.
bool isTensorOp(mlir::Operation *op);

/// The value of a number that a region reads from its function.
using ScalarOf = std::function<Scalar(mlir::Value)>;

/// Runs one op; `results` is filled. False with `error` set where sizes do not fit.
bool runTensorOp(mlir::Operation *op, std::vector<ReferenceTensor> &operands, std::vector<ReferenceTensor> &results,
                 std::string &error, const ScalarOf &scalarOf);

} // namespace heddle

#endif // HEDDLE_DIALECT_REFERENCEOPS_H
