// Attention through inducing points, scaled by the width of two heads.
func.func @induced(%i: tensor<?x?x?x32xf32>, %q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %h = attn.attend %i segment(%k, %v) scale(0.125) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%h, %h) scale(0.125) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
