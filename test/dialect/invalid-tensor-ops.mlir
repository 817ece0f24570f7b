// One function for each constraint of docs/spec.md of the ops on whole tensors, named after it.
// RUN: heddle-opt %s --split-input-file --verify-diagnostics

func.func @pool_c1(%x: tensor<?x4x?xf32>) {
  // expected-error@+1 {{'attn.pool' op expected x to be [B, H, N, D] of f32, f16 or bf16, but got 'tensor<?x4x?xf32>'}}
  %r = attn.pool max %x size(4) : tensor<?x4x?xf32> -> tensor<?x4x?xf32>
  return
}

// -----

func.func @pool_c1_element(%x: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.pool' op expected the result to have element type 'f32', but got 'tensor<?x4x?x8xf16>'}}
  %r = attn.pool max %x size(4) : tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf16>
  return
}

// -----

func.func @pool_c2(%x: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.pool' op expected a size from 1 to 1073741823, but got 0}}
  %r = attn.pool max %x size(0) : tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pool_c2_stride(%x: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.pool' op expected a stride from 1 to 1073741823, but got 0}}
  %r = attn.pool max %x size(4) stride(0) : tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pool_c2_offset(%x: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.pool' op expected an offset below 2^30 in magnitude, but got 1073741824}}
  %r = attn.pool max %x size(4) offset(1073741824) : tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pool_c3(%x: tensor<2x4x10x8xf32>) {
  // expected-error@+1 {{'attn.pool' op expected the result to have shape [2, 4, 2, 8], but got 'tensor<2x4x3x8xf32>'}}
  %r = attn.pool max %x size(4) : tensor<2x4x10x8xf32> -> tensor<2x4x3x8xf32>
  return
}

// -----

func.func @convolve_c1(%x: tensor<?x4x?x8xi32>, %w: tensor<4x3x8x8xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected x to be [B, H, N, D] of f32, f16 or bf16, but got 'tensor<?x4x?x8xi32>'}}
  %r = attn.convolve %x, %w : tensor<?x4x?x8xi32>, tensor<4x3x8x8xf32> -> tensor<?x4x?x8xi32>
  return
}

// -----

func.func @convolve_c2(%x: tensor<?x4x?x8xf32>, %w: tensor<4x3x8x8xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected a stride from 1 to 1073741823, but got -1}}
  %r = attn.convolve %x, %w stride(-1) : tensor<?x4x?x8xf32>, tensor<4x3x8x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @convolve_c3(%x: tensor<?x4x?x8xf32>, %w: tensor<3x8xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected w to be [H, T, D, E] or [H, T, D] of f32, f16 or bf16, but got 'tensor<3x8xf32>'}}
  %r = attn.convolve %x, %w : tensor<?x4x?x8xf32>, tensor<3x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @convolve_c3_taps(%x: tensor<?x4x?x8xf32>, %w: tensor<4x?x8x8xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected w with a static number of taps of at least 1, but got 'tensor<4x?x8x8xf32>'}}
  %r = attn.convolve %x, %w : tensor<?x4x?x8xf32>, tensor<4x?x8x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @convolve_c3_shape(%x: tensor<?x4x?x8xf32>, %w: tensor<3x3x8x8xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected w to have shape [1 or 4, ?, 8, ?], but got 'tensor<3x3x8x8xf32>'}}
  %r = attn.convolve %x, %w : tensor<?x4x?x8xf32>, tensor<3x3x8x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @convolve_c4(%x: tensor<?x4x?x8xf32>, %w: tensor<4x3x8x8xf32>, %b: tensor<4x7xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected bias to have shape [1 or 4, 8], but got 'tensor<4x7xf32>'}}
  %r = attn.convolve %x, %w bias(%b) : tensor<?x4x?x8xf32>, tensor<4x3x8x8xf32> bias(tensor<4x7xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @convolve_c5(%x: tensor<?x4x?x8xf32>, %w: tensor<4x3x8x6xf32>) {
  // expected-error@+1 {{'attn.convolve' op expected the result to have shape [?, 4, ?, 6], but got 'tensor<?x4x?x8xf32>'}}
  %r = attn.convolve %x, %w : tensor<?x4x?x8xf32>, tensor<4x3x8x6xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @project_c1(%x: tensor<?x8xf32>, %e: tensor<?x?xf32>) {
  // expected-error@+1 {{'attn.project' op expected x to be [B, H, N, D] of f32, f16 or bf16, but got 'tensor<?x8xf32>'}}
  %r = attn.project %x, %e : tensor<?x8xf32>, tensor<?x?xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @project_c2(%x: tensor<?x4x?x8xf32>, %e: tensor<?x?xf32>) {
  // expected-error@+1 {{'attn.project' op expected a block from 1 to 1073741823, but got 0}}
  %r = attn.project %x, %e block(0) : tensor<?x4x?x8xf32>, tensor<?x?xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @project_c2_rows(%x: tensor<?x4x10x8xf32>, %e: tensor<?x?xf32>) {
  // expected-error@+1 {{'attn.project' op expected x with a multiple of 4 rows, but got 10}}
  %r = attn.project %x, %e block(4) : tensor<?x4x10x8xf32>, tensor<?x?xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @project_c3(%x: tensor<?x4x?x8xf32>, %e: tensor<?xf32>) {
  // expected-error@+1 {{'attn.project' op expected e to be [N, R], [H, N, R] or [B, H, N, R] of f32, f16 or bf16, but got 'tensor<?xf32>'}}
  %r = attn.project %x, %e : tensor<?x4x?x8xf32>, tensor<?xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @project_c3_shape(%x: tensor<?x4x10x8xf32>, %e: tensor<9x3xf32>) {
  // expected-error@+1 {{'attn.project' op expected e to have shape [10, ?], but got 'tensor<9x3xf32>'}}
  %r = attn.project %x, %e : tensor<?x4x10x8xf32>, tensor<9x3xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @project_c4(%x: tensor<?x4x?x8xf32>, %e: tensor<?x3xf32>) {
  // expected-error@+1 {{'attn.project' op expected the result to have shape [?, 4, 3, 8], but got 'tensor<?x4x5x8xf32>'}}
  %r = attn.project %x, %e : tensor<?x4x?x8xf32>, tensor<?x3xf32> -> tensor<?x4x5x8xf32>
  return
}

// -----

func.func @linear_attend_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf16>) {
  // expected-error@+1 {{'attn.linear_attend' op expected k to have element type 'f32', but got 'tensor<?x4x?x8xf16>'}}
  %r = attn.linear_attend %q, %k, %q : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf16>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x6xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected k to have shape [?, ?, ?, 8], but got 'tensor<?x4x?x6xf32>'}}
  %r = attn.linear_attend %q, %k, %q : (tensor<?x4x?x8xf32>, tensor<?x4x?x6xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c2_heads(%q: tensor<?x4x?x8xf32>, %k: tensor<?x3x?x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected q's heads to be a multiple of the 3 of k, but got 4}}
  %r = attn.linear_attend %q, %k, %k : (tensor<?x4x?x8xf32>, tensor<?x3x?x8xf32>, tensor<?x3x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c2_values(%q: tensor<?x4x?x8xf32>, %k: tensor<?x1x?x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected k and v to have one number of heads, since each has a state of its own, but got 1 and 4}}
  %r = attn.linear_attend %q, %k, %q : (tensor<?x4x?x8xf32>, tensor<?x1x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c3_channels(%q: tensor<?x4x?x8xf32>, %g: tensor<?x4x?x6xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected decay to have shape [?, 4, ?, 8], but got 'tensor<?x4x?x6xf32>'}}
  %r = attn.linear_attend %q, %q, %q causal decay(%g) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x6xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c3(%q: tensor<?x4x?x8xf32>, %g: tensor<?x4x?xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected causal where there is a decay, but got attention to all keys}}
  %r = attn.linear_attend %q, %q, %q decay(%g) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c4(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected normalizer sum or none, but got softmax}}
  %r = attn.linear_attend %q, %q, %q normalizer(softmax) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c4_eps(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected a finite eps of at least 0, but got -1.000000e+00}}
  %r = attn.linear_attend %q, %q, %q eps(-1.0) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c5(%q: tensor<?x4x?x8xf32>, %s: tensor<?x4x8x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected 2 given states, but got 1}}
  %r = attn.linear_attend %q, %q, %q causal state(%s) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x8x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c6(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected the result to have shape [?, 4, ?, 8], but got 'tensor<?x4x?x9xf32>'}}
  %r = attn.linear_attend %q, %q, %q : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x9xf32>
  return
}

// -----

func.func @linear_attend_c7(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.linear_attend' op expected the feature region to have one block with one f32 argument, but got another one}}
  %r = attn.linear_attend %q, %q, %q feature {
  ^bb0(%x: f16):
    %y = arith.constant 1.0 : f32
    attn.yield %y : f32
  } : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @group_c1(%i: tensor<?x?xf32>) {
  // expected-error@+1 {{'attn.group' op expected ids to be [B, N] or [B, H, N] of i32 or i64, but got 'tensor<?x?xf32>'}}
  %r:2 = attn.group %i groups(4) : tensor<?x?xf32> -> tensor<?x?xi32>, tensor<?x5xi32>
  return
}

// -----

func.func @group_c2(%i: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.group' op expected a number of groups from 1 to 1073741823, but got 0}}
  %r:2 = attn.group %i groups(0) : tensor<?x?xi32> -> tensor<?x?xi32>, tensor<?x1xi32>
  return
}

// -----

func.func @group_c3(%i: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.group' op expected offsets to have shape [?, 5], but got 'tensor<?x4xi32>'}}
  %r:2 = attn.group %i groups(4) : tensor<?x?xi32> -> tensor<?x?xi32>, tensor<?x4xi32>
  return
}

// -----

func.func @gather_rows_c1(%x: tensor<?x?xf32>, %i: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.gather_rows' op expected x to be [B, H, N, D] or [B, H, N], but got 'tensor<?x?xf32>'}}
  %r = attn.gather_rows %x[%i] : tensor<?x?xf32>, tensor<?x?xi32> -> tensor<?x?xf32>
  return
}

// -----

func.func @gather_rows_c2(%x: tensor<?x4x?x8xf32>, %i: tensor<?x3x?xi32>) {
  // expected-error@+1 {{'attn.gather_rows' op expected rows to have shape [1 or ?, 1 or 4, ?], but got 'tensor<?x3x?xi32>'}}
  %r = attn.gather_rows %x[%i] : tensor<?x4x?x8xf32>, tensor<?x3x?xi32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @gather_rows_c3(%x: tensor<?x4x?x8xf32>, %i: tensor<?x5xi32>) {
  // expected-error@+1 {{'attn.gather_rows' op expected the result to have shape [?, 4, 5, 8], but got 'tensor<?x4x6x8xf32>'}}
  %r = attn.gather_rows %x[%i] : tensor<?x4x?x8xf32>, tensor<?x5xi32> -> tensor<?x4x6x8xf32>
  return
}

// -----

func.func @scatter_rows_c1(%x: tensor<?x4x?x8xf32>, %i: tensor<?x?xi32>, %b: tensor<?x4x?x9xf32>) {
  // expected-error@+1 {{'attn.scatter_rows' op expected base to have shape [?, 4, ?, 8], but got 'tensor<?x4x?x9xf32>'}}
  %r = attn.scatter_rows overwrite %x[%i] into %b : tensor<?x4x?x8xf32>, tensor<?x?xi32>, tensor<?x4x?x9xf32> -> tensor<?x4x?x9xf32>
  return
}

// -----

func.func @scatter_rows_c2(%x: tensor<?x4x5x8xf32>, %i: tensor<?x6xi32>, %b: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.scatter_rows' op expected rows to have shape [1 or ?, 5], but got 'tensor<?x6xi32>'}}
  %r = attn.scatter_rows overwrite %x[%i] into %b : tensor<?x4x5x8xf32>, tensor<?x6xi32>, tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @scatter_rows_c3(%x: tensor<?x4x?x8xf32>, %i: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.scatter_rows' op expected eps only with mean, but got it with overwrite}}
  %r = attn.scatter_rows overwrite %x[%i] into %x eps(0.5) : tensor<?x4x?x8xf32>, tensor<?x?xi32>, tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @scatter_rows_c4(%x: tensor<?x4x?x8xf32>, %i: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.scatter_rows' op expected the result to have element type 'f32', but got 'tensor<?x4x?x8xf16>'}}
  %r = attn.scatter_rows overwrite %x[%i] into %x : tensor<?x4x?x8xf32>, tensor<?x?xi32>, tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf16>
  return
}

// -----

func.func @merge_c2(%x: tensor<?x4x?x8xf32>, %l: tensor<?x4x?xf16>) {
  // expected-error@+1 {{'attn.merge' op expected an lse to have element type 'f32', but got 'tensor<?x4x?xf16>'}}
  %r:2 = attn.merge %x lse(%l) : (tensor<?x4x?x8xf32>, tensor<?x4x?xf16>) -> (tensor<?x4x?x8xf32>, tensor<?x4x?xf32>)
  return
}

// -----

func.func @merge_c1() {
  // expected-error@+1 {{'attn.merge' op expected at least one part, but got none}}
  %r:2 = "attn.merge"() : () -> (tensor<?x4x?x8xf32>, tensor<?x4x?xf32>)
  return
}

// -----

func.func @scan_c1(%x: tensor<?x4x10x8xf32>) {
  // expected-error@+1 {{'attn.scan' op expected the result to have shape [?, 4, 10, 8], but got 'tensor<?x4x9x8xf32>'}}
  %r = attn.scan max %x : tensor<?x4x10x8xf32> -> tensor<?x4x9x8xf32>
  return
}

// -----

func.func @scan_c2(%x: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.scan' op expected a stride from 1 to 1073741823, but got 0}}
  %r = attn.scan max %x stride(0) : tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @scan_c2_block(%x: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.scan' op expected a block from 1 to 1073741823, but got 0}}
  %r = attn.scan max %x block(0) : tensor<?x4x?x8xf32> -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @convolve_c4_bias(%x: tensor<?x4x?x8xf32>, %w: tensor<4x3x8x8xf32>, %b: tensor<4x8xi32>) {
  // expected-error@+1 {{'attn.convolve' op expected bias to be f32, f16 or bf16, but got 'tensor<4x8xi32>'}}
  %r = attn.convolve %x, %w bias(%b) : tensor<?x4x?x8xf32>, tensor<4x3x8x8xf32> bias(tensor<4x8xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @linear_attend_c7_outside(%q: tensor<?x4x?x8xf32>, %f: f32) {
  %r = attn.linear_attend %q, %q, %q feature {
  ^bb0(%x: f32):
    // expected-error@+1 {{'arith.addf' op expected only values of the feature region itself, but got one from outside}}
    %y = arith.addf %x, %f : f32
    attn.yield %y : f32
  } : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @gather_rows_c1_element(%x: tensor<?x4x?x8xi8>, %i: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.gather_rows' op expected x to be f32, f16, bf16, i32 or i64, but got 'tensor<?x4x?x8xi8>'}}
  %r = attn.gather_rows %x[%i] : tensor<?x4x?x8xi8>, tensor<?x?xi32> -> tensor<?x4x?x8xi8>
  return
}

// -----

func.func @gather_rows_c2_element(%x: tensor<?x4x?x8xf32>, %i: tensor<?x?xf32>) {
  // expected-error@+1 {{'attn.gather_rows' op expected rows to be [B, M] or [B, H, M] of i32 or i64, but got 'tensor<?x?xf32>'}}
  %r = attn.gather_rows %x[%i] : tensor<?x4x?x8xf32>, tensor<?x?xf32> -> tensor<?x4x?x8xf32>
  return
}
