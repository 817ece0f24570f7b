//===- TileRows.cpp - Rows of queries, keys, values and results -----------===//

#include "passes/TileBody.h"
#include "passes/Transpose.h"

using namespace mlir;

namespace heddle {

/// Qt[d][lane] = scale * row[lane][d]: squares of vl x vl are transposed in registers where the elements of a
/// row are adjacent. Pairs of bf16 are words of 32 bits; they are exact, so the scale only gives its sign here.
void TileBody::pack() {
  Value rows = args[0], stride = args[1], scale = args[2], qt = args[3];
  Value lanes = mul(columnCount(args[4]), kColumn);
  int64_t count = words(), whole = pairs ? d / 2 : d; // the last pair of an odd d has one element
  Type word = pairs ? i32 : f32;
  Value flip;
  if (pairs) {
    Value negative = cmp(arith::CmpFPredicate::OLT, scale, constant(f32, 0.0));
    flip = select(negative, c32(int64_t(0x80008000)), c32(0));
  }
  auto scaled = [&](Value x) {
    if (pairs) {
      return arith::XOrIOp::create(b, loc, x, isVector(x) ? splat(flip) : flip).getResult();
    }
    return mul(x, isVector(x) ? splat(scale) : scale);
  };
  // Qt of the 64 lanes that `lane` is in, at that lane.
  auto target = [&](Value lane, Value dim) {
    Value block = kLanes == 64 ? qt : at(qt, mul(floorDiv(lane, 64), count * 256));
    return at(block, add(mul(dim, 256), mul(floorMod(lane, 64), 4)));
  };
  auto element = [&](Value row, Value dim) {
    Value bits = load(i16, at(row, mul(dim, stride)), 2);
    return arith::ExtUIOp::create(b, loc, i32, bits).getResult();
  };
  auto scalar = [&](Value lane, Value row, Value dim, bool lonely) {
    Value x;
    if (!pairs) {
      x = loadAsF32(storage, at(row, mul(dim, stride)), false);
    } else {
      x = element(row, mul(dim, 2));
      if (!lonely) {
        x = either(x, arith::ShLIOp::create(b, loc, element(row, add(mul(dim, 2), 1)), c32(16)));
      }
    }
    store(scaled(x), target(lane, dim), 4);
  };
  auto scalars = [&](Value lane, Value row, Value from) {
    loop(from, c(whole), 1, [&](Value dim) { scalar(lane, row, dim, false); });
    if (whole < count) {
      scalar(lane, row, c(whole), true);
    }
  };
  auto anyStride = [&] { loop(c(0), lanes, 1, [&](Value lane) { scalars(lane, rowAddress(rows, lane), c(0)); }); };
  auto adjacent = [&] {
    int64_t square = whole / vl * vl;
    loop(c(0), lanes, vl, [&](Value lane) {
      SmallVector<Value> addresses;
      for (int64_t r = 0; r < vl; ++r) {
        addresses.push_back(rowAddress(rows, add(lane, r)));
      }
      if (square) {
        loop(c(0), c(square), vl, [&](Value dim) {
          SmallVector<Value> r;
          for (Value a : addresses) {
            r.push_back(pairs ? load(vec(word), at(a, mul(dim, 4)), 2)
                              : loadAsF32(storage, at(a, mul(dim, bytes)), true));
          }
          transposeSquare(*this, r);
          for (int64_t x = 0; x < vl; ++x) {
            store(scaled(r[x]), target(lane, add(dim, x)), 4);
          }
        });
      }
      if (square < count) {
        for (int64_t x = 0; x < vl; ++x) {
          scalars(add(lane, x), addresses[x], c(square));
        }
      }
    });
  };
  ifElse(eq(stride, c(bytes)), adjacent, anyStride);
}

/// Rows become f32 rows of the buffer, in blocks of kValueBlock elements, and the table points to them.
void TileBody::stage() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3], rowPitch = args[4], blockPitch = args[5];
  auto eachRow = [&](llvm::function_ref<void(Value, Value)> copy) {
    loop(c(0), count, 1, [&](Value k) {
      Value row = rowAddress(table, k), to = at(buffer, mul(k, rowPitch));
      copy(row, to);
      store(to, at(table, mul(k, 8)), 8);
    });
  };
  auto adjacent = [&](Value row, Value to) {
    // Whole registers, then ever narrower ones for the rest.
    int64_t done = 0;
    for (int64_t width = vl; width >= 1; width /= 2) {
      int64_t end = done + (d - done) / width * width;
      VectorTarget narrow = this->target;
      narrow.width = width;
      Emitter piece(b, loc, narrow);
      inPieces(done, end, width, [&](Value dim) {
        Value place = inBlocks(to, dim, blockPitch, c(4));
        piece.store(piece.loadAsF32(storage, at(row, mul(dim, bytes)), width > 1), place, 4);
      });
      done = end;
    }
  };
  auto anyStride = [&](Value row, Value to) {
    loop(c(0), c(d), 1, [&](Value dim) {
      Value x = loadAsF32(storage, at(row, mul(dim, stride)), false);
      store(x, inBlocks(to, dim, blockPitch, c(4)), 4);
    });
  };
  ifElse(eq(stride, c(bytes)), [&] { eachRow(adjacent); }, [&] { eachRow(anyStride); });
}

/// body(from), body(from + step), ... < end: straight code where it is short.
void TileBody::inPieces(int64_t from, int64_t end, int64_t step, llvm::function_ref<void(Value)> body) {
  if (end - from > 8 * step) {
    return loop(c(from), c(end), step, body);
  }
  for (; from < end; from += step) {
    body(c(from));
  }
}

/// 16 bits of each of vl elements from `dim`, as the low half of words; only `valid` of them exist.
Value TileBody::loadBits(Value row, Value dim, Value stride, bool adjacent, int64_t valid) {
  if (adjacent && valid == vl) {
    return arith::ExtUIOp::create(b, loc, vec(i32), load(vec(i16), at(row, mul(dim, 2)), 2));
  }
  Value v = constant(vec(i32), int64_t(0));
  for (int64_t x = 0; x < valid; ++x) {
    Value bits = load(i16, at(row, mul(add(dim, x), stride)), 2);
    v = vector::InsertOp::create(b, loc, arith::ExtUIOp::create(b, loc, i32, bits), v, x);
  }
  return v;
}

Value TileBody::interleave(Value even, Value odd) {
  return either(even, arith::ShLIOp::create(b, loc, odd, constant(vec(i32), int64_t(16))));
}

/// V[block][pair][column] = (row[2 pair][column], row[2 pair + 1][column]); the row after the last is 0.
void TileBody::stagePairs() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3], blockPitch = args[4];
  auto copy = [&](bool adjacent) {
    loop(c(0), count, 2, [&](Value k) {
      Value even = rowAddress(table, k);
      // Of an odd count, the last row stands in for its partner and is then cleared.
      Value has = lt(add(k, 1), count);
      Value odd = rowAddress(table, select(has, add(k, 1), k));
      Value keep = splat(select(has, c32(-1), c32(0)));
      Value to = at(buffer, mul(k, kRow));
      auto piece = [&](Value dim, int64_t valid) {
        Value x = loadBits(even, dim, stride, adjacent, valid);
        Value y = both(loadBits(odd, dim, stride, adjacent, valid), keep);
        store(interleave(x, y), inBlocks(to, dim, blockPitch, c(4)), 4);
      };
      int64_t whole = d / vl * vl;
      inPieces(0, whole, vl, [&](Value dim) { piece(dim, vl); });
      if (whole < d) {
        piece(c(whole), d - whole);
      }
    });
  };
  ifElse(eq(stride, c(2)), [&] { copy(true); }, [&] { copy(false); });
}

/// 16-bit rows become contiguous, with a zero behind an odd end; the table points to them.
void TileBody::stageRows() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3];
  loop(c(0), count, 1, [&](Value k) {
    Value row = rowAddress(table, k), to = at(buffer, mul(k, paddedRow(d) * 4));
    loop(c(0), c(d), 1, [&](Value dim) { store(load(i16, at(row, mul(dim, stride)), 2), at(to, mul(dim, 2)), 2); });
    if (d % 2) {
      store(constant(i16, int64_t(0)), at(to, d * 2), 2);
    }
    store(to, at(table, mul(k, 8)), 8);
  });
}

/// out[d] = acc[d] * factor for each lane with a row of out. A factor of 0 gives 0 whatever acc holds. Returns whether
/// all of these acc are finite: x * 0 is 0 then.
Value TileBody::finish() {
  Value lanes = args[0], rows = args[1], factors = args[2], outs = args[3], stride = args[4];
  Value zero = constant(f32, 0.0), zeros = constant(vec(f32), 0.0);
  int64_t whole = d / vl * vl, chains = std::clamp<int64_t>(d / vl, 1, 4);
  auto scalars = [&](Value row, Value factor, Value dead, Value out, int64_t first) {
    loop(c(first), c(d), 1, [&](Value dim) {
      Value x = mul(load(f32, at(row, mul(dim, 4)), 4), factor);
      storeF32As(storage, select(dead, zero, x), at(out, mul(dim, stride)));
    });
  };
  auto registerOf = [&](Value row, Value factor, Value dead, Value out, Value dim, Value sum) {
    Value x = loadRow(at(row, mul(dim, 4)));
    storeF32As(storage, select(dead, zeros, mul(x, factor)), at(out, mul(dim, bytes)));
    return fma(x, zeros, sum);
  };
  auto adjacent = [&](Value row, Value factor, Value dead, Value out, ValueRange sums) {
    Value all = splat(factor), deads = splat(dead);
    int64_t looped = whole <= 8 * vl ? 0 : whole / (chains * vl) * chains * vl;
    Values next = loop(c(0), c(looped), chains * vl, Values(sums), [&](Value dim, ValueRange own) {
      Values each;
      for (int64_t r = 0; r < chains; ++r) {
        each.push_back(registerOf(row, all, deads, out, add(dim, r * vl), own[r]));
      }
      return each;
    });
    for (int64_t dim = looped; dim < whole; dim += vl) {
      Value &sum = next[dim / vl % chains];
      sum = registerOf(row, all, deads, out, c(dim), sum);
    }
    if (whole < d) {
      scalars(row, factor, dead, out, whole);
      next[0] = fma(loadTail(at(row, whole * 4), d - whole), zeros, next[0]);
    }
    return next;
  };
  auto anyStride = [&](Value row, Value factor, Value dead, Value out, ValueRange sums) {
    scalars(row, factor, dead, out, 0);
    return Values{loop(c(0), c(d), 1, Values{sums[0]}, [&](Value dim, ValueRange sum) {
      return Values{fma(splat(load(f32, at(row, mul(dim, 4)), 4)), zeros, sum[0])};
    })};
  };
  auto eachRow = [&](int64_t count, llvm::function_ref<Values(Value, Value, Value, Value, ValueRange)> body) {
    return loop(c(0), lanes, 1, Values(count, zeros), [&](Value lane, ValueRange sums) {
      Value out = load(i64, at(outs, mul(lane, 8)), 8);
      return ifElse(
          cmp(arith::CmpIPredicate::ne, out, c(0)), sums.getTypes(),
          [&] {
            Value factor = load(f32, at(factors, mul(lane, 4)), 4);
            Value dead = cmp(arith::CmpFPredicate::OEQ, factor, zero);
            return body(rowAddress(rows, lane), factor, dead, toPtr(out), sums);
          },
          [&] { return Values(sums); });
    });
  };
  auto bad = [&](Values sums) {
    Value sum = sums[0];
    for (Value more : ArrayRef<Value>(sums).drop_front()) {
      sum = add(sum, more);
    }
    return Values{any(cmp(arith::CmpFPredicate::UNO, sum, sum))};
  };
  return flip(ifElse(
      eq(stride, c(bytes)), i1, [&] { return bad(eachRow(chains, adjacent)); },
      [&] { return bad(eachRow(1, anyStride)); })[0]);
}

} // namespace heddle
