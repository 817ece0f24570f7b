// A mask of bits is scanned pair by pair.
func.func @mask(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>,
                %bits: tensor<?x1x?x?xi1>) -> tensor<?x8x?x64xf32> {
  %o = attn.attend %q segment(%k, %v) where(mask(%bits))
    : tensor<?x8x?x64xf32> segment(tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>) operands(tensor<?x1x?x?xi1>)
      -> tensor<?x8x?x64xf32>
  return %o : tensor<?x8x?x64xf32>
}
