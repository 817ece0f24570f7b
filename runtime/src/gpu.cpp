//===- gpu.cpp - Kernels for a GPU: load and launch -----------------------===//
#include "runtime/src/gpu.h"

#include "runtime/src/maps.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>

using namespace heddle::rt;

namespace {

// The driver API's numbers (cuda.h).
constexpr int attributeMajor = 75, attributeMinor = 76; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
constexpr int functionMaxDynamicShared = 8;             // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int jitErrorLog = 5, jitErrorLogBytes = 6;    // CU_JIT_ERROR_LOG_BUFFER, .._SIZE_BYTES
/// Keys and values of the heads that are worked on at a time: half of what a large device's second-level cache holds.
constexpr int64_t sectionBytes = 16 << 20;
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
  EncodeTensorMap encodeMap = nullptr; ///< null in drivers before 12.0

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
  encodeMap = reinterpret_cast<EncodeTensorMap>(dlsym(library, "cuTensorMapEncodeTiled"));
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

/// Number of the cubin to load for a kernel on the current device; -1 for the PTX.
Error moduleOf(const Driver &api, const GpuPlan &plan, const GpuPlan::Kernel &kernel, int64_t &number) {
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
  number = !plan.cubinBytes.empty() && runsOn(plan.chip, major, minor) ? kernel.cubin : -1;
  if (number < 0 && plan.ptxBytes == 0) {
    return systemError("expected a device for " + plan.chip + " code, but got capability " + std::to_string(major) +
                       "." + std::to_string(minor));
  }
  return nullptr;
}

Error loadCode(const Driver &api, const GpuPlan &plan, std::string_view code, int64_t number, void **module) {
  if (number >= 0) {
    size_t from = size_t(plan.ptxBytes);
    for (int64_t n = 0; n < number; ++n) {
      from += size_t(plan.cubinBytes[size_t(n)]);
    }
    std::string cubin(code.substr(from, size_t(plan.cubinBytes[size_t(number)]))); // where an ELF file may lie
    return api.check("cuModuleLoadDataEx", api.loadModule(module, cubin.data(), 0, nullptr, nullptr));
  }
  std::string text(code.substr(0, size_t(plan.ptxBytes))), log(8192, '\0'); // the driver wants a zero at the end
  int options[] = {jitErrorLog, jitErrorLogBytes};
  void *values[] = {log.data(), reinterpret_cast<void *>(log.size())};
  Error e = api.check("cuModuleLoadDataEx", api.loadModule(module, text.c_str(), 2, options, values));
  return e ? systemError(e->message + ": " + log.c_str()) : nullptr;
}

} // namespace

Error GpuModules::get(const GpuPlan &plan, std::string_view code, const std::vector<GpuPlan::Kernel> &kernels,
                      const GpuFunctions **functions) {
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
  Loaded &loaded = byContext[context];
  for (const GpuPlan::Kernel &kernel : kernels) {
    if (loaded.functions.contains(kernel.name)) {
      continue;
    }
    int64_t number = 0;
    if (Error e = moduleOf(*api, plan, kernel, number)) {
      return e;
    }
    auto found = loaded.modules.find(number);
    if (found == loaded.modules.end()) {
      void *module = nullptr;
      if (Error e = loadCode(*api, plan, code, number, &module)) {
        return e;
      }
      found = loaded.modules.emplace(number, module).first;
    }
    void *function = nullptr;
    Error e = api->check("cuModuleGetFunction", api->function(&function, found->second, kernel.name.c_str()));
    if (!e && kernel.sharedBytes > sharedWithoutAsking) {
      e = api->check("cuFuncSetAttribute",
                     api->setAttribute(function, functionMaxDynamicShared, int(kernel.sharedBytes)));
    }
    if (e) {
      return e;
    }
    loaded.functions.emplace(kernel.name, function);
  }
  *functions = &loaded.functions;
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
      for (auto &[number, module] : loaded.modules) {
        api->unloadModule(module);
      }
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

/// Heads (of all batches) whose keys and values are worked on at a time, all that share theirs together.
static int64_t headsPerSection(const Manifest &m, const Launch &launch) {
  int64_t bytes = 0, keyHeads = 1;
  for (const Segment &s : m.segments) {
    for (int arg : {s.k, s.v}) {
      const int64_t *record = launch.block.data() + HeaderSlots + RecordSlots * size_t(std::max(arg, 0));
      if (arg >= 0) {
        bytes += record[3] * record[4] * dtypeSize(m.args[size_t(arg)].dtype);
        keyHeads = std::max(keyHeads, record[2]);
      }
    }
  }
  int64_t shared = std::max<int64_t>(launch.block[SlotHeads] / launch.block[SlotHeadsPerTile] / keyHeads, 1);
  int64_t all = std::max<int64_t>(launch.block[SlotBatches] * launch.block[SlotHeads], 1);
  int64_t sections = std::max<int64_t>(sectionBytes / std::max<int64_t>(bytes, 1), 1);
  return sections < all ? std::min(sections * shared, all) : all;
}

namespace {
/// The second parameter of kernels on tensor maps.
class MapParameter {
public:
  static constexpr size_t most = 64;

  /// False where a map cannot be made, or the driver will not.
  bool make(const Driver &api, const Manifest &m, const Launch &launch) {
    const std::vector<GpuPlan::MapRecipe> &recipes = m.gpu->tensorMaps;
    if (recipes.empty() || recipes.size() > most || !api.encodeMap || launch.block[SlotHeadsPerTile] != 1 ||
        launch.block[SlotSplits] != 1) {
      return false;
    }
    for (size_t n = 0; n < recipes.size(); ++n) {
      const int64_t *record = launch.block.data() + HeaderSlots + RecordSlots * size_t(recipes[n].arg);
      std::optional<TensorMap> map = TensorMap::make(record, m.args[size_t(recipes[n].arg)].dtype, recipes[n]);
      if (!map || map->encode(api.encodeMap, bytes + n * TensorMap::bytes) != 0) {
        return false;
      }
    }
    return true;
  }
  void *address() { return bytes; }

private:
  alignas(TensorMap::alignment) unsigned char bytes[most * TensorMap::bytes];
};
} // namespace

Error heddle::rt::gpuLaunch(const Manifest &m, GpuModules &modules, std::string_view code, Launch &launch,
                            void *workspace, void *stream) {
  const Driver *api = nullptr;
  if (Error e = driver(&api)) {
    return e;
  }
  launch.block[SlotMemory] = int64_t(reinterpret_cast<intptr_t>(workspace));
  if (!m.op) {
    launch.block[SlotHeadsPerSection] = headsPerSection(m, launch);
  }
  MapParameter maps;
  const std::vector<GpuPlan::Kernel> &kernels = maps.make(*api, m, launch) ? m.gpu->tensorKernels : m.gpu->kernels;
  const GpuFunctions *functions = nullptr;
  if (Error e = modules.get(*m.gpu, code, kernels, &functions)) {
    return e;
  }
  for (const GpuPlan::Kernel &kernel : kernels) {
    int64_t blocks = blocksOf(m, kernel, launch);
    if (blocks < 0) {
      return invalidValue("expected fewer than 2^31 blocks, but got more");
    }
    if (blocks == 0) {
      continue;
    }
    void *parameters[] = {launch.block.data(), maps.address()}; // copied by the driver before it returns
    if (Error e = api->check("cuLaunchKernel", api->launch(functions->find(kernel.name)->second, unsigned(blocks), 1, 1,
                                                           unsigned(kernel.threads), 1, 1, unsigned(kernel.sharedBytes),
                                                           stream, parameters, nullptr))) {
      return e;
    }
  }
  return nullptr;
}
