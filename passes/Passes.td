//===- Passes.td - The passes of Heddle ------------------------*- tablegen -*-===//
#ifndef HEDDLE_PASSES_TD
#define HEDDLE_PASSES_TD

include "mlir/Pass/PassBase.td"

def AnnotateLeaksPass : Pass<"attn-annotate-leaks", "::mlir::ModuleOp"> {
  let summary = "warn of causal patterns on summaries that show the future";
  let description = [{
    Where the rows of a segment come from `attn.pool`, `attn.scan`, `attn.convolve`
    or `attn.project` and the segment's pattern is within `causal`, warns of a query
    that sees a summary with later tokens in it. Changes nothing.

    ```mlir
    %s = attn.pool mean %k size(4) : ...
    %o = attn.attend %q segment(%s, %t) where(causal) ...
    // warning: ... lets query 1 see row 1 of a summary, which holds tokens 4 to 7
    ```
  }];
  let dependentDialects = ["::heddle::attn::AttnDialect"];
}

def AnnotateSchedulePass : Pass<"attn-annotate-schedule", "::mlir::ModuleOp"> {
  let summary = "split each segment's pattern into strata and write them on the op";
  let description = [{
    Puts `#attn.schedule` on every `attn.attend`: disjoint strata in digit
    coordinates, the number of query positions that share one online-softmax
    state, and the keys of a chunk. Says what it chose in remarks; a masked
    stratum always has one that says why. Annotates only: no value changes.

    ```mlir
    // before
    %o = attn.attend %q segment(%k, %v) where(causal & window(63, 0)) : ...
    // after
    %o = attn.attend %q segment(%k, %v) where(window(63, 0)) {schedule = #attn.schedule<...>} : ...
    ```
  }];
  let dependentDialects = ["::heddle::attn::AttnDialect"];
}

def TileAttendPass : Pass<"attn-tile-attend", "::mlir::ModuleOp"> {
  let summary = "turn a scheduled attend into tile loops on the online-softmax state";
  let description = [{
    Replaces the function by `heddle_task(args, task, scratch)` (docs/abi.md), one
    call a super-tile of queries: loops over the query tiles of each stratum,
    bounds of its keys evaluated lane by lane, tables of key rows, and calls of
    micro-kernels that are declared here and written by `attn-lower-tiles`.

    Numerics: scores are scaled by scale * log2(e) when Q is packed (or after
    the score region), so that exp becomes exp2; dead scores are selected to
    -inf; a row's keys are taken in a fixed order that depends neither on the
    batch nor on the thread count.
  }];
  let options = [
    Option<"width", "width", "int64_t", "16", "f32 lanes of a vector register: 16, 8 or 4">,
    Option<"bf16", "bf16", "bool", "false", "the target multiplies pairs of bf16 (AVX512_BF16)">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

def FuseFunctionsPass : Pass<"attn-fuse-functions", "::mlir::ModuleOp"> {
  let summary = "keep one of private functions that are the same";
  let description = [{
    The strata of a schedule often need the same code: the same mask for intervals
    of j, the same scores, the same chunk. Functions that differ in their names
    alone, and in the names of functions that are the same, become one, which saves
    the time to compile the others. No value changes.

    ```mlir
    // before
    func.func private @attend_flush_0(...) { A }
    func.func private @attend_flush_1(...) { A }
    call @attend_flush_1(...)
    // after
    func.func private @attend_flush_0(...) { A }
    call @attend_flush_0(...)
    ```
  }];
  let dependentDialects = ["::mlir::func::FuncDialect"];
}

def LowerTilesPass : Pass<"attn-lower-tiles", "::mlir::ModuleOp"> {
  let summary = "give micro-kernels their bodies for the target's vectors";
  let description = [{
    Fills the declarations that `attn-tile-attend` left with scf loops on vector
    registers: 6 keys by up to 64 queries for the scores, 8 queries by 32 columns
    for the output. Numerics: exp2 by a table or a polynomial alone (docs/numerics.md);
    f32 sums in key order. With `amx`, dots of bf16 are products of AMX's tiles, whose
    sums over 32 features are added to a dot at once.
  }];
  let options = [
    Option<"width", "width", "int64_t", "16", "f32 lanes of a vector register: 16, 8 or 4">,
    Option<"bf16", "bf16", "bool", "false", "the target multiplies pairs of bf16 (AVX512_BF16)">,
    Option<"amx", "amx", "bool", "false", "the target multiplies tiles of bf16 (AMX-BF16), besides pairs">
  ];
  let dependentDialects = [
    "::mlir::amx::AMXDialect", "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

def EmulateAmxPass : Pass<"attn-emulate-amx", "::mlir::ModuleOp"> {
  let summary = "compute AMX's tile operations with vectors";
  let description = [{
    So that kernels for AMX can be judged on a machine without it: a tile is memory of
    the function, and an op on tiles the loop that the processor's manual defines it by,
    with the same bits (denormal numbers are 0). Takes what `attn-lower-tiles` emits, tiles of
    bf16 and f32 from contiguous buffers of one dimension; refuses others.

    ```mlir
    // before
    %c = amx.tile_mulf %a, %b, %z : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
    // after
    scf.for %m = %c0 to %c16 step %c1 { scf.for %k = %c0 to %c16 step %c1 { vector.fma ... } ... }
    ```
  }];
  let dependentDialects = [
    "::mlir::amx::AMXDialect", "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def SharePoolsPass : Pass<"attn-share-pools", "::mlir::func::FuncOp"> {
  let summary = "pool the largest of what another pool has pooled";
  let description = [{
    Of `attn.pool max` over adjacent blocks of one tensor, a pool whose size is a
    multiple of another's takes that one's result, so that summaries of many sizes
    read the tensor once. No value changes: a maximum is not rounded. Sums and means
    are left as they are.

    ```mlir
    // before
    %a = attn.pool max %x size(4) : ...
    %b = attn.pool max %x size(32) : ...
    // after
    %a = attn.pool max %x size(4) : ...
    %b = attn.pool max %a size(8) : ...
    ```
  }];
}

def WidenGluePass : Pass<"attn-widen-glue", "::mlir::ModuleOp"> {
  let summary = "give glue that reads glue f32, whatever the storage type";
  let description = [{
    Where a result of glue in f16 or bf16 is read by other glue, that reads it in f32
    and what ops read, or the function returns, is rounded from it. So where values
    of glue are rounded does not depend on how much of it is fused.

    ```mlir
    // before
    %y = linalg.generic {...} ins(%x : tensor<?x8xbf16>) ... -> tensor<?x8xbf16>
    %z = linalg.generic {...} ins(%y : tensor<?x8xbf16>) ... -> tensor<?x8xbf16>
    return %y, %z : tensor<?x8xbf16>, tensor<?x8xbf16>
    // after
    %w = linalg.generic {...} ins(%x : tensor<?x8xbf16>) ... -> tensor<?x8xf32>
    %y = linalg.generic {...} ins(%w : tensor<?x8xf32>) { truncf } -> tensor<?x8xbf16>
    %z = linalg.generic {...} ins(%w : tensor<?x8xf32>) ... -> tensor<?x8xbf16>
    return %y, %z : tensor<?x8xbf16>, tensor<?x8xbf16>
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def FuseGluePass : Pass<"attn-fuse-glue", "::mlir::ModuleOp"> {
  let summary = "fuse elementwise glue that is read once into the glue that reads it";
  let description = [{
    Upstream's elementwise fusion, except where the reader repeats the value along
    a dimension and the value takes a division or a function of math: that is
    computed once, in a kernel of its own. No value changes.
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def SplitProgramPass : Pass<"attn-split-program", "::mlir::ModuleOp"> {
  let summary = "split a spec of several ops into a module for each";
  let description = [{
    A function that is one attend on its arguments stays as it is. Of any other,
    each op (of attn, or a linalg.generic) moves to a nested module with one function (a step), on which values
    it reads and gives stand as numbers: the function's arguments, then the
    results of its ops. The runtime runs the steps in order (docs/abi.md). No value
    changes.

    Glue goes into the steps of the ops that read it, where these can compute it as they
    read and that takes less time than writing and reading the result; projects
    by the same weights that read a tensor in common become one step. For other glue a
    remark says why it has a kernel of its own, and what that moves and takes.

    ```mlir
    // before
    func.func @pooled(%q: ..., %k: ..., %v: ...) -> ... {
      %s = attn.pool mean %k size(64) : ...
      %o = attn.attend %q segment(%s, %v) : ...
      return %o : ...
    }
    // after
    module attributes {heddle.results = array<i64: 4>} {
      func.func private @pooled(...) -> ...
      module @step0 attributes {heddle.inputs = array<i64: 1>, heddle.outputs = array<i64: 3>} { ... }
      module @step1 attributes {heddle.inputs = array<i64: 0, 3, 2>, heddle.outputs = array<i64: 4>} { ... }
    }
    ```
  }];
  let options = [
    Option<"readGlue", "read-glue", "bool", /*default=*/"true", "let ops compute the glue that they read">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"];
}

def LowerOpsPass : Pass<"attn-lower-ops", "::mlir::ModuleOp"> {
  let summary = "turn a step of one op on whole tensors into loops on vectors";
  let description = [{
    Replaces the function by `heddle_task(args, task, scratch)` (docs/abi.md) and
    puts `heddle.launch` on the module: sizes of the results, number of tasks and
    checks as affine maps of the arguments' sizes (symbol 4 a + n is size n of
    argument a). An attend is left alone.

    Numerics: sums are f32, in the order of the rows, by fused multiply-adds; the
    result is rounded once to the storage type.
  }];
  let options = [
    Option<"width", "width", "int64_t", "16", "f32 lanes of a vector register: 16, 8 or 4">,
    Option<"sharedBytes", "shared-bytes", "int64_t", "0", "for a GPU whose blocks may take so much shared memory">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect", "::mlir::gpu::GPUDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::math::MathDialect", "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

def TileGpuPass : Pass<"attn-tile-gpu", "::mlir::ModuleOp"> {
  let summary = "turn a scheduled attend into fused NVIDIA GPU kernels";
  let description = [{
    Replaces the function by a `gpu.module` with one kernel for each group of
    strata that have the same query digits (docs/gpu.md). A block takes a query
    tile; the key tiles of all its strata are one stream through a ring of
    `cp.async` stages, multiplied by `mma.sync`.

    Numerics: f16 and bf16 products are exact with f32 sums, weights are rounded
    to the storage type; f32 is three TF32 products (2^-22); exp2 and log2 are the
    special function unit's (2^-22); a function of f64 in a pattern is computed
    in f32.
  }];
  let options = [Option<"sharedBytes", "shared-bytes", "int64_t", "101376", "shared memory that a block may take">];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect", "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
    "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

#endif // HEDDLE_PASSES_TD
