//===- BoxTest.cpp - What a condition may be on a box of pairs ------------===//

#include "passes/BoxTest.h"

#include "passes/IntervalTable.h"

#include "llvm/ADT/DenseMap.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

namespace {

class BoxEmitter {
public:
  BoxEmitter(Emitter &e, const ExprScope &uniform, Between query, Between key,
             llvm::function_ref<Truth(const Expr &)> row)
      : e(e), uniform(uniform), query(query), key(key), row(row) {}

  Truth truth(const Expr &x) {
    if (auto seen = truths.find(&*x); seen != truths.end()) {
      return seen->second;
    }
    Truth t = known.isKnown(x) ? computeTruth(x) : Truth{e.constant(e.i1, int64_t(1)), e.constant(e.i1, int64_t(0))};
    return truths[&*x] = t;
  }

private:
  Emitter &e;
  const ExprScope &uniform;
  Between query, key;
  llvm::function_ref<Truth(const Expr &)> row;
  KnownRanges known;
  llvm::DenseMap<const ExprNode *, Truth> truths;
  llvm::DenseMap<const ExprNode *, Between> ranges;
  SmallVector<Expr> own; ///< made here, and kept: the maps know nodes by their addresses

  Between range(const Expr &x) {
    if (auto seen = ranges.find(&*x); seen != ranges.end()) {
      return seen->second;
    }
    Between own = computeRange(x);
    for (const Expr &arg : x->args) {
      if (x->kind != ExprKind::Load && !KnownRanges::isUniform(x)) {
        own.known = bothKnown(own.known, range(arg).known);
      }
    }
    return ranges[&*x] = own;
  }

  Value bothKnown(Value a, Value b) { return !a ? b : !b ? a : e.both(a, b); }

  /// 1 where an element stands for true.
  Value asNumber(Value v) {
    if (!v.getType().isInteger(1)) {
      Value zero = e.constant(v.getType(), int64_t(0));
      v = isa<FloatType>(v.getType()) ? e.cmp(arith::CmpFPredicate::UNE, v, zero)
                                      : e.cmp(arith::CmpIPredicate::ne, v, zero);
    }
    return arith::ExtUIOp::create(e.b, e.loc, e.i64, v);
  }

  /// Least and greatest of the elements that the box takes.
  Between elements(const Expr &x) {
    const OperandRecord &record = uniform.operands[x->value];
    SmallVector<Between> at;
    Value few, count = e.c(1);
    for (auto [n, index] : llvm::enumerate(x->args)) {
      if (droppedIndex(x->args.size(), record.rank, n)) {
        continue;
      }
      at.push_back(range(index));
      few = bothKnown(few, at.back().known);
      if (at.back().first != at.back().last) {
        Value steps = e.sub(at.back().last, at.back().first);
        few = bothKnown(few, e.lt(steps, e.c(kBoxElements)));
        count = e.mul(count, e.add(steps, 1));
      }
    }
    few = bothKnown(few, e.le(count, e.c(kBoxElements)));
    Values none{e.c(kMostLoaded), e.c(-kMostLoaded)};
    Values found = e.ifElse(few, {e.i64, e.i64}, [&] { return eachElement(x, at, {}, none); }, [&] { return none; });
    Value sane = e.both(e.lt(e.c(-kMostLoaded), found[0]), e.lt(found[1], e.c(kMostLoaded)));
    return {found[0], found[1], e.both(few, sane)};
  }

  /// Extends `found` to the elements at the indices that begin with those given.
  Values eachElement(const Expr &x, ArrayRef<Between> at, SmallVector<Value> indices, Values found) {
    if (indices.size() == at.size()) {
      Value v = emitLoad(e, uniform.args, uniform.operands[x->value], indices);
      v = x->type == ExprType::Bool ? asNumber(v) : v.getType().isInteger(64) ? v : e.toInt(v, e.i64);
      return {e.min(found[0], v), e.max(found[1], v)};
    }
    const Between &own = at[indices.size()];
    indices.push_back(own.first);
    if (own.first == own.last) {
      return eachElement(x, at, indices, found);
    }
    return e.loop(own.first, e.add(own.last, 1), 1, found, [&](Value index, ValueRange found) {
      indices.back() = index;
      return eachElement(x, at, indices, Values(found));
    });
  }

  Truth computeTruth(const Expr &x) {
    if (KnownRanges::isUniform(x)) {
      Value v = emitExpr(e, x, uniform);
      return {v, v};
    }
    if (std::optional<IntervalTable> table = intervalTableOf(x)) {
      own.push_back(table->x);
      if (known.most(table->x)) {
        return intervals(*table);
      }
    }
    const Expr &a = x->args[0], b = x->args.size() > 1 ? x->args[1] : Expr();
    switch (x->kind) {
    case ExprKind::And:
      return {e.both(truth(a).may, truth(b).may), e.both(truth(a).must, truth(b).must)};
    case ExprKind::Or:
      return {e.either(truth(a).may, truth(b).may), e.either(truth(a).must, truth(b).must)};
    case ExprKind::Not:
      return {e.flip(truth(a).must), e.flip(truth(a).may)};
    case ExprKind::Lt:
      return less(range(a), range(b));
    case ExprKind::Gt:
      return less(range(b), range(a));
    case ExprKind::Ge:
      return negated(less(range(a), range(b)));
    case ExprKind::Le:
      return negated(less(range(b), range(a)));
    case ExprKind::Eq:
      return equal(range(a), range(b));
    case ExprKind::Ne:
      return negated(equal(range(a), range(b)));
    case ExprKind::Load: {
      if (!known.loadsFew(x)) {
        return row(x);
      }
      Between v = elements(x);
      return guarded({e.lt(e.c(0), v.last), e.lt(e.c(0), v.first)}, v.known);
    }
    default:
      llvm_unreachable("a condition of which KnownRanges knows nothing");
    }
  }

  /// Between two neighboring ends all integers are alike.
  Truth intervals(const IntervalTable &table) {
    Between x = range(table.x);
    Value first = emitEndsUpTo(e, uniform.module, table.ends, x.first);
    Value same = e.eq(first, emitEndsUpTo(e, uniform.module, table.ends, x.last)), odd = e.toInt(first, e.i1);
    Truth all = guarded({e.either(e.flip(same), odd), e.both(same, odd)}, x.known);
    for (const Expr &other : table.rest) {
      Truth t = truth(other);
      all = {e.either(all.may, t.may), e.either(all.must, t.must)};
    }
    return all;
  }

  Truth negated(Truth t) { return {e.flip(t.must), e.flip(t.may)}; }
  /// May hold, and need not, where a range is not known.
  Truth guarded(Truth t, Value known) {
    return known ? Truth{e.either(e.flip(known), t.may), e.both(known, t.must)} : t;
  }
  Truth less(Between x, Between y) {
    return guarded({e.lt(x.first, y.last), e.lt(x.last, y.first)}, bothKnown(x.known, y.known));
  }
  Truth equal(Between x, Between y) {
    Value may = e.both(e.le(x.first, y.last), e.le(y.first, x.last));
    return guarded({may, e.both(e.eq(x.first, y.last), e.eq(x.last, y.first))}, bothKnown(x.known, y.known));
  }

  Between computeRange(const Expr &x) {
    if (KnownRanges::isUniform(x)) {
      Value v = emitExpr(e, x, uniform);
      return {v, v};
    }
    auto arg = [&](size_t n) { return range(x->args[n]); };
    switch (x->kind) {
    case ExprKind::Symbol:
      switch (x->symbol) {
      case Sym::Query:
        return query;
      case Sym::Key:
        return key;
      case Sym::QueryRow:
        return {e.sub(query.first, uniform.qOffset), e.sub(query.last, uniform.qOffset)};
      case Sym::KeyRow:
        return {e.sub(key.first, uniform.kOffset), e.sub(key.last, uniform.kOffset)};
      default:
        llvm_unreachable("a symbol whose range KnownRanges does not know");
      }
    case ExprKind::Load:
      return elements(x);
    case ExprKind::Add:
      return {e.add(arg(0).first, arg(1).first), e.add(arg(0).last, arg(1).last)};
    case ExprKind::Sub:
      return {e.sub(arg(0).first, arg(1).last), e.sub(arg(0).last, arg(1).first)};
    case ExprKind::Min:
      return {e.min(arg(0).first, arg(1).first), e.min(arg(0).last, arg(1).last)};
    case ExprKind::Max:
      return {e.max(arg(0).first, arg(1).first), e.max(arg(0).last, arg(1).last)};
    case ExprKind::Neg:
      return times(arg(0), -1);
    case ExprKind::Abs: {
      Between v = arg(0), minus = times(v, -1);
      return {e.max(e.max(v.first, minus.first), e.c(0)), e.max(v.last, minus.last)};
    }
    case ExprKind::Mul:
      return x->args[0]->kind == ExprKind::Int ? times(arg(1), x->args[0]->value) : times(arg(0), x->args[1]->value);
    case ExprKind::FloorDiv: {
      const int64_t n = x->args[1]->value;
      return {e.floorDiv(arg(0).first, n), e.floorDiv(arg(0).last, n)};
    }
    case ExprKind::Mod: {
      const int64_t n = x->args[1]->value;
      Between v = arg(0);
      Value turn = e.floorDiv(v.first, n), same = e.eq(turn, e.floorDiv(v.last, n));
      Value base = e.mul(turn, n);
      return {e.select(same, e.sub(v.first, base), e.c(0)), e.select(same, e.sub(v.last, base), e.c(n - 1))};
    }
    default:
      llvm_unreachable("an integer whose range KnownRanges does not know");
    }
  }

  Between times(Between v, int64_t n) {
    Between out{e.mul(v.first, n), e.mul(v.last, n)};
    return n < 0 ? Between{out.last, out.first} : out;
  }
};

} // namespace

Truth emitBoxTest(Emitter &e, const Expr &condition, const ExprScope &uniform, Between query, Between key,
                  llvm::function_ref<Truth(const Expr &)> row) {
  return BoxEmitter(e, uniform, query, key, row).truth(condition);
}

} // namespace heddle
