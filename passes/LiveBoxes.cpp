//===- LiveBoxes.cpp - Live bits where lanes have boxes of digits ------===//
//
// Where each lane has an interval of each digit of the key, as in a grid, a tile's
// lanes that have a value of a digit are one word, made once a tile:
//
//   words[digit][value]   bit l: lane l has the value
//   live(key) = words[0][digit 0 of key] & words[1][digit 1 of key] & ..
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// Values of a digit that a tile's words have room for; tiles with more take the keys lane by lane.
static constexpr int64_t kBoxValues = 128;
static_assert(kLanes == 64, "expected the lanes of a tile to be the bits of a word");

/// True where a pair is live if, and only if, each digit of the key lies in an interval of the lane.
bool AttendTiler::inBoxes(const Stratum &s) {
  bool filtered = bool(s.residual) || bool(s.ids) || bool(s.list) || !s.lower.empty() || !s.upper.empty();
  bool bounded = llvm::any_of(s.key, [](const KeyDigit &d) { return !d.lower.empty() || !d.upper.empty(); });
  return vl >= 8 && bounded && !filtered && !inRuns(s);
}

void AttendTiler::layoutBoxes() {
  for (const Stratum &s : schedule.strata) {
    if (!inBoxes(s)) {
      continue;
    }
    for (size_t n = fBoxWords.size(); n < s.key.size(); ++n) {
      fBoxWords.push_back(frame.allocate(kBoxValues * 8));
      fBoxFirst.push_back(frame.allocate(8));
    }
  }
  fBoxed = frame.allocate(8);
}

/// The words of a tile, whose lanes' bounds are set up.
void AttendTiler::emitBoxes(const Uniform &u, const Stratum &s, ArrayRef<LaneInterval> list, ArrayRef<Range> ranges) {
  Value fits = e.constant(e.i1, int64_t(1));
  for (size_t n = 0; n < s.key.size(); ++n) {
    if (list[n + 1].varies) {
      fits = e.both(fits, e.le(e.sub(ranges[n + 1].hi, ranges[n + 1].lo), e.c(kBoxValues)));
    }
  }
  e.store(arith::ExtUIOp::create(builder, e.loc, e.i64, fits), in(u, fBoxed), 8);
  // Columns that are not in use have no key.
  Value columns = e.floorDiv(e.add(e.load(e.i64, in(u, fLanes), 8), kColumn - 1), kColumn);
  Value used = arith::ShRUIOp::create(builder, e.loc, e.c(-1), e.sub(e.c(kLanes), e.mul(columns, kColumn)));
  e.ifThen(fits, [&] {
    for (size_t n = 0; n < s.key.size(); ++n) {
      const LaneInterval &i = list[n + 1];
      if (!i.varies) {
        continue;
      }
      Value first = ranges[n + 1].lo;
      e.store(first, in(u, fBoxFirst[n]), 8);
      SmallVector<std::pair<Value, Value>> ends; // of each register
      for (int64_t lane = 0; lane < kLanes; lane += vl) {
        ends.emplace_back(e.load(e.vec(e.i32), e.at(in(u, i.lo), lane * 4), 4),
                          e.load(e.vec(e.i32), e.at(in(u, i.hi), lane * 4), 4));
      }
      e.loop(first, ranges[n + 1].hi, 1, [&](Value value) {
        Value digit = e.splat(e.toInt(value, e.i32)), word = e.c(0);
        for (auto [r, range] : llvm::enumerate(ends)) {
          Value inside = e.both(e.le(range.first, digit), e.lt(digit, range.second));
          Value bits = LLVM::BitcastOp::create(builder, e.loc, builder.getIntegerType(vl), inside);
          bits = arith::ExtUIOp::create(builder, e.loc, e.i64, bits);
          word = e.either(word, arith::ShLIOp::create(builder, e.loc, bits, e.c(static_cast<int64_t>(r) * vl)));
        }
        e.store(e.both(word, used), e.at(in(u, fBoxWords[n]), e.mul(e.sub(value, first), 8)), 8);
      });
    }
  });
}

/// The live bits of a chunk, its groups' columns and its columns' keys, from the tile's words.
void AttendTiler::emitLiveOfBoxes(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  constexpr int64_t kColumns = kLanes / kColumn, kBits = (int64_t(1) << kColumn) - 1;
  Value count = e.load(e.i64, in(u, fCount), 8);
  Value groupCount = e.floorDiv(e.add(count, kKeyGroup - 1), e.c(kKeyGroup));
  SmallVector<LaneInterval> list = intervals(s);
  SmallVector<Value> words(s.key.size());
  for (size_t m = 0; m < s.key.size(); ++m) {
    if (list[m + 1].varies) {
      words[m] = e.at(in(u, fBoxWords[m]), e.mul(e.load(e.i64, in(u, fBoxFirst[m]), 8), -8));
    }
  }
  auto shifted = [&](Value x, int64_t n) { return arith::ShRUIOp::create(builder, e.loc, x, e.c(n)).getResult(); };
  auto wordOf = [&](Value j) {
    Value word;
    for (auto [m, d] : llvm::enumerate(s.key)) {
      if (!words[m]) {
        continue;
      }
      Value digit = e.floorDiv(j, d.radix);
      if (m > 0 && d.extent > 0) {
        digit = e.floorMod(digit, d.extent);
      }
      Value own = e.load(e.i64, e.at(words[m], e.mul(digit, 8)), 8);
      word = word ? e.both(word, own) : own;
    }
    return word;
  };
  Values none;
  for (int64_t column = 0; column < kColumns; ++column) {
    none.append({groupCount, e.c(0)});
  }
  Values found = e.loop(e.c(0), groupCount, 1, none, [&](Value g, ValueRange found) {
    Value from = e.mul(g, kKeyGroup), until = e.min(e.add(from, kKeyGroup), count);
    Value any = e.loop(from, until, 1, {e.c(0)}, [&](Value k, ValueRange seen) {
      Value word = wordOf(e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64));
      for (int64_t column = 0; column < kColumns; ++column) {
        Value bits = arith::TruncIOp::create(builder, e.loc, e.i16, shifted(word, column * kColumn));
        e.store(bits, e.at(in(u, fLive + column * slots * liveRow()), e.mul(k, liveRow())), 1);
      }
      return Values{e.either(seen[0], word)};
    })[0];
    Value before = LLVM::CountTrailingZerosOp::create(builder, e.loc, e.i64, any, false);
    Value behind = LLVM::CountLeadingZerosOp::create(builder, e.loc, e.i64, any, false);
    Value first = e.floorDiv(before, kColumn), end = e.sub(e.c(kColumns), e.floorDiv(behind, kColumn));
    Value range = e.either(first, arith::ShLIOp::create(builder, e.loc, end, e.c(32)));
    e.store(range, e.at(in(u, fGroups), e.mul(g, 8)), 8);
    Values next;
    for (int64_t column = 0; column < kColumns; ++column) {
      Value own = e.both(any, e.c(kBits << (column * kColumn)));
      Value hit = e.cmp(arith::CmpIPredicate::ne, own, e.c(0));
      next.push_back(e.select(hit, e.min(found[2 * column], g), found[2 * column]));
      next.push_back(e.select(hit, e.add(g, 1), found[2 * column + 1]));
    }
    return next;
  });
  for (int64_t column = 0; column < kColumns; ++column) {
    Value at = in(u, fColumns + column * 16);
    e.store(e.mul(found[2 * column], kKeyGroup), at, 8);
    e.store(e.min(e.mul(found[2 * column + 1], kKeyGroup), count), e.at(at, 8), 8);
  }
}

} // namespace heddle
