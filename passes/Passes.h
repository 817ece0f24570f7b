//===- Passes.h - The passes and pipelines of Heddle ----------------------===//
#ifndef HEDDLE_PASSES_PASSES_H
#define HEDDLE_PASSES_PASSES_H

#include "mlir/Pass/Pass.h"

#include <memory>

namespace mlir {
class OpPassManager;
namespace affine {
class AffineDialect;
} // namespace affine
namespace arith {
class ArithDialect;
} // namespace arith
namespace func {
class FuncDialect;
} // namespace func
namespace gpu {
class GPUDialect;
} // namespace gpu
namespace linalg {
class LinalgDialect;
} // namespace linalg
namespace LLVM {
class LLVMDialect;
} // namespace LLVM
namespace math {
class MathDialect;
} // namespace math
namespace NVVM {
class NVVMDialect;
} // namespace NVVM
namespace scf {
class SCFDialect;
} // namespace scf
namespace tensor {
class TensorDialect;
} // namespace tensor
namespace vector {
class VectorDialect;
} // namespace vector
} // namespace mlir

namespace heddle {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

/// attn to tile loops and micro-kernels: schedule, tile, lower.
void buildTilePipeline(mlir::OpPassManager &pm, int64_t width, bool bf16);
/// A spec of several ops to a module for each: elementwise glue on tensors becomes linalg.generic, neighbours fused.
/// `readGlue`: other ops compute the glue that they read, where that is faster.
void buildProgramPipeline(mlir::OpPassManager &pm, bool readGlue = true);
/// An op on whole tensors to loops on vectors.
void buildOpPipeline(mlir::OpPassManager &pm, int64_t width);
/// The same for a GPU.
void buildGpuOpPipeline(mlir::OpPassManager &pm, int64_t sharedBytes);
/// attn to a gpu.module with fused kernels.
void buildGpuPipeline(mlir::OpPassManager &pm, int64_t sharedBytes);
/// Tile loops or kernels to the LLVM dialect.
void buildLLVMPipeline(mlir::OpPassManager &pm);
/// Every pass and pipeline (`attn-cpu`, `attn-gpu`), for heddle-opt.
void registerPasses();

} // namespace heddle

#endif // HEDDLE_PASSES_PASSES_H
