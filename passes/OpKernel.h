//===- OpKernel.h - What kernels of ops on whole tensors are made of ------===//
//
// An op on whole tensors (pool, project, ...) becomes one function
// `heddle_task(args, task, scratch)`, as an attend does (docs/abi.md), and a
// description of its launch: sizes of its results, number of tasks and checks,
// all as expressions of the arguments' sizes. Here is what their lowerings share:
// views of the argument block, loops over columns, a product of small matrices.
//
// For a GPU (docs/gpu.md) the same body is run by all threads of a block: what is
// written here as plain code every thread computes alike, the loops of `rows`,
// `columns` and `lanes` are dealt out among warps and lanes, and `alone` is for one
// thread. Barriers stand around what is dealt out.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_OPKERNEL_H
#define HEDDLE_PASSES_OPKERNEL_H

#include "dialect/Attn.h"
#include "passes/Emitter.h"

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

namespace mlir::linalg {
class GenericOp;
} // namespace mlir::linalg

namespace heddle {

/// A tensor of the argument block inside a kernel: strides are in bytes. Or the result of glue, which lies nowhere:
/// only `read`, `stage` and `adjacent` serve it.
struct TensorView {
  mlir::Value base;
  llvm::SmallVector<mlir::Value, 4> size, stride;
  mlir::Type type; ///< of an element
  int64_t bytes = 4;
  mlir::Value glue; ///< the value in the spec, null for what lies in memory
};

/// What a kernel of an op must know of a GPU.
struct GpuLimits {
  int64_t sharedBytes = 0; ///< of a block; 0: the target is a CPU
};

class OpKernel : public Emitter {
public:
  /// A kernel for the one op of `spec`, whose operands are its arguments; the new function stands at the end of
  /// `module`.
  OpKernel(mlir::ModuleOp module, mlir::func::FuncOp spec, mlir::OpBuilder &builder, VectorTarget target,
           GpuLimits limits = {});

  //===--- The launch ---------------------------------------------------------===//

  /// Size `axis` of argument `a`.
  mlir::AffineExpr size(int64_t a, int64_t axis) { return mlir::getAffineSymbolExpr(4 * a + axis, b.getContext()); }
  mlir::AffineExpr number(int64_t n) { return mlir::getAffineConstantExpr(n, b.getContext()); }
  /// Shape of the next result; a size below 0 counts as 0.
  void result(llvm::ArrayRef<mlir::AffineExpr> dims) { results.emplace_back(dims.begin(), dims.end()); }
  /// The run-time size must be `want`, or 1 where `orOne` (then the dimension repeats).
  void expect(int64_t a, int64_t axis, mlir::AffineExpr want, bool orOne = false);
  /// `want` must be a multiple of the run-time size.
  void expectDivides(int64_t a, int64_t axis, mlir::AffineExpr want);
  /// An element that is moved takes about as long as this many multiply-adds.
  static constexpr int64_t kMoved = 16;
  /// Number of tasks, and multiply-adds in all.
  void launch(mlir::AffineExpr tasks, mlir::AffineExpr work);
  /// Writes the description on the module and ends the function.
  void finish();

  //===--- The body -----------------------------------------------------------===//

  TensorView argument(int64_t a) { return view(a, spec.getArgumentTypes()[a]); }

  // An operand of the op is an argument, or the result of glue (linalg.generic) that the kernel computes where it reads
  // it.
  static int64_t numberOf(mlir::Value argument) { return mlir::cast<mlir::BlockArgument>(argument).getArgNumber(); }
  mlir::AffineExpr sizeOf(mlir::Value operand, int64_t axis);
  void expectOf(mlir::Value operand, int64_t axis, mlir::AffineExpr want, bool orOne = false);
  void expectDividesOf(mlir::Value operand, int64_t axis, mlir::AffineExpr want);
  /// Its view, to be asked for where the kernel begins.
  TensorView operand(mlir::Value operand);
  /// The argument with the list through which rows of argument `a` are read (FuseGather.h), or -1.
  int64_t listOf(int64_t a);
  mlir::RankedTensorType argumentType(int64_t a) {
    return mlir::cast<mlir::RankedTensorType>(spec.getArgumentTypes()[a]);
  }
  /// What one place of the kernel has read and computed of glue, so that several operands share it: a register along
  /// axis `lane`, or (-1) an element.
  struct Computed {
    mlir::Value tensor, made;
    llvm::SmallVector<mlir::Value, 4> index;
    int64_t lane;
  };
  using AllComputed = llvm::SmallVector<Computed>;
  /// An element (indices from the first dimension), or a register of them along the last one, as f32.
  mlir::Value read(const TensorView &v, llvm::ArrayRef<mlir::Value> index, bool vector,
                   AllComputed *computed = nullptr);
  TensorView resultView(int64_t r) { return view(spec.getNumArguments() + r, spec.getResultTypes()[r]); }
  /// Where the value of a scalar argument is: an i64 or a double.
  mlir::Value scalarAddress(int64_t a);
  mlir::Value task, scratch;
  const bool gpu;
  /// On a GPU, threads of a block and this thread's number among them (i64).
  static constexpr int64_t kThreads = 256, kWarp = 32;
  mlir::Value thread;
  /// One of two sizes of a task's tile.
  int64_t tile(int64_t onCpu, int64_t onGpu) const { return gpu ? onGpu : onCpu; }
  /// Columns of a task, of `units` times kStrip, where tasks with all columns would be few (`tasks`): whole cache
  /// lines, for kFew tasks in all.
  static constexpr int64_t kStrip = 64, kFew = 4;
  mlir::AffineExpr stripOf(mlir::AffineExpr units, mlir::AffineExpr tasks) {
    return units.ceilDiv(number(kFew).ceilDiv(tasks)) * kStrip;
  }
  mlir::Value stripOf(mlir::Value units, mlir::Value tasks) {
    return mul(ceilDiv(units, ceilDiv(c(kFew), tasks)), kStrip);
  }
  /// A part of the thread's scratch memory, 64-byte aligned.
  mlir::Value allocate(int64_t bytes);
  mlir::Value product(mlir::ValueRange factors);
  /// Splits `index` by sizes, last one fastest.
  Values split(mlir::Value index, mlir::ValueRange sizes);
  mlir::Value ceilDiv(mlir::Value x, int64_t n) { return floorDiv(add(x, c(n - 1)), n); }
  mlir::Value ceilDiv(mlir::Value x, mlir::Value n) { return Emitter::floorDiv(add(x, sub(n, c(1))), n); }
  /// Address of the element at indices (as many as given, from the first dimension).
  mlir::Value address(const TensorView &v, mlir::ValueRange indices);
  /// True where elements of the last dimension are adjacent.
  mlir::Value adjacent(const TensorView &v);
  /// Calls body(columns, vector) so that all of [0, count) is covered: with `unroll` registers at once, then one,
  /// then element by element; only element by element where `contiguous` is false.
  void columns(mlir::Value count, mlir::Value contiguous, int64_t unroll,
               llvm::function_ref<void(llvm::ArrayRef<mlir::Value>, bool)> body);
  /// Independent rows: body(i) for i in [lo, hi). On a GPU a warp takes a row.
  void rows(mlir::Value lo, mlir::Value hi, llvm::function_ref<void(mlir::Value)> body);
  /// The same where a row is one thread's on a GPU.
  void each(mlir::Value lo, mlir::Value hi, llvm::function_ref<void(mlir::Value)> body);
  /// body(c) for each register of columns in [0, count), a whole number of registers. On a GPU a lane takes a column.
  void lanes(mlir::Value count, llvm::function_ref<void(mlir::Value)> body);
  /// What only one thread of a block may do.
  void alone(llvm::function_ref<void()> body);
  /// On a GPU, waits for all threads of the block.
  void barrier();
  mlir::Value at2(mlir::Value base, mlir::Value row, mlir::Value rowStride) { return at(base, mul(row, rowStride)); }

  /// What `stage` does besides copying.
  struct Staging {
    /// A row's i1: where false, the row is zeros.
    llvm::function_ref<mlir::Value(mlir::Value)> keep = nullptr;
    /// Applied to each element (may be empty); a kernel has one such region.
    mlir::Region *region = nullptr;
    /// What a CPU does beside each row: ask for memory of later use.
    llvm::function_ref<void(mlir::Value)> beside = nullptr;
  };
  /// Copies rows x cols elements to f32 at `to`, rows `toStride` bytes apart, columns adjacent and padded by zeros to a
  /// multiple of the register.
  void stage(mlir::Value to, mlir::Value toStride, mlir::Value from, mlir::Value rowStride, mlir::Value colStride,
             mlir::Value rows, mlir::Value cols, mlir::Type type, const Staging &how);
  void stage(mlir::Value to, mlir::Value toStride, mlir::Value from, mlir::Value rowStride, mlir::Value colStride,
             mlir::Value rows, mlir::Value cols, mlir::Type type) {
    stage(to, toStride, from, rowStride, colStride, rows, cols, type, Staging());
  }
  /// Rows `first`, `first` + step, ... and columns from `left` on of one head, as above; what is in `computed` is
  /// shared by all of `to` (a buffer and its operand).
  struct Staged {
    mlir::Value to, toStride;
    const TensorView *view;
  };
  void stage(llvm::ArrayRef<Staged> all, llvm::ArrayRef<mlir::Value> head, mlir::Value first, int64_t step,
             mlir::Value left, mlir::Value rows, mlir::Value cols, const Staging &how);
  void stage(llvm::ArrayRef<Staged> all, llvm::ArrayRef<mlir::Value> head, mlir::Value first, int64_t step,
             mlir::Value left, mlir::Value rows, mlir::Value cols) {
    stage(all, head, first, step, left, rows, cols, Staging());
  }
  /// True where products of two types are of pairs of bf16, a pair a word of 32 bits.
  bool multipliesPairs(const TensorView &a, const TensorView &b) const {
    return target.bf16 && !gpu && !a.glue && !b.glue && a.type.isBF16() && b.type.isBF16();
  }
  /// Copies rows of bf16 to words, (row 2 r, row 2 r + 1) of each column; a last odd row is paired with zeros.
  void stagePairs(mlir::Value to, mlir::Value toStride, mlir::Value from, mlir::Value rowStride, mlir::Value colStride,
                  mlir::Value rows, mlir::Value cols);
  /// The inverse: f32 rows to storage.
  void unstage(mlir::Value to, mlir::Value rowStride, mlir::Value colStride, mlir::Value from, mlir::Value fromStride,
               mlir::Value rows, mlir::Value cols, mlir::Type type);
  void fillZero(mlir::Value to, mlir::Value bytes);
  /// C[r, :] += sum over k < depth of A[r, k] B[k, :] on f32: C and B have adjacent columns, a multiple of the
  /// register; strides in bytes. Where `fresh`, C = instead of C +=. Where `pairs`, the elements of A and B are pairs
  /// of bf16, and so is a step of the depth.
  void multiply(mlir::Value C, mlir::Value cStride, mlir::Value A, mlir::Value aRow, mlir::Value aDepth, mlir::Value B,
                mlir::Value bStride, mlir::Value rows, mlir::Value depth, mlir::Value cols, bool fresh = false,
                bool pairs = false);
  /// Rows of C that a step of `multiply` takes on a CPU.
  static constexpr int64_t kTall = 6;
  // A GPU's registers have one lane: scalars take the place of vectors.
  mlir::Value splat(mlir::Value v) { return gpu ? v : Emitter::splat(v); }
  mlir::Value iota() { return gpu ? c(0) : Emitter::iota(); }
  mlir::Value loadRow(mlir::Value address) { return gpu ? load(f32, address, 4) : Emitter::loadRow(address); }
  /// Of a register of f32.
  mlir::Value sumOfLanes(mlir::Value v);
  /// `n` rounded up to whole registers.
  mlir::Value padded(mlir::Value n) { return mul(ceilDiv(n, target.width), target.width); }
  /// Scalar code of a region with one argument, on a scalar or on lanes.
  mlir::Value applyRegion(mlir::Region &region, mlir::Value x);

private:
  // Of GPU kernels (gpu/GpuOps.cpp).
  void beginGpu();
  void finishGpu();
  /// body(n) for n in [lo, hi) dealt out among the lanes of a warp inside of `rows`, else among all threads.
  void deal(mlir::Value lo, mlir::Value hi, int64_t step, llvm::function_ref<void(mlir::Value)> body);
  void multiplyGpu(mlir::ValueRange args, bool fresh);

  TensorView view(int64_t record, mlir::Type type);
  void multiplyBlock(mlir::ValueRange args, mlir::Value row, mlir::Value col, int64_t rows, int64_t vectors, bool fresh,
                     bool pairs);
  mlir::func::FuncOp helper(llvm::StringRef name, mlir::TypeRange inputs, bool &isNew);

  struct Check {
    int64_t arg, axis;
    mlir::AffineExpr want;
    llvm::StringRef kind;
  };
  mlir::ModuleOp module;
  mlir::func::FuncOp spec;
  mlir::Value block;
  llvm::SmallVector<llvm::SmallVector<mlir::AffineExpr>> results;
  llvm::SmallVector<Check> checks;
  mlir::AffineExpr tasks, work;
  int64_t used = 0;
  GpuLimits limits;
  bool inRows = false;                            ///< inside of `rows`, where a warp is on its own
  llvm::DenseMap<mlir::Value, TensorView> leaves; ///< arguments that glue reads
  llvm::DenseSet<mlir::Operation *> known;        ///< glue whose sizes are checked
  friend class GlueReader;
};

// One lowering an op, each in a file of its own.
void lowerPool(attn::PoolOp op, OpKernel &kernel);
void lowerScan(attn::ScanOp op, OpKernel &kernel);
void lowerConvolve(attn::ConvolveOp op, OpKernel &kernel);
/// Projects by the same weights, of operands with the same sizes.
void lowerProject(llvm::ArrayRef<attn::ProjectOp> ops, OpKernel &kernel);
void lowerLinearAttend(attn::LinearAttendOp op, OpKernel &kernel);
void lowerGroup(attn::GroupOp op, OpKernel &kernel);
void lowerGatherRows(attn::GatherRowsOp op, OpKernel &kernel);
void lowerScatterRows(attn::ScatterRowsOp op, OpKernel &kernel);
void lowerMerge(attn::MergeOp op, OpKernel &kernel);
mlir::LogicalResult lowerGlue(mlir::linalg::GenericOp op, OpKernel &kernel);

} // namespace heddle

#endif // HEDDLE_PASSES_OPKERNEL_H
