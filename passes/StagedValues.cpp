//===- StagedValues.cpp - Copies of values, and which are kept ---------===//
//
// Values of 16 bits are copied before they are multiplied: to f32, or to pairs of
// keys. Where all tiles walk the same keys from the first on, the copies are kept
// for the next tile: each chunk of a head's keys has a place, whose tag says which
// rows the copy is of. The runtime clears the frame's first word before a thread's
// first task of a launch, and tags of an earlier launch are forgotten
// (docs/abi.md).
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {

/// Bytes of all kept copies: with the rest of the frame below 2 MiB.
static constexpr int64_t kMostKept = 5 << 18, kMostFrame = 2 << 20;
/// A tag is the address of the first row, the number of rows, and their segment.
static constexpr int64_t kTagBytes = 24, kTagRows = 8, kTagSegment = 16;

/// True if a chunk of the stratum is always a run of adjacent keys, and tiles may share it.
bool AttendTiler::keepsValues(int64_t n) const {
  const Stratum &s = schedule.strata[n];
  bool adjacent = s.key.size() == 1 && s.key[0].radix == 1 && s.key[0].step == 1 && s.choices == 0;
  bool filtered = bool(s.keep) || (bool(s.residual) && s.residual.hasLoad());
  return bytes() == 2 && longStrata[n] && adjacent && !filtered && !bool(s.ids) && !bool(s.list);
}

void AttendTiler::layoutKept() {
  int64_t strata = schedule.strata.size(), room = std::min(kMostKept, kMostFrame - frame.size);
  bool any = llvm::any_of(llvm::seq(strata), [&](int64_t n) { return keepsValues(n); });
  keptSlots = any ? std::max<int64_t>(room / (stagedValues() + kTagBytes), 0) : 0;
  fKeptTags = frame.allocate(keptSlots * kTagBytes);
  fKept = frame.allocate(keptSlots * stagedValues());
}

/// At the beginning of a task.
void AttendTiler::forgetValues(const Uniform &u) {
  if (keptSlots == 0) {
    return;
  }
  e.ifThen(e.eq(e.load(e.i64, in(u, fFirst), 8), e.c(0)), [&] {
    e.store(e.c(1), in(u, fFirst), 8);
    e.loop(e.c(0), e.c(keptSlots), 1,
           [&](Value slot) { e.store(e.c(0), e.at(in(u, fKeptTags), e.mul(slot, kTagBytes)), 8); });
  });
}

/// Copies the chunk's values, unless a copy of them is kept, and returns the place. The table of f32 rows then points
/// there.
Value AttendTiler::stageValues(const Uniform &u, int64_t n, const Chunk &c) {
  int64_t segment = schedule.strata[n].segment;
  Value stride = elementStride(u, sig.argSlot(sig.segments[segment].v)), pitch = e.c(valuePitch());
  auto copy = [&](Value buffer) {
    if (pairs) {
      e.call(declareTileKernel(module, TileKernel::StagePairs, sig.dv, sig.storage), {},
             {c.values, c.count, stride, buffer, pitch});
    } else {
      e.call(declareTileKernel(module, TileKernel::Stage, sig.dv, sig.storage), {},
             {c.values, c.count, stride, buffer, e.c(kValueBlock * 4), pitch});
    }
  };
  Value scratch = in(u, fStageV);
  if (keptSlots == 0 || !keepsValues(n)) {
    copy(scratch);
    return scratch;
  }
  Value row = e.sub(e.toInt(e.load(e.i32, in(u, fKeys), 4), e.i64), kOffset(u, segment));
  Value number = e.floorDiv(row, schedule.keyChunk), fits = e.lt(number, e.c(keptSlots));
  number = e.select(fits, number, e.c(0));
  Value buffer = e.select(fits, e.at(in(u, fKept), e.mul(number, stagedValues())), scratch);
  Value tag = e.at(in(u, fKeptTags), e.mul(number, kTagBytes));
  Value first = e.load(e.i64, c.values, 8), rows = e.load(e.i64, e.at(tag, kTagRows), 8);
  // The last pair of an odd count has one row.
  Value enough = e.both(e.lt(c.count, rows), e.eq(e.floorMod(c.count, 2), e.c(0)));
  enough = e.either(enough, e.eq(c.count, rows));
  Value same = e.both(e.eq(e.load(e.i64, tag, 8), first), e.eq(e.load(e.i64, e.at(tag, kTagSegment), 8), e.c(segment)));
  Value hit = e.both(fits, e.both(same, enough));
  auto point = [&] {
    if (!pairs) {
      e.loop(e.c(0), c.count, 1,
             [&](Value k) { e.store(e.at(buffer, e.mul(k, kValueBlock * 4)), e.at(c.values, e.mul(k, 8)), 8); });
    }
  };
  e.ifElse(hit, point, [&] {
    copy(buffer);
    e.ifThen(fits, [&] {
      e.store(first, tag, 8);
      e.store(c.count, e.at(tag, kTagRows), 8);
      e.store(e.c(segment), e.at(tag, kTagSegment), 8);
    });
  });
  return buffer;
}

} // namespace heddle
