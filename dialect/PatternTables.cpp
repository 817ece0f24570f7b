//===- PatternTables.cpp - Names and parameters of the primitives ---------===//
//
// The rows follow docs/spec.md.
//
//===----------------------------------------------------------------------===//
#include "dialect/PatternTables.h"

namespace heddle {

namespace {

Parameter required(const char *name) { return {name}; }
Parameter optional(const char *name, int64_t value) { return {name, true, value}; }
Parameter flag(const char *name) { return {name, true, 0, true}; }
Parameter sameAsFirst(const char *name) { return {name, true, 0, false, true}; }

PrimitiveInfo integers(PatternKind kind, const char *name, std::vector<Parameter> parameters) {
  return {kind, name, std::move(parameters)};
}
PrimitiveInfo listOf(PatternKind kind, const char *name) { return {kind, name, {}, true}; }
PrimitiveInfo tensors(PatternKind kind, const char *name, int count, int children = 0, bool supported = true) {
  return {kind, name, {}, false, count, children, supported};
}

std::vector<PrimitiveInfo> build() {
  using K = PatternKind;
  return {
      integers(K::Full, "full", {}),
      integers(K::Causal, "causal", {optional("lag", 0)}),
      integers(K::Window, "window", {required("left"), required("right"), optional("dilation", 1)}),
      integers(K::Stride, "stride", {required("n"), optional("phase", 0)}),
      integers(K::Block, "block", {required("n")}),
      listOf(K::Keys, "keys"),
      listOf(K::Queries, "queries"),
      listOf(K::GlobalTokens, "global_tokens"),
      integers(K::KeyMod, "key_mod", {required("n"), required("lo"), required("hi")}),
      integers(K::QueryMod, "query_mod", {required("n"), required("lo"), required("hi")}),
      listOf(K::Offsets, "offsets"),
      integers(K::Neighborhood, "neighborhood",
               {required("size"), required("extent"), optional("stride", 1), optional("dilation", 1), flag("causal")}),
      integers(K::PastBlocks, "past_blocks", {required("n"), sameAsFirst("size"), flag("inclusive")}),
      integers(K::Parent, "parent", {required("n")}),
      integers(K::RandomBlocks, "random_blocks", {required("block"), required("per_row"), required("seed")}),
      tensors(K::Same, "same", 2),
      tensors(K::Cluster, "cluster", 1),
      tensors(K::Lengths, "lengths", 1),
      tensors(K::Between, "between", 2),
      tensors(K::BetweenQueries, "between_queries", 2, 0, false),
      tensors(K::Positions, "positions", 2, 1, false),
      tensors(K::Packed, "packed", 2, 1, false),
      tensors(K::Listed, "listed", 1, 0, false),
      tensors(K::Csr, "csr", 2, 0, false),
      tensors(K::Mask, "mask", 1, 0, false),
  };
}

} // namespace

const std::vector<PrimitiveInfo> &primitives() {
  static const std::vector<PrimitiveInfo> table = build();
  return table;
}

const PrimitiveInfo &primitiveInfo(PatternKind kind) {
  for (const PrimitiveInfo &info : primitives()) {
    if (info.kind == kind) {
      return info;
    }
  }
  static const PrimitiveInfo unknown{kind, "unknown", {}};
  return unknown;
}

} // namespace heddle
