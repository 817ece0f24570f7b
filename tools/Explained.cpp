//===- Explained.cpp - What the compiler says about a spec ----------------===//

#include "tools/Explained.h"

#include <algorithm>
#include <random>

namespace heddle::tools {

OperandResolver Explained::argumentResolver() const {
  return [names = json.value("arguments", std::vector<std::string>())](const std::string &name, bool) -> int64_t {
    auto found = std::find(names.begin(), names.end(), name.rfind('%', 0) == 0 ? name.substr(1) : name);
    return found == names.end() ? -1 : found - names.begin();
  };
}

Explained::Explained(const Spec &spec, const std::string &sizes) {
  json = nlohmann::json::parse(explain(spec, sizes, true));
  if (!json.contains("segments")) {
    throw Failure(2, "expected a spec with attn.attend, but got one without attention over pairs");
  }
  for (const nlohmann::json &segment : json["segments"]) {
    auto parsed = parsePattern(segment.value("pattern", "full"), argumentResolver());
    const Pattern *pattern = std::get_if<Pattern>(&parsed);
    if (!pattern) {
      throw Failure(1, "the compiler printed a pattern that does not parse: " + std::get<PatternError>(parsed).message);
    }
    patterns.push_back(*pattern);
  }
}

Schedule Explained::schedule() const {
  auto parsed = parseSchedule(json["schedule"].value("text", ""), argumentResolver());
  if (const PatternError *error = std::get_if<PatternError>(&parsed)) {
    throw Failure(1, "the compiler printed a schedule that does not parse: " + error->message);
  }
  return std::get<Schedule>(parsed);
}

bool Explained::dependsOnData() const {
  for (const nlohmann::json &segment : json["segments"]) {
    if (!segment["depends_on"].empty()) {
      return true;
    }
  }
  return false;
}

/// Live pairs of one row, from the definitions.
static int64_t countRow(const Pattern &pattern, ExprEnv &env, int64_t row, int64_t keys) {
  int64_t live = 0;
  env.i = env.qOffset + row;
  for (int64_t j = 0; j < keys; ++j) {
    env.j = env.kOffset + j;
    live += pattern.contains(env);
  }
  return live;
}

LivePairs countLivePairs(const Explained &explained, const Problem &problem) {
  LivePairs total;
  constexpr double kMaxPairs = 2e6;
  std::mt19937_64 random(1);
  double heads = static_cast<double>(problem.b * problem.h), rows = heads * static_cast<double>(problem.nq);
  for (size_t g = 0; g < explained.patterns.size(); ++g) {
    const nlohmann::json &segment = explained.json["segments"][g];
    double keys = static_cast<double>(problem.nk[g]), live = 0;
    if (segment.contains("live_pairs") && segment["live_pairs"].is_number()) {
      live = segment["live_pairs"].get<double>();
    } else if (rows * keys > 0) {
      bool all = rows * keys <= kMaxPairs;
      int64_t samples =
          all ? static_cast<int64_t>(rows) : std::max<int64_t>(16, static_cast<int64_t>(kMaxPairs / keys));
      for (int64_t s = 0; s < samples; ++s) {
        int64_t row = all ? s : std::uniform_int_distribution<int64_t>(0, static_cast<int64_t>(rows) - 1)(random);
        int64_t head = row / problem.nq;
        ExprEnv env = problem.environment(head / problem.h, head % problem.h, static_cast<int64_t>(g));
        live += static_cast<double>(countRow(explained.patterns[g], env, row % problem.nq, problem.nk[g]));
      }
      live *= rows / static_cast<double>(samples);
      total.exact = total.exact && all;
    }
    total.live += live;
    total.all += rows * keys;
    total.flops += live * segment.value("flops_per_pair", 2.0 * static_cast<double>(problem.d + problem.dv));
  }
  return total;
}

} // namespace heddle::tools
