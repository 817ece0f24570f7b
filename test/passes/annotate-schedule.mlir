// RUN: heddle-opt %s --split-input-file --attn-annotate-schedule -verify-diagnostics | FileCheck %s

// A band and a lattice that begins where the band ends: disjoint, so no pair is counted twice.
// CHECK-LABEL: func.func @sparse_transformer
// CHECK: #attn.schedule<
// CHECK-SAME: super_tile = 4096
// CHECK-SAME: band
// CHECK-SAME: lattice
// CHECK-SAME: step = 64
// CHECK-NOT: masked
func.func @sparse_transformer(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(63, 0) | stride(64)))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// A wide head keeps fewer rows of accumulators in the cache, where strata merge theirs.
// CHECK-LABEL: func.func @wide_head
// CHECK: super_tile = 512
func.func @wide_head(%q: tensor<?x8x?x512xf16>, %k: tensor<?x8x?x512xf16>, %v: tensor<?x8x?x512xf16>)
    -> tensor<?x8x?x512xf16> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(63, 0) | stride(64)))
     : tensor<?x8x?x512xf16> segment(tensor<?x8x?x512xf16>, tensor<?x8x?x512xf16>) -> tensor<?x8x?x512xf16>
  return %o : tensor<?x8x?x512xf16>
}

// -----

// Accumulators as wide as the rows of the result lie there: super-tiles have as many rows as fill the lattice's tiles.
// CHECK-LABEL: func.func @far
// CHECK: super_tile = 16384
func.func @far(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(255, 0) | stride(256)))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// CHECK-LABEL: func.func @far_bf16
// CHECK: super_tile = 4096
func.func @far_bf16(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
    -> tensor<?x8x?x64xbf16> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(255, 0) | stride(256)))
     : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
  return %o : tensor<?x8x?x64xbf16>
}

// -----

// A lattice alone has a state a tile, and fills its tiles at any width and step; sequences that cannot fill them are
// taken query by query.
// CHECK-LABEL: func.func @alone
// CHECK: super_tile = 64000
// CHECK-SAME: rows_up_to = {{[1-9][0-9][0-9][0-9]}},
func.func @alone(%q: tensor<?x8x?x512xf32>, %k: tensor<?x8x?x512xf32>, %v: tensor<?x8x?x512xf32>)
    -> tensor<?x8x?x512xf32> {
  %o = attn.attend %q segment(%k, %v) where(stride(1000))
     : tensor<?x8x?x512xf32> segment(tensor<?x8x?x512xf32>, tensor<?x8x?x512xf32>) -> tensor<?x8x?x512xf32>
  return %o : tensor<?x8x?x512xf32>
}

// -----

// What run-time values decide: pairs are tried by boxes where something can be said of them, and queries with few keys
// find them by themselves.
// CHECK-LABEL: func.func @tables
func.func @tables(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>, %t: tensor<?x?xi32>,
                  %m: tensor<?x?xi1>, %f: tensor<?x?xi1>) -> tensor<?x8x?x64xf32> {
  // expected-remark-re @below {{stratum 0 of segment 0: masked: {{.*}}; every pair in its bounds is computed, and run-time values decide which of them count; on a CPU, queries with few scattered keys try all and are taken one at a time}}
  // expected-remark-re @below {{stratum 1 of segment 1: masked: {{.*}}; its pairs are looked up, and boxes of 48 keys in which none is set are skipped; on a CPU, queries with few scattered keys try all and are taken one at a time}}
  // expected-remark-re @below {{stratum 2 of segment 2: masked: {{.*}}; every pair is computed of boxes of 48 keys that may have a live one, and run-time values decide which of them count; on a CPU,}}
  %o = attn.attend %q segment(%k, %v) where(holds(b, h, i, j : %t[i, j] > 3)) segment(%k, %v) where(mask(%m))
      segment(%k, %v) where(holds(b, h, i, j : (i + 2 * j) mod 1000 < 30) & keys(%f))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>)
       segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>)
       operands(tensor<?x?xi32>, tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}

// -----

// What has no digits is computed all the same, and says so.
// CHECK-LABEL: func.func @masked
// CHECK: masked
// CHECK-SAME: residual
func.func @masked(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  // expected-remark-re @below {{stratum 0 of segment 0: masked: {{.*}}; it computes 4096 keys a query at length 4096, of which {{1[0-9.]*}} % are live}}
  %o = attn.attend %q segment(%k, %v) where(holds(b, h, i, j : (i * j) mod 7 == 3))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
