//===- Helpers.h - Threads that help with a compilation -------------------===//
#ifndef HEDDLE_CODEGEN_HELPERS_H
#define HEDDLE_CODEGEN_HELPERS_H

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace heddle {

/// Tasks that threads of their own begin at once and that finish() works through too. Tasks that no thread can be had
/// for are done there. What a task tells, it writes where its maker looks after finish().
class Helpers {
public:
  Helpers() = default;
  Helpers(const Helpers &) = delete;
  Helpers &operator=(const Helpers &) = delete;
  ~Helpers() { finish(); }

  /// Threads that work at once in finish(), the caller's among them.
  static unsigned count();

  void add(std::function<void()> task);
  /// Returns when all tasks are done.
  void finish();

private:
  void work(bool wait);

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> tasks;
  std::vector<std::thread> threads;
  bool closed = false;
};

} // namespace heddle

#endif // HEDDLE_CODEGEN_HELPERS_H
