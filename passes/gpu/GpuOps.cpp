//===- GpuOps.cpp - Kernels of ops on whole tensors for the GPU -----------===//
//
// The GPU's side of OpKernel: a block of 256 threads takes tasks in turn,
//
//   for (task = block; task < tasks; task += blocks) { body }
//
// with its scratch memory in shared memory where it fits, else in the workspace.
// Products are f32 multiply-adds: 4 rows by 2 columns a thread.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "passes/KernelSignature.h"
#include "passes/OpKernel.h"

using namespace mlir;

namespace heddle {

/// Blocks of a launch: a few for each multiprocessor of a large device.
static constexpr int64_t kMaxBlocks = 1024;

void OpKernel::beginGpu() {
  auto parent = gpu::GPUModuleOp::create(b, loc, "heddle_gpu");
  module.push_back(parent);
  b.setInsertionPointToStart(parent.getBody());
  auto none = LLVM::LLVMArrayType::get(i8, 0);
  auto memory = LLVM::GlobalOp::create(b, loc, none, /*isConstant=*/false, LLVM::Linkage::External, "heddle_shared",
                                       Attribute(), /*alignment=*/16, /*addrSpace=*/3);
  auto fn = LLVM::LLVMFuncOp::create(b, loc, "heddle_gpu_0",
                                     LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()), {ptr}));
  fn->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), b.getUnitAttr());
  fn->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(), b.getDenseI32ArrayAttr({int32_t(kThreads), 1, 1}));
  fn->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), b.getI32IntegerAttr(2)); // while one block waits
  int64_t slots = header::kSlots + 9 * int64_t(spec.getNumArguments() + spec.getNumResults());
  fn.setArgAttr(0, LLVM::LLVMDialect::getByValAttrName(), TypeAttr::get(LLVM::LLVMArrayType::get(i64, slots)));
  fn.setArgAttr(0, LLVM::LLVMDialect::getAlignAttrName(), b.getI64IntegerAttr(8));
  fn.setArgAttr(0, NVVM::NVVMDialect::getGridConstantAttrName(), b.getUnitAttr());
  b.setInsertionPointToStart(fn.addEntryBlock(b));
  block = fn.getArgument(0);
  auto wide = [&](Value x) { return arith::ExtUIOp::create(b, loc, i64, x).getResult(); };
  thread = wide(NVVM::ThreadIdXOp::create(b, loc, i32));
  Value first = wide(NVVM::BlockIdXOp::create(b, loc, i32)), step = wide(NVVM::GridDimXOp::create(b, loc, i32));
  Value address = LLVM::AddressOfOp::create(b, loc, LLVM::LLVMPointerType::get(b.getContext(), 3), memory.getSymName());
  scratch = LLVM::AddrSpaceCastOp::create(b, loc, ptr, address);
  Value tasks = load(i64, at(block, 0), 8);
  auto loop = scf::ForOp::create(b, loc, first, tasks, step);
  LLVM::ReturnOp::create(b, loc, ValueRange{});
  b.setInsertionPointToStart(loop.getBody());
  task = loop.getInductionVar();
}

void OpKernel::finishGpu() {
  int64_t shared = used, own = 0;
  if (used > limits.sharedBytes) {
    // Scratch memory of a block lies in the workspace, whose address is in the block.
    shared = 0;
    own = used;
    Operation *cast = scratch.getDefiningOp();
    b.setInsertionPoint(cast);
    Value number = arith::ExtUIOp::create(b, loc, i64, NVVM::BlockIdXOp::create(b, loc, i32));
    Value base = toPtr(load(i64, at(block, header::kMemory * 8), 8));
    scratch.replaceAllUsesWith(at2(base, number, c(own)));
    cast->erase();
  }
  auto entry = [&](StringRef key, int64_t v) { return b.getNamedAttr(key, b.getI64IntegerAttr(v)); };
  Attribute kernel =
      b.getDictionaryAttr({b.getNamedAttr("name", b.getStringAttr("heddle_gpu_0")), entry("threads", kThreads),
                           entry("shared_bytes", shared), entry("max_blocks", kMaxBlocks), entry("block_bytes", own)});
  module->setAttr("heddle.gpu.kernels", b.getArrayAttr(kernel));
  module->setAttr("heddle.gpu.workspace_words", b.getI64IntegerAttr(0));
}

void OpKernel::barrier() {
  if (gpu) {
    NVVM::Barrier0Op::create(b, loc);
  }
}

void OpKernel::deal(Value lo, Value hi, int64_t step, llvm::function_ref<void(Value)> body) {
  int64_t count = inRows ? kWarp : kThreads;
  Value own = inRows ? both(thread, c(kWarp - 1)) : thread;
  loop(add(lo, mul(own, step)), hi, count * step, body);
}

void OpKernel::multiplyGpu(ValueRange a, bool fresh) {
  constexpr int64_t kTall = 4, kWide = 2;
  Value C = a[0], cStride = a[1], A = a[2], aRow = a[3], aDepth = a[4], B = a[5], bStride = a[6], depth = a[8];
  Value height = a[7], width = a[9];
  barrier();
  Value lane = both(thread, c(kWarp - 1)), warp = arith::DivUIOp::create(b, loc, thread, c(kWarp));
  Value down = ceilDiv(height, kTall), across = ceilDiv(width, kWide * kWarp);
  loop(warp, arith::MulIOp::create(b, loc, down, across), kThreads / kWarp, [&](Value item) {
    Values place = split(item, {down, across});
    Value row = mul(place[0], kTall), col = add(mul(place[1], kWide * kWarp), lane);
    // Rows and columns past the end repeat the last one and are not stored.
    Values rowOf, colOf, sums, starts;
    for (int64_t r = 0; r < kTall; ++r) {
      rowOf.push_back(min(add(row, c(r)), add(height, c(-1))));
      starts.push_back(at2(A, rowOf[r], aRow));
    }
    for (int64_t v = 0; v < kWide; ++v) {
      colOf.push_back(mul(min(add(col, c(v * kWarp)), add(width, c(-1))), 4));
    }
    auto target = [&](int64_t r, int64_t v) { return at(at2(C, rowOf[r], cStride), colOf[v]); };
    for (int64_t r = 0; r < kTall; ++r) {
      for (int64_t v = 0; v < kWide; ++v) {
        sums.push_back(fresh ? constant(f32, 0.0) : load(f32, target(r, v), 4));
      }
    }
    Values done = loop(c(0), depth, 1, sums, [&](Value k, ValueRange acc) {
      Value line = at2(B, k, bStride), step = mul(k, aDepth);
      Values next(acc.begin(), acc.end()), columns;
      for (int64_t v = 0; v < kWide; ++v) {
        columns.push_back(load(f32, at(line, colOf[v]), 4));
      }
      for (int64_t r = 0; r < kTall; ++r) {
        Value x = load(f32, at(starts[r], step), 4);
        for (int64_t v = 0; v < kWide; ++v) {
          next[r * kWide + v] = fma(x, columns[v], next[r * kWide + v]);
        }
      }
      return next;
    });
    for (int64_t r = 0; r < kTall; ++r) {
      for (int64_t v = 0; v < kWide; ++v) {
        Value there = both(lt(add(row, c(r)), height), lt(add(col, c(v * kWarp)), width));
        ifThen(there, [&] { store(done[r * kWide + v], target(r, v), 4); });
      }
    }
  });
  barrier();
}

} // namespace heddle
