// Round trips: custom text, and the generic form, give the same program.
// RUN: heddle-opt %s | heddle-opt | FileCheck %s
// RUN: heddle-opt %s > %t.custom
// RUN: heddle-opt %s --mlir-print-op-generic | heddle-opt | diff %t.custom -
// RUN: heddle-opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

// CHECK-LABEL: func.func @sparse
// CHECK: %[[OUT:.*]] = attn.attend %arg0 segment(%arg1, %arg2) where(causal & (window(63, 0) | stride(64)))
// CHECK-NEXT: : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
// CHECK-NEXT: return %[[OUT]]
// GENERIC-LABEL: sym_name = "sparse"
// GENERIC: "attn.attend"(%{{.*}}, %{{.*}}, %{{.*}}) <{dot_counts = array<i64: -1>, normalizer = 0 : i32,
// GENERIC-SAME: patterns = [#attn.pattern<causal & (window(63, 0) | stride(64))>]
func.func @sparse(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
    -> tensor<?x8x?x64xbf16> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(63, 0) | stride(64)))
     : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
  return %o : tensor<?x8x?x64xbf16>
}

// Without `where` every pair is live.
// CHECK-LABEL: func.func @full
// CHECK: attn.attend %arg0 segment(%arg1, %arg2){{$}}
func.func @full(%q: tensor<1x2x3x4xf16>, %k: tensor<1x1x5x4xf16>, %v: tensor<1x2x5x7xf16>) -> tensor<1x2x3x7xf16> {
  %o = attn.attend %q segment(%k, %v) where(full)
     : tensor<1x2x3x4xf16> segment(tensor<1x1x5x4xf16>, tensor<1x2x5x7xf16>) -> tensor<1x2x3x7xf16>
  return %o : tensor<1x2x3x7xf16>
}

// ALiBi within documents: a run-time pattern, a score region that loads, lse.
// CHECK-LABEL: func.func @alibi
// CHECK: %[[OUT:.*]], %[[LSE:.*]] = attn.attend %arg0 segment(%arg1, %arg2) where(causal & same(%arg3, %arg3)) score(%s, %b, %h, %i, %j) {
// CHECK-NEXT: %[[SLOPE:.*]] = attn.load %arg4[%h] : tensor<?xf32>
// CHECK: attn.yield %{{.*}} : f32
// CHECK-NEXT: } q_offset(end) captures(%arg4) lse{{$}}
// CHECK-NEXT: : tensor<?x8x?x64xf32> segment(tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>) operands(tensor<?x?xi32>, tensor<?xf32>) -> tensor<?x8x?x64xf32>, tensor<?x8x?xf32>
// CHECK-NEXT: return %[[OUT]], %[[LSE]]
func.func @alibi(%q: tensor<?x8x?x64xf32>, %k: tensor<?x2x?x64xf32>, %v: tensor<?x2x?x64xf32>,
                 %docs: tensor<?x?xi32>, %slopes: tensor<?xf32>) -> (tensor<?x8x?x64xf32>, tensor<?x8x?xf32>) {
  %o, %l = attn.attend %q
      segment(%k, %v) where(causal & same(%docs, %docs))
        score(%s, %b, %h, %i, %j) {
          %slope = attn.load %slopes[%h] : tensor<?xf32>
          %d = arith.subi %j, %i : index
          %n = arith.index_cast %d : index to i64
          %f = arith.sitofp %n : i64 to f32
          %bias = arith.mulf %slope, %f : f32
          %r = arith.addf %s, %bias : f32
          attn.yield %r : f32
        }
      q_offset(end) captures(%slopes) lse
    : tensor<?x8x?x64xf32> segment(tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>)
      operands(tensor<?x?xi32>, tensor<?xf32>)
      -> tensor<?x8x?x64xf32>, tensor<?x8x?xf32>
  return %o, %l : tensor<?x8x?x64xf32>, tensor<?x8x?xf32>
}

// The block form of a score region.
// CHECK-LABEL: func.func @softcap
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) where(causal) score(%s, %b, %h, %i, %j) {
// CHECK-NEXT: arith.constant
func.func @softcap(%q: tensor<?x?x?x64xf32>, %k: tensor<?x?x?x64xf32>, %v: tensor<?x?x?x64xf32>) -> tensor<?x?x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      %cap = arith.constant 50.0 : f32
      %x = arith.divf %s, %cap : f32
      %t = math.tanh %x : f32
      %r = arith.mulf %t, %cap : f32
      attn.yield %r : f32
    } : tensor<?x?x?x64xf32> segment(tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>) -> tensor<?x?x?x64xf32>
  return %o : tensor<?x?x?x64xf32>
}

// Everything that a segment may say, three segments, one normaliser.
// CHECK-LABEL: func.func @segments
// CHECK: attn.attend %arg0 scale(%arg10) segment(%arg1, %arg2) where(window(%arg7, 0)) k_offset(%arg8){{$}}
// CHECK-NEXT: segment(%arg3, %arg4) where(past_blocks(16) - keys([0])) k_offset(-3) scale(0.25) dots(%arg0, %arg3; %arg5, %arg6) score(%s, %s_0, %b, %h, %i, %j) {
// CHECK: attn.yield
// CHECK-NEXT: }
// CHECK-NEXT: segment(%arg1, %arg2) where(~causal & same(%arg13, %arg13)) scale(%arg9) dots() score(%b, %h, %i, %j) {
// CHECK: attn.yield %arg9 : f32
// CHECK-NEXT: } q_offset(%arg11) captures(%arg9) sink(%arg12){{$}}
// CHECK-NEXT: : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x16xf32>) segment(tensor<1x1x?x8xf32>, tensor<1x1x?x16xf32>) segment(tensor<?x4x?x8xf32>, tensor<?x4x?x16xf32>)
// CHECK-SAME: operands(f32, index, tensor<?xi64>, tensor<?x4x?x2xf32>, tensor<?x1x?x2xf32>, tensor<?x?xi64>, f32, index, tensor<?xf32>) -> tensor<?x4x?x16xf32>
func.func @segments(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x16xf32>,
                    %sk: tensor<1x1x?x8xf32>, %sv: tensor<1x1x?x16xf32>,
                    %q2: tensor<?x4x?x2xf32>, %k2: tensor<?x1x?x2xf32>,
                    %w: index, %ko: tensor<?xi64>, %s3: f32, %scale: f32, %qo: index, %sink: tensor<?xf32>,
                    %ids: tensor<?x?xi64>) -> tensor<?x4x?x16xf32> {
  %o = attn.attend %q scale(%scale)
      segment(%k, %v) where(window(%w, 0)) k_offset(%ko)
      segment(%sk, %sv) where(past_blocks(16) - keys([0])) k_offset(-3) scale(0.25) dots(%q, %sk; %q2, %k2)
        score(%s, %t, %b, %h, %i, %j) {
          %r = arith.addf %s, %t : f32
          attn.yield %r : f32
        }
      segment(%k, %v) where(~causal & same(%ids, %ids)) scale(%s3) dots()
        score(%b, %h, %i, %j) {
          attn.yield %s3 : f32
        }
      q_offset(%qo) captures(%s3) sink(%sink)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x16xf32>)
      segment(tensor<1x1x?x8xf32>, tensor<1x1x?x16xf32>) segment(tensor<?x4x?x8xf32>, tensor<?x4x?x16xf32>)
      operands(f32, index, tensor<?xi64>, tensor<?x4x?x2xf32>, tensor<?x1x?x2xf32>, tensor<?x?xi64>, f32, index, tensor<?xf32>)
      -> tensor<?x4x?x16xf32>
  return %o : tensor<?x4x?x16xf32>
}

// With one segment its scale is the op's. Numbers print as short as they read back.
// CHECK-LABEL: func.func @scale
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) scale(0.1){{$}}
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) scale(-3){{$}}
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) scale(1e-05) q_offset(5) normalizer(none){{$}}
// CHECK: attn.attend %arg0 segment(%arg1, %arg2) scale(%arg3) normalizer(sum){{$}}
// GENERIC-LABEL: sym_name = "scale"
// GENERIC: static_scale = 1.000000e-01 : f64
func.func @scale(%q: tensor<?x1x?x8xf32>, %k: tensor<?x1x?x8xf32>, %v: tensor<?x1x?x8xf32>, %s: f32) {
  %0 = attn.attend %q segment(%k, %v) scale(0.1)
    : tensor<?x1x?x8xf32> segment(tensor<?x1x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x1x?x8xf32>
  %1 = attn.attend %q segment(%k, %v) scale(-3)
    : tensor<?x1x?x8xf32> segment(tensor<?x1x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x1x?x8xf32>
  %2 = attn.attend %q q_offset(5) segment(%k, %v) normalizer(none) scale(1.0e-5)
    : tensor<?x1x?x8xf32> segment(tensor<?x1x?x8xf32>, tensor<?x1x?x8xf32>) -> tensor<?x1x?x8xf32>
  %3 = attn.attend %q segment(%k, %v) scale(%s) normalizer(sum)
    : tensor<?x1x?x8xf32> segment(tensor<?x1x?x8xf32>, tensor<?x1x?x8xf32>) operands(f32) -> tensor<?x1x?x8xf32>
  return
}

// Names with a number (%r#1), attributes of others, and `//` as a division.
// CHECK-LABEL: func.func @names
// CHECK: where(same(%[[R:.*]]#1, %[[R]]#0) & holds(b, h, i, j : ((i floordiv 4) == (j floordiv 4))))
// CHECK-SAME: {note = "kept"}
func.func @names(%q: tensor<?x1x?x8xf32>, %k: tensor<?x1x?x8xf32>, %v: tensor<?x1x?x8xf32>) -> tensor<?x1x?x8xf32> {
  %ids:2 = func.call @ids() : () -> (tensor<?x?xi32>, tensor<?x?xi32>)
  %o = attn.attend %q segment(%k, %v) where(same(%ids#1, %ids#0) & holds(b, h, i, j : i // 4 == j // 4)) {note = "kept"}
    : tensor<?x1x?x8xf32> segment(tensor<?x1x?x8xf32>, tensor<?x1x?x8xf32>)
      operands(tensor<?x?xi32>, tensor<?x?xi32>) -> tensor<?x1x?x8xf32>
  return %o : tensor<?x1x?x8xf32>
}
func.func private @ids() -> (tensor<?x?xi32>, tensor<?x?xi32>)

// CHECK-LABEL: func.func @relative_rows
// CHECK: attn.attend %{{.*}} segment(%{{.*}}, %{{.*}}) where(causal) dots(%{{.*}}, %{{.*}}; %{{.*}}, %[[R:.*]][i - j]; %{{.*}}, %[[R]][i - j - 3])
func.func @relative_rows(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %r: tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal) dots(%q, %k; %q, %r[i - j]; %q, %r[i-j - 3]) q_offset(0)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return %o : tensor<?x4x?x8xf32>
}
