// Causal patterns on summaries: a warning where a summary's tokens are not all past.
// RUN: heddle-opt --attn-annotate-leaks -verify-diagnostics %s

!rows = tensor<?x4x?x8xf32>

func.func @pooled(%q: !rows, %k: !rows, %v: !rows) -> !rows {
  %s = attn.pool mean %k size(4) : !rows -> !rows
  %t = attn.pool mean %v size(4) : !rows -> !rows
  // expected-warning-re@+1 {{the pattern of segment 0 lets query {{[0-9]+}} see row {{[0-9]+}} of a summary, which holds tokens {{[0-9]+}} to {{[0-9]+}}: the future leaks; past_blocks(4, inclusive = true) is the causal form}}
  %o = attn.attend %q segment(%s, %t) where(causal) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  return %o : !rows
}

func.func @past(%q: !rows, %k: !rows, %v: !rows) -> !rows {
  %s = attn.pool mean %k size(4) : !rows -> !rows
  %t = attn.pool mean %v size(4) : !rows -> !rows
  %o = attn.attend %q segment(%s, %t) where(past_blocks(4)) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  %p = attn.attend %q segment(%s, %t) where(past_blocks(4, inclusive = true)) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  return %p : !rows
}

// A memory before the sequence: its positions are no token numbers.
func.func @memory(%q: !rows, %k: !rows, %v: !rows) -> !rows {
  %s = attn.pool mean %k size(4) : !rows -> !rows
  %t = attn.pool mean %v size(4) : !rows -> !rows
  %o = attn.attend %q segment(%s, %t) where(causal) k_offset(-8) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  return %o : !rows
}

func.func @everything(%q: !rows, %k: !rows, %v: !rows) -> !rows {
  %s = attn.pool max %k size(4) : !rows -> !rows
  %o = attn.attend %q segment(%s, %s) where(full) : !rows segment(!rows, !rows) -> !rows
  return %o : !rows
}

func.func @projected(%q: !rows, %k: !rows, %v: !rows, %e: tensor<?x16xf32>) -> !rows {
  %s = attn.project %k, %e : !rows, tensor<?x16xf32> -> tensor<?x4x16x8xf32>
  %t = attn.project %v, %e : !rows, tensor<?x16xf32> -> tensor<?x4x16x8xf32>
  // expected-warning@+1 {{the pattern of segment 0 is causal, but its rows are a projection, each of which mixes the whole sequence: every query sees the future through them (there is no causal form)}}
  %o = attn.attend %q segment(%s, %t) where(causal) q_offset(0) : !rows segment(tensor<?x4x16x8xf32>, tensor<?x4x16x8xf32>) -> !rows
  return %o : !rows
}

// Running summaries: past ones are causal, later ones are not.
func.func @scanned(%q: !rows, %k: !rows) -> (!rows, !rows) {
  %a = attn.scan max %k : !rows -> !rows
  %o = attn.attend %q segment(%a, %a) where(causal) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  %b = attn.scan sum %k reverse : !rows -> !rows
  // expected-warning@+1 {{the pattern of segment 0 is causal, but its rows are a scan in reverse, each of which holds all later tokens: every query sees the future through them (there is no causal form)}}
  %p = attn.attend %q segment(%b, %b) where(causal) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  return %o, %p : !rows, !rows
}

// A causal convolution shows nothing of the future; one that is centred does.
func.func @convolved(%q: !rows, %k: !rows, %v: !rows, %w: tensor<1x3x8xf32>) -> !rows {
  %s = attn.convolve %k, %w stride(1) offset(-2) partial : !rows, tensor<1x3x8xf32> -> !rows
  %o = attn.attend %q segment(%s, %v) where(causal) : !rows segment(!rows, !rows) -> !rows
  %t = attn.convolve %v, %w stride(1) offset(-1) partial : !rows, tensor<1x3x8xf32> -> !rows
  // expected-warning@+1 {{the pattern of segment 0 lets query 0 see row 0 of a summary, which holds tokens -1 to 1: the future leaks; past_blocks(1, size = 2, inclusive = true) is the causal form}}
  %p = attn.attend %o segment(%s, %t) where(causal) : !rows segment(!rows, !rows) -> !rows
  return %p : !rows
}

// Summaries of summaries, and what arithmetic makes of them.
func.func @nested(%q: !rows, %k: !rows, %v: !rows) -> !rows {
  %s = attn.pool mean %k size(2) : !rows -> !rows
  %t = attn.pool mean %s size(3) : !rows -> !rows
  %u = arith.addf %t, %t : !rows
  %o = attn.attend %q segment(%u, %u) where(past_blocks(6)) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  // expected-warning-re@+1 {{see row {{[0-9]+}} of a summary, which holds tokens {{[0-9]+}} to {{[0-9]+}}: the future leaks; past_blocks(6, inclusive = true) is the causal form}}
  %p = attn.attend %o segment(%u, %u) where(past_blocks(3)) q_offset(0) : !rows segment(!rows, !rows) -> !rows
  return %p : !rows
}
