//===- LowerOps.cpp - Ops on whole tensors become kernels -----------------===//
//
// A module with one function of one such op (a step of a program, see
// SplitProgram.cpp) becomes a module with `heddle_task`, by the op's own lowering.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "passes/OpKernel.h"
#include "passes/Passes.h"
#include "passes/VectorTargets.h"
#include "passes/gpu/GpuMath.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_LOWEROPSPASS
#include "passes/Passes.h.inc"

/// The op of a step's function, null where it is an attend or no step at all.
static Operation *opOf(func::FuncOp fn) {
  if (fn.isDeclaration() || fn.getBody().front().getOperations().size() < 2) {
    return nullptr;
  }
  // Constants and placeholders of results may stand before it.
  Operation *op = fn.getBody().front().back().getPrevNode();
  return isa<attn::AttendOp>(op) ? nullptr : op;
}

/// e^x as 2^x is computed under the softmax (Emitter::exp2), for every x: x is clamped to where results are finite and
/// not 0, and what rounding x log2(e) loses is added to the small part. A scalar is computed on lanes too, so that an
/// element's bits do not depend on where it stands.
static Value expByTable(Emitter &e, Value x) {
  auto k = [&](double v) { return e.constant(x.getType(), v); };
  x = e.min(k(89), e.max(k(-104.5), x)); // a NaN stays
  // The low bits of `shifted` are round(32 x log2(e)).
  Value high = k(1.44269502162933349609375), low = k(1.92596299112661746887e-8), magic = k(393216);
  Value shifted = e.fma(x, high, magic), whole = e.sub(shifted, magic);
  return e.exp2OfParts(shifted, whole, e.fma(x, low, e.fma(x, high, e.sub(k(0), whole))));
}

namespace {
struct ExpByTable : OpRewritePattern<math::ExpOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::ExpOp op, PatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc(), vectorTarget(16, false));
    Value x = op.getOperand();
    if (x.getType() == e.vec(e.f32)) {
      rewriter.replaceOp(op, expByTable(e, x));
      return success();
    }
    if (!x.getType().isF32()) {
      return failure();
    }
    rewriter.replaceOp(
        op, vector::ExtractOp::create(rewriter, op.getLoc(), expByTable(e, e.splat(x)), ArrayRef<int64_t>{0}));
    return success();
  }
};

struct LowerOpsPass : impl::LowerOpsPassBase<LowerOpsPass> {
  using Base::Base;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
    for (func::FuncOp fn : functions) {
      Operation *op = opOf(fn);
      if (!op) {
        continue;
      }
      if (auto linear = dyn_cast<attn::LinearAttendOp>(op)) {
        auto width = [](Value v) { return cast<RankedTensorType>(v.getType()).getDimSize(3); };
        if (ShapedType::isDynamic(width(linear.getQ())) && ShapedType::isDynamic(width(linear.getK()))) {
          op->emitOpError("expected the head dimension of q or k to be static, but got ") << linear.getK().getType();
          return signalPassFailure();
        }
      } else if (!isa<attn::PoolOp, attn::ScanOp, attn::ConvolveOp, attn::ProjectOp, attn::GroupOp, attn::GatherRowsOp,
                      attn::ScatterRowsOp, attn::MergeOp, linalg::GenericOp>(op)) {
        op->emitOpError("expected an op that has a kernel, but got this one");
        return signalPassFailure();
      }
      OpBuilder builder(module.getContext());
      VectorTarget target = sharedBytes > 0 ? VectorTarget{.width = 1, .avx512 = false}
                                            : vectorTarget(width, module->hasAttr("heddle.bf16"));
      OpKernel kernel(module, fn, builder, target, GpuLimits{sharedBytes});
      bool good = true;
      llvm::TypeSwitch<Operation *>(op)
          .Case([&](linalg::GenericOp glue) { good = succeeded(lowerGlue(glue, kernel)); })
          .Case([&](attn::PoolOp pool) { lowerPool(pool, kernel); })
          .Case([&](attn::ScanOp scan) { lowerScan(scan, kernel); })
          .Case([&](attn::ConvolveOp convolve) { lowerConvolve(convolve, kernel); })
          .Case([&](attn::ProjectOp) {
            lowerProject(llvm::to_vector(fn.getBody().front().getOps<attn::ProjectOp>()), kernel);
          })
          .Case([&](attn::LinearAttendOp linear) { lowerLinearAttend(linear, kernel); })
          .Case([&](attn::GroupOp group) { lowerGroup(group, kernel); })
          .Case([&](attn::GatherRowsOp gather) { lowerGatherRows(gather, kernel); })
          .Case([&](attn::ScatterRowsOp scatter) { lowerScatterRows(scatter, kernel); })
          .Case([&](attn::MergeOp merge) { lowerMerge(merge, kernel); });
      if (!good) {
        return signalPassFailure();
      }
      kernel.finish();
      fn.erase();
    }
    if (sharedBytes > 0) {
      expandGpuMath(module);
      return;
    }
    // exp, tanh, log and the like on lanes, by upstream's approximations.
    RewritePatternSet patterns(&getContext());
    if (width == 16) {
      patterns.add<ExpByTable>(&getContext(), PatternBenefit(2));
    }
    populateMathPolynomialApproximationPatterns(patterns);
    walkAndApplyPatterns(module, std::move(patterns));
  }
};
} // namespace
} // namespace heddle
