// Ops on whole tensors for a GPU: a block of 256 threads takes tasks in turn.
// RUN: heddle-opt %s --attn-lower-ops="width=1 shared-bytes=101376" --split-input-file | FileCheck %s
// RUN: heddle-opt %s --attn-lower-ops="width=1 shared-bytes=1024" --split-input-file | FileCheck %s --check-prefix=SMALL

// CHECK: heddle.gpu.kernels = [{block_bytes = 0 : i64, max_blocks = 1024 : i64, name = "heddle_gpu_0", shared_bytes = 0 : i64, threads = 256 : i64}]
// CHECK: gpu.module @heddle_gpu
// CHECK: llvm.func @heddle_gpu_0
// CHECK: nvvm.read.ptx.sreg.nctaid.x
// CHECK: scf.for
// A warp takes a row of the result, a lane a column.
// CHECK: nvvm.barrier0
// CHECK-NOT: vector<
// CHECK: arith.maximumf %{{.*}} : f32
func.func @pool(%k: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %s = attn.pool max %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  return %s : tensor<?x8x?x64xf32>
}

// -----

// Sums and staged rows lie in shared memory where they fit, else in the workspace.
// CHECK: block_bytes = 0 : i64, max_blocks = 1024 : i64, name = "heddle_gpu_0", shared_bytes = 26624 : i64
// CHECK: llvm.addrspacecast
// CHECK-COUNT-8: math.fma
// SMALL: block_bytes = 26624 : i64, max_blocks = 1024 : i64, name = "heddle_gpu_0", shared_bytes = 0 : i64
// SMALL-NOT: llvm.addrspacecast
func.func @project(%k: tensor<?x8x?x64xf32>, %e: tensor<?x256xf32>) -> tensor<?x8x256x64xf32> {
  %p = attn.project %k, %e : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x256x64xf32>
  return %p : tensor<?x8x256x64xf32>
}
