//===- checks.cpp - What HEDDLE_CHECK=1 asks of a call --------------------===//

#include "runtime/src/checks.h"

#include "runtime/src/integers.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace heddle::rt;

namespace {

/// Calls visit(indices, offset) for every index of the leading dimensions until it gives an error.
template <typename Visit> Error eachList(const heddle_tensor &t, int32_t trailing, Visit visit) {
  std::vector<int64_t> at(size_t(t.rank), 0);
  const int32_t leading = t.rank - trailing;
  if (std::find(t.shape, t.shape + leading, 0) != t.shape + leading) {
    return nullptr;
  }
  while (true) {
    int64_t offset = 0;
    for (int32_t n = 0; n < leading; ++n) {
      offset += at[size_t(n)] * t.strides[n];
    }
    if (Error e = visit(at, offset)) {
      return e;
    }
    int32_t n = leading - 1;
    while (n >= 0 && ++at[size_t(n)] == t.shape[n]) {
      at[size_t(n--)] = 0;
    }
    if (n < 0) {
      return nullptr;
    }
  }
}

std::string place(std::vector<int64_t> at, int32_t dimension, int64_t index) {
  at[size_t(dimension)] = index;
  std::string text = "[";
  for (size_t n = 0; n < at.size(); ++n) {
    text += (n ? ", " : "") + std::to_string(at[n]);
  }
  return text + "]";
}

class Checker {
public:
  Checker(const Argument &arg, const heddle_tensor &t) : arg(arg), t(t), last(t.rank - 1) {}

  /// Entries from `lo` to `hi` of the list at `offset`: -1 or in [0, keys) where keys >= 0, and distinct.
  Error entries(const std::vector<int64_t> &at, int64_t offset, int64_t lo, int64_t hi, int64_t keys) {
    seen.clear();
    for (int64_t n = lo; n < hi; ++n) {
      int64_t entry = readInteger(t, offset + n * t.strides[last]);
      if (keys >= 0 && (entry < -1 || entry >= keys)) {
        return invalidValue("expected entries of " + arg.name + " from 0 to " + std::to_string(keys - 1) +
                            ", or -1 for none, but got " + std::to_string(entry) + " at " + place(at, last, n));
      }
      if (keys < 0 || entry >= 0) {
        seen.emplace_back(entry, n);
      }
    }
    std::sort(seen.begin(), seen.end());
    for (size_t n = 1; n < seen.size(); ++n) {
      if (seen[n].first == seen[n - 1].first) {
        return invalidValue("expected distinct entries in each list of " + arg.name + ", but got " +
                            std::to_string(seen[n].first) + " at " + place(at, last, seen[n - 1].second) + " and at " +
                            place(at, last, seen[n].second));
      }
    }
    return nullptr;
  }

  /// Ascending values from 0 to at most `most`.
  Error ascending(const std::vector<int64_t> &at, int64_t offset, int64_t most, const char *what) {
    int64_t before = 0;
    for (int64_t n = 0; n < t.shape[last]; ++n) {
      int64_t value = readInteger(t, offset + n * t.strides[last]);
      if (value < before || value > most) {
        return invalidValue("expected " + arg.name + " to ascend from 0 to at most " + std::to_string(most) + " (" +
                            what + "), but got " + std::to_string(value) + " at " + place(at, last, n) +
                            (n > 0 ? " after " + std::to_string(before) : ""));
      }
      before = value;
    }
    return nullptr;
  }

private:
  const Argument &arg;
  const heddle_tensor &t;
  int32_t last;
  std::vector<std::pair<int64_t, int64_t>> seen;
};

/// Each row of a graph, whose pointers are another argument.
Error checkGraph(const Manifest &m, const heddle_tensor *args, const Argument &arg, const Role &role,
                 const heddle_tensor &t, int64_t keys) {
  const heddle_tensor &pointers = args[role.pointers];
  const int64_t most = t.shape[t.rank - 1];
  Checker ends(m.args[role.pointers], pointers), own(arg, t);
  return eachList(pointers, 1, [&](const std::vector<int64_t> &at, int64_t offset) -> Error {
    if (Error e = ends.ascending(at, offset, most, "the number of indices")) {
      return e;
    }
    // The indices of the same batch and head.
    std::vector<int64_t> where(size_t(t.rank), 0);
    int64_t base = 0;
    for (int32_t n = 0; n + 1 < t.rank && n + 1 < pointers.rank; ++n) {
      where[size_t(n)] = t.shape[n] == 1 ? 0 : at[size_t(n)];
      base += where[size_t(n)] * t.strides[n];
    }
    for (int64_t row = 0; row + 1 < pointers.shape[pointers.rank - 1]; ++row) {
      const int64_t step = pointers.strides[pointers.rank - 1];
      int64_t lo = readInteger(pointers, offset + row * step), hi = readInteger(pointers, offset + (row + 1) * step);
      if (Error e = own.entries(where, base, lo, hi, keys)) {
        return e;
      }
    }
    return nullptr;
  });
}

Error checkRole(const Manifest &m, const heddle_tensor *args, size_t a, const Role &role, int64_t queries,
                int64_t keys) {
  const Argument &arg = m.args[a];
  const heddle_tensor &t = args[a];
  const int64_t blocks = role.divisor > 0 ? (keys + role.divisor - 1) / role.divisor : int64_t(1) << 30;
  Checker checker(arg, t);
  switch (role.check) {
  case Role::None:
    return nullptr;
  case Role::List:
  case Role::Distinct:
    return eachList(t, 1, [&](const std::vector<int64_t> &at, int64_t offset) {
      return checker.entries(at, offset, 0, t.shape[t.rank - 1], role.check == Role::List ? blocks : -1);
    });
  case Role::Graph:
    return checkGraph(m, args, arg, role, t, blocks);
  case Role::QueryStarts:
  case Role::KeyStarts: {
    const bool ofKeys = role.check == Role::KeyStarts;
    return eachList(t, 1, [&](const std::vector<int64_t> &at, int64_t offset) {
      return checker.ascending(at, offset, ofKeys ? keys : queries,
                               ofKeys ? "the number of keys" : "the number of queries");
    });
  }
  case Role::Length:
    for (int64_t b = 0; b < t.shape[0]; ++b) {
      int64_t length = readInteger(t, b * t.strides[0]);
      if (length < 0 || length > keys) {
        return invalidValue("expected lengths in " + arg.name + " from 0 to " + std::to_string(keys) + ", but got " +
                            std::to_string(length) + " at [" + std::to_string(b) + "]");
      }
    }
    return nullptr;
  }
  return nullptr;
}

} // namespace

bool heddle::rt::isChecking() {
  const char *text = std::getenv("HEDDLE_CHECK");
  return text && std::strcmp(text, "1") == 0;
}

Error heddle::rt::checkContents(const Manifest &manifest, const heddle_tensor *args, int64_t queries,
                                const std::vector<int64_t> &keys) {
  for (size_t a = 0; a < manifest.args.size(); ++a) {
    for (const Role &role : manifest.args[a].roles) {
      if (role.check != Role::None && role.segment >= 0) {
        if (Error e = checkRole(manifest, args, a, role, queries, keys[size_t(role.segment)])) {
          return e;
        }
      }
    }
  }
  return nullptr;
}
