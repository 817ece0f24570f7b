//===- BuildStrata.cpp - From a pattern to disjoint strata ----------------===//
//
// The pattern's terms (dialect/Terms.h), made disjoint and turned into strata:
//
//   causal & (window(63, 0) | stride(64))
//     terms     0 <= i - j <= 63,   i - j >= 64 and i - j = 0 (mod 64)
//     strata    band [i - 63, i + 1), lattice of step 64 below i - 63
//
// Each term loses the earlier ones: t & ~(e1 & e2 & ..) is the disjoint union
// t & ~e1 | t & e1 & ~e2 | .., most of whose pieces are empty. Past the limits a
// condition per pair takes over, which is always right, and a note says so.
//
//===----------------------------------------------------------------------===//
#include "passes/BuildStrata.h"
#include "dialect/KeyTable.h"
#include "dialect/ListKeys.h"
#include "dialect/TermsEmpty.h"
#include "passes/StratumOfTerm.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace heddle {

namespace {

/// Calls of the integer solver for one pattern, and pieces of one term.
constexpr int64_t kSolverCalls = 120;
constexpr size_t kMaxPieces = 8;

/// Nodes of an expression as a tree, up to a limit that no schedule comes near.
double nodesOf(const Expr &e) {
  constexpr double kMany = 1e5;
  if (e.isNull()) {
    return 0;
  }
  double count = 1;
  for (size_t k = 0; k < e->args.size() && count < kMany; ++k) {
    count += nodesOf(e->args[k]);
  }
  return count;
}

// Milliseconds: a stratum, one more of its key digits, a node of its expressions, and a tiling of the queries.
constexpr double kStratumCode = 15, kDigitCode = 10, kNodeCode = 0.06, kTilingCode = 30;

double codeOf(const Stratum &s) {
  double nodes = nodesOf(s.guard) + nodesOf(s.keep) + nodesOf(s.residual);
  auto add = [&](const std::vector<Expr> &all) {
    for (const Expr &e : all) {
      nodes += nodesOf(e);
    }
  };
  add(s.lower);
  add(s.upper);
  for (const KeyDigit &d : s.key) {
    add(d.lower);
    add(d.upper);
  }
  return kStratumCode + kDigitCode * static_cast<double>(s.key.size() - 1) + kNodeCode * nodes;
}

/// Terms that leave simple remainders come first: bands, then constant
/// intervals, then digits and residues, then conditions per pair.
int rankOf(const Term &t) {
  int rank = 0;
  bool onQuery = false, bounded = false;
  for (const Literal &l : t.literals()) {
    if (l.kind == Literal::Opaque) {
      rank += 100;
    } else if (l.kind == Literal::Member) {
      rank += 20;
    } else if (l.kind == Literal::Compare) {
      rank += l.form.mentions(Sym::Key) ? 100 : 4;
    } else if (l.kind == Literal::Step || l.modulus != 0) {
      rank += 10;
    } else {
      bounded = true;
      onQuery |= l.form.mentions(Sym::Query);
    }
  }
  return rank + (onQuery ? 0 : bounded ? 1 : 2);
}

class StrataBuilder {
public:
  explicit StrataBuilder(const StrataLimits &limits) : limits(limits) {
    termLimits.maxTerms = 1024;
    termLimits.isEmpty = [this](const Term &t) { return oracle.isEmpty(t); };
  }

  std::vector<Stratum> build(const Pattern &p) {
    try {
      return disjointStrata(p, buildTerms(p, false, termLimits));
    } catch (const std::runtime_error &e) { // limits, or constants past 64 bits
      return {masked(p, e.what())};
    }
  }

  /// All pairs that the pattern's bounds cover, each with the pattern as its condition.
  Stratum masked(const Pattern &p, const std::string &why) { return maskedBy(predicate(p), coverOf(p), why); }

private:
  const StrataLimits &limits;
  TermLimits termLimits;
  EmptinessOracle oracle{kSolverCalls};

  /// Literals of a term but for those that `isPart` names.
  template <typename IsPart> static std::vector<Literal> without(const Term &t, IsPart isPart) {
    std::vector<Literal> rest;
    for (const Literal &l : t.literals()) {
      if (!isPart(l)) {
        rest.push_back(l);
      }
    }
    return rest;
  }

  /// Joins terms that differ only in literals of one kind into one term with
  /// their disjunction as a condition; `extra` adds covering literals.
  template <typename IsPart, typename Extra>
  static Terms joined(Terms terms, size_t atLeast, IsPart isPart, Extra extra) {
    Terms out;
    std::vector<bool> done(terms.size());
    std::vector<std::vector<Literal>> rests;
    for (const Term &t : terms) {
      rests.push_back(without(t, isPart));
    }
    for (size_t a = 0; a < terms.size(); ++a) {
      if (done[a]) {
        continue;
      }
      const std::vector<Literal> &rest = rests[a];
      Terms group;
      if (rest.size() < terms[a].literals().size()) {
        for (size_t b = a; b < terms.size(); ++b) {
          const std::vector<Literal> &other = rests[b];
          if (!done[b] && other == rest && other.size() < terms[b].literals().size()) {
            group.push_back(terms[b]);
            done[b] = true;
          }
        }
      }
      if (group.size() < std::max<size_t>(atLeast, 2)) {
        out.push_back(terms[a]);
        for (size_t k = 1; k < group.size(); ++k) {
          out.push_back(group[k]);
        }
        continue;
      }
      std::vector<Expr> parts;
      for (const Term &t : group) {
        std::vector<Expr> part;
        for (const Literal &l : t.literals()) {
          if (isPart(l)) {
            part.push_back(l.expr());
          }
        }
        parts.push_back(conjunction(part));
      }
      Literal any;
      any.condition = disjunction(parts);
      Term joint;
      bool live = joint.add(std::move(any));
      for (const Literal &l : rest) {
        live = live && joint.add(l);
      }
      for (Literal &l : extra(group)) {
        live = live && joint.add(std::move(l));
      }
      if (live) {
        out.push_back(std::move(joint));
      }
    }
    return out;
  }

  static bool isQueryCondition(const Literal &l) {
    return l.kind == Literal::Compare && !l.form.mentions(Sym::Key) && !l.form.mentions(Sym::KeyRow);
  }
  /// Lists of queries are one guard; long lists of keys are one interval and a
  /// condition on the key.
  static Terms withListsJoined(Terms terms) {
    constexpr size_t kMaxKeyRanges = 8;
    terms = joined(std::move(terms), 2, isQueryCondition, [](const Terms &) { return std::vector<Literal>(); });
    terms = joined(std::move(terms), kMaxKeyRanges + 1, isConstantBound, constantHull);
    return withDistancesJoined(std::move(terms));
  }

  /// Digit (j floordiv radix) mod (modulus / radix) of the key, and an expression of the query without a constant.
  struct DigitBase {
    int64_t radix, modulus;
    LinearForm base;
    bool operator==(const DigitBase &o) const { return radix == o.radix && modulus == o.modulus && base == o.base; }
  };

  /// What a key exceeds the bases of the leading digit (as a position) and of the others by, and that of j itself.
  struct KeyDistance {
    int64_t root;
    std::vector<int64_t> digits;
    int64_t all;
  };

  /// Keys at distances from expressions of the query; `rest` holds as well.
  struct ShortRuns {
    LinearForm root;
    std::vector<DigitBase> digits; ///< each modulus is the radix of the digit before
    std::vector<KeyDistance> keys;
    std::vector<Literal> rest;

    bool isAlike(const ShortRuns &o) const { return root == o.root && digits == o.digits && rest == o.rest; }
  };

  /// Bounds of one digit, and its residue.
  struct DigitEnds {
    const Literal *any, *lower = nullptr, *upper = nullptr, *step = nullptr;
  };
  static constexpr int64_t kShortSteps = 8; // longer progressions are lattices

  /// What j (in multiples of `unit`) exceeds the base by, which is the lower end without its constant; nullopt where
  /// this is not known, or much.
  static std::optional<std::vector<int64_t>> valuesOf(const DigitEnds &ends, int64_t unit, int64_t shortRun,
                                                      LinearForm &base) {
    if (!ends.lower || !ends.upper) {
      return std::nullopt;
    }
    base = ends.lower->form;
    const int64_t lo = std::exchange(base.constant, 0);
    const LinearForm end = ends.upper->form - base;
    const LinearForm phase = ends.step ? ends.step->form * unit - base : LinearForm(lo);
    const int64_t step = ends.step ? ends.step->step * unit : unit, most = ends.step ? kShortSteps : shortRun;
    const bool known = std::all_of(phase.terms.begin(), phase.terms.end(),
                                   [&](const auto &term) { return term.second.factor % step == 0; });
    if (!end.isConstant() || !known || lo % unit != 0 || end.constant % unit != 0 || !base.dividedBy(unit)) {
      return std::nullopt;
    }
    std::vector<int64_t> values;
    for (int64_t v = lo + floorRemainder(phase.constant - lo, step); v < end.constant; v += step) {
      values.push_back(v);
      if (static_cast<int64_t>(values.size()) > most) {
        return std::nullopt;
      }
    }
    return values;
  }

  /// A term as a few short runs of keys at distances from expressions of the query.
  static std::optional<ShortRuns> shortRuns(const Term &t, int64_t shortRun) {
    DigitEnds root{nullptr};
    std::vector<DigitEnds> digits;
    ShortRuns out;
    int64_t stepRadix = 1;
    for (const Literal &l : t.literals()) {
      DigitEnds *ends = nullptr;
      if (l.kind <= Literal::Step && l.form.mentions(Sym::Query) && !l.form.hasLoad()) {
        ends = &root;
        if (l.modulus != 0) {
          auto at = std::find_if(digits.begin(), digits.end(), [&](const DigitEnds &e) { return e.any->sameDigit(l); });
          ends = at == digits.end() ? &digits.emplace_back(DigitEnds{&l}) : &*at;
        } else if (l.kind != Literal::Step && l.radix != 1) {
          ends = nullptr;
        }
      }
      const Literal **place = !ends                      ? nullptr
                              : l.kind == Literal::Lower ? &ends->lower
                              : l.kind == Literal::Upper ? &ends->upper
                                                         : &ends->step;
      if (!place || *place) {
        out.rest.push_back(l);
        continue;
      }
      *place = &l;
      stepRadix = ends == &root && l.kind == Literal::Step ? l.radix : stepRadix;
    }
    std::sort(digits.begin(), digits.end(),
              [](const DigitEnds &a, const DigitEnds &b) { return a.any->radix > b.any->radix; });
    int64_t unit = digits.empty() ? stepRadix : digits[0].any->modulus;
    if (root.step && stepRadix != unit) {
      return std::nullopt;
    }
    const std::optional<std::vector<int64_t>> roots = valuesOf(root, unit, shortRun, out.root);
    if (!roots || roots->empty()) {
      return std::nullopt;
    }
    const int64_t block = digits.empty() ? std::exchange(unit, 1) : 1; // progressions of blocks
    if (block > shortRun) {
      return std::nullopt;
    }
    for (int64_t value : *roots) {
      for (int64_t key = value; key < value + block; ++key) {
        out.keys.push_back({key, {}, key});
      }
    }
    for (const DigitEnds &ends : digits) {
      DigitBase digit{ends.any->radix, ends.any->modulus, {}};
      const std::optional<std::vector<int64_t>> values = valuesOf(ends, 1, shortRun, digit.base);
      if (!values || values->empty() || digit.modulus != unit) {
        return std::nullopt;
      }
      std::vector<KeyDistance> next;
      for (const KeyDistance &key : out.keys) {
        for (int64_t value : *values) {
          next.push_back(key);
          next.back().digits.push_back(value);
          next.back().all += digit.radix * value;
        }
      }
      if (static_cast<int64_t>(next.size()) > shortRun) {
        return std::nullopt;
      }
      out.keys = std::move(next);
      unit = digit.radix;
      out.digits.push_back(std::move(digit));
    }
    return unit == 1 ? std::optional(std::move(out)) : std::nullopt;
  }

  /// Many short runs of keys at distances from one expression of the query are one term, their hull and a condition
  /// that lists them (dialect/KeyTable.h): as strata of their own they would be too much code.
  static Terms withDistancesJoined(Terms terms) {
    // Longer runs are better off as strata of their own, but for the few that neighboring short ones have grown to.
    constexpr int64_t kShort = 16;
    auto count = [&](int64_t longest) {
      return std::count_if(terms.begin(), terms.end(), [&](const Term &t) { return bool(shortRuns(t, longest)); });
    };
    const int64_t shorts = count(kShort), shortRun = count(2 * kShort) < 2 * shorts ? 2 * kShort : kShort;
    std::vector<ShortRuns> groups;
    std::vector<std::vector<size_t>> members;
    for (size_t k = 0; k < terms.size(); ++k) {
      std::optional<ShortRuns> own = shortRuns(terms[k], shortRun);
      if (!own) {
        continue;
      }
      auto at = std::find_if(groups.begin(), groups.end(), [&](const ShortRuns &g) { return g.isAlike(*own); });
      if (at == groups.end()) {
        groups.push_back(std::move(*own));
        members.push_back({k});
      } else {
        at->keys.insert(at->keys.end(), own->keys.begin(), own->keys.end());
        members[static_cast<size_t>(at - groups.begin())].push_back(k);
      }
    }
    std::vector<bool> done(terms.size());
    Terms out;
    for (size_t n = 0; n < groups.size(); ++n) {
      Terms joint;
      if (joinRuns(groups[n], joint)) {
        std::move(joint.begin(), joint.end(), std::back_inserter(out));
        for (size_t k : members[n]) {
          done[k] = true;
        }
      }
    }
    for (size_t k = 0; k < terms.size(); ++k) {
      if (!done[k]) {
        out.push_back(std::move(terms[k]));
      }
    }
    return out;
  }

  /// False where they are too few.
  static bool joinRuns(const ShortRuns &group, Terms &out) {
    // What a digit exceeds its base by is known from j - (root + sum of radix * base) as long as it lies within one
    // turn of the digit.
    std::vector<std::pair<int64_t, int64_t>> hull;
    for (size_t n = 0; n < group.digits.size(); ++n) {
      auto [least, most] = std::minmax_element(group.keys.begin(), group.keys.end(),
                                               [&](const auto &a, const auto &b) { return a.digits[n] < b.digits[n]; });
      const std::pair all(least->digits[n], most->digits[n] + 1);
      if (all.second - all.first > group.digits[n].modulus / group.digits[n].radix) {
        ShortRuns below = group, above = group;
        std::erase_if(below.keys, [&](const KeyDistance &key) { return key.digits[n] >= 0; });
        std::erase_if(above.keys, [&](const KeyDistance &key) { return key.digits[n] < 0; });
        return !below.keys.empty() && !above.keys.empty() && joinRuns(below, out) && joinRuns(above, out);
      }
      hull.push_back(all);
    }
    LinearForm base = group.root;
    for (const DigitBase &digit : group.digits) {
      base.add(digit.base, digit.radix);
    }
    std::vector<int64_t> distances;
    for (const KeyDistance &key : group.keys) {
      distances.push_back(key.all);
    }
    std::sort(distances.begin(), distances.end());
    std::vector<std::pair<int64_t, int64_t>> apart;
    for (int64_t distance : distances) {
      if (!apart.empty() && distance <= apart.back().second) {
        apart.back().second = std::max(apart.back().second, distance + 1);
      } else {
        apart.emplace_back(distance, distance + 1);
      }
    }
    if (apart.size() < kTableIntervals) {
      return false;
    }
    auto bound = [&](Literal::Kind kind, const LinearForm &form) {
      Literal l;
      l.kind = kind;
      l.form = form;
      return l;
    };
    std::vector<Expr> all;
    for (const auto &[lo, hi] : apart) {
      all.push_back(bound(Literal::Lower, base + LinearForm(lo)).expr() &&
                    bound(Literal::Upper, base + LinearForm(hi)).expr());
    }
    Literal any;
    any.condition = disjunction(all);
    Term joint;
    auto [least, most] = std::minmax_element(group.keys.begin(), group.keys.end(),
                                             [](const auto &a, const auto &b) { return a.root < b.root; });
    const int64_t first = least->root;
    const int64_t end = most->root + (group.digits.empty() ? 1 : group.digits[0].modulus);
    bool live = joint.add(std::move(any)) && joint.add(bound(Literal::Lower, group.root + LinearForm(first))) &&
                joint.add(bound(Literal::Upper, group.root + LinearForm(end)));
    for (size_t n = 0; n < group.digits.size(); ++n) {
      const DigitBase &digit = group.digits[n];
      for (auto [kind, value] : {std::pair(Literal::Lower, hull[n].first), std::pair(Literal::Upper, hull[n].second)}) {
        Literal l = bound(kind, digit.base + LinearForm(value));
        l.radix = digit.radix;
        l.modulus = digit.modulus;
        live = live && joint.add(std::move(l));
      }
    }
    for (const Literal &l : group.rest) {
      live = live && joint.add(l);
    }
    if (live) {
      out.push_back(std::move(joint));
    }
    return true;
  }

  /// Ascending in rank; equal ranks keep their order.
  static Terms ranked(const Terms &terms) {
    std::vector<std::pair<int, size_t>> order;
    for (size_t k = 0; k < terms.size(); ++k) {
      order.emplace_back(rankOf(terms[k]), k);
    }
    std::sort(order.begin(), order.end());
    Terms out;
    for (const auto &[rank, k] : order) {
      out.push_back(terms[k]);
    }
    return out;
  }

  std::vector<Stratum> disjointStrata(const Pattern &p, Terms terms) {
    terms = withListsJoined(std::move(terms));
    terms = ranked(terms);
    std::vector<Stratum> out, perPair;
    Terms earlier, perPairTerms;
    double code = kStratumCode + kNodeCode * nodesOf(predicate(p)); // of a masked rest
    for (const Term &t : terms) {
      if (isListOfRows(t)) { // what earlier terms have is left out key by key
        out.push_back(withoutEarlier(t, earlier));
        earlier.push_back(t);
        continue;
      }
      Terms rest = {t};
      size_t overlaps = 0;
      for (const Term &e : earlier) {
        Terms next;
        for (const Term &r : rest) {
          Terms pieces = subtract(r, e, termLimits);
          std::move(pieces.begin(), pieces.end(), std::back_inserter(next));
        }
        overlaps += next.size() != rest.size();
        rest = std::move(next);
        if (rest.size() > kMaxPieces + overlaps) {
          break;
        }
      }
      if (rest.size() > 4) {
        rest = withKeyConditions(t, earlier, std::move(rest));
      }
      const bool tooMany = rest.size() > kMaxPieces + overlaps;
      std::vector<Stratum> more;
      if (tooMany) {
        more.push_back(withoutEarlier(t, earlier));
      }
      for (size_t k = 0; k < rest.size() && !tooMany; ++k) {
        more.push_back(stratumOfTerm(rest[k], limits));
      }
      double added = 0;
      for (const Stratum &s : more) {
        added += codeOf(s);
      }
      if ((out.size() + more.size() >= static_cast<size_t>(limits.maxTerms) && &t != &terms.back()) ||
          (code + added > limits.maxCode && !out.empty())) {
        addPerPair(out, std::move(perPair), perPairTerms);
        out.push_back(maskedRest(p, terms, static_cast<size_t>(&t - terms.data())));
        return out;
      }
      code += added;
      for (size_t k = 0; k < more.size(); ++k) {
        if (more[k].kind == StratumKind::Masked && more[k].choices == 0 && !tooMany) {
          perPair.push_back(std::move(more[k]));
          perPairTerms.push_back(rest[k]);
        } else {
          out.push_back(std::move(more[k]));
        }
      }
      if (!rest.empty()) {
        earlier.push_back(t);
      }
    }
    addPerPair(out, std::move(perPair), perPairTerms);
    return out;
  }

  /// Appends masked strata: a few as they are, many as one with their
  /// disjunction, so that a key that several of them walk is scored once.
  void addPerPair(std::vector<Stratum> &out, std::vector<Stratum> perPair, const Terms &terms) {
    constexpr size_t kMaxMasked = 2;
    if (perPair.size() <= kMaxMasked) {
      std::move(perPair.begin(), perPair.end(), std::back_inserter(out));
      return;
    }
    std::vector<Expr> conditions;
    for (const Term &t : terms) {
      conditions.push_back(t.expr());
    }
    out.push_back(maskedBy(disjunction(conditions), coverOf(terms),
                           std::to_string(terms.size()) + " pieces with a condition per pair"));
  }

  /// The terms of p from `first` on as one masked stratum, without the earlier ones.
  Stratum maskedRest(const Pattern &p, const Terms &terms, size_t first) {
    std::vector<Expr> earlier, late;
    for (size_t k = 0; k < terms.size(); ++k) {
      (k < first ? earlier : late).push_back(terms[k].expr());
    }
    Terms rest(terms.begin() + static_cast<ptrdiff_t>(first), terms.end());
    Expr own = disjunction(late), whole = predicate(p);
    Expr residual = (nodesOf(own) < nodesOf(whole) ? own : whole) && !disjunction(earlier);
    return maskedBy(residual, coverOf(rest),
                    "more than " + std::to_string(first) + " kinds of pieces: their code would take long to compile");
  }

  /// A list that queries do not share: its keys are tried one by one.
  static bool isListOfRows(const Term &t) {
    const Literal *source = keySource(t);
    return source && source->condition->kind == ExprKind::Member && gathersByRow(source->condition);
  }

  static bool onKeyAlone(const Term &t) {
    return std::all_of(t.literals().begin(), t.literals().end(), [](const Literal &l) {
      Expr e = l.expr();
      return !e.onQuery();
    });
  }

  /// Earlier terms on the key alone taken away as one condition on the key, if
  /// that leaves fewer pieces than `rest`.
  Terms withKeyConditions(const Term &t, const Terms &earlier, Terms rest) {
    Term first = t;
    for (const Term &e : earlier) {
      Literal apart;
      apart.condition = !e.expr();
      Term both = t;
      if (onKeyAlone(e) && both.add(e) && !first.add(std::move(apart))) {
        return rest;
      }
    }
    Terms pieces = {first};
    for (const Term &e : earlier) {
      if (onKeyAlone(e)) {
        continue;
      }
      Terms next;
      for (const Term &r : pieces) {
        Terms some = subtract(r, e, termLimits);
        std::move(some.begin(), some.end(), std::back_inserter(next));
      }
      pieces = std::move(next);
      if (pieces.size() >= rest.size()) {
        return rest;
      }
    }
    return pieces.size() < rest.size() ? pieces : rest;
  }

  /// The term, and per pair the negation of the earlier ones that it meets.
  Stratum withoutEarlier(const Term &t, const Terms &earlier) {
    std::vector<Expr> met;
    for (const Term &e : earlier) {
      Term both = t;
      if (both.add(e)) {
        met.push_back(e.expr());
      }
    }
    Stratum s = stratumOfTerm(t, limits);
    if (met.empty()) {
      return s;
    }
    Expr others = disjunction(met);
    s.residual = s.residual ? s.residual && !others : !others;
    if (s.kind == StratumKind::Gathered) {
      return s;
    }
    s.kind = StratumKind::Masked;
    if (s.note.empty()) {
      s.note = "overlaps with other strata in too many pieces";
    }
    return s;
  }

  /// Bounds that cover a pattern.
  struct Cover {
    std::vector<Expr> lower, upper;
  };

  static void hull(std::vector<Expr> &a, const std::vector<Expr> &b, bool isLower) {
    auto one = [&](const std::vector<Expr> &list) {
      Expr all = list[0];
      for (size_t k = 1; k < list.size(); ++k) {
        all = isLower ? max(all, list[k]) : min(all, list[k]);
      }
      return all;
    };
    if (a.empty() || b.empty()) {
      a.clear();
    } else {
      a = {simplify(isLower ? min(one(a), one(b)) : max(one(a), one(b)))};
    }
  }

  Cover coverOf(const Pattern &p) {
    if (p->kind == PatternKind::And || p->kind == PatternKind::Sub) {
      Cover all;
      const size_t count = p->kind == PatternKind::Sub ? 1 : p->children.size();
      for (size_t k = 0; k < count; ++k) {
        Cover c = coverOf(p->children[k]);
        all.lower.insert(all.lower.end(), c.lower.begin(), c.lower.end());
        all.upper.insert(all.upper.end(), c.upper.begin(), c.upper.end());
      }
      return all;
    }
    if (p->kind == PatternKind::Or) {
      Cover all = coverOf(p->children[0]);
      for (size_t k = 1; k < p->children.size(); ++k) {
        Cover c = coverOf(p->children[k]);
        hull(all.lower, c.lower, true);
        hull(all.upper, c.upper, false);
      }
      return all;
    }
    TermLimits few;
    few.maxTerms = 16;
    try {
      return coverOf(buildTerms(p, false, few));
    } catch (const std::runtime_error &) {
      return {};
    }
  }

  static Cover coverOf(const Terms &terms) {
    Cover all;
    all.lower = outermost(terms, Literal::Lower);
    all.upper = outermost(terms, Literal::Upper);
    return all;
  }

  /// One bound of j that holds for all terms, or none: the outermost of one
  /// bound of each term, as long as few remain.
  static std::vector<Expr> outermost(const Terms &terms, Literal::Kind kind) {
    constexpr size_t kMaxBounds = 6;
    std::vector<LinearForm> kept;
    // True where a is certainly no tighter than b.
    auto covers = [&](const LinearForm &a, const LinearForm &b) {
      std::optional<int64_t> top = upperBound(kind == Literal::Lower ? a - b : b - a);
      return top && *top <= 0;
    };
    for (const Term &t : terms) {
      auto l = std::find_if(t.literals().begin(), t.literals().end(),
                            [&](const Literal &c) { return c.kind == kind && c.modulus == 0; });
      if (l == t.literals().end()) {
        return {};
      }
      if (std::any_of(kept.begin(), kept.end(), [&](const LinearForm &k) { return covers(k, l->form); })) {
        continue;
      }
      std::erase_if(kept, [&](const LinearForm &k) { return covers(l->form, k); });
      kept.push_back(l->form);
      if (kept.size() > kMaxBounds) {
        return {};
      }
    }
    if (kept.empty()) {
      return {};
    }
    Expr all = kept[0].expr();
    for (size_t k = 1; k < kept.size(); ++k) {
      all = kind == Literal::Lower ? min(all, kept[k].expr()) : max(all, kept[k].expr());
    }
    return {all};
  }

  Stratum maskedBy(Expr residual, Cover c, const std::string &why) const {
    Stratum s;
    s.kind = StratumKind::Masked;
    s.query = {QueryDigit{1, 0, limits.lanes}};
    s.key = {KeyDigit{}};
    s.lower = std::move(c.lower);
    s.upper = std::move(c.upper);
    s.residual = std::move(residual);
    s.note = why;
    return s;
  }
};

/// A pattern of some heads.
using HeadGroup = std::pair<Pattern, std::vector<int64_t>>;

std::vector<HeadGroup> groupHeads(const Pattern &p, int64_t period) {
  std::vector<HeadGroup> groups;
  for (int64_t h = 0; h < period; ++h) {
    Pattern own = canonicalize(forHead(p, h));
    auto it = std::find_if(groups.begin(), groups.end(), [&](const auto &g) { return g.first.same(own); });
    if (it == groups.end()) {
      groups.push_back({own, {h}});
    } else {
      it->second.push_back(h);
    }
  }
  return groups;
}

/// The strata of all groups; one that several groups have is there once.
std::vector<Stratum> strataOfGroups(const std::vector<HeadGroup> &groups, int64_t period, const StrataLimits &limits) {
  std::vector<Stratum> all;
  for (const auto &[own, heads] : groups) {
    for (Stratum &s : StrataBuilder(limits).build(own)) {
      auto equal = std::find_if(all.begin(), all.end(), [&](const Stratum &o) { return sameButHeads(o, s); });
      if (equal != all.end()) {
        equal->heads.insert(equal->heads.end(), heads.begin(), heads.end());
        continue;
      }
      s.headPeriod = period;
      s.heads = heads;
      all.push_back(std::move(s));
    }
  }
  for (Stratum &s : all) {
    std::sort(s.heads.begin(), s.heads.end());
    if (static_cast<int64_t>(s.heads.size()) == period) {
      s.headPeriod = 1;
      s.heads.clear();
    }
  }
  return all;
}

std::vector<Stratum> strataOfHeads(const Pattern &p, const StrataLimits &limits) {
  constexpr int64_t kMaxPeriod = 256;
  const int64_t period = headPeriod(p, kMaxPeriod);
  if (period == 0) {
    return StrataBuilder(limits).build(p);
  }
  std::vector<HeadGroup> groups = groupHeads(p, period);
  std::vector<Stratum> all = strataOfGroups(groups, period, limits);
  if (groups.size() > 1 && codeOf(all) > limits.maxCode) {
    StrataLimits less = limits;
    less.maxCode /= static_cast<double>(groups.size());
    all = strataOfGroups(groups, period, less);
    if (codeOf(all) > 1.5 * limits.maxCode) {
      return {StrataBuilder(limits).masked(p, std::to_string(groups.size()) + " patterns of heads")};
    }
  }
  return all;
}

} // namespace

double codeOf(const std::vector<Stratum> &strata) {
  double code = 0;
  std::vector<const Stratum *> tilings;
  for (const Stratum &s : strata) {
    code += codeOf(s);
    if (std::none_of(tilings.begin(), tilings.end(), [&](const Stratum *t) { return t->query == s.query; })) {
      tilings.push_back(&s);
    }
  }
  return code + kTilingCode * static_cast<double>(tilings.size());
}

std::vector<Stratum> buildStrata(const Pattern &p, int64_t segment, const StrataLimits &limits) {
  std::vector<Stratum> strata = strataOfHeads(canonicalize(p), limits);
  for (Stratum &s : strata) {
    s.segment = segment;
  }
  return strata;
}

/// Above the product of the largest radix of a leading digit (mergeFarDigits) and a tile's lanes.
static constexpr int64_t kLongestAlike = int64_t(1) << 23;

bool takeQueriesAlike(const std::vector<Stratum> &strata) {
  return std::all_of(strata.begin(), strata.end(),
                     [&](const Stratum &s) { return s.query == strata[0].query && !s.byRow && s.ids.isNull(); });
}

int64_t superTileFor(const std::vector<Stratum> &strata, const StrataLimits &limits) {
  // A tile that has a state of its own needs no memory for the super-tile.
  const int64_t most = takeQueriesAlike(strata) ? kLongestAlike : limits.maxSuperTile;
  // Whole tiles of every stratum where they fit, else whole values of the
  // leading digit where those fit.
  int64_t tile = 1, longest = limits.lanes;
  for (const Stratum &s : strata) {
    const QueryDigit d = s.byRow ? QueryDigit() : s.query[0]; // one at a time, they are taken in their own order
    if (d.radix > most) { // no whole values fit (and its multiples may pass 64 bits)
      longest = most;
      continue;
    }
    // Sorted by id within the super tile: the more, the more queries of one id are side by side.
    longest = std::max(longest, s.ids.isNull() ? d.radix * d.tile : most);
    for (int64_t need : {d.radix * d.tile, d.radix}) {
      const int64_t common = std::lcm(tile, need);
      if (common <= most) {
        tile = common;
        break;
      }
    }
  }
  // Grow to the longest tile as far as whole multiples allow.
  const int64_t target = std::min(longest, most);
  return std::max(tile, target / tile * tile);
}

} // namespace heddle
