// RUN: heddle-opt %s --split-input-file --attn-annotate-schedule --attn-tile-attend -verify-diagnostics | FileCheck %s

// Every pair of `full` is live: no mask code exists. With one group of strata a query tile finishes its own rows.
// CHECK-NOT: @attend_score
// CHECK-LABEL: func.func private @attend_flush_0
// CHECK: call @tile_dots_d64
// Few queries take softmax by itself, many in the first products of the values.
// CHECK: call @tile_softmax_d40
// CHECK: call @tile_accumulate_few_d40
// CHECK: call @tile_accumulate_softmax_d40
// CHECK-LABEL: func.func private @attend_group_0
// CHECK: call @tile_finish_d40_bf16
// CHECK-LABEL: func.func @heddle_task
// CHECK: call @attend_group_0
// CHECK-NOT: call @tile_finish
func.func @dense(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x40xbf16>)
    -> tensor<?x8x?x40xbf16> {
  %o = attn.attend %q segment(%k, %v)
     : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x40xbf16>) -> tensor<?x8x?x40xbf16>
  return %o : tensor<?x8x?x40xbf16>
}

// -----

// A band is masked only in the tiles at its ends, which take the exact path where V is not finite.
// CHECK-LABEL: func.func private @attend_score_masked_0
// CHECK: arith.select
// CHECK-LABEL: func.func private @attend_flush_0
// CHECK: call @attend_score_masked_0
// CHECK: call @tile_finite_d64
// CHECK: call @tile_accumulate_exact_d64
func.func @band(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(window(63, 0))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// Masking a band compares positions; nothing is noted of single keys.
// CHECK-LABEL: func.func private @attend_live_0
// CHECK-NOT: llvm.bitcast
// CHECK-LABEL: func.func private @attend_score_masked_0
// CHECK: arith.cmpi ult
func.func @runs(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(window(63, 0))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// In a grid, a key is live in the lanes that have its row and its column: one word of each.
// CHECK-LABEL: func.func private @attend_live_0
// CHECK: scf.if
// CHECK: arith.andi %{{.*}}, %{{.*}} : i64
// CHECK: llvm.intr.cttz
// CHECK: llvm.intr.ctlz
func.func @boxes(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(grid(64, window(6, 6), window(6, 6)))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

func.func @computed_operand(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v)
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  // expected-error @below {{expected one attend in a function, but got a second one}}
  %p = attn.attend %o segment(%k, %v)
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %p : tensor<?x8x?x64xf32>
}

// -----

func.func @dynamic_head(%q: tensor<?x8x?x?xf32>, %k: tensor<?x8x?x?xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  // expected-error @below {{expected the head dimension of q to be static, but got 'tensor<?x8x?x?xf32>'}}
  %o = attn.attend %q segment(%k, %v)
     : tensor<?x8x?x?xf32> segment(tensor<?x8x?x?xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// A matrix in the score is read along the keys, row by row, and transposed; what it has not in one piece is gathered.
// CHECK-LABEL: func.func private @attend_score_0
// CHECK: scf.if
// CHECK-COUNT-64: vector.shuffle
// CHECK: else
// CHECK: llvm.intr.masked.gather
// CHECK: math.exp
func.func @matrix(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>, %w: tensor<?x?xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v)
      score(%s, %b, %h, %i, %j) {
        %x = attn.load %w[%i, %j] : tensor<?x?xf32>
        %e = math.exp %x : f32
        %y = arith.addf %s, %e : f32
        attn.yield %y : f32
      }
      captures(%w)
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>)
       operands(tensor<?x?xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// Many intervals of one integer are a table and a bisection, not a comparison each.
// CHECK: llvm.mlir.global internal constant @[[TABLE:attend_ends_.*_table]]({{.*}}) {{.*}}!llvm.array<143 x i64>
// CHECK: func.func private @attend_ends_
// CHECK: llvm.mlir.addressof @[[TABLE]]
func.func @long_list(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(keys([1, 5, 9, 20, 23, 29, 34, 41, 47, 58, 63, 71, 77, 90, 99, 120, 131, 140, 151, 163, 170, 181, 192, 200, 211, 222, 230, 240, 251, 262, 275, 281, 293, 300]))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
