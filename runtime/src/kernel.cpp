//===- kernel.cpp - Load, keep and run kernels ----------------------------===//
//
// heddle_kernel_*. Loading checks everything that can be checked once; running
// checks the call's tensors (launch.cpp) and hands the tasks to the pool.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/kernel.h"

#include "runtime/src/artifact.h"
#include "runtime/src/checks.h"
#include "runtime/src/features.h"
#include "runtime/src/launch.h"
#include "runtime/src/orders.h"
#include "runtime/src/program.h"
#include "runtime/src/scratch.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <tuple>
#include <unistd.h>

using namespace heddle::rt;

namespace {

/// Multiply-adds below which waking another thread costs more than it saves.
constexpr double workPerThread = 5e5;

using EntryPoint = void (*)(const int64_t *args, int64_t task, void *scratch);

struct Job {
  Job(EntryPoint entry, const int64_t *args, size_t scratchBytes)
      : entry(entry), args(args), scratchBytes(scratchBytes) {
    static std::atomic<uint64_t> jobs{0};
    number = ++jobs;
  }

  EntryPoint entry;
  const int64_t *args;
  size_t scratchBytes;
  uint64_t number; ///< from 1
  std::atomic<bool> outOfMemory{false};
};

/// Memory of one thread for the kernels it runs; the first word is 0 at its first task of a job.
void *threadScratch(const Job &job) {
  thread_local Scratch scratch;
  thread_local uint64_t last = 0;
  void *memory = scratch.get(std::max(job.scratchBytes, sizeof(int64_t)));
  if (memory && last != job.number) {
    last = job.number;
    std::memset(memory, 0, sizeof(int64_t));
  }
  return memory;
}

// Loaded code has no type signature before it for the sanitizer to look at.
#if defined(__clang__)
__attribute__((no_sanitize("function")))
#endif
void runTask(void *context, int64_t task, int32_t) {
  Job &job = *static_cast<Job *>(context);
  if (void *scratch = threadScratch(job)) {
    job.entry(job.args, task, scratch);
  } else {
    job.outOfMemory.store(true, std::memory_order_relaxed);
  }
}

/// Memory of the states that tasks share, for each thread.
constexpr int64_t sharedBytesPerThread = int64_t(2) << 20;
/// With fewer independent tasks for each thread, the last ones leave threads idle.
constexpr int64_t tasksPerThread = 4;

/// One call's way through its phases.
class Execution {
public:
  Execution(const Manifest &m, Launch &launch, Job &job) : m(m), launch(launch), block(launch.block.data()), job(job) {}

  /// False where memory for shared states cannot be had.
  bool run(int32_t threads);

private:
  void phase(int64_t which, int64_t tasks);
  /// Units that a phase takes at once, so that their states fit the memory; 0 where that cannot be had.
  int64_t wave(int64_t statesPerUnit);
  bool splitKeys();
  bool takeTurns();

  const Manifest &m;
  Launch &launch;
  int64_t *block;
  Job &job;
  int32_t threads = 1;
};

void Execution::phase(int64_t which, int64_t tasks) {
  block[SlotPhase] = which;
  heddle_parallel(tasks, threads, runTask, &job);
}

int64_t Execution::wave(int64_t statesPerUnit) {
  thread_local Scratch shared;
  int64_t bytes = m.stateBytes * statesPerUnit;
  int64_t units = std::clamp<int64_t>(threads * sharedBytesPerThread / bytes, 1, launch.units);
  void *memory = shared.get(size_t(units * bytes));
  block[SlotMemory] = int64_t(reinterpret_cast<intptr_t>(memory));
  return memory ? units : 0;
}

/// Few tiles of many keys: a task is one split of a tile's keys, then the splits of each tile are merged.
bool Execution::splitKeys() {
  int64_t splits = block[SlotSplits], parts = block[SlotParts], units = wave(splits * parts);
  for (int64_t first = 0; units > 0 && first < launch.units; first += units) {
    int64_t count = std::min(units, launch.units - first);
    block[SlotFirstUnit] = first;
    phase(PhasePartial, count * parts * splits);
    phase(PhaseMerge, count * parts);
  }
  return units > 0;
}

/// Few super-tiles: their tiles are tasks, and the groups of strata, which cut them differently, come in turn.
bool Execution::takeTurns() {
  int64_t units = wave(1);
  for (int64_t first = 0; units > 0 && first < launch.units; first += units) {
    int64_t count = std::min(units, launch.units - first);
    block[SlotFirstUnit] = first;
    for (size_t group = 0; group < m.parts.size(); ++group) {
      block[SlotParts] = std::clamp<int64_t>(4 * tasksPerThread * threads / count, 1, m.parts[group]);
      phase(PhaseFirstGroup + int64_t(group), count * block[SlotParts]);
    }
  }
  return units > 0;
}

bool Execution::run(int32_t wanted) {
  threads = wanted;
  bool few = threads > 1 && launch.units < tasksPerThread * threads;
  if (few && block[SlotSplits] > 1) {
    return splitKeys();
  }
  if (few && m.parts.size() > 1) {
    return takeTurns();
  }
  phase(PhaseWhole, launch.units * block[SlotParts]);
  return true;
}

Error loadParts(heddle_kernel &program, std::string_view bytes);

Error loadKernel(std::string_view bytes, heddle_kernel **out) {
  auto kernel = std::make_unique<heddle_kernel>();
  kernel->bytes = bytes;
  Artifact artifact;
  if (Error e = readArtifact(kernel->bytes, artifact)) {
    return e;
  }
  kernel->manifestText = artifact.manifest;
  if (Error e = parseManifest(artifact.manifest, kernel->manifest)) {
    return e;
  }
  if (kernel->manifest.gpu && !kernel->manifest.isProgram()) {
    const GpuPlan &plan = *kernel->manifest.gpu;
    uint64_t bytes = uint64_t(plan.ptxBytes);
    for (int64_t n : plan.cubinBytes) {
      bytes += uint64_t(n);
    }
    if (bytes != artifact.object.size()) {
      return systemError("expected PTX and cubin of the manifest's sizes, but got others");
    }
    kernel->gpuCode = artifact.object;
    *out = kernel.release(); // the driver loads it at the first launch
    return nullptr;
  }
  if (kernel->manifest.gpu) {
    if (Error e = loadParts(*kernel, artifact.object)) {
      return e;
    }
    *out = kernel.release();
    return nullptr;
  }
  std::string missing = missingFeature(kernel->manifest.features, heddle_host_features());
  if (!missing.empty()) {
    return systemError("expected a kernel for this machine (" + std::string(heddle_host_features()) +
                       "), but it needs " + missing);
  }
  if (kernel->manifest.isProgram()) {
    if (Error e = loadParts(*kernel, artifact.object)) {
      return e;
    }
  } else if (Error e = kernel->object.load(artifact.object, kernel->manifest.entry)) {
    return e;
  }
  *out = kernel.release();
  return nullptr;
}

/// The kernels of a program, whose artefacts lie one after another.
Error loadParts(heddle_kernel &program, std::string_view bytes) {
  for (int64_t size : program.manifest.kernels) {
    if (size < 0 || uint64_t(size) > bytes.size()) {
      return systemError("expected a program with all its kernels, but it is cut short");
    }
    heddle_kernel *part = nullptr;
    if (Error e = loadKernel(bytes.substr(0, size_t(size)), &part)) {
      return e;
    }
    program.parts.emplace_back(part);
    if (part->manifest.isProgram()) {
      return systemError("expected kernels in a program, but got another program");
    }
    if (part->manifest.gpu.has_value() != program.manifest.gpu.has_value()) {
      return systemError("expected a program whose kernels are all for one kind of machine, but got a mixture");
    }
    bytes.remove_prefix(size_t(size));
  }
  for (const Step &step : program.manifest.steps) {
    const Manifest &m = program.parts[step.kernel]->manifest;
    if (m.args.size() != step.args.size() || m.results.size() != step.results.size()) {
      return systemError("expected steps that fit their kernels, but got another number of operands");
    }
  }
  return nullptr;
}

Error checkCounts(const Manifest &m, int32_t numArgs, int32_t numResults) {
  for (auto [what, want, got] :
       {std::tuple("arguments", m.args.size(), numArgs), std::tuple("results", m.results.size(), numResults)}) {
    if (got < 0 || size_t(got) != want) {
      return invalidValue("expected " + std::to_string(want) + " " + what + ", but got " + std::to_string(got));
    }
  }
  return nullptr;
}

Error run(heddle_kernel &kernel, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
          int32_t numResults, const heddle_run_options *options);

KernelManifest manifestsOf(const heddle_kernel &program) {
  return [&program](int n) -> const Manifest & { return program.parts[n]->manifest; };
}

Error runSteps(heddle_kernel &program, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
               int32_t numResults, const heddle_run_options *options) {
  if (Error e = checkCounts(program.manifest, numArgs, numResults)) {
    return e;
  }
  auto step = [&](int n, const heddle_tensor *in, int32_t numIn, const heddle_tensor *out, int32_t numOut) {
    return run(*program.parts[n], in, numIn, out, numOut, options);
  };
  return runProgram(program.manifest, manifestsOf(program), step, args, results);
}

Error prepare(const Manifest &m, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
              int32_t numResults, Launch &launch) {
  if (!m.op) {
    return prepareLaunch(m, args, numArgs, results, numResults, launch);
  }
  if (Error e = checkCounts(m, numArgs, numResults)) {
    return e;
  }
  return prepareOp(m, args, results, launch);
}

Error infer(heddle_kernel &kernel, const heddle_tensor *args, int32_t numArgs, heddle_tensor *results,
            int32_t numResults) {
  if (Error e = checkCounts(kernel.manifest, numArgs, numResults)) {
    return e;
  }
  return kernel.manifest.isProgram() ? inferProgram(kernel.manifest, manifestsOf(kernel), args, results)
                                     : inferResults(kernel.manifest, args, results);
}

Error run(heddle_kernel &kernel, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
          int32_t numResults, const heddle_run_options *options) {
  if (kernel.manifest.gpu) {
    return invalidValue("expected a kernel for the CPU, but got one for " + kernel.manifest.gpu->chip +
                        ": heddle_gpu_launch runs it");
  }
  if (kernel.manifest.isProgram()) {
    return runSteps(kernel, args, numArgs, results, numResults, options);
  }
  // Kept from call to call; a task that runs a kernel itself would need its own, and none does.
  thread_local Launch launch;
  if (Error e = prepare(kernel.manifest, args, numArgs, results, numResults, launch)) {
    return e;
  }
  Job job(reinterpret_cast<EntryPoint>(kernel.object.entry()), launch.block.data(),
          size_t(kernel.manifest.scratchBytes));
  int32_t threads = 1;
  if (launch.work >= 2 * workPerThread) {
    threads = options && options->num_threads > 0 ? options->num_threads : heddle_num_threads();
    threads = int32_t(std::min<double>(threads, launch.work / workPerThread));
  }
  if (isChecking()) {
    std::vector<int64_t> keys;
    std::vector<heddle_tensor> seen;
    if (Error e = seeThroughLists(kernel.manifest, args, seen)) {
      return e;
    }
    for (const Segment &s : kernel.manifest.segments) {
      keys.push_back(seen[s.k >= 0 ? s.k : s.v].shape[2]);
    }
    if (Error e = checkContents(kernel.manifest, args, launch.block[SlotQueries], keys)) {
      return e;
    }
  }
  if (launch.units > 0) {
    sortRows(kernel.manifest, args, launch, threads);
  }
  if (!Execution(kernel.manifest, launch, job).run(threads)) {
    return systemError("expected memory for the states of " + std::to_string(launch.units) +
                       " tiles, but the allocation failed");
  }
  if (job.outOfMemory.load()) {
    return systemError("expected " + std::to_string(job.scratchBytes) +
                       " bytes of scratch memory for each thread, but the allocation failed");
  }
  return nullptr;
}

//===--- GPU ---------------------------------------------------------------===//

constexpr size_t workspaceAlign = 256;

Error needsGpu(const heddle_kernel &kernel) {
  return kernel.manifest.gpu ? nullptr : invalidValue("expected a kernel for a GPU, but got one for the CPU");
}

/// Loads all code into the current context.
Error gpuLoad(heddle_kernel &kernel) {
  for (auto &part : kernel.parts) {
    if (Error e = gpuLoad(*part)) {
      return e;
    }
  }
  if (kernel.manifest.isProgram()) {
    return nullptr;
  }
  const GpuPlan &plan = *kernel.manifest.gpu;
  const GpuFunctions *functions = nullptr;
  Error e = kernel.gpuModules.get(plan, kernel.gpuCode, plan.kernels, &functions);
  return e ? std::move(e) : kernel.gpuModules.get(plan, kernel.gpuCode, plan.tensorKernels, &functions);
}

/// Bytes that the tensors between a program's steps take, so that the steps' own workspace behind them is aligned.
size_t roundWorkspace(size_t bytes) { return (bytes + workspaceAlign - 1) / workspaceAlign * workspaceAlign; }

/// `between`: of the tensors between steps; `own`: the most that a step needs beside them.
Error gpuWorkspaceOf(heddle_kernel &kernel, const heddle_tensor *args, int32_t numArgs, size_t &between, size_t &own) {
  thread_local Launch launch;
  const Manifest &m = kernel.manifest;
  std::vector<heddle_tensor> results(m.results.size());
  if (Error e = infer(kernel, args, numArgs, results.data(), int32_t(results.size()))) {
    return e;
  }
  static char nowhere[workspaceAlign]; // stands for memory that there is not yet; nobody follows it
  for (heddle_tensor &t : results) {
    t.data = nowhere;
  }
  auto step = [&](const heddle_kernel &part, const heddle_tensor *in, int32_t numIn, const heddle_tensor *out,
                  int32_t numOut) -> Error {
    if (Error e = prepare(part.manifest, in, numIn, out, numOut, launch)) {
      return e;
    }
    size_t bytes = 0;
    Error e = gpuWorkspace(part.manifest, launch, bytes);
    own = std::max(own, bytes);
    return e;
  };
  between = own = 0;
  if (!m.isProgram()) {
    return step(kernel, args, numArgs, results.data(), int32_t(results.size()));
  }
  auto memory = [&](size_t bytes) {
    between = roundWorkspace(bytes);
    return nowhere;
  };
  return runProgram(
      m, manifestsOf(kernel),
      [&](int n, const heddle_tensor *in, int32_t numIn, const heddle_tensor *out, int32_t numOut) {
        return step(*kernel.parts[n], in, numIn, out, numOut);
      },
      args, results.data(), memory);
}

Error gpuRun(heddle_kernel &kernel, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
             int32_t numResults, char *workspace, size_t workspaceBytes, void *stream) {
  thread_local Launch launch;
  auto step = [&](heddle_kernel &part, const heddle_tensor *in, int32_t numIn, const heddle_tensor *out, int32_t numOut,
                  size_t offset) -> Error {
    if (Error e = prepare(part.manifest, in, numIn, out, numOut, launch)) {
      return e;
    }
    size_t bytes = 0;
    if (Error e = gpuWorkspace(part.manifest, launch, bytes)) {
      return e;
    }
    if (bytes > 0 && (!workspace || offset + bytes > workspaceBytes)) {
      return invalidValue("expected a workspace of at least " + std::to_string(offset + bytes) + " bytes, but got " +
                          std::to_string(workspaceBytes));
    }
    return gpuLaunch(part.manifest, part.gpuModules, part.gpuCode, launch, bytes ? workspace + offset : nullptr,
                     stream);
  };
  if (!kernel.manifest.isProgram()) {
    return step(kernel, args, numArgs, results, numResults, 0);
  }
  if (Error e = checkCounts(kernel.manifest, numArgs, numResults)) {
    return e;
  }
  size_t between = 0;
  bool tooSmall = false;
  auto memory = [&](size_t bytes) -> void * {
    between = roundWorkspace(bytes);
    tooSmall = bytes > 0 && (!workspace || between > workspaceBytes);
    return workspace ? workspace : reinterpret_cast<char *>(workspaceAlign); // not followed where it is too small
  };
  return runProgram(
      kernel.manifest, manifestsOf(kernel),
      [&](int n, const heddle_tensor *in, int32_t numIn, const heddle_tensor *out, int32_t numOut) {
        return tooSmall ? invalidValue("expected a workspace of at least " + std::to_string(between) +
                                       " bytes, but got " + std::to_string(workspaceBytes))
                        : step(*kernel.parts[n], in, numIn, out, numOut, between);
      },
      args, results, memory);
}

} // namespace

Error heddle::rt::readFile(const std::string &path, std::string &out, bool &found) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  found = fd >= 0;
  if (fd < 0) {
    return errno == ENOENT || errno == ENOTDIR ? nullptr : errnoError("cannot open " + path, errno);
  }
  struct stat info;
  out.clear();
  if (fstat(fd, &info) == 0 && info.st_size > 0 && info.st_size < int64_t(1) << 30) {
    out.reserve(size_t(info.st_size) + 1);
  }
  char buffer[1 << 16];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno != EINTR) {
      int code = errno;
      close(fd);
      return errnoError("cannot read " + path, code);
    }
    out.append(buffer, n > 0 ? size_t(n) : 0);
  }
  close(fd);
  return nullptr;
}

Error heddle::rt::writeFileAtomically(const std::string &path, std::string_view bytes) {
  static std::atomic<uint64_t> counter{0};
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  std::string temporary = folder + "tmp-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
  int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    return errnoError("cannot create " + temporary, errno);
  }
  int failure = 0;
  while (!bytes.empty() && failure == 0) {
    ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      failure = errno == EINTR ? 0 : errno;
    } else {
      bytes.remove_prefix(size_t(n));
    }
  }
  // No fsync: after a power failure the checksum tells.
  if (close(fd) != 0 && failure == 0) {
    failure = errno;
  }
  if (failure == 0 && rename(temporary.c_str(), path.c_str()) != 0) {
    failure = errno;
  }
  if (failure != 0) {
    unlink(temporary.c_str());
    return errnoError("cannot write " + path, failure);
  }
  return nullptr;
}

heddle_error *heddle_kernel_load(const void *bytes, size_t size, heddle_kernel **out) {
  *out = nullptr;
  return guarded([&] { return loadKernel({static_cast<const char *>(bytes), size}, out); });
}

void heddle_kernel_retain(heddle_kernel *kernel) { kernel->references.fetch_add(1, std::memory_order_relaxed); }

void heddle_kernel_release(heddle_kernel *kernel) {
  if (kernel && kernel->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete kernel;
  }
}

const void *heddle_kernel_artifact(const heddle_kernel *kernel, size_t *size) {
  *size = kernel->bytes.size();
  return kernel->bytes.data();
}

const char *heddle_kernel_manifest(const heddle_kernel *kernel) { return kernel->manifestText.c_str(); }

heddle_error *heddle_kernel_save(const heddle_kernel *kernel, const char *path) {
  return guarded([&] { return writeFileAtomically(path, kernel->bytes); });
}

heddle_error *heddle_kernel_open(const char *path, heddle_kernel **out) {
  *out = nullptr;
  return guarded([&]() -> Error {
    std::string bytes;
    bool found = false;
    if (Error e = readFile(path, bytes, found)) {
      return e;
    }
    if (!found) {
      return systemError("expected a kernel at " + std::string(path) + ", but there is no such file");
    }
    return loadKernel(bytes, out);
  });
}

heddle_error *heddle_kernel_run(heddle_kernel *kernel, const heddle_tensor *args, int32_t num_args,
                                const heddle_tensor *results, int32_t num_results, const heddle_run_options *options) {
  return guarded([&] { return run(*kernel, args, num_args, results, num_results, options); });
}

heddle_error *heddle_kernel_infer(heddle_kernel *kernel, const heddle_tensor *args, int32_t num_args,
                                  heddle_tensor *results, int32_t num_results) {
  return guarded([&] { return infer(*kernel, args, num_args, results, num_results); });
}

int32_t heddle_kernel_num_results(const heddle_kernel *kernel) { return int32_t(kernel->manifest.results.size()); }

heddle_error *heddle_gpu_load(heddle_kernel *kernel) {
  return guarded([&]() -> Error {
    if (Error e = needsGpu(*kernel)) {
      return e;
    }
    return gpuLoad(*kernel);
  });
}

heddle_error *heddle_gpu_workspace(heddle_kernel *kernel, const heddle_tensor *args, int32_t num_args, size_t *bytes) {
  *bytes = 0;
  return guarded([&]() -> Error {
    if (Error e = needsGpu(*kernel)) {
      return e;
    }
    size_t between = 0, own = 0;
    if (Error e = gpuWorkspaceOf(*kernel, args, num_args, between, own)) {
      return e;
    }
    *bytes = between + own;
    return nullptr;
  });
}

heddle_error *heddle_gpu_launch(heddle_kernel *kernel, const heddle_tensor *args, int32_t num_args,
                                const heddle_tensor *results, int32_t num_results, void *workspace,
                                size_t workspace_bytes, void *stream) {
  return guarded([&]() -> Error {
    if (Error e = needsGpu(*kernel)) {
      return e;
    }
    return gpuRun(*kernel, args, num_args, results, num_results, static_cast<char *>(workspace), workspace_bytes,
                  stream);
  });
}
