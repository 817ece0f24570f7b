// Longformer (Beltagy et al. 2020), the rows of tokens that are not global: a window on both sides, dilated in the last
// two heads, and the global tokens 0 to 3. (The rows of global tokens have projections of their own: a second attend.)
func.func @longformer(%q: tensor<?x4x?x64xf32>, %k: tensor<?x4x?x64xf32>, %v: tensor<?x4x?x64xf32>)
    -> tensor<?x4x?x64xf32> {
  %o = attn.attend %q
      segment(%k, %v) where(per_head([window(32, 32), window(32, 32), window(32, 32, 2), window(32, 32, 2)])
                            | keys([0 to 4]))
    : tensor<?x4x?x64xf32> segment(tensor<?x4x?x64xf32>, tensor<?x4x?x64xf32>) -> tensor<?x4x?x64xf32>
  return %o : tensor<?x4x?x64xf32>
}
