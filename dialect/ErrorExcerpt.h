//===- ErrorExcerpt.h - Where in a text an error is -------------*- C++ -*-===//
//
// Errors of the pattern parser for a reader: the place, the line, a caret.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ERROREXCERPT_H
#define HEDDLE_DIALECT_ERROREXCERPT_H

#include "dialect/Pattern.h"

#include <string>

namespace heddle {

/// "  <line of text>\n  <spaces>^" for the line at `offset`; of a long line, what is around it.
std::string excerptAt(const std::string &text, size_t offset);

/// "<pattern>:1:9: error: expected ...", the line and a caret.
std::string located(const std::string &text, const PatternError &error);

} // namespace heddle

#endif // HEDDLE_DIALECT_ERROREXCERPT_H
