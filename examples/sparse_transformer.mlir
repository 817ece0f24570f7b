// Sparse Transformer (Child et al. 2019), strided, l = 64, both parts in one head: the last l positions, and every l-th
// position before. The two overlap; a union counts each pair once.
func.func @sparse_transformer(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x8x?x64xbf16>, %v: tensor<?x8x?x64xbf16>)
    -> tensor<?x8x?x64xbf16> {
  %o = attn.attend %q segment(%k, %v) where(causal & (window(63, 0) | stride(64)))
    : tensor<?x8x?x64xbf16> segment(tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>) -> tensor<?x8x?x64xbf16>
  return %o : tensor<?x8x?x64xbf16>
}
