// The long rows of ETC: a window of long tokens and all global ones under one softmax, with the learned row and bias of a relative id.
!rows = tensor<?x?x?x32xf32>
!ids = tensor<?x?x?xi32>
!products = tensor<?x?x?x9xf32>
func.func @etc(%q: !rows, %kll: !rows, %vll: !rows, %klg: !rows, %vlg: !rows, %e: tensor<?x1x32x9xf32>, %bias: tensor<?x9xf32>, %ll: !ids, %lg: !ids) -> !rows {
  %qe = attn.convolve %q, %e bias(%bias) : !rows, tensor<?x1x32x9xf32> bias(tensor<?x9xf32>) -> !products
  %o = attn.attend %q
    segment(%kll, %vll) where(window(6, 6))
      score(%s, %b, %h, %i, %j) {
        %r = arith.constant 6 : index
        %apart = arith.subi %j, %i : index
        %at = arith.addi %apart, %r : index
        %id = attn.load %ll[%b, %i, %at] : !ids
        %n = arith.index_cast %id : i32 to index
        %x = attn.load %qe[%b, %h, %i, %n] : !products
        %y = arith.addf %s, %x : f32
        attn.yield %y : f32
      }
    segment(%klg, %vlg) where(full)
      score(%s, %b, %h, %i, %j) {
        %id = attn.load %lg[%b, %i, %j] : !ids
        %n = arith.index_cast %id : i32 to index
        %x = attn.load %qe[%b, %h, %i, %n] : !products
        %y = arith.addf %s, %x : f32
        attn.yield %y : f32
      }
    q_offset(0) captures(%qe, %ll, %lg)
    : !rows segment(!rows, !rows) segment(!rows, !rows) operands(!products, !ids, !ids) -> !rows
  return %o : !rows
}
