// Transformer-XL with 20 rows of memory before the sequence: qu = q + u, qw = q + w, row n of r is that of the distance n.
func.func @transformer_xl(%qu: tensor<?x?x?x32xf32>, %qw: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %r: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %qu segment(%k, %v) where(causal) k_offset(-20) dots(%qu, %k; %qw, %r[i - j]) q_offset(0)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
