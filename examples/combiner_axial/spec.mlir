// Combiner-Axial, vertical, on images of width 6 in raster order: a summary for each place holds its column above it.
func.func @combiner(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %qs = attn.scan max %q stride(6) exclusive : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %ks = attn.scan max %k stride(6) exclusive : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %vs = attn.attend %qs segment(%k, %v) where(grid(6, causal(1), offsets([0])))
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%k, %v) where(grid(6, offsets([0]), causal) | grid(6, causal(1), offsets([0])))
    segment(%ks, %vs) where(grid(6, offsets([0]), ~offsets([0])) & queries([6 to end]))
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
