// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=16 --attn-lower-tiles=width=16 | FileCheck %s --check-prefixes=CHECK,WIDE
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=8 --attn-lower-tiles=width=8 | FileCheck %s --check-prefixes=CHECK,HALF
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=4 --attn-lower-tiles=width=4 | FileCheck %s --check-prefixes=CHECK,BASE

// Six keys by four (with requests for rows in between, or without), three, two or one column of sixteen queries; with half the registers by one column, and with a
// quarter of them by half a column at a time. Without fused multiply-add a product and a sum.
// CHECK-LABEL: func.func private @tile_dots_d64
// WIDE-COUNT-84: math.fma {{.*}} : vector<16xf32>
// WIDE-NOT: math.fma
// HALF-COUNT-12: math.fma {{.*}} : vector<8xf32>
// HALF-NOT: math.fma
// BASE-COUNT-24: arith.mulf {{.*}} : vector<4xf32>
// CHECK: return

func.func @dense(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v)
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
