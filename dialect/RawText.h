//===- RawText.h - Reading a parenthesised clause as raw text ---*- C++ -*-===//
//
// For clauses with characters that MLIR's lexer does not know.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_RAWTEXT_H
#define HEDDLE_DIALECT_RAWTEXT_H

#include "mlir/IR/OpImplementation.h"

namespace heddle::attn {

/// Parses `(` any text with balanced parentheses `)` and sets `text` to what
/// stands between them, a view of the source buffer (so pointers into it are
/// source locations).
mlir::ParseResult parseRawParenthesized(mlir::OpAsmParser &parser, llvm::StringRef &text);

} // namespace heddle::attn

#endif // HEDDLE_DIALECT_RAWTEXT_H
