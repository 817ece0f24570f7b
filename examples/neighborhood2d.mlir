// Neighborhood attention (NATTEN) on a picture of 32 by 32 tokens: the 7 by 7 tokens around each one, shifted inward at
// the borders so that every token has 49.
//   heddle show examples/neighborhood2d.mlir --shape n=256 -o neighborhood.png
func.func @neighborhood2d(%q: tensor<?x8x?x32xf32>, %k: tensor<?x8x?x32xf32>, %v: tensor<?x8x?x32xf32>)
    -> tensor<?x8x?x32xf32> {
  %o = attn.attend %q segment(%k, %v) where(grid(32, neighborhood(7, 32), neighborhood(7, 32)))
    : tensor<?x8x?x32xf32> segment(tensor<?x8x?x32xf32>, tensor<?x8x?x32xf32>) -> tensor<?x8x?x32xf32>
  return %o : tensor<?x8x?x32xf32>
}
