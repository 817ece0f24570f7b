// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend="width=16 bf16=true" --attn-lower-tiles="width=16 bf16=true" | FileCheck %s
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=16 --attn-lower-tiles=width=16 | FileCheck %s --check-prefix=STAGED

// Where the target multiplies pairs of bf16, dots take 36 pairs of a row of 72; without, rows are widened first.
// CHECK-LABEL: func.func private @tile_dots_d72_bf16
// CHECK: %[[END:.*]] = arith.constant 36 : i64
// CHECK-COUNT-84: "llvm.x86.avx512bf16.dpbf16ps.512"
// CHECK-NOT: dpbf16ps
// CHECK: return
// P of two keys becomes one register of pairs.
// CHECK-LABEL: func.func private @tile_softmax_d72_bf16
// CHECK-COUNT-2: "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
// CHECK-NOT: cvtne2ps2bf16
// CHECK: return
// STAGED: func.func private @tile_stage_d72_bf16
// STAGED-NOT: dpbf16ps
func.func @dense(%q: tensor<?x8x?x72xbf16>, %k: tensor<?x8x?x72xbf16>, %v: tensor<?x8x?x72xbf16>)
    -> tensor<?x8x?x72xbf16> {
  %o = attn.attend %q segment(%k, %v)
     : tensor<?x8x?x72xbf16> segment(tensor<?x8x?x72xbf16>, tensor<?x8x?x72xbf16>) -> tensor<?x8x?x72xbf16>
  return %o : tensor<?x8x?x72xbf16>
}
