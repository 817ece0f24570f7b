// The paper's form: %r has the rows of the distances -6 to 5 on the keys, %w their columns on the queries, by the scale.
!rows = tensor<?x?x?x32xf32>
!products = tensor<?x?x?x12xf32>
func.func @deberta(%q: !rows, %k: !rows, %v: !rows, %r: !rows, %w: tensor<?x1x32x12xf32>) -> !rows {
  %p = attn.convolve %k, %w : !rows, tensor<?x1x32x12xf32> -> !products
  %o = attn.attend %q segment(%k, %v) scale(0.10206207) dots(%q, %k; %q, %r[i - j + 6])
    score(%s, %t, %b, %h, %i, %j) {
      %zero = arith.constant 0 : index
      %six = arith.constant 6 : index
      %last = arith.constant 11 : index
      %apart = arith.subi %j, %i : index
      %n = arith.addi %apart, %six : index
      %low = arith.maxsi %n, %zero : index
      %at = arith.minsi %low, %last : index
      %x = attn.load %p[%b, %h, %j, %at] : !products
      %y = arith.addf %s, %t : f32
      %z = arith.addf %y, %x : f32
      attn.yield %z : f32
    }
    q_offset(0) captures(%p) : !rows segment(!rows, !rows) operands(!rows, !products) -> !rows
  return %o : !rows
}
