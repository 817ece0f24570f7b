//===- GpuPrologue.cpp - Rows, intervals and boxes of a query tile --------===//

#include "dialect/ListKeys.h"
#include "passes/gpu/GpuKernel.h"

#include <cmath>

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

/// Beyond every position (the runtime refuses larger ones).
static constexpr int64_t kFar = kBeyondPositions;
static constexpr double kLog2E = 1.4426950408889634;

//===--- Layout -----------------------------------------------------------===//

static SmallVector<GpuInterval> intervalsOf(const Stratum &s) {
  SmallVector<GpuInterval> out;
  out.push_back({&s.lower, &s.upper, !s.lower.empty() || !s.upper.empty() || bool(s.guard)});
  for (const KeyDigit &d : s.key) {
    out.push_back({&d.lower, &d.upper, !d.lower.empty() || !d.upper.empty()});
  }
  return out;
}

static int64_t align(int64_t n) { return (n + 15) / 16 * 16; }

/// Warps of the largest block.
static constexpr int64_t kMostWarps = 16;

/// Weights of a tile in f32, for the path that takes V's infinities and NaNs.
static int64_t weightBytes(const GpuShape &shape) { return shape.rows * shape.keys * 4; }

int64_t gpuTableBytes(const KernelSignature &sig, const Schedule &schedule, const GpuGroup &group,
                      const GpuShape &shape) {
  int64_t digits = 1, out = 3 * align(shape.rows * 4) + 2 * 16;
  bool gathers = false;
  for (int64_t n : group.members) {
    const Stratum &s = schedule.strata[n];
    digits = std::max<int64_t>(digits, s.key.size());
    for (const GpuInterval &i : intervalsOf(s)) {
      out += i.varies ? 2 * align(shape.rows * 4) + 64 : 0;
    }
    out += s.list ? 4 * align(shape.rows * 4) + align(drawnBytes(s, shape.rows)) : 32;
    gathers |= bool(s.list);
  }
  out += 3 * kMostWarps * 4 + (gathers ? align((shape.stages + 1) * shape.keys * 4) : 0);
  out += align(int64_t(group.members.size()) * (8 + 2 * (digits - 1)) * 4);
  size_t dots = 0;
  for (const SegmentSignature &s : sig.segments) {
    dots = std::max(dots, s.dots.size());
  }
  out += int64_t(sig.segments.size()) * (int64_t(dots) + 2) * 32; // sourceWords()
  return out + align((shape.stages + 1) * shape.keys * 4) + weightBytes(shape);
}

bool headsMayShare(const KernelSignature &sig, const Schedule &schedule) {
  auto mentions = [](const Expr &x) { return bool(x) && x.mentions(Sym::Head); };
  auto differs = [&](const Stratum &s) {
    auto digit = [&](const KeyDigit &d) {
      return mentions(d.phase) || llvm::any_of(d.lower, mentions) || llvm::any_of(d.upper, mentions);
    };
    // Rows of a packed tile are consecutive queries, so it must not matter where the tile begins.
    bool band = s.query.size() == 1 && s.query[0].radix == 1;
    return !band || s.headPeriod > 1 || mentions(s.list) || mentions(s.first) || mentions(s.guard) ||
           mentions(s.keep) || mentions(s.residual) || llvm::any_of(s.lower, mentions) ||
           llvm::any_of(s.upper, mentions) || llvm::any_of(s.key, digit);
  };
  auto hasHeads = [&](int64_t a) {
    auto tensor = dyn_cast<RankedTensorType>(sig.func.getArgumentTypes()[a]);
    return tensor && tensor.getRank() > 2; // [B, H, ..]
  };
  return !hasRelative(sig) && llvm::none_of(schedule.strata, differs) && llvm::none_of(sig.patternOperands, hasHeads);
}

int64_t GpuKernel::allocate(int64_t count) {
  int64_t at = size;
  size += align(count);
  return at;
}

bool GpuKernel::softmaxed() const { return sig.attend.getNormalizer() == attn::Normalizer::Softmax; }
bool GpuKernel::regionIn(int64_t segment) const { return sig.attend.getScore(segment) != nullptr; }

GpuKernel::GpuKernel(OpBuilder &builder, const KernelSignature &sig, const Schedule &schedule, const GpuGroup &group,
                     const GpuShape &shape, bool loadsState, bool storesState, bool packs)
    : sig(sig), schedule(schedule), group(group), shape(shape), loadsState(loadsState), storesState(storesState),
      packs(packs), e(builder, sig.attend.getLoc()), storage(sig.storage), bytes(sig.storage.isF32() ? 4 : 2),
      queries(shape.bySums ? SmallVector<DotSource>() : queryTensors(sig, shape.skewed)) {
  for (int64_t a : sig.patternOperands) {
    OperandRecord record{sig.argSlot(a), Type(), 0};
    if (auto tensor = dyn_cast<RankedTensorType>(sig.func.getArgumentTypes()[a])) {
      record.element = tensor.getElementType();
      record.rank = tensor.getRank();
    }
    record.inlined = true;
    records.push_back(record);
  }
  const NumberSource &first = sig.segments[0].scale;
  fused = softmaxed() && first.arg < 0 && first.real >= 0;
  for (int64_t g = 0; g < int64_t(sig.segments.size()); ++g) {
    const SegmentSignature &s = sig.segments[g];
    fused &= !regionIn(g) && s.dots.size() == 1 && !s.dots[0].relative && s.scale.arg < 0 && s.scale.real == first.real;
  }
  for (int64_t n : group.members) {
    const Stratum &s = schedule.strata[n];
    members.push_back(
        {n, intervalsOf(s), {}, bool(s.residual) && s.list.isNull() ? matchedIds(s.residual) : std::nullopt});
    digits = std::max<int64_t>(digits, s.key.size());
    if (!llvm::is_contained(segmentsUsed, s.segment)) {
      segmentsUsed.push_back(s.segment);
    }
  }
}

void GpuKernel::layout() {
  blockThreads = shape.threads();
  for (const DotSource &q : queries) {
    sQuery.push_back(allocate(shape.rows * sharedPitch(q.d, bytes)));
  }
  keyBytes = 0;
  for (const SegmentSignature &s : sig.segments) {
    int64_t own = 0;
    for (const DotSource &dot : s.dots) {
      own += stagedRows(shape, dot) * sharedPitch(dot.d, bytes);
    }
    keyBytes = std::max(keyBytes, own);
  }
  stageBytes = keyBytes + shape.keys * sharedPitch(shape.columns, bytes);
  sRing = allocate(shape.stages * stageBytes);
  size = std::max(size, shape.rows * sharedPitch(shape.columns, bytes)); // out takes the tiles' place
  layoutTables();
  sRelative = relativeBytes(shape, sig) > 0 ? allocate(relativeBytes(shape, sig)) : -1;
  sWeights = keyBytes >= weightBytes(shape) ? -1 : allocate(weightBytes(shape));
}

void GpuKernel::layoutTables() {
  sRow = allocate(shape.rows * 4);
  sPosition = allocate(shape.rows * 4);
  sHead = packs ? allocate(shape.rows * 4) : -1;
  partials = 1;
  for (Member &m : members) {
    for (GpuInterval &i : m.intervals) {
      if (i.varies) {
        i.lo = allocate(shape.rows * 4);
        i.hi = allocate(shape.rows * 4);
        i.partial = partials;
        partials += 4;
      }
    }
    if (m.ids) {
      m.idPartial = partials;
      partials += 2;
    }
    if (scansKeys(m) && sScan < 0) {
      sScan = allocate(3 * kMostWarps * 4);
    }
    if (schedule.strata[m.stratum].list) {
      for (int64_t *at : {&m.lists.list, &m.lists.count, &m.lists.leader, &m.lists.prefix}) {
        *at = allocate(shape.rows * 4);
      }
      m.lists.drawn = allocate(drawnBytes(schedule.strata[m.stratum], shape.rows));
      sOwner = 0;
    }
  }
  sSources = segmentsUsed.size() > 1 ? allocate(int64_t(segmentsUsed.size()) * sourceWords() * 8) : -1;
  sBlock = allocate(4 * 4);
  sPartial = allocate(partials * 16);
  sDescriptor = allocate(int64_t(members.size()) * descriptorWords() * 4);
  sTable = allocate((shape.stages + 1) * shape.keys * 4);
  sOwner = sOwner >= 0 ? allocate((shape.stages + 1) * shape.keys * 4) : -1;
}

//===--- The argument block -----------------------------------------------===//

/// A number per batch: its pointer and stride, or no pointer and the number itself.
Value GpuKernel::batchNumber(int64_t s) {
  Value pointer = slot(s), second = slot(s + 1);
  return e.ifElse(
      e.eq(pointer, 0), TypeRange{e.i64}, [&] { return Values{second}; },
      [&] { return Values{e.load(e.i64, e.at(e.toPtr(pointer), e.mul(e.mul(b, second), 8)), 8)}; })[0];
}

/// The head of a tensor of keys that goes with the block's (i32: a division of 64 bits is a subroutine).
Value GpuKernel::headOf(int64_t record) {
  return e.divu(e.narrow(h), e.divu(e.narrow(heads), e.narrow(slot(record + 2))));
}

Value GpuKernel::headBase(int64_t record, bool keyHead) {
  Value head = keyHead ? e.wide(headOf(record)) : h;
  Value offset = e.add(e.mul(b, slot(record + 5)), e.mul(head, slot(record + 6)));
  return e.add(slot(record), e.mul(offset, bytes));
}

GpuKernel::Rows GpuKernel::rowsOf(int64_t record, bool keyHead, int64_t) {
  Rows r;
  r.base = headBase(record, keyHead);
  r.stride = e.mul(slot(record + 7), bytes);
  r.element = e.mul(slot(record + 8), bytes);
  r.head = e.mul(slot(record + 6), bytes);
  Value low = e.bitAnd(e.either(e.either(r.base, packs && !keyHead ? r.head : r.base), r.stride), 15);
  r.aligned = e.both(e.eq(low, 0), e.eq(r.element, bytes));
  return r;
}

Value GpuKernel::scaleOf(int64_t segment, bool base2) {
  const NumberSource &scale = sig.segments[segment].scale;
  double factor = base2 ? kLog2E : 1.0;
  if (scale.arg < 0) {
    double s = scale.real != 0 ? scale.real : 1.0 / std::sqrt(double(sig.d));
    return e.f(s * factor);
  }
  Value s = e.load(e.f64, e.at(args, (sig.argSlot(scale.arg) + 1) * 8), 8);
  return arith::TruncFOp::create(e.b, e.loc, e.f32, e.mul(s, e.constant(e.f64, factor)));
}

ExprScope GpuKernel::scope(int64_t segment, Value query, Value key) {
  const Source *s = nullptr;
  for (auto [n, g] : llvm::enumerate(segmentsUsed)) {
    s = g == segment ? &sources[n] : s;
  }
  ExprScope at;
  at.args = args;
  at.batch = b;
  at.head = h;
  at.heads = heads;
  at.query = query;
  at.key = key;
  at.qOffset = qOffset;
  at.kOffset = s->kOffset;
  at.queryEnd = e.add(qOffset, nq);
  at.keyEnd = e.add(s->kOffset, s->count);
  at.operands = records;
  at.module = sig.func->getParentOfType<ModuleOp>();
  return at;
}

//===--- Rows of the block ------------------------------------------------===//

static int64_t tilesOf(const QueryDigit &d) { return (d.extent + d.tile - 1) / d.tile; }

/// Positions of one query tile in the leading digit.
static int64_t spanOf(const GpuGroup &group, const GpuShape &shape) {
  return group.query[0].radix * group.query[0].tile * shape.pairs();
}

GpuKernel::Extent GpuKernel::extent() {
  // Most spans of aligned positions that Nq positions touch: floor((Nq - 2) / span) + 2.
  int64_t span = spanOf(group, shape), inner = shape.subTiles() * shape.chunks;
  for (const QueryDigit &d : ArrayRef<QueryDigit>(group.query).drop_front()) {
    inner *= tilesOf(d);
  }
  Value leads = e.narrow(e.divu(e.add(nq, 2 * span - 2), span)), sharing = e.narrow(heads);
  if (packs) {
    together = slot(header::kHeadsPerTile);
    leads = e.select(e.lt(e.c(1), together), e.k(1), leads); // all queries are in one tile
    sharing = e.divu(sharing, e.narrow(together));
  }
  splits = e.narrow(slot(header::kSplits));
  return {leads, e.mul(e.narrow(slot(header::kBatches)), sharing), e.mul(splits, inner), sharing};
}

void GpuKernel::decodeBlock(SmallVectorImpl<Value> &corner, Value &sub) {
  // Sections of heads whose keys and values fit a cache; in each the longest tiles of all heads first.
  const QueryDigit &lead = group.query[0];
  int64_t span = spanOf(group, shape);
  Extent all = extent();
  Value perHead = e.mul(all.leads, all.perSpan), section = e.narrow(slot(header::kHeadsPerSection));
  section = e.min(e.max(section, e.k(1)), all.heads);
  auto take = [&](Value &x, Value n) {
    Value quotient = e.divu(x, n);
    x = e.sub(x, e.mul(quotient, n));
    return quotient;
  };
  Value rest = e.blockId(), first = e.mul(take(rest, e.mul(section, perHead)), section);
  Value rank = take(rest, e.mul(e.min(section, e.sub(all.heads, first)), all.perSpan));
  Value bh = e.add(first, take(rest, all.perSpan));
  Value undivided = e.divu(rest, splits);
  split = e.sub(rest, e.mul(undivided, splits));
  rest = undivided;
  Value batch = e.divu(bh, all.sharing);
  b = e.wide(batch);
  h = e.wide(e.sub(bh, e.mul(batch, all.sharing)));
  h = packs ? e.mul(h, together) : h;
  auto digit = [&](int64_t n) {
    Value part = n == 1 ? e.k(0) : e.remu(rest, n);
    rest = n == 1 ? rest : e.divu(rest, n);
    return part;
  };
  chunk = digit(shape.chunks);
  sub = digit(shape.subTiles());
  corner.resize(group.query.size());
  for (size_t k = group.query.size(); k-- > 1;) {
    corner[k] = e.wide(e.mul(digit(tilesOf(group.query[k])), group.query[k].tile));
  }
  Value number = e.wide(group.laterFirst ? e.sub(e.add(all.leads, -1), rank) : rank);
  qOffset = batchNumber(sig.qOffsetSlot());
  Value firstTile = e.floorDiv(qOffset, span);
  corner[0] = e.mul(e.add(firstTile, number), lead.tile * shape.pairs());
}

/// Position of this thread's lane (threads beyond `rows` repeat them), whether it is a query, and its head's number
/// in the tile (i32).
Value GpuKernel::emitPositions(Value sub, ArrayRef<Value> corner, Value &valid, Value &head) {
  Value l = e.add(e.remu(tid, shape.rows), e.mul(sub, shape.rows)), pair;
  if (shape.pairs() > 1) {
    pair = e.divu(l, shape.lanes);
    l = e.remu(l, shape.lanes);
  }
  int64_t box = 1;
  for (const QueryDigit &d : group.query) {
    box *= d.tile;
  }
  valid = box < shape.lanes ? e.lt(l, box) : e.yes();
  Value position = e.c(0);
  int64_t inner = 1;
  for (size_t k = group.query.size(); k-- > 0;) {
    const QueryDigit &d = group.query[k];
    Value digit = k == 0 && pair ? e.add(corner[k], e.wide(e.mul(pair, d.tile))) : corner[k];
    if (d.tile > 1) {
      digit = e.add(digit, e.wide(e.remu(e.divu(l, inner), d.tile)));
      if (k > 0 && d.extent % d.tile != 0) {
        valid = e.both(valid, e.lt(digit, d.extent));
      }
    }
    position = e.add(position, e.mul(digit, d.radix));
    inner *= d.tile;
  }
  valid = e.both(valid, e.both(e.ge(position, qOffset), e.lt(position, e.add(qOffset, nq))));
  head = e.k(0);
  if (packs) {
    // Row l holds query l mod Nq of head l / Nq.
    Value packed = e.lt(e.c(1), together), count = e.narrow(nq);
    Value number = e.divu(l, e.max(count, e.k(1)));
    Value own = e.add(qOffset, e.wide(e.sub(l, e.mul(number, count))));
    position = e.select(packed, own, position);
    valid = e.select(packed, e.lt(number, e.narrow(together)), valid);
    head = e.select(e.both(packed, valid), number, head);
  }
  return position;
}

/// Values that are reduced over a block stand once a warp; where there are more warps than rows need, they repeat them.
static constexpr int64_t kPartials = 4;

Value GpuKernel::partialOf() { return e.bitAnd(warp, kPartials - 1); }

/// Ids far out count as one number.
static Value clampId(WarpEmitter &e, Value id) { return e.narrow(e.max(e.min(e.wide(id), e.c(kFar)), e.c(-kFar))); }

/// Keys of this thread's row in each interval: to shared memory, and reduced over the warp.
void GpuKernel::emitIntervals(Member &m, Value position, Value valid) {
  const Stratum &s = schedule.strata[m.stratum];
  if (s.list.isNull() && !m.ids && llvm::none_of(m.intervals, [](const GpuInterval &i) { return i.varies; })) {
    return;
  }
  Value plus = e.c(kFar), minus = e.c(-kFar);
  ExprScope at = scope(s.segment, position, {});
  Value dead = s.guard ? e.invert(emitExpr(e, s.guard, at)) : e.no();
  SmallVector<std::pair<Value, Value>> ends;
  for (const GpuInterval &i : m.intervals) {
    Value lo = minus, hi = plus;
    for (const Expr &x : *i.lower) {
      lo = e.max(lo, emitExpr(e, x, at));
    }
    for (const Expr &x : *i.upper) {
      hi = e.min(hi, emitExpr(e, x, at));
    }
    lo = e.min(lo, plus);
    hi = e.max(hi, minus);
    if (i.varies) {
      dead = e.either(dead, e.ge(lo, hi));
    }
    ends.emplace_back(lo, hi);
  }
  Value row = e.mul(e.remu(tid, shape.rows), 4), slotOf = e.add(e.mul(partialOf(), 4), sPartial);
  Value first = e.eq(lane, 0);
  for (auto [i, end] : llvm::zip(m.intervals, ends)) {
    if (!i.varies) {
      continue;
    }
    // A row without a live key widens nothing and lets no tile be full; one that is no query does neither.
    Value lo = e.narrow(e.select(dead, plus, end.first)), hi = e.narrow(e.select(dead, minus, end.second));
    e.storeShared(lo, e.add(row, i.lo), 4);
    e.storeShared(hi, e.add(row, i.hi), 4);
    Value high = e.k(kFar), low = e.k(-kFar);
    Values sums = {e.reduceMin(e.select(valid, lo, high)), e.reduceMax(e.select(valid, hi, low)),
                   e.reduceMax(e.select(valid, lo, low)), e.reduceMin(e.select(valid, hi, high))};
    e.ifThen(first, [&] {
      for (auto [n, v] : llvm::enumerate(sums)) {
        e.storeShared(v, e.add(slotOf, (i.partial + int64_t(n)) * 16), 4);
      }
    });
  }
  Value alive = e.both(valid, e.invert(dead));
  if (s.list) {
    emitListOfRow(m, position, valid, dead);
  }
  if (m.ids) {
    Value id = clampId(e, emitExpr(e, m.ids->first, at));
    Value least = e.reduceMin(e.select(alive, id, e.k(kFar))), most = e.reduceMax(e.select(alive, id, e.k(-kFar)));
    e.ifThen(first, [&] {
      e.storeShared(least, e.add(slotOf, m.idPartial * 16), 4);
      e.storeShared(most, e.add(slotOf, (m.idPartial + 1) * 16), 4);
    });
  }
}

//===--- Run-time lists and ids -------------------------------------------===//

bool hasOwnLists(const Stratum &s) { return listSharing(s.list) == 1 || s.first.onQuery(); }

/// Which list this thread's row has, and how many keys it gives.
void GpuKernel::emitListOfRow(Member &m, Value position, Value valid, Value dead) {
  const Stratum &s = schedule.strata[m.stratum];
  ExprScope at = scope(s.segment, position, {});
  Value row = e.mul(e.remu(tid, shape.rows), 4), alive = e.both(valid, e.invert(dead));
  Values own = e.ifElse(
      alive, TypeRange{e.i32, e.i32},
      [&] {
        Entries entries = entriesOf(m, at);
        Value count = e.mul(e.max(e.sub(entries.hi, entries.lo), e.c(0)), s.run), number = position;
        if (!hasOwnLists(s)) {
          Expr which = listRow(s.list);
          number = listSharing(s.list) == 0 ? e.c(0) : emitExpr(e, which, at);
        }
        return Values{e.narrow(number), e.narrow(count)};
      },
      [&] { return Values{e.select(valid, e.k(kFar), e.k(-kFar)), e.k(0)}; });
  e.storeShared(own[0], e.add(row, m.lists.list), 4);
  e.storeShared(own[1], e.add(row, m.lists.count), 4);
}

std::pair<Value, Value> GpuKernel::numberLists(const Member &m) {
  Value r = e.remu(tid, shape.rows), row = e.mul(r, 4);
  Value own = e.loadShared(e.i32, e.add(row, m.lists.list), 4);
  Value leader = loop(e.k(0), e.k(shape.rows), 1, {e.k(shape.rows)}, [&](Value other, ValueRange found) {
    Value list = e.loadShared(e.i32, e.add(e.shl(other, 2), m.lists.list), 4);
    return Values{e.min(found[0], e.select(e.eq(list, own), other, e.k(shape.rows)))};
  })[0];
  leader = e.select(e.eq(own, kFar), e.k(-1), e.select(e.eq(own, -kFar), e.k(-2), leader));
  Value count = e.loadShared(e.i32, e.add(row, m.lists.count), 4);
  e.storeShared(leader, e.add(row, m.lists.leader), 4);
  e.storeShared(e.select(e.eq(leader, r), count, e.k(0)), e.add(row, m.lists.count), 4);
  e.barrier();
  // Keys before this row's list, of all lists, and the first and last leader of a query.
  Values sums =
      loop(e.k(0), e.k(shape.rows), 1, {e.k(0), e.k(0), e.k(kFar), e.k(-2)}, [&](Value other, ValueRange carried) {
        Value at = e.shl(other, 2);
        Value keys = e.loadShared(e.i32, e.add(at, m.lists.count), 4);
        Value lead = e.loadShared(e.i32, e.add(at, m.lists.leader), 4);
        Value before = e.select(e.lt(other, r), keys, e.k(0));
        return Values{e.add(carried[0], before), e.add(carried[1], keys),
                      e.min(carried[2], e.select(e.eq(lead, -2), e.k(kFar), lead)), e.max(carried[3], lead)};
      });
  e.storeShared(sums[0], e.add(row, m.lists.prefix), 4);
  return {sums[1], e.both(e.eq(sums[2], sums[3]), e.ge(sums[2], e.k(0)))};
}

bool GpuKernel::scansKeys(const Member &m) const {
  const Stratum &s = schedule.strata[m.stratum];
  return s.list.isNull() && (bool(s.keep) || m.ids);
}

Value GpuKernel::bracket(const Member &m, Value &lo, Value &hi) {
  const Stratum &s = schedule.strata[m.stratum];
  Value least, most;
  if (m.ids) {
    least = e.narrow(reduced(m.idPartial, true));
    most = e.narrow(reduced(m.idPartial + 1, false));
  }
  Value from = e.add(e.narrow(lo), tid);
  Values found =
      loop(from, e.narrow(hi), blockThreads, {e.k(kFar), e.k(-kFar), e.k(0)}, [&](Value j, ValueRange carried) {
        ExprScope at = scope(s.segment, {}, e.wide(j));
        Value hit = s.keep ? emitExpr(e, s.keep, at) : e.yes();
        if (m.ids) {
          Value id = clampId(e, emitExpr(e, m.ids->second, at));
          hit = e.both(hit, e.both(e.le(least, id), e.le(id, most)));
        }
        return Values{e.select(hit, e.min(carried[0], j), carried[0]), e.select(hit, e.max(carried[1], j), carried[1]),
                      e.add(carried[2], e.toInt(hit, e.i32))};
      });
  Value count = found[2];
  for (int64_t mask : {1, 2, 4, 8, 16}) {
    count = e.add(count, e.shuffleXor(count, mask));
  }
  Value first = e.reduceMin(found[0]), last = e.reduceMax(found[1]), at = e.add(e.shl(warp, 2), sScan);
  e.ifThen(e.eq(lane, 0), [&] {
    for (auto [n, v] : llvm::enumerate(Values{first, last, count})) {
      e.storeShared(v, e.add(at, int64_t(n) * kMostWarps * 4), 4);
    }
  });
  e.barrier();
  first = e.k(kFar);
  last = e.k(-kFar);
  count = e.k(0);
  for (int64_t w = 0; w < blockThreads / 32; ++w) {
    auto of = [&](int64_t n) { return e.loadShared(e.i32, e.k(sScan + (n * kMostWarps + w) * 4), 4); };
    first = e.min(first, of(0));
    last = e.max(last, of(1));
    count = e.add(count, of(2));
  }
  e.barrier(); // the next member's values take the same place
  lo = e.max(lo, e.wide(first));
  hi = e.min(hi, e.wide(e.add(last, 1)));
  Value all = e.eq(e.wide(count), e.sub(hi, lo));
  if (s.residual) {
    if (!m.ids || s.residual->kind != ExprKind::Eq) {
      return e.no();
    }
    // Numbers at the ends of the range stand for all beyond.
    Value exact = e.both(e.lt(e.k(-kFar), least), e.lt(most, kFar));
    all = e.both(all, e.both(exact, e.eq(least, most)));
  }
  return all;
}

/// Value number `value` over all warps (i64).
Value GpuKernel::reduced(int64_t value, bool least) {
  Value out;
  for (int64_t w = 0; w < std::min(shape.warps(), kPartials); ++w) {
    Value v = e.loadShared(e.i32, e.k(sPartial + value * 16 + w * 4), 4);
    out = !out ? v : least ? e.min(out, v) : e.max(out, v);
  }
  return e.wide(out);
}

/// Keys of all rows in an interval, and those that are every row's; i64.
GpuKernel::Range GpuKernel::rangeOf(const GpuInterval &i) {
  if (!i.varies) {
    return {e.c(-kFar), e.c(kFar), e.c(-kFar), e.c(kFar)};
  }
  return {reduced(i.partial, true), reduced(i.partial + 1, false), reduced(i.partial + 2, false),
          reduced(i.partial + 3, true)};
}

/// The box that `all` positions (clipped to those that exist) and the intervals of the digits give.
GpuKernel::Box GpuKernel::boxOf(const Member &m, const Range &all, Value anyPosition) {
  const Stratum &s = schedule.strata[m.stratum];
  Value zero = e.c(0), inner = e.c(1), from, to, leading;
  Box box;
  box.base = zero;
  box.alike = e.yes();
  for (auto [k, d] : llvm::enumerate(s.key)) {
    const Range own = rangeOf(m.intervals[k + 1]);
    Value lo = own.lo, hi = own.hi;
    if (k == 0) {
      lo = e.max(lo, e.floorDiv(all.lo, d.radix));
      hi = e.min(hi, e.add(e.floorDiv(e.add(all.hi, -1), d.radix), 1));
    } else {
      lo = e.max(lo, zero);
      hi = e.min(hi, e.c(d.extent));
    }
    if (d.step > 1) {
      Value phase = d.phase ? emitExpr(e, d.phase, scope(s.segment, anyPosition, {})) : zero;
      lo = e.add(lo, e.floorMod(e.sub(phase, lo), d.step));
    }
    auto stepsTo = [&](Value bound) { return e.max(e.floorDiv(e.add(e.sub(bound, lo), d.step - 1), d.step), zero); };
    Value length = stepsTo(hi);
    box.base = e.add(box.base, e.mul(lo, d.radix));
    if (k > 0) {
      box.alike = e.both(box.alike, e.both(e.le(own.fullLo, lo), e.ge(own.fullHi, hi)));
      inner = e.mul(inner, length);
      box.lengths.emplace_back(length, d.step * d.radix);
      continue;
    }
    leading = length;
    // v is full where v * radix >= fullLo, and its last position, or v * radix itself, < fullHi.
    Value least = e.floorDiv(e.add(all.fullLo, d.radix - 1), d.radix);
    Value most =
        s.key.size() == 1 ? e.floorDiv(e.add(all.fullHi, d.radix - 1), d.radix) : e.floorDiv(all.fullHi, d.radix);
    from = e.min(stepsTo(e.max(least, own.fullLo)), length);
    to = e.max(e.min(stepsTo(e.min(most, own.fullHi)), length), from);
  }
  box.count = e.mul(leading, inner);
  box.fullFrom = e.mul(from, inner);
  box.fullTo = e.mul(to, inner);
  return box;
}

void GpuKernel::storeDescriptor(size_t n, const Box &box) {
  const Stratum &s = schedule.strata[members[n].stratum];
  size_t source = llvm::find(segmentsUsed, s.segment) - segmentsUsed.begin();
  Value words[] = {tiles,
                   e.narrow(box.count),
                   e.narrow(box.fullFrom),
                   e.narrow(box.fullTo),
                   e.narrow(box.base),
                   e.k(s.key[0].step * s.key[0].radix),
                   e.k(int64_t(source))};
  e.ifThen(e.eq(tid, 0), [&] {
    int64_t at = sDescriptor + int64_t(n) * descriptorWords() * 4;
    auto put = [&](Value v) {
      e.storeShared(v, e.k(at), 4);
      at += 4;
    };
    llvm::for_each(words, put);
    for (int64_t k = 0; k + 1 < digits; ++k) {
      bool present = k < int64_t(box.lengths.size());
      put(present ? e.max(e.narrow(box.lengths[k].first), e.k(1)) : e.k(1));
      put(e.k(present ? box.lengths[k].second : 0));
    }
    put(e.k(loadClass(n)));
  });
}

/// Writes {first tile, keys, fullFrom, fullTo, base, step 0, segment, (length k, step k).., load class} of member n and
/// adds its tiles to the stream. Of a gathered member fullFrom and fullTo are positions.
void GpuKernel::emitDescriptor(size_t n, Value anyPosition) {
  const Member &m = members[n];
  const Stratum &s = schedule.strata[m.stratum];
  const Source &from = sources[llvm::find(segmentsUsed, s.segment) - segmentsUsed.begin()];
  Range all = rangeOf(m.intervals[0]);
  Value end = e.add(from.kOffset, from.count), zero = e.c(0);
  for (auto [lo, hi] : {std::pair(&all.lo, &all.hi), std::pair(&all.fullLo, &all.fullHi)}) {
    *lo = e.max(*lo, from.kOffset);
    *hi = e.min(*hi, end);
  }
  Value same = scansKeys(m) ? bracket(m, all.lo, all.hi) : Value();
  Value live = e.lt(all.lo, all.hi);
  if (s.headPeriod > 1) {
    Value residue = e.remu(h, s.headPeriod), takes = e.no();
    for (int64_t head : s.heads) {
      takes = e.either(takes, e.eq(residue, head));
    }
    live = e.both(live, takes);
  }
  Box box = boxOf(m, all, anyPosition);
  if (bool(s.residual) || bool(s.keep)) {
    box.alike = same ? e.both(box.alike, same) : e.no();
  }
  box.fullFrom = e.select(box.alike, box.fullFrom, zero);
  box.fullTo = e.select(box.alike, box.fullTo, zero);
  if (s.list) {
    // Positions here: a key of the list that lies between them is live for every row.
    auto [keys, alike] = numberLists(m);
    if (isDrawn(s)) {
      fillDrawn(m);
    }
    Value full = s.residual ? e.no() : alike;
    box.count = e.wide(keys);
    box.fullFrom = e.select(full, all.fullLo, e.c(kFar));
    box.fullTo = e.select(full, all.fullHi, e.c(-kFar));
  }
  box.count = e.select(live, box.count, zero);
  storeDescriptor(n, box);
  tiles = e.add(tiles, e.narrow(e.floorDiv(e.add(box.count, shape.keys - 1), shape.keys)));
}

/// Boxes, loads and tiles of all members.
Values GpuKernel::emitStream(Value anyPosition, ValueRange init) {
  tiles = e.k(0);
  for (size_t n = 0; n < members.size(); ++n) {
    emitDescriptor(n, anyPosition);
  }
  if (shape.skewed) {
    keepSpans();
  }
  // This block's split of the stream.
  Value first = e.divu(e.mul(tiles, split), splits);
  tiles = e.divu(e.mul(tiles, e.add(split, 1)), splits);
  loadQueries();
  // One program for all of the stream: the first steps compute nothing, they write tables and begin loads.
  const size_t kept = init.size();
  Values carried(init);
  carried.append(keptFragments() * 4, e.k(0));
  carried = loop(e.sub(first, e.k(shape.stages)), tiles, 1, carried, [&](Value tile, ValueRange in) {
    Values before(in), state(in.take_front(kept)), fragments(in.drop_front(kept));
    Value begun = e.ge(tile, first);
    loadAhead(tile, first, begun);
    SmallVector<Type> types(ValueRange(before).getTypes());
    return e.ifElse(
        begun, types,
        [&] {
          keepQueries(e.eq(tile, first), fragments);
          step(tile, state);
          llvm::append_range(state, fragments);
          return state;
        },
        [&] { return before; });
  });
  e.waitGroup(0); // of a stream without tiles nothing has waited for the queries
  carried.truncate(kept);
  return carried;
}

void GpuKernel::begin(LLVM::LLVMFuncOp function, LLVM::GlobalOp sharedMemory) {
  OpBuilder &builder = e.b;
  builder.setInsertionPointToStart(function.addEntryBlock(builder));
  args = function.getArgument(0);
  e.smem = LLVM::AddressOfOp::create(builder, e.loc, e.shared, sharedMemory.getSymName());
  nameThread(e.threadId());
  heads = slot(1);
  nq = slot(2);
}

void GpuKernel::nameThread(Value number) {
  tid = number;
  lane = e.bitAnd(tid, 31);
  warp = e.shr(tid, 5);
  quad = e.bitAnd(tid, 3);
  group8 = e.shr(lane, 2);
}

void GpuKernel::keepBlock() {
  e.ifThen(e.eq(tid, 0), [&] {
    for (auto [n, v] : llvm::enumerate(Values{e.narrow(b), e.narrow(h), chunk, split})) {
      e.storeShared(v, e.k(sBlock + 4 * int64_t(n)), 4);
    }
  });
}

void GpuKernel::findBlock() {
  nameThread(e.threadIdAgain());
  auto kept = [&](int64_t n) { return e.loadShared(e.i32, e.k(sBlock + 4 * n), 4); };
  b = e.wide(kept(0));
  h = e.wide(kept(1));
  chunk = kept(2);
  split = kept(3);
}

Value GpuKernel::emitRows() {
  SmallVector<Value> corner;
  Value sub, valid, head;
  decodeBlock(corner, sub);
  keepBlock();
  findPositions();
  Value position = emitPositions(sub, corner, valid, head);
  Value row = e.mul(e.remu(tid, shape.rows), 4);
  Value queryRow = e.narrow(e.sub(position, qOffset));
  e.storeShared(e.select(valid, queryRow, e.k(-1)), e.add(row, sRow), 4);
  e.storeShared(e.narrow(position), e.add(row, sPosition), 4);
  if (packs) {
    e.storeShared(head, e.add(row, sHead), 4);
  }
  Value least = e.reduceMin(e.select(valid, e.narrow(position), e.k(kFar)));
  e.ifThen(e.eq(lane, 0), [&] { e.storeShared(least, e.add(e.mul(partialOf(), 4), sPartial), 4); });
  for (Member &m : members) {
    emitIntervals(m, position, valid);
  }
  e.barrier();
  return reduced(0, true);
}

void GpuKernel::findPositions() {
  sources.clear();
  for (int64_t g : segmentsUsed) {
    Source source;
    source.kOffset = batchNumber(sig.kOffsetSlot(g));
    source.count = slot(sig.argSlot(sig.segments[g].v) + 3);
    sources.push_back(std::move(source));
  }
}

void GpuKernel::emitSources() {
  for (auto [g, source] : llvm::zip(segmentsUsed, sources)) {
    const SegmentSignature &s = sig.segments[g];
    for (const DotSource &dot : s.dots) {
      source.keys.push_back(rowsOf(sig.argSlot(dot.k), true, dot.d));
    }
    source.values = rowsOf(sig.argSlot(s.v), true, sig.dv);
    if (careful) {
      source.values.aligned = e.yes();
      llvm::for_each(source.keys, [&](Rows &rows) { rows.aligned = e.yes(); });
    }
    Value columns = e.mul(e.wide(chunk), shape.columns);
    source.values.base = e.add(source.values.base, e.mul(columns, source.values.element));
  }
}

Values GpuKernel::compute(Value anyPosition) {
  emitSources();
  storeSources();
  Values state = initialState();
  return members.empty() ? state : emitStream(anyPosition, state);
}

void GpuKernel::emit(LLVM::LLVMFuncOp function, LLVM::GlobalOp sharedMemory) {
  layout();
  begin(function, sharedMemory);
  Value anyPosition = emitRows();
  e.ifThen(e.lt(anyPosition, kFar), [&] {
    Values state = compute(anyPosition);
    findBlock();
    if (storesState) {
      return storeState(state);
    }
    e.ifElse(e.lt(e.k(1), splits), [&] { storeState(state); }, [&] { finish(state); });
  });
  LLVM::ReturnOp::create(e.b, e.loc, ValueRange{});
}

Values GpuKernel::loop(Value lo, Value hi, int64_t step, ValueRange init,
                       llvm::function_ref<Values(Value, ValueRange)> body) {
  auto op =
      scf::ForOp::create(e.b, e.loc, lo, hi, e.k(step), init, [&](OpBuilder &, Location, Value iv, ValueRange carried) {
        Values next = body(iv, carried);
        scf::YieldOp::create(e.b, e.loc, next);
      });
  return Values(op.getResults());
}

} // namespace heddle
