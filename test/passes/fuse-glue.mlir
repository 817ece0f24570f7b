// Elementwise glue goes into the steps of the ops that read it.
// RUN: heddle-opt %s --attn-program --split-input-file --verify-diagnostics | FileCheck %s
// RUN: heddle-opt %s --attn-fuse-glue --split-input-file | FileCheck %s --check-prefix=FUSE

#id = affine_map<(b, h, n, d) -> (b, h, n, d)>
#row = affine_map<(b, h, n, d) -> (b, h, 0, d)>

// What two ops read is computed in both, and projects by the same weights that share a tensor are one step. What a
// reader repeats along the rows, and takes a division, is computed once.
// CHECK: func.func private @totals(
// CHECK: module @step0 attributes {heddle.inputs = array<i64: 2, 0, 1>, heddle.outputs = array<i64: 3, 4>}
// CHECK: math.exp
// CHECK: arith.mulf
// CHECK: attn.project
// CHECK-NEXT: attn.project
// CHECK: module @step1 attributes {heddle.inputs = array<i64: 3, 4>, heddle.outputs = array<i64: 5>}
// CHECK: arith.divf
// CHECK: module @step2 attributes {heddle.inputs = array<i64: 5, 0>, heddle.outputs = array<i64: 6>}
// CHECK-NOT: module @step3
func.func @totals(%k: tensor<?x?x?x64xf32>, %v: tensor<?x?x?x64xf32>, %w: tensor<?x2xf32>) -> tensor<?x?x?x64xf32> {
  %e = math.exp %k : tensor<?x?x?x64xf32>
  %ev = arith.mulf %e, %v : tensor<?x?x?x64xf32>
  %a = attn.project %ev, %w : tensor<?x?x?x64xf32>, tensor<?x2xf32> -> tensor<?x?x2x64xf32>
  %b = attn.project %e, %w : tensor<?x?x?x64xf32>, tensor<?x2xf32> -> tensor<?x?x2x64xf32>
  // expected-remark @below {{a kernel of its own: other glue reads an element of it at several places; 12 bytes and about 2.5 cycles an element}}
  %r = arith.divf %a, %b : tensor<?x?x2x64xf32>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %B = tensor.dim %k, %c0 : tensor<?x?x?x64xf32>
  %H = tensor.dim %k, %c1 : tensor<?x?x?x64xf32>
  %N = tensor.dim %k, %c2 : tensor<?x?x?x64xf32>
  %init = tensor.empty(%B, %H, %N) : tensor<?x?x?x64xf32>
  // expected-remark @below {{a kernel of its own: the spec returns it; 8 bytes and about 1.5 cycles an element}}
  %y = linalg.generic {indexing_maps = [#row, #id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%r, %k : tensor<?x?x2x64xf32>, tensor<?x?x?x64xf32>) outs(%init : tensor<?x?x?x64xf32>) {
  ^bb0(%s: f32, %t: f32, %old: f32):
    %p = arith.mulf %s, %t : f32
    linalg.yield %p : f32
  } -> tensor<?x?x?x64xf32>
  return %y : tensor<?x?x?x64xf32>
}

// -----

// Nothing is computed where it would take longer: a function of math that the product would repeat; nor what is
// returned, or read by an op that cannot.
// CHECK: func.func private @kept(
// CHECK: module @step0
// CHECK: math.tanh
// CHECK-NOT: attn
// CHECK: module @step1
// CHECK: attn.project
// CHECK: module @step2
// CHECK: arith.mulf
// CHECK: module @step3
// CHECK: attn.attend
// CHECK: module @step4
// CHECK: arith.addf
// CHECK: module @step5
// CHECK: attn.pool
func.func @kept(%k: tensor<?x?x?x64xf32>, %v: tensor<?x?x?x64xf32>, %w: tensor<?x600xf32>) -> (tensor<?x?x600x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>) {
  // expected-remark @below {{a kernel of its own: its readers would compute an element 5 times; 8 bytes and about 3.2 cycles an element}}
  %e = math.tanh %k : tensor<?x?x?x64xf32>
  %p = attn.project %e, %w : tensor<?x?x?x64xf32>, tensor<?x600xf32> -> tensor<?x?x600x64xf32>
  // expected-remark @below {{a kernel of its own: attn.attend reads it, whose kernel computes no glue of this operand; 12 bytes and about 1.9 cycles an element}}
  %s = arith.mulf %k, %v : tensor<?x?x?x64xf32>
  %o = attn.attend %s segment(%k, %v) : tensor<?x?x?x64xf32> segment(tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>) -> tensor<?x?x?x64xf32>
  // expected-remark @below {{a kernel of its own: the spec returns it; 12 bytes and about 1.9 cycles an element}}
  %m = arith.addf %k, %v : tensor<?x?x?x64xf32>
  %q = attn.pool max %m size(4) partial : tensor<?x?x?x64xf32> -> tensor<?x?x?x64xf32>
  return %p, %o, %m, %q : tensor<?x?x600x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>
}

// -----

#id = affine_map<(n, d) -> (n, d)>
#row = affine_map<(n, d) -> (0, d)>

// A product goes into the sum that reads it, a root of what is repeated does not.
// FUSE-LABEL: func.func @into_glue(
// FUSE: linalg.generic
// FUSE: math.sqrt
// FUSE-NEXT: linalg.yield
// FUSE: linalg.generic
// FUSE: arith.mulf
// FUSE-NEXT: arith.addf
// FUSE-NEXT: linalg.yield
// FUSE-NOT: linalg.generic
// FUSE: return
func.func @into_glue(%x: tensor<?x64xf32>, %r: tensor<1x64xf32>) -> tensor<?x64xf32> {
  // expected-remark @below {{a kernel of its own: other glue reads an element of it at several places; 8 bytes and about 2 cycles an element}}
  %p = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%r : tensor<1x64xf32>) outs(%r : tensor<1x64xf32>) {
  ^bb0(%a: f32, %old: f32):
    %t = math.sqrt %a : f32
    linalg.yield %t : f32
  } -> tensor<1x64xf32>
  %s = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x64xf32>) outs(%x : tensor<?x64xf32>) {
  ^bb0(%a: f32, %old: f32):
    %t = arith.mulf %a, %a : f32
    linalg.yield %t : f32
  } -> tensor<?x64xf32>
  // expected-remark @below {{a kernel of its own: the spec returns it; 8 bytes and about 1.6 cycles an element}}
  %y = linalg.generic {indexing_maps = [#id, #row, #id], iterator_types = ["parallel", "parallel"]}
      ins(%s, %p : tensor<?x64xf32>, tensor<1x64xf32>) outs(%x : tensor<?x64xf32>) {
  ^bb0(%a: f32, %b: f32, %old: f32):
    %t = arith.addf %a, %b : f32
    linalg.yield %t : f32
  } -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// One row of y, and one window, are summed in parts where the sequence may be long.
// CHECK: func.func private @long(
// CHECK: module @step0
// CHECK: attn.project {{.*}} {heddle.part = 1024 : i64} : {{.*}} -> tensor<?x?x?x64xf32>
// CHECK: module @step1
// CHECK: attn.pool sum {{.*}} size(536870912) partial : tensor<?x?x?x64xf32> -> tensor<?x?x1x64xf32>
// CHECK: module @step2
// CHECK: attn.pool max {{.*}} size(1024) partial : tensor<?x?x?x64xf16> -> tensor<?x?x?x64xf16>
// CHECK: module @step3
// CHECK: attn.pool max {{.*}} size(4) partial
// CHECK: module @step4
// CHECK: attn.pool mean {{.*}} size(4096) partial
// CHECK-NOT: module @step5
func.func @long(%k: tensor<?x?x?x64xf32>, %h: tensor<?x?x?x64xf16>, %w: tensor<?x1xf32>) -> (tensor<?x?x1x64xf32>, tensor<?x?x?x64xf16>, tensor<?x?x?x64xf16>) {
  %p = attn.project %k, %w : tensor<?x?x?x64xf32>, tensor<?x1xf32> -> tensor<?x?x1x64xf32>
  %q = attn.pool max %h size(4096) partial : tensor<?x?x?x64xf16> -> tensor<?x?x?x64xf16>
  %r = attn.pool mean %h size(4096) partial : tensor<?x?x?x64xf16> -> tensor<?x?x?x64xf16>
  return %p, %q, %r : tensor<?x?x1x64xf32>, tensor<?x?x?x64xf16>, tensor<?x?x?x64xf16>
}
