// ProbSparse attention without a mask; %base is the mean of V for every row.
func.func @informer(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %top: tensor<?x?x?xi64>, %base: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %g = attn.gather_rows %q[%top] : tensor<?x?x?x32xf32>, tensor<?x?x?xi64> -> tensor<?x?x?x32xf32>
  %o = attn.attend %g segment(%k, %v) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %y = attn.scatter_rows overwrite %o[%top] into %base : tensor<?x?x?x32xf32>, tensor<?x?x?xi64>, tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  return %y : tensor<?x?x?x32xf32>
}
