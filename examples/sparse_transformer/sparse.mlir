// The strided pattern of the Sparse Transformer (Child et al., 2019), l = 64: a query sees the last l positions, its
// own among them, and every l-th position before it.
func.func @sparse(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(63, 0) | stride(64)))
     : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
