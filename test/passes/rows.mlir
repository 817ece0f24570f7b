// Queries with few keys that neighbors do not share are taken one at a time: all such strata have one list for each.
// RUN: heddle-opt %s --attn-annotate-schedule | FileCheck %s --check-prefix=SCHEDULE
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=16 | FileCheck %s --check-prefix=TILE
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=16 --attn-lower-tiles=width=16 | FileCheck %s --check-prefix=WIDE

// SCHEDULE-COUNT-4: by_row = 1
// SCHEDULE-NOT: by_row

// One list, no packed tiles of queries, no masks.
// TILE-NOT: @{{tile_pack|attend_live|attend_rows_1}}
// TILE: func.func private @row_dots_d64(
// TILE-NOT: @{{tile_pack|attend_live|attend_rows_1}}
// TILE: func.func private @row_softmax(
// TILE-NOT: @{{tile_pack|attend_live|attend_rows_1}}
// TILE: func.func private @row_values_d64(
// TILE-NOT: @{{tile_pack|attend_live|attend_rows_1}}
// TILE: func.func private @attend_rows_0
// TILE-NOT: @{{tile_pack|attend_live|attend_rows_1}}

// Four keys by four registers of d.
// WIDE-LABEL: func.func private @row_dots_d64
// WIDE-COUNT-12: math.fma {{.*}} : vector<16xf32>
// WIDE-NOT: math.fma {{.*}} : vector<16xf32>
// WIDE: return

func.func @few(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(offsets([0, 1, 2, 4, 8, 16, 32, 64]))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
