//===- StagedValues.cpp - Copies of values, and which are kept ---------===//
//
// Values of 16 bits are copied before they are multiplied: to f32, or to pairs of
// keys. Tiles share keys, so copies are kept for the next tile, in blocks of
// adjacent rows: each block has a place, whose tag says which rows the copy is of,
// and a chunk of adjacent keys lies in places one after the other. The runtime
// clears the frame's first word before a thread's first task of a launch, and tags
// of an earlier launch are forgotten (docs/abi.md).
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {

/// Bytes of all kept copies: with the rest of the frame below 2 MiB.
static constexpr int64_t kMostKept = 5 << 18, kMostFrame = 2 << 20;
/// Rows of a block; a tag is the address of its first row, and its number and segment: rows may share an address.
static constexpr int64_t kBlockRows = 32, kTagBytes = 16, kTagId = 8;

/// Blocks that hold the keys of a tile whose rows have theirs within `span` positions, and the next tile's.
static int64_t blocksOf(int64_t span) { return (span + 3 * kLanes) / kBlockRows + 1; }

/// True if a chunk of the stratum is always a run of adjacent keys, and tiles may share it.
bool AttendTiler::keepsValues(int64_t n) const {
  const Stratum &s = schedule.strata[n];
  bool adjacent = s.key.size() == 1 && s.key[0].radix == 1 && s.key[0].step == 1 && s.choices == 0;
  bool filtered = bool(s.keep) || (bool(s.residual) && s.residual.hasLoad());
  bool shared = spans[n] > kLanes; // of so few keys, a tile has its own
  return bytes() == 2 && !isListed(sig.segments[s.segment].v) && !byRow(s) && shared && adjacent && !filtered &&
         !bool(s.ids) && !bool(s.list);
}

/// Bytes of a block of columns of one kept block of rows.
int64_t AttendTiler::keptStep() const { return (pairs ? kBlockRows / 2 : kBlockRows) * kValueBlock * 4; }

void AttendTiler::layoutKept() {
  int64_t room = std::min(kMostKept, kMostFrame - frame.size), wanted = 0, ring = 1;
  // Blocks of a chunk, which begins anywhere in its first one.
  int64_t chunk = (schedule.keyChunk + kBlockRows - 2) / kBlockRows + 1;
  for (int64_t n = 0; n < int64_t(schedule.strata.size()); ++n) {
    if (keepsValues(n)) {
      ring = std::max(ring, longStrata[n] ? 1 : blocksOf(spans[n]));
      wanted = std::max(wanted, longStrata[n] ? room : ring + chunk - 1);
    }
  }
  keptBlocks = std::min(wanted, room / (keptStep() * valueBlocks(sig.dv) + kTagBytes));
  keptRing = std::min(ring, keptBlocks - chunk + 1);
  if (keptRing <= 0) {
    keptBlocks = 0;
  }
  fKeptTags = frame.allocate(keptBlocks * kTagBytes);
  fKeptRows = frame.allocate(kBlockRows * 8);
  fKept = frame.allocate(keptBlocks * keptStep() * valueBlocks(sig.dv));
}

/// At the beginning of a task.
void AttendTiler::forgetValues(const Uniform &u) {
  if (keptBlocks == 0) {
    return;
  }
  e.ifThen(e.eq(e.load(e.i64, in(u, fFirst), 8), e.c(0)), [&] {
    e.store(e.c(1), in(u, fFirst), 8);
    e.loop(e.c(0), e.c(keptBlocks), 1,
           [&](Value block) { e.store(e.c(0), e.at(in(u, fKeptTags), e.mul(block, kTagBytes)), 8); });
  });
}

/// Copies rows of V to a buffer.
void AttendTiler::copyValues(const Uniform &u, int64_t segment, Value rows, Value count, Value buffer, Value pitch) {
  Value stride = elementStride(u, sig.argSlot(sig.segments[segment].v));
  if (pairs) {
    e.call(declareTileKernel(module, TileKernel::StagePairs, sig.dv, sig.storage), {},
           {rows, count, stride, buffer, pitch});
  } else {
    e.call(declareTileKernel(module, TileKernel::Stage, sig.dv, sig.storage), {},
           {rows, count, stride, buffer, e.c(kValueBlock * 4), pitch});
  }
}

/// A run of a stratum whose values are kept begins at an even row where pairs of rows are kept: how many keys before
/// `position` that is.
Value AttendTiler::keysBefore(const Uniform &u, int64_t n, Value position) {
  bool even = pairs && keptBlocks > 0 && keepsValues(n) && schedule.keyChunk % 2 == 0;
  return even ? e.floorMod(e.sub(position, kOffset(u, schedule.strata[n].segment)), 2) : e.c(0);
}

/// The chunk's values, copied unless a copy is kept: where they are, and the distance of their blocks of columns. The
/// table of f32 rows then points there.
std::pair<Value, Value> AttendTiler::stageValues(const Uniform &u, int64_t n, const Chunk &c) {
  int64_t segment = schedule.strata[n].segment;
  Value scratch = in(u, fStageV), scratchPitch = e.c(valuePitch());
  auto copyAll = [&] { copyValues(u, segment, c.values, c.count, scratch, scratchPitch); };
  if (keptBlocks == 0 || !keepsValues(n)) {
    copyAll();
    return {scratch, scratchPitch};
  }
  Value pitch = e.c(keptBlocks * keptStep());
  Value row = e.sub(e.toInt(e.load(e.i32, in(u, fKeys), 4), e.i64), kOffset(u, segment));
  Value first = e.floorDiv(row, kBlockRows), inside = e.floorMod(row, kBlockRows);
  Value last = e.floorDiv(e.add(e.add(row, c.count), -1), kBlockRows), end = e.add(last, 1);
  // Of long rows the first ones are kept; of short ones those that were used last.
  Value shift = longStrata[n] ? e.c(0) : e.sub(e.floorMod(first, keptRing), first);
  Value fits = longStrata[n] ? e.lt(last, e.c(keptBlocks)) : e.constant(e.i1, int64_t(1));
  if (pairs) {
    fits = e.both(fits, e.eq(e.floorMod(row, 2), e.c(0)));
  }
  auto placeOf = [&](Value block) { return e.mul(e.add(block, shift), keptStep()); };
  Value offset = e.add(placeOf(first), e.mul(e.floorDiv(inside, pairs ? 2 : 1), kValueBlock * 4));
  Value kept = e.at(in(u, fKept), offset);
  auto keepBlock = [&](Value block) {
    Value tag = e.at(in(u, fKeptTags), e.mul(e.add(block, shift), kTagBytes));
    Value id = e.add(e.mul(block, 1 << 16), segment);
    Value begin = e.mul(block, kBlockRows), stride = e.load(e.i64, in(u, fValueStride), 8);
    Value address = e.add(e.load(e.i64, in(u, fValueBase), 8), e.mul(begin, stride));
    Value differs = e.either(e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, tag, 8), address),
                             e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, e.at(tag, kTagId), 8), id));
    e.ifThen(differs, [&] {
      Value count = e.min(e.sub(keyRows(u, segment), begin), e.c(kBlockRows));
      e.loop(e.c(0), e.c(kBlockRows), vl, [&](Value t) {
        Value number = e.add(e.splat(t), e.iota());
        e.store(e.add(e.splat(address), e.mul(number, e.splat(stride))), e.at(in(u, fKeptRows), e.mul(t, 8)), 8);
      });
      copyValues(u, segment, in(u, fKeptRows), count, e.at(in(u, fKept), placeOf(block)), pitch);
      e.store(address, tag, 8);
      e.store(id, e.at(tag, kTagId), 8);
    });
  };
  e.ifElse(
      fits,
      [&] {
        e.loop(first, end, 1, keepBlock);
        if (!pairs) {
          e.loop(e.c(0), c.count, 1,
                 [&](Value k) { e.store(e.at(kept, e.mul(k, kValueBlock * 4)), e.at(c.values, e.mul(k, 8)), 8); });
        }
      },
      copyAll);
  return {e.select(fits, kept, scratch), e.select(fits, pitch, scratchPitch)};
}

} // namespace heddle
