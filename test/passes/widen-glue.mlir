// RUN: heddle-opt --attn-widen-glue --split-input-file %s | FileCheck %s

#id = affine_map<(n, d) -> (n, d)>

// What glue reads of glue is f32, what is returned is rounded from it; extf and truncf at the seams go.
// CHECK-LABEL: func.func @returned(
// CHECK: %[[W:.*]] = linalg.generic {{.*}} ins(%arg0 : tensor<?x8xbf16>) outs(%{{.*}} : tensor<?x8xf32>) {
// CHECK: %[[E:.*]] = math.exp
// CHECK: linalg.yield %[[E]] : f32
// CHECK: %[[Y:.*]] = linalg.generic {{.*}} ins(%[[W]] : tensor<?x8xf32>) outs(%{{.*}} : tensor<?x8xbf16>) {
// CHECK-NEXT: ^bb0(%[[A:.*]]: f32, %{{.*}}: bf16):
// CHECK-NEXT: %[[T:.*]] = arith.truncf %[[A]] : f32 to bf16
// CHECK-NEXT: linalg.yield %[[T]] : bf16
// CHECK: %[[Z:.*]] = linalg.generic {{.*}} ins(%[[W]] : tensor<?x8xf32>) outs(%{{.*}} : tensor<?x8xbf16>) {
// CHECK-NEXT: ^bb0(%[[B:.*]]: f32, %{{.*}}: bf16):
// CHECK-NEXT: arith.mulf %[[B]], %[[B]] : f32
// CHECK: return %[[Y]], %[[Z]]
func.func @returned(%x: tensor<?x8xbf16>) -> (tensor<?x8xbf16>, tensor<?x8xbf16>) {
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x8xbf16>) outs(%x : tensor<?x8xbf16>) {
  ^bb0(%a: bf16, %old: bf16):
    %f = arith.extf %a : bf16 to f32
    %e = math.exp %f : f32
    %r = arith.truncf %e : f32 to bf16
    linalg.yield %r : bf16
  } -> tensor<?x8xbf16>
  %z = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%y : tensor<?x8xbf16>) outs(%x : tensor<?x8xbf16>) {
  ^bb0(%a: bf16, %old: bf16):
    %f = arith.extf %a : bf16 to f32
    %p = arith.mulf %f, %f : f32
    %r = arith.truncf %p : f32 to bf16
    linalg.yield %r : bf16
  } -> tensor<?x8xbf16>
  return %y, %z : tensor<?x8xbf16>, tensor<?x8xbf16>
}

// -----

#id = affine_map<(n, d) -> (n, d)>

// Arithmetic in the storage type is f32 too; a cast of sizes hides nothing; what nothing but glue reads is not rounded.
// CHECK-LABEL: func.func @cast(
// CHECK: %[[W:.*]] = linalg.generic {{.*}} ins(%arg0 : tensor<?x8xf16>) outs(%{{.*}} : tensor<?x8xf32>)
// CHECK-NOT: linalg.generic
// CHECK: %[[C:.*]] = tensor.cast %[[W]] : tensor<?x8xf32> to tensor<4x8xf32>
// CHECK: linalg.generic {{.*}} ins(%[[C]] : tensor<4x8xf32>) {{.*}} {
// CHECK-NEXT: ^bb0(%[[B:.*]]: f32, %{{.*}}: f16):
// CHECK-NEXT: %[[N:.*]] = arith.truncf %[[B]] : f32 to f16
// CHECK-NEXT: arith.mulf %[[N]], %[[N]] : f16
func.func @cast(%x: tensor<?x8xf16>, %like: tensor<4x8xf16>) -> tensor<4x8xf16> {
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x8xf16>) outs(%x : tensor<?x8xf16>) {
  ^bb0(%a: f16, %old: f16):
    %p = arith.addf %a, %a : f16
    linalg.yield %p : f16
  } -> tensor<?x8xf16>
  %c = tensor.cast %y : tensor<?x8xf16> to tensor<4x8xf16>
  %z = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%c : tensor<4x8xf16>) outs(%like : tensor<4x8xf16>) {
  ^bb0(%a: f16, %old: f16):
    %p = arith.mulf %a, %a : f16
    linalg.yield %p : f16
  } -> tensor<4x8xf16>
  return %z : tensor<4x8xf16>
}

// -----

#id = affine_map<(b, h, n, d) -> (b, h, n, d)>

// Declined: f32, and what no glue reads.
// CHECK-LABEL: func.func @stays(
// CHECK: %[[Y:.*]] = linalg.generic {{.*}} ins(%arg0 : tensor<?x?x?x8xbf16>) outs(%arg0 : tensor<?x?x?x8xbf16>)
// CHECK: attn.pool max %[[Y]]
// CHECK-NOT: truncf
func.func @stays(%x: tensor<?x?x?x8xbf16>, %f: tensor<?x?x?x8xf32>) -> (tensor<?x?x?x8xbf16>, tensor<?x?x?x8xf32>, tensor<?x?x?x8xf32>) {
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%x : tensor<?x?x?x8xbf16>) outs(%x : tensor<?x?x?x8xbf16>) {
  ^bb0(%a: bf16, %old: bf16):
    %p = arith.addf %a, %a : bf16
    linalg.yield %p : bf16
  } -> tensor<?x?x?x8xbf16>
  %q = attn.pool max %y size(4) partial : tensor<?x?x?x8xbf16> -> tensor<?x?x?x8xbf16>
  %g = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%f : tensor<?x?x?x8xf32>) outs(%f : tensor<?x?x?x8xf32>) {
  ^bb0(%a: f32, %old: f32):
    %p = arith.addf %a, %a : f32
    linalg.yield %p : f32
  } -> tensor<?x?x?x8xf32>
  %h = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
      ins(%g : tensor<?x?x?x8xf32>) outs(%f : tensor<?x?x?x8xf32>) {
  ^bb0(%a: f32, %old: f32):
    %p = arith.mulf %a, %a : f32
    linalg.yield %p : f32
  } -> tensor<?x?x?x8xf32>
  return %q, %g, %h : tensor<?x?x?x8xbf16>, tensor<?x?x?x8xf32>, tensor<?x?x?x8xf32>
}
