//===- Picture.h - A grid of colors as a PNG file -------------------------===//
#ifndef HEDDLE_TOOLS_PICTURE_H
#define HEDDLE_TOOLS_PICTURE_H

#include <cstdint>
#include <string>
#include <vector>

namespace heddle::tools {

struct Color {
  uint8_t r = 255, g = 255, b = 255;
};

struct Picture {
  Picture(int64_t width, int64_t height) : width(width), height(height), pixels(static_cast<size_t>(width * height)) {}
  Color &at(int64_t x, int64_t y) { return pixels[static_cast<size_t>(y * width + x)]; }
  int64_t width, height;
  std::vector<Color> pixels;
  /// The file's bytes (8-bit RGB, deflated).
  std::string png() const;
};

} // namespace heddle::tools

#endif // HEDDLE_TOOLS_PICTURE_H
