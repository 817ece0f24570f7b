//===- GpuMath.cpp - Functions of floats on the GPU -----------------------===//

#include "passes/gpu/GpuMath.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace heddle {

namespace {
/// A function of one f64 is computed in f32: the GPU has no instruction for it, and libdevice is not at hand.
struct NarrowFunction : RewritePattern {
  explicit NarrowFunction(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 2, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isa<math::ExpOp, math::Exp2Op, math::LogOp, math::Log2Op, math::TanhOp, math::ErfOp, math::SinOp, math::CosOp>(
            op)) {
      return rewriter.notifyMatchFailure(op, "not a function without an instruction");
    }
    Type type = op->getResult(0).getType();
    if (type.isF32()) {
      return rewriter.notifyMatchFailure(op, "already in f32");
    }
    Type f32 = rewriter.getF32Type();
    Location loc = op->getLoc();
    Value x = op->getOperand(0);
    x = type.isF64() ? arith::TruncFOp::create(rewriter, loc, f32, x).getResult()
                     : arith::ExtFOp::create(rewriter, loc, f32, x).getResult();
    OperationState state(loc, op->getName(), x, f32, op->getAttrs());
    Value y = rewriter.create(state)->getResult(0);
    y = type.isF64() ? arith::ExtFOp::create(rewriter, loc, type, y).getResult()
                     : arith::TruncFOp::create(rewriter, loc, type, y).getResult();
    rewriter.replaceOp(op, y);
    return success();
  }
};

/// 2^x in f32 is the special function unit's.
struct FastExp2 : OpRewritePattern<math::Exp2Op> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::Exp2Op op, PatternRewriter &rewriter) const override {
    if (!op.getType().isF32()) {
      return rewriter.notifyMatchFailure(op, "not f32");
    }
    rewriter.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
        op, op.getType(), rewriter.getStringAttr("llvm.nvvm.ex2.approx.ftz.f32"), ValueRange{op.getOperand()});
    return success();
  }
};
} // namespace

void expandGpuMath(ModuleOp module) {
  RewritePatternSet patterns(module.getContext());
  patterns.add<NarrowFunction, FastExp2>(module.getContext());
  populateMathPolynomialApproximationPatterns(patterns);
  SmallVector<Operation *> functions;
  module.walk([&](Operation *op) {
    if (isa_and_present<math::MathDialect>(op->getDialect())) {
      functions.push_back(op);
    }
  });
  if (functions.empty()) {
    return;
  }
  GreedyRewriteConfig config;
  config.setStrictness(GreedyRewriteStrictness::ExistingAndNewOps);
  (void)applyOpPatternsGreedily(functions, std::move(patterns), config);
}

void moveHelpers(ModuleOp module) {
  auto parent = *module.getOps<gpu::GPUModuleOp>().begin();
  for (func::FuncOp fn : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
    if (fn.isPrivate() && !fn.isDeclaration()) {
      fn->moveBefore(parent.getBody(), parent.getBody()->begin());
    }
  }
}

} // namespace heddle
