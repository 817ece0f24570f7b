//===- ScannedKeys.cpp - Keys that a query finds by trying all ----------===//
//
// How many pairs meet a condition that is no set in digits, or that reads tables (masks, relations of pairs, run-time
// divisors), is known only when the kernel runs. Where they are few, and neighbors share none of them, a tile would
// compute nearly all pairs. So every query decides for itself, by a sample of its own keys (its bits must not depend
// on other rows):
//
//   few scattered keys    taken by itself (RowKeys.cpp): a register of keys at a time, those that meet the condition
//                         are compressed to the query's list. Elements of a row of a table are adjacent in memory,
//                         and boxes of keys that can have no pair are left out (BoxTest.h)
//   else                  a lane of its tile
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

#include "dialect/LinearForm.h"
#include "passes/IntervalTable.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// Registers of neighboring keys that a query samples: of so many keys one. With fewer keys than the fewest registers
/// hold, a query stays in its tile.
static constexpr int64_t kSampleOf = 64, kFewestSamples = 16, kMostSamples = 32;
/// Of a hundred sampled keys, a query with more is better off in a tile, whose conditions are dear where they load.
static constexpr int64_t kMostOfHundred = 10, kMostOfHundredLoaded = 18;
/// So is one whose keys fill more than a half of the registers that they are in.
static constexpr int64_t kMostOfRegister = 2;
/// Keys of a register, as a compiler sees it that does not know its processor.
static constexpr int64_t kRegister = 16;
/// Keys of a box that may be left out: its test is as much work as some registers of keys.
static constexpr int64_t kScanBox = 128;

/// Some load has a row of neighboring elements for each query.
static bool hasRows(const Expr &x) { return (readsNeighbors(x) && x.onQuery()) || llvm::any_of(x->args, hasRows); }

/// The conditions that a key has to meet.
static Expr conditionOf(const Stratum &s) { return s.keep.isNull() ? s.residual : s.keep && s.residual; }

namespace {
/// What a query finds in its sample.
struct Sample {
  int64_t keys = 0, registers = 0, tried = 0; ///< live keys, registers with one, keys
  bool few() const {
    return keys > 0 && keys * 100 <= tried * kMostOfHundred && keys * kMostOfRegister <= registers * kRegister;
  }
};
} // namespace

/// As isSparse() will find it, of a usual register and length.
static Sample sampleOf(const Stratum &s, ExprEnv &env) {
  Sample sample;
  int64_t lo = 0, hi = env.nk;
  for (const std::vector<Expr> *all : {&s.lower, &s.key[0].lower}) {
    for (const Expr &x : *all) {
      lo = std::max(lo, evaluateInt(x, env));
    }
  }
  for (const std::vector<Expr> *all : {&s.upper, &s.key[0].upper}) {
    for (const Expr &x : *all) {
      hi = std::min(hi, evaluateInt(x, env));
    }
  }
  const int64_t count = std::clamp((hi - lo) / kSampleOf, kFewestSamples, kMostSamples);
  for (int64_t n = 0; n < count && lo + kFewestSamples * kRegister <= hi; ++n) {
    const int64_t before = sample.keys;
    env.j = lo + (hi - lo - kRegister) / (count - 1) * n;
    for (const int64_t end = env.j + kRegister; env.j < end; ++env.j) {
      sample.keys += evaluateBool(conditionOf(s), env);
    }
    sample.registers += sample.keys > before;
    sample.tried += kRegister;
  }
  return sample;
}

/// Of a condition on positions alone: some queries have few scattered keys, and of what tiles compute together, 16
/// queries and 6 keys, more has a live pair than the queries' own keys cost.
static bool isOftenSparse(const Stratum &s) {
  constexpr int64_t kLength = 4096, kRows = 16, kSome = 4, kGroups = 16, kQueries = 16, kKeys = 6, kOwnPair = 8;
  ExprEnv env;
  env.nq = env.nk = kLength;
  env.heads = 8;
  int64_t sparse = 0, live = 0, groups = 0;
  const Expr condition = conditionOf(s);
  for (int64_t n = 0; n < kRows; ++n) {
    const int64_t query = (2 * n + 1) * kLength / (2 * kRows) + n;
    env.i = query;
    env.h = s.heads.empty() ? n % env.heads : s.heads[static_cast<size_t>(n) % s.heads.size()];
    Sample sample = sampleOf(s, env);
    sparse += sample.tried > 0 && sample.few();
    for (int64_t g = 0; g < kGroups; ++g) {
      const int64_t first = (g * kLength + n * 37) / kGroups % (query + 1), before = live;
      for (int64_t pair = 0; pair < kQueries * kKeys; ++pair) {
        env.i = query + pair / kKeys;
        env.j = first + pair % kKeys;
        live += evaluateBool(condition, env);
      }
      groups += live > before;
    }
  }
  return sparse >= kSome && live * kOwnPair < groups * kQueries * kKeys;
}

/// Follows the key only in parts `(key + c) floordiv n` that are alike for many neighbors.
static bool isAlikeInRuns(const Expr &x) {
  constexpr int64_t kLong = 16;
  if (!x.onKey()) {
    return true;
  }
  if (x->kind == ExprKind::FloorDiv && x->args[1]->kind == ExprKind::Int && x->args[1]->value >= kLong &&
      LinearForm::of(x->args[0]).withoutKey()) {
    return true;
  }
  return !x->args.empty() && llvm::all_of(x->args, isAlikeInRuns);
}

/// Live keys are neighbors, many at a time.
static bool hasLongRuns(const Expr &x) {
  switch (x->kind) {
  case ExprKind::And:
  case ExprKind::Or:
  case ExprKind::Not:
    return llvm::all_of(x->args, hasLongRuns);
  case ExprKind::Lt:
  case ExprKind::Le:
  case ExprKind::Gt:
  case ExprKind::Ge: { // changes once
    const LinearForm difference = LinearForm::of(x->args[0]) - LinearForm::of(x->args[1]);
    return difference.withoutKey() || (difference * -1).withoutKey() || isAlikeInRuns(x);
  }
  default:
    return isAlikeInRuns(x);
  }
}

static bool hasKind(const Expr &x, llvm::function_ref<bool(ExprKind)> wanted) {
  return wanted(x->kind) || llvm::any_of(x->args, [&](const Expr &arg) { return hasKind(arg, wanted); });
}

bool AttendTiler::mayBeSparse(const Stratum &s) {
  constexpr int64_t kMostNodes = 200;
  const bool plain = s.list.isNull() && s.ids.isNull() && s.choices == 0 && !s.byRow && s.key.size() == 1 &&
                     s.key[0].step == 1 && s.key[0].radix == 1 && s.query.size() == 1 && s.query[0] == QueryDigit();
  if (!plain || s.residual.isNull() || spanOf(s) < kFewestSamples * kRegister) {
    return false;
  }
  if (!isLargerThan(s.residual, kMostNodes) && hasLongRuns(s.residual)) {
    return false; // a tile's boxes have no dead pairs
  }
  if (hasRows(s.residual)) {
    return true;
  }
  auto searches = [](ExprKind k) { return k == ExprKind::Member || k == ExprKind::Search || k == ExprKind::Drawn; };
  auto atRunTime = [](ExprKind k) { return k == ExprKind::Load || k == ExprKind::Scalar || k == ExprKind::Size; };
  const Expr condition = conditionOf(s);
  if (isLargerThan(condition, kMostNodes) || hasKind(condition, searches)) {
    return false; // a register of keys is as dear as a tile's
  }
  std::vector<Expr> all = {condition};
  for (const std::vector<Expr> *bounds : {&s.lower, &s.upper, &s.key[0].lower, &s.key[0].upper}) {
    all.insert(all.end(), bounds->begin(), bounds->end());
  }
  return llvm::any_of(all, [&](const Expr &x) { return hasKind(x, atRunTime); }) || isOftenSparse(s);
}

/// Where one query's row of each load lies, and how many elements it has (0: they are not adjacent).
SmallVector<AttendTiler::LoadRow> AttendTiler::rowsOf(const Uniform &u, const Stratum &s, const Expr &condition,
                                                      Value query) {
  SmallVector<LoadRow> rows;
  for (const Expr &load : loadsWhere(condition, readsNeighbors)) {
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

/// The largest parts of a condition that the key is not in.
static void collectOfQuery(const Expr &x, SmallVectorImpl<Expr> &out) {
  if (!x.onKey()) {
    const bool plain = x->args.empty() && x->kind != ExprKind::Scalar;
    if (!plain && llvm::none_of(out, [&](const Expr &seen) { return &*seen == &*x; })) {
      out.push_back(x);
    }
    return;
  }
  std::optional<IntervalTable> table = intervalTableOf(x);
  for (const Expr &part : table ? table->rest : x->args) {
    collectOfQuery(part, out);
  }
}

AttendTiler::RowCondition AttendTiler::rowCondition(const Uniform &u, const Stratum &s, Value query) {
  RowCondition c{conditionOf(s), query, {}, {}};
  c.rows = rowsOf(u, s, c.condition, query);
  SmallVector<Expr> parts;
  collectOfQuery(c.condition, parts);
  ExprScope at = scope(u, s.segment, query, {});
  for (const Expr &part : parts) {
    c.given.emplace_back(&*part, emitExpr(e, part, at));
  }
  return c;
}

/// The condition of one query and the keys first, first + 1, .. of a register.
Value AttendTiler::tryKeys(const Uniform &u, const Stratum &s, const RowCondition &c, Value first) {
  Value keys = e.add(e.splat(first), e.iota()), inside = e.constant(e.i1, int64_t(1));
  auto pair = [&] {
    ExprScope at = scope(u, s.segment, c.query, keys);
    at.given.append(c.given.begin(), c.given.end());
    return at;
  };
  if (c.rows.empty()) {
    return e.splat(emitExpr(e, c.condition, pair()));
  }
  SmallVector<Value> indices;
  for (const LoadRow &row : c.rows) {
    indices.push_back(e.toInt(emitExpr(e, row.load->args.back(), scope(u, s.segment, c.query, first)), e.i64));
    inside = e.both(inside, e.both(e.ge(indices.back(), e.c(0)), e.le(e.add(indices.back(), vl), row.size)));
  }
  return e.ifElse(
      inside, {e.vec(e.i1)},
      [&] {
        ExprScope at = pair();
        for (auto [row, index] : llvm::zip(c.rows, indices)) {
          const int64_t bytes = row.element.getIntOrFloatBitWidth() / 8;
          Value v = e.load(e.vec(row.element), e.at(row.base, e.mul(index, bytes)), 1);
          if (row.load->type == ExprType::Bool) {
            v = e.cmp(arith::CmpIPredicate::ne, v, e.constant(v.getType(), int64_t(0)));
          } else if (row.load->type == ExprType::Int) {
            v = row.element.isInteger(64) ? v : e.toInt(v, e.i64);
          } else if (row.element.isF32()) {
            v = arith::ExtFOp::create(builder, e.loc, e.vec(e.f64), v);
          }
          at.give(c.condition, row.load, v);
        }
        return Values{e.splat(emitExpr(e, c.condition, at))};
      },
      [&] { return Values{e.splat(emitExpr(e, c.condition, pair()))}; })[0];
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
  return e.ifElse(
      e.le(e.c(kFewestSamples * vl), span), {e.i1},
      [&] {
        RowCondition c = rowCondition(u, s, query);
        Value samples = e.min(e.max(e.floorDiv(span, kSampleOf), e.c(kFewestSamples)), e.c(kMostSamples));
        Value apart = e.floorDiv(e.add(span, -vl), e.add(samples, -1));
        Values found = e.loop(e.c(0), samples, 1, {e.c(0), e.c(0)}, [&](Value n, ValueRange all) {
          Value own = e.countTrue(tryKeys(u, s, c, e.add(lo, e.mul(n, apart))));
          return Values{e.add(all[0], own), e.add(all[1], e.min(own, e.c(1)))};
        });
        const int64_t most = c.condition.hasLoad() ? kMostOfHundredLoaded : kMostOfHundred;
        Value few = e.le(e.mul(found[0], 100), e.mul(samples, vl * most));
        if (!hasRows(c.condition)) {
          few = e.both(few, e.lt(e.c(0), found[0])); // nearly none, or all in one place: tiles leave out what is empty
        }
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
  const RowCondition c = rowCondition(u, s, list.query);
  auto scan = [&](Value from, Value until, Value count) {
    return e.loop(from, until, vl, {count}, [&](Value key, ValueRange acc) {
      Value live = tryKeys(u, s, c, key);
      live = e.both(live, e.lt(e.add(e.iota(), key), e.splat(until)));
      Value keys = e.add(e.splat(e.toInt(key, e.i32)), e.toInt(e.iota(), e.i32));
      // In a register: some processors take long to compress to memory. The list has room for a whole one.
      e.store(e.compress(keys, live), e.at(list.keys, e.mul(acc[0], 4)), 4);
      Value count = e.add(acc[0], e.countTrue(live));
      return e.ifElse(
          e.lt(e.c(schedule.keyChunk - vl), count), {e.i64},
          [&] {
            e.store(count, list.countAt, 8);
            list.flush();
            return Values{e.c(0)};
          },
          [&] { return Values{count}; });
    })[0];
  };
  Value count = e.load(e.i64, list.countAt, 8), end = e.add(first, total);
  if (!hasBoxTest(c.condition)) {
    e.store(scan(first, end, count), list.countAt, 8);
    return;
  }
  const ExprScope uniform = scope(u, s.segment, {}, {});
  Truth unknown{e.constant(e.i1, int64_t(1)), e.constant(e.i1, int64_t(0))};
  count = e.loop(first, end, kScanBox, {count}, [&](Value from, ValueRange acc) {
    Value until = e.min(e.add(from, kScanBox), end);
    Truth holds = emitBoxTest(e, c.condition, uniform, {list.query, list.query}, {from, e.add(until, -1)},
                              [&](const Expr &) { return unknown; });
    return e.ifElse(
        holds.may, {e.i64}, [&] { return Values{scan(from, until, acc[0])}; }, [&] { return Values{acc[0]}; });
  })[0];
  e.store(count, list.countAt, 8);
}

} // namespace heddle
