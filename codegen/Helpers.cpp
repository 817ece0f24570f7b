//===- Helpers.cpp - Threads that help with a compilation -----------------===//

#include "codegen/Helpers.h"

#include <algorithm>
#include <system_error>

namespace heddle {

/// More threads find too little to do.
static constexpr unsigned kMostThreads = 4;

unsigned Helpers::count() { return std::clamp(std::thread::hardware_concurrency(), 1U, kMostThreads); }

void Helpers::add(std::function<void()> task) {
  std::lock_guard lock(mutex);
  tasks.push_back(std::move(task));
  if (threads.size() + 1 < count()) {
    try {
      threads.emplace_back([this] { work(/*wait=*/true); });
    } catch (const std::system_error &) {
      // finish() does it.
    }
  }
  changed.notify_one();
}

void Helpers::work(bool wait) {
  std::unique_lock lock(mutex);
  while (true) {
    if (wait) {
      changed.wait(lock, [&] { return closed || !tasks.empty(); });
    }
    if (tasks.empty()) {
      return;
    }
    std::function<void()> task = std::move(tasks.front());
    tasks.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

void Helpers::finish() {
  work(/*wait=*/false);
  {
    std::lock_guard lock(mutex);
    closed = true;
  }
  changed.notify_all();
  for (std::thread &thread : threads) {
    thread.join();
  }
  threads.clear();
  closed = false;
}

} // namespace heddle
