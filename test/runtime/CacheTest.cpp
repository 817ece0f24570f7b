//===- CacheTest.cpp - The two-level cache under attack -------------------===//
//
// Many processes on one key, killed writers, damaged entries, disks that are
// full or read-only, eviction, fork. "Compiling" hands out the object of
// copy_kernel.c and leaves a mark in a file, so that compiles are counted over
// all processes.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/Support.h"

#include "runtime/src/store.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

using namespace heddle::rt;
using namespace heddle::rt::test;
namespace fs = std::filesystem;

namespace {

/// A cache folder of its own, and a compiler that counts.
class CacheTest : public testing::Test {
protected:
  void SetUp() override {
    cacheDir = temporary.path / "cache";
    counter = temporary.path / "compiles";
    setenv("HEDDLE_CACHE_DIR", cacheDir.c_str(), 1);
    unsetenv("HEDDLE_CACHE_LIMIT");
    unsetenv("HEDDLE_CACHE");
    heddle_cache_drop_memory();
    writeAll(counter, "");
  }
  void TearDown() override {
    heddle_cache_drop_memory();
    setenv("HEDDLE_CACHE_DIR", "/nonexistent/heddle", 1);
  }

  struct Compiler {
    CacheTest *test;
    std::string padding;      // makes the artefact larger
    int64_t microseconds = 0; // time it takes
    bool fails = false;
  };

  static heddle_error *compile(void *context, const char *spec, const char *target, void **artifact, size_t *size) {
    auto &compiler = *static_cast<Compiler *>(context);
    int fd = open(compiler.test->counter.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT_EQ(write(fd, "x", 1), 1);
    close(fd);
    usleep(useconds_t(compiler.microseconds));
    if (compiler.fails) {
      return heddle_error_create(HEDDLE_COMPILE_FAILED, "expected a pattern, but got nothing");
    }
    std::string manifest =
        copyManifest(R"({"kind": "value", "value": 7})", ", \"padding\": \"" + compiler.padding + "\"");
    *artifact = mallocArtifact(manifest, copyObject(), size);
    return nullptr;
  }

  /// "" for a kernel that works, else what went wrong.
  std::string get(const std::string &key, Compiler compiler) {
    compiler.test = this;
    heddle_kernel *kernel = nullptr;
    std::string message = take(
        heddle_cache_get(key.c_str(), ("spec of " + key + "\nmore").c_str(), "native", compile, &compiler, &kernel));
    if (!message.empty()) {
      return message;
    }
    message = runs(kernel);
    heddle_kernel_release(kernel);
    return message;
  }
  std::string get(const std::string &key) { return get(key, Compiler{this, "", 0, false}); }

  static std::string runs(heddle_kernel *kernel) {
    Dense<float> q(HEDDLE_F32, {1, 1, 3, 8}), k = q, v = q, out = q, lse(HEDDLE_F32, {1, 1, 3});
    for (Dense<float> *tensor : {&k, &v, &out}) {
      tensor->view.data = tensor->data.data();
    }
    Dense<int64_t> unused(HEDDLE_I64, {1});
    heddle_tensor args[] = {q.view, k.view, v.view, unused.view}, results[] = {out.view, lse.view};
    std::string message = take(heddle_kernel_run(kernel, args, 4, results, 2, nullptr));
    return !message.empty() ? message : lse.data[2] == 9.0f ? "" : "wrong result";
  }

  int64_t compiles() const { return int64_t(fs::file_size(counter)); }
  static heddle_cache_stats stats() {
    heddle_cache_stats s;
    EXPECT_EQ(take(heddle_cache_get_stats(&s)), "");
    return s;
  }

  /// The one entry's file.
  fs::path kernelFile() const {
    fs::path found;
    for (const auto &entry : fs::directory_iterator(cacheDir)) {
      if (fs::exists(entry.path() / "kernel")) {
        EXPECT_TRUE(found.empty());
        found = entry.path() / "kernel";
      }
    }
    return found;
  }

  /// Files that a writer was still writing.
  int remains() const {
    int count = 0;
    for (const auto &entry : fs::recursive_directory_iterator(cacheDir)) {
      count += entry.path().filename().string().starts_with("tmp-");
    }
    return count;
  }

  static pid_t child(const std::function<int()> &body) {
    pid_t pid = fork();
    if (pid == 0) {
      alarm(120);
      _exit(body());
    }
    return pid;
  }
  static int statusOf(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

  TemporaryFolder temporary;
  fs::path cacheDir, counter;
};

} // namespace

TEST_F(CacheTest, MemoryThenDiskThenCompiler) {
  heddle_cache_stats before = stats();
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(get("a"), "");
  heddle_cache_drop_memory();
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(get("b"), "");
  heddle_cache_stats after = stats();
  EXPECT_EQ(compiles(), 2);
  EXPECT_EQ(after.compiles - before.compiles, 2);
  EXPECT_EQ(after.memory_hits - before.memory_hits, 1);
  EXPECT_EQ(after.disk_hits - before.disk_hits, 1);
  EXPECT_EQ(after.disk_entries, 2);
  EXPECT_GT(after.disk_bytes, int64_t(2 * copyObject().size()));
  EXPECT_EQ(after.disk_limit_bytes, int64_t(1) << 30);
}

TEST_F(CacheTest, TargetAndBuildIdAreInTheKey) {
  Compiler compiler{this, "", 0, false};
  for (const char *target : {"native", "x86-64-v3"}) {
    heddle_kernel *kernel = nullptr;
    ASSERT_EQ(take(heddle_cache_get("a", "a", target, compile, &compiler, &kernel)), "");
    heddle_kernel_release(kernel);
  }
  EXPECT_EQ(compiles(), 2);
  heddle_cache_drop_memory();
  heddle_set_build_id("another build");
  EXPECT_EQ(get("a"), "");
  heddle_set_build_id("");
  EXPECT_EQ(compiles(), 3);
  heddle_cache_drop_memory();
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(compiles(), 3);
}

TEST_F(CacheTest, BuildIdOfAFileChangesWithTheFile) {
  fs::path library = temporary.path / "library.so";
  writeAll(library, "one");
  auto compilesFor = [&] {
    heddle_cache_drop_memory();
    heddle_set_build_id_from_file(library.c_str());
    EXPECT_EQ(get("a"), "");
    return compiles();
  };
  EXPECT_EQ(compilesFor(), 1);
  EXPECT_EQ(compilesFor(), 1);
  writeAll(library, "three");
  EXPECT_EQ(compilesFor(), 2);
  fs::remove(library);
  EXPECT_EQ(compilesFor(), 3);
  EXPECT_EQ(compilesFor(), 3);
}

TEST_F(CacheTest, ListClearAndPath) {
  ASSERT_EQ(get("a\tb \"quoted\""), "");
  EXPECT_EQ(std::string(heddle_cache_path()), cacheDir.string());
  char *json = nullptr;
  ASSERT_EQ(take(heddle_cache_list(&json)), "");
  std::string text = json;
  heddle_free(json);
  EXPECT_NE(text.find(R"("spec": "spec of a\tb \"quoted\"")"), std::string::npos) << text;
  fs::create_directories(cacheDir / "mine");
  writeAll(cacheDir / "mine" / "kernel", "not an entry");
  ASSERT_EQ(take(heddle_cache_clear()), "");
  EXPECT_EQ(stats().disk_entries, 0);
  EXPECT_TRUE(fs::exists(cacheDir / "mine" / "kernel")); // only folders named by a key are deleted
  EXPECT_EQ(std::distance(fs::directory_iterator(cacheDir), fs::directory_iterator()), 1);
  ASSERT_EQ(get("a\tb \"quoted\""), "");
  EXPECT_EQ(compiles(), 2);
}

TEST_F(CacheTest, FolderFromTheEnvironment) {
  unsetenv("HEDDLE_CACHE_DIR");
  setenv("XDG_CACHE_HOME", "/xdg", 1);
  EXPECT_EQ(cacheFolder(), "/xdg/heddle");
  unsetenv("XDG_CACHE_HOME");
  setenv("HOME", "/me", 1);
  EXPECT_EQ(cacheFolder(), "/me/.cache/heddle");
  setenv("HEDDLE_CACHE", "0", 1);
  EXPECT_EQ(cacheFolder(), "");
  EXPECT_STREQ(heddle_cache_path(), "");
  for (auto [text, bytes] : {std::pair<const char *, int64_t>{"1000", 1000},
                             {"3K", 3072},
                             {"2m", 2 << 20},
                             {"1G", 1 << 30},
                             {"nonsense", 1 << 30},
                             {"-5", 1 << 30},
                             {"", 1 << 30}}) {
    setenv("HEDDLE_CACHE_LIMIT", text, 1);
    EXPECT_EQ(cacheLimit(), bytes) << text;
  }
}

TEST_F(CacheTest, WithoutDisk) {
  setenv("HEDDLE_CACHE", "0", 1);
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(compiles(), 1);
  EXPECT_FALSE(fs::exists(cacheDir));
}

TEST_F(CacheTest, FailuresAreReportedAndNotRemembered) {
  EXPECT_EQ(get("a", {this, "", 0, true}), "expected a pattern, but got nothing");
  EXPECT_EQ(stats().disk_entries, 0);
  EXPECT_EQ(std::distance(fs::directory_iterator(cacheDir), fs::directory_iterator()), 0); // nothing left behind
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(compiles(), 2);
}

TEST_F(CacheTest, OneCompileOverManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 12; ++t) {
    threads.emplace_back([&] { wrong += get("a", {this, "", 50000, false}) != ""; });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(compiles(), 1);
}

TEST_F(CacheTest, OneFailureOverManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] { right += get("a", {this, "", 100000, true}) == "expected a pattern, but got nothing"; });
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
  EXPECT_EQ(right, 8);
}

TEST_F(CacheTest, OneCompileOverManyProcesses) {
  for (int round = 0; round < 5; ++round) {
    std::string key = "key " + std::to_string(round);
    std::vector<pid_t> children;
    for (int p = 0; p < 24; ++p) {
      children.push_back(child([&] { return get(key, {this, "", 20000, false}) == "" ? 0 : 1; }));
    }
    for (pid_t pid : children) {
      EXPECT_EQ(statusOf(pid), 0);
    }
    EXPECT_EQ(compiles(), round + 1);
  }
  EXPECT_EQ(remains(), 0);
}

TEST_F(CacheTest, ManyProcessesManyKeysWhileOneClears) {
  std::vector<pid_t> children;
  for (int p = 0; p < 8; ++p) {
    children.push_back(child([&] {
      for (int i = 0; i < 60; ++i) {
        heddle_cache_drop_memory();
        if (get("key " + std::to_string((i * 7 + p) % 5)) != "") {
          return 1;
        }
      }
      return 0;
    }));
  }
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(take(heddle_cache_clear()), "");
    usleep(2000);
  }
  for (pid_t pid : children) {
    EXPECT_EQ(statusOf(pid), 0);
  }
  EXPECT_EQ(remains(), 0);
}

TEST_F(CacheTest, WritersKilledAtAnyTimeLeaveNothingThatBreaks) {
  std::string padding(1 << 20, 'p');
  for (int round = 0; round < 60; ++round) {
    pid_t writer = child([&] {
      while (true) {
        heddle_cache_drop_memory();
        fs::remove_all(cacheDir);
        get("a", {this, padding, 0, false});
      }
      return 0;
    });
    usleep(useconds_t(1000 + 700 * round));
    kill(writer, SIGKILL);
    EXPECT_EQ(statusOf(writer), 1000 + SIGKILL);
    heddle_cache_drop_memory();
    ASSERT_EQ(get("a"), "");
    heddle_cache_drop_memory();
    int64_t before = compiles();
    ASSERT_EQ(get("a"), ""); // and it is a good entry
    ASSERT_EQ(compiles(), before);
    EXPECT_EQ(stats().disk_entries, 1);
  }
}

TEST_F(CacheTest, WritersKilledInTheMiddleOfAFile) {
  int64_t full = int64_t(copyArtifact().size());
  for (int64_t at = 1; at < full; at += 97) {
    pid_t writer = child([&] {
      // The kernel kills the process when the file reaches this size.
      rlimit limit{rlim_t(at), rlim_t(at)}, none{0, 0};
      setrlimit(RLIMIT_CORE, &none);
      setrlimit(RLIMIT_FSIZE, &limit);
      get("a");
      return 0;
    });
    ASSERT_EQ(statusOf(writer), 1000 + SIGXFSZ);
    ASSERT_GT(remains(), 0);
    ASSERT_EQ(stats().disk_entries, 0);
    ASSERT_EQ(get("a"), "");
    ASSERT_EQ(remains(), 0); // swept by the next builder
    ASSERT_EQ(take(heddle_cache_clear()), "");
  }
}

TEST_F(CacheTest, EvictionSweepsWhatKilledBuildersLeft) {
  ASSERT_EQ(get("a"), "");
  fs::path dead = cacheDir / std::string(64, 'd');
  fs::create_directory(dead);
  writeAll(dead / "tmp-1-1", "half an artefact");
  Store(cacheDir, 1 << 30).evict("");
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_EQ(stats().disk_entries, 1);
}

TEST_F(CacheTest, DamagedEntriesAreDroppedAndRebuilt) {
  ASSERT_EQ(get("a"), "");
  fs::path file = kernelFile();
  const std::string good = readAll(file);
  heddle_cache_stats before = stats();
  int64_t damages = 0;
  auto expectRebuilt = [&](const std::string &damaged, const std::string &what) {
    writeAll(file, damaged);
    heddle_cache_drop_memory();
    int64_t built = compiles();
    ASSERT_EQ(get("a"), "") << what;
    ASSERT_EQ(compiles(), built + 1) << what;
    ASSERT_EQ(readAll(file), good) << what;
    ++damages;
  };
  for (size_t length = 0; length < good.size(); length += length < 64 ? 1 : 211) {
    ASSERT_NO_FATAL_FAILURE(expectRebuilt(good.substr(0, length), "truncated to " + std::to_string(length)));
  }
  for (size_t bit = 0; bit < good.size() * 8; bit += bit < 56 * 8 ? 3 : 613) {
    std::string damaged = good;
    damaged[bit / 8] = char(damaged[bit / 8] ^ 1 << bit % 8);
    ASSERT_NO_FATAL_FAILURE(expectRebuilt(damaged, "bit " + std::to_string(bit)));
  }
  ASSERT_NO_FATAL_FAILURE(expectRebuilt(good + "x", "longer"));
  ASSERT_NO_FATAL_FAILURE(expectRebuilt(writeArtifact("{}", copyObject()), "another manifest"));
  ASSERT_NO_FATAL_FAILURE(expectRebuilt(writeArtifact(copyManifest(), "no object"), "another object"));
  EXPECT_EQ(stats().dropped - before.dropped, damages);
}

TEST_F(CacheTest, AnUnreadableEntryIsAMiss) {
  ASSERT_EQ(get("a"), "");
  fs::path file = kernelFile();
  fs::remove(file);
  fs::create_directory(file); // cannot be read, replaced or unlinked
  heddle_cache_drop_memory();
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(compiles(), 2);
}

TEST_F(CacheTest, NoFolderCanBeMade) {
  writeAll(temporary.path / "file", "");
  for (std::string path : {(temporary.path / "file" / "cache").string(), std::string("/proc/heddle/cache")}) {
    setenv("HEDDLE_CACHE_DIR", path.c_str(), 1);
    heddle_cache_drop_memory();
    int64_t before = compiles(), failures = stats().write_failures;
    EXPECT_EQ(get("a"), "");
    EXPECT_EQ(get("a"), "");
    EXPECT_EQ(compiles(), before + 1);
    EXPECT_EQ(stats().write_failures, failures + 1);
  }
}

TEST_F(CacheTest, ReadOnlyFolder) {
  ASSERT_EQ(get("a"), "");
  fs::permissions(temporary.path, fs::perms::all);
  fs::permissions(counter, fs::perms::all);
  for (const auto &entry : fs::recursive_directory_iterator(cacheDir)) {
    fs::permissions(entry.path(), entry.is_directory() ? fs::perms(0555) : fs::perms(0444));
  }
  fs::permissions(cacheDir, fs::perms(0555));
  int64_t before = compiles(), failures = stats().write_failures;
  EXPECT_EQ(statusOf(child([&] {
              if (geteuid() == 0 && setuid(65534) != 0) {
                return 9;
              }
              heddle_cache_drop_memory();
              // What is there is used; what is not is compiled and kept in memory.
              return get("a") == "" && compiles() == before && get("b") == "" && get("b") == "" &&
                             compiles() == before + 1 && stats().write_failures == failures + 1
                         ? 0
                         : 1;
            })),
            0);
  fs::permissions(cacheDir, fs::perms(0755));
  for (const auto &entry : fs::recursive_directory_iterator(cacheDir)) {
    fs::permissions(entry.path(), fs::perms(0755));
  }
}

TEST_F(CacheTest, FilesMayNotGrow) {
  // Every write beyond 4 KiB fails in the middle, as on a full disk.
  int64_t failures = stats().write_failures;
  EXPECT_EQ(statusOf(child([&] {
              signal(SIGXFSZ, SIG_IGN);
              rlimit limit{4096, 4096};
              setrlimit(RLIMIT_FSIZE, &limit);
              std::string padding(100000, 'p');
              return get("a", {this, padding, 0, false}) == "" && get("a") == "" && compiles() == 1 &&
                             stats().write_failures == failures + 1 && stats().disk_entries == 0
                         ? 0
                         : 1;
            })),
            0);
  EXPECT_EQ(remains(), 0);
  EXPECT_EQ(get("a"), ""); // room again
  EXPECT_EQ(stats().disk_entries, 1);
}

TEST_F(CacheTest, FullDisk) {
  fs::path disk = temporary.path / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    GTEST_SKIP() << "mounting a small file system needs root";
  }
  setenv("HEDDLE_CACHE_DIR", (disk / "cache").c_str(), 1);
  heddle_cache_stats before = stats();
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(get("key " + std::to_string(i), {this, std::string(5000, 'p'), 0, false}), "") << i;
  }
  EXPECT_EQ(compiles(), 30);
  EXPECT_GT(stats().write_failures, before.write_failures);
  EXPECT_GT(stats().disk_entries, 0);
  heddle_cache_drop_memory();
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(get("key " + std::to_string(i)), "") << i;
  }
  umount2(disk.c_str(), MNT_DETACH);
}

TEST_F(CacheTest, EvictsTheLeastRecentlyUsed) {
  setenv("HEDDLE_CACHE_LIMIT", "400000", 1);
  std::string padding(50000, 'p');
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(get("key " + std::to_string(i), {this, padding, 0, false}), "");
    usleep(15000); // file times are as coarse as the kernel's clock tick
  }
  heddle_cache_drop_memory();
  ASSERT_EQ(get("key 0"), ""); // used again, from disk
  ASSERT_EQ(compiles(), 6);
  for (int i = 6; i < 9; ++i) {
    usleep(15000);
    ASSERT_EQ(get("key " + std::to_string(i), {this, padding, 0, false}), "");
    EXPECT_LE(stats().disk_bytes, 400000);
  }
  heddle_cache_drop_memory();
  ASSERT_EQ(get("key 0"), "");
  ASSERT_EQ(get("key 8"), "");
  EXPECT_EQ(compiles(), 9); // both are still there
  ASSERT_EQ(get("key 1"), "");
  EXPECT_EQ(compiles(), 10); // the oldest is not
}

TEST_F(CacheTest, AnEntryAboveTheLimitIsNotStored) {
  setenv("HEDDLE_CACHE_LIMIT", "1000", 1);
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(get("a"), "");
  EXPECT_EQ(compiles(), 1);
  EXPECT_EQ(stats().disk_entries, 0);
}

TEST_F(CacheTest, ForkWhileCompiling) {
  std::thread builder([&] { EXPECT_EQ(get("a", {this, "", 300000, false}), ""); });
  while (compiles() == 0) {
    usleep(1000);
  }
  // The child does not wait for a thread it does not have; it gets the kernel from disk.
  EXPECT_EQ(statusOf(child([&] { return get("a") == "" && get("b") == "" ? 0 : 1; })), 0);
  builder.join();
  EXPECT_EQ(compiles(), 2);
}

TEST_F(CacheTest, ForkUnderLoad) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> users;
  for (int t = 0; t < 3; ++t) {
    users.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        EXPECT_EQ(get("key " + std::to_string((i + t) % 40)), "");
      }
    });
  }
  for (int round = 0; round < 40; ++round) {
    EXPECT_EQ(statusOf(child([&] { return get("key " + std::to_string(round)) == "" ? 0 : 1; })), 0);
  }
  stop = true;
  for (std::thread &user : users) {
    user.join();
  }
}
