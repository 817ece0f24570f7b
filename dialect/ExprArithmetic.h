//===- ExprArithmetic.h - Integers that expressions compute with *- C++ -*-===//
//
// Folding and evaluation compute alike: 64 bits that wrap; what processors leave
// undefined (division by 0, shifts out of range) gives 0.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_EXPRARITHMETIC_H
#define HEDDLE_DIALECT_EXPRARITHMETIC_H

#include "dialect/Expr.h"

#include <cmath>
#include <cstdint>
#include <limits>

namespace heddle {

inline int64_t wrapAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
inline int64_t wrapSub(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
inline int64_t wrapMul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
inline int64_t floorDivide(int64_t a, int64_t b) {
  if (b == 0) {
    return 0;
  }
  if (b == -1) {
    return wrapSub(0, a);
  }
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a % b < 0) != (b < 0)));
}
inline int64_t floorModulo(int64_t a, int64_t b) {
  if (b == 0 || b == -1) {
    return 0;
  }
  int64_t r = a % b;
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
inline int64_t shiftLeft(int64_t a, int64_t n) {
  return n < 0 || n > 63 ? 0 : static_cast<int64_t>(static_cast<uint64_t>(a) << n);
}
inline int64_t shiftRight(int64_t a, int64_t n) { return n < 0 || n > 63 ? 0 : a >> n; }

/// Cut off and kept within 64 bits; 0 of NaN.
inline int64_t toInt(double v) {
  if (std::isnan(v)) {
    return 0;
  }
  if (v >= 0x1p63) {
    return std::numeric_limits<int64_t>::max();
  }
  return v <= -0x1p63 ? std::numeric_limits<int64_t>::min() : static_cast<int64_t>(v);
}

inline bool isComparison(ExprKind k) { return k >= ExprKind::Lt && k <= ExprKind::Ne; }

/// A comparison of numbers of one type.
template <typename T> bool compare(ExprKind kind, T a, T b) {
  switch (kind) {
  case ExprKind::Lt:
    return a < b;
  case ExprKind::Le:
    return a <= b;
  case ExprKind::Gt:
    return a > b;
  case ExprKind::Ge:
    return a >= b;
  case ExprKind::Eq:
    return a == b;
  default:
    return a != b;
  }
}

} // namespace heddle

#endif // HEDDLE_DIALECT_EXPRARITHMETIC_H
