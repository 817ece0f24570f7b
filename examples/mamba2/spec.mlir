// Retention: the logarithm of each row's decay is %g.
!keys = tensor<?x?x?x16xf32>
!values = tensor<?x?x?x32xf32>
func.func @retention(%q: !keys, %k: !keys, %v: !values, %g: tensor<?x?x?xf32>) -> !values {
  %o = attn.linear_attend %q, %k, %v causal decay(%g) normalizer(none)
    : (!keys, !keys, !values, tensor<?x?x?xf32>) -> !values
  return %o : !values
}
