//===- TileKernels.h - The micro-kernels that tile loops call -------------===//
//
// A micro-kernel is one step of the online softmax on a tile of 64 queries (on
// lanes) and a chunk of keys (on rows), written once per shape and shared by all
// strata. Tile loops declare it, `attn-lower-tiles` gives it a body for the
// target's vectors. Rows are addressed by a table of addresses, so a band, a
// lattice, a gather and staged 16-bit rows all cost the same code.
//
// Symbols as in the papers: S (scores, base 2), P, m, l, acc. The state
// (m, l, acc) is a monoid: merging is associative and commutative, so strata may
// come in any order.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_TILEKERNELS_H
#define HEDDLE_PASSES_TILEKERNELS_H

#include "passes/Emitter.h"

namespace heddle {

/// Queries of a tile: lanes of S.
inline constexpr int64_t kLanes = 64;
/// Keys that the register tile of S takes at once.
inline constexpr int64_t kKeyGroup = 6;

enum class TileKernel {
  Pack,            ///< (rows, stride of d, scale, Qt): Qt[d][lane] = scale * row[lane][d]
  Stage,           ///< (table, count, stride of d, buffer): rows to contiguous f32; table then points there
  Dots,            ///< (table, count, lanes, Qt, S): S[key][lane] = sum_d row[key][d] * Qt[d][lane]
  Softmax,         ///< (S, count, lanes, m, l, table of acc rows, temp): S becomes P; m, l, acc rescaled
  Weights,         ///< (S, count, lanes, l): l += sum of S (normaliser `sum`)
  Finite,          ///< (table, count) -> i1: every element of the rows is finite
  Accumulate,      ///< (S, table, count, lanes, table of acc rows): acc[lane] += sum_key P[key][lane] * row[key]
  AccumulateExact, ///< the same, leaving out pairs with P = 0, so that 0 * NaN cannot reach acc
  Finish,          ///< (acc row, factor, out, stride of d): out[d] = acc[d] * factor in the storage type
};

/// Declares (once) the micro-kernel for rows of `d` elements of `type`, and
/// returns its name.
std::string declareTileKernel(mlir::ModuleOp module, TileKernel kind, int64_t d, mlir::Type type);

/// f32 elements of an accumulator row: `d` rounded up to the widest register.
inline int64_t paddedRow(int64_t d) { return (d + 15) / 16 * 16; }

/// Gives a declared micro-kernel its body.
void emitTileKernel(mlir::func::FuncOp declaration, const VectorTarget &target);

} // namespace heddle

#endif // HEDDLE_PASSES_TILEKERNELS_H
