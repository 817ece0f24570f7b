// Queries that are taken one at a time, in pairs of bf16.
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend="width=16 bf16=true" --attn-lower-tiles="width=16 bf16=true" | FileCheck %s
// RUN: heddle-opt %s --attn-annotate-schedule --attn-tile-attend=width=16 --attn-lower-tiles=width=16 | FileCheck %s --check-prefix=WIDENED

// WIDENED-LABEL: func.func private @row_dots_d64_bf16(
// WIDENED-NOT: dpbf16ps

// Four keys by two registers.
// CHECK-LABEL: func.func private @row_dots_d64_bf16_pairs
// CHECK-COUNT-8: dpbf16ps
// CHECK-NOT: dpbf16ps
// CHECK: return
// Two pairs of keys by the halves of two registers.
// CHECK-LABEL: func.func private @row_values_d64_bf16_pairs
// CHECK: scf.for
// CHECK-COUNT-8: dpbf16ps
// CHECK: scf.yield

func.func @few(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
    -> tensor<?x8x?x64xbf16> {
  %o = attn.attend %q segment(%k, %v) where(offsets([0, 1, 2, 4, 8, 16, 32, 64]))
     : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
  return %o : tensor<?x8x?x64xbf16>
}
