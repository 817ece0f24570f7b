//===- TileAttend.cpp - Tile loops on the online-softmax state ------------===//
//
// Replaces a function with a scheduled attend by
//
//   heddle_task(args, task, scratch)     one super-tile of one (b, block of heads):
//     for each group of strata with the same query digits: call attend_group
//     (m, l, acc) of its rows := the groups' states, merged; out = acc / l
//   With one group only, a query tile is complete in itself: its state is the
//   tile's own, and a task is a share of the super-tile's tiles. Then the keys may
//   be split: each split has a state of its own, merged in order, so that a task
//   can be one split. With several groups, tasks can be shares of one group.
//   Few queries of several heads that share keys fill the lanes of one tile.
//   attend_group_n(...)                  for each query tile (a box of digits):
//     positions of its lanes; pack Q; m, l of the lanes
//     for each stratum: bounds lane by lane, then nested loops over the key
//     digits whose innermost is a run of keys, in up to three parts
//     (masked, full, masked), each pushed to the chunk
//   attend_push_n(...)                   appends a run of keys to the chunk's
//                                        tables, flushing it when it is full
//   attend_flush_n(...)                  which columns and keys are live; S = K Q;
//                                        mask or score; online softmax; acc += P V
//   attend_live_n, attend_score_n, ...   the parts of it that a stratum has
//
// The state (m, l, acc) is a commutative monoid, so strata may come in any order
// and a row may be visited by many of them. The tables hold row addresses: any
// set of keys costs the same code. Nothing here is larger than a super-tile.
//
//===----------------------------------------------------------------------===//

#include "dialect/LinearForm.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "passes/AttendTiler.h"
#include "passes/Passes.h"
#include "passes/VectorTargets.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_TILEATTENDPASS
#include "passes/Passes.h.inc"

//===--- Layout -----------------------------------------------------------===//

Pack &AttendTiler::packOf(int64_t segment, int64_t dot) {
  const DotSource &source = sig.segments[segment].dots[dot];
  const NumberSource &scale = sig.segments[segment].scale;
  for (Pack &p : packs) {
    const NumberSource &other = sig.segments[p.segment].scale;
    if (p.q == source.q && p.d == source.d && p.base2 == base2(segment) && other.arg == scale.arg &&
        other.real == scale.real) {
      return p;
    }
  }
  packs.push_back({source.q, source.d, segment, base2(segment)});
  int64_t words = pairs ? (source.d + 1) / 2 : source.d;
  packs.back().at = frame.allocate(words * kLanes * 4);
  if (e.target.registers >= 32) {
    packs.back().narrow = frame.allocate(words * kNarrow * 4);
  }
  return packs.back();
}

void AttendTiler::layout() {
  // Room for whole groups of keys, and for whole registers of addresses.
  int64_t keys = (schedule.keyChunk + kNarrowKeys + 15) / 16 * 16, dots = 1, digits = 1;
  slots = keys;
  SmallVector<int64_t> stage(1, 1);
  for (const SegmentSignature &s : sig.segments) {
    dots = std::max<int64_t>(dots, s.dots.size());
    stage.resize(dots, 1);
    for (auto [n, d] : llvm::enumerate(s.dots)) {
      stage[n] = std::max(stage[n], d.d);
    }
  }
  for (const Stratum &s : schedule.strata) {
    digits = std::max<int64_t>(digits, s.key.size());
  }
  fFirst = frame.allocate(8); // the first: the runtime clears it
  fCount = frame.allocate(8);
  fMasked = frame.allocate(8);
  fChoice = frame.allocate(8);
  fCareful = frame.allocate(8);
  fLeaks = frame.allocate(8);
  fKeys = frame.allocate(keys * 4);
  fRanks = frame.allocate(keys * 4);
  fValueTable = frame.allocate(keys * 8);
  fValueBase = frame.allocate(8);
  fValueStride = frame.allocate(8);
  fLanes = frame.allocate(8);
  fRows = frame.allocate((kLanes + kKeyGroup) * 8);
  fOutRows = frame.allocate((kLanes + kKeyGroup) * 8);
  fStateRows = frame.allocate((kLanes + kKeyGroup) * 8);
  fToNext = frame.allocate(8);
  fRowsAhead = frame.allocate(8);
  fCame = frame.allocate(8);
  fNewKeys = frame.allocate(8);
  fQueriesAway = frame.allocate(8);
  fFetch = frame.allocate(fetch::kBytes);
  fPositions = frame.allocate(kLanes * 8);
  fHeads = frame.allocate(kLanes * 8);
  fState = frame.allocate(kLanes * 8);
  fGroups = frame.allocate((keys / kKeyGroup + 1 + vl) * 8);
  fColumns = frame.allocate(kLanes / kColumn * 16);
  fSure = frame.allocate(kLanes / kColumn * 16);
  fLive = frame.allocate(kLanes / kColumn * keys * liveRow() + vl * 4);
  fTops = frame.allocate(kLanes * 4);
  fUnusedTops = frame.allocate(kLanes * 4);
  fStageV = frame.allocate(stagedValues());
  for (int64_t n = 0; n < dots; ++n) {
    fKeyTable.push_back(frame.allocate(keys * 8));
    fKeyBase.push_back(frame.allocate(8));
    fKeyStride.push_back(frame.allocate(8));
    fScores.push_back(frame.allocate(keys * kLanes * 4));
    fRowQueries.push_back(frame.allocate((stage[n] + 15) / 16 * 64));
    fStageK.push_back(frame.allocate(keys * paddedRow(stage[n]) * 4));
  }
  for (int64_t n = 0; n <= digits; ++n) {
    fLower.push_back(frame.allocate(kLanes * 4));
    fUpper.push_back(frame.allocate(kLanes * 4));
  }
  for (int64_t g = 0; g < int64_t(sig.segments.size()); ++g) {
    for (size_t n = 0; n < sig.segments[g].dots.size(); ++n) {
      packOf(g, n);
    }
  }
  for (const Stratum &s : schedule.strata) {
    fHoisted.emplace_back();
    for (size_t k = 0; k < hoistable(s).size(); ++k) {
      fHoisted.back().push_back(frame.allocate(kLanes * 8));
    }
  }
  fTouched = frame.allocate(8);
  fBegins = frame.allocate(8);
  fTile = frame.allocate(stateBytes(kLanes));
  if (splitKeys) {
    fTotal = frame.allocate(stateBytes(kLanes));
  }
  if (!direct) {
    fSuper = frame.allocate(superBytes());
  }
  layoutMaskRows();
  layoutBoxes();
  layoutRelative();
  layoutRows();
  layoutKept();
}

static bool sameDigits(ArrayRef<QueryDigit> x, ArrayRef<QueryDigit> y) {
  return llvm::equal(x, y, [](const QueryDigit &a, const QueryDigit &b) {
    return a.radix == b.radix && a.extent == b.extent && a.tile == b.tile;
  });
}

int64_t AttendTiler::spanOf(const Stratum &s) {
  int64_t least = kFar;
  auto find = [&](ArrayRef<Expr> lower, ArrayRef<Expr> upper, int64_t radix) {
    for (const Expr &hi : upper) {
      for (const Expr &lo : lower) {
        std::optional<int64_t> span = upperBound(LinearForm::of(hi) - LinearForm::of(lo));
        if (span && *span < kFar / radix) {
          least = std::min(least, std::max<int64_t>(*span, 0) * radix);
        }
      }
    }
  };
  const KeyDigit &leading = s.key.front();
  find(s.lower, s.upper, 1);
  find(leading.lower, leading.upper, leading.radix);
  if (leading.radix == 1) {
    find(s.lower, leading.upper, 1);
    find(leading.lower, s.upper, 1);
  }
  return least;
}

/// False where every row of the stratum has its keys within a span that is shorter than a split.
static bool mayBeLong(const Stratum &s, int64_t span) {
  return s.kind != StratumKind::Gathered && !s.byRow && span > kKeysPerSplit; // else short, and not split
}

Schedule AttendTiler::withNear(const Schedule &schedule) {
  Schedule both = schedule;
  if (schedule.rowsUpTo > 0) {
    llvm::append_range(both.strata, schedule.atLength(0).strata);
  }
  return both;
}

void AttendTiler::planGroups() {
  for (auto [n, s] : llvm::enumerate(schedule.strata)) {
    if (int64_t(n) >= tiled) {
      near.query = {QueryDigit()};
      near.members.push_back(n);
      continue;
    }
    int64_t order = orderOf(s);
    // Queries that are taken one at a time may be taken in any order: their own is best for memory.
    SmallVector<QueryDigit> digits(s.query.begin(), s.query.end());
    if (s.byRow) {
      digits.assign(1, QueryDigit());
    }
    auto group =
        llvm::find_if(groups, [&](const Strata &g) { return g.order == order && sameDigits(g.query, digits); });
    if (group == groups.end()) {
      groups.push_back({digits, {}, order});
      group = std::prev(groups.end());
    }
    group->members.push_back(n);
  }
  if (groups.empty()) {
    groups.push_back({{QueryDigit()}, {}}); // no pair is live: rows are finished all the same
  }
  direct = groups.size() == 1;
}

void AttendTiler::plan() {
  planGroups();
  for (const Stratum &s : schedule.strata) {
    spans.push_back(spanOf(s));
    longStrata.push_back(mayBeLong(s, spans.back()));
  }
  const QueryDigit &leading = groups[0].query[0];
  splitKeys = direct && groups[0].query.size() == 1 && schedule.superTile == leading.radix * leading.tile &&
              llvm::is_contained(longStrata, true);
  llvm::append_range(decides, llvm::map_range(schedule.strata, mayBeSparse));
  planRows();
  for (int64_t a : sig.patternOperands) {
    Type type = sig.func.getArgumentTypes()[a];
    OperandRecord record{sig.argSlot(a), Type(), 0};
    if (auto tensor = dyn_cast<RankedTensorType>(type)) {
      record.element = tensor.getElementType();
      record.rank = tensor.getRank();
    }
    patternRecords.push_back(record);
  }
  groupHeads = !hasRelative() && llvm::all_of(schedule.strata, [&](const Stratum &s) {
    return collectHeadTables(s, patternRecords, headTables);
  });
}

//===--- Small pieces -----------------------------------------------------===//

func::FuncOp AttendTiler::function(StringRef name, ArrayRef<Type> types, bool isPrivate) {
  builder.setInsertionPointToEnd(module.getBody());
  auto fn = func::FuncOp::create(builder, e.loc, name, builder.getFunctionType(types, {}));
  if (isPrivate) {
    fn.setPrivate();
  }
  builder.setInsertionPointToStart(fn.addEntryBlock());
  return fn;
}

Uniform AttendTiler::uniform(Value args, Value scratch, Value b, Value h) {
  Uniform u{args, scratch, b, h, slot(args, header::kHeads), slot(args, header::kQueries), {}};
  u.qOffset = batchNumber(u, sig.qOffsetSlot());
  return u;
}

Value AttendTiler::batchNumber(const Uniform &u, int64_t s) {
  Value base = e.toPtr(slot(u.args, s));
  return e.load(e.i64, e.at(base, e.mul(e.mul(u.b, slot(u.args, s + 1)), 8)), 8);
}

Value AttendTiler::headBase(const Uniform &u, int64_t record, bool keyHead) {
  Value h = headOf(u, record, keyHead);
  Value offset = e.add(e.mul(u.b, slot(u.args, record + 5)), e.mul(h, slot(u.args, record + 6)));
  return e.add(slot(u.args, record), e.mul(offset, bytes()));
}

Value AttendTiler::scaleOf(const Uniform &u, const Pack &pack) {
  const NumberSource &scale = sig.segments[pack.segment].scale;
  double factor = pack.base2 ? kLog2E : 1.0;
  if (scale.arg < 0) {
    double s = scale.real != 0 ? scale.real : 1.0 / std::sqrt(double(sig.d));
    return e.constant(e.f32, s * factor);
  }
  Value s = e.load(e.f64, e.toPtr(slot(u.args, sig.argSlot(scale.arg))), 8);
  return arith::TruncFOp::create(builder, e.loc, e.f32, e.mul(s, e.constant(e.f64, factor)));
}

ExprScope AttendTiler::scope(const Uniform &u, int64_t segment, Value query, Value key) {
  Value koff = kOffset(u, segment);
  return {u.args,
          u.b,
          u.h,
          u.heads,
          query,
          key,
          u.qOffset,
          koff,
          e.add(u.qOffset, u.nq),
          e.add(koff, keyRows(u, segment)),
          patternRecords,
          u.scratch,
          fChoice,
          module,
          {}};
}

//===--- The task ---------------------------------------------------------===//

void AttendTiler::emitTask() {
  auto fn = function("heddle_task", {e.ptr, e.i64, e.ptr}, false);
  Value args = fn.getArgument(0), task = fn.getArgument(1), scratch = fn.getArgument(2);
  auto div = [&](Value x, Value y) { return arith::DivSIOp::create(builder, e.loc, x, y).getResult(); };
  auto rem = [&](Value x, Value y) { return arith::RemSIOp::create(builder, e.loc, x, y).getResult(); };
  Value phaseNow = slot(args, header::kPhase), parts = slot(args, header::kParts), tiles = slot(args, header::kTiles);
  // task = (unit * parts + part) * splits + split; unit = (b, block of heads, super-tile).
  Value share = task, split = e.c(0);
  if (splitKeys) {
    Value partial = e.eq(phaseNow, e.c(phase::kPartial));
    Value splits = e.select(partial, slot(args, header::kSplits), e.c(1));
    share = div(task, splits);
    split = rem(task, splits);
  }
  Value local = div(share, parts), part = rem(share, parts);
  Value unit = e.add(local, slot(args, header::kFirstUnit));
  // Last tiles first: under a causal pattern they are the longest.
  part = e.sub(e.add(parts, -1), part);
  Value tile = e.sub(e.add(tiles, -1), rem(unit, tiles)), block = div(unit, tiles);
  Value heads = slot(args, header::kHeadsPerTile), blocks = div(slot(args, header::kHeads), heads);
  Uniform u = uniform(args, scratch, div(block, blocks), e.mul(rem(block, blocks), heads));
  forgetValues(u);
  int64_t super = schedule.superTile;
  Value base = e.add(e.mul(e.floorDiv(u.qOffset, super), super), e.mul(tile, super));
  TaskShare work{e.max(base, u.qOffset), e.min(e.add(base, super), e.add(u.qOffset, u.nq)), part, split, {}};
  auto group = [&](size_t n) {
    e.call(name("group", n), {}, {args, scratch, u.b, u.h, work.first, work.last, part, split, work.memory});
  };
  e.ifThen(e.lt(work.first, work.last), [&] {
    Value memory = e.toPtr(slot(args, header::kMemory));
    if (direct) {
      Value states = splitKeys ? e.add(e.mul(local, slot(args, header::kSplits)), split) : e.c(0);
      work.memory = e.at(memory, e.mul(states, memoryBytes()));
      group(0);
      return;
    }
    e.ifElse(
        e.eq(phaseNow, e.c(phase::kWhole)),
        [&] {
          work.memory = e.at(scratch, fSuper);
          for (size_t n = 0; n < groups.size(); ++n) {
            group(n);
          }
        },
        [&] {
          work.memory = e.at(memory, e.mul(local, memoryBytes()));
          for (size_t n = 0; n < groups.size(); ++n) {
            e.ifThen(e.eq(phaseNow, e.c(phase::kFirstGroup + n)), [&] { group(n); });
          }
        });
  });
  func::ReturnOp::create(builder, e.loc);
}

LogicalResult AttendTiler::run() {
  plan();
  for (const Stratum &s : schedule.strata) {
    const SegmentSignature &segment = sig.segments[s.segment];
    bool keys = isListed(segment.v) || llvm::any_of(segment.dots, [&](const DotSource &d) { return isListed(d.k); });
    if (keys && (byRow(s) || decidesByRow(s))) {
      return sig.attend.emitOpError() << "expected keys in order for queries that are taken one at a time, but got a "
                                         "list of their rows";
    }
  }
  layout();
  for (int64_t n = 0; n < int64_t(schedule.strata.size()); ++n) {
    const Stratum &s = schedule.strata[n];
    if (rowSets.contains(n)) {
      emitRows(n);
    }
    if (byRow(s)) {
      continue;
    }
    bool scored = isScored(s.segment);
    if (maskable(s)) {
      emitLive(n);
    }
    for (bool byLane : {false, true}) {
      if (byLane && !scoreDiffersByHead(s.segment)) {
        continue;
      }
      if (scored) {
        emitScore(n, false, byLane);
      }
      if (maskable(s)) {
        emitScore(n, true, byLane);
      }
    }
    for (auto [dot, source] : llvm::enumerate(sig.segments[s.segment].dots)) {
      if (source.relative) {
        emitRelative(n, dot);
      }
    }
    emitFlush(n);
    emitPush(n);
  }
  for (size_t n = 0; n < groups.size(); ++n) {
    emitGroup(n);
  }
  if (splitKeys) {
    emitFold();
  }
  emitTask();
  OpBuilder b(module.getContext());
  auto tell = [&](StringRef key, int64_t value) {
    module->setAttr(("heddle." + key).str(), b.getI64IntegerAttr(value));
  };
  tell("scratch_bytes", frame.size);
  describeOrders();
  tell("super_tile", schedule.superTile);
  tell("heads_share_tiles", groupHeads);
  SmallVector<int64_t> tables;
  for (auto [operand, dim] : headTables) {
    tables.append({sig.patternOperands[operand], dim});
  }
  if (groupHeads && !tables.empty()) {
    module->setAttr("heddle.head_tables", b.getDenseI64ArrayAttr(tables));
  }
  // Whole chunks.
  int64_t chunk = schedule.keyChunk;
  tell("keys_per_split", splitKeys ? (kKeysPerSplit + chunk - 1) / chunk * chunk : 0);
  tell("max_splits", splitKeys ? kMaxSplits : 1);
  tell("state_bytes", memoryBytes());
  // Lane tiles of a super-tile, for each group of strata.
  SmallVector<int64_t> parts;
  for (const Strata &g : groups) {
    int64_t tiles = std::max<int64_t>(schedule.superTile / (g.query[0].radix * g.query[0].tile), 1);
    for (const QueryDigit &d : ArrayRef<QueryDigit>(g.query).drop_front()) {
      tiles *= (d.extent + d.tile - 1) / d.tile;
    }
    parts.push_back(std::clamp<int64_t>(tiles, 1, 4096));
  }
  module->setAttr("heddle.parts", b.getDenseI64ArrayAttr(parts));
  return success();
}

namespace {
struct TileAttendPass : impl::TileAttendPassBase<TileAttendPass> {
  using Base::Base;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
    for (func::FuncOp fn : functions) {
      if (fn.isDeclaration()) {
        continue;
      }
      FailureOr<KernelSignature> signature = KernelSignature::readScheduled(fn);
      if (failed(signature)) {
        return signalPassFailure();
      }
      Schedule strata = signature->attend.getScheduleAttr().getValue();
      if (failed(AttendTiler(module, *signature, strata, vectorTarget(width, bf16)).run())) {
        return signalPassFailure();
      }
      fn.erase();
    }
  }
};
} // namespace
} // namespace heddle
