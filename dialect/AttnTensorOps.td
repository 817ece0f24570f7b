//===- AttnTensorOps.td - Ops on whole tensors -----------------*- tablegen -*-===//
//
// Summaries (pool, scan, convolve, project), linear attention, and row classes (group,
// gather_rows, scatter_rows, merge): what stands around attend in a spec of
// several ops. A summary is just a tensor that becomes the K or V of a segment.
// Included by AttnOps.td.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ATTNTENSOROPS_TD
#define HEDDLE_DIALECT_ATTNTENSOROPS_TD

//===----------------------------------------------------------------------===//
// Summaries
//===----------------------------------------------------------------------===//

def Attn_PoolOp : Attn_Op<"pool", [Pure]> {
  let summary = "maximum, mean or sum of the rows of strided windows";
  let description = [{
    ```
    W_m            = { n : m stride + offset <= n < m stride + offset + size, 0 <= n < N }
    y[b, h, m, d]  = max, mean or sum over n in W_m of x[b, h, n, d]
    M              = (N - offset - size) floordiv stride + 1, or ceil(N / stride) with `partial`
    ```

    Rows of windows that lie whole in the sequence, or, with `partial`, of every
    window that starts at a multiple of `stride` below N; such a window may be cut
    at either end, and the mean divides by the rows that are left. An empty window
    gives 0. `stride` defaults to `size` (blocks), `offset` to 0. x is
    `[B, H, N, D]`, y `[B, H, M, D]` of the same element type; sums are f32.

    ```mlir
    %s = attn.pool max %k size(64) : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
    ```
  }];
  let arguments = (ins Attn_PoolKind:$kind, AnyRankedTensor:$input, I64Attr:$size, OptionalAttr<I64Attr>:$stride,
                       DefaultValuedAttr<I64Attr, "0">:$offset, UnitAttr:$partial);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $kind $input `size` `(` $size `)` (`stride` `(` $stride^ `)`)? (`offset` `(` $offset^ `)`)? (`partial` $partial^)?
    attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    int64_t getStep() { return getStride().value_or(getSize()); }
  }];
}

def Attn_ScanOp : Attn_Op<"scan", [Pure]> {
  let summary = "running maximum, mean or sum of rows";
  let description = [{
    ```
    W_n           = { t <= n : (n - t) mod stride = 0, t floordiv block = n floordiv block }   (t >= n with `reverse`)
    y[b, h, n, d] = max, mean or sum over t in W_n of x[b, h, t, d]                            (t != n with `exclusive`)
    ```

    A summary of all that lies before (or behind) each row: of its residue class
    modulo `stride` where that is given (a column of an image of that width), and
    of its own block of `block` rows where that is given (a row of the image).
    An empty W_n gives the identity: -inf for the maximum, 0 for mean and sum. x and
    y are `[B, H, N, D]` of one element type; sums are f32, in the order of the
    scan, and a result is rounded once.

    ```mlir
    %above = attn.scan max %k stride(64) exclusive : tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
    ```
  }];
  let arguments = (ins Attn_PoolKind:$kind, AnyRankedTensor:$input, DefaultValuedAttr<I64Attr, "1">:$stride,
                       OptionalAttr<I64Attr>:$block, UnitAttr:$reverse, UnitAttr:$exclusive);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $kind $input (`stride` `(` $stride^ `)`)? (`block` `(` $block^ `)`)? (`reverse` $reverse^)?
    (`exclusive` $exclusive^)? attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Attn_ConvolveOp : Attn_Op<"convolve", [Pure]> {
  let summary = "strided convolution along the sequence";
  let description = [{
    ```
    y[b, h, m, e] = bias[h, e] + sum over t < T, d < D of w[h, t, d, e] x[b, h, m stride + offset + t, d]
    y[b, h, m, d] = bias[h, d] + sum over t < T of w[h, t, d] x[b, h, m stride + offset + t, d]      (w of rank 3)
    M             = (N - offset - T) floordiv stride + 1, or ceil(N / stride) with `partial`
    ```

    Rows outside of the sequence count as 0. `stride` defaults to T (blocks),
    `offset` to 0; `offset(-(T - 1)) stride(1) partial` is the causal convolution
    that keeps N. x is `[B, H, N, D]`; w is `[1 or H, T, D, E]`, or depthwise
    `[1 or H, T, D]`; bias is `[1 or H, E]`; y is `[B, H, M, E]` of x's element
    type. Sums are f32.

    ```mlir
    %c = attn.convolve %k, %w bias(%b) : tensor<?x8x?x64xf32>, tensor<8x3x64x64xf32> bias(tensor<8x64xf32>)
      -> tensor<?x8x?x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$weights, Optional<AnyRankedTensor>:$bias,
                       OptionalAttr<I64Attr>:$stride, DefaultValuedAttr<I64Attr, "0">:$offset, UnitAttr:$partial);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $input `,` $weights (`bias` `(` $bias^ `)`)? (`stride` `(` $stride^ `)`)? (`offset` `(` $offset^ `)`)?
    (`partial` $partial^)? attr-dict `:` type($input) `,` type($weights) (`bias` `(` type($bias)^ `)`)?
    `->` type($result)
  }];
  let hasVerifier = 1;
}

def Attn_ProjectOp : Attn_Op<"project", [Pure]> {
  let summary = "rows mixed by a matrix: E^T X, the low-rank form";
  let description = [{
    ```
    y[b, h, r, d]               = sum over n < N of e[b, h, n, r] x[b, h, n, d]
    y[b, h, r block + o, d]     = sum over n of e[b, h, n, r] x[b, h, n block + o, d],  0 <= o < block
    ```

    With `block(c)` whole blocks of c rows are mixed (a soft permutation of blocks);
    then x has c times as many rows as e, and y has R c rows. x is `[B, H, N, D]`;
    e is `[N, R]`, `[1 or H, N, R]` or `[1 or B, 1 or H, N, R]`; y is
    `[B, H, R, D]` of x's element type. Sums are f32, in the order of n.

    ```mlir
    %p = attn.project %k, %e : tensor<?x8x?x64xf32>, tensor<?x256xf32> -> tensor<?x8x256x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$weights, DefaultValuedAttr<I64Attr, "1">:$block);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $input `,` $weights (`block` `(` $block^ `)`)? attr-dict `:` type($input) `,` type($weights) `->` type($result)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Linear attention
//===----------------------------------------------------------------------===//

def Attn_LinearAttendOp : Attn_Op<"linear_attend", [AttrSizedOperandSegments, Pure]> {
  let summary = "attention by feature maps: a state instead of pairs";
  let description = [{
    ```
    G_i   = sum over t <= i of g_t                                (0 without `decay`)
    S_i   = exp(G_i) S + sum over j <= i of exp(G_i - G_j) phi(k_j) v_j^T
    z_i   = exp(G_i) z + sum over j <= i of exp(G_i - G_j) phi(k_j)
    out_i = phi(q_i)^T S_i / (phi(q_i) . z_i + eps)               (normalizer(sum), the default)
    out_i = phi(q_i)^T S_i                                        (normalizer(none))
    ```

    With `causal` as written (Nq = Nk); without it every sum runs over all keys and
    there is no decay. phi is the `feature` region, applied to each element of q
    and k; without it, the identity. There is no scale.

    q is `[B, Hq, Nq, D]`, k `[B, H, Nk, D]`, v `[B, H, Nk, Dv]`, with Hq a multiple
    of H; `decay` g is `[B, H, Nk]`, f32, at most 0 where the scan must be stable;
    -inf drops what came before. As `[B, H, Nk, D]` each channel of phi(k), a row of
    S and z, has a decay of its own (gated linear attention): exp(g) and exp(G) are
    then diagonal matrices.
    `state(%S)` or `state(%S, %z)` is what came before, `[B, H, D, Dv]` and
    `[B, H, D]`, f32; as many states come back as further results where they are
    wanted (S_N and z_N), so that a sequence can be decoded token by token. With
    normalizer none there is no z. Products and sums are f32.

    ```mlir
    %o, %s, %z = attn.linear_attend %q, %k, %v causal state(%s0, %z0) eps(1.0e-06) feature {
    ^bb0(%x: f32):
      %y = math.exp %x : f32
      attn.yield %y : f32
    } : (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x64x64xf32>, tensor<?x8x64xf32>)
      -> (tensor<?x8x?x64xf32>, tensor<?x8x64x64xf32>, tensor<?x8x64xf32>)
    ```
  }];
  let arguments = (ins AnyRankedTensor:$q, AnyRankedTensor:$k, AnyRankedTensor:$v, Optional<AnyRankedTensor>:$decay,
                       Variadic<AnyRankedTensor>:$states, UnitAttr:$causal,
                       DefaultValuedAttr<Attn_Normalizer, "::heddle::attn::Normalizer::Sum">:$normalizer,
                       OptionalAttr<F64Attr>:$eps);
  let results = (outs AnyRankedTensor:$out, Variadic<AnyRankedTensor>:$new_states);
  let regions = (region AnyRegion:$feature);
  let assemblyFormat = [{
    $q `,` $k `,` $v (`causal` $causal^)? (`decay` `(` $decay^ `)`)? (`state` `(` $states^ `)`)?
    (`normalizer` `(` $normalizer^ `)`)? (`eps` `(` $eps^ `)`)? (`feature` $feature^)?
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Row classes
//===----------------------------------------------------------------------===//

def Attn_GroupOp : Attn_Op<"group", [Pure]> {
  let summary = "ids to a permutation and offsets: a stable counting sort";
  let description = [{
    ```
    offsets[b, c]     = number of rows n with 0 <= ids[b, n] < c,   c = 0 ... groups
    permutation[b, :] = rows with id 0 in order, then those with id 1, ..., last those with an id out of range
    ```

    So group c holds the rows permutation[offsets[c]] ... permutation[offsets[c + 1] - 1].
    ids is `[B, N]` or `[B, H, N]` of i32 or i64; both results are i32, of ids'
    shape and of ids' shape with `groups` + 1 in place of N.

    ```mlir
    %p, %o = attn.group %ids groups(64) : tensor<?x8x?xi32> -> tensor<?x8x?xi32>, tensor<?x8x65xi32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$ids, I64Attr:$groups);
  let results = (outs AnyRankedTensor:$permutation, AnyRankedTensor:$offsets);
  let assemblyFormat = [{
    $ids `groups` `(` $groups `)` attr-dict `:` type($ids) `->` type($permutation) `,` type($offsets)
  }];
  let hasVerifier = 1;
}

def Attn_GatherRowsOp : Attn_Op<"gather_rows", [Pure]> {
  let summary = "listed rows of a tensor";
  let description = [{
    ```
    y[b, h, m, d] = x[b, h, rows[b, h, m], d],   0 where the row is not in [0, N)
    ```

    x is `[B, H, N, D]`, or `[B, H, N]` (one number a row: positions, an lse), of
    any element type that kernels know; rows is `[1 or B, M]` or
    `[1 or B, 1 or H, M]` of i32 or i64.

    ```mlir
    %g = attn.gather_rows %q[%top] : tensor<?x8x?x64xf32>, tensor<?x8x?xi32> -> tensor<?x8x?x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$rows);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input `[` $rows `]` attr-dict `:` type($input) `,` type($rows) `->` type($result)";
  let hasVerifier = 1;
}

def Attn_ScatterRowsOp : Attn_Op<"scatter_rows", [Pure]> {
  let summary = "rows put back to listed places";
  let description = [{
    With M_n = { m : rows[b, h, m] = n } and c_n the size of M_n,

    ```
    y[b, h, n, :] = source[b, h, max M_n, :]                                   (overwrite)
                  = sum over m in M_n of source[b, h, m, :] / (c_n + eps)      (mean)
                  = sum over m in M_n of source[b, h, m, :]                    (sum)
    y[b, h, n, :] = base[b, h, n, :] where M_n is empty, or 0 with `zeros`
    ```

    A row out of range goes nowhere. source is `[B, H, M, D]`, base `[B, H, N, D]`;
    with `zeros` the base gives only the shape. rows is `[1 or B, M]` or
    `[1 or B, 1 or H, M]` of i32 or i64. Sums are f32, in the order of m.

    ```mlir
    %y = attn.scatter_rows mean %o[%members] into %q eps(0.01) zeros
      : tensor<?x8x?x64xf32>, tensor<?x8x?xi32>, tensor<?x8x?x64xf32> -> tensor<?x8x?x64xf32>
    ```
  }];
  let arguments = (ins Attn_ScatterKind:$kind, AnyRankedTensor:$source, AnyRankedTensor:$rows, AnyRankedTensor:$base,
                       OptionalAttr<F64Attr>:$eps, UnitAttr:$zeros);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $kind $source `[` $rows `]` `into` $base (`eps` `(` $eps^ `)`)? (`zeros` $zeros^)? attr-dict
    `:` type($source) `,` type($rows) `,` type($base) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Attn_MergeOp : Attn_Op<"merge", [Pure, SameVariadicOperandSize]> {
  let summary = "partial (out, lse) results as one";
  let description = [{
    ```
    m_i   = max over p of lse_p[i],  Z_i = sum over p of exp(lse_p[i] - m_i)
    out_i = sum over p of exp(lse_p[i] - m_i) out_p[i] / Z_i,  lse_i = m_i + log Z_i
    ```

    The parts are results of attention over disjoint sets of keys. A row that no
    part has a key for is 0, its lse -inf; a part whose lse is -inf does not count
    at all. Each out is `[B, H, N, D]`, each lse `[B, H, N]` of f32.

    ```mlir
    %o, %l = attn.merge %o1, %o2 lse(%l1, %l2)
      : (tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?xf32>, tensor<?x8x?xf32>)
      -> (tensor<?x8x?x64xf32>, tensor<?x8x?xf32>)
    ```
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$parts, Variadic<AnyRankedTensor>:$lses);
  let results = (outs AnyRankedTensor:$out, AnyRankedTensor:$lse);
  let assemblyFormat = "$parts `lse` `(` $lses `)` attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif // HEDDLE_DIALECT_ATTNTENSOROPS_TD
