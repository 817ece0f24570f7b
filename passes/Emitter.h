//===- Emitter.h - Short spellings for the IR that kernels are made of ----===//
//
// Tile loops and micro-kernels work on bare pointers and 64-bit offsets (a
// memref argument would become many kernel parameters), so they mix scf loops,
// arith and vector arithmetic, and LLVM-dialect loads and stores. This class
// keeps that code readable: one method an operation, scalars and vectors alike.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_EMITTER_H
#define HEDDLE_PASSES_EMITTER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include <functional>

namespace heddle {

/// What micro-kernels need to know of the target.
struct VectorTarget {
  int64_t width = 16;     ///< f32 lanes of a register: 16, 8 or 4
  bool fma = true;        ///< fused multiply-add exists
  bool f16c = true;       ///< conversions between f16 and f32 exist
  bool avx512 = true;     ///< vscalefps exists
  bool bf16 = false;      ///< vdpbf16ps exists
  int64_t registers = 32; ///< architectural vector registers
};

class Emitter {
public:
  using Values = llvm::SmallVector<mlir::Value>;

  Emitter(mlir::OpBuilder &builder, mlir::Location loc, VectorTarget target)
      : b(builder), loc(loc), target(target), i1(b.getI1Type()), i8(b.getI8Type()), i16(b.getI16Type()),
        i32(b.getI32Type()), i64(b.getI64Type()), f32(b.getF32Type()), f64(b.getF64Type()),
        ptr(mlir::LLVM::LLVMPointerType::get(b.getContext())) {}

  mlir::OpBuilder &b;
  mlir::Location loc;
  VectorTarget target;
  mlir::Type i1, i8, i16, i32, i64, f32, f64, ptr;

  //===--- Types and constants ---------------------------------------------===//

  mlir::VectorType vec(mlir::Type element) { return mlir::VectorType::get({target.width}, element); }
  mlir::Value c(int64_t v) { return constant(i64, v); }
  mlir::Value c32(int64_t v) { return constant(i32, v); }
  /// Integer or float constant, splat where `type` is a vector.
  mlir::Value constant(mlir::Type type, int64_t v);
  mlir::Value constant(mlir::Type type, double v);
  /// The vector 0, 1, 2, … of i64.
  mlir::Value iota();
  /// `v` itself where it is a vector, else broadcast to `width` lanes.
  mlir::Value splat(mlir::Value v);
  static bool isVector(mlir::Value v) { return mlir::isa<mlir::VectorType>(v.getType()); }
  static mlir::Type elementType(mlir::Value v) { return mlir::getElementTypeOrSelf(v.getType()); }
  /// `element`, or its vector where `like` is one.
  mlir::Type typeLike(mlir::Value like, mlir::Type element) {
    return isVector(like) ? mlir::Type(vec(element)) : element;
  }

  //===--- Arithmetic (integer or float by the operands' type) --------------===//

  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y) { return y == 0 ? x : add(x, constant(x.getType(), y)); }
  mlir::Value mul(mlir::Value x, int64_t y) { return y == 1 ? x : mul(x, constant(x.getType(), y)); }
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  /// z + the dot products of pairs of bf16, which are the words of x and y (vdpbf16ps).
  mlir::Value fmaPairs(mlir::Value x, mlir::Value y, mlir::Value z);
  /// Minimum and maximum: signed integers; floats as x86's min/max (the second operand where unordered).
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  mlir::Value cmp(mlir::arith::CmpIPredicate p, mlir::Value x, mlir::Value y);
  mlir::Value cmp(mlir::arith::CmpFPredicate p, mlir::Value x, mlir::Value y);
  mlir::Value lt(mlir::Value x, mlir::Value y) { return cmp(mlir::arith::CmpIPredicate::slt, x, y); }
  mlir::Value le(mlir::Value x, mlir::Value y) { return cmp(mlir::arith::CmpIPredicate::sle, x, y); }
  mlir::Value ge(mlir::Value x, mlir::Value y) { return cmp(mlir::arith::CmpIPredicate::sge, x, y); }
  mlir::Value eq(mlir::Value x, mlir::Value y) { return cmp(mlir::arith::CmpIPredicate::eq, x, y); }
  mlir::Value select(mlir::Value cond, mlir::Value x, mlir::Value y);
  mlir::Value both(mlir::Value x, mlir::Value y);
  mlir::Value either(mlir::Value x, mlir::Value y);
  /// Not, of i1.
  mlir::Value flip(mlir::Value x) { return mlir::arith::XOrIOp::create(b, loc, x, constant(x.getType(), int64_t(1))); }
  /// floor(x / n) of integers as f64 lanes, |x| < kExactQuotient, n > 0: `reciprocal` is 1 / n, rounded.
  mlir::Value floorQuotient(mlir::Value x, mlir::Value reciprocal);
  static constexpr double kExactQuotient = 0x1p50;
  /// Division and modulus that round down; the divisor is a positive constant. Of lanes, |x| < kExactQuotient.
  mlir::Value floorDiv(mlir::Value x, int64_t n);
  mlir::Value floorMod(mlir::Value x, int64_t n);
  /// The same with a positive scalar divisor known at run time.
  mlir::Value floorDiv(mlir::Value x, mlir::Value n);
  /// Truncates or sign-extends i64/i32, scalar or vector.
  mlir::Value toInt(mlir::Value v, mlir::Type element);
  /// 2^x for x < 127 (and NaN); -inf and x < -126 give 0. The relative error is below 2e-7.
  mlir::Value exp2(mlir::Value x);
  /// 2^(whole + f) on AVX-512, where the low bits of `shifted` are 32 whole, |f| <= 1/64 or little more.
  mlir::Value exp2OfParts(mlir::Value shifted, mlir::Value whole, mlir::Value f);
  /// True where any lane of an i1 vector is.
  mlir::Value any(mlir::Value lanes);
  /// How many lanes of an i1 vector are true, as i64.
  mlir::Value countTrue(mlir::Value lanes);
  /// The elements of `v` whose lanes are true, in front; behind them anything.
  mlir::Value compress(mlir::Value v, mlir::Value lanes);

  //===--- Memory -----------------------------------------------------------===//

  mlir::Value at(mlir::Value base, mlir::Value byteOffset);
  mlir::Value at(mlir::Value base, int64_t byteOffset);
  mlir::Value load(mlir::Type type, mlir::Value address, unsigned align = 0);
  void store(mlir::Value v, mlir::Value address, unsigned align = 0);
  /// `width` floats at an address that is aligned as one.
  mlir::Value loadRow(mlir::Value address, unsigned align = 4) { return load(vec(f32), address, align); }
  /// Asks for the cache lines of `bytes` bytes, into the cache of a level (1 or 2); any address may be named.
  void prefetch(mlir::Value address, int64_t bytes, int level = 1);
  mlir::Value toPtr(mlir::Value i);
  mlir::Value toInt(mlir::Value pointer);
  /// Element(s) of a storage type (f32, f16, bf16) as f32. `lanes` 1 is a scalar.
  mlir::Value loadAsF32(mlir::Type storage, mlir::Value address, bool vector);
  void storeF32As(mlir::Type storage, mlir::Value v, mlir::Value address);

  //===--- Control ----------------------------------------------------------===//

  /// for (i64 iv = lo; iv < hi; iv += step); the body returns the next values.
  Values loop(mlir::Value lo, mlir::Value hi, int64_t step, mlir::ValueRange init,
              llvm::function_ref<Values(mlir::Value, mlir::ValueRange)> body);
  void loop(mlir::Value lo, mlir::Value hi, int64_t step, llvm::function_ref<void(mlir::Value)> body);
  void ifThen(mlir::Value cond, llvm::function_ref<void()> then);
  void ifElse(mlir::Value cond, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise);
  Values ifElse(mlir::Value cond, mlir::TypeRange types, llvm::function_ref<Values()> then,
                llvm::function_ref<Values()> otherwise);
  Values call(llvm::StringRef callee, mlir::TypeRange results, mlir::ValueRange args);

  /// Bits of f16 (i32) to f32, by integer arithmetic, for targets without F16C.
  mlir::Value halfToFloat(mlir::Value bits);

private:
  mlir::Value floatToHalf(mlir::Value bits);
};

} // namespace heddle

#endif // HEDDLE_PASSES_EMITTER_H
