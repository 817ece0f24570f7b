// Many scattered distances are one stratum; each query's keys are copied from a table, and nothing is masked.
// RUN: heddle-opt %s --attn-annotate-schedule | FileCheck %s --check-prefix=SCHEDULE
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=16 | FileCheck %s --check-prefix=TILE

// SCHEDULE: masked {query = [{}], key = [{}], lower = [(i - 1200)], upper = [(i + 1)], residual = {{.*}}, by_row = 1
// SCHEDULE-NOT: by_row

// TILE: llvm.mlir.global internal constant @attend_ends_[[N:[0-9A-F]+]]_table({{.*}}) {{.*}}: !llvm.array<47 x i64>
// TILE-NOT: @{{tile_pack|attend_live|attend_push}}
// TILE: func.func private @attend_row_gather_0
// TILE: llvm.mlir.addressof @attend_ends_[[N]]_table
// TILE-NOT: @{{tile_pack|attend_live|attend_push}}

func.func @table(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v)
         where(offsets([0, 1, 5, 17, 31, 60, 101, 155, 230, 301, 377, 460, 555, 601, 702, 811, 977, 1200]))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
