//===- RowKernels.h - Micro-kernels for one query and its own keys --------===//
//
// One step of the online softmax for one query (d on lanes) and a list of keys
// that it need not share with its neighbors:
//
//   s_t = q . k_{list[t]};  m' = max(m, max_t s_t)
//   p_t = 2^(s_t - m');  l = l 2^(m - m') + sum_t p_t
//   acc = acc 2^(m - m') + sum_t p_t v_{list[t]}
//
// Rows are read in place, element by element in order: nothing is packed,
// staged or masked, whatever the list holds. Pairs of bf16 (vdpbf16ps): of a
// key's adjacent elements in the dots; in the values, of the same element of two
// keys, whose registers are interleaved on the way. Declared by tile loops and
// given a body by `attn-lower-tiles`, like the micro-kernels of TileKernels.h.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_ROWKERNELS_H
#define HEDDLE_PASSES_ROWKERNELS_H

#include "passes/Emitter.h"

namespace heddle {

/// Keys whose sums over d are reduced together; a list's table has room for whole groups.
inline constexpr int64_t kRowGroup = 4;

/// `keys` is a table of i32; key t's row is at base + keys[t] * row stride. With pairs, q has its type of storage, and
/// P is rounded to bf16.
enum class RowKernel {
  Dots,        ///< (keys, count, base, row stride, stride of d, q, scale, S): S[t], also of the rest of the last group
  Softmax,     ///< (S, count, m, l) -> f32: S becomes P, 0 up to a whole register; gives 2^(m - m')
  Values,      ///< (keys, count, base, row stride, stride of d, S, factor, acc): acc = acc * factor + sum of P V
  ValuesExact, ///< the same, but a key with P = 0 adds nothing, whatever it holds
};

/// Declares (once) the micro-kernel for rows of `d` elements of `storage`, multiplied in pairs or as f32, and returns
/// its name.
std::string declareRowKernel(mlir::ModuleOp module, RowKernel kind, int64_t d, mlir::Type storage, bool pairs);

bool isRowKernel(mlir::func::FuncOp fn);

/// Gives a declared micro-kernel its body.
void emitRowKernel(mlir::func::FuncOp declaration, const VectorTarget &target);

} // namespace heddle

#endif // HEDDLE_PASSES_ROWKERNELS_H
