//===- ScannedKeys.cpp - Keys that a query finds by trying all ----------===//
//
// How many pairs meet a condition that loads from a row of a table (a mask, relations or affinities of pairs) is known
// only when the kernel runs. Where they are few, and neighbors share none of them, a tile would compute nearly all
// pairs. So every query decides for itself, by a sample of its own keys (its bits must not depend on other rows):
//
//   few scattered keys    taken by itself (RowKeys.cpp): a register of keys at a time, whose elements are adjacent in
//                         memory, and those that meet the condition are compressed to the query's list
//   else                  a lane of its tile
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

#include "dialect/LinearForm.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// Registers of neighboring keys that a query samples.
static constexpr int64_t kSamples = 32;
/// Of a hundred sampled keys, a query with more is better off in a tile.
static constexpr int64_t kMostOfHundred = 18;
/// So is one whose keys fill more than a half of the registers that they are in.
static constexpr int64_t kMostOfRegister = 2;

static bool onKey(const Expr &e) { return e.mentions(Sym::Key) || e.mentions(Sym::KeyRow); }
static bool onQuery(const Expr &e) { return e.mentions(Sym::Query) || e.mentions(Sym::QueryRow); }

/// The load's elements at neighboring keys are neighbors, and every query has its own.
static bool readsRow(const Expr &x) {
  if (x->kind != ExprKind::Load || x->args.empty()) {
    return false;
  }
  const Expr &last = x->args.back();
  const LinearForm key = LinearForm::of(Expr::symbol(Sym::Key));
  const LinearForm rest = LinearForm::of(last) - key;
  return std::none_of(x->args.begin(), std::prev(x->args.end()), onKey) && !onKey(rest.expr()) && onQuery(x);
}

static void collectRows(const Expr &x, SmallVectorImpl<Expr> &out) {
  if (readsRow(x)) {
    if (llvm::none_of(out, [&](const Expr &seen) { return seen.same(x); })) {
      out.push_back(x);
    }
    return;
  }
  for (const Expr &arg : x->args) {
    collectRows(arg, out);
  }
}

/// The conditions that a key has to meet.
static Expr conditionOf(const Stratum &s) { return s.keep.isNull() ? s.residual : s.keep && s.residual; }

bool AttendTiler::decidesByRow(const Stratum &s) {
  const bool plain = s.list.isNull() && s.ids.isNull() && s.choices == 0 && !s.byRow && s.key.size() == 1 &&
                     s.key[0].step == 1 && s.key[0].radix == 1 && s.query.size() == 1 && s.query[0] == QueryDigit();
  if (!plain || s.residual.isNull()) {
    return false;
  }
  SmallVector<Expr> rows;
  collectRows(s.residual, rows);
  return !rows.empty();
}

/// Where one query's row of each load lies, and how many elements it has (0: they are not adjacent).
SmallVector<AttendTiler::LoadRow> AttendTiler::rowsOf(const Uniform &u, const Stratum &s, const Expr &condition,
                                                      Value query) {
  SmallVector<Expr> loads;
  collectRows(condition, loads);
  SmallVector<LoadRow> rows;
  for (const Expr &load : loads) {
    const OperandRecord &record = patternRecords[load->value];
    Type element = record.element.isInteger(1) ? e.i8 : record.element;
    const bool fits = load->type == ExprType::Float
                          ? element.isF32() || element.isF64()
                          : element.isInteger(8) || element.isInteger(32) || element.isInteger(64);
    if (!fits) {
      continue;
    }
    Value base = e.toPtr(e.add(slot(u.args, record.slot), emitRowOffset(e, load, scope(u, s.segment, query, {}))));
    Value adjacent = e.eq(slot(u.args, record.slot + 4 + record.rank), e.c(1));
    Value size = e.select(adjacent, slot(u.args, record.slot + record.rank), e.c(0));
    rows.push_back({load, element, base, size});
  }
  return rows;
}

/// The condition of one query and the keys first, first + 1, .. of a register.
Value AttendTiler::tryKeys(const Uniform &u, const Stratum &s, const Expr &condition, ArrayRef<LoadRow> rows,
                           Value query, Value first) {
  Value keys = e.add(e.splat(first), e.iota()), inside = e.constant(e.i1, int64_t(1));
  SmallVector<Value> indices;
  for (const LoadRow &row : rows) {
    indices.push_back(e.toInt(emitExpr(e, row.load->args.back(), scope(u, s.segment, query, first)), e.i64));
    inside = e.both(inside, e.both(e.ge(indices.back(), e.c(0)), e.le(e.add(indices.back(), vl), row.size)));
  }
  return e.ifElse(
      inside, {e.vec(e.i1)},
      [&] {
        ExprScope at = scope(u, s.segment, query, keys);
        for (auto [row, index] : llvm::zip(rows, indices)) {
          const int64_t bytes = row.element.getIntOrFloatBitWidth() / 8;
          Value v = e.load(e.vec(row.element), e.at(row.base, e.mul(index, bytes)), 1);
          if (row.load->type == ExprType::Bool) {
            v = e.cmp(arith::CmpIPredicate::ne, v, e.constant(v.getType(), int64_t(0)));
          } else if (row.load->type == ExprType::Int) {
            v = row.element.isInteger(64) ? v : e.toInt(v, e.i64);
          } else if (row.element.isF32()) {
            v = arith::ExtFOp::create(builder, e.loc, e.vec(e.f64), v);
          }
          at.give(condition, row.load, v);
        }
        return Values{e.splat(emitExpr(e, condition, at))};
      },
      [&] { return Values{e.splat(emitExpr(e, condition, scope(u, s.segment, query, keys)))}; })[0];
}

/// The number of lanes that are true.
static Value countTrue(Emitter &e, Value live) {
  const int64_t width = e.target.width;
  if (width < 8) { // no processor's word
    Value ones = arith::ExtUIOp::create(e.b, e.loc, e.vec(e.i64), live);
    return vector::ReductionOp::create(e.b, e.loc, vector::CombiningKind::ADD, ones);
  }
  Value word = LLVM::BitcastOp::create(e.b, e.loc, e.b.getIntegerType(width), live);
  return LLVM::CtPopOp::create(e.b, e.loc, e.i64, arith::ExtUIOp::create(e.b, e.loc, e.i64, word));
}

/// The lanes of `v` that are live, in front.
static Value compress(Emitter &e, Value v, Value live) {
  Value rest = LLVM::UndefOp::create(e.b, e.loc, v.getType());
  auto name = e.b.getStringAttr("llvm.experimental.vector.compress");
  return LLVM::CallIntrinsicOp::create(e.b, e.loc, v.getType(), name, ValueRange{v, live, rest}).getResult(0);
}

/// One query of stratum n: its keys are few, and scattered. Where they are all in a few registers, a tile has them.
Value AttendTiler::isSparse(const Uniform &u, const Stratum &s, Value query) {
  ExprScope at = scope(u, s.segment, query, {});
  Value koff = kOffset(u, s.segment), lo = koff, hi = e.add(koff, keyRows(u, s.segment));
  for (const std::vector<Expr> *all : {&s.lower, &s.key[0].lower}) {
    for (const Expr &x : *all) {
      lo = e.max(lo, e.toInt(emitExpr(e, x, at), e.i64));
    }
  }
  for (const std::vector<Expr> *all : {&s.upper, &s.key[0].upper}) {
    for (const Expr &x : *all) {
      hi = e.min(hi, e.toInt(emitExpr(e, x, at), e.i64));
    }
  }
  Value span = e.sub(hi, lo);
  const Expr condition = conditionOf(s);
  return e.ifElse(
      e.le(e.c(2 * vl), span), {e.i1},
      [&] {
        SmallVector<LoadRow> rows = rowsOf(u, s, condition, query);
        Value room = e.add(span, -vl);
        Values found = e.loop(e.c(0), e.c(kSamples), 1, {e.c(0), e.c(0)}, [&](Value n, ValueRange all) {
          Value first = e.add(lo, e.floorDiv(e.mul(room, n), kSamples - 1));
          Value own = countTrue(e, tryKeys(u, s, condition, rows, query, first));
          return Values{e.add(all[0], own), e.add(all[1], e.min(own, e.c(1)))};
        });
        Value few = e.le(found[0], e.c(kSamples * vl * kMostOfHundred / 100));
        return Values{e.both(few, e.le(e.mul(found[0], kMostOfRegister), e.mul(found[1], vl)))};
      },
      [&] { return Values{e.constant(e.i1, int64_t(0))}; })[0];
}

/// Lets each query of the tile decide, and takes those that want to be by themselves. Their keys are not split: the
/// first split has all of them.
void AttendTiler::emitSparse(const Uniform &u, int64_t n, Value split) {
  const Stratum &s = schedule.strata[n];
  Value lanes = e.load(e.i64, in(u, fLanes), 8), none = e.constant(e.vec(e.i64), int64_t(0));
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) { e.store(none, e.at(in(u, fSparse[n]), e.mul(lane, 8)), 8); });
  Value any = e.loop(e.c(0), lanes, 1, {e.constant(e.i1, int64_t(0))}, [&](Value lane, ValueRange acc) {
    Value query = e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    Value sparse = isSparse(u, s, query);
    e.store(arith::ExtUIOp::create(builder, e.loc, e.i64, sparse), e.at(in(u, fSparse[n]), e.mul(lane, 8)), 8);
    return Values{e.either(acc[0], sparse)};
  })[0];
  if (splitKeys) {
    any = e.both(any, e.eq(split, e.c(0)));
  }
  e.ifThen(any, [&] {
    if (splitKeys) {
      e.store(e.c(1), in(u, fTouched), 8);
    }
    e.call(name("rows", n), {}, {u.args, u.scratch, u.b, u.h});
  });
}

/// Appends those of `total` keys from `first` on that meet the stratum's conditions to a query's list.
void AttendTiler::scanRun(const Uniform &u, const Stratum &s, const RowList &list, Value first, Value total) {
  const Expr condition = conditionOf(s);
  SmallVector<LoadRow> rows = rowsOf(u, s, condition, list.query);
  Value end = e.loop(e.c(0), total, vl, {e.load(e.i64, list.countAt, 8)}, [&](Value t, ValueRange acc) {
    Value from = e.add(first, t), live = tryKeys(u, s, condition, rows, list.query, from);
    live = e.both(live, e.lt(e.add(e.iota(), t), e.splat(total)));
    Value keys = e.add(e.splat(e.toInt(from, e.i32)), e.toInt(e.iota(), e.i32));
    // In a register: some processors take long to compress to memory. The list has room for a whole one.
    Value kept = compress(e, keys, live);
    e.store(kept, e.at(list.keys, e.mul(acc[0], 4)), 4);
    Value count = e.add(acc[0], countTrue(e, live));
    return e.ifElse(
        e.lt(e.c(schedule.keyChunk - vl), count), {e.i64},
        [&] {
          e.store(count, list.countAt, 8);
          list.flush();
          return Values{e.c(0)};
        },
        [&] { return Values{count}; });
  })[0];
  e.store(end, list.countAt, 8);
}

} // namespace heddle
