// Strata whose keys come from tables: lists that queries share, lists of their own, ids in any order.
// RUN: heddle-opt --attn-annotate-schedule %s | FileCheck %s

// CHECK-LABEL: func.func @shared
// CHECK: list = member(%0[], b, h, (qrow floordiv 64), 0, size(%0[], 0), (krow floordiv 64)), first = ((entry * 64) + koff), run = 64
func.func @shared(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %i: tensor<?x?x?xi32>) -> tensor<?x4x?x8xf32> {
  %o = attn.attend %q segment(%k, %v) where(coarse(64, listed(%i)))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?x?xi32>) -> tensor<?x4x?x8xf32>
  return %o : tensor<?x4x?x8xf32>
}

// CHECK-LABEL: func.func @own
// CHECK: gathered {{.*}} upper = [(i + 1)], list = member(%0[], b, h, qrow, 0, size(%0[], 0), krow), first = (entry + koff)
func.func @own(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %i: tensor<?x?x?xi32>) -> tensor<?x4x?x8xf32> {
  %o = attn.attend %q segment(%k, %v) where(listed(%i) & causal) q_offset(0)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?x?xi32>) -> tensor<?x4x?x8xf32>
  return %o : tensor<?x4x?x8xf32>
}

// CHECK-LABEL: func.func @sorted
// CHECK: gathered {{.*}} guard = (%0[b, h, qrow] ge 0), ids = (%0[b, h, qrow] == %0[b, h, krow])
func.func @sorted(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %i: tensor<?x?xi32>) -> tensor<?x4x?x8xf32> {
  %o = attn.attend %q segment(%k, %v) where(cluster(%i))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?xi32>) -> tensor<?x4x?x8xf32>
  return %o : tensor<?x4x?x8xf32>
}
