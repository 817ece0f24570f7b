//===- artifact.cpp - The artefact's container ----------------------------===//
//
// Writes and reads the byte string that artifact.h describes.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/artifact.h"

#include "runtime/src/sha256.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace heddle::rt;

static constexpr std::string_view magic("HEDDLE\0\1", 8);
static constexpr size_t sizesAt = 8, digestAt = 24, bodyAt = 56;

static uint64_t readU64(const char *p) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) {
    value = value << 8 | uint8_t(p[i]);
  }
  return value;
}

static void appendU64(std::string &out, uint64_t value) {
  for (int i = 0; i < 8; ++i) {
    out += char(value >> (8 * i));
  }
}

std::string heddle::rt::writeArtifact(std::string_view manifest, std::string_view object) {
  Sha256 hash;
  hash.update(manifest.data(), manifest.size());
  hash.update(object.data(), object.size());
  Digest digest = hash.finish();
  std::string out;
  out.reserve(bodyAt + manifest.size() + object.size());
  out += magic;
  appendU64(out, manifest.size());
  appendU64(out, object.size());
  out.append(reinterpret_cast<const char *>(digest.data()), digest.size());
  out += manifest;
  out += object;
  return out;
}

void *heddle::rt::mallocArtifact(std::string_view manifest, std::string_view object, size_t *size) {
  std::string bytes = writeArtifact(manifest, object);
  void *copy = std::malloc(bytes.size());
  if (copy) {
    std::copy(bytes.begin(), bytes.end(), static_cast<char *>(copy));
    *size = bytes.size();
  }
  return copy;
}

Error heddle::rt::readArtifact(std::string_view bytes, Artifact &out) {
  if (bytes.size() < bodyAt || bytes.substr(0, magic.size()) != magic) {
    return systemError("expected a kernel artefact (format 1), but got " + std::to_string(bytes.size()) +
                       " bytes with another header");
  }
  uint64_t manifestSize = readU64(bytes.data() + sizesAt), objectSize = readU64(bytes.data() + sizesAt + 8);
  uint64_t body = bytes.size() - bodyAt;
  if (manifestSize > body || objectSize != body - manifestSize) {
    return systemError("expected an artefact with a manifest of " + std::to_string(manifestSize) +
                       " bytes and an object of " + std::to_string(objectSize) + " bytes, but got " +
                       std::to_string(body) + " bytes");
  }
  Digest digest = sha256(bytes.data() + bodyAt, body);
  if (std::memcmp(digest.data(), bytes.data() + digestAt, digest.size()) != 0) {
    return systemError("expected an intact artefact, but its checksum does not match its content");
  }
  out.manifest = bytes.substr(bodyAt, manifestSize);
  out.object = bytes.substr(bodyAt + manifestSize);
  return nullptr;
}

heddle_error *heddle_artifact_write(const char *manifest, size_t manifest_size, const void *object, size_t object_size,
                                    void **artifact, size_t *size) {
  return guarded([&]() -> Error {
    *artifact = mallocArtifact({manifest, manifest_size}, {static_cast<const char *>(object), object_size}, size);
    return *artifact ? nullptr : systemError("expected enough memory for an artefact, but the allocation failed");
  });
}
