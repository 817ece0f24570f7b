//===- Pattern.cpp - The pattern algebra ----------------------------------===//
//
// Building, comparing, querying and verifying patterns. Their meaning is in
// PatternMeaning.cpp, their text in PatternParser.cpp and PatternPrinter.cpp.
//
//===----------------------------------------------------------------------===//
#include "dialect/Pattern.h"

#include "dialect/PatternTables.h"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace heddle {

namespace {

constexpr uint32_t maxBuiltDepth = 2000;
constexpr int64_t maxLiteral = int64_t{1} << 62;

Pattern join(PatternKind kind, const Pattern &a, const Pattern &b) {
  PatternNode n;
  n.kind = kind;
  if (a->kind == kind) {
    n.children = a->children;
  } else {
    n.children.push_back(a);
  }
  n.children.push_back(b);
  return Pattern::make(std::move(n));
}

/// Calls fn on every node of the tree.
template <typename Fn> void walk(const Pattern &p, const Fn &fn) {
  fn(*p);
  for (const Pattern &c : p->children) {
    walk(c, fn);
  }
}

template <typename Fn> void walk(const Expr &e, const Fn &fn) {
  if (e.isNull()) {
    return;
  }
  fn(*e);
  for (const Expr &a : e->args) {
    walk(a, fn);
  }
}

template <typename Fn> void forEachInt(const PatternNode &n, const Fn &fn) {
  for (const IntArg &a : n.ints) {
    fn(a);
  }
  for (const RangeArg &r : n.ranges) {
    fn(r.lo);
    fn(r.hi);
  }
}

} // namespace

Pattern::Pattern() : node(full().node) {}

Pattern Pattern::make(PatternNode n) {
  n.depth = 1;
  for (const Pattern &c : n.children) {
    n.depth = std::max(n.depth, c->depth + 1);
  }
  if (n.depth > maxBuiltDepth) {
    throw std::length_error("expected a pattern nested at most 2000 deep");
  }
  return Pattern(std::make_shared<const PatternNode>(std::move(n)));
}

Pattern Pattern::full() {
  static const std::shared_ptr<const PatternNode> node = [] {
    auto n = std::make_shared<PatternNode>();
    n->kind = PatternKind::Full;
    return n;
  }();
  return Pattern(node);
}

Pattern Pattern::empty() {
  static const std::shared_ptr<const PatternNode> node = [] {
    auto n = std::make_shared<PatternNode>();
    n->kind = PatternKind::Empty;
    return n;
  }();
  return Pattern(node);
}

Pattern Pattern::operator&(const Pattern &o) const { return join(PatternKind::And, *this, o); }
Pattern Pattern::operator|(const Pattern &o) const { return join(PatternKind::Or, *this, o); }

Pattern Pattern::operator-(const Pattern &o) const {
  PatternNode n;
  n.kind = PatternKind::Sub;
  n.children = {*this, o};
  return make(std::move(n));
}

Pattern Pattern::operator~() const {
  if (node->kind == PatternKind::Full) {
    return empty();
  }
  PatternNode n;
  n.kind = PatternKind::Not;
  n.children = {*this};
  return make(std::move(n));
}

bool Pattern::same(const Pattern &o) const {
  if (node == o.node) {
    return true;
  }
  const PatternNode &a = *node, &b = *o.node;
  auto sameExpr = [](const Expr &x, const Expr &y) { return x.same(y); };
  auto samePattern = [](const Pattern &x, const Pattern &y) { return x.same(y); };
  return a.kind == b.kind && a.ints == b.ints && a.ranges == b.ranges && a.operands == b.operands &&
         std::equal(a.exprs.begin(), a.exprs.end(), b.exprs.begin(), b.exprs.end(), sameExpr) &&
         std::equal(a.children.begin(), a.children.end(), b.children.begin(), b.children.end(), samePattern);
}

size_t Pattern::hash() const {
  uint64_t h = 0xcbf29ce484222325u;
  auto mix = [&h](uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
  };
  walk(*this, [&](const PatternNode &n) {
    mix(static_cast<uint64_t>(n.kind));
    mix(n.children.size());
    forEachInt(n, [&](const IntArg &a) {
      mix(a.kind);
      mix(static_cast<uint64_t>(a.value));
    });
    mix(n.ints.size());
    for (int64_t o : n.operands) {
      mix(static_cast<uint64_t>(o));
    }
    for (const Expr &root : n.exprs) {
      walk(root, [&](const ExprNode &e) {
        mix(static_cast<uint64_t>(e.kind));
        mix(static_cast<uint64_t>(e.symbol));
        mix(static_cast<uint64_t>(e.value));
      });
    }
  });
  return static_cast<size_t>(h);
}

//===----------------------------------------------------------------------===//
// Queries
//===----------------------------------------------------------------------===//

/// As walk, leaving out what `positions` evaluates at loaded positions.
template <typename Fn> static void walkPositions(const Pattern &p, const Fn &fn) {
  fn(*p);
  if (p->kind != PatternKind::Positions) {
    for (const Pattern &c : p->children) {
      walkPositions(c, fn);
    }
  }
}

bool Pattern::dependsOnQuery() const {
  bool depends = false;
  walkPositions(*this, [&](const PatternNode &n) {
    switch (n.kind) {
    case PatternKind::Causal:
    case PatternKind::Window:
    case PatternKind::Stride:
    case PatternKind::Block:
    case PatternKind::QueryMod:
    case PatternKind::Offsets:
    case PatternKind::Neighborhood:
    case PatternKind::PastBlocks:
    case PatternKind::Parent:
    case PatternKind::RandomBlocks:
      depends = true;
      break;
    case PatternKind::Queries:
    case PatternKind::GlobalTokens:
      depends |= n.operands.empty() && !n.ranges.empty();
      break;
    case PatternKind::Holds:
    case PatternKind::AffineSet:
      depends |= n.exprs[0].mentions(Sym::Query) || n.exprs[0].mentions(Sym::QueryEnd);
      break;
    default:
      break;
    }
  });
  return depends;
}

std::vector<int64_t> Pattern::tensorOperands() const {
  std::set<int64_t> found;
  walk(*this, [&](const PatternNode &n) {
    found.insert(n.operands.begin(), n.operands.end());
    for (const Expr &root : n.exprs) {
      walk(root, [&](const ExprNode &e) {
        if (e.kind == ExprKind::Load) {
          found.insert(e.value);
        }
      });
    }
  });
  return {found.begin(), found.end()};
}

std::vector<int64_t> Pattern::scalarOperands() const {
  std::set<int64_t> found;
  walk(*this, [&](const PatternNode &n) {
    forEachInt(n, [&](const IntArg &a) {
      if (a.kind == IntArg::Operand) {
        found.insert(a.value);
      }
    });
    for (const Expr &root : n.exprs) {
      walk(root, [&](const ExprNode &e) {
        if (e.kind == ExprKind::Scalar) {
          found.insert(e.value);
        }
      });
    }
  });
  return {found.begin(), found.end()};
}

bool Pattern::hasOperands() const { return !tensorOperands().empty() || !scalarOperands().empty(); }

Pattern Pattern::renumber(const std::function<int64_t(int64_t)> &map) const {
  PatternNode n = *node;
  auto renumberInt = [&](IntArg &a) {
    if (a.kind == IntArg::Operand) {
      a.value = map(a.value);
    }
  };
  std::for_each(n.ints.begin(), n.ints.end(), renumberInt);
  for (RangeArg &r : n.ranges) {
    renumberInt(r.lo);
    renumberInt(r.hi);
  }
  for (int64_t &o : n.operands) {
    o = map(o);
  }
  for (Expr &root : n.exprs) {
    // Loads are rebuilt by hand: their indices need renumbering too.
    std::function<Expr(const ExprNode &)> leaf = [&](const ExprNode &e) {
      if (e.kind == ExprKind::Scalar) {
        return Expr::scalar(map(e.value));
      }
      if (e.kind == ExprKind::Load) {
        std::vector<Expr> indices;
        for (const Expr &a : e.args) {
          indices.push_back(a.substitute(leaf));
        }
        return Expr::load(map(e.value), std::move(indices), e.type);
      }
      return Expr();
    };
    root = root.substitute(leaf);
  }
  for (Pattern &c : n.children) {
    c = c.renumber(map);
  }
  return make(std::move(n));
}

Pattern Pattern::withLoadTypes(const std::function<ExprType(int64_t)> &type) const {
  PatternNode n = *node;
  for (Expr &root : n.exprs) {
    std::function<Expr(const ExprNode &)> leaf = [&](const ExprNode &e) {
      if (e.kind != ExprKind::Load) {
        return Expr();
      }
      std::vector<Expr> indices;
      for (const Expr &a : e.args) {
        indices.push_back(a.substitute(leaf));
      }
      return Expr::load(e.value, std::move(indices), type(e.value));
    };
    root = root.substitute(leaf);
  }
  for (Pattern &c : n.children) {
    c = c.withLoadTypes(type);
  }
  return make(std::move(n));
}

//===----------------------------------------------------------------------===//
// Constraints
//===----------------------------------------------------------------------===//

namespace {

using Problem = std::optional<std::string>;

std::string text(const IntArg &a) {
  switch (a.kind) {
  case IntArg::Literal:
    return std::to_string(a.value);
  case IntArg::Infinity:
    return "inf";
  case IntArg::End:
    return "end";
  case IntArg::Operand:
    return "a run-time integer";
  }
  return "?";
}

/// Checks the arguments of one node; children are the caller's.
class Verifier {
public:
  explicit Verifier(const PatternNode &n) : n(n), name(nameOf(n.kind)) {}

  Problem run() {
    Problem p = shape();
    if (!p) {
      p = literals();
    }
    return p ? p : byKind();
  }

private:
  static std::string nameOf(PatternKind kind) {
    switch (kind) {
    case PatternKind::Coarse:
      return "coarse";
    case PatternKind::Grid:
      return "grid";
    case PatternKind::Remap:
      return "remap";
    case PatternKind::Shift:
      return "shift";
    case PatternKind::AffineSet:
      return "affine_set";
    case PatternKind::Holds:
      return "holds";
    case PatternKind::PerHead:
      return "per_head";
    case PatternKind::And:
      return "&";
    case PatternKind::Or:
      return "|";
    case PatternKind::Sub:
      return "-";
    case PatternKind::Not:
      return "~";
    case PatternKind::Empty:
      return "~full";
    default:
      return primitiveInfo(kind).name;
    }
  }

  Problem expected(const std::string &what, const std::string &got) const {
    return "expected " + what + " in '" + name + "', but got " + got;
  }

  /// What a hand-built node may lack.
  Problem shape() const {
    size_t ints = 0, children = 0, exprs = 0, operands = 0;
    switch (n.kind) {
    case PatternKind::And:
    case PatternKind::Or:
      return n.children.size() < 2 ? expected("two or more patterns", std::to_string(n.children.size())) : Problem();
    case PatternKind::PerHead: // per_head_c1
      return n.children.empty() ? expected("at least one pattern", "none") : Problem();
    case PatternKind::Remap: // remap_c2
      return n.children.empty() || n.children.size() != n.exprs.size()
                 ? expected("one pattern for each result of the map", std::to_string(n.children.size()) +
                                                                          " patterns and " +
                                                                          std::to_string(n.exprs.size()) + " results")
                 : Problem();
    case PatternKind::Sub:
      children = 2;
      break;
    case PatternKind::Not:
      children = 1;
      break;
    case PatternKind::Coarse:
      ints = 2;
      children = 1;
      break;
    case PatternKind::Grid:
      ints = 1;
      children = 2;
      break;
    case PatternKind::Shift:
      ints = children = 1;
      break;
    case PatternKind::AffineSet:
    case PatternKind::Holds:
      exprs = 1;
      break;
    case PatternKind::Full:
    case PatternKind::Empty:
      break;
    default: {
      const PrimitiveInfo &info = primitiveInfo(n.kind);
      if (info.takesList) {
        return n.operands.size() > 1 || (!n.operands.empty() && !(n.ranges.empty() && n.ints.empty()))
                   ? expected("a list or one operand", "both")
                   : Problem();
      }
      ints = info.parameters.size();
      operands = static_cast<size_t>(info.operands);
      children = static_cast<size_t>(info.children);
      break;
    }
    }
    if (n.ints.size() != ints || n.children.size() != children || n.exprs.size() != exprs ||
        n.operands.size() != operands) {
      return expected(std::to_string(ints) + " integers, " + std::to_string(operands) + " operands and " +
                          std::to_string(children) + " patterns",
                      std::to_string(n.ints.size()) + ", " + std::to_string(n.operands.size()) + " and " +
                          std::to_string(n.children.size()));
    }
    return std::nullopt;
  }

  /// Size of literals, and where `inf` and `end` may stand.
  Problem literals() const {
    Problem p;
    forEachInt(n, [&](const IntArg &a) {
      if (a.value > maxLiteral || a.value < -maxLiteral) {
        p = expected("integers of at most 2^62", std::to_string(a.value));
      } else if (a.kind == IntArg::Operand && a.value < 0) {
        p = expected("the number of an operand", std::to_string(a.value));
      }
    });
    for (size_t k = 0; k < n.ints.size(); ++k) {
      bool windowBound = n.kind == PatternKind::Window && k < 2;
      if (n.ints[k].kind == IntArg::End) {
        return expected("'end' only in lists of positions", "it elsewhere");
      }
      if (n.ints[k].kind == IntArg::Infinity && !windowBound) {
        return expected("'inf' only as the bound of a window or of a range", "it elsewhere");
      }
    }
    for (const RangeArg &r : n.ranges) { // list_c1
      if (r.lo.kind == IntArg::Infinity) {
        return expected("a finite start of a range", "inf");
      }
      if (r.lo.kind == IntArg::Literal && r.hi.kind == IntArg::Literal && r.hi.value < r.lo.value) {
        return expected("a range that does not end before it starts",
                        std::to_string(r.lo.value) + " to " + std::to_string(r.hi.value));
      }
    }
    for (int64_t o : n.operands) {
      if (o < 0) {
        return expected("the number of an operand", std::to_string(o));
      }
    }
    return p;
  }

  /// ints[k] is a positive literal (it divides).
  Problem divisor(size_t k, const char *what) const {
    if (n.ints[k].kind != IntArg::Literal || n.ints[k].value <= 0) {
      return expected("a positive constant as the " + std::string(what), text(n.ints[k]));
    }
    return std::nullopt;
  }

  /// ints[k], where it is a literal, is at least `least`.
  Problem atLeast(size_t k, int64_t least, const char *what) const {
    if (n.ints[k].kind == IntArg::Literal && n.ints[k].value < least) {
      return expected(std::string(what) + " of at least " + std::to_string(least), std::to_string(n.ints[k].value));
    }
    return std::nullopt;
  }

  Problem flag(size_t k, const char *what) const {
    if (n.ints[k].kind != IntArg::Literal || n.ints[k].value < 0 || n.ints[k].value > 1) {
      return expected("true or false as '" + std::string(what) + "'", text(n.ints[k]));
    }
    return std::nullopt;
  }

  static Problem first(std::initializer_list<Problem> problems) {
    for (const Problem &p : problems) {
      if (p) {
        return p;
      }
    }
    return std::nullopt;
  }

  Problem mod() const {
    if (Problem p = divisor(0, "modulus")) { // mod_c1
      return p;
    }
    const IntArg &lo = n.ints[1], &hi = n.ints[2]; // mod_c2
    bool bad = (lo.kind == IntArg::Literal && (lo.value < 0 || lo.value >= n.ints[0].value)) ||
               (hi.kind == IntArg::Literal && (hi.value < 1 || hi.value > n.ints[0].value)) ||
               (lo.kind == IntArg::Literal && hi.kind == IntArg::Literal && lo.value >= hi.value);
    return bad ? expected("0 <= lo < hi <= n", "lo = " + text(lo) + ", hi = " + text(hi) + ", n = " + text(n.ints[0]))
               : Problem();
  }

  Problem stride() const {
    if (Problem p = divisor(0, "stride")) { // stride_c1
      return p;
    }
    const IntArg &phase = n.ints[1]; // stride_c2
    bool bad = phase.kind == IntArg::Literal && (phase.value < 0 || phase.value >= n.ints[0].value);
    return bad ? expected("a phase in [0, " + text(n.ints[0]) + ")", text(phase)) : Problem();
  }

  /// neighborhood_c1, neighborhood_c2, neighborhood_c3.
  Problem neighborhood() const {
    Problem p = first({atLeast(0, 1, "a size"), atLeast(1, 1, "an extent"), divisor(2, "stride"),
                       divisor(3, "dilation"), flag(4, "causal")});
    if (p) {
      return p;
    }
    const IntArg &size = n.ints[0], &extent = n.ints[1], &stride = n.ints[2];
    if (size.kind == IntArg::Literal && stride.value > size.value) {
      return expected("a stride of at most the size " + text(size), text(stride));
    }
    if (size.kind == IntArg::Literal && extent.kind == IntArg::Literal && size.value > extent.value / n.ints[3].value) {
      return expected("size * dilation of at most the extent " + text(extent), text(size) + " * " + text(n.ints[3]));
    }
    return std::nullopt;
  }

  /// affine_set_c1 and holds_c1.
  Problem condition() const {
    Problem p;
    if (n.exprs[0].isNull()) {
      return expected("a condition", "none");
    }
    if (n.exprs[0]->type != ExprType::Bool) {
      return expected("a condition", "a number");
    }
    if (n.exprs[0]->depth > Expr::maxHeight) {
      return expected("an expression at most " + std::to_string(Expr::maxHeight) + " operators high",
                      std::to_string(n.exprs[0]->depth));
    }
    walk(n.exprs[0], [&](const ExprNode &e) {
      bool operand = e.kind == ExprKind::Scalar || e.kind == ExprKind::Load;
      if ((e.kind == ExprKind::Int || operand) && (e.value > maxLiteral || e.value < (operand ? 0 : -maxLiteral))) {
        p = expected("integers of at most 2^62", std::to_string(e.value));
      }
      if (e.kind >= ExprKind::Member) {
        p = expected("arithmetic on loaded elements", std::string("'") + spelling(e.kind) + "'");
      }
      if (n.kind == PatternKind::AffineSet && !isAffine(e)) {
        p = expected("a quasi-affine constraint", "another expression");
      }
    });
    return p;
  }

  static bool isConstant(const Expr &e) { return e->kind == ExprKind::Int; }
  static bool isAffine(const ExprNode &e) {
    switch (e.kind) {
    case ExprKind::Int:
    case ExprKind::Add:
    case ExprKind::Sub:
    case ExprKind::Neg:
    case ExprKind::Ge:
    case ExprKind::Le:
    case ExprKind::Eq:
      return true;
    case ExprKind::And:
      return e.type == ExprType::Bool;
    case ExprKind::Symbol:
      return e.symbol == Sym::Query || e.symbol == Sym::Key || e.symbol == Sym::QueryEnd || e.symbol == Sym::KeyEnd;
    case ExprKind::Mul:
      return isConstant(e.args[0]) || isConstant(e.args[1]);
    case ExprKind::FloorDiv:
    case ExprKind::Mod:
      return isConstant(e.args[1]) && e.args[1]->value > 0;
    default:
      return false;
    }
  }

  /// remap_c1.
  Problem remap() const {
    for (const Expr &e : n.exprs) {
      Problem p;
      walk(e, [&](const ExprNode &x) {
        bool otherSymbol = x.kind == ExprKind::Symbol && x.symbol != Sym::Query;
        if (!isAffine(x) || x.type != ExprType::Int || otherSymbol) {
          p = expected("a quasi-affine map of one dimension", "another expression");
        }
      });
      if (p.has_value() || e.isNull() || e->depth > Expr::maxHeight) {
        return p ? p : expected("a quasi-affine map of one dimension", "none");
      }
    }
    return std::nullopt;
  }

  Problem byKind() const {
    switch (n.kind) {
    case PatternKind::Window: // window_c1, window_c2
      return first({atLeast(0, 0, "a left count"), atLeast(1, 0, "a right count"), divisor(2, "dilation")});
    case PatternKind::Stride:
      return stride();
    case PatternKind::Block:  // block_c1
    case PatternKind::Parent: // parent_c1
      return divisor(0, "block");
    case PatternKind::KeyMod:
    case PatternKind::QueryMod:
      return mod();
    case PatternKind::Coarse: // coarse_c1
      return first({divisor(0, "block"), divisor(1, "block")});
    case PatternKind::Grid: // grid_c1
      return divisor(0, "width");
    case PatternKind::Neighborhood:
      return neighborhood();
    case PatternKind::PastBlocks: // past_blocks_c1
      return first({divisor(0, "block"), atLeast(1, 0, "a size"), flag(2, "inclusive")});
    case PatternKind::RandomBlocks: // random_blocks_c1
      for (const IntArg &a : n.ints) {
        if (a.kind != IntArg::Literal) {
          return expected("constants", text(a));
        }
      }
      if (n.ints[1].value > 65536) {
        return expected("at most 65536 blocks per row", text(n.ints[1]));
      }
      return first({divisor(0, "block"), atLeast(1, 0, "a number of blocks")});
    case PatternKind::Remap:
      return remap();
    case PatternKind::AffineSet:
    case PatternKind::Holds:
      return condition();
    default:
      return std::nullopt;
    }
  }

  const PatternNode &n;
  std::string name;
};

Problem verifyTree(const Pattern &p) {
  if (Problem problem = p.verifyRoot()) {
    return problem;
  }
  for (const Pattern &c : p->children) {
    if (Problem problem = verifyTree(c)) {
      return problem;
    }
  }
  return std::nullopt;
}

} // namespace

std::optional<std::string> Pattern::verifyRoot() const { return Verifier(*node).run(); }

std::optional<std::string> Pattern::verify() const {
  if (node->depth > maxDepth) {
    return "expected a pattern nested at most " + std::to_string(maxDepth) + " deep, but got " +
           std::to_string(node->depth);
  }
  return verifyTree(*this);
}

} // namespace heddle
