//===- KnownRanges.h - Of what a condition's range can be computed --------===//
//
// What can be said of a condition on a box of pairs before any value is known:
// which of its integers have ranges that follow from those of the query and the
// key, and stay within 64 bits. Tile loops compute them (BoxTest.h). No MLIR.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_KNOWNRANGES_H
#define HEDDLE_PASSES_KNOWNRANGES_H

#include "dialect/Expr.h"

#include <optional>
#include <unordered_map>

namespace heddle {

/// Keys of a box.
inline constexpr int64_t kBoxKeys = 48;
/// Elements of a load that are looked through for a box.
inline constexpr int64_t kBoxElements = 16;
/// Integers that tensors hold are below this, or nothing is known of them.
inline constexpr int64_t kMostLoaded = int64_t(1) << 33;

class KnownRanges {
public:
  /// The largest absolute value of an integer whose range is computed; nullopt where it is not.
  std::optional<double> most(const Expr &x);
  /// True where something is known of a boolean.
  bool isKnown(const Expr &x);
  /// Neither query nor key occurs.
  static bool isUniform(const Expr &x);
  /// A load of an integer or a boolean that a box of neighboring pairs takes from few elements.
  bool loadsFew(const Expr &x);

private:
  std::unordered_map<const ExprNode *, std::optional<double>> sizes;
  std::unordered_map<const ExprNode *, bool> truths;
  std::unordered_map<const ExprNode *, std::optional<double>> spans;

  /// Largest minus smallest value in a box of a tile's queries, all neighbors; nullopt where it is not known.
  std::optional<double> span(const Expr &x);
  std::optional<double> computeSpan(const Expr &x);
  std::optional<double> compute(const Expr &x);
  bool decide(const Expr &x);
};

/// True of a load %t[.., x] where x is the key plus what it is not in, and the key is in no other index: its elements
/// at neighboring keys of a query are neighbors.
bool readsNeighbors(const Expr &x);
/// True of such a load of booleans where x follows the key alone, and some other index the query: each query has a row
/// of elements in the order of the keys, and so do all queries of a tile at once.
bool isRowOfKeys(const Expr &x);
/// The parts of x that are `wanted` (and their parts not), each once.
std::vector<Expr> loadsWhere(const Expr &x, bool (*wanted)(const Expr &));

/// How the keys of a condition are cut into boxes.
struct KeyBoxes {
  int64_t keys = kBoxKeys;
  Expr place; ///< boxes begin where it is a multiple of `keys`; null: anywhere
};
/// Where loads find the key in parts `(key + c) floordiv n`, c uniform, alone, boxes are such a run of keys, or an
/// equal part of it: their elements are few, and decide on all keys of the box.
KeyBoxes keyBoxesOf(const Expr &condition);

/// True where something can be said of the condition (null: there is none), and that is worth a test.
bool hasBoxTest(const Expr &condition);

} // namespace heddle

#endif // HEDDLE_PASSES_KNOWNRANGES_H
