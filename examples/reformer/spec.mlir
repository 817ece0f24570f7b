// Two rounds of LSH attention, chunks of 8 sorted ranks: buckets b0, b1 and ranks r0, r1 are inputs.
func.func @reformer(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %b0: tensor<?x?x?xi32>, %b1: tensor<?x?x?xi32>, %r0: tensor<?x?x?xi32>, %r1: tensor<?x?x?xi32>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q
      segment(%k, %v) where(same(%b0, %b0) & positions(%r0, %r0, coarse(8, offsets([0, 1]))) & causal)
        score(%s, %b, %h, %i, %j) {
          %self = arith.cmpi eq, %i, %j : index
          %penalty = arith.constant 1.0e+05 : f32
          %alone = arith.subf %s, %penalty : f32
          %one = arith.constant 1.0 : f32
          %zero = arith.constant 0.0 : f32
          %x0 = attn.load %b0[%b, %h, %i] : tensor<?x?x?xi32>
          %y0 = attn.load %b0[%b, %h, %j] : tensor<?x?x?xi32>
          %same0 = arith.cmpi eq, %x0, %y0 : i32
          %n0 = arith.select %same0, %one, %zero : f32
          %x1 = attn.load %b1[%b, %h, %i] : tensor<?x?x?xi32>
          %y1 = attn.load %b1[%b, %h, %j] : tensor<?x?x?xi32>
          %same1 = arith.cmpi eq, %x1, %y1 : i32
          %n1 = arith.select %same1, %one, %zero : f32
          %rounds = arith.addf %n0, %n1 : f32
          %log = math.log %rounds : f32
          %other = arith.subf %s, %log : f32
          %score = arith.select %self, %alone, %other : f32
          attn.yield %score : f32
        }
      segment(%k, %v) where(same(%b1, %b1) & positions(%r1, %r1, coarse(8, offsets([0, 1]))) & causal)
        score(%s, %b, %h, %i, %j) {
          %self = arith.cmpi eq, %i, %j : index
          %penalty = arith.constant 1.0e+05 : f32
          %alone = arith.subf %s, %penalty : f32
          %one = arith.constant 1.0 : f32
          %zero = arith.constant 0.0 : f32
          %x0 = attn.load %b0[%b, %h, %i] : tensor<?x?x?xi32>
          %y0 = attn.load %b0[%b, %h, %j] : tensor<?x?x?xi32>
          %same0 = arith.cmpi eq, %x0, %y0 : i32
          %n0 = arith.select %same0, %one, %zero : f32
          %x1 = attn.load %b1[%b, %h, %i] : tensor<?x?x?xi32>
          %y1 = attn.load %b1[%b, %h, %j] : tensor<?x?x?xi32>
          %same1 = arith.cmpi eq, %x1, %y1 : i32
          %n1 = arith.select %same1, %one, %zero : f32
          %rounds = arith.addf %n0, %n1 : f32
          %log = math.log %rounds : f32
          %other = arith.subf %s, %log : f32
          %score = arith.select %self, %alone, %other : f32
          attn.yield %score : f32
        }
      captures(%b0, %b1)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?xi32>, tensor<?x?x?xi32>, tensor<?x?x?xi32>, tensor<?x?x?xi32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
