// Seven tokens to each side and the sums of all blocks; %blocks has the block of each token.
!rows = tensor<?x?x?x32xf32>
func.func @longt5(%q: !rows, %k: !rows, %v: !rows, %ks: !rows, %vs: !rows, %valid: tensor<?x?xi1>, %known: tensor<?x?xi1>, %near: tensor<?x?xf32>, %far: tensor<?x?xf32>, %blocks: tensor<?x?xi64>) -> !rows {
  %o = attn.attend %q scale(1.0)
    segment(%k, %v) where(window(7, 7) & keys(%valid) & queries(%valid))
      score(%s, %b, %h, %i, %j) {
        %c = arith.constant 7 : index
        %d = arith.subi %j, %i : index
        %at = arith.addi %d, %c : index
        %x = attn.load %near[%h, %at] : tensor<?x?xf32>
        %y = arith.addf %s, %x : f32
        attn.yield %y : f32
      }
    segment(%ks, %vs) where(keys(%known) & queries(%valid))
      score(%s, %b, %h, %i, %j) {
        %own = attn.load %blocks[%b, %i] : tensor<?x?xi64>
        %u = arith.index_cast %own : i64 to index
        %d = arith.subi %j, %u : index
        %c = arith.constant 128 : index
        %at = arith.addi %d, %c : index
        %x = attn.load %far[%h, %at] : tensor<?x?xf32>
        %y = arith.addf %s, %x : f32
        attn.yield %y : f32
      }
    q_offset(0) captures(%near, %far, %blocks)
    : !rows segment(!rows, !rows) segment(!rows, !rows) operands(tensor<?x?xi1>, tensor<?x?xi1>, tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xi64>) -> !rows
  return %o : !rows
}
