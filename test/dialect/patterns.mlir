// Every pattern in text: parsed, printed, parsed again, and the same in attributes.
// RUN: heddle-opt %s | FileCheck %s
// RUN: heddle-opt %s > %t.custom
// RUN: heddle-opt %t.custom | diff %t.custom -
// RUN: heddle-opt %s --mlir-print-op-generic | heddle-opt | diff %t.custom -

!t = tensor<?x4x?x8xf32>

// CHECK-LABEL: func.func @closed
func.func @closed(%q: !t, %k: !t, %v: !t) {
  // CHECK: where(causal){{$}}
  attn.attend %q segment(%k, %v) where(causal) : !t segment(!t, !t) -> !t
  // CHECK: where(causal(3)){{$}}
  attn.attend %q segment(%k, %v) where(causal(3)) : !t segment(!t, !t) -> !t
  // CHECK: where(causal(-3)){{$}}
  attn.attend %q segment(%k, %v) where(causal(-3)) : !t segment(!t, !t) -> !t
  // CHECK: where(window(63, 0)){{$}}
  attn.attend %q segment(%k, %v) where(window(63, 0)) : !t segment(!t, !t) -> !t
  // CHECK: where(window(inf, 2)){{$}}
  attn.attend %q segment(%k, %v) where(window(inf, 2)) : !t segment(!t, !t) -> !t
  // CHECK: where(window(2, 1, dilation = 4)){{$}}
  attn.attend %q segment(%k, %v) where(window(2, 1, dilation = 4)) : !t segment(!t, !t) -> !t
  // CHECK: where(window(2, 1, dilation = 4)){{$}}
  attn.attend %q segment(%k, %v) where(window(2, 1, 4)) : !t segment(!t, !t) -> !t
  // CHECK: where(stride(64)){{$}}
  attn.attend %q segment(%k, %v) where(stride(64)) : !t segment(!t, !t) -> !t
  // CHECK: where(stride(64, phase = 3)){{$}}
  attn.attend %q segment(%k, %v) where(stride(64, phase = 3)) : !t segment(!t, !t) -> !t
  // CHECK: where(block(128)){{$}}
  attn.attend %q segment(%k, %v) where(block(128)) : !t segment(!t, !t) -> !t
  // CHECK: where(keys([0 to 4, 9])){{$}}
  attn.attend %q segment(%k, %v) where(keys([0 to 4, 9])) : !t segment(!t, !t) -> !t
  // CHECK: where(keys([end - 4 to end])){{$}}
  attn.attend %q segment(%k, %v) where(keys([end - 4 to end])) : !t segment(!t, !t) -> !t
  // CHECK: where(queries([1 to inf])){{$}}
  attn.attend %q segment(%k, %v) where(queries([1 to inf])) : !t segment(!t, !t) -> !t
  // CHECK: where(global_tokens([0, 5])){{$}}
  attn.attend %q segment(%k, %v) where(global_tokens([0, 5])) : !t segment(!t, !t) -> !t
  // CHECK: where(keys([])){{$}}
  attn.attend %q segment(%k, %v) where(keys([])) : !t segment(!t, !t) -> !t
  // CHECK: where(key_mod(7, 1, 3)){{$}}
  attn.attend %q segment(%k, %v) where(key_mod(7, 1, 3)) : !t segment(!t, !t) -> !t
  // CHECK: where(query_mod(7, 0, 7)){{$}}
  attn.attend %q segment(%k, %v) where(query_mod(7, 0, 7)) : !t segment(!t, !t) -> !t
  // CHECK: where(offsets([0, 1, 2, 4, 8])){{$}}
  attn.attend %q segment(%k, %v) where(offsets([0, 1, 2, 4, 8])) : !t segment(!t, !t) -> !t
  // CHECK: where(offsets([-3])){{$}}
  attn.attend %q segment(%k, %v) where(offsets([-3])) : !t segment(!t, !t) -> !t
  // CHECK: where(coarse(4, causal)){{$}}
  attn.attend %q segment(%k, %v) where(coarse(4, causal)) : !t segment(!t, !t) -> !t
  // CHECK: where(coarse(2, 8, window(1, 1))){{$}}
  attn.attend %q segment(%k, %v) where(coarse(2, 8, window(1, 1))) : !t segment(!t, !t) -> !t
  // CHECK: where(grid(16, window(1, 1), window(2, 2))){{$}}
  attn.attend %q segment(%k, %v) where(grid(16, window(1, 1), window(2, 2))) : !t segment(!t, !t) -> !t
  // CHECK: where(grid(4, full, grid(2, block(3), stride(2)))){{$}}
  attn.attend %q segment(%k, %v) where(grid(4, full, grid(2, block(3), stride(2)))) : !t segment(!t, !t) -> !t
  // CHECK: where(remap(affine_map<(x) -> (x floordiv 3, x mod 3)>, causal, window(1, 1))){{$}}
  attn.attend %q segment(%k, %v) where(remap(affine_map<(x) -> (x floordiv 3, x mod 3)>, causal, window(1, 1))) : !t segment(!t, !t) -> !t
  // CHECK: where(shift(5, keys([0]))){{$}}
  attn.attend %q segment(%k, %v) where(shift(5, keys([0]))) : !t segment(!t, !t) -> !t
  // CHECK: where(neighborhood(7, 100)){{$}}
  attn.attend %q segment(%k, %v) where(neighborhood(7, 100)) : !t segment(!t, !t) -> !t
  // CHECK: where(neighborhood(7, 100, stride = 2, dilation = 3, causal = true)){{$}}
  attn.attend %q segment(%k, %v) where(neighborhood(7, 100, stride = 2, dilation = 3, causal = true)) : !t segment(!t, !t) -> !t
  // CHECK: where(past_blocks(16)){{$}}
  attn.attend %q segment(%k, %v) where(past_blocks(16)) : !t segment(!t, !t) -> !t
  // CHECK: where(past_blocks(16, size = 32, inclusive = true)){{$}}
  attn.attend %q segment(%k, %v) where(past_blocks(16, size = 32, inclusive = true)) : !t segment(!t, !t) -> !t
  // CHECK: where(parent(4)){{$}}
  attn.attend %q segment(%k, %v) where(parent(4)) : !t segment(!t, !t) -> !t
  // CHECK: where(random_blocks(64, 3, 42)){{$}}
  attn.attend %q segment(%k, %v) where(random_blocks(64, 3, 42)) : !t segment(!t, !t) -> !t
  // CHECK: where(affine_set<(i, j)[nq, nk] : (
  attn.attend %q segment(%k, %v) where(affine_set<(i, j)[nq, nk] : (i - j >= 0, j mod 4 - 1 == 0, nk - j - 1 >= 0)>) : !t segment(!t, !t) -> !t
  // CHECK: where(holds(b, h, i, j : (j <= i))){{$}}
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : j <= i)) : !t segment(!t, !t) -> !t
  // CHECK: where(holds(b, h, i, j :
  attn.attend %q segment(%k, %v) where(holds(b, h, q, kv : q >= kv and q - kv < 64)) : !t segment(!t, !t) -> !t
  // CHECK: where(holds(b, h, i, j : select(
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : select(h % 2 == 0, i - j < 8, abs(i - j) < 2))) : !t segment(!t, !t) -> !t
  // CHECK: where(per_head([causal, window(3, 3), ~full])){{$}}
  attn.attend %q segment(%k, %v) where(per_head([causal, window(3, 3), ~full])) : !t segment(!t, !t) -> !t
  // CHECK: where(~full){{$}}
  attn.attend %q segment(%k, %v) where(~full) : !t segment(!t, !t) -> !t
  // CHECK: where(~causal){{$}}
  attn.attend %q segment(%k, %v) where(~causal) : !t segment(!t, !t) -> !t
  // CHECK: where(~~causal){{$}}
  attn.attend %q segment(%k, %v) where(~~causal) : !t segment(!t, !t) -> !t
  // CHECK: where(~(causal & block(2))){{$}}
  attn.attend %q segment(%k, %v) where(~(causal & block(2))) : !t segment(!t, !t) -> !t
  // CHECK: where(causal - block(2) - block(3)){{$}}
  attn.attend %q segment(%k, %v) where(causal - block(2) - block(3)) : !t segment(!t, !t) -> !t
  // CHECK: where(causal - (block(2) - block(3))){{$}}
  attn.attend %q segment(%k, %v) where(causal - (block(2) - block(3))) : !t segment(!t, !t) -> !t
  // CHECK: where(causal & block(2) | stride(3) & ~keys([0])){{$}}
  attn.attend %q segment(%k, %v) where(causal & block(2) | stride(3) & ~keys([0])) : !t segment(!t, !t) -> !t
  // CHECK: where(causal & (block(2) | stride(3))){{$}}
  attn.attend %q segment(%k, %v) where(causal & (block(2) | stride(3))) : !t segment(!t, !t) -> !t
  // CHECK: where((causal | block(2)) - stride(3)){{$}}
  attn.attend %q segment(%k, %v) where((causal | block(2)) - stride(3)) : !t segment(!t, !t) -> !t
  return
}

// CHECK-LABEL: func.func @operands
// CHECK-SAME: %arg2: {{[^,]*}}, %[[W:arg[0-9]+]]: index, %[[F:arg[0-9]+]]: tensor<?x?xi1>, %[[A:arg[0-9]+]]: tensor<?x?xi32>, %[[B:arg[0-9]+]]: tensor<1x?xi64>, %[[H3:arg[0-9]+]]: tensor<?x2x?xi32>, %[[N:arg[0-9]+]]: tensor<?xi32>, %[[G:arg[0-9]+]]: tensor<?xf16>
func.func @operands(%q: !t, %k: !t, %v: !t, %w: index, %f: tensor<?x?xi1>, %a: tensor<?x?xi32>, %b: tensor<1x?xi64>, %h3: tensor<?x2x?xi32>, %n: tensor<?xi32>, %g: tensor<?xf16>) {
  // CHECK: where(window(%[[W]], 0)){{$}}
  // CHECK-NEXT: operands(index) ->
  attn.attend %q segment(%k, %v) where(window(%w, 0)) : !t segment(!t, !t) operands(index) -> !t
  // CHECK: where(causal(%[[W]])){{$}}
  // CHECK-NEXT: operands(index) ->
  attn.attend %q segment(%k, %v) where(causal(%w)) : !t segment(!t, !t) operands(index) -> !t
  // CHECK: where(keys([%[[W]] to end])){{$}}
  // CHECK-NEXT: operands(index) ->
  attn.attend %q segment(%k, %v) where(keys([%w to end])) : !t segment(!t, !t) operands(index) -> !t
  // CHECK: where(stride(8, phase = %[[W]])){{$}}
  // CHECK-NEXT: operands(index) ->
  attn.attend %q segment(%k, %v) where(stride(8, phase = %w)) : !t segment(!t, !t) operands(index) -> !t
  // CHECK: where(shift(%[[W]], causal)){{$}}
  // CHECK-NEXT: operands(index) ->
  attn.attend %q segment(%k, %v) where(shift(%w, causal)) : !t segment(!t, !t) operands(index) -> !t
  // CHECK: where(keys(%[[F]])){{$}}
  // CHECK-NEXT: operands(tensor<?x?xi1>) ->
  attn.attend %q segment(%k, %v) where(keys(%f)) : !t segment(!t, !t) operands(tensor<?x?xi1>) -> !t
  // CHECK: where(queries(%[[F]])){{$}}
  // CHECK-NEXT: operands(tensor<?x?xi1>) ->
  attn.attend %q segment(%k, %v) where(queries(%f)) : !t segment(!t, !t) operands(tensor<?x?xi1>) -> !t
  // CHECK: where(same(%[[A]], %[[B]])){{$}}
  // CHECK-NEXT: operands(tensor<?x?xi32>, tensor<1x?xi64>) ->
  attn.attend %q segment(%k, %v) where(same(%a, %b)) : !t segment(!t, !t) operands(tensor<?x?xi32>, tensor<1x?xi64>) -> !t
  // CHECK: where(cluster(%[[A]])){{$}}
  // CHECK-NEXT: operands(tensor<?x?xi32>) ->
  attn.attend %q segment(%k, %v) where(cluster(%a)) : !t segment(!t, !t) operands(tensor<?x?xi32>) -> !t
  // CHECK: where(same(%[[H3]], %[[H3]])){{$}}
  // CHECK-NEXT: operands(tensor<?x2x?xi32>) ->
  attn.attend %q segment(%k, %v) where(same(%h3, %h3)) : !t segment(!t, !t) operands(tensor<?x2x?xi32>) -> !t
  // CHECK: where(lengths(%[[N]])){{$}}
  // CHECK-NEXT: operands(tensor<?xi32>) ->
  attn.attend %q segment(%k, %v) where(lengths(%n)) : !t segment(!t, !t) operands(tensor<?xi32>) -> !t
  // CHECK: where(between(%[[A]], %[[B]])){{$}}
  // CHECK-NEXT: operands(tensor<?x?xi32>, tensor<1x?xi64>) ->
  attn.attend %q segment(%k, %v) where(between(%a, %b)) : !t segment(!t, !t) operands(tensor<?x?xi32>, tensor<1x?xi64>) -> !t
  // CHECK: where(holds(b, h, i, j :
  // CHECK-NEXT: operands(tensor<?x?xi32>) ->
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : %a[b, i] == %a[b, j])) : !t segment(!t, !t) operands(tensor<?x?xi32>) -> !t
  // CHECK: where(holds(b, h, i, j :
  // CHECK-NEXT: operands(tensor<?xf16>, tensor<?x?xi1>) ->
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : (float(%g[h]) > 0.5) & bool(%f[b, j]))) : !t segment(!t, !t) operands(tensor<?xf16>, tensor<?x?xi1>) -> !t
  // CHECK: where(coarse(2, same(%[[A]], %[[B]])) & causal){{$}}
  // CHECK-NEXT: operands(tensor<?x?xi32>, tensor<1x?xi64>) ->
  attn.attend %q segment(%k, %v) where(coarse(2, same(%a, %b)) & causal) : !t segment(!t, !t) operands(tensor<?x?xi32>, tensor<1x?xi64>) -> !t
  return
}
