// RUN: heddle-opt --attn-annotate-schedule --attn-tile-gpu %s --split-input-file | FileCheck %s
// RUN: heddle-opt --attn-gpu %s --split-input-file | FileCheck %s --check-prefix=LLVM

// One band: one kernel, whose block loads key tiles by cp.async and multiplies them by mma.sync.
// CHECK: module attributes {heddle.gpu.kernels = [{columns = 64 : i64, inner = 1 : i64, keys = 64 : i64, name = "heddle_gpu_0", rows = 64 : i64
// CHECK-SAME: span = 64 : i64, stages = 2 : i64, threads = 128 : i64, tiles_from_end = 1 : i64}, {merge = 1 : i64, name = "heddle_gpu_1"
// CHECK-SAME: heddle.gpu.state_words = 66 : i64, heddle.gpu.workspace_words = 0 : i64
// Nothing depends on the head: a tile may hold several.
// CHECK-SAME: heddle.heads_share_tiles = 1 : i64, heddle.keys_per_split = 1024 : i64, heddle.lanes = 64 : i64
// CHECK: gpu.module @heddle_gpu
// CHECK: llvm.func @heddle_gpu_0(%arg0: !llvm.ptr {llvm.align = 8 : i64, llvm.byval = !llvm.array<{{[0-9]+}} x i64>, nvvm.grid_constant})
// CHECK-SAME: nvvm.kernel, nvvm.maxntid = array<i32: 128, 1, 1>
// CHECK: nvvm.barrier0
// Queries, then one loop for all tiles, whose first steps compute nothing.
// CHECK: nvvm.cp.async.shared.global
// CHECK: scf.for
// CHECK: scf.if
// CHECK: nvvm.cp.async.wait.group 0
// CHECK: nvvm.barrier0
// CHECK: nvvm.cp.async.shared.global
// Four steps of 16 along d, kept in registers.
// CHECK-COUNT-4: nvvm.ldmatrix {{.*}} layout = #nvvm.mma_layout<row>
// S: 8 x 4 products; P V: 8 x 4.
// CHECK-COUNT-32: nvvm.mma.sync {{.*}} multiplicandAPtxType = #nvvm.mma_type<bf16>
// CHECK: nvvm.shfl.sync bfly
// CHECK: "llvm.nvvm.ex2.approx.ftz.f32"
// CHECK: nvvm.ldmatrix {{.*}} layout = #nvvm.mma_layout<col>
// LLVM-LABEL: gpu.module @heddle_gpu
// LLVM-NOT: scf.
// LLVM-NOT: arith.
func.func @causal(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
    -> tensor<?x8x?x64xbf16> {
  %o = attn.attend %q segment(%k, %v) where(causal) q_offset(0)
    : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
  return %o : tensor<?x8x?x64xbf16>
}

// -----

// Strata with other query digits: a kernel each, and the state passes through the workspace (64 + 2 words a row).
// CHECK: heddle.gpu.kernels = [{{.*}}span = 64 : i64{{.*}}, {{.*}}inner = 64 : i64{{.*}}span = 4096 : i64{{.*}}merge = 1{{.*}}], heddle.gpu.state_words = 66 : i64, heddle.gpu.workspace_words = 66 : i64, heddle.heads_share_tiles = 0
// CHECK: llvm.func @heddle_gpu_0
// CHECK: llvm.func @heddle_gpu_1
func.func @sparse(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
    -> tensor<?x8x?x64xbf16> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(63, 0) | stride(64))) q_offset(0)
    : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
  return %o : tensor<?x8x?x64xbf16>
}

// -----

// f32: three TF32 products each.
// CHECK: nvvm.mma.sync {{.*}} multiplicandAPtxType = #nvvm.mma_type<tf32>{{.*}}shape = #nvvm.shape<m = 16, n = 8, k = 8>
func.func @f32(%q: tensor<?x8x?x16xf32>, %k: tensor<?x8x?x16xf32>, %v: tensor<?x8x?x16xf32>)
    -> tensor<?x8x?x16xf32> {
  %o = attn.attend %q segment(%k, %v)
    : tensor<?x8x?x16xf32> segment(tensor<?x8x?x16xf32>, tensor<?x8x?x16xf32>) -> tensor<?x8x?x16xf32>
  return %o : tensor<?x8x?x16xf32>
}

// -----

// A region's tanh becomes a polynomial: nothing is left to libdevice.
// CHECK: module attributes {heddle.gpu.kernels = [{columns = 16 : i64
// CHECK-NOT: math.tanh
func.func @softcap(%q: tensor<?x8x?x16xbf16>, %k: tensor<?x8x?x16xbf16>, %v: tensor<?x8x?x16xbf16>)
    -> tensor<?x8x?x16xbf16> {
  %o = attn.attend %q segment(%k, %v) score(%s, %b, %h, %i, %j) {
        %t = math.tanh %s : f32
        attn.yield %t : f32
      }
    : tensor<?x8x?x16xbf16> segment(tensor<?x8x?x16xbf16>, tensor<?x8x?x16xbf16>) -> tensor<?x8x?x16xbf16>
  return %o : tensor<?x8x?x16xbf16>
}

// -----

// A dot with relative rows: 8 products with 64 keys, and 10 with the 80 distances of a warp, of which each pair reads its
// place. Where the distances are too many, multiply-adds, pair by pair.
// CHECK: {{^}}// -----
// CHECK: llvm.func @heddle_gpu_0
// CHECK: scf.for
// CHECK-COUNT-8: nvvm.mma.sync
// CHECK: scf.if
// CHECK-COUNT-10: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
// CHECK: nvvm.bar.warp.sync
// CHECK: } else {
// CHECK: math.fma
// CHECK-COUNT-8: nvvm.mma.sync
func.func @relative(%q: tensor<?x8x?x16xbf16>, %k: tensor<?x8x?x16xbf16>, %v: tensor<?x8x?x16xbf16>,
                    %r: tensor<1x8x?x16xbf16>) -> tensor<?x8x?x16xbf16> {
  %o = attn.attend %q segment(%k, %v) where(causal) dots(%q, %k; %q, %r[i - j]) q_offset(0)
    : tensor<?x8x?x16xbf16> segment(tensor<?x8x?x16xbf16>, tensor<?x8x?x16xbf16>) operands(tensor<1x8x?x16xbf16>)
      -> tensor<?x8x?x16xbf16>
  return %o : tensor<?x8x?x16xbf16>
}
