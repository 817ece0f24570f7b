// Every query attends to every key: softmax(Q K^T / sqrt(d)) V.
//   heddle run examples/dense.mlir --shape n=1024 --check
func.func @dense(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
