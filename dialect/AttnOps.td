//===- AttnOps.td - Operations of the attn dialect -------------*- tablegen -*-===//
//
// attend, load, yield; the ops on whole tensors are in AttnTensorOps.td. Constraint numbers (attend_c1, ...) are
// those of docs/spec.md.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ATTNOPS_TD
#define HEDDLE_DIALECT_ATTNOPS_TD

include "dialect/AttnAttrs.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Attn_Op<string mnemonic, list<Trait> traits = []>
    : Op<Attn_Dialect, mnemonic, traits>;

//===----------------------------------------------------------------------===//
// attend
//===----------------------------------------------------------------------===//

def Attn_AttendOp : Attn_Op<"attend", [
    AttrSizedOperandSegments, Pure,
    DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmBlockArgumentNames", "getAsmResultNames"]>
  ]> {
  let summary = "attention of queries to the live keys of one or more segments";
  let description = [{
    Each query row attends to the live keys of all segments under one
    normaliser. i is a query's position, its row plus `q_offset`; j that of a
    key, its row in its segment plus the segment's `k_offset`.

    ```
    s_g(i, j) = score_g(scale_g * dot_1(i, j), scale_g * dot_2(i, j), ..., b, h, i, j)
    m_i       = max over all segments g and all j live for i of s_g(i, j)
    Z_i       = sum over the same of exp(s_g(i, j) - m_i)   [+ exp(sink_h - m_i)]
    out_i     = sum over the same of exp(s_g(i, j) - m_i) v_gj / Z_i
    lse_i     = m_i + log Z_i
    ```

    A pair is live where its segment's pattern (`where`) holds and its score is
    not -inf. A row without a live pair gives zeros and lse = -inf. With
    `normalizer(none)` the weight is the score itself, out_i = sum s v; with
    `normalizer(sum)` that is divided by the sum of the scores. A segment
    without `dots` has the usual one, q . k; `dots(%q1, %k1; %q2, %k2)` names
    others, and `dots()` says that there are none. A dot's key `%r[i - j + c]` is a relative row: row
    clamp(i - j + c, 0, Nr - 1) of r `[B, H, Nr, D]` in place of the key's (Transformer-XL). `scale` defaults to
    1/sqrt(D); a segment's own `scale` replaces it. Without a score region the
    score is the sum of the scaled dots.

    Shapes: q `[B, Hq, Nq, D]`, k `[B, Hk, Nk, D]`, v `[B, Hv, Nk, Dv]`, out
    `[B, Hq, Nq, Dv]`, lse `[B, Hq, Nq]`. Hq is a multiple of Hk and of Hv: query
    head h reads key head `h floordiv (Hq / Hk)`. The batch of a key, value or
    run-time operand may be 1.

    The text form:

    ```
    attend  ::= `attn.attend` q clause* segment+ clause* attr-dict `:` types
    segment ::= `segment` `(` k `,` v `)` (`where` `(` pattern `)`)?
                (`k_offset` `(` int-or-ssa `)`)? (`scale` `(` float-or-ssa `)`)?
                (`dots` `(` (q1 `,` k1 (`;` q2 `,` k2)*)? `)`)?  // or k: r `[` i `-` j ((`+` | `-`) int)? `]`
                (`score` (`(` names `)`)? region)?
    clause  ::= `scale` `(` float-or-ssa `)` | `q_offset` `(` int-or-ssa | `end` `)`
              | `captures` `(` ssa-list `)` | `sink` `(` ssa `)`
              | `normalizer` `(` `softmax` | `none` | `sum` `)` | `lse`
    types   ::= q-type (`segment` `(` k-type `,` v-type `)`)+ (`operands` `(` type-list `)`)?
                `->` out-type (`,` lse-type)?
    ```

    `operands` lists one type for each distinct `%name` that is neither q nor a
    segment's k or v, in the order in which the names first stand in the text,
    score regions apart. A `scale` right after a segment is that segment's; the
    op's stands before the first segment or after another clause (with one
    segment there is no difference). After `score`, `(%s, %b, %h, %i, %j)` names
    one f32 for each dot, already scaled, and then the batch, query head, query
    position and key position as index.

    ```mlir
    %o, %l = attn.attend %q
        segment(%k, %v) where(causal & same(%docs, %docs))
          score(%s, %b, %h, %i, %j) {
            %slope = attn.load %slopes[%h] : tensor<?xf32>
            %d = arith.subi %j, %i : index
            %n = arith.index_cast %d : index to i64
            %f = arith.sitofp %n : i64 to f32
            %bias = arith.mulf %slope, %f : f32
            %r = arith.addf %s, %bias : f32
            attn.yield %r : f32
          }
        q_offset(end) captures(%slopes) lse
      : tensor<?x8x?x64xf32> segment(tensor<?x2x?x64xf32>, tensor<?x2x?x64xf32>)
        operands(tensor<?x?xi32>, tensor<?xf32>)
        -> tensor<?x8x?x64xf32>, tensor<?x8x?xf32>
    ```
  }];

  let arguments = (ins
    AnyRankedTensor:$q,
    Variadic<AnyRankedTensor>:$keys,
    Variadic<AnyRankedTensor>:$values,
    Optional<AnyType>:$q_offset,
    Variadic<AnyType>:$k_offsets,
    Optional<F32>:$scale,
    Variadic<F32>:$segment_scales,
    Variadic<AnyRankedTensor>:$dot_queries,
    Variadic<AnyRankedTensor>:$dot_keys,
    Variadic<AnyType>:$pattern_operands,
    Variadic<AnyType>:$captures,
    Optional<AnyRankedTensor>:$sink,
    Attn_PatternArrayAttr:$patterns,
    OptionalAttr<I64Attr>:$static_q_offset,
    UnitAttr:$q_offset_end,
    DenseI64ArrayAttr:$static_k_offsets,
    OptionalAttr<F64Attr>:$static_scale,
    DenseF64ArrayAttr:$static_segment_scales,
    DenseBoolArrayAttr:$segment_scale_dynamic,
    DenseI64ArrayAttr:$dot_counts,
    OptionalAttr<DenseI64ArrayAttr>:$dot_shifts,
    DefaultValuedAttr<Attn_Normalizer, "::heddle::attn::Normalizer::Softmax">:$normalizer,
    OptionalAttr<Attn_ScheduleAttr>:$schedule
  );
  let results = (outs AnyRankedTensor:$out, Optional<AnyRankedTensor>:$lse);
  let regions = (region VariadicRegion<AnyRegion>:$scores);

  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
  let hasCanonicalizer = 1;

  let extraClassDeclaration = [{
    /// Number of segments, at least one in a verified op.
    int64_t getNumSegments() { return getKeys().size(); }
    /// The pattern of segment g; its operand numbers index getPatternOperands().
    const ::heddle::Pattern &getPattern(int64_t g) {
      return ::llvm::cast<PatternAttr>(getPatterns()[g]).getValue();
    }
    /// The score region of segment g, null where it has none.
    ::mlir::Region *getScore(int64_t g);
    /// The (query tensor, key tensor) of each dot of segment g; (q, k) for the usual one.
    ::llvm::SmallVector<std::pair<::mlir::Value, ::mlir::Value>> getDots(int64_t g);
    /// The shift c of a dot with the relative row `r[i - j + c]`; none where the dot is with the key's row.
    std::optional<int64_t> getDotShift(int64_t g, int64_t dot);
    /// What stands in dot_shifts for a dot with the key's row.
    static constexpr int64_t kNoShift = std::numeric_limits<int64_t>::min();
    /// An integer attribute or a value (index or tensor<?xi64>); null where it is
    /// not given or is `end` (see getQOffsetEnd).
    ::mlir::OpFoldResult getQOffsetOr();
    ::mlir::OpFoldResult getKOffset(int64_t g);
    /// What multiplies the dots of segment g: an f64 attribute or an f32 value; null
    /// where the default 1/sqrt(D) holds.
    ::mlir::OpFoldResult getSegmentScale(int64_t g);
    /// True where a q_offset of some kind is given.
    bool hasQOffset() {
      return getQOffset() || getStaticQOffset() || getQOffsetEnd();
    }
    /// The segment that a score region belongs to.
    int64_t getSegmentOf(::mlir::Region *region) { return region->getRegionNumber(); }
  }];
}

//===----------------------------------------------------------------------===//
// load, yield
//===----------------------------------------------------------------------===//

def Attn_LoadOp : Attn_Op<"load", [
    Pure,
    TypesMatchWith<"result type must be the element type of the tensor", "tensor",
                   "result", "::llvm::cast<::mlir::ShapedType>($_self).getElementType()">
  ]> {
  let summary = "one element of a captured tensor, inside a score region";
  let description = [{
    `result = tensor[clamp(index_0, 0, d_0 - 1), clamp(index_1, 0, d_1 - 1), ...]`

    An index out of range is clamped to the tensor; where it is constant and the
    size is static, it is an error instead. A load from a dimension of size 0 gives 0.

    ```mlir
    %slope = attn.load %slopes[%h] : tensor<?xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$tensor, Variadic<Index>:$indices);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$tensor `[` $indices `]` attr-dict `:` type($tensor)";
  let hasVerifier = 1;
}

def Attn_YieldOp : Attn_Op<"yield", [Pure, Terminator, ParentOneOf<["AttendOp", "LinearAttendOp"]>]> {
  let summary = "ends a score or feature region with its value";
  let description = [{
    ```mlir
    attn.yield %score : f32
    ```
  }];
  let arguments = (ins F32:$score);
  let assemblyFormat = "$score attr-dict `:` type($score)";
}

include "dialect/AttnTensorOps.td"

#endif // HEDDLE_DIALECT_ATTNOPS_TD
