//===- KeyTable.cpp - Long lists of intervals as data ---------------------===//

#include "dialect/KeyTable.h"

#include "dialect/LinearForm.h"

#include <algorithm>

namespace heddle {

/// Beyond every position.
static constexpr int64_t kFarEnd = int64_t(1) << 62;

namespace {
struct Run {
  int64_t lo = -kFarEnd, hi = kFarEnd; ///< half-open
};

/// Reads intervals of one integer x, which the first one names.
class IntervalReader {
public:
  LinearForm x;
  bool known = false;

  /// The interval that a disjunct stands for; nullopt where it is none.
  std::optional<Run> read(const Expr &e) {
    Run out;
    return readInto(e, out) && out.lo < out.hi ? std::optional(out) : std::nullopt;
  }

private:
  bool readInto(const Expr &e, Run &out) {
    if (e->type != ExprType::Bool) {
      return false;
    }
    switch (e->kind) {
    case ExprKind::And:
      return std::all_of(e->args.begin(), e->args.end(), [&](const Expr &a) { return readInto(a, out); });
    case ExprKind::Ge:
      return atLeast(e->args[0], e->args[1], 0, out);
    case ExprKind::Gt:
      return atLeast(e->args[0], e->args[1], 1, out);
    case ExprKind::Le:
      return atLeast(e->args[1], e->args[0], 0, out);
    case ExprKind::Lt:
      return atLeast(e->args[1], e->args[0], 1, out);
    case ExprKind::Eq:
      return atLeast(e->args[0], e->args[1], 0, out) && atLeast(e->args[1], e->args[0], 0, out);
    default:
      return false;
    }
  }

  /// a - b >= least, narrowing the interval.
  bool atLeast(const Expr &a, const Expr &b, int64_t least, Run &out) {
    if (a->type != ExprType::Int || b->type != ExprType::Int) {
      return false;
    }
    LinearForm f = LinearForm::of(a) - LinearForm::of(b);
    const int64_t bound = least - f.constant; // of f without its constant
    f.constant = 0;
    if (f.isConstant() || bound <= -kFarEnd || bound >= kFarEnd) {
      return false;
    }
    if (!known) {
      x = f;
      known = true;
    }
    if (f == x) {
      out.lo = std::max(out.lo, bound);
      return true;
    }
    if (f == x * -1) {
      out.hi = std::min(out.hi, 1 - bound);
      return true;
    }
    return false;
  }
};
} // namespace

static void collect(const Expr &e, std::vector<Expr> &disjuncts) {
  if (e->kind != ExprKind::Or || e->type != ExprType::Bool) {
    disjuncts.push_back(e);
    return;
  }
  for (const Expr &arg : e->args) {
    collect(arg, disjuncts);
  }
}

std::optional<IntervalTable> intervalTableOf(const Expr &e) {
  if (e->kind != ExprKind::Or || e->type != ExprType::Bool) {
    return std::nullopt;
  }
  std::vector<Expr> disjuncts;
  collect(e, disjuncts);
  if (disjuncts.size() < kTableIntervals) {
    return std::nullopt;
  }
  IntervalReader reader;
  std::vector<Run> intervals;
  IntervalTable table;
  for (const Expr &d : disjuncts) {
    if (std::optional<Run> found = reader.read(d)) {
      intervals.push_back(*found);
    } else {
      table.rest.push_back(d);
    }
  }
  if (intervals.size() < kTableIntervals) {
    return std::nullopt;
  }
  std::sort(intervals.begin(), intervals.end(), [](const Run &a, const Run &b) { return a.lo < b.lo; });
  for (const Run &i : intervals) {
    if (!table.ends.empty() && i.lo <= table.ends.back()) {
      table.ends.back() = std::max(table.ends.back(), i.hi);
    } else {
      table.ends.push_back(i.lo);
      table.ends.push_back(i.hi);
    }
  }
  table.x = reader.x.expr();
  return table;
}

namespace {

/// Keys of all intervals together; a table of more would be large beside the cache.
constexpr int64_t kMostEntries = 1 << 15;
/// Entries are added to positions, which are less.
constexpr int64_t kMostDistance = int64_t(1) << 30;

std::optional<KeyTable> keysOf(const IntervalTable &table) {
  if (!table.rest.empty()) {
    return std::nullopt;
  }
  // x = factor * key + rest
  LinearForm rest = LinearForm::of(table.x);
  int64_t factor = 0;
  for (const auto &[name, term] : LinearForm(rest).terms) {
    if (term.atom.isSymbol(Sym::Key)) {
      factor = term.factor;
      rest.add(LinearForm::of(term.atom), -term.factor);
    }
  }
  if ((factor != 1 && factor != -1) || rest.expr().onKey()) {
    return std::nullopt;
  }
  KeyTable keys;
  keys.base = (rest * -factor).expr();
  for (size_t n = 0; n < table.ends.size(); n += 2) {
    const int64_t lo = factor > 0 ? table.ends[n] : 1 - table.ends[n + 1];
    const int64_t hi = factor > 0 ? table.ends[n + 1] : 1 - table.ends[n];
    if (lo < -kMostDistance || hi > kMostDistance ||
        hi - lo > kMostEntries - static_cast<int64_t>(keys.entries.size())) {
      return std::nullopt;
    }
    for (int64_t entry = lo; entry < hi; ++entry) {
      keys.entries.push_back(entry);
    }
  }
  std::sort(keys.entries.begin(), keys.entries.end());
  return keys;
}

void conjuncts(const Expr &e, std::vector<Expr> &out) {
  if (e->kind != ExprKind::And) {
    out.push_back(e);
    return;
  }
  for (const Expr &arg : e->args) {
    conjuncts(arg, out);
  }
}

/// That the key's digit lies in its interval and in phase; null: nothing is asked of it.
Expr conditionOf(const KeyDigit &digit) {
  Expr value = Expr::symbol(Sym::Key), all;
  if (digit.radix != 1) {
    value = floorDiv(value, Expr(digit.radix));
  }
  if (digit.extent != 0) {
    value = floorMod(value, Expr(digit.extent));
  }
  auto add = [&](const Expr &e) { all = all.isNull() ? e : all && e; };
  for (const Expr &lo : digit.lower) {
    add(value >= lo);
  }
  for (const Expr &hi : digit.upper) {
    add(value < hi);
  }
  if (digit.step != 1) {
    add(equal(floorMod(digit.phase.isNull() ? value : value - digit.phase, Expr(digit.step)), Expr(0)));
  }
  return all;
}

} // namespace

std::optional<KeyTable> keyTableOf(const Stratum &s) {
  if (s.residual.isNull() || !s.list.isNull() || !s.ids.isNull() || s.choices != 0) {
    return std::nullopt;
  }
  std::vector<Expr> all;
  conjuncts(s.residual, all);
  std::optional<KeyTable> found;
  Expr rest;
  for (const Expr &e : all) {
    std::optional<IntervalTable> table = found ? std::nullopt : intervalTableOf(e);
    if (std::optional<KeyTable> keys = table ? keysOf(*table) : std::nullopt) {
      found = std::move(keys);
    } else {
      rest = rest.isNull() ? e : rest && e;
    }
  }
  for (const KeyDigit &digit : s.key) {
    if (const Expr own = conditionOf(digit); !own.isNull()) {
      rest = rest.isNull() ? own : rest && own;
    }
  }
  if (found) {
    found->rest = rest;
  }
  return found;
}

void KeyTable::forEach(int64_t baseValue, int64_t lo, int64_t hi, const std::function<void(int64_t)> &visit) const {
  for (auto at = std::lower_bound(entries.begin(), entries.end(), lo - baseValue);
       at != entries.end() && *at < hi - baseValue; ++at) {
    visit(baseValue + *at);
  }
}

int64_t KeyTable::count(int64_t baseValue, int64_t lo, int64_t hi) const {
  auto below = [&](int64_t end) { return std::lower_bound(entries.begin(), entries.end(), end - baseValue); };
  return std::max<int64_t>(below(hi) - below(lo), 0);
}

} // namespace heddle
