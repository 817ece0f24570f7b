//===- Words.h - Numbers and lines of a report ----------------------------===//
#ifndef HEDDLE_TOOLS_WORDS_H
#define HEDDLE_TOOLS_WORDS_H

#include <cstdio>
#include <string>

namespace heddle::tools {

/// 1234567 as "1,234,567".
inline std::string grouped(double value) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.0f", value);
  std::string text = digits;
  for (size_t at = text.size(); at > 3 && at - 3 > (text[0] == '-' ? 1u : 0u);) {
    at -= 3;
    text.insert(at, ",");
  }
  return text;
}

/// A time in the unit that suits it.
inline std::string seconds(double s) {
  char text[32];
  if (s < 1e-3) {
    std::snprintf(text, sizeof text, "%.1f us", s * 1e6);
  } else if (s < 1) {
    std::snprintf(text, sizeof text, "%.3g ms", s * 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.3g s", s);
  }
  return text;
}

/// A line of a report: what it is about, then the text.
inline void line(const char *label, const std::string &text) { std::printf("%-10s %s\n", label, text.c_str()); }

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_WORDS_H
