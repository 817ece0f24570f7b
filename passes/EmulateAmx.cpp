//===- EmulateAmx.cpp - Matrix tiles as vector loops ----------------------===//
//
// So that kernels for AMX can be judged on a machine that has none: a tile becomes
// memory of the function, 16 rows of 64 bytes, and an op on tiles the loop that
// the processor's manual defines it by.
//
// Before: %c = amx.tile_mulf %a, %b, %c0 : ...
// After:  a loop over rows of A, and over its pairs: even += a0 * b0, odd += a1 * b1
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "passes/Emitter.h"
#include "passes/Passes.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_EMULATEAMXPASS
#include "passes/Passes.h.inc"

namespace {
constexpr int64_t kTileRow = 64, kTileBytes = 1024;

/// Replaces the ops of one function, in which no tile is a block's argument.
class Emulation {
public:
  explicit Emulation(func::FuncOp fn) : fn(fn), b(fn.getContext()), e(b, fn.getLoc(), VectorTarget()) {}

  LogicalResult run();

private:
  func::FuncOp fn;
  OpBuilder b;
  Emitter e;
  llvm::DenseMap<Value, Value> memory; ///< of tiles

  Value bufferFor(Value tile) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&fn.getBody().front());
    return memory[tile] = LLVM::AllocaOp::create(b, e.loc, e.ptr, e.i8, e.c(kTileBytes), 64);
  }
  FailureOr<Value> addressOf(Operation *op, Value base, ValueRange indices);
  void copyRows(amx::TileType tile, Value from, Value fromStride, Value to, Value toStride);
  LogicalResult move(Operation *op, Value base, ValueRange indices, Value stride, Value tile, bool loads);
  LogicalResult multiply(amx::TileMulFOp op);
  Value flushed(Value x);
};
} // namespace

/// Bytes from here on; only buffers of one dimension that is contiguous have an address here.
FailureOr<Value> Emulation::addressOf(Operation *op, Value base, ValueRange indices) {
  auto type = cast<MemRefType>(base.getType());
  if (type.getRank() != 1 || !type.getLayout().isIdentity()) {
    return op->emitError("expected a contiguous buffer of one dimension, but got ") << type;
  }
  Type one = LLVM::LLVMArrayType::get(e.i64, 1);
  Type descriptor = LLVM::LLVMStructType::getLiteral(b.getContext(), {e.ptr, e.ptr, e.i64, one, one});
  Value d = UnrealizedConversionCastOp::create(b, e.loc, descriptor, base).getResult(0);
  Value start = LLVM::ExtractValueOp::create(b, e.loc, d, 1);
  Value index = arith::IndexCastOp::create(b, e.loc, e.i64, indices[0]);
  return e.at(start, e.mul(index, type.getElementTypeBitWidth() / 8));
}

void Emulation::copyRows(amx::TileType tile, Value from, Value fromStride, Value to, Value toStride) {
  int64_t bytes = tile.getDimSize(1) * tile.getElementTypeBitWidth() / 8;
  Type row = VectorType::get({bytes}, e.i8);
  e.loop(e.c(0), e.c(tile.getDimSize(0)), 1,
         [&](Value r) { e.store(e.load(row, e.at(from, e.mul(r, fromStride)), 1), e.at(to, e.mul(r, toStride)), 1); });
}

LogicalResult Emulation::move(Operation *op, Value base, ValueRange indices, Value stride, Value tile, bool loads) {
  auto type = cast<amx::TileType>(tile.getType());
  if (!stride) {
    return op->emitError("expected a stride, but got none");
  }
  FailureOr<Value> address = addressOf(op, base, indices);
  if (failed(address)) {
    return failure();
  }
  Value elements = arith::IndexCastOp::create(b, e.loc, e.i64, stride);
  Value bytes = e.mul(elements, type.getElementTypeBitWidth() / 8), row = e.c(kTileRow);
  if (loads) {
    copyRows(type, *address, bytes, bufferFor(tile), row);
  } else {
    copyRows(type, memory.lookup(tile), row, *address, bytes);
  }
  return success();
}

/// Denormal numbers are 0, on the way in and out.
Value Emulation::flushed(Value x) {
  Value bits = arith::BitcastOp::create(b, e.loc, e.typeLike(x, e.i32), x);
  Value exponent = e.both(bits, e.constant(bits.getType(), int64_t(0x7f800000)));
  Value tiny = e.eq(exponent, e.constant(bits.getType(), int64_t(0)));
  return e.select(tiny, e.constant(x.getType(), 0.0), x);
}

/// C[m][n] += (sum over pairs k of A[m][2k] B[k][2n]) + (sum over k of A[m][2k + 1] B[k][2n + 1])
LogicalResult Emulation::multiply(amx::TileMulFOp op) {
  amx::TileType lhs = op.getLhsTileType(), sums = op.getTileType();
  if (!lhs.getElementType().isBF16() || sums.getDimSize(1) != 16) {
    return op.emitError("expected tiles of bf16 and 16 columns of sums, but got ") << lhs << " and " << sums;
  }
  Value a = memory.lookup(op.getLhs()), x = memory.lookup(op.getRhs()), acc = memory.lookup(op.getAcc());
  Value to = bufferFor(op.getRes());
  auto halfOf = [&](Value words, bool upper) {
    Type type = words.getType();
    Value bits = upper ? e.both(words, e.constant(type, int64_t(-65536)))
                       : Value(arith::ShLIOp::create(b, e.loc, words, e.constant(type, int64_t(16))));
    return flushed(arith::BitcastOp::create(b, e.loc, e.typeLike(words, e.f32), bits));
  };
  Value zero = e.constant(e.vec(e.f32), 0.0);
  e.loop(e.c(0), e.c(sums.getDimSize(0)), 1, [&](Value m) {
    Value row = e.at(a, e.mul(m, kTileRow)), place = e.mul(m, kTileRow);
    auto both = e.loop(e.c(0), e.c(lhs.getDimSize(1) / 2), 1, {zero, zero}, [&](Value k, ValueRange sum) {
      Value pair = e.load(e.i32, e.at(row, e.mul(k, 4)), 4);
      Value pairs = e.load(e.vec(e.i32), e.at(x, e.mul(k, kTileRow)), 4);
      Emitter::Values next;
      for (bool odd : {false, true}) {
        next.push_back(
            flushed(vector::FMAOp::create(b, e.loc, e.splat(halfOf(pair, odd)), halfOf(pairs, odd), sum[odd])));
      }
      return next;
    });
    Value sum = e.add(e.load(e.vec(e.f32), e.at(acc, place), 4), flushed(e.add(both[0], both[1])));
    e.store(flushed(sum), e.at(to, place), 4);
  });
  return success();
}

LogicalResult Emulation::run() {
  SmallVector<Operation *> ops;
  fn.walk([&](Operation *op) {
    if (isa<amx::AMXDialect>(op->getDialect())) {
      ops.push_back(op);
    }
  });
  for (Operation *op : ops) {
    b.setInsertionPoint(op);
    LogicalResult done = success();
    if (auto zero = dyn_cast<amx::TileZeroOp>(op)) {
      Value to = bufferFor(zero.getRes());
      e.loop(e.c(0), e.c(kTileBytes), kTileRow,
             [&](Value byte) { e.store(e.constant(e.vec(e.f32), 0.0), e.at(to, byte), 4); });
    } else if (auto load = dyn_cast<amx::TileLoadOp>(op)) {
      done = move(op, load.getBase(), load.getIndices(), load.getStride(), load.getRes(), true);
    } else if (auto store = dyn_cast<amx::TileStoreOp>(op)) {
      done = move(op, store.getBase(), store.getIndices(), store.getStride(), store.getVal(), false);
    } else if (auto mul = dyn_cast<amx::TileMulFOp>(op)) {
      done = multiply(mul);
    } else {
      done = op->emitError("expected an op on tiles of floats, but got ") << op->getName();
    }
    if (failed(done)) {
      return failure();
    }
  }
  for (Operation *op : llvm::reverse(ops)) {
    op->erase();
  }
  return success();
}

namespace {
struct EmulateAmxPass : impl::EmulateAmxPassBase<EmulateAmxPass> {
  using Base::Base;
  void runOnOperation() override {
    for (auto fn : getOperation().getOps<func::FuncOp>()) {
      if (!fn.isDeclaration() && failed(Emulation(fn).run())) {
        return signalPassFailure();
      }
    }
  }
};
} // namespace
} // namespace heddle
