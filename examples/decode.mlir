// One decoding step with a cache: %cached keys lie before the first query of each batch entry.
//   heddle run examples/decode.mlir --shape b=4,nq=1,nk=4096
func.func @decode(%q: tensor<?x8x?x64xf32>, %k: tensor<?x2x?x64xf32>, %v: tensor<?x2x?x64xf32>,
                  %cached: tensor<?xi64>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal) q_offset(%cached)
    : tensor<?x8x?x64xf32> segment(tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>) operands(tensor<?xi64>)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
