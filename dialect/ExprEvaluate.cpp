//===- ExprEvaluate.cpp - The value of an expression at a pair ------------===//

#include "dialect/Expr.h"
#include "dialect/ExprArithmetic.h"
#include "dialect/PatternMeaning.h"

#include <algorithm>
#include <cmath>

namespace heddle {

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
  indices.reserve(n.args.size());
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
