// Memory compressed attention, causal.
func.func @compressed(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %wk: tensor<?x3x32x32xf32>, %bk: tensor<?x32xf32>,
                      %wv: tensor<?x3x32x32xf32>, %bv: tensor<?x32xf32>, %k0: tensor<?x?x?x32xf32>, %v0: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %ck = attn.convolve %k, %wk bias(%bk) : tensor<?x?x?x32xf32>, tensor<?x3x32x32xf32> bias(tensor<?x32xf32>) -> tensor<?x?x?x32xf32>
  %cv = attn.convolve %v, %wv bias(%bv) : tensor<?x?x?x32xf32>, tensor<?x3x32x32xf32> bias(tensor<?x32xf32>) -> tensor<?x?x?x32xf32>
  %o = attn.attend %q segment(%k0, %v0) segment(%ck, %cv) where(past_blocks(3)) q_offset(0)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
