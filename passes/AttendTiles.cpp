//===- AttendTiles.cpp - Tiles of queries ------------------------------===//
//
// A super-tile's queries tile by tile: positions and states of the lanes, packed Q,
// the strata that a tile visits, and splits of the keys (AttendTiler.h).
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {
using Values = Emitter::Values;

/// group(args, scratch, b, h, first, last, part, split, memory): the tiles of a super-tile are boxes of digits,
/// numbered with the last digit fastest; a part is a run of them.
void AttendTiler::emitGroup(int64_t n) {
  auto fn = function(name("group", n), {e.ptr, e.ptr, e.i64, e.i64, e.i64, e.i64, e.i64, e.i64, e.ptr});
  auto a = fn.getArguments();
  Uniform u = uniform(a[0], a[1], a[2], a[3]);
  TaskShare work{a[4], a[5], a[6], a[7], a[8]};
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) { e.store(e.splat(u.h), e.at(in(u, fHeads), e.mul(lane, 8)), 8); });
  if (near.members.empty()) {
    emitTiles(u, groups[n], work);
  } else {
    Value keys = e.c(0);
    for (int64_t segment = 0; segment < int64_t(sig.segments.size()); ++segment) {
      keys = e.max(keys, keyRows(u, segment));
    }
    e.ifElse(
        e.le(keys, e.c(schedule.rowsUpTo)), [&] { emitTiles(u, near, work); }, [&] { emitTiles(u, groups[n], work); });
  }
  func::ReturnOp::create(builder, e.loc);
}

/// The tiles of part `work.part`. Of a lattice with fewer queries than residues, only residues that have one are looked
/// at: tile n is then that of query n.
void AttendTiler::emitTiles(const Uniform &u, const Strata &group, const TaskShare &work) {
  // The leading digit's tiles cover [first, last).
  const QueryDigit &leading = group.query[0];
  auto leadingOf = [&](Value position) { return e.floorDiv(e.floorDiv(position, leading.radix), leading.tile); };
  Value lowest = leadingOf(work.first), highest = leadingOf(e.add(work.last, -1));
  int64_t inner = 1;
  for (const QueryDigit &d : ArrayRef<QueryDigit>(group.query).drop_front()) {
    inner *= (d.extent + d.tile - 1) / d.tile;
  }
  Value total = e.mul(e.add(e.sub(highest, lowest), 1), inner), parts = slot(u.args, header::kParts);
  const bool residues = group.query.size() == 2 && group.query[1].tile == 1 && inner == leading.radix;
  Value queries = e.sub(work.last, work.first), few;
  if (residues) {
    few = e.lt(queries, e.c(inner));
    total = e.select(few, queries, total);
  }
  auto end = [&](Value part) { return arith::DivSIOp::create(builder, e.loc, e.mul(part, total), parts).getResult(); };
  auto digitsOf = [&](Value number) {
    SmallVector<Value> digits(group.query.size());
    Value position = e.add(work.first, number);
    for (size_t k = group.query.size(); k-- > 1;) {
      const QueryDigit &d = group.query[k];
      int64_t count = (d.extent + d.tile - 1) / d.tile;
      digits[k] = e.mul(e.floorMod(number, count), d.tile);
      number = e.floorDiv(number, count);
    }
    digits[0] = e.mul(e.add(lowest, number), leading.tile);
    if (few) {
      digits[0] = e.select(few, e.mul(leadingOf(position), leading.tile), digits[0]);
      digits[1] = e.select(few, e.floorMod(position, leading.radix), digits[1]);
    }
    return digits;
  };
  auto cornerOf = [&](ArrayRef<Value> digits) {
    Value corner = e.c(0);
    for (auto [d, digit] : llvm::zip(group.query, digits)) {
      corner = e.add(corner, e.mul(digit, d.radix));
    }
    return corner;
  };
  Value from = end(work.part), to = end(e.add(work.part, 1));
  // The next task begins with the part before this one or, of the super-tile before, the last.
  Value lastPart = e.sub(cornerOf(digitsOf(end(e.add(parts, -1)))), e.c(schedule.superTile));
  Value partBefore = cornerOf(digitsOf(end(e.max(e.add(work.part, -1), e.c(0)))));
  Value after = e.select(e.eq(work.part, e.c(0)), lastPart, partBefore);
  e.loop(from, to, 1, [&](Value number) {
    SmallVector<Value> digits = digitsOf(number);
    Value corner = cornerOf(digits), following = e.add(number, 1);
    Value next = e.select(e.lt(following, to), cornerOf(digitsOf(following)), after);
    emitTile(u, group, corner, digits, e.sub(next, corner), work);
  });
}

/// The position of each lane in the box of digits that begins at `corner`, and whether the box has it. Lane l holds the
/// digits l mod tile, (l / tile) mod tile', ... of the box, the last digit fastest.
std::pair<Value, Value> AttendTiler::positionsInBox(const Strata &group, Value l, Value corner,
                                                    ArrayRef<Value> digits) {
  int64_t box = 1;
  for (const QueryDigit &d : group.query) {
    box *= d.tile;
  }
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
  return {position, valid};
}

/// Stores the positions of a tile's lanes and the rows of the state that are theirs, -1 where a lane has no query. Of
/// lanes with queries, for each lane of a register: the lowest position, the last and the first lane.
Emitter::Values AttendTiler::findLanes(const Uniform &u, const Strata &group, Value corner, ArrayRef<Value> digits,
                                       const TaskShare &work) {
  Value positions = in(u, fPositions), state = in(u, fState);
  Value farAway = e.constant(e.vec(e.i64), kFar), none = e.constant(e.vec(e.i64), int64_t(-1));
  Value beyond = e.constant(e.vec(e.i64), kLanes);
  return e.loop(e.c(0), e.c(kLanes), vl, {farAway, none, beyond}, [&](Value lane, ValueRange acc) {
    Value l = e.add(e.splat(lane), e.iota());
    auto [position, valid] = positionsInBox(group, l, corner, digits);
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
}

/// The tile whose box of digits begins at the position `corner`; the next one begins `toNext` positions on.
void AttendTiler::emitTile(const Uniform &u, const Strata &group, Value corner, ArrayRef<Value> digits, Value toNext,
                           const TaskShare &work) {
  Values found = findLanes(u, group, corner, digits, work);
  Value positions = in(u, fPositions), state = in(u, fState);
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
      emitDirectTile(u, group, work, lowest, toNext);
      return;
    }
    noteAhead(u, group, packQueries(u, group), toNext, work.memory);
    emitStrata(u, group, work.split, lowest);
    mergeState(u, group, work.memory);
    if (finishes(group)) {
      finishLanes(u, in(u, fTile));
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
Value AttendTiler::shareLanes(const Uniform &u, const TaskShare &work, Value highest) {
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

/// Writes the addresses of the lanes' rows of a [b, h, n, d] tensor with the queries' heads to a table, or of those
/// `away` positions on.
void AttendTiler::tableOfRows(const Uniform &u, int64_t record, int64_t table, Value away) {
  Value headStride = e.mul(slot(u.args, record + 6), bytes());
  Value origin = e.add(slot(u.args, record), e.mul(e.mul(u.b, slot(u.args, record + 5)), bytes()));
  Value first = away ? e.sub(u.qOffset, away) : u.qOffset;
  e.loop(e.c(0), e.c(kLanes), vl, [&](Value lane) {
    auto lanes = [&](int64_t of) { return e.load(e.vec(e.i64), e.at(in(u, of), e.mul(lane, 8)), 8); };
    Value head = lanes(fHeads), base = e.add(e.splat(origin), e.mul(head, e.splat(headStride)));
    Value row = e.sub(lanes(fPositions), e.splat(first));
    e.store(rowAddress(u, record, base, row, head), e.at(in(u, table), e.mul(lane, 8)), 8);
  });
}

/// Returns the record of the last rows that were packed, -1 where there are none.
int64_t AttendTiler::packQueries(const Uniform &u, const Strata &group) {
  int64_t last = -1;
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  llvm::SmallDenseSet<int64_t> done;
  for (int64_t n : group.members) {
    int64_t g = schedule.strata[n].segment;
    if (byRow(schedule.strata[n])) {
      continue;
    }
    for (size_t dot = 0; dot < sig.segments[g].dots.size(); ++dot) {
      Pack &pack = packOf(g, dot);
      if (!done.insert(pack.at).second) {
        continue;
      }
      int64_t record = sig.argSlot(pack.q);
      tableOfRows(u, record, fRows);
      last = record;
      e.call(declareTileKernel(module, pairs ? TileKernel::PackPairs : TileKernel::Pack, pack.d, sig.storage), {},
             {in(u, fRows), elementStride(u, record), scaleOf(u, pack), in(u, pack.at), lanes});
      if (pack.narrow >= 0) {
        e.call(declareTileKernel(module, TileKernel::Narrow, pack.d, wide()), {},
               {in(u, pack.at), lanes, in(u, pack.narrow)});
      }
    }
  }
  return last;
}

/// Notes what the tile's first dots fetch: its output rows and those of the super-tile's state at `memory`, which are
/// written when it is done, and the queries of the next tile (`packed`: their record, or -1).
void AttendTiler::noteAhead(const Uniform &u, const Strata &group, int64_t packed, Value toNext, Value memory) {
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  auto note = [&](int64_t numbers, Value stride, Value base, int64_t table) {
    e.loop(e.c(0), lanes, vl, [&](Value lane) {
      Value number = e.load(e.vec(e.i64), e.at(in(u, numbers), e.mul(lane, 8)), 8);
      e.store(e.add(e.mul(number, e.splat(stride)), e.splat(base)), e.at(in(u, table), e.mul(lane, 8)), 8);
    });
  };
  if (finishes(group) || accInResult()) {
    int64_t record = sig.resultSlot(sig.out);
    Value stride = rowStride(u, record), base = e.sub(headBase(u, record, false), e.mul(u.qOffset, stride));
    note(fPositions, stride, base, fOutRows);
  }
  if (!direct && !accInResult()) {
    note(fState, e.c(accRow()), e.add(e.toInt(memory), accAt(stateRows())), fStateRows);
  }
  e.store(e.load(e.i64, in(u, fToNext), 8), in(u, fCame), 8);
  e.store(toNext, in(u, fToNext), 8);
  const bool listed = packed >= 0 && listedAt(packed) >= 0;
  if (listed) {
    tableOfRows(u, packed, fRows, toNext);
  }
  e.store(packed < 0 || listed ? e.c(0) : e.mul(toNext, rowStride(u, packed)), in(u, fQueriesAway), 8);
  e.store(lanes, in(u, fRowsAhead), 8);
}

/// A tile that has its state to itself. With split keys, each split starts from an empty state, and the total is
/// folded from the splits' states in their order, whoever made them: the bits are the same in all phases.
void AttendTiler::emitDirectTile(const Uniform &u, const Strata &group, const TaskShare &work, Value minPosition,
                                 Value toNext) {
  if (!splitKeys) {
    noteAhead(u, group, packQueries(u, group), toNext, {});
    emitStrata(u, group, work.split, minPosition, true);
    return;
  }
  Value tile = in(u, fTile), total = in(u, fTotal), touched = in(u, fTouched);
  Value phaseNow = slot(u.args, header::kPhase), splits = slot(u.args, header::kSplits);
  Value partial = e.eq(phaseNow, e.c(phase::kPartial)), merging = e.eq(phaseNow, e.c(phase::kMerge));
  Value alone = e.eq(splits, e.c(1));
  Value lanes = e.load(e.i64, in(u, fLanes), 8);
  e.ifThen(e.cmp(arith::CmpIPredicate::ne, phaseNow, e.c(phase::kMerge)),
           [&] { noteAhead(u, group, packQueries(u, group), toNext, {}); });
  e.ifThen(arith::XOrIOp::create(builder, e.loc, e.either(partial, alone), e.constant(e.i1, int64_t(1))), [&] {
    clearSums(total);
    clearAcc(u, total);
  });
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
           [&] { finishLanes(u, e.select(alone, tile, total)); });
}

/// The tile's state := that of all strata of a group, on the lanes that are set up; `finish`: and its results.
void AttendTiler::emitStrata(const Uniform &u, const Strata &group, Value split, Value minPosition, bool finish) {
  auto visit = [&] {
    clearSums(in(u, fTile));
    e.store(e.c(1), in(u, fBegins), 8);
    if (llvm::any_of(group.members,
                     [&](int64_t n) { return byRow(schedule.strata[n]) || decidesByRow(schedule.strata[n]); })) {
      beginAcc(u);
    }
    for (int64_t n : group.members) {
      const Stratum &s = schedule.strata[n];
      if (byRow(s) && !rowSets.contains(n)) {
        continue; // with the first of its set
      }
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
    beginAcc(u);
  };
  if (llvm::none_of(group.members, [&](int64_t n) { return mayLeak(schedule.strata[n]); })) {
    visit();
    if (finish) {
      finishLanes(u, in(u, fTile));
    }
    return;
  }
  // Where some pair was dead and acc is not finite, perhaps by a value that some lane may not see, the tile is done
  // again with care.
  scf::WhileOp::create(
      builder, e.loc, TypeRange{e.i64}, ValueRange{e.c(0)},
      [&](OpBuilder &, Location, ValueRange v) {
        e.store(v[0], in(u, fCareful), 8);
        e.store(e.c(0), in(u, fLeaks), 8);
        visit();
        // Results that were not finite are written again; else they tell of acc without a pass of their own.
        Value finite = finish ? finishLanes(u, in(u, fTile)) : Value();
        Value leaks = e.cmp(arith::CmpIPredicate::ne, e.load(e.i64, in(u, fLeaks), 8), e.c(0));
        Value again = e.ifElse(
            e.both(leaks, e.eq(v[0], e.c(0))), e.i1, [&] { return Values{finite ? e.flip(finite) : notFinite(u)}; },
            [&] { return Values{e.constant(e.i1, int64_t(0))}; })[0];
        scf::ConditionOp::create(builder, e.loc, again, ValueRange{e.c(1)});
      },
      [&](OpBuilder &, Location, ValueRange v) { scf::YieldOp::create(builder, e.loc, v); });
}
} // namespace heddle
