// ALiBi on a causal pattern: a score falls by slope[h] for each position that the key lies back.
func.func @alibi(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>,
                 %slopes: tensor<8xf32>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal)
      score(%s, %b, %h, %i, %j) {
        %slope = attn.load %slopes[%h] : tensor<8xf32>
        %back = arith.subi %i, %j : index
        %n = arith.index_cast %back : index to i64
        %f = arith.sitofp %n : i64 to f32
        %bias = arith.mulf %slope, %f : f32
        %r = arith.subf %s, %bias : f32
        attn.yield %r : f32
      }
      captures(%slopes)
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(tensor<8xf32>)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
