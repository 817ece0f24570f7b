// Linformer with one E and F for all heads.
func.func @linformer(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %e: tensor<?x?xf32>, %f: tensor<?x?xf32>) -> tensor<?x?x?x32xf32> {
  %kp = attn.project %k, %e : tensor<?x?x?x32xf32>, tensor<?x?xf32> -> tensor<?x?x?x32xf32>
  %vp = attn.project %v, %f : tensor<?x?x?x32xf32>, tensor<?x?xf32> -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%kp, %vp) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
