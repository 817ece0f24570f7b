// A step becomes a task and a description of its launch; an attend is left alone.
// RUN: heddle-opt %s --attn-lower-ops --split-input-file --verify-diagnostics | FileCheck %s
// RUN: heddle-opt %s --attn-lower-ops=width=8 --split-input-file --verify-diagnostics | FileCheck %s --check-prefix=NARROW

// CHECK: #[[SIZES:.*]] = affine_map<()[s0, s1, s2, s3] -> (s0, s1, s2 floordiv 64, s3)>
// CHECK: module attributes {heddle.launch = {checks = [], results = [#[[SIZES]]]
// CHECK-SAME: heddle.scratch_bytes = 0
// CHECK: func.func @heddle_task(%{{.*}}: !llvm.ptr, %{{.*}}: i64, %{{.*}}: !llvm.ptr)
// CHECK: arith.maximumf %{{.*}} : vector<16xf32>
// NARROW: arith.maximumf %{{.*}} : vector<8xf32>
func.func @pool(%k: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %s = attn.pool max %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  return %s : tensor<?x8x?x64xf32>
}

// -----

// Chains of one residue class of one block; the running value stays in registers.
// CHECK: heddle.launch = {checks = [], results = [#{{.*}}]
// CHECK: func.func @heddle_task
// CHECK: scf.for {{.*}} iter_args
// CHECK: arith.maximumf %{{.*}} : vector<16xf32>
// CHECK: llvm.store %{{.*}} : vector<16xf32>
func.func @scan(%k: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %s = attn.scan max %k stride(64) exclusive : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  return %s : tensor<?x8x?x64xf32>
}

// -----

// CHECK: heddle.launch = {checks = [{arg = 0 : i64, axis = 2 : i64, kind = "is"
// CHECK: func.func private @multiply(
// CHECK-COUNT-24: math.fma %{{.*}} : vector<16xf32>
// CHECK: func.func @heddle_task
func.func @project(%k: tensor<?x8x?x64xf32>, %e: tensor<?x256xf32>) -> tensor<?x8x256x64xf32> {
  %p = attn.project %k, %e : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x256x64xf32>
  return %p : tensor<?x8x256x64xf32>
}

// -----

// CHECK-LABEL: func.func @attend
// CHECK-NEXT: attn.attend
func.func @attend(%q: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%q, %q) : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// Glue computes on lanes, in f32 whatever the storage type.
// CHECK: func.func @heddle_task
// CHECK: arith.addf %{{.*}}, %{{.*}} : vector<16xf32>
func.func @glue(%x: tensor<?x?xbf16>, %y: tensor<?x?xbf16>) -> tensor<?x?xbf16> {
  %z = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, 0)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%x, %y : tensor<?x?xbf16>, tensor<?x?xbf16>) outs(%x : tensor<?x?xbf16>) {
  ^bb0(%a: bf16, %b: bf16, %old: bf16):
    %t = arith.addf %a, %b : bf16
    linalg.yield %t : bf16
  } -> tensor<?x?xbf16>
  return %z : tensor<?x?xbf16>
}

// -----

func.func @reduction(%x: tensor<?x?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  // expected-error@+1 {{expected elementwise glue, with parallel loops only, but got a reduction}}
  %z = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>], iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<?x?xf32>) outs(%y : tensor<?xf32>) {
  ^bb0(%a: f32, %b: f32):
    %t = arith.addf %a, %b : f32
    linalg.yield %t : f32
  } -> tensor<?xf32>
  return %z : tensor<?xf32>
}

// -----

// Two tensors of bf16 are multiplied in pairs where the target can.
// CHECK: func.func private @multiply_pairs(
// CHECK-NOT: math.fma
// CHECK-COUNT-24: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"
// CHECK: func.func private @stage_pairs(
// NARROW-NOT: dpbf16ps
// NARROW: @stage_row_bf16
module attributes {heddle.bf16} {
  func.func @pairs(%k: tensor<?x8x?x64xbf16>, %e: tensor<?x256xbf16>) -> tensor<?x8x256x64xbf16> {
    %p = attn.project %k, %e : tensor<?x8x?x64xbf16>, tensor<?x256xbf16> -> tensor<?x8x256x64xbf16>
    return %p : tensor<?x8x256x64xbf16>
  }
}

// -----

// Glue that the op's kernel computes as it copies rows: its exponential by a table, on lanes, once for both products.
// CHECK: func.func @heddle_task
// CHECK: vpermi2var
// CHECK: arith.mulf
// CHECK: llvm.x86.avx512.mask.scalef.ps.512
// CHECK: call @multiply(
// CHECK: call @multiply(
// NARROW-NOT: vpermi2var
#id = affine_map<(b, h, n, d) -> (b, h, n, d)>
func.func @read(%w: tensor<?x2xf32>, %k: tensor<?x?x?x64xf32>, %v: tensor<?x?x?x64xf32>) -> (tensor<?x?x2x64xf32>, tensor<?x?x2x64xf32>) {
  %e = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%k : tensor<?x?x?x64xf32>) outs(%k : tensor<?x?x?x64xf32>) {
  ^bb0(%a: f32, %old: f32):
    %t = math.exp %a : f32
    linalg.yield %t : f32
  } -> tensor<?x?x?x64xf32>
  %ev = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%e, %v : tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>) outs(%k : tensor<?x?x?x64xf32>) {
  ^bb0(%a: f32, %b: f32, %old: f32):
    %t = arith.mulf %a, %b : f32
    linalg.yield %t : f32
  } -> tensor<?x?x?x64xf32>
  %x = attn.project %ev, %w : tensor<?x?x?x64xf32>, tensor<?x2xf32> -> tensor<?x?x2x64xf32>
  %y = attn.project %e, %w : tensor<?x?x?x64xf32>, tensor<?x2xf32> -> tensor<?x?x2x64xf32>
  return %x, %y : tensor<?x?x2x64xf32>, tensor<?x?x2x64xf32>
}
