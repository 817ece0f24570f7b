// RUN: heddle-opt --attn-annotate-schedule --attn-tile-gpu=shared-bytes=232448 --split-input-file %s | FileCheck %s
// RUN: heddle-opt --attn-annotate-schedule --attn-tile-gpu=shared-bytes=232448 --split-input-file %s | FileCheck %s --check-prefix=COPIES

// The kernels of sm_90a, beside those of mma.sync: a producer and two consumer warpgroups on a ring of four stages.
// CHECK: module attributes {heddle.gpu.hopper, heddle.gpu.kernels = [{{.*}}name = "heddle_gpu_0"
// CHECK-SAME: heddle.gpu.tensor_kernels = [{columns = 64 : i64, inner = 1 : i64, keys = 128 : i64, name = "heddle_tma_0", rows = 128 : i64
// CHECK-SAME: span = 128 : i64, stages = 4 : i64, threads = 384 : i64, tiles_from_end = 1 : i64}]
// CHECK-SAME: heddle.gpu.tensor_maps = [{arg = 1 : i64, rows = 128 : i64, step = 1 : i64}, {arg = 2 : i64, rows = 128 : i64, step = 1 : i64}]
// Panels in the 128-byte swizzle lie at multiples of 1024 bytes.
// CHECK: llvm.mlir.global external @heddle_shared() {addr_space = 3 : i32, alignment = 1024 : i64}
// CHECK: llvm.func @heddle_tma_0(%arg0: {{.*}}, %arg1: !llvm.ptr {llvm.align = 64 : i64, llvm.byval = !llvm.array<32 x i64>, nvvm.grid_constant})
// CHECK-SAME: nvvm.maxntid = array<i32: 384, 1, 1>
// Four barriers a stage: K there, K free, V there, V free.
// CHECK-COUNT-16: "mbarrier.init.shared::cta.b64
// CHECK: fence.mbarrier_init
// The producer waits until a stage is free, says how many bytes come, and copies one box of 64 columns for K and for V.
// CHECK: setmaxnreg.dec.sync.aligned.u32 40
// CHECK-COUNT-2: mbarrier.try_wait.parity{{.*}}
// CHECK: mbarrier.arrive.expect_tx
// CHECK: cp.async.bulk.tensor.4d
// CHECK-NOT: cp.async.bulk.tensor
// The consumers: Q once; then S of a tile and P V of the one before (for the first, a group without one), in turns by
// named barriers.
// CHECK: setmaxnreg.inc.sync.aligned.u32 232
// CHECK: fence.proxy.async
// CHECK: scf.for
// CHECK: mbarrier.try_wait.parity
// CHECK: "bar.sync
// CHECK: wgmma.fence
// CHECK-COUNT-4: wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// CHECK: wgmma.commit_group
// CHECK: scf.if
// CHECK: mbarrier.try_wait.parity
// CHECK-COUNT-8: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// CHECK: wgmma.commit_group
// CHECK: else
// CHECK-NOT: wgmma.mma_async
// CHECK: wgmma.commit_group
// CHECK: "bar.arrive
// The softmax runs while P V does, and the wait stays behind it.
// CHECK: wgmma.wait_group.sync.aligned 1
// CHECK: llvm.nvvm.ex2.approx.ftz.f32
// CHECK-NOT: wgmma.wait_group
// CHECK: nanosleep
// CHECK: wgmma.wait_group.sync.aligned 0
// acc is multiplied where a row's maximum moved in the warp.
// CHECK: llvm.nvvm.vote.any.sync
// CHECK: scf.if
// The last P V.
// CHECK-COUNT-8: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// CHECK-NOT: wgmma.mma_async
// Rows that are not finite although their weights are: again, by the other program.
// CHECK: bar.red.or.pred
// CHECK: nvvm.mma.sync
// CHECK: llvm.func @heddle_gpu_1
module attributes {heddle.gpu.hopper} {
  func.func @causal(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
      -> tensor<?x8x?x64xbf16> {
    %o = attn.attend %q segment(%k, %v) where(causal) q_offset(0)
      : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
    return %o : tensor<?x8x?x64xbf16>
  }
}

// -----

// Dense: no dead pair but past the end, where V is 0. There is no mask code and no second program. All tiles take as long.
// CHECK: heddle.gpu.tensor_kernels
// CHECK-NOT: tiles_from_end
// CHECK: llvm.func @heddle_tma_0
// CHECK-NOT: nvvm.mma.sync
// CHECK: llvm.func @heddle_gpu_1
module attributes {heddle.gpu.hopper} {
  func.func @full(%q: tensor<?x8x?x64xf16>, %k: tensor<?x8x?x64xf16>, %v: tensor<?x8x?x64xf16>)
      -> tensor<?x8x?x64xf16> {
    %o = attn.attend %q segment(%k, %v) where(full)
      : tensor<?x8x?x64xf16> segment(tensor<?x8x?x64xf16>, tensor<?x8x?x64xf16>) -> tensor<?x8x?x64xf16>
    return %o : tensor<?x8x?x64xf16>
  }
}

// -----

// A lattice: a map of (residue, quotient), one box a tile as for a band; only a residue's last, ragged tile takes the
// rows one by one. The same maps serve K's two panels of 64 columns.
// COPIES: heddle.gpu.tensor_maps = [{arg = 1 : i64, rows = 128 : i64, step = 8 : i64}, {arg = 1 : i64, rows = 1 : i64, step = 1 : i64}
// COPIES: llvm.func @heddle_tma_0
// COPIES-COUNT-2: cp.async.bulk.tensor.4d
// COPIES-COUNT-2: cp.async.bulk.tensor.5d
// COPIES-COUNT-2: cp.async.bulk.tensor.4d
// COPIES-COUNT-2: cp.async.bulk.tensor.5d
// COPIES-NOT: cp.async.bulk.tensor
// COPIES: setmaxnreg.inc.sync.aligned.u32 232
module attributes {heddle.gpu.hopper} {
  func.func @dilated(%q: tensor<?x8x?x128xbf16>, %k: tensor<?x8x?x128xbf16>, %v: tensor<?x8x?x128xbf16>)
      -> tensor<?x8x?x128xbf16> {
    %o = attn.attend %q segment(%k, %v) where(window(255, 0, dilation = 8)) q_offset(0)
      : tensor<?x8x?x128xbf16> segment(tensor<?x8x?x128xbf16>, tensor<?x8x?x128xbf16>) -> tensor<?x8x?x128xbf16>
    return %o : tensor<?x8x?x128xbf16>
  }
}

// -----

// f32 has none of them. (The lattice's kernels come first.)
// CHECK: heddle.gpu.tensor_kernels
// CHECK: llvm.func @heddle_tma_0
// CHECK: heddle.gpu.kernels
// CHECK-NOT: heddle.gpu.tensor_kernels
// CHECK-NOT: heddle_tma_
module attributes {heddle.gpu.hopper} {
  func.func @f32(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
      -> tensor<?x8x?x64xf32> {
    %o = attn.attend %q segment(%k, %v) where(causal) q_offset(0)
      : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
    return %o : tensor<?x8x?x64xf32>
  }
}
