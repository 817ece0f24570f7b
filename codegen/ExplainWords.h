//===- ExplainWords.h - The facts on a spec's cost in words ---------------===//
#ifndef HEDDLE_CODEGEN_EXPLAINWORDS_H
#define HEDDLE_CODEGEN_EXPLAINWORDS_H

#include "llvm/Support/JSON.h"

#include <string>

namespace heddle {

/// What Explain.cpp found out, for a reader.
std::string inWords(const llvm::json::Object &facts);

} // namespace heddle

#endif // HEDDLE_CODEGEN_EXPLAINWORDS_H
