//===- CacheCommand.cpp - heddle cache list|stats|clear|path --------------===//

#include "tools/Commands.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <ctime>

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

/// Local time of day, to the minute.
std::string date(int64_t seconds) {
  std::time_t time = static_cast<std::time_t>(seconds);
  std::tm parts = {};
  char text[32] = "";
  if (localtime_r(&time, &parts)) {
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  }
  return text;
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
    std::string used = entry.contains("last_use") ? date(entry["last_use"].get<int64_t>()) : "";
    std::printf("%-16.16s  %10s  %s  %s\n", field(entry, "key").c_str(), size.c_str(), used.c_str(),
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
  heddle_cache_stats after = {};
  check(heddle_cache_get_stats(&after));
  std::printf("removed %lld kernels, %s\n", static_cast<long long>(before.disk_entries - after.disk_entries),
              bytes(before.disk_bytes - after.disk_bytes).c_str());
  if (after.disk_entries > 0) {
    throw Failure(1, "expected a folder in which every kernel can be removed, but got " +
                         std::to_string(after.disk_entries) + " in " + heddle_cache_path() +
                         " that are being written or that the system keeps");
  }
  return 0;
}

} // namespace heddle::tools
