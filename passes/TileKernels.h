//===- TileKernels.h - The micro-kernels that tile loops call -------------===//
//
// A micro-kernel is one step of the online softmax on a tile of queries (on
// lanes) and a chunk of keys (on rows), written once per shape and shared by all
// strata. Tile loops declare it, `attn-lower-tiles` gives it a body for the
// target's vectors. Rows are addressed by a table of addresses, so a band, a
// lattice, a gather and staged 16-bit rows all cost the same code.
//
// Sixteen lanes are a column. S lies column by column, S[column][key][16 lanes],
// and each column has its own range of keys, so that at the edge of a pattern
// only live columns are computed. Dots take keys in groups of six; a group has
// its own range of columns.
//
// Symbols as in the papers: S (scores, base 2), P, m, l, acc. The state
// (m, l, acc) is a monoid: merging is associative and commutative, so strata may
// come in any order.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_TILEKERNELS_H
#define HEDDLE_PASSES_TILEKERNELS_H

#include "passes/Emitter.h"

#include <algorithm>

namespace heddle {

/// Queries of a tile.
inline constexpr int64_t kLanes = 64;
/// Words of a row in the dots, keys or pairs of keys in the products, between requests for the rows of the next chunk.
inline constexpr int64_t kTurnWords = 8;
/// Keys of a split: fewer are not worth a task and a merge.
inline constexpr int64_t kKeysPerSplit = 2048;
/// More splits take no longer, but their states would take more memory.
inline constexpr int64_t kMaxSplits = 32;
/// Lanes of a column.
inline constexpr int64_t kColumn = 16;
/// Keys that the register tile of S takes at once.
inline constexpr int64_t kKeyGroup = 6;
/// Columns of V that a staged block holds: V[block][key][kValueBlock].
inline constexpr int64_t kValueBlock = 32;

/// With rows of bf16 and a target that multiplies pairs of them ("native"), the
/// micro-kernels of type bf16 work on pairs: Qt[pair of d][lane], P[pair of
/// keys][lane], V[block][pair of keys][column]. Otherwise 16-bit rows are staged
/// as f32, and all but Pack, Stage and Finish have type f32.
///
/// `groups` is (first column, end column) as i32 for each group of keys,
/// `columns` (first key, end key) as i64 for each column; first keys are even.
enum class TileKernel {
  Pack,       ///< (rows, stride of d, scale, Qt, lanes): Qt[d][lane] = scale * row[lane][d], in f32; whole columns
  PackPairs,  ///< the same for the native Dots: with the sign of the scale only
  Stage,      ///< (table, count, stride of d, buffer, row pitch, block pitch): rows to f32; table points there
  StagePairs, ///< (table, count, stride of d, buffer, block pitch): V for the native Accumulate
  StageRows,  ///< (table, count, stride of d, buffer): 16-bit rows of even length; table then points there
  Dots,       ///< (table, count, groups, Qt, S, column pitch, tops, record): S, and tops = max(tops, S) of each lane;
              ///< asks for rows of `fetch` bytes (0: no record) that the record (see fetch) names
  Narrow,     ///< (Qt, lanes, N): N[d][lane] = Qt[d][lane] of the first kNarrow lanes, if there are no more
  DotsFew,    ///< (table, count, N, Qt, S, lanes, tops, table of V): the dots of one column and all keys, with the same
              ///< bits; asks for the next keys and the first of V
  Softmax,    ///< (S, columns, lanes, column pitch, scale, tops, m, l, acc): S becomes P; m, l, acc rescaled
  Weights,    ///< (S, columns, lanes, column pitch, l): l += sum of S (normaliser `sum`)
  Finite,     ///< (table, count, block pitch) -> i1: every element is finite; native: (buffer, pairs, block pitch)
  Accumulate, ///< (S, columns, lanes, column pitch, table, block pitch, acc, record): acc[lane] += sum_key P *
              ///< row[key]; asks as Dots does
  SoftmaxAccumulate, ///< Softmax (…, acc), then Accumulate with (table, block pitch, record, begins); 32 registers;
                     ///< begins: acc is 0, but has any contents, and all columns are written
  AccumulateFew,   ///< (…, table, distance, count): the same for rows that are read once, native: in place (block pitch
                   ///< unused); asks for the next rows, then for `fetch` bytes at table[0], ... + distance
  AccumulateExact, ///< (…, stride of d, acc): leaves out pairs with P = 0, so that 0 * NaN cannot reach acc
  Finish, ///< (lanes, table of acc, factors, table of out, stride of d) -> i1: out[d] = acc[d] * factor in the storage
          ///< type, where out is not 0; whether these acc are finite
};

/// What Dots and Accumulate fetch in passing, a piece of a row at a time. A record is a list of runs, each of entries
/// of a table of addresses and the bytes from them to what is fetched, and where in it they are: the entries of this
/// run that are left, and the runs behind it.
namespace fetch {
inline constexpr int64_t kTurn = 0; ///< bytes of the entries of a turn; 0: nothing is fetched
inline constexpr int64_t kEntry = 8, kEntryEnd = 16, kAway = 24, kRun = 32, kRunEnd = 40, kRuns = 48;
inline constexpr int64_t kRunBytes = 24, kKinds = 8, kPieces = 8; ///< runs: kinds of rows by pieces of a row
inline constexpr int64_t kBytes = kRuns + kKinds * kPieces * kRunBytes;
/// Pieces of a row of `bytes` bytes, and the bytes of one.
inline int64_t pieces(int64_t bytes) { return std::clamp<int64_t>((bytes + 255) / 256, 1, kPieces); }
inline int64_t pieceBytes(int64_t bytes) { return ((bytes + 63) / 64 + pieces(bytes) - 1) / pieces(bytes) * 64; }
} // namespace fetch

/// Keys that the register tile of DotsFew takes at once: two groups; or, for up to kNarrow lanes, as many as a register
/// has lanes. The table and S have room for whole ones.
inline constexpr int64_t kFewKeys = 2 * kKeyGroup, kNarrowKeys = 16;
/// Lanes up to which DotsFew puts keys on lanes.
inline constexpr int64_t kNarrow = 8;

/// Declares (once) the micro-kernel for rows of `d` elements of `type`, and
/// returns its name. `fetch`: bytes of a row that is fetched ahead.
std::string declareTileKernel(mlir::ModuleOp module, TileKernel kind, int64_t d, mlir::Type type, int64_t fetch = 0);

/// f32 elements of an accumulator row: `d` rounded up to the widest register.
inline int64_t paddedRow(int64_t d) { return (d + 15) / 16 * 16; }
/// Blocks of V's columns in a staged buffer.
inline int64_t valueBlocks(int64_t d) { return (d + kValueBlock - 1) / kValueBlock; }

/// Gives a declared micro-kernel its body.
void emitTileKernel(mlir::func::FuncOp declaration, const VectorTarget &target);

} // namespace heddle

#endif // HEDDLE_PASSES_TILEKERNELS_H
