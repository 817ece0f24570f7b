//===- MaskRows.cpp - Boolean tensors of query and key ----------------===//
//
// A condition that loads bool(%t[.., i, j]) has queries on lanes and takes key after key: each key would gather from
// as many rows as there are lanes, though the elements of a row lie in the order of the keys. Instead:
//
//   once a tile    where each lane's row lies
//   once a box     the rows' elements in it, a register at a time: is any set, and are all
//   once a chunk   a byte for each key and lane, as [key][lane]; squares of 16 x 16 are transposed in registers
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// Elements of a row that are read at once: a register of the smallest target.
static constexpr int64_t kSide = 16;
static_assert(kColumn == kSide && kBoxKeys % kSide == 0, "expected boxes and columns of whole squares");

/// Rows are far apart, so that no stream of the hardware fetches them: bytes ahead of a box that are asked for.
static constexpr int64_t kAhead = 4 * kBoxKeys;

SmallVector<Expr> AttendTiler::maskRows(const Stratum &s) {
  if (!bool(s.residual) || bool(s.ids) || bool(s.list)) {
    return {};
  }
  auto all = llvm::to_vector(loadsWhere(s.residual, isRowOfKeys));
  llvm::erase_if(all, [&](const Expr &load) {
    Type element = patternRecords[load->value].element;
    return !element || !(element.isInteger(1) || element.isInteger(8));
  });
  return all;
}

void AttendTiler::layoutMaskRows() {
  for (const Stratum &s : schedule.strata) {
    for (size_t n = fMaskRows.size(); n < maskRows(s).size(); ++n) {
      fMaskRows.push_back(frame.allocate(kLanes * 8));
      fMaskBytes.push_back(frame.allocate((slots + kSide) * kLanes));
    }
  }
}

void AttendTiler::findMaskRows(const Uniform &u, const Stratum &s) {
  for (auto [load, rows] : llvm::zip(maskRows(s), fMaskRows)) {
    e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
      Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
      Value offset = e.splat(emitRowOffset(e, load, scope(u, s.segment, query, {})));
      e.store(e.add(offset, e.splat(slot(u.args, patternRecords[load->value].slot))), e.at(in(u, rows), e.mul(lane, 8)),
              8);
    });
  }
}

namespace {
/// Where neighboring keys of a load lie in a row.
struct Place {
  Value index; ///< of the first
  Value fits;  ///< all of them exist, and are adjacent
};
} // namespace

static Place placeOf(Emitter &e, const Expr &load, const ExprScope &at, int64_t count) {
  const OperandRecord &record = at.operands[load->value];
  auto slot = [&](int64_t n) { return e.load(e.i64, e.at(at.args, (record.slot + n) * 8), 8); };
  Value index = e.toInt(emitExpr(e, load->args.back(), at), e.i64);
  Value inside = e.both(e.ge(index, e.c(0)), e.le(e.add(index, count), slot(record.rank)));
  return {index, e.both(inside, e.eq(slot(4 + record.rank), e.c(1)))};
}

/// Of `count` keys from position `first` on, and all lanes.
Truth AttendTiler::testMaskRows(const Uniform &u, const Stratum &s, const Expr &load, Value first, Value count) {
  Value yes = e.constant(e.i1, int64_t(1)), no = e.constant(e.i1, int64_t(0));
  SmallVector<Expr> loads = maskRows(s);
  const auto *found = llvm::find_if(loads, [&](const Expr &x) { return x.same(load); });
  if (found == loads.end() || s.key.back().step != 1) {
    return {yes, no};
  }
  const int64_t table = fMaskRows[found - loads.begin()];
  auto side = VectorType::get({kSide}, e.i8);
  Place place = placeOf(e, load, scope(u, s.segment, {}, first), kBoxKeys);
  Values truth = e.ifElse(
      e.both(place.fits, e.eq(count, e.c(kBoxKeys))), {e.i1, e.i1},
      [&] {
        constexpr int64_t kRegisters = kBoxKeys / kSide;
        Value zero = e.constant(side, int64_t(0));
        Values init(kRegisters, zero);
        init.append(kRegisters, e.constant(side, int64_t(-1)));
        Value lanes = e.load(e.i64, in(u, fLanes), 8);
        Values all = e.loop(e.c(0), lanes, 1, init, [&](Value lane, ValueRange v) {
          Value row = e.at(e.toPtr(e.load(e.i64, e.at(in(u, table), e.mul(lane, 8)), 8)), place.index);
          e.prefetch(e.at(row, kAhead), kBoxKeys);
          Values next(2 * kRegisters);
          for (int64_t n = 0; n < kRegisters; ++n) {
            Value x = e.load(side, e.at(row, n * kSide), 1);
            next[n] = arith::OrIOp::create(builder, e.loc, v[n], x);
            next[kRegisters + n] = arith::MinUIOp::create(builder, e.loc, v[kRegisters + n], x);
          }
          return next;
        });
        Value some, none;
        for (int64_t n = 0; n < kRegisters; ++n) {
          Value set = all[n], unset = e.cmp(arith::CmpIPredicate::eq, all[kRegisters + n], zero);
          some = some ? arith::OrIOp::create(builder, e.loc, some, set).getResult() : set;
          none = none ? arith::OrIOp::create(builder, e.loc, none, unset).getResult() : unset;
        }
        auto any = [&](Value bits, Type type) {
          Value word = LLVM::BitcastOp::create(builder, e.loc, type, bits);
          return e.cmp(arith::CmpIPredicate::ne, word, e.constant(type, int64_t(0)));
        };
        Value may = any(e.cmp(arith::CmpIPredicate::ne, some, zero), e.i16);
        return Values{may, e.flip(any(none, e.i16))};
      },
      [&] { return Values{yes, no}; });
  return {truth[0], truth[1]};
}

/// As bytes [key][lane], for the chunk's keys.
void AttendTiler::readMaskRows(const Uniform &u, const Stratum &s, Value count) {
  auto side = VectorType::get({kSide}, e.i8);
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  auto keyAt = [&](Value n) { return e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(n, 4)), 4), e.i64); };
  for (auto [load, table, bytes] : llvm::zip(maskRows(s), fMaskRows, fMaskBytes)) {
    // Keys [from, from + 16) that are neighbors: a square for each column.
    auto squares = [&](Value from, Value index) {
      e.loop(e.c(0), lanes, kSide, [&](Value lane) {
        Values rows;
        for (int64_t n = 0; n < kSide; ++n) {
          Value row = e.toPtr(e.load(e.i64, e.at(in(u, table), e.mul(e.add(lane, n), 8)), 8));
          rows.push_back(e.load(side, e.at(row, index), 1));
        }
        // Four times the rows n and n + 8 interleaved transpose them.
        SmallVector<int64_t> low, high;
        for (int64_t n = 0; n < kSide / 2; ++n) {
          low.append({n, kSide + n});
          high.append({kSide / 2 + n, kSide + kSide / 2 + n});
        }
        for (int64_t step = 1; step < kSide; step *= 2) {
          Values next;
          for (int64_t n = 0; n < kSide / 2; ++n) {
            next.push_back(vector::ShuffleOp::create(builder, e.loc, rows[n], rows[n + kSide / 2], low));
            next.push_back(vector::ShuffleOp::create(builder, e.loc, rows[n], rows[n + kSide / 2], high));
          }
          rows = next;
        }
        for (int64_t n = 0; n < kSide; ++n) {
          e.store(rows[n], e.at(in(u, bytes), e.add(e.mul(e.add(from, n), kLanes), lane)), 1);
        }
      });
    };
    // Any keys, one at a time.
    auto gathered = [&](Value from) {
      e.loop(from, e.min(e.add(from, kSide), count), 1, [&](Value k) {
        e.loop(e.c(0), lanes, vl, [&](Value lane) {
          Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
          Value set = e.splat(emitExpr(e, load, scope(u, s.segment, query, keyAt(k))));
          if (!Emitter::elementType(set).isInteger(1)) {
            set = e.cmp(arith::CmpIPredicate::ne, set, e.constant(set.getType(), int64_t(0)));
          }
          e.store(arith::ExtUIOp::create(builder, e.loc, e.vec(e.i8), set),
                  e.at(in(u, bytes), e.add(e.mul(k, kLanes), lane)), 1);
        });
      });
    };
    e.loop(e.c(0), count, kSide, [&](Value from) {
      // The table of keys has room behind the last; what stands there is not one of them.
      Value first = keyAt(from), last = keyAt(e.add(from, kSide - 1)), whole = e.le(e.add(from, kSide), count);
      Place place = placeOf(e, load, scope(u, s.segment, {}, first), kSide);
      Value neighbors = e.both(whole, e.eq(e.sub(last, first), e.c(kSide - 1)));
      e.ifElse(e.both(place.fits, neighbors), [&] { squares(from, place.index); }, [&] { gathered(from); });
    });
  }
}

/// Makes the loads' values at number `key` of the chunk and lanes [lane, lane + width) known to `to`.
void AttendTiler::giveMaskRows(const Uniform &u, const Stratum &s, Value key, Value lane, ExprScope &to) {
  for (auto [load, bytes] : llvm::zip(maskRows(s), fMaskBytes)) {
    Value v = e.load(e.vec(e.i8), e.at(in(u, bytes), e.add(e.mul(key, kLanes), lane)), 1);
    to.give(s.residual, load, e.cmp(arith::CmpIPredicate::ne, v, e.constant(v.getType(), int64_t(0))));
  }
}

} // namespace heddle
