//===- store.h - The cache's disk level ------------------------*- C++ -*-===//
//
// A folder with one folder for each key (64 hexadecimal digits):
//
//   <cache>/<key>/kernel   the artefact          <cache>/<key>/lock     see below
//   <cache>/<key>/spec     its source            <cache>/<key>/tmp-*    being written
//
// Contract. A reader needs no lock: files appear by rename, so `kernel` is all
// there or not at all, and its checksum is verified by whoever loads it. A
// writer holds the key's lock (flock, which dies with its process). Whoever
// gets the lock may delete every tmp- file of the key: a killed writer left it.
// Nothing but folders named by a key is ever deleted. No function throws for
// the state of the disk; where something fails, the cache is as if it missed.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_STORE_H
#define HEDDLE_RUNTIME_STORE_H

#include "runtime/src/error.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::rt {

/// HEDDLE_CACHE_DIR, else $XDG_CACHE_HOME/heddle, else ~/.cache/heddle; "" where
/// HEDDLE_CACHE=0 or no folder can be named. Reads the environment.
std::string cacheFolder();

/// HEDDLE_CACHE_LIMIT in bytes (a suffix K, M or G multiplies), default 1 GiB.
int64_t cacheLimit();

/// Holds a key's lock while it lives.
class EntryLock {
public:
  EntryLock() = default;
  EntryLock(const EntryLock &) = delete;
  EntryLock &operator=(const EntryLock &) = delete;
  ~EntryLock() { release(); }

  /// Waits up to `patience` milliseconds. False where the lock cannot be had (read-only disk,
  /// no locks on this file system, a holder that hangs): go on without.
  bool acquire(const std::string &entryFolder, int64_t patience);
  bool held() const { return fd >= 0; }
  void release();

private:
  int fd = -1;
};

struct StoredEntry {
  std::string key;
  int64_t bytes = 0;
  int64_t lastUse = 0; ///< seconds since 1970
  int64_t lastUseNanoseconds = 0;
  bool complete = false; ///< has a kernel; else it is being built, or its builder was killed
};

/// The disk level at one folder.
class Store {
public:
  Store(std::string folder, int64_t limit) : folder(std::move(folder)), limit(limit) {}

  /// Bytes of an entry; false where there is none or it cannot be read. Marks it as used.
  bool read(const std::string &key, std::string &artifact) const;
  /// Stores an entry; the caller holds its lock if it could get it.
  Error write(const std::string &key, std::string_view artifact, std::string_view spec) const;
  /// Deletes an entry's files; the caller holds its lock if it could get it.
  void drop(const std::string &key) const;
  /// Deletes what killed writers left of this key; the caller holds its lock.
  void sweep(const std::string &key) const;
  /// Deletes the folder of a key that has no kernel; the caller holds its lock.
  void dropIfEmpty(const std::string &key) const;

  std::vector<StoredEntry> list() const;
  std::string specOf(const std::string &key) const;
  /// Deletes what killed builders left, and while the total is above the limit the least recently
  /// used entries, except `keep`, down to nine tenths of the limit. Returns the bytes that stay.
  int64_t evict(const std::string &keep) const;
  void clear() const;

  std::string entryFolder(const std::string &key) const { return folder + "/" + key; }

private:
  bool removeLocked(const std::string &key) const;

  std::string folder;
  int64_t limit;
};

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_STORE_H
