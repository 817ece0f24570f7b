// Linear Transformer, causal.
func.func @linear(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %o = attn.linear_attend %q, %k, %v causal eps(1.0e-06) feature {
  ^bb0(%x: f32):
    %zero = arith.constant 0.0 : f32
    %one = arith.constant 1.0 : f32
    %positive = arith.cmpf ogt, %x, %zero : f32
    %above = arith.addf %x, %one : f32
    %below = math.exp %x : f32
    %y = arith.select %positive, %above, %below : f32
    attn.yield %y : f32
  } : (tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
