//===- AttendResidual.cpp - Conditions per pair of a stratum -----------===//
//
// What can be known of a stratum's condition before its pairs: the parts that read
// the query alone, once for each lane of a tile, and the keys that equal ids leave
// (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "dialect/ListKeys.h"
#include "passes/AttendTiler.h"
#include "passes/IntervalTable.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// The largest parts of a condition that read the query and not the key: evaluated once a tile, not once a pair.
static void collectHoistable(const Expr &x, SmallVectorImpl<Expr> &out) {
  bool key = x.onKey();
  bool query = x.onQuery();
  if (!query) {
    return;
  }
  if (!key && x->kind != ExprKind::Symbol) {
    if (llvm::none_of(out, [&](const Expr &seen) { return &*seen == &*x; })) {
      out.push_back(x);
    }
    return;
  }
  // The ends of a long list of intervals are a table.
  std::optional<IntervalTable> table = intervalTableOf(x);
  for (const Expr &part : table ? table->rest : x->args) {
    collectHoistable(part, out);
  }
}

SmallVector<Expr> AttendTiler::hoistable(const Stratum &s) {
  SmallVector<Expr> parts;
  if (s.residual) {
    collectHoistable(s.residual, parts);
  }
  return parts;
}

/// Lane values of the residual's hoistable parts, as i64 or f64.
void AttendTiler::hoist(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  findMaskRows(u, s);
  if (fHoisted[n].empty()) {
    return;
  }
  SmallVector<Expr> parts = hoistable(s);
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    ExprScope at = scope(u, s.segment, query, {});
    for (auto [part, offset] : llvm::zip(parts, fHoisted[n])) {
      Value v = e.splat(emitExpr(e, part, at));
      e.store(isa<FloatType>(Emitter::elementType(v)) ? v : e.toInt(v, e.i64), e.at(in(u, offset), e.mul(lane, 8)), 8);
    }
  });
}

/// Makes the hoisted values of lanes [lane, lane + width) known to `to`.
void AttendTiler::giveHoisted(const Uniform &u, int64_t n, Value lane, ExprScope &to) {
  for (auto [part, offset] : llvm::zip(hoistable(schedule.strata[n]), fHoisted[n])) {
    Type element = part->type == ExprType::Float ? e.f64 : e.i64;
    Value v = e.load(e.vec(element), e.at(in(u, offset), e.mul(lane, 8)), 8);
    if (part->type == ExprType::Bool) {
      v = e.cmp(arith::CmpIPredicate::ne, v, e.constant(v.getType(), int64_t(0)));
    }
    to.given.emplace_back(&*part, v);
  }
}

/// Run-time ids that must be equal: narrows `keys` to the first and last key whose id lies between the least and
/// the greatest id of the tile's queries (exact where ids are sorted). Returns true (at run time) where all
/// queries have one id and all those keys have it too, so that the residual holds throughout.
Value AttendTiler::emitBracket(const Uniform &u, const Stratum &s, Range &keys) {
  Value never = e.constant(e.i1, int64_t(0));
  std::optional<std::pair<Expr, Expr>> ids = matchedIds(s.residual);
  if (!ids) {
    return never;
  }
  Type lanes = e.vec(e.i64);
  using Kind = vector::CombiningKind;
  auto reduce = [&](Kind kind, Value v) { return vector::ReductionOp::create(builder, e.loc, kind, v).getResult(); };
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();
  Values span = e.loop(e.c(0), e.c(kLanes), vl, {e.constant(lanes, kMost), e.constant(lanes, kLeast)},
                       [&](Value lane, ValueRange acc) {
                         Value query = e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
                         Value id = e.splat(emitExpr(e, ids->first, scope(u, s.segment, query, {})));
                         return Values{e.min(acc[0], id), e.max(acc[1], id)};
                       });
  Value least = reduce(Kind::MINSI, span[0]), most = reduce(Kind::MAXSI, span[1]);
  Values found =
      e.loop(keys.lo, keys.hi, vl, {e.constant(lanes, kFar), e.constant(lanes, -kFar), e.constant(lanes, int64_t(0))},
             [&](Value j, ValueRange acc) {
               Value key = e.add(e.splat(j), e.iota());
               Value id = e.splat(emitExpr(e, ids->second, scope(u, s.segment, {}, key)));
               Value hit = e.both(e.ge(id, e.splat(least)), e.le(id, e.splat(most)));
               hit = e.both(hit, e.lt(key, e.splat(keys.hi)));
               return Values{e.min(acc[0], e.select(hit, key, acc[0])), e.max(acc[1], e.select(hit, key, acc[1])),
                             e.add(acc[2], e.toInt(hit, e.i64))};
             });
  keys.lo = e.max(keys.lo, reduce(Kind::MINSI, found[0]));
  keys.hi = e.min(keys.hi, e.add(reduce(Kind::MAXSI, found[1]), 1));
  if (s.residual->kind != ExprKind::Eq) {
    return never;
  }
  Value allKeys = e.eq(reduce(Kind::ADD, found[2]), e.sub(keys.hi, keys.lo));
  return e.both(e.eq(least, most), allKeys);
}
} // namespace heddle
