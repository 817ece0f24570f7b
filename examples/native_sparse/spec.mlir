// Blocks of 8 every 4 rows compressed, three selected blocks of 16, a window of 20; gates mix the three.
!rows = tensor<?x?x?x32xf32>
!w = tensor<?x8x32x32xf32>
!gate = tensor<?x?x?x1xf32>
#id = affine_map<(b, h, n, d) -> (b, h, n, d)>
#one = affine_map<(b, h, n, d) -> (b, h, n, 0)>
func.func @nsa(%q: !rows, %k: !rows, %v: !rows, %wk: !w, %wv: !w, %top: tensor<?x?x?x3xi32>, %g1: !gate, %g2: !gate, %g3: !gate) -> !rows {
  %ks = attn.convolve %k, %wk stride(4) : !rows, !w -> !rows
  %vs = attn.convolve %v, %wv stride(4) : !rows, !w -> !rows
  %far = attn.attend %q segment(%ks, %vs) where(past_blocks(4, size = 8, inclusive = true)) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  %chosen = attn.attend %q segment(%k, %v) where(coarse(1, 16, listed(%top)) & causal)
    : !rows segment(!rows, !rows) operands(tensor<?x?x?x3xi32>) -> !rows
  %near = attn.attend %q segment(%k, %v) where(window(19, 0)) : !rows segment(!rows, !rows) -> !rows
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %nb = tensor.dim %q, %c0 : !rows
  %nh = tensor.dim %q, %c1 : !rows
  %nq = tensor.dim %q, %c2 : !rows
  %e = tensor.empty(%nb, %nh, %nq) : !rows
  %out = linalg.generic {indexing_maps = [#id, #id, #id, #one, #one, #one, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%far, %chosen, %near, %g1, %g2, %g3 : !rows, !rows, !rows, !gate, !gate, !gate) outs(%e : !rows) {
  ^bb0(%a: f32, %b: f32, %c: f32, %x: f32, %y: f32, %z: f32, %old: f32):
    %ax = arith.mulf %a, %x : f32
    %by = arith.mulf %b, %y : f32
    %cz = arith.mulf %c, %z : f32
    %s = arith.addf %ax, %by : f32
    %t = arith.addf %s, %cz : f32
    linalg.yield %t : f32
  } -> !rows
  return %out : !rows
}
