//===- TermsBuild.cpp - From a pattern to terms ---------------------------===//
//
// Negation normal form on the fly: operators either combine their children's
// terms or pass coordinates down; a leaf yields its own terms, and its
// complement is taken literal by literal.
//
//===----------------------------------------------------------------------===//
#include "dialect/DifferenceParts.h"
#include "dialect/KeyPlace.h"
#include "dialect/TermsCondition.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace heddle {

namespace {

LinearForm form(const Expr &e) { return LinearForm::of(e); }

/// The coordinates at which a pattern is evaluated.
struct Frame {
  Expr x = Expr::symbol(Sym::Query), row = Expr::symbol(Sym::QueryRow);
  KeyPlace y, keyRow;

  Frame() {
    keyRow.offset = form(Expr::symbol(Sym::KeyOffset));
    keyRow.expr = Expr::symbol(Sym::KeyRow);
  }
  Frame dividedBy(int64_t nq, int64_t nk) const {
    Frame f = *this;
    f.x = floorDiv(x, Expr(nq));
    f.row = floorDiv(row, Expr(nq));
    f.y = y.dividedBy(nk);
    f.keyRow = keyRow.dividedBy(nk);
    return f;
  }
  Frame modulo(int64_t n) const {
    Frame f = *this;
    f.x = floorMod(x, Expr(n));
    f.row = floorMod(row, Expr(n));
    f.y = y.modulo(n);
    f.keyRow = keyRow.modulo(n);
    return f;
  }
  Frame mapped(const Expr &map) const {
    auto at = [&](const Expr &place) {
      return map.substitute(
          [&](const ExprNode &n) { return n.kind == ExprKind::Symbol && n.symbol == Sym::Query ? place : Expr(); });
    };
    Frame f = *this;
    f.x = at(x);
    f.row = at(row);
    f.y = y.mapped(map);
    f.keyRow = keyRow.mapped(map);
    return f;
  }
  Frame shifted(const LinearForm &a) const { return shifted(a, a); }
  Frame shifted(const LinearForm &query, const LinearForm &key) const {
    Frame f = *this;
    f.x = x - query.expr();
    f.row = row - query.expr();
    f.y = y.plus(key * -1);
    f.keyRow = keyRow.plus(key * -1);
    return f;
  }
  /// At loaded positions, which are the rows as well.
  Frame loaded(const Expr &query, const Expr &key) const {
    Frame f;
    f.x = f.row = query;
    f.y.isDigit = f.keyRow.isDigit = false;
    f.y.expr = f.keyRow.expr = key;
    return f;
  }
};

Literal compareLiteral(LinearForm f) {
  Literal l;
  l.kind = Literal::Compare;
  l.form = std::move(f);
  return l;
}

Literal opaqueLiteral(Expr condition) {
  Literal l;
  l.condition = std::move(condition);
  return l;
}

Terms termOf(std::vector<Literal> literals) {
  Term t;
  for (Literal &l : literals) {
    if (!t.add(std::move(l))) {
      return {};
    }
  }
  return {std::move(t)};
}

void append(Terms &out, Terms more) { std::move(more.begin(), more.end(), std::back_inserter(out)); }

Expr batch() { return Expr::symbol(Sym::Batch); }
Expr head() { return Expr::symbol(Sym::Head); }

/// The value of an integer argument; `end` stands for `end`. Not for infinity.
LinearForm valueOf(const IntArg &a, Sym end = Sym::KeyEnd) {
  switch (a.kind) {
  case IntArg::End:
    return form(Expr::symbol(end)) - LinearForm(a.value);
  case IntArg::Operand:
    return form(Expr::scalar(a.value));
  default:
    return LinearForm(a.value);
  }
}

/// One leaf of the tree at one frame.
class Leaf {
public:
  Leaf(const PatternNode &n, const Frame &f) : n(n), f(f), x(form(f.x)) {}

  Terms terms() const {
    switch (n.kind) {
    case PatternKind::Full:
      return {Term()};
    case PatternKind::Empty:
      return {};
    case PatternKind::Causal:
      return termOf({f.y.upper(x - lag() + LinearForm(1))});
    case PatternKind::Window:
      return window();
    case PatternKind::Stride:
      return termOf({f.y.residue(x - integer(1), literal(0))});
    case PatternKind::Block: {
      LinearForm first = floorDiv(x, literal(0)) * literal(0);
      return termOf({f.y.lower(first), f.y.upper(first + LinearForm(literal(0)))});
    }
    case PatternKind::Keys:
      return keys();
    case PatternKind::Queries:
      return queries();
    case PatternKind::GlobalTokens: {
      Terms both = keys();
      append(both, queries());
      return both;
    }
    case PatternKind::KeyMod:
      return literal(2) - literal(1) == literal(0)
                 ? Terms{Term()}
                 : f.y.run(LinearForm(literal(1)), literal(2) - literal(1), literal(0));
    case PatternKind::QueryMod: {
      LinearForm r = floorMod(x, literal(0));
      return termOf({compareLiteral(r - integer(1)), compareLiteral(integer(2) - LinearForm(1) - r)});
    }
    case PatternKind::Offsets:
      return offsets();
    case PatternKind::PastBlocks: // y * n + size <= x + inclusive
      return termOf({f.y.upper(floorDiv(x + integer(2) - integer(1), literal(0)) + LinearForm(1))});
    case PatternKind::Parent:
      return termOf({f.y.lower(x * literal(0)), f.y.upper((x + LinearForm(1)) * literal(0))});
    case PatternKind::Neighborhood:
      return neighborhood();
    case PatternKind::RandomBlocks:
      return randomBlocks();
    case PatternKind::AffineSet:
    case PatternKind::Holds:
      return conditionTerms(condition(), false);
    default:
      return runTime();
    }
  }

  Terms negatedCondition() const { return conditionTerms(condition(), true); }

  /// `positions`: where its pattern is evaluated.
  Frame loadedFrame() const { return f.loaded(load(0, f.row), load(1, f.keyRow.expr)); }

  /// `packed`: the number of the query's sequence, its first row among queries and among keys.
  struct Sequence {
    Expr number, query, key;
  };
  Sequence sequence() const {
    Expr s = Expr::search(n.operands[0], f.row) - Expr(1);
    return {s, Expr::load(n.operands[0], {s}, ExprType::Int), Expr::load(n.operands[1], {s}, ExprType::Int)};
  }
  /// The pairs of one sequence, and where its pattern is evaluated.
  Terms oneSequence() const {
    Sequence s = sequence();
    Expr last = min(Expr::size(n.operands[0], 0), Expr::size(n.operands[1], 0)) - Expr(2);
    Expr end = Expr::load(n.operands[1], {s.number + Expr(1)}, ExprType::Int);
    return termOf({compareLiteral(form(s.number)), compareLiteral(form(last) - form(s.number)),
                   f.keyRow.lower(form(s.key)), f.keyRow.upper(form(end))});
  }
  Frame sequenceFrame() const {
    Sequence s = sequence();
    return f.shifted(form(s.query), form(s.key));
  }

  /// The written condition at the frame.
  Expr condition() const {
    auto at = [&](const ExprNode &leaf) {
      if (leaf.kind != ExprKind::Symbol) {
        return Expr();
      }
      switch (leaf.symbol) {
      case Sym::Query:
        return f.x;
      case Sym::Key:
        return f.y.expr;
      case Sym::QueryRow:
        return f.row;
      case Sym::KeyRow:
        return f.keyRow.expr;
      default:
        return Expr();
      }
    };
    return n.exprs[0].substitute(at);
  }

private:
  const PatternNode &n;
  const Frame &f;
  LinearForm x;

  int64_t literal(size_t k) const { return n.ints[k].value; }
  LinearForm integer(size_t k) const { return valueOf(n.ints[k]); }
  LinearForm lag() const { return n.ints.empty() ? LinearForm(0) : integer(0); }

  Terms window() const {
    std::vector<Literal> l;
    const int64_t dilation = literal(2);
    // A bound past 64 bits is none.
    auto isBounded = [&](size_t k) {
      constexpr int64_t kMost = int64_t(1) << 61;
      return n.ints[k].kind == IntArg::Operand || (n.ints[k].kind == IntArg::Literal && literal(k) <= kMost / dilation);
    };
    if (isBounded(0)) {
      l.push_back(f.y.lower(x - integer(0) * dilation));
    }
    if (isBounded(1)) {
      l.push_back(f.y.upper(x + integer(1) * dilation + LinearForm(1)));
    }
    if (dilation > 1) {
      l.push_back(f.y.residue(x, dilation));
    }
    return termOf(std::move(l));
  }

  Terms keys() const {
    if (!n.operands.empty()) {
      return termOf({opaqueLiteral(Expr::load(n.operands[0], {batch(), f.keyRow.expr}, ExprType::Bool))});
    }
    Terms out;
    for (const RangeArg &r : n.ranges) {
      std::vector<Literal> l = {f.y.lower(valueOf(r.lo))};
      if (r.hi.kind != IntArg::Infinity) {
        l.push_back(f.y.upper(valueOf(r.hi)));
      }
      append(out, termOf(std::move(l)));
    }
    return out.size() > kMaxRanges ? asCondition(out) : out;
  }

  /// A long list is one condition, with its hull where it is constant.
  static constexpr size_t kMaxRanges = 32;
  static Terms asCondition(const Terms &terms) {
    std::vector<Expr> all;
    for (const Term &t : terms) {
      all.push_back(t.expr());
    }
    std::vector<Literal> literals = constantHull(terms);
    literals.push_back(opaqueLiteral(disjunction(all)));
    return termOf(std::move(literals));
  }

  Terms queries() const {
    if (!n.operands.empty()) {
      return termOf({opaqueLiteral(Expr::load(n.operands[0], {batch(), f.row}, ExprType::Bool))});
    }
    Terms out;
    for (const RangeArg &r : n.ranges) {
      std::vector<Literal> l = {compareLiteral(x - valueOf(r.lo, Sym::QueryEnd))};
      if (r.hi.kind != IntArg::Infinity) {
        l.push_back(compareLiteral(valueOf(r.hi, Sym::QueryEnd) - LinearForm(1) - x));
      }
      append(out, termOf(std::move(l)));
    }
    return out.size() > kMaxRanges ? asCondition(out) : out;
  }

  Terms offsets() const {
    if (!n.operands.empty()) {
      Expr own = floorDiv(head() * Expr::size(n.operands[0], 1), Expr::symbol(Sym::Heads));
      return termOf({opaqueLiteral(
          Expr::member(n.operands[0], {own, Expr(0)}, Expr(0), Expr::size(n.operands[0], 0), f.x - f.y.expr))});
    }
    Terms out;
    for (size_t k = 0; k < n.ints.size(); ++k) {
      LinearForm key = x - integer(k);
      append(out, termOf({f.y.lower(key), f.y.upper(key + LinearForm(1))}));
    }
    return out;
  }

  /// The definition is in PatternMeaning.cpp; r, i', L' as there.
  Terms neighborhood() const {
    const int64_t size = literal(0), extent = literal(1), stride = literal(2), dilation = literal(3);
    LinearForm r = floorMod(x, dilation), row = floorDiv(x, dilation);
    LinearForm length = floorDiv(LinearForm(extent - 1) - r, dilation) + LinearForm(1);
    LinearForm group = floorDiv(row, stride) * stride;
    LinearForm last = length - LinearForm(1);
    auto key = [&](const LinearForm &t) { return t * dilation + r; };
    auto least = [](const LinearForm &a, const LinearForm &b) { return form(min(a.expr(), b.expr())); };
    auto most = [](const LinearForm &a, const LinearForm &b) { return form(max(a.expr(), b.expr())); };
    std::vector<Literal> l = {compareLiteral(x), compareLiteral(LinearForm(extent - 1) - x)};
    if (dilation > 1) {
      l.push_back(f.y.residue(x, dilation));
    }
    l.push_back(f.y.lower(LinearForm(0)));
    l.push_back(f.y.upper(LinearForm(extent)));
    if (literal(4) != 0) {
      // With stride 1 the leader is the query itself, which is inside.
      LinearForm leader = stride == 1 ? row : least(group + LinearForm(stride - 1), last);
      l.push_back(f.y.lower(key(leader - LinearForm(size - 1))));
      l.push_back(f.y.upper(key(row + LinearForm(1))));
    } else {
      LinearForm leader = stride == 1 ? row : least(group + LinearForm(stride / 2), last);
      LinearForm begin = most(least(leader - LinearForm(size / 2), length - LinearForm(size)), 0);
      l.push_back(f.y.lower(key(begin)));
      l.push_back(f.y.upper(key(begin + LinearForm(size))));
    }
    return termOf(std::move(l));
  }

  /// The blocks of the row of x by Floyd's draws (PatternMeaning.cpp), one choice each.
  Terms randomBlocks() const {
    const int64_t size = literal(0), count = literal(1);
    if (count == 0) {
      return {};
    }
    const Expr seed = n.ints[2].value, row = floorDiv(x, size).expr();
    const LinearForm blocks = floorDiv(form(Expr::symbol(Sym::KeyEnd)) + LinearForm(size - 1), size);
    const Expr last = blocks.expr(), first = max((blocks - LinearForm(count)).expr(), Expr(0));
    const Expr block = floorDiv(LinearForm::of(f.y.expr), size).expr();
    Literal member = opaqueLiteral(Expr::make(ExprKind::Drawn, {seed, row, first, last, block}));
    if (f.y.isDigit) {
      const Expr drawn = Expr::make(ExprKind::Draw, {seed, row, first, first + Expr::symbol(Sym::Choice)});
      Literal lower = f.y.lower(form(drawn) * size);
      member.kind = Literal::Member;
      member.radix = lower.radix;
      member.modulus = lower.modulus;
      member.form = lower.form;
      member.step = lower.modulus == 0 ? size * f.y.radix : size;
      member.choices = count;
    }
    return termOf({std::move(member)});
  }

  Expr load(size_t k, const Expr &row) const {
    return Expr::load(n.operands[k], {batch(), head(), row}, ExprType::Int);
  }

  Terms runTime() const {
    switch (n.kind) {
    case PatternKind::Same:
    case PatternKind::Cluster: {
      Expr q = load(0, f.row), k = load(n.operands.size() - 1, f.keyRow.expr);
      return termOf({compareLiteral(form(q)), opaqueLiteral(equal(q, k))});
    }
    case PatternKind::Lengths:
      return termOf({f.keyRow.upper(form(Expr::load(n.operands[0], {batch()}, ExprType::Int)))});
    case PatternKind::Between:
      return termOf({f.keyRow.lower(form(load(0, f.row))), f.keyRow.upper(form(load(1, f.row)))});
    case PatternKind::BetweenQueries: {
      Expr lo = load(0, f.keyRow.expr), hi = load(1, f.keyRow.expr);
      return termOf({compareLiteral(form(f.row) - form(lo)), compareLiteral(form(hi) - form(f.row) - LinearForm(1))});
    }
    case PatternKind::Listed: {
      Expr member =
          Expr::member(n.operands[0], {batch(), head(), f.row}, Expr(0), Expr::size(n.operands[0], 0), f.keyRow.expr);
      return listed(Expr::size(n.operands[0], 1), std::move(member));
    }
    case PatternKind::Csr: {
      Expr member =
          Expr::member(n.operands[1], {batch(), head()}, load(0, f.row), load(0, f.row + Expr(1)), f.keyRow.expr);
      return listed(Expr::size(n.operands[0], 0) - Expr(1), std::move(member));
    }
    case PatternKind::Mask:
      return termOf(
          {opaqueLiteral(Expr::load(n.operands[0], {batch(), head(), f.row, f.keyRow.expr}, ExprType::Bool))});
    default:
      throw TermsOverflow{"a run-time pattern that has no terms yet"};
    }
  }

  /// The symbol itself, divided any number of times.
  static bool isBlockOf(Expr e, Sym s) {
    while (e->kind == ExprKind::FloorDiv && e->args[1]->kind == ExprKind::Int && e->args[1]->value > 0) {
      e = e->args[0];
    }
    return e->kind == ExprKind::Symbol && e->symbol == s;
  }

  /// The query's row has a list, and the key is in it.
  Terms listed(const Expr &rows, Expr member) const {
    std::vector<Literal> l = {opaqueLiteral(std::move(member))};
    // Rows of keys, and blocks of them, are at least 0 as entries are; mapped rows may not be.
    if (!isBlockOf(f.keyRow.expr, Sym::KeyRow)) {
      l.push_back(f.keyRow.lower(LinearForm(0)));
    }
    if (!isBlockOf(f.row, Sym::QueryRow)) { // Likewise, all rows of queries have a list.
      l.push_back(compareLiteral(form(f.row)));
      l.push_back(compareLiteral(form(rows) - form(f.row) - LinearForm(1)));
    }
    return termOf(std::move(l));
  }
};

/// Terms of i - j alone, where the table of DifferenceParts.h is the shorter.
std::optional<Terms> differenceTerms(const Pattern &p, bool negated, const Frame &f) {
  std::optional<std::vector<DifferencePart>> parts = differenceParts(p, negated);
  if (!parts) {
    return std::nullopt;
  }
  const LinearForm x = form(f.x);
  Terms out;
  for (const DifferencePart &d : *parts) {
    std::vector<Literal> l;
    if (d.hi) {
      l.push_back(f.y.lower(x - LinearForm(*d.hi)));
    }
    if (d.lo) {
      l.push_back(f.y.upper(x - LinearForm(*d.lo - 1)));
    }
    Terms bounds = termOf(std::move(l));
    if (d.period > 0) {
      LinearForm first = x - LinearForm(d.start + d.length - 1);
      bounds = intersect(bounds, f.y.run(first, d.length, d.period), {});
    }
    append(out, std::move(bounds));
  }
  return out;
}

class Builder {
public:
  explicit Builder(const TermLimits &limits) : limits(limits) {}

  Terms build(const Pattern &p, bool negated, const Frame &f) {
    if (isCompound(p) && isDifference(p)) {
      if (std::optional<Terms> t = differenceTerms(p, negated, f)) {
        return *std::move(t);
      }
    }
    const PatternNode &n = *p;
    switch (n.kind) {
    case PatternKind::And:
      return negated ? unite(n.children, true, f) : meet(n.children, false, f);
    case PatternKind::Or:
      return negated ? meet(n.children, true, f) : unite(n.children, false, f);
    case PatternKind::Sub:
      return negated ? concatenate(build(n.children[0], true, f), build(n.children[1], false, f))
                     : intersect(build(n.children[0], false, f), build(n.children[1], true, f), limits);
    case PatternKind::Not:
      return build(n.children[0], !negated, f);
    case PatternKind::Coarse:
      return build(n.children[0], negated, f.dividedBy(n.ints[0].value, n.ints[1].value));
    case PatternKind::Shift:
      return build(n.children[0], negated, f.shifted(valueOf(n.ints[0])));
    case PatternKind::Grid: {
      Terms rows = build(n.children[0], negated, f.dividedBy(n.ints[0].value, n.ints[0].value));
      Terms columns = build(n.children[1], negated, f.modulo(n.ints[0].value));
      return negated ? concatenate(std::move(rows), std::move(columns)) : intersect(rows, columns, limits);
    }
    case PatternKind::Remap: {
      Terms all = negated ? Terms{} : Terms{Term()};
      for (size_t k = 0; k < n.children.size(); ++k) {
        Terms t = build(n.children[k], negated, f.mapped(n.exprs[k]));
        all = negated ? concatenate(std::move(all), std::move(t)) : intersect(all, t, limits);
      }
      return all;
    }
    case PatternKind::PerHead:
      throw TermsOverflow{"per_head lists whose lengths have a large common multiple"};
    case PatternKind::Positions:
      return build(n.children[0], negated, Leaf(n, f).loadedFrame());
    case PatternKind::Packed: {
      Leaf leaf(n, f);
      Terms one = leaf.oneSequence();
      Terms inside = intersect(one, build(n.children[0], negated, leaf.sequenceFrame()), limits);
      return negated ? concatenate(complement(one), std::move(inside)) : inside;
    }
    default:
      return negated ? complement(n, f) : Leaf(n, f).terms();
    }
  }

private:
  const TermLimits &limits;

  static bool isCompound(const Pattern &p) {
    switch (p->kind) {
    case PatternKind::And:
    case PatternKind::Or:
    case PatternKind::Sub:
    case PatternKind::Not:
    case PatternKind::Offsets:
    case PatternKind::Stride:
    case PatternKind::Window:
      return true;
    default:
      return false;
    }
  }

  Terms concatenate(Terms a, Terms b) {
    append(a, std::move(b));
    if (a.size() > limits.maxTerms) {
      throw TermsOverflow{"more than " + std::to_string(limits.maxTerms) + " terms"};
    }
    return a;
  }

  Terms unite(const std::vector<Pattern> &children, bool negated, const Frame &f) {
    Terms all;
    for (const Pattern &c : children) {
      all = concatenate(std::move(all), build(c, negated, f));
    }
    return all;
  }

  Terms meet(const std::vector<Pattern> &children, bool negated, const Frame &f) {
    Terms all = {Term()};
    for (const Pattern &c : children) {
      all = intersect(all, build(c, negated, f), limits);
    }
    return all;
  }

  Terms complement(const PatternNode &n, const Frame &f) {
    if (n.kind == PatternKind::AffineSet || n.kind == PatternKind::Holds) {
      return Leaf(n, f).negatedCondition();
    }
    return complement(Leaf(n, f).terms());
  }

  Terms complement(const Terms &terms) {
    Terms rest = {Term()};
    for (const Term &t : terms) {
      Terms next;
      for (const Term &r : rest) {
        append(next, subtract(r, t, limits));
      }
      rest = std::move(next);
    }
    return rest;
  }
};

Expr predicateAt(const Pattern &p, const Frame &f) {
  const PatternNode &n = *p;
  auto fold = [&](bool isUnion, auto child) {
    std::vector<Expr> all;
    for (size_t k = 0; k < n.children.size(); ++k) {
      all.push_back(child(k));
    }
    return isUnion ? disjunction(all) : conjunction(all);
  };
  auto here = [&](size_t k) { return predicateAt(n.children[k], f); };
  switch (n.kind) {
  case PatternKind::And:
    return fold(false, here);
  case PatternKind::Or:
    return fold(true, here);
  case PatternKind::Sub:
    return here(0) && !here(1);
  case PatternKind::Not:
    return !here(0);
  case PatternKind::Coarse:
    return predicateAt(n.children[0], f.dividedBy(n.ints[0].value, n.ints[1].value));
  case PatternKind::Shift:
    return predicateAt(n.children[0], f.shifted(valueOf(n.ints[0])));
  case PatternKind::Grid:
    return predicateAt(n.children[0], f.dividedBy(n.ints[0].value, n.ints[0].value)) &&
           predicateAt(n.children[1], f.modulo(n.ints[0].value));
  case PatternKind::Remap:
    return fold(false, [&](size_t k) { return predicateAt(n.children[k], f.mapped(n.exprs[k])); });
  case PatternKind::PerHead: {
    Expr entry = floorMod(head(), Expr(static_cast<int64_t>(n.children.size())));
    return fold(true, [&](size_t k) { return equal(entry, Expr(static_cast<int64_t>(k))) && here(k); });
  }
  case PatternKind::Positions:
    return predicateAt(n.children[0], Leaf(n, f).loadedFrame());
  case PatternKind::Packed: {
    Leaf leaf(n, f);
    std::vector<Expr> one;
    for (const Term &t : leaf.oneSequence()) {
      one.push_back(t.expr());
    }
    return disjunction(one) && predicateAt(n.children[0], leaf.sequenceFrame());
  }
  case PatternKind::AffineSet:
  case PatternKind::Holds: {
    Expr c = Leaf(n, f).condition();
    return c->type == ExprType::Bool ? c : notEqual(c, Expr(0));
  }
  default: {
    std::vector<Expr> any;
    for (const Term &t : Leaf(n, f).terms()) {
      any.push_back(t.expr());
    }
    return disjunction(any);
  }
  }
}

} // namespace

Terms buildTerms(const Pattern &p, bool negated, const TermLimits &limits) {
  return Builder(limits).build(p, negated, Frame());
}

Expr predicate(const Pattern &p) { return predicateAt(p, Frame()); }

int64_t headPeriod(const Pattern &p, int64_t cap) {
  int64_t period = p->kind == PatternKind::PerHead ? static_cast<int64_t>(p->children.size()) : 1;
  for (const Pattern &c : p->children) {
    const int64_t inner = headPeriod(c, cap);
    if (inner == 0 || (period = std::lcm(period, inner)) > cap) {
      return 0;
    }
  }
  return period > cap ? 0 : period;
}

Pattern forHead(const Pattern &p, int64_t h) {
  if (p->kind == PatternKind::PerHead) {
    return forHead(p->children[static_cast<size_t>(h) % p->children.size()], h);
  }
  PatternNode n = *p;
  bool changed = false;
  for (Pattern &c : n.children) {
    Pattern resolved = forHead(c, h);
    changed |= &*resolved != &*c;
    c = std::move(resolved);
  }
  return changed ? Pattern::make(std::move(n)) : p;
}

} // namespace heddle
