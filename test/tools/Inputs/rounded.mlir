// Scores are rounded to bf16 where the text says so, and a result to its type when it is stored.
func.func @rounded(%q: tensor<?x2x?x16xf32>, %k: tensor<?x2x?x16xf32>, %v: tensor<?x2x?x16xf32>)
    -> tensor<?x2x?x16xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal) score(%s, %b, %h, %i, %j) {
    %t = arith.truncf %s : f32 to bf16
    %u = math.exp %t : bf16
    %w = arith.addf %u, %t : bf16
    %e = arith.extf %w : bf16 to f32
    attn.yield %e : f32
  } : tensor<?x2x?x16xf32> segment(tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) -> tensor<?x2x?x16xf32>
  return %o : tensor<?x2x?x16xf32>
}
