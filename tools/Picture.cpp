//===- Picture.cpp - A grid of colors as a PNG file -----------------------===//

#include "tools/Picture.h"

#include <stdexcept>
#include <zlib.h>

namespace heddle::tools {

static void appendWord(std::string &out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift);
  }
}

/// Length, type, data, and the checksum of the last two.
static void appendChunk(std::string &out, const std::string &type, const std::string &data) {
  appendWord(out, static_cast<uint32_t>(data.size()));
  std::string body = type + data;
  out += body;
  appendWord(out, static_cast<uint32_t>(
                      crc32(0, reinterpret_cast<const Bytef *>(body.data()), static_cast<uInt>(body.size()))));
}

std::string Picture::png() const {
  std::string rows;
  rows.reserve(static_cast<size_t>(height * (3 * width + 1)));
  for (int64_t y = 0; y < height; ++y) {
    rows += '\0'; // filter: none
    for (int64_t x = 0; x < width; ++x) {
      Color c = pixels[static_cast<size_t>(y * width + x)];
      rows += static_cast<char>(c.r);
      rows += static_cast<char>(c.g);
      rows += static_cast<char>(c.b);
    }
  }
  uLongf size = compressBound(rows.size());
  std::string packed(size, '\0');
  if (compress2(reinterpret_cast<Bytef *>(packed.data()), &size, reinterpret_cast<const Bytef *>(rows.data()),
                rows.size(), 6) != Z_OK) {
    throw std::runtime_error("zlib could not compress the picture");
  }
  packed.resize(size);
  std::string header;
  appendWord(header, static_cast<uint32_t>(width));
  appendWord(header, static_cast<uint32_t>(height));
  header += std::string("\x08\x02\x00\x00\x00", 5); // 8 bits, RGB
  std::string out = "\x89PNG\r\n\x1a\n";
  appendChunk(out, "IHDR", header);
  appendChunk(out, "IDAT", packed);
  appendChunk(out, "IEND", "");
  return out;
}

} // namespace heddle::tools
