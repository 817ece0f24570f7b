//===- AttnAttrs.td - Attributes of the attn dialect -----------*- tablegen -*-===//
//
// A pattern and a schedule as attributes, and the normaliser.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ATTNATTRS_TD
#define HEDDLE_DIALECT_ATTNATTRS_TD

include "dialect/AttnDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Attn_PatternAttr : AttrDef<Attn_Dialect, "Pattern"> {
  let mnemonic = "pattern";
  let summary = "a set of (query position, key position) pairs";
  let description = [{
    The pattern of one segment, as a syntax tree (`heddle::Pattern`). `%n` stands
    for operand number n of the op's pattern operands. Two attributes are equal
    where the trees are; `window(63, 0)` and `causal & window(63, 63)` are two
    spellings of one set and become one attribute by canonicalization.

    ```mlir
    #attn.pattern<causal & (window(63, 0) | stride(64))>
    ```

    A text whose `<` and `>` are not brackets is quoted:
    `#attn.pattern<"holds(b, h, i, j : j <= i)">`.
  }];
  let parameters = (ins
    AttrParameter<"::heddle::Pattern", "the syntax tree",
                  "const ::heddle::Pattern &">:$value);
  let hasCustomAssemblyFormat = 1;
}

def Attn_ScheduleAttr : AttrDef<Attn_Dialect, "Schedule"> {
  let mnemonic = "schedule";
  let summary = "disjoint strata of the patterns, in digit coordinates";
  let description = [{
    How an attend is computed: its pairs split into disjoint strata, each a box
    of digits of i and j (`heddle::Schedule`). Written by `--attn-annotate-schedule`.
  }];
  let parameters = (ins
    AttrParameter<"::heddle::Schedule", "the strata",
                  "const ::heddle::Schedule &">:$value);
  let hasCustomAssemblyFormat = 1;
}

def Attn_Normalizer : I32EnumAttr<"Normalizer", "how weights are formed from scores", [
    I32EnumAttrCase<"Softmax", 0, "softmax">,
    I32EnumAttrCase<"None", 1, "none">,
    I32EnumAttrCase<"Sum", 2, "sum">
  ]> {
  let cppNamespace = "::heddle::attn";
}

def Attn_PoolKind : I32EnumAttr<"PoolKind", "what a pool takes of the rows of a window", [
    I32EnumAttrCase<"Max", 0, "max">,
    I32EnumAttrCase<"Mean", 1, "mean">,
    I32EnumAttrCase<"Sum", 2, "sum">
  ]> {
  let cppNamespace = "::heddle::attn";
}

def Attn_ScatterKind : I32EnumAttr<"ScatterKind", "what becomes of the rows that are scattered to one place", [
    I32EnumAttrCase<"Overwrite", 0, "overwrite">,
    I32EnumAttrCase<"Mean", 1, "mean">,
    I32EnumAttrCase<"Sum", 2, "sum">
  ]> {
  let cppNamespace = "::heddle::attn";
}

def Attn_PatternArrayAttr
    : TypedArrayAttrBase<Attn_PatternAttr, "array of patterns, one a segment">;

#endif // HEDDLE_DIALECT_ATTNATTRS_TD
