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
  bool supported = true;
};

/// Every named primitive.
const std::vector<PrimitiveInfo> &primitives();
/// The entry of `kind`, which must be a named primitive.
const PrimitiveInfo &primitiveInfo(PatternKind kind);

} // namespace heddle

#endif // HEDDLE_DIALECT_PATTERNTABLES_H
