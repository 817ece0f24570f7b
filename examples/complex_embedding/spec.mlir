// The modulus of a complex product as the score; values hold both parts.
func.func @modulus(%qr: tensor<?x?x?x16xf32>, %qi: tensor<?x?x?x16xf32>, %kr: tensor<?x?x?x16xf32>,
                   %ki: tensor<?x?x?x16xf32>, %v: tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %qr segment(%kr, %v) dots(%qr, %kr; %qi, %ki; %qr, %ki; %qi, %kr)
    score(%a, %b, %c, %d, %bb, %h, %i, %j) {
      %x = arith.subf %a, %b : f32
      %y = arith.addf %c, %d : f32
      %xx = arith.mulf %x, %x : f32
      %yy = arith.mulf %y, %y : f32
      %s = arith.addf %xx, %yy : f32
      %m = math.sqrt %s : f32
      attn.yield %m : f32
    }
    : tensor<?x?x?x16xf32> segment(tensor<?x?x?x16xf32>, tensor<?x?x?x32xf32>)
    operands(tensor<?x?x?x16xf32>, tensor<?x?x?x16xf32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
