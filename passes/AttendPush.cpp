//===- AttendPush.cpp - Keys that are appended to a chunk -----------------===//
//
// push(n), which the loops over a stratum's keys call for each run of them
// (AttendKeys.cpp): the keys' positions and the addresses of their rows join the
// tables of the chunk, which is flushed whenever it is full. Keys that no lane
// wants are left out: those that the key alone decides on, by the register, and of
// runs with conditions on loaded tables those that no lane of the tile meets.
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

class AttendTiler::Push {
public:
  /// `a`: the arguments of push(args, scratch, b, h, first position, count, masked, step).
  Push(AttendTiler &t, int64_t n, ValueRange a)
      : t(t), e(t.e), n(n), s(t.schedule.strata[n]), segment(t.sig.segments[s.segment]),
        u(t.uniform(a[0], a[1], a[2], a[3])), first(a[4]), total(a[5]), masked(a[6]), step(a[7]),
        koff(t.kOffset(u, s.segment)) {
    if (s.ids) {
      keyOrder = t.orderTable(u, t.orderOf(s), 1);
      lastRank = e.add(t.keyRows(u, s.segment), -1);
    }
  }

  void emit() {
    if (bool(s.residual) && s.residual.hasLoad() && t.maskRows(s).empty()) {
      auto wanted = [&](Value position) { return wantedByALane(position); };
      e.ifElse(e.cmp(arith::CmpIPredicate::ne, masked, e.c(0)), [&] { pushWanted(wanted); }, [&] { pushKept(); });
    } else {
      pushKept();
    }
  }

private:
  void pushKept() {
    if (s.keep) {
      pushWanted([&](Value position) { return kept(position); });
    } else {
      pushAll();
    }
  }

  /// The position of a number of the run; the runs of sorted keys are ranks.
  Value placeOf(Value number) {
    return keyOrder ? e.add(t.gatherI32(keyOrder, e.min(number, lastRank)), koff) : number;
  }

  /// Writes entry `at` of the tables for the key at `position`, number `number` of its order.
  void write(Value at, Value position, Value number) {
    Value row = e.sub(position, koff);
    if (keyOrder) {
      e.store(e.toInt(number, e.i32), e.at(t.in(u, t.fRanks), e.mul(at, 4)), 4);
    }
    e.store(e.toInt(position, e.i32), e.at(t.in(u, t.fKeys), e.mul(at, 4)), 4);
    writeAddress(at, row, segment.v, t.fValueBase, t.fValueStride, t.fValueTable);
    for (size_t dot = 0; dot < segment.dots.size(); ++dot) {
      if (!segment.dots[dot].relative) {
        writeAddress(at, row, segment.dots[dot].k, t.fKeyBase[dot], t.fKeyStride[dot], t.fKeyTable[dot]);
      }
    }
  }

  void writeAddress(Value at, Value row, int64_t arg, int64_t base, int64_t stride, int64_t table) {
    const int64_t record = t.sig.argSlot(arg);
    Value b = e.load(e.i64, t.in(u, base), 8), st = e.load(e.i64, t.in(u, stride), 8);
    Value there =
        t.isListed(arg) ? t.rowAddress(u, record, b, row, t.headOf(u, record, true)) : e.add(e.mul(row, st), b);
    e.store(there, e.at(t.in(u, table), e.mul(at, 8)), 8);
  }

  void flushWhenFull(Value count) {
    e.store(count, t.in(u, t.fCount), 8);
    e.ifThen(e.ge(count, e.c(t.schedule.keyChunk)),
             [&] { e.call(t.name("flush", n), {}, {u.args, u.scratch, u.b, u.h}); });
  }

  void mark() {
    Value flag = e.load(e.i64, t.in(u, t.fMasked), 8);
    e.store(e.either(flag, masked), t.in(u, t.fMasked), 8);
  }

  /// Key by key, those that are wanted. What the key alone decides is tried on whole registers first, so that a few
  /// flagged keys among many cost little.
  void pushWanted(llvm::function_ref<Value(Value)> wanted) {
    auto one = [&](Value number) { pushOne(e.add(first, e.mul(number, step)), wanted); };
    if (!bool(s.keep)) {
      e.loop(e.c(0), total, 1, one);
      return;
    }
    constexpr int64_t kRegisters = 4;
    e.loop(e.c(0), total, kRegisters * t.vl, [&](Value number) {
      Value some;
      for (int64_t r = 0; r < kRegisters; ++r) {
        Value at = e.add(e.splat(e.add(number, e.c(r * t.vl))), e.iota());
        Value position = placeOf(e.add(e.splat(first), e.mul(at, e.splat(step))));
        Value live = e.splat(emitExpr(e, s.keep, t.scope(u, s.segment, {}, position)));
        live = e.both(live, e.lt(at, e.splat(total)));
        some = some ? e.either(some, live) : live;
      }
      e.ifThen(e.any(some), [&] { e.loop(number, e.min(e.add(number, e.c(kRegisters * t.vl)), total), 1, one); });
    });
  }

  void pushOne(Value number, llvm::function_ref<Value(Value)> wanted) {
    Value position = placeOf(number);
    e.ifThen(wanted(position), [&] {
      Value count = e.load(e.i64, t.in(u, t.fCount), 8);
      mark();
      write(count, position, number);
      flushWhenFull(e.add(count, 1));
    });
  }

  /// while (done < total): fill what the chunk still holds.
  void pushAll() {
    scf::WhileOp::create(
        t.builder, e.loc, TypeRange{e.i64}, ValueRange{e.c(0)},
        [&](OpBuilder &b, Location, ValueRange v) { scf::ConditionOp::create(b, e.loc, e.lt(v[0], total), v); },
        [&](OpBuilder &b, Location, ValueRange v) {
          Value count = e.load(e.i64, t.in(u, t.fCount), 8);
          Value take = e.min(e.sub(e.c(t.schedule.keyChunk), count), e.sub(total, v[0]));
          mark();
          Value start = e.add(first, e.mul(v[0], step));
          // Whole registers: the tables have room behind the last key.
          Value steps = e.mul(e.iota(), e.splat(step));
          e.loop(e.c(0), take, t.vl, [&](Value at) {
            Value number = e.add(e.splat(e.add(start, e.mul(at, step))), steps);
            write(e.add(count, at), placeOf(number), number);
          });
          flushWhenFull(e.add(count, take));
          scf::YieldOp::create(b, e.loc, ValueRange{e.add(v[0], take)});
        });
  }

  /// What the key alone decides.
  Value kept(Value position) {
    return s.keep ? emitExpr(e, s.keep, t.scope(u, s.segment, {}, position)) : e.constant(e.i1, int64_t(1));
  }

  /// A condition on loaded tables is tried on the tile's lanes first: a key that none of them wants costs no more.
  Value wantedByALane(Value position) {
    Value lanes = e.load(e.i64, t.in(u, t.fLanes), 8);
    Value none = e.constant(e.vec(e.i1), int64_t(0));
    Values any = e.loop(e.c(0), lanes, t.vl, {none}, [&](Value lane, ValueRange acc) {
      Value query = e.load(e.vec(e.i64), e.at(t.in(u, t.fPositions), e.mul(lane, 8)), 8);
      ExprScope at = t.scope(u, s.segment, query, position);
      t.giveHoisted(u, n, lane, at);
      return Values{e.either(acc[0], e.splat(emitExpr(e, s.residual, at)))};
    });
    return e.both(kept(position), e.any(any[0]));
  }

  AttendTiler &t;
  Emitter &e;
  int64_t n;
  const Stratum &s;
  const SegmentSignature &segment;
  Uniform u;
  Value first, total, masked, step; ///< of the run
  Value koff, keyOrder, lastRank;   ///< the last two where keys are sorted
};

/// push(args, scratch, b, h, first position, count, masked, step): appends keys to the chunk, flushing it when full.
void AttendTiler::emitPush(int64_t n) {
  auto fn = function(name("push", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64, e.i64, e.i64});
  Push(*this, n, fn.getArguments()).emit();
  func::ReturnOp::create(builder, e.loc);
}
} // namespace heddle
