//===- Tensors.cpp - A kernel's arguments, filled with random data --------===//

#include "tools/Tensors.h"

#include "runtime/src/softfloat.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

namespace heddle::tools {

//===----------------------------------------------------------------------===//
// Tensor
//===----------------------------------------------------------------------===//

heddle_dtype dtypeOf(const std::string &type) {
  static const std::map<std::string, heddle_dtype> types = {
      {"f32", HEDDLE_F32}, {"f16", HEDDLE_F16}, {"bf16", HEDDLE_BF16}, {"f64", HEDDLE_F64},  {"i1", HEDDLE_BOOL},
      {"i8", HEDDLE_I8},   {"i32", HEDDLE_I32}, {"i64", HEDDLE_I64},   {"index", HEDDLE_I64}};
  auto found = types.find(type);
  if (found == types.end()) {
    throw Failure(2, "expected arguments of f32, f16, bf16, i1, i8, i32, i64 or index, but got '" + type + "'");
  }
  return found->second;
}

static int64_t bytesOf(heddle_dtype dtype) {
  switch (dtype) {
  case HEDDLE_F64:
  case HEDDLE_I64:
    return 8;
  case HEDDLE_F32:
  case HEDDLE_I32:
    return 4;
  case HEDDLE_F16:
  case HEDDLE_BF16:
    return 2;
  default:
    return 1;
  }
}

void Tensor::Free::operator()(void *p) const { std::free(p); }

Tensor::Tensor(heddle_dtype dtype, std::vector<int64_t> shape) {
  if (shape.size() > 6) {
    throw Failure(2, "expected tensors of at most 6 dimensions, but got " + std::to_string(shape.size()));
  }
  tensor.dtype = dtype;
  tensor.rank = static_cast<int32_t>(shape.size());
  count = 1;
  for (size_t n = shape.size(); n-- > 0;) {
    tensor.shape[n] = shape[n];
    tensor.strides[n] = count;
    if (__builtin_mul_overflow(count, std::max<int64_t>(shape[n], 0), &count)) {
      throw Failure(2, "expected tensors that fit memory, but got more than 2^63 elements");
    }
  }
  size_t size = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(count), static_cast<size_t>(bytesOf(dtype)), &size) ||
      size > (size_t(1) << 46)) {
    throw Failure(2, "expected tensors that fit memory, but got one of " + std::to_string(count) + " elements");
  }
  void *data = std::aligned_alloc(64, (std::max<size_t>(size, 1) + 63) / 64 * 64);
  if (!data) {
    throw Failure(1, "out of memory: a tensor of " + std::to_string(size >> 20) + " MB");
  }
  storage = std::shared_ptr<void>(data, Free());
  std::memset(data, 0, size);
  tensor.data = data;
}

static float fromBits(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

double Tensor::get(int64_t n) const {
  const void *p = tensor.data;
  switch (tensor.dtype) {
  case HEDDLE_F32:
    return static_cast<const float *>(p)[n];
  case HEDDLE_F64:
    return static_cast<const double *>(p)[n];
  case HEDDLE_F16:
    return rt::halfToFloat(static_cast<const uint16_t *>(p)[n]);
  case HEDDLE_BF16:
    return fromBits(static_cast<uint32_t>(static_cast<const uint16_t *>(p)[n]) << 16);
  case HEDDLE_BOOL:
  case HEDDLE_I8:
    return static_cast<const int8_t *>(p)[n];
  case HEDDLE_I32:
    return static_cast<const int32_t *>(p)[n];
  case HEDDLE_I64:
    return static_cast<double>(static_cast<const int64_t *>(p)[n]);
  }
  return 0;
}

void Tensor::set(int64_t n, double value) {
  void *p = tensor.data;
  switch (tensor.dtype) {
  case HEDDLE_F32:
    static_cast<float *>(p)[n] = static_cast<float>(value);
    break;
  case HEDDLE_F64:
    static_cast<double *>(p)[n] = value;
    break;
  case HEDDLE_F16:
    static_cast<uint16_t *>(p)[n] = rt::floatToHalf(static_cast<float>(value));
    break;
  case HEDDLE_BF16:
    static_cast<uint16_t *>(p)[n] = rt::floatToBfloat(static_cast<float>(value));
    break;
  case HEDDLE_BOOL:
  case HEDDLE_I8:
    static_cast<int8_t *>(p)[n] = static_cast<int8_t>(value);
    break;
  case HEDDLE_I32:
    static_cast<int32_t *>(p)[n] = static_cast<int32_t>(value);
    break;
  case HEDDLE_I64:
    static_cast<int64_t *>(p)[n] = static_cast<int64_t>(value);
    break;
  }
}

double Tensor::at(const std::vector<int64_t> &indices) const {
  if (count == 0) {
    return 0;
  }
  int64_t flat = 0;
  // A pattern reads ids at (batch, head, row); they may have no head dimension.
  size_t skip = indices.size() > static_cast<size_t>(tensor.rank) ? indices.size() - tensor.rank : 0;
  for (int32_t n = 0; n < tensor.rank && static_cast<size_t>(n) < indices.size(); ++n) {
    int64_t index = indices[n == 0 ? 0 : n + skip];
    flat += std::clamp<int64_t>(index, 0, tensor.shape[n] - 1) * tensor.strides[n];
  }
  return get(flat);
}

//===----------------------------------------------------------------------===//
// Problem: sizes
//===----------------------------------------------------------------------===//

static Slot readSlot(const nlohmann::json &j, const std::string &fallback) {
  Slot slot;
  slot.name = j.value("name", fallback);
  slot.type = j.value("type", "");
  slot.scalar = j.value("scalar", false);
  slot.dims = j.value("dims", std::vector<int64_t>());
  slot.role = j.value("role", "");
  for (const nlohmann::json &role : j.value("roles", nlohmann::json::array())) {
    slot.roles.push_back(role.value("role", ""));
    if (slot.role.empty()) {
      slot.role = slot.roles.back();
      slot.segment = role.value("segment", 0);
    }
    for (const nlohmann::json &axis : role.value("axes", j.value("axes", nlohmann::json::array()))) {
      if (slot.axes.size() < slot.dims.size()) {
        slot.axes += axis.get<std::string>();
      }
    }
  }
  return slot;
}

namespace {

/// Settles one size: what the spec fixes, what the user gave, else a default.
class Sizes {
public:
  explicit Sizes(const Shape &shape) : shape(shape) {}
  void fix(const std::string &name, int64_t value) {
    if (value < 0) {
      return;
    }
    auto [at, fresh] = fixed.emplace(name, value);
    (void)fresh;
    if (shape.has(name) && shape.get(name, 0) != at->second) {
      throw Failure(2, "expected " + name + "=" + std::to_string(at->second) + " (the spec fixes it), but got " + name +
                           "=" + std::to_string(shape.get(name, 0)));
    }
  }
  int64_t get(const std::string &name, int64_t otherwise) const {
    auto found = fixed.find(name);
    return found != fixed.end() ? found->second : shape.get(name, otherwise);
  }

private:
  const Shape &shape;
  std::map<std::string, int64_t> fixed;
};

} // namespace

static std::string nkName(int64_t segment) { return "nk" + std::to_string(segment); }

/// What the dimensions of a role are called; "" where a role has no names.
static std::vector<std::string> dimensionNames(const Slot &slot) {
  if (slot.role == "q" || slot.role == "out") {
    return {"b", "h", "nq", slot.role == "q" ? "d" : "dv"};
  }
  if (slot.role == "k") {
    return {"", "hk", nkName(slot.segment), "d"};
  }
  if (slot.role == "v") {
    return {"", "hv", nkName(slot.segment), "dv"};
  }
  if (slot.role == "dot_q") {
    return {"b", "h", "nq", ""};
  }
  if (slot.role == "dot_k") {
    return {"", "hk", nkName(slot.segment), ""};
  }
  if (slot.role == "lse") {
    return {"b", "h", "nq"};
  }
  std::vector<std::string> names;
  for (char axis : slot.axes) {
    names.push_back(axis == 'q' ? "nq" : axis == 'k' ? nkName(slot.segment) : "");
  }
  return names;
}

static std::vector<int64_t> shapeOf(const Slot &slot, const Problem &p) {
  std::vector<int64_t> shape = slot.dims;
  std::vector<std::string> names = dimensionNames(slot);
  int64_t longest = p.nq;
  for (int64_t n : p.nk) {
    longest = std::max(longest, n);
  }
  std::map<std::string, int64_t> known = {{"b", p.b},   {"h", p.h}, {"hk", p.hk}, {"hv", p.hv},
                                          {"nq", p.nq}, {"d", p.d}, {"dv", p.dv}};
  for (size_t g = 0; g < p.nk.size(); ++g) {
    known[nkName(static_cast<int64_t>(g))] = p.nk[g];
  }
  bool isOperand = slot.role == "operand";
  for (size_t n = 0; n < shape.size(); ++n) {
    if (shape[n] >= 0) {
      continue;
    }
    auto found = n < names.size() ? known.find(names[n]) : known.end();
    char axis = n < slot.axes.size() ? slot.axes[n] : '.';
    if (found != known.end()) {
      shape[n] = found->second;
    } else if (slot.role == "sink" || axis == 'h') {
      shape[n] = p.h;
    } else if (slot.role == "dot_q" || slot.role == "dot_k") {
      shape[n] = n == 0 ? p.b : p.d;
    } else if (!isOperand || axis == 'b') {
      shape[n] = p.b;
    } else {
      // A table that a region reads, as [b, h, i, j] or less: what is not read is harmless.
      size_t fromEnd = shape.size() - n;
      shape[n] = fromEnd <= 2 ? std::max(longest, p.h) : fromEnd == 3 ? p.h : p.b;
    }
  }
  return shape;
}

Problem::Problem(const std::string &manifest, const Shape &shape) {
  nlohmann::json j = nlohmann::json::parse(manifest);
  size_t segments = std::max<size_t>(1, j.value("segments", nlohmann::json::array()).size());
  for (const nlohmann::json &arg : j["args"]) {
    args.push_back(readSlot(arg, "arg" + std::to_string(args.size())));
  }
  for (const nlohmann::json &result : j["results"]) {
    outs.push_back(readSlot(result, "result" + std::to_string(outs.size())));
  }
  auto readOffset = [](const nlohmann::json &o) {
    static const std::map<std::string, Offset::Kind> kinds = {
        {"none", Offset::None}, {"value", Offset::Value}, {"end", Offset::End}, {"arg", Offset::Arg}};
    auto kind = kinds.find(o.value("kind", "none"));
    Offset offset;
    offset.kind = kind == kinds.end() ? Offset::None : kind->second;
    offset.value = offset.kind == Offset::Arg ? o.value("arg", int64_t(0)) : o.value("value", int64_t(0));
    return offset;
  };
  qOffset = readOffset(j.value("q_offset", nlohmann::json::object()));
  for (const nlohmann::json &segment : j.value("segments", nlohmann::json::array())) {
    kOffsets.push_back(readOffset(segment.value("k_offset", nlohmann::json::object())));
  }
  kOffsets.resize(segments);

  Sizes sizes(shape);
  std::string known = "b h hk hv n nq nk d dv q_offset";
  for (const auto *slots : {&args, &outs}) {
    for (const Slot &slot : *slots) {
      std::vector<std::string> names = dimensionNames(slot);
      for (size_t n = 0; n < std::min(names.size(), slot.dims.size()); ++n) {
        if (!names[n].empty()) {
          sizes.fix(names[n], slot.dims[n]);
        }
      }
      known += slot.scalar ? " " + slot.name : "";
      dtype = slot.role == "q" ? slot.type : dtype;
    }
  }
  for (size_t g = 0; g < segments; ++g) {
    known += " " + nkName(static_cast<int64_t>(g));
  }
  for (const auto &[name, value] : shape.all()) {
    if ((" " + known + " ").find(" " + name + " ") == std::string::npos) {
      throw Failure(2, "expected sizes of: " + known + "; but got '" + name + "'");
    }
  }
  b = sizes.get("b", 1);
  h = sizes.get("h", 8);
  hk = sizes.get("hk", h);
  hv = sizes.get("hv", hk);
  d = sizes.get("d", 64);
  dv = sizes.get("dv", d);
  nq = sizes.get("nq", 1024);
  for (size_t g = 0; g < segments; ++g) {
    nk.push_back(sizes.get(nkName(static_cast<int64_t>(g)), shape.get("nk", sizes.get("nq", 1024))));
  }
}

std::string Problem::sizes() const {
  std::string text = "b=" + std::to_string(b) + ",h=" + std::to_string(h) + ",hk=" + std::to_string(hk) +
                     ",hv=" + std::to_string(hv) + ",nq=" + std::to_string(nq) + ",nk=" + std::to_string(nk[0]) +
                     ",d=" + std::to_string(d) + ",dv=" + std::to_string(dv);
  for (size_t g = 0; g < nk.size(); ++g) {
    text += "," + nkName(static_cast<int64_t>(g)) + "=" + std::to_string(nk[g]);
  }
  // Once there are values: what explain counts with.
  for (size_t n = 0; n < values.size(); ++n) {
    bool isOffset = args[n].role == "q_offset" || args[n].role == "k_offset";
    if (values[n].view().dtype == HEDDLE_I64 && values[n].size() > 0 && (args[n].scalar || isOffset)) {
      text += "," + args[n].name + "=" + std::to_string(static_cast<int64_t>(values[n].get(0)));
    }
  }
  return text;
}

int64_t Problem::find(const std::string &name) const {
  std::string bare = name.rfind('%', 0) == 0 ? name.substr(1) : name;
  for (size_t n = 0; n < args.size(); ++n) {
    if (args[n].name == bare || args[n].name == "%" + bare) {
      return static_cast<int64_t>(n);
    }
  }
  return -1;
}

int64_t Problem::offset(const Offset &o, int64_t batch) const {
  switch (o.kind) {
  case Offset::None:
    return 0;
  case Offset::Value:
    return o.value;
  case Offset::End:
    return nk[0] - nq;
  case Offset::Arg:
    return static_cast<int64_t>(values[static_cast<size_t>(o.value)].at({batch}));
  }
  return 0;
}

int64_t Problem::queryOffset(int64_t batch) const { return offset(qOffset, batch); }
int64_t Problem::keyOffset(int64_t batch, int64_t segment) const {
  return offset(kOffsets[static_cast<size_t>(segment)], batch);
}

ExprEnv Problem::environment(int64_t batch, int64_t head, int64_t segment) const {
  ExprEnv env;
  env.b = batch;
  env.h = head;
  env.qOffset = queryOffset(batch);
  env.kOffset = keyOffset(batch, segment);
  env.nq = env.qOffset + nq;
  env.nk = env.kOffset + nk[static_cast<size_t>(segment)];
  env.scalar = [this](int64_t n) { return static_cast<int64_t>(values[static_cast<size_t>(n)].get(0)); };
  env.load = [this](int64_t n, const std::vector<int64_t> &indices) {
    return values[static_cast<size_t>(n)].at(indices);
  };
  return env;
}

//===----------------------------------------------------------------------===//
// Problem: data
//===----------------------------------------------------------------------===//

/// Draws data for one argument after another.
class Filler {
public:
  Filler(Problem &p, uint64_t seed, const Shape &shape) : p(p), random(seed), seed(seed), shape(shape) {}

  void fill(int64_t n, const std::vector<Pattern> &patterns) {
    const Slot &slot = p.args[static_cast<size_t>(n)];
    Tensor tensor(slot.scalar ? (dtypeOf(slot.type) <= HEDDLE_F64 ? HEDDLE_F64 : HEDDLE_I64) : dtypeOf(slot.type),
                  slot.scalar ? std::vector<int64_t>() : shapeOf(slot, p));
    if (slot.scalar) {
      tensor.set(0, scalar(slot));
    } else if (slot.role == "q_offset" || slot.role == "k_offset") {
      int64_t value = slot.role == "q_offset" ? p.nk.back() - p.nq : 0;
      constant(tensor, static_cast<double>(shape.get(slot.role, value)));
    } else if (tensor.view().dtype <= HEDDLE_F64) {
      slot.role == "operand" ? uniform(tensor, 0, 0.5) : normal(tensor);
    } else if (!use(tensor, slot, n, patterns)) {
      tensor.view().dtype == HEDDLE_BOOL ? integers(tensor, 0, 1) : integers(tensor, 0, 7);
    }
    p.values[static_cast<size_t>(n)] = tensor;
  }

private:
  double scalar(const Slot &slot) {
    if (shape.has(slot.name)) {
      return static_cast<double>(shape.get(slot.name, 0));
    }
    if (slot.role == "scale") {
      return 1 / std::sqrt(static_cast<double>(std::max<int64_t>(p.d, 1)));
    }
    if (slot.role == "q_offset") {
      return static_cast<double>(p.nk.back() - p.nq);
    }
    if (slot.role == "k_offset") {
      return 0;
    }
    return slot.type == "index" || slot.type[0] == 'i' ? 64 : 0.5;
  }

  /// Fills integers by what the first pattern that names them does with them.
  bool use(Tensor &tensor, const Slot &slot, int64_t n, const std::vector<Pattern> &patterns) {
    for (const Pattern &pattern : patterns) {
      if (use(tensor, slot, n, *pattern)) {
        return true;
      }
    }
    return false;
  }

  bool use(Tensor &tensor, const Slot &slot, int64_t n, const PatternNode &node) {
    for (size_t at = 0; at < node.operands.size(); ++at) {
      if (node.operands[at] != n) {
        continue;
      }
      int64_t keys = p.nk[static_cast<size_t>(slot.segment)];
      switch (node.kind) {
      case PatternKind::Same:
      case PatternKind::Cluster:
        documents(tensor);
        return true;
      case PatternKind::Lengths:
        integers(tensor, std::min<int64_t>(1, keys), keys);
        return true;
      case PatternKind::Between:
      case PatternKind::BetweenQueries:
        spans(tensor, at == 1);
        return true;
      case PatternKind::Keys:
      case PatternKind::Queries:
      case PatternKind::GlobalTokens:
        flags(tensor, node.kind == PatternKind::GlobalTokens ? 0.05 : 0.9);
        return true;
      default:
        return false;
      }
    }
    for (const Pattern &child : node.children) {
      if (use(tensor, slot, n, *child)) {
        return true;
      }
    }
    return false;
  }

  void constant(Tensor &t, double value) {
    for (int64_t n = 0; n < t.size(); ++n) {
      t.set(n, value);
    }
  }
  void normal(Tensor &t) {
    std::normal_distribution<float> draw;
    for (int64_t n = 0; n < t.size(); ++n) {
      t.set(n, draw(random));
    }
  }
  void uniform(Tensor &t, double lo, double hi) {
    std::uniform_real_distribution<double> draw(lo, hi);
    for (int64_t n = 0; n < t.size(); ++n) {
      t.set(n, draw(random));
    }
  }
  void integers(Tensor &t, int64_t lo, int64_t hi) {
    std::uniform_int_distribution<int64_t> draw(lo, hi);
    for (int64_t n = 0; n < t.size(); ++n) {
      t.set(n, static_cast<double>(draw(random)));
    }
  }
  void flags(Tensor &t, double share) {
    std::bernoulli_distribution draw(share);
    for (int64_t n = 0; n < t.size(); ++n) {
      t.set(n, draw(random));
    }
  }
  /// Packed documents of random lengths, an eighth of the row on average. Queries'
  /// and keys' ids come from one seed, so that equal lengths get equal ids.
  void documents(Tensor &t) {
    std::mt19937_64 own(seed);
    int64_t row = t.view().rank ? t.view().shape[t.view().rank - 1] : 1;
    std::bernoulli_distribution ends(std::min(1.0, 8.0 / static_cast<double>(std::max<int64_t>(row, 1))));
    int64_t id = 0;
    for (int64_t n = 0; n < t.size(); ++n) {
      id = n % row == 0 ? 0 : id + ends(own);
      t.set(n, static_cast<double>(id));
    }
  }
  /// Ends of a span around each row's own position.
  void spans(Tensor &t, bool upper) {
    int64_t row = t.view().rank ? t.view().shape[t.view().rank - 1] : 1;
    std::uniform_int_distribution<int64_t> draw(0, std::max<int64_t>(row / 8, 1));
    for (int64_t n = 0; n < t.size(); ++n) {
      t.set(n, static_cast<double>(n % row + (upper ? 1 + draw(random) : -draw(random))));
    }
  }

  Problem &p;
  std::mt19937_64 random;
  uint64_t seed;
  const Shape &shape;
};

void Problem::fill(const std::vector<Pattern> &patterns, uint64_t seed, const Shape &shape) {
  values.assign(args.size(), Tensor());
  Filler filler(*this, seed, shape);
  for (size_t n = 0; n < args.size(); ++n) {
    filler.fill(static_cast<int64_t>(n), patterns);
  }
  results.clear();
  for (const Slot &slot : outs) {
    results.emplace_back(dtypeOf(slot.type), shapeOf(slot, *this));
  }
}

} // namespace heddle::tools
