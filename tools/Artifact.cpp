//===- Artifact.cpp - What the compiler hands over ------------------------===//

#include "tools/Artifact.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace heddle::tools {

Artifact::Artifact(std::string given, std::string said) : bytes(std::move(given)), remarks(std::move(said)) {
  size_t size = bytes.size();
  if (size < kHead || manifestSize() > size - kHead || objectSize() > size - kHead - manifestSize()) {
    throw Failure(1, "expected an artefact with a manifest and an object, but got " + std::to_string(size) + " bytes");
  }
}

uint64_t Artifact::word(size_t at) const {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

Artifact compileSpec(const Spec &spec, const std::string &target) {
  Progress progress("compiling");
  void *data = nullptr;
  size_t size = 0;
  char *remarks = nullptr;
  heddle_error *error = compiler().compile(spec.text.c_str(), target.c_str(), &data, &size, &remarks);
  std::string said = spec.located(take(remarks));
  check(error, &spec);
  std::string bytes(static_cast<const char *>(data), size);
  std::free(data);
  return Artifact(std::move(bytes), std::move(said));
}

} // namespace heddle::tools
