// A step of the Universal Transformer's encoder: positions that have halted have no keys.
func.func @attention(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %running: tensor<?x?xi1>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q segment(%k, %v) where(queries(%running))
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?xi1>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
