// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend="width=16 bf16=true" --attn-lower-tiles="width=16 bf16=true amx=true" | FileCheck %s
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend="width=16 bf16=true" --attn-lower-tiles="width=16 bf16=true" | FileCheck %s --check-prefix=PAIRS --implicit-check-not=amx.
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend="width=16" --attn-lower-tiles="width=16 amx=true" | FileCheck %s --check-prefix=STAGED --implicit-check-not=amx.

// Dots of 72 features are tiles of 32, 32 and 8, of 16 keys and 4, 3, 2 or 1 columns: 10 columns of sums in all.
// CHECK-LABEL: func.func private @tile_dots_d72_bf16
// CHECK-NOT: dpbf16ps
// CHECK-COUNT-8: amx.tile_mulf {{.*}} : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
// CHECK-COUNT-4: amx.tile_mulf {{.*}} : !amx.tile<16x8xbf16>, !amx.tile<4x32xbf16>, !amx.tile<16x16xf32>
// CHECK-COUNT-4: amx.tile_store
// CHECK-COUNT-18: amx.tile_mulf
// CHECK-NOT: amx.tile_mulf
// Values are multiplied as pairs.
// CHECK-LABEL: func.func private @tile_accumulate_softmax_d72_bf16
// CHECK: dpbf16ps
// PAIRS-LABEL: func.func private @tile_dots_d72_bf16
// PAIRS: dpbf16ps
// STAGED: func.func private @tile_stage_d72_bf16
func.func @dense(%q: tensor<?x8x?x72xbf16>, %k: tensor<?x8x?x72xbf16>, %v: tensor<?x8x?x72xbf16>)
    -> tensor<?x8x?x72xbf16> {
  %o = attn.attend %q segment(%k, %v)
     : tensor<?x8x?x72xbf16> segment(tensor<?x8x?x72xbf16>, tensor<?x8x?x72xbf16>) -> tensor<?x8x?x72xbf16>
  return %o : tensor<?x8x?x72xbf16>
}
