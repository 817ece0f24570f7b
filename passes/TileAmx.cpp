//===- TileAmx.cpp - S = K Q by the processor's matrix tiles --------------===//
//
// With AMX, a tile of 16 keys by 32 features meets one of 32 features by 16
// lanes, which is what Qt in pairs is. All dots of bf16 take this way, also those
// at edges, so that a pair's dot has the same bits whatever lies beside it: the sum
// of a block of 32 features is rounded otherwise than a chain of vdpbf16ps.
//
//===----------------------------------------------------------------------===//

#include "passes/TileBody.h"

#include "mlir/Dialect/AMX/AMXDialect.h"

using namespace mlir;

namespace heddle {

/// Words of a row (pairs of features) in a matrix tile.
static constexpr int64_t kTileWords = 16;
static constexpr int64_t kQueryRow = 256; ///< bytes of Qt[pair]

/// A buffer of one dimension at an address, for the ops of the amx dialect.
static Value bufferAt(Emitter &e, Value address, Type element) {
  Type one = LLVM::LLVMArrayType::get(e.i64, 1);
  Type descriptor = LLVM::LLVMStructType::getLiteral(e.b.getContext(), {e.ptr, e.ptr, e.i64, one, one});
  Value d = LLVM::PoisonOp::create(e.b, e.loc, descriptor);
  auto set = [&](Value v, ArrayRef<int64_t> place) { d = LLVM::InsertValueOp::create(e.b, e.loc, d, v, place); };
  set(address, {0});
  set(address, {1});
  set(e.c(0), {2});
  set(e.c(0), {3, 0});
  set(e.c(1), {4, 0});
  auto type = MemRefType::get({ShapedType::kDynamic}, element);
  return UnrealizedConversionCastOp::create(e.b, e.loc, type, d).getResult(0);
}

static Value indexOf(Emitter &e, Value v) { return arith::IndexCastOp::create(e.b, e.loc, e.b.getIndexType(), v); }

/// Rows of `columns` elements that lie `stride` bytes apart.
static Value loadTile(Emitter &e, Value address, Value stride, int64_t rows, int64_t columns, Type element) {
  Value elements = e.floorDiv(stride, element.getIntOrFloatBitWidth() / 8), zero = indexOf(e, e.c(0));
  return amx::TileLoadOp::create(e.b, e.loc, amx::TileType::get({rows, columns}, element),
                                 bufferAt(e, address, element), ValueRange{zero}, indexOf(e, elements));
}

void TileBody::inTileParts(llvm::function_ref<void(const TilePart &)> body) {
  int64_t n = words(), parts = (n + kStep - 1) / kStep;
  int64_t step = ((n + parts - 1) / parts + kTileWords - 1) / kTileWords * kTileWords;
  for (int64_t from = 0; from < n; from += step) {
    body({from, std::min(step, n - from), from == 0, from + step >= n});
  }
}

/// Memory of the function for the rows of a part.
Value TileBody::tileRows() {
  OpBuilder::InsertionGuard guard(b);
  Type row = LLVM::LLVMArrayType::get(f32, kStep + kTileWords);
  return LLVM::AllocaOp::create(b, loc, ptr, row, c(kTileKeys), 64);
}

/// Where the words of 16 rows from `key` on lie, and how far apart; those that are not equally far apart are copied.
std::pair<Value, Value> TileBody::rowsOfTile(Value key, const TilePart &part, Value copies) {
  int64_t pitch = (kStep + kTileWords) * 4;
  Value entries = at(args[0], mul(key, 8)), first = load(i64, entries, 8);
  Value stride = sub(load(i64, at(entries, 8), 8), first);
  Value even = add(splat(first), mul(splat(stride), iota()));
  Value apart = any(cmp(arith::CmpIPredicate::ne, load(vec(i64), entries, 8), even));
  ifThen(apart, [&] {
    loop(c(0), c(kTileKeys), 1, [&](Value i) {
      Value from = at(rowAddress(entries, i), part.from * 4), to = at(copies, mul(i, pitch));
      int64_t whole = part.words / vl * vl;
      inPieces(0, whole, vl, [&](Value word) { store(loadRow(at(from, mul(word, 4)), 2), at(to, mul(word, 4)), 4); });
      if (whole < part.words) {
        store(loadTail(at(from, whole * 4), part.words - whole), at(to, whole * 4), 4);
      }
    });
  });
  return {select(apart, copies, at(load(ptr, entries, 8), part.from * 4)), select(apart, c(pitch), stride)};
}

/// S of 16 keys and `columns` columns, for one part of the features; beside(n) is called after each block of them.
void TileBody::tileProducts(std::pair<Value, Value> rows, Value qt, Value s, int64_t columns, const TilePart &part,
                            llvm::function_ref<void(int64_t)> beside) {
  Value pitch = args[5], row = c(kRow);
  Type bf16 = b.getBF16Type();
  auto sums = amx::TileType::get({kTileKeys, kColumn}, f32);
  Values sum;
  for (int64_t j = 0; j < columns; ++j) {
    sum.push_back(part.fresh ? Value(amx::TileZeroOp::create(b, loc, sums))
                             : loadTile(*this, at(s, mul(pitch, j)), row, kTileKeys, kColumn, f32));
  }
  for (int64_t w = 0; w < part.words; w += kTileWords) {
    int64_t n = std::min(kTileWords, part.words - w);
    Value k = loadTile(*this, at(rows.first, w * 4), rows.second, kTileKeys, 2 * n, bf16);
    for (int64_t j = 0; j < columns; ++j) {
      Value place = at(qt, (part.from + w) * kQueryRow + j * kColumn * 4);
      Value q = loadTile(*this, place, c(kQueryRow), n, 2 * kColumn, bf16);
      sum[j] = amx::TileMulFOp::create(b, loc, sums, k, q, sum[j]);
    }
    if (beside) {
      beside(w / kTileWords);
    }
  }
  for (int64_t j = 0; j < columns; ++j) {
    amx::TileStoreOp::create(b, loc, bufferAt(*this, at(s, mul(pitch, j)), f32), ValueRange{indexOf(*this, c(0))},
                             sum[j], indexOf(*this, floorDiv(row, 4)));
  }
}

/// tops = max(tops, S) of `keys` keys and one column.
void TileBody::raiseTops(Value s, Value tops, int64_t keys) {
  Value top = loadRow(tops);
  for (int64_t i = 0; i < keys; ++i) {
    top = max(loadRow(at(s, i * kRow)), top);
  }
  store(top, tops, 4);
}

/// Tiles take the columns that any of their keys' groups need; tops see what each group needs.
void TileBody::dotsTiles(int64_t fetch) {
  static_assert(kLanes == 64 && kColumn == 16);
  constexpr int64_t kBlock = 3 * kTileKeys; // as many keys as 8 groups
  Value count = args[1], groups = args[2], qt = args[3], scores = args[4], pitch = args[5], tops = args[6];
  Value copies = tileRows(), groupEnd = floorDiv(add(count, kKeyGroup - 1), c(kKeyGroup));
  auto rangeOf = [&](Value group) {
    Value range = at(groups, mul(group, 8));
    auto bound = [&](int64_t offset) { return toInt(load(i32, at(range, offset), 4), i64); };
    return std::pair(bound(0), bound(4));
  };
  inTileParts([&](const TilePart &part) {
    auto tile = [&](Value key) {
      Value group = floorDiv(key, c(kKeyGroup)), last = floorDiv(add(key, kTileKeys - 1), c(kKeyGroup));
      Value first = c(kLanes / kColumn), end = c(0);
      for (int64_t i = 0; i < 4; ++i) {
        auto [from, to] = rangeOf(min(add(group, i), min(last, add(groupEnd, -1))));
        first = min(first, from);
        end = max(end, to);
      }
      Value width = max(sub(end, first), c(0));
      auto rows = rowsOfTile(key, part, copies);
      Value q = at(qt, mul(first, kColumn * 4)), s = at(scores, add(mul(first, pitch), mul(key, kRow)));
      std::function<void(int64_t)> choose = [&](int64_t columns) {
        if (columns > 0) {
          ifElse(eq(width, c(columns)), [&] { tileProducts(rows, q, s, columns, part); }, [&] { choose(columns - 1); });
        }
      };
      choose(kLanes / kColumn);
    };
    auto afterwards = [&](Value group) {
      if (part.last) {
        auto [first, end] = rangeOf(group);
        loop(first, end, 1, [&](Value column) {
          Value s = at(scores, add(mul(column, pitch), mul(group, kKeyGroup * kRow)));
          raiseTops(s, at(tops, mul(column, kColumn * 4)), kKeyGroup);
        });
      }
      if (part.fresh && fetch > 0) {
        ifThen(asks(args[7]), [&] {
          for (int64_t rows = 0; rows < parts(); ++rows) {
            loop(c(0), c(turns()), 1,
                 [&](Value turn) { askBeside(turn, mul(group, kKeyGroup), c(rows * partWords()), fetch); });
          }
        });
      }
    };
    loop(c(0), count, kBlock, [&](Value key) {
      loop(key, min(add(key, kBlock), count), kTileKeys, tile);
      Value group = floorDiv(key, c(kKeyGroup));
      loop(group, min(add(group, kBlock / kKeyGroup), groupEnd), 1, afterwards);
    });
  });
}

/// One column, and the requests of dotsNarrow.
void TileBody::dotsFewTiles() {
  Value table = args[0], count = args[1], qt = args[3], scores = args[4], tops = args[6], values = args[7];
  Value copies = tileRows();
  inTileParts([&](const TilePart &part) {
    int64_t blocks = (part.words + kTileWords - 1) / kTileWords, each = (kTileKeys + blocks - 1) / blocks;
    loop(c(0), count, kTileKeys, [&](Value key) {
      Value following = add(key, rowsAhead(d * bytes)), farther = add(following, rowsBeyond(d * bytes));
      Value ahead = fewAhead(existing(following, kTileKeys, count), count, table, values);
      Value beyond = fewAhead(existing(farther, kTileKeys, count), count, table, values);
      auto ask = [&](int64_t block) {
        for (int64_t i = block * each; part.fresh && i < std::min((block + 1) * each, kTileKeys); ++i) {
          prefetch(rowAddress(ahead, c(i)), d * bytes);
          prefetch(rowAddress(beyond, c(i)), d * bytes, 2);
        }
      };
      Value s = at(scores, mul(key, kRow));
      tileProducts(rowsOfTile(key, part, copies), qt, s, 1, part, ask);
      if (part.last) {
        raiseTops(s, tops, kTileKeys);
      }
    });
  });
}

} // namespace heddle
