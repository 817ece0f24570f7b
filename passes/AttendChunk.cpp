//===- AttendChunk.cpp - A chunk of keys -------------------------------===//
//
// What happens to a chunk when it is full: live bits, S = K Q, mask or score, online
// softmax, acc += P V (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "dialect/LinearForm.h"
#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// flush(args, scratch, b, h): the chunk's part of (m, l, acc), after which it is empty.
void AttendTiler::emitFlush(int64_t n) {
  const Stratum &s = schedule.strata[n];
  auto fn = function(name("flush", n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  Chunk c;
  c.count = e.load(e.i64, in(u, fCount), 8);
  c.lanes = e.load(e.i64, in(u, fLanes), 8);
  c.masked = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fMasked), 8), e.c(0));
  c.columns = in(u, fColumns);
  c.groups = in(u, fGroups);
  c.pitch = e.c(columnPitch());
  emitRanges(u, n, c);
  bool scored = isScored(s.segment);
  if (mayLeak(s)) {
    auto leaks = [&] { e.store(e.c(1), in(u, fLeaks), 8); };
    scored ? leaks() : e.ifThen(c.masked, leaks);
  }
  // Dots find the greatest score of each lane where nothing is to change it.
  Value tops = in(u, fTops), unused = in(u, fUnusedTops);
  e.loop(e.c(0), e.c(kLanes), vl,
         [&](Value lane) { e.store(e.constant(e.vec(e.f32), -INFINITY), e.at(tops, e.mul(lane, 4)), 4); });
  Value dotTops = scored ? unused : tops;
  if (!scored && maskable(s)) {
    dotTops = e.select(c.masked, unused, tops);
  }
  findRows(u, s.segment, c);
  e.store(e.c(0), in(u, fFetch + fetch::kTurn), 8);
  for (size_t dot = 0; dot < sig.segments[s.segment].dots.size(); ++dot) {
    emitDots(u, n, dot, c, dotTops);
  }
  Value scale = emitScores(u, n, c);
  c.scores = in(u, fScores[0]);
  if (softmax()) {
    c.weights = {c.scores,
                 c.columns,
                 c.lanes,
                 c.pitch,
                 scale,
                 tops,
                 in(u, fTile),
                 in(u, fTile + sumsAt(kLanes)),
                 in(u, fTile + accAt(kLanes))};
  } else if (sig.attend.getNormalizer() == attn::Normalizer::Sum) {
    e.call(declareTileKernel(module, TileKernel::Weights, sig.dv, e.f32), {},
           {c.scores, c.columns, c.lanes, c.pitch, in(u, fTile + sumsAt(kLanes))});
  }
  emitValues(u, n, c);
  e.store(e.c(0), in(u, fCount), 8);
  e.store(e.c(0), in(u, fMasked), 8);
  func::ReturnOp::create(builder, e.loc);
}

/// Which columns each group of keys needs, and which keys each column needs: all, or what is live.
void AttendTiler::emitRanges(const Uniform &u, int64_t n, const Chunk &c) {
  auto everything = [&] {
    Value end = e.floorDiv(e.add(c.lanes, kColumn - 1), kColumn);
    Value last = e.toInt(end, e.i32);
    e.loop(e.c(0), e.floorDiv(e.add(c.count, kKeyGroup - 1), e.c(kKeyGroup)), 1, [&](Value g) {
      e.store(e.c32(0), e.at(c.groups, e.mul(g, 8)), 4);
      e.store(last, e.at(c.groups, e.add(e.mul(g, 8), 4)), 4);
    });
    e.loop(e.c(0), end, 1, [&](Value column) {
      e.store(e.c(0), e.at(c.columns, e.mul(column, 16)), 8);
      e.store(c.count, e.at(c.columns, e.add(e.mul(column, 16), 8)), 8);
    });
  };
  if (maskable(schedule.strata[n])) {
    e.ifElse(c.masked, [&] { e.call(name("live", n), {}, {u.args, u.scratch, u.b, u.h}); }, everything);
  } else {
    everything();
  }
}

/// Where the chunk's rows lie, and how far the next chunk's are.
void AttendTiler::findRows(const Uniform &u, int64_t segment, Chunk &c) {
  // Rows that are far apart fall into few sets of the cache, and no stream of the hardware fetches them.
  c.values = in(u, fValueTable);
  Value apart = e.sub(e.load(e.i64, e.at(c.values, 8), 8), e.load(e.i64, c.values, 8));
  c.far = e.both(e.ge(c.count, e.c(2)), e.either(e.ge(apart, e.c(kFarRows)), e.le(apart, e.c(-kFarRows))));
  if (isListed(sig.segments[segment].v)) {
    c.far = e.constant(e.i1, int64_t(0)); // anywhere, so in any set
  }
  if (e.target.registers >= 32 && !sig.segments[segment].dots.empty()) {
    // For few queries, the keys that follow are fetched while values are accumulated, if they lie as these do.
    c.few = e.le(c.lanes, e.c(kColumn));
    c.once = c.few;
    if (splitKeys && !pairs) {
      c.once = e.either(c.few, e.both(onlyTile(u), e.le(c.lanes, e.c(2 * kColumn))));
    }
    Value table = in(u, fKeyTable[0]);
    c.ahead = e.mul(e.sub(e.load(e.i64, e.at(table, 8), 8), e.load(e.i64, table, 8)), c.count);
    if (isListed(sig.segments[segment].dots[0].k)) {
      c.ahead = e.c(0);
    }
  }
}

/// Of a tile's keys, the first so many that the tile before it had not, as far as is known: those of a band move as the
/// queries do, and tiles follow each other downwards.
Value AttendTiler::newKeys(const Uniform &u, const Stratum &s) {
  auto moves = [](const Expr &lower) {
    return (LinearForm::of(lower) - LinearForm::of(Expr::symbol(Sym::Query))).isConstant();
  };
  const KeyDigit &d = s.key[0];
  if (s.key.size() > 1 || d.radix != 1 || d.step != 1 ||
      !(llvm::any_of(s.lower, moves) || llvm::any_of(d.lower, moves))) {
    return e.c(kFar);
  }
  Value came = e.load(e.i64, in(u, fCame), 8);
  return e.select(e.lt(came, e.c(0)), e.sub(e.c(0), came), e.c(kFar));
}

/// In how many turns the products of kFetchKeys keys with a tile of queries ask for rows.
int64_t AttendTiler::fetchTurns(int64_t segment) {
  int64_t together = pairs ? 2 : 1, words = sig.segments[segment].dots[0].d / together;
  int64_t columns = kLanes / kColumn, blocks = (sig.dv + kValueBlock - 1) / kValueBlock;
  int64_t sums = columns * (2 * blocks - 1); // 8 lanes by a block, but for those that compute weights
  return kFetchKeys * words / kTurnWords / kKeyGroup + kFetchKeys * sums / together / kTurnWords;
}

/// The record of what a chunk fetches in passing: its new values; the rows of noteAhead; the next tile's new keys,
/// which are these, moved as its queries are; where rows lie far apart, so that no stream of the hardware fetches them,
/// all its keys and values. Where rows are read through a list, the next ones lie anywhere.
void AttendTiler::setFetch(const Uniform &u, int64_t n, const Chunk &c) {
  Value record = in(u, fFetch), rows = e.load(e.i64, in(u, fRowsAhead), 8), toNext = e.load(e.i64, in(u, fToNext), 8);
  e.store(e.c(0), in(u, fRowsAhead), 8); // once a tile
  int64_t size = sig.dv * bytes(), piece = fetch::pieceBytes(size);
  Value total = e.c(0), run = e.toInt(e.at(record, fetch::kRuns));
  auto kind = [&](int64_t table, Value away, Value rows) {
    rows = e.max(rows, e.c(0));
    Value first = e.toInt(in(u, table)), end = e.add(first, e.mul(rows, 8));
    run = e.ifElse(
        e.lt(e.c(0), rows), {e.i64},
        [&] {
          Value at = run;
          for (int64_t part = 0; part < fetch::pieces(size); ++part, at = e.add(at, fetch::kRunBytes)) {
            Value to = e.toPtr(at);
            e.store(first, to, 8);
            e.store(end, e.at(to, 8), 8);
            e.store(e.add(away, part * piece), e.at(to, 16), 8);
          }
          return Values{at};
        },
        [&] { return Values{run}; })[0];
    total = e.add(total, rows);
  };
  auto away = [&](int64_t stride) { return e.mul(toNext, e.load(e.i64, in(u, stride), 8)); };
  // Values that are read for this tile alone are asked for by each other, but the first.
  Value fresh = e.load(e.i64, in(u, fNewKeys), 8), asked = e.min(fresh, c.count);
  e.store(e.max(e.sub(fresh, c.count), e.c(0)), in(u, fNewKeys), 8);
  asked = c.once ? e.select(c.once, e.c(2 * kNarrowKeys), asked) : asked;
  kind(fValueTable, e.c(0), asked);
  if (accInResult() || llvm::is_contained(groups.back().members, n)) {
    kind(fOutRows, e.c(0), rows);
  }
  // A row of the state is up to two of 16 bits.
  int64_t line = 64, row = (size + line - 1) / line * line;
  for (int64_t part = 0; !direct && !accInResult() && part < accRow(); part += row) {
    kind(fStateRows, e.c(part), rows);
  }
  kind(fRows, e.load(e.i64, in(u, fQueriesAway), 8), rows);
  const SegmentSignature &segment = sig.segments[schedule.strata[n].segment];
  if (longStrata[n] && c.ahead && !isListed(segment.dots[0].k)) {
    // So are the next chunk's keys, if they lie as these do.
    kind(fKeyTable[0], c.ahead, e.select(onlyTile(u), c.count, e.c(0)));
  }
  Value beyond = e.select(c.far, c.count, e.c(0));
  // Keys that lie close follow a stream of the hardware, but a new tile's are too few for one.
  Value near = longStrata[n] ? beyond : e.select(c.far, c.count, e.min(c.count, fresh));
  if (!isListed(segment.dots[0].k)) {
    kind(fKeyTable[0], away(fKeyStride[0]), near);
  }
  if (!isListed(segment.v)) {
    kind(fValueTable, away(fValueStride), beyond);
  }
  // As many in a turn as the turns of this chunk's keys demand, in dots and products.
  Value most = e.mul(c.count, fetchTurns(schedule.strata[n].segment));
  Value share = e.add(e.floorDiv(e.mul(total, fetch::pieces(size) * kFetchKeys), most), 1);
  auto set = [&](int64_t field, Value value) { e.store(value, e.at(record, field), 8); };
  set(fetch::kTurn, e.select(e.lt(e.c(0), total), e.mul(share, 8), e.c(0)));
  set(fetch::kEntry, e.c(0));
  set(fetch::kEntryEnd, e.c(0));
  set(fetch::kRun, e.toInt(e.at(record, fetch::kRuns)));
  set(fetch::kRunEnd, run);
}

/// S := K Q of one dot.
void AttendTiler::emitDots(const Uniform &u, int64_t n, size_t dot, const Chunk &c, Value tops) {
  int64_t segment = schedule.strata[n].segment;
  const DotSource &source = sig.segments[segment].dots[dot];
  if (source.relative) {
    e.call(name(("relative_" + Twine(dot)).str(), n), {}, {u.args, u.scratch, u.b, u.h});
    return;
  }
  int64_t record = sig.argSlot(source.k), d = source.d;
  Value table = in(u, fKeyTable[dot]), stride = elementStride(u, record), buffer = in(u, fStageK[dot]);
  // Rows whose elements are not adjacent, or not of the type that is multiplied, are copied once for the tile.
  auto stage = [&] {
    if (pairs) {
      e.call(declareTileKernel(module, TileKernel::StageRows, d, sig.storage), {}, {table, c.count, stride, buffer});
    } else {
      e.call(declareTileKernel(module, TileKernel::Stage, d, sig.storage), {},
             {table, c.count, stride, buffer, e.c(paddedRow(d) * 4), e.c(kValueBlock * 4)});
    }
  };
  if (sig.storage.isF32() || (pairs && d % 2 == 0)) {
    e.ifThen(e.cmp(arith::CmpIPredicate::ne, stride, e.c(bytes())), stage);
  } else {
    stage();
  }
  // The last group of keys is filled up with the last key; its rows of S are not used.
  Value last = e.load(e.i64, e.at(table, e.mul(e.add(c.count, -1), 8)), 8);
  e.loop(c.count, e.add(c.count, kNarrowKeys), 1, [&](Value k) { e.store(last, e.at(table, e.mul(k, 8)), 8); });
  Values operands{table, c.count, c.groups, in(u, packOf(segment, dot).at), in(u, fScores[dot]), c.pitch, tops};
  auto dots = [&] {
    if (dot == 0) {
      setFetch(u, n, c);
    }
    Values more(operands);
    more.push_back(in(u, fFetch));
    e.call(declareTileKernel(module, TileKernel::Dots, d, wide(), sig.dv * bytes()), {}, more);
  };
  auto dotsFew = [&] {
    const Pack &pack = packOf(segment, dot);
    e.call(
        declareTileKernel(module, TileKernel::DotsFew, d, wide()), {},
        {table, c.count, in(u, pack.narrow), in(u, pack.at), in(u, fScores[dot]), c.lanes, tops, in(u, fValueTable)});
  };
  if (c.few) {
    e.ifElse(c.few, dotsFew, dots);
  } else {
    dots();
  }
}

/// Score regions, sums of dots, and dead pairs. Returns what softmax still has to multiply the scores with: a packed
/// pair has no room for the scale.
Value AttendTiler::emitScores(const Uniform &u, int64_t n, const Chunk &c) {
  const Stratum &s = schedule.strata[n];
  bool scored = isScored(s.segment);
  Value factor = e.constant(e.f32, 1.0), scale = factor;
  if (pairs && !sig.segments[s.segment].dots.empty()) {
    Value signedScale = scaleOf(u, packOf(s.segment, 0));
    factor = e.max(signedScale, e.sub(e.constant(e.f32, 0.0), signedScale));
    scale = scored ? scale : factor;
    if (!scored && maskable(s) && !scalesLate(s.segment)) {
      scale = e.select(c.masked, e.constant(e.f32, 1.0), factor);
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
    e.ifElse(c.masked, [&] { callScore(true); }, [&] { callScore(false); });
  } else if (scored) {
    callScore(false);
  } else if (maskable(s)) {
    e.ifThen(c.masked, [&] { callScore(true); });
  }
  return scale;
}

/// P of the whole chunk, where accumulate does not compute it.
void AttendTiler::emitWeights(const Chunk &c) {
  if (!c.weights.empty()) {
    e.call(declareTileKernel(module, TileKernel::Softmax, sig.dv, wide()), {}, c.weights);
  }
}

/// P, and acc += P V.
void AttendTiler::emitValues(const Uniform &u, int64_t n, const Chunk &c) {
  const Stratum &s = schedule.strata[n];
  Value careful = e.constant(e.i1, int64_t(0));
  if (mayLeak(s)) {
    careful = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fCareful), 8), e.c(0));
  }
  auto any = [&] { emitManyValues(u, n, c, careful); };
  if (!pairs || !c.once) {
    return any();
  }
  // Few queries take rows of bf16 where they lie.
  Value stride = elementStride(u, sig.argSlot(sig.segments[s.segment].v));
  Value elsewhere = e.either(careful, e.cmp(arith::CmpIPredicate::ne, stride, e.c(2)));
  Value direct = e.both(c.once, e.flip(elsewhere));
  e.ifElse(direct, [&] { accumulateFew(u, n, c, c.values, e.c(0)); }, any);
}

/// Few queries: the keys that follow are fetched meanwhile.
void AttendTiler::accumulateFew(const Uniform &u, int64_t n, const Chunk &c, Value rows, Value blockPitch) {
  int64_t fetch = sig.segments[schedule.strata[n].segment].dots[0].d * bytes();
  beginAcc(u);
  emitWeights(c);
  Values operands{
      c.scores, c.columns, c.lanes, c.pitch, rows, blockPitch, in(u, fTile + accAt(kLanes)), in(u, fKeyTable[0]),
      c.ahead,  c.count};
  e.call(declareTileKernel(module, TileKernel::AccumulateFew, sig.dv, wide(), fetch), {}, operands);
}

/// Values in place where they lie well, else a copy in blocks of adjacent keys.
void AttendTiler::emitManyValues(const Uniform &u, int64_t n, const Chunk &c, Value careful) {
  const Stratum &s = schedule.strata[n];
  int64_t v = sig.argSlot(sig.segments[s.segment].v);
  Value stride = elementStride(u, v), rows = c.values, rowCount = c.count, blockPitch = e.c(valuePitch());
  if (pairs) {
    std::tie(rows, blockPitch) = stageValues(u, n, c);
    rowCount = e.floorDiv(e.add(c.count, 1), 2);
  } else if (sig.storage.isF32()) {
    // Few queries read rows that are far apart once, so that a copy gains nothing.
    Value far = c.few ? e.select(c.few, e.constant(e.i1, int64_t(0)), c.far) : c.far;
    Value staged = e.either(far, e.cmp(arith::CmpIPredicate::ne, stride, e.c(4)));
    e.ifThen(staged, [&] { stageValues(u, n, c); });
    blockPitch = e.select(staged, blockPitch, e.c(kValueBlock * 4));
  } else {
    blockPitch = stageValues(u, n, c).second;
  }
  auto accumulate = [&] {
    auto many = [&] {
      if (!c.weights.empty() && e.target.registers >= 32) {
        Values operands(c.weights);
        operands.append({rows, blockPitch, in(u, fFetch), e.load(e.i64, in(u, fBegins), 8)});
        e.call(declareTileKernel(module, TileKernel::SoftmaxAccumulate, sig.dv, wide(), sig.dv * bytes()), {},
               operands);
        e.store(e.c(0), in(u, fBegins), 8);
        return;
      }
      beginAcc(u);
      emitWeights(c);
      e.call(declareTileKernel(module, TileKernel::Accumulate, sig.dv, wide()), {},
             {c.scores, c.columns, c.lanes, c.pitch, rows, blockPitch, in(u, fTile + accAt(kLanes)), in(u, fFetch)});
    };
    if (pairs || !c.once) {
      return many();
    }
    e.ifElse(c.once, [&] { accumulateFew(u, n, c, rows, blockPitch); }, many);
  };
  if (!mayLeak(s)) {
    return accumulate();
  }
  auto exact = [&] {
    beginAcc(u);
    emitWeights(c);
    // Pairs come from the rows themselves.
    Value unit = pairs ? stride : e.c(4), block = pairs ? e.mul(stride, kValueBlock) : blockPitch;
    e.call(declareTileKernel(module, TileKernel::AccumulateExact, sig.dv, wide()), {},
           {c.scores, c.columns, c.lanes, c.pitch, c.values, block, unit, in(u, fTile + accAt(kLanes))});
  };
  auto checked = [&] {
    Value finite =
        e.call(declareTileKernel(module, TileKernel::Finite, sig.dv, wide()), {e.i1}, {rows, rowCount, blockPitch})[0];
    e.ifElse(finite, accumulate, exact);
  };
  e.ifElse(careful, checked, accumulate);
}

/// live(args, scratch, b, h): the live bits of each column and key of the chunk, each group's range of live columns,
/// and each column's range of keys in live groups.
void AttendTiler::emitLive(int64_t n) {
  const Stratum &s = schedule.strata[n];
  auto fn = function(name("live", n), {e.ptr, e.ptr, e.i64, e.i64});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  if (inRuns(s)) {
    emitLiveOfRun(u, n);
  } else if (inBoxes(s)) {
    Value boxed = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fBoxed), 8), e.c(0));
    e.ifElse(boxed, [&] { emitLiveOfBoxes(u, n); }, [&] { emitLiveByKey(u, n); });
  } else {
    emitLiveByKey(u, n);
  }
  func::ReturnOp::create(builder, e.loc);
}

/// The same for any condition.
void AttendTiler::emitLiveByKey(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8);
  Value groupCount = e.floorDiv(e.add(count, kKeyGroup - 1), e.c(kKeyGroup));
  e.loop(e.c(0), groupCount, 1, [&](Value g) {
    e.store(e.c32(kLanes / kColumn), e.at(in(u, fGroups), e.mul(g, 8)), 4);
    e.store(e.c32(0), e.at(in(u, fGroups), e.add(e.mul(g, 8), 4)), 4);
  });
  readMaskRows(u, s, count);
  SmallVector<LaneInterval> list = intervals(s);
  Type word = builder.getIntegerType(std::max<int64_t>(vl, 8)), bits = builder.getIntegerType(vl);
  Value columnEnd = e.floorDiv(e.add(lanes, kColumn - 1), kColumn);
  e.loop(e.c(0), columnEnd, 1, [&](Value column) {
    // Of each register of the column: the ends of its intervals, and what its condition shares.
    struct Register {
      Value live, lane;
      SmallVector<std::pair<Value, Value>> ends;
      ExprScope at;
    };
    std::vector<Register> registers;
    for (int64_t r = 0; r < kColumn; r += vl) {
      Value lane = e.add(e.mul(column, kColumn), r), byte = e.mul(lane, 4);
      Register reg{liveOf(u, lane), lane, {}, scope(u, s.segment, {}, {})};
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
            ExprScope at = reg.at;
            at.key = j;
            giveMaskRows(u, s, k, reg.lane, at);
            require(e.splat(emitExpr(e, s.residual, at)));
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
}

/// True where a chunk's keys are equally far apart, and each lane has an interval of them.
bool AttendTiler::inRuns(const Stratum &s) {
  bool filtered = bool(s.residual) || bool(s.keep) || bool(s.ids) || bool(s.list);
  return s.key.size() == 1 && s.key[0].radix == 1 && !filtered;
}

/// The same where each lane has an interval of the chunk: a column's range is from the least begin of its lanes to the
/// greatest end. Keys between the greatest begin and the least end are sure; where masking leaves them, it finds out
/// about the others by itself (AttendScore.cpp), and there are no live bits.
void AttendTiler::emitLiveOfRun(const Uniform &u, int64_t n) {
  const Stratum &s = schedule.strata[n];
  constexpr int64_t kColumns = kLanes / kColumn;
  using Kind = vector::CombiningKind;
  Value count = e.load(e.i64, in(u, fCount), 8), lanes = e.load(e.i64, in(u, fLanes), 8), zero = e.c(0);
  Value groupCount = e.floorDiv(e.add(count, kKeyGroup - 1), e.c(kKeyGroup));
  SmallVector<LaneInterval> list = intervals(s);
  Type word = builder.getIntegerType(std::max<int64_t>(vl, 8)), bits = builder.getIntegerType(vl);
  int64_t step = s.key[0].step;
  Value origin = e.toInt(e.load(e.i32, in(u, fKeys), 4), e.i64);
  // The first key of the chunk at or behind a position.
  auto keyAt = [&](Value position) {
    Value key = e.floorDiv(e.add(e.sub(e.toInt(position, e.i64), origin), step - 1), step);
    return e.max(e.min(key, count), zero);
  };
  auto setRange = [&](int64_t offset, Value column, Value first, Value last) {
    Value at = e.at(in(u, offset), e.mul(column, 16));
    e.store(first, at, 8);
    e.store(last, e.at(at, 8), 8);
  };
  Value columnEnd = e.floorDiv(e.add(lanes, kColumn - 1), kColumn);
  e.loop(columnEnd, e.c(kColumns), 1, [&](Value column) { setRange(fColumns, column, zero, zero); });
  e.loop(zero, columnEnd, 1, [&](Value column) {
    SmallVector<std::pair<Value, Value>> ends; // of each register
    Value least, greatest, sureFrom, sureTo;
    for (int64_t r = 0; r < kColumn; r += vl) {
      Value byte = e.mul(e.add(e.mul(column, kColumn), r), 4), lo, hi;
      for (const LaneInterval &i : list) {
        if (i.varies) {
          Value x = e.load(e.vec(e.i32), e.at(in(u, i.lo), byte), 4);
          Value y = e.load(e.vec(e.i32), e.at(in(u, i.hi), byte), 4);
          lo = lo ? e.max(lo, x) : x;
          hi = hi ? e.min(hi, y) : y;
        }
      }
      ends.emplace_back(lo, hi);
      least = least ? e.min(least, lo) : lo;
      greatest = greatest ? e.max(greatest, hi) : hi;
      sureFrom = sureFrom ? e.max(sureFrom, lo) : lo;
      sureTo = sureTo ? e.min(sureTo, hi) : hi;
    }
    auto reduce = [&](Kind kind, Value v) {
      return keyAt(vector::ReductionOp::create(builder, e.loc, kind, v).getResult());
    };
    Value from = reduce(Kind::MINSI, least), to = reduce(Kind::MAXSI, greatest), some = e.lt(from, to);
    Value first = e.mul(e.floorDiv(from, kKeyGroup), kKeyGroup);
    Value last = e.min(e.mul(e.floorDiv(e.add(to, kKeyGroup - 1), kKeyGroup), kKeyGroup), count);
    first = e.select(some, first, zero);
    last = e.select(some, last, zero);
    Value sure = e.max(e.min(reduce(Kind::MAXSI, sureFrom), last), first);
    Value unsure = e.max(e.min(reduce(Kind::MINSI, sureTo), last), sure);
    setRange(fColumns, column, first, last);
    setRange(fSure, column, sure, unsure);
    if (leavesSure(s)) {
      return;
    }
    SmallVector<Value> live;
    for (int64_t r = 0; r < kColumn; r += vl) {
      live.push_back(liveOf(u, e.add(e.mul(column, kColumn), r)));
    }
    Value ones = e.constant(e.vec(e.i32), int64_t(-1));
    e.loop(e.mul(sure, liveRow()), e.mul(unsure, liveRow()), vl * 4,
           [&](Value byte) { e.store(ones, e.at(live[0], byte), 1); });
    auto write = [&](Value k) {
      Value position = e.splat(e.toInt(e.add(origin, e.mul(k, step)), e.i32));
      for (auto [to, range] : llvm::zip(live, ends)) {
        Value inside = e.both(e.le(range.first, position), e.lt(position, range.second));
        Value w = LLVM::BitcastOp::create(builder, e.loc, bits, inside);
        if (bits != word) {
          w = arith::ExtUIOp::create(builder, e.loc, word, w);
        }
        e.store(w, e.at(to, e.mul(k, liveRow())), 1);
      }
    };
    e.loop(first, sure, 1, write);
    e.loop(unsure, last, 1, write);
  });
  // Of each group: its first column and its end, a register of groups at once.
  SmallVector<std::pair<Value, Value>> ranges;
  for (int64_t column = 0; column < kColumns; ++column) {
    Value at = in(u, fColumns + column * 16), to = e.load(e.i64, e.at(at, 8), 8);
    ranges.emplace_back(e.splat(e.floorDiv(e.load(e.i64, at, 8), kKeyGroup)),
                        e.splat(e.floorDiv(e.add(to, kKeyGroup - 1), kKeyGroup)));
  }
  Type lanesType = e.vec(e.i64);
  e.loop(zero, groupCount, vl, [&](Value group) {
    Value number = e.add(e.splat(group), e.iota());
    Value first = e.constant(lanesType, kColumns), end = e.constant(lanesType, int64_t(0));
    for (int64_t column = 0; column < kColumns; ++column) {
      Value inside = e.both(e.le(ranges[column].first, number), e.lt(number, ranges[column].second));
      Value here = e.constant(lanesType, column);
      first = e.select(inside, e.min(first, here), first);
      end = e.select(inside, e.add(here, 1), end);
    }
    Value both = e.either(first, arith::ShLIOp::create(builder, e.loc, end, e.constant(lanesType, int64_t(32))));
    e.store(both, e.at(in(u, fGroups), e.mul(group, 8)), 8);
  });
}
} // namespace heddle
