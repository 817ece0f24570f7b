// A spec of several ops becomes a module for each; one attend stays as it is.
// RUN: heddle-opt %s --attn-split-program --split-input-file --verify-diagnostics | FileCheck %s

// CHECK: module attributes {heddle.results = array<i64: 5>}
// CHECK: func.func private @pooled(
// CHECK: module @step0 attributes {heddle.inputs = array<i64: 1>, heddle.outputs = array<i64: 3>}
// CHECK-NEXT: func.func @pooled(%[[X:.*]]: tensor<?x8x?x64xf32> {heddle.name = "argument 1"})
// CHECK-NEXT: attn.pool mean %[[X]] size(64)
// CHECK: module @step1 attributes {heddle.inputs = array<i64: 2>, heddle.outputs = array<i64: 4>}
// CHECK: module @step2 attributes {heddle.inputs = array<i64: 0, 3, 4>, heddle.outputs = array<i64: 5>}
// CHECK: {heddle.name = "the result of attn.pool"}
// CHECK: attn.attend
func.func @pooled(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %s = attn.pool mean %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %t = attn.pool mean %v size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %o = attn.attend %q segment(%s, %t) : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// CHECK-LABEL: func.func @one(
// CHECK-NEXT: attn.attend
// CHECK-NOT: module @step
func.func @one(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

func.func @argument(%k: tensor<?x8x?x64xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) {
  %s = attn.pool mean %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // expected-error@+1 {{expected to return tensors that ops compute, but got an argument}}
  return %s, %k : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>
}

// -----

func.func @twice(%k: tensor<?x8x?x64xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) {
  %s = attn.pool mean %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // expected-error@+1 {{expected to return each tensor once, but got one twice}}
  return %s, %s : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>
}

// -----

func.func @other(%k: tensor<?x8x?x64xf32>, %n: index) -> tensor<?x8x?x64xf32> {
  // expected-error@+1 {{expected an op of the attn dialect or an elementwise op on tensors in a spec, but got this one}}
  %c = tensor.collapse_shape %k [[0, 1], [2], [3]] : tensor<?x8x?x64xf32> into tensor<?x?x64xf32>
  %s = attn.pool mean %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  return %s : tensor<?x8x?x64xf32>
}

// -----

// What says how large the result of glue is needs no step, nor does a constant.
// CHECK: func.func private @glue(
// CHECK: module @step0 attributes {heddle.inputs = array<i64: 0, 1>, heddle.outputs = array<i64: 2>}
// CHECK: tensor.empty
// CHECK: linalg.generic
// CHECK-NOT: module @step1
func.func @glue(%x: tensor<?x?xf32>, %a: f32) -> tensor<?x?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = tensor.dim %x, %c0 : tensor<?x?xf32>
  %n = tensor.dim %x, %c1 : tensor<?x?xf32>
  %e = tensor.empty(%m, %n) : tensor<?x?xf32>
  // expected-remark @below {{a kernel of its own: the spec returns it; 8 bytes and about 1.4 cycles an element}}
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%s: f32, %old: f32):
    %t = arith.mulf %s, %a : f32
    linalg.yield %t : f32
  } -> tensor<?x?xf32>
  return %y : tensor<?x?xf32>
}

// -----

// A constant that a score and what stands before it share (after CSE): the score has its own.
// CHECK: module @step1
// CHECK: func.func @shared(
// CHECK-NEXT: attn.attend
// CHECK: arith.constant 2 : index
func.func @shared(%x: tensor<?x8x?x64xf32>, %n: tensor<?x?xi64>) -> tensor<?x8x?x64xf32> {
  %c2 = arith.constant 2 : index
  %s = attn.pool mean %x size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %o = attn.attend %x segment(%s, %s) score(%t, %b, %h, %i, %j) {
      %w = arith.muli %j, %c2 : index
      %y = arith.index_cast %w : index to i64
      %z = arith.sitofp %y : i64 to f32
      attn.yield %z : f32
    } : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// Rows that an attend alone reads are read through their list, one that the pattern has too; each gather has an argument
// of its own.
// CHECK: module @step0 attributes {heddle.inputs = array<i64: 0, 0, 1, 2>, heddle.outputs = array<i64: 3>}
// CHECK-NEXT: func.func @listed(%[[Q:.*]]: tensor<?x8x64x64xf32> {heddle.name = "argument 0", heddle.rows = 3 : i64}, %[[K:.*]]: tensor<?x8x64x64xf32> {heddle.name = "argument 0", heddle.rows = 2 : i64}, %[[A:.*]]: tensor<?x64xi32> {heddle.name = "argument 1"}, %[[B:.*]]: tensor<?x64xi32> {heddle.name = "argument 2"})
// CHECK-NEXT: attn.attend %[[Q]] segment(%[[K]], %[[K]]) where(block(16) & positions(%[[A]], %[[A]], causal))
// CHECK-NOT: module @step1
// CHECK: func.func private @merged(
func.func @listed(%x: tensor<?x8x?x64xf32>, %a: tensor<?x64xi32>, %b: tensor<?x64xi32>) -> tensor<?x8x64x64xf32> {
  %q = attn.gather_rows %x[%b] : tensor<?x8x?x64xf32>, tensor<?x64xi32> -> tensor<?x8x64x64xf32>
  %k = attn.gather_rows %x[%a] : tensor<?x8x?x64xf32>, tensor<?x64xi32> -> tensor<?x8x64x64xf32>
  %o = attn.attend %q segment(%k, %k) where(block(16) & positions(%a, %a, causal))
    : tensor<?x8x64x64xf32> segment(tensor<?x8x64x64xf32>, tensor<?x8x64x64xf32>) operands(tensor<?x64xi32>) -> tensor<?x8x64x64xf32>
  return %o : tensor<?x8x64x64xf32>
}

// -----

// So are rows and their logarithms that a merge alone reads.
// CHECK: module @step0 attributes {heddle.inputs = array<i64: 0, 2, 1, 3, 4>, heddle.outputs = array<i64: 5, 6>}
// CHECK-NEXT: func.func @merged({{.*}} {heddle.name = "argument 0", heddle.rows = 4 : i64}, {{.*}}, {{.*}} {heddle.name = "argument 1", heddle.rows = 4 : i64}, {{.*}})
// CHECK-NOT: module @step1
// CHECK: func.func private @copied(
func.func @merged(%x: tensor<?x8x?x64xf32>, %s: tensor<?x8x?xf32>, %y: tensor<?x8x?x64xf32>, %t: tensor<?x8x?xf32>, %a: tensor<?x?xi32>)
    -> tensor<?x8x?x64xf32> {
  %p = attn.gather_rows %x[%a] : tensor<?x8x?x64xf32>, tensor<?x?xi32> -> tensor<?x8x?x64xf32>
  %l = attn.gather_rows %s[%a] : tensor<?x8x?xf32>, tensor<?x?xi32> -> tensor<?x8x?xf32>
  %o, %z = attn.merge %p, %y lse(%l, %t) : (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?xf32>, tensor<?x8x?xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?xf32>)
  return %o : tensor<?x8x?x64xf32>
}

// -----

// CHECK: module @step2
func.func @copied(%x: tensor<?x8x?x64xf32>, %y: tensor<?x8x?x64xf32>, %a: tensor<?x?xi32>, %l: tensor<?x?x?x4xi32>)
    -> (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) {
  // expected-remark @below {{rows copied by a kernel of their own: func.return reads them too}}
  %q = attn.gather_rows %x[%a] : tensor<?x8x?x64xf32>, tensor<?x?xi32> -> tensor<?x8x?x64xf32>
  // expected-remark @below {{rows copied by a kernel of their own: queries that are taken one at a time read keys in order}}
  %k = attn.gather_rows %y[%a] : tensor<?x8x?x64xf32>, tensor<?x?xi32> -> tensor<?x8x?x64xf32>
  %o = attn.attend %q segment(%k, %k) where(listed(%l))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(tensor<?x?x?x4xi32>) -> tensor<?x8x?x64xf32>
  return %o, %q : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>
}
