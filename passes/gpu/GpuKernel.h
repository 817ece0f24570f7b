//===- GpuKernel.h - One fused attention kernel for the GPU ---------------===//
//
// Emits the kernel of one group of strata (those with the same query digits).
// A block takes one query tile; the longest come first:
//
//   prologue   positions of its rows; for each stratum the interval of keys of
//              each row (kept in shared memory) and, over all rows, a box of key
//              digits: base, lengths, steps. The keys of a box are numbered
//              0, 1, ..; [fullFrom, fullTo) of them are live for every row
//   stream     the boxes of all strata, cut into tiles of `keys` keys, are one
//              sequence of tiles 0 .. T - 1. A table in shared memory holds the
//              tensor row of each key of a tile (-1: none), so that a band, a
//              lattice or a grid is loaded by the same cp.async instructions
//   loop       S = Q K^T; where the tile is not full, a word of live bits for
//              each thread; online softmax; acc += P V
//   epilogue   out = acc / l, or the state (m, l, acc) for the next group
//
// Few queries (decoding): the query heads that share their keys are rows of one
// tile, and the stream is cut into splits, one a block, whose states a second
// kernel merges in order. How many splits there are follows from the numbers of
// queries and keys alone.
//
// Where a tile that is not full holds a V that is not finite, its keys are added
// one by one, the dead ones left out, so that 0 * NaN cannot reach a row.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_GPU_GPUKERNEL_H
#define HEDDLE_PASSES_GPU_GPUKERNEL_H

#include "dialect/Schedule.h"
#include "passes/EmitExpr.h"
#include "passes/gpu/GpuShape.h"
#include "passes/gpu/WarpEmitter.h"

namespace heddle {

/// Beyond every position (the runtime refuses larger ones).
inline constexpr int64_t kBeyondPositions = int64_t(1) << 30;

/// Strata that are walked by the same query tiles, in one kernel.
struct GpuGroup {
  llvm::SmallVector<QueryDigit> query;
  llvm::SmallVector<int64_t> members; ///< stratum numbers
  bool laterFirst = false;            ///< tiles further on are longer (GpuOrder.h)
};

/// Rows of one stratum's interval that a block keeps in shared memory, and its
/// share of the prologue's reductions.
struct GpuInterval {
  const std::vector<Expr> *lower, *upper;
  bool varies;
  int64_t lo = -1, hi = -1; ///< shared bytes: i32 for each row; -1 where it does not vary
  int64_t partial = -1;     ///< first of four reduced values
};

/// Rows of a gathered stratum's lists in shared memory, i32 for each row of the block. Rows that have the same list
/// share it: the first of them leads. The keys of a tile's lists are numbered one list after the other.
struct GpuLists {
  int64_t list = -1;   ///< which list the row has; kFar: none that lives, -kFar: the row is no query
  int64_t count = -1;  ///< keys of a leader's list, else 0
  int64_t leader = -1; ///< row that leads; -1: no list, -2: no query
  int64_t prefix = -1; ///< keys before the row's list
  int64_t drawn = -1;  ///< blocks of random_blocks that the block's rows draw (GpuDraws.cpp)
};

/// A stratum with choices as one whose list are the blocks that it draws, for blocks of so many rows; nullopt where
/// that is not one.
std::optional<Stratum> drawnList(const Stratum &s, int64_t rows);
bool isDrawn(const Stratum &s);
/// Shared memory for the blocks that a block of so many rows draws; 0 for other strata.
int64_t drawnBytes(const Stratum &s, int64_t rows);

/// Whether a tile may hold the same queries of several heads: nothing in the schedule depends on the head.
bool headsMayShare(const KernelSignature &sig, const Schedule &schedule);

/// Whether the rows of a gathered stratum have lists (or keys that lists give) of their own.
bool hasOwnLists(const Stratum &s);

/// Shared-memory bytes that a group's tables take in a block of `shape`.
int64_t gpuTableBytes(const KernelSignature &sig, const Schedule &schedule, const GpuGroup &group,
                      const GpuShape &shape);

class GpuKernel {
public:
  using Values = Emitter::Values;

  GpuKernel(mlir::OpBuilder &builder, const KernelSignature &sig, const Schedule &schedule, const GpuGroup &group,
            const GpuShape &shape, bool loadsState, bool storesState, bool packs);
  virtual ~GpuKernel() = default;

  /// Fills an llvm.func whose argument is the argument block.
  virtual void emit(mlir::LLVM::LLVMFuncOp function, mlir::LLVM::GlobalOp sharedMemory);
  /// Fills the kernel that merges the states of splits: a block a row, its threads across the columns.
  void emitMerge(mlir::LLVM::LLVMFuncOp function);
  static constexpr int64_t kMergeThreads = 128;
  /// Shared memory of a block.
  int64_t sharedBytes() const { return size; }

protected:
  struct Member {
    int64_t stratum;
    llvm::SmallVector<GpuInterval> intervals; ///< of j, then of each key digit
    GpuLists lists;                           ///< gathered strata
    /// Ids that must be equal, {of the query, of the key}, and the first of two reduced values.
    std::optional<std::pair<Expr, Expr>> ids;
    int64_t idPartial = -1;
  };
  /// What a thread must know of one segment's tensors for the block's (b, h).
  struct Rows {
    mlir::Value base, stride, element; ///< i64: address of row 0, bytes
    mlir::Value head;                  ///< i64: bytes from one head to the next
    mlir::Value aligned;               ///< 16-byte loads are possible
  };
  struct Source {
    llvm::SmallVector<Rows> keys; ///< of each dot
    Rows values;
    mlir::Value kOffset, count; ///< i64: position of row 0, rows
  };

  const KernelSignature &sig;
  const Schedule &schedule;
  const GpuGroup &group;
  GpuShape shape;
  bool loadsState, storesState;
  bool packs; ///< a tile may hold the same queries of several heads
  /// Every tile is masked and its keys are added one by one, and keys and values are known to be aligned: the smallest
  /// program, for rows that another one cannot do.
  bool careful = false;
  WarpEmitter e;
  mlir::Type storage;
  int64_t bytes; ///< of an element
  llvm::SmallVector<DotSource> queries;
  llvm::SmallVector<OperandRecord> records;
  llvm::SmallVector<Member> members;
  llvm::SmallVector<int64_t> segmentsUsed;
  int64_t digits = 1; ///< key digits of a descriptor
  bool fused = false; ///< one positive scale for all scores: it joins exp2's argument

  // Shared-memory offsets.
  int64_t size = 0, sRow = 0, sPosition = 0, sPartial = 0, sDescriptor = 0, sTable = 0, sRing = 0, partials = 0,
          sHead = -1, sBlock = -1, sWeights = -1, sRelative = -1, sOwner = -1, sScan = -1, sSources = -1;
  llvm::SmallVector<int64_t> sQuery;
  int64_t stageBytes = 0, keyBytes = 0;
  int64_t blockThreads = 0; ///< that the block's barrier counts

  // Uniform values of the block.
  mlir::Value args, b, h, heads, nq, qOffset, chunk; ///< h: of the tile's first row
  mlir::Value together;                              ///< heads in a tile, where it packs
  mlir::Value split, splits;                         ///< i32
  mlir::Value tid, lane, warp, quad, group8;         ///< lane / 4 is group8, lane mod 4 quad
  mlir::Value tiles;                                 ///< of the stream
  llvm::SmallVector<Source> sources;
  mlir::Value scaleConstant; ///< scale * log2(e), where fused
  llvm::SmallVector<Values> queryFragments;
  mlir::Value spanOfRows[2], spanOfWarp[2]; ///< i32: least and greatest position

  // Layout and prologue (GpuPrologue.cpp).
  void layout();
  void layoutTables();
  int64_t allocate(int64_t count);
  mlir::Value slot(int64_t s) { return e.load(e.i64, e.at(args, s * 8), 8); }
  mlir::Value batchNumber(int64_t s);
  mlir::Value headOf(int64_t record);
  mlir::Value headBase(int64_t record, bool keyHead);
  Rows rowsOf(int64_t record, bool keyHead, int64_t d);
  mlir::Value scaleOf(int64_t segment, bool base2);
  ExprScope scope(int64_t segment, mlir::Value query, mlir::Value key);
  void begin(mlir::LLVM::LLVMFuncOp function, mlir::LLVM::GlobalOp sharedMemory);
  /// Names of the thread: its lane, warp, ..
  void nameThread(mlir::Value number);
  /// The block's batch, head, part of the columns and split, to shared memory.
  void keepBlock();
  /// Names of the thread and the block anew, from there: what was computed from the old ones ends where it was last
  /// used, and takes no register of the loop in between.
  void findBlock();
  /// Positions and numbers of the segments' keys.
  void findPositions();
  /// Spans of the leading digit that the queries touch, heads (of all batches, several that share a tile counted once)
  /// and blocks of one span of a head; heads of one batch, counted alike; i32.
  struct Extent {
    mlir::Value leads, heads, perSpan, sharing;
  };
  Extent extent();
  /// Decodes the block's number; gives the position of its first lane's box, as digits.
  void decodeBlock(llvm::SmallVectorImpl<mlir::Value> &corner, mlir::Value &sub);
  mlir::Value emitPositions(mlir::Value sub, llvm::ArrayRef<mlir::Value> corner, mlir::Value &valid, mlir::Value &head);
  void emitIntervals(Member &m, mlir::Value position, mlir::Value valid);
  bool gathers(size_t member) const { return bool(schedule.strata[members[member].stratum].list); }
  llvm::SmallVector<size_t> gathered() const;
  void emitListOfRow(Member &m, mlir::Value position, mlir::Value valid, mlir::Value dead);
  /// The list of a query: entries are numbered from 0.
  struct Entries {
    mlir::Value lo, hi; ///< i64; hi - lo of them
    std::function<mlir::Value(mlir::Value number)> entry;
  };
  Entries entriesOf(const Member &m, const ExprScope &at);
  mlir::Value firstDrawn(const Stratum &s);
  void fillDrawn(const Member &m);
  /// Numbers the keys of a member's lists; returns how many there are, and whether all rows have the same list.
  std::pair<mlir::Value, mlir::Value> numberLists(const Member &m);
  /// Whether a member's keys are looked through before its tiles: flagged ones, or those with some ids.
  bool scansKeys(const Member &m) const;
  /// Narrows [lo, hi) to the first and last key that is flagged and whose id lies among those of the rows; true where
  /// all keys between them live.
  mlir::Value bracket(const Member &m, mlir::Value &lo, mlir::Value &hi);
  mlir::Value partialOf();
  mlir::Value reduced(int64_t value, bool least);
  /// How the tiles of member n are loaded, for kernels that have several ways.
  virtual int64_t loadClass(size_t) const { return 0; }
  /// Keys that live for some row of the tile, [lo, hi), and for all; i64.
  struct Range {
    mlir::Value lo, hi, fullLo, fullHi;
  };
  Range rangeOf(const GpuInterval &interval);
  /// The keys of one member that a tile meets, numbered; i64. [fullFrom, fullTo) of them live for every row, where all
  /// rows have `alike` digits behind the first.
  struct Box {
    mlir::Value base, count, fullFrom, fullTo, alike;
    llvm::SmallVector<std::pair<mlir::Value, int64_t>> lengths; ///< of digits 1 and on, with their steps
  };
  Box boxOf(const Member &m, const Range &all, mlir::Value anyPosition);
  void storeDescriptor(size_t n, const Box &box);
  void emitDescriptor(size_t n, mlir::Value anyPosition);
  Values emitStream(mlir::Value anyPosition, mlir::ValueRange init);
  /// The tile's rows and their intervals; the least position of a row.
  mlir::Value emitRows();
  /// Where the keys and values of the segments lie.
  void emitSources();
  /// The state of the block's rows behind all tiles of its stream.
  Values compute(mlir::Value anyPosition);

  // The stream (GpuStream.cpp).
  int64_t descriptorWords() const { return 8 + 2 * (digits - 1); }
  mlir::Value descriptor(mlir::Value n, int64_t word);
  mlir::Value memberOf(mlir::Value tile);
  /// `index` is the thread's number among `threads`.
  void writeTable(mlir::Value tile, mlir::Value index, int64_t threads);
  mlir::Value tableOf(mlir::Value tile);
  Values placeInList(size_t member, mlir::Value n, mlir::Value x, mlir::Value valid);
  /// Whether all pairs of the tile are live; x is the number of its first key.
  mlir::Value fullTile(mlir::Value n, mlir::Value x, mlir::Value table);
  /// Whether any key of the tile is there.
  mlir::Value anyKey(mlir::Value table);
  void issueLoads(mlir::Value tile, mlir::Value there);
  /// The number of a row of a tile; below zero: none.
  using RowNumber = llvm::function_ref<mlir::Value(mlir::Value row)>;
  void loadRows(const Rows &from, RowNumber numberOf, int64_t rows, int64_t d, mlir::Value limit, mlir::Value to,
                mlir::Value headTable = {});
  void loadRows(const Rows &from, mlir::Value table, int64_t rows, int64_t d, mlir::Value limit, mlir::Value to,
                mlir::Value headTable = {});
  mlir::Value liveBits(mlir::Value table, mlir::Value n);
  mlir::Value liveBitsOf(size_t member, mlir::Value table);
  Values perMember(mlir::Value n, llvm::ArrayRef<size_t> list, llvm::function_ref<Values(size_t)> body,
                   llvm::function_ref<Values()> otherwise);
  /// Where a segment's tensors and positions lie stands in shared memory too, so that segments of which nothing else
  /// differs share code: words of i64.
  int64_t sourceWords() const;
  void storeSources();
  /// The source of this number, whichever it is; its tensors are as `like`'s.
  Source sourceAt(mlir::Value number, const Source &like);
  /// Whether the tiles of two segments (places in `sources`) are loaded alike, and whether their scores are alike too.
  bool sameLoads(size_t x, size_t y) const;
  bool sameScores(size_t x, size_t y);
  /// `body` of the segment (its place in `sources`) of member n: once for all that are alike.
  Values perSegment(mlir::Value n, llvm::function_ref<bool(size_t, size_t)> alike,
                    llvm::function_ref<Values(size_t)> body);

  // The tile program (GpuTile.cpp).
  void loadQueries();
  int64_t keptFragments() const;
  void keepQueries(mlir::Value now, Values &fragments);
  Values queryFragment(int64_t tensor, mlir::Value step);
  Values keyFragments(mlir::Value base, int64_t pitch, int64_t pair, mlir::Value step);
  Values valueFragments(mlir::Value base, int64_t pair, int64_t step);
  Values dot(const DotSource &source, mlir::Value base);
  /// Positions of the block's queries and of the warp's, for relative rows.
  void keepSpans();
  /// The distances of a tile's pairs, but for a dot's shift: the least, that of the warp's queries, whether their rows
  /// are loaded and whether the warp finds its own among them.
  struct Distances {
    mlir::Value least, ofWarp, loaded, read;
  };
  Distances distancesOf(size_t source, mlir::Value table);
  Values relativeDot(size_t source, size_t number, mlir::Value base, mlir::Value table);
  Values products(const DotSource &source, mlir::Value base, int64_t pairs);
  Values dotOfPairs(size_t source, size_t number, mlir::Value table);
  Values scores(size_t source, mlir::Value stage, mlir::Value table);
  /// Scores from the dots of one segment's tile.
  Values scoresOf(size_t source, llvm::ArrayRef<Values> dots, mlir::Value table);
  Values liveWords(mlir::Value table, mlir::Value n);
  Values masked(Values s, const Values &words);
  mlir::Value nonFinite(mlir::Value stage, mlir::Value wanted);
  void softmax(Values &scores, Values &state);
  void accumulate(const Values &weights, Values &state, mlir::Value stage);
  void accumulateExact(const Values &weights, Values &state, mlir::Value stage);
  Values weightFragment(const Values &weights, int64_t step);
  void multiply(llvm::ArrayRef<mlir::Value> a, llvm::ArrayRef<mlir::Value> bb, llvm::MutableArrayRef<mlir::Value> c);
  bool maskable(size_t member) const;
  /// Whether warps may find no live pair in a tile that is not full, and leave it out.
  bool sparse() const;
  bool scored() const;
  void step(mlir::Value tile, Values &state);
  void loadAhead(mlir::Value tile, mlir::Value first, mlir::Value begun);
  void carefulStep(mlir::Value tile, Values &state);
  mlir::Value readState(mlir::Value address, mlir::Type type, unsigned align);
  Values loadAccumulators(int64_t half, mlir::Value number);
  std::pair<mlir::Value, mlir::Value> stateRow(int64_t half);
  Values initialState(bool withAccumulators = true);
  void addAccumulators(Values &state);
  mlir::Value rowNumber(mlir::Value head, mlir::Value row, mlir::Value inSplit);
  mlir::Value allRows();
  mlir::Value stateAddress(mlir::Value number, mlir::Value column);
  mlir::Value momentAddress(mlir::Value number, mlir::Value inChunk, int64_t which);
  mlir::Value headOfRow(int64_t half);
  void finish(Values state);
  void storeState(const Values &state);
  /// The state for the next group, or out.
  void store(const Values &state) { storesState ? storeState(state) : finish(state); }
  void storeRows();
  /// Waits until the room of `sharedUnit` is free for the rows of out.
  virtual void shareRows();
  /// Where 16 bytes of a row of out pass through shared memory.
  virtual mlir::Value sharedUnit(mlir::Value row, mlir::Value unit);
  void forEachPlace(int64_t half, llvm::function_ref<void(int64_t n, int64_t column)> body);
  mlir::Value pairOf(mlir::Value x, mlir::Value y);
  /// Columns of the workspace that are read and written together.
  int64_t stateWidth() const { return sig.dv % 2 == 0 ? 2 : 1; }
  mlir::Value finishFactor(mlir::Value head, mlir::Value &m, mlir::Value &l, mlir::Value &lse);
  void storeLse(mlir::Value head, mlir::Value row, mlir::Value lse);
  Values loop(mlir::Value lo, mlir::Value hi, int64_t step, mlir::ValueRange init,
              llvm::function_ref<Values(mlir::Value, mlir::ValueRange)> body);

  int64_t scoreCount() const { return shape.keys / 2; }
  int64_t accCount() const { return shape.columns / 2; }
  bool softmaxed() const;
  bool regionIn(int64_t segment) const;
};

} // namespace heddle

#endif // HEDDLE_PASSES_GPU_GPUKERNEL_H
