//===- PatternMeaning.cpp - Membership of one pair ------------------------===//
//
// The definitions of docs/spec.md, written down once, pair by pair.
//
// neighborhood(K, L, stride s, dilation d): NATTEN's window in one dimension,
// with the conventions of generalized neighborhood attention. Pairs outside
// [0, L) x [0, L) are dead. Inside the residue class r = i mod d (keys of other
// classes are dead) let i' = i floordiv d, j' = j floordiv d and
// L' = ceildiv(L - r, d). Queries of one group of s share the leader's window:
//   not causal: c = min(i' - i' mod s + s floordiv 2, L' - 1), and live iff
//               w <= j' < w + K with w = clamp(c - K floordiv 2, 0, L' - K);
//   causal:     c = min(i' - i' mod s + s - 1, L' - 1), and live iff
//               max(c - K + 1, 0) <= j' <= i'   (clipped, not shifted).
//
// random_blocks(n, p, seed): key blocks are numbered 0 ... m - 1 with
// m = ceildiv(nk, n). Query block u = i floordiv n draws min(p, m) of them by
// Floyd's sampling: for t = m - min(p, m), ..., m - 1 in this order,
//   r = floor(hash(seed, u, t) * (t + 1) / 2^64)
// and block r is taken, or block t where r was taken before. With mix the
// finaliser of SplitMix64 (64-bit unsigned, wrapping),
//   mix(z): z ^= z >> 30; z *= 0xbf58476d1ce4e5b9;
//           z ^= z >> 27; z *= 0x94d049bb133111eb; z ^= z >> 31
//   hash(seed, u, t) = mix(mix(mix(seed + g) + u * g) + t * g),
//   g = 0x9e3779b97f4a7c15, negative u and seeds taken modulo 2^64.
//
//===----------------------------------------------------------------------===//
#include "dialect/PatternMeaning.h"

#include <algorithm>

namespace heddle {

__extension__ using Wide = __int128;
__extension__ using UnsignedWide = unsigned __int128;

int64_t floorDivInt(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a % b < 0) != (b < 0)));
}

int64_t floorModInt(int64_t a, int64_t b) {
  int64_t r = a % b;
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}

namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

uint64_t mixBits(uint64_t z) {
  z ^= z >> 30;
  z *= 0xbf58476d1ce4e5b9u;
  z ^= z >> 27;
  z *= 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

} // namespace

static uint64_t hashOfRow(int64_t seed, int64_t u) {
  return mixBits(mixBits(static_cast<uint64_t>(seed) + kGolden) + static_cast<uint64_t>(u) * kGolden);
}

/// r(t) of the row with this hash.
static int64_t drawOf(uint64_t row, int64_t t) {
  uint64_t draw = mixBits(row + static_cast<uint64_t>(t) * kGolden);
  return static_cast<int64_t>((UnsignedWide(draw) * UnsignedWide(t + 1)) >> 64);
}

static bool isDrawn(uint64_t row, int64_t first, int64_t last, int64_t block) {
  while (true) {
    for (int64_t t = first; t < last; ++t) {
      if (drawOf(row, t) == block) {
        return true;
      }
    }
    if (block < first || block >= last) {
      return false;
    }
    last = block;
    block = drawOf(row, block);
  }
}

bool isRandomBlock(int64_t seed, int64_t u, int64_t first, int64_t last, int64_t block) {
  return isDrawn(hashOfRow(seed, u), first, last, block);
}

int64_t randomBlockOfDraw(int64_t seed, int64_t u, int64_t first, int64_t t) {
  const uint64_t row = hashOfRow(seed, u);
  const int64_t r = drawOf(row, t);
  return isDrawn(row, first, t, r) ? t : r;
}

std::vector<int64_t> randomBlocksOfRow(int64_t queryBlock, int64_t keyBlocks, int64_t perRow, int64_t seed) {
  std::vector<int64_t> taken;
  const int64_t count = std::min(perRow, keyBlocks);
  const uint64_t row = hashOfRow(seed, queryBlock);
  for (int64_t t = keyBlocks - count; t < keyBlocks; ++t) {
    const int64_t r = drawOf(row, t);
    auto at = std::lower_bound(taken.begin(), taken.end(), r);
    if (at != taken.end() && *at == r) {
      taken.push_back(t); // t is larger than everything taken before.
    } else {
      taken.insert(at, r);
    }
  }
  return taken;
}

KeyWindow neighborhoodOfRow(int64_t i, int64_t size, int64_t extent, int64_t stride, int64_t dilation, bool causal) {
  if (i < 0 || i >= extent) {
    return {};
  }
  int64_t residue = i % dilation, row = i / dilation;
  int64_t length = (extent - residue - 1) / dilation + 1;
  int64_t group = row - row % stride;
  KeyWindow w;
  w.phase = residue;
  if (causal) {
    int64_t leader = stride - 1 < length - 1 - group ? group + stride - 1 : length - 1;
    w.begin = std::max<int64_t>(Wide(leader) - size + 1 < 0 ? 0 : leader - size + 1, 0);
    w.end = row + 1;
  } else {
    int64_t leader = stride / 2 < length - 1 - group ? group + stride / 2 : length - 1;
    int64_t last = std::max<int64_t>(length - size, 0);
    w.begin = std::clamp<int64_t>(leader - size / 2, 0, last);
    w.end = size < length - w.begin ? w.begin + size : length;
  }
  return w;
}

namespace {

/// Evaluates one tree at one pair. The environment's i and j change on the way
/// down; offsets change with them so that rows are mapped like positions.
class Meaning {
public:
  explicit Meaning(const ExprEnv &env) : env(env) {}

  bool holds(const Pattern &p) {
    const PatternNode &n = *p;
    switch (n.kind) {
    case PatternKind::Full:
      return true;
    case PatternKind::Empty:
      return false;
    case PatternKind::And:
      return std::all_of(n.children.begin(), n.children.end(), [this](const Pattern &c) { return holds(c); });
    case PatternKind::Or:
      return std::any_of(n.children.begin(), n.children.end(), [this](const Pattern &c) { return holds(c); });
    case PatternKind::Sub:
      return holds(n.children[0]) && !holds(n.children[1]);
    case PatternKind::Not:
      return !holds(n.children[0]);
    case PatternKind::PerHead:
      return holds(n.children[static_cast<size_t>(floorModInt(env.h, static_cast<int64_t>(n.children.size())))]);
    case PatternKind::AffineSet:
    case PatternKind::Holds:
      return evaluateBool(n.exprs[0], env);
    case PatternKind::Coarse:
    case PatternKind::Grid:
    case PatternKind::Remap:
    case PatternKind::Shift:
      return coordinates(n);
    default:
      return n.operands.empty() ? closedForm(n) : runTime(n);
    }
  }

private:
  int64_t value(const IntArg &a, int64_t end) const {
    switch (a.kind) {
    case IntArg::Literal:
      return a.value;
    case IntArg::Infinity:
      return INT64_MAX;
    case IntArg::End:
      return static_cast<int64_t>(std::clamp<Wide>(Wide(end) - a.value, INT64_MIN, INT64_MAX));
    case IntArg::Operand:
      return env.scalar ? env.scalar(a.value) : 0;
    }
    return 0;
  }
  int64_t integer(const PatternNode &n, size_t k) const { return value(n.ints[k], 0); }

  /// P on mapped coordinates; `mapQuery` and `mapKey` also map the rows.
  template <typename MapQuery, typename MapKey> bool mapped(const Pattern &p, MapQuery mapQuery, MapKey mapKey) const {
    ExprEnv inner = env;
    auto sub = [](int64_t a, int64_t b) {
      return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
    };
    inner.i = mapQuery(env.i);
    inner.j = mapKey(env.j);
    inner.qOffset = sub(inner.i, mapQuery(sub(env.i, env.qOffset)));
    inner.kOffset = sub(inner.j, mapKey(sub(env.j, env.kOffset)));
    return Meaning(inner).holds(p);
  }

  bool coordinates(const PatternNode &n) const {
    if (n.kind == PatternKind::Shift) {
      auto shifted = [a = integer(n, 0)](int64_t x) {
        return static_cast<int64_t>(static_cast<uint64_t>(x) - static_cast<uint64_t>(a));
      };
      return mapped(n.children[0], shifted, shifted);
    }
    if (n.kind == PatternKind::Remap) {
      for (size_t k = 0; k < n.children.size(); ++k) {
        auto apply = [&](int64_t x) {
          ExprEnv at;
          at.i = x;
          return evaluateInt(n.exprs[k], at);
        };
        if (!mapped(n.children[k], apply, apply)) {
          return false;
        }
      }
      return true;
    }
    auto quotient = [](int64_t d) { return [d](int64_t x) { return floorDivInt(x, d); }; };
    auto remainder = [](int64_t d) { return [d](int64_t x) { return floorModInt(x, d); }; };
    if (n.kind == PatternKind::Coarse) {
      return mapped(n.children[0], quotient(integer(n, 0)), quotient(integer(n, 1)));
    }
    int64_t width = integer(n, 0);
    return mapped(n.children[0], quotient(width), quotient(width)) &&
           mapped(n.children[1], remainder(width), remainder(width));
  }

  bool inRanges(const PatternNode &n, int64_t x, int64_t end) const {
    return std::any_of(n.ranges.begin(), n.ranges.end(), [&](const RangeArg &r) {
      return value(r.lo, end) <= x && (r.hi.kind == IntArg::Infinity || x < value(r.hi, end));
    });
  }

  bool window(const PatternNode &n, Wide back) const {
    Wide dilation = integer(n, 2);
    bool left = n.ints[0].kind == IntArg::Infinity || back <= integer(n, 0) * dilation;
    bool right = n.ints[1].kind == IntArg::Infinity || -back <= integer(n, 1) * dilation;
    return left && right && back % dilation == 0;
  }

  bool closedForm(const PatternNode &n) const {
    const int64_t i = env.i, j = env.j;
    const Wide back = Wide(i) - j;
    switch (n.kind) {
    case PatternKind::Causal:
      return back >= (n.ints.empty() ? 0 : integer(n, 0));
    case PatternKind::Window:
      return window(n, back);
    case PatternKind::Stride: {
      Wide r = back % integer(n, 0);
      return (r < 0 ? r + integer(n, 0) : r) == integer(n, 1);
    }
    case PatternKind::Block:
      return floorDivInt(i, integer(n, 0)) == floorDivInt(j, integer(n, 0));
    case PatternKind::Keys:
      return inRanges(n, j, env.nk);
    case PatternKind::Queries:
      return inRanges(n, i, env.nq);
    case PatternKind::GlobalTokens:
      return inRanges(n, j, env.nk) || inRanges(n, i, env.nq);
    case PatternKind::KeyMod:
    case PatternKind::QueryMod: {
      int64_t r = floorModInt(n.kind == PatternKind::KeyMod ? j : i, integer(n, 0));
      return integer(n, 1) <= r && r < integer(n, 2);
    }
    case PatternKind::Offsets:
      return std::any_of(n.ints.begin(), n.ints.end(), [&](const IntArg &a) { return back == value(a, 0); });
    case PatternKind::PastBlocks:
      return Wide(j) * integer(n, 0) + integer(n, 1) <= Wide(i) + integer(n, 2);
    case PatternKind::Parent:
      return i == floorDivInt(j, integer(n, 0));
    case PatternKind::Neighborhood: {
      int64_t dilation = integer(n, 3);
      KeyWindow w = neighborhoodOfRow(i, integer(n, 0), integer(n, 1), integer(n, 2), dilation, integer(n, 4) != 0);
      return j >= 0 && j < integer(n, 1) && j % dilation == w.phase && w.begin <= j / dilation && j / dilation < w.end;
    }
    case PatternKind::RandomBlocks: {
      int64_t size = integer(n, 0);
      int64_t blocks = env.nk <= 0 ? 0 : (env.nk - 1) / size + 1;
      std::vector<int64_t> row = randomBlocksOfRow(floorDivInt(i, size), blocks, integer(n, 1), integer(n, 2));
      return std::binary_search(row.begin(), row.end(), floorDivInt(j, size));
    }
    default:
      return false;
    }
  }

  double load(int64_t operand, std::vector<int64_t> indices) const { return env.load ? env.load(operand, indices) : 0; }

  bool runTime(const PatternNode &n) const {
    const int64_t b = env.b, h = env.h, row = env.i - env.qOffset, key = env.j - env.kOffset;
    auto at = [&](size_t k) { return n.operands[k]; };
    switch (n.kind) {
    case PatternKind::Keys:
      return load(at(0), {b, key}) != 0;
    case PatternKind::Queries:
      return load(at(0), {b, row}) != 0;
    case PatternKind::GlobalTokens:
      return load(at(0), {b, key}) != 0 || load(at(0), {b, row}) != 0;
    case PatternKind::Same:
    case PatternKind::Cluster: {
      double q = load(at(0), {b, h, row});
      return q >= 0 && q == load(n.operands.back(), {b, h, key});
    }
    case PatternKind::Lengths:
      return static_cast<double>(key) < load(at(0), {b});
    case PatternKind::Between:
      return load(at(0), {b, h, row}) <= static_cast<double>(key) &&
             static_cast<double>(key) < load(at(1), {b, h, row});
    case PatternKind::BetweenQueries:
      return load(at(0), {b, h, key}) <= static_cast<double>(row) &&
             static_cast<double>(row) < load(at(1), {b, h, key});
    case PatternKind::Offsets: {
      const int64_t lists = size(at(0), 1);
      const int64_t own = env.heads > 0 ? h * lists / env.heads : h;
      return inList(0, size(at(0), 0), static_cast<double>(env.i - env.j),
                    [&](int64_t t) { return load(at(0), {own, 0, t}); });
    }
    case PatternKind::Listed:
      return key >= 0 && row >= 0 && row < size(at(0), 1) &&
             inList(
                 0, size(at(0), 0), static_cast<double>(key), [&](int64_t t) { return load(at(0), {b, h, row, t}); });
    case PatternKind::Csr: {
      if (key < 0 || row < 0 || row + 1 >= size(at(0), 0)) {
        return false;
      }
      auto end = [&](int64_t r) { return static_cast<int64_t>(load(at(0), {b, h, r})); };
      return inList(std::max<int64_t>(end(row), 0), std::min(end(row + 1), size(at(1), 0)), static_cast<double>(key),
                    [&](int64_t t) { return load(at(1), {b, h, t}); });
    }
    case PatternKind::Mask:
      return load(at(0), {b, h, row, key}) != 0;
    case PatternKind::Positions: {
      ExprEnv inner = env;
      inner.i = static_cast<int64_t>(load(at(0), {b, h, row}));
      inner.j = static_cast<int64_t>(load(at(1), {b, h, key}));
      inner.qOffset = inner.kOffset = 0;
      return Meaning(inner).holds(n.children[0]);
    }
    case PatternKind::Packed:
      return packed(n, row, key);
    default:
      return false;
    }
  }

  /// Rows from cu[s] to cu[s + 1] are sequence s; P sees them counted from cu[s], plus the offsets.
  bool packed(const PatternNode &n, int64_t row, int64_t key) const {
    auto start = [&](size_t k, int64_t s) { return static_cast<int64_t>(load(n.operands[k], {s})); };
    const int64_t sequences = std::min(size(n.operands[0], 0), size(n.operands[1], 0)) - 1;
    for (int64_t s = 0; s < sequences; ++s) {
      if (start(0, s) <= row && row < start(0, s + 1) && start(1, s) <= key && key < start(1, s + 1)) {
        ExprEnv inner = env;
        inner.i -= start(0, s);
        inner.j -= start(1, s);
        return Meaning(inner).holds(n.children[0]);
      }
    }
    return false;
  }

  int64_t size(int64_t operand, int64_t fromBack) const { return env.size ? env.size(operand, fromBack) : 0; }

  template <typename Fn> static bool inList(int64_t lo, int64_t hi, double value, Fn entry) {
    for (int64_t t = lo; t < hi; ++t) {
      if (entry(t) == value) {
        return true;
      }
    }
    return false;
  }

  const ExprEnv &env;
};

} // namespace

bool Pattern::contains(const ExprEnv &env) const { return Meaning(env).holds(*this); }

} // namespace heddle
