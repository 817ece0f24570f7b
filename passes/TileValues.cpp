//===- TileValues.cpp - acc += P V of a tile ------------------------------===//

#include "passes/TileBody.h"

using namespace mlir;

namespace heddle {

/// x * 0 is 0 for finite x and NaN otherwise; of bf16, the exponent tells.
Value TileBody::finite() {
  Value rows = args[0], count = args[1], blockPitch = args[2];
  if (pairs) {
    Value most = constant(vec(i32), int64_t(0x7f80));
    Value bad = constant(vec(i1), int64_t(0));
    auto sweep = [&](int64_t block, int64_t registers, Value found) {
      Value base = at(rows, mul(blockPitch, block));
      return loop(c(0), count, 1, Values{found}, [&](Value k, ValueRange acc) {
        Value worst = acc[0];
        for (int64_t r = 0; r < registers; ++r) {
          Value x = load(vec(i32), at(base, add(mul(k, kValueBlock * 4), r * vl * 4)), 4);
          for (Value half : {x, Value(arith::ShRUIOp::create(b, loc, x, constant(vec(i32), int64_t(16))))}) {
            worst = either(worst, eq(both(half, most), most));
          }
        }
        return Values{worst};
      })[0];
    };
    for (int64_t block = 0; block < valueBlocks(d); ++block) {
      int64_t left = std::min(d - block * kValueBlock, kValueBlock);
      bad = sweep(block, (left + vl - 1) / vl, bad);
    }
    return arith::XOrIOp::create(b, loc, any(bad), constant(i1, int64_t(1)));
  }
  Value zero = constant(vec(f32), 0.0);
  Values sum = loop(c(0), count, 1, Values{zero}, [&](Value k, ValueRange acc) {
    Value row = rowAddress(rows, k);
    int64_t whole = d / vl * vl;
    Value s = acc[0];
    if (whole) {
      s = loop(c(0), c(whole), vl, Values{s}, [&](Value dim, ValueRange a) {
        return Values{fma(loadRow(inBlocks(row, dim, blockPitch, c(4))), zero, a[0])};
      })[0];
    }
    if (whole < d) {
      s = fma(loadTail(inBlocks(row, c(whole), blockPitch, c(4)), d - whole), zero, s);
    }
    return Values{s};
  });
  Value bad = any(cmp(arith::CmpFPredicate::UNO, sum[0], sum[0]));
  return arith::XOrIOp::create(b, loc, bad, constant(i1, int64_t(1)));
}

/// Sums of `rows` lanes by `vectors` registers of columns of V.
struct TileBody::Rows {
  int64_t rows, vectors, lastValid;
  Value to, p, table, inRow; ///< acc and P of the first lane; V, and the bytes of the columns in a row
  Value begins;              ///< acc is 0, and not yet written; null: never
};

/// sum += P[k] * row[k] of key, or pair of keys, k.
Emitter::Values TileBody::addRow(const Rows &r, Value k, ValueRange sum) {
  Value v = pairs ? at(r.table, add(r.inRow, mul(k, kValueBlock * 4))) : at(rowAddress(r.table, k), r.inRow);
  Value pk = at(r.p, mul(k, kRow));
  SmallVector<Value> x;
  for (int64_t j = 0; j < r.vectors; ++j) {
    x.push_back(loadTail(at(v, j * vl * 4), j + 1 == r.vectors ? r.lastValid : vl));
  }
  Values next;
  for (int64_t i = 0; i < r.rows; ++i) {
    Value a = splat(load(f32, at(pk, i * 4), 4));
    for (int64_t j = 0; j < r.vectors; ++j) {
      next.push_back(multiplyAdd(a, x[j], sum[i * r.vectors + j]));
    }
  }
  return next;
}

/// The sums of a block as they are in acc, and back.
Emitter::Values TileBody::loadSums(const Rows &r) {
  if (r.begins) {
    Rows begun = r;
    begun.begins = {};
    Values zeros(r.rows * r.vectors, constant(vec(f32), 0.0));
    return ifElse(r.begins, ValueRange(zeros).getTypes(), [&] { return zeros; }, [&] { return loadSums(begun); });
  }
  Values sums;
  for (int64_t i = 0; i < r.rows; ++i) {
    for (int64_t j = 0; j < r.vectors; ++j) {
      sums.push_back(loadRow(at(r.to, (i * paddedRow(d) + j * vl) * 4)));
    }
  }
  return sums;
}

void TileBody::storeSums(const Rows &r, ValueRange sums) {
  for (int64_t i = 0; i < r.rows; ++i) {
    for (int64_t j = 0; j < r.vectors; ++j) {
      store(sums[i * r.vectors + j], at(r.to, (i * paddedRow(d) + j * vl) * 4), 4);
    }
  }
}

/// The sums with keys, or pairs of keys, [first, last).
Emitter::Values TileBody::addRows(const Rows &r, Value first, Value last) {
  return loop(first, last, 1, loadSums(r), [&](Value k, ValueRange sum) { return addRow(r, k, sum); });
}

/// The same, asking for what the record names.
void TileBody::addRowsAsking(const Rows &r, Value first, Value last, const Sources &of) {
  storeSums(r, loop(first, last, kTurn, loadSums(r), [&](Value turn, ValueRange sum) {
              askAhead(of.record, of.fetch);
              return loop(turn, min(add(turn, kTurn), last), 1, sum,
                          [&](Value k, ValueRange sum) { return addRow(r, k, sum); });
            }));
}

/// The first sums of a column, whose weights are computed on the way: those of the keys kAhead later, in the slots that
/// the multiply-adds leave free.
void TileBody::weighAndAdd(const Rows &r, Value lane) {
  constexpr int64_t kAhead = 16;
  int64_t together = pairs ? 2 : 1;
  Weighed w = beginSoftmax(lane);
  auto unit = [&](Value k) { return pairs ? floorDiv(k, 2) : k; };
  Values weights(kSums, constant(vec(f32), 0.0));
  weights = loop(w.first, min(add(w.first, kAhead), w.end), kUnroll, weights,
                 [&](Value k, ValueRange sums) { return weigh(w, k, sums); });
  Values carried = loadSums(r);
  carried.append(weights.begin(), weights.end());
  Value rest = max(sub(w.end, c(kAhead)), w.first);
  carried = loop(w.first, rest, kUnroll, carried, [&](Value k, ValueRange both) {
    Values sums(both.drop_back(kSums));
    auto addNext = [&](int64_t u) {
      if (u % together == together - 1) {
        sums = addRow(r, add(unit(k), u / together), sums);
      }
    };
    Values weights = weigh(w, add(k, kAhead), both.take_back(kSums), addNext);
    sums.append(weights.begin(), weights.end());
    return sums;
  });
  ValueRange both(carried);
  endSoftmax(w, both.take_back(kSums));
  Values sums = loop(unit(rest), unit(add(w.last, together - 1)), 1, Values(both.drop_back(kSums)),
                     [&](Value k, ValueRange sum) { return addRow(r, k, sum); });
  storeSums(r, sums);
}

/// acc[lane] += sum over keys of P[key][lane] * row[key], for as many lanes at once as there are registers, by
/// `vectors` registers of columns of V that begin at element `column`; only `lastValid` elements of the last register
/// exist in V.
void TileBody::accumulateBlock(const Sources &of, Value column, int64_t vectors, int64_t lastValid) {
  Value inRow = add(mul(floorDiv(column, kValueBlock), of.blockPitch), mul(floorMod(column, kValueBlock), 4));
  Value accColumn = at(of.acc, mul(column, 4));
  loop(c(0), of.lanes, kColumn, [&](Value lane0) {
    Value strip = at(of.scores, mul(floorDiv(lane0, kColumn), of.pitch));
    auto [from, until] = keysOf(of.columns, floorDiv(lane0, kColumn));
    Value first = from, last = until;
    if (pairs) {
      first = floorDiv(from, 2);
      last = floorDiv(add(until, 1), 2);
    }
    auto rowsAt = [&](Value lane, int64_t rows) {
      return Rows{rows,
                  vectors,
                  lastValid,
                  at(accColumn, mul(lane, paddedRow(d) * 4)),
                  at(strip, mul(floorMod(lane, kColumn), 4)),
                  of.table,
                  inRow,
                  of.begins};
    };
    // Each register of sums needs the latency of a multiply-add to itself: 8 and more in flight.
    auto blocks = [&](int64_t from, int64_t until, int64_t rows) {
      loop(add(lane0, from), min(add(lane0, until), of.lanes), rows, [&](Value lane) {
        Rows r = rowsAt(lane, rows);
        if (of.fetch == 0) {
          return storeSums(r, addRows(r, first, last));
        }
        ifElse(
            asksMore(of.record), [&] { addRowsAsking(r, first, last, of); },
            [&] { storeSums(r, addRows(r, first, last)); });
      });
    };
    auto accumulate = [&] {
      if (target.registers < 32) {
        blocks(0, 12, 6);
        blocks(12, kColumn, 4);
        return;
      }
      int64_t rows = vectors == 1 ? kColumn : 8;
      if (of.weighs) {
        weighAndAdd(rowsAt(lane0, rows), lane0);
      }
      blocks(of.weighs ? rows : 0, kColumn, rows);
    };
    auto clear = [&] {
      loop(lane0, add(lane0, kColumn), 1,
           [&](Value lane) { storeSums(rowsAt(lane, 1), Values(vectors, constant(vec(f32), 0.0))); });
    };
    if (!of.begins) {
      return ifThen(lt(first, last), accumulate);
    }
    ifElse(lt(first, last), accumulate, [&] { ifThen(of.begins, clear); });
  });
}

/// Blocks of two registers of columns; the last block may be narrower.
void TileBody::accumulateColumns(Sources of) {
  int64_t vectors = 2, block = vectors * vl, whole = d / block * block, done = 0;
  if (of.weighs && whole) {
    accumulateBlock(of, c(0), vectors, vl);
    of.weighs = false;
    done = block;
  }
  if (done < whole) {
    loop(c(done), c(whole), block, [&](Value column) { accumulateBlock(of, column, vectors, vl); });
  }
  if (int64_t rest = d - whole) {
    int64_t narrow = (rest + vl - 1) / vl;
    // Staged pairs are padded with zeros.
    accumulateBlock(of, c(whole), narrow, pairs ? vl : rest - (narrow - 1) * vl);
  }
}

void TileBody::accumulate(int64_t fetch) {
  accumulateColumns({args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7], {}, fetch, false});
}

void TileBody::softmaxAccumulate(int64_t fetch) {
  Value begins = cmp(arith::CmpIPredicate::ne, args[12], c(0));
  accumulateColumns({args[0], args[1], args[2], args[3], args[9], args[10], args[8], args[11], begins, fetch, true});
}

/// For one column: the rows of a few keys stay in the first-level cache until all lanes have them; meanwhile those of
/// the next keys are asked for, by the last keys the rows that come next. Pairs are made of adjacent bf16 on the way.
void TileBody::accumulateFew(int64_t fetch) {
  int64_t rows = pairs ? 8 : 4, block = (pairs ? 2 : 4) * vl;
  Value lanes = args[2], last = args[9];
  Value laneBlocks = floorDiv(add(lanes, rows - 1), rows);
  // In the order of memory: so many lines a turn of one block of lanes, or of several.
  int64_t turns = (d + block - 1) / block * (kRun / (pairs ? 2 : 1)), all = kRun * ((fetch + 63) / 64);
  int64_t most = (all + turns - 1) / turns;
  Value share = floorDiv(c(all << 16), mul(laneBlocks, turns));
  loop(c(0), last, kRun, [&, last = last](Value key) {
    Value end = min(add(key, kRun), last), following = add(key, rowsAhead(fetch));
    Value beyond = existing(add(following, rowsBeyond(fetch)), kRun, last);
    following = existing(following, kRun, last);
    auto rowsFrom = [&](Value number) { return fewAhead(number, last, args[4], args[7]); };
    auto distance = [&](Value number) { return select(lt(number, last), c(0), args[8]); };
    FewKeys keys{key, end, {{rowsFrom(following), distance(following)}, {rowsFrom(beyond), distance(beyond)}},
                 0,   {},  share};
    for (int64_t column = 0; column < d; column += block) {
      loop(c(0), lanes, rows, [&](Value lane) {
        // Of a column, only its own keys; without any, other keys' weights are 0.
        auto [begin, until] = keysOf(args[1], floorDiv(lane, kColumn));
        FewKeys own = keys;
        own.first = max(begin, key), own.last = min(until, end);
        own.turn = mul(add(mul(laneBlocks, column / block), floorDiv(lane, rows)), kRun / (pairs ? 2 : 1));
        std::function<void(int64_t)> choose = [&](int64_t lines) {
          auto asking = [&, own]() mutable {
            own.lines = lines;
            accumulateFewBlock(lane, rows, column, std::min(block, d - column), own, key, fetch);
          };
          int64_t fewer = (lines + 1) / 2;
          if (lines < 2) {
            return asking();
          }
          ifElse(lt(mul(laneBlocks, fewer), c(most)), asking, [&] { choose(fewer); });
        };
        choose(most);
      });
    }
  });
}

/// The requests of one turn: so many lines of the rows of `fetch` bytes, or a share of one.
void TileBody::askFew(const FewKeys &keys, Value turn, int64_t fetch) {
  int64_t lines = (fetch + 63) / 64, all = kRun * lines;
  auto ask = [&](Value line, int64_t count) {
    Value row = floorDiv(line, lines), offset = mul(floorMod(line, lines), 64);
    for (int level : {1, 2}) {
      const FewKeys::Ahead &ahead = keys.ahead[level - 1];
      prefetch(at(at(rowAddress(ahead.rows, row), ahead.distance), offset), count * 64, level);
    }
  };
  if (keys.lines < 2) {
    return ask(floorDiv(mul(turn, keys.share), 1 << 16), 1);
  }
  // Past the end of a row lies the next one as a rule.
  ask(min(mul(turn, keys.lines), c(all - keys.lines)), keys.lines);
}

/// `rows` lanes by `width` elements of V from `column`, for keys of the run that begins at `run`.
void TileBody::accumulateFewBlock(Value lane, int64_t rows, int64_t column, int64_t width, const FewKeys &keys,
                                  Value run, int64_t fetch) {
  Value scores = args[0], table = args[4], blockPitch = args[5], acc = args[6];
  int64_t vectors = (width + vl - 1) / vl, pitch = paddedRow(d) * 4, together = pairs ? 2 : 1;
  Value to = at(acc, add(mul(lane, pitch), column * 4));
  Value p = at(scores, add(mul(floorDiv(lane, kColumn), args[3]), mul(floorMod(lane, kColumn), 4)));
  Values init;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < vectors; ++j) {
      init.push_back(loadRow(at(to, i * pitch + j * vl * 4)));
    }
  }
  Values sums = loop(keys.first, keys.last, together, init, [&](Value k, ValueRange sum) {
    Value number = sub(k, run);
    askFew(keys, add(keys.turn, floorDiv(number, together)), fetch);
    Value even = rowAddress(table, k), odd, keep;
    if (pairs) {
      // Of an odd count, the last row stands in for its partner and is then cleared.
      Value has = lt(add(k, 1), keys.last);
      odd = rowAddress(table, select(has, add(k, 1), k));
      keep = splat(select(has, c32(-1), c32(0)));
    }
    SmallVector<Value> x;
    for (int64_t j = 0; j < vectors; ++j) {
      int64_t dim = column + j * vl, valid = std::min(vl, d - dim);
      if (pairs) {
        x.push_back(interleave(loadHalves(at(even, dim * 2), valid), both(loadHalves(at(odd, dim * 2), valid), keep)));
      } else {
        Value inRow = add(mul(blockPitch, dim / kValueBlock), dim % kValueBlock * 4);
        x.push_back(loadTail(at(even, inRow), valid));
      }
    }
    Value pk = at(p, mul(pairs ? floorDiv(k, 2) : k, kRow));
    Values next;
    for (int64_t i = 0; i < rows; ++i) {
      Value a = splat(load(f32, at(pk, i * 4), 4));
      for (int64_t j = 0; j < vectors; ++j) {
        next.push_back(multiplyAdd(a, x[j], sum[i * vectors + j]));
      }
    }
    return next;
  });
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < vectors; ++j) {
      store(sums[i * vectors + j], at(to, i * pitch + j * vl * 4), 4);
    }
  }
}

void TileBody::accumulateExact() {
  Value scores = args[0], columns = args[1], lanes = args[2], pitch = args[3], table = args[4], blockPitch = args[5],
        stride = args[6], acc = args[7];
  loop(c(0), lanes, 1, [&](Value lane) {
    Value column = floorDiv(lane, kColumn), in = floorMod(lane, kColumn);
    auto [first, last] = keysOf(columns, column);
    Value strip = at(scores, mul(column, pitch)), to = at(acc, mul(lane, paddedRow(d) * 4));
    loop(first, last, 1, [&](Value k) {
      Value p;
      if (pairs) {
        Value word = at(strip, add(mul(floorDiv(k, 2), kRow), mul(in, 4)));
        p = loadAsF32(storage, at(word, mul(floorMod(k, 2), 2)), false);
      } else {
        p = load(f32, at(strip, add(mul(k, kRow), mul(in, 4))), 4);
      }
      ifThen(cmp(arith::CmpFPredicate::UNE, p, constant(f32, 0.0)), [&] {
        Value row = rowAddress(table, k);
        loop(c(0), c(d), 1, [&](Value dim) {
          Value address = at(to, mul(dim, 4));
          Value v = loadAsF32(pairs ? storage : f32, inBlocks(row, dim, blockPitch, stride), false);
          store(fma(p, v, load(f32, address, 4)), address, 4);
        });
      });
    });
  });
}

} // namespace heddle
