//===- KernelSignature.h - What a kernel's arguments are ------------------===//
//
// Reads a function with one attend op once, so that tile loops and the manifest
// agree on which argument is what and where its record lies in the argument
// block (docs/abi.md). Nobody else indexes arguments by number.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_KERNELSIGNATURE_H
#define HEDDLE_PASSES_KERNELSIGNATURE_H

#include "dialect/Attn.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace heddle {

/// A number known now, or an argument of the function.
struct NumberSource {
  int64_t arg = -1;    ///< >= 0: that argument
  int64_t integer = 0; ///< else this
  double real = 0;     ///< (or this)
};

/// Slots that open the argument block (docs/abi.md).
namespace header {
inline constexpr int64_t kBatches = 0, kHeads = 1, kQueries = 2, kTiles = 3, kPhase = 4, kParts = 5, kHeadsPerTile = 6,
                         kKeysPerSplit = 7, kSplits = 8, kMemory = 9, kFirstUnit = 10, kHeadsPerSection = 11,
                         kSlots = 16;
} // namespace header

/// What a task does (slot `kPhase`).
namespace phase {
inline constexpr int64_t kWhole = 0, ///< everything
    kPartial = 1,                    ///< the state of one split of the keys, to memory
    kMerge = 2,                      ///< the states of all splits, from memory, to results
    kFirstGroup = 3;                 ///< + n: group n of the strata, on a state in memory
} // namespace phase

/// Of an argument of a step: the number of another one, a list of the rows that it has.
inline constexpr llvm::StringLiteral kRowsAttr = "heddle.rows";

/// An argument that is read through a list of rows, and the list's number.
struct ListedRows {
  int64_t arg, list;
};

struct DotSource {
  int64_t q, k;          ///< arguments
  int64_t d;             ///< static
  bool relative = false; ///< k is a table of rows r[i - j + shift]
  int64_t shift = 0;
};

struct SegmentSignature {
  int64_t v = 0;
  llvm::SmallVector<DotSource> dots;
  NumberSource kOffset, scale; ///< scale 0 without an argument: the default, 1/sqrt(D) of q
};

struct KernelSignature {
  // Handles, whose methods MLIR does not mark const.
  mutable mlir::func::FuncOp func;
  mutable attn::AttendOp attend;
  mlir::Type storage;           ///< f32, f16 or bf16
  int64_t q = 0, d = 0, dv = 0; ///< d: of q
  int64_t out = -1, lse = -1;   ///< result numbers; -1: not returned
  int64_t sink = -1;
  bool qOffsetEnd = false;
  NumberSource qOffset;
  llvm::SmallVector<SegmentSignature> segments;
  llvm::SmallVector<int64_t> patternOperands; ///< arguments
  llvm::SmallVector<ListedRows> listed;

  int64_t numArgs() const { return func.getNumArguments(); }
  int64_t numResults() const { return func.getNumResults(); }
  /// First slot of a record in the argument block.
  int64_t argSlot(int64_t a) const { return header::kSlots + 9 * a; }
  int64_t resultSlot(int64_t r) const { return argSlot(numArgs() + r); }
  int64_t qOffsetSlot() const { return resultSlot(numResults()); }
  int64_t kOffsetSlot(int64_t segment) const { return qOffsetSlot() + 2 + 2 * segment; }
  /// Of listed[n]: how many rows the tensor has, and an address of zeros for those out of range.
  int64_t listedSlot(int64_t n) const { return kOffsetSlot(int64_t(segments.size())) + 2 * n; }
  /// Of the manifest's orders.
  int64_t orderSlot() const { return listedSlot(int64_t(listed.size())); }

  /// Diagnoses what cannot be compiled: an operand that is not an argument, a
  /// dynamic head dimension, ops beside the attend.
  static mlir::FailureOr<KernelSignature> read(mlir::func::FuncOp func);
  /// The same; an attend without a schedule is diagnosed too.
  static mlir::FailureOr<KernelSignature> readScheduled(mlir::func::FuncOp func);
};

} // namespace heddle

#endif // HEDDLE_PASSES_KERNELSIGNATURE_H
