//===- HopperInstructions.h - What only sm_90a has ------------------------===//
//
// The asynchronous instructions of Hopper as inline PTX: the dialects wrap their
// own waits around them, or lack the form whose first operand lies in registers.
// Registers that an instruction reads or writes while it is in flight are passed
// through the fence and the wait, so that nothing touches them in between.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_HOPPERINSTRUCTIONS_H
#define HEDDLE_PASSES_GPU_HOPPERINSTRUCTIONS_H

#include "passes/gpu/WarpEmitter.h"

namespace heddle::hopper {

using Values = Emitter::Values;

/// Columns of 16-bit elements in one panel of a tile: 128 bytes, what the swizzle permutes.
inline constexpr int64_t kPanel = 64;
/// Bytes of a row of a panel, and of eight of them: the swizzle repeats.
inline constexpr int64_t kPanelRow = 128, kAtom = 1024;

/// Shared addresses are i32 here.
mlir::Value address(WarpEmitter &e, mlir::Value byteOffset);

//===--- Barriers ---------------------------------------------------------===//

void initBarrier(WarpEmitter &e, mlir::Value at, int64_t arrivals);
/// Initialised barriers are visible to the copy engine.
void fenceBarriers(WarpEmitter &e);
void arrive(WarpEmitter &e, mlir::Value at);
/// Arrives, and expects `bytes` of copies.
void arriveExpecting(WarpEmitter &e, mlir::Value at, int64_t bytes);
/// Waits until the phase of this parity is complete.
void wait(WarpEmitter &e, mlir::Value at, mlir::Value parity);
/// Named barriers of `threads` threads.
void sync(WarpEmitter &e, mlir::Value id, int64_t threads);
void signal(WarpEmitter &e, mlir::Value id, int64_t threads);
void syncWarp(WarpEmitter &e);
/// The value of lane 0, so that the assembler knows it is the same for the warp.
mlir::Value uniform(WarpEmitter &e, mlir::Value v);

//===--- Registers and copies ----------------------------------------------===//

void setRegisters(WarpEmitter &e, int64_t count, bool more);
/// What this thread stored in shared memory, before matrix instructions or copies see it.
void fenceStores(WarpEmitter &e);
/// A box of a tensor map to shared memory; coordinates from the innermost on.
void copyBox(WarpEmitter &e, mlir::Value to, mlir::Value map, mlir::ValueRange coordinates, mlir::Value barrier);

//===--- Matrix instructions -----------------------------------------------===//

/// Descriptor of a tile in 128-byte panels, swizzled: `leading` bytes between panels where columns are the matrix's
/// outer dimension (1 otherwise); groups of eight rows are kAtom apart.
mlir::Value describe(WarpEmitter &e, mlir::Value at, int64_t leading);
/// The descriptor of `bytes` further on.
mlir::Value advance(WarpEmitter &e, mlir::Value descriptor, int64_t bytes);
/// Registers as they are, from here on in the order of the fence.
void fence(WarpEmitter &e, llvm::ArrayRef<Values *> registers);
/// acc = a b (+ acc where `accumulate`), 64 rows: a and b by descriptors, b's rows are the columns of acc.
Values multiply(WarpEmitter &e, mlir::Type storage, const Values &acc, mlir::Value a, mlir::Value b, bool accumulate);
/// acc += a b with a in four registers and b stored row by row of the summed dimension.
Values multiplyRegisters(WarpEmitter &e, mlir::Type storage, const Values &acc, mlir::ValueRange a, mlir::Value b);
void commit(WarpEmitter &e);
/// What follows stays behind the computation of x >= 0: ptxas moves a wait, which depends on no register, up in its
/// basic block, in front of all that could run beside what it waits for.
void keepBehind(WarpEmitter &e, mlir::Value x);
/// Waits until at most `pending` groups are in flight; `registers` are read after it, `kept` not overwritten before.
void waitGroups(WarpEmitter &e, int64_t pending, llvm::ArrayRef<Values *> registers, mlir::ValueRange kept = {});

} // namespace heddle::hopper

#endif // HEDDLE_PASSES_GPU_HOPPERINSTRUCTIONS_H
