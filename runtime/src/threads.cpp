//===- threads.cpp - The thread pool --------------------------------------===//
//
// One 64-bit word controls the pool:
//
//   generation:32 | tickets:16 | active:16
//
// The caller publishes a job by a new generation with one ticket for each
// helper it wants. A worker joins by turning a ticket into an active mark with
// one compare-and-swap, so it can only join the job whose fields it will read.
// When the tasks are handed out, the caller withdraws the tickets left and
// waits until nobody is active: from then on no worker looks at the job. Workers
// sleep on the generation's half of the word, the caller on the other half.
//
// Neighbouring tasks read much of the same memory, so each thread begins with
// runs of them of its own (a ticket's number says which): of twice as many runs as
// threads the first and the last one, the second and the last but one, and so on.
// Kernels number their tasks by the keys that they see, the most first, so where
// these rise with the position (causal attention of one head) a thread's two runs
// take as long as another's. A thread that has none left takes the latter half of
// the longest run.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/threads.h"

#include "heddle/runtime.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <immintrin.h>
#include <linux/futex.h>
#include <mutex>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string>
#include <string_view>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

using namespace heddle::rt;

namespace {

constexpr int64_t spinNanoseconds = 30'000;
constexpr int32_t maxThreads = 1024;

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

/// Polls `done` for a while; true as soon as it holds.
template <typename Done> bool spin(Done &&done, int64_t nanoseconds) {
  if (done()) {
    return true;
  }
  for (int64_t end = nanoseconds > 0 ? now() + nanoseconds : 0; nanoseconds > 0;) {
    for (int i = 0; i < 32; ++i) {
      _mm_pause();
      if (done()) {
        return true;
      }
    }
    if (now() >= end) {
      return false;
    }
  }
  return false;
}

class Pool {
public:
  /// False where another thread has the pool: the caller must run the job itself.
  bool run(int64_t count, int32_t threads, heddle_task_fn fn, void *context);

private:
  static constexpr uint64_t activeOne = 1, ticketOne = 1 << 16;
  static uint32_t generation(uint64_t word) { return uint32_t(word >> 32); }
  static uint32_t tickets(uint64_t word) { return uint32_t(word) >> 16; }
  static uint32_t active(uint64_t word) { return uint32_t(word) & 0xffff; }

  // The halves of the word, as futexes (x86-64 is little-endian).
  uint32_t *lowHalf() { return reinterpret_cast<uint32_t *>(&control); }
  uint32_t *highHalf() { return lowHalf() + 1; }
  static void wait(uint32_t *address, uint32_t value) {
    syscall(SYS_futex, address, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
  }
  static void wake(uint32_t *address, int count) {
    syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
  }

  /// Tasks begin * grain to end * grain of the job that nobody has begun, as one word.
  struct alignas(64) Run {
    std::atomic<uint64_t> word{0};
  };
  static uint64_t runOf(uint64_t begin, uint64_t end) { return begin << 32 | end; }
  static uint64_t lengthOf(uint64_t run) { return uint32_t(run) - (run >> 32); }

  void startWorkers(int32_t wanted);
  static void *workerMain(void *self);
  void deal(int64_t count, int64_t threads);
  void work(int32_t worker, int64_t own);
  void drain(int32_t worker, Run &run);
  bool steal(Run &own);
  int64_t join(uint32_t &seen);
  void leave();

  alignas(64) std::atomic<uint64_t> control{0};
  std::atomic<int32_t> sleepers{0};
  std::atomic<bool> callerSleeps{false};
  std::atomic<int64_t> spinFor{spinNanoseconds};
  alignas(64) int64_t taskCount = 0;
  int64_t grain = 1;
  int64_t runCount = 0;
  Run runs[2 * maxThreads]; // two for each thread of the job
  heddle_task_fn function = nullptr;
  void *argument = nullptr;
  std::mutex owner; // held by the thread whose job runs
  int32_t workers = 0;
  std::atomic<int32_t> lastIndex{0};
};

thread_local bool insideTask = false;

/// Marks the thread while it runs tasks, so that nested calls run inline.
struct TaskScope {
  TaskScope() { insideTask = true; }
  ~TaskScope() { insideTask = false; }
};

/// Cuts the tasks into two runs for each thread.
void Pool::deal(int64_t count, int64_t threads) {
  taskCount = count;
  grain = (count >> 31) + 1; // so that the ends of a run fit a word
  uint64_t grains = uint64_t((count + grain - 1) / grain);
  runCount = 2 * threads;
  for (uint64_t n = 0; n < uint64_t(runCount); ++n) {
    uint64_t begin = n * grains / uint64_t(runCount), end = (n + 1) * grains / uint64_t(runCount);
    runs[n].word.store(runOf(begin, end), std::memory_order_relaxed);
  }
}

/// Runs the tasks of a run, until it has none left.
void Pool::drain(int32_t worker, Run &tasks) {
  for (uint64_t run = tasks.word.load(std::memory_order_relaxed); lengthOf(run) > 0;) {
    uint64_t first = run >> 32;
    if (tasks.word.compare_exchange_weak(run, runOf(first + 1, uint32_t(run)), std::memory_order_relaxed)) {
      int64_t end = std::min(int64_t(first + 1) * grain, taskCount);
      for (int64_t task = int64_t(first) * grain; task < end; ++task) {
        function(argument, task, worker);
      }
      run = tasks.word.load(std::memory_order_relaxed);
    }
  }
}

void Pool::work(int32_t worker, int64_t ownRun) {
  TaskScope scope;
  Run &own = runs[ownRun];
  drain(worker, own);
  drain(worker, runs[runCount - 1 - ownRun]);
  while (steal(own)) {
    drain(worker, own);
  }
}

/// Moves the latter half of the longest run to an empty one; false where no task is left to take.
bool Pool::steal(Run &own) {
  while (true) {
    Run *longest = nullptr;
    uint64_t run = 0;
    for (int64_t n = 0; n < runCount; ++n) {
      uint64_t word = runs[n].word.load(std::memory_order_relaxed);
      if (lengthOf(word) > lengthOf(run)) {
        longest = &runs[n];
        run = word;
      }
    }
    if (!longest) {
      return false;
    }
    uint64_t first = run >> 32, middle = first + lengthOf(run) / 2, end = uint32_t(run);
    if (longest->word.compare_exchange_strong(run, runOf(first, middle), std::memory_order_relaxed)) {
      own.word.store(runOf(middle, end), std::memory_order_relaxed);
      return true;
    }
  }
}

/// Takes part in the job that is published, if a ticket is left: returns the ticket's number, else 0.
int64_t Pool::join(uint32_t &seen) {
  uint64_t word = control.load(std::memory_order_acquire);
  while (tickets(word) > 0) {
    if (control.compare_exchange_weak(word, word - ticketOne + activeOne, std::memory_order_acq_rel)) {
      seen = generation(word);
      return tickets(word);
    }
  }
  seen = generation(word);
  return 0;
}

void Pool::leave() {
  uint64_t before = control.fetch_sub(activeOne, std::memory_order_seq_cst);
  if (active(before) == 1 && callerSleeps.load(std::memory_order_seq_cst)) {
    wake(lowHalf(), 1);
  }
}

void *Pool::workerMain(void *self) {
  Pool &pool = *static_cast<Pool *>(self);
  int32_t worker = pool.lastIndex.fetch_add(1) + 1;
  uint32_t seen = 0;
  while (true) {
    if (int64_t ticket = pool.join(seen)) {
      pool.work(worker, ticket);
      pool.leave();
    }
    auto changed = [&] {
      uint64_t word = pool.control.load(std::memory_order_acquire);
      return generation(word) != seen;
    };
    if (!spin(changed, pool.spinFor.load(std::memory_order_relaxed))) {
      pool.sleepers.fetch_add(1, std::memory_order_seq_cst);
      while (generation(pool.control.load(std::memory_order_seq_cst)) == seen) {
        wait(pool.highHalf(), seen);
      }
      pool.sleepers.fetch_sub(1, std::memory_order_seq_cst);
    }
  }
  return nullptr;
}

void Pool::startWorkers(int32_t wanted) {
  if (workers >= wanted) {
    return;
  }
  // Signals belong to the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  while (workers < wanted) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, workerMain, this) != 0) {
      break; // fewer threads do
    }
    pthread_setname_np(thread, "heddle");
    ++workers;
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  // More threads than CPUs: spinning would take time from those that work.
  spinFor = workers + 1 > countCpus() ? 0 : spinNanoseconds;
}

bool Pool::run(int64_t count, int32_t threads, heddle_task_fn fn, void *context) {
  std::unique_lock<std::mutex> lock(owner, std::try_to_lock);
  if (!lock) {
    return false;
  }
  startWorkers(threads - 1);
  uint64_t helpers = uint64_t(std::min(threads - 1, workers));
  deal(count, int64_t(helpers) + 1);
  function = fn;
  argument = context;
  uint64_t word = uint64_t(generation(control.load()) + 1) << 32 | helpers * ticketOne;
  control.store(word, std::memory_order_seq_cst); // nobody is active and no ticket is left: a plain store
  if (sleepers.load(std::memory_order_seq_cst) > 0) {
    wake(highHalf(), int(helpers));
  }
  work(0, 0);
  word = control.load();
  while (!control.compare_exchange_weak(word, word & ~uint64_t(0xffff0000))) {
  }
  auto quiet = [&] { return active(control.load(std::memory_order_acquire)) == 0; };
  if (!spin(quiet, spinFor.load(std::memory_order_relaxed))) {
    callerSleeps.store(true, std::memory_order_seq_cst);
    for (uint32_t low; (low = uint32_t(control.load(std::memory_order_seq_cst))) != 0;) {
      wait(lowHalf(), low);
    }
    callerSleeps.store(false, std::memory_order_relaxed);
  }
  return true;
}

// The pool is never destroyed: its workers may outlive static destructors.
alignas(Pool) char poolStorage[sizeof(Pool)];
std::atomic<Pool *> thePool{nullptr};

/// In the child of a fork only the forking thread lives: the pool's workers are gone and its
/// lock may be held for ever, so start over with a new pool in the old one's place.
void resetPool() { thePool.store(new (poolStorage) Pool, std::memory_order_release); }

bool preparePool() noexcept {
  resetPool();
  return pthread_atfork(nullptr, nullptr, resetPool) == 0;
}

[[maybe_unused]] const bool poolReady = preparePool();

/// First line of a small file, "" where there is none.
std::string firstLine(const std::string &path, std::string_view prefix = "") {
  std::string found;
  if (FILE *file = std::fopen(path.c_str(), "re")) {
    char line[4096];
    while (found.empty() && std::fgets(line, sizeof line, file)) {
      std::string_view text = line;
      if (text.starts_with(prefix)) {
        found = text.substr(prefix.size(), text.find('\n') - prefix.size());
      }
    }
    std::fclose(file);
  }
  return found;
}

/// "quota period" (microseconds) in CPUs, rounded up; 0 where there is no limit ("max").
int32_t cpusOf(const std::string &text) {
  char *end = nullptr;
  long long quota = std::strtoll(text.c_str(), &end, 10), period = std::strtoll(end, nullptr, 10);
  return quota > 0 && period > 0 ? int32_t(std::min<long long>((quota + period - 1) / period, maxThreads)) : 0;
}

/// The tightest quota of this process's control group and those above it; 0 where there is none.
int32_t quotaCpus() {
  const std::string root = "/sys/fs/cgroup";
  int32_t least = 0;
  for (std::string group = firstLine("/proc/self/cgroup", "0::"); !group.empty();) { // version 2
    int32_t cpus = cpusOf(firstLine(root + (group == "/" ? "" : group) + "/cpu.max"));
    least = cpus > 0 && (least == 0 || cpus < least) ? cpus : least;
    size_t slash = group.rfind('/');
    group = group == "/" || slash == std::string::npos ? "" : slash == 0 ? "/" : group.substr(0, slash);
  }
  if (least == 0) { // version 1
    least = cpusOf(firstLine(root + "/cpu/cpu.cfs_quota_us") + " " + firstLine(root + "/cpu/cpu.cfs_period_us"));
  }
  return least;
}

std::atomic<int32_t> chosenThreads{0};

} // namespace

int32_t heddle::rt::parseThreadCount(std::string_view text) {
  int64_t value = 0;
  size_t at = text.find_first_not_of(" \t");
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = std::min<int64_t>(value * 10 + (text[at] - '0'), maxThreads);
  }
  bool ends = at >= text.size() || text[at] == ',' || text[at] == ' ' || text[at] == '\t';
  return ends ? int32_t(value) : 0;
}

int32_t heddle::rt::countCpus() {
  int32_t cpus = int32_t(sysconf(_SC_NPROCESSORS_ONLN));
  // A machine may have more CPUs than a cpu_set_t has bits.
  for (int bits = CPU_SETSIZE; bits <= 1 << 16; bits *= 2) {
    cpu_set_t *set = CPU_ALLOC(bits);
    size_t size = CPU_ALLOC_SIZE(bits);
    if (!set) {
      break;
    }
    bool fits = sched_getaffinity(0, size, set) == 0;
    if (fits) {
      cpus = CPU_COUNT_S(size, set);
    }
    CPU_FREE(set);
    if (fits || errno != EINVAL) {
      break;
    }
  }
  int32_t quota = quotaCpus();
  return std::clamp(quota > 0 ? std::min(cpus, quota) : cpus, 1, maxThreads);
}

int32_t heddle::rt::standardThreadCount() {
  for (const char *variable : {"HEDDLE_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const char *text = std::getenv(variable)) {
      if (int32_t n = parseThreadCount(text)) {
        return n;
      }
      if (*text && std::string_view(variable).starts_with("HEDDLE")) {
        std::fprintf(stderr, "heddle: warning: expected %s to be a number of threads, but got '%s'; it is ignored\n",
                     variable, text);
      }
    }
  }
  return countCpus();
}

int32_t heddle_num_threads(void) {
  int32_t n = chosenThreads.load(std::memory_order_relaxed);
  if (n > 0) {
    return n;
  }
  static const int32_t standard = standardThreadCount();
  return standard;
}

void heddle_set_num_threads(int32_t n) { chosenThreads.store(std::clamp(n, 0, maxThreads), std::memory_order_relaxed); }

void heddle_parallel(int64_t count, int32_t num_threads, heddle_task_fn fn, void *context) {
  if (num_threads <= 0) {
    num_threads = heddle_num_threads();
  }
  int32_t threads = int32_t(std::min<int64_t>({count, num_threads, maxThreads}));
  if (threads > 1 && !insideTask && thePool.load(std::memory_order_acquire)->run(count, threads, fn, context)) {
    return;
  }
  for (int64_t task = 0; task < count; ++task) {
    fn(context, task, 0);
  }
}
