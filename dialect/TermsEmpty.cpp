//===- TermsEmpty.cpp - Integer emptiness of a term -----------------------===//
//
// Writes a term as integer polyhedra: a variable for each atom, two
// inequalities for each quotient, an equality for each residue; a minimum or
// maximum inside a form splits the polyhedron in two. Only construction and
// integer emptiness of upstream's library are used: its subtraction,
// complement, simplification and comparisons lose points on sets with
// divisions.
//
//===----------------------------------------------------------------------===//
#include "dialect/TermsEmpty.h"

#include "mlir/Analysis/Presburger/IntegerRelation.h"

#include <algorithm>

namespace heddle {

namespace {

using mlir::presburger::IntegerPolyhedron;
using mlir::presburger::PresburgerSpace;

/// sum of factors * variables + constant (>= 0, or = 0).
struct Row {
  std::map<unsigned, int64_t> factors;
  int64_t constant = 0;
  bool isEquality = false;
};

/// One polyhedron under construction; forms may still wait for a case split.
struct System {
  std::map<std::string, unsigned> variables;
  std::vector<Row> rows;
  unsigned count = 0;
  bool hasFree = false;
};

class Encoder {
public:
  explicit Encoder(const Term &t) {
    for (const Literal &l : t.literals()) {
      encode(l);
    }
  }

  /// Splits minima and maxima, then asks for each case.
  Emptiness decide(TermSample *sample) {
    std::vector<std::pair<LinearForm, bool>> todo = std::move(forms);
    return split(std::move(todo), 0, sample);
  }

private:
  std::vector<std::pair<LinearForm, bool>> forms; ///< f >= 0; true: f = 0
  bool isOpaque = false;
  int64_t residues = 0;
  int cases = 0;

  /// A variable that stands for no expression: the quotient of a residue.
  LinearForm freshVariable() {
    LinearForm f;
    const int64_t id = residues++;
    Expr name = Expr::load(-1 - id, {}, ExprType::Int);
    f.terms.emplace("#" + std::to_string(id), LinearForm::Term{name, 1});
    return f;
  }

  void encode(const Literal &l) {
    switch (l.kind) {
    case Literal::Lower:
      forms.emplace_back(LinearForm::of(l.digit()) - l.form, false);
      break;
    case Literal::Upper:
      forms.emplace_back(l.form - LinearForm::of(l.digit()) - LinearForm(1), false);
      break;
    case Literal::Step:
      forms.emplace_back(LinearForm::of(l.digit()) - l.form - freshVariable() * l.step, true);
      break;
    case Literal::Compare:
      forms.emplace_back(l.form, false);
      break;
    case Literal::Opaque:
    case Literal::Member:
      isOpaque = true; // Term::add compares opaque literals with one another.
      break;
    }
  }

  /// The first minimum or maximum in a form, also inside quotients.
  static Expr findExtremum(const LinearForm &f) {
    for (const auto &[key, t] : f.terms) {
      if (t.atom->kind == ExprKind::Min || t.atom->kind == ExprKind::Max) {
        return t.atom;
      }
      if (t.atom->kind == ExprKind::FloorDiv) {
        if (Expr found = findExtremum(LinearForm::of(t.atom->args[0]))) {
          return found;
        }
      }
    }
    return {};
  }

  static LinearForm replaced(const LinearForm &f, const Expr &what, const LinearForm &by) {
    LinearForm out(f.constant);
    for (const auto &[key, t] : f.terms) {
      if (t.atom.same(what)) {
        out.add(by, t.factor);
      } else if (t.atom->kind == ExprKind::FloorDiv && t.atom->args[1]->kind == ExprKind::Int) {
        LinearForm inner = replaced(LinearForm::of(t.atom->args[0]), what, by);
        out.add(floorDiv(inner, t.atom->args[1]->value), t.factor);
      } else {
        LinearForm same;
        same.terms.emplace(key, t);
        out.add(same);
      }
    }
    return out;
  }

  Emptiness split(std::vector<std::pair<LinearForm, bool>> all, int depth, TermSample *sample) {
    if (++cases > 512) {
      return Emptiness::Unknown;
    }
    Expr what;
    for (size_t k = 0; k < all.size() && what.isNull(); ++k) {
      what = findExtremum(all[k].first);
    }
    if (what.isNull()) {
      return solve(all, sample);
    }
    if (depth > 12) {
      return Emptiness::Unknown;
    }
    LinearForm a = LinearForm::of(what->args[0]), b = LinearForm::of(what->args[1]);
    const int64_t sign = what->kind == ExprKind::Min ? 1 : -1;
    Emptiness worst = Emptiness::Empty;
    for (int side = 0; side < 2; ++side) {
      const LinearForm &chosen = side == 0 ? a : b;
      auto part = all;
      for (auto &[f, isEquality] : part) {
        f = replaced(f, what, chosen);
      }
      // Chosen is the extremum: min = a where b - a >= 0.
      LinearForm gap = ((side == 0 ? b : a) - chosen) * sign;
      part.emplace_back(gap, false);
      Emptiness e = split(std::move(part), depth + 1, sample);
      if (e == Emptiness::NotEmpty) {
        return e;
      }
      worst = e == Emptiness::Unknown ? e : worst;
    }
    return worst;
  }

  static unsigned variable(System &s, const std::string &key, const Expr &atom) {
    auto [it, isNew] = s.variables.try_emplace(key, s.count);
    if (!isNew) {
      return it->second;
    }
    const unsigned v = s.count++;
    const bool isQuotient =
        atom->kind == ExprKind::FloorDiv && atom->args[1]->kind == ExprKind::Int && atom->args[1]->value > 0;
    if (isQuotient) {
      // 0 <= N - n * v <= n - 1.
      const int64_t n = atom->args[1]->value;
      Row low = row(s, LinearForm::of(atom->args[0]));
      low.factors[v] -= n;
      Row high = low;
      for (auto &[id, factor] : high.factors) {
        factor = -factor;
      }
      high.constant = n - 1 - low.constant;
      s.rows.push_back(std::move(low));
      s.rows.push_back(std::move(high));
    } else if (key[0] != '#') {
      const bool isPosition =
          atom->kind == ExprKind::Symbol && atom->symbol >= Sym::Query && atom->symbol <= Sym::KeyEnd;
      s.hasFree |= !isPosition;
    }
    return v;
  }

  static Row row(System &s, const LinearForm &f) {
    Row r;
    r.constant = f.constant;
    for (const auto &[key, t] : f.terms) {
      r.factors[variable(s, key, t.atom)] += t.factor;
    }
    return r;
  }

  Emptiness solve(const std::vector<std::pair<LinearForm, bool>> &all, TermSample *sample) {
    System s;
    for (const auto &[f, isEquality] : all) {
      if (f.isConstant()) {
        if (f.constant < 0 || (isEquality && f.constant != 0)) {
          return Emptiness::Empty;
        }
        continue;
      }
      Row r = row(s, f);
      r.isEquality = isEquality;
      s.rows.push_back(std::move(r));
    }
    if (s.count > 20) {
      return Emptiness::Unknown;
    }
    IntegerPolyhedron p(PresburgerSpace::getSetSpace(s.count));
    for (const Row &r : s.rows) {
      std::vector<int64_t> c(s.count + 1, 0);
      for (const auto &[v, factor] : r.factors) {
        c[v] = factor;
      }
      c[s.count] = r.constant;
      if (r.isEquality) {
        p.addEquality(c);
      } else {
        p.addInequality(c);
      }
    }
    if (sample == nullptr && (s.hasFree || isOpaque)) {
      return p.isIntegerEmpty() ? Emptiness::Empty : Emptiness::Unknown;
    }
    auto point = p.findIntegerSample();
    if (!point) {
      return Emptiness::Empty;
    }
    if (sample != nullptr) {
      auto read = [&](Sym symbol) {
        auto it = s.variables.find(Expr::symbol(symbol).str());
        return it == s.variables.end() ? 0 : static_cast<int64_t>((*point)[it->second]);
      };
      *sample = {read(Sym::Query), read(Sym::Key), read(Sym::QueryEnd), read(Sym::KeyEnd)};
    }
    return s.hasFree || isOpaque ? Emptiness::Unknown : Emptiness::NotEmpty;
  }
};

} // namespace

Emptiness emptiness(const Term &t, TermSample *sample) { return Encoder(t).decide(sample); }

//===----------------------------------------------------------------------===//
// Points instead of proofs
//===----------------------------------------------------------------------===//

namespace {

int64_t valueOf(const LinearForm &f, const ExprEnv &env) {
  int64_t sum = f.constant;
  for (const auto &[key, t] : f.terms) {
    sum += t.factor * evaluateInt(t.atom, env);
  }
  return sum;
}

bool holds(const Literal &l, const ExprEnv &env) {
  if (l.isCondition()) {
    return evaluateBool(l.condition, env);
  }
  const int64_t value = valueOf(l.form, env);
  if (l.kind == Literal::Compare) {
    return value >= 0;
  }
  int64_t digit = floorQuotient(env.j, l.radix);
  if (l.modulus != 0) {
    digit = floorRemainder(digit, l.modulus / l.radix);
  }
  return l.kind == Literal::Lower   ? digit >= value
         : l.kind == Literal::Upper ? digit < value
                                    : floorRemainder(digit - value, l.step) == 0;
}

bool holds(const Term &t, const ExprEnv &env) {
  return std::all_of(t.literals().begin(), t.literals().end(), [&](const Literal &l) { return holds(l, env); });
}

ExprEnv envOf(const TermSample &p) {
  ExprEnv env;
  env.i = p.query;
  env.j = p.key;
  env.nq = p.queryEnd;
  env.nk = p.keyEnd;
  return env;
}

/// True where only the two positions and their ends decide.
bool isClosed(const Expr &e) {
  if (e->kind == ExprKind::Load || e->kind == ExprKind::Scalar) {
    return false;
  }
  if (e->kind == ExprKind::Symbol && (e->symbol < Sym::Query || e->symbol > Sym::KeyEnd)) {
    return false;
  }
  return std::all_of(e->args.begin(), e->args.end(), isClosed);
}

bool isClosed(const Term &t) {
  return std::all_of(t.literals().begin(), t.literals().end(), [](const Literal &l) {
    if (l.isCondition()) {
      return isClosed(l.condition);
    }
    return std::all_of(l.form.terms.begin(), l.form.terms.end(), [](const auto &f) { return isClosed(f.second.atom); });
  });
}

} // namespace

void EmptinessOracle::remember(const TermSample &p) {
  constexpr size_t kPoints = 48;
  if (points.size() == kPoints) {
    points.erase(points.begin());
  }
  points.push_back(p);
}

bool EmptinessOracle::hasKnownPoint(const Term &t) {
  return std::any_of(points.rbegin(), points.rend(), [&](const TermSample &p) { return holds(t, envOf(p)); });
}

bool EmptinessOracle::scan(const Term &t) {
  constexpr int64_t kKeys = 16;
  TermSample p{0, 0, 50, 40};
  ExprEnv env = envOf(p);
  for (int64_t i : {0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 17, 20, 23, 27, 32, 41, 64, 130, -1, -2, -4, -7, -16}) {
    env.i = i;
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    bool live = true;
    for (const Literal &l : t.literals()) {
      if (l.kind <= Literal::Upper && l.modulus == 0) {
        const int64_t v = valueOf(l.form, env);
        lo = l.kind == Literal::Lower ? std::max(lo, v) : lo;
        hi = l.kind == Literal::Upper ? std::min(hi, v) : hi;
      } else if (l.kind == Literal::Compare && !l.form.mentions(Sym::Key)) {
        live = live && valueOf(l.form, env) >= 0;
      }
    }
    if (!live || lo >= hi) {
      continue;
    }
    const int64_t first = lo != INT64_MIN ? lo : hi != INT64_MAX ? hi - kKeys : i - kKeys / 2;
    for (int64_t j = first; j < std::min(hi, first + kKeys); ++j) {
      env.j = j;
      if (holds(t, env)) {
        p.query = i;
        p.key = j;
        remember(p);
        return true;
      }
    }
  }
  return false;
}

bool EmptinessOracle::isEmpty(const Term &t) {
  const bool closed = isClosed(t);
  if (closed && (hasKnownPoint(t) || scan(t))) {
    return false;
  }
  if (callsLeft <= 0) {
    return false;
  }
  --callsLeft;
  TermSample p;
  Emptiness e = emptiness(t, closed ? &p : nullptr);
  if (e == Emptiness::NotEmpty) {
    remember(p);
  }
  return e == Emptiness::Empty;
}

} // namespace heddle
