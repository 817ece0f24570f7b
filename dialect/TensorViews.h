//===- TensorViews.h - Elements of tensors that callers own -----*- C++ -*-===//
//
// The reference interpreter reads and writes tensors of any type and strides as
// doubles and 64-bit integers. Offsets are in elements.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_TENSORVIEWS_H
#define HEDDLE_DIALECT_TENSORVIEWS_H

#include "dialect/ScalarCode.h"
#include "heddle/runtime.h"

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <string>

namespace heddle {

int64_t elementOffset(const heddle_tensor &t, llvm::ArrayRef<int64_t> indices);
bool isFloatDtype(heddle_dtype dtype);
/// An element of a tensor of floats.
double readFloat(const heddle_tensor &t, int64_t offset);
/// An element of a tensor of integers; true is 1.
int64_t readInteger(const heddle_tensor &t, int64_t offset);
/// An element at indices clamped to the tensor; 0 where it has none. True is -1, as in scalar code.
Scalar readClamped(const heddle_tensor &t, llvm::ArrayRef<int64_t> indices);
/// Rounds once, to nearest even.
void writeFloat(const heddle_tensor &t, int64_t offset, double value);
void writeInteger(const heddle_tensor &t, int64_t offset, int64_t value);
/// "[2, 4, 8] of f32"
std::string describeTensor(const heddle_tensor &t);

} // namespace heddle

#endif // HEDDLE_DIALECT_TENSORVIEWS_H
