//===- LaunchTest.cpp - Checks and the argument block ---------------------===//
//
// Runs the hand-written kernel over odd shapes, strides and offsets, and reads
// the message of every refusal.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/Support.h"

#include "runtime/src/launch.h"

#include <cmath>
#include <limits>
#include <sys/wait.h>
#include <thread>

using namespace heddle::rt;
using namespace heddle::rt::test;

namespace {

struct KernelHandle {
  explicit KernelHandle(const std::string &manifest = copyManifest()) {
    std::string bytes = copyArtifact(manifest);
    message = take(heddle_kernel_load(bytes.data(), bytes.size(), &kernel));
  }
  ~KernelHandle() { heddle_kernel_release(kernel); }
  heddle_kernel *kernel = nullptr;
  std::string message;
};

/// The arguments and results of one call; tests bend them before run().
struct Call {
  Dense<float> q, k, v, out, lse;
  Dense<int64_t> at;
  int32_t threads = 2;

  Call(int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t hk = 1)
      : q(HEDDLE_F32, {b, h, nq, 8}), k(HEDDLE_F32, {b, hk, nk, 8}), v(HEDDLE_F32, {b, hk, nk, 8}),
        out(HEDDLE_F32, {b, h, nq, 8}), lse(HEDDLE_F32, {b, h, nq}), at(HEDDLE_I64, {1}) {
    at.data[0] = 0;
    std::fill(out.data.begin(), out.data.end(), -7.0f);
    std::fill(lse.data.begin(), lse.data.end(), -7.0f);
  }
  std::string run(heddle_kernel *kernel) {
    heddle_tensor args[] = {q.view, k.view, v.view, at.view}, results[] = {out.view, lse.view};
    heddle_run_options options{threads, 0};
    return take(heddle_kernel_run(kernel, args, 4, results, 2, &options));
  }
};

} // namespace

TEST(Launch, RunsEveryRowOnce) {
  KernelHandle handle;
  ASSERT_EQ(handle.message, "");
  for (int64_t b : {1, 3}) {
    for (int64_t h : {1, 2}) {
      for (int64_t nq : {1, 2, 15, 16, 17, 100, 1025}) {
        for (int64_t offset : {0, 1, 16, 17, -1, -100, 12345}) {
          Call call(b, h, nq, nq * 40);
          call.at.data[0] = offset;
          ASSERT_EQ(call.run(handle.kernel), "");
          for (int64_t i = 0; i < b * h * nq * 8; ++i) {
            ASSERT_EQ(call.out.data[i], call.q.data[i]);
          }
          for (int64_t i = 0; i < b * h * nq; ++i) {
            ASSERT_EQ(call.lse.data[i], float(offset + i % nq));
          }
          EXPECT_EQ(call.out.data.back(), -7.0f);
        }
      }
    }
  }
}

TEST(Launch, OffsetsPerBatchAndOfOtherTypes) {
  KernelHandle handle;
  Call call(3, 2, 20, 20);
  Dense<int32_t> offsets(HEDDLE_I32, {6}); // every second one
  offsets.data = {5, 99, -3, 99, 32, 99};
  offsets.view.data = offsets.data.data();
  offsets.view.shape[0] = 3;
  offsets.view.strides[0] = 2;
  call.at.view = offsets.view;
  ASSERT_EQ(call.run(handle.kernel), "");
  int expected[] = {5, -3, 32};
  for (int64_t i = 0; i < 3 * 2 * 20; ++i) {
    EXPECT_EQ(call.lse.data[i], float(expected[i / 40] + i % 20));
  }
  Call scalar(2, 1, 4, 4);
  int32_t nine = 9;
  scalar.at.view = {&nine, HEDDLE_I32, 0, {}, {}};
  ASSERT_EQ(scalar.run(handle.kernel), "");
  EXPECT_EQ(scalar.lse.data[4], 9.0f);
}

TEST(Launch, StridesAreHonored) {
  KernelHandle handle;
  Call call(2, 3, 5, 5);
  // bnhd: heads inside rows.
  int64_t strides[] = {5 * 3 * 8, 8, 3 * 8, 1};
  std::copy(strides, strides + 4, call.q.view.strides);
  ASSERT_EQ(call.run(handle.kernel), "");
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t i = 0; i < 5; ++i) {
        EXPECT_EQ(call.out.data[((b * 3 + h) * 5 + i) * 8 + 3], call.q.data[b * 120 + h * 8 + i * 24 + 3]);
      }
    }
  }
}

TEST(Launch, ZeroSizesRunNothing) {
  KernelHandle handle;
  for (auto [b, h, nq] : {std::array<int64_t, 3>{0, 2, 4}, {2, 0, 4}, {2, 2, 0}}) {
    Call call(b, h, nq, 4, h ? h : 4);
    call.q.view.data = nullptr; // as empty tensors often are
    call.out.view.data = nullptr;
    EXPECT_EQ(call.run(handle.kernel), "");
    EXPECT_EQ(call.lse.data[0], -7.0f);
  }
  Call noKeys(1, 1, 3, 0);
  noKeys.k.view.data = noKeys.v.view.data = nullptr;
  EXPECT_EQ(noKeys.run(handle.kernel), "");
  EXPECT_EQ(noKeys.lse.data[2], 2.0f); // the kernel did run
}

TEST(Launch, LseMayBeLeftOut) {
  KernelHandle handle;
  Call call(1, 1, 5, 5);
  call.lse.view.data = nullptr;
  EXPECT_EQ(call.run(handle.kernel), "");
  EXPECT_EQ(call.out.data[39], call.q.data[39]);
}

TEST(Launch, MessagesOfWrongTensors) {
  KernelHandle handle;
  auto message = [&](auto bend) {
    Call call(2, 8, 10, 10, 2);
    bend(call);
    return call.run(handle.kernel);
  };
  EXPECT_EQ(message([](Call &c) { c.k.view.shape[0] = 3; }),
            "expected k to have shape [1 or 2, ?, ?, 8] (batch, heads, keys, head dimension), but got [3, 2, 10, 8]");
  EXPECT_EQ(message([](Call &c) { c.k.view.shape[3] = 9; }),
            "expected k to have shape [?, ?, ?, 8] (batch, heads, keys, head dimension), but got [2, 2, 10, 9]");
  EXPECT_EQ(message([](Call &c) { c.v.view.shape[2] = 9; }),
            "expected v to have shape [1 or 2, ?, 10, 8] (batch, heads, keys, value dimension), but got [2, 2, 9, 8]");
  EXPECT_EQ(message([](Call &c) { c.q.view.rank = 3; }),
            "expected q to have shape [?, ?, ?, 8] (batch, heads, queries, head dimension), but got [2, 8, 10]");
  EXPECT_EQ(message([](Call &c) { c.k.view.shape[1] = 3; }),
            "expected the number of heads of k to divide the 8 of q, but got 3 (shape [2, 3, 10, 8])");
  EXPECT_EQ(message([](Call &c) { c.out.view.shape[2] = 11; }),
            "expected out to have shape [2, 8, 10, 8] (batch, heads, queries, value dimension), but got [2, 8, 11, 8]");
  EXPECT_EQ(message([](Call &c) { c.out.view.strides[0] = 0; }),
            "expected out to have an element of its own for each index, but its stride along dimension 0 is 0");
  EXPECT_EQ(message([](Call &c) { c.v.view.data = nullptr; }), "expected v to have data, but got a null pointer");
  EXPECT_EQ(message([](Call &c) { c.q.view.shape[2] = -1; }),
            "expected sizes of q from 0 to 2^30 - 1, but got [2, 8, -1, 8]");
  EXPECT_EQ(message([](Call &c) { c.at.data[0] = int64_t(1) << 30; }),
            "expected positions below 2^30 in magnitude, but at = 1073741824 with 10 rows");
  EXPECT_EQ(message([](Call &c) { c.at.view.shape[0] = 3; }),
            "expected at to have shape [1 or 2] (batch), but got [3]");
}

TEST(Launch, WrongTypesAreTypeErrors) {
  KernelHandle handle;
  Call call(1, 1, 4, 4);
  call.k.view.dtype = HEDDLE_F64;
  heddle_tensor args[] = {call.q.view, call.k.view, call.v.view, call.at.view};
  heddle_tensor results[] = {call.out.view, call.lse.view};
  Error e(heddle_kernel_run(handle.kernel, args, 4, results, 2, nullptr));
  ASSERT_TRUE(e);
  EXPECT_EQ(e->code, HEDDLE_INVALID_TYPE);
  EXPECT_EQ(e->message, "expected k to be f32, but got f64: convert it to f32");
  Error count(heddle_kernel_run(handle.kernel, args, 3, results, 2, nullptr));
  ASSERT_TRUE(count);
  EXPECT_EQ(count->message, "expected 4 arguments (q, k, v, at), but got 3");
}

TEST(Launch, AsksForQOffset) {
  KernelHandle handle(copyManifest(R"({"kind": "none"})"));
  Call same(1, 1, 9, 9);
  EXPECT_EQ(same.run(handle.kernel), "");
  Call decode(1, 1, 1, 9);
  EXPECT_EQ(decode.run(handle.kernel), "expected q_offset (Nq = 1 differs from Nk = 9 and the pattern or the score "
                                       "depends on the query's position): give the "
                                       "position of the first query, 0 or for example \"end\" (Nk - Nq)");
  KernelHandle end(copyManifest(R"({"kind": "end"})"));
  EXPECT_EQ(decode.run(end.kernel), "");
  EXPECT_EQ(decode.lse.data[0], 8.0f);
  KernelHandle value(copyManifest(R"({"kind": "value", "value": 30})"));
  EXPECT_EQ(decode.run(value.kernel), "");
  EXPECT_EQ(decode.lse.data[0], 30.0f);
}

TEST(Launch, ScalarsAreCheckedAndConverted) {
  std::string manifest = R"({"format": 1, "entry": "heddle_task", "scratch_bytes": 0, "super_tile": 64,
    "segments": [{}], "args": [
      {"name": "q", "type": "f32", "dims": [-1, 2, -1, 4], "roles": [{"role": "q"}]},
      {"name": "v", "type": "f32", "dims": [-1, 2, -1, 4], "roles": [{"role": "v"}]},
      {"name": "s", "type": "f32", "scalar": true, "roles": [{"role": "scale"}]},
      {"name": "w", "type": "index", "scalar": true, "roles": [{"role": "operand", "min": 0}]},
      {"name": "bias", "type": "f32", "dims": [-1, -1, -1], "roles": [{"role": "operand", "axes": ["b", "h", "k"]}]}],
    "results": [{"type": "f32", "dims": [-1, 2, -1, 4], "role": "out"}]})";
  Manifest m;
  Error bad = parseManifest(manifest, m);
  ASSERT_FALSE(bad) << bad->message;
  Dense<float> q(HEDDLE_F32, {3, 2, 5, 4}), v(HEDDLE_F32, {1, 2, 7, 4}), out(HEDDLE_F32, {3, 2, 5, 4});
  Dense<float> bias(HEDDLE_F32, {1, 2, 7});
  double scale = 0.5;
  int32_t window = 11;
  heddle_tensor args[] = {q.view, v.view, {&scale, HEDDLE_F64, 0, {}, {}}, {&window, HEDDLE_I32, 0, {}, {}}, bias.view};
  Launch launch;
  auto prepare = [&] {
    Error e = prepareLaunch(m, args, 5, &out.view, 1, launch);
    return e ? e->message : "";
  };
  ASSERT_EQ(prepare(), "");
  EXPECT_EQ(*reinterpret_cast<double *>(launch.block[HeaderSlots + 9 * 2]), 0.5);
  EXPECT_EQ(*reinterpret_cast<int64_t *>(launch.block[HeaderSlots + 9 * 3]), 11);
  EXPECT_EQ(launch.units, 3 * 2 * 1);
  // v is shared by the batch, so is the bias; the bias has rank 3.
  EXPECT_EQ(launch.block[HeaderSlots + 9 + 1], 1);
  EXPECT_EQ(launch.block[HeaderSlots + 9 + 5], 0);
  EXPECT_EQ(std::vector<int64_t>(&launch.block[HeaderSlots + 9 * 4 + 1], &launch.block[HeaderSlots + 9 * 5]),
            (std::vector<int64_t>{1, 2, 7, 1, 0, 7, 1, 0}));
  window = -1;
  EXPECT_EQ(prepare(), "expected w to be at least 0, but got -1");
  window = 3;
  scale = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(prepare(), "expected s to be finite, but got nan");
  scale = 1;
  args[4].shape[2] = 6;
  EXPECT_EQ(prepare(), "expected dimension 2 of bias (keys) to be 7, but got 6 (shape [1, 2, 6])");
  args[4].shape[2] = 7;
  args[4].shape[0] = 2;
  EXPECT_EQ(prepare(), "expected dimension 0 of bias (batch) to be 1 or 3, but got 2 (shape [2, 2, 7])");
  args[4].shape[0] = 1;
  args[3].dtype = HEDDLE_F64;
  EXPECT_EQ(prepare(), "expected w to be i64, but got f64: convert it to i64");
}

TEST(Launch, HeadsShareTilesAndKeysAreSplit) {
  std::string text = copyManifest(R"({"kind": "value", "value": 0})",
                                  R"(, "parts": [1], "state_bytes": 640, "keys_per_split": 96, "max_splits": 4,
                                     "heads_share_tiles": 1)");
  Manifest m;
  Error bad = parseManifest(text, m);
  ASSERT_FALSE(bad) << bad->message;
  auto slots = [&](int64_t b, int64_t h, int64_t hk, int64_t nq, int64_t nk) {
    Call call(b, h, nq, nk, hk);
    heddle_tensor args[] = {call.q.view, call.k.view, call.v.view, call.at.view};
    heddle_tensor results[] = {call.out.view, call.lse.view};
    Launch launch;
    Error e = prepareLaunch(m, args, 4, results, 2, launch);
    EXPECT_FALSE(e);
    return std::array<int64_t, 4>{launch.block[SlotHeadsPerTile], launch.block[SlotKeysPerSplit],
                                  launch.block[SlotSplits], launch.units};
  };
  using Slots = std::array<int64_t, 4>;
  const int64_t whole = int64_t(1) << 30;
  // 16 lanes: as many heads of a group as fit with all queries, a divisor of the group.
  EXPECT_EQ(slots(1, 8, 1, 1, 96), (Slots{8, whole, 1, 1}));
  EXPECT_EQ(slots(2, 8, 2, 4, 96), (Slots{4, whole, 1, 4}));
  EXPECT_EQ(slots(1, 6, 1, 4, 96), (Slots{3, whole, 1, 2}));
  EXPECT_EQ(slots(1, 7, 1, 4, 96), (Slots{1, whole, 1, 7}));
  EXPECT_EQ(slots(1, 8, 8, 1, 96), (Slots{1, whole, 1, 8}));
  EXPECT_EQ(slots(1, 8, 1, 17, 96), (Slots{1, whole, 1, 16}));
  // Splits follow from the keys alone, and there are at most four.
  EXPECT_EQ(slots(1, 8, 1, 1, 97), (Slots{8, 96, 2, 1}));
  EXPECT_EQ(slots(3, 8, 1, 16, 384), (Slots{1, 96, 4, 24}));
  EXPECT_EQ(slots(1, 8, 1, 1, 385), (Slots{8, 192, 3, 1}));
  // And as many as share an operand's elements for heads.
  text.insert(text.size() - 1, R"(, "head_tables": [{"arg": 1, "dim": 1}])");
  m = Manifest();
  bad = parseManifest(text, m);
  ASSERT_FALSE(bad) << bad->message;
  EXPECT_EQ(slots(1, 8, 2, 1, 96), (Slots{4, whole, 1, 2}));
  for (const char *wrong : {R"(, "head_tables": [{"arg": 9, "dim": 1}])", R"(, "head_tables": [{"arg": 1, "dim": 4}])",
                            R"(, "parts": [1, 2])", R"(, "parts": [0])", R"(, "parts": [])", R"(, "keys_per_split": 5)",
                            R"(, "state_bytes": 7)", R"(, "max_splits": 0)"}) {
    EXPECT_TRUE(parseManifest(copyManifest(R"({"kind": "value", "value": 0})", wrong), m)) << wrong;
  }
}

TEST(Launch, ManyThreadsAtOnce) {
  KernelHandle handle;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 50; ++round) {
        Call call(2, 2, 200 + t, 2000);
        call.at.data[0] = t * 7;
        wrong += call.run(handle.kernel) != "";
        for (int64_t i = 0; i < 2 * 2 * (200 + t); ++i) {
          wrong += call.lse.data[i] != float(t * 7 + i % (200 + t));
        }
      }
    });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

TEST(Kernel, LoadRefusesWhatTheMachineCannotRun) {
  std::string manifest = copyManifest();
  manifest.replace(manifest.find("\"x86-64\""), 8, "\"x86-64-v4,+avx1024\"");
  KernelHandle handle(manifest);
  EXPECT_NE(handle.message.find("but it needs "), std::string::npos) << handle.message;
  EXPECT_EQ(handle.kernel, nullptr);
}

TEST(Kernel, SavesAndOpens) {
  TemporaryFolder folder;
  std::string path = folder.path / "k.heddle";
  KernelHandle handle;
  ASSERT_EQ(take(heddle_kernel_save(handle.kernel, path.c_str())), "");
  heddle_kernel *opened = nullptr;
  ASSERT_EQ(take(heddle_kernel_open(path.c_str(), &opened)), "");
  EXPECT_EQ(std::string(heddle_kernel_manifest(opened)), copyManifest());
  heddle_kernel_retain(opened);
  heddle_kernel_release(opened);
  Call call(1, 1, 4, 4);
  EXPECT_EQ(call.run(opened), "");
  heddle_kernel_release(opened);
  EXPECT_NE(take(heddle_kernel_open((path + "x").c_str(), &opened)).find("there is no such file"), std::string::npos);
  EXPECT_NE(take(heddle_kernel_save(handle.kernel, "/proc/nowhere/k")), "");
}
