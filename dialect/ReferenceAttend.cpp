//===- ReferenceAttend.cpp - One attend, pair by pair ---------------------===//
//
// For each query row: one `contains` for each pair of each segment, the scores
// of the live ones, one normaliser over all segments, the weighted sum of the
// values. Doubles throughout. Rows are spread over threads; a row's result
// depends on nothing but the row.
//
//===----------------------------------------------------------------------===//
#include "dialect/ReferenceAttend.h"

#include "dialect/PatternTables.h"
#include "dialect/TensorViews.h"

#include "mlir/IR/BuiltinTypes.h"

#include "llvm/ADT/DenseSet.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// A dense copy `[B, H, N, D]` of a view, in doubles.
struct Rows {
  int64_t batch = 0, heads = 0, rows = 0, features = 0;
  std::vector<double> data;
  explicit Rows(const heddle_tensor &t) : batch(t.shape[0]), heads(t.shape[1]), rows(t.shape[2]), features(t.shape[3]) {
    data.resize(batch * heads * rows * features);
    double *to = data.data();
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t n = 0; n < rows; ++n) {
          for (int64_t d = 0; d < features; ++d) {
            *to++ = readFloat(t, elementOffset(t, {b, h, n, d}));
          }
        }
      }
    }
  }
  /// Row n as batch b (or the shared one) and query head h of `queryHeads` see it.
  const double *at(int64_t b, int64_t h, int64_t n, int64_t queryHeads) const {
    int64_t own = h / (queryHeads / heads);
    return data.data() + (((batch == 1 ? 0 : b) * heads + own) * rows + n) * features;
  }
};

double dot(const double *a, const double *b, int64_t n) {
  double sums[8] = {};
  int64_t d = 0;
  for (; d + 8 <= n; d += 8) {
    for (int64_t e = 0; e < 8; ++e) {
      sums[e] += a[d + e] * b[d + e];
    }
  }
  double sum = 0;
  for (; d < n; ++d) {
    sum += a[d] * b[d];
  }
  for (double part : sums) {
    sum += part;
  }
  return sum;
}

/// Calls fn(0 ... count - 1) on the machine's threads.
template <typename Fn> void inParallel(int64_t count, Fn fn) {
  int64_t workers = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, std::max<int64_t>(count, 1));
  std::atomic<int64_t> next = 0;
  auto work = [&] {
    for (int64_t n = next++; n < count; n = next++) {
      fn(n);
    }
  };
  std::vector<std::thread> threads;
  for (int64_t n = 1; n < workers; ++n) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread &thread : threads) {
    thread.join();
  }
}

/// True where membership can differ between batches or heads at one (i, j).
bool dependsOnBatchOrHead(const heddle::Pattern &p) {
  if (!p->operands.empty() || p->kind == PatternKind::PerHead) {
    return true;
  }
  for (const Expr &e : p->exprs) {
    if (e.mentions(Sym::Batch) || e.mentions(Sym::Head) || e.hasLoad()) {
      return true;
    }
  }
  return llvm::any_of(p->children, dependsOnBatchOrHead);
}

struct Segment {
  std::vector<std::pair<const Rows *, const Rows *>> dots;
  std::vector<std::optional<int64_t>> shifts; ///< of dots with relative rows
  const Rows *values = nullptr;
  int64_t keys = 0;
  double scale = 1;
  heddle::Pattern pattern;
  bool shared = false;          ///< membership is the same for all batches and heads
  std::vector<int64_t> kOffset; ///< one for each batch, or one
  /// Score code: inputs are one for each dot, then b, h, i, j.
  ScalarCode code;
  std::vector<std::pair<int64_t, Scalar>> captures; ///< scalar captures: register, value
  int64_t firstInput = 0, scoreRegister = -1;
};

struct LivePair {
  int64_t row;
  double score;
};

class AttendRunner {
public:
  AttendRunner(AttendOp op, const Environment &env, std::string &error)
      : op(op), env(env), error(error), normalizer(op.getNormalizer()), patternOperands(op.getPatternOperands()) {}

  /// Checks sizes and prepares; nothing has been written where it fails.
  bool prepare();
  /// Writes out and lse; either may have null data.
  void run(const heddle_tensor &out, const heddle_tensor &lse);
  std::vector<int64_t> outShape() const { return {batch, heads, queries, values.front()->features}; }

private:
  bool fail(const std::string &message) {
    error = message;
    return false;
  }
  bool checkRows(Value value, const std::string &name, const Rows *&rows);
  bool prepareSegment(int64_t g);
  bool prepareScore(int64_t g);
  bool readOffsets(OpFoldResult offset, const std::string &name, std::vector<int64_t> &out);
  bool checkOperands();
  bool readScale(OpFoldResult scale, double &out);
  void runRow(int64_t row, const heddle_tensor &out, const heddle_tensor &lse) const;
  void runPairs(int64_t b, int64_t h, int64_t row, std::vector<std::vector<int64_t>> &live,
                std::vector<std::vector<LivePair>> &pairs) const;
  void findLive(const Segment &s, int64_t b, int64_t h, int64_t row, std::vector<int64_t> &live) const;
  ExprEnv pairEnvironment(const Segment &s, int64_t b, int64_t h, int64_t row) const;
  double score(const Segment &s, int64_t b, int64_t h, int64_t row, int64_t key, std::vector<Scalar> &file) const;
  double loadOperand(int64_t operand, const std::vector<int64_t> &indices) const;
  void reduce(const std::vector<std::vector<LivePair>> &pairs, int64_t b, int64_t h, std::vector<double> &out,
              double &lse) const;
  static int64_t perBatch(const std::vector<int64_t> &offsets, int64_t b) {
    return offsets.size() == 1 ? offsets[0] : offsets[b];
  }

  AttendOp op;
  const Environment &env;
  std::string &error;
  Normalizer normalizer;
  SmallVector<Value> patternOperands;
  int64_t batch = 0, heads = 0, queries = 0;
  std::vector<int64_t> qOffset;
  std::vector<double> sinks; ///< one, or one for each head; empty: none
  std::vector<std::unique_ptr<Rows>> storage;
  DenseMap<Value, const Rows *> converted;
  std::vector<Segment> segments;
  std::vector<const Rows *> values;
  std::vector<heddle_tensor> captured;
  DenseMap<Value, int64_t> capturedNumber;
  llvm::DenseSet<int64_t> primitiveOperands; ///< operands of primitives, not of `holds`
};

} // namespace

bool AttendRunner::checkRows(Value value, const std::string &name, const Rows *&rows) {
  if (const Rows *known = converted.lookup(value)) {
    rows = known;
  } else {
    const heddle_tensor &t = env.tensors.at(value);
    rows = storage.emplace_back(std::make_unique<Rows>(t)).get();
    converted[value] = rows;
  }
  if (rows->batch != 1 && rows->batch != batch) {
    return fail("expected the batch of " + name + " to be 1 or " + std::to_string(batch) + ", but got " +
                std::to_string(rows->batch));
  }
  if (heads > 0 && (rows->heads <= 0 || heads % rows->heads != 0)) {
    return fail("expected q's number of heads to be a multiple of that of " + name + ", " +
                std::to_string(rows->heads) + ", but got " + std::to_string(heads));
  }
  return true;
}

bool AttendRunner::readOffsets(OpFoldResult offset, const std::string &name, std::vector<int64_t> &out) {
  out = {0};
  if (auto literal = dyn_cast_or_null<Attribute>(offset)) {
    out = {cast<IntegerAttr>(literal).getInt()};
  } else if (auto value = dyn_cast_or_null<Value>(offset)) {
    if (value.getType().isIndex()) {
      out = {env.scalars.at(value).integer};
      return true;
    }
    const heddle_tensor &t = env.tensors.at(value);
    if (t.shape[0] != 1 && t.shape[0] != batch) {
      return fail("expected " + name + " to have size 1 or " + std::to_string(batch) + ", but got " +
                  std::to_string(t.shape[0]));
    }
    out.clear();
    for (int64_t b = 0; b < t.shape[0]; ++b) {
      out.push_back(readInteger(t, b * t.strides[0]));
    }
  }
  return true;
}

bool AttendRunner::readScale(OpFoldResult scale, double &out) {
  if (auto literal = dyn_cast_or_null<Attribute>(scale)) {
    out = cast<FloatAttr>(literal).getValueAsDouble();
  } else if (auto value = dyn_cast_or_null<Value>(scale)) {
    out = env.scalars.at(value).number;
  } else {
    out = 1 / std::sqrt(static_cast<double>(converted.lookup(op.getQ())->features));
  }
  return std::isfinite(out) || fail("expected scale to be finite, but got " + std::to_string(out));
}

/// Run-time tensors of patterns: batch 1 or B, heads 1, Hk or Hq, and rows as the pattern says.
bool AttendRunner::checkOperands() {
  for (auto [g, segment] : llvm::enumerate(segments)) {
    for (const OperandUse &use : operandUses(segment.pattern)) {
      primitiveOperands.insert(use.operand);
      const heddle_tensor &t = env.tensors.at(patternOperands[use.operand]);
      std::string name = "operand %" + std::to_string(use.operand) + " of a pattern";
      StringRef letters = axesOf(use, t.rank);
      for (auto [k, letter] : llvm::enumerate(letters)) {
        if (letter == 'b' && t.shape[k] != 1 && t.shape[k] != batch) {
          return fail("expected the batch of " + name + " to be 1 or " + std::to_string(batch) + ", but got " +
                      describeTensor(t));
        }
        if (letter == 'h' && (t.shape[k] <= 0 || heads % t.shape[k] != 0)) {
          return fail("expected the heads of " + name + " to divide " + std::to_string(heads) + ", but got " +
                      describeTensor(t));
        }
        int64_t divisor = letter == 'k' ? use.keyDivisor : use.queryDivisor;
        if (!StringRef("kqQ").contains(letter) || divisor == 0) {
          continue;
        }
        int64_t rows = ((letter == 'k' ? segment.keys : queries) + divisor - 1) / divisor + (letter == 'Q' ? 1 : 0);
        if (t.shape[k] != rows) {
          return fail("expected " + name + " to have " + std::to_string(rows) + " rows, but got " + describeTensor(t));
        }
      }
    }
  }
  return true;
}

bool AttendRunner::prepareScore(int64_t g) {
  Segment &s = segments[g];
  Region *region = op.getScore(g);
  if (!region) {
    return true;
  }
  Block &block = region->front();
  s.firstInput = s.code.numRegisters();
  for (BlockArgument argument : block.getArguments()) {
    s.code.input(argument);
  }
  for (Value capture : op.getCaptures()) {
    if (!isa<RankedTensorType>(capture.getType())) {
      s.captures.emplace_back(s.code.input(capture), env.scalars.at(capture));
    }
  }
  auto number = [&](Value tensor) {
    auto [entry, isNew] = capturedNumber.insert({tensor, static_cast<int64_t>(captured.size())});
    if (isNew) {
      captured.push_back(env.tensors.at(tensor));
    }
    return entry->second;
  };
  for (Operation &inner : block.without_terminator()) {
    if (!s.code.add(&inner, number, error)) {
      return false;
    }
  }
  Value result = cast<YieldOp>(block.getTerminator()).getScore();
  if (s.code.registerOf(result) < 0 &&
      (!result.getDefiningOp() || !s.code.add(result.getDefiningOp(), number, error))) {
    return fail("expected the score to be a value of its region or a constant, but got another value");
  }
  s.scoreRegister = s.code.registerOf(result);
  return true;
}

bool AttendRunner::prepareSegment(int64_t g) {
  Segment &s = segments[g];
  std::string suffix = " of segment " + std::to_string(g);
  const Rows *keys = nullptr;
  if (!checkRows(op.getKeys()[g], "k" + suffix, keys) || !checkRows(op.getValues()[g], "v" + suffix, s.values)) {
    return false;
  }
  values.push_back(s.values);
  s.keys = keys->rows;
  if (s.values->rows != s.keys) {
    return fail("expected k and v" + suffix + " to have the same number of rows, but got " + std::to_string(s.keys) +
                " and " + std::to_string(s.values->rows));
  }
  if (s.values->features != values.front()->features) {
    return fail("expected v" + suffix + " to have " + std::to_string(values.front()->features) + " features, but got " +
                std::to_string(s.values->features));
  }
  for (auto [n, sides] : llvm::enumerate(op.getDots(g))) {
    auto [query, key] = sides;
    s.shifts.push_back(op.getDotShift(g, int64_t(n)));
    const Rows *a = nullptr, *b = nullptr;
    if (!checkRows(query, "the query of a dot", a) || !checkRows(key, "the key of a dot", b)) {
      return false;
    }
    bool rows = s.shifts.back() || b->rows == s.keys;
    if (a->features != b->features || a->rows != queries || !rows || a->heads != heads) {
      return fail("expected both sides of a dot" + suffix + " to fit, but got " +
                  describeTensor(env.tensors.at(query)) + " and " + describeTensor(env.tensors.at(key)));
    }
    s.dots.emplace_back(a, b);
  }
  s.pattern = op.getPattern(g);
  if (!op.hasQOffset() && queries != s.keys && s.pattern.dependsOnQuery()) {
    return fail("expected q_offset where the numbers of queries, " + std::to_string(queries) + ", and of keys, " +
                std::to_string(s.keys) + suffix + " differ and its pattern depends on the query, but got none");
  }
  return readOffsets(op.getKOffset(g), "k_offset", s.kOffset) && readScale(op.getSegmentScale(g), s.scale) &&
         prepareScore(g);
}

bool AttendRunner::prepare() {
  const heddle_tensor &q = env.tensors.at(op.getQ());
  batch = q.shape[0];
  heads = q.shape[1];
  queries = q.shape[2];
  const Rows *rows = nullptr;
  if (batch > 0 && heads > 0 && !checkRows(op.getQ(), "q", rows)) {
    return false;
  }
  if (!rows) {
    rows = storage.emplace_back(std::make_unique<Rows>(q)).get();
    converted[op.getQ()] = rows;
  }
  segments.resize(op.getNumSegments());
  for (int64_t g = 0; g < op.getNumSegments(); ++g) {
    if (!prepareSegment(g)) {
      return false;
    }
  }
  if (!readOffsets(op.getQOffsetOr(), "q_offset", qOffset)) {
    return false;
  }
  if (op.getQOffsetEnd()) {
    qOffset = {segments.front().keys - queries};
  }
  for (Segment &s : segments) {
    s.shared = qOffset.size() == 1 && s.kOffset.size() == 1 && !dependsOnBatchOrHead(s.pattern);
  }
  if (op.getSink()) {
    const heddle_tensor &sink = env.tensors.at(op.getSink());
    if (sink.shape[0] != 1 && sink.shape[0] != heads) {
      return fail("expected sink to have size 1 or " + std::to_string(heads) + ", but got " + describeTensor(sink));
    }
    for (int64_t h = 0; h < sink.shape[0]; ++h) {
      sinks.push_back(readFloat(sink, h * sink.strides[0]));
    }
  }
  return checkOperands();
}

/// Element of a pattern's operand. `same` and its kind index by (b, h, row), also
/// where the operand has no heads, or those of the keys; `holds` indexes as written.
/// A shared batch or head (size 1) is a clamped index.
double AttendRunner::loadOperand(int64_t operand, const std::vector<int64_t> &indices) const {
  const heddle_tensor &t = env.tensors.at(patternOperands[operand]);
  SmallVector<int64_t, 6> at(indices.begin(), indices.end());
  if (primitiveOperands.contains(operand)) {
    int64_t spare = static_cast<int64_t>(at.size()) - t.rank;
    if (spare == 0 && at.size() >= 3) {
      at[1] /= heads / t.shape[1];
    }
    if (spare >= 1) {
      at.erase(at.begin() + 1);
    }
    if (spare >= 2) {
      at.erase(at.begin());
    }
  }
  Scalar element = readClamped(t, at);
  if (isFloatDtype(t.dtype)) {
    return element.number;
  }
  return static_cast<double>(t.dtype == HEDDLE_BOOL ? -element.integer : element.integer);
}

ExprEnv AttendRunner::pairEnvironment(const Segment &s, int64_t b, int64_t h, int64_t row) const {
  ExprEnv pair;
  pair.b = b;
  pair.h = h;
  pair.qOffset = perBatch(qOffset, b);
  pair.kOffset = perBatch(s.kOffset, b);
  pair.i = row + pair.qOffset;
  pair.nq = queries + pair.qOffset;
  pair.nk = s.keys + pair.kOffset;
  pair.heads = heads;
  pair.scalar = [this](int64_t n) { return env.scalars.at(patternOperands[n]).integer; };
  pair.size = [this](int64_t n, int64_t fromBack) {
    const heddle_tensor &t = env.tensors.at(patternOperands[n]);
    return fromBack < t.rank ? t.shape[t.rank - 1 - fromBack] : 1;
  };
  return pair;
}

void AttendRunner::findLive(const Segment &s, int64_t b, int64_t h, int64_t row, std::vector<int64_t> &live) const {
  live.clear();
  ExprEnv pair = pairEnvironment(s, b, h, row);
  pair.load = [this](int64_t operand, const std::vector<int64_t> &indices) { return loadOperand(operand, indices); };
  for (int64_t key = 0; key < s.keys; ++key) {
    pair.j = key + pair.kOffset;
    if (s.pattern.contains(pair)) {
      live.push_back(key);
    }
  }
}

double AttendRunner::score(const Segment &s, int64_t b, int64_t h, int64_t row, int64_t key,
                           std::vector<Scalar> &file) const {
  double sum = 0;
  for (auto [n, sides] : llvm::enumerate(s.dots)) {
    auto [query, keys] = sides;
    int64_t other = key;
    if (s.shifts[n]) {
      int64_t distance = row + perBatch(qOffset, b) - (key + perBatch(s.kOffset, b)) + *s.shifts[n];
      other = std::clamp<int64_t>(distance, 0, keys->rows - 1);
    }
    double value =
        keys->rows <= 0 ? 0 : s.scale * dot(query->at(b, h, row, heads), keys->at(b, h, other, heads), query->features);
    if (s.scoreRegister < 0) {
      sum += value;
    } else {
      file[s.firstInput + n] = Scalar::of(value);
    }
  }
  if (s.scoreRegister < 0) {
    return sum;
  }
  Scalar *place = &file[s.firstInput + s.dots.size()];
  place[0] = Scalar::of(b);
  place[1] = Scalar::of(h);
  place[2] = Scalar::of(row + perBatch(qOffset, b));
  place[3] = Scalar::of(key + perBatch(s.kOffset, b));
  for (auto &[index, value] : s.captures) {
    file[index] = value;
  }
  s.code.run(file.data(), [&](int64_t tensor, ArrayRef<int64_t> at) { return readClamped(captured[tensor], at); });
  return file[s.scoreRegister].number;
}

/// Scores of the live pairs of one query; `live` is kept from call to call of one row.
void AttendRunner::runPairs(int64_t b, int64_t h, int64_t row, std::vector<std::vector<int64_t>> &live,
                            std::vector<std::vector<LivePair>> &pairs) const {
  for (auto [g, s] : llvm::enumerate(segments)) {
    if (!s.shared || (b == 0 && h == 0)) {
      findLive(s, b, h, row, live[g]);
    }
    std::vector<Scalar> file(s.code.numRegisters(), Scalar::of(int64_t(0)));
    pairs[g].clear();
    for (int64_t key : live[g]) {
      double value = score(s, b, h, row, key, file);
      if (value != -infinity) {
        pairs[g].push_back({key, value});
      }
    }
  }
}

/// out = sum of w v / Z and lse = m + log Z; the weights are the op's normaliser.
void AttendRunner::reduce(const std::vector<std::vector<LivePair>> &pairs, int64_t b, int64_t h,
                          std::vector<double> &out, double &lse) const {
  bool softmax = normalizer == Normalizer::Softmax;
  double m = -infinity, z = 0;
  bool anyLive = false, anyNaN = false;
  for (const auto &segment : pairs) {
    for (const LivePair &pair : segment) {
      anyLive = true;
      anyNaN |= std::isnan(pair.score);
      m = std::max(m, pair.score);
    }
  }
  double sink = -infinity;
  if (!sinks.empty()) {
    sink = sinks[sinks.size() == 1 ? 0 : h];
    anyNaN |= std::isnan(sink);
    m = std::max(m, sink);
  }
  std::fill(out.begin(), out.end(), 0);
  lse = -infinity;
  if (softmax && !anyLive) {
    return; // zeros and -inf, with or without a sink
  }
  if (softmax && (anyNaN || m == infinity)) {
    std::fill(out.begin(), out.end(), std::nan(""));
    lse = std::nan("");
    return;
  }
  if (softmax && m == -infinity) {
    return;
  }
  for (auto [s, segment] : llvm::zip(segments, pairs)) {
    for (const LivePair &pair : segment) {
      double weight = softmax ? std::exp(pair.score - m) : pair.score;
      const double *v = s.values->at(b, h, pair.row, heads);
      for (size_t d = 0; d < out.size(); ++d) {
        out[d] += weight * v[d];
      }
      z += weight;
    }
  }
  if (softmax && sink != -infinity) {
    z += std::exp(sink - m);
  }
  lse = m + std::log(z);
  if (normalizer != Normalizer::None && anyLive) {
    for (double &value : out) {
      value /= z;
    }
  }
}

void AttendRunner::runRow(int64_t row, const heddle_tensor &out, const heddle_tensor &lse) const {
  std::vector<std::vector<int64_t>> live(segments.size());
  std::vector<std::vector<LivePair>> pairs(segments.size());
  std::vector<double> sum(values.front()->features);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      runPairs(b, h, row, live, pairs);
      double logSum = 0;
      reduce(pairs, b, h, sum, logSum);
      for (size_t d = 0; out.data && d < sum.size(); ++d) {
        writeFloat(out, elementOffset(out, {b, h, row, static_cast<int64_t>(d)}), sum[d]);
      }
      if (lse.data) {
        writeFloat(lse, elementOffset(lse, {b, h, row}), logSum);
      }
    }
  }
}

void AttendRunner::run(const heddle_tensor &out, const heddle_tensor &lse) {
  inParallel(queries, [&](int64_t row) { runRow(row, out, lse); });
}

bool heddle::runReferenceAttend(AttendOp op, const Environment &env, const AllocateResults &allocate,
                                std::string &error) {
  AttendRunner runner(op, env, error);
  if (!runner.prepare()) {
    return false;
  }
  auto [out, lse] = allocate(runner.outShape());
  runner.run(out, lse);
  return true;
}
