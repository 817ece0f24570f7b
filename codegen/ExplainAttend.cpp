//===- ExplainAttend.cpp - What one attend will cost, and why -------------===//

#include "codegen/ExplainAttend.h"

#include "codegen/CostModel.h"
#include "codegen/SpecParser.h"
#include "dialect/PatternMeaning.h"
#include "passes/AnnotateSchedule.h"
#include "passes/AttendTiler.h"
#include "passes/BuildStrata.h"
#include "passes/KnownRanges.h"
#include "passes/ScoreParts.h"
#include "passes/TileKernels.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

using namespace mlir;
namespace json = llvm::json;

namespace heddle {

namespace {

/// Gathers the facts about one attend op.
class Explainer {
public:
  Explainer(attn::AttendOp op, const Sizes &sizes) : op(op), sizes(sizes) {
    func = op->getParentOfType<func::FuncOp>();
    for (unsigned n = 0; n < func.getNumArguments(); ++n) {
      auto name = func.getArgAttrOfType<StringAttr>(n, kArgumentName);
      argumentNames.push_back(name ? name.str() : "arg" + std::to_string(n));
    }
    b = sizes.dimension("b", op.getQ(), 0, 1);
    h = sizes.dimension("h", op.getQ(), 1, 8);
    nq = sizes.dimension("nq", op.getQ(), 2, 1024);
    for (const auto &[name, given] : {std::pair("hk", op.getKeys()), std::pair("hv", op.getValues())}) {
      for (Value tensor : given) {
        const int64_t heads = headsOf(tensor, name, 0);
        if (heads != 0 && h % heads != 0) {
          throw ExplainFailure{HEDDLE_INVALID_VALUE, "expected h to be a multiple of " + std::string(name) +
                                                         ", but got h = " + std::to_string(h) + " and " + name + " = " +
                                                         std::to_string(heads)};
        }
      }
    }
    d = sizes.dimension("d", op.getQ(), 3, 64);
    dv = sizes.dimension("dv", op.getValues()[0], 3, d);
    model = MachineModel::load(typeName(cast<RankedTensorType>(op.getQ().getType()).getElementType()));
    threads = sizes.threads();
    if (op.getScheduleAttr()) {
      rowsUpTo = op.getScheduleAttr().getValue().rowsUpTo;
      schedule = op.getScheduleAttr().getValue().atLength(mostKeys());
      findHeadTables();
    }
  }

  json::Object explain() {
    json::Object all;
    all["function"] = func.getName().str();
    all["dtype"] = typeName(cast<RankedTensorType>(op.getQ().getType()).getElementType());
    all["arguments"] = json::Array(argumentNames);
    all["normalizer"] = attn::stringifyNormalizer(op.getNormalizer()).str();
    json::Object sizesOut{{"b", b}, {"h", h}, {"nq", nq}, {"d", d}, {"dv", dv}};
    json::Array segments;
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      segments.push_back(explainSegment(g));
    }
    for (const auto &[name, value] : keyCounts) {
      sizesOut[name] = value;
    }
    all["sizes"] = std::move(sizesOut);
    all["segments"] = std::move(segments);
    for (llvm::StringRef total : {"live_pairs", "executed_pairs", "unmasked_pairs", "flops", "executed_flops"}) {
      sum(all, total);
    }
    all["pairs"] = sumOf(*all.getArray("segments"), "pairs").value_or(0);
    all["compulsory_bytes"] = compulsoryBytes();
    if (op.getScheduleAttr()) {
      all["schedule"] = json::Object{
          {"super_tile", schedule.superTile}, {"heads_per_tile", headsPerTile()},
          {"head_tables", undecidedTables()}, {"key_chunk", schedule.keyChunk},
          {"rows_up_to", rowsUpTo},           {"text", str(schedule, [this](int64_t n) { return operandName(n); })}};
      all["time"] = explainTime(*all.getNumber("compulsory_bytes"));
    }
    return all;
  }

private:
  static std::string typeName(Type type) {
    std::string name;
    llvm::raw_string_ostream(name) << type;
    return name;
  }

  std::string operandName(int64_t n) const {
    if (n >= 0 && n < static_cast<int64_t>(op.getPatternOperands().size())) {
      if (auto arg = dyn_cast<BlockArgument>(op.getPatternOperands()[n])) {
        return "%" + argumentNames[arg.getArgNumber()];
      }
    }
    return "%" + std::to_string(n);
  }

  /// The run-time operands whose values are not known here.
  std::set<int64_t> unknownOperands(const Pattern &p) const {
    std::set<int64_t> unknown;
    for (int64_t n : p.tensorOperands()) {
      unknown.insert(n);
    }
    for (int64_t n : p.scalarOperands()) {
      if (!sizes.has(operandName(n).substr(1))) {
        unknown.insert(n);
      }
    }
    return unknown;
  }

  int64_t offset(OpFoldResult value, const std::string &name, int64_t otherwise) const {
    if (!value) {
      return otherwise;
    }
    if (auto attr = dyn_cast<Attribute>(value)) {
      return cast<IntegerAttr>(attr).getInt();
    }
    auto arg = dyn_cast<BlockArgument>(cast<Value>(value));
    std::string own = arg ? argumentNames[arg.getArgNumber()] : name;
    return sizes.get(sizes.has(own) ? own : name, otherwise);
  }

  int64_t keysOf(int64_t g) const {
    return sizes.dimension("nk" + std::to_string(g), op.getKeys()[g], 2, rowsOf(op.getKeys()[g]));
  }

  int64_t mostKeys() const {
    int64_t keys = 0;
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      keys = std::max(keys, keysOf(g));
    }
    return keys;
  }

  /// Rows of a tensor: of an argument nk, of a summary what its op makes of them.
  int64_t rowsOf(Value v) const {
    const int64_t fixed = cast<RankedTensorType>(v.getType()).getDimSize(2);
    if (!ShapedType::isDynamic(fixed)) {
      return fixed;
    }
    auto windows = [](int64_t n, int64_t size, int64_t step, int64_t offset, bool partial) {
      return partial ? (n + step - 1) / step : std::max<int64_t>(0, floorDivInt(n - offset - size, step) + 1);
    };
    Operation *def = v.getDefiningOp();
    if (auto pool = dyn_cast_or_null<attn::PoolOp>(def)) {
      return windows(rowsOf(pool.getInput()), pool.getSize(), pool.getStep(), pool.getOffset(), pool.getPartial());
    }
    if (auto convolve = dyn_cast_or_null<attn::ConvolveOp>(def)) {
      const int64_t taps = cast<RankedTensorType>(convolve.getWeights().getType()).getDimSize(1);
      return windows(rowsOf(convolve.getInput()), taps, convolve.getStride().value_or(taps), convolve.getOffset(),
                     convolve.getPartial());
    }
    for (Value in : def ? def->getOperands() : ValueRange()) {
      auto type = dyn_cast<RankedTensorType>(in.getType());
      if (type && type.getRank() == 4 && !isa<attn::GatherRowsOp>(def)) {
        return rowsOf(in); // arithmetic, attention of some queries, scattered rows
      }
    }
    return sizes.get("nk", nq);
  }

  ExprEnv environment(int64_t g, int64_t keys) const {
    ExprEnv env;
    int64_t end = keysOf(0) - nq;
    env.qOffset = op.getQOffsetEnd() ? end : offset(op.getQOffsetOr(), "q_offset", op.getQOffset() ? end : 0);
    env.kOffset = offset(op.getKOffset(g), "k_offset" + std::to_string(g), 0);
    env.nq = env.qOffset + nq;
    env.nk = env.kOffset + keys;
    env.scalar = [this](int64_t n) { return sizes.get(operandName(n).substr(1), 0); };
    env.load = [](int64_t, const std::vector<int64_t> &) { return 0.0; };
    return env;
  }

  json::Object explainSegment(int64_t g) {
    auto name = [this](int64_t n) { return operandName(n); };
    const Pattern &pattern = op.getPattern(g);
    int64_t keys = keysOf(g);
    keyCounts[op.getNumSegments() == 1 ? "nk" : "nk" + std::to_string(g)] = keys;
    json::Object segment{{"pattern", pattern.str(name)},
                         {"nk", keys},
                         {"pairs", static_cast<double>(b * h) * static_cast<double>(nq) * static_cast<double>(keys)},
                         {"flops_per_pair", flopsPerPair(g)},
                         {"score_region", op.getScore(g) != nullptr},
                         {"dots", static_cast<int64_t>(op.getDots(g).size())}};
    std::set<int64_t> unknown = unknownOperands(pattern);
    json::Array unknownNames;
    for (int64_t n : unknown) {
      unknownNames.push_back(operandName(n));
    }
    segment["depends_on"] = std::move(unknownNames);
    ExprEnv env = environment(g, keys);
    segment["q_offset"] = env.qOffset;
    segment["k_offset"] = env.kOffset;
    bool exact = true;
    json::Array strata;
    if (op.getScheduleAttr()) {
      for (const Stratum &s : schedule.strata) {
        if (s.segment == g) {
          strata.push_back(explainStratum(s, env, keys, unknown.empty(), exact));
        }
      }
    }
    segment["strata"] = std::move(strata);
    segment["exact"] = exact;
    for (llvm::StringRef total : {"live_pairs", "executed_pairs", "unmasked_pairs"}) {
      std::optional<double> value = sumOf(*segment.getArray("strata"), total);
      segment[total] = value && unknown.empty() ? json::Value(*value) : json::Value(nullptr);
    }
    for (auto [flops, pairs] : {std::pair("flops", "live_pairs"), std::pair("executed_flops", "executed_pairs")}) {
      std::optional<double> count = segment.getNumber(pairs);
      segment[flops] = count ? json::Value(*count * flopsPerPair(g)) : json::Value(nullptr);
    }
    return segment;
  }

  StratumShape rowsOfSegment(int64_t g) const { return shapeOf(op, g, d, dv); }

  static json::Object amounts(const WorkAmounts &w) {
    json::Object out;
    for (size_t n = 0; n < kWorkKinds; ++n) {
      out[nameOf(static_cast<Work>(n))] = w.amounts[n];
    }
    return out;
  }

  /// Packing queries and writing results, for each tiling of the queries; one launch.
  WorkAmounts workOfRows(int64_t tilings) const {
    WorkAmounts w;
    w[Work::Rows] = static_cast<double>(b * h * nq) * static_cast<double>(d + dv) * static_cast<double>(tilings);
    w[Work::Calls] = 1;
    return w;
  }

  /// What the kernel's time would be without a pattern.
  double denseSeconds(double bytes) const {
    WorkAmounts w = workOfRows(1);
    Stratum dense;
    dense.query = {QueryDigit{}};
    dense.key = {KeyDigit{}};
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      const int64_t keys = keysOf(g);
      StratumCost cost = costOf(dense, environment(g, keys), nq, keys, schedule.keyChunk);
      shareTiles(cost);
      w.add(workOf(dense, cost, rowsOfSegment(g)), static_cast<double>(b * h));
    }
    return MachineModel::togetherSeconds(model.computeSeconds(w, threads, tasks()),
                                         model.memorySeconds(bytes, threads));
  }

  /// The predicted time, and the measured one where it was given.
  json::Object explainTime(double bytes) {
    json::Object out{{"threads", threads}, {"machine", model.measured ? "measured" : "usual"}};
    if (sizes.has("measured_ns")) {
      out["measured_seconds"] = static_cast<double>(sizes.get("measured_ns", 0)) * 1e-9;
    }
    if (!known) {
      out["predicted_seconds"] = nullptr;
      return out;
    }
    std::vector<std::vector<QueryDigit>> tilings;
    for (const Stratum &s : schedule.strata) {
      const std::vector<QueryDigit> query = s.byRow ? std::vector<QueryDigit>{QueryDigit()} : s.query;
      if (llvm::find(tilings, query) == tilings.end()) {
        tilings.push_back(query);
      }
    }
    WorkAmounts w = work;
    w.add(workOfRows(static_cast<int64_t>(tilings.size())));
    for (const auto &[segment, rows] : ownRows) {
      w[Work::OwnRows] += rows;
    }
    const double compute = model.computeSeconds(w, threads, tasks()), memory = model.memorySeconds(bytes, threads);
    out["work"] = amounts(w);
    out["compute_seconds"] = compute;
    out["memory_seconds"] = memory;
    out["predicted_seconds"] = MachineModel::togetherSeconds(compute, memory);
    out["dense_seconds"] = denseSeconds(bytes);
    return out;
  }

  StratumCost costOfHeads(const Stratum &s, ExprEnv env, int64_t keys) const {
    StratumCost total;
    const int64_t chunk = schedule.keyChunk;
    for (int64_t head = 0; head < h; ++head) {
      // Heads of one class cost the same, unless a bound or a condition names the head.
      if (isLiveForHead(s, head)) {
        env.h = head;
        StratumCost one = costOf(s, env, nq, keys, chunk);
        auto times = static_cast<double>(mentionsHead(s) ? 1 : liveHeads(s));
        add(total, one, times * static_cast<double>(b));
        if (!mentionsHead(s)) {
          break;
        }
      }
    }
    return total;
  }

  json::Object explainStratum(const Stratum &s, const ExprEnv &env, int64_t keys, bool known, bool &exact) {
    json::Object out{{"kind", kindName(s.kind)}, {"note", withNames(s.note)}};
    json::Array queryDigits, keyDigits, bounds;
    for (const QueryDigit &digit : s.query) {
      queryDigits.push_back(json::Object{{"radix", digit.radix}, {"extent", digit.extent}, {"tile", digit.tile}});
    }
    for (const KeyDigit &digit : s.key) {
      json::Object key{{"radix", digit.radix}, {"extent", digit.extent}, {"step", digit.step}};
      if (!digit.phase.isNull()) {
        key["phase"] = textOf(digit.phase);
      }
      key["lower"] = texts(digit.lower);
      key["upper"] = texts(digit.upper);
      keyDigits.push_back(std::move(key));
    }
    out["query_digits"] = std::move(queryDigits);
    out["key_digits"] = std::move(keyDigits);
    out["lower"] = texts(s.lower);
    out["upper"] = texts(s.upper);
    for (const auto &[label, condition] :
         {std::pair("guard", s.guard), std::pair("keep", s.keep), std::pair("residual", s.residual)}) {
      if (!condition.isNull()) {
        out[label] = textOf(condition);
      }
    }
    if (s.byRow) {
      out["by_row"] = true;
    } else if (AttendTiler::mayBeSparse(s)) {
      out["scans"] = true;
    }
    if (s.headPeriod > 1) {
      out["head_period"] = s.headPeriod;
      out["heads"] = json::Array(s.heads);
    }
    if (!known) {
      this->known = false;
      return out;
    }
    StratumCost total = costOfHeads(s, env, keys);
    exact &= total.exact;
    shareTiles(total);
    WorkAmounts own = workOf(s, total, rowsOfSegment(s.segment));
    work.add(own);
    out["predicted_seconds"] = model.computeSeconds(own, 1, 1);
    if (s.byRow) {
      ownRows[s.segment] = std::max(ownRows[s.segment], total.ownRows);
      Stratum tiled = s;
      tiled.byRow = false;
      out["tiles_seconds"] =
          model.computeSeconds(workOf(tiled, costOfHeads(tiled, env, keys), rowsOfSegment(s.segment)), 1, 1);
    }
    out["live_pairs"] = total.live;
    out["executed_pairs"] = total.executed;
    // Boxes with a live pair are counted; ranges of the query and the key may let others through.
    out["executed_at_least"] = !s.byRow && hasBoxTest(s.residual);
    out["unmasked_pairs"] = total.unmasked;
    out["tiles"] =
        json::Object{{"full", total.fullTiles}, {"partial", total.partialTiles}, {"query", total.queryTiles}};
    return out;
  }

  static void add(StratumCost &total, const StratumCost &one, double times) {
    total.live += one.live * times;
    total.executed += one.executed * times;
    total.unmasked += one.unmasked * times;
    total.queryTiles += one.queryTiles * times;
    total.fullTiles += one.fullTiles * times;
    total.partialTiles += one.partialTiles * times;
    total.scored += one.scored * times;
    total.weighted += one.weighted * times;
    total.masked += one.masked * times;
    total.keys += one.keys * times;
    total.runs += one.runs * times;
    total.maskedKeys += one.maskedKeys * times;
    total.columns += one.columns * times;
    total.rows += one.rows * times;
    total.ownRuns += one.ownRuns * times;
    total.ownRows += one.ownRows * times;
    total.exact &= one.exact;
  }

  /// Whether heads may share a tile, and the tables that must be alike for them, as in the tile loops.
  void findHeadTables() {
    SmallVector<OperandRecord> records;
    for (Value v : op.getPatternOperands()) {
      auto tensor = dyn_cast<RankedTensorType>(v.getType());
      records.push_back({0, tensor ? tensor.getElementType() : Type(), tensor ? tensor.getRank() : 0});
    }
    headsShare = rowsUpTo == 0 && llvm::all_of(schedule.strata, [&](const Stratum &s) {
                   return collectHeadTables(s, records, headTables);
                 });
    if (!headsShare) {
      headTables.clear();
    }
  }

  /// Query heads that share all keys and values: so many follow one another.
  int64_t headsOfKeys() const {
    int64_t shared = h;
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      for (Value tensor : {op.getKeys()[g], op.getValues()[g]}) {
        const int64_t heads = headsOf(tensor, tensor == op.getValues()[g] ? "hv" : "hk", headsOf(tensor, "hk", h));
        shared = std::gcd(shared, h / std::max<int64_t>(heads, 1));
      }
      for (size_t dot = 0; dot < op.getDots(g).size(); ++dot) {
        if (op.getDotShift(g, static_cast<int64_t>(dot))) {
          return 1;
        }
      }
    }
    return headsShare ? shared : 1;
  }

  int64_t headsOfTable(std::pair<int64_t, int64_t> table) const {
    return cast<RankedTensorType>(op.getPatternOperands()[table.first].getType()).getDimSize(table.second);
  }

  /// Query heads whose queries are in one tile, as in the runtime: as many as fill it, and share keys and tables.
  /// A table whose heads no type tells is taken to differ between all of them.
  int64_t headsPerTile() const {
    if (nq == 0) {
      return 1;
    }
    int64_t shared = headsOfKeys();
    for (auto table : headTables) {
      const int64_t own = headsOfTable(table);
      shared = std::gcd(shared, ShapedType::isDynamic(own) ? 1 : h / std::max<int64_t>(own, 1));
    }
    int64_t most = std::min(kLanes / nq, shared);
    while (most > 1 && shared % most != 0) {
      --most;
    }
    return std::max<int64_t>(most, 1);
  }

  /// The tables that decide, when the kernel runs, whether heads share tiles.
  json::Array undecidedTables() const {
    json::Array names;
    for (auto table : headTables) {
      if (headsOfKeys() > 1 && ShapedType::isDynamic(headsOfTable(table))) {
        names.push_back(operandName(table.first));
      }
    }
    return names;
  }

  /// From tiles of one head each to those that several share, and from whole columns to the lanes that few queries
  /// take.
  void shareTiles(StratumCost &cost) const {
    const int64_t together = headsPerTile(), lanes = nq * together;
    if (nq == 0 || lanes > kLanes || (together == 1 && nq > kNarrow)) {
      return;
    }
    auto columns = [](int64_t n) { return (n + kColumn - 1) / kColumn; };
    const double tiles = 1 / static_cast<double>(together);
    const double parts = tiles * static_cast<double>(columns(lanes)) / static_cast<double>(columns(nq));
    const int64_t narrow = lanes > kNarrow ? kColumn : lanes > kNarrow / 2 ? kNarrow : kNarrow / 2;
    const double pairs = parts * static_cast<double>(narrow) / kColumn;
    for (double *amount : {&cost.scored, &cost.weighted, &cost.masked, &cost.executed}) {
      *amount *= pairs;
    }
    for (double *amount : {&cost.maskedKeys, &cost.columns}) {
      *amount *= parts;
    }
    for (double *amount : {&cost.keys, &cost.runs, &cost.queryTiles, &cost.fullTiles, &cost.partialTiles}) {
      *amount *= tiles;
    }
  }

  /// What may run at once: super-tiles of heads, and splits of their keys.
  double tasks() const {
    // Tiles that have a state of their own are tasks.
    const int64_t super = takeQueriesAlike(schedule.strata) ? kLanes : std::max<int64_t>(schedule.superTile, 1);
    const bool split = schedule.strata.size() == 1 && !schedule.strata[0].byRow;
    const int64_t splits = split ? std::clamp<int64_t>(mostKeys() / kKeysPerSplit, 1, kMaxSplits) : 1;
    return static_cast<double>(b * h) / static_cast<double>(headsPerTile()) *
           static_cast<double>((nq + super - 1) / super) * static_cast<double>(splits);
  }

  int64_t liveHeads(const Stratum &s) const {
    int64_t count = 0;
    for (int64_t head = 0; head < h; ++head) {
      count += isLiveForHead(s, head);
    }
    return count;
  }

  static bool mentionsHead(const Stratum &s) {
    bool found = false;
    auto look = [&](const Expr &e) { found |= !e.isNull() && e.mentions(Sym::Head); };
    auto lookAll = [&](const std::vector<Expr> &es) { llvm::for_each(es, look); };
    for (const KeyDigit &digit : s.key) {
      look(digit.phase);
      lookAll(digit.lower);
      lookAll(digit.upper);
    }
    lookAll(s.lower);
    lookAll(s.upper);
    look(s.guard);
    look(s.keep);
    look(s.residual);
    return found;
  }

  /// Operands of a note by their names instead of their numbers.
  std::string withNames(llvm::StringRef note) const {
    std::string text;
    while (!note.empty()) {
      int64_t n = 0;
      text += note.take_until([](char c) { return c == '%'; });
      note = note.drop_until([](char c) { return c == '%'; });
      if (note.consume_front("%")) {
        text += note.consumeInteger(10, n) ? "%" : operandName(n);
      }
    }
    return text;
  }

  /// Without the parentheses around the whole.
  std::string textOf(const Expr &e) const {
    std::string text = e.str([this](int64_t n) { return operandName(n); });
    int depth = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      depth += (text[at] == '(') - (text[at] == ')');
      if (depth == 0 && at + 1 < text.size()) {
        return text;
      }
    }
    return text.size() > 1 && text[0] == '(' ? text.substr(1, text.size() - 2) : text;
  }

  json::Array texts(const std::vector<Expr> &exprs) const {
    json::Array out;
    for (const Expr &e : exprs) {
      out.push_back(textOf(e));
    }
    return out;
  }

  double flopsPerPair(int64_t g) {
    double flops = 2.0 * static_cast<double>(dv);
    for (auto [query, key] : op.getDots(g)) {
      int64_t width = cast<RankedTensorType>(query.getType()).getShape().back();
      flops += 2.0 * static_cast<double>(ShapedType::isDynamic(width) ? d : width);
    }
    return flops;
  }

  /// Segments may differ in their heads: what a type fixes goes before what the user gave.
  int64_t headsOf(Value tensor, const std::string &name, int64_t otherwise) const {
    int64_t fixed = cast<RankedTensorType>(tensor.getType()).getDimSize(1);
    return ShapedType::isDynamic(fixed) ? sizes.get(name, otherwise) : fixed;
  }

  /// q and out once, every segment's k and v once.
  double compulsoryBytes() {
    auto bytes = [&](Value t, int64_t rows, int64_t heads, int64_t width) {
      auto type = cast<RankedTensorType>(t.getType());
      return static_cast<double>(b * rows * heads * width) * type.getElementTypeBitWidth() / 8;
    };
    double total = bytes(op.getQ(), nq, h, d) + bytes(op.getOut(), nq, h, dv);
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      Value k = op.getKeys()[g], v = op.getValues()[g];
      int64_t rows = keyCounts[op.getNumSegments() == 1 ? "nk" : "nk" + std::to_string(g)];
      total += bytes(k, rows, headsOf(k, "hk", h), d) + bytes(v, rows, headsOf(v, "hv", headsOf(k, "hk", h)), dv);
    }
    return total;
  }

  static std::optional<double> sumOf(const json::Array &parts, llvm::StringRef field) {
    double total = 0;
    for (const json::Value &part : parts) {
      std::optional<double> value = part.getAsObject()->getNumber(field);
      if (!value) {
        return std::nullopt;
      }
      total += *value;
    }
    return total;
  }
  static void sum(json::Object &all, llvm::StringRef field) {
    std::optional<double> value = sumOf(*all.getArray("segments"), field);
    all[field] = value ? json::Value(*value) : json::Value(nullptr);
  }

  mutable attn::AttendOp op;
  func::FuncOp func;
  const Sizes &sizes;
  std::vector<std::string> argumentNames;
  Schedule schedule; ///< as it is taken with so many keys
  int64_t rowsUpTo = 0;
  HeadTables headTables;
  bool headsShare = false;
  std::map<std::string, int64_t> keyCounts;
  int64_t b = 1, h = 1, nq = 0, d = 0, dv = 0, threads = 1;
  MachineModel model;
  WorkAmounts work;                  ///< of all strata
  std::map<int64_t, double> ownRows; ///< queries that are taken one at a time, by segment: each has a list of its own
  bool known = true;                 ///< no run-time operand decides
};

} // namespace

json::Object explainAttend(attn::AttendOp op, const Sizes &sizes) { return Explainer(op, sizes).explain(); }

} // namespace heddle
