//===- store.cpp - The cache's disk level ---------------------------------===//
//
// See store.h for the layout and the rules.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/store.h"

#include "runtime/src/kernel.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

using namespace heddle::rt;

namespace {

constexpr int64_t defaultLimit = int64_t(1) << 30;

bool isKey(std::string_view name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Names in a folder, without . and ..; empty where it cannot be read.
std::vector<std::string> namesIn(const std::string &folder) {
  std::vector<std::string> names;
  if (DIR *dir = opendir(folder.c_str())) {
    while (dirent *entry = readdir(dir)) {
      std::string_view name = entry->d_name;
      if (name != "." && name != "..") {
        names.emplace_back(name);
      }
    }
    closedir(dir);
  }
  return names;
}

/// mkdir -p; the last part private to the user.
bool makeFolders(const std::string &path) {
  for (size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), at == std::string::npos ? 0700 : 0755) != 0 && errno != EEXIST && errno != EROFS &&
        errno != EACCES && errno != EPERM) {
      return false;
    }
    if (at == std::string::npos) {
      struct stat info;
      return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    }
  }
}

std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

std::string homeFolder() {
  std::string home = environment("HOME");
  if (!home.empty()) {
    return home;
  }
  char buffer[4096];
  passwd entry, *found = nullptr;
  if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found && found->pw_dir) {
    return found->pw_dir;
  }
  return "";
}

} // namespace

std::string heddle::rt::cacheFolder() {
  if (environment("HEDDLE_CACHE") == "0") {
    return "";
  }
  std::string folder = environment("HEDDLE_CACHE_DIR");
  if (folder.empty()) {
    std::string base = environment("XDG_CACHE_HOME");
    if (base.empty() || base[0] != '/') {
      std::string home = homeFolder();
      base = home.empty() ? "" : home + "/.cache";
    }
    folder = base.empty() ? "" : base + "/heddle";
  }
  while (folder.size() > 1 && folder.back() == '/') {
    folder.pop_back();
  }
  return folder;
}

int64_t heddle::rt::cacheLimit() {
  std::string text = environment("HEDDLE_CACHE_LIMIT");
  char *end = text.data();
  errno = 0;
  long long value = std::strtoll(text.c_str(), &end, 10);
  if (end == text.data() || value < 0 || errno != 0) {
    return defaultLimit;
  }
  int shift = *end == 'K' || *end == 'k' ? 10 : *end == 'M' || *end == 'm' ? 20 : *end == 'G' || *end == 'g' ? 30 : 0;
  int64_t bytes;
  return __builtin_mul_overflow(value, int64_t(1) << shift, &bytes) ? INT64_MAX : bytes;
}

//===----------------------------------------------------------------------===//
// Locks
//===----------------------------------------------------------------------===//

bool EntryLock::acquire(const std::string &entryFolder, int64_t patience) {
  std::string path = entryFolder + "/lock";
  int64_t waited = 0;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    if (!makeFolders(entryFolder)) {
      return false;
    }
    int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
      if (errno == ENOENT) {
        continue; // evicted between the two calls
      }
      return false;
    }
    while (flock(file, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) {
        continue;
      }
      if (errno != EWOULDBLOCK || waited >= patience) {
        close(file);
        return false;
      }
      timespec pause{0, (waited < 20 ? 1 : 5) * 1'000'000};
      nanosleep(&pause, nullptr);
      waited += waited < 20 ? 1 : 5;
    }
    // The holder before us may have deleted the entry: then this is a lock on nothing.
    struct stat ours, current;
    if (fstat(file, &ours) == 0 && stat(path.c_str(), &current) == 0 && ours.st_ino == current.st_ino &&
        ours.st_dev == current.st_dev) {
      fd = file;
      return true;
    }
    close(file);
  }
  return false;
}

void EntryLock::release() {
  if (fd >= 0) {
    flock(fd, LOCK_UN); // not only close(): a forked child may share the description
    close(fd);
    fd = -1;
  }
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

bool Store::read(const std::string &key, std::string &artifact) const {
  std::string path = entryFolder(key) + "/kernel";
  bool found = false;
  if (Error e = readFile(path, artifact, found)) {
    return false;
  }
  if (found) {
    utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  }
  return found;
}

Error Store::write(const std::string &key, std::string_view artifact, std::string_view spec) const {
  if (int64_t(artifact.size() + spec.size()) > limit) {
    return systemError("expected an entry below the cache's limit of " + std::to_string(limit) + " bytes, but got " +
                       std::to_string(artifact.size() + spec.size()));
  }
  std::string entry = entryFolder(key);
  if (!makeFolders(entry)) {
    return errnoError("cannot create " + entry, errno);
  }
  // The kernel last: an entry counts from then on.
  if (Error e = writeFileAtomically(entry + "/spec", spec)) {
    return e;
  }
  return writeFileAtomically(entry + "/kernel", artifact);
}

void Store::sweep(const std::string &key) const {
  std::string entry = entryFolder(key) + "/";
  for (const std::string &name : namesIn(entry)) {
    if (name.starts_with("tmp-")) {
      unlink((entry + name).c_str());
    }
  }
}

void Store::drop(const std::string &key) const {
  std::string entry = entryFolder(key);
  unlink((entry + "/kernel").c_str());
  unlink((entry + "/spec").c_str());
}

void Store::dropIfEmpty(const std::string &key) const {
  std::string entry = entryFolder(key);
  if (access((entry + "/kernel").c_str(), F_OK) != 0 && errno == ENOENT) {
    sweep(key);
    drop(key);
    unlink((entry + "/lock").c_str());
    rmdir(entry.c_str());
  }
}

/// Deletes an entry unless somebody holds its lock.
bool Store::removeLocked(const std::string &key) const {
  EntryLock lock;
  if (!lock.acquire(entryFolder(key), 0)) {
    return false;
  }
  drop(key);
  dropIfEmpty(key);
  return true;
}

std::vector<StoredEntry> Store::list() const {
  std::vector<StoredEntry> entries;
  for (std::string &key : namesIn(folder)) {
    if (!isKey(key)) {
      continue;
    }
    StoredEntry entry;
    entry.key = key;
    std::string path = entryFolder(key) + "/";
    for (const std::string &name : namesIn(path)) {
      struct stat info;
      if (stat((path + name).c_str(), &info) != 0) {
        continue;
      }
      entry.bytes += info.st_size;
      if (name == "kernel") {
        entry.complete = true;
        entry.lastUse = info.st_mtim.tv_sec;
        entry.lastUseNanoseconds = info.st_mtim.tv_nsec;
      }
    }
    entries.push_back(entry);
  }
  return entries;
}

std::string Store::specOf(const std::string &key) const {
  std::string text;
  bool found = false;
  Error ignored = readFile(entryFolder(key) + "/spec", text, found);
  return text;
}

int64_t Store::evict(const std::string &keep) const {
  std::vector<StoredEntry> entries = list();
  int64_t total = 0;
  std::erase_if(entries, [&](const StoredEntry &entry) {
    bool gone = !entry.complete && removeLocked(entry.key); // a builder at work holds the lock
    total += gone ? 0 : entry.bytes;
    return gone;
  });
  if (total <= limit) {
    return total;
  }
  std::sort(entries.begin(), entries.end(), [](const StoredEntry &a, const StoredEntry &b) {
    return std::pair(a.lastUse, a.lastUseNanoseconds) < std::pair(b.lastUse, b.lastUseNanoseconds);
  });
  int64_t goal = limit / 10 * 9;
  for (const StoredEntry &entry : entries) {
    if (total <= goal) {
      break;
    }
    if (entry.key != keep && removeLocked(entry.key)) {
      total -= entry.bytes;
    }
  }
  return total;
}

void Store::clear() const {
  for (const StoredEntry &entry : list()) {
    removeLocked(entry.key);
  }
}
