// Both halves, causal, seven taps.
func.func @lsra(%q: tensor<?x?x?x32xf32>, %k: tensor<?x?x?x32xf32>, %v: tensor<?x?x?x32xf32>, %x: tensor<?x?x?x32xf32>, %taps: tensor<?x?x?x7xf32>) -> (tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) {
  %far = attn.attend %q segment(%k, %v) where(causal) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
  %near = attn.attend %q segment(%x, %x) where(window(6, 0)) dots() score(%b, %h, %i, %j) {
      %c = arith.constant 6 : index
      %d = arith.subi %j, %i : index
      %t = arith.addi %d, %c : index
      %w = attn.load %taps[%b, %h, %i, %t] : tensor<?x?x?x7xf32>
      attn.yield %w : f32
    } captures(%taps) normalizer(none) : tensor<?x?x?x32xf32> segment(tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>) operands(tensor<?x?x?x7xf32>) -> tensor<?x?x?x32xf32>
  return %far, %near : tensor<?x?x?x32xf32>, tensor<?x?x?x32xf32>
}
