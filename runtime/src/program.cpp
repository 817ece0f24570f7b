//===- program.cpp - Kernels of ops, and programs of kernels --------------===//

#include "runtime/src/program.h"

#include "runtime/src/scratch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

using namespace heddle::rt;

namespace {

constexpr int64_t limit = int64_t(1) << 30; // of sizes, exclusive
constexpr size_t headerSlots = HeaderSlots, recordSlots = 9;
constexpr size_t keptBytes = size_t(64) << 20; // a thread gives larger memory back after a run that is not repeated

std::string shapeText(const heddle_tensor &t) {
  std::string text = "[";
  for (int32_t i = 0; i < t.rank; ++i) {
    text += (i ? ", " : "") + std::to_string(t.shape[i]);
  }
  return text + "]";
}

int64_t floorDiv(int64_t a, int64_t b) { return b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0)); }

/// Value of a size expression; `Number` is int64_t (wrapping) or double (for work, which may be huge).
template <typename Number> Number evaluate(const SizeExpr &e, const heddle_tensor *args) {
  Number stack[16] = {};
  size_t top = 0;
  for (const SizeTerm &term : e) {
    if (term.kind == SizeTerm::Constant) {
      stack[top++] = Number(term.value);
      continue;
    }
    if (term.kind == SizeTerm::Size) {
      const heddle_tensor &t = args[term.value / 4];
      stack[top++] = Number(term.value % 4 < t.rank ? t.shape[term.value % 4] : 1);
      continue;
    }
    Number b = stack[--top], a = stack[top - 1];
    Number &r = stack[top - 1];
    int64_t x = int64_t(a), y = int64_t(b);
    switch (term.kind) {
    case SizeTerm::Add:
      r = a + b;
      break;
    case SizeTerm::Mul:
      r = a * b;
      break;
    case SizeTerm::FloorDiv:
      r = Number(floorDiv(x, y));
      break;
    case SizeTerm::CeilDiv:
      r = Number(-floorDiv(-x, y));
      break;
    default: // Mod
      r = Number(x - floorDiv(x, y) * y);
      break;
    }
  }
  return stack[0];
}

void dense(heddle_tensor &t) {
  int64_t stride = 1;
  for (int32_t n = t.rank; n-- > 0;) {
    t.strides[n] = stride;
    stride *= std::max<int64_t>(t.shape[n], 1);
  }
}

int64_t bytesOf(const heddle_tensor &t) {
  int64_t count = 1;
  for (int32_t n = 0; n < t.rank; ++n) {
    count *= t.shape[n];
  }
  return count * dtypeSize(t.dtype);
}

Error checkSizes(const Manifest &m, const heddle_tensor *args) {
  for (const OpCheck &check : m.op->checks) {
    const Argument &arg = m.args[check.arg];
    int64_t got = args[check.arg].shape[check.axis], want = evaluate<int64_t>(check.size, args);
    if (got == want || (check.kind == OpCheck::OrOne && got == 1) ||
        (check.kind == OpCheck::Divides && got > 0 && want % got == 0)) {
      continue;
    }
    std::string text = check.kind == OpCheck::Divides              ? "a divisor of " + std::to_string(want)
                       : check.kind == OpCheck::OrOne && want != 1 ? "1 or " + std::to_string(want)
                                                                   : std::to_string(want);
    return invalidValue("expected dimension " + std::to_string(check.axis) + " of " + arg.name + " to be " + text +
                        ", but got " + std::to_string(got) + " (shape " + shapeText(args[check.arg]) + ")");
  }
  return nullptr;
}

void writeRecord(Launch &launch, size_t slot, const heddle_tensor &t, unsigned repeats) {
  int64_t *record = launch.block.data() + slot;
  record[0] = int64_t(reinterpret_cast<intptr_t>(t.data));
  for (int32_t i = 0; i < 4; ++i) {
    bool present = i < t.rank;
    record[1 + i] = present ? t.shape[i] : 1;
    bool repeat = present && t.shape[i] == 1 && (repeats >> i & 1);
    record[5 + i] = present && !repeat ? t.strides[i] : 0;
  }
}

/// A number as kernels read it: an int64_t, or a double's bits.
int64_t scalarBits(const Argument &arg, const heddle_tensor &t) {
  bool wantsFloat = arg.dtype <= HEDDLE_F64, isFloat = t.dtype == HEDDLE_F64 || t.dtype == HEDDLE_F32;
  double real = 0;
  int64_t integer = 0;
  if (t.dtype == HEDDLE_F64) {
    real = *static_cast<const double *>(t.data);
  } else if (t.dtype == HEDDLE_F32) {
    real = double(*static_cast<const float *>(t.data));
  } else if (t.dtype == HEDDLE_I32) {
    integer = *static_cast<const int32_t *>(t.data);
  } else {
    integer = *static_cast<const int64_t *>(t.data);
  }
  if (!wantsFloat) {
    return isFloat ? int64_t(real) : integer;
  }
  return std::bit_cast<int64_t>(isFloat ? real : double(integer));
}

/// Types and static sizes alone; `data` may be missing.
Error checkForm(const Argument &arg, const heddle_tensor &t) {
  if (arg.scalar) {
    return t.rank == 0 ? nullptr
                       : invalidValue("expected " + arg.name + " to be a scalar, but got shape " + shapeText(t));
  }
  if (t.dtype != arg.dtype) {
    bool integers = (t.dtype == HEDDLE_I32 || t.dtype == HEDDLE_I64) && arg.dtype == HEDDLE_I64 && arg.dims.size() == 1;
    if (!integers) {
      return invalidType("expected " + arg.name + " to be " + dtypeName(arg.dtype) + ", but got " + dtypeName(t.dtype) +
                         ": convert it to " + dtypeName(arg.dtype));
    }
  }
  if (arg.dims.size() == 1 && t.rank == 0) {
    return nullptr; // one offset for all batches; launching tells whether it may be one
  }
  bool good = size_t(t.rank) == arg.dims.size();
  for (size_t i = 0; good && i < arg.dims.size(); ++i) {
    good = t.shape[i] >= 0 && t.shape[i] < limit && (arg.dims[i] < 0 || t.shape[i] == arg.dims[i]);
  }
  if (good) {
    return nullptr;
  }
  std::string text = "expected " + arg.name + " to have shape [";
  for (size_t i = 0; i < arg.dims.size(); ++i) {
    text += (i ? ", " : "") + (arg.dims[i] < 0 ? std::string("?") : std::to_string(arg.dims[i]));
  }
  return invalidValue(text + "], but got " + shapeText(t));
}

/// The values of a program while it runs: arguments, then what the steps give.
class Values {
public:
  Values(const Manifest &m, const KernelManifest &kernels, const heddle_tensor *args)
      : m(m), kernels(kernels), values(args, args + m.args.size()) {}

  Error infer() {
    for (size_t a = 0; a < m.args.size(); ++a) {
      if (Error e = checkForm(m.args[a], values[a])) {
        return e;
      }
    }
    values.resize(size_t(m.numValues));
    for (const Step &step : m.steps) {
      gather(step);
      if (Error e = inferResults(kernels(step.kernel), in.data(), out.data())) {
        return e;
      }
      for (size_t r = 0; r < step.results.size(); ++r) {
        values[step.results[r]] = out[r];
      }
    }
    return nullptr;
  }

  /// Operands of a step, in `in` and `out`.
  void gather(const Step &step) {
    in.clear();
    out.assign(step.results.size(), {});
    for (int v : step.args) {
      in.push_back(values[v]);
    }
    for (size_t r = 0; r < step.results.size(); ++r) {
      out[r] = values[step.results[r]];
    }
  }

  /// Gives each value between steps a place; returns the bytes in all.
  size_t place(std::vector<size_t> &offsets) {
    std::vector<int> last(values.size(), -1), first(values.size(), -1);
    for (size_t s = 0; s < m.steps.size(); ++s) {
      for (int v : m.steps[s].results) {
        first[v] = last[v] = int(s);
      }
      for (int v : m.steps[s].args) {
        last[v] = int(s);
      }
    }
    struct Place {
      size_t begin, end;
      int value;
    };
    std::vector<Place> live;
    offsets.assign(values.size(), 0);
    size_t total = 0;
    for (const Step &step : m.steps) {
      int now = int(&step - m.steps.data());
      std::erase_if(live, [&](const Place &p) { return last[p.value] < now; });
      for (int v : step.results) {
        if (isResult(v)) {
          continue;
        }
        size_t size = (size_t(bytesOf(values[v])) + 127) / 64 * 64, begin = 0;
        std::sort(live.begin(), live.end(), [](const Place &a, const Place &b) { return a.begin < b.begin; });
        for (const Place &p : live) {
          if (p.begin >= begin + size) {
            break;
          }
          begin = std::max(begin, p.end);
        }
        live.push_back({begin, begin + size, v});
        offsets[v] = begin;
        total = std::max(total, begin + size);
      }
    }
    return total;
  }

  bool isResult(int v) const {
    return std::any_of(m.results.begin(), m.results.end(), [&](const Result &r) { return r.value == v; });
  }

  const Manifest &m;
  const KernelManifest &kernels;
  std::vector<heddle_tensor> values, in, out;
};

} // namespace

Error heddle::rt::checkAgainst(const Argument &arg, const heddle_tensor &t) {
  if (t.rank < 0 || t.rank > 6) {
    return invalidValue("expected " + arg.name + " to have 0 to 6 dimensions, but got " + std::to_string(t.rank));
  }
  if (Error e = checkForm(arg, t)) {
    return e;
  }
  bool empty = std::find(t.shape, t.shape + t.rank, 0) != t.shape + t.rank;
  return t.data || empty ? nullptr : invalidValue("expected " + arg.name + " to have data, but got a null pointer");
}

Error heddle::rt::prepareOp(const Manifest &m, const heddle_tensor *args, const heddle_tensor *results,
                            Launch &launch) {
  for (size_t a = 0; a < m.args.size(); ++a) {
    if (Error e = checkAgainst(m.args[a], args[a])) {
      return e;
    }
  }
  std::vector<heddle_tensor> wanted(m.results.size());
  if (Error e = inferResults(m, args, wanted.data())) {
    return e;
  }
  size_t records = m.args.size() + m.results.size();
  launch.block.assign(headerSlots + recordSlots * records, 0);
  launch.storage.clear();
  launch.storage.reserve(m.args.size()); // the block points into it
  bool nothing = true;
  for (size_t r = 0; r < m.results.size(); ++r) {
    Argument formal{"result " + std::to_string(r), m.results[r].dtype, false, {}, {}};
    formal.dims.assign(wanted[r].shape, wanted[r].shape + wanted[r].rank);
    if (Error e = checkAgainst(formal, results[r])) {
      return e;
    }
    for (int32_t i = 0; i < results[r].rank && bytesOf(wanted[r]) > 0; ++i) {
      if (results[r].shape[i] > 1 && results[r].strides[i] == 0) {
        return invalidValue("expected " + formal.name +
                            " to have an element of its own for each index, but its stride "
                            "along dimension " +
                            std::to_string(i) + " is 0");
      }
    }
    nothing &= bytesOf(wanted[r]) == 0;
    writeRecord(launch, headerSlots + recordSlots * (m.args.size() + r), results[r], 0);
  }
  for (size_t a = 0; a < m.args.size(); ++a) {
    unsigned repeats = 0;
    for (const OpCheck &check : m.op->checks) {
      repeats |= check.arg == int(a) && check.kind == OpCheck::OrOne ? 1u << check.axis : 0;
    }
    writeRecord(launch, headerSlots + recordSlots * a, args[a], repeats);
    if (m.args[a].scalar) {
      int64_t *record = &launch.block[headerSlots + recordSlots * a];
      launch.storage.push_back(scalarBits(m.args[a], args[a]));
      // A device cannot follow the pointer: there the record holds the value itself.
      record[0] = m.gpu ? 0 : int64_t(reinterpret_cast<intptr_t>(&launch.storage.back()));
      record[1] = m.gpu ? launch.storage.back() : record[1];
    }
  }
  launch.units = nothing ? 0 : std::max<int64_t>(evaluate<int64_t>(m.op->tasks, args), 0);
  launch.block[0] = launch.units;
  launch.block[SlotParts] = 1;
  launch.work = evaluate<double>(m.op->work, args);
  return nullptr;
}

Error heddle::rt::inferResults(const Manifest &m, const heddle_tensor *args, heddle_tensor *results) {
  std::vector<heddle_tensor> seen;
  if (!m.listed.empty()) {
    if (Error e = seeThroughLists(m, args, seen)) {
      return e;
    }
    args = seen.data();
  }
  for (size_t a = 0; a < m.args.size(); ++a) {
    if (Error e = checkForm(m.args[a], args[a])) {
      return e;
    }
  }
  if (m.op) {
    if (Error e = checkSizes(m, args)) {
      return e;
    }
  }
  for (size_t r = 0; r < m.results.size(); ++r) {
    const Result &result = m.results[r];
    heddle_tensor &t = results[r];
    t = {};
    t.dtype = result.dtype;
    t.rank = int32_t(result.dims.size());
    if (m.op) {
      for (int32_t n = 0; n < t.rank; ++n) {
        t.shape[n] = std::max<int64_t>(evaluate<int64_t>(m.op->sizes[r][n], args), 0);
      }
    } else {
      const heddle_tensor &q = args[m.q], &v = args[m.segments[0].v];
      int64_t shape[4] = {q.shape[0], q.shape[1], q.shape[2], v.shape[3]};
      std::copy(shape, shape + t.rank, t.shape);
    }
    for (int32_t n = 0; n < t.rank; ++n) {
      if (t.shape[n] >= limit || (result.dims[n] >= 0 && t.shape[n] != result.dims[n])) {
        return invalidValue("expected dimension " + std::to_string(n) + " of a result to be " +
                            (result.dims[n] >= 0 ? std::to_string(result.dims[n]) : "below 2^30") +
                            ", but the arguments give " + std::to_string(t.shape[n]));
      }
    }
    dense(t);
  }
  return nullptr;
}

Error heddle::rt::inferProgram(const Manifest &m, const KernelManifest &kernels, const heddle_tensor *args,
                               heddle_tensor *results) {
  Values values(m, kernels, args);
  if (Error e = values.infer()) {
    return e;
  }
  for (size_t r = 0; r < m.results.size(); ++r) {
    results[r] = values.values[m.results[r].value];
  }
  return nullptr;
}

Error heddle::rt::runProgram(const Manifest &m, const KernelManifest &kernels, const RunKernel &run,
                             const heddle_tensor *args, const heddle_tensor *results, const ProgramMemory &given) {
  thread_local Scratch scratch; // for the tensors between steps
  Values values(m, kernels, args);
  for (size_t a = 0; a < m.args.size(); ++a) {
    if (Error e = checkAgainst(m.args[a], args[a])) {
      return e;
    }
  }
  if (Error e = values.infer()) {
    return e;
  }
  std::vector<size_t> offsets;
  size_t bytes = values.place(offsets);
  auto *memory = static_cast<char *>(given ? given(bytes) : scratch.get(bytes));
  if (!memory) {
    return systemError("expected " + std::to_string(bytes) +
                       " bytes for the tensors between steps, but the allocation "
                       "failed");
  }
  for (size_t v = m.args.size(); v < values.values.size(); ++v) {
    values.values[v].data = memory + offsets[v];
  }
  for (size_t r = 0; r < m.results.size(); ++r) {
    heddle_tensor &want = values.values[m.results[r].value];
    Argument formal{"result " + std::to_string(r), m.results[r].dtype, false, {}, {}};
    formal.dims.assign(want.shape, want.shape + want.rank);
    if (Error e = checkAgainst(formal, results[r])) {
      return e;
    }
    want = results[r];
  }
  for (const Step &step : m.steps) {
    values.gather(step);
    if (Error e = run(step.kernel, values.in.data(), int32_t(values.in.size()), values.out.data(),
                      int32_t(values.out.size()))) {
      return e;
    }
  }
  scratch.trim(keptBytes);
  return nullptr;
}
