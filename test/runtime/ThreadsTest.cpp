//===- ThreadsTest.cpp - The thread pool ----------------------------------===//
//
// Every task exactly once: from one caller, from many, nested, after fork().
//
//===----------------------------------------------------------------------===//
#include "test/runtime/Support.h"

#include "runtime/src/threads.h"

#include <atomic>
#include <functional>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <thread>

using namespace heddle::rt;
using namespace heddle::rt::test;

namespace {

void parallel(int64_t count, int32_t threads, std::function<void(int64_t, int32_t)> body) {
  heddle_parallel(
      count, threads,
      [](void *context, int64_t task, int32_t worker) {
        (*static_cast<std::function<void(int64_t, int32_t)> *>(context))(task, worker);
      },
      &body);
}

/// Runs `count` tasks; true where each ran once.
bool eachOnce(int64_t count, int32_t threads) {
  std::vector<std::atomic<int>> runs(size_t(count) + 1);
  parallel(count, threads, [&](int64_t task, int32_t) { runs[size_t(task)].fetch_add(1); });
  for (int64_t i = 0; i < count; ++i) {
    if (runs[size_t(i)] != 1) {
      return false;
    }
  }
  return true;
}

/// Exit status of `body` in a forked child that is killed when it hangs.
int inChild(const std::function<int()> &body) {
  pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

} // namespace

TEST(Threads, EveryTaskOnce) {
  for (int32_t threads : {0, 1, 2, 3, 8, 40}) {
    for (int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
      for (int round = 0; round < 20; ++round) {
        ASSERT_TRUE(eachOnce(count, threads)) << threads << " threads, " << count << " tasks";
      }
    }
  }
}

TEST(Threads, ManyShortJobs) {
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 50000; ++round) {
    parallel(3, 3, [&](int64_t task, int32_t) { sum.fetch_add(task + 1, std::memory_order_relaxed); });
    ASSERT_EQ(sum.load(std::memory_order_relaxed), 6 * (round + 1));
  }
}

TEST(Threads, SleepersWake) {
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(eachOnce(16, 4));
    usleep(2000); // longer than the workers spin
  }
}

TEST(Threads, WorkersAreReallyUsed) {
  // Two tasks that wait for each other: only two threads can finish them.
  std::atomic<int> arrived{0};
  parallel(2, 2, [&](int64_t, int32_t) {
    arrived.fetch_add(1);
    while (arrived.load() < 2) {
      sched_yield();
    }
  });
  EXPECT_EQ(arrived, 2);
}

TEST(Threads, WritesOfTasksAreVisible) {
  std::vector<int> plain(1000);
  for (int round = 1; round < 500; ++round) {
    parallel(1000, 4, [&](int64_t task, int32_t) { plain[size_t(task)] = round; });
    ASSERT_EQ(std::count(plain.begin(), plain.end(), round), 1000);
  }
}

TEST(Threads, NestedCallsRunInline) {
  std::atomic<int> total{0};
  parallel(4, 4, [&](int64_t, int32_t) {
    auto self = std::this_thread::get_id();
    parallel(8, 4, [&](int64_t, int32_t worker) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      EXPECT_EQ(worker, 0);
      total.fetch_add(1);
    });
  });
  EXPECT_EQ(total, 32);
}

TEST(Threads, ConcurrentCallers) {
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 6; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        wrong += !eachOnce(20, 3);
      }
    });
  }
  for (std::thread &caller : callers) {
    caller.join();
  }
  EXPECT_EQ(wrong, 0);
}

TEST(Threads, AfterFork) {
  ASSERT_TRUE(eachOnce(100, 3)); // the parent's pool exists
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(inChild([] { return eachOnce(100, 3) && inChild([] { return eachOnce(50, 2) ? 0 : 1; }) == 0 ? 0 : 1; }),
              0);
    ASSERT_TRUE(eachOnce(100, 3));
  }
}

TEST(Threads, ForkWhileAnotherThreadUsesThePool) {
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) {
      eachOnce(50, 3);
    }
  });
  for (int round = 0; round < 15; ++round) {
    EXPECT_EQ(inChild([] { return eachOnce(100, 3) ? 0 : 1; }), 0);
  }
  stop = true;
  busy.join();
}

TEST(Threads, IdleWorkersSleep) {
  EXPECT_EQ(inChild([] { // which is killed where they never do
              eachOnce(100, 4);
              for (int workers = 0, asleep = -1; workers != 3 || asleep != 3;) {
                workers = asleep = 0;
                for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
                  std::string stat = readAll(task.path() / "stat");
                  bool worker = stat.find("(heddle) ") != std::string::npos;
                  workers += worker;
                  asleep += worker && stat.find("(heddle) S") != std::string::npos;
                }
                usleep(1000);
              }
              return 0;
            }),
            0);
}

TEST(Threads, WorkersBlockSignals) {
  static std::atomic<int> handled{0};
  static pid_t handler = 0;
  EXPECT_EQ(inChild([] {
              eachOnce(100, 4);
              signal(SIGUSR1, [](int) { handled.fetch_add(1), handler = gettid(); });
              for (int i = 0; i < 50; ++i) {
                kill(getpid(), SIGUSR1);
                while (handled.load() <= i) {
                  sched_yield();
                }
                if (handler != getpid()) {
                  return 1;
                }
              }
              return 0;
            }),
            0);
}

TEST(Threads, CountsFromTheEnvironment) {
  EXPECT_EQ(parseThreadCount("4"), 4);
  EXPECT_EQ(parseThreadCount(" 12 "), 12);
  EXPECT_EQ(parseThreadCount("3,2,1"), 3);
  EXPECT_EQ(parseThreadCount(""), 0);
  EXPECT_EQ(parseThreadCount("many"), 0);
  EXPECT_EQ(parseThreadCount("4x"), 0);
  EXPECT_EQ(parseThreadCount("-2"), 0);
  EXPECT_EQ(parseThreadCount("99999999999999999999"), 1024);
  EXPECT_GE(countCpus(), 1);
  EXPECT_EQ(inChild([] {
              setenv("OMP_NUM_THREADS", "5,2", 1);
              return standardThreadCount();
            }),
            5);
  EXPECT_EQ(inChild([] {
              setenv("OMP_NUM_THREADS", "5", 1);
              setenv("HEDDLE_NUM_THREADS", "3", 1);
              return standardThreadCount();
            }),
            3);
  EXPECT_EQ(inChild([] {
              heddle_set_num_threads(7);
              return heddle_num_threads();
            }),
            7);
}

TEST(Threads, AffinityIsHonored) {
  EXPECT_EQ(inChild([] {
              unsetenv("OMP_NUM_THREADS");
              unsetenv("HEDDLE_NUM_THREADS");
              cpu_set_t set;
              sched_getaffinity(0, sizeof set, &set);
              int first = 0;
              while (!CPU_ISSET(first, &set)) {
                ++first;
              }
              CPU_ZERO(&set);
              CPU_SET(first, &set);
              return sched_setaffinity(0, sizeof set, &set) == 0 ? standardThreadCount() : 99;
            }),
            1);
}
