// Windows of 4 x 4 on an image of width 12, shifted by 2 in both directions.
!rows = tensor<?x?x?x32xf32>
func.func @swin(%q: !rows, %k: !rows, %v: !rows, %table: tensor<?x7x7xf32>) -> !rows {
  %o = attn.attend %q segment(%k, %v) where(grid(12, shift(2, block(4)), shift(2, block(4))))
    score(%s, %b, %h, %i, %j) {
      %w = arith.constant 12 : index
      %m = arith.constant 3 : index
      %yi = arith.floordivsi %i, %w : index
      %yj = arith.floordivsi %j, %w : index
      %xi = arith.remsi %i, %w : index
      %xj = arith.remsi %j, %w : index
      %dy = arith.subi %yi, %yj : index
      %dx = arith.subi %xi, %xj : index
      %y = arith.addi %dy, %m : index
      %x = arith.addi %dx, %m : index
      %t = attn.load %table[%h, %y, %x] : tensor<?x7x7xf32>
      %r = arith.addf %s, %t : f32
      attn.yield %r : f32
    }
    captures(%table) : !rows segment(!rows, !rows) operands(tensor<?x7x7xf32>) -> !rows
  return %o : !rows
}
