// Attention inside of clusters of 16 members, causal.
func.func @routing(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %m: tensor<?x?x?xi64>) -> tensor<?x?x?x32xf32> {
  %gq = attn.gather_rows %q[%m] : tensor<?x?x?x32xf32>, tensor<?x?x?xi64> -> tensor<?x?x?x32xf32>
  %gk = attn.gather_rows %k[%m] : tensor<?x?x?x32xf32>, tensor<?x?x?xi64> -> tensor<?x?x?x32xf32>
  %gv = attn.gather_rows %v[%m] : tensor<?x?x?x32xf32>, tensor<?x?x?xi64> -> tensor<?x?x?x32xf32>
  %o = attn.attend %gq segment(%gk, %gv) where(block(16) & causal) scale(1.0) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %y = attn.scatter_rows mean %o[%m] into %q eps(0.01) zeros : tensor<?x?x?x32xf32>, tensor<?x?x?xi64>, tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  return %y : tensor<?x?x?x32xf32>
}
