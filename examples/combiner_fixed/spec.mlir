// Combiner-Fixed with segments of 16.
func.func @combiner(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %qs = attn.pool max %q size(16) : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %ks = attn.pool max %k size(16) : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %vs = attn.attend %qs segment(%k, %v) where(parent(16)) q_offset(0) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%k, %v) where(causal & block(16)) segment(%ks, %vs) where(past_blocks(16)) q_offset(0)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
