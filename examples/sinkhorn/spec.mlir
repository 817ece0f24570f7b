// Sinkhorn attention with blocks of 16; %s has a row for each source block.
func.func @sinkhorn(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %s: tensor<?x?x?x?xf32>) -> tensor<?x?x?x32xf32> {
  %ks = attn.project %k, %s block(16) : tensor<?x?x?x32xf32>, tensor<?x?x?x?xf32> -> tensor<?x?x?x32xf32>
  %vs = attn.project %v, %s block(16) : tensor<?x?x?x32xf32>, tensor<?x?x?x?xf32> -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%ks, %vs) where(block(16)) segment(%k, %v) where(block(16))
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
