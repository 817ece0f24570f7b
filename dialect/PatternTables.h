//===- PatternTables.h - Names and parameters of the primitives -----------===//
//
// One table that parser, printer and verifier read.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_PATTERNTABLES_H
#define HEDDLE_DIALECT_PATTERNTABLES_H

#include "dialect/Pattern.h"

namespace heddle {

/// One integer (or boolean) parameter.
struct Parameter {
  const char *name;
  bool hasDefault = false;
  int64_t defaultValue = 0;
  bool isFlag = false;         ///< true or false
  bool defaultIsFirst = false; ///< the default is the first parameter's value
  IntArg defaultOf(const std::vector<IntArg> &ints) const {
    return defaultIsFirst && !ints.empty() ? ints[0] : IntArg(defaultValue);
  }
};

struct PrimitiveInfo {
  PatternKind kind;
  const char *name;
  std::vector<Parameter> parameters; ///< integers, in the order of PatternNode::ints
  bool takesList = false;            ///< a bracketed list or one operand
  int operands = 0;                  ///< number of tensor operands
  int children = 0;                  ///< patterns after the operands
  /// For each operand, the letters of its dimensions in each rank that it may have: b, h, q (query rows), k (key
  /// rows), Q (query rows + 1), . (any); with a list, those of the operand in its place.
  std::vector<std::vector<const char *>> axes = {};
  bool flags = false; ///< operands are of i1, else of integers
};

/// One operand of one primitive in a tree, with the rows that it has: ceil(rows / divisor); divisor 0: unknown.
struct OperandUse {
  int64_t operand;
  const PrimitiveInfo *info;
  size_t position; ///< among the primitive's operands
  int64_t queryDivisor = 1, keyDivisor = 1;
};
std::vector<OperandUse> operandUses(const Pattern &p);
/// The letters of `use` for a tensor of `rank` dimensions; null where it may not have that rank.
const char *axesOf(const OperandUse &use, int64_t rank);

/// Every named primitive.
const std::vector<PrimitiveInfo> &primitives();
/// The entry of `kind`, which must be a named primitive.
const PrimitiveInfo &primitiveInfo(PatternKind kind);

} // namespace heddle

#endif // HEDDLE_DIALECT_PATTERNTABLES_H
