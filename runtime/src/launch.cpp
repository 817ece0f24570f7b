//===- launch.cpp - From tensors to the argument block --------------------===//
//
// Order of the checks: each tensor by itself (type, rank, static sizes), then
// against the sizes that q gives (batch, heads, queries), then offsets. Names
// in messages are the spec's.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/launch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>

using namespace heddle::rt;

namespace {

constexpr int64_t limit = int64_t(1) << 30; // of sizes and positions, exclusive
constexpr size_t headerSlots = HeaderSlots, recordSlots = RecordSlots, orderSlots = 6;

/// A size that a dimension must have: -1 is any; orOne lets it broadcast.
struct Expected {
  int64_t size = -1;
  bool orOne = false;

  bool accepts(int64_t actual) const { return size < 0 || actual == size || (orOne && actual == 1); }
  std::string text() const {
    if (size < 0) {
      return "?";
    }
    return orOne && size != 1 ? "1 or " + std::to_string(size) : std::to_string(size);
  }
};

std::string shapeText(const heddle_tensor &t) {
  std::string text = "[";
  for (int32_t i = 0; i < t.rank; ++i) {
    text += (i ? ", " : "") + std::to_string(t.shape[i]);
  }
  return text + "]";
}

const char *dimensionNames(RoleKind kind) {
  switch (kind) {
  case RoleKind::Q:
    return "batch, heads, queries, head dimension";
  case RoleKind::K:
    return "batch, heads, keys, head dimension";
  case RoleKind::V:
    return "batch, heads, keys, value dimension";
  case RoleKind::DotQ:
    return "batch, heads, queries, dot dimension";
  case RoleKind::DotK:
    return "batch, heads, keys, dot dimension";
  case RoleKind::Relative:
    return "batch, heads, distances, dot dimension";
  case RoleKind::Sink:
    return "heads";
  case RoleKind::QOffset:
  case RoleKind::KOffset:
    return "batch";
  default:
    return "";
  }
}

const char *axisName(char axis) {
  return axis == 'b' ? "batch" : axis == 'h' ? "heads" : axis == 'q' ? "queries" : axis == 'k' ? "keys" : "any";
}

Error wrongShape(const std::string &name, const heddle_tensor &t, const std::vector<Expected> &expected,
                 const char *names) {
  std::string text = "expected " + name + " to have shape [";
  for (size_t i = 0; i < expected.size(); ++i) {
    text += (i ? ", " : "") + expected[i].text();
  }
  text += "]";
  if (*names) {
    text += std::string(" (") + names + ")";
  }
  return invalidValue(text + ", but got " + shapeText(t));
}

/// Rank, then each size against the spec's static one and the one that follows from other tensors.
/// `derived` is empty where nothing follows.
Error checkShape(const std::string &name, const heddle_tensor &t, const std::vector<int64_t> &dims,
                 std::span<const Expected> derived, const char *names) {
  bool good = size_t(t.rank) == dims.size();
  for (size_t i = 0; good && i < dims.size(); ++i) {
    good = (dims[i] < 0 || t.shape[i] == dims[i]) && (i >= derived.size() || derived[i].accepts(t.shape[i]));
  }
  if (good) {
    return nullptr;
  }
  std::vector<Expected> expected;
  for (size_t i = 0; i < dims.size(); ++i) {
    bool fromSpec = dims[i] >= 0 && (i >= derived.size() || derived[i].accepts(dims[i]));
    expected.push_back(fromSpec ? Expected{dims[i], false} : i < derived.size() ? derived[i] : Expected{});
  }
  return wrongShape(name, t, expected, names);
}

Error checkTensor(const std::string &name, const heddle_tensor &t) {
  if (t.rank < 0 || t.rank > 6) {
    return invalidValue("expected " + name + " to have 0 to 6 dimensions, but got " + std::to_string(t.rank));
  }
  int64_t elements = 1;
  for (int32_t i = 0; i < t.rank; ++i) {
    if (t.shape[i] < 0 || t.shape[i] >= limit) {
      return invalidValue("expected sizes of " + name + " from 0 to 2^30 - 1, but got " + shapeText(t));
    }
    elements = elements && t.shape[i] ? 1 : 0;
  }
  if (elements && !t.data) {
    return invalidValue("expected " + name + " to have data, but got a null pointer");
  }
  return nullptr;
}

Error wrongType(const std::string &name, heddle_dtype wanted, heddle_dtype actual) {
  return invalidType("expected " + name + " to be " + dtypeName(wanted) + ", but got " + dtypeName(actual) +
                     ": convert it to " + dtypeName(wanted));
}

bool isInteger(heddle_dtype d) { return d == HEDDLE_I64 || d == HEDDLE_I32 || d == HEDDLE_I8 || d == HEDDLE_BOOL; }

int64_t loadInteger(const void *data, heddle_dtype dtype, int64_t index) {
  switch (dtype) {
  case HEDDLE_I64:
    return static_cast<const int64_t *>(data)[index];
  case HEDDLE_I32:
    return static_cast<const int32_t *>(data)[index];
  case HEDDLE_I8:
    return static_cast<const int8_t *>(data)[index];
  default:
    return static_cast<const uint8_t *>(data)[index];
  }
}

/// The state of one preparation; its methods fail fast.
class Preparation {
public:
  /// `given`: the arguments; `args`: as lists of rows show them.
  Preparation(const Manifest &m, const heddle_tensor *given, const heddle_tensor *args, const heddle_tensor *results,
              Launch &launch)
      : m(m), given(given), args(args), results(results), launch(launch) {}

  Error run();

private:
  Error checkArgument(size_t a);
  Error checkQuery();
  Error checkSegment(size_t s);
  Error checkHeads(const Argument &arg, const heddle_tensor &t);
  Error checkRoles(size_t a);
  Error checkOperand(const Argument &arg, const Role &role, const heddle_tensor &t);
  Error checkOperandIn(size_t segment, const Argument &arg, const Role &role, const heddle_tensor &t);
  Error checkResult(size_t r);
  Error checkNeedsQOffset();
  Error storeScalar(size_t a);
  Error storeOffset(const Offset &offset, const std::string &what, int64_t rows, int64_t end, size_t slot);
  void reserveStorage();
  Error storeLists(size_t slot);
  int64_t headsPerTile() const;
  void writeRecord(size_t slot, const heddle_tensor &t, unsigned broadcastMask);
  Error finish();

  int64_t keysOf(size_t s) const { return tensorOf(m.segments[s]).shape[2]; }
  const heddle_tensor &tensorOf(const Segment &s) const { return args[s.k >= 0 ? s.k : s.v]; }
  size_t recordOf(size_t a) const { return headerSlots + recordSlots * a; }

  const Manifest &m;
  const heddle_tensor *given, *args, *results;
  Launch &launch;
  int64_t batch = 0, heads = 0, queries = 0, width = 0, valueWidth = 0;
  bool unevenOffset = false;
};

Error Preparation::checkArgument(size_t a) {
  const Argument &arg = m.args[a];
  const heddle_tensor &t = args[a];
  if (Error e = checkTensor(arg.name, t)) {
    return e;
  }
  if (arg.scalar) {
    if (t.rank != 0) {
      return invalidValue("expected " + arg.name + " to be a scalar, but got shape " + shapeText(t));
    }
    bool wantsInteger = isInteger(arg.dtype);
    bool fits = isInteger(t.dtype) || (!wantsInteger && (t.dtype == HEDDLE_F64 || t.dtype == HEDDLE_F32));
    return fits ? nullptr : wrongType(arg.name, arg.dtype, t.dtype);
  }
  bool offsetOnly = !arg.roles.empty() && std::all_of(arg.roles.begin(), arg.roles.end(), [](const Role &r) {
    return r.kind == RoleKind::QOffset || r.kind == RoleKind::KOffset;
  });
  if (t.dtype != arg.dtype && !(offsetOnly && (t.dtype == HEDDLE_I32 || t.dtype == HEDDLE_I64))) {
    return wrongType(arg.name, arg.dtype, t.dtype);
  }
  if (offsetOnly && t.rank == 0 && arg.dims.size() == 1) {
    return nullptr; // one offset for all batches
  }
  const char *names = arg.roles.empty() ? "" : dimensionNames(arg.roles[0].kind);
  return checkShape(arg.name, t, arg.dims, {}, names);
}

Error Preparation::checkQuery() {
  const heddle_tensor &q = args[m.q];
  batch = q.shape[0], heads = q.shape[1], queries = q.shape[2], width = q.shape[3];
  return nullptr;
}

Error Preparation::checkHeads(const Argument &arg, const heddle_tensor &t) {
  int64_t own = t.shape[1];
  if (own == heads || (own > 0 && heads % own == 0)) {
    return nullptr;
  }
  return invalidValue("expected the number of heads of " + arg.name + " to divide the " + std::to_string(heads) +
                      " of " + m.args[m.q].name + ", but got " + std::to_string(own) + " (shape " + shapeText(t) + ")");
}

Error Preparation::checkSegment(size_t s) {
  const Segment &segment = m.segments[s];
  const heddle_tensor &v = args[segment.v];
  if (segment.k >= 0) {
    Expected derived[4] = {{batch, true}, {}, {}, {width, false}};
    const Argument &arg = m.args[segment.k];
    if (Error e = checkShape(arg.name, args[segment.k], arg.dims, derived, dimensionNames(RoleKind::K))) {
      return e;
    }
    if (Error e = checkHeads(arg, args[segment.k])) {
      return e;
    }
  }
  if (s == 0) {
    valueWidth = v.shape[3];
  }
  Expected derived[4] = {{batch, true}, {}, {keysOf(s), false}, {valueWidth, false}};
  const Argument &arg = m.args[segment.v];
  if (Error e = checkShape(arg.name, v, arg.dims, derived, dimensionNames(RoleKind::V))) {
    return e;
  }
  launch.work += double(batch) * double(heads) * double(queries) * double(keysOf(s)) * double(width + valueWidth);
  return checkHeads(arg, v);
}

/// Sizes of an operand by its axes, against one segment.
Error Preparation::checkOperandIn(size_t segment, const Argument &arg, const Role &role, const heddle_tensor &t) {
  for (size_t i = 0; i < role.axes.size(); ++i) {
    int64_t actual = t.shape[i];
    Expected wanted;
    switch (role.axes[i]) {
    case 'b':
      wanted = {batch, true};
      break;
    case 'h':
      wanted = {heads, true};
      break;
    case 'q':
    case 'k': {
      const Role::Rows &of = role.rows[i];
      int64_t rows = role.axes[i] == 'q' ? queries : keysOf(segment);
      wanted = {(rows + of.divisor - 1) / of.divisor + of.more, false};
      break;
    }
    default:
      break;
    }
    bool keyHeads = role.axes[i] == 'h' && actual == tensorOf(m.segments[segment]).shape[1];
    if (!wanted.accepts(actual) && !keyHeads) {
      return invalidValue("expected dimension " + std::to_string(i) + " of " + arg.name + " (" +
                          axisName(role.axes[i]) + ") to be " + wanted.text() + ", but got " + std::to_string(actual) +
                          " (shape " + shapeText(t) + ")");
    }
  }
  return nullptr;
}

Error Preparation::checkOperand(const Argument &arg, const Role &role, const heddle_tensor &t) {
  if (role.check == Role::KeyStarts && role.pointers >= 0 && args[role.pointers].shape[0] != t.shape[0]) {
    return invalidValue("expected as many starts of the queries as of the keys, but got " +
                        std::to_string(args[role.pointers].shape[0]) + " in " + m.args[role.pointers].name + " and " +
                        std::to_string(t.shape[0]) + " in " + arg.name);
  }
  if (role.segment >= 0) {
    return checkOperandIn(size_t(role.segment), arg, role, t);
  }
  Error error;
  for (size_t s = 0; s < m.segments.size(); ++s) {
    Error e = checkOperandIn(s, arg, role, t);
    if (!e) {
      return nullptr;
    }
    error = error ? std::move(error) : std::move(e);
  }
  return error;
}

Error Preparation::checkRoles(size_t a) {
  const Argument &arg = m.args[a];
  const heddle_tensor &t = args[a];
  unsigned broadcast = 0;
  for (const Role &role : arg.roles) {
    switch (role.kind) {
    case RoleKind::DotQ: {
      Expected derived[4] = {{batch, true}, {heads, false}, {queries, false}, {}};
      if (Error e = checkShape(arg.name, t, arg.dims, derived, dimensionNames(role.kind))) {
        return e;
      }
      broadcast |= 1;
      break;
    }
    case RoleKind::DotK:
    case RoleKind::Relative: {
      Expected derived[4] = {{batch, true}, {}, {}, {}};
      if (role.kind == RoleKind::DotK) {
        derived[2] = {keysOf(role.segment), false};
      } else if (t.shape[2] == 0) {
        return invalidValue("expected at least one row of " + arg.name + ", but got shape " + shapeText(t));
      }
      if (Error e = checkShape(arg.name, t, arg.dims, derived, dimensionNames(role.kind))) {
        return e;
      }
      if (Error e = checkHeads(arg, t)) {
        return e;
      }
      broadcast |= 1;
      break;
    }
    case RoleKind::Sink: {
      Expected derived[1] = {{heads, true}};
      if (Error e = checkShape(arg.name, t, arg.dims, derived, dimensionNames(role.kind))) {
        return e;
      }
      broadcast |= 1;
      break;
    }
    case RoleKind::Operand:
      if (arg.scalar) {
        break;
      }
      if (Error e = checkOperand(arg, role, t)) {
        return e;
      }
      for (size_t i = 0; i < role.axes.size(); ++i) {
        broadcast |= role.axes[i] != '.' ? 1u << i : 0;
      }
      break;
    case RoleKind::Q:
    case RoleKind::K:
    case RoleKind::V:
      broadcast |= 1;
      break;
    default:
      break;
    }
  }
  for (const Listed &l : m.listed) {
    broadcast |= l.list == int(a) ? (t.rank == 3 ? 3u : 1u) : 0;
  }
  writeRecord(recordOf(a), t, broadcast);
  return arg.scalar ? storeScalar(a) : nullptr;
}

/// Sizes and strides; where a dimension of `broadcastMask` has size 1, stride 0.
void Preparation::writeRecord(size_t slot, const heddle_tensor &t, unsigned broadcastMask) {
  int64_t *record = launch.block.data() + slot;
  record[0] = int64_t(reinterpret_cast<intptr_t>(t.data));
  for (int32_t i = 0; i < 4; ++i) {
    bool present = i < t.rank;
    record[1 + i] = present ? t.shape[i] : 1;
    bool repeats = present && t.shape[i] == 1 && (broadcastMask >> i & 1);
    record[5 + i] = present && !repeats ? t.strides[i] : 0;
  }
}

Error Preparation::storeScalar(size_t a) {
  const Argument &arg = m.args[a];
  const heddle_tensor &t = args[a];
  int64_t bits;
  if (isInteger(arg.dtype)) {
    bits = loadInteger(t.data, t.dtype, 0);
    for (const Role &role : arg.roles) {
      if ((role.min && bits < *role.min) || (role.max && bits > *role.max)) {
        return invalidValue("expected " + arg.name + " to be " +
                            (role.min && bits < *role.min ? "at least " + std::to_string(*role.min)
                                                          : "at most " + std::to_string(*role.max)) +
                            ", but got " + std::to_string(bits));
      }
    }
    if (bits <= -limit || bits >= limit) {
      return invalidValue("expected " + arg.name + " to be below 2^30 in magnitude, but got " + std::to_string(bits));
    }
  } else {
    double value = t.dtype == HEDDLE_F64   ? *static_cast<const double *>(t.data)
                   : t.dtype == HEDDLE_F32 ? double(*static_cast<const float *>(t.data))
                                           : double(loadInteger(t.data, t.dtype, 0));
    for (const Role &role : arg.roles) {
      if (role.kind == RoleKind::Scale && !std::isfinite(value)) {
        return invalidValue("expected " + arg.name + " to be finite, but got " +
                            (std::isnan(value) ? "nan"
                             : value > 0       ? "inf"
                                               : "-inf"));
      }
    }
    bits = std::bit_cast<int64_t>(value);
  }
  if (m.gpu) {
    launch.block[recordOf(a)] = 0; // a device cannot follow the pointer: the value itself
    launch.block[recordOf(a) + 1] = bits;
    return nullptr;
  }
  launch.storage.push_back(bits);
  launch.block[recordOf(a)] = int64_t(reinterpret_cast<intptr_t>(&launch.storage.back()));
  return nullptr;
}

/// Values into the storage, pointer and stride into the block. `end` is the value of kind End.
Error Preparation::storeOffset(const Offset &offset, const std::string &what, int64_t rows, int64_t end, size_t slot) {
  size_t first = launch.storage.size();
  std::string name = what;
  if (offset.kind == Offset::Arg) {
    const Argument &arg = m.args[offset.arg];
    const heddle_tensor &t = args[offset.arg];
    name = arg.name;
    int64_t count = t.rank == 0 ? 1 : t.shape[0];
    if (count != 1 && count != batch) {
      return wrongShape(name, t, {{batch, true}}, "batch");
    }
    if (m.gpu && t.rank == 1) {
      if (t.dtype != HEDDLE_I64) {
        return wrongType(name, HEDDLE_I64, t.dtype);
      }
      launch.block[slot] = int64_t(reinterpret_cast<intptr_t>(t.data));
      launch.block[slot + 1] = count > 1 ? t.strides[0] : 0;
      return nullptr;
    }
    for (int64_t b = 0; b < count; ++b) {
      launch.storage.push_back(loadInteger(t.data, t.dtype, t.rank == 0 ? 0 : b * t.strides[0]));
    }
  } else {
    launch.storage.push_back(offset.kind == Offset::Value ? offset.value : offset.kind == Offset::End ? end : 0);
  }
  size_t count = launch.storage.size() - first;
  for (size_t i = first; i < launch.storage.size(); ++i) {
    int64_t value = launch.storage[i];
    if (value <= -limit || value >= limit - rows) {
      return invalidValue("expected positions below 2^30 in magnitude, but " + name + " = " + std::to_string(value) +
                          " with " + std::to_string(rows) + " rows");
    }
    if (slot == recordOf(m.args.size() + m.results.size())) {
      unevenOffset |= value % m.superTile != 0;
    }
  }
  if (m.gpu) {
    launch.block[slot] = 0;
    launch.block[slot + 1] = launch.storage[first];
    return nullptr;
  }
  launch.block[slot] = int64_t(reinterpret_cast<intptr_t>(launch.storage.data() + first));
  launch.block[slot + 1] = count > 1 ? 1 : 0;
  return nullptr;
}

Error Preparation::checkNeedsQOffset() {
  if (m.qOffset.kind != Offset::None || queries == 0) {
    return nullptr;
  }
  for (size_t s = 0; s < m.segments.size(); ++s) {
    int64_t keys = keysOf(s);
    if (m.segments[s].needsQOffset && keys != queries && keys != 0) {
      std::string where = m.segments.size() > 1 ? " in segment " + std::to_string(s) : "";
      return invalidValue(
          "expected q_offset (Nq = " + std::to_string(queries) + " differs from Nk = " + std::to_string(keys) + where +
          " and the pattern or the score depends on the query's position): give the position of the first query, "
          "0 or for example \"end\" (Nk - Nq)");
    }
  }
  return nullptr;
}

Error Preparation::checkResult(size_t r) {
  const Result &result = m.results[r];
  heddle_tensor t = results[r];
  bool lse = result.role == ResultRole::Lse;
  std::string name = lse ? "lse" : "out";
  if (lse && !t.data) {
    std::memset(&launch.block[recordOf(m.args.size() + r)], 0, recordSlots * sizeof(int64_t));
    return nullptr;
  }
  if (Error e = checkTensor(name, t)) {
    return e;
  }
  if (t.dtype != result.dtype) {
    return wrongType(name, result.dtype, t.dtype);
  }
  Expected derived[4] = {{batch, false}, {heads, false}, {queries, false}, {valueWidth, false}};
  const char *names = lse ? "batch, heads, queries" : "batch, heads, queries, value dimension";
  if (Error e = checkShape(name, t, result.dims, derived, names)) {
    return e;
  }
  bool empty = batch == 0 || heads == 0 || queries == 0 || valueWidth == 0;
  for (int32_t i = 0; i < t.rank && !empty; ++i) {
    if (t.shape[i] > 1 && t.strides[i] == 0) {
      return invalidValue("expected " + name +
                          " to have an element of its own for each index, but its stride along "
                          "dimension " +
                          std::to_string(i) + " is 0");
    }
  }
  writeRecord(recordOf(m.args.size() + r), t, 0);
  return nullptr;
}

/// Room for all that the block will point to, so that the vector never moves.
void Preparation::reserveStorage() {
  size_t wanted = 0;
  for (const Argument &arg : m.args) {
    wanted += arg.scalar;
  }
  auto add = [&](const Offset &offset) {
    bool list = offset.kind == Offset::Arg && args[offset.arg].rank == 1;
    wanted += list ? size_t(std::max<int64_t>(args[offset.arg].shape[0], 1)) : 1;
  };
  add(m.qOffset);
  for (const Segment &s : m.segments) {
    add(s.kOffset);
  }
  launch.storage.clear();
  launch.storage.reserve(wanted);
}

/// Of each tensor that is read through a list: its rows, and a row of zeros with the same stride.
Error Preparation::storeLists(size_t slot) {
  constexpr int64_t around = 256;
  auto reach = [&](const Listed &l) {
    const heddle_tensor &t = args[l.arg];
    return std::max<int64_t>(t.shape[3] - 1, 0) * std::abs(t.strides[3]) * dtypeSize(t.dtype);
  };
  int64_t most = 0;
  for (const Listed &l : m.listed) {
    most = std::max(most, reach(l));
  }
  if (size_t wanted = size_t(most + 2 * around); !m.listed.empty() && launch.zerosSize < wanted) {
    launch.zeros.reset(static_cast<char *>(std::calloc(wanted, 1)));
    launch.zerosSize = launch.zeros ? wanted : 0;
    if (!launch.zeros) {
      return systemError("expected " + std::to_string(wanted) + " bytes for a row of zeros, but the allocation failed");
    }
  }
  for (const Listed &l : m.listed) {
    const char *row = launch.zeros.get() + around + (args[l.arg].strides[3] < 0 ? reach(l) : 0);
    launch.block[slot++] = given[l.arg].shape[2];
    launch.block[slot++] = int64_t(reinterpret_cast<intptr_t>(row));
  }
  return nullptr;
}

/// As many heads as fill a tile with their queries and share all their keys and values: a divisor of the number
/// that do, so that every tile is filled alike. A row's bits do not depend on it.
int64_t Preparation::headsPerTile() const {
  if (!m.headsShareTiles || queries == 0 || heads == 0) {
    return 1;
  }
  int64_t shared = heads;
  for (size_t a = 0; a < m.args.size(); ++a) {
    for (const Role &role : m.args[a].roles) {
      if (role.kind == RoleKind::K || role.kind == RoleKind::V || role.kind == RoleKind::DotK) {
        shared = std::gcd(shared, heads / args[a].shape[1]);
      }
    }
  }
  for (auto [arg, dim] : m.headTables) {
    int64_t own = args[arg].shape[dim];
    shared = own > 0 && heads % own == 0 ? std::gcd(shared, heads / own) : 1;
  }
  int64_t most = std::min(m.lanes / queries, shared);
  while (most > 1 && shared % most != 0) {
    --most;
  }
  return std::max<int64_t>(most, 1);
}

Error Preparation::finish() {
  int64_t tiles = (queries + m.superTile - 1) / m.superTile + (unevenOffset ? 1 : 0), keys = 0;
  tiles = queries == 0 ? 0 : tiles;
  for (size_t s = 0; s < m.segments.size(); ++s) {
    keys = std::max(keys, keysOf(s));
  }
  // Splits depend on the number of keys alone, so that a row's bits do.
  int64_t perSplit = limit, splits = 1;
  // A GPU's tiles are merged through memory, so only few queries are split.
  bool mayBeSplit = !m.gpu || queries <= m.lanes;
  if (m.keysPerSplit > 0 && keys > m.keysPerSplit && mayBeSplit) {
    int64_t least = (keys + m.keysPerSplit - 1) / m.keysPerSplit;
    perSplit = m.keysPerSplit * ((least + m.maxSplits - 1) / m.maxSplits);
    splits = (keys + perSplit - 1) / perSplit;
  }
  int64_t *block = launch.block.data(), together = headsPerTile();
  std::fill(block, block + headerSlots, 0);
  block[SlotBatches] = batch, block[SlotHeads] = heads, block[SlotQueries] = queries, block[SlotTiles] = tiles;
  // Of more parts than queries, most would have no tile.
  constexpr int64_t queriesPerPart = 8;
  block[SlotParts] = m.parts.size() == 1 ? std::clamp<int64_t>(queries / queriesPerPart, 1, m.parts[0]) : 1;
  block[SlotHeadsPerTile] = together, block[SlotKeysPerSplit] = perSplit, block[SlotSplits] = splits;
  int64_t tasks;
  if (__builtin_mul_overflow(batch, heads / together, &launch.units) ||
      __builtin_mul_overflow(launch.units, tiles, &launch.units) ||
      __builtin_mul_overflow(launch.units, m.maxSplits * 4096, &tasks)) {
    return invalidValue("expected fewer than 2^63 tiles, but got shape " + shapeText(args[m.q]) + " for " +
                        m.args[m.q].name);
  }
  return nullptr;
}

Error Preparation::run() {
  for (size_t a = 0; a < m.args.size(); ++a) {
    if (Error e = checkArgument(a)) {
      return e;
    }
  }
  launch.work = 0;
  launch.orderSlot =
      headerSlots + recordSlots * (m.args.size() + m.results.size()) + 2 + 2 * m.segments.size() + 2 * m.listed.size();
  launch.block.resize(launch.orderSlot + orderSlots * m.orders.size());
  reserveStorage();
  if (Error e = checkQuery()) {
    return e;
  }
  for (size_t s = 0; s < m.segments.size(); ++s) {
    if (Error e = checkSegment(s)) {
      return e;
    }
  }
  for (size_t a = 0; a < m.args.size(); ++a) {
    if (Error e = checkRoles(a)) {
      return e;
    }
  }
  for (size_t r = 0; r < m.results.size(); ++r) {
    if (Error e = checkResult(r)) {
      return e;
    }
  }
  if (Error e = checkNeedsQOffset()) {
    return e;
  }
  size_t slot = recordOf(m.args.size() + m.results.size());
  if (Error e = storeOffset(m.qOffset, "q_offset", queries, keysOf(0) - queries, slot)) {
    return e;
  }
  for (size_t s = 0; s < m.segments.size(); ++s) {
    slot += 2;
    if (Error e = storeOffset(m.segments[s].kOffset, "k_offset", keysOf(s), 0, slot)) {
      return e;
    }
  }
  if (Error e = storeLists(slot + 2)) {
    return e;
  }
  return finish();
}

std::string argumentNames(const Manifest &m) {
  std::string text;
  for (const Argument &arg : m.args) {
    text += (text.empty() ? "" : ", ") + arg.name;
  }
  return text;
}

} // namespace

Error heddle::rt::prepareLaunch(const Manifest &manifest, const heddle_tensor *args, int32_t numArgs,
                                const heddle_tensor *results, int32_t numResults, Launch &launch) {
  if (numArgs < 0 || size_t(numArgs) != manifest.args.size()) {
    return invalidValue("expected " + std::to_string(manifest.args.size()) + " arguments (" + argumentNames(manifest) +
                        "), but got " + std::to_string(numArgs));
  }
  if (numResults < 0 || size_t(numResults) != manifest.results.size()) {
    return invalidValue("expected " + std::to_string(manifest.results.size()) + " results, but got " +
                        std::to_string(numResults));
  }
  if (manifest.listed.empty()) {
    return Preparation(manifest, args, args, results, launch).run();
  }
  std::vector<heddle_tensor> seen;
  if (Error e = seeThroughLists(manifest, args, seen)) {
    return e;
  }
  return Preparation(manifest, args, seen.data(), results, launch).run();
}

Error heddle::rt::seeThroughLists(const Manifest &manifest, const heddle_tensor *args,
                                  std::vector<heddle_tensor> &seen) {
  seen.assign(args, args + manifest.args.size());
  for (const Listed &l : manifest.listed) {
    const heddle_tensor &list = args[l.list], &t = args[l.arg];
    if (t.rank != 4 || size_t(list.rank) != manifest.args[l.list].dims.size()) {
      continue; // which is an error of its own
    }
    for (int32_t axis = 0; axis + 1 < list.rank; ++axis) {
      if (list.shape[axis] != 1 && list.shape[axis] != t.shape[axis]) {
        return invalidValue("expected dimension " + std::to_string(axis) + " of " + manifest.args[l.list].name +
                            " to be " + Expected{t.shape[axis], true}.text() + ", but got " +
                            std::to_string(list.shape[axis]) + " (shape " + shapeText(list) + ")");
      }
    }
    heddle_tensor &mine = seen[size_t(l.arg)];
    mine.shape[2] = list.shape[list.rank - 1];
    static const char nothing = 0;
    mine.data = mine.data ? mine.data : const_cast<char *>(&nothing); // no entry is in range
  }
  return nullptr;
}
