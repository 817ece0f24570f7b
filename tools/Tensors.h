//===- Tensors.h - A kernel's arguments, filled with random data ----------===//
//
// Reads the manifest (docs/abi.md), decides each open size from --shape, and
// makes a tensor for every argument and result, with data that fits its role.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TOOLS_TENSORS_H
#define HEDDLE_TOOLS_TENSORS_H

#include "dialect/Pattern.h"
#include "tools/Support.h"

#include <memory>
#include <random>
#include <vector>

namespace heddle::tools {

/// A dense tensor that owns its elements (64-byte aligned).
class Tensor {
public:
  Tensor() = default;
  Tensor(heddle_dtype dtype, std::vector<int64_t> shape);
  /// The value at a flat index, as a double; and back, rounded to the type.
  double get(int64_t flat) const;
  void set(int64_t flat, double value);
  /// The element at indices that are clamped to the shape.
  double at(const std::vector<int64_t> &indices) const;
  int64_t size() const { return count; }
  const heddle_tensor &view() const { return tensor; }

private:
  struct Free {
    void operator()(void *p) const;
  };
  std::shared_ptr<void> storage;
  heddle_tensor tensor = {};
  int64_t count = 0;
};

/// One argument or result of the manifest.
struct Slot {
  std::string name, type, role, axes;
  int64_t segment = 0;
  bool scalar = false;
  std::vector<int64_t> dims; ///< -1: read at run time
  std::vector<std::string> roles;
};

/// A spec's sizes and data. Segment sizes are named nk0, nk1, ...; where only nk is
/// given, all segments have it.
struct Problem {
  Problem(const std::string &manifest, const Shape &shape);

  int64_t b = 1, h = 8, hk = 8, hv = 8, nq = 0, d = 64, dv = 64;
  std::vector<int64_t> nk;
  std::string dtype;
  std::vector<Slot> args, outs;
  std::vector<Tensor> values, results;

  /// Fills the arguments; `patterns` (one a segment, operands numbered by argument)
  /// say what run-time operands are for.
  void fill(const std::vector<Pattern> &patterns, uint64_t seed, const Shape &shape);
  /// As the explain interface wants it: "b=1,h=8,nq=...".
  std::string sizes() const;
  /// Argument number of `%name` (with or without %), -1 where there is none.
  int64_t find(const std::string &name) const;
  /// What patterns read at pair (i, j): this problem's data.
  ExprEnv environment(int64_t batch, int64_t head, int64_t segment) const;
  int64_t queryOffset(int64_t batch) const;
  int64_t keyOffset(int64_t batch, int64_t segment) const;

private:
  friend class Filler;
  struct Offset {
    enum Kind { None, Value, End, Arg } kind = None;
    int64_t value = 0;
  };
  int64_t offset(const Offset &o, int64_t batch) const;
  Offset qOffset;
  std::vector<Offset> kOffsets;
};

heddle_dtype dtypeOf(const std::string &type);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_TENSORS_H
