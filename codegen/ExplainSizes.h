//===- ExplainSizes.h - The sizes that an explanation is for ----*- C++ -*-===//
#ifndef HEDDLE_CODEGEN_EXPLAINSIZES_H
#define HEDDLE_CODEGEN_EXPLAINSIZES_H

#include "heddle/runtime.h"

#include "mlir/IR/Value.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <map>
#include <string>

namespace heddle {

/// Why nothing can be explained.
struct ExplainFailure {
  heddle_code code;
  std::string message;
};

/// The sizes string (codegen/Explain.h), with what the types fix filled in.
class Sizes {
public:
  /// Throws ExplainFailure where the text is no list of sizes.
  explicit Sizes(llvm::StringRef text);
  /// n stands for nq and nk.
  int64_t get(const std::string &name, int64_t otherwise) const;
  /// Throws ExplainFailure where a name is neither one of codegen/Explain.h nor that of one of the function's
  /// arguments, or of a dimension of one ("x.2").
  void expectNames(llvm::ArrayRef<std::string> arguments) const;
  bool has(const std::string &name) const { return values.count(name) != 0; }
  /// Callers name theirs: a process may have a runtime beside this library's, with another number.
  int64_t threads() const;
  /// Dimension `dim` of a tensor, which the user may only repeat; throws ExplainFailure where they do not.
  int64_t dimension(const std::string &name, mlir::Value tensor, int64_t dim, int64_t otherwise) const;

private:
  std::map<std::string, int64_t> values;
};

} // namespace heddle

#endif // HEDDLE_CODEGEN_EXPLAINSIZES_H
