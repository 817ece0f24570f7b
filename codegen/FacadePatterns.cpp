//===- FacadePatterns.cpp - Exact questions on patterns -------------------===//
//
// Text in, verdicts of dialect/PatternSet.h out. A question that is not decided
// is an error with the reason, never a guess.
//
//===----------------------------------------------------------------------===//

#include "codegen/Facade.h"

#include "dialect/ErrorExcerpt.h"
#include "dialect/PatternSet.h"

#include <algorithm>
#include <variant>

namespace heddle::facade {

namespace {

/// Thrown inside this file only.
struct Refused {
  std::string message;
};

/// Names of run-time operands are numbered over all patterns of one question, so
/// that the same name means the same values.
class Question {
public:
  Pattern parse(const char *text) {
    auto parsed = parseVerified(text, [this](const std::string &name, bool) -> int64_t {
      auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) {
        names.push_back(name);
        found = names.end() - 1;
      }
      return found - names.begin();
    });
    if (const PatternError *error = std::get_if<PatternError>(&parsed)) {
      throw Refused{located(text, *error)};
    }
    return std::get<Pattern>(parsed);
  }

private:
  std::vector<std::string> names;
};

/// Positions are rows plus offsets: questions are about pairs with i >= 0 and j >= 0, the ones that masks show.
/// (So the condition `j < 4` and `keys([0 to 4])` are one set, though they differ at negative j.)
Pattern onPositions(const Pattern &p) {
  RangeArg all{IntArg(0), IntArg(IntArg::Infinity, 0)};
  auto onRange = [&](PatternKind kind) {
    PatternNode node;
    node.kind = kind;
    node.ranges = {all};
    return Pattern::make(std::move(node));
  };
  return p & onRange(PatternKind::Keys) & onRange(PatternKind::Queries);
}

heddle_error *invalid(const std::string &message) { return heddle_error_create(HEDDLE_INVALID_VALUE, message.c_str()); }

/// Runs `ask(question)`; its verdict goes to `use`.
template <typename Ask, typename Use> heddle_error *answer(Ask ask, Use use) {
  return guarded([&]() -> heddle_error * {
    try {
      Question question;
      SetAnswer result = ask(question);
      if (result.verdict == SetAnswer::Undecided) {
        return invalid(result.reason);
      }
      use(result);
      return nullptr;
    } catch (const Refused &refused) {
      return invalid(refused.message);
    }
  });
}

} // namespace

heddle_error *patternIsEmpty(const char *p, int32_t *yes) {
  return answer([&](Question &question) { return isEmpty(onPositions(question.parse(p))); },
                [&](const SetAnswer &result) { *yes = result.verdict == SetAnswer::Yes; });
}

heddle_error *patternIsSubset(const char *p, const char *q, int32_t *yes) {
  return answer(
      [&](Question &question) {
        Pattern a = question.parse(p), b = question.parse(q);
        return isSubset(onPositions(a), b);
      },
      [&](const SetAnswer &result) { *yes = result.verdict == SetAnswer::Yes; });
}

heddle_error *patternIsEqual(const char *p, const char *q, int32_t *yes) {
  return answer(
      [&](Question &question) {
        Pattern a = question.parse(p), b = question.parse(q);
        // Two spellings are mostly equal everywhere, which is the cheaper question.
        SetAnswer everywhere = isEqual(a, b);
        return everywhere.verdict == SetAnswer::Yes ? everywhere : isEqual(onPositions(a), onPositions(b));
      },
      [&](const SetAnswer &result) { *yes = result.verdict == SetAnswer::Yes; });
}

heddle_error *patternExample(const char *p, const char *q, int32_t *found, int64_t pair[2]) {
  return answer(
      [&](Question &question) {
        Pattern a = question.parse(p), b = question.parse(q);
        SetAnswer result = isSubset(onPositions(a), b);
        if (result.verdict == SetAnswer::No && !result.witness) {
          result.verdict = SetAnswer::Undecided;
          result.reason = "expected a pair that shows the difference, but found none";
        }
        return result;
      },
      [&](const SetAnswer &result) {
        *found = result.verdict == SetAnswer::No;
        if (*found) {
          pair[0] = result.witness->query;
          pair[1] = result.witness->key;
        }
      });
}

} // namespace heddle::facade
