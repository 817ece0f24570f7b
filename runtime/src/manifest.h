//===- manifest.h - What an artefact says about itself ---------*- C++ -*-===//
//
// The manifest of docs/abi.md as plain data, checked: every index is in range,
// every size is sane, so that a launch needs no further look.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_MANIFEST_H
#define HEDDLE_RUNTIME_MANIFEST_H

#include "runtime/src/error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::rt {

enum class RoleKind { Q, K, V, DotQ, DotK, Relative, QOffset, KOffset, Sink, Scale, Operand };

struct Role {
  RoleKind kind;
  int segment = 0;  ///< of an operand: -1 where it may belong to any
  std::string axes; ///< of an operand: one letter of "bhqk." for each dimension
  /// Of each axis: the size is ceil(rows / divisor) + more.
  struct Rows {
    int64_t divisor = 1, more = 0;
  };
  std::vector<Rows> rows;
  /// What HEDDLE_CHECK=1 asks of an operand's contents (checks.h).
  enum Check { None, List, Graph, Distinct, QueryStarts, KeyStarts, Length } check = None;
  int64_t divisor = 1; ///< entries name blocks of so many keys; 0: unknown
  int pointers =
      -1; ///< of a graph's indices, or starts of keys: the argument with the row pointers, or starts of queries
  std::optional<int64_t> min, max; ///< of an integer scalar: the values that make sense
};

struct Argument {
  std::string name;
  heddle_dtype dtype;
  bool scalar = false;
  std::vector<int64_t> dims; ///< -1: read at run time
  std::vector<Role> roles;
};

enum class ResultRole { Out, Lse };

struct Result {
  heddle_dtype dtype;
  std::vector<int64_t> dims;
  ResultRole role; ///< of an attend
  int value = -1;  ///< of a program: which value it is
};

/// One term of a postfix expression of sizes.
struct SizeTerm {
  enum Kind { Constant, Size, Add, Mul, FloorDiv, CeilDiv, Mod } kind;
  int64_t value = 0; ///< of a constant; 4 a + n: size n of argument a
};
/// Checked: it leaves one value and needs at most 16.
using SizeExpr = std::vector<SizeTerm>;

struct OpCheck {
  enum Kind { Is, OrOne, Divides } kind;
  int arg, axis;
  SizeExpr size;
};

/// What the launch of an op on whole tensors needs.
struct OpLaunch {
  std::vector<std::vector<SizeExpr>> sizes; ///< of each result
  SizeExpr tasks, work;
  std::vector<OpCheck> checks;
};

/// One kernel of a program on values: the arguments, then the results of the steps.
struct Step {
  int kernel;
  std::vector<int> args, results;
};

/// Where a position's offset comes from.
struct Offset {
  enum Kind { None, Value, End, Arg } kind = None;
  int64_t value = 0;
  int arg = 0;
};

struct Segment {
  Offset kOffset;
  bool needsQOffset = false;
  int k = -1, v = -1; ///< arguments; k is -1 where the segment has no dot with it
};

/// Rows sorted by ids: tables that the runtime makes for a launch (orders.h).
struct Order {
  int query = 0, key = 0; ///< arguments: ids of queries and of keys
  int64_t within = 0;     ///< queries stay in their super-tile of so many positions; 0: in any
};

/// An argument that is read through a list of rows: it counts as a tensor with as many rows as the list has entries.
struct Listed {
  int arg = 0, list = 0; ///< arguments
};

/// How a GPU kernel is launched (docs/abi.md).
struct GpuPlan {
  struct Kernel {
    std::string name;
    int64_t threads = 0, sharedBytes = 0;
    int64_t cubin = 0;  ///< number of the cubin that holds it
    int64_t span = 1;   ///< query positions of one block's tile in the leading digit
    int64_t inner = 1;  ///< blocks for each span
    bool merge = false; ///< merges the states of splits: a block for each row, where there are several splits
    // Of an op on whole tensors, whose blocks take tasks in turn:
    int64_t maxBlocks = 0;  ///< more are not launched
    int64_t blockBytes = 0; ///< workspace of each block
  };
  std::string chip;
  int64_t ptxBytes = 0;
  std::vector<int64_t> cubinBytes; ///< of each cubin; none where there was no ptxas
  int64_t workspaceWords = 0;      ///< f32 for each row of each head; 0: no workspace
  int64_t stateWords = 0;          ///< the same for each of several splits of the keys
  /// A tensor map that a launch makes: boxes of `rows` rows, `step` apart, of an argument (maps.h).
  struct MapRecipe {
    int64_t arg = 0, step = 1, rows = 1;
  };
  std::vector<Kernel> kernels;
  std::vector<Kernel> tensorKernels; ///< instead of `kernels` where every map can be made
  std::vector<MapRecipe> tensorMaps;
};

struct Manifest {
  std::string name, features, entry;
  int64_t scratchBytes = 0, superTile = 1;
  std::vector<int64_t> parts;        ///< for each group of strata: tasks that a super-tile may be cut into
  int64_t stateBytes = 0;            ///< of a state that tasks share, 0 where none do
  int64_t keysPerSplit = 0;          ///< least keys of a split; 0: keys are never split
  int64_t maxSplits = 1, lanes = 64; ///< lanes: queries of a tile
  bool headsShareTiles = false;      ///< a tile may hold queries of several heads that share keys
  /// (argument, dimension): elements for heads, which all heads of a tile have to share too.
  std::vector<std::pair<size_t, size_t>> headTables;
  Offset qOffset;
  std::vector<Segment> segments;
  std::vector<Argument> args;
  std::vector<Result> results;
  std::vector<Order> orders;
  std::vector<Listed> listed;
  int q = -1;
  std::optional<GpuPlan> gpu; ///< null for a CPU
  std::optional<OpLaunch> op; ///< of a kernel of an op on whole tensors; then there are no segments
  // Of a program:
  std::vector<Step> steps;
  std::vector<int64_t> kernels; ///< bytes of each kernel's artefact
  int numValues = 0;

  bool isProgram() const { return !steps.empty(); }
};

/// Any text is safe to pass.
Error parseManifest(std::string_view json, Manifest &out);

/// `text` as a JSON string with its quotes; bytes that are not UTF-8 are replaced.
std::string quoteJson(std::string_view text);

/// "f32", "bf16", …
const char *dtypeName(heddle_dtype dtype);
int64_t dtypeSize(heddle_dtype dtype);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_MANIFEST_H
