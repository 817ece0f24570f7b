// Round trip of the ops on whole tensors, in their own form and in the generic one.
// RUN: heddle-opt %s | FileCheck %s
// RUN: heddle-opt %s --mlir-print-op-generic | heddle-opt | FileCheck %s

// CHECK-LABEL: func.func @summaries
func.func @summaries(%k: tensor<?x8x?x64xf32>, %w: tensor<8x3x64x64xf32>, %d: tensor<1x3x64xf32>, %b: tensor<8x64xf32>,
                     %e: tensor<?x256xf32>) {
  // CHECK: attn.pool max %{{.*}} size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %0 = attn.pool max %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.pool mean %{{.*}} size(4) stride(2) offset(-1) partial : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %1 = attn.pool mean %k size(4) stride(2) offset(-1) partial : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.scan max %{{.*}} stride(64) exclusive : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %6 = attn.scan max %k stride(64) exclusive : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.scan mean %{{.*}} block(16) reverse : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %7 = attn.scan mean %k block(16) reverse : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.convolve %{{.*}}, %{{.*}} bias(%{{.*}}) : tensor<?x8x?x64xf32>, tensor<8x3x64x64xf32> bias(tensor<8x64xf32>) -> tensor<?x8x?x64xf32>
  %2 = attn.convolve %k, %w bias(%b) : tensor<?x8x?x64xf32>, tensor<8x3x64x64xf32> bias(tensor<8x64xf32>) -> tensor<?x8x?x64xf32>
  // CHECK: attn.convolve %{{.*}}, %{{.*}} stride(1) offset(-2) partial : tensor<?x8x?x64xf32>, tensor<1x3x64xf32> -> tensor<?x8x?x64xf32>
  %3 = attn.convolve %k, %d stride(1) offset(-2) partial : tensor<?x8x?x64xf32>, tensor<1x3x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.project %{{.*}}, %{{.*}} : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x256x64xf32>
  %4 = attn.project %k, %e : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x256x64xf32>
  // CHECK: attn.project %{{.*}}, %{{.*}} block(16) : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x4096x64xf32>
  %5 = attn.project %k, %e block(16) : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x4096x64xf32>
  return
}

// CHECK-LABEL: func.func @linear
func.func @linear(%q: tensor<?x8x?x64xf32>, %k: tensor<?x2x?x64xf32>, %g: tensor<?x2x?xf32>, %s: tensor<?x2x64x64xf32>,
                  %z: tensor<?x2x64xf32>) {
  // CHECK: attn.linear_attend %{{.*}}, %{{.*}}, %{{.*}} : (tensor<?x8x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>) -> tensor<?x8x?x64xf32>
  %0 = attn.linear_attend %q, %k, %k : (tensor<?x8x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>) -> tensor<?x8x?x64xf32>
  // CHECK: attn.linear_attend %{{.*}}, %{{.*}}, %{{.*}} causal decay(%{{.*}}) state(%{{.*}}, %{{.*}}) eps(9.9999999999999995E-7) feature {
  // CHECK-NEXT: ^bb0(%[[X:.*]]: f32):
  // CHECK-NEXT: %[[Y:.*]] = math.exp %[[X]] : f32
  // CHECK-NEXT: attn.yield %[[Y]] : f32
  %1:3 = attn.linear_attend %q, %k, %k causal decay(%g) state(%s, %z) eps(1.0e-6) feature {
  ^bb0(%x: f32):
    %y = math.exp %x : f32
    attn.yield %y : f32
  } : (tensor<?x8x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?xf32>, tensor<?x2x64x64xf32>, tensor<?x2x64xf32>)
    -> (tensor<?x8x?x64xf32>, tensor<?x2x64x64xf32>, tensor<?x2x64xf32>)
  // CHECK: causal state(%{{.*}}) normalizer(none) : (
  %2:2 = attn.linear_attend %q, %k, %k causal state(%s) normalizer(none)
    : (tensor<?x8x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>, tensor<?x2x64x64xf32>)
    -> (tensor<?x8x?x64xf32>, tensor<?x2x64x64xf32>)
  return
}

// CHECK-LABEL: func.func @rows
func.func @rows(%q: tensor<?x8x?x64xf32>, %l: tensor<?x8x?xf32>, %i: tensor<?x8x?xi32>) {
  // CHECK: attn.group %{{.*}} groups(64) : tensor<?x8x?xi32> -> tensor<?x8x?xi32>, tensor<?x8x65xi32>
  %p, %o = attn.group %i groups(64) : tensor<?x8x?xi32> -> tensor<?x8x?xi32>, tensor<?x8x65xi32>
  // CHECK: attn.gather_rows %{{.*}}[%{{.*}}] : tensor<?x8x?x64xf32>, tensor<?x8x?xi32> -> tensor<?x8x?x64xf32>
  %g = attn.gather_rows %q[%p] : tensor<?x8x?x64xf32>, tensor<?x8x?xi32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.scatter_rows overwrite %{{.*}}[%{{.*}}] into %{{.*}} : tensor<?x8x?x64xf32>, tensor<?x8x?xi32>, tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  %s = attn.scatter_rows overwrite %g[%p] into %q : tensor<?x8x?x64xf32>, tensor<?x8x?xi32>, tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.scatter_rows mean %{{.*}}[%{{.*}}] into %{{.*}} eps(1.000000e-02) zeros :
  %m = attn.scatter_rows mean %g[%p] into %q eps(0.01) zeros : tensor<?x8x?x64xf32>, tensor<?x8x?xi32>, tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
  // CHECK: attn.merge %{{.*}}, %{{.*}} lse(%{{.*}}, %{{.*}}) : (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?xf32>, tensor<?x8x?xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?xf32>)
  %x, %y = attn.merge %q, %g lse(%l, %l) : (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?xf32>, tensor<?x8x?xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?xf32>)
  return
}
