//===- PatternSet.cpp - Exact questions about patterns --------------------===//
//
// Three lines of attack, cheapest first:
//
//  1. Structure (equal canonical forms) and refutation: both patterns are
//     evaluated at points around their thresholds, which also gives witnesses.
//  2. Terms: each term of A loses the terms of B; what is left and has an
//     integer point is a witness, and if nothing is left it is a proof.
//  3. A bounded check that is a proof. For patterns built from comparisons of
//     i, j and i - j with constants up to T and from residues of i and j modulo
//     divisors of L, membership is a function of i mod L, j mod L, and of i, j
//     and i - j clipped to [-T - 1, T + 1]. Put 0, i and j on a line: a gap of
//     neighbors longer than T + L can be shortened by L without changing any
//     of these, since every clipped difference across it stays beyond T. So
//     every pair has an equal one with |i|, |j| <= 2 (T + L). Coarsening by n
//     keeps the form with T' = n (T + 1), L' = n L, because
//     n (i floordiv n - j floordiv n) = (i - j) - (i mod n) + (j mod n).
//
//===----------------------------------------------------------------------===//
#include "dialect/PatternSet.h"
#include "dialect/TermsEmpty.h"

#include <algorithm>
#include <ctime>
#include <numeric>
#include <set>

namespace heddle {

namespace {

constexpr int64_t kMaxHeads = 256;

bool hasKind(const Pattern &p, PatternKind kind) {
  return p->kind == kind ||
         std::any_of(p->children.begin(), p->children.end(), [&](const Pattern &c) { return hasKind(c, kind); });
}

ExprEnv envOf(const PatternPoint &at) {
  ExprEnv env;
  env.h = at.head;
  env.i = at.query;
  env.j = at.key;
  env.nq = at.queryEnd;
  env.nk = at.keyEnd;
  return env;
}

/// The condition whose emptiness is asked: a & ~b, also b & ~a for equality.
struct Question {
  Pattern a, b;
  bool isEquality = false;

  bool holds(const PatternPoint &at) const {
    ExprEnv env = envOf(at);
    const bool inA = a.contains(env), inB = b.contains(env);
    return isEquality ? inA != inB : inA && !inB;
  }
  Question forHead(int64_t h) const {
    return {canonicalize(heddle::forHead(a, h)), canonicalize(heddle::forHead(b, h)), isEquality};
  }
};

//===----------------------------------------------------------------------===//
// Sample points
//===----------------------------------------------------------------------===//

void collectIntegers(const Expr &e, std::set<int64_t> &out) {
  if (e->kind == ExprKind::Int) {
    out.insert(e->value);
  }
  for (const Expr &a : e->args) {
    collectIntegers(a, out);
  }
}

/// Every constant of a pattern, at the scale of the positions.
void collectIntegers(const Pattern &p, int64_t scale, std::set<int64_t> &out) {
  constexpr int64_t kLimit = int64_t(1) << 40;
  auto insert = [&](int64_t v) {
    if (v > -kLimit && v < kLimit) {
      out.insert(v * scale);
    }
  };
  for (const IntArg &a : p->ints) {
    insert(a.value);
  }
  if (p->kind == PatternKind::Window && p->ints[2].value < 65536) {
    for (int k = 0; k < 2; ++k) {
      if (p->ints[k].kind == IntArg::Literal && p->ints[k].value < kLimit / 65536) {
        insert(p->ints[k].value * p->ints[2].value);
      }
    }
  }
  for (const RangeArg &r : p->ranges) {
    insert(r.lo.value);
    insert(r.hi.value);
  }
  for (const Expr &e : p->exprs) {
    std::set<int64_t> inside;
    collectIntegers(e, inside);
    std::for_each(inside.begin(), inside.end(), insert);
  }
  const bool coarser = p->kind == PatternKind::Coarse || p->kind == PatternKind::Grid;
  const int64_t inner = coarser && p->ints[0].value < 65536 && scale < 65536 ? scale * p->ints[0].value : scale;
  for (size_t k = 0; k < p->children.size(); ++k) {
    collectIntegers(p->children[k], p->kind == PatternKind::Grid && k == 1 ? scale : inner, out);
  }
}

std::optional<PatternPoint> sample(const Question &q) {
  std::optional<PatternPoint> found;
  PatternPoint at;
  auto try1 = [&](int64_t i, int64_t j) {
    at.query = i;
    at.key = j;
    if (!found && q.holds(at)) {
      found = at;
    }
  };
  std::set<int64_t> constants;
  collectIntegers(q.a, 1, constants);
  collectIntegers(q.b, 1, constants);
  std::vector<int64_t> values;
  for (int64_t c : constants) {
    for (int64_t v : {c - 1, c, c + 1, -c}) {
      values.push_back(v);
    }
    if (values.size() >= 96) {
      break;
    }
  }
  for (auto [nq, nk] : {std::pair<int64_t, int64_t>(50, 40), {37, 64}}) {
    at.queryEnd = nq;
    at.keyEnd = nk;
    for (int64_t i = -6; i < 34 && !found; ++i) {
      for (int64_t j = -6; j < 34; ++j) {
        try1(i, j);
      }
    }
    for (int64_t a : values) {
      for (int64_t b : {int64_t(0), int64_t(1), int64_t(100), int64_t(-77)}) {
        try1(b, a);
        try1(a, b);
        try1(b, b - a);
      }
      if (values.size() <= 48) {
        for (int64_t b : values) {
          try1(a, b);
          try1(a, a - b);
        }
      }
    }
    // Pseudo-random pairs (a fixed linear congruence).
    uint64_t state = 88172645463325252u;
    const int64_t span = constants.empty() ? 64 : 3 * std::max<int64_t>(std::abs(*constants.rbegin()), 20);
    auto draw = [&] {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(2 * span)) - span;
    };
    for (int k = 0; k < 400 && !found; ++k) {
      const int64_t i = draw();
      try1(i, draw());
    }
  }
  return found;
}

//===----------------------------------------------------------------------===//
// Terms
//===----------------------------------------------------------------------===//

/// Processor time of this thread, so that a busy machine changes no answer.
double threadSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

class TermSearch {
public:
  TermSearch(const Question &q, const SetLimits &limits)
      : q(q), oracle(limits.solverCalls), deadline(threadSeconds() + limits.seconds) {
    termLimits.maxTerms = static_cast<size_t>(limits.terms);
    termLimits.isEmpty = [this](const Term &t) { return threadSeconds() < deadline && oracle.isEmpty(t); };
  }

  SetAnswer run() {
    try {
      Terms a = buildTerms(q.a, false, termLimits), b = buildTerms(q.b, false, termLimits);
      answer.verdict = SetAnswer::Yes;
      takeAway(a, b);
      if (q.isEquality && answer.verdict != SetAnswer::No) {
        takeAway(b, a);
      }
    } catch (const std::runtime_error &e) { // limits, or constants past 64 bits
      undecided(e.what());
    }
    return answer;
  }

private:
  const Question &q;
  TermLimits termLimits;
  EmptinessOracle oracle;
  double deadline;
  SetAnswer answer;

  void undecided(const std::string &why) {
    answer.verdict = SetAnswer::Undecided;
    answer.reason = why;
  }

  void takeAway(const Terms &from, const Terms &what) {
    std::vector<const Term *> all;
    for (const Term &t : what) {
      all.push_back(&t);
    }
    for (const Term &t : from) {
      descend(t, all);
      if (answer.verdict == SetAnswer::No) {
        return;
      }
    }
  }

  /// Takes the terms of `what` away from t: always the one that leaves the
  /// fewest pieces, found without the solver.
  void descend(const Term &t, std::vector<const Term *> what) {
    if (oracle.callsLeft <= 0 || threadSeconds() > deadline) {
      throw TermsOverflow{"expected sets of fewer pieces, but got more than the limits allow"};
    }
    Terms best;
    size_t bestAt = what.size();
    for (size_t k = 0; k < what.size();) {
      Terms pieces = subtract(t, *what[k], {});
      if (pieces.size() == 1 && pieces[0].literals() == t.literals()) {
        what.erase(what.begin() + static_cast<ptrdiff_t>(k)); // apart from t
        continue;
      }
      if (pieces.empty()) {
        return;
      }
      if (best.empty() || pieces.size() < best.size()) {
        best = std::move(pieces);
        bestAt = k;
      }
      ++k;
    }
    if (best.empty()) {
      leftOver(t);
      return;
    }
    what.erase(what.begin() + static_cast<ptrdiff_t>(bestAt));
    for (const Term &piece : best) {
      if (piece.literals().size() > 1 && termLimits.isEmpty(piece)) {
        continue;
      }
      descend(piece, what);
      if (answer.verdict == SetAnswer::No) {
        return;
      }
    }
  }

  void leftOver(const Term &t) {
    TermSample s;
    --oracle.callsLeft;
    Emptiness e = emptiness(t, &s);
    if (e == Emptiness::Empty) {
      return;
    }
    PatternPoint at{0, s.query, s.key, s.queryEnd, s.keyEnd};
    const bool opaque = q.a.hasOperands() || q.b.hasOperands();
    if (!opaque && q.holds(at)) {
      answer = {SetAnswer::No, at, ""};
    } else if (answer.verdict != SetAnswer::No) {
      undecided(opaque ? "expected patterns without run-time operands, but got a difference that "
                         "depends on them"
                       : "expected quasi-affine conditions within the limits of the solver, but got others");
    }
  }
};

//===----------------------------------------------------------------------===//
// The bounded check
//===----------------------------------------------------------------------===//

/// T and L of the file's third line; nullopt where the pattern has another form.
struct Bounds {
  int64_t threshold = 1, period = 1;
};

bool join(Bounds &to, const Bounds &b) {
  constexpr int64_t kLimit = 1 << 20;
  to.threshold = std::max(to.threshold, b.threshold);
  __extension__ using Wide = __int128;
  const Wide l = static_cast<Wide>(to.period) / std::gcd(to.period, b.period) * b.period;
  to.period = static_cast<int64_t>(std::min<Wide>(l, kLimit));
  return to.threshold < kLimit && l < kLimit;
}

std::optional<Bounds> boundsOf(const Pattern &p);

std::optional<Bounds> boundsOfChildren(const Pattern &p) {
  Bounds all;
  for (const Pattern &c : p->children) {
    std::optional<Bounds> own = boundsOf(c);
    if (!own || !join(all, *own)) {
      return std::nullopt;
    }
  }
  return all;
}

std::optional<Bounds> coarser(std::optional<Bounds> b, int64_t n) {
  if (!b || n > 4096 || b->threshold > 4096 || b->period > 4096) {
    return std::nullopt;
  }
  return Bounds{n * (b->threshold + 1), n * b->period};
}

std::optional<Bounds> boundsOf(const Pattern &p) {
  constexpr int64_t kLimit = 1 << 20;
  int64_t largest = 1;
  for (const IntArg &a : p->ints) {
    if (a.kind > IntArg::Infinity || std::abs(a.value) > kLimit) {
      return std::nullopt;
    }
    largest = std::max(largest, std::abs(a.value) + 1);
  }
  auto literal = [&](size_t k) { return p->ints[k].value; };
  switch (p->kind) {
  case PatternKind::Full:
  case PatternKind::Empty:
    return Bounds{};
  case PatternKind::Causal:
  case PatternKind::Offsets:
    return p->operands.empty() ? std::optional(Bounds{largest, 1}) : std::nullopt;
  case PatternKind::Neighborhood: // all inside the extent
    return Bounds{largest, 1};
  case PatternKind::Window:
    return Bounds{std::max(literal(0), literal(1)) * literal(2) + 1, literal(2)};
  case PatternKind::Stride:
  case PatternKind::KeyMod:
  case PatternKind::QueryMod:
    return Bounds{1, literal(0)};
  case PatternKind::Block:
    return coarser(Bounds{}, literal(0));
  case PatternKind::Keys:
  case PatternKind::Queries:
  case PatternKind::GlobalTokens: {
    if (!p->operands.empty()) {
      return std::nullopt;
    }
    for (const RangeArg &r : p->ranges) {
      for (const IntArg &a : {r.lo, r.hi}) {
        if (a.kind > IntArg::Infinity || std::abs(a.value) > kLimit) {
          return std::nullopt;
        }
        largest = std::max(largest, std::abs(a.value) + 1);
      }
    }
    return Bounds{largest, 1};
  }
  case PatternKind::Coarse:
    return literal(0) == literal(1) ? coarser(boundsOf(p->children[0]), literal(0)) : std::nullopt;
  case PatternKind::Grid: {
    // Anything of i mod width and j mod width has the period `width`.
    const Pattern &columns = p->children[1];
    if (columns.hasOperands() || hasKind(columns, PatternKind::AffineSet) ||
        hasKind(columns, PatternKind::RandomBlocks) || hasKind(columns, PatternKind::Holds) ||
        columns.str().find("end") != std::string::npos) {
      return std::nullopt;
    }
    return coarser(boundsOf(p->children[0]), literal(0));
  }
  case PatternKind::Shift: {
    std::optional<Bounds> b = boundsOf(p->children[0]);
    if (b) {
      b->threshold += std::abs(literal(0));
    }
    return b;
  }
  case PatternKind::And:
  case PatternKind::Or:
  case PatternKind::Sub:
  case PatternKind::Not:
    return boundsOfChildren(p);
  default:
    return std::nullopt;
  }
}

std::optional<SetAnswer> boundedCheck(const Question &q, const SetLimits &limits) {
  std::optional<Bounds> a = boundsOf(q.a), b = boundsOf(q.b);
  if (!a || !b || !join(*a, *b)) {
    return std::nullopt;
  }
  const int64_t reach = 2 * (a->threshold + a->period);
  __extension__ using Wide = __int128;
  if (Wide(2 * reach + 1) * (2 * reach + 1) > limits.tablePairs) {
    return std::nullopt;
  }
  PatternPoint at;
  for (at.query = -reach; at.query <= reach; ++at.query) {
    for (at.key = -reach; at.key <= reach; ++at.key) {
      if (q.holds(at)) {
        return SetAnswer{SetAnswer::No, at, ""};
      }
    }
  }
  return SetAnswer{SetAnswer::Yes, std::nullopt, ""};
}

//===----------------------------------------------------------------------===//
// All heads
//===----------------------------------------------------------------------===//

SetAnswer decide(const Question &q, const SetLimits &limits) {
  if (q.a.same(q.b)) {
    return {SetAnswer::Yes, std::nullopt, ""};
  }
  if (!q.a.hasOperands() && !q.b.hasOperands()) {
    if (std::optional<PatternPoint> at = sample(q)) {
      return {SetAnswer::No, at, ""};
    }
  }
  SetLimits quick = limits;
  quick.solverCalls = limits.solverCalls / 8;
  quick.seconds = limits.seconds / 4;
  SetAnswer answer = TermSearch(q, quick).run();
  if (answer.verdict == SetAnswer::Undecided) {
    if (std::optional<SetAnswer> bounded = boundedCheck(q, limits)) {
      return *std::move(bounded);
    }
    answer = TermSearch(q, limits).run();
  }
  return answer;
}

SetAnswer answerFor(const Question &whole, const SetLimits &limits) {
  if (hasKind(whole.a, PatternKind::RandomBlocks) || hasKind(whole.b, PatternKind::RandomBlocks)) {
    if (canonicalize(whole.a).same(canonicalize(whole.b))) {
      return {SetAnswer::Yes, std::nullopt, ""};
    }
    return {SetAnswer::Undecided, std::nullopt, "expected a pattern with a closed form, but got random_blocks"};
  }
  const int64_t periodA = headPeriod(whole.a, kMaxHeads), periodB = headPeriod(whole.b, kMaxHeads);
  const int64_t period = periodA == 0 || periodB == 0 ? 0 : std::lcm(periodA, periodB);
  if (period == 0 || period > kMaxHeads) {
    return {SetAnswer::Undecided, std::nullopt,
            "expected per_head lists with at most " + std::to_string(kMaxHeads) + " combinations, but got more"};
  }
  SetAnswer all{SetAnswer::Yes, std::nullopt, ""};
  std::vector<Question> seen;
  for (int64_t h = 0; h < period; ++h) {
    Question q = whole.forHead(h);
    if (std::any_of(seen.begin(), seen.end(), [&](const Question &s) { return s.a.same(q.a) && s.b.same(q.b); })) {
      continue;
    }
    SetAnswer own = decide(q, limits);
    if (own.verdict == SetAnswer::No) {
      if (own.witness) {
        own.witness->head = h;
      }
      return own;
    }
    if (own.verdict == SetAnswer::Undecided) {
      all = std::move(own);
    }
    seen.push_back(std::move(q));
  }
  return all;
}

} // namespace

SetAnswer isEmpty(const Pattern &p, const SetLimits &limits) { return answerFor({p, Pattern::empty()}, limits); }

SetAnswer isSubset(const Pattern &a, const Pattern &b, const SetLimits &limits) { return answerFor({a, b}, limits); }

SetAnswer isEqual(const Pattern &a, const Pattern &b, const SetLimits &limits) {
  return answerFor({a, b, true}, limits);
}

} // namespace heddle
