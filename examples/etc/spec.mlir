// The long rows of ETC: a window of long tokens and all global ones under one softmax, with a learned bias by relative id.
func.func @etc(%q: tensor<?x?x?x32xf32>, %kll: tensor<?x?x?x32xf32>, %vll: tensor<?x?x?x32xf32>, %klg: tensor<?x?x?x32xf32>, %vlg: tensor<?x?x?x32xf32>, %bias: tensor<?x?xf32>, %ll: tensor<?x?x?xi32>, %lg: tensor<?x?x?xi32>) -> tensor<?x?x?x32xf32> {
  %o = attn.attend %q
    segment(%kll, %vll) where(window(6, 6))
      score(%s, %b, %h, %i, %j) {
        %id = attn.load %ll[%b, %i, %j] : tensor<?x?x?xi32>
        %n = arith.index_cast %id : i32 to index
        %x = attn.load %bias[%h, %n] : tensor<?x?xf32>
        %y = arith.addf %s, %x : f32
        attn.yield %y : f32
      }
    segment(%klg, %vlg) where(full)
      score(%s, %b, %h, %i, %j) {
        %id = attn.load %lg[%b, %i, %j] : tensor<?x?x?xi32>
        %n = arith.index_cast %id : i32 to index
        %x = attn.load %bias[%h, %n] : tensor<?x?xf32>
        %y = arith.addf %s, %x : f32
        attn.yield %y : f32
      }
    q_offset(0) captures(%bias, %ll, %lg)
    : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?xf32>, tensor<?x?x?xi32>, tensor<?x?x?xi32>) -> tensor<?x?x?x32xf32>
  return %o : tensor<?x?x?x32xf32>
}
