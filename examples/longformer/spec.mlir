// Longformer: 8 tokens to each side and the flagged ones; rows of the listed global tokens see all, with their own projections.
func.func @longformer(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %qg: tensor<?x?x?x32xf32>, %kg: tensor<?x?x?x32xf32>, %vg: tensor<?x?x?x32xf32>, %valid: tensor<?x?xi1>, %flags: tensor<?x?xi1>, %tokens: tensor<?x?xi64>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q segment(%k, %v) where((window(8, 8) | keys(%flags)) & keys(%valid) & queries(%valid))
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?x?x32xf32>
  %g = attn.gather_rows %qg[%tokens] : tensor<?x?x?x32xf32>, tensor<?x?xi64> -> tensor<?x?x?x32xf32>
  %w = attn.attend %g segment(%kg, %vg) where(keys(%valid)) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?xi1>) -> tensor<?x?x?x32xf32>
  %y = attn.scatter_rows overwrite %w[%tokens] into %o : tensor<?x?x?x32xf32>, tensor<?x?xi64>, tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  return %y : tensor<?x?x?x32xf32>
}
