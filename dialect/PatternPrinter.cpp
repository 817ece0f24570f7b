//===- PatternPrinter.cpp - The text form of patterns ---------------------===//
//
// Operators get parentheses only where the precedence of `~`, `-`, `&`, `|`
// needs them; arguments that equal their default are left out. Parsing the text
// gives the same tree back.
//
//===----------------------------------------------------------------------===//
#include "dialect/Pattern.h"

#include "dialect/PatternTables.h"

namespace heddle {

namespace {

enum : int { LevelOr, LevelAnd, LevelSub, LevelNot, LevelPrimary };

int levelOf(const Pattern &p) {
  switch (p->kind) {
  case PatternKind::Or:
    return LevelOr;
  case PatternKind::And:
    return LevelAnd;
  case PatternKind::Sub:
    return LevelSub;
  case PatternKind::Not:
  case PatternKind::Empty:
    return LevelNot;
  default:
    return LevelPrimary;
  }
}

struct Printer {
  const std::function<std::string(int64_t)> &operandName;
  bool words;
  std::string out;

  void operand(int64_t n) { out += operandName ? operandName(n) : "%" + std::to_string(n); }

  void integer(const IntArg &a) {
    switch (a.kind) {
    case IntArg::Literal:
      out += std::to_string(a.value);
      break;
    case IntArg::Infinity:
      out += "inf";
      break;
    case IntArg::Operand:
      operand(a.value);
      break;
    case IntArg::End:
      out += "end";
      if (a.value > 0) {
        out += " - " + std::to_string(a.value);
      } else if (a.value < 0) { // -INT64_MIN has no int64_t.
        out += " + " + std::to_string(0 - static_cast<uint64_t>(a.value));
      }
      break;
    }
  }

  /// True where [lo, hi) is one integer with a spelling of its own.
  static bool isSingle(const RangeArg &r) {
    if (r.lo.kind != r.hi.kind) {
      return false;
    }
    if (r.lo.kind == IntArg::Literal) {
      return r.lo.value < r.hi.value && r.hi.value - 1 == r.lo.value;
    }
    return r.lo.kind == IntArg::End && r.hi.value < r.lo.value && r.hi.value == r.lo.value - 1;
  }

  void list(const PatternNode &n) {
    if (!n.operands.empty()) {
      operand(n.operands[0]);
      return;
    }
    out += "[";
    const char *comma = "";
    for (const RangeArg &r : n.ranges) {
      out += comma;
      comma = ", ";
      integer(r.lo);
      if (!isSingle(r)) {
        out += " to ";
        integer(r.hi);
      }
    }
    if (n.kind == PatternKind::Offsets) {
      for (const IntArg &a : n.ints) {
        out += comma;
        comma = ", ";
        integer(a);
      }
    }
    out += "]";
  }

  void parameters(const PatternNode &n, const PrimitiveInfo &info) {
    const char *comma = "";
    bool named = false;
    for (size_t k = 0; k < info.parameters.size(); ++k) {
      const Parameter &param = info.parameters[k];
      IntArg value = k < n.ints.size() ? n.ints[k] : IntArg(0);
      if (param.hasDefault && value == param.defaultOf(n.ints)) {
        named = true;
        continue;
      }
      out += comma;
      comma = ", ";
      if (named || param.hasDefault) {
        named = true;
        out += std::string(param.name) + " = ";
      }
      if (param.isFlag && value.kind == IntArg::Literal && (value.value == 0 || value.value == 1)) {
        out += value.value ? "true" : "false";
      } else {
        integer(value);
      }
    }
  }

  void children(const PatternNode &n, const char *comma) {
    for (const Pattern &c : n.children) {
      out += comma;
      comma = ", ";
      print(c);
    }
  }

  void infix(const PatternNode &n, int level, const char *symbol) {
    for (size_t k = 0; k < n.children.size(); ++k) {
      out += k ? symbol : "";
      bool firstOfSub = n.kind == PatternKind::Sub && k == 0;
      wrapped(n.children[k], firstOfSub ? level : level + 1);
    }
  }

  void wrapped(const Pattern &p, int level) {
    bool parens = levelOf(p) < level;
    out += parens ? "(" : "";
    print(p);
    out += parens ? ")" : "";
  }

  void affineSet(const Expr &e) {
    if (e->kind == ExprKind::And) {
      affineSet(e->args[0]);
      out += ", ";
      affineSet(e->args[1]);
    } else if (e->kind == ExprKind::Int) {
      out += e->value ? "0 == 0" : "1 == 0";
    } else {
      bare(e.str({}, words));
    }
  }

  /// An expression without its outer parentheses.
  void bare(const std::string &s) { out += s.size() > 2 && s.front() == '(' ? s.substr(1, s.size() - 2) : s; }

  void coordinates(const PatternNode &n) {
    switch (n.kind) {
    case PatternKind::Coarse: {
      out += "coarse(";
      integer(n.ints[0]);
      if (n.ints[1] != n.ints[0]) {
        out += ", ";
        integer(n.ints[1]);
      }
      break;
    }
    case PatternKind::Grid:
    case PatternKind::Shift:
      out += n.kind == PatternKind::Grid ? "grid(" : "shift(";
      integer(n.ints[0]);
      break;
    default:
      out += "remap(affine_map<(x) -> (";
      for (size_t k = 0; k < n.exprs.size(); ++k) {
        out += k ? ", " : "";
        bare(n.exprs[k].str({}, words, "x"));
      }
      out += ")>";
      break;
    }
    children(n, ", ");
    out += ")";
  }

  void operands(const PatternNode &n) {
    const char *comma = "";
    for (int64_t o : n.operands) {
      out += comma;
      comma = ", ";
      operand(o);
    }
    children(n, comma);
    out += ")";
  }

  void print(const Pattern &p) {
    const PatternNode &n = *p;
    switch (n.kind) {
    case PatternKind::Or:
      return infix(n, LevelOr, " | ");
    case PatternKind::And:
      return infix(n, LevelAnd, " & ");
    case PatternKind::Sub:
      return infix(n, LevelSub, " - ");
    case PatternKind::Empty:
      out += "~full";
      return;
    case PatternKind::Not:
      out += "~";
      // `~full` is the empty pattern; the complement of `full` keeps its parentheses.
      return wrapped(n.children[0], n.children[0]->kind == PatternKind::Full ? LevelPrimary + 1 : LevelNot);
    case PatternKind::AffineSet:
      out += "affine_set<(i, j)[nq, nk] : (";
      affineSet(n.exprs[0]);
      out += ")>";
      return;
    case PatternKind::Holds:
      out += "holds(b, h, i, j : " + n.exprs[0].str(operandName, words) + ")";
      return;
    case PatternKind::Coarse:
    case PatternKind::Grid:
    case PatternKind::Shift:
    case PatternKind::Remap:
      return coordinates(n);
    case PatternKind::PerHead:
      out += "per_head([";
      children(n, "");
      out += "])";
      return;
    default:
      return primitive(n);
    }
  }

  void primitive(const PatternNode &n) {
    const PrimitiveInfo &info = primitiveInfo(n.kind);
    out += info.name;
    if (n.kind == PatternKind::Full || (n.kind == PatternKind::Causal && (n.ints.empty() || n.ints[0] == IntArg(0)))) {
      return;
    }
    out += "(";
    if (info.takesList) {
      list(n);
      out += ")";
    } else if (info.operands) {
      operands(n);
    } else if (n.kind == PatternKind::Causal) {
      integer(n.ints[0]);
      out += ")";
    } else {
      parameters(n, info);
      out += ")";
    }
  }
};

} // namespace

std::string Pattern::str(const std::function<std::string(int64_t)> &operandName, bool words) const {
  Printer printer{operandName, words, {}};
  printer.print(*this);
  return std::move(printer.out);
}

} // namespace heddle
