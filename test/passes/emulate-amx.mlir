// RUN: heddle-opt %s --attn-emulate-amx --split-input-file --verify-diagnostics | FileCheck %s --implicit-check-not=amx.

// Each tile is memory of the function; a product sums even and odd elements apart.
// CHECK-LABEL: func.func @product
// CHECK-COUNT-4: llvm.alloca {{.*}} x i8 {alignment = 64 : i64}
// CHECK: scf.for
// CHECK: llvm.load {{.*}} -> vector<64xi8>
// CHECK: scf.for
// CHECK: llvm.load {{.*}} -> vector<64xi8>
// CHECK: scf.for
// CHECK: scf.for
// CHECK: scf.for {{.*}} -> (vector<16xf32>, vector<16xf32>)
// CHECK-COUNT-2: vector.fma
// CHECK: scf.for
// CHECK: llvm.load {{.*}} -> vector<64xi8>
func.func @product(%a: memref<?xbf16>, %b: memref<?xbf16>, %c: memref<?xf32>, %pitch: index) {
  %zero = arith.constant 0 : index
  %row = arith.constant 16 : index
  %x = amx.tile_load %a[%zero], %pitch : memref<?xbf16> into !amx.tile<16x32xbf16>
  %y = amx.tile_load %b[%zero], %pitch : memref<?xbf16> into !amx.tile<16x32xbf16>
  %z = amx.tile_zero : !amx.tile<16x16xf32>
  %s = amx.tile_mulf %x, %y, %z : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
  amx.tile_store %c[%zero], %s, %row : memref<?xf32>, !amx.tile<16x16xf32>
  return
}

// -----

func.func @integers(%x: !amx.tile<16x64xi8>, %z: !amx.tile<16x16xi32>) {
  // expected-error @+1 {{expected an op on tiles of floats, but got amx.tile_muli}}
  %s = amx.tile_muli %x, %x, %z : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xi32>
  return
}

// -----

func.func @scattered(%a: memref<?x?xbf16>, %pitch: index) {
  %zero = arith.constant 0 : index
  // expected-error @+1 {{expected a contiguous buffer of one dimension, but got 'memref<?x?xbf16>'}}
  %x = amx.tile_load %a[%zero, %zero], %pitch : memref<?x?xbf16> into !amx.tile<16x32xbf16>
  return
}
