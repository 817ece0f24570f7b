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
