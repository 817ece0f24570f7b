// One function for each constraint of docs/spec.md, named after it; then the syntax.
// RUN: heddle-opt %s --split-input-file --verify-diagnostics

func.func @attend_c1(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected at least one segment, but got none}}
  "attn.attend"(%q) <{dot_counts = array<i64>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [], segment_scale_dynamic = array<i1>, static_k_offsets = array<i64>, static_segment_scales = array<f64>}> : (tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c1_patterns(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected one pattern for each of 1 segments, but got 2}}
  "attn.attend"(%q, %q, %q) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<full>, #attn.pattern<full>], segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c1_offsets(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected 1 run-time key offsets, but got 0}}
  "attn.attend"(%q, %q, %q) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<full>], segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: -9223372036854775808>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c1_dots(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected 1 queries of dots, but got 0}}
  "attn.attend"(%q, %q, %q) <{dot_counts = array<i64: 1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<full>], segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c2(%q: tensor<?x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected q to have rank 4, [B, H, N, D], but got 'tensor<?x?x8xf32>'}}
  attn.attend %q segment(%k, %v)
    : tensor<?x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x?x8xf32>
  return
}

// -----

func.func @attend_c2_key(%q: tensor<?x4x?x8xf32>, %k: tensor<?x?x?x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected k of segment 0 to have rank 4, [B, H, N, D], but got 'tensor<?x?x?x?x8xf32>'}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x?x?x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c3(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf16>) {
  // expected-error@+1 {{'attn.attend' op expected v to have q's element type 'f32', but got 'f16'}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf16>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c3_type(%q: tensor<?x4x?x8xf64>, %k: tensor<?x4x?x8xf64>, %v: tensor<?x4x?x8xf64>) {
  // expected-error@+1 {{'attn.attend' op expected q to have element type f32, f16 or bf16, but got 'f64'}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf64> segment(tensor<?x4x?x8xf64>, tensor<?x4x?x8xf64>) -> tensor<?x4x?x8xf64>
  return
}

// -----

func.func @attend_c4(%q: tensor<?x4x?x2048xf32>, %k: tensor<?x4x?x2048xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the last dimension of q to be from 1 to 1024, but got 2048}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x2048xf32> segment(tensor<?x4x?x2048xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c4_zero(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x0xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the last dimension of v of segment 0 to be from 1 to 1024, but got 0}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x0xf32>) -> tensor<?x4x?x0xf32>
  return
}

// -----

func.func @attend_c5(%q: tensor<3x4x?x8xf32>, %k: tensor<2x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the batch of k of segment 0 to be 1 or 3, but got 2}}
  attn.attend %q segment(%k, %v)
    : tensor<3x4x?x8xf32> segment(tensor<2x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c6(%q: tensor<?x4x?x8xf32>, %k: tensor<?x3x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected q's number of heads to be a multiple of that of k of segment 0, 3, but got 4}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x3x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c7(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x5x8xf32>, %v: tensor<?x4x6x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected k and v of segment 0 to have the same number of rows, but got 5 and 6}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x5x8xf32>, tensor<?x4x6x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c8(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %w: tensor<?x4x?x16xf32>) {
  // expected-error@+1 {{'attn.attend' op expected v of segment 1 to have 8 features as in segment 0, but got 16}}
  attn.attend %q segment(%k, %v) segment(%k, %w)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) segment(tensor<?x4x?x8xf32>, tensor<?x4x?x16xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c9(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected out to be 'tensor<?x4x?x8xf32>', but got 'tensor<?x4x?x16xf32>'}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x16xf32>
  return
}

// -----

func.func @attend_c9_type(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected out to be 'tensor<?x4x?x8xf32>', but got 'tensor<?x4x?x8xbf16>'}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xbf16>
  return
}

// -----

func.func @attend_c10(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected lse to be 'tensor<?x4x?xf32>', but got 'tensor<?x4x?xbf16>'}}
  attn.attend %q segment(%k, %v) lse
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>, tensor<?x4x?xbf16>
  return
}

// -----

func.func @attend_c11(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected normalizer softmax where lse is asked for, but got sum}}
  attn.attend %q segment(%k, %v) normalizer(sum) lse
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>, tensor<?x4x?xf32>
  return
}

// -----

func.func @attend_c12(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x16xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected q and k of segment 0 to have the same number of features, but got 8 and 16}}
  attn.attend %q segment(%k, %v)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x16xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c12_dots(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %r: tensor<?x4x?x4xf32>) {
  // expected-error@+1 {{'attn.attend' op expected both sides of a dot of segment 0 to have the same number of features, but got 8 and 4}}
  attn.attend %q segment(%k, %v) dots(%q, %k; %q, %r)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x4x?x4xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c13(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %r: tensor<?x2x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the query of a dot to have the heads and rows of q, 'tensor<?x4x?x8xf32>', but got 'tensor<?x2x?x8xf32>'}}
  attn.attend %q segment(%k, %v) dots(%r, %k)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x2x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c13_key(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x5x8xf32>, %v: tensor<?x4x?x8xf32>, %r: tensor<?x2x6x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the key of a dot of segment 0 to have 5 rows, but got 6}}
  attn.attend %q segment(%k, %v) dots(%q, %r)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x5x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x2x6x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c14(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected segment 0 to have a score region where it has no dots, but got none}}
  attn.attend %q segment(%k, %v) dots()
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c15(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %o: tensor<?xi32>) {
  // expected-error@+1 {{'attn.attend' op expected q_offset to be an index or a tensor<?xi64> of size B or 1, but got 'tensor<?xi32>'}}
  attn.attend %q segment(%k, %v) where(causal) q_offset(%o)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c15_literal(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected an offset below 2^30 in magnitude, but got 1073741824}}
  attn.attend %q segment(%k, %v) where(causal) k_offset(1073741824)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c15_twice(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected q_offset to be one of a value, an integer and end, but got 2 of them}}
  "attn.attend"(%q, %q, %q) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<full>], q_offset_end, static_q_offset = 3 : i64, segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c16(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected scale to be finite, but got inf}}
  attn.attend %q segment(%k, %v) scale(inf)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c16_twice(%q: tensor<?x4x?x8xf32>, %s: f32) {
  // expected-error@+1 {{'attn.attend' op expected scale to be a value or a number, but got both}}
  "attn.attend"(%q, %q, %q, %s) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<full>], static_scale = 1.0 : f64, segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, f32) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c17(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %s: tensor<3xf32>) {
  // expected-error@+1 {{'attn.attend' op expected sink to be tensor<?xf32> of size Hq or 1, but got 'tensor<3xf32>'}}
  attn.attend %q segment(%k, %v) sink(%s)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<3xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c17_normalizer(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %s: tensor<4xf32>) {
  // expected-error@+1 {{'attn.attend' op expected normalizer softmax where a sink is given, but got none}}
  attn.attend %q segment(%k, %v) sink(%s) normalizer(none)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<4xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c18(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected operand numbers of patterns to be below 0, but got %0}}
  "attn.attend"(%q, %q, %q) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<window(%0, 0)>], segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c18_unused(%q: tensor<?x4x?x8xf32>, %w: index) {
  // expected-error@+1 {{'attn.attend' op expected every pattern operand to be named by a pattern, but got %0 without a use}}
  "attn.attend"(%q, %q, %q, %w) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0>, patterns = [#attn.pattern<full>], segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, index) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: i64) {
  // expected-error@+1 {{'attn.attend' op expected run-time integer %0 of a pattern to be an index, but got 'i64'}}
  attn.attend %q segment(%k, %v) where(window(%a, 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(i64) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_keys(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of keys to be a tensor of i1 with shape [B, N], but got 'tensor<?x?xi32>'}}
  attn.attend %q segment(%k, %v) where(keys(%a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_same(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of same to be a tensor of i8, i32 or i64 with shape [B, N] or [B, H, N], but got 'tensor<?xi32>'}}
  attn.attend %q segment(%k, %v) where(same(%a, %a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_same_float(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?x?xf32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of same to be a tensor of i8, i32 or i64 with shape [B, N] or [B, H, N], but got 'tensor<?x?xf32>'}}
  attn.attend %q segment(%k, %v) where(same(%a, %a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_lengths(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of lengths to be a tensor of i8, i32 or i64 with shape [B], but got 'tensor<?x?xi32>'}}
  attn.attend %q segment(%k, %v) where(lengths(%a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_between(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: index) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of between to be a tensor of i8, i32 or i64 with shape [B, N] or [B, H, N], but got 'index'}}
  attn.attend %q segment(%k, %v) where(between(%a, %a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(index) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_load(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?x?xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of a load to be a tensor of i8, i32 or i64 with rank 1, but got 'tensor<?x?xi32>'}}
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : %a[i] == 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_float(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?xf32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of a load to be a tensor of i8, i32 or i64 with rank 1, but got 'tensor<?xf32>'}}
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : %a[i] == 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c19_rows(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x5x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?x6xi1>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of keys to have 5 rows, but got 6}}
  attn.attend %q segment(%k, %v) where(keys(%a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x5x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x6xi1>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c20(%q: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected a positive constant as the block in 'block', but got 0}}
  "attn.attend"(%q, %q, %q) <{dot_counts = array<i64: -1>, normalizer = 0 : i32, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, patterns = [#attn.pattern<block(0)>], segment_scale_dynamic = array<i1: false>, static_k_offsets = array<i64: 0>, static_segment_scales = array<f64: 0x7FF8000000000000>}> ({
  }) : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @window_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a left count of at least 0 in 'window', but got -1}}
  attn.attend %q segment(%k, %v) where(window(-1, 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @window_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the dilation in 'window', but got 0}}
  attn.attend %q segment(%k, %v) where(window(1, 0, dilation = 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @window_c2_run_time(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: index) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the dilation in 'window', but got a run-time integer}}
  attn.attend %q segment(%k, %v) where(window(1, 0, dilation = %a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(index) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @stride_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the stride in 'stride', but got 0}}
  attn.attend %q segment(%k, %v) where(causal & stride(0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @stride_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a phase in [0, 4) in 'stride', but got 4}}
  attn.attend %q segment(%k, %v) where(stride(4, phase = 4))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @block_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the block in 'block', but got -2}}
  attn.attend %q segment(%k, %v) where(block(-2))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @list_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a range that does not end before it starts in 'keys', but got 4 to 2}}
  attn.attend %q segment(%k, %v) where(keys([4 to 2]))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @mod_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the modulus in 'key_mod', but got 0}}
  attn.attend %q segment(%k, %v) where(key_mod(0, 0, 1))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @mod_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected 0 <= lo < hi <= n in 'query_mod', but got lo = 3, hi = 2, n = 4}}
  attn.attend %q segment(%k, %v) where(query_mod(4, 3, 2))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @coarse_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the block in 'coarse', but got 0}}
  attn.attend %q segment(%k, %v) where(coarse(0, causal))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @grid_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the width in 'grid', but got -1}}
  attn.attend %q segment(%k, %v) where(grid(-1, full, full))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @remap_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected at most 1 name, but got more}}
  attn.attend %q segment(%k, %v) where(remap(affine_map<(x, y) -> (x + y)>, causal))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @remap_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected 2 patterns, one for each result of the map, but got 1}}
  attn.attend %q segment(%k, %v) where(remap(affine_map<(x) -> (x, x)>, causal))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @neighborhood_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a size of at least 1 in 'neighborhood', but got 0}}
  attn.attend %q segment(%k, %v) where(neighborhood(0, 8))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @neighborhood_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a stride of at most the size 3 in 'neighborhood', but got 4}}
  attn.attend %q segment(%k, %v) where(neighborhood(3, 8, stride = 4))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @neighborhood_c3(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected size * dilation of at most the extent 8 in 'neighborhood', but got 5 * 2}}
  attn.attend %q segment(%k, %v) where(neighborhood(5, 8, dilation = 2))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @past_blocks_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the block in 'past_blocks', but got 0}}
  attn.attend %q segment(%k, %v) where(past_blocks(0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @parent_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the block in 'parent', but got 0}}
  attn.attend %q segment(%k, %v) where(parent(0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @random_blocks_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a positive constant as the block in 'random_blocks', but got 0}}
  attn.attend %q segment(%k, %v) where(random_blocks(0, 1, 1))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @affine_set_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a product with a constant, but got a product of two variables}}
  attn.attend %q segment(%k, %v) where(affine_set<(i, j) : (i * j >= 0)>)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @holds_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a condition, but got a floating-point value}}
  attn.attend %q segment(%k, %v) where(holds(b, h, i, j : 0.5))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @per_head_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a pattern, but got ']'}}
  attn.attend %q segment(%k, %v) where(per_head([]))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pattern_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<?xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of listed to be a tensor of i8, i32 or i64 with shape [N, n] or [B, N, n] or [B, H, N, n], but got 'tensor<?xi32>'}}
  attn.attend %q segment(%k, %v) where(causal & listed(%a))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pattern_c2(%q: tensor<?x4x200x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %a: tensor<1x3x7xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operand %0 of listed to have 4 rows, but got 3}}
  attn.attend %q segment(%k, %v) where(coarse(64, listed(%a)))
    : tensor<?x4x200x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<1x3x7xi32>) -> tensor<?x4x200x8xf32>
  return
}

// -----

func.func @packed_c1(%q: tensor<?x4x?x8xf32>, %a: tensor<3xi32>, %b: tensor<4xi32>) {
  // expected-error@+1 {{'attn.attend' op expected operands of packed to have the same number of starts, but got 3 and 4}}
  attn.attend %q segment(%q, %q) where(full & packed(%a, %b, causal))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<3xi32>, tensor<4xi32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c21(%q: tensor<?x4x3x8xf32>, %k: tensor<?x4x5x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected q_offset where the numbers of queries and of keys of segment 0 differ and its pattern depends on the query, but got none; write q_offset(0), q_offset(end) or q_offset(%n)}}
  attn.attend %q segment(%k, %v) where(causal)
    : tensor<?x4x3x8xf32> segment(tensor<?x4x5x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x3x8xf32>
  return
}

// -----

func.func @attend_c22(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %c: vector<4xf32>) {
  // expected-error@+1 {{'attn.attend' op expected a capture to be a tensor of i1, i8, i32, i64 or floats, or a scalar index, i64 or float, but got 'vector<4xf32>'}}
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      attn.yield %s : f32
    } captures(%c)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(vector<4xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c23(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the score region to have 1 f32 arguments, one for each dot, and then 4 of type index, but got 4 arguments}}
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index):
      attn.yield %s : f32
    }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c23_type(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the score region to have 1 f32 arguments, one for each dot, and then 4 of type index, but got 'i64' as argument 2}}
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: i64, %i: index, %j: index):
      attn.yield %s : f32
    }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c23_dots(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected the score region to have 2 f32 arguments, one for each dot, and then 4 of type index, but got 5 arguments}}
  attn.attend %q segment(%k, %v) dots(%q, %k; %q, %k) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      attn.yield %s : f32
    }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c23_end(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      // expected-error@+1 {{block with no terminator, has %1 = "arith.addf"(%arg3, %arg3) <{fastmath = #arith.fastmath<none>}> : (f32, f32) -> f32}}
      %r = arith.addf %s, %s : f32
    }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c24(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      // expected-error@+1 {{'tensor.dim' op expected a scalar operation of arith or math that heddle has, or attn.load, in a score region, but got this one}}
      %d = tensor.dim %q, %b : tensor<?x4x?x8xf32>
      attn.yield %s : f32
    }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c25(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %c: f32) {
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      // expected-error@+1 {{'arith.addf' op expected values from outside the score region to be listed in captures(...), but got one that is not}}
      %r = arith.addf %s, %c : f32
      attn.yield %r : f32
    }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @load_c1(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %c: tensor<?x?xf32>) {
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      // expected-error@+1 {{'attn.load' op expected 2 indices, one for each dimension, but got 1}}
      %r = attn.load %c[%i] : tensor<?x?xf32>
      attn.yield %r : f32
    } captures(%c)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x?xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @load_c2(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %c: tensor<4xf32>) {
  attn.attend %q segment(%k, %v) score {
    ^bb0(%s: f32, %b: index, %h: index, %i: index, %j: index):
      %n = arith.constant 4 : index
      // expected-error@+1 {{'attn.load' op expected an index from 0 to 3, but got 4}}
      %r = attn.load %c[%n] : tensor<4xf32>
      attn.yield %r : f32
    } captures(%c)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<4xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @load_c3(%t: tensor<4xf32>, %i: index) -> f32 {
  // expected-error@+1 {{'attn.load' op expected to be inside a score region of attn.attend, but got another parent}}
  %r = attn.load %t[%i] : tensor<4xf32>
  return %r : f32
}

// -----

func.func @yield_c1(%x: f32) {
  // expected-error@+1 {{'attn.yield' op expects parent op to be one of 'attn.attend, attn.linear_attend'}}
  attn.yield %x : f32
}

// -----

func.func @pattern_unknown(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a pattern, but got 'windw'; did you mean 'window'?}}
  attn.attend %q segment(%k, %v) where(causal & windw(3, 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pattern_column(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+2 {{custom op 'attn.attend' expected a pattern, but got 'strde'; did you mean 'stride'?}}
  attn.attend %q segment(%k, %v) where(causal &
      (window(3, 0) | strde(4)))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pattern_closed(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{expected ':'}}
  attn.attend %q segment(%k, %v) where(causal) | block(2))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pattern_unbalanced(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected ')' to match this '(', but got the end of the file}}
  attn.attend %q segment(%k, %v) where(causal & (window(3, 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @pattern_value(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{use of undeclared SSA value name}}
  attn.attend %q segment(%k, %v) where(window(%nope, 0))
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(index) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @no_segment(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected 'segment' after the query}}
  attn.attend %q where(causal)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @operands_missing(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %w: index, %o: index) {
  attn.attend %q segment(%k, %v) where(window(%w, 0)) q_offset(%o)
    // expected-error@+1 {{custom op 'attn.attend' expected operands(...) with 2 types, for %w, %o, but got 1}}
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(index) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @twice(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected 'q_offset' at most once, but got it again}}
  attn.attend %q segment(%k, %v) q_offset(1) lse q_offset(2)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @bad_offset(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected an integer, a value or end as q_offset, but got 'last'}}
  attn.attend %q segment(%k, %v) q_offset(last)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @bad_scale(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a number or a value as scale, but got 'half'}}
  attn.attend %q segment(%k, %v) scale(half)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @bad_normalizer(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected softmax, none or sum, but got 'max'}}
  attn.attend %q segment(%k, %v) normalizer(max)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @bad_dots(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected two values separated by ',' for each dot, but got '%q %k'}}
  attn.attend %q segment(%k, %v) dots(%q %k)
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @bad_relative(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a value as a side of a dot, but got '%r[j - i]'}}
  attn.attend %q segment(%k, %v) dots(%q, %k; %q, %r[j - i])
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @attend_c26(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %r: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{'attn.attend' op expected 2 shifts of dots, below 2^30 in magnitude, but got 2 or a larger one}}
  attn.attend %q segment(%k, %v) dots(%q, %k; %q, %r[i - j + 2000000000])
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) operands(tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @score_names(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected 5 names, one for each dot and then b, h, i, j, but got 4}}
  attn.attend %q segment(%k, %v) score(%s, %h, %i, %j) {
    attn.yield %s : f32
  }
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @lse_type_missing(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  attn.attend %q segment(%k, %v) lse
    // expected-error@+1 {{custom op 'attn.attend' expected 2 result types, out and lse, but got 1}}
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

func.func @clause_as_attribute(%q: tensor<?x4x?x8xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>) {
  // expected-error@+1 {{custom op 'attn.attend' expected a clause for 'static_scale', but got an attribute}}
  attn.attend %q segment(%k, %v) {static_scale = 1.0 : f64}
    : tensor<?x4x?x8xf32> segment(tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
  return
}

// -----

// expected-error@+1 {{expected pattern<...> or schedule<...>, but got 'set'}}
func.func private @attribute_unknown() attributes {p = #attn.set<causal>}

// -----

// expected-error@+1 {{expected 'right' of 'window', but got ')'}}
func.func private @attribute_pattern() attributes {p = #attn.pattern<causal & window(3)>}
