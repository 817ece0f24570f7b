// A sliding window: the query itself and the %w keys before it. The width is a run-time integer: one kernel serves all.
//   heddle run examples/window.mlir --shape n=8192,w=255 --compare-dense
func.func @window(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>, %w: index)
    -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(window(%w, 0))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(index)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
