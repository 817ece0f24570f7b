//===- CacheCommand.cpp - heddle cache list|stats|clear|path --------------===//

#include "tools/Commands.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace heddle::tools {

namespace {

std::string bytes(int64_t n) {
  char text[32];
  double value = static_cast<double>(n);
  const char *units[] = {"B", "KB", "MB", "GB"};
  int unit = 0;
  while (value >= 10000 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  std::snprintf(text, sizeof text, "%.0f %s", value, units[unit]);
  return text;
}

std::string field(const nlohmann::json &entry, const char *name) {
  if (!entry.contains(name)) {
    return "";
  }
  const nlohmann::json &value = entry[name];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

int list(bool json) {
  char *text = nullptr;
  check(heddle_cache_list(&text));
  std::string all = text ? text : "[]";
  heddle_free(text);
  if (json) {
    std::printf("%s\n", all.c_str());
    return 0;
  }
  nlohmann::json entries = nlohmann::json::parse(all);
  if (entries.empty()) {
    std::printf("no kernels in %s\n", heddle_cache_path());
    return 0;
  }
  for (const nlohmann::json &entry : entries) {
    std::string size = entry.contains("bytes") ? bytes(entry["bytes"].get<int64_t>()) : "";
    std::printf("%-16.16s  %10s  %s  %s\n", field(entry, "key").c_str(), size.c_str(), field(entry, "last_use").c_str(),
                field(entry, "spec").c_str());
  }
  return 0;
}

int stats(bool json) {
  heddle_cache_stats s = {};
  check(heddle_cache_get_stats(&s));
  if (json) {
    nlohmann::json out = {{"path", heddle_cache_path()},
                          {"entries", s.disk_entries},
                          {"bytes", s.disk_bytes},
                          {"limit_bytes", s.disk_limit_bytes}};
    std::printf("%s\n", out.dump().c_str());
    return 0;
  }
  std::printf("%s: %lld kernels, %s of %s\n", heddle_cache_path(), static_cast<long long>(s.disk_entries),
              bytes(s.disk_bytes).c_str(), bytes(s.disk_limit_bytes).c_str());
  return 0;
}

} // namespace

int runCache(const CacheOptions &options) {
  if (options.action == "path") {
    std::printf("%s\n", heddle_cache_path());
    return 0;
  }
  if (options.action == "list") {
    return list(options.json);
  }
  if (options.action == "stats") {
    return stats(options.json);
  }
  if (options.action != "clear") {
    throw Failure(2, "expected list, stats, clear or path, but got " +
                         (options.action.empty() ? "none" : "'" + options.action + "'"));
  }
  heddle_cache_stats before = {};
  check(heddle_cache_get_stats(&before));
  check(heddle_cache_clear());
  std::printf("removed %lld kernels, %s\n", static_cast<long long>(before.disk_entries),
              bytes(before.disk_bytes).c_str());
  return 0;
}

} // namespace heddle::tools
