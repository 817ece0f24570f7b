//===- Pattern.h - The pattern algebra ------------------------------------===//
//
// A pattern is a set of (query position i, key position j) pairs, written in an
// algebra over closed-form and run-time primitives. This is its syntax tree,
// its text form, and its meaning pair by pair; exact sets live in
// PeriodicSet.h (one dimension), RowSets.h (bounded) and PatternSet.h
// (Presburger). Free of MLIR, so that Python and the cache can use it alone.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_PATTERN_H
#define HEDDLE_DIALECT_PATTERN_H

#include "dialect/Expr.h"
#include "dialect/PeriodicSet.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace heddle {

/// An integer of a pattern: a literal, `inf`, `end - value`, or a run-time
/// integer (operand number `value`).
struct IntArg {
  enum Kind : uint8_t { Literal, Infinity, End, Operand } kind = Literal;
  int64_t value = 0;
  IntArg() = default;
  IntArg(int64_t v) : value(v) {} // NOLINT: literals convert.
  IntArg(Kind k, int64_t v) : kind(k), value(v) {}
  bool operator==(const IntArg &) const = default;
};

/// Half-open range [lo, hi) of a list.
struct RangeArg {
  IntArg lo, hi;
  bool operator==(const RangeArg &) const = default;
};

enum class PatternKind : uint8_t {
  Full,           ///< every pair
  Empty,          ///< no pair; text form `~full`
  Causal,         ///< ints = {lag}: j <= i - lag
  Window,         ///< ints = {left, right, dilation}
  Stride,         ///< ints = {n, phase}: (i - j) mod n = phase
  Block,          ///< ints = {n}
  Keys,           ///< ranges, or flags: operands = {flags [B, Nk]}
  Queries,        ///< ranges, or flags: operands = {flags [B, Nq]}
  GlobalTokens,   ///< ranges: keys | queries
  KeyMod,         ///< ints = {n, lo, hi}
  QueryMod,       ///< ints = {n, lo, hi}
  Offsets,        ///< ints = list of i - j, or operands = {list [n] or [H, n]}
  Coarse,         ///< ints = {nq, nk}, children = {P}
  Grid,           ///< ints = {width}, children = {rows, columns}
  Remap,          ///< exprs e_k of Sym::Query (the map's x), children P_k
  Shift,          ///< ints = {a}, children = {P}: P on (i - a, j - a)
  Neighborhood,   ///< ints = {size, extent, stride, dilation, causal (0 or 1)}
  PastBlocks,     ///< ints = {n, size, inclusive (0 or 1)}
  Parent,         ///< ints = {n}: i = j floordiv n
  RandomBlocks,   ///< ints = {block, per_row, seed}
  AffineSet,      ///< exprs: one condition (Bool) in Query, Key, QueryEnd, KeyEnd
  Holds,          ///< exprs: one condition (Bool) in Batch, Head, Query, Key
  PerHead,        ///< children, cyclic in the query head
  Same,           ///< operands = {qids, kids}, [B, N] or [B, H, N]; negative ids match nothing
  Cluster,        ///< operands = {ids}: same(ids, ids)
  Lengths,        ///< operands = {len [B]}: j's row < len[b]
  Between,        ///< operands = {lo, hi} [B, Nq] or [B, H, Nq]: lo <= j's row < hi at i's row
  BetweenQueries, ///< operands = {lo, hi} [B, Nk] or [B, H, Nk]: lo <= i's row < hi at j's row
  Positions,      ///< operands = {p, q}, children = {P}: P on (p[i's row], q[j's row]), which are its rows too
  Packed,         ///< operands = {cu_q, cu_k} [S + 1], children = {P}: one sequence, P on the places in it
  Listed,         ///< operands = {idx [B, H, Nq, n]}: j's row is in the list of i's row
  Csr,            ///< operands = {ptr [B, H, Nq + 1], idx [B, H, nnz]}: likewise, idx[ptr[i] to ptr[i + 1]]
  Mask,           ///< operands = {bits [B, H, Nq, Nk]}
  And,
  Or,
  Sub,
  Not, ///< children (And, Or: two or more)
};

class Pattern;

struct PatternNode {
  PatternKind kind;
  std::vector<IntArg> ints;
  std::vector<RangeArg> ranges;
  std::vector<int64_t> operands; ///< numbers of tensor operands
  std::vector<Expr> exprs;
  std::vector<Pattern> children;
  uint32_t depth = 1; ///< Height of the tree; kept by Pattern::make.
};

/// A shared, immutable pattern.
class Pattern {
public:
  /// The deepest nesting that text may have and that `verify` accepts.
  static constexpr uint32_t maxDepth = 200;

  Pattern(); ///< full
  explicit Pattern(std::shared_ptr<const PatternNode> n) : node(std::move(n)) {}
  /// Builds a node without checking it (see `verify`).
  static Pattern make(PatternNode n);
  static Pattern full();
  static Pattern empty();

  const PatternNode *operator->() const { return node.get(); }
  const PatternNode &operator*() const { return *node; }

  Pattern operator&(const Pattern &o) const;
  Pattern operator|(const Pattern &o) const;
  Pattern operator-(const Pattern &o) const;
  Pattern operator~() const;

  /// Structural equality (two spellings of one set may differ).
  bool same(const Pattern &o) const;
  size_t hash() const;

  /// The text form of design section 2. `operandName` prints operand n; the
  /// default prints `%n`.
  /// `words`: see Expr::str (`lt` for `<` and so on, for MLIR attributes).
  std::string str(const std::function<std::string(int64_t)> &operandName = {}, bool words = false) const;

  /// Nullopt where every constraint of docs/spec.md holds, else the first
  /// violation: "expected ..., but got ...".
  std::optional<std::string> verify() const;
  /// As verify(), of the root alone.
  std::optional<std::string> verifyRoot() const;

  /// True where membership may depend on the query's *position* i. Run-time
  /// operands go by rows and do not count.
  bool dependsOnQuery() const;
  bool hasOperands() const;
  /// Operand numbers used as tensors and as run-time integers, ascending.
  std::vector<int64_t> tensorOperands() const;
  std::vector<int64_t> scalarOperands() const;
  /// The same pattern with operand n renamed to map(n).
  Pattern renumber(const std::function<int64_t(int64_t)> &map) const;
  /// The same pattern with the loads of `holds` retyped: text says `%t[b, j]`
  /// for integers, `float(%t[b, j])`, `bool(%t[b, j])`; where the tensors are
  /// known, their element types decide.
  Pattern withLoadTypes(const std::function<ExprType(int64_t operand)> &type) const;

  /// Membership of one pair, straight from the definitions (used by the
  /// interpreter and by tests; no lowering calls it). Run-time tensors are read
  /// through env.load at {b, h, row} (ids, ends, positions, row pointers), {b, h, row, n} (lists, bits), {b, h, n}
  /// (indices of `csr`), {h, 0, n} (offsets), {b, row} (flags), {b} (`lengths`) or {n} (`packed`): where its tensor has
  /// fewer dimensions the callee drops the second index, then the first; it
  /// broadcasts B and H of 1, and maps h to a key head where H is Hk. Rows are
  /// position minus offset; `coarse`, `grid`, `remap` and `shift` map rows as
  /// they map positions.
  bool contains(const ExprEnv &env) const;

private:
  std::shared_ptr<const PatternNode> node;
};

/// Where a parse failed: `offset` is a byte offset in the text.
struct PatternError {
  size_t offset = 0;
  std::string message;
};

/// Resolves `%name` to an operand number, or a negative number where unknown.
/// `isScalar` says that it stands where an integer is expected.
using OperandResolver = std::function<int64_t(const std::string &name, bool isScalar)>;

/// Parses the text form. The default resolver numbers `%0`, `%1`, ...
std::variant<Pattern, PatternError> parsePattern(const std::string &text, const OperandResolver &resolve = {});
/// The same for patterns that users write: a constraint that does not hold (Pattern::verify) is an error at its place.
std::variant<Pattern, PatternError> parseVerified(const std::string &text, const OperandResolver &resolve);

/// Canonical form: the maximal parts in i - j alone, in j alone and in i alone
/// are put into their one-dimensional normal form, `Sub`, double negation and
/// neutral elements are gone, commutative operands are sorted. Equal
/// one-dimensional sets give identical text.
Pattern canonicalize(const Pattern &p);

/// The exact one-dimensional set, where the pattern is constant and depends on
/// i - j alone, on j alone, or on i alone (`full` and `~full` do on each).
/// Nullopt also where a cap of PeriodicSet was passed.
std::optional<PeriodicSet> diffSet(const Pattern &p);
std::optional<PeriodicSet> keySet(const Pattern &p);
std::optional<PeriodicSet> querySet(const Pattern &p);
/// The other way: a pattern in canonical text.
Pattern patternOfDiffs(const PeriodicSet &diffs);
Pattern patternOfKeys(const PeriodicSet &keys);
Pattern patternOfQueries(const PeriodicSet &queries);

} // namespace heddle

#endif // HEDDLE_DIALECT_PATTERN_H
