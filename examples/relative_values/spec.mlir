// Causal, distances 0 to 3: rows %r on the keys, %c0 ... %c2 on the values less that of 3, which is %base (one row
// throughout, by strides of 0).
!rows = tensor<?x?x?x32xf32>
#all = affine_map<(b, h, i, d) -> (b, h, i, d)>
#row = affine_map<(b, h, i, d) -> (d)>
!lse = tensor<?x?x?xf32>
func.func @shaw(%q: !rows, %k: !rows, %v: !rows, %r: !rows, %base: tensor<32xf32>, %c2: !rows, %c1: !rows, %c0: !rows) -> !rows {
  %o, %lse = attn.attend %q segment(%k, %v) where(causal) dots(%q, %k; %q, %r[i - j + 3]) lse
    : !rows segment(!rows, !rows) operands(!rows) -> !rows, !lse
  %p = attn.attend %q
    segment(%k, %c2) where(offsets([2])) dots(%q, %k; %q, %r[i - j + 3])
      score(%s, %t, %b, %h, %i, %j) {
        %l = attn.load %lse[%b, %h, %i] : !lse
        %x = arith.addf %s, %t : f32
        %y = arith.subf %x, %l : f32
        %e = math.exp %y : f32
        attn.yield %e : f32
      }
    segment(%k, %c1) where(offsets([1])) dots(%q, %k; %q, %r[i - j + 3])
      score(%s, %t, %b, %h, %i, %j) {
        %l = attn.load %lse[%b, %h, %i] : !lse
        %x = arith.addf %s, %t : f32
        %y = arith.subf %x, %l : f32
        %e = math.exp %y : f32
        attn.yield %e : f32
      }
    segment(%k, %c0) where(offsets([0])) dots(%q, %k; %q, %r[i - j + 3])
      score(%s, %t, %b, %h, %i, %j) {
        %l = attn.load %lse[%b, %h, %i] : !lse
        %x = arith.addf %s, %t : f32
        %y = arith.subf %x, %l : f32
        %e = math.exp %y : f32
        attn.yield %e : f32
      }
    captures(%lse) normalizer(none)
    : !rows segment(!rows, !rows) segment(!rows, !rows) segment(!rows, !rows) operands(!rows, !lse) -> !rows
  %y = linalg.generic {indexing_maps = [#all, #all, #row, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%o, %p, %base : !rows, !rows, tensor<32xf32>) outs(%o : !rows) {
  ^bb0(%x: f32, %z: f32, %c: f32, %unused: f32):
    %a = arith.addf %x, %z : f32
    %sum = arith.addf %a, %c : f32
    linalg.yield %sum : f32
  } -> !rows
  return %y : !rows
}
