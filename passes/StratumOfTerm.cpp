//===- StratumOfTerm.cpp - One term in digit coordinates ------------------===//
//
// Conditions on one digit of the key fix the radices of the stratum's key
// digits; residues become steps; what is left over on the query alone is the
// guard, on the key alone `keep`, on both the residual.
//
//===----------------------------------------------------------------------===//
#include "passes/StratumOfTerm.h"
#include "dialect/ListKeys.h"
#include "passes/QueryTiles.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>

namespace heddle {

namespace {

Expr conjoin(const Expr &a, const Expr &b) { return a ? a && b : b; }

/// The bounds of one digit.
struct DigitBounds {
  int64_t radix, modulus;
  std::vector<LinearForm> lower, upper;

  int64_t extent() const { return modulus / radix; }
  /// Share of the digit's values that may live; for choosing among digits.
  double share() const {
    int64_t width = extent();
    for (const LinearForm &lo : lower) {
      for (const LinearForm &hi : upper) {
        if (std::optional<int64_t> w = upperBound(hi - lo)) {
          width = std::min(width, *w);
        }
      }
      if (upper.empty()) {
        if (std::optional<int64_t> least = lowerBound(lo)) {
          width = std::min(width, extent() - *least);
        }
      }
    }
    return static_cast<double>(width) / static_cast<double>(extent());
  }
};

class Assembler {
public:
  Assembler(const Term &t, const StrataLimits &limits) : limits(limits) {
    const Literal *source = keySource(t);
    for (const Literal &l : t.literals()) {
      if (&l == source) {
        gather(l.condition);
      } else if (source && (l.kind == Literal::Step || l.kind == Literal::Member ||
                            (l.kind <= Literal::Upper && l.modulus != 0))) {
        condition(l.expr()); // keys come from a table, not by digits
      } else {
        sort(l);
      }
    }
  }

  Stratum assemble() {
    reduceSteps();
    turnBoundsIntoGuards();
    place();
    emitKeyDigits();
    while (!chooseQueryDigits(s, uniform(), limits)) {
      dropStep();
    }
    s.kind = kindOf();
    return std::move(s);
  }

private:
  const StrataLimits &limits;
  Stratum s;
  std::vector<DigitBounds> digits;
  std::vector<Literal> steps;
  std::set<int64_t> radices = {1};
  struct Placed {
    Literal step;
    int64_t radix;
  };
  std::vector<Placed> placed;
  std::vector<LinearForm> rootLower, rootUpper;
  std::vector<DigitBounds> kept;

  void gather(const Expr &source) {
    if (std::optional<ListKeys> keys = listKeys(source)) {
      s.list = source;
      s.first = keys->first;
      s.run = keys->run;
    } else {
      s.ids = source;
    }
  }

  void sort(const Literal &l) {
    switch (l.kind) {
    case Literal::Lower:
      addBound(l, l.form, true);
      return;
    case Literal::Upper:
      addBound(l, l.form, false);
      return;
    case Literal::Step:
      steps.push_back(l);
      return;
    case Literal::Compare:
    case Literal::Opaque:
      condition(l.expr());
      return;
    case Literal::Member:
      choose(l);
      return;
    }
  }

  void addBound(const Literal &l, const LinearForm &form, bool isLower) {
    if (l.modulus == 0) {
      (isLower ? rootLower : rootUpper).push_back(form);
      return;
    }
    auto it = std::find_if(digits.begin(), digits.end(),
                           [&](const DigitBounds &d) { return d.radix == l.radix && d.modulus == l.modulus; });
    if (it == digits.end()) {
      it = digits.insert(digits.end(), DigitBounds{l.radix, l.modulus, {}, {}});
    }
    (isLower ? it->lower : it->upper).push_back(form);
  }

  /// One member literal is walked choice by choice; further ones are conditions.
  void choose(const Literal &l) {
    if (s.choices != 0) {
      condition(l.condition);
      return;
    }
    s.choices = l.choices;
    addBound(l, l.form, true);
    addBound(l, l.form + LinearForm(l.step), false);
    // Rows of fewer blocks than choices: drawn(seed, row, first, last, block).
    condition(l.condition->args[2] + Expr::symbol(Sym::Choice) < l.condition->args[3]);
  }

  void condition(const Expr &e) {
    if (!e.onKey()) {
      s.guard = conjoin(s.guard, e);
    } else if (!e.onQuery()) {
      s.keep = conjoin(s.keep, e);
    } else {
      s.residual = conjoin(s.residual, e);
      if (s.note.empty()) {
        s.note = "a condition per pair";
        if (!isLargerThan(e, 60)) {
          s.note += ": " + e.str();
        }
      }
    }
  }

  void leaveOver(const Literal &l, const char *why) {
    if (s.note.empty() && l.form.expr().onQuery()) {
      s.note = l.expr().str() + ": " + why;
    }
    condition(l.expr());
  }

  void leaveOver(const DigitBounds &d) {
    Literal l;
    l.radix = d.radix;
    l.modulus = d.modulus;
    for (int side = 0; side < 2; ++side) {
      l.kind = side == 0 ? Literal::Lower : Literal::Upper;
      for (const LinearForm &f : side == 0 ? d.lower : d.upper) {
        l.form = f;
        leaveOver(l, "no common digits");
      }
    }
  }

  /// Two residues of one digit: where one step divides the other, the coarser
  /// one is a condition on the query.
  void reduceSteps() {
    std::sort(steps.begin(), steps.end(), [](const Literal &a, const Literal &b) {
      return std::tuple(b.step, a.radix, a.modulus) < std::tuple(a.step, b.radix, b.modulus);
    });
    for (size_t a = 0; a < steps.size(); ++a) {
      for (size_t b = a + 1; b < steps.size();) {
        if (steps[a].sameDigit(steps[b]) && steps[a].step % steps[b].step == 0) {
          LinearForm r = floorMod(steps[a].form - steps[b].form, steps[b].step);
          if (!(r == LinearForm(0))) {
            condition(equal(r.expr(), Expr(0)));
          }
          steps.erase(steps.begin() + static_cast<ptrdiff_t>(b));
        } else {
          ++b;
        }
      }
    }
  }

  /// The bounds of a digit that a residue of the key already fixes.
  void turnBoundsIntoGuards() {
    for (const Literal &step : steps) {
      for (auto d = digits.begin(); d != digits.end();) {
        if (d->radix != step.radix || step.step % d->extent() != 0 ||
            (step.modulus != 0 && step.modulus % d->modulus != 0)) {
          ++d;
          continue;
        }
        LinearForm value = floorMod(step.form, d->extent());
        for (const LinearForm &lo : d->lower) {
          condition(value.expr() >= lo.expr());
        }
        for (const LinearForm &hi : d->upper) {
          condition(value.expr() < hi.expr());
        }
        d = digits.erase(d);
      }
    }
  }

  /// The digit modulo the step is the plain quotient modulo the step.
  static bool isResidueOfQuotient(const Literal &l) { return l.modulus == 0 || l.modulus / l.radix % l.step == 0; }

  bool fits(int64_t radix, int64_t modulus) const {
    std::set<int64_t> with = radices;
    with.insert(radix);
    if (modulus != 0) {
      with.insert(modulus);
    }
    int64_t last = 1;
    for (int64_t r : with) {
      if (r % last != 0) {
        return false;
      }
      last = r;
    }
    // A digit with bounds must stay in one piece, and so must one with a step
    // unless the step divides the lower part.
    auto splits = [&](int64_t r) {
      return std::any_of(kept.begin(), kept.end(),
                         [&](const DigitBounds &d) { return d.radix < r && r < d.modulus; }) ||
             std::any_of(placed.begin(), placed.end(), [&](const Placed &p) {
               const int64_t end = endOf(p.radix);
               return p.radix < r && (end == 0 || r < end) &&
                      (!isResidueOfQuotient(p.step) || r / p.radix % p.step.step != 0);
             });
    };
    return !splits(radix) && !splits(modulus);
  }

  bool splitsRadices(int64_t radix, int64_t modulus) const {
    return std::any_of(radices.begin(), radices.end(), [&](int64_t r) { return radix < r && r < modulus; });
  }

  /// The most selective conditions get their digits first.
  void place() {
    std::vector<std::tuple<double, bool, size_t>> order;
    for (size_t k = 0; k < steps.size(); ++k) {
      order.emplace_back(1.0 / static_cast<double>(steps[k].step), false, k);
    }
    for (size_t k = 0; k < digits.size(); ++k) {
      order.emplace_back(digits[k].share(), true, k);
    }
    std::sort(order.begin(), order.end());
    for (const auto &[share, isDigit, k] : order) {
      if (isDigit) {
        placeDigit(digits[k]);
      } else {
        placeStep(steps[k]);
      }
    }
  }

  void placeDigit(const DigitBounds &d) {
    if (fits(d.radix, d.modulus) && !splitsRadices(d.radix, d.modulus)) {
      radices.insert(d.radix);
      radices.insert(d.modulus);
      kept.push_back(d);
    } else {
      leaveOver(d);
    }
  }

  /// Upper end of the digit that starts at `radix`; 0: unbounded.
  int64_t endOf(int64_t radix) const {
    auto it = radices.upper_bound(radix);
    return it == radices.end() ? 0 : *it;
  }

  void placeStep(const Literal &l) {
    if (!slicesOf(l.form, l.step)) {
      leaveOver(l, "the residue differs from query to query");
      return;
    }
    const bool taken = std::any_of(placed.begin(), placed.end(), [&](const Placed &p) { return p.radix == l.radix; });
    if (taken || !fits(l.radix, 0)) {
      leaveOver(l, "no common digits");
      return;
    }
    std::set<int64_t> before = radices;
    radices.insert(l.radix);
    int64_t end = endOf(l.radix);
    if (end == 0 && l.modulus != 0 && fits(l.radix, l.modulus)) {
      radices.insert(l.modulus);
      end = l.modulus;
    }
    // The step divides the digit, or the digit is the step's own.
    const bool divides = isResidueOfQuotient(l) && (end == 0 || end / l.radix % l.step == 0);
    if (divides || (l.modulus != 0 && end == l.modulus)) {
      placed.push_back({l, l.radix});
    } else {
      radices = std::move(before);
      leaveOver(l, "no common digits");
    }
  }

  void emitKeyDigits() {
    int64_t above = 0;
    for (auto it = radices.rbegin(); it != radices.rend(); ++it) {
      KeyDigit d;
      d.radix = *it;
      d.extent = above == 0 ? 0 : above / *it;
      above = *it;
      for (const Placed &p : placed) {
        if (p.radix == d.radix) {
          d.step = p.step.step;
          d.phase = floorMod(p.step.form.expr(), Expr(d.step));
        }
      }
      for (const DigitBounds &b : kept) {
        if (b.radix == d.radix) {
          fill(d.lower, b.lower);
          fill(d.upper, b.upper);
        }
      }
      s.key.push_back(std::move(d));
    }
    // Bounds on j that are multiples of the leading radix bound that digit.
    const int64_t radix = s.key[0].radix;
    for (int side = 0; side < 2; ++side) {
      for (const LinearForm &f : side == 0 ? rootLower : rootUpper) {
        std::optional<LinearForm> q = radix > 1 ? f.dividedBy(radix) : std::nullopt;
        std::vector<Expr> &place = q ? (side == 0 ? s.key[0].lower : s.key[0].upper) : (side == 0 ? s.lower : s.upper);
        place.push_back((q ? *q : f).expr());
      }
    }
  }

  static void fill(std::vector<Expr> &to, const std::vector<LinearForm> &from) {
    for (const LinearForm &f : from) {
      to.push_back(f.expr());
    }
  }

  std::vector<QuerySlice> uniform() const {
    std::vector<QuerySlice> all;
    for (const Placed &p : placed) {
      std::vector<QuerySlice> own = *slicesOf(p.step.form, p.step.step);
      all.insert(all.end(), own.begin(), own.end());
    }
    return all;
  }

  /// Gives up the smallest step: its query digits do not fit the others.
  void dropStep() {
    auto it = std::min_element(placed.begin(), placed.end(),
                               [](const Placed &a, const Placed &b) { return a.step.step < b.step.step; });
    for (KeyDigit &d : s.key) {
      if (d.radix == it->radix) {
        d.step = 1;
        d.phase = Expr();
      }
    }
    leaveOver(it->step, "no common query digits");
    placed.erase(it);
  }

  StratumKind kindOf() const {
    if (bool(s.list) || bool(s.ids)) {
      return StratumKind::Gathered;
    }
    if (s.residual) {
      return StratumKind::Masked;
    }
    if (s.choices != 0) {
      return StratumKind::Gathered;
    }
    if (!placed.empty()) {
      return StratumKind::Lattice;
    }
    if (s.key.size() > 1) {
      return StratumKind::Grid;
    }
    auto anyFree = [](const std::vector<Expr> &bounds) {
      return std::any_of(bounds.begin(), bounds.end(), [](const Expr &e) { return !e.onQuery(); });
    };
    if ((s.lower.empty() || s.upper.empty()) && !s.guard.isNull()) {
      return StratumKind::Rows;
    }
    if (anyFree(s.lower) && anyFree(s.upper)) {
      return StratumKind::Columns;
    }
    auto blocked = [](const std::vector<LinearForm> &bounds) {
      return std::any_of(bounds.begin(), bounds.end(), [](const LinearForm &f) {
        return f.terms.size() == 1 && f.terms.begin()->second.atom->kind == ExprKind::FloorDiv;
      });
    };
    return blocked(rootLower) && blocked(rootUpper) ? StratumKind::Block : StratumKind::Band;
  }
};

} // namespace

const Literal *keySource(const Term &t) {
  const Literal *ids = nullptr;
  bool lower = false, upper = false;
  for (const Literal &l : t.literals()) {
    if (l.kind == Literal::Opaque && listKeys(l.condition)) {
      return &l;
    }
    if (l.kind == Literal::Opaque && isSameIds(l.condition)) {
      ids = &l;
    }
    lower |= l.kind == Literal::Lower && l.modulus == 0;
    upper |= l.kind == Literal::Upper && l.modulus == 0;
  }
  // Between two bounds the keys are few; they are walked and their ids compared.
  return lower && upper ? nullptr : ids;
}

Stratum stratumOfTerm(const Term &t, const StrataLimits &limits) { return Assembler(t, limits).assemble(); }

} // namespace heddle
