//===- Schedule.h - Disjoint pieces of a pattern in digit coordinates -----===//
//
// A schedule splits a pattern into disjoint strata. In one stratum the key
// position is written in mixed radix digits, each of which runs through an
// interval whose ends are expressions of the query; the query position is
// written in digits too, and a query tile is a box of them. So
//
//   band      one key digit (radix 1), bounds on j only
//   lattice   stride(n), dilation: query digits (radix n, tile 64),(radix 1,
//             extent n, tile 1); key digit of step n with a lane-uniform phase
//   grid      key digits (row, column), query tile 8 x 8 of (row, column)
//   columns   bounds free of the query;  rows: a guard on the query alone
//   masked    bounds that cover it, and a residual predicate per pair
//
// Everything is exact: a pair is live iff guard(i), lower(i) <= j < upper(i),
// every digit lies in its interval and on its phase, keep(j), and residual(i, j).
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_SCHEDULE_H
#define HEDDLE_DIALECT_SCHEDULE_H

#include "dialect/Expr.h"
#include "dialect/Pattern.h"

namespace heddle {

/// One digit of the query position. Most significant first; the leading digit
/// has extent 0 (unbounded). Position = sum of digit * radix. A query tile
/// takes `tile` consecutive values of each digit; the product of all `tile` is
/// at most the lane count (64). tile 1 makes the digit uniform in a tile.
struct QueryDigit {
  int64_t radix = 1, extent = 0, tile = 64;
  bool operator==(const QueryDigit &o) const = default;
};

/// One digit of the key position; same rules of radix and extent. Its values
/// in row i are `phase + step * t` with lower <= value < upper, where lower is
/// the maximum and upper the minimum of the listed expressions. Bounds are
/// expressions of the query (Query, QueryRow, Batch, Head, ends, scalars,
/// loads), never of the key. `phase` must be equal for all lanes of a tile.
struct KeyDigit {
  int64_t radix = 1, extent = 0, step = 1;
  Expr phase; ///< null: 0. In [0, step).
  std::vector<Expr> lower, upper;
};

enum class StratumKind : uint8_t { Band, Lattice, Block, Grid, Columns, Rows, Gathered, Masked };

/// "band", "lattice", ..: as a schedule's text has it.
const char *kindName(StratumKind kind);

struct Stratum {
  StratumKind kind = StratumKind::Band;
  int64_t segment = 0;
  /// Live only for heads with h mod headPeriod in `heads`; period 1 = all.
  int64_t headPeriod = 1;
  std::vector<int64_t> heads;
  std::vector<QueryDigit> query; ///< at least one
  std::vector<KeyDigit> key;     ///< at least one
  /// Bounds on j itself, of the same form as a digit's.
  std::vector<Expr> lower, upper;
  Expr guard;    ///< condition on the query alone; null: true
  Expr keep;     ///< condition on the key alone (e.g. loaded flags); null: true
  Expr residual; ///< condition on the pair; null: true
  /// Not 0: the stratum is the disjoint union of so many, one for each value of Sym::Choice, which its bounds and
  /// its guard mention (random_blocks).
  int64_t choices = 0;
  /// Gathered: a Member expression whose entries give the keys, `first` the position of an entry's first key (of the
  /// query and Sym::Entry), and `run` the number of its keys. The pair is live only where the member expression holds.
  Expr list, first;
  int64_t run = 1;
  /// Gathered: equal(query's id, key's id), with one id >= 0. Queries and keys are sorted by id: the runtime makes the
  /// tables (docs/abi.md), tiles take queries and chunks keys in that order.
  Expr ids;
  /// Queries are taken one at a time with their own keys, instead of tiles with the union of their keys: cheaper where
  /// neighbors share few. A decision of the scheduler; what the stratum holds is the same.
  bool byRow = false;
  /// Why, for remarks: e.g. "stride(64) and window(3, 3): no common digits".
  std::string note;
};

struct Schedule {
  std::vector<Stratum> strata;
  /// Query positions that share one online-softmax state (a multiple of every
  /// stratum's tile alignment), and keys of one chunk.
  int64_t superTile = 64, keyChunk = 192;
  /// Where no segment has more keys, all strata are taken `byRow`: so few queries of a lattice hardly fill a tile.
  int64_t rowsUpTo = 0;

  /// The strata as they are taken with `keys` keys, of the longest segment.
  Schedule atLength(int64_t keys) const;

  /// Structural equality and hash.
  bool same(const Schedule &o) const;
  size_t hash() const;
};

/// Structural equality, whatever the heads and the note.
bool sameButHeads(const Stratum &a, const Stratum &b);

/// Membership of a pair in one stratum (for tests).
bool contains(const Stratum &s, const ExprEnv &env);

/// Readable text, and back (the form inside `#attn.schedule<...>`). `operandName`
/// as in Pattern::str. Comparisons are spelled `lt`, `le`, ... so that the text
/// can stand in an attribute.
std::string str(const Schedule &s, const std::function<std::string(int64_t)> &operandName = {});
std::variant<Schedule, PatternError> parseSchedule(const std::string &text, const OperandResolver &resolve = {});

} // namespace heddle

#endif // HEDDLE_DIALECT_SCHEDULE_H
