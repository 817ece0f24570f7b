// Blocks of 8: the neighbours, two listed ones, and the first and the last block in both directions.
!rows = tensor<?x?x?x32xf32>
func.func @bigbird(%q: !rows, %k: !rows, %v: !rows, %random: tensor<?x?x?x2xi32>) -> !rows {
  %o = attn.attend %q segment(%k, %v) where(coarse(8, window(1, 1) | listed(%random)) | global_tokens([0 to 8, end - 8 to end]))
    : !rows segment(!rows, !rows) operands(tensor<?x?x?x2xi32>) -> !rows
  return %o : !rows
}
