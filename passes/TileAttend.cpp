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
#include "mlir/IR/IRMapping.h"
#include "passes/AttendTiler.h"
#include "passes/Passes.h"
#include "passes/VectorTargets.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_TILEATTENDPASS
#include "passes/Passes.h.inc"

using Values = Emitter::Values;

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
  packs.back().at = frame.allocate((pairs ? (source.d + 1) / 2 : source.d) * kLanes * 4);
  return packs.back();
}

/// The largest parts of a condition that read the query and not the key: evaluated once a tile, not once a pair.
static void hoistable(const Expr &x, SmallVectorImpl<Expr> &out) {
  bool key = x.mentions(Sym::Key) || x.mentions(Sym::KeyRow);
  bool query = x.mentions(Sym::Query) || x.mentions(Sym::QueryRow);
  if (!query) {
    return;
  }
  if (!key && x->kind != ExprKind::Symbol) {
    if (llvm::none_of(out, [&](const Expr &seen) { return &*seen == &*x; })) {
      out.push_back(x);
    }
    return;
  }
  for (const Expr &arg : x->args) {
    hoistable(arg, out);
  }
}

void AttendTiler::layout() {
  // Room for whole groups of keys, and for whole registers of addresses.
  int64_t keys = (schedule.keyChunk + kFewKeys + 15) / 16 * 16, dots = 1, digits = 1;
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
  fCount = frame.allocate(8);
  fMasked = frame.allocate(8);
  fChoice = frame.allocate(8);
  fCareful = frame.allocate(8);
  fKeys = frame.allocate(keys * 4);
  fRanks = frame.allocate(keys * 4);
  fValueTable = frame.allocate(keys * 8);
  fValueBase = frame.allocate(8);
  fValueStride = frame.allocate(8);
  fLanes = frame.allocate(8);
  fRows = frame.allocate(kLanes * 8);
  fPositions = frame.allocate(kLanes * 8);
  fHeads = frame.allocate(kLanes * 8);
  fState = frame.allocate(kLanes * 8);
  fGroups = frame.allocate((keys / kKeyGroup + 1) * 8);
  fColumns = frame.allocate(kLanes / kColumn * 16);
  fLive = frame.allocate(kLanes / kColumn * keys * liveRow());
  fTops = frame.allocate(kLanes * 4);
  fUnusedTops = frame.allocate(kLanes * 4);
  fStageV = frame.allocate(keys * valueBlocks(sig.dv) * kValueBlock * 4);
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
    SmallVector<Expr> parts;
    if (s.residual) {
      hoistable(s.residual, parts);
    }
    fHoisted.emplace_back();
    for (size_t k = 0; k < parts.size(); ++k) {
      fHoisted.back().push_back(frame.allocate(kLanes * 8));
    }
  }
  fTouched = frame.allocate(8);
  fTile = frame.allocate(stateBytes(kLanes));
  if (splitKeys) {
    fTotal = frame.allocate(stateBytes(kLanes));
  }
  if (!direct) {
    fSuper = frame.allocate(stateBytes(stateRows()));
  }
  layoutRelative();
}

static bool sameDigits(ArrayRef<QueryDigit> x, ArrayRef<QueryDigit> y) {
  return llvm::equal(x, y, [](const QueryDigit &a, const QueryDigit &b) {
    return a.radix == b.radix && a.extent == b.extent && a.tile == b.tile;
  });
}

/// Keys of a split: fewer are not worth a task and a merge.
static constexpr int64_t kKeysPerSplit = 2048;
/// More splits take no longer, but their states would take more memory.
static constexpr int64_t kMaxSplits = 32;

/// False where every row of the stratum has its keys within a span that is shorter than a split.
static bool mayBeLong(const Stratum &s) {
  if (s.kind == StratumKind::Gathered) {
    return false; // lists are short, and not split
  }
  auto isShort = [](ArrayRef<Expr> lower, ArrayRef<Expr> upper, int64_t radix) {
    for (const Expr &hi : upper) {
      for (const Expr &lo : lower) {
        std::optional<int64_t> span = upperBound(LinearForm::of(hi) - LinearForm::of(lo));
        if (span && *span <= kKeysPerSplit / radix) {
          return true;
        }
      }
    }
    return false;
  };
  const KeyDigit &leading = s.key.front();
  return !isShort(s.lower, s.upper, 1) && !isShort(leading.lower, leading.upper, leading.radix);
}

static bool differsByHead(const Stratum &s) {
  auto mentions = [](const Expr &x) { return bool(x) && x.mentions(Sym::Head); };
  auto digitMentions = [&](const KeyDigit &d) {
    return mentions(d.phase) || llvm::any_of(d.lower, mentions) || llvm::any_of(d.upper, mentions);
  };
  return s.headPeriod > 1 || bool(s.list) || bool(s.ids) || mentions(s.guard) || mentions(s.keep) ||
         mentions(s.residual) || llvm::any_of(s.lower, mentions) || llvm::any_of(s.upper, mentions) ||
         llvm::any_of(s.key, digitMentions);
}

void AttendTiler::plan() {
  for (auto [n, s] : llvm::enumerate(schedule.strata)) {
    int64_t order = orderOf(s);
    auto group =
        llvm::find_if(groups, [&](const Strata &g) { return g.order == order && sameDigits(g.query, s.query); });
    if (group == groups.end()) {
      groups.push_back({SmallVector<QueryDigit>(s.query.begin(), s.query.end()), {}, order});
      group = std::prev(groups.end());
    }
    group->members.push_back(n);
  }
  if (groups.empty()) {
    groups.push_back({{QueryDigit()}, {}}); // no pair is live: rows are finished all the same
  }
  direct = groups.size() == 1;
  const QueryDigit &leading = groups[0].query[0];
  splitKeys = direct && groups[0].query.size() == 1 && schedule.superTile == leading.radix * leading.tile &&
              llvm::any_of(schedule.strata, mayBeLong);
  groupHeads = llvm::none_of(schedule.strata, differsByHead) && !hasRelative();
  for (int64_t a : sig.patternOperands) {
    Type type = sig.func.getArgumentTypes()[a];
    OperandRecord record{sig.argSlot(a), Type(), 0};
    if (auto tensor = dyn_cast<RankedTensorType>(type)) {
      record.element = tensor.getElementType();
      record.rank = tensor.getRank();
    }
    patternRecords.push_back(record);
  }
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
  Value h = u.h;
  if (keyHead) {
    Value group = arith::DivSIOp::create(builder, e.loc, u.heads, slot(u.args, record + 2));
    h = arith::DivSIOp::create(builder, e.loc, u.h, group);
  }
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

SmallVector<LaneInterval> AttendTiler::intervals(const Stratum &s) {
  SmallVector<LaneInterval> out;
  bool varies = !s.lower.empty() || !s.upper.empty() || bool(s.guard) || bool(s.list) || bool(s.ids);
  out.push_back({&s.lower, &s.upper, varies, fLower[0], fUpper[0]});
  for (auto [n, d] : llvm::enumerate(s.key)) {
    out.push_back({&d.lower, &d.upper, !d.lower.empty() || !d.upper.empty(), fLower[n + 1], fUpper[n + 1]});
  }
  return out;
}

/// True where some tile of the stratum may hold a pair that is not live.
bool AttendTiler::maskable(const Stratum &s) {
  return bool(s.residual) || llvm::any_of(intervals(s), [](const LaneInterval &i) { return i.varies; });
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
  int64_t super = schedule.superTile;
  Value base = e.add(e.mul(e.floorDiv(u.qOffset, super), super), e.mul(tile, super));
  Work work{e.max(base, u.qOffset), e.min(e.add(base, super), e.add(u.qOffset, u.nq)), part, split, {}};
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

/// out = acc / l, lse = m + log l; a sink joins the sum here.
void AttendTiler::finishRow(const Uniform &u, Value lane, Value maxima, Value sums, Value acc) {
  Value m = e.load(e.f32, e.at(maxima, e.mul(lane, 4)), 4), l = e.load(e.f32, e.at(sums, e.mul(lane, 4)), 4);
  Value zero = e.constant(e.f32, 0.0), one = e.constant(e.f32, 1.0);
  Value factor = one, lse;
  Value q = e.sub(e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8), u.qOffset);
  Uniform own = u;
  own.h = e.load(e.i64, e.at(in(u, fHeads), e.mul(lane, 8)), 8);
  if (sig.attend.getNormalizer() != attn::Normalizer::None) {
    Value dead = e.cmp(arith::CmpFPredicate::OEQ, l, zero);
    Value top = m, scaled = one;
    if (sig.sink >= 0) {
      int64_t record = sig.argSlot(sig.sink);
      Value address = e.at(e.toPtr(slot(u.args, record)), e.mul(e.mul(own.h, slot(u.args, record + 5)), 4));
      Value sink = e.mul(e.load(e.f32, address, 4), e.constant(e.f32, kLog2E));
      top = e.max(sink, m);
      // A sink of -inf, or a row without keys, must not make inf - inf.
      Value safe = e.select(e.cmp(arith::CmpFPredicate::OEQ, top, e.constant(e.f32, -INFINITY)), zero, top);
      scaled = math::Exp2Op::create(builder, e.loc, e.sub(m, safe));
      l = e.add(e.mul(l, scaled), math::Exp2Op::create(builder, e.loc, e.sub(sink, safe)));
    }
    factor = e.select(dead, zero, arith::DivFOp::create(builder, e.loc, scaled, l));
    if (sig.lse >= 0) {
      Value log = e.add(top, math::Log2Op::create(builder, e.loc, l));
      lse = e.select(dead, e.constant(e.f32, -INFINITY), e.mul(log, e.constant(e.f32, kLn2)));
    }
  }
  int64_t out = sig.resultSlot(sig.out);
  Value to = e.toPtr(e.add(headBase(own, out, false), e.mul(q, rowStride(u, out))));
  e.call(declareTileKernel(module, TileKernel::Finish, sig.dv, sig.storage), {},
         {acc, factor, to, elementStride(u, out)});
  if (lse) {
    int64_t record = sig.resultSlot(sig.lse);
    Value base = slot(u.args, record);
    e.ifThen(e.cmp(arith::CmpIPredicate::ne, base, e.c(0)), [&] {
      Value offset = e.add(e.add(e.mul(u.b, slot(u.args, record + 5)), e.mul(own.h, slot(u.args, record + 6))),
                           e.mul(q, slot(u.args, record + 7)));
      e.store(lse, e.at(e.toPtr(base), e.mul(offset, 4)), 4);
    });
  }
}

/// Results of the lanes that hold a query, from m and l at `state`; their acc is in their own row of it, or in
/// theirs of the super-tile's state.
void AttendTiler::finishLanes(const Uniform &u, Value state, Value superState) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  e.loop(e.c(0), lanes, 1, [&](Value lane) {
    Value row = e.load(e.i64, e.at(in(u, fState), e.mul(lane, 8)), 8);
    e.ifThen(e.ge(row, e.c(0)), [&] {
      Value acc = superState ? e.at(e.at(superState, accAt(stateRows())), e.mul(row, accRow()))
                             : e.at(e.at(state, accAt(kLanes)), e.mul(lane, accRow()));
      finishRow(u, lane, state, e.at(state, sumsAt(kLanes)), acc);
    });
  });
}

//===--- Query tiles ------------------------------------------------------===//

/// group(args, scratch, b, h, first, last, part, split, memory): the tiles of a super-tile are boxes of digits,
/// numbered with the last digit fastest; a part is a run of them.
void AttendTiler::emitGroup(int64_t n) {
  auto fn = function(name("group", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64, e.i64, e.i64, e.ptr});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Work work{a[4], a[5], a[6], a[7], a[8]};
  const Strata &group = groups[n];
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) { e.store(e.splat(u.h), e.at(in(u, fHeads), e.mul(lane, 8)), 8); });
  // The leading digit's tiles cover [first, last).
  const QueryDigit &leading = group.query[0];
  Value lowest = e.floorDiv(e.floorDiv(work.first, leading.radix), leading.tile);
  Value highest = e.floorDiv(e.floorDiv(e.add(work.last, -1), leading.radix), leading.tile);
  int64_t inner = 1;
  for (const QueryDigit &d : ArrayRef<QueryDigit>(group.query).drop_front()) {
    inner *= (d.extent + d.tile - 1) / d.tile;
  }
  Value total = e.mul(e.add(e.sub(highest, lowest), 1), inner), parts = slot(u.args, header::kParts);
  auto end = [&](Value part) { return arith::DivSIOp::create(builder, e.loc, e.mul(part, total), parts).getResult(); };
  e.loop(end(work.part), end(e.add(work.part, 1)), 1, [&](Value number) {
    SmallVector<Value> digits(group.query.size());
    for (size_t k = group.query.size(); k-- > 1;) {
      const QueryDigit &d = group.query[k];
      int64_t count = (d.extent + d.tile - 1) / d.tile;
      digits[k] = e.mul(e.floorMod(number, count), d.tile);
      number = e.floorDiv(number, count);
    }
    digits[0] = e.mul(e.add(lowest, number), leading.tile);
    emitTile(u, n, digits, work);
  });
  func::ReturnOp::create(builder, e.loc);
}

void AttendTiler::emitTile(const Uniform &u, int64_t n, ArrayRef<Value> digits, const Work &work) {
  const Strata &group = groups[n];
  Value corner = e.c(0);
  for (auto [d, digit] : llvm::zip(group.query, digits)) {
    corner = e.add(corner, e.mul(digit, d.radix));
  }
  // Lane l holds the digits l mod tile, (l / tile) mod tile', ... of the box, the last digit fastest.
  int64_t box = 1;
  for (const QueryDigit &d : group.query) {
    box *= d.tile;
  }
  Value positions = in(u, fPositions), state = in(u, fState);
  Value farAway = e.constant(e.vec(e.i64), kFar), none = e.constant(e.vec(e.i64), int64_t(-1));
  Value beyond = e.constant(e.vec(e.i64), kLanes);
  Values found = e.loop(e.c(0), e.c(kLanes), vl, {farAway, none, beyond}, [&](Value lane, ValueRange acc) {
    Value l = e.add(e.splat(lane), e.iota());
    Value position = e.splat(corner), valid;
    if (box < kLanes) {
      valid = e.lt(l, e.constant(l.getType(), box));
    }
    int64_t inner = 1;
    for (size_t k = group.query.size(); k-- > 0;) {
      const QueryDigit &d = group.query[k];
      if (d.tile > 1) {
        Value digit = e.floorDiv(l, inner);
        digit = e.floorMod(digit, d.tile);
        position = e.add(position, e.mul(digit, d.radix));
        if (k > 0 && d.extent % d.tile != 0) {
          Value inside = e.lt(digit, e.splat(e.sub(e.c(d.extent), digits[k])));
          valid = valid ? e.both(valid, inside) : inside;
        }
      }
      inner *= d.tile;
    }
    Value inRows = e.both(e.ge(position, e.splat(work.first)), e.lt(position, e.splat(work.last)));
    valid = valid ? e.both(valid, inRows) : inRows;
    if (group.order >= 0) { // the positions so far are ranks
      Value rank = e.select(valid, e.sub(position, u.qOffset), e.constant(e.vec(e.i64), int64_t(0)));
      position = e.add(gatherI32(orderTable(u, group.order, 0), rank), u.qOffset);
    }
    e.store(position, e.at(positions, e.mul(lane, 8)), 8);
    Value row = direct ? l : e.sub(position, e.splat(work.first));
    e.store(e.select(valid, row, none), e.at(state, e.mul(lane, 8)), 8);
    return Values{e.min(acc[0], e.select(valid, position, farAway)), e.max(acc[1], e.select(valid, l, none)),
                  e.min(acc[2], e.select(valid, l, beyond))};
  });
  Value lowest = vector::ReductionOp::create(builder, e.loc, vector::CombiningKind::MINSI, found[0]);
  Value highest = vector::ReductionOp::create(builder, e.loc, vector::CombiningKind::MAXSI, found[1]);
  e.ifThen(e.ge(highest, e.c(0)), [&] {
    Value empty = vector::ReductionOp::create(builder, e.loc, vector::CombiningKind::MINSI, found[2]);
    highest = shiftLanes(u, empty, highest);
    if (groupHeads) {
      highest = shareLanes(u, work, highest);
    }
    e.store(e.add(highest, 1), in(u, fLanes), 8);
    // Lanes without a query take the position of one that has one, so that they widen no bound.
    e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
      Value at = e.at(positions, e.mul(lane, 8));
      Value s = e.load(e.vec(e.i64), e.at(state, e.mul(lane, 8)), 8);
      Value lost = e.lt(s, e.constant(e.vec(e.i64), int64_t(0)));
      e.store(e.select(lost, e.splat(lowest), e.load(e.vec(e.i64), at, 8)), at, 8);
    });
    if (direct) {
      emitDirectTile(u, group, work, lowest);
      return;
    }
    packQueries(u, group);
    emitStrata(u, group, work.split, lowest);
    mergeState(u, work.memory, n == 0);
    if (size_t(n + 1) == groups.size()) {
      finishLanes(u, in(u, fTile), work.memory);
    }
  });
}

/// Moves a tile's queries past the empty lanes before them, by whole columns if they fill more than one (the same
/// queries share a column whether others are there or not). Returns the last lane in use.
Value AttendTiler::shiftLanes(const Uniform &u, Value empty, Value highest) {
  Value several = e.lt(e.floorDiv(empty, kColumn), e.floorDiv(highest, kColumn));
  Value shift = e.select(several, e.mul(e.floorDiv(empty, kColumn), kColumn), empty);
  e.ifThen(e.lt(e.c(0), shift), [&] {
    e.loop(e.c(0), e.c(kLanes), 1, [&](Value lane) {
      Value from = e.add(lane, shift), inside = e.lt(from, e.c(kLanes));
      from = e.mul(e.select(inside, from, lane), 8);
      Value position = e.load(e.i64, e.at(in(u, fPositions), from), 8);
      Value row = e.select(inside, e.load(e.i64, e.at(in(u, fState), from), 8), e.c(-1));
      e.store(position, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
      e.store(row, e.at(in(u, fState), e.mul(lane, 8)), 8);
    });
  });
  return e.sub(highest, shift);
}

/// Where a tile holds several heads: its queries move to the first lanes and are repeated for the other heads.
/// Returns the last lane in use. The runtime sees to it that there are enough lanes.
Value AttendTiler::shareLanes(const Uniform &u, const Work &work, Value highest) {
  Value heads = slot(u.args, header::kHeadsPerTile);
  Value positions = in(u, fPositions), state = in(u, fState), laneHeads = in(u, fHeads);
  return e.ifElse(
      e.lt(e.c(1), heads), {e.i64},
      [&] {
        Value rows = e.loop(e.c(0), e.add(highest, 1), 1, {e.c(0)}, [&](Value lane, ValueRange acc) {
          Value position = e.load(e.i64, e.at(positions, e.mul(lane, 8)), 8);
          Value valid = e.ge(e.load(e.i64, e.at(state, e.mul(lane, 8)), 8), e.c(0));
          e.store(position, e.at(positions, e.mul(acc[0], 8)), 8); // acc[0] <= lane
          return Values{e.add(acc[0], arith::ExtUIOp::create(builder, e.loc, e.i64, valid))};
        })[0];
        Value count = e.mul(rows, heads), span = e.sub(work.last, work.first);
        e.loop(e.c(0), heads, 1, [&](Value head) {
          e.loop(e.c(0), rows, 1, [&](Value row) {
            Value lane = e.mul(e.add(e.mul(head, rows), row), 8);
            Value position = e.load(e.i64, e.at(positions, e.mul(row, 8)), 8);
            e.store(position, e.at(positions, lane), 8);
            e.store(e.add(u.h, head), e.at(laneHeads, lane), 8);
            Value own = direct ? e.add(e.mul(head, rows), row) : e.add(e.mul(head, span), e.sub(position, work.first));
            e.store(own, e.at(state, lane), 8);
          });
        });
        e.loop(count, e.c(kLanes), 1, [&](Value lane) {
          e.store(u.h, e.at(laneHeads, e.mul(lane, 8)), 8);
          e.store(e.c(-1), e.at(state, e.mul(lane, 8)), 8);
        });
        return Values{e.add(count, -1)};
      },
      [&] { return Values{highest}; })[0];
}

/// A tile that has its state to itself. With split keys, each split starts from an empty state, and the total is
/// folded from the splits' states in their order, whoever made them: the bits are the same in all phases.
void AttendTiler::emitDirectTile(const Uniform &u, const Strata &group, const Work &work, Value minPosition) {
  Value tile = in(u, fTile);
  if (!splitKeys) {
    packQueries(u, group);
    fetchOutput(u);
    emitStrata(u, group, work.split, minPosition);
    finishLanes(u, tile, {});
    return;
  }
  Value total = in(u, fTotal), touched = in(u, fTouched);
  Value phaseNow = slot(u.args, header::kPhase), splits = slot(u.args, header::kSplits);
  Value partial = e.eq(phaseNow, e.c(phase::kPartial)), merging = e.eq(phaseNow, e.c(phase::kMerge));
  Value alone = e.eq(splits, e.c(1));
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  e.ifThen(e.cmp(arith::CmpIPredicate::ne, phaseNow, e.c(phase::kMerge)), [&] { packQueries(u, group); });
  e.ifThen(arith::XOrIOp::create(builder, e.loc, e.either(partial, alone), e.constant(e.i1, int64_t(1))),
           [&] { clearState(u, total); });
  Value from = e.select(partial, work.split, e.c(0)), to = e.select(partial, e.add(work.split, 1), splits);
  e.loop(from, to, 1, [&](Value split) {
    e.ifElse(
        merging,
        [&] {
          Value state = e.at(work.memory, e.mul(split, memoryBytes()));
          Value used = e.load(e.i64, e.at(state, stateBytes(kLanes)), 8);
          e.ifThen(e.cmp(arith::CmpIPredicate::ne, used, e.c(0)),
                   [&] { e.call("attend_fold", {}, {lanes, state, total}); });
        },
        [&] {
          e.store(e.c(0), touched, 8);
          emitStrata(u, group, split, minPosition);
          Value used = e.load(e.i64, touched, 8);
          e.ifThen(partial, [&] { e.store(used, e.at(work.memory, stateBytes(kLanes)), 8); });
          Value moves = arith::XOrIOp::create(builder, e.loc, alone, e.constant(e.i1, int64_t(1)));
          e.ifThen(e.both(moves, e.cmp(arith::CmpIPredicate::ne, used, e.c(0))), [&] {
            e.ifElse(
                partial, [&] { copyState(u, tile, work.memory); },
                [&] { e.call("attend_fold", {}, {lanes, tile, total}); });
          });
        });
  });
  e.ifThen(arith::XOrIOp::create(builder, e.loc, partial, e.constant(e.i1, int64_t(1))),
           [&] { finishLanes(u, e.select(alone, tile, total), {}); });
}

/// The tile's state := that of all strata of a group, on the lanes that are set up.
void AttendTiler::emitStrata(const Uniform &u, const Strata &group, Value split, Value minPosition) {
  auto visit = [&] {
    clearState(u, in(u, fTile));
    for (int64_t n : group.members) {
      const Stratum &s = schedule.strata[n];
      if (s.headPeriod <= 1) {
        emitChoices(u, n, split, minPosition);
        continue;
      }
      Value residue = arith::RemSIOp::create(builder, e.loc, u.h, e.c(s.headPeriod));
      Value takes = e.constant(e.i1, int64_t(0));
      for (int64_t h : s.heads) {
        takes = e.either(takes, e.eq(residue, e.c(h)));
      }
      e.ifThen(takes, [&] { emitChoices(u, n, split, minPosition); });
    }
  };
  if (llvm::none_of(group.members, [&](int64_t n) { return mayLeak(schedule.strata[n]); })) {
    visit();
    return;
  }
  // Where acc is not finite, perhaps by a value that some lane may not see, the tile is done again with care.
  scf::WhileOp::create(
      builder, e.loc, TypeRange{e.i64}, ValueRange{e.c(0)},
      [&](OpBuilder &, Location, ValueRange v) {
        e.store(v[0], in(u, fCareful), 8);
        visit();
        Value again = e.ifElse(
            e.eq(v[0], e.c(0)), e.i1, [&] { return Values{notFinite(u)}; },
            [&] { return Values{e.constant(e.i1, int64_t(0))}; })[0];
        scf::ConditionOp::create(builder, e.loc, again, ValueRange{e.c(1)});
      },
      [&](OpBuilder &, Location, ValueRange v) { scf::YieldOp::create(builder, e.loc, v); });
}

/// True where an element of the tile's acc is NaN or infinite: x * 0 is 0 otherwise.
Value AttendTiler::notFinite(const Uniform &u) {
  constexpr int64_t kUnroll = 4;
  Value zero = e.constant(e.vec(e.f32), 0.0), lanes = e.load(e.i64, in(u, fLanes), 8);
  Value bytes = e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn * accRow());
  Value acc = in(u, fTile + accAt(kLanes));
  Values sums = e.loop(e.c(0), bytes, kUnroll * vl * 4, Values(kUnroll, zero), [&](Value at, ValueRange sum) {
    Values next;
    for (int64_t r = 0; r < kUnroll; ++r) {
      next.push_back(e.fma(e.loadRow(e.at(acc, e.add(at, r * vl * 4))), zero, sum[r]));
    }
    return next;
  });
  Value sum = e.add(e.add(sums[0], sums[1]), e.add(sums[2], sums[3]));
  return e.any(e.cmp(arith::CmpFPredicate::UNO, sum, sum));
}

/// Asks for the output rows, which are written when the tile is done.
void AttendTiler::fetchOutput(const Uniform &u) {
  int64_t record = sig.resultSlot(sig.out);
  Value base = headBase(u, record, false), stride = rowStride(u, record);
  e.loop(e.c(0), e.load(e.i64, in(u, fLanes), 8), 1, [&](Value lane) {
    Value row = e.sub(e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8), u.qOffset);
    e.prefetch(e.toPtr(e.add(base, e.mul(row, stride))), sig.dv * bytes(), 2);
  });
}

/// (m, l, acc) of a tile := (-inf, 0, 0), as far as it has queries.
void AttendTiler::clearState(const Uniform &u, Value state) {
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    Value at = e.at(state, e.mul(lane, 4));
    e.store(e.constant(e.vec(e.f32), -INFINITY), at, 4);
    e.store(e.constant(e.vec(e.f32), 0.0), e.at(at, sumsAt(kLanes)), 4);
  });
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  Value rows = e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn);
  e.loop(e.c(accAt(kLanes)), e.add(e.mul(rows, accRow()), accAt(kLanes)), vl * 4,
         [&](Value at) { e.store(e.constant(e.vec(e.f32), 0.0), e.at(state, at), 4); });
}

void AttendTiler::copyState(const Uniform &u, Value from, Value to) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  auto copy = [&](Value lo, Value hi) {
    e.loop(lo, hi, vl * 4, [&](Value at) { e.store(e.loadRow(e.at(from, at)), e.at(to, at), 4); });
  };
  copy(e.c(0), e.c(accAt(kLanes)));
  copy(e.c(accAt(kLanes)), e.add(e.mul(lanes, accRow()), accAt(kLanes)));
}

/// Two states merge to m' = max(m, n), l' = l 2^(m - m') + k 2^(n - m'), acc likewise: {m', 2^(m - m'), 2^(n - m')}.
/// An empty state changes no bit of the other.
std::tuple<Value, Value, Value> AttendTiler::mergeFactors(Value m, Value n) {
  Value top = e.max(n, m);
  Value dead = e.cmp(arith::CmpFPredicate::OEQ, top, e.constant(top.getType(), -INFINITY));
  Value base = e.select(dead, e.constant(top.getType(), 0.0), top);
  return {top, e.exp2(e.sub(m, base)), e.exp2(e.sub(n, base))};
}

/// fold(lanes, state, total): total := total merged with a state, row by row.
void AttendTiler::emitFold() {
  auto fn = function("attend_fold", {e.i64, e.ptr, e.ptr});
  Value lanes = fn.getArgument(0), state = fn.getArgument(1), total = fn.getArgument(2);
  auto rows = [&](Value lane, llvm::function_ref<Value(Value, Value, Value)> join) {
    Value end = e.min(e.add(lane, vl), lanes);
    e.loop(lane, end, 1, [&](Value row) {
      Value first = e.add(e.mul(row, accRow()), accAt(kLanes));
      e.loop(first, e.add(first, accRow()), vl * 4, [&](Value at) {
        Value to = e.at(total, at);
        e.store(join(row, e.loadRow(to), e.loadRow(e.at(state, at))), to, 4);
      });
    });
  };
  e.loop(e.c(0), lanes, vl, [&](Value lane) {
    Value byte = e.mul(lane, 4);
    Value mt = e.at(total, byte), ms = e.at(state, byte);
    Value lt = e.at(mt, sumsAt(kLanes)), ls = e.at(ms, sumsAt(kLanes));
    if (!softmax()) {
      e.store(e.add(e.loadRow(lt), e.loadRow(ls)), lt, 4);
      rows(lane, [&](Value, Value x, Value y) { return e.add(x, y); });
      return;
    }
    auto [top, keep, take] = mergeFactors(e.loadRow(mt), e.loadRow(ms));
    e.store(top, mt, 4);
    e.store(e.fma(e.loadRow(lt), keep, e.mul(e.loadRow(ls), take)), lt, 4);
    // The factors take the place of the state's m and l, which nobody needs any more.
    e.store(keep, ms, 4);
    e.store(take, ls, 4);
    rows(lane, [&](Value row, Value x, Value y) {
      Value at = e.at(state, e.mul(row, 4));
      Value k = e.splat(e.load(e.f32, at, 4)), t = e.splat(e.load(e.f32, e.at(at, sumsAt(kLanes)), 4));
      return e.fma(x, k, e.mul(y, t));
    });
  });
  func::ReturnOp::create(builder, e.loc);
}

void AttendTiler::packQueries(const Uniform &u, const Strata &group) {
  llvm::SmallDenseSet<int64_t> done;
  for (int64_t n : group.members) {
    int64_t g = schedule.strata[n].segment;
    for (size_t dot = 0; dot < sig.segments[g].dots.size(); ++dot) {
      Pack &pack = packOf(g, dot);
      if (!done.insert(pack.at).second) {
        continue;
      }
      int64_t record = sig.argSlot(pack.q);
      Value stride = rowStride(u, record), headStride = e.mul(slot(u.args, record + 6), bytes());
      Value batch = e.mul(e.mul(u.b, slot(u.args, record + 5)), bytes());
      Value origin = e.sub(e.add(slot(u.args, record), batch), e.mul(u.qOffset, stride));
      e.loop(e.c(0), e.c(kLanes), 1, [&](Value lane) {
        Value position = e.load(e.i64, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
        Value head = e.load(e.i64, e.at(in(u, fHeads), e.mul(lane, 8)), 8);
        Value row = e.add(origin, e.add(e.mul(position, stride), e.mul(head, headStride)));
        e.store(row, e.at(in(u, fRows), e.mul(lane, 8)), 8);
      });
      e.call(declareTileKernel(module, pairs ? TileKernel::PackPairs : TileKernel::Pack, pack.d, sig.storage), {},
             {in(u, fRows), elementStride(u, record), scaleOf(u, pack), in(u, pack.at)});
    }
  }
}

/// Merges the tile's (m, l, acc) into the rows of a super-tile's state, which the first group finds empty; the
/// tile's m and l become those of the rows.
void AttendTiler::mergeState(const Uniform &u, Value state, bool fresh) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  auto eachLane = [&](llvm::function_ref<void(Value, Value)> body) {
    e.loop(e.c(0), lanes, 1, [&](Value lane) {
      Value row = e.load(e.i64, e.at(in(u, fState), e.mul(lane, 8)), 8);
      e.ifThen(e.ge(row, e.c(0)), [&] { body(lane, row); });
    });
  };
  auto cell = [&](int64_t offset, Value lane) { return e.at(in(u, offset), e.mul(lane, 4)); };
  auto move = [&](Value from, Value to) { e.store(e.load(e.f32, from, 4), to, 4); };
  int64_t tileSum = fTile + sumsAt(kLanes), keep = fTops, take = fUnusedTops;
  auto maximum = [&](Value row) { return e.at(state, e.mul(row, 4)); };
  auto sum = [&](Value row) { return e.at(maximum(row), sumsAt(stateRows())); };
  if (!fresh) {
    // The state's m and l beside the tile's, then both factors for all lanes at once.
    eachLane([&](Value lane, Value row) {
      move(maximum(row), cell(keep, lane));
      move(sum(row), cell(take, lane));
    });
    e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
      Value mine = e.loadRow(cell(fTile, lane)), theirs = e.loadRow(cell(keep, lane));
      Value l = e.loadRow(cell(tileSum, lane)), other = e.loadRow(cell(take, lane));
      if (!softmax()) {
        e.store(e.add(l, other), cell(tileSum, lane), 4);
        return;
      }
      auto [top, a, b] = mergeFactors(theirs, mine);
      e.store(top, cell(fTile, lane), 4);
      e.store(e.fma(other, a, e.mul(l, b)), cell(tileSum, lane), 4);
      e.store(a, cell(keep, lane), 4);
      e.store(b, cell(take, lane), 4);
    });
  }
  eachLane([&](Value lane, Value row) {
    move(cell(fTile, lane), maximum(row));
    move(cell(tileSum, lane), sum(row));
    Value from = e.at(in(u, fTile + accAt(kLanes)), e.mul(lane, accRow()));
    Value to = e.at(e.at(state, accAt(stateRows())), e.mul(row, accRow()));
    Value a, b;
    if (!fresh && softmax()) {
      a = e.splat(e.load(e.f32, cell(keep, lane), 4));
      b = e.splat(e.load(e.f32, cell(take, lane), 4));
    }
    e.loop(e.c(0), e.c(accRow()), vl * 4, [&](Value d) {
      Value x = e.loadRow(e.at(from, d));
      if (!fresh) {
        Value y = e.loadRow(e.at(to, d));
        x = a ? e.fma(x, b, e.mul(y, a)) : e.add(x, y);
      }
      e.store(x, e.at(to, d), 4);
    });
  });
}

//===--- Keys of a stratum ------------------------------------------------===//

SmallVector<AttendTiler::Range> AttendTiler::emitBounds(const Uniform &u, const Stratum &s,
                                                        ArrayRef<LaneInterval> intervals,
                                                        llvm::function_ref<Value(Value)> alive) {
  Type lanes = e.vec(e.i64);
  Value plus = e.constant(lanes, kFar), minus = e.constant(lanes, -kFar);
  Values init;
  for (size_t n = 0; n < intervals.size(); ++n) {
    init.append({plus, minus, minus, plus});
  }
  bool any = llvm::any_of(intervals, [](const LaneInterval &i) { return i.varies; });
  Values reduced = init;
  if (any) {
    reduced = e.loop(e.c(0), e.c(kLanes), vl, init, [&](Value lane, ValueRange acc) {
      Value query = e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
      ExprScope at = scope(u, s.segment, query, {});
      Value dead;
      if (s.guard) {
        Value live = e.splat(emitExpr(e, s.guard, at));
        dead = arith::XOrIOp::create(builder, e.loc, live, e.constant(live.getType(), int64_t(1)));
      }
      if (alive) {
        Value other = e.flip(e.splat(alive(query)));
        dead = dead ? e.either(dead, other) : other;
      }
      SmallVector<std::pair<Value, Value>> ends;
      for (const LaneInterval &i : intervals) {
        Value lo = minus, hi = plus;
        for (const Expr &x : *i.lower) {
          lo = e.max(lo, e.splat(emitExpr(e, x, at)));
        }
        for (const Expr &x : *i.upper) {
          hi = e.min(hi, e.splat(emitExpr(e, x, at)));
        }
        lo = e.min(lo, plus);
        hi = e.max(hi, minus);
        if (i.varies) {
          Value empty = e.ge(lo, hi);
          dead = dead ? e.either(dead, empty) : empty;
        }
        ends.emplace_back(lo, hi);
      }
      Values next;
      for (auto [n, i] : llvm::enumerate(intervals)) {
        // A lane without a live key widens nothing and lets no tile be full.
        Value lo = e.select(dead, plus, ends[n].first), hi = e.select(dead, minus, ends[n].second);
        next.append(
            {e.min(acc[4 * n], lo), e.max(acc[4 * n + 1], hi), e.max(acc[4 * n + 2], lo), e.min(acc[4 * n + 3], hi)});
        e.store(e.toInt(lo, e.i32), e.at(in(u, i.lo), e.mul(lane, 4)), 4);
        e.store(e.toInt(hi, e.i32), e.at(in(u, i.hi), e.mul(lane, 4)), 4);
      }
      return next;
    });
  }
  SmallVector<Range> out;
  for (size_t n = 0; n < intervals.size(); ++n) {
    if (!any) {
      out.push_back({e.c(-kFar), e.c(kFar), e.c(-kFar), e.c(kFar)});
      continue;
    }
    auto reduce = [&](vector::CombiningKind kind, Value v) {
      return vector::ReductionOp::create(builder, e.loc, kind, v).getResult();
    };
    using Kind = vector::CombiningKind;
    out.push_back({reduce(Kind::MINSI, reduced[4 * n]), reduce(Kind::MAXSI, reduced[4 * n + 1]),
                   reduce(Kind::MAXSI, reduced[4 * n + 2]), reduce(Kind::MINSI, reduced[4 * n + 3])});
  }
  return out;
}

/// Lane values of the residual's hoistable parts, as i64 or f64.
void AttendTiler::hoist(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  if (fHoisted[n].empty()) {
    return;
  }
  SmallVector<Expr> parts;
  hoistable(s.residual, parts);
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    ExprScope at = scope(u, s.segment, query, {});
    for (auto [part, offset] : llvm::zip(parts, fHoisted[n])) {
      Value v = e.splat(emitExpr(e, part, at));
      e.store(isa<FloatType>(Emitter::elementType(v)) ? v : e.toInt(v, e.i64), e.at(in(u, offset), e.mul(lane, 8)), 8);
    }
  });
}

/// Makes the hoisted values of lanes [lane, lane + width) known to `to`.
void AttendTiler::giveHoisted(const Uniform &u, int64_t n, Value lane, ExprScope &to) {
  SmallVector<Expr> parts;
  if (!fHoisted[n].empty()) {
    hoistable(schedule.strata[n].residual, parts);
  }
  for (auto [part, offset] : llvm::zip(parts, fHoisted[n])) {
    Type element = part->type == ExprType::Float ? e.f64 : e.i64;
    Value v = e.load(e.vec(element), e.at(in(u, offset), e.mul(lane, 8)), 8);
    if (part->type == ExprType::Bool) {
      v = e.cmp(arith::CmpIPredicate::ne, v, e.constant(v.getType(), int64_t(0)));
    }
    to.given.emplace_back(&*part, v);
  }
}

void AttendTiler::beginSegment(const Uniform &u, int64_t segment) {
  const SegmentSignature &s = sig.segments[segment];
  int64_t v = sig.argSlot(s.v);
  e.store(headBase(u, v, true), in(u, fValueBase), 8);
  e.store(rowStride(u, v), in(u, fValueStride), 8);
  for (auto [n, dot] : llvm::enumerate(s.dots)) {
    int64_t k = sig.argSlot(dot.k);
    e.store(headBase(u, k, true), in(u, fKeyBase[n]), 8);
    e.store(rowStride(u, k), in(u, fKeyStride[n]), 8);
  }
  e.store(e.c(0), in(u, fCount), 8);
  e.store(e.c(0), in(u, fMasked), 8);
}

/// The stratum once for each of its choices.
void AttendTiler::emitChoices(const Uniform &u, int64_t n, Value split, Value minPosition) {
  if (schedule.strata[n].choices == 0) {
    emitStratum(u, n, split, minPosition);
    return;
  }
  e.loop(e.c(0), e.c(schedule.strata[n].choices), 1, [&](Value choice) {
    e.store(choice, in(u, fChoice), 8);
    emitStratum(u, n, split, minPosition);
  });
}

void AttendTiler::emitStratum(const Uniform &u, int64_t n, Value split, Value minPosition) {
  const Stratum &s = schedule.strata[n];
  if (bool(s.list) || bool(s.ids)) {
    // Not split: the first split has all of them.
    Value mine = splitKeys ? e.eq(split, e.c(0)) : e.constant(e.i1, int64_t(1));
    e.ifThen(mine, [&] {
      if (splitKeys) {
        e.store(e.c(1), in(u, fTouched), 8);
      }
      if (byRow(s)) {
        e.call(name("rows", n), {}, {u.args, u.scratch, u.b, u.h});
      } else {
        s.list ? emitShared(u, n) : emitSorted(u, n);
      }
    });
    return;
  }
  SmallVector<LaneInterval> list = intervals(s);
  SmallVector<Range> ranges = emitBounds(u, s, list);
  // j itself is also clipped to the rows that exist, for all lanes alike.
  Value koff = kOffset(u, s.segment);
  Value rowsEnd = e.add(koff, keyRows(u, s.segment));
  Value rowsFirst = koff;
  if (splitKeys) {
    Value keys = slot(u.args, header::kKeysPerSplit);
    rowsFirst = e.add(koff, e.mul(split, keys));
    rowsEnd = e.min(rowsEnd, e.add(rowsFirst, keys));
  }
  ranges[0].lo = e.max(ranges[0].lo, rowsFirst);
  ranges[0].hi = e.min(ranges[0].hi, rowsEnd);
  e.ifThen(e.lt(ranges[0].lo, ranges[0].hi), [&] {
    if (splitKeys) {
      e.store(e.c(1), in(u, fTouched), 8);
    }
    beginSegment(u, s.segment);
    hoist(u, n);
    SmallVector<Value> phases;
    for (const KeyDigit &d : s.key) {
      phases.push_back(d.phase ? emitExpr(e, d.phase, scope(u, s.segment, minPosition, {})) : e.c(0));
    }
    // With a condition per pair, no tile is full unless a bracket shows it.
    Value full = s.residual ? emitBracket(u, s, ranges[0]) : e.constant(e.i1, int64_t(1));
    emitWalk(u, n, 0, e.c(0), full, ranges, phases);
    Value count = e.load(e.i64, in(u, fCount), 8);
    e.ifThen(e.lt(e.c(0), count), [&] { e.call(name("flush", n), {}, {u.args, u.scratch, u.b, u.h}); });
  });
}

/// An equation of the residual with the query alone on one side and the key alone on the other (documents,
/// clusters), as {query side, key side}.
static std::optional<std::pair<Expr, Expr>> matchedIds(const Expr &residual) {
  if (residual->kind == ExprKind::And) {
    for (const Expr &arg : residual->args) {
      if (auto ids = matchedIds(arg)) {
        return ids;
      }
    }
    return std::nullopt;
  }
  if (residual->kind != ExprKind::Eq) {
    return std::nullopt;
  }
  auto onQuery = [](const Expr &x) { return x.mentions(Sym::Query) || x.mentions(Sym::QueryRow); };
  auto onKey = [](const Expr &x) { return x.mentions(Sym::Key) || x.mentions(Sym::KeyRow); };
  Expr q = residual->args[0], k = residual->args[1];
  if (onKey(q)) {
    std::swap(q, k);
  }
  auto isIds = [](const Expr &x) { return x->kind == ExprKind::Load && x->type == ExprType::Int; };
  if (!isIds(q) || !isIds(k) || onKey(q) || onQuery(k)) {
    return std::nullopt;
  }
  return std::pair(q, k);
}

/// Run-time ids that must be equal: narrows `keys` to the first and last key whose id lies between the least and
/// the greatest id of the tile's queries (exact where ids are sorted). Returns true (at run time) where all
/// queries have one id and all those keys have it too, so that the residual holds throughout.
Value AttendTiler::emitBracket(const Uniform &u, const Stratum &s, Range &keys) {
  Value never = e.constant(e.i1, int64_t(0));
  std::optional<std::pair<Expr, Expr>> ids = matchedIds(s.residual);
  if (!ids) {
    return never;
  }
  Type lanes = e.vec(e.i64);
  using Kind = vector::CombiningKind;
  auto reduce = [&](Kind kind, Value v) { return vector::ReductionOp::create(builder, e.loc, kind, v).getResult(); };
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();
  Values span = e.loop(e.c(0), e.c(kLanes), vl, {e.constant(lanes, kMost), e.constant(lanes, kLeast)},
                       [&](Value lane, ValueRange acc) {
                         Value query = e.load(lanes, e.at(in(u, fPositions), e.mul(lane, 8)), 8);
                         Value id = e.splat(emitExpr(e, ids->first, scope(u, s.segment, query, {})));
                         return Values{e.min(acc[0], id), e.max(acc[1], id)};
                       });
  Value least = reduce(Kind::MINSI, span[0]), most = reduce(Kind::MAXSI, span[1]);
  Values found =
      e.loop(keys.lo, keys.hi, vl, {e.constant(lanes, kFar), e.constant(lanes, -kFar), e.constant(lanes, int64_t(0))},
             [&](Value j, ValueRange acc) {
               Value key = e.add(e.splat(j), e.iota());
               Value id = e.splat(emitExpr(e, ids->second, scope(u, s.segment, {}, key)));
               Value hit = e.both(e.ge(id, e.splat(least)), e.le(id, e.splat(most)));
               hit = e.both(hit, e.lt(key, e.splat(keys.hi)));
               return Values{e.min(acc[0], e.select(hit, key, acc[0])), e.max(acc[1], e.select(hit, key, acc[1])),
                             e.add(acc[2], e.toInt(hit, e.i64))};
             });
  keys.lo = e.max(keys.lo, reduce(Kind::MINSI, found[0]));
  keys.hi = e.min(keys.hi, e.add(reduce(Kind::MAXSI, found[1]), 1));
  if (s.residual->kind != ExprKind::Eq) {
    return never;
  }
  Value allKeys = e.eq(reduce(Kind::ADD, found[2]), e.sub(keys.hi, keys.lo));
  return e.both(e.eq(least, most), allKeys);
}

/// Loops over the values of key digit `digit`; `base` is the position that the digits before it add up to, and
/// `full` says that all lanes have them.
void AttendTiler::emitWalk(const Uniform &u, int64_t n, size_t digit, Value base, Value full, ArrayRef<Range> ranges,
                           ArrayRef<Value> phases) {
  const Stratum &s = schedule.strata[n];
  const KeyDigit &d = s.key[digit];
  const Range &all = ranges[0], &own = ranges[digit + 1];
  Value lo = e.max(own.lo, e.floorDiv(e.sub(all.lo, base), d.radix));
  Value hi = e.min(own.hi, e.add(e.floorDiv(e.sub(e.add(all.hi, -1), base), d.radix), 1));
  if (digit > 0 && d.extent > 0) {
    lo = e.max(lo, e.c(0));
    hi = e.min(hi, e.c(d.extent));
  }
  if (d.step > 1) {
    lo = e.add(lo, e.floorMod(e.sub(phases[digit], lo), d.step));
  }
  if (digit + 1 < s.key.size()) {
    e.loop(lo, hi, d.step, [&](Value value) {
      Value inside = e.both(e.ge(value, own.fullLo), e.lt(value, own.fullHi));
      emitWalk(u, n, digit + 1, e.add(base, e.mul(value, d.radix)), e.both(full, inside), ranges, phases);
    });
    return;
  }
  emitRun(u, n, base, lo, hi, full, all, own);
}

/// The last digit: a run lo, lo + step, ... < hi, of which [a, b) is live for every lane.
void AttendTiler::emitRun(const Uniform &u, int64_t n, Value base, Value lo, Value hi, Value full, const Range &all,
                          const Range &own) {
  const Stratum &s = schedule.strata[n];
  const KeyDigit &d = s.key.back();
  auto steps = [&](Value length) { return e.max(e.floorDiv(e.add(length, d.step - 1), d.step), e.c(0)); };
  auto push = [&](Value first, Value count, int64_t masked) {
    e.call(name("push", n), {}, {u.args, u.scratch, u.b, u.h, e.add(base, first), count, e.c(masked), e.c(d.step)});
  };
  Value total = steps(e.sub(hi, lo));
  if (!maskable(s)) {
    push(lo, total, 0);
    return;
  }
  Value a = e.max(e.max(lo, own.fullLo), e.sub(all.fullLo, base));
  Value b = e.min(e.min(hi, own.fullHi), e.sub(all.fullHi, base));
  Value before = e.min(steps(e.sub(a, lo)), total);
  Value until = e.max(e.min(steps(e.sub(b, lo)), total), before);
  before = e.select(full, before, total);
  until = e.select(full, until, total);
  push(lo, before, 1);
  push(e.add(lo, e.mul(before, d.step)), e.sub(until, before), 0);
  push(e.add(lo, e.mul(until, d.step)), e.sub(total, until), 1);
}

/// push(args, scratch, b, h, first position, count, masked, step): appends keys to the chunk, flushing it when full.
void AttendTiler::emitPush(int64_t n) {
  const Stratum &s = schedule.strata[n];
  const SegmentSignature &segment = sig.segments[s.segment];
  auto fn = function(name("push", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value first = a[4], total = a[5], masked = a[6], step = a[7];
  Value koff = kOffset(u, s.segment);
  // The position of number t of the run; the runs of sorted keys are ranks.
  Value keyOrder = s.ids ? orderTable(u, orderOf(s), 1) : Value();
  Value lastRank = s.ids ? e.add(keyRows(u, s.segment), -1) : Value();
  auto placeOf = [&](Value number) {
    return keyOrder ? e.add(gatherI32(keyOrder, e.min(number, lastRank)), koff) : number;
  };
  // Writes entry `at` of the tables for the key at `position`, number `number` of its order.
  auto write = [&](Value at, Value position, Value number) {
    Value row = e.sub(position, koff);
    if (keyOrder) {
      e.store(e.toInt(number, e.i32), e.at(in(u, fRanks), e.mul(at, 4)), 4);
    }
    e.store(e.toInt(position, e.i32), e.at(in(u, fKeys), e.mul(at, 4)), 4);
    auto address = [&](int64_t base, int64_t stride, int64_t table) {
      Value b = e.load(e.i64, in(u, base), 8), st = e.load(e.i64, in(u, stride), 8);
      e.store(e.add(e.mul(row, st), b), e.at(in(u, table), e.mul(at, 8)), 8);
    };
    address(fValueBase, fValueStride, fValueTable);
    for (size_t dot = 0; dot < segment.dots.size(); ++dot) {
      if (segment.dots[dot].relative) {
        continue;
      }
      address(fKeyBase[dot], fKeyStride[dot], fKeyTable[dot]);
    }
  };
  auto flushWhenFull = [&](Value count) {
    e.store(count, in(u, fCount), 8);
    e.ifThen(e.ge(count, e.c(schedule.keyChunk)), [&] { e.call(name("flush", n), {}, {u.args, u.scratch, u.b, u.h}); });
  };
  auto mark = [&] {
    Value flag = e.load(e.i64, in(u, fMasked), 8);
    e.store(e.either(flag, masked), in(u, fMasked), 8);
  };
  // Key by key, leaving out those that `wanted` rejects.
  auto filtered = [&](llvm::function_ref<Value(Value)> wanted) {
    e.loop(e.c(0), total, 1, [&](Value t) {
      Value number = e.add(first, e.mul(t, step)), position = placeOf(number);
      e.ifThen(wanted(position), [&] {
        Value count = e.load(e.i64, in(u, fCount), 8);
        mark();
        write(count, position, number);
        flushWhenFull(e.add(count, 1));
      });
    });
  };
  // while (done < total): fill what the chunk still holds.
  auto bulk = [&] {
    scf::WhileOp::create(
        builder, e.loc, TypeRange{e.i64}, ValueRange{e.c(0)},
        [&](OpBuilder &, Location, ValueRange v) { scf::ConditionOp::create(builder, e.loc, e.lt(v[0], total), v); },
        [&](OpBuilder &, Location, ValueRange v) {
          Value count = e.load(e.i64, in(u, fCount), 8);
          Value take = e.min(e.sub(e.c(schedule.keyChunk), count), e.sub(total, v[0]));
          mark();
          Value start = e.add(first, e.mul(v[0], step));
          // Whole registers: the tables have room behind the last key.
          Value steps = e.mul(e.iota(), e.splat(step));
          e.loop(e.c(0), take, vl, [&](Value t) {
            Value number = e.add(e.splat(e.add(start, e.mul(t, step))), steps);
            write(e.add(count, t), placeOf(number), number);
          });
          flushWhenFull(e.add(count, take));
          scf::YieldOp::create(builder, e.loc, ValueRange{e.add(v[0], take)});
        });
  };
  auto kept = [&](Value position) {
    return s.keep ? emitExpr(e, s.keep, scope(u, s.segment, {}, position)) : e.constant(e.i1, int64_t(1));
  };
  // A condition on loaded tables is tried on the tile's lanes first: a key that none of them wants costs no more.
  auto wantedByALane = [&](Value position) {
    Value lanes = e.load(e.i64, in(u, fLanes), 8);
    Value none = e.constant(e.vec(e.i1), int64_t(0));
    Values any = e.loop(e.c(0), lanes, vl, {none}, [&](Value lane, ValueRange acc) {
      Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
      ExprScope at = scope(u, s.segment, query, position);
      giveHoisted(u, n, lane, at);
      return Values{e.either(acc[0], e.splat(emitExpr(e, s.residual, at)))};
    });
    return e.both(kept(position), e.any(any[0]));
  };
  auto unfiltered = [&] {
    if (s.keep) {
      filtered(kept);
    } else {
      bulk();
    }
  };
  if (bool(s.residual) && s.residual.hasLoad()) {
    e.ifElse(e.cmp(arith::CmpIPredicate::ne, masked, e.c(0)), [&] { filtered(wantedByALane); }, unfiltered);
  } else {
    unfiltered();
  }
  func::ReturnOp::create(builder, e.loc);
}

//===--- A chunk ----------------------------------------------------------===//

void AttendTiler::emitFlush(int64_t n) {
  const Stratum &s = schedule.strata[n];
  const SegmentSignature &segment = sig.segments[s.segment];
  auto fn = function(name("flush", n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8);
  Value masked = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fMasked), 8), e.c(0));
  Type f32 = e.f32;
  Value columns = in(u, fColumns), groups = in(u, fGroups), pitch = e.c(columnPitch());
  Values scoreArgs{u.args, u.scratch, u.b, u.h};
  auto everything = [&] {
    Value end = e.floorDiv(e.add(lanes, kColumn - 1), kColumn);
    Value last = e.toInt(end, e.i32);
    e.loop(e.c(0), e.floorDiv(e.add(count, kKeyGroup - 1), e.c(kKeyGroup)), 1, [&](Value g) {
      e.store(e.c32(0), e.at(groups, e.mul(g, 8)), 4);
      e.store(last, e.at(groups, e.add(e.mul(g, 8), 4)), 4);
    });
    e.loop(e.c(0), end, 1, [&](Value column) {
      e.store(e.c(0), e.at(columns, e.mul(column, 16)), 8);
      e.store(count, e.at(columns, e.add(e.mul(column, 16), 8)), 8);
    });
  };
  if (maskable(s)) {
    e.ifElse(masked, [&] { e.call(name("live", n), {}, scoreArgs); }, everything);
  } else {
    everything();
  }
  bool scored = isScored(s.segment);
  // Dots find the greatest score of each lane where nothing is to change it.
  Value tops = in(u, fTops), unused = in(u, fUnusedTops);
  e.loop(e.c(0), e.c(kLanes), vl,
         [&](Value lane) { e.store(e.constant(e.vec(f32), -INFINITY), e.at(tops, e.mul(lane, 4)), 4); });
  Value dotTops = scored ? unused : tops;
  if (!scored && maskable(s)) {
    dotTops = e.select(masked, unused, tops);
  }
  // Rows that are far apart fall into few sets of the cache, and no stream of the hardware fetches them.
  Value values = in(u, fValueTable);
  Value apart = e.sub(e.load(e.i64, e.at(values, 8), 8), e.load(e.i64, values, 8));
  Value far = e.both(e.ge(count, e.c(2)), e.either(e.ge(apart, e.c(kFarRows)), e.le(apart, e.c(-kFarRows))));
  e.ifThen(far, [&] {
    e.loop(e.c(0), count, 1,
           [&](Value k) { e.prefetch(e.load(e.ptr, e.at(values, e.mul(k, 8)), 8), sig.dv * bytes(), 2); });
  });
  // A tile that is the only one to read its keys runs at the speed of memory: values are fetched while the dots run
  // and, for few queries, the keys that follow, if they lie as these do, while values are accumulated.
  Value null = e.toPtr(e.c(0)), few, ahead, valuesAhead;
  Value fetched = e.select(e.eq(slot(u.args, header::kTiles), e.c(1)), in(u, fValueTable), null);
  if (e.target.registers >= 32 && !segment.dots.empty()) {
    few = e.le(lanes, e.c(kColumn));
    Value table = in(u, fKeyTable[0]);
    ahead = e.mul(e.sub(e.load(e.i64, e.at(table, 8), 8), e.load(e.i64, table, 8)), count);
    valuesAhead = e.mul(apart, count);
  }
  Type wide = this->wide();
  for (auto [dot, source] : llvm::enumerate(segment.dots)) {
    if (source.relative) {
      e.call(name(("relative_" + Twine(dot)).str(), n), {}, {u.args, u.scratch, u.b, u.h});
      continue;
    }
    int64_t record = sig.argSlot(source.k), d = source.d;
    Value table = in(u, fKeyTable[dot]), stride = elementStride(u, record), buffer = in(u, fStageK[dot]);
    // Rows whose elements are not adjacent, or not of the type that is multiplied, are copied once for the tile.
    auto stage = [&] {
      if (pairs) {
        e.call(declareTileKernel(module, TileKernel::StageRows, d, sig.storage), {}, {table, count, stride, buffer});
      } else {
        e.call(declareTileKernel(module, TileKernel::Stage, d, sig.storage), {},
               {table, count, stride, buffer, e.c(paddedRow(d) * 4), e.c(kValueBlock * 4)});
      }
    };
    if (sig.storage.isF32() || (pairs && d % 2 == 0)) {
      e.ifThen(e.cmp(arith::CmpIPredicate::ne, stride, e.c(bytes())), stage);
    } else {
      stage();
    }
    // The last group of keys is filled up with the last key; its rows of S are not used.
    Value last = e.load(e.i64, e.at(table, e.mul(e.add(count, -1), 8)), 8);
    e.loop(count, e.add(count, kFewKeys), 1, [&](Value k) { e.store(last, e.at(table, e.mul(k, 8)), 8); });
    Values operands{table, count, groups, in(u, packOf(s.segment, dot).at), in(u, fScores[dot]), pitch, dotTops};
    auto dots = [&] {
      Values more(operands);
      more.push_back(dot == 0 ? fetched : null);
      e.call(declareTileKernel(module, TileKernel::Dots, d, wide, sig.dv * bytes()), {}, more);
    };
    auto dotsFew = [&] {
      Values more(operands);
      more.append({in(u, fValueTable), valuesAhead});
      e.call(declareTileKernel(module, TileKernel::DotsFew, d, wide, sig.dv * bytes()), {}, more);
    };
    if (few) {
      e.ifElse(few, dotsFew, dots);
    } else {
      dots();
    }
  }
  // What the scores still have to be multiplied with: a packed pair has no room for the scale.
  Value factor = e.constant(f32, 1.0), scale = factor;
  if (pairs && !segment.dots.empty()) {
    Value signedScale = scaleOf(u, packOf(s.segment, 0));
    factor = e.max(signedScale, e.sub(e.constant(f32, 0.0), signedScale));
    scale = scored ? scale : factor;
    if (!scored && maskable(s)) {
      scale = e.select(masked, e.constant(f32, 1.0), factor);
    }
  }
  auto callScore = [&](bool withMask) {
    std::string what = withMask ? "score_masked" : "score";
    auto callAs = [&](const std::string &callee) { e.call(name(callee, n), {}, Values{u.args, u.scratch, u.b, u.h}); };
    if (!scoreDiffersByHead(s.segment)) {
      return callAs(what);
    }
    Value several = e.lt(e.c(1), slot(u.args, header::kHeadsPerTile));
    e.ifElse(several, [&] { callAs(what + "_heads"); }, [&] { callAs(what); });
  };
  if (scored && maskable(s)) {
    e.ifElse(masked, [&] { callScore(true); }, [&] { callScore(false); });
  } else if (scored) {
    callScore(false);
  } else if (maskable(s)) {
    e.ifThen(masked, [&] { callScore(true); });
  }
  Value scores = in(u, fScores[0]);
  if (softmax()) {
    e.call(declareTileKernel(module, TileKernel::Softmax, sig.dv, wide), {},
           {scores, columns, lanes, pitch, scale, tops, in(u, fTile), in(u, fTile + sumsAt(kLanes)),
            in(u, fTile + accAt(kLanes))});
  } else if (sig.attend.getNormalizer() == attn::Normalizer::Sum) {
    e.call(declareTileKernel(module, TileKernel::Weights, sig.dv, f32), {},
           {scores, columns, lanes, pitch, in(u, fTile + sumsAt(kLanes))});
  }
  // Values: in place where they lie well, else a copy in blocks of adjacent keys.
  int64_t v = sig.argSlot(segment.v);
  Value stride = elementStride(u, v), buffer = in(u, fStageV);
  Value blockPitch = e.c(slots * kValueBlock * 4), rows = values, rowCount = count;
  if (pairs) {
    e.call(declareTileKernel(module, TileKernel::StagePairs, sig.dv, sig.storage), {},
           {values, count, stride, buffer, blockPitch});
    rows = buffer;
    rowCount = e.floorDiv(e.add(count, 1), 2);
  } else {
    auto stage = [&] {
      e.call(declareTileKernel(module, TileKernel::Stage, sig.dv, sig.storage), {},
             {values, count, stride, buffer, e.c(kValueBlock * 4), blockPitch});
    };
    if (sig.storage.isF32()) {
      Value staged = e.either(far, e.cmp(arith::CmpIPredicate::ne, stride, e.c(4)));
      e.ifThen(staged, stage);
      blockPitch = e.select(staged, blockPitch, e.c(kValueBlock * 4));
    } else {
      stage();
    }
  }
  auto accumulate = [&] {
    Values operands{scores, columns, lanes, pitch, rows, blockPitch, in(u, fTile + accAt(kLanes))};
    auto many = [&] { e.call(declareTileKernel(module, TileKernel::Accumulate, sig.dv, wide), {}, operands); };
    if (!few) {
      return many();
    }
    auto accumulateFew = [&] {
      Values more(operands);
      more.append({in(u, fKeyTable[0]), ahead});
      int64_t fetch = segment.dots[0].d * bytes();
      e.call(declareTileKernel(module, TileKernel::AccumulateFew, sig.dv, wide, fetch), {}, more);
    };
    e.ifElse(few, accumulateFew, many);
  };
  auto exact = [&] {
    // Pairs come from the rows themselves.
    Value unit = pairs ? stride : e.c(4), block = pairs ? e.mul(stride, kValueBlock) : blockPitch;
    e.call(declareTileKernel(module, TileKernel::AccumulateExact, sig.dv, wide), {},
           {scores, columns, lanes, pitch, values, block, unit, in(u, fTile + accAt(kLanes))});
  };
  if (mayLeak(s)) {
    Value careful = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fCareful), 8), e.c(0));
    auto checked = [&] {
      Value finite =
          e.call(declareTileKernel(module, TileKernel::Finite, sig.dv, wide), {e.i1}, {rows, rowCount, blockPitch})[0];
      e.ifElse(finite, accumulate, exact);
    };
    e.ifElse(careful, checked, accumulate);
  } else {
    accumulate();
  }
  e.store(e.c(0), in(u, fCount), 8);
  e.store(e.c(0), in(u, fMasked), 8);
  func::ReturnOp::create(builder, e.loc);
}

namespace {
/// Clones a score region's scalar code onto lanes: what depends on the query or on a dot is a vector, the rest
/// stays scalar.
class RegionEmitter {
public:
  RegionEmitter(Emitter &e, const KernelSignature &sig, Value args) : e(e), sig(sig), args(args) {}

  Value emit(Region &region, ArrayRef<Value> arguments) {
    for (auto [from, to] : llvm::zip(region.getArguments(), arguments)) {
      map.map(from, to);
    }
    for (Operation &op : region.front()) {
      if (auto yield = dyn_cast<attn::YieldOp>(op)) {
        return e.splat(value(yield.getScore()));
      }
      clone(op);
    }
    llvm_unreachable("a score region without a yield");
  }

private:
  Emitter &e;
  const KernelSignature &sig;
  Value args;
  IRMapping map;

  Type lowered(Type t) { return t.isIndex() ? Type(e.i64) : t; }

  Value value(Value v) {
    if (Value known = map.lookupOrNull(v)) {
      return known;
    }
    if (auto constant = v.getDefiningOp<arith::ConstantOp>()) {
      clone(*constant); // hoisted out of the region
      return map.lookup(v);
    }
    // A captured scalar: its record points to a double or an i64.
    int64_t slot = sig.argSlot(cast<BlockArgument>(v).getArgNumber());
    Value address = e.toPtr(e.load(e.i64, e.at(args, slot * 8), 8));
    if (isa<FloatType>(v.getType())) {
      Value x = e.load(e.f64, address, 8);
      return v.getType().isF64() ? x : arith::TruncFOp::create(e.b, e.loc, v.getType(), x).getResult();
    }
    return e.toInt(e.load(e.i64, address, 8), lowered(v.getType()));
  }

  void clone(Operation &op) {
    if (auto load = dyn_cast<attn::LoadOp>(op)) {
      auto type = cast<RankedTensorType>(load.getTensor().getType());
      OperandRecord record{sig.argSlot(cast<BlockArgument>(load.getTensor()).getArgNumber()), type.getElementType(),
                           type.getRank()};
      SmallVector<Value> indices;
      for (Value i : load.getIndices()) {
        indices.push_back(value(i));
      }
      Value v = emitLoad(e, args, record, indices);
      // A 16-bit float was widened to f32; uses in the region expect its own type.
      Type element = type.getElementType();
      if (isa<FloatType>(element) && Emitter::elementType(v) != element) {
        v = arith::TruncFOp::create(e.b, e.loc, e.typeLike(v, element), v);
      }
      map.map(load.getResult(), v);
      return;
    }
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      auto attr = constant.getValue();
      Value v = isa<IntegerAttr>(attr) && constant.getType().isIndex()
                    ? e.c(cast<IntegerAttr>(attr).getInt())
                    : arith::ConstantOp::create(e.b, e.loc, cast<TypedAttr>(attr)).getResult();
      map.map(constant.getResult(), v);
      return;
    }
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(op)) {
      map.map(op.getResult(0), e.toInt(value(op.getOperand(0)), lowered(op.getResult(0).getType())));
      return;
    }
    SmallVector<Value> operands;
    bool lanes = false;
    for (Value v : op.getOperands()) {
      operands.push_back(value(v));
      lanes |= Emitter::isVector(operands.back());
    }
    if (lanes) {
      for (Value &v : operands) {
        v = e.splat(v);
      }
    }
    OperationState state(e.loc, op.getName(), operands, {}, op.getAttrs());
    for (Type t : op.getResultTypes()) {
      state.addTypes(lanes ? Type(e.vec(lowered(t))) : lowered(t));
    }
    Operation *copy = e.b.create(state);
    for (auto [from, to] : llvm::zip(op.getResults(), copy->getResults())) {
      map.map(from, to);
    }
  }
};
} // namespace

Value AttendTiler::emitRegion(Region &region, Value args, ArrayRef<Value> arguments) {
  return RegionEmitter(e, sig, args).emit(region, arguments);
}

/// live(args, scratch, b, h): the live bits of each column and key of the chunk, each group's range of live columns,
/// and each column's range of keys in live groups.
void AttendTiler::emitLive(int64_t n) {
  const Stratum &s = schedule.strata[n];
  auto fn = function(name("live", n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8);
  Value groupCount = e.floorDiv(e.add(count, kKeyGroup - 1), e.c(kKeyGroup));
  e.loop(e.c(0), groupCount, 1, [&](Value g) {
    e.store(e.c32(kLanes / kColumn), e.at(in(u, fGroups), e.mul(g, 8)), 4);
    e.store(e.c32(0), e.at(in(u, fGroups), e.add(e.mul(g, 8), 4)), 4);
  });
  SmallVector<LaneInterval> list = intervals(s);
  Type word = builder.getIntegerType(std::max<int64_t>(vl, 8)), bits = builder.getIntegerType(vl);
  Value columnEnd = e.floorDiv(e.add(lanes, kColumn - 1), kColumn);
  e.loop(e.c(0), columnEnd, 1, [&](Value column) {
    // Of each register of the column: the ends of its intervals, and what its condition shares.
    struct Register {
      Value live;
      SmallVector<std::pair<Value, Value>> ends;
      ExprScope at;
    };
    std::vector<Register> registers;
    for (int64_t r = 0; r < kColumn; r += vl) {
      Value lane = e.add(e.mul(column, kColumn), r), byte = e.mul(lane, 4);
      Register reg{liveOf(u, lane), {}, scope(u, s.segment, {}, {})};
      for (const LaneInterval &i : list) {
        reg.ends.emplace_back(e.load(e.vec(e.i32), e.at(in(u, i.lo), byte), 4),
                              e.load(e.vec(e.i32), e.at(in(u, i.hi), byte), 4));
      }
      if (s.residual) {
        reg.at.query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
        giveHoisted(u, n, lane, reg.at);
      }
      registers.push_back(std::move(reg));
    }
    Values range = e.loop(e.c(0), groupCount, 1, {groupCount, e.c(0)}, [&](Value g, ValueRange found) {
      Value from = e.mul(g, kKeyGroup), until = e.min(e.add(from, kKeyGroup), count);
      Values any = e.loop(from, until, 1, {e.c32(0)}, [&](Value k, ValueRange seen) {
        Value j32 = e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4);
        Value j = e.toInt(j32, e.i64), all = seen[0];
        // Of j in each interval; a sorted key's first interval is one of ranks.
        Value place = s.ids ? e.load(e.i32, e.at(in(u, fRanks), e.mul(k, 4)), 4) : j32;
        SmallVector<Value> places{e.splat(place)};
        for (auto [m, d] : llvm::enumerate(s.key)) {
          if (!list[m + 1].varies) {
            places.emplace_back();
            continue;
          }
          Value digit = e.floorDiv(j, d.radix);
          if (m > 0 && d.extent > 0) {
            digit = e.floorMod(digit, d.extent);
          }
          places.push_back(e.splat(e.toInt(digit, e.i32)));
        }
        for (Register &reg : registers) {
          Value live;
          auto require = [&](Value v) { live = live ? e.both(live, v) : v; };
          for (auto [i, ends, place] : llvm::zip(list, reg.ends, places)) {
            if (i.varies) {
              require(e.le(ends.first, place));
              require(e.lt(place, ends.second));
            }
          }
          if (s.residual) {
            reg.at.key = j;
            require(e.splat(emitExpr(e, s.residual, reg.at)));
          }
          Value w = LLVM::BitcastOp::create(builder, e.loc, bits, live);
          if (bits != word) {
            w = arith::ExtUIOp::create(builder, e.loc, word, w);
          }
          e.store(w, e.at(reg.live, e.mul(k, liveRow())), 1);
          all = e.either(all, arith::ExtUIOp::create(builder, e.loc, e.i32, w));
        }
        return Values{all};
      });
      Value hit = e.cmp(arith::CmpIPredicate::ne, any[0], e.c32(0));
      Value at = e.at(in(u, fGroups), e.mul(g, 8));
      e.ifThen(hit, [&] {
        Value c = e.toInt(column, e.i32);
        e.store(e.min(c, e.load(e.i32, at, 4)), at, 4);
        e.store(e.add(c, e.c32(1)), e.at(at, 4), 4);
      });
      return Values{e.select(hit, e.min(found[0], g), found[0]), e.select(hit, e.add(g, 1), found[1])};
    });
    Value at = e.at(in(u, fColumns), e.mul(column, 16));
    e.store(e.mul(range[0], kKeyGroup), at, 8);
    e.store(e.min(e.mul(range[1], kKeyGroup), count), e.at(at, 8), 8);
  });
  func::ReturnOp::create(builder, e.loc);
}

/// score(args, scratch, b, h): S := the region's scores in base 2; masked: dead pairs become -inf (0 where
/// weights are not exponentials). tops := the greatest of each lane.
/// With `byLane`, each lane has a head of its own.
void AttendTiler::emitScore(int64_t n, bool masked, bool byLane) {
  const Stratum &s = schedule.strata[n];
  const SegmentSignature &segment = sig.segments[s.segment];
  std::string what = std::string(masked ? "score_masked" : "score") + (byLane ? "_heads" : "");
  auto fn = function(name(what, n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  SmallVector<Value> scales; // what packing left out
  for (size_t dot = 0; dot < segment.dots.size(); ++dot) {
    Value scale;
    if (pairs) {
      Value x = scaleOf(u, packOf(s.segment, dot));
      scale = e.max(x, e.sub(e.constant(e.f32, 0.0), x));
    }
    scales.push_back(scale);
  }
  Value dead = e.constant(e.vec(e.f32), softmax() ? -INFINITY : 0.0);
  e.loop(e.c(0), e.mul(e.floorDiv(e.add(lanes, kColumn - 1), kColumn), kColumn), vl, [&](Value lane) {
    Value range = e.at(in(u, fColumns), e.mul(e.floorDiv(lane, kColumn), 16));
    Value first = e.load(e.i64, range, 8), last = e.load(e.i64, e.at(range, 8), 8);
    Value query = e.load(e.vec(e.i64), e.at(in(u, fPositions), e.mul(lane, 8)), 8);
    Value head = byLane ? e.load(e.vec(e.i64), e.at(in(u, fHeads), e.mul(lane, 8)), 8) : u.h;
    SmallVector<Value> columns;
    for (size_t dot = 0; dot < std::max<size_t>(segment.dots.size(), 1); ++dot) {
      columns.push_back(scoresOf(u, dot, lane));
    }
    Value live = masked ? liveOf(u, lane) : Value();
    Values top = e.loop(first, last, 1, {e.constant(e.vec(e.f32), -INFINITY)}, [&](Value k, ValueRange tops) {
      Value j = e.toInt(e.load(e.i32, e.at(in(u, fKeys), e.mul(k, 4)), 4), e.i64);
      Value offset = e.mul(k, kColumn * 4);
      SmallVector<Value> dots;
      for (size_t dot = 0; dot < segment.dots.size(); ++dot) {
        Value x = e.loadRow(e.at(columns[dot], offset));
        dots.push_back(scales[dot] ? e.mul(x, scales[dot]) : x);
      }
      Value x;
      if (Region *region = score(s.segment)) {
        SmallVector<Value> arguments(dots);
        arguments.append({u.b, head, query, j});
        x = emitRegion(*region, u.args, arguments);
        if (softmax()) {
          x = e.mul(x, e.constant(x.getType(), kLog2E));
        }
      } else {
        x = dots[0];
        for (Value d : ArrayRef<Value>(dots).drop_front()) {
          x = e.add(x, d);
        }
      }
      if (masked) {
        Type bits = builder.getIntegerType(vl), word = builder.getIntegerType(std::max<int64_t>(vl, 8));
        Value w = e.load(word, e.at(live, e.mul(k, liveRow())), 1);
        if (bits != word) {
          w = arith::TruncIOp::create(builder, e.loc, bits, w);
        }
        x = e.select(LLVM::BitcastOp::create(builder, e.loc, e.vec(e.i1), w), x, dead);
      }
      e.store(x, e.at(columns[0], offset), 4);
      return Values{e.max(x, tops[0])};
    });
    e.store(top[0], e.at(in(u, fTops), e.mul(lane, 4)), 4);
  });
  func::ReturnOp::create(builder, e.loc);
}

LogicalResult AttendTiler::run() {
  plan();
  layout();
  for (int64_t n = 0; n < int64_t(schedule.strata.size()); ++n) {
    const Stratum &s = schedule.strata[n];
    if (byRow(s)) {
      emitRowFlush(n);
      emitRows(n);
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
      FailureOr<KernelSignature> signature = KernelSignature::read(fn);
      if (failed(signature)) {
        return signalPassFailure();
      }
      auto schedule = signature->attend.getScheduleAttr();
      if (!schedule) {
        signature->attend.emitOpError() << "expected a schedule (--attn-annotate-schedule), but got none";
        return signalPassFailure();
      }
      Schedule strata = schedule.getValue();
      if (failed(AttendTiler(module, *signature, strata, vectorTarget(width, bf16)).run())) {
        return signalPassFailure();
      }
      fn.erase();
    }
  }
};
} // namespace
} // namespace heddle
