//===- PatternTables.cpp - Names and parameters of the primitives ---------===//
//
// The rows follow docs/spec.md.
//
//===----------------------------------------------------------------------===//
#include "dialect/PatternTables.h"

#include <string_view>

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
using Axes = std::vector<std::vector<const char *>>;
PrimitiveInfo tensors(PatternKind kind, const char *name, Axes axes, int children = 0, bool flags = false) {
  return {kind, name, {}, false, static_cast<int>(axes.size()), children, std::move(axes), flags};
}
PrimitiveInfo withOperand(PrimitiveInfo info, std::vector<const char *> axes, bool flags) {
  info.axes = {std::move(axes)};
  info.flags = flags;
  return info;
}

std::vector<PrimitiveInfo> build() {
  using K = PatternKind;
  return {
      integers(K::Full, "full", {}),
      integers(K::Causal, "causal", {optional("lag", 0)}),
      integers(K::Window, "window", {required("left"), required("right"), optional("dilation", 1)}),
      integers(K::Stride, "stride", {required("n"), optional("phase", 0)}),
      integers(K::Block, "block", {required("n")}),
      withOperand(listOf(K::Keys, "keys"), {"bk"}, true),
      withOperand(listOf(K::Queries, "queries"), {"bq"}, true),
      withOperand(listOf(K::GlobalTokens, "global_tokens"), {"bk"}, true),
      integers(K::KeyMod, "key_mod", {required("n"), required("lo"), required("hi")}),
      integers(K::QueryMod, "query_mod", {required("n"), required("lo"), required("hi")}),
      withOperand(listOf(K::Offsets, "offsets"), {".", "h."}, false),
      integers(K::Neighborhood, "neighborhood",
               {required("size"), required("extent"), optional("stride", 1), optional("dilation", 1), flag("causal")}),
      integers(K::PastBlocks, "past_blocks", {required("n"), sameAsFirst("size"), flag("inclusive")}),
      integers(K::Parent, "parent", {required("n")}),
      integers(K::RandomBlocks, "random_blocks", {required("block"), required("per_row"), required("seed")}),
      tensors(K::Same, "same", {{"bq", "bhq"}, {"bk", "bhk"}}),
      tensors(K::Cluster, "cluster", {{"bk", "bhk"}}),
      tensors(K::Lengths, "lengths", {{"b"}}),
      tensors(K::Between, "between", {{"bq", "bhq"}, {"bq", "bhq"}}),
      tensors(K::BetweenQueries, "between_queries", {{"bk", "bhk"}, {"bk", "bhk"}}),
      tensors(K::Positions, "positions", {{"q", "bq", "bhq"}, {"k", "bk", "bhk"}}, 1),
      tensors(K::Packed, "packed", {{"."}, {"."}}, 1),
      tensors(K::Listed, "listed", {{"q.", "bq.", "bhq."}}),
      tensors(K::Csr, "csr", {{"Q", "bQ", "bhQ"}, {".", "b.", "bh."}}),
      tensors(K::Mask, "mask", {{"qk", "bqk", "bhqk"}}, 0, true),
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

namespace {

void collectUses(const Pattern &p, int64_t nq, int64_t nk, std::vector<OperandUse> &out) {
  constexpr int64_t kMost = int64_t(1) << 31;
  for (size_t k = 0; k < p->operands.size(); ++k) {
    out.push_back({p->operands[k], &primitiveInfo(p->kind), k, nq, nk});
  }
  switch (p->kind) {
  case PatternKind::Coarse: // Rows are divided as positions are.
    nq = p->ints[0].value < kMost && nq < kMost ? nq * p->ints[0].value : 0;
    nk = p->ints[1].value < kMost && nk < kMost ? nk * p->ints[1].value : 0;
    break;
  case PatternKind::Grid:
  case PatternKind::Remap:
  case PatternKind::Shift:
  case PatternKind::Positions:
  case PatternKind::Packed:
    nq = nk = 0;
    break;
  default:
    break;
  }
  for (const Pattern &child : p->children) {
    collectUses(child, nq, nk, out);
  }
}

} // namespace

std::vector<OperandUse> operandUses(const Pattern &p) {
  std::vector<OperandUse> uses;
  collectUses(p, 1, 1, uses);
  return uses;
}

const char *axesOf(const OperandUse &use, int64_t rank) {
  for (const char *letters : use.info->axes[use.position]) {
    if (static_cast<int64_t>(std::string_view(letters).size()) == rank) {
      return letters;
    }
  }
  return nullptr;
}

} // namespace heddle
