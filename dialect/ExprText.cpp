//===- ExprText.cpp - The text of expressions -----------------------------===//
//
// One pair of parentheses around each operator: parsing it gives the same tree.
//
//===----------------------------------------------------------------------===//
#include "dialect/Expr.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace heddle {

const char *spelling(Sym s) {
  switch (s) {
  case Sym::Batch:
    return "b";
  case Sym::Head:
    return "h";
  case Sym::Query:
    return "i";
  case Sym::Key:
    return "j";
  case Sym::QueryEnd:
    return "nq";
  case Sym::KeyEnd:
    return "nk";
  case Sym::QueryRow:
    return "qrow";
  case Sym::KeyRow:
    return "krow";
  case Sym::KeyOffset:
    return "koff";
  case Sym::Choice:
    return "choice";
  case Sym::Heads:
    return "heads";
  case Sym::Entry:
    return "entry";
  }
  return "?";
}

const char *spelling(ExprKind kind, bool words) {
  switch (kind) {
  case ExprKind::Add:
    return "+";
  case ExprKind::Sub:
  case ExprKind::Neg:
    return "-";
  case ExprKind::Mul:
    return "*";
  case ExprKind::FloorDiv:
    return "floordiv";
  case ExprKind::Mod:
    return "mod";
  case ExprKind::Div:
    return "/";
  case ExprKind::Min:
    return "min";
  case ExprKind::Max:
    return "max";
  case ExprKind::Abs:
    return "abs";
  case ExprKind::And:
    return "&";
  case ExprKind::Or:
    return "|";
  case ExprKind::Xor:
    return "^";
  case ExprKind::Not:
    return "~";
  case ExprKind::Shl:
    return words ? "shl" : "<<";
  case ExprKind::Shr:
    return words ? "shr" : ">>";
  case ExprKind::Lt:
    return words ? "lt" : "<";
  case ExprKind::Le:
    return words ? "le" : "<=";
  case ExprKind::Gt:
    return words ? "gt" : ">";
  case ExprKind::Ge:
    return words ? "ge" : ">=";
  case ExprKind::Eq:
    return "==";
  case ExprKind::Ne:
    return "!=";
  case ExprKind::Select:
    return "select";
  case ExprKind::Draw:
    return "draw";
  case ExprKind::Drawn:
    return "drawn";
  case ExprKind::Exp:
    return "exp";
  case ExprKind::Exp2:
    return "exp2";
  case ExprKind::Log:
    return "log";
  case ExprKind::Sqrt:
    return "sqrt";
  case ExprKind::Tanh:
    return "tanh";
  case ExprKind::Floor:
    return "floor";
  case ExprKind::Sigmoid:
    return "sigmoid";
  case ExprKind::Erf:
    return "erf";
  case ExprKind::Sin:
    return "sin";
  case ExprKind::Cos:
    return "cos";
  case ExprKind::Member:
    return "member";
  case ExprKind::Search:
    return "search";
  case ExprKind::Size:
    return "size";
  default:
    return "";
  }
}

namespace {

std::string numberText(double v) {
  if (std::isnan(v)) {
    return "nan";
  }
  if (std::isinf(v)) {
    return v < 0 ? "-inf" : "inf";
  }
  char buffer[40];
  for (int digits : {6, 15, 17}) {
    std::snprintf(buffer, sizeof buffer, "%.*g", digits, v);
    if (std::strtod(buffer, nullptr) == v) {
      break;
    }
  }
  std::string s = buffer;
  return s.find_first_of(".e") == std::string::npos ? s + ".0" : s;
}

struct Printer {
  const std::function<std::string(int64_t)> &operandName;
  bool words;
  const char *queryName;
  std::string out;

  void operand(int64_t n) { out += operandName ? operandName(n) : "%" + std::to_string(n); }

  void list(const std::vector<Expr> &args, const char *open, const char *close) {
    out += open;
    for (size_t k = 0; k < args.size(); ++k) {
      out += k ? ", " : "";
      print(args[k]);
    }
    out += close;
  }

  void leaf(const ExprNode &n) {
    if (n.kind == ExprKind::Int && n.type == ExprType::Bool) {
      out += n.value ? "true" : "false";
    } else if (n.kind == ExprKind::Int) {
      out += std::to_string(n.value);
    } else if (n.kind == ExprKind::Float) {
      out += numberText(n.num);
    } else if (n.kind == ExprKind::Symbol) {
      out += queryName && n.symbol == Sym::Query ? queryName : spelling(n.symbol);
    } else {
      operand(n.value);
    }
  }

  void load(const ExprNode &n) {
    const char *cast = n.type == ExprType::Int ? "" : n.type == ExprType::Float ? "float(" : "bool(";
    out += cast;
    operand(n.value);
    list(n.args, "[", "]");
    out += *cast ? ")" : "";
  }

  void print(const Expr &e) {
    const ExprNode &n = *e;
    if (n.kind == ExprKind::Load) {
      load(n);
    } else if (n.args.empty()) {
      leaf(n);
    } else if (n.kind == ExprKind::Neg || n.kind == ExprKind::Not) {
      out += n.kind == ExprKind::Neg ? "(-" : "(~";
      print(n.args[0]);
      out += ")";
    } else if (n.args.size() == 2 && n.kind != ExprKind::Min && n.kind != ExprKind::Max && n.kind < ExprKind::Member) {
      out += "(";
      print(n.args[0]);
      out += std::string(" ") + spelling(n.kind, words) + " ";
      print(n.args[1]);
      out += ")";
    } else {
      out += spelling(n.kind, words);
      list(n.args, "(", ")");
    }
  }
};

} // namespace

std::string Expr::str(const std::function<std::string(int64_t)> &operandName, bool words, const char *queryName) const {
  Printer p{operandName, words, queryName, {}};
  if (node) {
    p.print(*this);
  }
  return std::move(p.out);
}

} // namespace heddle
