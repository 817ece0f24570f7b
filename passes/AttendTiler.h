//===- AttendTiler.h - What the parts of the tiling pass share ------------===//
//
// The pass in TileAttend.cpp, as a class whose methods are spread over files by
// subject. A subject's methods stand together here, under the name of its file.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PASSES_ATTENDTILER_H
#define HEDDLE_PASSES_ATTENDTILER_H

#include "dialect/KeyTable.h"
#include "passes/BoxTest.h"
#include "passes/BuildStrata.h"
#include "passes/EmitExpr.h"
#include "passes/HeadTables.h"
#include "passes/KernelSignature.h"
#include "passes/TileKernels.h"
#include "llvm/ADT/MapVector.h"

namespace heddle {

/// Beyond every position (the runtime refuses larger ones).
inline constexpr int64_t kFar = int64_t(1) << 30;
/// Bytes between rows of V from which a copy is faster than what the first-level cache loses.
inline constexpr int64_t kFarRows = 2048;
inline constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;

/// Byte offsets of a thread's scratch memory.
class Frame {
public:
  int64_t allocate(int64_t bytes) {
    int64_t at = size;
    size += (bytes + 63) / 64 * 64;
    return at;
  }
  int64_t size = 0;
};

/// A packed Q tile: one for each distinct (query tensor, scale).
struct Pack {
  int64_t q, d, segment;
  bool base2; ///< log2(e) is folded into the scale
  int64_t at = 0;
  int64_t narrow = -1; ///< of few lanes, for DotsFew; -1: none
};

/// An interval of a stratum whose ends differ by lane: j itself, or a key digit.
struct LaneInterval {
  const std::vector<Expr> *lower, *upper;
  bool varies;    ///< some bound is given (or, for j, a guard)
  int64_t lo, hi; ///< scratch: i32 for each lane
};

struct Strata {
  llvm::SmallVector<QueryDigit> query;
  llvm::SmallVector<int64_t> members; ///< stratum numbers
  int64_t order = -1;                 ///< queries are taken in this order of rows
};

/// Uniform values of a generated function that serves the heads of one tile; `h` is the first of them.
struct Uniform {
  mlir::Value args, scratch, b, h, heads, nq, qOffset;
};

/// Which queries a group's tile loops cover: positions [first, last), part `part` of the tiles, one split of the
/// keys or all, and the memory of the state (docs/abi.md).
struct TaskShare {
  mlir::Value first, last, part, split, memory;
};

class AttendTiler {
public:
  AttendTiler(mlir::ModuleOp module, const KernelSignature &signature, const Schedule &schedule,
              const VectorTarget &target)
      : module(module), sig(signature), schedule(withNear(schedule)), tiled(schedule.strata.size()),
        builder(module.getContext()), e(builder, signature.attend.getLoc(), target), vl(target.width) {
    pairs = signature.storage.isBF16() && target.bf16 && softmax();
  }

  llvm::LogicalResult run();

  /// Queries of the stratum are taken one at a time.
  static bool byRow(const Stratum &s);
  /// Whether queries share tiles or are taken one at a time is decided by each query, when the kernel runs.
  static bool mayBeSparse(const Stratum &s);
  /// Positions within which every row of the stratum has its keys, as far as its bounds tell; kFar where they do not.
  static int64_t spanOf(const Stratum &s);

private:
  mlir::ModuleOp module;
  const KernelSignature &sig;
  const Schedule schedule; ///< from stratum `tiled` on, all strata again, by row
  const int64_t tiled;
  mlir::OpBuilder builder;
  Emitter e;
  int64_t vl;
  bool pairs = false; ///< bf16 rows are multiplied as pairs, not staged as f32
  Frame frame;
  llvm::SmallVector<OperandRecord> patternRecords;
  llvm::SmallVector<Pack> packs;
  llvm::SmallVector<Strata> groups;
  Strata near; ///< in the place of the one group, for up to schedule.rowsUpTo keys
  /// One group: the state lives in the query tile, not in the super-tile.
  bool direct = false;
  /// Direct, with one lane tile in a super-tile and a stratum that may be long: the keys are taken split by split,
  /// each with a state of its own, so that other tasks can do them with the same result.
  bool splitKeys = false;
  /// No stratum differs by head: a tile's lanes may be queries of several heads that share keys.
  bool groupHeads = false;
  HeadTables headTables; ///< and these are alike for all heads of a tile
  /// Of each stratum: some rows may have more keys than a split.
  llvm::SmallVector<bool> longStrata;
  llvm::SmallVector<int64_t> spans; ///< of each stratum: positions that a row's keys lie within; kFar: not known
  // Offsets in the frame.
  int64_t fFirst = 0, fCount = 0, fMasked = 0, fKeys = 0, fValueTable = 0, fValueBase = 0, fValueStride = 0, fLanes = 0,
          fRows = 0, fPositions = 0, fHeads = 0, fState = 0, fStageV = 0, fTile = 0, fTotal = 0, fSuper = 0,
          fBegins = 0, fTouched = 0, fGroups = 0, fColumns = 0, fSure = 0, fLive = 0, fTops = 0, fUnusedTops = 0,
          fChoice = 0, fCareful = 0, fToNext = 0, fRowsAhead = 0, fCame = 0, fNewKeys = 0, fQueriesAway = 0, fFetch = 0,
          fOutRows = 0, fStateRows = 0, fLeaks = 0;
  // A state is m of its rows, l, then acc.
  int64_t sumsAt(int64_t rows) const { return rows * 4; }
  int64_t accAt(int64_t rows) const { return rows * 8; }
  int64_t stateBytes(int64_t rows) const { return accAt(rows) + rows * accRow(); }
  /// The result holds acc of a super-tile's rows until the last group divides it by l.
  bool accInResult() const { return !direct && resultHoldsAcc(sig.storage.isF32(), sig.dv); }
  int64_t superBytes() const { return accInResult() ? accAt(stateRows()) : stateBytes(stateRows()); }
  /// Of one state in the runtime's memory; a split's ends with a mark of whether it has any key.
  int64_t memoryBytes() const { return splitKeys ? stateBytes(kLanes) + 64 : direct ? 0 : superBytes(); }
  int64_t slots = 0;                                      ///< keys that the tables and S have room for
  llvm::SmallVector<llvm::SmallVector<int64_t>> fHoisted; ///< of each stratum: lane values of hoistable(residual)
  int64_t fKept = 0, fKeptTags = 0, fKeptRows = 0, keptBlocks = 0,
          keptRing = 0; ///< copies of values (StagedValues.cpp)
  llvm::SmallVector<int64_t> fKeyTable, fKeyBase, fKeyStride, fScores, fStageK, fLower, fUpper;

  bool softmax() const { return sig.attend.getNormalizer() == attn::Normalizer::Softmax; }
  mlir::Region *score(int64_t segment) { return sig.attend.getScore(segment); }
  /// log2(e) goes into the packed Q unless a region still works on natural scores.
  bool base2(int64_t segment) { return softmax() && !score(segment); }
  /// The score region reads the head, and a tile may have several.
  bool scoreDiffersByHead(int64_t segment) {
    mlir::Region *region = score(segment);
    return groupHeads && region && !region->getArgument(region->getNumArguments() - 3).use_empty();
  }
  static bool isRelative(const DotSource &dot) { return dot.relative; }
  /// Scores are more than one usual dot.
  bool isScored(int64_t segment) {
    const auto &dots = sig.segments[segment].dots;
    return score(segment) || dots.size() > 1 || llvm::any_of(dots, isRelative);
  }
  bool hasRelative() const {
    return llvm::any_of(sig.segments, [](const SegmentSignature &s) { return llvm::any_of(s.dots, isRelative); });
  }
  int64_t bytes() const { return sig.storage.isF32() ? 4 : 2; }
  int64_t accRow() const { return paddedRow(sig.dv) * 4; }
  /// Rows of a super-tile's state (a multiple of the widest register, and room for the lanes of several heads).
  int64_t stateRows() const { return std::max<int64_t>((schedule.superTile + 15) / 16 * 16, kLanes); }
  mlir::Type wide() const { return pairs ? sig.storage : mlir::Type(e.f32); } ///< of the micro-kernels on S and V
  int64_t columnPitch() const { return slots * kColumn * 4; }
  /// Bytes of the live bits of a key in one column: one word for each register.
  int64_t liveWord() const { return std::max<int64_t>(vl / 8, 1); }
  int64_t liveRow() const { return kColumn / vl * liveWord(); }
  std::string name(llvm::StringRef what, int64_t n) { return ("attend_" + what + "_" + llvm::Twine(n)).str(); }

  static Schedule withNear(const Schedule &schedule);
  void layout();
  void plan();
  void planGroups();
  Pack &packOf(int64_t segment, int64_t dot);
  mlir::func::FuncOp function(llvm::StringRef name, llvm::ArrayRef<mlir::Type> types, bool isPrivate = true);

  mlir::Value slot(mlir::Value args, int64_t s) { return e.load(e.i64, e.at(args, s * 8), 8); }
  mlir::Value in(const Uniform &u, int64_t offset) { return e.at(u.scratch, offset); }
  mlir::Value batchNumber(const Uniform &u, int64_t s);
  mlir::Value kOffset(const Uniform &u, int64_t segment) { return batchNumber(u, sig.kOffsetSlot(segment)); }
  mlir::Value keyRows(const Uniform &u, int64_t segment) {
    return slot(u.args, sig.argSlot(sig.segments[segment].v) + 3);
  }
  /// Address of row 0 of a [b, h, n, d] tensor for (b, h); heads of k and v are shared by groups of query heads.
  mlir::Value headBase(const Uniform &u, int64_t record, bool keyHead);
  mlir::Value rowStride(const Uniform &u, int64_t record) { return e.mul(slot(u.args, record + 7), bytes()); }
  mlir::Value elementStride(const Uniform &u, int64_t record) { return e.mul(slot(u.args, record + 8), bytes()); }
  mlir::Value scaleOf(const Uniform &u, const Pack &pack);
  ExprScope scope(const Uniform &u, int64_t segment, mlir::Value query, mlir::Value key);
  /// The queries of heads that share keys fill one tile.
  mlir::Value onlyTile(const Uniform &u) { return e.le(e.mul(u.nq, slot(u.args, header::kHeadsPerTile)), e.c(kLanes)); }
  Uniform uniform(mlir::Value args, mlir::Value scratch, mlir::Value b, mlir::Value h);

  void emitTask();

  //===--- AttendTiles.cpp ---------------------------------------------------===//

  void emitGroup(int64_t n);
  void emitTiles(const Uniform &u, const Strata &group, const TaskShare &work);
  std::pair<mlir::Value, mlir::Value> positionsInBox(const Strata &group, mlir::Value l, mlir::Value corner,
                                                     llvm::ArrayRef<mlir::Value> digits);
  Emitter::Values findLanes(const Uniform &u, const Strata &group, mlir::Value corner,
                            llvm::ArrayRef<mlir::Value> digits, const TaskShare &work);
  void emitTile(const Uniform &u, const Strata &group, mlir::Value corner, llvm::ArrayRef<mlir::Value> digits,
                mlir::Value toNext, const TaskShare &work);
  mlir::Value shiftLanes(const Uniform &u, mlir::Value empty, mlir::Value highest);
  mlir::Value shareLanes(const Uniform &u, const TaskShare &work, mlir::Value highest);
  void tableOfRows(const Uniform &u, int64_t record, int64_t table, mlir::Value away = {});
  int64_t packQueries(const Uniform &u, const Strata &group);
  void noteAhead(const Uniform &u, const Strata &group, int64_t packed, mlir::Value toNext, mlir::Value memory);
  /// The group writes results.
  bool finishes(const Strata &group) const { return direct || &group == &groups.back(); }
  void emitDirectTile(const Uniform &u, const Strata &group, const TaskShare &work, mlir::Value minPosition,
                      mlir::Value toNext);
  void emitStrata(const Uniform &u, const Strata &group, mlir::Value split, mlir::Value minPosition,
                  bool finish = false);
  /// True where a dead pair may meet a value: then its weight is 0, and 0 * NaN must not reach acc.
  bool mayLeak(const Stratum &s) { return !byRow(s) && (maskable(s) || isScored(s.segment)); }

  //===--- AttendState.cpp ---------------------------------------------------===//

  void clearSums(mlir::Value state);
  void clearAcc(const Uniform &u, mlir::Value state);
  void beginAcc(const Uniform &u);
  void copyState(const Uniform &u, mlir::Value from, mlir::Value to);
  std::tuple<mlir::Value, mlir::Value, mlir::Value> mergeFactors(mlir::Value m, mlir::Value n);
  void emitFold();
  void mergeSums(const Uniform &u, mlir::Value state);
  void eachRowOf(const Uniform &u, llvm::function_ref<void(mlir::Value, mlir::Value)> body);
  void mergeState(const Uniform &u, const Strata &group, mlir::Value state);
  mlir::Value notFinite(const Uniform &u);
  void finishSums(const Uniform &u, mlir::Value state);
  void finishLse(const Uniform &u, mlir::Value state);
  mlir::Value finishLanes(const Uniform &u, mlir::Value state);

  //===--- AttendKeys.cpp ----------------------------------------------------===//

  struct Range {
    mlir::Value lo, hi, fullLo, fullHi; ///< over lanes: min of lower, max of upper, max of lower, min of upper
  };
  llvm::SmallVector<LaneInterval> intervals(const Stratum &s);
  bool maskable(const Stratum &s);
  /// `alive` (of the first lane and of the lanes' positions) leaves out further lanes; null: none.
  llvm::SmallVector<Range> emitBounds(const Uniform &u, const Stratum &s, llvm::ArrayRef<LaneInterval> intervals,
                                      llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> alive = {});
  void beginSegment(const Uniform &u, int64_t segment);
  void emitChoices(const Uniform &u, int64_t n, mlir::Value split, mlir::Value minPosition);
  void emitStratum(const Uniform &u, int64_t n, mlir::Value split, mlir::Value minPosition);
  std::pair<mlir::Value, mlir::Value> digitRange(const Stratum &s, size_t digit, mlir::Value base,
                                                 std::pair<mlir::Value, mlir::Value> all,
                                                 std::pair<mlir::Value, mlir::Value> own,
                                                 llvm::ArrayRef<mlir::Value> phases);
  void emitWalk(const Uniform &u, int64_t n, size_t digit, mlir::Value base, mlir::Value full,
                llvm::ArrayRef<Range> ranges, llvm::ArrayRef<mlir::Value> phases);
  void emitRun(const Uniform &u, int64_t n, mlir::Value base, mlir::Value lo, mlir::Value hi, mlir::Value full,
               const Range &all, const Range &own);
  void emitTested(const Uniform &u, const Stratum &s, mlir::Value base, mlir::Value lo, mlir::Value hi,
                  llvm::function_ref<void(mlir::Value, mlir::Value, mlir::Value)> push);

  //===--- AttendPush.cpp ----------------------------------------------------===//

  class Push;
  void emitPush(int64_t n);

  //===--- AttendResidual.cpp ------------------------------------------------===//

  /// The parts of a stratum's condition that hoist() computes.
  static llvm::SmallVector<Expr> hoistable(const Stratum &s);
  void hoist(const Uniform &u, int64_t n);
  void giveHoisted(const Uniform &u, int64_t n, mlir::Value lane, ExprScope &to);
  mlir::Value emitBracket(const Uniform &u, const Stratum &s, Range &keys);

  //===--- AttendChunk.cpp ---------------------------------------------------===//

  /// A full chunk, and what its steps hand on.
  struct Chunk {
    mlir::Value count, lanes, masked;   ///< keys, lanes of the tile, whether a pair may be dead
    mlir::Value columns, groups, pitch; ///< ranges of keys and of columns; bytes of a column of S
    mlir::Value values, far;            ///< rows of V, and whether they are far apart
    mlir::Value few, ahead;             ///< the tile has one column (null: no kernels for that); bytes to the next keys
    mlir::Value once;                   ///< values are read for this tile alone
    mlir::Value scores;                 ///< S of the first dot
    Emitter::Values weights;            ///< operands of Softmax; none with another normaliser
  };
  void emitFlush(int64_t n);
  void emitRanges(const Uniform &u, int64_t n, const Chunk &c);
  void findRows(const Uniform &u, int64_t segment, Chunk &c);
  mlir::Value newKeys(const Uniform &u, const Stratum &s);
  static constexpr int64_t kFetchKeys = 96;
  int64_t fetchTurns(int64_t segment);
  void setFetch(const Uniform &u, int64_t n, const Chunk &c);
  void emitDots(const Uniform &u, int64_t n, size_t dot, const Chunk &c, mlir::Value tops);
  mlir::Value emitScores(const Uniform &u, int64_t n, const Chunk &c);
  void emitWeights(const Chunk &c);
  void emitValues(const Uniform &u, int64_t n, const Chunk &c);
  void emitManyValues(const Uniform &u, int64_t n, const Chunk &c, mlir::Value careful);
  void accumulateFew(const Uniform &u, int64_t n, const Chunk &c, mlir::Value rows, mlir::Value blockPitch);
  void emitLive(int64_t n);
  static bool inRuns(const Stratum &s);
  void emitLiveOfRun(const Uniform &u, int64_t n);
  void emitLiveByKey(const Uniform &u, int64_t n);
  /// Packed pairs have no room for the scale: a constant one is left to softmax, also where pairs are dead.
  bool scalesLate(int64_t segment) { return pairs && !isScored(segment) && sig.segments[segment].scale.arg < 0; }
  /// Masking changes no key that all lanes have.
  bool leavesSure(const Stratum &s) { return inRuns(s) && !isScored(s.segment) && (!pairs || scalesLate(s.segment)); }
  mlir::Value liveOf(const Uniform &u, mlir::Value lane) {
    mlir::Value column = e.mul(e.floorDiv(lane, kColumn), slots * liveRow());
    mlir::Value part = e.mul(e.floorDiv(e.floorMod(lane, kColumn), vl), liveWord());
    return e.at(in(u, fLive), e.add(column, part));
  }

  //===--- MaskRows.cpp ------------------------------------------------------===//

  /// Of each load of a stratum's condition that has a row of keys for each query: where the rows of the tile's lanes
  /// lie, and a byte for each key of the chunk and lane.
  llvm::SmallVector<int64_t> fMaskRows, fMaskBytes;

  llvm::SmallVector<Expr> maskRows(const Stratum &s);
  void layoutMaskRows();
  void findMaskRows(const Uniform &u, const Stratum &s);
  Truth testMaskRows(const Uniform &u, const Stratum &s, const Expr &load, mlir::Value first, mlir::Value count);
  void readMaskRows(const Uniform &u, const Stratum &s, mlir::Value count);
  void giveMaskRows(const Uniform &u, const Stratum &s, mlir::Value key, mlir::Value lane, ExprScope &to);

  //===--- LiveBoxes.cpp -----------------------------------------------------===//

  /// Of each digit: its words in a tile, and the value of the first; whether the tile has them.
  llvm::SmallVector<int64_t> fBoxWords, fBoxFirst;
  int64_t fBoxed = 0;

  bool inBoxes(const Stratum &s);
  void layoutBoxes();
  void emitBoxes(const Uniform &u, const Stratum &s, llvm::ArrayRef<LaneInterval> list, llvm::ArrayRef<Range> ranges);
  void emitLiveOfBoxes(const Uniform &u, int64_t n);

  //===--- ListedRows.cpp ----------------------------------------------------===//

  /// Which of the signature's listed arguments a record is of; -1: none.
  int64_t listedAt(int64_t record) const;
  bool isListed(int64_t arg) const { return listedAt(sig.argSlot(arg)) >= 0; }
  mlir::Value listEntry(const Uniform &u, const ListedRows &l, mlir::Value place, mlir::Value head);
  /// Address (i64) of row `row` (a scalar or lanes) of a tensor whose rows begin at `base`, for head `head` of it.
  mlir::Value rowAddress(const Uniform &u, int64_t record, mlir::Value base, mlir::Value row, mlir::Value head);
  /// The tensor's own head for the query head.
  mlir::Value headOf(const Uniform &u, int64_t record, bool keyHead);

  //===--- StagedValues.cpp --------------------------------------------------===//

  /// Bytes of a block of a staged chunk of values, and of all its blocks.
  int64_t valuePitch() const { return (pairs ? slots / 2 : slots) * kValueBlock * 4; }
  int64_t stagedValues() const { return valuePitch() * valueBlocks(sig.dv); }
  bool keepsValues(int64_t n) const;
  void layoutKept();
  void forgetValues(const Uniform &u);
  int64_t keptStep() const;
  void copyValues(const Uniform &u, int64_t segment, mlir::Value rows, mlir::Value count, mlir::Value buffer,
                  mlir::Value pitch);
  mlir::Value keysBefore(const Uniform &u, int64_t n, mlir::Value position);
  std::pair<mlir::Value, mlir::Value> stageValues(const Uniform &u, int64_t n, const Chunk &c);

  //===--- AttendScore.cpp ---------------------------------------------------===//

  void emitScore(int64_t n, bool masked, bool byLane);
  mlir::Value topOf(mlir::Value column, mlir::Value first, mlir::Value last, mlir::Value top);
  mlir::Value maskRun(const Uniform &u, const Stratum &s, mlir::Value lane, mlir::Value column, mlir::Value first,
                      mlir::Value last, mlir::Value top);
  /// Address of lanes [lane, lane + width) of the first key in S of dot `dot`.
  mlir::Value scoresOf(const Uniform &u, int64_t dot, mlir::Value lane) {
    mlir::Value column = e.mul(e.floorDiv(lane, kColumn), columnPitch());
    return e.at(in(u, fScores[dot]), e.add(column, e.mul(e.floorMod(lane, kColumn), 4)));
  }
  /// The score that a region computes of (dots.., b, h, i, j), each a scalar or lanes.
  mlir::Value emitRegion(mlir::Region &region, mlir::Value args, llvm::ArrayRef<mlir::Value> arguments,
                         llvm::ArrayRef<std::pair<mlir::Value, mlir::Value>> given = {});
  mlir::Value emitPart(mlir::Value part, mlir::Value args, llvm::ArrayRef<mlir::Value> arguments);
  class PairScore;
  mlir::Value liveLanes(mlir::Value live, mlir::Value k);

  //===--- GatheredKeys.cpp --------------------------------------------------===//

  /// Rows sorted by ids: a table of the argument block (docs/abi.md).
  struct RowOrder {
    Expr ids;
    int64_t segment = 0, query = 0, key = 0; ///< query, key: arguments
  };
  llvm::SmallVector<RowOrder> orders;
  llvm::SmallVector<int64_t> fRowQueries; ///< of each dot: one query's row, scaled
  int64_t fRanks = 0;                     ///< of the chunk's keys, in their order

  int64_t orderOf(const Stratum &s);
  /// Address of one of an order's tables for (b, h): 0 queries, 1 keys, 2 and 3 a query's first and end key.
  mlir::Value orderTable(const Uniform &u, int64_t order, int64_t table);
  mlir::Value gatherI32(mlir::Value base, mlir::Value index);
  void describeOrders();
  void emitShared(const Uniform &u, int64_t n);
  void emitSorted(const Uniform &u, int64_t n);
  /// Address of a query's row with adjacent elements, as it is stored.
  mlir::Value queryRow(const Uniform &u, int64_t segment, size_t dot, mlir::Value query);
  /// `whole`: all of the scale, else its sign, as Pack has it.
  void emitRowQuery(const Uniform &u, int64_t segment, size_t dot, mlir::Value query, bool whole);
  void emitRowDots(const Uniform &u, int64_t segment, size_t dot, mlir::Value count, mlir::Value scores);

  //===--- RelativeRows.cpp --------------------------------------------------===//

  int64_t relativeSlots = 0; ///< distances that are computed at once
  int64_t fRelativeTable = 0, fRelativeScores = 0, fRelativeStage = 0, fRelativeGroups = 0, fRelativeRow = 0;

  /// Address of row clamp(query - key + shift) of a dot's table.
  mlir::Value relativeRow(const Uniform &u, const DotSource &dot, mlir::Value query, mlir::Value key);
  void layoutRelative();
  void emitRelative(int64_t n, size_t dot);
  void emitDistances(const Uniform &u, int64_t segment, size_t dot, mlir::Value least, mlir::Value span);
  void emitSkew(const Uniform &u, int64_t segment, size_t dot, mlir::Value least, mlir::Value span);
  void emitRelativeRows(const Uniform &u, int64_t segment, size_t dot);

  //===--- RowKeys.cpp -------------------------------------------------------===//

  /// Strata of one segment and group whose queries are taken one at a time: a query's keys of all of them are one list.
  struct RowSet {
    llvm::SmallVector<int64_t> members;
    llvm::SmallVector<llvm::SmallVector<LaneInterval>> intervals; ///< of each member
    llvm::SmallVector<int64_t> few; ///< of each member: its keys are in one short run of at most so many; 0: not known
    /// Of each member: its keys are those of a table; scratch: i64 for each lane, what entries are added to. The
    /// interval of j is then that of the lane's entries.
    llvm::SmallVector<std::optional<KeyTable>> tables;
    llvm::SmallVector<int64_t> bases;
  };
  llvm::MapVector<int64_t, RowSet> rowSets; ///< by first member
  /// Queries of a block, and rows of a query that are asked for early.
  static constexpr int64_t kRowBlock = 16, kRowNews = 32;
  /// Two blocks of queries: while one is computed, the rows of the next are asked for.
  int64_t fRowKeys = 0, fRowCounts = 0, fRowNews = 0, fRowNewCounts = 0, fRowTops = 0, fRowFactors = 0;

  static int64_t fewKeys(const Stratum &s);
  void planRows();
  void layoutRows();
  void emitRows(int64_t n);
  void emitFewKeys(const Uniform &u, const RowSet &set, mlir::Value lane, mlir::Value lanes, mlir::Value place);
  void fillGroup(const Uniform &u, mlir::Value place);
  void findEntries(const Uniform &u, const Stratum &s, const KeyTable &table, const LaneInterval &interval,
                   int64_t bases);

  //===--- RowGather.cpp -----------------------------------------------------===//

  class RowGather;
  void emitRowGather(int64_t n);

  //===--- RowBlock.cpp ------------------------------------------------------===//

  class RowBlock;
  void emitRowBlock(int64_t n);
  void emitRowScores(const Uniform &u, int64_t segment, mlir::Value count, mlir::Value query, mlir::Value keys,
                     mlir::Value place);
  mlir::Value rowScores(const Uniform &u, size_t dot, mlir::Value place) {
    return e.at(in(u, fScores[dot]), e.mul(place, slots * 4));
  }

  //===--- ScannedKeys.cpp ---------------------------------------------------===//

  /// One query's list of keys (i32), their number (i64), and what computes them when they are many.
  struct RowList {
    mlir::Value query, keys, countAt;
    llvm::function_ref<void()> flush;
  };
  llvm::SmallVector<int64_t> fSparse; ///< of each stratum: i64 for each lane, not 0 where it is taken by itself; or -1

  llvm::SmallVector<bool> decides; ///< of each stratum: mayBeSparse()

  bool decidesByRow(const Stratum &s) const { return decides[&s - schedule.strata.data()]; }
  /// One query's row of a load.
  struct LoadRow {
    Expr load;
    mlir::Type element;
    mlir::Value base, size;
  };
  /// One query's condition on a stratum's keys, and what of it is known before the first.
  struct RowCondition {
    Expr condition;
    mlir::Value query;
    llvm::SmallVector<LoadRow> rows;
    llvm::SmallVector<std::pair<const ExprNode *, mlir::Value>> given;
  };
  llvm::SmallVector<LoadRow> rowsOf(const Uniform &u, const Stratum &s, const Expr &condition, mlir::Value query);
  RowCondition rowCondition(const Uniform &u, const Stratum &s, mlir::Value query);
  mlir::Value tryKeys(const Uniform &u, const Stratum &s, const RowCondition &c, mlir::Value first);
  mlir::Value isSparse(const Uniform &u, const Stratum &s, mlir::Value query);
  void emitSparse(const Uniform &u, int64_t n, mlir::Value split);
  void scanRun(const Uniform &u, const Stratum &s, const RowList &list, mlir::Value first, mlir::Value total);
};

} // namespace heddle

#endif // HEDDLE_PASSES_ATTENDTILER_H
