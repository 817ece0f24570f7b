//===- Expr.h - Scalar expressions over a query and a key -----------------===//
//
// Immutable scalar expressions in the coordinates of one (query, key) pair:
// the bodies of `holds`, the bounds of a stratum, and the residual predicates
// of a masked stratum are all `Expr`. The class knows nothing of MLIR, so the
// runtime side (cache keys, Python) can use patterns without loading LLVM.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_EXPR_H
#define HEDDLE_DIALECT_EXPR_H

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace heddle {

/// The leaves that depend on the pair or on the problem.
enum class Sym : uint8_t {
  Batch,     ///< b, in [0, B)
  Head,      ///< h, the query head, in [0, Hq)
  Query,     ///< i, the query's position (row + q_offset)
  Key,       ///< j, the key's position (row + k_offset)
  QueryEnd,  ///< nq: one past the last query position (q_offset + Nq)
  KeyEnd,    ///< nk: one past the last key position (k_offset + Nk)
  QueryRow,  ///< i - q_offset
  KeyRow,    ///< j - k_offset
  KeyOffset, ///< k_offset of the segment: j - KeyRow, free of the key
  Choice,    ///< in a stratum that repeats: which of its choices, from 0
  Heads,     ///< Hq
  Entry,     ///< the entry at hand of a list (bounds of a gathered stratum only)
};

enum class ExprKind : uint8_t {
  // Leaves.
  Int,    ///< `value`
  Float,  ///< `number`
  Symbol, ///< `symbol`
  Scalar, ///< run-time integer, operand number `value`
  Load,   ///< element of operand number `value` at `args` (row-major indices)
  // Integer or float arithmetic.
  Add,
  Sub,
  Mul,
  Neg,
  FloorDiv, ///< rounds down, also for negatives
  Mod,      ///< floor modulus: result has the divisor's sign
  Div,      ///< true division; always float
  Min,
  Max,
  Abs,
  // Bits of integers; And, Or, Xor, Not are also the logical ones on booleans.
  And,
  Or,
  Xor,
  Not,
  Shl,
  Shr,
  // Comparisons: boolean results.
  Lt,
  Le,
  Gt,
  Ge,
  Eq,
  Ne,
  Select, ///< args[0] ? args[1] : args[2]
  // The generator of random_blocks (docs/spec.md), whose row u draws at t = first, first + 1, ...
  Draw,  ///< (seed, u, first, t): the block that draw t takes
  Drawn, ///< (seed, u, first, last, block): true where a draw first <= t < last takes the block
  // Float functions of one argument.
  Exp,
  Exp2,
  Log,
  Sqrt,
  Tanh,
  Floor,
  Sigmoid,
  Erf,
  Sin,
  Cos,
  // Questions to a whole operand, args[0], which is a load without indices; then the indices of its leading
  // dimensions. The last dimension is the list.
  Member, ///< args = {.., lo, hi, x}: some entry at lo <= t < hi (and t < size) equals x; boolean
  Search, ///< args = {.., x}: the number of entries <= x of an ascending list
  Size,   ///< args = {operand, n}: the size of dimension n from the back (n a literal), 1 where there is none
};

enum class ExprType : uint8_t { Int, Float, Bool };

struct ExprNode;

/// A shared, immutable expression. A default-constructed Expr is null.
class Expr {
public:
  /// The highest tree that text may have (printing puts one pair of parentheses
  /// around each operator, and parsing follows them).
  static constexpr uint32_t maxHeight = 600;

  Expr() = default;
  explicit Expr(std::shared_ptr<const ExprNode> n) : node(std::move(n)) {}
  Expr(int64_t value); // NOLINT: integers convert.
  Expr(int value) : Expr(static_cast<int64_t>(value)) {}

  /// The constant `true` or `false`.
  static Expr boolean(bool value);
  static Expr symbol(Sym s);
  static Expr number(double v);
  static Expr scalar(int64_t operand);
  /// `type` is that of the operand's elements.
  static Expr load(int64_t operand, std::vector<Expr> indices, ExprType type);
  /// The operand itself, for Member, Search and Size.
  static Expr reference(int64_t operand) { return load(operand, {}, ExprType::Int); }
  static Expr member(int64_t operand, std::vector<Expr> at, Expr lo, Expr hi, Expr x);
  static Expr search(int64_t operand, Expr x) { return make(ExprKind::Search, {reference(operand), std::move(x)}); }
  static Expr size(int64_t operand, int64_t fromBack) {
    return make(ExprKind::Size, {reference(operand), Expr(fromBack)});
  }
  /// Builds a node; folds constants and the neutral elements of + - * and or.
  static Expr make(ExprKind kind, std::vector<Expr> args);

  explicit operator bool() const { return node != nullptr; }
  /// Mind that `!e`, `a && b` and `a || b` build expressions.
  bool isNull() const { return node == nullptr; }
  const ExprNode &operator*() const { return *node; }
  const ExprNode *operator->() const { return node.get(); }
  bool isInt(int64_t v) const;
  bool isSymbol(Sym s) const;
  /// Structural equality.
  bool same(const Expr &o) const;

  /// Replaces the leaves for which `fn` returns a non-null expression.
  Expr substitute(const std::function<Expr(const ExprNode &)> &fn) const;
  bool mentions(Sym s) const;
  /// The query's position or row occurs; the key's.
  bool onQuery() const { return mentions(Sym::Query) || mentions(Sym::QueryRow); }
  bool onKey() const { return mentions(Sym::Key) || mentions(Sym::KeyRow); }
  /// True where a Load occurs.
  bool hasLoad() const;
  /// Text in the grammar of `holds`, fully parenthesised. `operandName` prints
  /// operand n (the default prints `%n`). `words` spells `<`, `<=`, `>`, `>=`,
  /// `<<`, `>>` as `lt`, `le`, `gt`, `ge`, `shl`, `shr`, which stand unquoted
  /// in an MLIR attribute; the parser takes both.
  /// `queryName` prints Sym::Query (the default is `i`).
  std::string str(const std::function<std::string(int64_t)> &operandName = {}, bool words = false,
                  const char *queryName = nullptr) const;

private:
  std::shared_ptr<const ExprNode> node;
};

struct ExprNode {
  ExprKind kind;
  ExprType type = ExprType::Int;
  int64_t value = 0;
  double num = 0;
  Sym symbol = Sym::Query;
  std::vector<Expr> args;
  // Kept by Expr's builders. Subexpressions are shared (random_blocks repeats its
  // draws), so a question must not walk the tree.
  uint32_t depth = 1;     ///< Height of the tree, at most 2000.
  uint32_t mentioned = 0; ///< Bit s: Sym s occurs.
  bool loads = false;     ///< A Load occurs.
  size_t hash = 0;        ///< Of the structure.
};

/// The text of a leaf (`i`, `nq`, `qrow`, ...) and of an operator or function.
const char *spelling(Sym s);
const char *spelling(ExprKind kind, bool words = false);

Expr operator+(Expr a, Expr b);
Expr operator-(Expr a, Expr b);
Expr operator*(Expr a, Expr b);
Expr floorDiv(Expr a, Expr b);
Expr floorMod(Expr a, Expr b);
Expr min(Expr a, Expr b);
Expr max(Expr a, Expr b);
Expr operator&&(Expr a, Expr b);
Expr operator||(Expr a, Expr b);
Expr operator!(Expr a);
Expr operator<(Expr a, Expr b);
Expr operator<=(Expr a, Expr b);
Expr operator>(Expr a, Expr b);
Expr operator>=(Expr a, Expr b);
Expr equal(Expr a, Expr b);
Expr notEqual(Expr a, Expr b);

/// What an evaluation needs to know besides the expression.
struct ExprEnv {
  int64_t b = 0, h = 0, i = 0, j = 0, nq = 0, nk = 0, qOffset = 0, kOffset = 0, choice = 0, entry = 0;
  int64_t heads = 0; ///< query heads; 0: unknown, tables have one entry a head
  /// Value of run-time integer `operand`.
  std::function<int64_t(int64_t operand)> scalar;
  /// Element of `operand` at indices (clamping is the callee's); any type as a double. Where a primitive gives
  /// more indices than the tensor has dimensions, the second is dropped first and then the first (see
  /// Pattern::contains).
  std::function<double(int64_t operand, const std::vector<int64_t> &)> load;
  /// Size of a dimension of `operand`, counted from the back; 1 where it has none.
  std::function<int64_t(int64_t operand, int64_t fromBack)> size;
};

/// Evaluates in 64-bit integers (which wrap) and doubles; booleans are 0 and 1.
/// Division of integers by zero gives 0, and so do the modulus and shifts by less than 0 or by more than 63.
double evaluate(const Expr &e, const ExprEnv &env);
/// The same as an integer (exact past 2^53; floats are cut off) and as a truth value.
int64_t evaluateInt(const Expr &e, const ExprEnv &env);
bool evaluateBool(const Expr &e, const ExprEnv &env);

} // namespace heddle

#endif // HEDDLE_DIALECT_EXPR_H
