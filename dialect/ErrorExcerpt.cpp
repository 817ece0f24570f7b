//===- ErrorExcerpt.cpp - Where in a text an error is ---------------------===//
//
// Lines that no terminal shows whole (a pattern that a program wrote) are cut.
//
//===----------------------------------------------------------------------===//
#include "dialect/ErrorExcerpt.h"

#include <algorithm>

namespace heddle {

static size_t lineStart(const std::string &text, size_t offset) {
  const size_t newline = offset == 0 ? std::string::npos : text.rfind('\n', offset - 1);
  return newline == std::string::npos ? 0 : newline + 1;
}

std::string excerptAt(const std::string &text, size_t offset) {
  constexpr size_t kBefore = 60, kAfter = 60;
  offset = std::min(offset, text.size());
  const size_t start = lineStart(text, offset), end = std::min(text.find('\n', offset), text.size());
  const bool cutsBefore = offset - start > kBefore, cutsAfter = end - offset > kAfter;
  const size_t from = cutsBefore ? offset - kBefore : start, to = cutsAfter ? offset + kAfter : end;
  const std::string dots = cutsBefore ? "..." : "";
  return "  " + dots + text.substr(from, to - from) + (cutsAfter ? "..." : "") + "\n  " +
         std::string(dots.size() + offset - from, ' ') + "^";
}

std::string located(const std::string &text, const PatternError &error) {
  const size_t at = std::min(error.offset, text.size()), start = lineStart(text, at);
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(start), '\n');
  return "<pattern>:" + std::to_string(line) + ":" + std::to_string(at - start + 1) + ": error: " + error.message +
         "\n" + excerptAt(text, at);
}

} // namespace heddle
