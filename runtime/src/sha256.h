//===- sha256.h - The SHA-256 hash -----------------------------*- C++ -*-===//
//
// FIPS 180-4. It guards cache entries against damage and names them; it is no
// defense against somebody who may write to the cache folder.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_SHA256_H
#define HEDDLE_RUNTIME_SHA256_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace heddle::rt {

using Digest = std::array<uint8_t, 32>;

/// Hashes what update() is given, in pieces of any size.
class Sha256 {
public:
  void update(const void *data, size_t size);
  Digest finish();

private:
  void block(const uint8_t *p);

  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t total = 0;
  uint8_t pending[64];
};

Digest sha256(const void *data, size_t size);

/// 64 lower-case hexadecimal digits.
std::string toHex(const Digest &digest);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_SHA256_H
