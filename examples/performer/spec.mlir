// Causal linear attention of features that the host has made.
func.func @performer(%q: tensor<?x?x?x24xf32>, %k: tensor<?x?x?x24xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %o = attn.linear_attend %q, %k, %v causal : (tensor<?x?x?x24xf32>, tensor<?x?x?x24xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
