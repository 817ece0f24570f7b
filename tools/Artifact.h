//===- Artifact.h - What the compiler hands over --------------------------===//
#ifndef HEDDLE_TOOLS_ARTIFACT_H
#define HEDDLE_TOOLS_ARTIFACT_H

#include "tools/Support.h"

#include <string>

namespace heddle::tools {

/// A container of docs/abi.md, and the remarks that came with it.
class Artifact {
public:
  /// Throws where the sizes do not fit.
  explicit Artifact(std::string bytes, std::string remarks = "");

  std::string manifest() const { return bytes.substr(kHead, manifestSize()); }
  std::string object() const { return bytes.substr(kHead + manifestSize(), objectSize()); }

  std::string bytes, remarks;

private:
  static constexpr size_t kHead = 56; ///< bytes in front of the manifest
  uint64_t manifestSize() const { return word(8); }
  uint64_t objectSize() const { return word(16); }
  uint64_t word(size_t at) const;
};

/// Compiles a spec for a target, and says that it does.
Artifact compileSpec(const Spec &spec, const std::string &target);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_ARTIFACT_H
