// The attention of every round of ALBERT: all keys that are not padding.
func.func @attention(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %lengths: tensor<?xi64>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q segment(%k, %v) where(lengths(%lengths))
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?xi64>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
