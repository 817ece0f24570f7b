//===- TensorViews.cpp - Elements of tensors that callers own -------------===//
#include "dialect/TensorViews.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cstring>
#include <vector>

using namespace mlir;

namespace heddle {

static double fromBits(uint16_t bits, const llvm::fltSemantics &semantics) {
  return llvm::APFloat(semantics, llvm::APInt(16, bits)).convertToDouble();
}

/// Every value of a 16-bit float type as a double.
static const double *halfTable(bool isBf16) {
  auto build = [](const llvm::fltSemantics &semantics) {
    std::vector<double> table(1 << 16);
    for (size_t n = 0; n < table.size(); ++n) {
      table[n] = fromBits(static_cast<uint16_t>(n), semantics);
    }
    return table;
  };
  static const std::vector<double> half = build(llvm::APFloat::IEEEhalf());
  static const std::vector<double> bf16 = build(llvm::APFloat::BFloat());
  return (isBf16 ? bf16 : half).data();
}

int64_t elementOffset(const heddle_tensor &t, ArrayRef<int64_t> indices) {
  int64_t offset = 0;
  for (auto [n, index] : llvm::enumerate(indices)) {
    offset += index * t.strides[n];
  }
  return offset;
}

template <typename T> static T elementAt(const heddle_tensor &t, int64_t offset) {
  T value;
  std::memcpy(&value, static_cast<const char *>(t.data) + offset * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

bool isFloatDtype(heddle_dtype dtype) { return dtype <= HEDDLE_F64; }

double readFloat(const heddle_tensor &t, int64_t offset) {
  switch (t.dtype) {
  case HEDDLE_F32:
    return elementAt<float>(t, offset);
  case HEDDLE_F64:
    return elementAt<double>(t, offset);
  default:
    return halfTable(t.dtype == HEDDLE_BF16)[elementAt<uint16_t>(t, offset)];
  }
}

int64_t readInteger(const heddle_tensor &t, int64_t offset) {
  switch (t.dtype) {
  case HEDDLE_BOOL:
    return elementAt<uint8_t>(t, offset) != 0;
  case HEDDLE_I8:
    return elementAt<int8_t>(t, offset);
  case HEDDLE_I32:
    return elementAt<int32_t>(t, offset);
  default:
    return elementAt<int64_t>(t, offset);
  }
}

void writeFloat(const heddle_tensor &t, int64_t offset, double value) {
  auto store = [&](auto v) { std::memcpy(static_cast<char *>(t.data) + offset * sizeof(v), &v, sizeof(v)); };
  switch (t.dtype) {
  case HEDDLE_F64:
    return store(value);
  case HEDDLE_F32:
    return store(static_cast<float>(value));
  default: {
    llvm::APFloat rounded(value);
    bool loses = false;
    rounded.convert(t.dtype == HEDDLE_F16 ? llvm::APFloat::IEEEhalf() : llvm::APFloat::BFloat(),
                    llvm::APFloat::rmNearestTiesToEven, &loses);
    return store(static_cast<uint16_t>(rounded.bitcastToAPInt().getZExtValue()));
  }
  }
}

void writeInteger(const heddle_tensor &t, int64_t offset, int64_t value) {
  auto store = [&](auto v) { std::memcpy(static_cast<char *>(t.data) + offset * sizeof(v), &v, sizeof(v)); };
  switch (t.dtype) {
  case HEDDLE_I64:
    return store(value);
  case HEDDLE_I32:
    return store(static_cast<int32_t>(value));
  default:
    return store(static_cast<int8_t>(value));
  }
}

Scalar readClamped(const heddle_tensor &t, ArrayRef<int64_t> indices) {
  int64_t offset = 0;
  for (auto [n, index] : llvm::enumerate(indices)) {
    if (t.shape[n] <= 0) {
      return isFloatDtype(t.dtype) ? Scalar::of(0.0) : Scalar::of(int64_t(0));
    }
    offset += std::clamp<int64_t>(index, 0, t.shape[n] - 1) * t.strides[n];
  }
  if (isFloatDtype(t.dtype)) {
    return Scalar::of(readFloat(t, offset));
  }
  int64_t value = readInteger(t, offset);
  return Scalar::of(t.dtype == HEDDLE_BOOL ? -value : value);
}

std::string describeTensor(const heddle_tensor &t) {
  static const char *const names[] = {"f32", "f16", "bf16", "f64", "bool", "i8", "i32", "i64"};
  std::string text = "[";
  for (int32_t n = 0; n < t.rank; ++n) {
    text += (n ? ", " : "") + std::to_string(t.shape[n]);
  }
  return text + "] of " + names[t.dtype];
}

} // namespace heddle
