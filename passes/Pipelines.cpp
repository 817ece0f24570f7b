//===- Pipelines.cpp - Named pipelines from attn to LLVM ------------------===//

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "passes/Passes.h"
#include "passes/gpu/GpuToLLVM.h"

using namespace mlir;

namespace heddle {

void buildTilePipeline(OpPassManager &pm, int64_t width, bool bf16) {
  pm.addPass(createAnnotateSchedulePass());
  pm.addPass(createTileAttendPass(TileAttendPassOptions{width, bf16}));
  pm.addPass(createFuseFunctionsPass());
  pm.addPass(createLowerTilesPass(LowerTilesPassOptions{width, bf16}));
}

void buildProgramPipeline(OpPassManager &pm, bool readGlue) {
  pm.addPass(createConvertElementwiseToLinalgPass());
  pm.addPass(createLinalgGeneralizeNamedOpsPass());
  pm.addPass(createWidenGluePass());
  pm.addPass(createFuseGluePass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addNestedPass<func::FuncOp>(createSharePoolsPass());
  pm.addPass(createSplitProgramPass(SplitProgramPassOptions{readGlue}));
}

void buildOpPipeline(OpPassManager &pm, int64_t width) {
  pm.addPass(createLowerOpsPass(LowerOpsPassOptions{width, 0}));
}

void buildGpuOpPipeline(OpPassManager &pm, int64_t sharedBytes) {
  pm.addPass(createLowerOpsPass(LowerOpsPassOptions{1, sharedBytes}));
}

void buildGpuPipeline(OpPassManager &pm, int64_t sharedBytes) {
  pm.addPass(createAnnotateSchedulePass());
  pm.addPass(createTileGpuPass(TileGpuPassOptions{sharedBytes}));
}

void buildLLVMPipeline(OpPassManager &pm) {
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertVectorToLLVMPass(ConvertVectorToLLVMPassOptions{.amx = true}));
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
}

void registerPasses() {
#define GEN_PASS_REGISTRATION
  registerAnnotateSchedulePass();
  registerAnnotateLeaksPass();
  registerEmulateAmxPass();
  registerFuseFunctionsPass();
  registerFuseGluePass();
  registerTileAttendPass();
  registerLowerOpsPass();
  registerLowerTilesPass();
  registerSharePoolsPass();
  registerSplitProgramPass();
  registerTileGpuPass();
  registerWidenGluePass();
  PassPipelineRegistration<>("attn-program", "a spec of several ops to a module for each",
                             [](OpPassManager &pm) { buildProgramPipeline(pm); });
  PassPipelineRegistration<>("attn-cpu", "attn to the LLVM dialect for AVX-512", [](OpPassManager &pm) {
    buildTilePipeline(pm, 16, false);
    buildLLVMPipeline(pm);
  });
  PassPipelineRegistration<>("attn-gpu", "attn to the LLVM and NVVM dialects for sm_80", [](OpPassManager &pm) {
    buildGpuPipeline(pm, 101376);
    buildGpuToLLVM(pm);
  });
}

} // namespace heddle
