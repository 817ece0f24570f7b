// Edges as keys: %first and %end of a node's edges, %idx the node at the other end, %e a number for each head and edge.
!rows = tensor<?x?x?x32xf32>
!ids = tensor<?x?xi64>
func.func @gat(%v: !rows, %a: tensor<?x?x?xf32>, %c: tensor<?x?x?xf32>, %e: tensor<?x?xf32>, %first: !ids, %end: !ids, %idx: !ids) -> !rows {
  %n = attn.gather_rows %v[%idx] : !rows, !ids -> !rows
  %o = attn.attend %v segment(%n, %n) where(between(%first, %end)) dots()
      score(%b, %h, %i, %j) {
        %zero = arith.constant 0.0 : f32
        %slope = arith.constant 0.2 : f32
        %only = arith.constant 0 : index
        %to = attn.load %idx[%only, %j] : !ids
        %t = arith.index_cast %to : i64 to index
        %x = attn.load %a[%b, %h, %i] : tensor<?x?x?xf32>
        %y = attn.load %c[%b, %h, %t] : tensor<?x?x?xf32>
        %z = attn.load %e[%h, %j] : tensor<?x?xf32>
        %xy = arith.addf %x, %y : f32
        %s = arith.addf %xy, %z : f32
        %low = arith.mulf %s, %slope : f32
        %up = arith.cmpf ogt, %s, %zero : f32
        %r = arith.select %up, %s, %low : f32
        attn.yield %r : f32
      }
    q_offset(0) captures(%a, %c, %e, %idx)
    : !rows segment(!rows, !rows) operands(!ids, !ids, tensor<?x?x?xf32>, tensor<?x?x?xf32>, tensor<?x?xf32>, !ids) -> !rows
  return %o : !rows
}
