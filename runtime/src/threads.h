//===- threads.h - The thread pool -----------------------------*- C++ -*-===//
//
// heddle_parallel() and its settings are public; see heddle/runtime.h.
//
// Contract. Workers start at the first parallel call and live as long as the
// process. They spin for tens of microseconds after a job, then sleep: beside
// another runtime's threads (OpenMP's, say) they take no time. One job runs on
// the pool at a time; a call from a second thread, or from inside a task, runs
// on its own thread. After fork() the child has a pool of its own. Which worker
// runs a task is never visible in results.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_THREADS_H
#define HEDDLE_RUNTIME_THREADS_H

#include <cstdint>
#include <string_view>

namespace heddle::rt {

/// First number of a list as OMP_NUM_THREADS has it ("4", "4,2"); 0 where there is none.
int32_t parseThreadCount(std::string_view text);

/// CPUs that affinity and the control group's quota leave to this process, now; at least 1.
int32_t countCpus();

/// HEDDLE_NUM_THREADS, else OMP_NUM_THREADS, else countCpus(), now.
int32_t standardThreadCount();

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_THREADS_H
