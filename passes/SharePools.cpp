//===- SharePools.cpp - Pools of what another pool has pooled -------------===//
//
// The largest of the rows of a block is the largest of its parts' largest ones, in
// any storage type and to the bit:
//
//   %a = attn.pool max %x size(4)        %a = attn.pool max %x size(4)
//   %b = attn.pool max %x size(32)  ->   %b = attn.pool max %a size(8)
//
// Summaries of many sizes (one for each level of a hierarchy) then read x once.
// Sums and means would be rounded at other places; they stay.
//
//===----------------------------------------------------------------------===//

#include "dialect/Attn.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Passes.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_SHAREPOOLSPASS
#include "passes/Passes.h.inc"

/// True for adjacent blocks from the first row on.
static bool isBlocked(attn::PoolOp op) {
  return op.getKind() == attn::PoolKind::Max && op.getStep() == int64_t(op.getSize()) && op.getOffset() == 0;
}

namespace {
struct SharePoolsPass : impl::SharePoolsPassBase<SharePoolsPass> {
  void runOnOperation() override {
    SmallVector<attn::PoolOp> pools;
    getOperation()->walk([&](attn::PoolOp op) {
      if (isBlocked(op)) {
        pools.push_back(op);
      }
    });
    llvm::stable_sort(pools, [](attn::PoolOp a, attn::PoolOp b) { return a.getSize() < b.getSize(); });
    // From the largest on, so that a pool's input is still its own.
    for (size_t n = pools.size(); n-- > 0;) {
      for (size_t m = n; m-- > 0;) {
        if (share(pools[n], pools[m])) {
          break;
        }
      }
    }
  }

private:
  /// Makes `op` pool the result of `finer`, where both are of one tensor.
  static bool share(attn::PoolOp op, attn::PoolOp finer) {
    if (op.getInput() != finer.getInput() || op->getBlock() != finer->getBlock() ||
        op.getPartial() != finer.getPartial() || finer.getSize() < 2 || op.getSize() == finer.getSize() ||
        op.getSize() % finer.getSize() != 0) {
      return false;
    }
    if (op->isBeforeInBlock(finer)) {
      finer->moveBefore(op);
    }
    const int64_t size = int64_t(op.getSize()) / int64_t(finer.getSize());
    op.setSize(size);
    if (op.getStrideAttr()) {
      op.setStride(size);
    }
    op.getInputMutable().assign(finer.getResult());
    return true;
  }
};
} // namespace

} // namespace heddle
