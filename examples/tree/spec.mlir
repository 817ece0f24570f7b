// Tree attention: the values of nodes are accumulated from the leaves and nodes below them; leaves see leaves.
!rows = tensor<?x?x?x32xf32>
!ids = tensor<?x?xi32>
func.func @tree(%qn: !rows, %kn: !rows, %vn: !rows, %ql: !rows, %kl: !rows, %vl: !rows, %w: tensor<?x?x?xf32>, %down: !rows, %across: !rows,
                %lo: !ids, %hi: !ids, %first: !ids, %end: !ids, %plo: !ids, %phi: !ids, %level: !ids, %lleaf: !ids,
                %node: !ids, %leaf: !ids, %depth: !ids, %place: !ids) -> (!rows, !rows) {
  %n = attn.gather_rows %vn[%node] : !rows, !ids -> !rows
  %ev = attn.gather_rows %down[%depth] : !rows, !ids -> !rows
  %eh = attn.gather_rows %across[%place] : !rows, !ids -> !rows
  %e = arith.addf %ev, %eh : !rows
  %pairs = arith.addf %n, %e : !rows
  %acc = attn.attend %vn
    segment(%vl, %vl) where(between(%lo, %hi)) dots()
      score(%b, %h, %i, %j) {
        %one = arith.constant 1 : i32
        %x = attn.load %w[%b, %h, %j] : tensor<?x?x?xf32>
        %l = attn.load %lo[%b, %i] : !ids
        %m = attn.load %hi[%b, %i] : !ids
        %leaves = arith.subi %m, %l : i32
        %top = attn.load %level[%b, %i] : !ids
        %bottom = attn.load %lleaf[%b, %j] : !ids
        %d = arith.subi %bottom, %top : i32
        %branch = arith.addi %d, %one : i32
        %product = arith.muli %leaves, %branch : i32
        %below = arith.sitofp %product : i32 to f32
        %y = arith.divf %x, %below : f32
        attn.yield %y : f32
      }
    segment(%pairs, %pairs) where(between(%plo, %phi)) dots()
      score(%b, %h, %i, %p) {
        %one = arith.constant 1 : i32
        %j32 = attn.load %leaf[%b, %p] : !ids
        %j = arith.index_cast %j32 : i32 to index
        %x = attn.load %w[%b, %h, %j] : tensor<?x?x?xf32>
        %l = attn.load %lo[%b, %i] : !ids
        %m = attn.load %hi[%b, %i] : !ids
        %leaves = arith.subi %m, %l : i32
        %top = attn.load %level[%b, %i] : !ids
        %bottom = attn.load %lleaf[%b, %j] : !ids
        %d = arith.subi %bottom, %top : i32
        %branch = arith.addi %d, %one : i32
        %product = arith.muli %leaves, %branch : i32
        %below = arith.sitofp %product : i32 to f32
        %y = arith.divf %x, %below : f32
        attn.yield %y : f32
      }
    q_offset(0) normalizer(none) captures(%w, %lo, %hi, %level, %lleaf, %leaf)
    : !rows segment(!rows, !rows) segment(!rows, !rows) operands(!ids, !ids, !ids, !ids, tensor<?x?x?xf32>, !ids, !ids, !ids) -> !rows
  %on = attn.attend %qn segment(%kn, %acc) where(between(%first, %end)) segment(%kl, %vl) where(between(%lo, %hi)) q_offset(0)
    : !rows segment(!rows, !rows) segment(!rows, !rows) operands(!ids, !ids, !ids, !ids) -> !rows
  %ol = attn.attend %ql segment(%kl, %vl) : !rows segment(!rows, !rows) -> !rows
  return %on, %ol : !rows, !rows
}
