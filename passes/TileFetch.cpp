//===- TileFetch.cpp - Rows that micro-kernels ask for in passing ---------===//
//
// Tiles of short rows are bound by memory as much as by arithmetic. What a tile
// needs next is asked for among its multiplications, a piece of a row at a time:
// of requests in a burst, all that the cache has no room to note are lost.
//
//===----------------------------------------------------------------------===//

#include "passes/TileBody.h"

using namespace mlir;

namespace heddle {

/// True where the record names any rows.
Value TileBody::asks(Value record) { return lt(c(0), load(i64, at(record, fetch::kTurn), 8)); }

/// True where some of them are left.
Value TileBody::asksMore(Value record) {
  auto isLess = [&](int64_t x, int64_t y) { return lt(load(i64, at(record, x), 8), load(i64, at(record, y), 8)); };
  return both(asks(record), either(isLess(fetch::kEntry, fetch::kEntryEnd), isLess(fetch::kRun, fetch::kRunEnd)));
}

/// One turn's share of the requests for this part of the next group's keys, and of what the record names.
void TileBody::askBeside(Value turn, Value key, Value from, int64_t fetch) {
  int64_t part = parts() == 1 ? d * bytes : partWords() * 4;
  int64_t pieces = fetch::pieces(part), size = fetch::pieceBytes(part);
  int64_t wanted = kKeyGroup * pieces, perTurn = (wanted + turns() - 1) / turns();
  Value next = at(args[0], mul(add(key, kKeyGroup), 8)), offset = mul(from, 4);
  for (int64_t n = 0; n < perTurn; ++n) {
    Value number = add(mul(turn, perTurn), n);
    auto ask = [&] {
      Value piece = add(offset, mul(floorMod(number, pieces), size));
      prefetch(at(rowAddress(next, floorDiv(number, pieces)), piece), size);
    };
    (turns() - 1) * perTurn + n < wanted ? ask() : ifThen(lt(number, c(wanted)), ask);
  }
  askAhead(args[7], fetch);
}

/// Asks for a piece of each of the record's next rows, or goes on to its next run.
void TileBody::askAhead(Value record, int64_t fetch) {
  Value entry = load(i64, at(record, fetch::kEntry), 8), end = load(i64, at(record, fetch::kEntryEnd), 8);
  auto set = [&](int64_t field, Value value) { store(value, at(record, field), 8); };
  auto askRows = [&] {
    Value stop = min(add(entry, load(i64, at(record, fetch::kTurn), 8)), end);
    Value away = load(i64, at(record, fetch::kAway), 8);
    loop(entry, stop, 8,
         [&](Value row) { prefetch(toPtr(add(load(i64, toPtr(row), 8), away)), fetch::pieceBytes(fetch), 2); });
    set(fetch::kEntry, stop);
  };
  auto nextRun = [&] {
    Value run = load(i64, at(record, fetch::kRun), 8);
    ifThen(lt(run, load(i64, at(record, fetch::kRunEnd), 8)), [&] {
      for (int64_t field : {fetch::kEntry, fetch::kEntryEnd, fetch::kAway}) {
        set(field, load(i64, toPtr(add(run, field - fetch::kEntry)), 8));
      }
      set(fetch::kRun, add(run, fetch::kRunBytes));
    });
  };
  ifElse(lt(entry, end), askRows, nextRun);
}

} // namespace heddle
