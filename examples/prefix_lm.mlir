// Prefix LM (T5): everybody sees the prefix of %prefix tokens, the rest is causal.
func.func @prefix_lm(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>, %prefix: index)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(causal | keys([0 to %prefix]))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(index)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
