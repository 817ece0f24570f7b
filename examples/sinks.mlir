// StreamingLLM: the first four keys stay visible beside a causal window. %sink is a logit per head that takes a share of
// the softmax and carries no value (gpt-oss).
func.func @sinks(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>, %sink: tensor<8xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal & (keys([0 to 4]) | window(127, 0))) sink(%sink)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(tensor<8xf32>)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
