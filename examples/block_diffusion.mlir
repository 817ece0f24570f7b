// Block diffusion (Arriola et al. 2025), training: the noised tokens attend to their own block of 16 and to the clean
// tokens of earlier blocks. Noised and clean keys are two segments under one softmax.
func.func @block_diffusion(%q: tensor<?x8x?x64xf32>, %k_noised: tensor<?x8x?x64xf32>, %v_noised: tensor<?x8x?x64xf32>,
                           %k_clean: tensor<?x8x?x64xf32>, %v_clean: tensor<?x8x?x64xf32>)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q
      segment(%k_noised, %v_noised) where(block(16))
      segment(%k_clean, %v_clean) where(coarse(16, causal(1)))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>)
      segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
