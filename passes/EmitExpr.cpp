//===- EmitExpr.cpp - From pattern expressions to scalar and lane code ----===//

#include "passes/EmitExpr.h"

#include "passes/EmitDraws.h"
#include "passes/IntervalTable.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

bool droppedIndex(size_t count, int64_t rank, size_t k) {
  int64_t spare = static_cast<int64_t>(count) - rank;
  return (spare >= 1 && k == 1) || (spare >= 2 && k == 0);
}

/// Elements at a byte offset for each lane. Lanes are often neighbours, whose elements are too (a bias by i - j or
/// j - i), in either half of a register where lanes are two rows of a grid, or all of them are at the end of a clamped
/// range: that is found at run time, and costs a fraction of a gather.
static Value loadLanes(Emitter &e, Type element, Value base, Value offset, int64_t bytes) {
  using Values = Emitter::Values;
  Type lanes = e.vec(element);
  Value first = vector::ExtractOp::create(e.b, e.loc, offset, 0);
  Value steps = e.mul(e.iota(), bytes);
  auto reversed = [&] {
    int64_t width = e.target.width;
    Value v = e.load(lanes, e.at(base, e.add(first, -(width - 1) * bytes)), bytes);
    llvm::SmallVector<int64_t> order(llvm::reverse(llvm::seq<int64_t>(0, width)));
    return Values{vector::ShuffleOp::create(e.b, e.loc, v, v, order)};
  };
  auto gathered = [&] {
    Value at = LLVM::GEPOp::create(e.b, e.loc, e.vec(e.ptr), e.i8, base, ArrayRef<LLVM::GEPArg>{offset});
    Value all = e.constant(e.vec(e.i1), int64_t(1));
    return Values{LLVM::masked_gather::create(e.b, e.loc, lanes, at, all, ValueRange{},
                                              e.b.getI32IntegerAttr(static_cast<int32_t>(bytes)))};
  };
  // Two runs of adjacent elements.
  const int64_t half = e.target.width / 2;
  auto halves = [&](Value second) {
    VectorTarget narrow = e.target;
    narrow.width = half;
    Emitter part(e.b, e.loc, narrow);
    Value low = part.load(part.vec(element), part.at(base, first), bytes);
    Value high = part.load(part.vec(element), part.at(base, second), bytes);
    llvm::SmallVector<int64_t> order(llvm::to_vector(llvm::seq<int64_t>(0, 2 * half)));
    return Values{vector::ShuffleOp::create(e.b, e.loc, low, high, order)};
  };
  auto ifAt = [&](Value expected, llvm::function_ref<Values()> then, llvm::function_ref<Values()> otherwise) {
    Value differs = e.any(e.cmp(arith::CmpIPredicate::ne, offset, expected));
    return Values(e.ifElse(differs, lanes, otherwise, then));
  };
  return ifAt(
      e.add(steps, first), [&] { return Values{e.load(lanes, e.at(base, first), bytes)}; },
      [&] {
        return ifAt(
            e.splat(first), [&] { return Values{e.splat(e.load(element, e.at(base, first), bytes))}; },
            [&] {
              return ifAt(e.sub(e.splat(first), steps), reversed, [&] {
                if (half < 4) {
                  return gathered();
                }
                Value second = vector::ExtractOp::create(e.b, e.loc, offset, half);
                Value starts = e.select(e.lt(e.iota(), e.constant(e.iota().getType(), half)), e.splat(first),
                                        e.splat(e.add(second, -half * bytes)));
                return ifAt(e.add(starts, steps), [&] { return halves(second); }, gathered);
              });
            });
      })[0];
}

static int64_t bytesOf(const OperandRecord &record) {
  return record.element.isInteger(1) ? 1 : (record.element.isIndex() ? 8 : record.element.getIntOrFloatBitWidth() / 8);
}

static Value slotOf(Emitter &e, Value args, const OperandRecord &record, int64_t s) {
  return e.load(e.i64, e.at(args, (record.slot + s) * 8), 8);
}

/// The byte offset at clamped indices of the leading dimensions.
static Value offsetAt(Emitter &e, Value args, const OperandRecord &record, ArrayRef<Value> indices) {
  Value offset = e.c(0);
  for (auto [k, index] : llvm::enumerate(indices)) {
    Value last = e.add(slotOf(e, args, record, 1 + k), -1);
    Value clamped = e.max(e.min(index, last), e.c(0));
    offset = e.add(offset, e.mul(clamped, slotOf(e, args, record, 5 + k)));
  }
  return e.mul(offset, bytesOf(record));
}

Value emitLoad(Emitter &e, Value args, const OperandRecord &record, ArrayRef<Value> indices) {
  const int64_t bytes = bytesOf(record);
  Value offset = offsetAt(e, args, record, indices);
  Type element = record.element.isInteger(1) ? e.i8 : (record.element.isIndex() ? e.i64 : record.element);
  bool widen = element.isBF16() || (element.isF16() && !e.target.f16c);
  if (widen) {
    element = e.i16;
  }
  Value base = e.toPtr(slotOf(e, args, record, 0));
  Value loaded;
  if (!Emitter::isVector(offset)) {
    loaded = e.load(element, e.at(base, offset), bytes);
  } else {
    loaded = loadLanes(e, element, base, offset, bytes);
  }
  if (record.element.isInteger(1)) {
    return e.cmp(arith::CmpIPredicate::ne, loaded, e.constant(loaded.getType(), int64_t(0)));
  }
  if (record.element.isBF16()) {
    Value bits =
        arith::ShLIOp::create(e.b, e.loc, e.toInt(loaded, e.i32), e.constant(e.typeLike(loaded, e.i32), int64_t(16)));
    return arith::BitcastOp::create(e.b, e.loc, e.typeLike(loaded, e.f32), bits);
  }
  if (widen) {
    return e.halfToFloat(arith::ExtUIOp::create(e.b, e.loc, e.typeLike(loaded, e.i32), loaded));
  }
  return loaded;
}

namespace {

class ExprEmitter {
public:
  ExprEmitter(Emitter &e, const ExprScope &scope) : e(e), scope(scope) {}
  Value emit(const Expr &expr);
  EmittedList list(const ExprNode &n);
  /// The values of a load's first `count` indices, but for those of dimensions that the tensor has not.
  SmallVector<Value> indices(const ExprNode &n, size_t count);

private:
  Emitter &e;
  const ExprScope &scope;

  llvm::DenseMap<const ExprNode *, Value> known; ///< shared subexpressions
  llvm::DenseMap<const ExprNode *, double> bounds;
  SmallVector<Expr> own; ///< made here, and kept: the maps know nodes by their addresses

  Value symbol(Sym s);
  Value compute(const Expr &expr);
  Value leaf(const Expr &expr);
  Value arithmetic(ExprKind kind, SmallVector<Value> v);
  Value logic(ExprKind kind, SmallVector<Value> v);
  Value shift(ExprKind kind, Value x, Value y);
  Value select(Value cond, Value x, Value y);
  static bool isFloat(Value x) { return isa<FloatType>(Emitter::elementType(x)); }
  /// All to floats where one is, else all to integers.
  void makeNumeric(MutableArrayRef<Value> v);
  /// Both to vectors where one is.
  void spread(Value &x, Value &y);
  static Value fold(ArrayRef<Value> v, llvm::function_ref<Value(Value, Value)> op);
  Value load(const ExprNode &n);
  Value index(const Expr &arg, const OperandRecord &record, size_t dim);
  Value size(const OperandRecord &record, int64_t fromBack);
  Value search(const ExprNode &n);
  Value intervals(const Expr &expr);
  Value asInt(Value v) { return Emitter::elementType(v).isInteger(64) ? v : e.toInt(v, e.i64); }
  Value asFloat(Value v);
  Value asBool(Value v);
  Value compare(ExprKind kind, Value x, Value y);
  Value division(const ExprNode &n, Value x, Value y);
  Value quotientOfLanes(ExprKind kind, Value x, Value n);
  Value integerQuotient(ExprKind kind, Value x, Value y);
  Expr congruent(const Expr &x, const Expr &n);
  double bound(const Expr &x);
  Value function(ExprKind kind, Value x);
  Value draw(ExprKind kind, MutableArrayRef<Value> v);
};

} // namespace

Value ExprEmitter::symbol(Sym s) {
  Value v;
  switch (s) {
  case Sym::Batch:
    v = scope.batch;
    break;
  case Sym::Head:
    v = scope.head;
    break;
  case Sym::Query:
    v = scope.query;
    break;
  case Sym::Key:
    v = scope.key;
    break;
  case Sym::QueryEnd:
    v = scope.queryEnd;
    break;
  case Sym::KeyEnd:
    v = scope.keyEnd;
    break;
  case Sym::QueryRow:
    return e.sub(scope.query, scope.qOffset);
  case Sym::KeyRow:
    return e.sub(scope.key, scope.kOffset);
  case Sym::KeyOffset:
    return scope.kOffset;
  case Sym::Choice:
    return e.load(e.i64, e.at(scope.scratch, scope.choiceAt), 8);
  case Sym::Heads:
    return scope.heads;
  case Sym::Entry:
    v = scope.entry;
    break;
  }
  assert(v && "the expression mentions a symbol that has no value here");
  return v;
}

/// The value of an index of dimension `dim`.
Value ExprEmitter::index(const Expr &arg, const OperandRecord &record, size_t dim) {
  Value index = asInt(emit(arg));
  if (arg->kind != ExprKind::Symbol || arg->symbol != Sym::Head) {
    return index;
  }
  // A table with fewer heads than queries is shared by groups of query heads.
  Value size = e.load(e.i64, e.at(scope.args, (record.slot + 1 + dim) * 8), 8);
  Value shared = arith::DivSIOp::create(e.b, e.loc, e.mul(index, size), scope.heads);
  return e.select(e.lt(size, scope.heads), shared, index);
}

Value ExprEmitter::size(const OperandRecord &record, int64_t fromBack) {
  int64_t dim = record.rank - 1 - fromBack;
  return dim < 0 ? e.c(1) : e.load(e.i64, e.at(scope.args, (record.slot + 1 + dim) * 8), 8);
}

EmittedList ExprEmitter::list(const ExprNode &n) {
  const OperandRecord &record = scope.operands[n.args[0]->value];
  const size_t rest = n.kind == ExprKind::Member ? 3 : 1, count = n.args.size() - rest;
  EmittedList list{scope.args, {}, {}, record, {}};
  for (size_t k = 1; k < count; ++k) {
    if (!droppedIndex(count, record.rank, k - 1)) {
      list.at.push_back(index(n.args[k], record, list.at.size()));
    }
  }
  list.lo = e.c(0);
  list.hi = size(record, 0);
  if (n.kind == ExprKind::Member) {
    list.lo = e.max(asInt(emit(n.args[n.args.size() - 3])), list.lo);
    list.hi = e.min(asInt(emit(n.args[n.args.size() - 2])), list.hi);
  }
  return list;
}

/// Member and Search: loops over a list, for all lanes at once.
Value ExprEmitter::search(const ExprNode &n) {
  EmittedList list = this->list(n);
  Value x = asInt(emit(n.args.back())), entries = list.hi;
  auto entry = [&](Value t) { return list.entry(e, t); };
  if (n.kind == ExprKind::Search) {
    // Halves [base, base + length): entries before base are <= x, those after are not.
    Value zero = e.constant(x.getType(), int64_t(0)),
          full = e.add(zero, Emitter::isVector(x) ? e.splat(entries) : entries);
    Value steps = e.sub(e.c(64), math::CountLeadingZerosOp::create(e.b, e.loc, entries));
    Values found = e.loop(e.c(0), steps, 1, {zero, full}, [&](Value, ValueRange v) {
      Value lo = v[0], hi = v[1];
      Value mid = e.floorDiv(e.add(lo, hi), 2);
      Value below = e.both(e.lt(lo, hi), e.le(entry(mid), x));
      Value open = e.lt(lo, hi);
      return Values{e.select(below, e.add(mid, 1), lo), e.select(e.both(open, e.flip(below)), mid, hi)};
    });
    return found[0];
  }
  Value lo = list.lo, hi = list.hi;
  bool lanes = Emitter::isVector(x) || Emitter::isVector(lo) || Emitter::isVector(hi) ||
               llvm::any_of(list.at, [](Value v) { return Emitter::isVector(v); });
  Value length = e.sub(hi, lo);
  Value longest = Emitter::isVector(length)
                      ? vector::ReductionOp::create(e.b, e.loc, vector::CombiningKind::MAXSI, length).getResult()
                      : length;
  Type type = lanes ? Type(e.vec(e.i1)) : e.i1;
  return e.loop(e.c(0), longest, 1, {e.constant(type, int64_t(0))}, [&](Value step, ValueRange v) {
    Value t = e.add(lo, step);
    Value hit = e.both(e.lt(t, hi), e.eq(entry(t), x));
    return Values{e.either(v[0], lanes ? e.splat(hit) : hit)};
  })[0];
}

/// A disjunction of many intervals, by their table; null for everything else. GPU kernels have no data of their own:
/// there the bisection is code.
Value ExprEmitter::intervals(const Expr &expr) {
  std::optional<IntervalTable> table = intervalTableOf(expr);
  if (!table) {
    return {};
  }
  own.push_back(table->x);
  Value x = asInt(emit(table->x));
  Value holds = e.target.width > 1 ? e.toInt(emitEndsUpTo(e, scope.module, table->ends, x), e.i1) // where it is odd
                                   : emitOddUpTo(e, table->ends, x);
  for (const Expr &other : table->rest) {
    holds = e.either(holds, asBool(emit(other)));
  }
  return holds;
}

SmallVector<Value> ExprEmitter::indices(const ExprNode &n, size_t count) {
  const OperandRecord &record = scope.operands[n.value];
  SmallVector<Value> values;
  for (size_t k = 0; k < count; ++k) {
    if (!droppedIndex(n.args.size(), record.rank, k)) {
      values.push_back(index(n.args[k], record, values.size()));
    }
  }
  return values;
}

Value ExprEmitter::load(const ExprNode &n) {
  Value v = emitLoad(e, scope.args, scope.operands[n.value], indices(n, n.args.size()));
  Type element = Emitter::elementType(v);
  if (element.isInteger(1)) {
    return v;
  }
  return isa<FloatType>(element) ? asFloat(v) : asInt(v);
}

Value ExprEmitter::asFloat(Value v) {
  Type element = Emitter::elementType(v);
  if (element.isF64()) {
    return v;
  }
  Type to = e.typeLike(v, e.f64);
  if (isa<FloatType>(element)) {
    return arith::ExtFOp::create(e.b, e.loc, to, v);
  }
  return arith::SIToFPOp::create(e.b, e.loc, to, asInt(v));
}

Value ExprEmitter::asBool(Value v) {
  Type element = Emitter::elementType(v);
  if (element.isInteger(1)) {
    return v;
  }
  Value zero = e.constant(v.getType(), int64_t(0));
  return isa<FloatType>(element) ? e.cmp(arith::CmpFPredicate::UNE, v, zero) : e.cmp(arith::CmpIPredicate::ne, v, zero);
}

Value ExprEmitter::compare(ExprKind kind, Value x, Value y) {
  using I = arith::CmpIPredicate;
  using F = arith::CmpFPredicate;
  struct Predicates {
    I i;
    F f;
  };
  Predicates p = kind == ExprKind::Lt   ? Predicates{I::slt, F::OLT}
                 : kind == ExprKind::Le ? Predicates{I::sle, F::OLE}
                 : kind == ExprKind::Gt ? Predicates{I::sgt, F::OGT}
                 : kind == ExprKind::Ge ? Predicates{I::sge, F::OGE}
                 : kind == ExprKind::Eq ? Predicates{I::eq, F::OEQ}
                                        : Predicates{I::ne, F::UNE};
  if (isa<FloatType>(Emitter::elementType(x)) || isa<FloatType>(Emitter::elementType(y))) {
    return e.cmp(p.f, asFloat(x), asFloat(y));
  }
  return e.cmp(p.i, asInt(x), asInt(y));
}

/// What the magnitude of an integer expression does not pass; infinite where that is not seen.
double ExprEmitter::bound(const Expr &x) {
  constexpr double unknown = std::numeric_limits<double>::infinity();
  if (auto found = bounds.find(x.operator->()); found != bounds.end()) {
    return found->second;
  }
  auto of = [&](size_t n) { return bound(x->args[n]); };
  auto all = [&](double first, llvm::function_ref<double(double, double)> op) {
    for (const Expr &arg : x->args) {
      first = op(first, bound(arg));
    }
    return first;
  };
  auto compute = [&] {
    switch (x->kind) {
    case ExprKind::Int:
      return std::abs(static_cast<double>(x->value));
    case ExprKind::Symbol:
      return 0x1.001p30; // positions, some past the last
    case ExprKind::Add:
    case ExprKind::Sub:
      return all(0, [](double a, double b) { return a + b; });
    case ExprKind::Mul:
      return all(1, [](double a, double b) { return a * std::max(b, 1.0); });
    case ExprKind::FloorDiv:
    case ExprKind::Neg:
    case ExprKind::Abs:
      return of(0) + 1;
    case ExprKind::Mod:
      return of(1);
    case ExprKind::Min:
    case ExprKind::Max:
      return all(0, [](double a, double b) { return std::max(a, b); });
    case ExprKind::Select:
      return std::max(of(1), of(2));
    default:
      return x->type == ExprType::Bool ? 1 : unknown;
    }
  };
  double result = compute();
  return bounds[x.operator->()] = result;
}

Value ExprEmitter::division(const ExprNode &node, Value x, Value y) {
  ExprKind kind = node.kind;
  const Expr &divisor = node.args[1];
  if (isa<FloatType>(Emitter::elementType(x)) || isa<FloatType>(Emitter::elementType(y))) {
    x = asFloat(x);
    y = asFloat(y);
    if (Emitter::isVector(x) || Emitter::isVector(y)) {
      x = e.splat(x);
      y = e.splat(y);
    }
    Value q = math::FloorOp::create(e.b, e.loc, arith::DivFOp::create(e.b, e.loc, x, y));
    return kind == ExprKind::FloorDiv ? q : e.sub(x, e.mul(q, y));
  }
  x = asInt(x);
  y = asInt(y);
  const bool small = bound(node.args[0]) < Emitter::kExactQuotient; // lanes divide as doubles
  constexpr int64_t kMostModulus = int64_t(1) << 20;
  if (kind == ExprKind::Mod && !small && Emitter::isVector(x) && divisor->kind == ExprKind::Int && divisor->value > 0 &&
      divisor->value < kMostModulus && bound(node.args[0]) < 0x1p63) { // nothing wraps
    own.push_back(congruent(node.args[0], divisor));
    if (bound(own.back()) < Emitter::kExactQuotient) {
      return e.floorMod(asInt(emit(own.back())), divisor->value);
    }
  }
  if (divisor->kind == ExprKind::Int && divisor->value > 0 && (small || !Emitter::isVector(x))) {
    return kind == ExprKind::FloorDiv ? e.floorDiv(x, divisor->value) : e.floorMod(x, divisor->value);
  }
  if (Emitter::isVector(x) && !Emitter::isVector(y) && small && e.target.width > 1) {
    return quotientOfLanes(kind, x, y);
  }
  return integerQuotient(kind, x, y);
}

/// An expression that has the same remainder by n, and is smaller where factors are large.
Expr ExprEmitter::congruent(const Expr &x, const Expr &n) {
  constexpr double kLargeFactor = 0x1p25;
  switch (x->kind) {
  case ExprKind::Int:
    return floorMod(x, n);
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Mul:
  case ExprKind::Neg: {
    const bool scaled = llvm::any_of(x->args, [](const Expr &arg) { return arg->kind == ExprKind::Int; });
    std::vector<Expr> args;
    for (const Expr &arg : x->args) {
      args.push_back(congruent(arg, n));
      own.push_back(args.back()); // bounds are kept by node
      if (x->kind == ExprKind::Mul && !scaled && bound(args.back()) >= kLargeFactor) {
        args.back() = floorMod(args.back(), n);
      }
    }
    return Expr::make(x->kind, std::move(args));
  }
  default:
    return x;
  }
}

/// Lanes by one number. Both change their sign where it is negative; past what they may be, it is as good as that;
/// and by 0 both results are 0.
Value ExprEmitter::quotientOfLanes(ExprKind kind, Value x, Value n) {
  Value none = e.eq(n, e.c(0)), one = e.constant(e.f64, 1.0);
  n = e.select(none, e.c(1), n);
  Value sign = e.select(e.lt(n, e.c(0)), e.constant(e.f64, -1.0), one);
  Value size = e.min(e.mul(asFloat(n), sign), e.constant(e.f64, Emitter::kExactQuotient));
  Value f = e.mul(arith::SIToFPOp::create(e.b, e.loc, e.vec(e.f64), x).getResult(), e.splat(sign));
  Value q = e.floorQuotient(f, e.splat(arith::DivFOp::create(e.b, e.loc, one, size).getResult()));
  q = arith::FPToSIOp::create(e.b, e.loc, x.getType(), q);
  return kind == ExprKind::FloorDiv ? e.both(q, e.splat(e.select(none, e.c(0), e.c(-1))))
                                    : e.sub(x, e.mul(q, e.splat(n)));
}

Value ExprEmitter::integerQuotient(ExprKind kind, Value x, Value y) {
  if (Emitter::isVector(x) || Emitter::isVector(y)) {
    x = e.splat(x);
    y = e.splat(y);
  }
  // Rounds down for any signs; division by zero gives 0, as evaluate() does.
  Type type = x.getType();
  Value zero = e.constant(type, int64_t(0)), one = e.constant(type, int64_t(1));
  Value none = e.eq(y, zero);
  Value n = e.select(none, one, y);
  Value q = arith::DivSIOp::create(e.b, e.loc, x, n);
  Value r = e.sub(x, e.mul(q, n));
  Value wrong =
      e.both(e.cmp(arith::CmpIPredicate::ne, r, zero), arith::XOrIOp::create(e.b, e.loc, e.lt(r, zero), e.lt(n, zero)));
  Value down = e.select(wrong, e.sub(q, one), q);
  Value result = kind == ExprKind::FloorDiv ? down : e.select(wrong, e.add(r, n), r);
  return e.select(none, zero, result);
}

Value ExprEmitter::function(ExprKind kind, Value x) {
  Value one = e.constant(x.getType(), 1.0);
  switch (kind) {
  case ExprKind::Exp:
    return math::ExpOp::create(e.b, e.loc, x);
  case ExprKind::Exp2:
    return math::Exp2Op::create(e.b, e.loc, x);
  case ExprKind::Log:
    return math::LogOp::create(e.b, e.loc, x);
  case ExprKind::Sqrt:
    return math::SqrtOp::create(e.b, e.loc, x);
  case ExprKind::Tanh:
    return math::TanhOp::create(e.b, e.loc, x);
  case ExprKind::Floor:
    return math::FloorOp::create(e.b, e.loc, x);
  case ExprKind::Sigmoid: {
    Value minus = arith::NegFOp::create(e.b, e.loc, x);
    return arith::DivFOp::create(e.b, e.loc, one, e.add(one, math::ExpOp::create(e.b, e.loc, minus)));
  }
  case ExprKind::Erf:
    return math::ErfOp::create(e.b, e.loc, x);
  case ExprKind::Sin:
    return math::SinOp::create(e.b, e.loc, x);
  case ExprKind::Cos:
    return math::CosOp::create(e.b, e.loc, x);
  default:
    llvm_unreachable("not a function of one float");
  }
}

/// Calls the function of the generator's draws, scalar or of lanes.
Value ExprEmitter::draw(ExprKind kind, MutableArrayRef<Value> v) {
  const bool lanes = llvm::any_of(v, [](Value x) { return Emitter::isVector(x); });
  if (lanes) {
    for (Value &x : v) {
      x = e.splat(x);
    }
  }
  Type result = e.typeLike(v[0], kind == ExprKind::Draw ? e.i64 : e.i1);
  return e.call(declareDraws(e, scope.module, kind == ExprKind::Draw, lanes), {result}, v)[0];
}

Value ExprEmitter::emit(const Expr &expr) {
  if (expr->args.empty()) {
    return compute(expr);
  }
  auto found = known.find(&*expr);
  if (found != known.end()) {
    return found->second;
  }
  Value v = compute(expr);
  known[&*expr] = v;
  return v;
}

/// What is no operation on the values of its arguments; null for the others.
Value ExprEmitter::leaf(const Expr &expr) {
  const ExprNode &n = *expr;
  switch (n.kind) {
  case ExprKind::Int:
    return n.type == ExprType::Bool ? e.constant(e.i1, n.value) : e.c(n.value);
  case ExprKind::Float:
    return e.constant(e.f64, n.num);
  case ExprKind::Symbol:
    return symbol(n.symbol);
  case ExprKind::Scalar: {
    if (scope.operands[n.value].inlined) {
      return e.load(e.i64, e.at(scope.args, (scope.operands[n.value].slot + 1) * 8), 8);
    }
    Value address = e.toPtr(e.load(e.i64, e.at(scope.args, scope.operands[n.value].slot * 8), 8));
    return e.load(e.i64, address, 8);
  }
  case ExprKind::Load:
    return load(n);
  case ExprKind::Member:
  case ExprKind::Search:
    return search(n);
  case ExprKind::Size:
    return size(scope.operands[n.args[0]->value], n.args[1]->value);
  default:
    return intervals(expr);
  }
}

void ExprEmitter::makeNumeric(MutableArrayRef<Value> v) {
  const bool anyFloat = llvm::any_of(v, isFloat);
  for (Value &x : v) {
    x = anyFloat ? asFloat(x) : asInt(x);
  }
}

void ExprEmitter::spread(Value &x, Value &y) {
  if (Emitter::isVector(x) || Emitter::isVector(y)) {
    x = e.splat(x);
    y = e.splat(y);
  }
}

Value ExprEmitter::fold(ArrayRef<Value> v, llvm::function_ref<Value(Value, Value)> op) {
  Value acc = v[0];
  for (Value x : v.drop_front()) {
    acc = op(acc, x);
  }
  return acc;
}

/// Sums and the like of numbers of one type.
Value ExprEmitter::arithmetic(ExprKind kind, SmallVector<Value> v) {
  makeNumeric(v);
  switch (kind) {
  case ExprKind::Add:
    return fold(v, [&](Value x, Value y) { return e.add(x, y); });
  case ExprKind::Sub:
    return fold(v, [&](Value x, Value y) { return e.sub(x, y); });
  case ExprKind::Mul:
    return fold(v, [&](Value x, Value y) { return e.mul(x, y); });
  case ExprKind::Min:
    return fold(v, [&](Value x, Value y) { return e.min(x, y); });
  case ExprKind::Max:
    return fold(v, [&](Value x, Value y) { return e.max(x, y); });
  case ExprKind::Neg:
    return isFloat(v[0]) ? arith::NegFOp::create(e.b, e.loc, v[0]).getResult()
                         : e.sub(e.constant(v[0].getType(), int64_t(0)), v[0]);
  default: // Abs
    if (isFloat(v[0])) {
      return math::AbsFOp::create(e.b, e.loc, v[0]);
    }
    return e.max(v[0], e.sub(e.constant(v[0].getType(), int64_t(0)), v[0]));
  }
}

/// Of conditions, or of the bits of integers.
Value ExprEmitter::logic(ExprKind kind, SmallVector<Value> v) {
  const bool allBool = llvm::all_of(v, [&](Value x) { return Emitter::elementType(x).isInteger(1); });
  if (kind == ExprKind::Not) {
    return arith::XOrIOp::create(e.b, e.loc, v[0], e.constant(v[0].getType(), int64_t(allBool ? 1 : -1)));
  }
  if (!allBool) {
    makeNumeric(v);
  }
  return fold(v, [&](Value x, Value y) -> Value {
    if (kind == ExprKind::And) {
      return e.both(x, y);
    }
    if (kind == ExprKind::Or) {
      return e.either(x, y);
    }
    spread(x, y);
    return arith::XOrIOp::create(e.b, e.loc, x, y);
  });
}

/// Shifts that processors do not know give 0, as evaluate() has it.
Value ExprEmitter::shift(ExprKind kind, Value x, Value y) {
  spread(x, y);
  int64_t width = Emitter::elementType(y).getIntOrFloatBitWidth();
  Value inside = e.cmp(arith::CmpIPredicate::ult, y, e.constant(y.getType(), width));
  Value zero = e.constant(x.getType(), int64_t(0)), count = e.select(inside, y, e.constant(y.getType(), int64_t(0)));
  Value shifted = kind == ExprKind::Shr ? arith::ShRSIOp::create(e.b, e.loc, x, count).getResult()
                                        : arith::ShLIOp::create(e.b, e.loc, x, count).getResult();
  return e.select(inside, shifted, zero);
}

Value ExprEmitter::select(Value cond, Value x, Value y) {
  if (isFloat(x) || isFloat(y)) {
    x = asFloat(x);
    y = asFloat(y);
  } else if (Emitter::elementType(x) != Emitter::elementType(y)) {
    x = asInt(x);
    y = asInt(y);
  }
  return e.select(cond, x, y);
}

Value ExprEmitter::compute(const Expr &expr) {
  const ExprNode &n = *expr;
  for (auto [node, value] : scope.given) {
    if (node == &n) {
      return value;
    }
  }
  if (Value whole = leaf(expr)) {
    return whole;
  }
  SmallVector<Value> v;
  for (const Expr &arg : n.args) {
    v.push_back(emit(arg));
  }
  switch (n.kind) {
  case ExprKind::Add:
  case ExprKind::Sub:
  case ExprKind::Mul:
  case ExprKind::Min:
  case ExprKind::Max:
  case ExprKind::Neg:
  case ExprKind::Abs:
    return arithmetic(n.kind, v);
  case ExprKind::FloorDiv:
  case ExprKind::Mod:
    return division(n, v[0], v[1]);
  case ExprKind::Div: {
    Value x = asFloat(v[0]), y = asFloat(v[1]);
    spread(x, y);
    return arith::DivFOp::create(e.b, e.loc, x, y);
  }
  case ExprKind::And:
  case ExprKind::Or:
  case ExprKind::Xor:
  case ExprKind::Not:
    return logic(n.kind, v);
  case ExprKind::Shl:
  case ExprKind::Shr: {
    Value x = asInt(v[0]), y = asInt(v[1]);
    return shift(n.kind, x, y);
  }
  case ExprKind::Lt:
  case ExprKind::Le:
  case ExprKind::Gt:
  case ExprKind::Ge:
  case ExprKind::Eq:
  case ExprKind::Ne:
    return compare(n.kind, v[0], v[1]);
  case ExprKind::Select:
    return select(asBool(v[0]), v[1], v[2]);
  case ExprKind::Draw:
  case ExprKind::Drawn:
    makeNumeric(v);
    return draw(n.kind, v);
  case ExprKind::Floor:
    return isFloat(v[0]) ? function(n.kind, asFloat(v[0])) : asInt(v[0]);
  default:
    return function(n.kind, asFloat(v[0]));
  }
}

Value EmittedList::entry(Emitter &e, Value t) const {
  SmallVector<Value> indices(at);
  indices.push_back(t);
  Value v = emitLoad(e, args, record, indices);
  return Emitter::elementType(v).isInteger(64) ? v : e.toInt(v, e.i64);
}

EmittedList emitList(Emitter &e, const Expr &member, const ExprScope &scope) {
  return ExprEmitter(e, scope).list(*member);
}

void ExprScope::give(const Expr &where, const Expr &x, Value v) {
  if (where.same(x)) {
    given.emplace_back(&*where, v);
    return;
  }
  for (const Expr &arg : where->args) {
    give(arg, x, v);
  }
}

Value emitExpr(Emitter &e, const Expr &expr, const ExprScope &scope) { return ExprEmitter(e, scope).emit(expr); }

Value emitRowOffset(Emitter &e, const Expr &load, const ExprScope &scope) {
  return offsetAt(e, scope.args, scope.operands[load->value],
                  ExprEmitter(e, scope).indices(*load, load->args.size() - 1));
}

} // namespace heddle
