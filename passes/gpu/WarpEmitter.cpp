//===- WarpEmitter.cpp - Short spellings for what a thread of a warp does -===//

#include "passes/gpu/WarpEmitter.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <bit>

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

Value WarpEmitter::invert(Value x) { return arith::XOrIOp::create(b, loc, x, yes()); }

Value WarpEmitter::divu(Value x, int64_t n) { return divu(x, constant(x.getType(), n)); }
Value WarpEmitter::remu(Value x, int64_t n) { return arith::RemUIOp::create(b, loc, x, constant(x.getType(), n)); }
Value WarpEmitter::divu(Value x, Value n) { return arith::DivUIOp::create(b, loc, x, n); }
Value WarpEmitter::shl(Value x, int64_t n) { return shl(x, constant(x.getType(), n)); }
Value WarpEmitter::shl(Value x, Value n) { return arith::ShLIOp::create(b, loc, x, n); }
Value WarpEmitter::shr(Value x, int64_t n) { return arith::ShRUIOp::create(b, loc, x, constant(x.getType(), n)); }

Value WarpEmitter::at3(Value byteOffset) {
  return LLVM::GEPOp::create(b, loc, shared, i8, smem, ArrayRef<LLVM::GEPArg>{byteOffset});
}

Value WarpEmitter::loadShared(Type type, Value byteOffset, unsigned align) {
  return LLVM::LoadOp::create(b, loc, type, at3(byteOffset), align);
}

void WarpEmitter::storeShared(Value v, Value byteOffset, unsigned align) {
  LLVM::StoreOp::create(b, loc, v, at3(byteOffset), align);
}

Value WarpEmitter::toGlobal(Value address) { return LLVM::IntToPtrOp::create(b, loc, global, address); }

void WarpEmitter::copyAsync(Value sharedOffset, Value address, Value size) {
  NVVM::CpAsyncOp::create(b, loc, at3(sharedOffset), toGlobal(address), 16, NVVM::LoadCacheModifierKind::CG, size);
}

void WarpEmitter::commitGroup() { NVVM::CpAsyncCommitGroupOp::create(b, loc); }
void WarpEmitter::waitGroup(int64_t pending) {
  NVVM::CpAsyncWaitGroupOp::create(b, loc, static_cast<uint32_t>(pending));
}
void WarpEmitter::barrier() {
  if (barrierThreads == 0) {
    NVVM::Barrier0Op::create(b, loc);
    return;
  }
  NVVM::BarrierOp::create(b, loc, TypeRange(), k(barrierName), k(barrierThreads), NVVM::BarrierReductionAttr(),
                          Value());
}

Value WarpEmitter::barrierAny(Value predicate) {
  if (barrierThreads > 0) {
    // The dialect reduces over barrier 0 alone.
    std::string text =
        "bar.red.or.pred $0, " + std::to_string(barrierName) + ", " + std::to_string(barrierThreads) + ", $1;";
    return LLVM::InlineAsmOp::create(b, loc, TypeRange{i1}, predicate, text, "=b,b,~{memory}",
                                     /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
                                     LLVM::AsmDialectAttr(), ArrayAttr())
        .getRes();
  }
  auto reduction = NVVM::BarrierReductionAttr::get(b.getContext(), NVVM::BarrierReduction::OR);
  Value word = arith::ExtUIOp::create(b, loc, i32, predicate);
  Value any = NVVM::BarrierOp::create(b, loc, TypeRange{i32}, Value(), Value(), reduction, word).getRes();
  return cmp(arith::CmpIPredicate::ne, any, k(0));
}

Value WarpEmitter::threadId() { return NVVM::ThreadIdXOp::create(b, loc, i32); }
Value WarpEmitter::threadIdAgain() {
  return LLVM::InlineAsmOp::create(b, loc, TypeRange{i32}, ValueRange{}, "mov.u32 $0, %tid.x;", "=r,~{memory}",
                                   /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
                                   LLVM::AsmDialectAttr(), ArrayAttr())
      .getRes();
}
Value WarpEmitter::blockId() { return NVVM::BlockIdXOp::create(b, loc, i32); }

Value WarpEmitter::shuffleXor(Value v, int64_t mask) {
  return NVVM::ShflOp::create(b, loc, v.getType(), k(-1), v, k(mask), k(31), NVVM::ShflKind::bfly, UnitAttr());
}

Value WarpEmitter::anyInWarp(Value predicate) { return intrinsic("llvm.nvvm.vote.any.sync", i1, {k(-1), predicate}); }

Value WarpEmitter::reduceMin(Value v) { return NVVM::ReduxOp::create(b, loc, i32, v, NVVM::ReduxKind::MIN, k(-1)); }
Value WarpEmitter::reduceMax(Value v) { return NVVM::ReduxOp::create(b, loc, i32, v, NVVM::ReduxKind::MAX, k(-1)); }

Values WarpEmitter::ldmatrix4(Value sharedOffset, bool transposed) {
  Type four = LLVM::LLVMStructType::getLiteral(b.getContext(), SmallVector<Type>(4, i32));
  auto shape = NVVM::LdStMatrixShapeAttr::get(b.getContext(), 8, 8);
  Value r = NVVM::LdMatrixOp::create(b, loc, four, at3(sharedOffset), 4u,
                                     transposed ? NVVM::MMALayout::col : NVVM::MMALayout::row, shape,
                                     NVVM::LdStMatrixEltType::B16);
  Values out;
  for (int64_t n = 0; n < 4; ++n) {
    out.push_back(LLVM::ExtractValueOp::create(b, loc, r, n));
  }
  return out;
}

Values WarpEmitter::mma(Type storage, ValueRange a, ValueRange bb, ValueRange c) {
  Type four = LLVM::LLVMStructType::getLiteral(b.getContext(), SmallVector<Type>(4, f32));
  NVVM::MMATypes type = storage.isF16()    ? NVVM::MMATypes::f16
                        : storage.isBF16() ? NVVM::MMATypes::bf16
                                           : NVVM::MMATypes::tf32;
  auto operands = [&](ValueRange in) {
    Values out(in);
    if (storage.isF16()) {
      for (Value &v : out) {
        v = LLVM::BitcastOp::create(b, loc, VectorType::get({2}, storage), v);
      }
    }
    return out;
  };
  int64_t depth = storage.isF32() ? 8 : 16;
  Value r =
      NVVM::MmaOp::create(b, loc, four, operands(a), operands(bb), c, ArrayRef<int64_t>{16, 8, depth}, std::nullopt,
                          std::nullopt, std::array{type, type}, std::array{NVVM::MMALayout::row, NVVM::MMALayout::col});
  Values out;
  for (int64_t n = 0; n < 4; ++n) {
    out.push_back(LLVM::ExtractValueOp::create(b, loc, r, n));
  }
  return out;
}

Value WarpEmitter::intrinsic(StringRef name, Type type, ValueRange args) {
  return LLVM::CallIntrinsicOp::create(b, loc, type, b.getStringAttr(name), args).getResult(0);
}

Value WarpEmitter::exp2Fast(Value x) { return intrinsic("llvm.nvvm.ex2.approx.ftz.f32", f32, x); }
Value WarpEmitter::log2Fast(Value x) { return intrinsic("llvm.nvvm.lg2.approx.f", f32, x); }
Value WarpEmitter::maxNum(Value x, Value y) { return arith::MaxNumFOp::create(b, loc, x, y); }

Value WarpEmitter::pack(Type storage, Value low, Value high) {
  // The first operand of the conversion is the upper half.
  Type pair = VectorType::get({2}, storage);
  Value v = intrinsic(storage.isBF16() ? "llvm.nvvm.ff2bf16x2.rn" : "llvm.nvvm.ff2f16x2.rn", pair, {high, low});
  return LLVM::BitcastOp::create(b, loc, i32, v);
}

WarpEmitter::SplitFloat WarpEmitter::splitTF32(Value x) {
  Value high = intrinsic("llvm.nvvm.f2tf32.rna", i32, x);
  Value rest = sub(x, fromBits(high));
  // inf - inf is NaN; NaN - NaN too.
  Value finite = cmp(arith::CmpFPredicate::OEQ, rest, rest);
  Value low = intrinsic("llvm.nvvm.f2tf32.rna", i32, rest);
  return {high, select(finite, high, k(0)), select(finite, low, k(0))};
}

} // namespace heddle
