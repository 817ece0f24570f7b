//===- WarpEmitter.h - Short spellings for what a thread of a warp does ---===//
//
// The Emitter for GPU kernels: everything is a scalar of one thread, 32-bit
// integers are the rule, shared memory is addressed by byte offsets, and the
// collective instructions of a warp (mma, ldmatrix, shuffles) and of a block
// (barriers, cp.async) have one method each.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_WARPEMITTER_H
#define HEDDLE_PASSES_GPU_WARPEMITTER_H

#include "passes/Emitter.h"

namespace heddle {

class WarpEmitter : public Emitter {
public:
  WarpEmitter(mlir::OpBuilder &builder, mlir::Location loc)
      : Emitter(builder, loc, VectorTarget{.width = 1, .fma = true, .f16c = true, .avx512 = false, .registers = 255}),
        global(mlir::LLVM::LLVMPointerType::get(b.getContext(), 1)),
        shared(mlir::LLVM::LLVMPointerType::get(b.getContext(), 3)) {}

  mlir::Type global, shared;                   ///< pointers into the address spaces
  mlir::Value smem;                            ///< start of the block's shared memory
  int64_t barrierName = 0, barrierThreads = 0; ///< of `barrier`; 0 threads: all of the block

  //===--- Integers of 32 bits ----------------------------------------------===//

  mlir::Value k(int64_t v) { return constant(i32, v); }
  mlir::Value f(double v) { return constant(f32, v); }
  mlir::Value yes() { return constant(i1, int64_t(1)); }
  mlir::Value no() { return constant(i1, int64_t(0)); }
  mlir::Value invert(mlir::Value x);
  mlir::Value lt(mlir::Value x, int64_t y) { return Emitter::lt(x, constant(x.getType(), y)); }
  mlir::Value eq(mlir::Value x, int64_t y) { return Emitter::eq(x, constant(x.getType(), y)); }
  using Emitter::eq;
  using Emitter::lt;
  /// Unsigned division, remainder and bits.
  mlir::Value divu(mlir::Value x, int64_t n);
  mlir::Value remu(mlir::Value x, int64_t n);
  mlir::Value divu(mlir::Value x, mlir::Value n);
  mlir::Value bitAnd(mlir::Value x, int64_t y) { return both(x, constant(x.getType(), y)); }
  mlir::Value shl(mlir::Value x, int64_t n);
  mlir::Value shl(mlir::Value x, mlir::Value n);
  mlir::Value shr(mlir::Value x, int64_t n); ///< logical
  mlir::Value wide(mlir::Value x) { return toInt(x, i64); }
  mlir::Value narrow(mlir::Value x) { return toInt(x, i32); }
  mlir::Value bits(mlir::Value x) { return mlir::arith::BitcastOp::create(b, loc, i32, x); }
  mlir::Value fromBits(mlir::Value x) { return mlir::arith::BitcastOp::create(b, loc, f32, x); }

  //===--- Memory ------------------------------------------------------------===//

  mlir::Value at3(mlir::Value byteOffset);
  mlir::Value loadShared(mlir::Type type, mlir::Value byteOffset, unsigned align = 0);
  void storeShared(mlir::Value v, mlir::Value byteOffset, unsigned align = 0);
  /// `address` is an i64.
  mlir::Value toGlobal(mlir::Value address);
  /// 16 bytes from global memory to shared memory; the last 16 - size become zero.
  void copyAsync(mlir::Value sharedOffset, mlir::Value address, mlir::Value size);
  void commitGroup();
  void waitGroup(int64_t pending);
  /// All threads of the block, or those that `barrierThreads` counts.
  void barrier();
  /// The same; true where any thread's predicate is.
  mlir::Value barrierAny(mlir::Value predicate);

  //===--- The warp -----------------------------------------------------------===//

  mlir::Value threadId();
  /// The thread's number as a value of its own, which no expression of an earlier one is taken for.
  mlir::Value threadIdAgain();
  mlir::Value blockId();
  mlir::Value shuffleXor(mlir::Value v, int64_t mask);
  /// Whether any lane's predicate holds.
  mlir::Value anyInWarp(mlir::Value predicate);
  /// Over all lanes of the warp.
  mlir::Value reduceMin(mlir::Value v);
  mlir::Value reduceMax(mlir::Value v);
  /// Four 8x8 matrices of 16-bit elements; lane l gives the row l mod 8 of matrix l / 8.
  Values ldmatrix4(mlir::Value sharedOffset, bool transposed);
  /// C (4 x f32) += A (4 registers) B (2 registers): m16n8k16 of f16 or bf16, m16n8k8 of TF32 where `storage` is f32.
  Values mma(mlir::Type storage, mlir::ValueRange a, mlir::ValueRange bb, mlir::ValueRange c);

  //===--- Numbers ------------------------------------------------------------===//

  /// 2^x and log2 x by the special function unit.
  mlir::Value exp2Fast(mlir::Value x);
  mlir::Value log2Fast(mlir::Value x);
  /// PTX's max.f32 and min: the other operand where one is NaN.
  mlir::Value maxNum(mlir::Value x, mlir::Value y);
  /// Two f32 as one register of 16-bit floats, rounded to nearest even; `low` in the low half.
  mlir::Value pack(mlir::Type storage, mlir::Value low, mlir::Value high);
  /// x = high + low up to 2^-22 |x|, both in TF32 (as bits). Where x is not finite, low and `finite` (else high) are 0:
  /// only high * high may see an infinity, or 0 * inf would follow.
  struct SplitFloat {
    mlir::Value high, finite, low;
  };
  SplitFloat splitTF32(mlir::Value x);

private:
  mlir::Value intrinsic(llvm::StringRef name, mlir::Type type, mlir::ValueRange args);
};

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_WARPEMITTER_H
