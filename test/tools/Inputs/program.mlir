// Near tokens, and summaries of past blocks (examples/combiner_fixed).
func.func @combiner(%q: tensor<?x?x?x16xf32>, %k: tensor<?x?x?x16xf32>, %v: tensor<?x?x?x16xf32>, %w: tensor<1x4x16xf32>)
    -> tensor<?x?x?x16xf32> {
  %far = attn.pool mean %k size(8) : tensor<?x?x?x16xf32> -> tensor<?x?x?x16xf32>
  %sum = attn.convolve %v, %w stride(8) : tensor<?x?x?x16xf32>, tensor<1x4x16xf32> -> tensor<?x?x?x16xf32>
  %out = attn.attend %q segment(%k, %v) where(causal & block(8)) segment(%far, %sum) where(past_blocks(8)) q_offset(0)
    : tensor<?x?x?x16xf32> segment(tensor<?x?x?x16xf32>, tensor<?x?x?x16xf32>)
      segment(tensor<?x?x?x16xf32>, tensor<?x?x?x16xf32>) -> tensor<?x?x?x16xf32>
  %twice = arith.addf %out, %out : tensor<?x?x?x16xf32>
  return %twice : tensor<?x?x?x16xf32>
}
