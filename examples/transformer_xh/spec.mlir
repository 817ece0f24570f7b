// Attention along the edges of a graph whose nodes are the first tokens of sequences.
func.func @transformer_xh(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %ptr: tensor<?xi64>, %idx: tensor<?xi64>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q segment(%k, %v) where(csr(%ptr, %idx)) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?xi64>, tensor<?xi64>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
