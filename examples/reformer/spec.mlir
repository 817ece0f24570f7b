// Two rounds of LSH attention, chunks of 8 sorted rows: buckets b0, b1 and ranks r0, r1 (by bucket, then by position)
// are inputs.
// Each round sorts the rows, attends to its own chunk and the one before, and puts the rows back; the rounds merge by lse.
func.func @reformer(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %b0: tensor<?x?x?xi32>, %b1: tensor<?x?x?xi32>, %r0: tensor<?x?x?xi32>, %r1: tensor<?x?x?xi32>)
    -> tensor<?x?x?x32xf32> {
  %order0, %ends0 = attn.group %b0 groups(8) : tensor<?x?x?xi32> -> tensor<?x?x?xi32>, tensor<?x?x9xi32>
  %q0 = attn.gather_rows %q[%order0] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %k0 = attn.gather_rows %k[%order0] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %v0 = attn.gather_rows %v[%order0] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %mine0 = attn.gather_rows %b0[%order0] : tensor<?x?x?xi32>, tensor<?x?x?xi32> -> tensor<?x?x?xi32>
  %theirs0 = attn.gather_rows %b1[%order0] : tensor<?x?x?xi32>, tensor<?x?x?xi32> -> tensor<?x?x?xi32>
  %out0, %lse0 = attn.attend %q0
        segment(%k0, %v0) where(coarse(8, window(1, 0)) & positions(%order0, %order0, causal) & same(%mine0, %mine0))
          score(%s, %b, %h, %i, %j) {
            %t0 = arith.cmpi eq, %i, %j : index
            %t1 = arith.constant 1.0e+05 : f32
            %t2 = arith.subf %s, %t1 : f32
            %t3 = attn.load %theirs0[%b, %h, %i] : tensor<?x?x?xi32>
            %t4 = arith.index_cast %t3 : i32 to index
            %t5 = attn.load %theirs0[%b, %h, %j] : tensor<?x?x?xi32>
            %t6 = arith.index_cast %t5 : i32 to index
            %t7 = arith.cmpi eq, %t4, %t6 : index
            %t8 = arith.constant 0.6931472 : f32
            %t9 = arith.subf %s, %t8 : f32
            %t10 = arith.select %t7, %t9, %s : f32
            %t11 = arith.select %t0, %t2, %t10 : f32
            attn.yield %t11 : f32
          }
        captures(%theirs0) lse
      : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?xi32>, tensor<?x?x?xi32>, tensor<?x?x?xi32>)
      -> tensor<?x?x?x32xf32>, tensor<?x?x?xf32>
  %o0 = attn.gather_rows %out0[%r0] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %l0 = attn.gather_rows %lse0[%r0] : tensor<?x?x?xf32>, tensor<?x?x?xi32> -> tensor<?x?x?xf32>
  %order1, %ends1 = attn.group %b1 groups(8) : tensor<?x?x?xi32> -> tensor<?x?x?xi32>, tensor<?x?x9xi32>
  %q1 = attn.gather_rows %q[%order1] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %k1 = attn.gather_rows %k[%order1] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %v1 = attn.gather_rows %v[%order1] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %mine1 = attn.gather_rows %b1[%order1] : tensor<?x?x?xi32>, tensor<?x?x?xi32> -> tensor<?x?x?xi32>
  %theirs1 = attn.gather_rows %b0[%order1] : tensor<?x?x?xi32>, tensor<?x?x?xi32> -> tensor<?x?x?xi32>
  %out1, %lse1 = attn.attend %q1
        segment(%k1, %v1) where(coarse(8, window(1, 0)) & positions(%order1, %order1, causal) & same(%mine1, %mine1))
          score(%s, %b, %h, %i, %j) {
            %t0 = arith.cmpi eq, %i, %j : index
            %t1 = arith.constant 1.0e+05 : f32
            %t2 = arith.subf %s, %t1 : f32
            %t3 = attn.load %theirs1[%b, %h, %i] : tensor<?x?x?xi32>
            %t4 = arith.index_cast %t3 : i32 to index
            %t5 = attn.load %theirs1[%b, %h, %j] : tensor<?x?x?xi32>
            %t6 = arith.index_cast %t5 : i32 to index
            %t7 = arith.cmpi eq, %t4, %t6 : index
            %t8 = arith.constant 0.6931472 : f32
            %t9 = arith.subf %s, %t8 : f32
            %t10 = arith.select %t7, %t9, %s : f32
            %t11 = arith.select %t0, %t2, %t10 : f32
            attn.yield %t11 : f32
          }
        captures(%theirs1) lse
      : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?xi32>, tensor<?x?x?xi32>, tensor<?x?x?xi32>)
      -> tensor<?x?x?x32xf32>, tensor<?x?x?xf32>
  %o1 = attn.gather_rows %out1[%r1] : tensor<?x?x?x32xf32>, tensor<?x?x?xi32> -> tensor<?x?x?x32xf32>
  %l1 = attn.gather_rows %lse1[%r1] : tensor<?x?x?xf32>, tensor<?x?x?xi32> -> tensor<?x?x?xf32>
  %o, %lse = attn.merge %o0, %o1 lse(%l0, %l1) : (tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>, tensor<?x?x?xf32>, tensor<?x?x?xf32>) -> (tensor<?x?x?x32xf32>, tensor<?x?x?xf32>)
  return %o : tensor<?x?x?x32xf32>
}
