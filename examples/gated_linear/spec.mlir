// The logarithm of what each channel keeps at each row is %g.
!keys = tensor<?x?x?x16xf32>
!values = tensor<?x?x?x32xf32>
func.func @gated(%q: !keys, %k: !keys, %v: !values, %g: !keys) -> !values {
  %o = attn.linear_attend %q, %k, %v causal decay(%g) normalizer(none)
    : (!keys, !keys, !values, !keys) -> !values
  return %o : !values
}
