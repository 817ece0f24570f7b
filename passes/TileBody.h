//===- TileBody.h - The bodies of micro-kernels --------------------------===//
//
// One class whose methods are spread over files by subject: rows in and out
// (TileRows.cpp), S (TileDots.cpp, TileAmx.cpp), P (TileSoftmax.cpp), acc (TileValues.cpp), and what is asked for in
// passing (TileFetch.cpp).
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_TILEBODY_H
#define HEDDLE_PASSES_TILEBODY_H

#include "passes/TileKernels.h"

#include <functional>

namespace heddle {

/// The body of one micro-kernel.
class TileBody : public Emitter {
public:
  TileBody(mlir::OpBuilder &b, mlir::func::FuncOp fn, const VectorTarget &target, int64_t d, mlir::Type storage,
           bool amx)
      : Emitter(b, fn.getLoc(), target), args(fn.getArguments()), d(d), vl(target.width), storage(storage),
        bytes(storage.isF32() ? 4 : 2), pairs(storage.isBF16() && target.bf16), tiles(pairs && amx) {}

  void pack();
  void stage();
  void stagePairs();
  void stageRows();
  void dots(int64_t fetch);
  void softmax();
  void weights();
  mlir::Value finite();
  void accumulate(int64_t fetch);
  void narrow();
  void softmaxAccumulate(int64_t fetch);
  void dotsFew();
  void accumulateFew(int64_t fetch);
  void accumulateExact();
  mlir::Value finish();

private:
  mlir::ValueRange args;
  int64_t d, vl;
  mlir::Type storage;
  int64_t bytes; ///< of a storage element
  bool pairs;    ///< native: two bf16 in a 32-bit word are multiplied at once
  bool tiles;    ///< dots are products of AMX's tiles

  static constexpr int64_t kStep = 160; ///< words of a row that are multiplied at once, at most
  static constexpr int64_t kTurn = kTurnWords;
  static constexpr int64_t kRow = kColumn * 4; ///< bytes of a key in a column of S

  mlir::Value rowAddress(mlir::Value table, mlir::Value index) { return load(ptr, at(table, mul(index, 8)), 8); }
  /// f32 words of a row of Qt or K.
  int64_t words() const { return pairs ? (d + 1) / 2 : d; }
  /// Element `dim` of a row of V that is staged in blocks or has a block pitch of its own width.
  mlir::Value inBlocks(mlir::Value row, mlir::Value dim, mlir::Value blockPitch, mlir::Value stride) {
    mlir::Value block = mul(floorDiv(dim, kValueBlock), blockPitch);
    return at(row, add(block, mul(floorMod(dim, kValueBlock), stride)));
  }
  mlir::Value firstLanes(int64_t valid);
  /// One f32 register from element `first` of a row of d elements; lanes past the end are 0.
  mlir::Value loadTail(mlir::Value address, int64_t valid);
  /// The bits of vl adjacent bf16 elements, as the low half of words; those past the first `valid` are 0.
  mlir::Value loadHalves(mlir::Value address, int64_t valid);
  /// a * x + sum, on f32 or on pairs of bf16.
  mlir::Value multiplyAdd(mlir::Value a, mlir::Value x, mlir::Value sum);
  /// The bits of two rows' bf16 elements [dim, dim + vl), lane by lane; a missing row is 0.
  mlir::Value interleave(mlir::Value even, mlir::Value odd);
  mlir::Value loadBits(mlir::Value row, mlir::Value dim, mlir::Value stride, bool adjacent, int64_t valid);
  void inPieces(int64_t from, int64_t end, int64_t step, llvm::function_ref<void(mlir::Value)> body);
  /// Emits the requests of one turn of a group's loop.
  using Ask = std::function<void(mlir::Value)>;
  /// Long rows are multiplied in parts of partWords() words, so that the part of Qt in use stays in the first-level
  /// cache.
  int64_t parts() const { return (words() + kStep - 1) / kStep; }
  int64_t partWords() const { return (words() + parts() - 1) / parts(); }
  /// Requests of a part.
  int64_t turns() const { return (partWords() + kTurn - 1) / kTurn; }
  void askBeside(mlir::Value turn, mlir::Value key, mlir::Value from, int64_t fetch);
  mlir::Value asks(mlir::Value record);
  mlir::Value asksMore(mlir::Value record);
  void askAhead(mlir::Value record, int64_t fetch);
  void dotsPass(mlir::Value from, mlir::Value until, bool fresh, bool last, int64_t fetch);
  void dotsBlock(llvm::ArrayRef<mlir::Value> rows, mlir::Value qt, mlir::Value s, mlir::Value tops, int64_t columns,
                 mlir::Value from, mlir::Value until, bool fresh, bool last, const Ask &ask);
  /// Words [dim, dim + 4) of 16 rows, of which the last `valid` exist, transposed: [word][row].
  Values columnsOf(llvm::ArrayRef<mlir::Value> rows, mlir::Value dim, int64_t valid);
  /// 4 registers of 4 x 4 words, each word and its place within 128 bits exchanged.
  Values transposed(llvm::ArrayRef<mlir::Value> four);
  /// The dots of up to `lanes` lanes and `blocks` times 16 keys from `key` on, whose rows may be known to be adjacent.
  void dotsNarrow(mlir::Value key, int64_t lanes, int64_t blocks, bool adjacent);
  mlir::Value adjacentRows(mlir::Value key, int64_t keys);
  void dotsColumn();
  /// Words [from, from + words) of a row, the first of them and the last.
  struct TilePart {
    int64_t from, words;
    bool fresh, last;
  };
  static constexpr int64_t kTileKeys = 16; ///< of a matrix tile
  void inTileParts(llvm::function_ref<void(const TilePart &)> body);
  mlir::Value tileRows();
  std::pair<mlir::Value, mlir::Value> rowsOfTile(mlir::Value key, const TilePart &part, mlir::Value copies);
  void tileProducts(std::pair<mlir::Value, mlir::Value> rows, mlir::Value qt, mlir::Value s, int64_t columns,
                    const TilePart &part, llvm::function_ref<void(int64_t)> beside = {});
  void raiseTops(mlir::Value s, mlir::Value tops, int64_t keys);
  void dotsTiles(int64_t fetch);
  void dotsFewTiles();
  static constexpr int64_t kUnroll = 4, kSums = 2; ///< keys whose weights are computed at once, and sums of weights
  static constexpr double kSlack = 8;              ///< base 2: a score this far above m becomes m
  /// A register of lanes in softmax.
  struct Weighed {
    mlir::Value s, first, last, end, base, minusBase, sumAt;
  };
  Weighed beginSoftmax(mlir::Value lane);
  Values weigh(const Weighed &w, mlir::Value k, mlir::ValueRange sums, llvm::function_ref<void(int64_t)> beside = {});
  void endSoftmax(const Weighed &w, mlir::ValueRange sums);

  /// What accumulateBlock reads; `weighs`: S is not yet P; `begins`, if any: acc is 0, and not yet written.
  struct Sources {
    mlir::Value scores, columns, lanes, pitch, table, blockPitch, acc, record, begins;
    int64_t fetch;
    bool weighs;
  };
  struct Rows;
  Values addRow(const Rows &r, mlir::Value k, mlir::ValueRange sum);
  Values loadSums(const Rows &r);
  void storeSums(const Rows &r, mlir::ValueRange sums);
  void weighAndAdd(const Rows &r, mlir::Value lane);
  Values addRows(const Rows &r, mlir::Value first, mlir::Value last);
  void addRowsAsking(const Rows &r, mlir::Value first, mlir::Value last, const Sources &of);
  void accumulateColumns(Sources of);
  void accumulateBlock(const Sources &of, mlir::Value column, int64_t vectors, int64_t lastValid);
  /// Keys [first, last), and what they ask for: rows of two distances, into the first-level cache and into the second.
  struct FewKeys {
    mlir::Value first, last;
    struct Ahead {
      mlir::Value rows, distance; ///< a table, and bytes from its rows to those that are meant
    } ahead[2];
    int64_t lines;           ///< of a turn; 1: `share` lines in 2^16 turns
    mlir::Value turn, share; ///< turns before this block
  };
  void askFew(const FewKeys &keys, mlir::Value turn, int64_t fetch);
  /// Rows of `size` bytes that few queries ask for ahead into the first-level cache: what memory gives meanwhile.
  static int64_t rowsAhead(int64_t size) { return kRun * (kRun * size < 8192 ? 2 : 1); }
  /// Those beyond them that are asked into the second-level cache: requests are lost while all that the first can note
  /// are under way, and who asked only once would wait for such rows.
  static int64_t rowsBeyond(int64_t size) { return std::clamp<int64_t>(16384 / size, 1, kRun); }
  static constexpr int64_t kRun = 2 * kNarrowKeys;
  /// The entry from which `rows` entries are asked for: `number`, where those exist in two tables of `count` entries
  /// that follow on each other, else the first. What stands behind them may be no address, which takes longer than a
  /// row.
  mlir::Value existing(mlir::Value number, int64_t rows, mlir::Value count) {
    return select(le(add(number, rows), mul(count, 2)), number, c(0));
  }
  /// Entries of the table from `number` on, or those of the other table, which follow on its last.
  mlir::Value fewAhead(mlir::Value number, mlir::Value count, mlir::Value table, mlir::Value other) {
    mlir::Value beyond = at(other, mul(max(sub(number, count), c(0)), 8));
    return select(lt(number, count), at(table, mul(number, 8)), beyond);
  }
  void accumulateFewBlock(mlir::Value lane, int64_t rows, int64_t column, int64_t width, const FewKeys &keys,
                          mlir::Value run, int64_t fetch);
  std::pair<mlir::Value, mlir::Value> keysOf(mlir::Value columns, mlir::Value column) {
    mlir::Value p = at(columns, mul(column, 16));
    return {load(i64, p, 8), load(i64, at(p, 8), 8)};
  }
  mlir::Value columnCount(mlir::Value lanes) { return floorDiv(add(lanes, kColumn - 1), kColumn); }
};

} // namespace heddle

#endif // HEDDLE_PASSES_TILEBODY_H
