// Compressive Transformer: old memory pooled by 3 (8 rows), 10 rows of memory, the sequence; distances in the concatenation.
func.func @compressive(%qu: tensor<?x?x?x32xf32>, %qw: tensor<?x?x?x32xf32>, %ko: tensor<?x?x?x32xf32>, %vo: tensor<?x?x?x32xf32>, %km: tensor<?x?x?x32xf32>, %vm: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %r: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %kc = attn.pool mean %ko size(3) : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %vc = attn.pool mean %vo size(3) : tensor<?x?x?x32xf32> -> tensor<?x?x?x32xf32>
  %o = attn.attend %qu
    segment(%kc, %vc) where(full) k_offset(0) dots(%qu, %kc; %qw, %r[i - j])
    segment(%km, %vm) where(causal) k_offset(8) dots(%qu, %km; %qw, %r[i - j])
    segment(%k, %v) where(causal) k_offset(18) dots(%qu, %k; %qw, %r[i - j])
    q_offset(18)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
