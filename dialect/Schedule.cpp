//===- Schedule.cpp - Strata as data: text and membership -----------------===//
//
//   schedule ::= `super_tile` `=` int `,` `key_chunk` `=` int (`,` stratum)*
//   stratum  ::= kind `{` field (`,` field)* `}`
//   field    ::= `segment = 0` | `heads = [0, 1] mod 4` | `query = [digit, ...]` | `key = [digit, ...]`
//              | `lower = [expr, ...]` | `upper = [expr, ...]` | `guard = expr` | `keep = expr`
//              | `residual = expr` | `choices = 3` | `by_row = 1` | `note = "text"`
//   digit    ::= `{` `radix = 1, extent = 0, tile = 64` `}`
//              | `{` `radix = 1, extent = 0, step = 1, phase = expr, lower = [...], upper = [...]` `}`
//
// Fields that have their default value are left out.
//
//===----------------------------------------------------------------------===//
#include "dialect/Schedule.h"

#include "dialect/KeyTable.h"
#include "dialect/PatternMeaning.h"
#include "dialect/TextParser.h"

#include <algorithm>
#include <stdexcept>

namespace heddle {

//===----------------------------------------------------------------------===//
// Equality
//===----------------------------------------------------------------------===//

static bool same(const Expr &a, const Expr &b) {
  return a.isNull() || b.isNull() ? a.isNull() == b.isNull() : a.same(b);
}

static bool same(const std::vector<Expr> &a, const std::vector<Expr> &b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Expr &x, const Expr &y) { return same(x, y); });
}

bool sameButHeads(const Stratum &a, const Stratum &b) {
  auto sameKey = [](const KeyDigit &x, const KeyDigit &y) {
    return x.radix == y.radix && x.extent == y.extent && x.step == y.step && same(x.phase, y.phase) &&
           same(x.lower, y.lower) && same(x.upper, y.upper);
  };
  return a.kind == b.kind && a.segment == b.segment && a.choices == b.choices && a.query == b.query &&
         std::equal(a.key.begin(), a.key.end(), b.key.begin(), b.key.end(), sameKey) && same(a.lower, b.lower) &&
         same(a.upper, b.upper) && same(a.guard, b.guard) && same(a.keep, b.keep) && same(a.residual, b.residual) &&
         same(a.list, b.list) && same(a.first, b.first) && a.run == b.run && same(a.ids, b.ids) && a.byRow == b.byRow;
}

static bool same(const Stratum &a, const Stratum &b) {
  return a.headPeriod == b.headPeriod && a.heads == b.heads && a.note == b.note && sameButHeads(a, b);
}

Schedule Schedule::atLength(int64_t keys) const {
  Schedule s = *this;
  if (keys <= rowsUpTo) {
    for (Stratum &stratum : s.strata) {
      stratum.byRow = true;
    }
  }
  s.rowsUpTo = 0;
  return s;
}

bool Schedule::same(const Schedule &o) const {
  return superTile == o.superTile && keyChunk == o.keyChunk && rowsUpTo == o.rowsUpTo &&
         std::equal(strata.begin(), strata.end(), o.strata.begin(), o.strata.end(),
                    [](const Stratum &a, const Stratum &b) { return heddle::same(a, b); });
}

size_t Schedule::hash() const {
  size_t h = static_cast<size_t>(superTile) * 31 + strata.size();
  for (const Stratum &s : strata) {
    h = h * 31 + static_cast<size_t>(s.kind) + s.key.size() * 7;
    for (const std::vector<Expr> *list : {&s.lower, &s.upper}) {
      for (const Expr &e : *list) {
        h = h * 31 + e->hash;
      }
    }
    h = h * 31 + (s.residual.isNull() ? 0 : s.residual->hash) + static_cast<size_t>(s.choices);
  }
  return h;
}

static constexpr const char *kindNames[] = {"band",    "lattice", "block",    "grid",
                                            "columns", "rows",    "gathered", "masked"};

const char *kindName(StratumKind kind) { return kindNames[static_cast<size_t>(kind)]; }

namespace {

bool within(const std::vector<Expr> &lower, const std::vector<Expr> &upper, int64_t value, const ExprEnv &env) {
  return std::all_of(lower.begin(), lower.end(), [&](const Expr &e) { return evaluateInt(e, env) <= value; }) &&
         std::all_of(upper.begin(), upper.end(), [&](const Expr &e) { return value < evaluateInt(e, env); });
}

bool holdsOrNull(const Expr &e, const ExprEnv &env) { return e.isNull() || evaluateBool(e, env); }

bool contains(const KeyDigit &d, const ExprEnv &env) {
  int64_t value = floorDivInt(env.j, std::max<int64_t>(d.radix, 1));
  if (d.extent > 0) {
    value = floorModInt(value, d.extent);
  }
  int64_t phase = d.phase.isNull() ? 0 : evaluateInt(d.phase, env);
  bool onPhase = d.step <= 1 || floorModInt(value, d.step) == floorModInt(phase, d.step);
  return onPhase && within(d.lower, d.upper, value, env);
}

bool containsChoice(const Stratum &s, const ExprEnv &env) {
  return holdsOrNull(s.guard, env) && within(s.lower, s.upper, env.j, env) &&
         std::all_of(s.key.begin(), s.key.end(), [&](const KeyDigit &d) { return contains(d, env); }) &&
         holdsOrNull(s.keep, env) && holdsOrNull(s.residual, env) && holdsOrNull(s.list, env) &&
         holdsOrNull(s.ids, env);
}

} // namespace

bool contains(const Stratum &s, const ExprEnv &env) {
  if (s.headPeriod > 1 &&
      std::find(s.heads.begin(), s.heads.end(), floorModInt(env.h, s.headPeriod)) == s.heads.end()) {
    return false;
  }
  ExprEnv at = env;
  for (at.choice = 0; at.choice < std::max<int64_t>(s.choices, 1); ++at.choice) {
    if (containsChoice(s, at)) {
      return true;
    }
  }
  return false;
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

namespace {

struct Printer {
  const std::function<std::string(int64_t)> &operandName;
  std::string out;
  bool first = true;

  void field(const char *name) {
    out += first ? "" : ", ";
    first = false;
    out += std::string(name) + " = ";
  }
  void integer(const char *name, int64_t value, int64_t usual) {
    if (value != usual) {
      field(name);
      out += std::to_string(value);
    }
  }
  void expr(const char *name, const Expr &e) {
    if (e) {
      field(name);
      out += e.str(operandName, /*words=*/true);
    }
  }
  void exprs(const char *name, const std::vector<Expr> &list) {
    if (list.empty()) {
      return;
    }
    field(name);
    out += "[";
    for (size_t k = 0; k < list.size(); ++k) {
      out += (k ? ", " : "") + list[k].str(operandName, /*words=*/true);
    }
    out += "]";
  }
  template <typename Digit, typename Fn> void digits(const char *name, const std::vector<Digit> &list, Fn print) {
    if (list.empty()) {
      return;
    }
    field(name);
    out += "[";
    for (size_t k = 0; k < list.size(); ++k) {
      out += k ? ", {" : "{";
      first = true;
      print(list[k]);
      out += "}";
    }
    out += "]";
    first = false;
  }
  void note(const std::string &s) {
    if (s.empty()) {
      return;
    }
    field("note");
    out += '"';
    for (char c : s) {
      if (c == '"' || c == '\\') {
        out += '\\';
      }
      out += c == '\n' ? ' ' : c;
    }
    out += '"';
  }

  void stratum(const Stratum &s) {
    out += kindName(s.kind);
    out += " {";
    first = true;
    integer("segment", s.segment, 0);
    if (s.headPeriod != 1 || !s.heads.empty()) {
      field("heads");
      out += "[";
      for (size_t k = 0; k < s.heads.size(); ++k) {
        out += (k ? ", " : "") + std::to_string(s.heads[k]);
      }
      out += "] mod " + std::to_string(s.headPeriod);
    }
    digits("query", s.query, [this](const QueryDigit &d) {
      integer("radix", d.radix, 1);
      integer("extent", d.extent, 0);
      integer("tile", d.tile, 64);
    });
    digits("key", s.key, [this](const KeyDigit &d) {
      integer("radix", d.radix, 1);
      integer("extent", d.extent, 0);
      integer("step", d.step, 1);
      expr("phase", d.phase);
      exprs("lower", d.lower);
      exprs("upper", d.upper);
    });
    exprs("lower", s.lower);
    exprs("upper", s.upper);
    expr("guard", s.guard);
    expr("keep", s.keep);
    expr("residual", s.residual);
    integer("choices", s.choices, 0);
    expr("list", s.list);
    expr("first", s.first);
    integer("run", s.run, 1);
    expr("ids", s.ids);
    integer("by_row", s.byRow, 0);
    note(s.note);
    out += "}";
  }
};

} // namespace

std::string str(const Schedule &s, const std::function<std::string(int64_t)> &operandName) {
  Printer p{operandName, {}, true};
  p.out = "super_tile = " + std::to_string(s.superTile) + ", key_chunk = " + std::to_string(s.keyChunk);
  if (s.rowsUpTo > 0) {
    p.out += ", rows_up_to = " + std::to_string(s.rowsUpTo);
  }
  for (const Stratum &stratum : s.strata) {
    p.out += ", ";
    p.stratum(stratum);
  }
  return std::move(p.out);
}

//===----------------------------------------------------------------------===//
// Parsing
//===----------------------------------------------------------------------===//

namespace {

class ScheduleParser : public TextParser {
public:
  using TextParser::TextParser;

  Schedule parse() {
    Schedule s;
    if (atEnd()) {
      return s;
    }
    do {
      if (take("super_tile")) {
        expect("=");
        s.superTile = positive();
      } else if (take("key_chunk")) {
        expect("=");
        s.keyChunk = positive();
      } else if (take("rows_up_to")) {
        expect("=");
        s.rowsUpTo = positive();
      } else {
        s.strata.push_back(parseStratum());
      }
    } while (take(","));
    expectEnd();
    return s;
  }

private:
  int64_t positive() {
    skipSpace();
    size_t at = pos;
    int64_t value = parseInteger();
    if (value <= 0) {
      fail(at, "expected a positive integer, but got " + std::to_string(value));
    }
    return value;
  }

  Expr expr() {
    static const std::map<std::string, Expr> names = [] {
      std::map<std::string, Expr> m;
      for (Sym s : {Sym::Batch, Sym::Head, Sym::Query, Sym::Key, Sym::QueryEnd, Sym::KeyEnd, Sym::QueryRow, Sym::KeyRow,
                    Sym::KeyOffset, Sym::Choice, Sym::Heads, Sym::Entry}) {
        m.emplace(spelling(s), Expr::symbol(s));
      }
      return m;
    }();
    return parseExpr(names);
  }

  template <typename Fn> void list(const char *open, const char *close, Fn item) {
    expect(open);
    if (take(close)) {
      return;
    }
    do {
      item();
    } while (take(","));
    expect(close);
  }

  std::vector<Expr> exprs() {
    std::vector<Expr> found;
    list("[", "]", [&] { found.push_back(expr()); });
    return found;
  }

  std::string parseString() {
    if (!take("\"")) {
      failExpected("a string");
    }
    std::string s;
    while (pos < text.size() && text[pos] != '"') {
      if (text[pos] == '\\' && pos + 1 < text.size()) {
        ++pos;
      }
      s += text[pos++];
    }
    expect("\"");
    return s;
  }

  /// `{ name = value, ... }`; fn takes the value of a name it knows.
  template <typename Fn> void fields(Fn fn) {
    list("{", "}", [&] {
      skipSpace();
      size_t at = pos;
      std::string name = takeWord();
      if (name.empty()) {
        failExpected("a field");
      }
      expect("=");
      if (!fn(name)) {
        fail(at, "expected a field, but got '" + name + "'");
      }
    });
  }

  QueryDigit queryDigit() {
    QueryDigit d;
    fields([&](const std::string &name) {
      if (name == "radix") {
        d.radix = positive();
      } else if (name == "extent") {
        d.extent = parseInteger();
      } else if (name == "tile") {
        d.tile = positive();
      } else {
        return false;
      }
      return true;
    });
    return d;
  }

  KeyDigit keyDigit() {
    KeyDigit d;
    fields([&](const std::string &name) {
      if (name == "radix") {
        d.radix = positive();
      } else if (name == "extent") {
        d.extent = parseInteger();
      } else if (name == "step") {
        d.step = positive();
      } else if (name == "phase") {
        d.phase = expr();
      } else if (name == "lower") {
        d.lower = exprs();
      } else if (name == "upper") {
        d.upper = exprs();
      } else {
        return false;
      }
      return true;
    });
    return d;
  }

  Stratum parseStratum() {
    Stratum s;
    skipSpace();
    size_t at = pos;
    std::string kind = takeWord();
    const auto *found = std::find(std::begin(kindNames), std::end(kindNames), kind);
    if (found == std::end(kindNames)) {
      pos = at;
      failExpected("the kind of a stratum");
    }
    s.kind = static_cast<StratumKind>(found - std::begin(kindNames));
    fields([&](const std::string &name) { return stratumField(s, name); });
    if (s.byRow && !(s.keep.isNull() && s.residual.isNull() && s.ids.isNull()) && !keyTableOf(s)) {
      fail(at, "expected by_row only where a stratum has bounds or a list, but got a condition on pairs or ids");
    }
    return s;
  }

  bool stratumField(Stratum &s, const std::string &name) {
    if (name == "segment") {
      s.segment = parseInteger();
    } else if (name == "heads") {
      list("[", "]", [&] { s.heads.push_back(parseInteger()); });
      expect("mod");
      s.headPeriod = positive();
    } else if (name == "query") {
      list("[", "]", [&] { s.query.push_back(queryDigit()); });
    } else if (name == "key") {
      list("[", "]", [&] { s.key.push_back(keyDigit()); });
    } else if (name == "lower") {
      s.lower = exprs();
    } else if (name == "upper") {
      s.upper = exprs();
    } else if (name == "guard") {
      s.guard = expr();
    } else if (name == "keep") {
      s.keep = expr();
    } else if (name == "residual") {
      s.residual = expr();
    } else if (name == "choices") {
      s.choices = positive();
    } else if (name == "list") {
      s.list = expr();
    } else if (name == "first") {
      s.first = expr();
    } else if (name == "run") {
      s.run = positive();
    } else if (name == "ids") {
      s.ids = expr();
    } else if (name == "by_row") {
      s.byRow = parseInteger() != 0;
    } else if (name == "note") {
      s.note = parseString();
    } else {
      return false;
    }
    return true;
  }
};

} // namespace

std::variant<Schedule, PatternError> parseSchedule(const std::string &text, const OperandResolver &resolve) {
  try {
    return ScheduleParser(text, resolve).parse();
  } catch (const ParseFailure &f) {
    return PatternError{f.offset, f.message};
  } catch (const std::length_error &e) {
    return PatternError{0, e.what()};
  }
}

} // namespace heddle
