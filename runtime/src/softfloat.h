//===- softfloat.h - Half-precision conversions by name --------*- C++ -*-===//
//
// A target without F16C or AVX512-BF16 converts 16-bit floats by calls that a
// compiler normally finds in its own support library (__truncsfhf2 and so on).
// The libgcc of a stable distribution lacks some, so the loader offers ours.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_SOFTFLOAT_H
#define HEDDLE_RUNTIME_SOFTFLOAT_H

#include <cstdint>
#include <string_view>

namespace heddle::rt {

/// Round to nearest, ties to even; NaN stays NaN.
uint16_t floatToHalf(float value);
float halfToFloat(uint16_t bits);
uint16_t floatToBfloat(float value);

/// Address of the support function `name` with the x86-64 calling convention
/// (16-bit floats travel in the low bits of xmm0), or null.
void *findSoftFloat(std::string_view name);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_SOFTFLOAT_H
