//===- orders.cpp - Rows sorted by run-time ids ---------------------------===//

#include "runtime/src/orders.h"

#include "runtime/src/integers.h"

#include <algorithm>
#include <numeric>

using namespace heddle::rt;

namespace {

/// Ids `[B, N]` or `[B, H, N]`; B and H may be 1.
struct Ids {
  const heddle_tensor *t = nullptr;
  int64_t batches() const { return t->shape[0]; }
  int64_t heads() const { return t->rank == 3 ? t->shape[1] : 1; }
  int64_t rows() const { return t->shape[t->rank - 1]; }

  /// Ids of list (b, h) of `allHeads`.
  void read(int64_t b, int64_t h, int64_t allHeads, std::vector<int64_t> &out) const {
    int64_t base = (batches() == 1 ? 0 : b) * t->strides[0];
    if (t->rank == 3) {
      base += h * heads() / allHeads * t->strides[1];
    }
    out.resize(size_t(rows()));
    for (int64_t n = 0; n < rows(); ++n) {
      out[size_t(n)] = readInteger(*t, base + n * t->strides[t->rank - 1]);
    }
  }
};

/// The tables of all lists of one order.
struct Sorting {
  const Manifest &m;
  const Order &order;
  Ids queries, keys;
  int64_t batches, heads, queryHeads;
  const int64_t *qOffset;
  int64_t qOffsetStep;
  int32_t *queryOrder, *keyOrder, *first, *last;

  void sort(int64_t list) const;
};

/// Numbers the distinct ids of `q` from 0 and rewrites q and k: -1 for an id below zero or, in k, one that no query
/// has.
int64_t compress(std::vector<int64_t> &q, std::vector<int64_t> &k) {
  int64_t most = -1;
  for (int64_t id : q) {
    most = std::max(most, id);
  }
  thread_local std::vector<int64_t> number, distinct;
  int64_t count = 0;
  if (most < int64_t(4 * (q.size() + k.size()) + 1024)) {
    number.assign(size_t(most + 1), 0);
    for (int64_t id : q) {
      if (id >= 0) {
        number[size_t(id)] = 1;
      }
    }
    for (int64_t &n : number) {
      n = n ? count++ : -1;
    }
    auto lookup = [&](int64_t id) { return id < 0 || id > most ? -1 : number[size_t(id)]; };
    std::transform(q.begin(), q.end(), q.begin(), lookup);
    std::transform(k.begin(), k.end(), k.begin(), lookup);
    return count;
  }
  distinct.clear();
  std::copy_if(q.begin(), q.end(), std::back_inserter(distinct), [](int64_t id) { return id >= 0; });
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  auto lookup = [&](int64_t id) {
    auto at = std::lower_bound(distinct.begin(), distinct.end(), id);
    return at != distinct.end() && *at == id ? at - distinct.begin() : -1;
  };
  std::transform(q.begin(), q.end(), q.begin(), lookup);
  std::transform(k.begin(), k.end(), k.begin(), lookup);
  return int64_t(distinct.size());
}

void Sorting::sort(int64_t list) const {
  thread_local std::vector<int64_t> q, k, start;
  const int64_t b = list / heads, h = list % heads;
  queries.read(b, h, heads, q);
  keys.read(b, h, heads, k);
  const int64_t nq = queries.rows(), nk = keys.rows(), ids = compress(q, k);
  int32_t *orderOfQueries = queryOrder + list * nq, *orderOfKeys = keyOrder + list * nk;
  // start[id]: the first key of that id in the order.
  start.assign(size_t(ids + 1), 0);
  for (int64_t id : k) {
    if (id >= 0) {
      ++start[size_t(id + 1)];
    }
  }
  std::partial_sum(start.begin(), start.end(), start.begin());
  for (int64_t row = 0; row < nq; ++row) {
    int64_t id = q[size_t(row)];
    first[list * nq + row] = id < 0 ? 0 : int32_t(start[size_t(id)]);
    last[list * nq + row] = id < 0 ? 0 : int32_t(start[size_t(id + 1)]);
  }
  for (int64_t row = 0; row < nk; ++row) {
    if (int64_t id = k[size_t(row)]; id >= 0) {
      orderOfKeys[start[size_t(id)]++] = int32_t(row);
    }
  }
  // Queries: within each super-tile where others share its state, else all together. Those without an id come last.
  const int64_t offset = order.within > 0 ? qOffset[(batches == 1 ? 0 : b) * qOffsetStep] : 0;
  const int64_t size = order.within > 0 ? order.within : std::max<int64_t>(nq, 1);
  for (int64_t row = 0; row < nq;) {
    const int64_t place = ((offset + row) % size + size) % size, end = std::min(nq, row + size - place);
    int32_t *out = orderOfQueries + row;
    std::iota(out, out + (end - row), int32_t(row));
    auto key = [&](int32_t r) { return q[size_t(r)] < 0 ? ids : q[size_t(r)]; };
    if (ids < 8 * (end - row) + 64) {
      start.assign(size_t(ids + 2), 0);
      for (int64_t r = row; r < end; ++r) {
        ++start[size_t(key(int32_t(r)) + 1)];
      }
      std::partial_sum(start.begin(), start.end(), start.begin());
      for (int64_t r = row; r < end; ++r) {
        out[start[size_t(key(int32_t(r)))]++] = int32_t(r);
      }
    } else {
      std::stable_sort(out, out + (end - row), [&](int32_t x, int32_t y) { return key(x) < key(y); });
    }
    row = end;
  }
}

void sortList(void *context, int64_t list, int32_t) { static_cast<const Sorting *>(context)->sort(list); }

} // namespace

void heddle::rt::sortRows(const Manifest &manifest, const heddle_tensor *args, Launch &launch, int32_t threads) {
  if (manifest.orders.empty()) {
    return;
  }
  const int64_t heads = launch.block[1];
  std::vector<Sorting> all;
  size_t total = 0;
  const size_t qOffsetSlot = launch.orderSlot - 2 * (manifest.segments.size() + manifest.listed.size()) - 2;
  for (const Order &order : manifest.orders) {
    Sorting s{manifest, order,  {&args[order.query]}, {&args[order.key]}, 1, 1, heads, nullptr, 0, nullptr, nullptr,
              nullptr,  nullptr};
    s.qOffset = reinterpret_cast<const int64_t *>(static_cast<intptr_t>(launch.block[qOffsetSlot]));
    s.qOffsetStep = launch.block[qOffsetSlot + 1];
    const bool offsets = order.within > 0 && s.qOffsetStep != 0;
    s.batches = offsets ? launch.block[0] : std::max(s.queries.batches(), s.keys.batches());
    const int64_t hq = s.queries.heads(), hk = s.keys.heads();
    s.heads = hq == hk || hk == 1 ? hq : hq == 1 ? hk : heads;
    total += size_t(s.batches * s.heads * (3 * s.queries.rows() + s.keys.rows()));
    all.push_back(s);
  }
  launch.orders.resize(total);
  int32_t *next = launch.orders.data();
  size_t slot = launch.orderSlot;
  for (Sorting &s : all) {
    const int64_t lists = s.batches * s.heads;
    for (auto [table, rows] : {std::pair(&s.queryOrder, s.queries.rows()), std::pair(&s.keyOrder, s.keys.rows()),
                               std::pair(&s.first, s.queries.rows()), std::pair(&s.last, s.queries.rows())}) {
      *table = next;
      next += lists * rows;
      launch.block[slot++] = int64_t(reinterpret_cast<intptr_t>(*table));
    }
    launch.block[slot++] = s.batches;
    launch.block[slot++] = s.heads;
    const int64_t rows = s.queries.rows() + s.keys.rows();
    if (lists > 1 && threads > 1 && lists * rows > 20000) {
      heddle_parallel(lists, threads, sortList, &s);
    } else {
      for (int64_t list = 0; list < lists; ++list) {
        s.sort(list);
      }
    }
  }
}
