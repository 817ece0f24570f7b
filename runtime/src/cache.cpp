//===- cache.cpp - Kernels by key: memory, disk, compiler -----------------===//
//
// heddle_cache_get() looks in memory, then on disk, then compiles:
//
//   memory     a hit is one hash of the key's text and one shared lock
//   in flight  the first thread that misses builds, the others wait for it
//   disk       read without a lock; damaged: as if it were missing
//   lock       one process per key goes on ...
//   disk       ... and looks again: another may have compiled meanwhile
//   compile    and store; a disk that takes nothing costs only the next process
//
// A failed compile is not remembered: those that waited for it get the same
// error, the next call tries again. After fork() the child forgets builds that
// were in flight in other threads of its parent.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/kernel.h"
#include "runtime/src/sha256.h"
#include "runtime/src/store.h"

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pthread.h>
#include <set>
#include <shared_mutex>
#include <sys/stat.h>
#include <unordered_map>

using namespace heddle::rt;

namespace {

/// How long a process waits for another that compiles the same kernel.
constexpr int64_t lockPatience = 120'000;

/// One key in memory. `kernel` is set once, under `mutex`.
struct Slot {
  std::mutex mutex;
  std::condition_variable ready;
  std::atomic<heddle_kernel *> kernel{nullptr};
  bool failed = false;
  heddle_code code = HEDDLE_SYSTEM;
  std::string message;

  ~Slot() { heddle_kernel_release(kernel.load()); }
};

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

using SlotMap = std::unordered_map<std::string, std::shared_ptr<Slot>, TextHash, std::equal_to<>>;

struct Cache {
  std::shared_mutex mutex; // guards slots, buildId, paths
  SlotMap slots;
  std::string buildId;
  std::set<std::string> paths; // what heddle_cache_path() handed out
  std::atomic<int64_t> memoryHits{0}, diskHits{0}, compiles{0}, dropped{0}, writeFailures{0};
  // Bytes on disk as of the last look, and written since.
  std::atomic<int64_t> knownBytes{-1}, addedBytes{0};
};

/// Never destroyed: other threads may still look something up at exit.
Cache &cache() {
  static Cache *instance = [] {
    auto *created = new Cache;
    pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); },
                   [] {
                     Cache &c = cache();
                     for (auto it = c.slots.begin(); it != c.slots.end();) {
                       if (it->second->kernel.load()) {
                         ++it;
                         continue;
                       }
                       // Its mutex may be held by a thread that is not here: leave it alone for ever.
                       new std::shared_ptr<Slot>(it->second);
                       it = c.slots.erase(it);
                     }
                     // Unlocking is for the thread that locked, and its id has changed.
                     new (&c.mutex) std::shared_mutex;
                   });
    return created;
  }();
  return *instance;
}

/// What names a kernel in memory; the parts' sizes keep them apart.
void writeMemoryKey(std::string &out, std::string_view keyText, std::string_view target) {
  out.assign(keyText);
  out += '\0';
  out += target;
}

std::string diskKey(std::string_view keyText, std::string_view target, std::string_view buildId) {
  Sha256 hash;
  for (std::string_view part : {keyText, target, std::string_view(heddle_host_features()), buildId}) {
    uint64_t size = part.size();
    hash.update(&size, sizeof size);
    hash.update(part.data(), part.size());
  }
  return toHex(hash.finish());
}

/// One build of one key, by the thread that owns it.
class Build {
public:
  Build(std::string_view keyText, const char *spec, const char *target, heddle_compile_fn compile, void *context)
      : spec(spec), target(target), compile(compile), context(context), folder(cacheFolder()),
        store(folder, cacheLimit()) {
    std::shared_lock lock(cache().mutex);
    key = diskKey(keyText, target, cache().buildId);
  }

  Error run(heddle_kernel **out) {
    if (folder.empty()) {
      return compileKernel(out);
    }
    if (fromDisk(out)) {
      return nullptr;
    }
    EntryLock lock;
    if (lock.acquire(store.entryFolder(key), lockPatience)) {
      store.sweep(key);
    }
    if (fromDisk(out)) { // the second look
      return nullptr;
    }
    if (damaged) {
      store.drop(key);
      ++cache().dropped;
    }
    Error error = compileKernel(out);
    if (!error && *out) {
      save(**out);
    }
    if (lock.held()) {
      store.dropIfEmpty(key);
    }
    return error;
  }

private:
  bool fromDisk(heddle_kernel **out) {
    std::string bytes;
    damaged = false;
    if (!store.read(key, bytes)) {
      return false;
    }
    if (Error e{heddle_kernel_load(bytes.data(), bytes.size(), out)}) {
      damaged = true;
      return false;
    }
    ++cache().diskHits;
    return true;
  }

  Error compileKernel(heddle_kernel **out) {
    void *bytes = nullptr;
    size_t size = 0;
    if (!compile) {
      return systemError("expected a compiler, but there is none and the kernel is not in the cache");
    }
    ++cache().compiles;
    if (Error e{compile(context, spec, target, &bytes, &size)}) {
      return e;
    }
    Error error{heddle_kernel_load(bytes, size, out)};
    std::free(bytes);
    return error;
  }

  void save(const heddle_kernel &kernel) {
    Cache &c = cache();
    if (Error e = store.write(key, kernel.bytes, spec)) {
      ++c.writeFailures;
      return;
    }
    c.addedBytes += int64_t(kernel.bytes.size() + std::strlen(spec));
    int64_t limit = cacheLimit(), known = c.knownBytes.load(), added = c.addedBytes.load();
    // A look at every entry is worth it only now and then.
    if (known < 0 || known + added > limit || added > limit / 16) {
      c.addedBytes = 0;
      c.knownBytes = store.evict(key);
    }
  }

  const char *spec, *target;
  heddle_compile_fn compile;
  void *context;
  std::string folder, key;
  Store store;
  bool damaged = false;
};

/// Waits for the thread that builds; its kernel (retained) or its error.
Error waitFor(Slot &slot, heddle_kernel **out) {
  std::unique_lock lock(slot.mutex);
  slot.ready.wait(lock, [&] { return slot.kernel.load() || slot.failed; });
  if (slot.failed) {
    return makeError(slot.code, slot.message);
  }
  ++cache().memoryHits;
  *out = slot.kernel.load();
  heddle_kernel_retain(*out);
  return nullptr;
}

/// Ends a build: success makes the slot permanent, failure takes it out of the map.
void finish(const std::string &memoryKey, const std::shared_ptr<Slot> &slot, heddle_kernel *kernel,
            const heddle_error *error) {
  if (error) {
    Cache &c = cache();
    std::unique_lock lock(c.mutex);
    auto it = c.slots.find(memoryKey);
    if (it != c.slots.end() && it->second == slot) {
      c.slots.erase(it);
    }
  }
  std::lock_guard lock(slot->mutex);
  if (error) {
    slot->code = error->code;
    slot->message = error->message;
    slot->failed = true;
  } else {
    heddle_kernel_retain(kernel);
    slot->kernel.store(kernel);
  }
  slot->ready.notify_all();
}

Error get(const char *keyText, const char *spec, const char *target, heddle_compile_fn compile, void *context,
          heddle_kernel **out) {
  Cache &c = cache();
  thread_local std::string memoryKey;
  writeMemoryKey(memoryKey, keyText, target);
  {
    std::shared_lock lock(c.mutex);
    auto it = c.slots.find(std::string_view(memoryKey));
    if (it != c.slots.end()) {
      if (heddle_kernel *kernel = it->second->kernel.load(std::memory_order_acquire)) {
        c.memoryHits.fetch_add(1, std::memory_order_relaxed);
        heddle_kernel_retain(kernel);
        *out = kernel;
        return nullptr;
      }
    }
  }
  std::string ownKey = memoryKey; // the compiler may come back here on this thread
  std::shared_ptr<Slot> slot;
  bool mine = false;
  {
    std::unique_lock lock(c.mutex);
    std::shared_ptr<Slot> &entry = c.slots[ownKey];
    if (!entry) {
      entry = std::make_shared<Slot>();
      mine = true;
    }
    slot = entry;
  }
  if (!mine) {
    return waitFor(*slot, out);
  }
  Error error;
  try {
    error = Build(keyText, spec, target, compile, context).run(out);
  } catch (const std::exception &e) {
    error = systemError(e.what());
  }
  finish(ownKey, slot, *out, error.get());
  return error;
}

void dropMemory() {
  Cache &c = cache();
  SlotMap dropped; // destroyed without the lock
  std::unique_lock lock(c.mutex);
  for (auto it = c.slots.begin(); it != c.slots.end();) {
    auto next = std::next(it);
    if (it->second->kernel.load()) {
      dropped.insert(c.slots.extract(it));
    }
    it = next;
  }
  lock.unlock();
}

} // namespace

heddle_error *heddle_cache_get(const char *key_text, const char *spec, const char *target, heddle_compile_fn compile,
                               void *context, heddle_kernel **out) {
  *out = nullptr;
  return guarded([&] { return get(key_text, spec, target, compile, context, out); });
}

void heddle_set_build_id(const char *build_id) {
  std::unique_lock lock(cache().mutex);
  cache().buildId = build_id ? build_id : "";
}

void heddle_set_build_id_from_file(const char *path) {
  struct stat info;
  if (!path || stat(path, &info) != 0) {
    heddle_set_build_id("");
    return;
  }
  char text[96];
  std::snprintf(text, sizeof text, "%lld bytes of %lld.%09ld", static_cast<long long>(info.st_size),
                static_cast<long long>(info.st_mtim.tv_sec), info.st_mtim.tv_nsec);
  heddle_set_build_id(text);
}

heddle_error *heddle_cache_get_stats(heddle_cache_stats *out) {
  return guarded([&]() -> Error {
    Cache &c = cache();
    *out = {};
    out->memory_hits = c.memoryHits, out->disk_hits = c.diskHits;
    out->compiles = c.compiles, out->dropped = c.dropped, out->write_failures = c.writeFailures;
    out->disk_limit_bytes = cacheLimit();
    std::string folder = cacheFolder();
    if (!folder.empty()) {
      for (const StoredEntry &entry : Store(folder, 0).list()) {
        out->disk_entries += entry.complete;
        out->disk_bytes += entry.bytes;
      }
    }
    return nullptr;
  });
}

heddle_error *heddle_cache_clear(void) {
  return guarded([&]() -> Error {
    dropMemory();
    std::string folder = cacheFolder();
    if (!folder.empty()) {
      Store(folder, 0).clear();
      cache().knownBytes = -1;
    }
    return nullptr;
  });
}

void heddle_cache_drop_memory(void) { dropMemory(); }

const char *heddle_cache_path(void) {
  try {
    std::string folder = cacheFolder();
    std::unique_lock lock(cache().mutex);
    return cache().paths.insert(folder).first->c_str();
  } catch (...) {
    return "";
  }
}

heddle_error *heddle_cache_list(char **json) {
  *json = nullptr;
  return guarded([&]() -> Error {
    std::string folder = cacheFolder(), text = "[";
    Store store(folder, 0);
    for (const StoredEntry &entry : folder.empty() ? std::vector<StoredEntry>() : store.list()) {
      if (!entry.complete) {
        continue;
      }
      std::string spec = store.specOf(entry.key);
      text += std::string(text.size() > 1 ? ",\n " : "") + "{\"key\": \"" + entry.key +
              "\", \"bytes\": " + std::to_string(entry.bytes) + ", \"last_use\": " + std::to_string(entry.lastUse) +
              ", \"spec\": " + quoteJson(spec.substr(0, spec.find('\n'))) + "}";
    }
    *json = strdup((text + "]\n").c_str());
    return *json ? nullptr : systemError("out of memory");
  });
}
