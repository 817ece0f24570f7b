//===- gpu.cpp - Kernels for a GPU: load and launch -----------------------===//
#include "runtime/src/gpu.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>

using namespace heddle::rt;

namespace {

// The driver API's numbers (cuda.h).
constexpr int attributeMajor = 75, attributeMinor = 76; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
constexpr int functionMaxDynamicShared = 8;             // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int jitErrorLog = 5, jitErrorLogBytes = 6;    // CU_JIT_ERROR_LOG_BUFFER, .._SIZE_BYTES
constexpr int64_t sharedWithoutAsking = 48 * 1024, mostBlocks = (int64_t(1) << 31) - 1;

/// The functions of the driver that a launch needs. A CUresult is an int, 0 for success.
struct Driver {
  void *library = nullptr;
  int (*init)(unsigned) = nullptr;
  int (*errorString)(int, const char **) = nullptr;
  int (*currentContext)(void **) = nullptr;
  int (*currentDevice)(int *) = nullptr;
  int (*attribute)(int *, int, int) = nullptr;
  int (*push)(void *) = nullptr;
  int (*pop)(void **) = nullptr;
  int (*loadModule)(void **, const void *, unsigned, int *, void **) = nullptr;
  int (*unloadModule)(void *) = nullptr;
  int (*function)(void **, void *, const char *) = nullptr;
  int (*setAttribute)(void *, int, int) = nullptr;
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                void **) = nullptr;

  Error open();
  /// Null where `code` is 0.
  Error check(const char *what, int code) const;
};

Error Driver::check(const char *what, int code) const {
  if (code == 0) {
    return nullptr;
  }
  const char *text = nullptr;
  errorString(code, &text);
  return systemError(std::string(what) + " failed: " + (text ? text : "unknown error") + " (" + std::to_string(code) +
                     ")");
}

Error Driver::open() {
  const char *given = std::getenv("HEDDLE_CUDA_LIBRARY");
  std::string name = given && *given ? given : "libcuda.so.1";
  library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    return systemError("expected the CUDA driver (" + name + "), but got: " + (why ? why : "no library"));
  }
  const char *missing = nullptr;
  auto find = [&](auto &into, const char *symbol) {
    into = reinterpret_cast<std::remove_reference_t<decltype(into)>>(dlsym(library, symbol));
    missing = into ? missing : symbol;
  };
  find(init, "cuInit");
  find(errorString, "cuGetErrorString");
  find(currentContext, "cuCtxGetCurrent");
  find(currentDevice, "cuCtxGetDevice");
  find(attribute, "cuDeviceGetAttribute");
  find(push, "cuCtxPushCurrent_v2");
  find(pop, "cuCtxPopCurrent_v2");
  find(loadModule, "cuModuleLoadDataEx");
  find(unloadModule, "cuModuleUnload");
  find(function, "cuModuleGetFunction");
  find(setAttribute, "cuFuncSetAttribute");
  find(launch, "cuLaunchKernel");
  if (missing) {
    return systemError("expected a CUDA driver with " + std::string(missing) + ", but " + name + " has none");
  }
  return check("cuInit", init(0));
}

/// Opened at first use; a driver that could not be opened is looked for again at the next call.
Error driver(const Driver **out) {
  static std::mutex mutex;
  static Driver opened;
  static bool good = false;
  std::lock_guard lock(mutex);
  if (!good) {
    Driver fresh;
    if (Error e = fresh.open()) {
      return e;
    }
    opened = fresh;
    good = true;
  }
  *out = &opened;
  return nullptr;
}

/// Whether a cubin for `chip` (sm_80, sm_90a) runs on a device.
bool runsOn(const std::string &chip, int major, int minor) {
  if (chip.size() < 5 || chip.compare(0, 3, "sm_") != 0) {
    return false;
  }
  bool exact = chip.back() == 'a';
  int number = std::atoi(chip.c_str() + 3);
  return major == number / 10 && (exact ? minor == number % 10 : minor >= number % 10);
}

Error loadCode(const Driver &api, const GpuPlan &plan, std::string_view code, void **module) {
  int device = 0, major = 0, minor = 0;
  if (Error e = api.check("cuCtxGetDevice", api.currentDevice(&device))) {
    return e;
  }
  if (Error e = api.check("cuDeviceGetAttribute", api.attribute(&major, attributeMajor, device))) {
    return e;
  }
  if (Error e = api.check("cuDeviceGetAttribute", api.attribute(&minor, attributeMinor, device))) {
    return e;
  }
  if (plan.cubinBytes > 0 && runsOn(plan.chip, major, minor)) {
    const char *cubin = code.data() + plan.ptxBytes;
    return api.check("cuModuleLoadDataEx", api.loadModule(module, cubin, 0, nullptr, nullptr));
  }
  if (plan.ptxBytes == 0) {
    return systemError("expected a device for " + plan.chip + " code, but got capability " + std::to_string(major) +
                       "." + std::to_string(minor));
  }
  std::string text(code.substr(0, size_t(plan.ptxBytes))), log(8192, '\0'); // the driver wants a zero at the end
  int options[] = {jitErrorLog, jitErrorLogBytes};
  void *values[] = {log.data(), reinterpret_cast<void *>(log.size())};
  Error e = api.check("cuModuleLoadDataEx", api.loadModule(module, text.c_str(), 2, options, values));
  return e ? systemError(e->message + ": " + log.c_str()) : nullptr;
}

} // namespace

Error GpuModules::get(const GpuPlan &plan, std::string_view code, const std::vector<void *> **functions) {
  const Driver *api = nullptr;
  if (Error e = driver(&api)) {
    return e;
  }
  void *context = nullptr;
  if (Error e = api->check("cuCtxGetCurrent", api->currentContext(&context))) {
    return e;
  }
  if (!context) {
    return systemError("expected a current CUDA context on this thread, but got none: cudaSetDevice or "
                       "cuCtxSetCurrent makes one current");
  }
  std::lock_guard lock(mutex);
  auto found = byContext.find(context);
  if (found == byContext.end()) {
    Loaded loaded;
    if (Error e = loadCode(*api, plan, code, &loaded.module)) {
      return e;
    }
    for (const GpuPlan::Kernel &kernel : plan.kernels) {
      void *function = nullptr;
      Error e = api->check("cuModuleGetFunction", api->function(&function, loaded.module, kernel.name.c_str()));
      if (!e && kernel.sharedBytes > sharedWithoutAsking) {
        e = api->check("cuFuncSetAttribute",
                       api->setAttribute(function, functionMaxDynamicShared, int(kernel.sharedBytes)));
      }
      if (e) {
        api->unloadModule(loaded.module);
        return e;
      }
      loaded.functions.push_back(function);
    }
    found = byContext.emplace(context, std::move(loaded)).first;
  }
  *functions = &found->second.functions;
  return nullptr;
}

GpuModules::~GpuModules() {
  const Driver *api = nullptr;
  if (byContext.empty() || driver(&api)) {
    return;
  }
  for (auto &[context, loaded] : byContext) {
    // A context that is gone took its modules with it.
    if (api->push(context) == 0) {
      api->unloadModule(loaded.module);
      void *popped = nullptr;
      api->pop(&popped);
    }
  }
}

/// Blocks of one kernel; -1 past what a grid may have.
static int64_t blocksOf(const Manifest &m, const GpuPlan::Kernel &kernel, const Launch &launch) {
  if (m.op) {
    return std::min(launch.units, kernel.maxBlocks);
  }
  int64_t queries = launch.block[SlotQueries], together = launch.block[SlotHeadsPerTile],
          splits = launch.block[SlotSplits], blocks = launch.block[SlotBatches];
  if (kernel.merge && splits == 1) {
    return 0;
  }
  int64_t tiles = kernel.merge ? queries : 0;
  if (!kernel.merge && queries > 0) {
    // Spans that the positions may touch; queries of several heads that share a tile are in one.
    tiles = (together > 1 ? 1 : (queries + 2 * kernel.span - 2) / kernel.span) * kernel.inner;
  }
  int64_t heads = kernel.merge ? launch.block[SlotHeads] : launch.block[SlotHeads] / together;
  if (__builtin_mul_overflow(blocks, heads, &blocks) || __builtin_mul_overflow(blocks, tiles, &blocks) ||
      __builtin_mul_overflow(blocks, kernel.merge ? 1 : splits, &blocks) || blocks > mostBlocks) {
    return -1;
  }
  return blocks;
}

Error heddle::rt::gpuWorkspace(const Manifest &m, const Launch &launch, size_t &bytes) {
  int64_t most = 0;
  for (const GpuPlan::Kernel &kernel : m.gpu->kernels) {
    int64_t blocks = blocksOf(m, kernel, launch);
    if (blocks < 0) {
      return invalidValue("expected fewer than 2^31 blocks, but got more");
    }
    most = std::max(most, blocks * kernel.blockBytes);
  }
  if (!m.op) {
    int64_t rows = launch.block[SlotBatches] * launch.block[SlotHeads] * launch.block[SlotQueries];
    int64_t splits = launch.block[SlotSplits];
    most = std::max(most, rows * (splits > 1 ? splits * m.gpu->stateWords : m.gpu->workspaceWords) * 4);
  }
  bytes = size_t(most);
  return nullptr;
}

Error heddle::rt::gpuLaunch(const Manifest &m, const std::vector<void *> &functions, Launch &launch, void *workspace,
                            void *stream) {
  const Driver *api = nullptr;
  if (Error e = driver(&api)) {
    return e;
  }
  launch.block[SlotMemory] = int64_t(reinterpret_cast<intptr_t>(workspace));
  for (size_t n = 0; n < functions.size(); ++n) {
    const GpuPlan::Kernel &kernel = m.gpu->kernels[n];
    int64_t blocks = blocksOf(m, kernel, launch);
    if (blocks < 0) {
      return invalidValue("expected fewer than 2^31 blocks, but got more");
    }
    if (blocks == 0) {
      continue;
    }
    void *parameters[] = {launch.block.data()}; // copied by the driver before it returns
    if (Error e =
            api->check("cuLaunchKernel", api->launch(functions[n], unsigned(blocks), 1, 1, unsigned(kernel.threads), 1,
                                                     1, unsigned(kernel.sharedBytes), stream, parameters, nullptr))) {
      return e;
    }
  }
  return nullptr;
}
