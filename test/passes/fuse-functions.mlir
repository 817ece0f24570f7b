// RUN: heddle-opt %s --attn-fuse-functions | FileCheck %s

// The inner functions are the same, and with them their callers; one constant makes another function.
// CHECK: func.func private @inner_0
// CHECK-NOT: @inner_1
// CHECK: func.func private @outer_0
// CHECK: call @inner_0
// CHECK-NOT: @outer_1
// CHECK: func.func private @other
// CHECK: func.func @task
// CHECK: call @outer_0
// CHECK: call @outer_0
// CHECK: call @other
func.func private @inner_0(%x: i64) -> i64 {
  %c = arith.constant 3 : i64
  %y = arith.addi %x, %c : i64
  return %y : i64
}
func.func private @inner_1(%x: i64) -> i64 {
  %c = arith.constant 3 : i64
  %y = arith.addi %x, %c : i64
  return %y : i64
}
func.func private @outer_0(%x: i64) -> i64 {
  %y = call @inner_0(%x) : (i64) -> i64
  return %y : i64
}
func.func private @outer_1(%x: i64) -> i64 {
  %y = call @inner_1(%x) : (i64) -> i64
  return %y : i64
}
func.func private @other(%x: i64) -> i64 {
  %c = arith.constant 4 : i64
  %y = arith.addi %x, %c : i64
  return %y : i64
}
func.func @task(%x: i64) -> i64 {
  %a = call @outer_0(%x) : (i64) -> i64
  %b = call @outer_1(%a) : (i64) -> i64
  %c = call @other(%b) : (i64) -> i64
  return %c : i64
}
