//===- TileDots.cpp - S = K Q of a tile -----------------------------------===//

#include "passes/TileBody.h"

using namespace mlir;

namespace heddle {

/// S[key][lane] = sum over d of row[key][d] * Qt[d][lane], six keys by as many columns as the group has.
void TileBody::dots(int64_t fetch) {
  if (tiles) {
    return dotsTiles(fetch);
  }
  int64_t lastPart = (parts() - 1) * partWords();
  if (parts() > 1) {
    dotsPass(c(0), c(partWords()), true, false, fetch);
  }
  if (parts() > 2) {
    loop(c(partWords()), c(lastPart), partWords(),
         [&](Value from) { dotsPass(from, add(from, partWords()), false, false, fetch); });
  }
  dotsPass(c(lastPart), c(words()), parts() == 1, true, fetch);
}

/// One part of the rows. The table and S have room for whole groups of keys.
void TileBody::dotsPass(Value from, Value until, bool fresh, bool last, int64_t fetch) {
  Value table = args[0], count = args[1], groups = args[2], qt = args[3], scores = args[4], pitch = args[5],
        tops = args[6];
  Value groupCount = floorDiv(add(count, kKeyGroup - 1), c(kKeyGroup));
  loop(c(0), c(kLanes), 64, [&](Value lane) {
    Value half = kLanes == 64 ? qt : at(qt, mul(floorDiv(lane, 64), words() * 256));
    Value base = floorDiv(lane, kColumn);
    loop(c(0), groupCount, 1, [&](Value group) {
      Value key = mul(group, kKeyGroup), range = at(groups, mul(group, 8));
      auto bound = [&](int64_t offset) {
        Value column = sub(toInt(load(i32, at(range, offset), 4), i64), base);
        return max(min(column, c(64 / kColumn)), c(0));
      };
      Value first = bound(0), width = sub(bound(4), first);
      SmallVector<Value> rows;
      for (int64_t i = 0; i < kKeyGroup; ++i) {
        rows.push_back(rowAddress(table, add(key, i)));
      }
      // Requests go beside the multiplications of one pass where there are many, else before them.
      bool spread = fetch > 0 && this->target.registers >= 32;
      Value many = spread ? asks(args[7]) : constant(i1, int64_t(0));
      if (fresh) {
        ifElse(
            many, [] {},
            [&] {
              for (int64_t i = 0; i < kKeyGroup; ++i) {
                prefetch(rowAddress(table, add(key, kKeyGroup + i)), d * bytes);
              }
            });
      }
      auto block = [&](Value column, int64_t columns, bool asks) {
        Value s = at(scores, add(mul(add(base, column), pitch), mul(key, kRow)));
        Value top = at(tops, mul(add(base, column), kColumn * 4));
        auto ask = [&](Value turn) { askBeside(turn, key, from, fetch); };
        dotsBlock(rows, at(half, mul(column, kColumn * 4)), s, top, columns, from, until, fresh, last,
                  asks ? Ask(ask) : nullptr);
      };
      if (this->target.registers < 32) {
        loop(first, add(first, width), 1, [&](Value column) { block(column, 1, false); });
        return;
      }
      std::function<void(int64_t)> choose = [&](int64_t columns) {
        if (columns > 0) {
          ifElse(
              eq(width, c(columns)),
              [&] {
                if (spread && columns == 64 / kColumn) {
                  ifElse(many, [&] { block(first, columns, true); }, [&] { block(first, columns, false); });
                } else {
                  block(first, columns, spread);
                }
              },
              [&] { choose(columns - 1); });
        }
      };
      choose(64 / kColumn);
    });
  });
}

/// The dots of one group of keys with `columns` columns, for elements [from, until) of the rows.
void TileBody::dotsBlock(ArrayRef<Value> rows, Value qt, Value s, Value tops, int64_t columns, Value from, Value until,
                         bool fresh, bool last, const Ask &ask) {
  Value pitch = args[5];
  int64_t keys = static_cast<int64_t>(rows.size());
  int64_t perColumn = kColumn / vl, registers = columns * perColumn;
  int64_t atOnce = target.registers >= 32 ? registers : std::min<int64_t>(registers, 2);
  for (int64_t r0 = 0; r0 < registers; r0 += atOnce) {
    SmallVector<Value> places; // of the first key
    for (int64_t r = r0; r < r0 + atOnce; ++r) {
      Value column = r < perColumn ? s : at(s, mul(pitch, r / perColumn));
      places.push_back(at(column, (r % perColumn) * vl * 4));
    }
    Values init;
    for (int64_t i = 0; i < keys; ++i) {
      for (Value place : places) {
        init.push_back(fresh ? constant(vec(f32), 0.0) : loadRow(at(place, i * kRow)));
      }
    }
    Value q = at(qt, r0 * vl * 4);
    auto step = [&](Value dim, ValueRange acc) {
      Value qd = at(q, mul(dim, 256)), byte = mul(dim, 4);
      SmallVector<Value> x;
      for (int64_t j = 0; j < atOnce; ++j) {
        x.push_back(loadRow(at(qd, j * vl * 4)));
      }
      Values next;
      for (int64_t i = 0; i < keys; ++i) {
        Value a = splat(load(f32, at(rows[i], byte), pairs ? 2 : 4));
        for (int64_t j = 0; j < atOnce; ++j) {
          next.push_back(multiplyAdd(a, x[j], acc[i * atOnce + j]));
        }
      }
      return next;
    };
    Values sums;
    if (ask) {
      // Spread over the loop: of requests in a burst, all that the cache has no room to note are lost.
      sums = loop(from, until, kTurn, init, [&](Value turn, ValueRange acc) {
        ask(floorDiv(sub(turn, from), kTurn));
        Value end = add(turn, kTurn);
        return loop(turn, partWords() % kTurn == 0 && words() % partWords() == 0 ? end : min(end, until), 1, acc, step);
      });
    } else {
      sums = loop(from, until, 1, init, step);
    }
    for (int64_t j = 0; j < atOnce; ++j) {
      for (int64_t i = 0; i < keys; ++i) {
        store(sums[i * atOnce + j], at(places[j], i * kRow), 4);
      }
      if (last) {
        Value address = at(tops, (r0 + j) * vl * 4), top = loadRow(address);
        for (int64_t i = 0; i < keys; ++i) {
          top = max(sums[i * atOnce + j], top);
        }
        store(top, address, 4);
      }
    }
  }
}

void TileBody::narrow() {
  Value qt = args[0], lanes = args[1], to = args[2];
  Type part = VectorType::get({kNarrow}, f32);
  ifThen(le(lanes, c(kNarrow)), [&] {
    loop(c(0), c(words()), 1,
         [&](Value dim) { store(load(part, at(qt, mul(dim, kLanes * 4)), 4), at(to, mul(dim, kNarrow * 4)), 4); });
  });
}

TileBody::Values TileBody::transposed(ArrayRef<Value> four) {
  auto mix = [&](Value x, Value y, ArrayRef<int64_t> order) {
    SmallVector<int64_t> all;
    for (int64_t base = 0; base < vl; base += 4) {
      for (int64_t n : order) {
        all.push_back(n < 4 ? base + n : vl + base + n - 4);
      }
    }
    return vector::ShuffleOp::create(b, loc, x, y, all).getResult();
  };
  Values low, high;
  for (int64_t n = 0; n < 4; n += 2) {
    low.push_back(mix(four[n], four[n + 1], {0, 4, 1, 5}));
    high.push_back(mix(four[n], four[n + 1], {2, 6, 3, 7}));
  }
  return {mix(low[0], low[1], {0, 1, 4, 5}), mix(low[0], low[1], {2, 3, 6, 7}), mix(high[0], high[1], {0, 1, 4, 5}),
          mix(high[0], high[1], {2, 3, 6, 7})};
}

TileBody::Values TileBody::columnsOf(ArrayRef<Value> rows, Value dim, int64_t valid) {
  Type part = VectorType::get({4}, f32);
  Value byte = mul(dim, 4);
  auto piece = [&](Value row) -> Value {
    Value address = at(row, byte);
    if (valid == 4) {
      return load(part, address, pairs ? 2 : 4);
    }
    Value some = constant(part, 0.0);
    for (int64_t x = 0; x < valid; ++x) {
      some = vector::InsertOp::create(b, loc, load(f32, at(address, x * 4), pairs ? 2 : 4), some, x);
    }
    return some;
  };
  Values four;
  for (int64_t n = 0; n < 4; ++n) {
    Value all = constant(vec(f32), 0.0);
    for (int64_t m = 0; m < 4; ++m) {
      all = vector::InsertStridedSliceOp::create(b, loc, piece(rows[4 * m + n]), all, ArrayRef<int64_t>{4 * m},
                                                 ArrayRef<int64_t>{1});
    }
    four.push_back(all);
  }
  return transposed(four);
}

/// Keys lie on lanes: rows are transposed on the way, four words at a time, and a query's word is the same for all. A
/// column of 16 lanes with few queries would do twice and more the multiply-adds. Each dot is summed in the same order.
void TileBody::dotsNarrow(Value key, int64_t lanes, int64_t blocks, bool adjacent) {
  Value table = args[0], count = args[1], queries = args[2], scores = args[4], tops = args[6], values = args[7];
  constexpr int64_t kWords = 4;
  int64_t keys = blocks * kNarrowKeys;
  SmallVector<Value> rows(1, rowAddress(table, key));
  for (int64_t i = 1; i < keys; ++i) {
    rows.push_back(adjacent ? at(rows[0], i * d * bytes) : rowAddress(table, add(key, i)));
  }
  Value following = add(key, rowsAhead(d * bytes)), farther = add(following, rowsBeyond(d * bytes));
  Value ahead = fewAhead(existing(following, keys, count), count, table, values);
  Value beyond = fewAhead(existing(farther, keys, count), count, table, values);
  // In the order of memory, and spread over the loop: of requests in a burst, all that the cache has no room to note
  // are lost.
  int64_t whole = words() / kWords * kWords, steps = std::max<int64_t>(whole / kWords, 1),
          lines = (d * bytes + 63) / 64;
  int64_t rowsPerStep = (keys + steps - 1) / steps, stepsPerRow = std::max<int64_t>(steps / keys, 1);
  int64_t linesPerStep = (lines + stepsPerRow - 1) / stepsPerRow;
  auto ask = [&](Value number) {
    Value first = mul(floorDiv(number, stepsPerRow), rowsPerStep);
    Value offset = mul(floorMod(number, stepsPerRow), linesPerStep * 64);
    for (int64_t i = 0; i < rowsPerStep; ++i) {
      Value row = min(add(first, i), c(keys - 1));
      prefetch(at(rowAddress(ahead, row), offset), linesPerStep * 64);
      prefetch(at(rowAddress(beyond, row), offset), linesPerStep * 64, 2);
    }
  };
  auto step = [&](Value dim, int64_t valid, ValueRange sums) {
    std::vector<Values> columns;
    for (int64_t block = 0; block < blocks; ++block) {
      columns.push_back(columnsOf(ArrayRef<Value>(rows).slice(block * kNarrowKeys, kNarrowKeys), dim, valid));
    }
    Values now(sums);
    Value q = at(queries, mul(dim, kNarrow * 4));
    for (int64_t w = 0; w < valid; ++w) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        Value x = splat(load(f32, at(q, (w * kNarrow + lane) * 4), 4));
        for (int64_t block = 0; block < blocks; ++block) {
          Value &sum = now[lane * blocks + block];
          sum = multiplyAdd(columns[block][w], x, sum);
        }
      }
    }
    return now;
  };
  Values sums(lanes * blocks, constant(vec(f32), 0.0));
  if (whole > 0) {
    sums = loop(c(0), c(whole), kWords, sums, [&](Value dim, ValueRange acc) {
      ask(floorDiv(dim, kWords));
      return step(dim, kWords, acc);
    });
  } else {
    ask(c(0));
  }
  if (whole < words()) {
    sums = step(c(whole), words() - whole, sums);
  }
  // Back to S[key][lane]; lanes without a query repeat others.
  Value top = loadRow(tops);
  for (int64_t block = 0; block < blocks; ++block) {
    auto quarter = [&](int64_t lane) {
      Values four;
      for (int64_t n = 0; n < 4; ++n) {
        four.push_back(sums[(lane + n) * blocks + block]);
      }
      return transposed(four);
    };
    // low[n] has lanes 0 to 3 of keys n, 4 + n, 8 + n, 12 + n.
    Values low = quarter(0), high = lanes > 4 ? quarter(4) : low;
    for (int64_t i = 0; i < kNarrowKeys; ++i) {
      SmallVector<int64_t> order;
      for (int64_t x = 0; x < vl; ++x) {
        order.push_back((x % 8 < 4 ? 0 : vl) + i / 4 * 4 + x % 4);
      }
      Value row = vector::ShuffleOp::create(b, loc, low[i % 4], high[i % 4], order);
      store(row, at(scores, mul(add(key, block * kNarrowKeys + i), kRow)), 4);
      top = max(row, top);
    }
  }
  store(top, tops, 4);
}

/// Whether the `keys` rows from `key` on follow each other in memory.
Value TileBody::adjacentRows(Value key, int64_t keys) {
  Value first = at(args[0], mul(key, 8)), base = load(i64, first, 8), step = constant(vec(i64), d * bytes);
  Value place = add(splat(base), mul(iota(), step)), apart = constant(vec(i1), int64_t(0));
  for (int64_t i = 0; i < keys; i += vl) {
    Value address = load(vec(i64), at(first, i * 8), 8), expected = add(place, constant(vec(i64), i * d * bytes));
    apart = either(apart, cmp(arith::CmpIPredicate::ne, address, expected));
  }
  return flip(any(apart));
}

void TileBody::dotsFew() {
  if (tiles) {
    return dotsFewTiles();
  }
  Value count = args[1], lanes = args[5];
  auto narrow = [&] {
    int64_t step = 2 * kNarrowKeys;
    Value whole = mul(floorDiv(count, step), step);
    auto blocks = [&](int64_t lanes) {
      loop(c(0), whole, step, [&](Value key) {
        // As many addresses as rows are more than the registers hold: of adjacent rows, one is enough.
        ifElse(
            adjacentRows(key, step), [&] { dotsNarrow(key, lanes, 2, true); },
            [&] { dotsNarrow(key, lanes, 2, false); });
      });
    };
    ifElse(le(lanes, c(kNarrow / 2)), [&] { blocks(kNarrow / 2); }, [&] { blocks(kNarrow); });
    loop(whole, count, kNarrowKeys, [&](Value key) { dotsNarrow(key, kNarrow, 1, false); });
  };
  ifElse(le(lanes, c(kNarrow)), narrow, [&] { dotsColumn(); });
}

/// The dots of one column, twelve keys at once: six would wait for their sums. Each group of keys asks for the rows of
/// the one after the next, the last ones for those of the first values.
void TileBody::dotsColumn() {
  Value table = args[0], count = args[1], qt = args[3], scores = args[4], tops = args[6], values = args[7];
  for (int64_t part = 0; part < parts(); ++part) {
    int64_t from = part * partWords(), until = std::min(words(), from + partWords());
    // Lines of a row that this part reads, and those of each turn.
    int64_t line0 = from * 4 / 64, lines = (until * 4 + 63) / 64 - line0, turns = (until - from + kTurn - 1) / kTurn;
    int64_t perTurn = (kFewKeys * lines + turns - 1) / turns;
    loop(c(0), count, kFewKeys, [&](Value key) {
      SmallVector<Value> rows;
      for (int64_t i = 0; i < kFewKeys; ++i) {
        rows.push_back(rowAddress(table, add(key, i)));
      }
      Value s = at(scores, mul(key, kRow)), following = add(key, 2 * kFewKeys);
      Value ahead = fewAhead(existing(following, kFewKeys, count), count, table, values);
      Value beyond = fewAhead(existing(add(following, 2 * kFewKeys), kFewKeys, count), count, table, values);
      auto ask = [&](Value turn) {
        for (int64_t n = 0; n < perTurn; ++n) {
          Value number = min(add(mul(turn, perTurn), n), c(kFewKeys * lines - 1)), row = floorDiv(number, lines);
          Value offset = add(mul(floorMod(number, lines), 64), line0 * 64);
          prefetch(at(rowAddress(ahead, row), offset), 64);
          prefetch(at(rowAddress(beyond, row), offset), 64, 2);
        }
      };
      dotsBlock(rows, qt, s, tops, 1, c(from), c(until), part == 0, part + 1 == parts(), Ask(ask));
    });
  }
}

} // namespace heddle
