// The spatial gate's mixing, causal; the host adds the bias and multiplies by the other half.
func.func @mix(%z: tensor<?x?x?x48xf32>, %w: tensor<?x?xf32>) -> tensor<?x?x?x48xf32> {
  %o = attn.attend %z segment(%z, %z) where(causal) dots() score(%b, %h, %i, %j) {
      %x = attn.load %w[%i, %j] : tensor<?x?xf32>
      attn.yield %x : f32
    } captures(%w) normalizer(none)
    : tensor<?x?x?x48xf32> segment(tensor<?x?x?x48xf32>, tensor<?x?x?x48xf32>) operands(tensor<?x?xf32>)
    -> tensor<?x?x?x48xf32>
  return %o : tensor<?x?x?x48xf32>
}
