//===- ShowCommand.cpp - heddle show --------------------------------------===//
//
// Draws which pairs are live, and which the tiles execute beside them, colored
// by the kind of stratum. Queries go down, keys across; several segments stand
// side by side.
//
//===----------------------------------------------------------------------===//

#include "passes/StratumCost.h"
#include "tools/Commands.h"
#include "tools/Explained.h"
#include "tools/Picture.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

namespace heddle::tools {

namespace {

/// What is known of one pair.
struct Pixel {
  int8_t kind = -1; ///< of the stratum whose tile executes it; -1: none
  bool live = false, full = false;
};

struct Grid {
  int64_t rows = 0, keys = 0;
  std::vector<Pixel> pixels;
  Pixel &at(int64_t i, int64_t j) { return pixels[static_cast<size_t>(i * keys + j)]; }
};

struct Kind {
  const char *name;
  Color full, partial, dead;
};

/// By StratumKind: live in a full tile, live in a partial one, executed but dead.
constexpr Kind kKinds[] = {
    {"band", {31, 78, 145}, {70, 130, 200}, {214, 228, 244}},
    {"lattice", {190, 85, 10}, {236, 137, 54}, {252, 230, 208}},
    {"block", {25, 110, 60}, {70, 165, 105}, {213, 238, 221}},
    {"grid", {10, 115, 120}, {60, 170, 175}, {208, 240, 240}},
    {"columns", {100, 45, 140}, {155, 95, 195}, {234, 220, 244}},
    {"rows", {160, 30, 90}, {215, 85, 145}, {248, 216, 230}},
    {"gathered", {110, 75, 30}, {165, 125, 70}, {240, 228, 208}},
    {"masked", {60, 60, 60}, {120, 120, 120}, {228, 228, 228}},
};

/// The pairs of one segment, for one head of the first batch.
Grid drawSegment(const Explained &explained, const Schedule &schedule, size_t segment, ExprEnv env, int64_t rows,
                 int64_t keys) {
  Grid grid;
  grid.rows = rows;
  grid.keys = keys;
  grid.pixels.resize(static_cast<size_t>(rows * keys));
  for (const Stratum &s : schedule.strata) {
    if (s.segment != static_cast<int64_t>(segment) || !isLiveForHead(s, env.h)) {
      continue;
    }
    forEachExecutedPair(s, env, rows, keys, schedule.keyChunk, [&](int64_t i, int64_t j, bool masked) {
      Pixel &pixel = grid.at(i - env.qOffset, j - env.kOffset);
      bool mine = pixel.kind < 0 || contains(
                                        s,
                                        [&] {
                                          ExprEnv pair = env;
                                          pair.i = i;
                                          pair.j = j;
                                          return pair;
                                        }());
      if (mine) {
        pixel.kind = static_cast<int8_t>(s.kind);
        pixel.full = !masked;
      }
    });
  }
  const Pattern &pattern = explained.patterns[segment];
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < keys; ++j) {
      env.i = env.qOffset + i;
      env.j = env.kOffset + j;
      grid.at(i, j).live = pattern.contains(env);
    }
  }
  return grid;
}

Color colorOf(const Pixel &pixel) {
  if (pixel.kind < 0) {
    return pixel.live ? Color{255, 0, 0} : Color{255, 255, 255};
  }
  const Kind &kind = kKinds[pixel.kind];
  return !pixel.live ? kind.dead : pixel.full ? kind.full : kind.partial;
}

/// One picture with the grids side by side; a pair is at least one pixel unless `width` says less.
Picture paint(std::vector<Grid> &grids, int64_t width) {
  int64_t across = 0, rows = grids[0].rows, gap = 2;
  for (const Grid &grid : grids) {
    across += grid.keys;
  }
  across += gap * static_cast<int64_t>(grids.size() - 1);
  double scale =
      static_cast<double>(
          width > 0 ? width : std::max<int64_t>(across, 1) * std::max<int64_t>(1, 512 / std::max<int64_t>(across, 1))) /
      static_cast<double>(std::max<int64_t>(across, 1));
  auto pixelsFor = [&](int64_t pairs) {
    return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(pairs) * scale + 0.5));
  };
  Picture picture(pixelsFor(across), pixelsFor(rows));
  for (int64_t y = 0; y < picture.height; ++y) {
    int64_t row = std::min(rows - 1, static_cast<int64_t>(static_cast<double>(y) / scale));
    for (int64_t x = 0; x < picture.width; ++x) {
      auto column = static_cast<int64_t>(static_cast<double>(x) / scale);
      Color color = {170, 170, 170};
      for (Grid &grid : grids) {
        if (column < grid.keys) {
          color = colorOf(grid.at(row, column));
          break;
        }
        column -= grid.keys;
        if (column < gap) {
          break;
        }
        column -= gap;
      }
      picture.at(x, y) = color;
    }
  }
  return picture;
}

/// A character for a square of `cell` by `cell` pairs.
char characterOf(Grid &grid, int64_t row, int64_t column, int64_t cell) {
  int64_t live = 0, executed = 0, all = 0;
  for (int64_t i = row; i < std::min(row + cell, grid.rows); ++i) {
    for (int64_t j = column; j < std::min(column + cell, grid.keys); ++j) {
      live += grid.at(i, j).live;
      executed += grid.at(i, j).kind >= 0;
      ++all;
    }
  }
  return live == all ? '#' : live > 0 ? '+' : executed > 0 ? '.' : ' ';
}

void draw(std::vector<Grid> &grids) {
  int64_t across = 0;
  for (const Grid &grid : grids) {
    across += grid.keys;
  }
  int64_t cell = std::max<int64_t>(1, (across + 127) / 128);
  for (int64_t row = 0; row < grids[0].rows; row += cell) {
    std::string line;
    for (Grid &grid : grids) {
      line += line.empty() && &grid == &grids[0] ? "" : "|";
      for (int64_t column = 0; column < grid.keys; column += cell) {
        line += characterOf(grid, row, column, cell);
      }
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
  std::printf("# live%s  . executed but dead%s\n", cell > 1 ? "  + some live" : "",
              cell > 1 ? (", " + std::to_string(cell) + " x " + std::to_string(cell) + " pairs a character").c_str()
                       : "");
}

void legend(std::vector<Grid> &grids) {
  int64_t live = 0, executed = 0, all = 0;
  for (Grid &grid : grids) {
    for (const Pixel &pixel : grid.pixels) {
      live += pixel.live;
      executed += pixel.kind >= 0;
      ++all;
    }
  }
  std::printf("%lld of %lld pairs live (%.3g %%), %lld executed\n", static_cast<long long>(live),
              static_cast<long long>(all), all ? 100.0 * static_cast<double>(live) / static_cast<double>(all) : 0.0,
              static_cast<long long>(executed));
}

void writePicture(const Picture &picture, const std::string &path) {
  std::string bytes = picture.png();
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    throw Failure(1, "could not write " + path + ": " + std::strerror(errno));
  }
  std::printf("%s: %lld x %lld pixels\n", path.c_str(), static_cast<long long>(picture.width),
              static_cast<long long>(picture.height));
}

} // namespace

int runShow(const ShowOptions &options) {
  const std::string &out = options.output;
  bool png = out.size() > 4 && out.compare(out.size() - 4, 4, ".png") == 0;
  if (!png && out != "-") {
    throw Failure(2, "expected an output that ends in .png, or -, but got '" + out + "'");
  }
  Progress progress("drawing");
  Spec spec = readSpec(options.source);
  Shape given(options.source.shape);
  std::string sizes = options.source.shape;
  if (!given.has("n") && !given.has("nq") && !given.has("nk")) {
    sizes += (sizes.empty() ? "n=" : ",n=") + std::to_string(png ? 256 : 64);
  }
  Shape shape(sizes);
  auto explained = std::make_unique<Explained>(spec, sizes);
  std::unique_ptr<Problem> problem;
  std::unique_ptr<Kernel> kernel;
  if (explained->dependsOnData()) {
    kernel = std::make_unique<Kernel>(spec, "native");
    problem = std::make_unique<Problem>(heddle_kernel_manifest(kernel->handle), shape);
    problem->fill(explained->patterns, options.seed, shape);
  }
  std::vector<Grid> grids;
  Schedule schedule = explained->schedule();
  const nlohmann::json &segments = explained->json["segments"];
  if (options.segment >= static_cast<int64_t>(segments.size())) {
    throw Failure(2, "expected --segment below " + std::to_string(segments.size()) + ", but got " +
                         std::to_string(options.segment));
  }
  if (const auto heads = explained->json["sizes"]["h"].get<int64_t>(); options.head >= heads) {
    throw Failure(2, "expected --head below " + std::to_string(heads) +
                         " (--shape h=.. says how many there are), but got " + std::to_string(options.head));
  }
  for (size_t g = 0; g < segments.size(); ++g) {
    if (options.segment >= 0 && options.segment != static_cast<int64_t>(g)) {
      continue;
    }
    int64_t rows = explained->json["sizes"]["nq"].get<int64_t>(), keys = segments[g]["nk"].get<int64_t>();
    if (rows * keys > (int64_t(1) << 24)) {
      throw Failure(2, "expected at most 4096 by 4096 pairs for a picture, but got " + std::to_string(rows) + " by " +
                           std::to_string(keys) + "; --shape n=1024 shows the same pattern");
    }
    ExprEnv env;
    if (problem) {
      env = problem->environment(0, options.head, static_cast<int64_t>(g));
    } else {
      env.h = options.head;
      env.qOffset = segments[g]["q_offset"].get<int64_t>();
      env.kOffset = segments[g]["k_offset"].get<int64_t>();
      env.nq = env.qOffset + rows;
      env.nk = env.kOffset + keys;
      std::vector<std::string> names = explained->json["arguments"].get<std::vector<std::string>>();
      env.scalar = [names, shape](int64_t n) { return shape.get(names[static_cast<size_t>(n)], 0); };
    }
    grids.push_back(drawSegment(*explained, schedule, g, env, rows, keys));
  }
  if (grids[0].rows == 0) {
    throw Failure(2, "expected at least one query to draw, but got nq=0");
  }
  if (png) {
    writePicture(paint(grids, options.size), out);
  } else {
    draw(grids);
  }
  legend(grids);
  return 0;
}

} // namespace heddle::tools
