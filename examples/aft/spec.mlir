// AFT full: numerator and denominator side by side in the values; the host divides and gates.
func.func @aft(%q: tensor<?x?x?x16xf32>, %both: tensor<?x?x?x32xf32>, %w: tensor<?x?xf32>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q segment(%q, %both) dots() score(%b, %h, %i, %j) {
      %x = attn.load %w[%i, %j] : tensor<?x?xf32>
      %e = math.exp %x : f32
      attn.yield %e : f32
    } captures(%w) normalizer(none)
    : tensor<?x?x?x16xf32> segment(tensor<?x?x?x16xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?xf32>)
    -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
