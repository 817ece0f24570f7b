// A learned bias by head and distance on a causal pattern, the same from 128 positions on.
func.func @relative_bias(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>,
                         %table: tensor<8x129xf32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal)
      score(%s, %b, %h, %i, %j) {
        %far = arith.constant 128 : index
        %back = arith.subi %i, %j : index
        %n = arith.minsi %back, %far : index
        %bias = attn.load %table[%h, %n] : tensor<8x129xf32>
        %r = arith.addf %s, %bias : f32
        attn.yield %r : f32
      }
      captures(%table)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(tensor<8x129xf32>)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
