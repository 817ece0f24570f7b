//===- RelativeRows.cpp - Dots with rows of the distance ------------------===//
//
// The part of the tiling pass for dots q . r[i - j + c] (Transformer-XL). In a
// tile whose distances lie close together, the dots with each distance are
// computed once, as with keys, and moved to their places:
//
//   T[x][lane] = q_lane . r[least + x]              for the rows that the tile meets
//   S[key][lane] = T[clamp(i_lane - j_key + c) - least][lane]
//
// so that 64 queries and n keys cost 64 + n rows and not 64 n, and keys past the
// last row next to nothing: they have one row. Where distances lie far apart
// (lattices), each pair has a dot of its own.
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;
using Kind = vector::CombiningKind;

void AttendTiler::layoutRelative() {
  if (!hasRelative()) {
    return;
  }
  int64_t widest = 1;
  for (const SegmentSignature &s : sig.segments) {
    for (const DotSource &dot : s.dots) {
      widest = std::max(widest, dot.relative ? dot.d : 1);
    }
  }
  relativeSlots = (slots + kLanes + kNarrowKeys + 15) / 16 * 16;
  fRelativeTable = frame.allocate(relativeSlots * 8);
  fRelativeScores = frame.allocate(relativeSlots * kLanes * 4);
  fRelativeStage = frame.allocate(relativeSlots * paddedRow(widest) * 4);
  fRelativeGroups = frame.allocate((relativeSlots / kKeyGroup + 1) * 8);
  fRelativeRow = frame.allocate((slots + kLanes) * 4);
}

Value AttendTiler::relativeRow(const Uniform &u, const DotSource &dot, Value query, Value key) {
  int64_t record = sig.argSlot(dot.k);
  Value distance = e.add(e.sub(query, key), dot.shift);
  Value last = e.add(slot(u.args, record + 3), -1);
  Value row = e.max(e.min(distance, last), e.c(0));
  return e.add(e.mul(row, rowStride(u, record)), headBase(u, record, true));
}

/// relative(args, scratch, b, h): S of a dot with relative rows, for all lanes and keys of the chunk.
void AttendTiler::emitRelative(int64_t n, size_t dot) {
  int64_t segment = schedule.strata[n].segment;
  const DotSource &source = sig.segments[segment].dots[dot];
  auto fn = function(name(("relative_" + Twine(dot)).str(), n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8);
  Values queries = e.loop(e.c(0), lanes, 1, {e.c(kFar), e.c(-kFar)}, [&](Value lane, ValueRange acc) {
    Value i = e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    return Values{e.min(acc[0], i), e.max(acc[1], i)};
  });
  Values keys = e.loop(e.c(0), count, 1, {e.c(kFar), e.c(-kFar)}, [&](Value k, ValueRange acc) {
    Value j = e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64);
    return Values{e.min(acc[0], j), e.max(acc[1], j)};
  });
  Value last = e.add(slot(u.args, sig.argSlot(source.k) + 3), -1);
  auto clamped = [&](Value i, Value j) { return e.max(e.min(e.add(e.sub(i, j), source.shift), last), e.c(0)); };
  Value least = clamped(queries[0], keys[1]);
  Value span = e.add(e.sub(clamped(queries[1], keys[0]), least), 1);
  e.ifElse(
      e.le(span, e.c(relativeSlots - kNarrowKeys)), [&] { emitDistances(u, segment, dot, least, span); },
      [&] { emitRelativeRows(u, segment, dot); });
  func::ReturnOp::create(builder, e.loc);
}

void AttendTiler::emitDistances(const Uniform &u, int64_t segment, size_t dot, Value least, Value span) {
  const DotSource &source = sig.segments[segment].dots[dot];
  int64_t record = sig.argSlot(source.k), d = source.d;
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  Value table = in(u, fRelativeTable), stride = elementStride(u, record), buffer = in(u, fRelativeStage);
  Value base = headBase(u, record, true);
  e.loop(e.c(0), span, 1, [&](Value x) {
    e.store(e.add(e.mul(e.add(least, x), rowStride(u, record)), base), e.at(table, e.mul(x, 8)), 8);
  });
  auto stage = [&] {
    if (pairs) {
      e.call(declareTileKernel(module, TileKernel::StageRows, d, sig.storage), {}, {table, span, stride, buffer});
    } else {
      e.call(declareTileKernel(module, TileKernel::Stage, d, sig.storage), {},
             {table, span, stride, buffer, e.c(paddedRow(d) * 4), e.c(kValueBlock * 4)});
    }
  };
  if (sig.storage.isF32() || (pairs && d % 2 == 0)) {
    e.ifThen(e.cmp(arith::CmpIPredicate::ne, stride, e.c(bytes())), stage);
  } else {
    stage();
  }
  Value last = e.load(e.i64, e.at(table, e.mul(e.add(span, -1), 8)), 8);
  e.loop(span, e.add(span, kNarrowKeys), 1, [&](Value x) { e.store(last, e.at(table, e.mul(x, 8)), 8); });
  Value groups = in(u, fRelativeGroups), end = e.floorDiv(e.add(lanes, kColumn - 1), kColumn);
  e.loop(e.c(0), e.floorDiv(e.add(span, kKeyGroup - 1), e.c(kKeyGroup)), 1, [&](Value g) {
    e.store(e.c32(0), e.at(groups, e.mul(g, 8)), 4);
    e.store(e.toInt(end, e.i32), e.at(groups, e.add(e.mul(g, 8), 4)), 4);
  });
  e.call(declareTileKernel(module, TileKernel::Dots, d, wide()), {},
         {table, span, groups, in(u, packOf(segment, int64_t(dot)).at), in(u, fRelativeScores),
          e.c(relativeSlots * kColumn * 4), in(u, fUnusedTops), LLVM::ZeroOp::create(builder, e.loc, e.ptr)});
  emitSkew(u, segment, dot, least, span);
}

/// S[key][lane] = T[clamp(i - j + c) - least][lane]; of one row, the same for all keys.
void AttendTiler::emitSkew(const Uniform &u, int64_t segment, size_t dot, Value least, Value span) {
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8);
  Value end = e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn), distances = in(u, fRelativeScores);
  auto forLanes = [&](llvm::function_ref<void(Value, Value, Value, Value)> body) {
    e.loop(e.c(0), end, vl, [&](Value lane) {
      Value column = e.at(distances, e.mul(e.floorDiv(lane, kColumn), relativeSlots * kColumn * 4));
      body(lane, column, e.mul(e.floorMod(lane, kColumn), 4), scoresOf(u, int64_t(dot), lane));
    });
  };
  auto forKeys = [&](Value to, llvm::function_ref<Value(Value)> score) {
    e.loop(e.c(0), count, 1, [&](Value k) { e.store(score(k), e.at(to, e.mul(k, kColumn * 4)), 4); });
  };
  auto alike = [&](Value, Value column, Value inside, Value to) {
    Value s = e.loadRow(e.at(column, inside));
    forKeys(to, [&](Value) { return s; });
  };
  auto skewed = [&](Value lane, Value column, Value inside, Value to) {
    Value all = e.constant(e.vec(e.i1), int64_t(1)), none = e.splat(e.c(0)), last = e.splat(e.add(span, -1));
    Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    Value own = e.add(e.mul(e.iota(), 4), e.splat(inside));
    Value first = e.sub(e.add(query, sig.segments[segment].dots[dot].shift), e.splat(least));
    forKeys(to, [&](Value k) {
      Value j = e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64);
      Value offset = e.add(e.mul(e.max(e.min(e.sub(first, e.splat(j)), last), none), kColumn * 4), own);
      Value addresses = LLVM::GEPOp::create(builder, e.loc, e.vec(e.ptr), e.i8, column, ArrayRef<LLVM::GEPArg>{offset});
      return LLVM::masked_gather::create(builder, e.loc, e.vec(e.f32), addresses, all, ValueRange{},
                                         builder.getI32IntegerAttr(4))
          .getResult();
    });
  };
  e.ifElse(e.eq(span, e.c(1)), [&] { forLanes(alike); }, [&] { forLanes(skewed); });
}

/// Pair by pair: the rows of one query's distances, with d on lanes.
void AttendTiler::emitRelativeRows(const Uniform &u, int64_t segment, size_t dot) {
  const DotSource &source = sig.segments[segment].dots[dot];
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8);
  Value row = in(u, fRelativeRow);
  e.loop(e.c(0), lanes, 1, [&](Value lane) {
    Value query = e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    emitRowQuery(u, segment, dot, query, false);
    e.loop(e.c(0), count, 1, [&](Value k) {
      Value j = e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64);
      e.store(relativeRow(u, source, query, j), e.at(in(u, fKeyTable[dot]), e.mul(k, 8)), 8);
    });
    emitRowDots(u, segment, dot, count, row);
    Value column = e.mul(e.floorDiv(lane, kColumn), columnPitch());
    Value to = e.at(in(u, fScores[dot]), e.add(column, e.mul(e.floorMod(lane, kColumn), 4)));
    e.loop(e.c(0), count, 1,
           [&](Value k) { e.store(e.load(e.f32, e.at(row, e.mul(k, 4)), 4), e.at(to, e.mul(k, kColumn * 4)), 4); });
  });
}

} // namespace heddle
