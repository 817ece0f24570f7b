//===- QueryTiles.cpp - Digits of the query for one stratum ---------------===//
//
// A column of 16 lanes computes a run of the tile's keys, from the first that one
// of its lanes needs to the last, so a tile should hold queries with like keys, and
// its columns even more so: residues of a lattice, rows of blocks, squares of a grid.
// The radices that occur in the stratum's expressions give a few candidate shapes;
// their waste is counted on sample tiles.
//
//===----------------------------------------------------------------------===//
#include "passes/QueryTiles.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace heddle {

namespace {

bool isQuery(const Expr &e) { return e.isSymbol(Sym::Query) || e.isSymbol(Sym::QueryRow); }
bool isQuotient(const Expr &e) {
  return e->kind == ExprKind::FloorDiv && e->args[1]->kind == ExprKind::Int && e->args[1]->value > 0;
}
bool dependsOnQuery(const Expr &e) { return e.onQuery() || e.mentions(Sym::Key); }

/// Sorted radices, 1 first, each a divisor of the next.
bool isChain(const std::set<int64_t> &radices) {
  int64_t last = 1;
  for (int64_t r : radices) {
    if (r % last != 0) {
      return false;
    }
    last = r;
  }
  return true;
}

bool collectSlices(const LinearForm &e, int64_t n, std::vector<QuerySlice> &out) {
  LinearForm rest = e;
  // c * (N mod m): for N mod m with m a divisor of.. the pair is one slice.
  for (const auto &[key, t] : e.terms) {
    if (!isQuotient(t.atom)) {
      continue;
    }
    const int64_t m = t.atom->args[1]->value;
    LinearForm numerator = LinearForm::of(t.atom->args[0]);
    if (t.factor % m != 0 || numerator.terms.size() != 1 || numerator.constant != 0 ||
        !isQuery(numerator.terms.begin()->second.atom)) {
      continue;
    }
    const int64_t c = -t.factor / m;
    auto found = rest.terms.find(numerator.terms.begin()->first);
    if (found == rest.terms.end() || found->second.factor != c || numerator.terms.begin()->second.factor != 1) {
      continue;
    }
    const int64_t need = n / std::gcd(c, n);
    if (need > 1) {
      out.push_back({1, m % need == 0 ? need : m});
    }
    rest.add(floorMod(numerator, m), -c);
  }
  for (const auto &[key, t] : rest.terms) {
    const int64_t need = n / std::gcd(t.factor, n);
    if (need == 1 || !dependsOnQuery(t.atom)) {
      continue;
    }
    if (isQuery(t.atom)) {
      out.push_back({1, need});
    } else if (isQuotient(t.atom)) {
      const int64_t m = t.atom->args[1]->value;
      LinearForm numerator = LinearForm::of(t.atom->args[0]);
      const bool plain = numerator.constant == 0 && numerator.terms.size() == 1 &&
                         isQuery(numerator.terms.begin()->second.atom) && numerator.terms.begin()->second.factor == 1;
      if (plain) {
        out.push_back({m, m * need});
      } else if (!collectSlices(numerator, m * need, out)) {
        return false;
      }
    } else {
      return false;
    }
  }
  return true;
}

/// Radices n of quotients `i floordiv n` in an expression, also inside remainders.
void collectRadices(const Expr &e, std::set<int64_t> &out) {
  if (e.isNull()) {
    return;
  }
  if ((e->kind == ExprKind::FloorDiv || e->kind == ExprKind::Mod) && isQuery(e->args[0]) &&
      e->args[1]->kind == ExprKind::Int && e->args[1]->value > 1) {
    out.insert(e->args[1]->value);
  }
  if (e->kind == ExprKind::Mod && isQuotient(e->args[0]) && isQuery(e->args[0]->args[0]) &&
      e->args[1]->kind == ExprKind::Int) {
    out.insert(e->args[0]->args[1]->value * e->args[1]->value);
  }
  for (const Expr &a : e->args) {
    collectRadices(a, out);
  }
}

std::vector<Expr> expressionsOf(const Stratum &s) {
  std::vector<Expr> all = s.lower;
  all.insert(all.end(), s.upper.begin(), s.upper.end());
  for (const KeyDigit &d : s.key) {
    all.insert(all.end(), d.lower.begin(), d.lower.end());
    all.insert(all.end(), d.upper.begin(), d.upper.end());
  }
  return all;
}

bool isSampled(const Expr &e) {
  if (e->kind == ExprKind::Scalar || e->kind == ExprKind::Load) {
    return false;
  }
  return std::all_of(e->args.begin(), e->args.end(), isSampled);
}

bool canSample(const Expr &e) { return isSampled(e) && !isLargerThan(e, 400); }

struct Span {
  int64_t lo, hi;
  int64_t size() const { return std::max<int64_t>(hi - lo, 0); }
};

/// The interval of listed bounds for query i within [lo, hi).
Span spanAt(const std::vector<Expr> &lower, const std::vector<Expr> &upper, Span all, ExprEnv &env) {
  for (const Expr &e : lower) {
    all.lo = std::max(all.lo, evaluateInt(e, env));
  }
  for (const Expr &e : upper) {
    all.hi = std::min(all.hi, evaluateInt(e, env));
  }
  return all;
}

/// Counts keys walked for sample tiles of one shape.
class WasteCounter {
public:
  WasteCounter(const Stratum &s, int64_t lanes)
      : s(s), lanes(lanes), hasGuard(!s.guard.isNull() && canSample(s.guard)) {}

  /// Lanes times keys walked, per query that has keys.
  double cost(const std::vector<QueryDigit> &query) {
    double work = 0, queries = 0;
    const int64_t radix = query[0].radix, tile = query[0].tile;
    for (int64_t far : {0, 1000}) {
      const int64_t first = far / (radix * tile) * tile;
      addTiles(query, 0, first, 1, {0}, work, queries);
    }
    return queries == 0 ? 0 : work / queries;
  }

private:
  const Stratum &s;
  int64_t lanes;
  bool hasGuard;

  /// Extends the positions of a partial tile by digit `k` from value `first`;
  /// the tile stands for `weight` like ones.
  void addTiles(const std::vector<QueryDigit> &query, size_t k, int64_t first, double weight,
                const std::vector<int64_t> &positions, double &work, double &queries) {
    std::vector<int64_t> next;
    for (int64_t p : positions) { // as lanes are numbered
      for (int64_t v = first; v < first + query[k].tile && (query[k].extent == 0 || v < query[k].extent); ++v) {
        next.push_back(p + v * query[k].radix);
      }
    }
    if (k + 1 == query.size()) {
      const auto [keys, live] = keysOf(next);
      work += weight * static_cast<double>(lanes) * keys;
      queries += weight * static_cast<double>(live);
      return;
    }
    // The first and the last tile of a digit, and one for all between.
    const QueryDigit &d = query[k + 1];
    const int64_t tiles = (d.extent + d.tile - 1) / d.tile;
    addTiles(query, k + 1, 0, weight, next, work, queries);
    if (tiles > 2) {
      addTiles(query, k + 1, tiles / 2 * d.tile, weight * static_cast<double>(tiles - 2), next, work, queries);
    }
    if (tiles > 1) {
      addTiles(query, k + 1, (tiles - 1) * d.tile, weight, next, work, queries);
    }
  }

  /// The keys that some position has: of the positions themselves, and of each digit.
  struct Box {
    Span root{INT64_MAX, INT64_MIN};
    std::vector<Span> digits;
    int64_t live = 0; ///< positions that have keys
  };

  Box boxOf(const int64_t *begin, const int64_t *end, Span near) {
    Box box;
    box.digits.assign(s.key.size(), Span{INT64_MAX, INT64_MIN});
    ExprEnv env;
    env.nq = env.nk = 16384;
    for (const int64_t *i = begin; i != end; ++i) {
      env.i = *i;
      if (hasGuard && !evaluateBool(s.guard, env)) {
        continue;
      }
      Span own = spanAt(s.lower, s.upper, near, env);
      if (own.size() == 0) {
        continue;
      }
      ++box.live;
      box.root = {std::min(box.root.lo, own.lo), std::max(box.root.hi, own.hi)};
      for (size_t k = 0; k < s.key.size(); ++k) {
        const KeyDigit &d = s.key[k];
        Span whole = d.extent == 0 ? Span{floorQuotient(own.lo, d.radix), floorQuotient(own.hi - 1, d.radix) + 1}
                                   : Span{0, d.extent};
        Span part = spanAt(d.lower, d.upper, whole, env);
        if (part.size() > 0) {
          box.digits[k] = {std::min(box.digits[k].lo, part.lo), std::max(box.digits[k].hi, part.hi)};
        }
      }
    }
    return box;
  }

  /// Keys of the leading digit as `lead` has them, of the others as `all` does.
  int64_t count(const Box &lead, const Box &all) const {
    int64_t count = lead.root.hi <= lead.root.lo ? 0 : 1;
    for (size_t k = 0; k < s.key.size(); ++k) {
      const Span &digit = (k == 0 ? lead : all).digits[k];
      if (digit.hi <= digit.lo) {
        return 0;
      }
      count *= (digit.hi - digit.lo + s.key[k].step - 1) / s.key[k].step;
    }
    return s.key.size() == 1 && s.key[0].step == 1 ? std::min(count, lead.root.size()) : count;
  }

  /// Keys walked, the mean over the tile's columns, each of which takes a run of the tile's keys; positions that have
  /// any.
  std::pair<double, int64_t> keysOf(const std::vector<int64_t> &positions) {
    // Unbounded sides end a fixed distance away, so that shapes compare fairly.
    constexpr int64_t kReach = 4096, kFar = int64_t(1) << 40;
    constexpr size_t kColumn = 16;
    const auto [least, most] = std::minmax_element(positions.begin(), positions.end());
    const bool hasLower = !s.lower.empty() || !s.key[0].lower.empty();
    const bool hasUpper = !s.upper.empty() || !s.key[0].upper.empty();
    const Span near{hasLower ? -kFar : *least - kReach, hasUpper ? kFar : *most + kReach};
    const int64_t *all = positions.data();
    const Box tile = boxOf(all, all + positions.size(), near);
    double keys = 0, columns = 0;
    for (size_t n = 0; n < positions.size(); n += kColumn, ++columns) {
      const Box column = boxOf(all + n, all + std::min(n + kColumn, positions.size()), near);
      keys += static_cast<double>(count(column, tile));
    }
    constexpr double kOfTile = 0.3; // what a key costs beside its pairs
    return {(1 - kOfTile) * keys / columns + kOfTile * static_cast<double>(count(tile, tile)), tile.live};
  }
};

/// Digits of a chain of radices; `uniform` digits get tile 1.
std::vector<QueryDigit> digitsOf(const std::set<int64_t> &radices, const std::vector<QuerySlice> &uniform) {
  std::vector<QueryDigit> digits;
  int64_t above = 0;
  for (auto it = radices.rbegin(); it != radices.rend(); ++it) {
    const int64_t radix = *it;
    const bool fixed = std::any_of(uniform.begin(), uniform.end(),
                                   [&](const QuerySlice &u) { return u.radix <= radix && radix < u.modulus; });
    digits.push_back({radix, above == 0 ? 0 : above / radix, fixed ? 1 : 0});
    above = radix;
  }
  return digits;
}

/// Tries every split of the lanes over the free digits (those of tile 0).
class TileSearch {
public:
  TileSearch(const Stratum &s, int64_t lanes, bool canSample) : counter(s, lanes), lanes(lanes), canSample(canSample) {}

  void search(std::vector<QueryDigit> digits) {
    std::vector<size_t> open;
    for (size_t k = digits.size(); k-- > 0;) {
      if (digits[k].tile == 0) {
        open.push_back(k); // least significant first
      }
    }
    descend(digits, open, 0, lanes);
  }

  std::vector<QueryDigit> best;

private:
  WasteCounter counter;
  int64_t lanes;
  bool canSample;
  double bestCost = 0;
  int tried = 0;

  void descend(std::vector<QueryDigit> &digits, const std::vector<size_t> &open, size_t n, int64_t left) {
    if (n == open.size()) {
      consider(digits);
      return;
    }
    QueryDigit &d = digits[open[n]];
    const bool isLast = n + 1 == open.size();
    std::set<int64_t, std::greater<>> sizes;
    for (int64_t t = left; t >= 1; t /= 2) {
      if (d.extent == 0 || t / 2 < d.extent) {
        sizes.insert(d.extent == 0 ? t : std::min(t, d.extent));
      }
      if (isLast) {
        break;
      }
    }
    if (sizes.empty()) {
      sizes.insert(std::min(left, std::max<int64_t>(d.extent, 1)));
    }
    for (int64_t t : sizes) {
      d.tile = t;
      descend(digits, open, n + 1, left / t);
    }
    d.tile = 0;
  }

  void consider(const std::vector<QueryDigit> &digits) {
    if (!canSample && !best.empty()) {
      return;
    }
    if (tried++ > 60) {
      return;
    }
    const double cost = canSample ? counter.cost(digits) : 0;
    if (best.empty() || cost < bestCost * 0.97) {
      best = digits;
      bestCost = cost;
    }
  }
};

/// Queries so far apart are hardly ever in one call: tiles that held them would be walked, all of them empty but for
/// one query. Such a leading digit is joined with the next one, which then has no end.
void mergeFarDigits(std::vector<QueryDigit> &query) {
  constexpr int64_t kFar = int64_t(1) << 17;
  while (query.size() > 1 && query[0].radix >= kFar && query[1].extent % query[1].tile == 0) {
    query.erase(query.begin());
    query[0].extent = 0;
  }
}

} // namespace

std::optional<std::vector<QuerySlice>> slicesOf(const LinearForm &e, int64_t n) {
  std::vector<QuerySlice> out;
  if (!collectSlices(e, n, out)) {
    return std::nullopt;
  }
  return out;
}

bool chooseQueryDigits(Stratum &s, const std::vector<QuerySlice> &uniform, const StrataLimits &limits) {
  std::set<int64_t> forced = {1};
  for (const QuerySlice &u : uniform) {
    forced.insert(u.radix);
    forced.insert(u.modulus);
  }
  std::vector<QuerySlice> fixed = uniform;
  if (!isChain(forced)) {
    // One slice that contains them all.
    int64_t all = 1;
    for (int64_t r : forced) {
      all = std::lcm(all, r);
      if (all > limits.maxSuperTile) {
        return false;
      }
    }
    forced = {1, all};
    fixed = {{1, all}};
  }
  std::vector<Expr> bounds = expressionsOf(s);
  // Sample positions stay far from the ends of 64 bits.
  constexpr int64_t kLargest = int64_t(1) << 40;
  const bool sampled = *forced.rbegin() < kLargest && std::all_of(bounds.begin(), bounds.end(), canSample);
  TileSearch search(s, limits.lanes, sampled);
  search.search(digitsOf(forced, fixed));
  std::set<int64_t> radices, wide = forced;
  if (sampled) {
    for (const Expr &e : bounds) {
      collectRadices(e, radices);
    }
    if (!s.guard.isNull() && canSample(s.guard)) {
      collectRadices(s.guard, radices); // queries of one class side by side
    }
    std::erase_if(radices, [](int64_t r) { return r >= kLargest; });
  }
  for (int64_t r : radices) {
    std::set<int64_t> more = wide;
    more.insert(r);
    if (isChain(more)) {
      wide = std::move(more);
    }
    std::set<int64_t> one = forced;
    one.insert(r);
    if (isChain(one) && one.size() > forced.size()) {
      search.search(digitsOf(one, fixed));
    }
  }
  if (wide.size() > forced.size() + 1) {
    search.search(digitsOf(wide, fixed));
  }
  s.query = search.best;
  mergeFarDigits(s.query);
  return !s.query.empty();
}

} // namespace heddle
