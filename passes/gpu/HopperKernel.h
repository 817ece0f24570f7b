//===- HopperKernel.h - The fused attention kernel of sm_90a --------------===//
//
// The stream of GpuKernel by other machinery. A block has three warpgroups:
//
//   producer    one warp walks the stream: for each tile it waits until its stage
//               is free, writes the table of the tile's rows and has the copy
//               engine bring K and V. A tile whose rows are evenly spaced is one
//               box of a tensor map; any other is copied row by row. Rows that do
//               not exist come as zeros
//   consumers   two warpgroups, 64 queries each (two tiles of the schedule), take
//               turns: S = Q K^T of tile t and acc += P V of tile t - 1 are issued
//               together by one while the other computes its softmax; the softmax
//               of t runs beside the second product. S, P and acc stay in registers
//
// Tiles lie in panels of 64 columns, 128 bytes a row, in the 128-byte swizzle that
// the tensor map, the matrix descriptors and the copies of Q all name.
//
// Where a row's result is NaN although its weights are finite (an infinity or a NaN
// in the value of a dead key), the consumers run GpuKernel's program on such rows:
// the shared memory is laid out anew. Where the tensor maps cannot be made (strides
// or addresses that are no multiples of 16 bytes), the launcher takes GpuKernel.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_HOPPERKERNEL_H
#define HEDDLE_PASSES_GPU_HOPPERKERNEL_H

#include "passes/gpu/GpuKernel.h"

namespace heddle {

/// A tensor map that the launcher makes (docs/abi.md): boxes of `rows` rows, `step` apart, 64 columns wide.
struct TensorMapRecipe {
  int64_t arg, step, rows;
  bool operator==(const TensorMapRecipe &) const = default;
};

/// Why the tile program of sm_90a does not cover a spec, which GpuKernel then does; empty where it does.
std::string hopperDeclines(const KernelSignature &sig);

/// Shapes to try, the best first.
llvm::SmallVector<GpuShape> hopperShapes(const KernelSignature &sig);

class HopperKernel : public GpuKernel {
public:
  static constexpr int64_t kThreads = 384, kConsumers = 256, kMapBytes = 128;
  /// Keys of an entry of a list from which its rows come in boxes that are as good as a tile's.
  static constexpr int64_t kLongRun = 64;

  /// Adds the maps that it needs to `recipes`, which all kernels of a module share.
  HopperKernel(mlir::OpBuilder &builder, const KernelSignature &sig, const Schedule &schedule, const GpuGroup &group,
               const GpuShape &shape, bool loadsState, bool storesState,
               llvm::SmallVectorImpl<TensorMapRecipe> &recipes);

  /// The second argument of `function` holds the tensor maps.
  void emit(mlir::LLVM::LLVMFuncOp function, mlir::LLVM::GlobalOp sharedMemory) override;

private:
  /// Tiles of one segment that are loaded alike: evenly spaced rows, or (step 0) boxes of so many rows.
  struct Load {
    size_t source;
    int64_t step, rows;
    bool operator==(const Load &) const = default;
  };
  llvm::SmallVector<Load> loads;
  llvm::SmallVector<int64_t> classes; ///< of each member
  llvm::SmallVectorImpl<TensorMapRecipe> &recipes;
  int64_t sBarriers = 0, tileArea = 0;
  mlir::Value maps, group;

  int64_t loadClass(size_t member) const override { return classes[member]; }
  void layoutFast();
  void layoutSlow();
  int64_t keyPanels() const;
  int64_t valuePanels() const;
  mlir::Value mapAddress(int64_t arg, int64_t step, int64_t rows);
  int64_t mapNumber(int64_t arg, int64_t step, int64_t rows);

  /// Barriers of a stage: K there, K free, V there, V free.
  enum Signal { KeysFull, KeysFree, ValuesFull, ValuesFree };
  mlir::Value barrierOf(Signal which, mlir::Value stage);
  mlir::Value stageOf(mlir::Value tile) { return e.remu(tile, shape.stages); }
  mlir::Value parityOf(mlir::Value tile) { return e.bitAnd(e.divu(tile, shape.stages), 1); }
  mlir::Value keysAt(mlir::Value stage);
  mlir::Value valuesAt(mlir::Value stage);

  void produce();
  void copyTile(const Load &load, int64_t arg, int64_t panels, mlir::Value tile, mlir::Value n, mlir::Value to,
                mlir::Value barrier);
  void copyRows(int64_t arg, int64_t panels, mlir::Value table, mlir::Value to, mlir::Value barrier);
  void copyRuns(int64_t arg, int64_t panels, int64_t rows, mlir::Value table, mlir::Value to, mlir::Value barrier);

  void consume();
  void loadSwizzledQueries();
  Values issueScores(mlir::Value stage);
  void issueValues(Values &acc, const Values &weights, mlir::Value stage);
  /// Live bits of a tile, a word of each 64 keys; all set where it is full.
  struct Mask {
    mlir::Value partial;
    Values words;
  };
  Mask maskOf(mlir::Value tile);
  /// Scores become weights; m and l are updated, and what acc must be multiplied by is returned.
  Values weigh(mlir::Value tile, const Mask &mask, Values &scores, Values &moments);
  void rescale(Values &acc, const Values &factor);
  Values pipeline(mlir::ValueRange init);
  bool mayRepeat();
  mlir::Value storeRight(const Values &state, mlir::Value first);
  Values emitSlow();
  Values packed(const Values &weights);
  void shareRows() override;
  mlir::Value sharedUnit(mlir::Value row, mlir::Value unit) override;
  /// Whether a member's live keys are one range of numbers for each row: their bits need no loop.
  bool simple(size_t member) const;
  bool needsTables() const;
  mlir::Value rangeBits(size_t member, mlir::Value n, mlir::Value x);
};

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_HOPPERKERNEL_H
