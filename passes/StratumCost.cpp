//===- StratumCost.cpp - Pairs that a stratum has, and that its tiles run -===//

#include "passes/StratumCost.h"

#include "dialect/KeyTable.h"
#include "dialect/LinearForm.h"
#include "dialect/PatternMeaning.h"
#include "passes/KnownRanges.h"

#include <algorithm>
#include <set>

namespace heddle {

namespace {

constexpr int64_t kFar = int64_t(1) << 40;

int64_t clampedInt(const Expr &e, const ExprEnv &env) { return std::clamp(evaluateInt(e, env), -kFar, kFar); }

struct Span {
  int64_t lo = -kFar, hi = kFar;
  bool empty() const { return lo >= hi; }
};

Span evaluateBounds(const std::vector<Expr> &lower, const std::vector<Expr> &upper, const ExprEnv &env) {
  Span v;
  for (const Expr &e : lower) {
    v.lo = std::max(v.lo, clampedInt(e, env));
  }
  for (const Expr &e : upper) {
    v.hi = std::min(v.hi, clampedInt(e, env));
  }
  return v;
}

/// The keys of one row, or those that all rows of a tile have (or that any has).
struct KeyBox {
  std::vector<Span> digits;
  std::vector<int64_t> phases;
  Span keys;
  bool empty = false;
};

KeyBox boxOfRow(const Stratum &s, const ExprEnv &env, Span existing) {
  KeyBox box;
  box.empty = !s.guard.isNull() && !evaluateBool(s.guard, env);
  box.keys = evaluateBounds(s.lower, s.upper, env);
  box.keys.lo = std::max(box.keys.lo, existing.lo);
  box.keys.hi = std::min(box.keys.hi, existing.hi);
  box.empty |= box.keys.empty();
  for (const KeyDigit &digit : s.key) {
    Span v = evaluateBounds(digit.lower, digit.upper, env);
    if (digit.extent > 0) {
      v.lo = std::max<int64_t>(v.lo, 0);
      v.hi = std::min(v.hi, digit.extent);
    }
    box.empty |= v.empty();
    box.digits.push_back(v);
    box.phases.push_back(digit.phase.isNull() ? 0 : clampedInt(digit.phase, env));
  }
  return box;
}

/// Visits the runs of keys of a box: first, step and count of each. Outer digits
/// are enumerated, the last one is a run.
template <typename Visit> void forEachRun(const Stratum &s, const KeyBox &box, size_t at, int64_t base, Visit visit) {
  const KeyDigit &digit = s.key[at];
  Span v = box.digits[at];
  int64_t radix = std::max<int64_t>(digit.radix, 1), step = std::max<int64_t>(digit.step, 1), phase = box.phases[at];
  // What lies below this digit adds 0 to radix - 1.
  v.lo = std::max(v.lo, floorDivInt(box.keys.lo - base - (radix - 1), radix));
  v.hi = std::min(v.hi, floorDivInt(box.keys.hi - 1 - base, radix) + 1);
  bool last = at + 1 == s.key.size();
  if (last) {
    v.lo = std::max(v.lo, -floorDivInt(base - box.keys.lo, radix));
  }
  int64_t first = phase + -floorDivInt(phase - v.lo, step) * step;
  if (first >= v.hi) {
    return;
  }
  int64_t count = (v.hi - 1 - first) / step + 1;
  if (last) {
    visit(base + first * radix, step * radix, count);
    return;
  }
  for (int64_t n = 0; n < count; ++n) {
    forEachRun(s, box, at + 1, base + (first + n * step) * radix, visit);
  }
}

int64_t countKeys(const Stratum &s, const KeyBox &box) {
  int64_t total = 0;
  if (!box.empty) {
    forEachRun(s, box, 0, 0, [&](int64_t, int64_t, int64_t count) { total += count; });
  }
  return total;
}

bool hasPairCondition(const Stratum &s) { return !s.keep.isNull() || !s.residual.isNull(); }

bool isKept(const Stratum &s, const ExprEnv &env) {
  return (s.keep.isNull() || evaluateBool(s.keep, env)) && (s.residual.isNull() || evaluateBool(s.residual, env));
}

/// Visits the keys of a row that a table gives and that all conditions let through.
void forEachOfTable(const Stratum &s, const KeyTable &table, const KeyBox &box, ExprEnv &env,
                    const std::function<void(int64_t)> &visit) {
  table.forEach(clampedInt(table.base, env), box.keys.lo, box.keys.hi, [&](int64_t key) {
    env.j = key;
    if ((s.keep.isNull() || evaluateBool(s.keep, env)) && (table.rest.isNull() || evaluateBool(table.rest, env))) {
      visit(key);
    }
  });
}

/// The box of a key, where boxes are tested; their places in the tile's run are not known here.
int64_t boxOf(const Stratum &s, int64_t key) {
  return floorDivInt(key, kBoxKeys * std::max<int64_t>(s.key.back().step, 1));
}

/// Keys of a row that its conditions per pair let through, and their boxes. `table`: of the stratum's keys.
int64_t countLive(const Stratum &s, const KeyTable *table, const KeyBox &box, ExprEnv &env, std::set<int64_t> *boxes) {
  if (box.empty || !hasPairCondition(s)) {
    return countKeys(s, box);
  }
  int64_t live = 0, last = 0;
  if (table) {
    const int64_t base = clampedInt(table->base, env);
    if (!boxes && s.keep.isNull() && table->rest.isNull()) {
      return table->count(base, box.keys.lo, box.keys.hi);
    }
    forEachOfTable(s, *table, box, env, [&](int64_t key) {
      ++live;
      if (boxes) {
        boxes->insert(boxOf(s, key));
      }
    });
    return live;
  }
  forEachRun(s, box, 0, 0, [&](int64_t first, int64_t step, int64_t count) {
    for (int64_t n = 0; n < count; ++n) {
      env.j = first + n * step;
      if (isKept(s, env)) {
        ++live;
        if (boxes && (boxes->empty() || boxOf(s, env.j) != last)) {
          boxes->insert(last = boxOf(s, env.j));
        }
      }
    }
  });
  return live;
}

/// The query tiles that touch positions [begin, end): base positions, and the
/// offsets of the lanes.
class QueryTiles {
public:
  QueryTiles(const Stratum &s, int64_t begin, int64_t end)
      : tested(hasBoxTest(s.residual)), s(s), begin(begin), end(end) {
    lanes = {{}};
    for (const QueryDigit &digit : s.query) {
      std::vector<Lane> next;
      for (const Lane &base : lanes) {
        for (int64_t t = 0; t < std::max<int64_t>(digit.tile, 1); ++t) {
          next.push_back(base);
          next.back().offset += t * digit.radix;
          next.back().digits.push_back(t);
        }
      }
      lanes = std::move(next);
    }
    // Tiles of the leading digit, and the tiles of each of its values below it.
    const QueryDigit &lead = s.query[0];
    int64_t width = std::max<int64_t>(lead.radix * lead.tile, 1);
    first = floorDivInt(begin, width);
    leading = end > begin ? floorDivInt(end - 1, width) - first + 1 : 0;
    inner = 1;
    for (size_t n = 1; n < s.query.size(); ++n) {
      inner *= tilesOf(s.query[n]);
    }
  }
  int64_t count() const { return leading * inner; }
  /// Positions of tile t's lanes that exist, and their lanes.
  std::vector<int64_t> positions(int64_t t, std::vector<int64_t> *numbers = nullptr) const {
    int64_t base = (first + t / inner) * s.query[0].radix * s.query[0].tile, rest = t % inner;
    std::vector<int64_t> digits(s.query.size());
    for (size_t n = s.query.size(); n-- > 1;) {
      int64_t tiles = tilesOf(s.query[n]);
      digits[n] = rest % tiles * s.query[n].tile;
      base += digits[n] * s.query[n].radix;
      rest /= tiles;
    }
    // The last tile of a digit may pass its end.
    auto exists = [&](const Lane &lane) {
      for (size_t n = 1; n < digits.size(); ++n) {
        if (digits[n] + lane.digits[n] >= s.query[n].extent) {
          return false;
        }
      }
      return base + lane.offset >= begin && base + lane.offset < end;
    };
    std::vector<int64_t> found;
    for (size_t n = 0; n < lanes.size(); ++n) {
      if (exists(lanes[n])) {
        found.push_back(base + lanes[n].offset);
        if (numbers) {
          numbers->push_back(static_cast<int64_t>(n));
        }
      }
    }
    return found;
  }
  /// Keys are taken box by box.
  const bool tested;
  int64_t laneCount() const { return static_cast<int64_t>(lanes.size()); }

private:
  static int64_t tilesOf(const QueryDigit &digit) {
    int64_t tile = std::max<int64_t>(digit.tile, 1);
    return std::max<int64_t>((digit.extent + tile - 1) / tile, 1);
  }
  const Stratum &s;
  int64_t begin, end, first = 0, leading = 0, inner = 1;
  struct Lane {
    int64_t offset = 0;
    std::vector<int64_t> digits; ///< of the offset
  };
  std::vector<Lane> lanes;
};

/// Extends `any` to hold `row`, and cuts `all` to what `row` has too.
void join(KeyBox &any, KeyBox &all, const KeyBox &row, bool isFirst) {
  if (isFirst) {
    any = all = row;
    return;
  }
  auto widen = [](Span &a, const Span &b) { a = {std::min(a.lo, b.lo), std::max(a.hi, b.hi)}; };
  auto narrow = [](Span &a, const Span &b) { a = {std::max(a.lo, b.lo), std::min(a.hi, b.hi)}; };
  widen(any.keys, row.keys);
  narrow(all.keys, row.keys);
  all.empty |= all.keys.empty();
  for (size_t n = 0; n < row.digits.size(); ++n) {
    widen(any.digits[n], row.digits[n]);
    narrow(all.digits[n], row.digits[n]);
    all.empty |= all.digits[n].empty() || all.phases[n] != row.phases[n];
  }
}

} // namespace

bool isLiveForHead(const Stratum &s, int64_t h) {
  return s.headPeriod <= 1 || std::find(s.heads.begin(), s.heads.end(), h % s.headPeriod) != s.heads.end();
}

namespace {

/// Lanes of a column and keys of a group, as in the micro-kernels: what is computed together.
constexpr int64_t kColumn = 16, kGroup = 6;

/// One query tile: the boxes that any and that all of its rows have.
struct Tile {
  std::vector<int64_t> positions;
  KeyBox any, all;
  bool empty = true, whole = true;
  double live = 0, runs = 0, rows = 0; ///< of its rows, each by itself; rows that have keys
  /// The boxes that any row of a column has; empty where no row has keys.
  std::vector<KeyBox> columns;
  bool tested = false;     ///< keys are taken box by box
  std::set<int64_t> boxes; ///< that have a live pair (about those that run: a test may let more pass)

  int64_t executedKeys(const Stratum &s) const {
    const int64_t keys = countKeys(s, any);
    return tested ? std::min(keys, static_cast<int64_t>(boxes.size()) * kBoxKeys) : keys;
  }
};

Tile visitTile(const Stratum &s, const KeyTable *table, ExprEnv &env, const QueryTiles &tiles, int64_t t,
               Span existing) {
  Tile tile;
  tile.tested = tiles.tested;
  std::vector<int64_t> lanes;
  tile.positions = tiles.positions(t, &lanes);
  KeyBox unused;
  for (size_t n = 0; n < tile.positions.size(); ++n) {
    env.i = tile.positions[n];
    KeyBox row = boxOfRow(s, env, existing);
    if (n == 0 || lanes[n] / kColumn != lanes[n - 1] / kColumn) {
      tile.columns.emplace_back().empty = true;
    }
    if (row.empty) {
      tile.whole = false;
      continue;
    }
    KeyBox &column = tile.columns.back();
    join(column, unused, row, column.empty);
    join(tile.any, tile.all, row, tile.empty);
    tile.empty = false;
    const bool boxes = tile.tested && !s.byRow;
    tile.live += static_cast<double>(countLive(s, table, row, env, boxes ? &tile.boxes : nullptr));
    tile.rows += 1;
    if (table) { // its keys are copied as one run
      tile.runs += 1;
    } else {
      forEachRun(s, row, 0, 0, [&](int64_t, int64_t, int64_t) { tile.runs += 1; });
    }
  }
  tile.whole &= !hasPairCondition(s);
  return tile;
}

int64_t ceilDiv(int64_t a, int64_t n) { return (a + n - 1) / n; }

/// The keys of a tile in the order in which they run.
std::vector<int64_t> keysOf(const Stratum &s, const KeyBox &box) {
  std::vector<int64_t> keys;
  forEachRun(s, box, 0, 0, [&](int64_t first, int64_t step, int64_t count) {
    for (int64_t n = 0; n < count; ++n) {
      keys.push_back(first + n * step);
    }
  });
  return keys;
}

/// Counts what the columns of a tile compute.
class ColumnCounter {
public:
  ColumnCounter(const Stratum &s, const Tile &tile, int64_t executed, int64_t full, int64_t chunk)
      : s(s), tile(tile), executed(executed), full(full), chunk(chunk) {}

  void addTo(StratumCost &cost) const {
    const int64_t chunks = ceilDiv(executed, chunk), masked = maskedChunks(chunks);
    const auto columns = static_cast<int64_t>(tile.columns.size());
    double scored = 0, weighted = 0;
    if (executed == full) {
      scored = weighted = static_cast<double>(columns * ceilDiv(executed, kGroup) * kGroup * kColumn);
    } else if (s.key.size() == 1) {
      for (const KeyBox &column : tile.columns) {
        // A range of groups, which begins and ends anywhere in one.
        const int64_t own = column.empty ? 0 : countKeys(s, column);
        const int64_t whole = ceilDiv(executed, kGroup) * kGroup;
        scored += static_cast<double>(own == 0 ? 0 : std::min(own + kGroup - 1, whole)) * kColumn;
      }
      weighted = scored;
    } else {
      countGroups(scored, weighted);
    }
    cost.scored += scored;
    cost.weighted += weighted;
    cost.executed += (scored + weighted) / 2;
    cost.masked += weighted * static_cast<double>(masked) / static_cast<double>(std::max<int64_t>(chunks, 1));
    cost.keys += static_cast<double>(executed);
    forEachRun(s, tile.any, 0, 0, [&](int64_t, int64_t, int64_t) { cost.runs += 1; });
    cost.maskedKeys += static_cast<double>(std::min(masked * chunk, executed) * columns);
    cost.columns += static_cast<double>(chunks * columns);
    cost.rows += static_cast<double>(tile.positions.size());
  }

private:
  const Stratum &s;
  const Tile &tile;
  int64_t executed, full, chunk;

  /// Chunks with a key that some lane does not have: in front of and behind the keys that all have.
  int64_t maskedChunks(int64_t chunks) const {
    if (executed == full) {
      return 0;
    }
    if (full == 0 || s.key.size() > 1) {
      return chunks;
    }
    auto starts = [](const KeyBox &b) { return std::max(b.keys.lo, -kFar) + std::max(b.digits[0].lo, -kFar); };
    auto ends = [](const KeyBox &b) { return std::min(b.keys.hi, kFar) + std::min(b.digits[0].hi, kFar); };
    const bool before = starts(tile.any)<starts(tile.all), after = ends(tile.any)> ends(tile.all);
    const int64_t front = !before ? 0 : after ? (executed - full) / 2 : executed - full;
    return std::min(ceilDiv(front, chunk) + (after ? chunks - (front + full) / chunk : 0), chunks);
  }

  void countGroups(double &scored, double &weighted) const {
    const std::vector<int64_t> keys = keysOf(s, tile.any);
    const size_t perChunk = static_cast<size_t>(std::max<int64_t>(chunk / kGroup, 1));
    for (const KeyBox &column : tile.columns) {
      if (column.empty) {
        continue;
      }
      std::vector<bool> live(keys.size() / kGroup + 1);
      auto at = keys.begin();
      for (int64_t key : keysOf(s, column)) {
        at = std::lower_bound(at, keys.end(), key);
        if (at == keys.end()) {
          break;
        }
        live[static_cast<size_t>(at - keys.begin()) / kGroup] = true;
      }
      for (size_t begin = 0; begin < live.size(); begin += perChunk) {
        size_t first = live.size(), last = 0;
        for (size_t g = begin; g < std::min(begin + perChunk, live.size()); ++g) {
          if (live[g]) {
            first = std::min(first, g);
            last = g + 1;
            scored += kGroup * kColumn;
          }
        }
        weighted += last > first ? static_cast<double>((last - first) * kGroup * kColumn) : 0;
      }
    }
  }
};

/// n where the comparison says that choice < n, for all queries alike; null otherwise.
Expr endIn(const Expr &e) {
  const bool flipped = e->kind == ExprKind::Gt || e->kind == ExprKind::Ge;
  const bool orEqual = e->kind == ExprKind::Le || e->kind == ExprKind::Ge;
  if (e->kind != ExprKind::Lt && !orEqual && !flipped) {
    return {};
  }
  LinearForm end = LinearForm::of(e->args[flipped ? 0 : 1]) - LinearForm::of(e->args[flipped ? 1 : 0]);
  end.add(LinearForm::of(Expr::symbol(Sym::Choice)));
  for (Sym s : {Sym::Choice, Sym::Query, Sym::Key, Sym::QueryRow, Sym::KeyRow, Sym::Entry}) {
    if (end.mentions(s)) {
      return {};
    }
  }
  return (orEqual ? end + LinearForm(1) : end).expr();
}

/// Choices that some pair may have; 1 for a stratum without.
int64_t choicesOf(const Stratum &s, const ExprEnv &env) {
  const int64_t choices = std::max<int64_t>(s.choices, 1);
  const Expr end = endOfChoices(s);
  return end.isNull() ? choices : std::clamp<int64_t>(evaluateInt(end, env), 1, choices);
}

} // namespace

Expr endOfChoices(const Stratum &s) {
  Expr end;
  std::vector<Expr> parts;
  if (s.choices != 0 && !s.guard.isNull()) {
    parts.push_back(s.guard);
  }
  while (!parts.empty()) {
    const Expr part = parts.back();
    parts.pop_back();
    if (part->kind == ExprKind::And) {
      parts.insert(parts.end(), part->args.begin(), part->args.end());
    } else if (const Expr own = endIn(part); !own.isNull() && part.mentions(Sym::Choice)) {
      end = end.isNull() ? own : min(end, own);
    }
  }
  return end;
}

StratumCost costOf(const Stratum &s, ExprEnv env, int64_t rows, int64_t keys, int64_t keyChunk, int64_t maxTiles) {
  constexpr int64_t kMaxPairs = 1 << 20, kMaxKeys = 1 << 22;
  StratumCost cost;
  Span existing = {env.kOffset, env.kOffset + keys};
  QueryTiles tiles(s, env.qOffset, env.qOffset + rows);
  const std::optional<KeyTable> table = keyTableOf(s);
  const int64_t choices = choicesOf(s, env);
  // Where every pair has a condition of its own, a tile costs as many evaluations as it has pairs.
  int64_t wanted = maxTiles;
  if (hasPairCondition(s) && !table) {
    wanted = std::max<int64_t>(kMaxPairs / std::max<int64_t>(keys * tiles.laneCount(), 1), 4);
  } else if (s.key.size() > 1) {
    wanted = std::clamp<int64_t>(kMaxKeys / std::max<int64_t>(keys, 1), std::min<int64_t>(8, maxTiles), maxTiles);
  }
  wanted = std::max<int64_t>(wanted / std::min<int64_t>(choices, 64), 4);
  int64_t samples = std::min(tiles.count(), wanted);
  cost.exact = samples == tiles.count();
  double spacing = static_cast<double>(tiles.count()) / static_cast<double>(std::max<int64_t>(samples, 1));
  for (int64_t n = 0; n < samples * choices; ++n) {
    env.choice = n % choices;
    auto at = static_cast<int64_t>((static_cast<double>(n / choices) + 0.5) * spacing);
    Tile tile = visitTile(s, table ? &*table : nullptr, env, tiles, at, existing);
    if (tile.empty) {
      continue;
    }
    cost.ownRows += tile.rows;
    if (s.byRow) {
      cost.live += tile.live;
      cost.executed += tile.live;
      cost.unmasked += tile.live;
      cost.ownRuns += tile.runs;
      cost.rows += static_cast<double>(tile.positions.size());
      continue;
    }
    int64_t executed = tile.executedKeys(s), full = tile.whole ? countKeys(s, tile.all) : 0;
    int64_t chunks = ceilDiv(executed, keyChunk), fullChunks = std::min(full / keyChunk, chunks);
    cost.live += tile.live;
    cost.ownRuns += tile.runs;
    cost.unmasked +=
        static_cast<double>(static_cast<int64_t>(tile.positions.size()) * std::min(fullChunks * keyChunk, executed));
    cost.queryTiles += executed > 0;
    cost.fullTiles += static_cast<double>(fullChunks);
    cost.partialTiles += static_cast<double>(chunks - fullChunks);
    ColumnCounter(s, tile, executed, full, keyChunk).addTo(cost);
  }
  for (double *v : {&cost.live, &cost.executed, &cost.unmasked, &cost.queryTiles, &cost.fullTiles, &cost.partialTiles,
                    &cost.scored, &cost.weighted, &cost.masked, &cost.keys, &cost.runs, &cost.maskedKeys, &cost.columns,
                    &cost.rows, &cost.ownRuns, &cost.ownRows}) {
    *v *= spacing > 1 ? spacing : 1;
  }
  return cost;
}

void forEachExecutedPair(const Stratum &s, ExprEnv env, int64_t rows, int64_t keys, int64_t keyChunk,
                         const std::function<void(int64_t, int64_t, bool)> &visit) {
  Span existing = {env.kOffset, env.kOffset + keys};
  QueryTiles tiles(s, env.qOffset, env.qOffset + rows);
  const std::optional<KeyTable> table = keyTableOf(s);
  const int64_t choices = choicesOf(s, env);
  for (int64_t n = 0; n < tiles.count() * choices; ++n) {
    env.choice = n % choices;
    Tile tile = visitTile(s, table ? &*table : nullptr, env, tiles, n / choices, existing);
    if (tile.empty) {
      continue;
    }
    if (s.byRow) {
      for (int64_t i : tile.positions) {
        env.i = i;
        KeyBox row = boxOfRow(s, env, existing);
        if (!row.empty && table) {
          forEachOfTable(s, *table, row, env, [&](int64_t key) { visit(i, key, false); });
        } else if (!row.empty) {
          forEachRun(s, row, 0, 0, [&](int64_t first, int64_t step, int64_t count) {
            for (int64_t n = 0; n < count; ++n) {
              visit(i, first + n * step, false);
            }
          });
        }
      }
      continue;
    }
    auto each = [&](const KeyBox &box, bool masked) {
      if (!box.empty) {
        forEachRun(s, box, 0, 0, [&](int64_t first, int64_t step, int64_t count) {
          for (int64_t n = 0; n < count; ++n) {
            if (tile.tested && !tile.boxes.contains(boxOf(s, first + n * step))) {
              continue;
            }
            for (int64_t i : tile.positions) {
              visit(i, first + n * step, masked);
            }
          }
        });
      }
    };
    each(tile.any, true);
    if (tile.whole && countKeys(s, tile.all) >= keyChunk) {
      each(tile.all, false);
    }
  }
}

} // namespace heddle
