// A random Synthesizer: the score is a learned matrix of each head.
func.func @random(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %r: tensor<?x?x?xf32>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q segment(%k, %v) dots() score(%b, %h, %i, %j) {
      %x = attn.load %r[%h, %i, %j] : tensor<?x?x?xf32>
      attn.yield %x : f32
    } captures(%r) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
