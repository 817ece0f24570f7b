//===- RowSets.cpp - Patterns on rows that exist --------------------------===//
//
// A pattern is prepared once (one-dimensional parts become PeriodicSets); then
// row(i) recurses with the query's coordinate and the key interval that is of
// interest, both mapped on the way down through coarse, grid and shift.
//
//===----------------------------------------------------------------------===//
#include "dialect/RowSets.h"

#include "dialect/PatternMeaning.h"

#include <algorithm>
#include <climits>

namespace heddle {

namespace {

__extension__ using Wide = __int128;
using Intervals = std::vector<Interval>;

int64_t clampWide(Wide v, int64_t lo, int64_t hi) { return static_cast<int64_t>(std::clamp<Wide>(v, lo, hi)); }

/// One prepared node.
struct Part {
  enum Kind : uint8_t { Diff, Key, Query, Other } kind = Other;
  PeriodicSet set;
  Pattern pattern;
  std::vector<Part> children;
  bool byRow = false; ///< Membership goes by the key's row somewhere below.
};

bool goesByRow(const Pattern &p) {
  if (!p->operands.empty()) {
    return true;
  }
  for (const Expr &e : p->exprs) {
    if (p->kind == PatternKind::Holds && (e.mentions(Sym::KeyRow) || e.mentions(Sym::QueryRow))) {
      return true;
    }
  }
  return std::any_of(p->children.begin(), p->children.end(), goesByRow);
}

Part prepare(const Pattern &p) {
  Part part;
  part.pattern = p;
  part.byRow = goesByRow(p);
  const std::pair<Part::Kind, std::optional<PeriodicSet> (*)(const Pattern &)> readers[] = {
      {Part::Diff, diffSet}, {Part::Key, keySet}, {Part::Query, querySet}};
  for (const auto &[kind, reader] : readers) {
    if (std::optional<PeriodicSet> s = reader(p)) {
      part.kind = kind;
      part.set = std::move(*s);
      return part;
    }
  }
  if (p->kind != PatternKind::Remap) {
    for (const Pattern &c : p->children) {
      part.children.push_back(prepare(c));
    }
  }
  return part;
}

/// A range of key coordinates.
struct Span {
  int64_t begin, end;
};

Intervals clipped(const Intervals &list, Span span) { return combineIntervals(list, {}, span.begin, span.end, 0b1100); }

/// Appends keeping maximal intervals; list is ascending.
void push(Intervals &list, int64_t begin, int64_t end) {
  if (begin >= end) {
    return;
  }
  if (!list.empty() && list.back().end >= begin) {
    list.back().end = std::max(list.back().end, end);
  } else {
    list.push_back({begin, end});
  }
}

/// Walks one prepared tree for one query.
class RowWalker {
public:
  explicit RowWalker(const ExprEnv &env) : env(env) {}

  Intervals live(const Part &part, Span span) const {
    if (span.begin >= span.end) {
      return {};
    }
    switch (part.kind) {
    case Part::Diff:
      return ofDiffs(part.set, span);
    case Part::Key:
      return part.set.intervals(span.begin, span.end);
    case Part::Query:
      return part.set.contains(env.i) ? all(span) : Intervals();
    case Part::Other:
      break;
    }
    const PatternNode &n = *part.pattern;
    switch (n.kind) {
    case PatternKind::And: {
      Intervals left = all(span);
      for (const Part &c : part.children) {
        if (left.empty()) {
          break;
        }
        left = both(left, live(c, {left.front().begin, left.back().end}), span);
      }
      return left;
    }
    case PatternKind::Or: {
      Intervals sum;
      for (const Part &c : part.children) {
        sum = combineIntervals(sum, live(c, span), span.begin, span.end, keepEither);
      }
      return sum;
    }
    case PatternKind::Sub:
      return combineIntervals(live(part.children[0], span), live(part.children[1], span), span.begin, span.end,
                              keepFirstOnly);
    case PatternKind::Not:
      return combineIntervals(live(part.children[0], span), {}, span.begin, span.end, 0b0011);
    case PatternKind::PerHead:
      return live(part.children[static_cast<size_t>(floorModInt(env.h, static_cast<int64_t>(part.children.size())))],
                  span);
    case PatternKind::Coarse:
    case PatternKind::Grid:
      if (part.byRow && env.kOffset != 0) { // A block of keys need not be a block of rows.
        return pairByPair(part.pattern, span);
      }
      return n.kind == PatternKind::Coarse ? coarse(part, span) : grid(part, span);
    case PatternKind::Shift:
      return shift(part, span);
    default:
      return primitive(part.pattern, span);
    }
  }

private:
  static Intervals all(Span span) { return {{span.begin, span.end}}; }
  static Intervals both(const Intervals &a, const Intervals &b, Span span) {
    return combineIntervals(a, b, span.begin, span.end, keepBoth);
  }

  Intervals ofDiffs(const PeriodicSet &diffs, Span span) const {
    Intervals d = diffs.intervals(env.i - span.end + 1, env.i - span.begin + 1);
    Intervals keys;
    for (auto x = d.rbegin(); x != d.rend(); ++x) {
      keys.push_back({env.i - x->end + 1, env.i - x->begin + 1});
    }
    return keys;
  }

  Intervals pairByPair(const Pattern &p, Span span) const {
    Intervals keys;
    ExprEnv pair = env;
    for (int64_t j = span.begin; j < span.end; ++j) {
      pair.j = j;
      if (p.contains(pair)) {
        push(keys, j, j + 1);
      }
    }
    return keys;
  }

  /// The environment with i (and its row) mapped by fn.
  template <typename Fn> ExprEnv mapped(const Fn &fn) const {
    ExprEnv inner = env;
    inner.i = fn(env.i);
    inner.qOffset = inner.i - fn(env.i - env.qOffset);
    return inner;
  }

  Intervals coarse(const Part &part, Span span) const {
    const PatternNode &n = *part.pattern;
    int64_t size = n.ints[1].value;
    ExprEnv inner = mapped([d = n.ints[0].value](int64_t x) { return floorDivInt(x, d); });
    Span blocks{floorDivInt(span.begin, size), floorDivInt(span.end - 1, size) + 1};
    Intervals keys;
    for (const Interval &x : RowWalker(inner).live(part.children[0], blocks)) {
      push(keys, std::max(x.begin * size, span.begin), std::min(x.end * size, span.end));
    }
    return keys;
  }

  Intervals grid(const Part &part, Span span) const {
    int64_t width = part.pattern->ints[0].value;
    ExprEnv high = mapped([=](int64_t x) { return floorDivInt(x, width); });
    ExprEnv low = mapped([=](int64_t x) { return floorModInt(x, width); });
    Span blocks{floorDivInt(span.begin, width), floorDivInt(span.end - 1, width) + 1};
    Intervals rows = RowWalker(high).live(part.children[0], blocks);
    if (rows.empty()) {
      return {};
    }
    Span window{0, width};
    if (blocks.end - blocks.begin == 1) { // Wide grids: no more columns than asked for.
      window = {floorModInt(span.begin, width), floorModInt(span.end - 1, width) + 1};
    }
    Intervals columns = RowWalker(low).live(part.children[1], window);
    if (columns.size() == 1 && columns[0] == Interval{0, width}) {
      Intervals keys;
      for (const Interval &x : rows) {
        push(keys, x.begin * width, x.end * width);
      }
      return clipped(keys, span);
    }
    Intervals keys;
    for (const Interval &x : rows) {
      for (int64_t block = x.begin; block < x.end; ++block) {
        for (const Interval &c : columns) {
          push(keys, std::max(block * width + c.begin, span.begin), std::min(block * width + c.end, span.end));
        }
      }
    }
    return keys;
  }

  Intervals shift(const Part &part, Span span) const {
    int64_t a = value(part.pattern->ints[0], 0);
    ExprEnv inner = env;
    inner.i -= a;
    Intervals keys = RowWalker(inner).live(part.children[0], {span.begin - a, span.end - a});
    for (Interval &x : keys) {
      x.begin += a;
      x.end += a;
    }
    return keys;
  }

  int64_t value(const IntArg &x, int64_t end) const {
    switch (x.kind) {
    case IntArg::Literal:
      return x.value;
    case IntArg::Infinity:
      return INT64_MAX;
    case IntArg::End:
      return clampWide(Wide(end) - x.value, INT64_MIN, INT64_MAX);
    case IntArg::Operand:
      return env.scalar ? env.scalar(x.value) : 0;
    }
    return 0;
  }
  int64_t integer(const PatternNode &n, size_t k) const { return value(n.ints[k], 0); }

  /// phase + step * t in [begin, end).
  static Intervals lattice(int64_t step, int64_t phase, Span span) {
    if (step == 1) {
      return all(span);
    }
    Intervals keys;
    int64_t first = span.begin + floorModInt(floorModInt(phase, step) - floorModInt(span.begin, step), step);
    for (int64_t j = first; j < span.end; j += step) {
      keys.push_back({j, j + 1});
    }
    return keys;
  }

  static Span within(Wide begin, Wide end, Span span) {
    return {clampWide(begin, span.begin, span.end), clampWide(end, span.begin, span.end)};
  }
  static Intervals interval(Wide begin, Wide end, Span span) {
    Span s = within(begin, end, span);
    return s.begin < s.end ? all(s) : Intervals();
  }

  Intervals window(const PatternNode &n, Span span) const {
    Wide dilation = integer(n, 2);
    bool openLeft = n.ints[0].kind == IntArg::Infinity, openRight = n.ints[1].kind == IntArg::Infinity;
    Wide begin = openLeft ? Wide(span.begin) : env.i - integer(n, 0) * dilation;
    Wide end = openRight ? Wide(span.end) : env.i + integer(n, 1) * dilation + 1;
    Span s = within(begin, end, span);
    return s.begin < s.end ? lattice(integer(n, 2), env.i, s) : Intervals();
  }

  bool queryInRanges(const PatternNode &n) const {
    return std::any_of(n.ranges.begin(), n.ranges.end(), [&](const RangeArg &r) {
      return value(r.lo, env.nq) <= env.i && (r.hi.kind == IntArg::Infinity || env.i < value(r.hi, env.nq));
    });
  }

  Intervals keyRanges(const PatternNode &n, Span span) const {
    Intervals keys;
    for (const RangeArg &r : n.ranges) {
      Wide end = r.hi.kind == IntArg::Infinity ? Wide(span.end) : Wide(value(r.hi, env.nk));
      keys = combineIntervals(keys, interval(value(r.lo, env.nk), end, span), span.begin, span.end, keepEither);
    }
    return keys;
  }

  Intervals neighborhood(const PatternNode &n, Span span) const {
    int64_t dilation = integer(n, 3);
    KeyWindow w = neighborhoodOfRow(env.i, integer(n, 0), integer(n, 1), integer(n, 2), dilation, integer(n, 4) != 0);
    Wide begin = Wide(w.begin) * dilation + w.phase, end = Wide(w.end) * dilation;
    end = std::min<Wide>(end, integer(n, 1));
    Span s = within(std::max<Wide>(begin, 0), end, span);
    return w.begin < w.end && s.begin < s.end ? lattice(dilation, w.phase, s) : Intervals();
  }

  Intervals randomBlocks(const PatternNode &n, Span span) const {
    int64_t size = integer(n, 0), blocks = env.nk <= 0 ? 0 : (env.nk - 1) / size + 1;
    Intervals keys;
    for (int64_t block : randomBlocksOfRow(floorDivInt(env.i, size), blocks, integer(n, 1), integer(n, 2))) {
      Span s = within(Wide(block) * size, Wide(block + 1) * size, span);
      push(keys, s.begin, s.end);
    }
    return keys;
  }

  double load(int64_t operand, std::vector<int64_t> at) const { return env.load ? env.load(operand, at) : 0; }

  /// Keys with lo <= row < hi, bounds as doubles (NaN: none).
  Intervals keyRows(double lo, double hi, Span span) const {
    auto whole = [](double x) -> Wide { // Least integer >= x.
      return x >= 0x1p62    ? Wide(1) << 62
             : x <= -0x1p62 ? -(Wide(1) << 62)
                            : Wide(static_cast<int64_t>(x)) + (static_cast<double>(static_cast<int64_t>(x)) < x);
    };
    if (!(lo < hi)) {
      return {};
    }
    return interval(env.kOffset + whole(lo), env.kOffset + whole(hi), span);
  }

  Intervals listed(const PatternNode &n, int64_t row, Span span) const {
    auto size = [&](size_t k, int64_t back) { return env.size ? env.size(n.operands[k], back) : 0; };
    const bool csr = n.kind == PatternKind::Csr;
    if (row < 0 || (csr ? row + 1 >= size(0, 0) : row >= size(0, 1))) {
      return {};
    }
    auto end = [&](int64_t r) { return static_cast<int64_t>(load(n.operands[0], {env.b, env.h, r})); };
    const int64_t lo = csr ? std::max<int64_t>(end(row), 0) : 0;
    const int64_t hi = csr ? std::min(end(row + 1), size(1, 0)) : size(0, 0);
    std::vector<int64_t> found;
    for (int64_t t = lo; t < hi; ++t) {
      double key = csr ? load(n.operands[1], {env.b, env.h, t}) : load(n.operands[0], {env.b, env.h, row, t});
      Wide j = Wide(static_cast<int64_t>(key)) + env.kOffset;
      if (key >= 0 && span.begin <= j && j < span.end) {
        found.push_back(static_cast<int64_t>(j));
      }
    }
    std::sort(found.begin(), found.end());
    Intervals keys;
    for (int64_t j : found) {
      push(keys, j, j + 1);
    }
    return keys;
  }

  Intervals primitive(const Pattern &p, Span span) const {
    const PatternNode &n = *p;
    const int64_t row = env.i - env.qOffset;
    switch (n.kind) {
    case PatternKind::Causal:
      return interval(span.begin, Wide(env.i) - integer(n, 0) + 1, span);
    case PatternKind::Window:
      return window(n, span);
    case PatternKind::Stride: {
      int64_t step = integer(n, 0), phase = integer(n, 1);
      return phase >= 0 && phase < step ? lattice(step, env.i - phase, span) : Intervals();
    }
    case PatternKind::Block: {
      Wide block = floorDivInt(env.i, integer(n, 0));
      return interval(block * integer(n, 0), (block + 1) * integer(n, 0), span);
    }
    case PatternKind::Parent:
      return interval(Wide(env.i) * integer(n, 0), Wide(env.i + 1) * integer(n, 0), span);
    case PatternKind::Keys:
      return n.operands.empty() ? keyRanges(n, span) : pairByPair(p, span);
    case PatternKind::Queries:
      if (n.operands.empty()) {
        return queryInRanges(n) ? all(span) : Intervals();
      }
      return load(n.operands[0], {env.b, row}) != 0 ? all(span) : Intervals();
    case PatternKind::GlobalTokens:
      if (!n.operands.empty()) {
        return pairByPair(p, span);
      }
      return queryInRanges(n) ? all(span) : keyRanges(n, span);
    case PatternKind::QueryMod: {
      int64_t r = floorModInt(env.i, integer(n, 0));
      return integer(n, 1) <= r && r < integer(n, 2) ? all(span) : Intervals();
    }
    case PatternKind::PastBlocks: {
      Wide room = Wide(env.i) + integer(n, 2) - integer(n, 1);
      Wide size = integer(n, 0), last = room >= 0 ? room / size : -((-room + size - 1) / size);
      return interval(span.begin, last + 1, span);
    }
    case PatternKind::Neighborhood:
      return neighborhood(n, span);
    case PatternKind::RandomBlocks:
      return randomBlocks(n, span);
    case PatternKind::Lengths:
      return keyRows(-0x1p62, load(n.operands[0], {env.b}), span);
    case PatternKind::Listed:
    case PatternKind::Csr:
      return listed(n, row, span);
    case PatternKind::Between:
      return keyRows(load(n.operands[0], {env.b, env.h, row}), load(n.operands[1], {env.b, env.h, row}), span);
    default:
      return pairByPair(p, span);
    }
  }

  const ExprEnv &env;
};

} // namespace

struct RowSets::Impl {
  Part root;
  RowShape shape;

  Span keys() const { return {shape.kOffset, shape.kOffset + shape.nk}; }

  ExprEnv environment(int64_t row) const {
    ExprEnv env;
    env.b = shape.b;
    env.h = shape.h;
    env.i = row + shape.qOffset;
    env.qOffset = shape.qOffset;
    env.kOffset = shape.kOffset;
    env.nq = shape.qOffset + shape.nq;
    env.nk = shape.kOffset + shape.nk;
    env.scalar = shape.scalar;
    env.load = shape.load;
    env.size = shape.size;
    env.heads = shape.heads;
    return env;
  }

  /// Differences slide by one from row to row.
  int64_t countDiffs() const {
    Span k = keys();
    int64_t i = shape.qOffset;
    int64_t inRow = root.set.count(i - k.end + 1, i - k.begin + 1), total = 0;
    for (int64_t row = 0; row < shape.nq; ++row, ++i) {
      total += inRow;
      inRow += root.set.contains(i + 1 - k.begin);
      inRow -= root.set.contains(i + 1 - k.end);
    }
    return total;
  }

  TileClass diffTile(int64_t row, int64_t rows, int64_t key, int64_t keys) const {
    int64_t first = (row + shape.qOffset) - (key + shape.kOffset + keys - 1);
    int64_t width = rows + keys - 1;
    int64_t live = root.set.count(first, first + width);
    return live == 0 ? TileClass::Empty : live == width ? TileClass::Full : TileClass::Partial;
  }
};

RowSets::RowSets(const Pattern &p, RowShape shape) : impl(new Impl{prepare(canonicalize(p)), std::move(shape)}) {}
RowSets::~RowSets() = default;
RowSets::RowSets(RowSets &&) noexcept = default;
RowSets &RowSets::operator=(RowSets &&) noexcept = default;

std::vector<Interval> RowSets::row(int64_t queryRow) const {
  return RowWalker(impl->environment(queryRow)).live(impl->root, impl->keys());
}

int64_t RowSets::count() const {
  if (impl->shape.nk <= 0 || impl->shape.nq <= 0) {
    return 0;
  }
  if (impl->root.kind == Part::Diff) {
    return impl->countDiffs();
  }
  int64_t total = 0;
  for (int64_t r = 0; r < impl->shape.nq; ++r) {
    for (const Interval &x : row(r)) {
      total += x.end - x.begin;
    }
  }
  return total;
}

std::vector<uint8_t> RowSets::mask() const {
  const RowShape &s = impl->shape;
  std::vector<uint8_t> bits(static_cast<size_t>(std::max<int64_t>(s.nq, 0)) *
                            static_cast<size_t>(std::max<int64_t>(s.nk, 0)));
  for (int64_t r = 0; r < s.nq; ++r) {
    for (const Interval &x : row(r)) {
      auto first = bits.begin() + (r * s.nk + (x.begin - s.kOffset));
      std::fill(first, first + (x.end - x.begin), uint8_t{1});
    }
  }
  return bits;
}

std::vector<TileClass> RowSets::tiles(int64_t bq, int64_t bk) const {
  const RowShape &s = impl->shape;
  if (s.nq <= 0 || s.nk <= 0 || bq <= 0 || bk <= 0) {
    return {};
  }
  int64_t across = (s.nk - 1) / bk + 1;
  std::vector<TileClass> classes;
  for (int64_t r = 0; r < s.nq; r += bq) {
    int64_t rows = std::min(bq, s.nq - r);
    std::vector<int64_t> live(static_cast<size_t>(across));
    if (impl->root.kind != Part::Diff) {
      for (int64_t q = r; q < r + rows; ++q) {
        for (const Interval &x : row(q)) {
          int64_t end = x.end - s.kOffset;
          for (int64_t k = x.begin - s.kOffset; k < end;) {
            int64_t next = std::min((k / bk + 1) * bk, end);
            live[static_cast<size_t>(k / bk)] += next - k;
            k = next;
          }
        }
      }
    }
    for (int64_t t = 0; t < across; ++t) {
      int64_t keys = std::min(bk, s.nk - t * bk), n = live[static_cast<size_t>(t)];
      classes.push_back(impl->root.kind == Part::Diff ? impl->diffTile(r, rows, t * bk, keys)
                        : n == 0                      ? TileClass::Empty
                        : n == rows * keys            ? TileClass::Full
                                                      : TileClass::Partial);
    }
  }
  return classes;
}

std::vector<uint8_t> mask(const Pattern &p, const RowShape &shape) { return RowSets(p, shape).mask(); }
int64_t count(const Pattern &p, const RowShape &shape) { return RowSets(p, shape).count(); }

} // namespace heddle
