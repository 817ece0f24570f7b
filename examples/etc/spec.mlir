// The long rows of ETC: a window of long tokens and all global ones under one softmax, with the learned row and bias of a relative id.
!rows = tensor<?x?x?x32xf32>
!ids = tensor<?x?x?xi32>
func.func @etc(%q: !rows, %kll: !rows, %vll: !rows, %klg: !rows, %vlg: !rows, %e: tensor<?x1x32x9xf32>, %bias: tensor<?x?xf32>, %ll: !ids, %lg: !ids) -> !rows {
  %qe = attn.convolve %q, %e : !rows, tensor<?x1x32x9xf32> -> tensor<?x?x?x9xf32>
  %o = attn.attend %q
    segment(%kll, %vll) where(window(6, 6))
      score(%s, %b, %h, %i, %j) {
        %scale = arith.constant 0.17677669529663687 : f32
        %id = attn.load %ll[%b, %i, %j] : !ids
        %n = arith.index_cast %id : i32 to index
        %x = attn.load %bias[%h, %n] : tensor<?x?xf32>
        %dot = attn.load %qe[%b, %h, %i, %n] : tensor<?x?x?x9xf32>
        %r = arith.mulf %dot, %scale : f32
        %t = arith.addf %s, %r : f32
        %y = arith.addf %t, %x : f32
        attn.yield %y : f32
      }
    segment(%klg, %vlg) where(full)
      score(%s, %b, %h, %i, %j) {
        %scale = arith.constant 0.17677669529663687 : f32
        %id = attn.load %lg[%b, %i, %j] : !ids
        %n = arith.index_cast %id : i32 to index
        %x = attn.load %bias[%h, %n] : tensor<?x?xf32>
        %dot = attn.load %qe[%b, %h, %i, %n] : tensor<?x?x?x9xf32>
        %r = arith.mulf %dot, %scale : f32
        %t = arith.addf %s, %r : f32
        %y = arith.addf %t, %x : f32
        attn.yield %y : f32
      }
    q_offset(0) captures(%bias, %qe, %ll, %lg)
    : !rows segment(!rows, !rows) segment(!rows, !rows) operands(tensor<?x?xf32>, tensor<?x?x?x9xf32>, !ids, !ids) -> !rows
  return %o : !rows
}
