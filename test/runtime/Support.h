//===- Support.h - What the runtime's tests share --------------*- C++ -*-===//
//
// The object of copy_kernel.c with its manifest, tensors over vectors, folders
// that vanish.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TEST_RUNTIME_SUPPORT_H
#define HEDDLE_TEST_RUNTIME_SUPPORT_H

#include "runtime/src/artifact.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <initializer_list>
#include <iterator>
#include <string>
#include <unistd.h>
#include <vector>

namespace heddle::rt::test {

inline std::string readAll(const std::filesystem::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void writeAll(const std::filesystem::path &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// copy_kernel.c, compiled when the tests were built.
inline const std::string &copyObject() {
  static const std::string object = readAll(HEDDLE_COPY_KERNEL);
  return object;
}

/// Manifest of copy_kernel.c. `qOffset` is the JSON of its source; `extra` more members ("" or `, "a": 1`).
inline std::string copyManifest(const std::string &qOffset = R"({"kind": "arg", "arg": 3})",
                                const std::string &extra = "") {
  return R"({"format": 1, "name": "copy", "target": "native", "features": "x86-64", "entry": "heddle_task",
    "scratch_bytes": 4096, "super_tile": 16, "lanes": 16, "needs_q_offset": true,
    "q_offset": )" +
         qOffset + R"(, "segments": [{"k_offset": {"kind": "value", "value": 0}, "needs_q_offset": true}],
    "args": [
      {"name": "q", "type": "f32", "dims": [-1, -1, -1, 8], "scalar": false, "roles": [{"role": "q"}]},
      {"name": "k", "type": "f32", "dims": [-1, -1, -1, 8], "scalar": false, "roles": [{"role": "k", "segment": 0}]},
      {"name": "v", "type": "f32", "dims": [-1, -1, -1, -1], "scalar": false, "roles": [{"role": "v", "segment": 0}]},
      {"name": "at", "type": "i64", "dims": [-1], "scalar": false, "roles": [{"role": "q_offset"}]}],
    "results": [{"type": "f32", "dims": [-1, -1, -1, -1], "role": "out"},
                {"type": "f32", "dims": [-1, -1, -1], "role": "lse"}])" +
         extra + "}";
}

inline std::string copyArtifact(const std::string &manifest = copyManifest()) {
  return writeArtifact(manifest, copyObject());
}

/// A dense tensor over its own memory.
template <typename T> struct Dense {
  std::vector<T> data;
  heddle_tensor view{};

  Dense(heddle_dtype dtype, std::initializer_list<int64_t> shape) {
    int64_t elements = 1;
    view.dtype = dtype;
    view.rank = int32_t(shape.size());
    std::copy(shape.begin(), shape.end(), view.shape);
    for (int32_t i = view.rank; i-- > 0;) {
      view.strides[i] = elements;
      elements *= view.shape[i];
    }
    data.resize(size_t(elements) + 1); // never a null pointer
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = T(i % 1013);
    }
    view.data = data.data();
  }
};

/// Message of an error, "" for success; frees it.
inline std::string take(heddle_error *error) {
  Error owned(error);
  return owned ? owned->message : "";
}

class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "heddle-test-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

} // namespace heddle::rt::test

#endif // HEDDLE_TEST_RUNTIME_SUPPORT_H
