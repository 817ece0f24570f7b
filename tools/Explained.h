//===- Explained.h - What the compiler says about a spec ------------------===//
//
// The explain interface's JSON (codegen/Explain.h), parsed, and the counts that
// need the data of this run.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_TOOLS_EXPLAINED_H
#define HEDDLE_TOOLS_EXPLAINED_H

#include "dialect/Schedule.h"
#include "tools/Tensors.h"

#include <nlohmann/json.hpp>

namespace heddle::tools {

struct Explained {
  Explained(const Spec &spec, const std::string &sizes);
  nlohmann::json json;
  /// One a segment; operands are numbered by the function's arguments.
  std::vector<Pattern> patterns;
  /// Operands numbered likewise.
  Schedule schedule() const;
  /// True where some pattern's meaning needs the values of run-time operands.
  bool dependsOnData() const;

private:
  OperandResolver argumentResolver() const;
};

/// Live pairs over batches, heads and segments. `exact` is false where rows were sampled.
struct LivePairs {
  double live = 0, all = 0;
  /// Multiplications and additions of the dots and of P V, counted on live pairs.
  double flops = 0;
  bool exact = true;
};
LivePairs countLivePairs(const Explained &explained, const Problem &problem);

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_EXPLAINED_H
