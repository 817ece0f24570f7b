//===- Canonicalize.cpp - Canonical form of patterns ----------------------===//
//
// Patterns become trees of `and` and `or` (negation is pushed to the leaves on
// the way down) over: sets of i - j, of j, of i (exact, PeriodicSet), coarse and
// grid factors, and opaque leaves. Building a node folds what its children have
// in common, so `causal & window(63, 63)` and `window(63, 0)` end as one set.
//
// Conditions of `holds` and `affine_set` are split into atoms; a quasi-affine
// atom is recognized as a set of i - j, of j, or of i, or, by writing
// i = n u + p and j = m v + q, as an atom of the quotients (coarse) or of the
// remainders (grid). What remains is `holds` of that atom alone.
//
//===----------------------------------------------------------------------===//
#include "dialect/Affine.h"
#include "dialect/Condition.h"
#include "dialect/DifferenceSet.h"
#include "dialect/PatternMeaning.h"
#include "dialect/SetPatterns.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace heddle {

namespace {

struct Node;
using Tree = std::shared_ptr<const Node>;

struct Node {
  enum Kind : uint8_t { Diff, Key, Query, Coarse, Columns, Grid, Leaf, PerHead, And, Or } kind;
  PeriodicSet set;         ///< Diff, Key, Query
  int64_t n = 1, m = 1;    ///< Coarse: blocks; Columns, Grid: n is the width
  std::vector<Tree> items; ///< Grid: rows, columns
  Pattern leaf;
};

Tree setTree(Node::Kind kind, PeriodicSet set) {
  Node node{kind, std::move(set), 1, 1, {}, {}};
  if (node.set.isEmpty() || node.set.isAll()) {
    node.kind = Node::Diff;
  }
  return std::make_shared<const Node>(std::move(node));
}

Tree fullTree() { return setTree(Node::Diff, PeriodicSet::all()); }
Tree emptyTree() { return setTree(Node::Diff, PeriodicSet()); }
bool isFull(const Tree &t) { return t->kind == Node::Diff && t->set.isAll(); }
bool isEmpty(const Tree &t) { return t->kind == Node::Diff && t->set.isEmpty(); }
bool isSet(const Tree &t) { return t->kind <= Node::Query; }

Tree leafTree(Pattern p) {
  Node node{Node::Leaf, {}, 1, 1, {}, std::move(p)};
  return std::make_shared<const Node>(std::move(node));
}

Tree innerTree(Node::Kind kind, int64_t n, int64_t m, std::vector<Tree> items) {
  Node node{kind, {}, n, m, std::move(items), {}};
  return std::make_shared<const Node>(std::move(node));
}

Pattern toPattern(const Tree &t);
Tree nary(Node::Kind kind, std::vector<Tree> items);

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

Pattern wrap(PatternKind kind, std::vector<IntArg> ints, std::vector<Pattern> children) {
  PatternNode n;
  n.kind = kind;
  n.ints = std::move(ints);
  n.children = std::move(children);
  return Pattern::make(std::move(n));
}

Pattern coarsePattern(const Node &node) {
  const Node &inner = *node.items[0];
  static const PeriodicSet zero = *PeriodicSet::interval(0, 1);
  if (inner.kind == Node::Diff && inner.set == zero && (node.n == node.m || node.n == 1)) {
    return wrap(node.n == 1 ? PatternKind::Parent : PatternKind::Block, {node.m}, {});
  }
  return wrap(PatternKind::Coarse, {node.n, node.m}, {toPattern(node.items[0])});
}

Pattern toPattern(const Tree &t) {
  std::vector<Pattern> parts;
  for (const Tree &item : t->items) {
    if (t->kind != Node::Coarse) {
      parts.push_back(toPattern(item));
    }
  }
  switch (t->kind) {
  case Node::Diff:
    return patternOfDiffs(t->set);
  case Node::Key:
    return patternOfKeys(t->set);
  case Node::Query:
    return patternOfQueries(t->set);
  case Node::Coarse:
    return coarsePattern(*t);
  case Node::Columns:
    return wrap(PatternKind::Grid, {t->n}, {Pattern::full(), parts[0]});
  case Node::Grid:
    return wrap(PatternKind::Grid, {t->n}, std::move(parts));
  case Node::Leaf:
    return t->leaf;
  case Node::PerHead:
    return wrap(PatternKind::PerHead, {}, std::move(parts));
  case Node::And:
    return andPattern(std::move(parts));
  case Node::Or:
    return orPattern(std::move(parts));
  }
  return t->leaf;
}

//===----------------------------------------------------------------------===//
// Smart constructors
//===----------------------------------------------------------------------===//

Tree perHead(std::vector<Tree> items) {
  std::vector<std::string> texts;
  for (const Tree &t : items) {
    texts.push_back(toPattern(t).str());
  }
  for (size_t period = 1; period < items.size(); ++period) {
    if (items.size() % period) {
      continue;
    }
    bool repeats = true;
    for (size_t k = period; k < items.size() && repeats; ++k) {
      repeats = texts[k] == texts[k - period];
    }
    if (repeats) {
      items.resize(period);
      break;
    }
  }
  return items.size() == 1 ? items[0] : innerTree(Node::PerHead, 1, 1, std::move(items));
}

/// Applies fn below `and`, `or` and per_head.
template <typename Fn> Tree distribute(const Tree &t, const Fn &fn) {
  std::vector<Tree> items;
  for (const Tree &item : t->items) {
    items.push_back(fn(item));
  }
  return t->kind == Node::PerHead ? perHead(std::move(items)) : nary(t->kind, std::move(items));
}

bool isSpread(const Tree &t) { return t->kind == Node::And || t->kind == Node::Or || t->kind == Node::PerHead; }

Tree coarse(int64_t n, int64_t m, const Tree &t) {
  if ((n == 1 && m == 1) || isFull(t) || isEmpty(t)) {
    return t;
  }
  if (isSpread(t)) {
    return distribute(t, [&](const Tree &item) { return coarse(n, m, item); });
  }
  if (t->kind == Node::Key || t->kind == Node::Query) {
    if (std::optional<PeriodicSet> s = t->set.scaled(t->kind == Node::Key ? m : n)) {
      return setTree(t->kind, *s);
    }
  }
  constexpr int64_t large = int64_t{1} << 30;
  if (t->kind == Node::Coarse && n < large && m < large && t->n < large && t->m < large) {
    return innerTree(Node::Coarse, n * t->n, m * t->m, t->items);
  }
  return innerTree(Node::Coarse, n, m, {t});
}

/// grid(w, full, t)
Tree columns(int64_t w, const Tree &t) {
  if (isFull(t) || isEmpty(t)) {
    return t;
  }
  if (isSpread(t)) {
    return distribute(t, [&](const Tree &item) { return columns(w, item); });
  }
  if (t->kind == Node::Diff) { // Remainders differ by less than w.
    std::optional<PeriodicSet> near = PeriodicSet::interval(1 - w, w);
    std::optional<PeriodicSet> live = near ? near->intersect(t->set) : std::nullopt;
    if (live && *live == *near) {
      return fullTree();
    }
    return live && live->isEmpty() ? emptyTree()
                                   : innerTree(Node::Columns, w, w, {live ? setTree(Node::Diff, *live) : t});
  }
  if (t->kind == Node::Key || t->kind == Node::Query) {
    if (w <= PeriodicSet::maxPeriod) {
      if (std::optional<PeriodicSet> s = PeriodicSet::periodic(w, t->set.intervals(0, w))) {
        return setTree(t->kind, *s);
      }
    }
  }
  return innerTree(Node::Columns, w, w, {t});
}

Tree grid(int64_t w, const Tree &rows, const Tree &cols) {
  return nary(Node::And, {coarse(w, w, rows), columns(w, cols)});
}

/// Combines what the items of one `and` or `or` have in common.
class Folder {
public:
  explicit Folder(Node::Kind kind) : kind(kind), isAnd(kind == Node::And) {}

  void add(const Tree &t) {
    if (t->kind == kind) {
      for (const Tree &item : t->items) {
        add(item);
      }
      return;
    }
    switch (t->kind) {
    case Node::Diff:
    case Node::Key:
    case Node::Query:
      return addSet(t);
    case Node::Coarse:
      blocks[{t->n, t->m}].push_back(t->items[0]);
      return;
    case Node::Columns:
      remainders[t->n].push_back(t->items[0]);
      return;
    case Node::Grid:
      if (isAnd) {
        add(innerTree(Node::Coarse, t->n, t->n, {t->items[0]}));
        add(innerTree(Node::Columns, t->n, t->n, {t->items[1]}));
        return;
      }
      break;
    default:
      break;
    }
    rest.push_back(t);
  }

  Tree finish() {
    for (const auto &[sizes, inner] : blocks) {
      push(simple(Node::Coarse, sizes.first, sizes.second, nary(kind, inner)));
    }
    for (const auto &[width, inner] : remainders) {
      push(simple(Node::Columns, width, width, nary(kind, inner)));
    }
    for (const Tree &t : sets) {
      push(t);
    }
    if (absorbed) {
      return isAnd ? emptyTree() : fullTree();
    }
    if (isAnd) {
      mergeGrids();
    }
    return sorted();
  }

private:
  void addSet(const Tree &t) {
    for (Tree &other : sets) {
      if (other->kind != t->kind) {
        continue;
      }
      auto s = isAnd ? other->set.intersect(t->set) : other->set.unite(t->set);
      if (s && s->pieces() <= maxPieces) {
        other = setTree(t->kind, *s);
        return;
      }
    }
    sets.push_back(t);
  }

  static Tree simple(Node::Kind kind, int64_t n, int64_t m, const Tree &inner) {
    if (isFull(inner) || isEmpty(inner)) {
      return inner;
    }
    return kind == Node::Columns && inner->kind == Node::Diff ? columns(n, inner) : innerTree(kind, n, m, {inner});
  }

  /// Keeps `t` unless it is neutral; notes what absorbs all others.
  void push(const Tree &t) {
    absorbed |= isAnd ? isEmpty(t) : isFull(t);
    if (!(isAnd ? isFull(t) : isEmpty(t))) {
      rest.push_back(t);
    }
  }

  void mergeGrids() {
    for (Tree &cols : rest) {
      if (!cols || cols->kind != Node::Columns) {
        continue;
      }
      for (Tree &rows : rest) {
        if (rows && rows->kind == Node::Coarse && rows->n == cols->n && rows->m == cols->n) {
          cols = innerTree(Node::Grid, cols->n, cols->n, {rows->items[0], cols->items[0]});
          rows = nullptr;
          break;
        }
      }
    }
    rest.erase(std::remove(rest.begin(), rest.end(), nullptr), rest.end());
  }

  Tree sorted() {
    std::map<std::string, Tree> byText;
    for (const Tree &t : rest) {
      byText.emplace(toPattern(t).str(), t);
    }
    std::vector<Tree> items;
    for (const auto &entry : byText) {
      items.push_back(entry.second);
    }
    if (items.empty()) {
      return isAnd ? fullTree() : emptyTree();
    }
    return items.size() == 1 ? items[0] : innerTree(kind, 1, 1, std::move(items));
  }

  /// Sets with more intervals are not spelled out but kept as they were written.
  static constexpr size_t maxPieces = 2048;

  Node::Kind kind;
  bool isAnd, absorbed = false;
  std::vector<Tree> sets, rest;
  std::map<std::pair<int64_t, int64_t>, std::vector<Tree>> blocks;
  std::map<int64_t, std::vector<Tree>> remainders;
};

Tree nary(Node::Kind kind, std::vector<Tree> items) {
  if (items.size() == 1) {
    return items[0];
  }
  Folder folder(kind);
  for (const Tree &t : items) {
    folder.add(t);
  }
  return folder.finish();
}

/// A leaf with `fn` applied below its complement.
template <typename Fn> Tree wrapLeaf(const Tree &t, const Fn &fn) {
  Pattern p = toPattern(t);
  return leafTree(p->kind == PatternKind::Not ? ~fn(p->children[0]) : fn(p));
}

Tree shifted(int64_t a, const Tree &t) {
  if (a == 0 || t->kind == Node::Diff) {
    return t;
  }
  if (isSpread(t)) {
    return distribute(t, [&](const Tree &item) { return shifted(a, item); });
  }
  if (isSet(t)) {
    if (std::optional<PeriodicSet> s = t->set.shifted(a)) {
      return setTree(t->kind, *s);
    }
  }
  if (t->kind == Node::Coarse && t->n == t->m && a % t->n == 0) {
    return coarse(t->n, t->n, shifted(a / t->n, t->items[0]));
  }
  if (t->kind == Node::Columns && a % t->n == 0) {
    return t;
  }
  if (t->kind == Node::Grid && a % t->n == 0) {
    return grid(t->n, shifted(a / t->n, t->items[0]), t->items[1]);
  }
  return wrapLeaf(t, [a](const Pattern &p) {
    int64_t sum = 0;
    if (p->kind == PatternKind::Shift && p->ints[0].kind == IntArg::Literal &&
        !__builtin_add_overflow(p->ints[0].value, a, &sum)) {
      return sum == 0 ? p->children[0] : wrap(PatternKind::Shift, {sum}, p->children);
    }
    return wrap(PatternKind::Shift, {a}, {p});
  });
}

//===----------------------------------------------------------------------===//
// Atoms
//===----------------------------------------------------------------------===//

// Digits of i and j; negative operand numbers are nobody else's.
const Expr queryHigh = Expr::scalar(-1), queryLow = Expr::scalar(-2);
const Expr keyHigh = Expr::scalar(-3), keyLow = Expr::scalar(-4);
const Expr difference = Expr::scalar(-5);
const Expr queryPosition = Expr::symbol(Sym::Query), keyPosition = Expr::symbol(Sym::Key);

Expr replaceLeaves(const Expr &e, const std::vector<std::pair<Expr, Expr>> &with) {
  return e.substitute([&](const ExprNode &n) {
    for (const auto &[from, to] : with) {
      if (n.kind == from->kind && n.symbol == from->symbol && n.value == from->value) {
        return to;
      }
    }
    return Expr();
  });
}

class AtomReader {
public:
  explicit AtomReader(const Expr &atom, int level = 0)
      : atom(atom), e(atom->args[0]), equality(atom->kind == ExprKind::Eq), level(level) {}

  Tree read() {
    std::optional<Linear> f = linearize(e);
    if (!f) {
      return opaque();
    }
    std::set<std::string> variables = f->variables();
    if (variables.empty()) {
      return (equality ? f->constant == 0 : f->constant >= 0) ? fullTree() : emptyTree();
    }
    bool query = variables.count("i"), key = variables.count("j");
    if (variables.size() != static_cast<size_t>(query) + static_cast<size_t>(key)) {
      return opaque(); // Other symbols or run-time integers.
    }
    if (!query || !key) {
      std::optional<PeriodicSet> s = solve(*f, query ? "i" : "j", equality);
      return s ? setTree(query ? Node::Query : Node::Key, *s) : opaque();
    }
    if (std::optional<PeriodicSet> s = differences()) {
      return setTree(Node::Diff, *s);
    }
    if (std::optional<PeriodicSet> s = sampledDifferences(*f)) {
      return setTree(Node::Diff, *s);
    }
    if (std::optional<Tree> t = level < maxLevel ? digits(*f) : std::nullopt) {
      return *t;
    }
    return pastBlocks(*f);
  }

private:
  Tree opaque() const {
    PatternNode n;
    n.kind = PatternKind::Holds;
    n.exprs = {atom};
    return leafTree(Pattern::make(std::move(n)));
  }

  Expr atomOf(const Linear &f) const { return equality ? equal(f.expr(), Expr(0)) : f.expr() >= Expr(0); }

  /// i = d + j leaves no j.
  std::optional<PeriodicSet> differences() const {
    std::optional<Linear> f = linearize(replaceLeaves(e, {{queryPosition, difference + keyPosition}}));
    if (!f || f->variables() != std::set<std::string>{difference.str()}) {
      return std::nullopt;
    }
    return solve(*f, difference.str(), equality);
  }

  /// Periodic in both (`i mod 8 == j mod 8`): look at one period.
  std::optional<PeriodicSet> sampledDifferences(const Linear &f) const {
    std::optional<PeriodAndSlope> qi = periodOf(f, "i"), qj = periodOf(f, "j");
    constexpr int64_t largest = 256;
    if (!qi || !qj || qi->slope || qj->slope || qi->period > largest || qj->period > largest) {
      return std::nullopt;
    }
    int64_t period = std::lcm(qi->period, qj->period);
    if (period > largest) {
      return std::nullopt;
    }
    auto live = [&](int64_t i, int64_t j) {
      int64_t v = evaluate(f, [&](const std::string &name) { return name == "i" ? i : j; });
      return equality ? v == 0 : v >= 0;
    };
    std::vector<Interval> residues;
    for (int64_t d = 0; d < period; ++d) {
      bool first = live(d, 0);
      for (int64_t j = 1; j < period; ++j) {
        if (live(d + j, j) != first) {
          return std::nullopt;
        }
      }
      if (first) {
        residues.push_back({d, d + 1});
      }
    }
    return PeriodicSet::periodic(period, std::move(residues));
  }

  /// An atom of quotients or of remainders alone.
  std::optional<Tree> digits(const Linear &f) const {
    std::set<int64_t> widths = f.divisorsOf("i"), keyWidths = f.divisorsOf("j");
    widths.insert(keyWidths.begin(), keyWidths.end());
    widths.insert(1);
    if (widths.size() > 8) {
      return std::nullopt;
    }
    // Large blocks first: coarse(16, P) rather than coarse(8, coarse(2, P)) is one step.
    for (auto n = widths.rbegin(); n != widths.rend(); ++n) {
      for (auto m = widths.rbegin(); m != widths.rend(); ++m) {
        if (*n * *m > 1) {
          if (std::optional<Tree> t = quotients(*n, *m)) {
            return t;
          }
        }
      }
    }
    for (int64_t w : widths) {
      if (w > 1) {
        if (std::optional<Tree> t = remainders(w)) {
          return t;
        }
      }
    }
    return std::nullopt;
  }

  std::optional<Linear> inDigits(int64_t n, int64_t m) const {
    VariableRanges ranges = {{queryLow.str(), {0, n}}, {keyLow.str(), {0, m}}};
    Expr i = Expr(n) * queryHigh + queryLow, j = Expr(m) * keyHigh + keyLow;
    if (n == 1) {
      i = queryHigh;
    }
    if (m == 1) {
      j = keyHigh;
    }
    return linearize(replaceLeaves(e, {{queryPosition, i}, {keyPosition, j}}), ranges);
  }

  static bool onlyOf(const Linear &f, const Expr &a, const Expr &b) {
    for (const std::string &v : f.variables()) {
      if (v != a.str() && v != b.str()) {
        return false;
      }
    }
    return true;
  }

  std::optional<Tree> quotients(int64_t n, int64_t m) const {
    std::optional<Linear> f = inDigits(n, m);
    if (!f || !onlyOf(*f, queryHigh, keyHigh)) {
      return std::nullopt;
    }
    Expr inner = replaceLeaves(atomOf(*f), {{queryHigh, queryPosition}, {keyHigh, keyPosition}});
    return coarse(n, m, readAtom(inner));
  }

  std::optional<Tree> remainders(int64_t w) const {
    std::optional<Linear> f = inDigits(w, w);
    if (!f || !onlyOf(*f, queryLow, keyLow)) {
      return std::nullopt;
    }
    Expr inner = replaceLeaves(atomOf(*f), {{queryLow, queryPosition}, {keyLow, keyPosition}});
    if (inner->kind != ExprKind::Int) { // (i + j) mod w: the remainders say nothing new.
      std::optional<Linear> before = linearize(e), after = linearize(inner->args[0]);
      if (!before || !after || before->key() == after->key()) {
        return std::nullopt;
      }
    }
    return columns(w, readAtom(inner));
  }

  Tree readAtom(const Expr &inner) const {
    if (inner->kind == ExprKind::Int) {
      return inner->value ? fullTree() : emptyTree();
    }
    return AtomReader(inner, level + 1).read();
  }

  /// i - n j - c >= 0 is past_blocks(n, size = c).
  Tree pastBlocks(const Linear &f) const {
    int64_t n = -f.coefficientOf("j");
    if (equality || f.terms.size() != 2 || f.coefficientOf("i") != 1 || n < 2 || f.constant > 0) {
      return opaque();
    }
    return leafTree(wrap(PatternKind::PastBlocks, {n, -f.constant, 0}, {}));
  }

  static constexpr int maxLevel = 6;

  Expr atom, e;
  bool equality;
  int level;
};

Tree readCondition(const Condition &c) {
  if (c.kind == Condition::Affine) {
    return AtomReader(c.atom).read();
  }
  if (c.kind == Condition::Opaque) {
    PatternNode n;
    n.kind = PatternKind::Holds;
    n.exprs = {c.atom};
    return leafTree(Pattern::make(std::move(n)));
  }
  bool isAnd = c.kind == Condition::And;
  std::vector<Tree> items = {isAnd ? fullTree() : emptyTree()};
  for (const Condition &child : c.children) {
    items.push_back(readCondition(child));
  }
  return nary(isAnd ? Node::And : Node::Or, std::move(items));
}

//===----------------------------------------------------------------------===//
// Patterns
//===----------------------------------------------------------------------===//

Tree build(const Pattern &p, bool negated);

bool isConstant(const PatternNode &n) {
  auto literal = [](const IntArg &a) { return a.kind == IntArg::Literal || a.kind == IntArg::Infinity; };
  return n.operands.empty() && std::all_of(n.ints.begin(), n.ints.end(), literal);
}

/// The set of a constant list.
std::optional<PeriodicSet> listSet(const std::vector<RangeArg> &ranges) {
  std::vector<Interval> finite;
  PeriodicSet rays;
  for (const RangeArg &r : ranges) {
    if (r.hi.kind != IntArg::Infinity) {
      finite.push_back({r.lo.value, r.hi.value});
      continue;
    }
    std::optional<PeriodicSet> ray = PeriodicSet::from(r.lo.value);
    std::optional<PeriodicSet> sum = ray ? rays.unite(*ray) : std::nullopt;
    if (!sum) {
      return std::nullopt;
    }
    rays = *sum;
  }
  std::optional<PeriodicSet> all = PeriodicSet::ofIntervals(std::move(finite));
  return all ? all->unite(rays) : std::nullopt;
}

Tree negatedLeaf(const Pattern &p, bool negated) { return leafTree(negated ? ~p : p); }

Tree ofSet(Node::Kind kind, const PeriodicSet &s, bool negated) { return setTree(kind, negated ? s.complement() : s); }

/// keys, queries and global_tokens: constant ranges become a set, others stay.
Tree lists(const PatternNode &n, PatternKind kind, bool negated) {
  Node::Kind set = kind == PatternKind::Keys ? Node::Key : Node::Query;
  auto leaf = [&](std::vector<RangeArg> ranges) {
    PatternNode one;
    one.kind = kind;
    one.operands = n.operands;
    one.ranges = std::move(ranges);
    return negatedLeaf(Pattern::make(std::move(one)), negated);
  };
  if (!n.operands.empty()) {
    return leaf({});
  }
  std::vector<RangeArg> constant;
  std::vector<Tree> items = {negated ? fullTree() : emptyTree()};
  for (const RangeArg &r : n.ranges) {
    bool hiConstant = r.hi.kind == IntArg::Literal || r.hi.kind == IntArg::Infinity;
    if (r.lo.kind == IntArg::Literal && hiConstant) {
      constant.push_back(r);
    } else {
      items.push_back(leaf({r}));
    }
  }
  if (std::optional<PeriodicSet> s = listSet(constant)) {
    items.push_back(ofSet(set, *s, negated));
  } else {
    items.push_back(leaf(std::move(constant)));
  }
  return nary(negated ? Node::And : Node::Or, std::move(items));
}

Tree modSet(const Pattern &p, Node::Kind kind, bool negated) {
  const PatternNode &n = *p;
  std::optional<PeriodicSet> s;
  if (isConstant(n)) {
    s = PeriodicSet::periodic(n.ints[0].value, {{n.ints[1].value, n.ints[2].value}});
  }
  return s ? ofSet(kind, *s, negated) : negatedLeaf(p, negated);
}

Tree pastBlocks(const Pattern &p, bool negated) {
  const PatternNode &n = *p;
  if (!isConstant(n)) {
    return negatedLeaf(p, negated);
  }
  int64_t size = n.ints[1].value - n.ints[2].value;
  if (n.ints[0].value == 1) {
    std::optional<PeriodicSet> s = PeriodicSet::from(size);
    return s ? ofSet(Node::Diff, *s, negated) : negatedLeaf(p, negated);
  }
  return size < 0 ? negatedLeaf(p, negated)
                  : negatedLeaf(wrap(PatternKind::PastBlocks, {n.ints[0], size, 0}, {}), negated);
}

/// One result of a remap: P on (e(i), e(j)).
Tree remapOne(const Expr &e, const Tree &inner) {
  if (isFull(inner) || isEmpty(inner)) {
    return inner;
  }
  if (isSpread(inner)) {
    return distribute(inner, [&](const Tree &item) { return remapOne(e, item); });
  }
  std::optional<Linear> f = linearize(e);
  if (f && f->terms.size() == 1 && f->coefficientOf("i") == 1) {
    return shifted(-f->constant, inner);
  }
  // x floordiv n, and (x floordiv n) mod w = x floordiv n - w (x floordiv n w).
  auto plainQuotient = [](const Linear::Term &t) -> int64_t {
    bool plain = t.numerator && t.numerator->constant == 0 && t.numerator->terms.size() == 1 &&
                 t.numerator->coefficientOf("i") == 1;
    return plain ? t.divisor : t.numerator ? 0 : 1;
  };
  if (f && f->constant == 0 && f->terms.size() == 1) {
    const Linear::Term &t = f->terms.begin()->second;
    int64_t n = plainQuotient(t);
    if (t.coefficient == 1 && n > 0) {
      return coarse(n, n, inner);
    }
  }
  if (f && f->constant == 0 && f->terms.size() == 2) {
    const Linear::Term *a = &f->terms.begin()->second, *b = &std::next(f->terms.begin())->second;
    if (a->coefficient != 1) {
      std::swap(a, b);
    }
    int64_t n = plainQuotient(*a), whole = plainQuotient(*b), w = -b->coefficient;
    if (a->coefficient == 1 && w > 1 && n > 0 && whole > 0 && whole % n == 0 && whole / n == w) {
      return coarse(n, n, columns(w, inner));
    }
  }
  PatternNode n;
  n.kind = PatternKind::Remap;
  n.exprs = {e};
  n.children = {toPattern(inner)};
  return leafTree(Pattern::make(std::move(n)));
}

Tree coordinates(const Pattern &p, bool negated) {
  const PatternNode &n = *p;
  std::vector<Tree> inner;
  for (const Pattern &c : n.children) {
    inner.push_back(build(c, negated));
  }
  switch (n.kind) {
  case PatternKind::Coarse:
    return coarse(n.ints[0].value, n.ints[1].value, inner[0]);
  case PatternKind::Grid:
    return nary(negated ? Node::Or : Node::And,
                {coarse(n.ints[0].value, n.ints[0].value, inner[0]), columns(n.ints[0].value, inner[1])});
  case PatternKind::Shift:
    if (n.ints[0].kind == IntArg::Literal) {
      return shifted(n.ints[0].value, inner[0]);
    }
    if (inner[0]->kind == Node::Diff) {
      return inner[0];
    }
    return wrapLeaf(inner[0], [&](const Pattern &c) { return wrap(PatternKind::Shift, n.ints, {c}); });
  default: {
    std::vector<Tree> items = {negated ? emptyTree() : fullTree()};
    for (size_t k = 0; k < inner.size(); ++k) {
      items.push_back(remapOne(n.exprs[k], inner[k]));
    }
    return nary(negated ? Node::Or : Node::And, std::move(items));
  }
  }
}

Tree primitive(const Pattern &p, bool negated) {
  const PatternNode &n = *p;
  switch (n.kind) {
  case PatternKind::Causal:
  case PatternKind::Window:
  case PatternKind::Stride:
  case PatternKind::Offsets: {
    std::optional<PeriodicSet> s = isConstant(n) ? primitiveDifferences(n) : std::nullopt;
    return s ? ofSet(Node::Diff, *s, negated) : negatedLeaf(p, negated);
  }
  case PatternKind::Block:
  case PatternKind::Parent: {
    int64_t size = n.ints[0].value;
    Tree equal = ofSet(Node::Diff, *PeriodicSet::interval(0, 1), negated);
    return coarse(n.kind == PatternKind::Block ? size : 1, size, equal);
  }
  case PatternKind::Keys:
  case PatternKind::Queries:
    return lists(n, n.kind, negated);
  case PatternKind::GlobalTokens:
    return nary(negated ? Node::And : Node::Or,
                {lists(n, PatternKind::Keys, negated), lists(n, PatternKind::Queries, negated)});
  case PatternKind::KeyMod:
    return modSet(p, Node::Key, negated);
  case PatternKind::QueryMod:
    return modSet(p, Node::Query, negated);
  case PatternKind::PastBlocks:
    return pastBlocks(p, negated);
  case PatternKind::Cluster: {
    PatternNode same;
    same.kind = PatternKind::Same;
    same.operands = {n.operands[0], n.operands[0]};
    return negatedLeaf(Pattern::make(std::move(same)), negated);
  }
  default:
    return negatedLeaf(p, negated);
  }
}

Tree build(const Pattern &p, bool negated) {
  const PatternNode &n = *p;
  switch (n.kind) {
  case PatternKind::Full:
  case PatternKind::Empty:
    return (n.kind == PatternKind::Full) != negated ? fullTree() : emptyTree();
  case PatternKind::Not:
    return build(n.children[0], !negated);
  case PatternKind::And:
  case PatternKind::Or: {
    std::vector<Tree> items;
    for (const Pattern &c : n.children) {
      items.push_back(build(c, negated));
    }
    return nary((n.kind == PatternKind::And) != negated ? Node::And : Node::Or, std::move(items));
  }
  case PatternKind::Sub:
    return nary(negated ? Node::Or : Node::And, {build(n.children[0], negated), build(n.children[1], !negated)});
  case PatternKind::PerHead: {
    std::vector<Tree> items;
    for (const Pattern &c : n.children) {
      items.push_back(build(c, negated));
    }
    return perHead(std::move(items));
  }
  case PatternKind::Holds:
  case PatternKind::AffineSet:
    return readCondition(splitCondition(n.exprs[0], negated));
  case PatternKind::Coarse:
  case PatternKind::Grid:
  case PatternKind::Remap:
  case PatternKind::Shift:
    return coordinates(p, negated);
  default:
    return primitive(p, negated);
  }
}

std::optional<PeriodicSet> setOf(const Pattern &p, Node::Kind kind) {
  Tree t = build(p, false);
  if (t->kind == kind || isFull(t) || isEmpty(t)) {
    return t->set;
  }
  return std::nullopt;
}

} // namespace

Pattern canonicalize(const Pattern &p) { return toPattern(build(p, false)); }
std::optional<PeriodicSet> diffSet(const Pattern &p) { return setOf(p, Node::Diff); }
std::optional<PeriodicSet> keySet(const Pattern &p) { return setOf(p, Node::Key); }
std::optional<PeriodicSet> querySet(const Pattern &p) { return setOf(p, Node::Query); }

} // namespace heddle
