// RUN: heddle-opt %s --canonicalize | FileCheck %s

!t = tensor<?x1x?x8xf32>

// Two spellings of one set become one pattern.
// CHECK-LABEL: func.func @spellings
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) where([[P:.*]]){{$}}
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) where([[P]]){{$}}
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) where([[P]]){{$}}
// CHECK: attn.attend %arg0 segment(%arg1, %arg2){{$}}
func.func @spellings(%q: !t, %k: !t, %v: !t) -> (!t, !t, !t, !t) {
  %0 = attn.attend %q segment(%k, %v) where(window(63, 0)) : !t segment(!t, !t) -> !t
  %1 = attn.attend %q segment(%k, %v) where(causal & window(63, 63)) : !t segment(!t, !t) -> !t
  %2 = attn.attend %q segment(%k, %v) where(causal - ~window(63, 5)) : !t segment(!t, !t) -> !t
  %3 = attn.attend %q segment(%k, %v) where(causal | ~causal) : !t segment(!t, !t) -> !t
  return %0, %1, %2, %3 : !t, !t, !t, !t
}

// Constant offsets and scales become attributes.
// CHECK-LABEL: func.func @constants
// CHECK-NOT: arith.constant
// CHECK: attn.attend %arg0 scale(0.5) segment(%arg1, %arg2) k_offset(5) scale(2)
// CHECK-NEXT: segment(%arg1, %arg2) k_offset(%arg3) q_offset(7)
// CHECK-NEXT: operands(index) ->
func.func @constants(%q: !t, %k: !t, %v: !t, %n: index) -> !t {
  %c5 = arith.constant 5 : index
  %c7 = arith.constant 7 : index
  %half = arith.constant 0.5 : f32
  %two = arith.constant 2.0 : f32
  %0 = attn.attend %q scale(%half) segment(%k, %v) k_offset(%c5) scale(%two) segment(%k, %v) k_offset(%n) q_offset(%c7)
    : !t segment(!t, !t) segment(!t, !t) operands(f32, index, f32, index, index) -> !t
  return %0 : !t
}

// An operand that no pattern reads any more, and a capture that no region reads, are dropped.
// CHECK-LABEL: func.func @unread
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) where(same(%arg4, %arg4)){{$}}
// CHECK-NEXT: operands(tensor<?x?xi32>) ->
func.func @unread(%q: !t, %k: !t, %v: !t, %a: tensor<?x?xi32>, %b: tensor<?x?xi32>, %c: tensor<?xf32>) -> !t {
  %0 = attn.attend %q segment(%k, %v) where(same(%a, %a) & ~full | same(%b, %b)) captures(%c)
    : !t segment(!t, !t) operands(tensor<?x?xi32>, tensor<?x?xi32>, tensor<?xf32>) -> !t
  return %0 : !t
}

// Constants of score code stay inside; code is folded there.
// CHECK-LABEL: func.func @inside
// CHECK-NEXT: attn.attend
// CHECK-SAME: score(%s, %b, %h, %i, %j) {
// CHECK-NEXT: %[[C:.*]] = arith.constant 6.0
// CHECK-NEXT: %[[R:.*]] = arith.addf %s, %[[C]]
// CHECK-NEXT: attn.yield %[[R]]
func.func @inside(%q: !t, %k: !t, %v: !t) -> !t {
  %0 = attn.attend %q segment(%k, %v) score(%s, %b, %h, %i, %j) {
    %two = arith.constant 2.0 : f32
    %three = arith.constant 3.0 : f32
    %six = arith.mulf %two, %three : f32
    %r = arith.addf %s, %six : f32
    attn.yield %r : f32
  } : !t segment(!t, !t) -> !t
  return %0 : !t
}

// An attend whose results nobody uses goes away.
// CHECK-LABEL: func.func @dead
// CHECK-NEXT: return
func.func @dead(%q: !t, %k: !t, %v: !t) {
  %0 = attn.attend %q segment(%k, %v) : !t segment(!t, !t) -> !t
  return
}
