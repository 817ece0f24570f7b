//===- PatternParser.cpp - Parsing the text form of patterns --------------===//
//
//   pattern ::= and (`|` and)*        and ::= sub (`&` sub)*
//   sub     ::= unary (`-` unary)*    unary ::= `~` unary | primary
//   primary ::= `(` pattern `)` | `full` | `causal` | name `(` arguments `)`
//
// Operators of one level make one node; parentheses are never flattened, so
// that printed text gives the same tree back.
//
//===----------------------------------------------------------------------===//
#include "dialect/PatternTables.h"
#include "dialect/TextParser.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace heddle {

namespace {

constexpr size_t maxListItems = 1 << 16;

size_t editDistance(const std::string &a, const std::string &b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t k = 0; k <= b.size(); ++k) {
    row[k] = k;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t k = 1; k <= b.size(); ++k) {
      size_t replaced = diagonal + (a[i - 1] != b[k - 1]);
      diagonal = row[k];
      row[k] = std::min({row[k] + 1, row[k - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string counted(size_t n, const std::string &what) { return std::to_string(n) + " " + what + (n == 1 ? "" : "s"); }

class PatternParser : public TextParser {
public:
  PatternParser(const std::string &text, const OperandResolver &resolve, bool verifies)
      : TextParser(text, resolve), verifies(verifies) {}

  Pattern parseOr() { return parseLevel(PatternKind::Or); }

private:
  Pattern parseLevel(PatternKind kind);
  Pattern parseSub();
  Pattern parseUnary();
  Pattern parsePrimary();
  Pattern parseNamed(const std::string &name, size_t at);
  // A pattern with a name, which stands at `at`.
  Pattern parsePrimitive(const PrimitiveInfo &info, size_t at);
  Pattern parseCoordinates(PatternNode n, size_t at);
  Pattern parseRemap(size_t at);
  Pattern parseAffineSet(size_t at);
  Pattern parseHolds(size_t at);
  void parseParameters(PatternNode &n, const PrimitiveInfo &info);
  void parseList(PatternNode &n);
  void parseChildren(PatternNode &n);
  IntArg parseIntArg(const std::string &what);
  Expr parseConstraint(const std::map<std::string, Expr> &names);
  std::vector<std::string> parseNames(const char *open, const char *close, size_t atMost);
  Pattern build(PatternNode n, size_t at);
  bool startsInteger();

  bool verifies; ///< a pattern that breaks a constraint is an error
};

Pattern PatternParser::build(PatternNode n, size_t at) {
  for (const Pattern &c : n.children) {
    if (c->depth >= Pattern::maxDepth) {
      fail(at,
           "expected a pattern nested at most " + std::to_string(Pattern::maxDepth) + " deep, but got a deeper one");
    }
  }
  Pattern made = Pattern::make(std::move(n));
  if (std::optional<std::string> broken = verifies ? made.verifyRoot() : std::nullopt) {
    fail(at, *broken);
  }
  return made;
}

Pattern PatternParser::parseLevel(PatternKind kind) {
  Nest nest(*this);
  bool isOr = kind == PatternKind::Or;
  size_t at = pos;
  PatternNode n;
  n.kind = kind;
  do {
    n.children.push_back(isOr ? parseLevel(PatternKind::And) : parseSub());
  } while (take(isOr ? "|" : "&"));
  return n.children.size() == 1 ? n.children[0] : build(std::move(n), at);
}

Pattern PatternParser::parseSub() {
  size_t at = pos;
  Pattern left = parseUnary();
  while (take("-")) {
    PatternNode n;
    n.kind = PatternKind::Sub;
    n.children = {left, parseUnary()};
    left = build(std::move(n), at);
  }
  return left;
}

Pattern PatternParser::parseUnary() {
  Nest nest(*this);
  skipSpace();
  size_t at = pos;
  if (!take("~")) {
    return parsePrimary();
  }
  if (take("full")) {
    return Pattern::empty();
  }
  PatternNode n;
  n.kind = PatternKind::Not;
  n.children = {parseUnary()};
  return build(std::move(n), at);
}

Pattern PatternParser::parsePrimary() {
  skipSpace();
  size_t at = pos;
  if (take("(")) {
    Pattern p = parseOr();
    expect(")");
    return p;
  }
  std::string name = peekWord();
  if (name.empty()) {
    failExpected("a pattern");
  }
  if (name == "not") {
    fail(at, "expected a pattern, but got 'not'; did you mean '~'?");
  }
  pos += name.size();
  return parseNamed(name, at);
}

Pattern PatternParser::parseNamed(const std::string &name, size_t at) {
  static const std::map<std::string, PatternKind> structured = {
      {"coarse", PatternKind::Coarse},   {"grid", PatternKind::Grid},   {"shift", PatternKind::Shift},
      {"remap", PatternKind::Remap},     {"holds", PatternKind::Holds}, {"affine_set", PatternKind::AffineSet},
      {"per_head", PatternKind::PerHead}};
  if (auto it = structured.find(name); it != structured.end()) {
    PatternNode n;
    n.kind = it->second;
    switch (n.kind) {
    case PatternKind::Remap:
      return parseRemap(at);
    case PatternKind::AffineSet:
      return parseAffineSet(at);
    case PatternKind::Holds:
      return parseHolds(at);
    case PatternKind::PerHead:
      expect("(");
      expect("[");
      parseChildren(n);
      expect("]");
      expect(")");
      return build(std::move(n), at);
    default:
      return parseCoordinates(std::move(n), at);
    }
  }
  for (const PrimitiveInfo &info : primitives()) {
    if (name == info.name) {
      return parsePrimitive(info, at);
    }
  }
  std::string best;
  size_t least = std::max<size_t>(2, name.size() / 2) + 1;
  auto consider = [&](const std::string &candidate) {
    size_t distance = name.size() > 64 ? least : editDistance(name, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  };
  for (const PrimitiveInfo &info : primitives()) {
    consider(info.name);
  }
  for (const auto &entry : structured) {
    consider(entry.first);
  }
  fail(at, "expected a pattern, but got '" + name.substr(0, 64) + "'" +
               (best.empty() ? "" : "; did you mean '" + best + "'?"));
}

bool PatternParser::startsInteger() { return peekDigit() || peek("-") || peek("%") || peek("inf") || peek("end"); }

IntArg PatternParser::parseIntArg(const std::string &what) {
  if (take("inf")) {
    return {IntArg::Infinity, 0};
  }
  if (take("end")) {
    if (take("-")) {
      return {IntArg::End, parseDigits(false)};
    }
    return {IntArg::End, take("+") ? 0 - parseDigits(false) : 0};
  }
  if (peek("%")) {
    return {IntArg::Operand, parseOperand(/*isScalar=*/true)};
  }
  if (!peekDigit() && !peek("-")) {
    failExpected(what);
  }
  return parseInteger();
}

void PatternParser::parseParameters(PatternNode &n, const PrimitiveInfo &info) {
  std::vector<std::optional<IntArg>> given(info.parameters.size());
  size_t next = 0;
  bool named = false;
  while (!peek(")")) {
    size_t at = pos;
    std::string word = peekWord();
    size_t index = next;
    size_t save = pos;
    pos += word.size();
    bool isNamed = !word.empty() && !peek("==") && take("=");
    if (isNamed) {
      named = true;
      index = 0;
      while (index < info.parameters.size() && word != info.parameters[index].name) {
        ++index;
      }
      if (index == info.parameters.size()) {
        fail(at, "expected a parameter of '" + std::string(info.name) + "', but got '" + word + "'");
      }
    } else {
      pos = save;
      if (named) {
        failExpected("a named parameter");
      }
      ++next;
    }
    if (index >= info.parameters.size()) {
      fail(at, "expected at most " + counted(info.parameters.size(), "parameter") + " of '" + info.name +
                   "', but got more");
    }
    const Parameter &param = info.parameters[index];
    if (given[index]) {
      fail(at, "expected '" + std::string(param.name) + "' once, but got it again");
    }
    if (param.isFlag && (take("true") || take("True"))) {
      given[index] = 1;
    } else if (param.isFlag && (take("false") || take("False"))) {
      given[index] = 0;
    } else {
      given[index] = parseIntArg(param.isFlag ? "true or false" : "an integer for '" + std::string(param.name) + "'");
    }
    if (!take(",")) {
      break;
    }
  }
  for (size_t k = 0; k < given.size(); ++k) {
    const Parameter &param = info.parameters[k];
    if (!given[k] && !param.hasDefault) {
      failExpected("'" + std::string(param.name) + "' of '" + info.name + "'");
    }
    n.ints.push_back(given[k] ? *given[k] : param.defaultOf(n.ints));
  }
}

void PatternParser::parseList(PatternNode &n) {
  if (peek("%")) {
    n.operands.push_back(parseOperand(/*isScalar=*/false));
    return;
  }
  if (!take("[")) {
    failExpected("'[' or a run-time operand");
  }
  while (!peek("]")) {
    size_t at = pos;
    IntArg lo = parseIntArg("an integer or ']'");
    if (take("to")) {
      IntArg hi = parseIntArg("the end of a range");
      if (n.kind != PatternKind::Offsets) {
        n.ranges.push_back({lo, hi});
      } else if (lo.kind != IntArg::Literal || hi.kind != IntArg::Literal || hi.value < lo.value ||
                 static_cast<uint64_t>(hi.value) - static_cast<uint64_t>(lo.value) > 4096) {
        fail(at, "expected a range of at most 4096 literal offsets (see 'window'), but got another one");
      } else {
        for (int64_t v = lo.value; v < hi.value; ++v) {
          n.ints.push_back(v);
        }
      }
    } else if (n.kind == PatternKind::Offsets) {
      n.ints.push_back(lo);
    } else if (lo.kind == IntArg::Literal && lo.value < std::numeric_limits<int64_t>::max()) {
      n.ranges.push_back({lo, lo.value + 1});
    } else if (lo.kind == IntArg::End) {
      n.ranges.push_back({lo, {IntArg::End, lo.value - 1}});
    } else if (lo.kind == IntArg::Operand) {
      failExpected("'to' after a run-time integer (one position is 'holds(b, h, i, j : j == %n)')");
    } else {
      failExpected("'to' after 'inf' or the largest integer");
    }
    if (n.ranges.size() + n.ints.size() > maxListItems) {
      fail(at, "expected a list of at most 65536 items, but got a longer one");
    }
    if (!take(",")) {
      break;
    }
  }
  expect("]");
}

Pattern PatternParser::parsePrimitive(const PrimitiveInfo &info, size_t at) {
  PatternNode n;
  n.kind = info.kind;
  if (info.kind == PatternKind::Full) {
    return Pattern::full();
  }
  if (info.kind == PatternKind::Causal && !peek("(")) {
    n.ints = {IntArg(0)};
    return build(std::move(n), at);
  }
  expect("(");
  if (info.takesList) {
    parseList(n);
  } else if (info.operands) {
    for (int k = 0; k < info.operands; ++k) {
      if (k) {
        expect(",");
      }
      n.operands.push_back(parseOperand(/*isScalar=*/false));
    }
    for (int k = 0; k < info.children; ++k) {
      expect(",");
      n.children.push_back(parseOr());
    }
  } else {
    parseParameters(n, info);
  }
  expect(")");
  return build(std::move(n), at);
}

void PatternParser::parseChildren(PatternNode &n) {
  do {
    n.children.push_back(parseOr());
  } while (take(","));
}

Pattern PatternParser::parseCoordinates(PatternNode n, size_t at) {
  expect("(");
  n.ints.push_back(parseIntArg("an integer"));
  expect(",");
  if (n.kind == PatternKind::Coarse) {
    IntArg second = n.ints[0];
    if (startsInteger()) {
      second = parseIntArg("an integer");
      expect(",");
    }
    n.ints.push_back(second);
  }
  n.children.push_back(parseOr());
  if (n.kind == PatternKind::Grid) {
    expect(",");
    n.children.push_back(parseOr());
  }
  expect(")");
  return build(std::move(n), at);
}

std::vector<std::string> PatternParser::parseNames(const char *open, const char *close, size_t atMost) {
  std::vector<std::string> found;
  expect(open);
  if (take(close)) {
    return found;
  }
  do {
    skipSpace();
    size_t at = pos;
    std::string name = takeWord();
    if (name.empty()) {
      failExpected("a name");
    }
    if (std::find(found.begin(), found.end(), name) != found.end()) {
      fail(at, "expected distinct names, but got '" + name + "' twice");
    }
    found.push_back(name);
    if (found.size() > atMost) {
      fail(at, "expected at most " + counted(atMost, "name") + ", but got more");
    }
  } while (take(","));
  expect(close);
  return found;
}

Pattern PatternParser::parseRemap(size_t at) {
  PatternNode n;
  n.kind = PatternKind::Remap;
  expect("(");
  expect("affine_map");
  expect("<");
  std::vector<std::string> dims = parseNames("(", ")", 1);
  if (dims.size() != 1) {
    failExpected("one dimension");
  }
  expect("->");
  expect("(");
  std::map<std::string, Expr> names = {{dims[0], Expr::symbol(Sym::Query)}};
  do {
    n.exprs.push_back(parseExpr(names, /*affine=*/true));
  } while (take(","));
  expect(")");
  expect(">");
  expect(",");
  size_t childrenAt = pos;
  parseChildren(n);
  if (n.children.size() != n.exprs.size()) {
    fail(childrenAt, "expected " + counted(n.exprs.size(), "pattern") + ", one for each result of the map, but got " +
                         std::to_string(n.children.size()));
  }
  expect(")");
  return build(std::move(n), at);
}

Expr PatternParser::parseConstraint(const std::map<std::string, Expr> &names) {
  Expr a = parseExpr(names, /*affine=*/true);
  ExprKind kind;
  if (take(">=") || take("ge")) {
    kind = ExprKind::Ge;
  } else if (take("<=") || take("le")) {
    kind = ExprKind::Le;
  } else if (take("==")) {
    kind = ExprKind::Eq;
  } else {
    failExpected("'>=', '<=' or '=='");
  }
  Expr b = parseExpr(names, /*affine=*/true);
  return Expr::make(kind, {std::move(a), std::move(b)});
}

Pattern PatternParser::parseAffineSet(size_t at) {
  PatternNode n;
  n.kind = PatternKind::AffineSet;
  expect("<");
  std::vector<std::string> dims = parseNames("(", ")", 2);
  if (dims.size() != 2) {
    failExpected("two dimensions (query, key)");
  }
  std::map<std::string, Expr> names = {{dims[0], Expr::symbol(Sym::Query)}, {dims[1], Expr::symbol(Sym::Key)}};
  if (peek("[")) {
    size_t symbolsAt = pos;
    std::vector<std::string> symbols = parseNames("[", "]", 2);
    for (size_t k = 0; k < symbols.size(); ++k) {
      if (!names.emplace(symbols[k], Expr::symbol(k ? Sym::KeyEnd : Sym::QueryEnd)).second) {
        fail(symbolsAt, "expected distinct names, but got '" + symbols[k] + "' twice");
      }
    }
  }
  expect(":");
  expect("(");
  Expr condition = Expr::boolean(true);
  if (!peek(")")) {
    do {
      condition = std::move(condition) && parseConstraint(names);
      if (condition->depth > Expr::maxHeight) {
        failExpected("fewer constraints");
      }
    } while (take(","));
  }
  expect(")");
  expect(">");
  n.exprs.push_back(std::move(condition));
  return build(std::move(n), at);
}

Pattern PatternParser::parseHolds(size_t at) {
  PatternNode n;
  n.kind = PatternKind::Holds;
  expect("(");
  std::map<std::string, Expr> names = {{"nq", Expr::symbol(Sym::QueryEnd)},
                                       {"nk", Expr::symbol(Sym::KeyEnd)},
                                       {"qrow", Expr::symbol(Sym::QueryRow)},
                                       {"krow", Expr::symbol(Sym::KeyRow)}};
  const Sym order[] = {Sym::Batch, Sym::Head, Sym::Query, Sym::Key};
  std::vector<std::string> bound;
  for (Sym s : order) {
    if (s != Sym::Batch) {
      expect(",");
    }
    skipSpace();
    size_t nameAt = pos;
    std::string name = takeWord();
    if (name.empty()) {
      failExpected("a name");
    }
    if (std::find(bound.begin(), bound.end(), name) != bound.end()) {
      fail(nameAt, "expected distinct names, but got '" + name + "' twice");
    }
    bound.push_back(name);
    names[name] = Expr::symbol(s);
  }
  expect(":");
  skipSpace();
  size_t exprAt = pos;
  Expr e = parseExpr(names);
  if (e->type == ExprType::Float) {
    fail(exprAt, "expected a condition, but got a floating-point value");
  }
  n.exprs.push_back(e->type == ExprType::Bool ? e : notEqual(e, Expr(0)));
  expect(")");
  return build(std::move(n), at);
}

std::variant<Pattern, PatternError> parse(const std::string &text, const OperandResolver &resolve, bool verifies) {
  try {
    PatternParser parser(text, resolve, verifies);
    Pattern p = parser.parseOr();
    parser.expectEnd();
    return p;
  } catch (const ParseFailure &f) {
    return PatternError{f.offset, f.message};
  } catch (const std::length_error &e) {
    return PatternError{0, e.what()};
  }
}

} // namespace

std::variant<Pattern, PatternError> parsePattern(const std::string &text, const OperandResolver &resolve) {
  return parse(text, resolve, /*verifies=*/false);
}

std::variant<Pattern, PatternError> parseVerified(const std::string &text, const OperandResolver &resolve) {
  return parse(text, resolve, /*verifies=*/true);
}

} // namespace heddle
