// Combiner-Logsparse with the levels of up to three tokens; a longer sequence has a segment for each further level.
func.func @combiner(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %qs = attn.pool max %q size(2) : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %ks = attn.pool max %k size(2) : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %vs = attn.attend %qs segment(%k, %v) where(parent(2)) q_offset(0) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%k, %v) where(offsets([0]) | offsets([1]) & query_mod(2, 1, 2))
      segment(%ks, %vs) where(coarse(2, 1, offsets([1])) & query_mod(4, 2, 4)) q_offset(0)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
