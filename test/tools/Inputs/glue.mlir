// Glue that an op computes while it reads.
func.func @totals(%k: tensor<?x?x?x64xf32>, %w: tensor<?x3xf32>) -> tensor<?x?x3x64xf32> {
  %e = math.exp %k : tensor<?x?x?x64xf32>
  %y = attn.project %e, %w : tensor<?x?x?x64xf32>, tensor<?x3xf32> -> tensor<?x?x3x64xf32>
  return %y : tensor<?x?x3x64xf32>
}
