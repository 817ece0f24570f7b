//===- HopperKernel.cpp - The fused attention kernel of sm_90a ------------===//

#include "passes/gpu/HopperKernel.h"
#include "passes/gpu/HopperInstructions.h"

#include <numeric>

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;
using hopper::kPanel;
using hopper::kPanelRow;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// The maximum of a row moves only where it grows by more than this (base 2). With 0 the weights are those of the
/// other kernels, to the bit; a larger one would save products of acc and change how weights round.
static constexpr double kSlack = 0.0;
/// Registers of a thread: 2 x 128 x 232 + 128 x 40 are the 168 of each of the block's 384 threads. With 240 and 24 the
/// producer of a grid's tiles spills.
static constexpr int64_t kConsumerRegisters = 232, kProducerRegisters = 40;
/// Named barriers: 0 is the block's; turns of the two warpgroups; all consumers; one warpgroup's queries.
static constexpr int64_t kTurnBarrier = 1, kConsumerBarrier = 3, kQueryBarrier = 4;

static int64_t roundUp(int64_t x, int64_t n) { return (x + n - 1) / n * n; }
/// Of 32 bits: fewer registers than Emitter's.
static Value floorDiv32(WarpEmitter &e, Value x, int64_t n) {
  return arith::FloorDivSIOp::create(e.b, e.loc, x, e.k(n));
}
static int64_t panelsOf(int64_t columns) { return roundUp(columns, kPanel) / kPanel; }

//===--- Shapes and layout -------------------------------------------------===//

std::string hopperDeclines(const KernelSignature &sig) {
  if (sig.storage.isF32()) {
    return "f32, whose products are three each";
  }
  if (sig.d > 256 || sig.dv > 256) {
    return "head dimensions past 256";
  }
  for (const SegmentSignature &s : sig.segments) {
    if (s.dots.size() != 1 || s.dots[0].relative) {
      return "a segment without exactly one product of queries and keys";
    }
  }
  bool one = queryTensors(sig, false).size() == 1 &&
             llvm::all_of(sig.segments, [&](const SegmentSignature &s) { return s.dots[0].d == sig.d; });
  return one ? "" : "segments with queries of their own";
}

SmallVector<GpuShape> hopperShapes(const KernelSignature &sig) {
  SmallVector<GpuShape> out;
  int64_t columns = roundUp(sig.dv, 16);
  // Of 232 registers acc takes columns / 2, S keys / 2, P keys / 4.
  for (int64_t keys : {128, 64}) {
    for (int64_t stages : {4, 3, 2}) {
      if (keys == 64 || columns <= 128) {
        out.push_back(GpuShape{.lanes = 64, .rows = 128, .keys = keys, .stages = stages, .columns = columns});
      }
    }
  }
  return out;
}

/// Rows of a tile that follow one another in memory whatever the list's entries are. Boxes of less than an atom of the
/// swizzle are no better than rows.
static int64_t boxRows(const Stratum &s, int64_t keys) {
  int64_t rows = s.list.isNull() ? 1 : std::gcd(s.run, keys);
  return rows % (hopper::kAtom / kPanelRow) == 0 ? rows : 1;
}

HopperKernel::HopperKernel(OpBuilder &builder, const KernelSignature &sig, const Schedule &schedule,
                           const GpuGroup &group, const GpuShape &shape, bool loadsState, bool storesState,
                           SmallVectorImpl<TensorMapRecipe> &recipes)
    : GpuKernel(builder, sig, schedule, group, shape, loadsState, storesState, /*packs=*/false), recipes(recipes) {
  for (const Member &m : members) {
    const Stratum &s = schedule.strata[m.stratum];
    size_t source = llvm::find(segmentsUsed, s.segment) - segmentsUsed.begin();
    Load load{source, s.key.size() == 1 && s.list.isNull() ? s.key[0].step * s.key[0].radix : 0,
              boxRows(s, shape.keys)};
    classes.push_back(llvm::find(loads, load) - loads.begin());
    if (classes.back() == int64_t(loads.size())) {
      loads.push_back(load);
    }
    const SegmentSignature &segment = sig.segments[s.segment];
    for (int64_t arg : {segment.dots[0].k, segment.v}) {
      if (load.step > 0) {
        mapNumber(arg, load.step, shape.keys);
      }
      if (load.step != 1) {
        mapNumber(arg, 1, load.rows);
      }
    }
  }
  layoutFast();
}

int64_t HopperKernel::keyPanels() const { return panelsOf(sig.d); }
int64_t HopperKernel::valuePanels() const { return panelsOf(shape.columns); }

int64_t HopperKernel::mapNumber(int64_t arg, int64_t step, int64_t rows) {
  TensorMapRecipe wanted{arg, step, rows};
  auto *found = llvm::find(recipes, wanted);
  int64_t n = found - recipes.begin();
  if (found == recipes.end()) {
    recipes.push_back(wanted);
  }
  return n;
}

Value HopperKernel::mapAddress(int64_t arg, int64_t step, int64_t rows) {
  return e.add(maps, mapNumber(arg, step, rows) * kMapBytes);
}

void HopperKernel::layoutFast() {
  // The rows of out take the place of their queries.
  int64_t queryBytes = std::max(keyPanels(), valuePanels()) * shape.rows * kPanelRow;
  int64_t fastBytes = queryBytes + shape.stages * (keyPanels() + valuePanels()) * shape.keys * kPanelRow;
  GpuShape own = shape;
  layoutSlow();
  int64_t slowBytes = size;
  shape = own;
  size = 0;
  tileArea = allocate(roundUp(std::max(fastBytes, slowBytes), hopper::kAtom));
  sQuery.assign({tileArea});
  sRing = tileArea + queryBytes;
  keyBytes = keyPanels() * shape.keys * kPanelRow;
  stageBytes = keyBytes + valuePanels() * shape.keys * kPanelRow;
  layoutTables();
  sBarriers = allocate(4 * shape.stages * 8);
}

/// GpuKernel's tiles in the same place; the tables stay.
void HopperKernel::layoutSlow() {
  size = tileArea;
  // Rare, and its registers must not exceed those of the consumers.
  shape.keys = 16;
  shape.stages = 1;
  sQuery.assign({allocate(shape.rows * sharedPitch(sig.d, bytes))});
  keyBytes = shape.keys * sharedPitch(sig.d, bytes);
  stageBytes = keyBytes + shape.keys * sharedPitch(shape.columns, bytes);
  sRing = allocate(shape.stages * stageBytes);
  int64_t weights = shape.rows * shape.keys * 4;
  sWeights = keyBytes >= weights ? -1 : allocate(weights);
}

Value HopperKernel::barrierOf(Signal which, Value stage) {
  return hopper::address(e, e.add(e.shl(stage, 3), sBarriers + which * shape.stages * 8));
}

Value HopperKernel::keysAt(Value stage) { return e.add(e.mul(stage, stageBytes), sRing); }
Value HopperKernel::valuesAt(Value stage) { return e.add(keysAt(stage), keyBytes); }

//===--- The kernel --------------------------------------------------------===//

void HopperKernel::emit(LLVM::LLVMFuncOp function, LLVM::GlobalOp sharedMemory) {
  blockThreads = kThreads;
  begin(function, sharedMemory);
  Value anyPosition = emitRows();
  maps = e.toInt(function.getArgument(1));
  e.ifThen(e.lt(anyPosition, kBeyondPositions), [&] {
    tiles = e.k(0);
    for (size_t n = 0; n < members.size(); ++n) {
      emitDescriptor(n, anyPosition);
    }
    e.ifThen(e.eq(tid, 0), [&] {
      for (int64_t s = 0; s < shape.stages; ++s) {
        for (Signal which : {KeysFull, KeysFree, ValuesFull, ValuesFree}) {
          bool free = which == KeysFree || which == ValuesFree;
          hopper::initBarrier(e, barrierOf(which, e.k(s)), free ? kConsumers / 32 : 1);
        }
      }
      hopper::fenceBarriers(e);
    });
    storeSources();
    e.barrier();
    // The producer first: the consumers end with another layout.
    e.ifElse(
        e.ge(tid, e.k(kConsumers)),
        [&] {
          hopper::setRegisters(e, kProducerRegisters, false);
          e.ifThen(e.eq(warp, kConsumers / 32), [&] { produce(); });
        },
        [&] {
          hopper::setRegisters(e, kConsumerRegisters, true);
          consume();
        });
  });
  LLVM::ReturnOp::create(e.b, e.loc, ValueRange{});
}

//===--- The producer ------------------------------------------------------===//

void HopperKernel::produce() {
  loop(e.k(0), tiles, 1, {}, [&](Value tile, ValueRange) {
    Value stage = stageOf(tile), free = e.bitAnd(e.add(e.divu(tile, shape.stages), 1), 1);
    if (needsTables()) {
      writeTable(tile, lane, 32);
      hopper::syncWarp(e);
    }
    Value n = memberOf(tile);
    auto bring = [&](bool keys) {
      Value full = barrierOf(keys ? KeysFull : ValuesFull, stage);
      hopper::wait(e, barrierOf(keys ? KeysFree : ValuesFree, stage), free);
      int64_t panels = keys ? keyPanels() : valuePanels();
      e.ifThen(e.eq(lane, 0), [&] { hopper::arriveExpecting(e, full, panels * shape.keys * kPanelRow); });
      hopper::syncWarp(e);
      Value to = hopper::address(e, keys ? keysAt(stage) : valuesAt(stage));
      auto one = [&](size_t c) {
        const SegmentSignature &segment = sig.segments[segmentsUsed[loads[c].source]];
        copyTile(loads[c], keys ? segment.dots[0].k : segment.v, panels, tile, n, to, full);
      };
      std::function<void(size_t)> chain = [&](size_t c) {
        if (c + 1 == loads.size()) {
          return one(c);
        }
        Value own = descriptor(n, descriptorWords() - 1);
        e.ifElse(e.eq(own, int64_t(c)), [&] { one(c); }, [&] { chain(c + 1); });
      };
      chain(0);
    };
    bring(true);
    bring(false);
    return Values{};
  });
}

/// Head and batch of the block in a tensor: 0 along an axis that broadcasts.
static Value along(WarpEmitter &e, Value stride, Value x) { return e.select(e.eq(stride, 0), e.k(0), x); }

void HopperKernel::copyRows(int64_t arg, int64_t panels, Value table, Value to, Value barrier) {
  int64_t record = sig.argSlot(arg);
  Value head = along(e, slot(record + 6), headOf(record));
  Value batch = along(e, slot(record + 5), e.narrow(b)), map = mapAddress(arg, 1, 1);
  loop(lane, e.k(shape.keys), 32, {}, [&](Value r, ValueRange) {
    Value row = e.loadShared(e.i32, e.add(table, e.shl(r, 2)), 4);
    Value at = e.add(to, e.mul(r, kPanelRow));
    for (int64_t p = 0; p < panels; ++p) {
      hopper::copyBox(e, e.add(at, p * shape.keys * kPanelRow), map, {e.k(p * kPanel), row, head, batch}, barrier);
    }
    return Values{};
  });
}

/// A run of the table whose entry is none (-1 throughout) becomes zeros: it lies outside.
void HopperKernel::copyRuns(int64_t arg, int64_t panels, int64_t rows, Value table, Value to, Value barrier) {
  int64_t record = sig.argSlot(arg);
  Value head = along(e, slot(record + 6), headOf(record));
  Value batch = along(e, slot(record + 5), e.narrow(b)), map = mapAddress(arg, 1, rows);
  loop(e.k(0), e.k(shape.keys), rows, {}, [&](Value first, ValueRange) {
    Value start = e.k(-rows);
    for (int64_t n = 0; n < rows; n += 32) {
      Value own = rows < 32 ? e.remu(lane, rows) : e.add(lane, n);
      Value row = e.loadShared(e.i32, e.add(table, e.shl(e.add(first, own), 2)), 4);
      start = e.max(start, e.select(e.ge(row, e.k(0)), e.sub(row, own), e.k(-rows)));
    }
    start = e.reduceMax(start);
    e.ifThen(e.eq(lane, 0), [&] {
      Value at = e.add(to, e.mul(first, kPanelRow));
      for (int64_t p = 0; p < panels; ++p) {
        hopper::copyBox(e, e.add(at, p * shape.keys * kPanelRow), map, {e.k(p * kPanel), start, head, batch}, barrier);
      }
    });
    return Values{};
  });
}

void HopperKernel::copyTile(const Load &load, int64_t arg, int64_t panels, Value tile, Value n, Value to,
                            Value barrier) {
  if (load.step == 0) {
    return load.rows > 1 ? copyRuns(arg, panels, load.rows, tableOf(tile), to, barrier)
                         : copyRows(arg, panels, tableOf(tile), to, barrier);
  }
  int64_t record = sig.argSlot(arg);
  const Source &source = sources[load.source];
  Value x = e.mul(e.sub(tile, descriptor(n, 0)), shape.keys);
  Value position = e.add(descriptor(n, 4), e.mul(x, load.step));
  Value row = e.sub(position, e.narrow(source.kOffset));
  auto boxes = [&](ArrayRef<Value> rows) {
    e.ifThen(e.eq(lane, 0), [&] {
      Value head = along(e, slot(record + 6), headOf(record));
      Value batch = along(e, slot(record + 5), e.narrow(b)), map = mapAddress(arg, load.step, shape.keys);
      for (int64_t p = 0; p < panels; ++p) {
        SmallVector<Value> at = {e.k(p * kPanel)};
        at.append(rows.begin(), rows.end());
        at.append({head, batch});
        hopper::copyBox(e, e.add(to, p * shape.keys * kPanelRow), map, at, barrier);
      }
    });
  };
  if (load.step == 1) {
    return boxes({row});
  }
  // The map has the rows as (quotient, residue) and whole quotients only: the last row of a residue may lie outside.
  Value quotient = floorDiv32(e, row, load.step), residue = e.sub(row, e.mul(quotient, load.step));
  Value count = e.narrow(source.count), whole = e.divu(count, load.step);
  Value last = e.both(e.lt(residue, e.sub(count, e.mul(whole, load.step))), e.lt(whole, e.add(quotient, shape.keys)));
  auto byRows = [&] {
    if (!needsTables()) {
      writeTable(tile, lane, 32);
      hopper::syncWarp(e);
    }
    copyRows(arg, panels, tableOf(tile), to, barrier);
  };
  e.ifElse(last, byRows, [&] { boxes({residue, quotient}); });
}

//===--- The consumers -----------------------------------------------------===//

/// Each warpgroup its 64 rows, as the matrix descriptors say.
void HopperKernel::loadSwizzledQueries() {
  Rows from = rowsOf(sig.argSlot(queries[0].q), false, sig.d);
  int64_t perRow = roundUp(sig.d, 16) * bytes / 16, total = shape.lanes * perRow;
  Value index = e.bitAnd(tid, 127), first = e.shl(group, 6);
  auto each = [&](llvm::function_ref<void(Value row, Value unit, Value to)> body) {
    loop(index, e.k(total), 128, {}, [&](Value c, ValueRange) {
      Value local = e.divu(c, perRow), unit = e.remu(c, perRow), row = e.add(first, local);
      Value panel = e.shr(unit, 3), within = arith::XOrIOp::create(e.b, e.loc, e.bitAnd(unit, 7), e.bitAnd(row, 7));
      Value to = e.add(e.add(e.mul(panel, shape.rows * kPanelRow), e.mul(row, kPanelRow)), e.shl(within, 4));
      body(e.loadShared(e.i32, e.add(e.shl(row, 2), sRow), 4), e.shl(unit, 4), e.add(to, sQuery[0]));
      return Values{};
    });
  };
  e.ifElse(
      from.aligned,
      [&] {
        each([&](Value number, Value byte, Value to) {
          Value left = e.max(e.min(e.sub(e.k(sig.d * bytes), byte), e.k(16)), e.k(0));
          Value offset = e.mul(e.wide(e.max(number, e.k(0))), from.stride);
          Value address = e.add(e.add(from.base, offset), e.wide(byte));
          e.copyAsync(to, address, e.select(e.ge(number, e.k(0)), left, e.k(0)));
        });
        e.commitGroup();
        e.waitGroup(0);
      },
      [&] {
        each([&](Value number, Value byte, Value to) {
          Value column = e.shr(byte, 1);
          for (int64_t n = 0; n < 8; ++n) {
            Value own = e.add(column, n);
            Value there = e.both(e.ge(number, e.k(0)), e.lt(own, sig.d));
            Value v = e.ifElse(
                there, TypeRange{e.i16},
                [&] {
                  Value offset = e.add(e.mul(e.wide(number), from.stride), e.mul(e.wide(own), from.element));
                  return Values{LLVM::LoadOp::create(e.b, e.loc, e.i16, e.toGlobal(e.add(from.base, offset)), 2u)};
                },
                [&] { return Values{e.constant(e.i16, int64_t(0))}; })[0];
            e.storeShared(v, e.add(to, 2 * n), 2);
          }
        });
      });
  hopper::fenceStores(e);
  hopper::sync(e, e.add(group, kQueryBarrier), 128);
}

Values HopperKernel::issueScores(Value stage) {
  Value queryAt = e.add(e.mul(group, shape.lanes * kPanelRow), sQuery[0]);
  Value a = hopper::describe(e, hopper::address(e, queryAt), 1);
  Value bb = hopper::describe(e, hopper::address(e, keysAt(stage)), 1);
  Values s(scoreCount(), LLVM::UndefOp::create(e.b, e.loc, e.f32).getResult());
  for (int64_t step = 0; step < roundUp(sig.d, 16) / 16; ++step) {
    int64_t panel = step / 4, within = step % 4 * 32;
    s = hopper::multiply(e, storage, s, hopper::advance(e, a, panel * shape.rows * kPanelRow + within),
                         hopper::advance(e, bb, panel * shape.keys * kPanelRow + within), step > 0);
  }
  hopper::commit(e);
  return s;
}

void HopperKernel::issueValues(Values &acc, const Values &weights, Value stage) {
  Value bb = hopper::describe(e, hopper::address(e, valuesAt(stage)), shape.keys * kPanelRow);
  for (int64_t step = 0; step < shape.keys / 16; ++step) {
    ArrayRef<Value> a = ArrayRef<Value>(weights).slice(step * 4, 4);
    acc = hopper::multiplyRegisters(e, storage, acc, a, hopper::advance(e, bb, step * 16 * kPanelRow));
  }
  hopper::commit(e);
}

/// The second product's first operand: the registers of S in pairs.
Values HopperKernel::packed(const Values &weights) {
  Values out;
  for (int64_t step = 0; step < shape.keys / 16; ++step) {
    llvm::append_range(out, weightFragment(weights, step));
  }
  return out;
}

//===--- Masks ------------------------------------------------------------===//

bool HopperKernel::simple(size_t member) const {
  const Member &m = members[member];
  const Stratum &s = schedule.strata[m.stratum];
  return loads[classes[member]].step > 0 && !bool(s.residual) && !bool(s.keep) &&
         llvm::none_of(ArrayRef<GpuInterval>(m.intervals).drop_front(), [](const GpuInterval &i) { return i.varies; });
}

bool HopperKernel::needsTables() const {
  bool all = true;
  for (size_t m = 0; m < members.size(); ++m) {
    all &= simple(m);
  }
  return !all || scored();
}

/// Live bits as GpuKernel's, of the 64 keys from number x on.
Value HopperKernel::rangeBits(size_t member, Value n, Value x) {
  const Load &load = loads[classes[member]];
  const GpuInterval &interval = members[member].intervals[0];
  const Source &source = sources[load.source];
  Value base = descriptor(n, 4), count = descriptor(n, 1), word;
  Value first = e.narrow(source.kOffset), end = e.add(first, e.narrow(source.count));
  for (int64_t half : {0, 1}) {
    Value lo = first, hi = end;
    if (interval.varies) {
      Value row = e.shl(e.add(e.add(e.shl(warp, 4), group8), 8 * half), 2);
      lo = e.max(lo, e.loadShared(e.i32, e.add(row, interval.lo), 4));
      hi = e.min(hi, e.loadShared(e.i32, e.add(row, interval.hi), 4));
    }
    // The first key at or behind a position; then how many of this thread's columns lie before it.
    auto before = [&](Value position) {
      Value key = e.sub(floorDiv32(e, e.add(e.sub(position, base), load.step - 1), load.step), x);
      key = e.max(e.min(e.min(key, e.sub(count, x)), e.k(64)), e.k(0));
      Value own = e.sub(e.bitAnd(key, 7), e.shl(quad, 1));
      return e.add(e.shl(e.shr(key, 3), 1), e.max(e.min(own, e.k(2)), e.k(0)));
    };
    Value from = before(lo), to = e.max(before(hi), from);
    Value bits = e.sub(e.shl(e.k(1), to), e.shl(e.k(1), from));
    // Pairs of bits to every fourth place.
    for (auto [shift, mask] : {std::pair(8, 0x00ff00ff), std::pair(4, 0x0f0f0f0f), std::pair(2, 0x33333333)}) {
      bits = e.bitAnd(e.either(bits, e.shl(bits, shift)), mask);
    }
    word = half == 0 ? bits : e.either(word, e.shl(bits, 2));
  }
  return word;
}

/// What lives in a tile that is not full: known before its scores, whose registers it does not meet.
HopperKernel::Mask HopperKernel::maskOf(Value tile) {
  Value n = memberOf(tile), table = tableOf(tile);
  Value x = e.mul(e.sub(tile, descriptor(n, 0)), shape.keys);
  SmallVector<size_t> list;
  for (size_t m = 0; m < members.size(); ++m) {
    list.push_back(m);
  }
  Mask out;
  out.partial = e.invert(fullTile(n, x, table));
  Values none(shape.keys / 64, e.k(-1));
  SmallVector<Type> types(none.size(), e.i32);
  out.words = e.ifElse(
      out.partial, types,
      [&] {
        Values words;
        for (int64_t first = 0; first < shape.keys; first += 64) {
          Value at = e.add(table, first * 4), key = e.add(x, first);
          auto bits = [&](size_t m) { return Values{simple(m) ? rangeBits(m, n, key) : liveBitsOf(m, at)}; };
          words.push_back(perMember(n, list, bits, [&] { return Values{e.k(0)}; })[0]);
        }
        return words;
      },
      [&] { return none; });
  return out;
}

//===--- Softmax ----------------------------------------------------------===//

/// Pairwise: short chains.
static Value combine(ArrayRef<Value> x, llvm::function_ref<Value(Value, Value)> join) {
  SmallVector<Value> level(x);
  while (level.size() > 1) {
    SmallVector<Value> next;
    for (size_t n = 0; n + 1 < level.size(); n += 2) {
      next.push_back(join(level[n], level[n + 1]));
    }
    if (level.size() % 2 == 1) {
      next.push_back(level.back());
    }
    level = std::move(next);
  }
  return level[0];
}

Values HopperKernel::weigh(Value tile, const Mask &mask, Values &s, Values &moments) {
  Value n = memberOf(tile), table = tableOf(tile);
  Values dots = s;
  auto alike = [&](size_t x, size_t y) { return sameScores(x, y); };
  s = perSegment(n, alike, [&](size_t source) { return scoresOf(source, {dots}, table); });
  Values whole = s;
  SmallVector<Type> types(s.size(), e.f32);
  s = e.ifElse(mask.partial, types, [&] { return masked(whole, mask.words); }, [&] { return whole; });
  Values own[2];
  auto split = [&] {
    own[0].clear();
    own[1].clear();
    for (auto [k, v] : llvm::enumerate(s)) {
      own[(k / 2) % 2].push_back(v);
    }
  };
  auto sum = [&](int64_t r) { return combine(own[r], [&](Value p, Value q) { return e.add(p, q); }); };
  Values factor(2, e.f(1.0));
  if (!softmaxed()) {
    if (sig.attend.getNormalizer() == attn::Normalizer::Sum) {
      split();
      for (int64_t r : {0, 1}) {
        moments[2 + r] = e.add(moments[2 + r], sum(r));
      }
    }
    return factor;
  }
  split();
  Value shift[2];
  auto power = [&](Value v, int64_t r) {
    return e.exp2Fast(fused ? e.fma(v, scaleConstant, shift[r]) : e.add(v, shift[r]));
  };
  for (int64_t r : {0, 1}) {
    Value top = combine(own[r], [&](Value p, Value q) { return e.maxNum(p, q); });
    top = e.maxNum(top, e.shuffleXor(top, 1));
    top = e.maxNum(top, e.shuffleXor(top, 2));
    // acc is multiplied only in warps where a maximum moves.
    Value old = moments[r], growth = e.sub(top, old);
    growth = fused ? e.mul(growth, scaleConstant) : growth;
    Value moves = e.cmp(arith::CmpFPredicate::OGT, growth, e.f(kSlack));
    Value next = e.select(moves, top, old);
    // A row without a live key yet must not make inf - inf.
    Value none = e.cmp(arith::CmpFPredicate::OEQ, next, e.f(-kInfinity));
    shift[r] = e.select(none, e.f(0.0), next);
    shift[r] = arith::NegFOp::create(e.b, e.loc, fused ? e.mul(shift[r], scaleConstant) : shift[r]);
    Value before = fused ? e.mul(old, scaleConstant) : old;
    factor[r] = e.select(moves, e.exp2Fast(e.add(before, shift[r])), e.f(1.0));
    moments[r] = next;
  }
  for (auto [k, v] : llvm::enumerate(s)) {
    v = power(v, (k / 2) % 2);
  }
  split();
  for (int64_t r : {0, 1}) {
    moments[2 + r] = e.add(e.mul(moments[2 + r], factor[r]), sum(r));
  }
  return factor;
}

/// acc times the factors of its rows, in warps where one is not 1.
void HopperKernel::rescale(Values &acc, const Values &factor) {
  if (!softmaxed()) {
    return;
  }
  auto differs = [&](Value x) { return e.cmp(arith::CmpFPredicate::UNE, x, e.f(1.0)); };
  SmallVector<Type> types(acc.size(), e.f32);
  Values before = acc;
  acc = e.ifElse(
      e.anyInWarp(e.either(differs(factor[0]), differs(factor[1]))), types,
      [&] {
        Values next;
        for (auto [n, v] : llvm::enumerate(before)) {
          next.push_back(e.mul(v, factor[(n / 2) % 2]));
        }
        return next;
      },
      [&] { return before; });
}

/// All tiles; there is at least one. State in and out: acc, m and l of two rows.
Values HopperKernel::pipeline(ValueRange init) {
  Value first = e.eq(lane, 0);
  auto release = [&](Signal which, Value tile) {
    e.ifThen(first, [&] { hopper::arrive(e, barrierOf(which, stageOf(tile))); });
  };
  auto await = [&](Signal which, Value tile) { hopper::wait(e, barrierOf(which, stageOf(tile)), parityOf(tile)); };
  Value ownTurn = e.add(group, kTurnBarrier), otherTurn = e.sub(e.k(kTurnBarrier + 1), group);
  loadSwizzledQueries();
  e.ifThen(e.eq(group, 1), [&] { hopper::signal(e, otherTurn, kConsumers); });

  size_t momentsAt = accCount(), weightsAt = init.size();
  Values carried(init);
  carried.append(shape.keys / 4, e.k(0));
  carried = loop(e.k(0), tiles, 1, carried, [&](Value tile, ValueRange in) {
    Values acc(in.begin(), in.begin() + momentsAt), moments(in.begin() + momentsAt, in.begin() + weightsAt);
    Values weights(in.begin() + weightsAt, in.end());
    Value before = e.add(tile, -1), second = e.lt(e.k(0), tile);
    await(KeysFull, tile);
    Mask mask = maskOf(tile);
    hopper::sync(e, ownTurn, kConsumers);
    hopper::fence(e, {});
    Values s = issueScores(stageOf(tile)), old = acc;
    // The first tile has none before it: a group without a product, so that the waits count alike.
    SmallVector<Type> types(acc.size(), e.f32);
    acc = e.ifElse(
        second, types,
        [&] {
          Values next = old, operands = weights;
          await(ValuesFull, before);
          hopper::fence(e, {&next, &operands});
          issueValues(next, operands, stageOf(before));
          return next;
        },
        [&] {
          hopper::fence(e, {});
          hopper::commit(e);
          return old;
        });
    hopper::signal(e, otherTurn, kConsumers);
    hopper::waitGroups(e, 1, {&s});
    release(KeysFree, tile);
    Values factor = weigh(tile, mask, s, moments);
    if (softmaxed()) {
      hopper::keepBehind(e, e.add(moments[2], moments[3]));
    }
    // P is read, and the new one not made, before the product is done.
    hopper::waitGroups(e, 0, {&acc, &s}, weights);
    e.ifThen(e.both(first, second), [&] { hopper::arrive(e, barrierOf(ValuesFree, stageOf(before))); });
    rescale(acc, factor);
    Values next = acc;
    llvm::append_range(next, moments);
    llvm::append_range(next, packed(s));
    return next;
  });
  Values acc(carried.begin(), carried.begin() + momentsAt), weights(carried.begin() + weightsAt, carried.end());
  Value last = e.add(tiles, -1);
  await(ValuesFull, last);
  hopper::fence(e, {&acc, &weights});
  issueValues(acc, weights, stageOf(last));
  hopper::waitGroups(e, 0, {&acc}, weights);
  Values out = acc;
  out.append(carried.begin() + momentsAt, carried.begin() + weightsAt);
  return out;
}

/// A warpgroup's rows of out take the place of its queries, which its products have read.
void HopperKernel::shareRows() { hopper::sync(e, e.add(group, kQueryBarrier), 128); }

/// In the panels' swizzle, for the banks.
Value HopperKernel::sharedUnit(Value row, Value unit) {
  Value panel = e.mul(e.shr(unit, 3), shape.rows * kPanelRow);
  Value within = arith::XOrIOp::create(e.b, e.loc, e.bitAnd(unit, 7), e.bitAnd(row, 7));
  return e.add(e.add(e.add(panel, e.mul(row, kPanelRow)), e.shl(within, 4)), sQuery[0]);
}

/// Whether a pair may be dead although its keys are copied: only then can a result need another program.
bool HopperKernel::mayRepeat() {
  bool dead = scored();
  for (size_t m = 0; m < members.size(); ++m) {
    dead |= maskable(m);
  }
  return dead;
}

/// Stores the rows whose results stand; where `first`, those that must be computed again stay, and are the only rows
/// from then on. True in a thread that has such a row.
Value HopperKernel::storeRight(const Values &state, Value first) {
  Value again = e.no(), bad[2], row[2], at[2], writes = e.eq(quad, 0);
  for (int64_t half : {0, 1}) {
    Value sum = e.f(0.0);
    for (int64_t n = 0; n < accCount(); ++n) {
      if ((n / 2) % 2 == half) {
        sum = e.add(sum, e.sub(state[n], state[n])); // NaN where it is not finite
      }
    }
    Value l = state[accCount() + 2 + half];
    for (int64_t mask : {1, 2}) {
      sum = e.add(sum, e.shuffleXor(sum, mask));
      l = e.add(l, e.shuffleXor(l, mask));
    }
    bad[half] = e.both(e.cmp(arith::CmpFPredicate::UNO, sum, sum), e.cmp(arith::CmpFPredicate::ORD, l, l));
    bad[half] = e.both(bad[half], first);
    again = e.either(again, bad[half]);
    at[half] = e.add(e.shl(e.add(e.add(e.shl(warp, 4), group8), 8 * half), 2), sRow);
    row[half] = e.loadShared(e.i32, at[half], 4);
  }
  hopper::syncWarp(e);
  for (int64_t half : {0, 1}) {
    e.ifThen(e.both(writes, bad[half]), [&] { e.storeShared(e.k(-1), at[half], 4); });
  }
  hopper::syncWarp(e);
  store(state);
  hopper::syncWarp(e);
  for (int64_t half : {0, 1}) {
    e.ifThen(writes, [&] { e.storeShared(e.select(bad[half], row[half], e.k(-1)), at[half], 4); });
  }
  return again;
}

/// GpuKernel's program by the consumers' threads, without its shortcuts.
Values HopperKernel::emitSlow() {
  findBlock();
  findPositions();
  layoutSlow();
  careful = true;
  Values state = compute(reduced(0, true));
  e.barrier(); // the rows of out take the place of all tiles
  return state;
}

void HopperKernel::consume() {
  group = hopper::uniform(e, e.shr(tid, 7));
  e.barrierName = kConsumerBarrier;
  e.barrierThreads = kConsumers;
  // Loaded accumulators join behind the loop: at its start ptxas would serialize the products.
  Values state = initialState(/*withAccumulators=*/false), before = state;
  SmallVector<Type> types(state.size(), e.f32);
  state = e.ifElse(e.lt(e.k(0), tiles), types, [&] { return pipeline(before); }, [&] { return before; });
  findBlock();
  if (loadsState) {
    addAccumulators(state);
  }
  if (!mayRepeat()) {
    return store(state); // dead keys are past the end, where V is 0
  }
  // The state is stored by the same code, whichever program it is of.
  types.push_back(e.i1);
  state.push_back(e.yes());
  scf::WhileOp::create(
      e.b, e.loc, types, state,
      [&](OpBuilder &, Location, ValueRange v) {
        findBlock();
        Value again = storeRight(Values(v.drop_back()), v.back());
        scf::ConditionOp::create(e.b, e.loc, e.barrierAny(again), v);
      },
      [&](OpBuilder &, Location, ValueRange) {
        Values next = emitSlow();
        next.push_back(e.no());
        scf::YieldOp::create(e.b, e.loc, next);
      });
}

} // namespace heddle
