// Gemma 2's soft cap on a causal pattern: 50 tanh(s / 50).
func.func @softcap(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal)
      score(%s, %b, %h, %i, %j) {
        %cap = arith.constant 50.0 : f32
        %x = arith.divf %s, %cap : f32
        %t = math.tanh %x : f32
        %r = arith.mulf %t, %cap : f32
        attn.yield %r : f32
      }
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
