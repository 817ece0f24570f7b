//===- softfloat.cpp - Half-precision conversions by name -----------------===//
//
// binary16 and bfloat16 by integer arithmetic on binary32's bits.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/softfloat.h"

#include <bit>
#include <emmintrin.h>

using namespace heddle::rt;

uint16_t heddle::rt::floatToHalf(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) {
    return uint16_t(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  }
  if (magnitude >= 0x477ff000) { // 65520 and above round to infinity
    return uint16_t(sign | 0x7c00);
  }
  if (magnitude >= 0x38800000) { // normal: rebias by 112, round on bit 13
    uint32_t rebiased = magnitude - (uint32_t(112) << 23);
    return uint16_t(sign | ((rebiased + 0xfff + (rebiased >> 13 & 1)) >> 13));
  }
  if (magnitude < 0x33000000) { // below half of the smallest subnormal
    return uint16_t(sign);
  }
  uint32_t shift = 126 - (magnitude >> 23), mantissa = (magnitude & 0x7fffff) | 0x800000;
  uint32_t quotient = mantissa >> shift, rest = mantissa & ((uint32_t(1) << shift) - 1),
           half = uint32_t(1) << (shift - 1);
  return uint16_t(sign | (quotient + (rest > half || (rest == half && (quotient & 1)))));
}

float heddle::rt::halfToFloat(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) {
    return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  }
  if (exponent == 0) { // zero and subnormals: mantissa * 2^-24, exact
    float magnitude = float(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t heddle::rt::floatToBfloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) {
    return uint16_t(bits >> 16 | 0x40);
  }
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The low 16 bits of xmm0 carry a half, in and out.
static __m128i truncsfhf2(float value) { return _mm_cvtsi32_si128(floatToHalf(value)); }
static __m128i truncsfbf2(float value) { return _mm_cvtsi32_si128(floatToBfloat(value)); }
static float extendhfsf2(__m128i value) { return halfToFloat(uint16_t(_mm_cvtsi128_si32(value))); }
static float extendbfsf2(__m128i value) {
  return std::bit_cast<float>(uint32_t(uint16_t(_mm_cvtsi128_si32(value))) << 16);
}

void *heddle::rt::findSoftFloat(std::string_view name) {
  if (name == "__truncsfhf2") {
    return reinterpret_cast<void *>(&truncsfhf2);
  }
  if (name == "__truncsfbf2") {
    return reinterpret_cast<void *>(&truncsfbf2);
  }
  if (name == "__extendhfsf2") {
    return reinterpret_cast<void *>(&extendhfsf2);
  }
  if (name == "__extendbfsf2") {
    return reinterpret_cast<void *>(&extendbfsf2);
  }
  return nullptr;
}
