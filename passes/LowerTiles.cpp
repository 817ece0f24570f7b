//===- LowerTiles.cpp - Bodies of the micro-kernels -----------------------===//
//
// Tile loops call micro-kernels by name; this pass writes each of them once, in
// the vector dialect, for the register width that it is given.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "passes/Passes.h"
#include "passes/RowKernels.h"
#include "passes/TileKernels.h"
#include "passes/VectorTargets.h"

namespace heddle {
#define GEN_PASS_DEF_LOWERTILESPASS
#include "passes/Passes.h.inc"

namespace {
struct LowerTilesPass : impl::LowerTilesPassBase<LowerTilesPass> {
  using Base::Base;
  void runOnOperation() override {
    for (auto fn : getOperation().getOps<mlir::func::FuncOp>()) {
      if (fn.isDeclaration() && fn->hasAttr("attn.tile")) {
        if (amx) {
          fn->setAttr("attn.amx", mlir::UnitAttr::get(&getContext()));
        }
        emitTileKernel(fn, vectorTarget(width, bf16));
      } else if (fn.isDeclaration() && isRowKernel(fn)) {
        emitRowKernel(fn, vectorTarget(width, bf16));
      }
    }
    // What LLVM has no vector code for: polynomials and rational functions, good to f32.
    mlir::RewritePatternSet patterns(&getContext());
    mlir::populateMathPolynomialApproximationPatterns(patterns, [](llvm::StringRef name) {
      return llvm::is_contained(
          {"math.erf", "math.erfc", "math.tanh", "math.exp", "math.log", "math.log2", "math.cbrt"}, name);
    });
    mlir::walkAndApplyPatterns(getOperation(), std::move(patterns));
  }
};
} // namespace
} // namespace heddle
