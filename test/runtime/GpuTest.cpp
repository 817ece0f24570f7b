//===- GpuTest.cpp - Kernels for a GPU, on a driver that takes notes ------===//
#include "test/runtime/Support.h"

#include "runtime/src/launch.h"

#include <cstring>
#include <dlfcn.h>

using namespace heddle::rt;
using namespace heddle::rt::test;

namespace {

/// stub_cuda.c, which every launch of this program uses.
struct Stub {
  Stub() {
    setenv("HEDDLE_CUDA_LIBRARY", HEDDLE_STUB_CUDA, 1);
    library = dlopen(HEDDLE_STUB_CUDA, RTLD_NOW | RTLD_LOCAL);
  }
  template <typename Fn> Fn find(const char *name) { return reinterpret_cast<Fn>(dlsym(library, name)); }
  std::string log() { return find<const char *(*)()>("stub_log")(); }
  int loaded() { return find<int (*)()>("stub_loaded")(); }
  std::vector<int64_t> block(size_t slots) {
    std::vector<int64_t> out(slots);
    std::memcpy(out.data(), find<const void *(*)()>("stub_block")(), slots * 8);
    return out;
  }
  void reset(intptr_t context = 1, int major = 8, int minor = 6, bool capturing = false) {
    find<void (*)(void *, int, int, int)>("stub_reset")(reinterpret_cast<void *>(context), major, minor, capturing);
  }
  void refuseMap(int n) { find<void (*)(int)>("stub_refuse_map")(n); }
  void *library = nullptr;
};

Stub &stub() {
  static Stub stub;
  return stub;
}

constexpr size_t attendSlots = 16 + 9 * 7 + 4;

/// copy_kernel's signature with a run-time count, as two GPU kernels.
std::string attendArtifact(const std::string &ptx, const std::string &cubin = "", const std::string &chip = "sm_80",
                           int shared = 50000, const std::string &extra = "") {
  std::string manifest = copyManifest(R"({"kind": "arg", "arg": 3})", extra);
  manifest.pop_back();
  const std::string last = R"("roles": [{"role": "q_offset"}]})";
  manifest.insert(manifest.find(last) + last.size(),
                  R"(, {"name": "w", "type": "index", "scalar": true, "roles": [{"role": "operand", "min": 0}]})");
  auto kernel = [&](const char *name) {
    return std::string(R"({"name": ")") + name + R"(", "threads": 128, "shared_bytes": )" + std::to_string(shared) +
           R"(, "span": 64, "inner": 3})";
  };
  manifest +=
      R"(, "gpu": {"chip": ")" + chip + R"(", "ptx_bytes": )" + std::to_string(ptx.size()) + R"(, "cubin_bytes": )" +
      std::to_string(cubin.size()) + R"(, "workspace_words": 10, "state_words": 10, "kernels": [)" + kernel("first") +
      ", " +
      (extra.empty() ? kernel("second") : R"({"name": "second", "threads": 64, "shared_bytes": 0, "merge": 1})") +
      "]}}";
  return writeArtifact(manifest, ptx + cubin);
}

std::string code(size_t slots = attendSlots, const char *mark = "ptx") {
  std::string bytes = std::to_string(slots * 8);
  return std::string(mark) + " kernel first " + bytes + "\nkernel second " + bytes + "\n";
}

struct Handle {
  explicit Handle(const std::string &bytes) { message = take(heddle_kernel_load(bytes.data(), bytes.size(), &kernel)); }
  ~Handle() { heddle_kernel_release(kernel); }
  heddle_kernel *kernel = nullptr;
  std::string message;
};

/// Tensors whose addresses nobody may follow.
struct Call {
  Dense<float> q, k, v, out, lse;
  Dense<int64_t> at;
  int64_t w = 5;
  heddle_tensor width{};

  Call(int64_t b, int64_t h, int64_t nq, int64_t nk)
      : q(HEDDLE_F32, {b, h, nq, 8}), k(HEDDLE_F32, {b, 1, nk, 8}), v(HEDDLE_F32, {b, 1, nk, 8}),
        out(HEDDLE_F32, {b, h, nq, 8}), lse(HEDDLE_F32, {b, h, nq}), at(HEDDLE_I64, {1}) {
    intptr_t address = 0x1000;
    for (heddle_tensor *t : {&q.view, &k.view, &v.view, &at.view, &out.view, &lse.view}) {
      t->data = reinterpret_cast<void *>(address);
      address += 0x1000;
    }
    width.dtype = HEDDLE_I64;
    width.data = &w;
  }
  std::vector<heddle_tensor> args() const { return {q.view, k.view, v.view, at.view, width}; }
  std::string launch(heddle_kernel *kernel, size_t bytes = 1 << 20, intptr_t workspace = 0x100000,
                     intptr_t stream = 9) {
    std::vector<heddle_tensor> in = args();
    heddle_tensor results[] = {out.view, lse.view};
    return take(heddle_gpu_launch(kernel, in.data(), int32_t(in.size()), results, 2,
                                  reinterpret_cast<void *>(workspace), bytes, reinterpret_cast<void *>(stream)));
  }
};

} // namespace

TEST(Gpu, LaunchesItsKernelsInOrderOnTheStream) {
  stub().reset();
  {
    Handle handle(attendArtifact(code()));
    ASSERT_EQ(handle.message, "");
    Call call(2, 3, 100, 70);
    std::vector<heddle_tensor> in = call.args();
    size_t bytes = 0;
    EXPECT_EQ(take(heddle_gpu_workspace(handle.kernel, in.data(), 5, &bytes)), "");
    EXPECT_EQ(bytes, size_t(2 * 3 * 100 * 10 * 4));
    EXPECT_EQ(call.launch(handle.kernel), "");
    // 100 positions touch at most 3 spans of 64; times 3 blocks each, 2 batches, 3 heads.
    EXPECT_EQ(stub().log(), "load ptx ke\nlaunch first 54 x 128, 50000 shared, stream 9\n"
                            "launch second 54 x 128, 50000 shared, stream 9\n");
    std::vector<int64_t> block = stub().block(attendSlots);
    EXPECT_EQ(block[0], 2);
    EXPECT_EQ(block[1], 3);
    EXPECT_EQ(block[2], 100);
    EXPECT_EQ(block[9], 0x100000);
    EXPECT_EQ(block[16], 0x1000) << "q's address";
    EXPECT_EQ(block[16 + 3], 100) << "q's rows";
    EXPECT_EQ(block[16 + 9 * 4], 0) << "a scalar has no address";
    EXPECT_EQ(block[16 + 9 * 4 + 1], 5) << "but its value";
    EXPECT_EQ(block[16 + 9 * 7], 0x4000) << "q_offset is in device memory";
    EXPECT_EQ(call.launch(handle.kernel), "");
    EXPECT_EQ(stub().loaded(), 1) << "loaded once";
    stub().reset(2);
    EXPECT_EQ(call.launch(handle.kernel), "");
    EXPECT_EQ(stub().loaded(), 2) << "once for each context";
  }
  EXPECT_EQ(stub().loaded(), 0);
}

TEST(Gpu, FewQueriesShareTilesAndSplitKeys) {
  stub().reset();
  Handle handle(
      attendArtifact(code(), "", "sm_80", 1000, R"(, "keys_per_split": 32, "max_splits": 4, "heads_share_tiles": 1)"));
  ASSERT_EQ(handle.message, "");
  Call call(2, 3, 4, 300);
  EXPECT_EQ(call.launch(handle.kernel), "");
  // 3 heads of 4 queries fit 16 lanes; 300 keys are 4 splits of 96; 3 blocks each for 2 batches. Then a block a row.
  EXPECT_EQ(stub().log(), "load ptx ke\nlaunch first 24 x 128, 1000 shared, stream 9\n"
                          "launch second 24 x 64, 0 shared, stream 9\n");
  std::vector<int64_t> block = stub().block(attendSlots);
  EXPECT_EQ(block[6], 3);
  EXPECT_EQ(block[7], 96);
  EXPECT_EQ(block[8], 4);
  std::vector<heddle_tensor> in = call.args();
  size_t bytes = 0;
  EXPECT_EQ(take(heddle_gpu_workspace(handle.kernel, in.data(), 5, &bytes)), "");
  EXPECT_EQ(bytes, size_t(2 * 3 * 4 * 4 * 10 * 4)) << "a state for each split of each row";
  stub().reset();
  Call many(1, 1, 17, 300);
  EXPECT_EQ(many.launch(handle.kernel), "");
  EXPECT_EQ(stub().log(), "launch first 6 x 128, 1000 shared, stream 9\n") << "more queries than lanes: one split";
}

namespace {

/// copy_kernel's signature in bf16: a plain kernel and one on maps of k and v, in cubins of their own.
std::string mappedArtifact(int64_t step) {
  std::string manifest = copyManifest(R"({"kind": "value", "value": 0})");
  for (size_t at = manifest.find("\"f32\""); at < manifest.find("results"); at = manifest.find("\"f32\"")) {
    manifest.replace(at, 5, "\"bf16\"");
  }
  manifest.pop_back();
  std::string slots = std::to_string((16 + 9 * 6 + 4) * 8);
  std::string plain = "plain kernel first " + slots + "\n", mapped = "mapped kernel tensor " + slots + " 256\n";
  auto kernel = [&](const char *name, int cubin) {
    return std::string(R"([{"name": ")") + name +
           R"(", "threads": 128, "shared_bytes": 0, "span": 64, "inner": 1, "cubin": )" + std::to_string(cubin) + "}]";
  };
  auto recipe = [&](int arg) {
    return R"({"arg": )" + std::to_string(arg) + R"(, "step": )" + std::to_string(step) + R"(, "rows": 128})";
  };
  manifest += R"(, "gpu": {"chip": "sm_90a", "ptx_bytes": 0, "cubin_bytes": )" +
              std::to_string(plain.size() + mapped.size()) + R"(, "cubins": [)" + std::to_string(plain.size()) + ", " +
              std::to_string(mapped.size()) + R"(], "workspace_words": 0, "kernels": )" + kernel("first", 0) +
              R"(, "tensor_kernels": )" + kernel("tensor", 1) + R"(, "tensor_maps": [)" + recipe(1) + ", " + recipe(2) +
              "]}}";
  return writeArtifact(manifest, plain + mapped);
}

struct MappedCall {
  Dense<float> q, k, v, out;
  Dense<int64_t> at;
  MappedCall()
      : q(HEDDLE_BF16, {2, 4, 100, 8}), k(HEDDLE_BF16, {1, 2, 70, 8}), v(HEDDLE_BF16, {1, 2, 70, 8}),
        out(HEDDLE_F32, {2, 4, 100, 8}), at(HEDDLE_I64, {1}) {
    intptr_t address = 0x1000;
    for (heddle_tensor *t : {&q.view, &k.view, &v.view, &at.view, &out.view}) {
      t->data = reinterpret_cast<void *>(address);
      address += 0x1000;
    }
  }
  std::string launch(heddle_kernel *kernel) {
    heddle_tensor in[] = {q.view, k.view, v.view, at.view}, results[] = {out.view, {}};
    return take(heddle_gpu_launch(kernel, in, 4, results, 2, nullptr, 0, nullptr));
  }
};

const std::string launchMapped = "launch tensor 24 x 128, 0 shared, stream 0\n";
const std::string launchPlain = "launch first 24 x 128, 0 shared, stream 0\n";

} // namespace

TEST(Gpu, LaunchesKernelsOnTensorMaps) {
  stub().reset(1, 9, 0);
  Handle handle(mappedArtifact(1));
  ASSERT_EQ(handle.message, "");
  MappedCall call;
  EXPECT_EQ(call.launch(handle.kernel), "");
  // Innermost first: 8 columns, 70 rows, 2 heads, 1 batch; strides in bytes, dense where there is one alone.
  std::string rest = " dims 8 70 2 1 strides 16 1120 16 box 64 128 1 1 every 1 1 1 1 modes 0 3 3 0\n";
  EXPECT_EQ(stub().log(), "map type 9 at 8192" + rest + "map type 9 at 12288" + rest + "load mapped\n" + launchMapped);
  Handle strided(mappedArtifact(32));
  stub().reset(1, 9, 0);
  EXPECT_EQ(call.launch(strided.kernel), "");
  // 32 residues of two whole quotients.
  rest = " dims 8 32 2 2 1 strides 16 512 1120 16 box 64 1 128 1 1 every 1 1 1 1 1 modes 0 3 3 0\n";
  EXPECT_EQ(stub().log(), "map type 9 at 8192" + rest + "map type 9 at 12288" + rest + "load mapped\n" + launchMapped);
}

TEST(Gpu, LaunchesPlainKernelsWhereThereIsNoMap) {
  Handle handle(mappedArtifact(1));
  ASSERT_EQ(handle.message, "");
  auto logOf = [&](auto change) {
    MappedCall call;
    change(call);
    stub().reset(1, 9, 0);
    EXPECT_EQ(call.launch(handle.kernel), "");
    std::string log = stub().log();
    return log.substr(log.find("launch"));
  };
  EXPECT_EQ(logOf([](MappedCall &) {}), launchMapped);
  EXPECT_EQ(logOf([](MappedCall &c) { c.k.view.data = reinterpret_cast<void *>(0x2008); }), launchPlain);
  EXPECT_EQ(logOf([](MappedCall &c) { c.k.view.strides[2] = 12; }), launchPlain);
  EXPECT_EQ(logOf([](MappedCall &c) { c.v.view.strides[1] = -560; }), launchPlain);
  EXPECT_EQ(logOf([](MappedCall &c) { c.v.view.strides[3] = 2; }), launchPlain);
  EXPECT_EQ(logOf([](MappedCall &c) { c.k.view.strides[2] = 0; }), launchPlain) << "rows may not repeat";
  EXPECT_EQ(logOf([](MappedCall &c) { c.k.view.strides[1] = 0; }), launchMapped) << "heads may";
  EXPECT_EQ(logOf([](MappedCall &c) { c.v.view.strides[1] = int64_t(1) << 39; }), launchPlain);
  EXPECT_EQ(logOf([](MappedCall &c) { c.k.view.shape[2] = c.v.view.shape[2] = 0; }), launchPlain);
}

TEST(Gpu, LaunchesPlainKernelsWhereTheDriverRefusesAMap) {
  for (int which : {1, 2}) {
    Handle handle(mappedArtifact(1));
    stub().reset(1, 9, 0);
    stub().refuseMap(which);
    MappedCall call;
    EXPECT_EQ(call.launch(handle.kernel), "");
    EXPECT_NE(stub().log().find("load plain \n" + launchPlain), std::string::npos) << stub().log();
    EXPECT_EQ(stub().log().find("mapped"), std::string::npos) << "a cubin that is not needed is not loaded";
  }
}

TEST(Gpu, LoadsAllCubinsBeforeACapture) {
  Handle handle(mappedArtifact(1));
  MappedCall call;
  stub().reset(1, 9, 0);
  EXPECT_EQ(take(heddle_gpu_load(handle.kernel)), "");
  EXPECT_EQ(stub().log(), "load plain \nload mapped\n");
  stub().reset(1, 9, 0, true);
  stub().refuseMap(1);
  EXPECT_EQ(call.launch(handle.kernel), "") << "either kind may be captured";
}

TEST(Gpu, LongestTilesComeFirstAmongHeadsThatFitACache) {
  stub().reset();
  Handle handle(attendArtifact(code()));
  EXPECT_EQ(Call(2, 3, 100, 70).launch(handle.kernel), "");
  EXPECT_EQ(stub().block(12)[11], 6) << "all of them";
  EXPECT_EQ(Call(2, 3, 100, 400000).launch(handle.kernel), "");
  EXPECT_EQ(stub().block(12)[11], 3) << "those of one head of keys, which three heads of queries share";
}

TEST(Gpu, WhatIsLoadedMayBeCaptured) {
  Handle handle(attendArtifact(code()));
  Call call(1, 1, 10, 10);
  stub().reset(1, 8, 0, true);
  EXPECT_NE(call.launch(handle.kernel).find("cuModuleLoadDataEx failed"), std::string::npos);
  stub().reset(1, 8, 0, false);
  EXPECT_EQ(take(heddle_gpu_load(handle.kernel)), "");
  stub().reset(1, 8, 0, true);
  EXPECT_EQ(call.launch(handle.kernel), "");
  EXPECT_EQ(stub().log().find("load"), std::string::npos);
}

TEST(Gpu, TakesTheCubinWhereItRuns) {
  struct Case {
    const char *chip;
    int major, minor;
    bool cubin;
  };
  for (Case c : {Case{"sm_80", 8, 0, true}, Case{"sm_80", 8, 9, true}, Case{"sm_86", 8, 0, false},
                 Case{"sm_80", 9, 0, false}, Case{"sm_90a", 9, 0, true}, Case{"sm_90a", 10, 0, false}}) {
    stub().reset(1, c.major, c.minor);
    Handle handle(attendArtifact(code(), code(attendSlots, "bin"), c.chip));
    Call call(1, 1, 10, 10);
    EXPECT_EQ(call.launch(handle.kernel), "");
    EXPECT_EQ(stub().log().rfind(c.cubin ? "load bin" : "load ptx", 0), 0u) << c.chip << " on " << c.major;
  }
}

TEST(Gpu, RefusesWhatCannotRun) {
  stub().reset();
  Handle handle(attendArtifact(code()));
  Call call(1, 2, 10, 10);
  EXPECT_EQ(call.launch(handle.kernel, 100), "expected a workspace of at least 800 bytes, but got 100");
  EXPECT_EQ(call.launch(handle.kernel, 800, 0), "expected a workspace of at least 800 bytes, but got 800");
  call.w = -1;
  EXPECT_EQ(call.launch(handle.kernel), "expected w to be at least 0, but got -1");
  call.w = 1;
  call.k.view.dtype = HEDDLE_F16;
  EXPECT_EQ(call.launch(handle.kernel), "expected k to be f32, but got f16: convert it to f32");
  call.k.view.dtype = HEDDLE_F32;
  EXPECT_EQ(stub().log(), "") << "nothing was launched";
  std::vector<heddle_tensor> in = call.args();
  heddle_tensor results[] = {call.out.view, call.lse.view};
  EXPECT_EQ(take(heddle_kernel_run(handle.kernel, in.data(), 5, results, 2, nullptr)),
            "expected a kernel for the CPU, but got one for sm_80: heddle_gpu_launch runs it");
  stub().reset(0);
  EXPECT_NE(call.launch(handle.kernel).find("expected a current CUDA context"), std::string::npos);
  stub().reset();
  Handle broken(attendArtifact("broken"));
  EXPECT_EQ(call.launch(broken.kernel), "cuModuleLoadDataEx failed: invalid image (200): line 1: no such thing");
  Handle greedy(attendArtifact(code(), "", "sm_80", 300000));
  EXPECT_NE(call.launch(greedy.kernel).find("cuFuncSetAttribute failed"), std::string::npos);
  Handle cpu(copyArtifact());
  size_t bytes = 0;
  EXPECT_EQ(take(heddle_gpu_workspace(cpu.kernel, in.data(), 5, &bytes)),
            "expected a kernel for a GPU, but got one for the CPU");
}

TEST(Gpu, NothingToDoLaunchesNothing) {
  stub().reset();
  Handle handle(attendArtifact(code()));
  Call call(2, 3, 0, 70);
  EXPECT_EQ(call.launch(handle.kernel), "");
  EXPECT_EQ(stub().log(), "load ptx ke\n");
}

TEST(Gpu, ProgramsPassTensorsThroughTheWorkspace) {
  stub().reset();
  // Two ops on rows: y = f(x), z = f(y), one block a task, each block with 1000 bytes of its own.
  auto op = [](const char *name) {
    std::string ptx = std::string("ptx kernel ") + name + " " + std::to_string((16 + 18) * 8) + "\n";
    return writeArtifact(
        R"({"format": 1, "kind": "op", "name": "f", "target": "sm_80", "features": "sm_80", "entry": "heddle_task",
            "args": [{"name": "x", "type": "f32", "dims": [-1, -1], "scalar": false, "roles": []}],
            "results": [{"type": "f32", "dims": [-1, -1], "sizes": ["a0.0", "a0.1 2 *"]}],
            "tasks": "a0.0", "work": "a0.0", "checks": [], "gpu": {"chip": "sm_80", "ptx_bytes": )" +
            std::to_string(ptx.size()) + R"(, "cubin_bytes": 0, "workspace_words": 0, "kernels": [{"name": ")" + name +
            R"(", "threads": 256, "shared_bytes": 0, "max_blocks": 8, "block_bytes": 1000}]}})",
        ptx);
  };
  std::string first = op("one"), second = op("two");
  std::string program = writeArtifact(
      R"({"format": 2, "name": "p", "target": "sm_80", "features": "sm_80", "gpu": {"chip": "sm_80"},
          "args": [{"name": "x", "type": "f32", "dims": [-1, -1], "scalar": false, "roles": []}],
          "results": [{"type": "f32", "dims": [-1, -1], "value": 2}], "kernels": [)" +
          std::to_string(first.size()) + ", " + std::to_string(second.size()) +
          R"(], "steps": [{"kernel": 0, "args": [0], "results": [1]}, {"kernel": 1, "args": [1], "results": [2]}]})",
      first + second);
  Handle handle(program);
  ASSERT_EQ(handle.message, "");
  Dense<float> x(HEDDLE_F32, {10, 3}), z(HEDDLE_F32, {10, 12});
  x.view.data = reinterpret_cast<void *>(0x1000);
  z.view.data = reinterpret_cast<void *>(0x2000);
  size_t bytes = 0;
  EXPECT_EQ(take(heddle_gpu_workspace(handle.kernel, &x.view, 1, &bytes)), "");
  EXPECT_EQ(bytes, 512u + 8000u) << "y is 240 bytes, with a gap and rounded; the blocks of a step come behind it";
  auto launch = [&](size_t size) {
    return take(heddle_gpu_launch(handle.kernel, &x.view, 1, &z.view, 1, reinterpret_cast<void *>(0x10000), size,
                                  reinterpret_cast<void *>(4)));
  };
  EXPECT_EQ(launch(bytes), "");
  EXPECT_EQ(stub().log(), "load ptx ke\nlaunch one 8 x 256, 0 shared, stream 4\n"
                          "load ptx ke\nlaunch two 8 x 256, 0 shared, stream 4\n");
  std::vector<int64_t> block = stub().block(16 + 18);
  EXPECT_EQ(block[0], 10) << "tasks";
  EXPECT_EQ(block[9], 0x10000 + 512) << "memory of the blocks";
  EXPECT_EQ(block[16], 0x10000) << "y";
  EXPECT_EQ(block[16 + 9], 0x2000) << "z";
  EXPECT_EQ(launch(bytes - 1), "expected a workspace of at least 8512 bytes, but got 8511");
  EXPECT_EQ(launch(100), "expected a workspace of at least 512 bytes, but got 100");
}
