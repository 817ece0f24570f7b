//===- GpuStream.cpp - Key tiles: their rows, loads and live bits ---------===//

#include "mlir/IR/Matchers.h"
#include "passes/gpu/GpuKernel.h"

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

//===--- Members of the stream --------------------------------------------===//

Value GpuKernel::descriptor(Value n, int64_t word) {
  Value at = e.add(e.mul(n, descriptorWords() * 4), sDescriptor + word * 4);
  return e.loadShared(e.i32, at, 4);
}

/// The member whose tiles hold `tile`.
Value GpuKernel::memberOf(Value tile) {
  Value n = e.k(0);
  for (size_t m = 1; m < members.size(); ++m) {
    Value first = e.loadShared(e.i32, e.k(sDescriptor + int64_t(m) * descriptorWords() * 4), 4);
    n = e.add(n, e.toInt(e.ge(tile, first), e.i32));
  }
  return n;
}

/// `body` of the member that `n` is, among those in `list`; `otherwise` for the rest.
Values GpuKernel::perMember(Value n, ArrayRef<size_t> list, llvm::function_ref<Values(size_t)> body,
                            llvm::function_ref<Values()> otherwise) {
  if (list.empty()) {
    return otherwise();
  }
  if (members.size() == 1) {
    return body(0);
  }
  auto op = scf::IfOp::create(
      e.b, e.loc, e.eq(n, int64_t(list[0])),
      [&](OpBuilder &, Location) {
        Values v = body(list[0]);
        scf::YieldOp::create(e.b, e.loc, v);
      },
      [&](OpBuilder &, Location) {
        Values v = perMember(n, list.drop_front(), body, otherwise);
        scf::YieldOp::create(e.b, e.loc, v);
      });
  return Values(op.getResults());
}

//===--- Segments ---------------------------------------------------------===//

/// Of a source: two positions, and of each tensor base, stride, element and whether it is aligned.
static constexpr int64_t kPositionWords = 2, kTensorWords = 4;

int64_t GpuKernel::sourceWords() const {
  size_t dots = 0;
  for (int64_t g : segmentsUsed) {
    dots = std::max(dots, sig.segments[g].dots.size());
  }
  return kPositionWords + kTensorWords * int64_t(dots + 1);
}

void GpuKernel::storeSources() {
  if (sources.size() < 2) {
    return;
  }
  e.ifThen(e.eq(tid, 0), [&] {
    for (auto [n, source] : llvm::enumerate(sources)) {
      int64_t at = sSources + int64_t(n) * sourceWords() * 8;
      auto put = [&](Value v) {
        e.storeShared(v, e.k(at), 8);
        at += 8;
      };
      auto putRows = [&](const Rows &rows) {
        llvm::for_each(Values{rows.base, rows.stride, rows.element, e.toInt(rows.aligned, e.i64)}, put);
      };
      put(source.kOffset);
      put(source.count);
      if (source.values.base) {
        putRows(source.values);
        llvm::for_each(source.keys, putRows);
      }
    }
  });
}

GpuKernel::Source GpuKernel::sourceAt(Value number, const Source &like) {
  Value first = e.add(e.mul(number, sourceWords() * 8), sSources);
  int64_t at = 0;
  auto take = [&] {
    Value v = e.loadShared(e.i64, e.add(first, at), 8);
    at += 8;
    return v;
  };
  auto takeRows = [&] {
    Rows rows;
    rows.base = take();
    rows.stride = take();
    rows.element = take();
    Value aligned = e.cmp(arith::CmpIPredicate::ne, take(), e.c(0));
    rows.aligned = careful ? e.yes() : aligned;
    return rows;
  };
  Source out;
  out.kOffset = take();
  out.count = take();
  if (like.values.base) {
    out.values = takeRows();
    for (size_t n = 0; n < like.keys.size(); ++n) {
      out.keys.push_back(takeRows());
    }
  }
  return out;
}

bool GpuKernel::sameLoads(size_t x, size_t y) const {
  return llvm::equal(sig.segments[segmentsUsed[x]].dots, sig.segments[segmentsUsed[y]].dots,
                     [](const DotSource &a, const DotSource &b) {
                       bool rows = a.relative == b.relative && a.shift == b.shift && (!a.relative || a.k == b.k);
                       return rows && a.d == b.d;
                     });
}

bool GpuKernel::sameScores(size_t x, size_t y) {
  int64_t first = segmentsUsed[x], second = segmentsUsed[y];
  const SegmentSignature &a = sig.segments[first], &b = sig.segments[second];
  bool queries = llvm::equal(a.dots, b.dots, [](const DotSource &p, const DotSource &q) { return p.q == q.q; });
  bool scales = a.scale.arg == b.scale.arg && a.scale.real == b.scale.real;
  Region *own = sig.attend.getScore(first), *other = sig.attend.getScore(second);
  auto flags = OperationEquivalence::IgnoreLocations;
  bool regions = own && other ? OperationEquivalence::isRegionEquivalentTo(own, other, flags) : !own && !other;
  return sameLoads(x, y) && queries && scales && regions;
}

Values GpuKernel::perSegment(Value n, llvm::function_ref<bool(size_t, size_t)> alike,
                             llvm::function_ref<Values(size_t)> body) {
  if (sources.size() == 1) {
    return body(0);
  }
  SmallVector<SmallVector<size_t>> kinds;
  for (size_t s = 0; s < sources.size(); ++s) {
    auto *kind = llvm::find_if(kinds, [&](ArrayRef<size_t> k) { return alike(k.front(), s); });
    kind == kinds.end() ? kinds.push_back({s}) : kind->push_back(s);
  }
  Value number = descriptor(n, 6);
  auto shared = [&](ArrayRef<size_t> kind) {
    if (kind.size() == 1) {
      return body(kind.front());
    }
    Source &source = sources[kind.front()];
    Source own = std::exchange(source, sourceAt(number, source));
    Values out = body(kind.front());
    source = std::move(own);
    return out;
  };
  std::function<Values(ArrayRef<SmallVector<size_t>>)> chain = [&](ArrayRef<SmallVector<size_t>> of) -> Values {
    if (of.size() == 1) {
      return shared(of.front());
    }
    Value here = e.no();
    for (size_t s : of.front()) {
      here = e.either(here, e.eq(number, int64_t(s)));
    }
    auto op = scf::IfOp::create(
        e.b, e.loc, here,
        [&](OpBuilder &, Location) {
          Values v = shared(of.front());
          scf::YieldOp::create(e.b, e.loc, v);
        },
        [&](OpBuilder &, Location) {
          Values v = chain(of.drop_front());
          scf::YieldOp::create(e.b, e.loc, v);
        });
    return Values(op.getResults());
  };
  return chain(kinds);
}

//===--- Tables of key rows -----------------------------------------------===//

Value GpuKernel::tableOf(Value tile) { return e.add(e.mul(e.remu(tile, shape.stages + 1), shape.keys * 4), sTable); }

/// {position, owner, whether it is live for the owner} of key x of a member's lists. The owner is the row that leads
/// the list; with 256 added the key is live for every row.
Values GpuKernel::placeInList(size_t member, Value n, Value x, Value valid) {
  const Member &m = members[member];
  const Stratum &s = schedule.strata[m.stratum];
  return e.ifElse(
      valid, TypeRange{e.i32, e.i32, e.i1},
      [&] {
        // The last row with so few keys before its list.
        Value row = e.k(0), before = e.k(0);
        for (int64_t step = shape.rows / 2; step > 0; step /= 2) {
          Value keys = e.loadShared(e.i32, e.add(e.shl(row, 2), m.lists.prefix + step * 4), 4);
          Value further = e.le(keys, x);
          row = e.select(further, e.add(row, step), row);
          before = e.select(further, keys, before);
        }
        Value t = e.sub(x, before), number = s.run > 1 ? e.divu(t, s.run) : t, at = e.shl(row, 2);
        Value query = e.wide(e.loadShared(e.i32, e.add(at, sPosition), 4));
        ExprScope from = scope(s.segment, query, {});
        from.entry = entriesOf(m, from).entry(number);
        Value j = emitExpr(e, s.first, from);
        if (s.run > 1) {
          j = e.add(j, e.wide(e.sub(t, e.mul(number, s.run))));
        }
        j = e.max(e.min(j, e.c(kBeyondPositions)), e.c(-kBeyondPositions));
        Value position = e.narrow(j), live = e.yes();
        if (hasOwnLists(s)) {
          if (const GpuInterval &i = m.intervals[0]; i.varies) {
            live = e.both(e.le(e.loadShared(e.i32, e.add(at, i.lo), 4), position),
                          e.lt(position, e.loadShared(e.i32, e.add(at, i.hi), 4)));
          }
          if (s.residual) {
            live = e.both(live, emitExpr(e, s.residual, scope(s.segment, query, j)));
          }
        }
        Value all = e.both(e.le(descriptor(n, 2), position), e.lt(position, descriptor(n, 3)));
        return Values{position, e.add(row, e.shl(e.toInt(all, e.i32), 8)), live};
      },
      [&] { return Values{e.k(0), e.k(0), e.no()}; });
}

/// Writes the tensor rows of the tile's keys; -1 past the box, outside the tensor or where `keep` fails.
void GpuKernel::writeTable(Value tile, Value index, int64_t threads) {
  auto write = [&](Value r) {
    Value n = memberOf(tile);
    Value x = e.add(e.mul(e.sub(tile, descriptor(n, 0)), shape.keys), r);
    Value valid = e.both(e.lt(tile, tiles), e.lt(x, descriptor(n, 1)));
    // Mixed radix: the last digit runs fastest.
    auto inBox = [&] {
      Value position = descriptor(n, 4), rest = x;
      for (int64_t k = digits - 1; k > 0; --k) {
        Value length = descriptor(n, 5 + 2 * k), quotient = e.divu(rest, length);
        Value index = e.sub(rest, e.mul(quotient, length));
        position = e.add(position, e.mul(index, descriptor(n, 6 + 2 * k)));
        rest = quotient;
      }
      return Values{e.add(position, e.mul(rest, descriptor(n, 5))), e.k(0), valid};
    };
    Values place = perMember(n, gathered(), [&](size_t m) { return placeInList(m, n, x, valid); }, inBox);
    Value position = place[0], row, kept;
    auto always = [](size_t, size_t) { return true; };
    Values source = perSegment(n, always, [&](size_t s) {
      Value own = e.sub(position, e.narrow(sources[s].kOffset));
      return Values{own, e.both(e.ge(own, e.k(0)), e.lt(own, e.narrow(sources[s].count)))};
    });
    row = source[0];
    kept = e.both(place[2], source[1]);
    SmallVector<size_t> withKeep;
    for (auto [m, member] : llvm::enumerate(members)) {
      if (schedule.strata[member.stratum].keep) {
        withKeep.push_back(m);
      }
    }
    kept = perMember(
        n, withKeep,
        [&](size_t m) {
          const Stratum &s = schedule.strata[members[m].stratum];
          return Values{e.both(kept, emitExpr(e, s.keep, scope(s.segment, {}, e.wide(position))))};
        },
        [&] { return Values{kept}; })[0];
    Value at = e.add(tableOf(tile), e.mul(r, 4));
    e.storeShared(e.select(kept, row, e.k(-1)), at, 4);
    if (sOwner >= 0) {
      e.storeShared(e.select(kept, place[1], e.k(0)), e.add(at, sOwner - sTable), 4);
    }
  };
  if (shape.keys > 2 * threads) {
    loop(index, e.k(shape.keys), threads, {}, [&](Value r, ValueRange) {
      write(r);
      return Values{};
    });
    return;
  }
  for (int64_t at = 0; at < shape.keys; at += threads) {
    Value r = e.add(index, at);
    if (at + threads <= shape.keys) {
      write(r);
    } else {
      e.ifThen(e.lt(r, shape.keys), [&] { write(r); });
    }
  }
}

//===--- Loads ------------------------------------------------------------===//

/// Copies rows (numbers in the table, -1: zeros; of the heads in `headTable`, where it is given) of `d` elements, of
/// which `limit` bytes exist, to shared memory.
void GpuKernel::loadRows(const Rows &from, Value table, int64_t rows, int64_t d, Value limit, Value to,
                         Value headTable) {
  auto number = [&](Value row) { return e.loadShared(e.i32, e.add(table, e.shl(row, 2)), 4); };
  loadRows(from, number, rows, d, limit, to, headTable);
}

void GpuKernel::loadRows(const Rows &from, RowNumber numberOf, int64_t rows, int64_t d, Value limit, Value to,
                         Value headTable) {
  int64_t pitch = sharedPitch(d, bytes), padded = paddedDim(d, bytes), perRow = padded * bytes / 16;
  int64_t threads = shape.threads(), total = rows * perRow;
  // Bytes from row 0 of the first head.
  auto offsetOf = [&](Value row, Value number) {
    Value offset = e.mul(e.wide(number), from.stride);
    return headTable ? e.add(offset, e.mul(e.wide(e.loadShared(e.i32, e.add(headTable, e.shl(row, 2)), 4)), from.head))
                     : offset;
  };
  auto copy = [&](Value c) {
    Value row = e.divu(c, perRow), column = e.shl(e.remu(c, perRow), 4);
    Value number = numberOf(row);
    Value there = e.ge(number, e.k(0));
    Value left = e.max(e.min(e.sub(limit, column), e.k(16)), e.k(0));
    Value offset = offsetOf(row, e.max(number, e.k(0)));
    Value address = e.add(e.add(from.base, offset), e.wide(column));
    e.copyAsync(e.add(e.add(to, e.mul(row, pitch)), column), address, e.select(there, left, e.k(0)));
  };
  auto fast = [&] {
    if (total <= threads * 16) {
      for (int64_t at = 0; at < total; at += threads) {
        Value c = e.add(tid, at);
        if (at + threads <= total) {
          copy(c);
        } else {
          e.ifThen(e.lt(c, total), [&] { copy(c); });
        }
      }
      return;
    }
    loop(tid, e.k(total), threads, {}, [&](Value c, ValueRange) {
      copy(c);
      return Values{};
    });
  };
  // Rows that are not aligned, or whose elements are not adjacent, go element by element.
  auto slow = [&] {
    Type element = storage.isF32() ? e.i32 : e.i16;
    loop(tid, e.k(rows * padded), threads, {}, [&](Value c, ValueRange) {
      Value row = e.divu(c, padded), column = e.remu(c, padded);
      Value number = numberOf(row);
      Value there = e.both(e.ge(number, e.k(0)), e.lt(e.mul(column, bytes), limit));
      Value v = e.ifElse(
          there, TypeRange{element},
          [&] {
            Value offset = e.add(offsetOf(row, number), e.mul(e.wide(column), from.element));
            Value pointer = e.toGlobal(e.add(from.base, offset));
            return Values{LLVM::LoadOp::create(e.b, e.loc, element, pointer, unsigned(bytes))};
          },
          [&] { return Values{e.constant(element, int64_t(0))}; })[0];
      e.storeShared(v, e.add(e.add(to, e.mul(row, pitch)), e.mul(column, bytes)), unsigned(bytes));
      return Values{};
    });
  };
  matchPattern(from.aligned, m_One()) ? fast() : e.ifElse(from.aligned, fast, slow);
}

/// Starts the loads of a tile, where it is `there`, and closes their group.
void GpuKernel::issueLoads(Value tile, Value there) {
  e.ifThen(there, [&] {
    Value n = memberOf(tile), table = tableOf(tile);
    Value stage = e.add(e.mul(e.remu(tile, shape.stages), stageBytes), sRing);
    auto alike = [&](size_t x, size_t y) { return sameLoads(x, y); };
    perSegment(n, alike, [&](size_t s) {
      const SegmentSignature &segment = sig.segments[segmentsUsed[s]];
      Value at = e.add(stage, shape.keys * sharedPitch(shape.columns, bytes));
      for (auto [dot, rows] : llvm::zip(segment.dots, sources[s].keys)) {
        if (dotBySums(shape, dot)) {
          continue;
        }
        if (dot.relative) {
          Distances tile = distancesOf(s, table);
          Value first = e.add(e.wide(tile.least), dot.shift), last = e.add(slot(sig.argSlot(dot.k) + 3), -1);
          auto clamped = [&](Value row) { return e.narrow(e.max(e.min(e.add(first, e.wide(row)), last), e.c(0))); };
          e.ifThen(tile.loaded, [&] { loadRows(rows, clamped, shape.distances(), dot.d, e.k(dot.d * bytes), at); });
        } else {
          loadRows(rows, table, shape.keys, dot.d, e.k(dot.d * bytes), at);
        }
        at = e.add(at, stagedRows(shape, dot) * sharedPitch(dot.d, bytes));
      }
      Value limit = e.sub(e.k(sig.dv * bytes), e.mul(chunk, shape.columns * bytes));
      loadRows(sources[s].values, table, shape.keys, shape.columns, limit, stage);
      return Values{};
    });
  });
  e.commitGroup();
}

//===--- Masks ------------------------------------------------------------===//

bool GpuKernel::maskable(size_t member) const {
  const Member &m = members[member];
  const Stratum &s = schedule.strata[m.stratum];
  return bool(s.list) || bool(s.residual) || bool(s.keep) ||
         llvm::any_of(m.intervals, [](const GpuInterval &i) { return i.varies; });
}

bool GpuKernel::sparse() const {
  return llvm::any_of(members, [&](const Member &m) {
    const Stratum &s = schedule.strata[m.stratum];
    return bool(s.list) || bool(s.residual) || bool(s.keep);
  });
}

SmallVector<size_t> GpuKernel::gathered() const {
  SmallVector<size_t> out;
  for (size_t m = 0; m < members.size(); ++m) {
    if (gathers(m)) {
      out.push_back(m);
    }
  }
  return out;
}

/// Scores (of 64 keys, or all of a smaller tile) a word of live bits.
static constexpr int64_t kWordKeys = 64;

Values GpuKernel::liveWords(Value table, Value n) {
  Values words;
  for (int64_t first = 0; first < shape.keys; first += kWordKeys) {
    words.push_back(liveBits(e.add(table, first * 4), n));
  }
  return words;
}

/// The scores with what is dead replaced.
Values GpuKernel::masked(Values s, const Values &words) {
  Value dead = e.f(softmaxed() ? -std::numeric_limits<double>::infinity() : 0.0);
  for (auto [n, word] : llvm::enumerate(words)) {
    for (int64_t k = 0; k < std::min(shape.keys, kWordKeys) / 2; ++k) {
      Value bit = e.bitAnd(word, int64_t(int32_t(uint32_t(1) << k)));
      Value &v = s[int64_t(n) * kWordKeys / 2 + k];
      v = e.select(e.eq(bit, 0), dead, v);
    }
  }
  return s;
}

/// True for the warp where `holds` (of a place in the tile's tables) does for one of the tile's keys.
static Value someKey(WarpEmitter &e, int64_t keys, Value lane, Value table, llvm::function_ref<Value(Value)> holds) {
  Value some;
  for (int64_t first = 0; first < keys; first += 32) {
    Value key = keys < 32 ? e.remu(lane, keys) : e.add(lane, first);
    Value own = holds(e.add(table, e.shl(key, 2)));
    some = some ? e.either(some, own) : own;
  }
  return e.anyInWarp(some);
}

Value GpuKernel::anyKey(Value table) {
  return someKey(e, shape.keys, lane, table, [&](Value at) { return e.ge(e.loadShared(e.i32, at, 4), e.k(0)); });
}

Value GpuKernel::fullTile(Value n, Value x, Value table) {
  auto listed = [&](size_t) {
    Value partial = someKey(e, shape.keys, lane, table, [&](Value at) {
      return e.eq(e.bitAnd(e.loadShared(e.i32, e.add(at, sOwner - sTable), 4), 256), 0);
    });
    return Values{e.invert(partial)};
  };
  auto numbered = [&] {
    return Values{e.both(e.le(descriptor(n, 2), x), e.le(e.add(x, shape.keys), descriptor(n, 3)))};
  };
  return perMember(n, gathered(), listed, numbered)[0];
}

/// Live bits of this thread's scores: bit 4 n + c is element c of the fragment of keys 8 n to 8 n + 7.
Value GpuKernel::liveBits(Value table, Value n) {
  SmallVector<size_t> list;
  for (size_t m = 0; m < members.size(); ++m) {
    if (maskable(m)) {
      list.push_back(m);
    }
  }
  // Without a condition only keys that are not there are dead.
  auto tail = [&] { return Values{liveBitsOf(members.size(), table)}; };
  return perMember(n, list, [&](size_t m) { return Values{liveBitsOf(m, table)}; }, tail)[0];
}

Value GpuKernel::liveBitsOf(size_t member, Value table) {
  const Member *m = member < members.size() ? &members[member] : nullptr;
  const Stratum *s = m ? &schedule.strata[m->stratum] : nullptr;
  // The two rows of this thread.
  Value rows[2] = {e.add(e.shl(warp, 4), group8), {}};
  rows[1] = e.add(rows[0], 8);
  Value positions[2], leaders[2];
  SmallVector<std::pair<Value, Value>> ends[2];
  bool listed = m && gathers(member), decided = listed && hasOwnLists(*s); // in the table
  if (m) {
    for (int64_t half = 0; half < 2; ++half) {
      Value at = e.shl(rows[half], 2);
      positions[half] = e.wide(e.loadShared(e.i32, e.add(at, sPosition), 4));
      leaders[half] = listed ? e.loadShared(e.i32, e.add(at, m->lists.leader), 4) : Value();
      for (const GpuInterval &i : m->intervals) {
        ends[half].emplace_back(i.varies ? e.loadShared(e.i32, e.add(at, i.lo), 4) : Value(),
                                i.varies ? e.loadShared(e.i32, e.add(at, i.hi), 4) : Value());
      }
    }
  }
  Value offset = s ? e.narrow(sources[llvm::find(segmentsUsed, s->segment) - segmentsUsed.begin()].kOffset) : Value();
  return loop(e.k(0), e.k(std::min(shape.keys, kWordKeys) / 4), 1, {e.k(0)}, [&](Value c, ValueRange carried) {
    Value pair = e.shr(c, 1), odd = e.bitAnd(c, 1);
    Value column = e.add(e.add(e.shl(pair, 3), e.shl(quad, 1)), odd);
    Value place = e.add(table, e.shl(column, 2)), row = e.loadShared(e.i32, place, 4);
    Value present = e.ge(row, e.k(0)), word = carried[0], owner;
    if (listed) {
      owner = e.bitAnd(e.loadShared(e.i32, e.add(place, sOwner - sTable), 4), 255);
    }
    Value bit = e.add(e.shl(pair, 2), odd);
    for (int64_t half = 0; half < 2; ++half) {
      Value live = listed ? e.both(present, e.eq(owner, leaders[half])) : present;
      if (m && !decided) {
        Value position = e.add(row, offset), j = e.wide(position);
        for (auto [n, i] : llvm::enumerate(m->intervals)) {
          if (!i.varies) {
            continue;
          }
          Value v = position;
          if (n > 0) {
            const KeyDigit &d = s->key[n - 1];
            Value digit = e.floorDiv(j, d.radix);
            if (n > 1 && d.extent > 0) {
              digit = e.floorMod(digit, d.extent);
            }
            v = e.narrow(digit);
          }
          live = e.both(live, e.both(e.le(ends[half][n].first, v), e.lt(v, ends[half][n].second)));
        }
        if (s->residual) {
          live = e.both(live, emitExpr(e, s->residual, scope(s->segment, positions[half], j)));
        }
      }
      word = e.either(word, e.shl(e.toInt(live, e.i32), e.add(bit, 2 * half)));
    }
    return Values{word};
  })[0];
}

} // namespace heddle
