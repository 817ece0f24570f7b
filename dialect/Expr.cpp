//===- Expr.cpp - Scalar expressions over a query and a key ---------------===//
//
// Building (with constant folding), comparing, printing and evaluating.
//
// Integers are 64 bits and wrap, as compiled code does; folding leaves alone
// what would overflow. Every node comes out of `Expr::make`, which is a
// function of its arguments: that is why parsing printed text gives the same
// tree back.
//
//===----------------------------------------------------------------------===//
#include "dialect/Expr.h"

#include "dialect/PatternMeaning.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <unordered_map>

namespace heddle {

namespace {

constexpr uint32_t maxDepth = 2000;

Expr finish(ExprNode n) {
  auto mix = [&](uint64_t x) { n.hash = (n.hash ^ x) * 0x9e3779b97f4a7c15u + (n.hash >> 29); };
  mix(static_cast<uint64_t>(n.kind) * 64 + static_cast<uint64_t>(n.type));
  mix(static_cast<uint64_t>(n.value));
  mix(std::isnan(n.num) ? 1 : std::bit_cast<uint64_t>(n.num));
  if (n.kind == ExprKind::Symbol) {
    mix(static_cast<uint64_t>(n.symbol));
    n.mentioned = 1u << static_cast<unsigned>(n.symbol);
  }
  n.loads = n.kind == ExprKind::Load;
  for (const Expr &a : n.args) {
    n.depth = std::max(n.depth, a->depth + 1);
    n.mentioned |= a->mentioned;
    n.loads |= a->loads;
    mix(a->hash);
  }
  if (n.depth > maxDepth) {
    throw std::length_error("expected an expression nested at most 2000 deep");
  }
  return Expr(std::make_shared<const ExprNode>(std::move(n)));
}

Expr boolean(bool v) {
  ExprNode n;
  n.kind = ExprKind::Int;
  n.type = ExprType::Bool;
  n.value = v;
  return finish(std::move(n));
}

bool isConst(const Expr &e) { return e->kind == ExprKind::Int; }
bool isBool(const Expr &e) { return e->type == ExprType::Bool; }
bool isFloat(const Expr &e) { return e->type == ExprType::Float; }
bool isTrue(const Expr &e) { return isConst(e) && isBool(e) && e->value; }
bool isFalse(const Expr &e) { return isConst(e) && isBool(e) && !e->value; }

int64_t wrapAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int64_t wrapSub(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
int64_t wrapMul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
int64_t floorDivide(int64_t a, int64_t b) {
  if (b == 0) {
    return 0;
  }
  if (b == -1) {
    return wrapSub(0, a);
  }
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a % b < 0) != (b < 0)));
}
int64_t floorModulo(int64_t a, int64_t b) {
  if (b == 0 || b == -1) {
    return 0;
  }
  int64_t r = a % b;
  return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
int64_t shiftLeft(int64_t a, int64_t n) {
  return n < 0 || n > 63 ? 0 : static_cast<int64_t>(static_cast<uint64_t>(a) << n);
}
int64_t shiftRight(int64_t a, int64_t n) { return n < 0 || n > 63 ? 0 : a >> n; }

int64_t toInt(double v) {
  if (std::isnan(v)) {
    return 0;
  }
  if (v >= 0x1p63) {
    return std::numeric_limits<int64_t>::max();
  }
  return v <= -0x1p63 ? std::numeric_limits<int64_t>::min() : static_cast<int64_t>(v);
}

ExprType promoted(const std::vector<Expr> &args) {
  return std::any_of(args.begin(), args.end(), isFloat) ? ExprType::Float : ExprType::Int;
}

ExprType typeOf(ExprKind kind, const std::vector<Expr> &args) {
  switch (kind) {
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Mul:
  case ExprKind::Neg:
  case ExprKind::FloorDiv:
  case ExprKind::Mod:
  case ExprKind::Min:
  case ExprKind::Max:
  case ExprKind::Abs:
    return promoted(args);
  case ExprKind::And:
  case ExprKind::Or:
  case ExprKind::Xor:
  case ExprKind::Not:
    return std::all_of(args.begin(), args.end(), isBool) ? ExprType::Bool : ExprType::Int;
  case ExprKind::Select: {
    std::vector<Expr> values(args.begin() + 1, args.end());
    return std::all_of(values.begin(), values.end(), isBool) ? ExprType::Bool : promoted(values);
  }
  case ExprKind::Lt:
  case ExprKind::Le:
  case ExprKind::Gt:
  case ExprKind::Ge:
  case ExprKind::Eq:
  case ExprKind::Ne:
  case ExprKind::Drawn:
  case ExprKind::Member:
    return ExprType::Bool;
  case ExprKind::Draw:
  case ExprKind::Int:
  case ExprKind::Symbol:
  case ExprKind::Scalar:
  case ExprKind::Load:
  case ExprKind::Shl:
  case ExprKind::Shr:
  case ExprKind::Search:
  case ExprKind::Size:
    return ExprType::Int;
  default:
    return ExprType::Float;
  }
}

/// The constant value of an integer operation, where it does not overflow.
bool foldIntegers(ExprKind kind, int64_t a, int64_t b, int64_t &r) {
  switch (kind) {
  case ExprKind::Add:
    return !__builtin_add_overflow(a, b, &r);
  case ExprKind::Sub:
    return !__builtin_sub_overflow(a, b, &r);
  case ExprKind::Mul:
    return !__builtin_mul_overflow(a, b, &r);
  case ExprKind::FloorDiv:
    r = floorDivide(a, b);
    return b != 0 && b != -1;
  case ExprKind::Mod:
    r = floorModulo(a, b);
    return b != 0;
  case ExprKind::Min:
    r = std::min(a, b);
    return true;
  case ExprKind::Max:
    r = std::max(a, b);
    return true;
  case ExprKind::And:
    r = a & b;
    return true;
  case ExprKind::Or:
    r = a | b;
    return true;
  case ExprKind::Xor:
    r = a ^ b;
    return true;
  case ExprKind::Shl:
    r = shiftLeft(a, b);
    return b >= 0 && b < 63 && shiftRight(r, b) == a;
  case ExprKind::Shr:
    r = shiftRight(a, b);
    return b >= 0 && b < 64;
  default:
    return false;
  }
}

template <typename T> bool compare(ExprKind kind, T a, T b) {
  switch (kind) {
  case ExprKind::Lt:
    return a < b;
  case ExprKind::Le:
    return a <= b;
  case ExprKind::Gt:
    return a > b;
  case ExprKind::Ge:
    return a >= b;
  case ExprKind::Eq:
    return a == b;
  default:
    return a != b;
  }
}

bool isComparison(ExprKind k) { return k >= ExprKind::Lt && k <= ExprKind::Ne; }

/// A folded form of kind(a, b), or null.
Expr foldBinary(ExprKind kind, ExprType type, const Expr &a, const Expr &b) {
  if (isConst(a) && isConst(b)) {
    if (isComparison(kind)) {
      return boolean(compare(kind, a->value, b->value));
    }
    int64_t r = 0;
    if (foldIntegers(kind, a->value, b->value, r)) {
      return type == ExprType::Bool ? boolean(r) : Expr(r);
    }
    return {};
  }
  bool intA = a->type == ExprType::Int, intB = b->type == ExprType::Int;
  switch (kind) {
  case ExprKind::Add:
    if (intB && a.isInt(0)) {
      return b;
    }
    [[fallthrough]];
  case ExprKind::Sub:
    return intA && b.isInt(0) ? a : Expr();
  case ExprKind::Mul:
    if (intA && intB && (a.isInt(0) || b.isInt(0))) {
      return Expr(0);
    }
    if (intB && a.isInt(1)) {
      return b;
    }
    return intA && b.isInt(1) ? a : Expr();
  case ExprKind::FloorDiv:
    return intA && b.isInt(1) ? a : Expr();
  case ExprKind::Mod:
    return intA && b.isInt(1) ? Expr(0) : Expr();
  case ExprKind::And:
    if (isTrue(a) || (isFalse(b) && isBool(a))) {
      return isBool(b) ? b : Expr();
    }
    return isBool(a) && isTrue(b) ? a : isFalse(a) && isBool(b) ? a : Expr();
  case ExprKind::Or:
    if (isFalse(a) || (isTrue(b) && isBool(a))) {
      return isBool(b) ? b : Expr();
    }
    return isBool(a) && isFalse(b) ? a : isTrue(a) && isBool(b) ? a : Expr();
  default:
    return {};
  }
}

Expr foldUnary(ExprKind kind, const Expr &a) {
  if (a->kind == ExprKind::Float && kind == ExprKind::Neg) {
    return Expr::number(-a->num);
  }
  if (!isConst(a)) {
    return {};
  }
  constexpr int64_t least = std::numeric_limits<int64_t>::min();
  switch (kind) {
  case ExprKind::Neg:
    return a->value == least ? Expr() : Expr(-a->value);
  case ExprKind::Abs:
    return a->value == least ? Expr() : Expr(std::abs(a->value));
  case ExprKind::Not:
    return isBool(a) ? boolean(!a->value) : Expr(~a->value);
  default:
    return {};
  }
}

} // namespace

Expr::Expr(int64_t value) {
  ExprNode n;
  n.kind = ExprKind::Int;
  n.value = value;
  *this = finish(std::move(n));
}

Expr Expr::boolean(bool value) { return heddle::boolean(value); }

Expr Expr::symbol(Sym s) {
  ExprNode n;
  n.kind = ExprKind::Symbol;
  n.symbol = s;
  return finish(std::move(n));
}

Expr Expr::number(double v) {
  ExprNode n;
  n.kind = ExprKind::Float;
  n.type = ExprType::Float;
  n.num = v;
  return finish(std::move(n));
}

Expr Expr::scalar(int64_t operand) {
  ExprNode n;
  n.kind = ExprKind::Scalar;
  n.value = operand;
  return finish(std::move(n));
}

Expr Expr::load(int64_t operand, std::vector<Expr> indices, ExprType type) {
  ExprNode n;
  n.kind = ExprKind::Load;
  n.type = type;
  n.value = operand;
  n.args = std::move(indices);
  return finish(std::move(n));
}

Expr Expr::member(int64_t operand, std::vector<Expr> at, Expr lo, Expr hi, Expr x) {
  at.insert(at.begin(), reference(operand));
  at.insert(at.end(), {std::move(lo), std::move(hi), std::move(x)});
  return make(ExprKind::Member, std::move(at));
}

Expr Expr::make(ExprKind kind, std::vector<Expr> args) {
  ExprNode n;
  n.kind = kind;
  n.type = typeOf(kind, args);
  Expr folded;
  if (args.size() == 1) {
    folded = foldUnary(kind, args[0]);
  } else if (args.size() == 2) {
    folded = foldBinary(kind, n.type, args[0], args[1]);
  } else if (kind == ExprKind::Select && isConst(args[0])) {
    const Expr &taken = args[0]->value ? args[1] : args[2];
    folded = taken->type == n.type ? taken : Expr();
  }
  if (folded) {
    return folded;
  }
  n.args = std::move(args);
  return finish(std::move(n));
}

bool Expr::isInt(int64_t v) const {
  return node && node->kind == ExprKind::Int && node->type == ExprType::Int && node->value == v;
}

bool Expr::same(const Expr &o) const {
  if (node == o.node) {
    return true;
  }
  if (!node || !o.node || node->hash != o->hash || node->kind != o->kind || node->type != o->type ||
      node->value != o->value || node->args.size() != o->args.size()) {
    return false;
  }
  if (node->kind == ExprKind::Symbol && node->symbol != o->symbol) {
    return false;
  }
  bool nans = std::isnan(node->num) && std::isnan(o->num);
  if (!nans && std::bit_cast<uint64_t>(node->num) != std::bit_cast<uint64_t>(o->num)) {
    return false;
  }
  for (size_t k = 0; k < node->args.size(); ++k) {
    if (!node->args[k].same(o->args[k])) {
      return false;
    }
  }
  return true;
}

/// Replaces leaves below `e`; `done` holds what shared nodes became.
static Expr substituted(const Expr &e, const std::function<Expr(const ExprNode &)> &fn,
                        std::unordered_map<const ExprNode *, Expr> &done) {
  if (e.isNull()) {
    return e;
  }
  if (e->args.empty() || e->kind == ExprKind::Load) {
    if (Expr r = fn(*e)) {
      return r;
    }
  }
  if (e->args.empty()) {
    return e;
  }
  auto found = done.find(&*e);
  if (found != done.end()) {
    return found->second;
  }
  std::vector<Expr> args;
  bool changed = false;
  for (const Expr &a : e->args) {
    args.push_back(substituted(a, fn, done));
    changed |= &*args.back() != &*a;
  }
  Expr result = e;
  if (changed) {
    result = e->kind == ExprKind::Load ? Expr::load(e->value, std::move(args), e->type)
                                       : Expr::make(e->kind, std::move(args));
  }
  done.emplace(&*e, result);
  return result;
}

Expr Expr::substitute(const std::function<Expr(const ExprNode &)> &fn) const {
  std::unordered_map<const ExprNode *, Expr> done;
  return substituted(*this, fn, done);
}

bool Expr::mentions(Sym s) const { return node && (node->mentioned >> static_cast<unsigned>(s) & 1) != 0; }

bool Expr::hasLoad() const { return node && node->loads; }

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

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

//===----------------------------------------------------------------------===//
// Operators
//===----------------------------------------------------------------------===//

Expr operator+(Expr a, Expr b) { return Expr::make(ExprKind::Add, {std::move(a), std::move(b)}); }
Expr operator-(Expr a, Expr b) { return Expr::make(ExprKind::Sub, {std::move(a), std::move(b)}); }
Expr operator*(Expr a, Expr b) { return Expr::make(ExprKind::Mul, {std::move(a), std::move(b)}); }
Expr floorDiv(Expr a, Expr b) { return Expr::make(ExprKind::FloorDiv, {std::move(a), std::move(b)}); }
Expr floorMod(Expr a, Expr b) { return Expr::make(ExprKind::Mod, {std::move(a), std::move(b)}); }
Expr min(Expr a, Expr b) { return Expr::make(ExprKind::Min, {std::move(a), std::move(b)}); }
Expr max(Expr a, Expr b) { return Expr::make(ExprKind::Max, {std::move(a), std::move(b)}); }
Expr operator&&(Expr a, Expr b) { return Expr::make(ExprKind::And, {std::move(a), std::move(b)}); }
Expr operator||(Expr a, Expr b) { return Expr::make(ExprKind::Or, {std::move(a), std::move(b)}); }
Expr operator!(Expr a) { return Expr::make(ExprKind::Not, {std::move(a)}); }
Expr operator<(Expr a, Expr b) { return Expr::make(ExprKind::Lt, {std::move(a), std::move(b)}); }
Expr operator<=(Expr a, Expr b) { return Expr::make(ExprKind::Le, {std::move(a), std::move(b)}); }
Expr operator>(Expr a, Expr b) { return Expr::make(ExprKind::Gt, {std::move(a), std::move(b)}); }
Expr operator>=(Expr a, Expr b) { return Expr::make(ExprKind::Ge, {std::move(a), std::move(b)}); }
Expr equal(Expr a, Expr b) { return Expr::make(ExprKind::Eq, {std::move(a), std::move(b)}); }
Expr notEqual(Expr a, Expr b) { return Expr::make(ExprKind::Ne, {std::move(a), std::move(b)}); }

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

namespace {

/// A 64-bit integer (also booleans) or a double.
struct Value {
  bool isFloat;
  int64_t i;
  double d;
  static Value integer(int64_t v) { return {false, v, 0}; }
  static Value real(double v) { return {true, 0, v}; }
  double asDouble() const { return isFloat ? d : static_cast<double>(i); }
  int64_t asInt() const { return isFloat ? toInt(d) : i; }
  bool truth() const { return isFloat ? d != 0 : i != 0; }
};

Value eval(const Expr &e, const ExprEnv &env);

int64_t symbolValue(Sym s, const ExprEnv &env) {
  switch (s) {
  case Sym::Batch:
    return env.b;
  case Sym::Head:
    return env.h;
  case Sym::Query:
    return env.i;
  case Sym::Key:
    return env.j;
  case Sym::QueryEnd:
    return env.nq;
  case Sym::KeyEnd:
    return env.nk;
  case Sym::QueryRow:
    return wrapSub(env.i, env.qOffset);
  case Sym::KeyRow:
    return wrapSub(env.j, env.kOffset);
  case Sym::KeyOffset:
    return env.kOffset;
  case Sym::Choice:
    return env.choice;
  case Sym::Heads:
    return std::max<int64_t>(env.heads, 1);
  case Sym::Entry:
    return env.entry;
  }
  return 0;
}

Value evalLoad(const ExprNode &n, const ExprEnv &env) {
  std::vector<int64_t> indices;
  for (const Expr &a : n.args) {
    indices.push_back(eval(a, env).asInt());
  }
  double v = env.load ? env.load(n.value, indices) : 0;
  if (n.type == ExprType::Float) {
    return Value::real(v);
  }
  return Value::integer(n.type == ExprType::Bool ? v != 0 : toInt(v));
}

/// Member, Search and Size.
Value evalList(const ExprNode &n, const ExprEnv &env) {
  const int64_t operand = n.args[0]->value;
  auto at = [&](size_t k) { return eval(n.args[k], env).asInt(); };
  auto size = [&](int64_t back) { return env.size ? env.size(operand, back) : 0; };
  if (n.kind == ExprKind::Size) {
    return Value::integer(size(at(1)));
  }
  const size_t rest = n.kind == ExprKind::Member ? 3 : 1;
  std::vector<int64_t> indices;
  for (size_t k = 1; k + rest < n.args.size(); ++k) {
    indices.push_back(at(k));
  }
  indices.push_back(0);
  const int64_t x = at(n.args.size() - 1);
  const bool search = n.kind == ExprKind::Search;
  int64_t lo = search ? 0 : std::max<int64_t>(at(n.args.size() - 3), 0), found = 0;
  int64_t hi = search ? size(0) : std::min(at(n.args.size() - 2), size(0));
  for (int64_t t = lo; t < hi && env.load; ++t) {
    indices.back() = t;
    int64_t entry = toInt(env.load(operand, indices));
    if (search ? entry > x : entry == x) {
      return Value::integer(search ? t : 1);
    }
    found = search ? t + 1 : 0;
  }
  return Value::integer(found);
}

int64_t integerOp(ExprKind kind, int64_t a, int64_t b) {
  switch (kind) {
  case ExprKind::Add:
    return wrapAdd(a, b);
  case ExprKind::Sub:
    return wrapSub(a, b);
  case ExprKind::Mul:
    return wrapMul(a, b);
  case ExprKind::FloorDiv:
    return floorDivide(a, b);
  case ExprKind::Mod:
    return floorModulo(a, b);
  case ExprKind::Min:
    return std::min(a, b);
  case ExprKind::Max:
    return std::max(a, b);
  case ExprKind::And:
    return a & b;
  case ExprKind::Or:
    return a | b;
  case ExprKind::Xor:
    return a ^ b;
  case ExprKind::Shl:
    return shiftLeft(a, b);
  case ExprKind::Shr:
    return shiftRight(a, b);
  default:
    return 0;
  }
}

double floatOp(ExprKind kind, double a, double b) {
  switch (kind) {
  case ExprKind::Add:
    return a + b;
  case ExprKind::Sub:
    return a - b;
  case ExprKind::Mul:
    return a * b;
  case ExprKind::Div:
    return a / b;
  case ExprKind::FloorDiv:
    return std::floor(a / b);
  case ExprKind::Mod:
    return a - b * std::floor(a / b);
  case ExprKind::Min: // NaN wins, as in the formula.
    return std::isnan(a) || a < b ? a : b;
  case ExprKind::Max:
    return std::isnan(a) || a > b ? a : b;
  default:
    return 0;
  }
}

double floatFunction(ExprKind kind, double x) {
  switch (kind) {
  case ExprKind::Exp:
    return std::exp(x);
  case ExprKind::Exp2:
    return std::exp2(x);
  case ExprKind::Log:
    return std::log(x);
  case ExprKind::Sqrt:
    return std::sqrt(x);
  case ExprKind::Tanh:
    return std::tanh(x);
  case ExprKind::Floor:
    return std::floor(x);
  case ExprKind::Sigmoid:
    return 1 / (1 + std::exp(-x));
  case ExprKind::Erf:
    return std::erf(x);
  case ExprKind::Sin:
    return std::sin(x);
  default:
    return std::cos(x);
  }
}

Value evalUnary(const ExprNode &n, Value a) {
  switch (n.kind) {
  case ExprKind::Neg:
    return a.isFloat ? Value::real(-a.d) : Value::integer(wrapSub(0, a.i));
  case ExprKind::Abs:
    return a.isFloat ? Value::real(std::fabs(a.d)) : Value::integer(a.i < 0 ? wrapSub(0, a.i) : a.i);
  case ExprKind::Not:
    return Value::integer(n.type == ExprType::Bool ? !a.truth() : ~a.asInt());
  default:
    return Value::real(floatFunction(n.kind, a.asDouble()));
  }
}

Value evalBinary(const ExprNode &n, Value a, Value b) {
  bool real = a.isFloat || b.isFloat;
  if (isComparison(n.kind)) {
    return Value::integer(real ? compare(n.kind, a.asDouble(), b.asDouble()) : compare(n.kind, a.i, b.i));
  }
  if (n.type == ExprType::Float) {
    return Value::real(floatOp(n.kind, a.asDouble(), b.asDouble()));
  }
  return Value::integer(integerOp(n.kind, a.asInt(), b.asInt()));
}

Value eval(const Expr &e, const ExprEnv &env) {
  const ExprNode &n = *e;
  switch (n.kind) {
  case ExprKind::Int:
    return Value::integer(n.value);
  case ExprKind::Float:
    return Value::real(n.num);
  case ExprKind::Symbol:
    return Value::integer(symbolValue(n.symbol, env));
  case ExprKind::Scalar:
    return Value::integer(env.scalar ? env.scalar(n.value) : 0);
  case ExprKind::Load:
    return evalLoad(n, env);
  case ExprKind::Member:
  case ExprKind::Search:
  case ExprKind::Size:
    return evalList(n, env);
  case ExprKind::Select: {
    Value v = eval(eval(n.args[0], env).truth() ? n.args[1] : n.args[2], env);
    return n.type == ExprType::Float ? Value::real(v.asDouble()) : v;
  }
  case ExprKind::Draw:
  case ExprKind::Drawn: {
    int64_t v[5] = {};
    for (size_t k = 0; k < n.args.size(); ++k) {
      v[k] = eval(n.args[k], env).asInt();
    }
    return Value::integer(n.kind == ExprKind::Draw ? randomBlockOfDraw(v[0], v[1], v[2], v[3])
                                                   : isRandomBlock(v[0], v[1], v[2], v[3], v[4]));
  }
  case ExprKind::And:
  case ExprKind::Or:
    if (n.type == ExprType::Bool) { // Short-circuit.
      bool a = eval(n.args[0], env).truth();
      return a == (n.kind == ExprKind::Or) ? Value::integer(a) : Value::integer(eval(n.args[1], env).truth());
    }
    [[fallthrough]];
  default:
    return n.args.size() == 1 ? evalUnary(n, eval(n.args[0], env))
                              : evalBinary(n, eval(n.args[0], env), eval(n.args[1], env));
  }
}

} // namespace

double evaluate(const Expr &e, const ExprEnv &env) { return e ? eval(e, env).asDouble() : 0; }

int64_t evaluateInt(const Expr &e, const ExprEnv &env) { return e ? eval(e, env).asInt() : 0; }

bool evaluateBool(const Expr &e, const ExprEnv &env) { return static_cast<bool>(e) ? eval(e, env).truth() : false; }

} // namespace heddle
