//===- TextParser.cpp - Cursor and expression grammar ---------------------===//
//
// Precedence climbing over a cursor. Precedence is Python's, lowest first:
//   or, and, not, comparisons, |, ^, &, shifts, + -, * / floordiv mod, unary.
// Comparisons chain as in Python: 0 <= x < 5 is (0 <= x) & (x < 5).
//
//===----------------------------------------------------------------------===//
#include "dialect/TextParser.h"

#include "dialect/ExprArithmetic.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <limits>

namespace heddle {

namespace {

constexpr int maxNesting = 1400;
constexpr uint32_t maxHeight = Expr::maxHeight;

bool isWordStart(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool isDigit(char c) { return std::isdigit(static_cast<unsigned char>(c)); }
bool isWordChar(char c) { return isWordStart(c) || isDigit(c); }

enum : int {
  PrecOr = 1,
  PrecAnd,
  PrecNot,
  PrecCompare,
  PrecBitOr,
  PrecBitXor,
  PrecBitAnd,
  PrecShift,
  PrecAdd,
  PrecMul,
};

struct OperatorText {
  const char *text;
  ExprKind kind;
  int precedence;
};

// Longer spellings come before their prefixes.
constexpr OperatorText operatorTexts[] = {
    {"or", ExprKind::Or, PrecOr},
    {"and", ExprKind::And, PrecAnd},
    {"<<", ExprKind::Shl, PrecShift},
    {">>", ExprKind::Shr, PrecShift},
    {"shl", ExprKind::Shl, PrecShift},
    {"shr", ExprKind::Shr, PrecShift},
    {"<=", ExprKind::Le, PrecCompare},
    {">=", ExprKind::Ge, PrecCompare},
    {"==", ExprKind::Eq, PrecCompare},
    {"!=", ExprKind::Ne, PrecCompare},
    {"<", ExprKind::Lt, PrecCompare},
    {">", ExprKind::Gt, PrecCompare},
    {"le", ExprKind::Le, PrecCompare},
    {"ge", ExprKind::Ge, PrecCompare},
    {"lt", ExprKind::Lt, PrecCompare},
    {"gt", ExprKind::Gt, PrecCompare},
    {"|", ExprKind::Or, PrecBitOr},
    {"^", ExprKind::Xor, PrecBitXor},
    {"&", ExprKind::And, PrecBitAnd},
    {"+", ExprKind::Add, PrecAdd},
    {"-", ExprKind::Sub, PrecAdd},
    {"*", ExprKind::Mul, PrecMul},
    {"//", ExprKind::FloorDiv, PrecMul},
    {"/", ExprKind::Div, PrecMul},
    {"floordiv", ExprKind::FloorDiv, PrecMul},
    {"mod", ExprKind::Mod, PrecMul},
    {"%", ExprKind::Mod, PrecMul},
};

constexpr ExprKind ceilDivKind = ExprKind::Neg; // Stands for ceildiv between the parser's parts.

struct FunctionText {
  const char *name;
  ExprKind kind;
  int arity; // 0: two or more, folded; -n: n or more, the first of which is a whole operand.
};

constexpr FunctionText functionTexts[] = {
    {"min", ExprKind::Min, 0},        {"max", ExprKind::Max, 0},         {"minimum", ExprKind::Min, 0},
    {"maximum", ExprKind::Max, 0},    {"abs", ExprKind::Abs, 1},         {"select", ExprKind::Select, 3},
    {"where", ExprKind::Select, 3},   {"exp", ExprKind::Exp, 1},         {"exp2", ExprKind::Exp2, 1},
    {"log", ExprKind::Log, 1},        {"sqrt", ExprKind::Sqrt, 1},       {"tanh", ExprKind::Tanh, 1},
    {"floor", ExprKind::Floor, 1},    {"sigmoid", ExprKind::Sigmoid, 1}, {"erf", ExprKind::Erf, 1},
    {"sin", ExprKind::Sin, 1},        {"cos", ExprKind::Cos, 1},         {"member", ExprKind::Member, -4},
    {"search", ExprKind::Search, -2}, {"size", ExprKind::Size, -2},      {"draw", ExprKind::Draw, 4},
    {"drawn", ExprKind::Drawn, 5},
};

} // namespace

TextParser::Nest::Nest(TextParser &p) : p(p) {
  if (p.depth >= maxNesting) {
    p.fail(p.pos, "expected nesting of at most " + std::to_string(maxNesting) + " levels, but got more");
  }
  ++p.depth;
}

void TextParser::fail(size_t offset, std::string message) const {
  throw ParseFailure{std::min(offset, text.size()), std::move(message)};
}

void TextParser::failExpected(const std::string &what) {
  std::string got = describeNext();
  fail(pos, "expected " + what + ", but got " + got);
}

void TextParser::skipSpace() {
  while (pos < text.size() && std::isspace(static_cast<unsigned char>(text[pos]))) {
    ++pos;
  }
}

bool TextParser::atEnd() {
  skipSpace();
  return pos >= text.size();
}

void TextParser::expectEnd() {
  if (!atEnd()) {
    const std::string word = peekWord();
    const bool spelled = word == "and" || word == "or" || word == "not";
    failExpected(spelled ? "&, |, - or the end of the text" : "the end of the text");
  }
}

std::string TextParser::describeNext() {
  if (atEnd()) {
    return "the end of the text";
  }
  size_t end = pos + 1;
  if (isWordChar(text[pos]) || text[pos] == '%') {
    while (end < text.size() && end - pos < 40 && isWordChar(text[end])) {
      ++end;
    }
  }
  // A letter beyond ASCII is shown as a whole.
  auto lead = static_cast<unsigned char>(text[pos]);
  size_t length = lead >= 0xF0 && lead < 0xF8 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
  auto continues = [&](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  bool whole = length > 1 && lead < 0xF8 && pos + length <= text.size() &&
               std::all_of(text.begin() + static_cast<ptrdiff_t>(pos) + 1,
                           text.begin() + static_cast<ptrdiff_t>(pos + length), continues);
  std::string token = text.substr(pos, whole ? length : end - pos);
  if (!whole && !std::isprint(lead)) {
    return "byte " + std::to_string(lead);
  }
  return "'" + token + "'";
}

bool TextParser::peek(std::string_view token) {
  skipSpace();
  if (text.compare(pos, token.size(), token) != 0) {
    return false;
  }
  size_t end = pos + token.size();
  return !isWordStart(token[0]) || end >= text.size() || !isWordChar(text[end]);
}

bool TextParser::take(std::string_view token) {
  if (!peek(token)) {
    return false;
  }
  pos += token.size();
  return true;
}

void TextParser::expect(std::string_view token) {
  if (!take(token)) {
    failExpected("'" + std::string(token) + "'");
  }
}

std::string TextParser::peekWord() {
  skipSpace();
  size_t end = pos;
  if (end < text.size() && isWordStart(text[end])) {
    while (end < text.size() && isWordChar(text[end])) {
      ++end;
    }
  }
  return text.substr(pos, end - pos);
}

std::string TextParser::takeWord() {
  std::string word = peekWord();
  pos += word.size();
  return word;
}

bool TextParser::peekDigit() {
  skipSpace();
  return pos < text.size() && isDigit(text[pos]);
}

int64_t TextParser::parseDigits(bool negated) {
  if (!peekDigit()) {
    failExpected("an integer");
  }
  size_t start = pos;
  uint64_t limit = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + negated;
  uint64_t value = 0;
  for (; pos < text.size() && isDigit(text[pos]); ++pos) {
    uint64_t digit = static_cast<uint64_t>(text[pos] - '0');
    if (value > (limit - digit) / 10) {
      fail(start, "expected an integer of 64 bits, but got a larger one");
    }
    value = value * 10 + digit;
  }
  if (pos < text.size() && (isWordStart(text[pos]) || text[pos] == '.')) {
    size_t end = pos;
    while (end < text.size() && end - start < 40 && (isWordChar(text[end]) || text[end] == '.')) {
      ++end;
    }
    fail(start, "expected an integer, but got '" + text.substr(start, end - start) + "'");
  }
  return static_cast<int64_t>(negated ? 0 - value : value);
}

int64_t TextParser::parseInteger() {
  bool negated = take("-");
  return parseDigits(negated);
}

int64_t TextParser::parseOperand(bool isScalar) {
  skipSpace();
  size_t start = pos;
  if (!take("%")) {
    failExpected("a run-time operand such as %x");
  }
  size_t end = pos;
  while (end < text.size() && (isWordChar(text[end]) || text[end] == '$' || text[end] == '.' || text[end] == '#')) {
    ++end;
  }
  std::string name = text.substr(pos, end - pos);
  pos = end;
  int64_t number = -1;
  if (resolve) {
    number = name.empty() ? -1 : resolve(name, isScalar);
  } else if (!name.empty() && name.size() < 10 && std::all_of(name.begin(), name.end(), isDigit)) {
    number = std::atoll(name.c_str());
  }
  if (number < 0) {
    fail(start, "expected the name of an operand, but got '%" + name + "'");
  }
  return number;
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Expr TextParser::parseExpr(const std::map<std::string, Expr> &meaning, bool onlyAffine) {
  const auto *outerNames = names;
  bool outerAffine = affine;
  names = &meaning;
  affine = onlyAffine;
  Expr e = parseBinary(onlyAffine ? PrecAdd : PrecOr);
  names = outerNames;
  affine = outerAffine;
  return e;
}

std::optional<TextParser::Operator> TextParser::peekOperator() {
  skipSpace();
  if (affine && peek("ceildiv")) {
    return Operator{ceilDivKind, PrecMul, 7};
  }
  for (const OperatorText &o : operatorTexts) {
    if (peek(o.text)) {
      return Operator{o.kind, o.precedence, std::string_view(o.text).size()};
    }
  }
  return std::nullopt;
}

void TextParser::requireInteger(const Expr &e, size_t at) {
  if (e->type == ExprType::Float) {
    fail(at, "expected an integer or a condition, but got a floating-point value");
  }
}

void TextParser::checkAffine(ExprKind kind, const Expr &a, const Expr &b, size_t at) {
  bool constA = a->kind == ExprKind::Int, constB = b->kind == ExprKind::Int;
  if (kind == ExprKind::Mul && !constA && !constB) {
    fail(at, "expected a product with a constant, but got a product of two variables");
  }
  if ((kind == ExprKind::FloorDiv || kind == ExprKind::Mod || kind == ceilDivKind) && (!constB || b->value <= 0)) {
    fail(at, "expected a positive constant as the divisor, but got " + b.str());
  }
  if (kind == ExprKind::Div) {
    fail(at, "expected an affine operator, but got '/'");
  }
}

Expr TextParser::combine(ExprKind kind, Expr a, Expr b, size_t at) {
  if (affine) {
    checkAffine(kind, a, b, at);
    if (kind == ceilDivKind) { // ceil(a / b) = -floor(-a / b)
      return Expr::make(ExprKind::Neg, {floorDiv(Expr::make(ExprKind::Neg, {a}), b)});
    }
  }
  if (kind == ExprKind::And || kind == ExprKind::Or || kind == ExprKind::Xor || kind == ExprKind::Shl ||
      kind == ExprKind::Shr) {
    requireInteger(a, at);
    requireInteger(b, at);
  }
  if (std::max(a->depth, b->depth) >= maxHeight) {
    fail(at, "expected an expression at most " + std::to_string(maxHeight) + " operators high, but got a higher one");
  }
  return Expr::make(kind, {std::move(a), std::move(b)});
}

Expr TextParser::parseBinary(int precedence) {
  Nest nest(*this);
  Expr left = parseUnary();
  Expr previous; // Right operand of the comparison just taken, for chains.
  std::optional<size_t> previousBits, ownBits;
  while (std::optional<Operator> op = peekOperator()) {
    if (op->precedence < precedence) {
      break;
    }
    size_t at = pos;
    pos += op->length;
    if (op->length == 1 && (text[at] == '&' || text[at] == '|') && text.compare(pos, 1, text, at, 1) == 0) {
      fail(at, std::string("expected '") + (text[at] == '&' ? "and" : "or") + "' between conditions, but got '" +
                   text.substr(at, 2) + "'");
    }
    Expr right = parseBinary(op->precedence + 1);
    const std::optional<size_t> rightBits = bits;
    if (isComparison(op->kind)) {
      if (previous && previousBits) {
        fail(*previousBits, std::string("expected 'and', 'or' or parentheses between two comparisons, but got '") +
                                text[*previousBits] + "', which binds tighter than they do");
      }
      previousBits = rightBits;
      Expr condition = combine(op->kind, previous ? previous : left, right, at);
      left = previous ? combine(ExprKind::And, left, condition, at) : condition;
      previous = right;
      ownBits.reset();
      continue;
    }
    previous = Expr();
    if (op->precedence <= PrecAnd) { // `and`, `or` take truth values.
      auto truth = [](Expr e) { return e->type == ExprType::Bool ? e : notEqual(std::move(e), Expr(0)); };
      left = truth(std::move(left));
      right = truth(std::move(right));
    }
    left = combine(op->kind, std::move(left), std::move(right), at);
    const bool isBits = op->precedence >= PrecBitOr && op->precedence <= PrecBitAnd;
    ownBits = isBits ? std::optional(at) : std::nullopt;
  }
  bits = ownBits;
  return left;
}

Expr TextParser::parseUnary() {
  skipSpace();
  size_t at = pos;
  auto unary = [&](ExprKind kind, Expr a) {
    if (kind == ExprKind::Not) {
      requireInteger(a, at);
    }
    if (a->depth >= maxHeight) {
      fail(at, "expected a lower expression, but got too many operators");
    }
    return Expr::make(kind, {std::move(a)});
  };
  if (take("-")) {
    Nest nest(*this);
    if (peekDigit()) {
      size_t start = pos;
      while (pos < text.size() && isDigit(text[pos])) {
        ++pos;
      }
      bool real = pos < text.size() && (text[pos] == '.' || text[pos] == 'e' || text[pos] == 'E');
      pos = start;
      if (!real) {
        return Expr(parseDigits(/*negated=*/true));
      }
    }
    return unary(ExprKind::Neg, parseUnary());
  }
  if (!affine && take("~")) {
    Nest nest(*this);
    return unary(ExprKind::Not, parseUnary());
  }
  if (!affine && take("not")) {
    Expr a = parseBinary(PrecCompare);
    if (a->type != ExprType::Bool) {
      a = combine(ExprKind::Ne, a, Expr(0), at);
    }
    return unary(ExprKind::Not, a);
  }
  if (!affine && take("+")) {
    Nest nest(*this);
    return parseUnary();
  }
  return parsePrimary();
}

Expr TextParser::parseNumber() {
  size_t end = pos;
  auto digits = [&] {
    while (end < text.size() && isDigit(text[end])) {
      ++end;
    }
  };
  digits();
  bool real = false;
  if (end < text.size() && text[end] == '.') {
    real = true;
    ++end;
    digits();
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t mark = end + 1;
    if (mark < text.size() && (text[mark] == '+' || text[mark] == '-')) {
      ++mark;
    }
    if (mark < text.size() && isDigit(text[mark])) {
      real = true;
      end = mark;
      digits();
    }
  }
  if (!real || affine) {
    return Expr(parseDigits(/*negated=*/false));
  }
  double value = std::strtod(text.substr(pos, end - pos).c_str(), nullptr);
  pos = end;
  return Expr::number(value);
}

Expr TextParser::parseOperandExpr(ExprType type) {
  size_t at = pos;
  skipSpace();
  size_t start = pos;
  // A load or a scalar? The resolver is told which, so look past the name.
  size_t end = start + 1;
  while (end < text.size() && (isWordChar(text[end]) || text[end] == '$' || text[end] == '.' || text[end] == '#')) {
    ++end;
  }
  while (end < text.size() && std::isspace(static_cast<unsigned char>(text[end]))) {
    ++end;
  }
  bool isLoad = end < text.size() && text[end] == '[';
  int64_t operand = parseOperand(!isLoad);
  if (!isLoad) {
    if (type != ExprType::Int) {
      fail(at, "expected a load, but got a run-time integer");
    }
    return Expr::scalar(operand);
  }
  expect("[");
  std::vector<Expr> indices;
  if (!peek("]")) {
    do {
      skipSpace();
      size_t where = pos;
      indices.push_back(parseBinary(PrecOr));
      if (indices.back()->type == ExprType::Float) {
        fail(where, "expected an integer index, but got a floating-point value");
      }
    } while (take(","));
  }
  expect("]");
  return Expr::load(operand, std::move(indices), type);
}

Expr TextParser::parseCall(const std::string &name, size_t at) {
  if (name == "float" || name == "bool" || name == "int") {
    expect("(");
    if (!peek("%")) {
      failExpected("a load from an operand");
    }
    Expr e = parseOperandExpr(name == "float" ? ExprType::Float : name == "bool" ? ExprType::Bool : ExprType::Int);
    expect(")");
    return e;
  }
  for (const FunctionText &f : functionTexts) {
    // A schedule has draws; what users write has random_blocks.
    const bool isDraw = f.kind == ExprKind::Draw || f.kind == ExprKind::Drawn;
    if (name != f.name || (isDraw && names->count(spelling(Sym::Choice)) == 0)) {
      continue;
    }
    expect("(");
    std::vector<Expr> args;
    do {
      args.push_back(parseBinary(PrecOr));
    } while (take(","));
    expect(")");
    int count = static_cast<int>(args.size());
    if (f.arity < 0 && (args[0]->kind != ExprKind::Load || !args[0]->args.empty())) {
      fail(at, "expected an operand without indices as the first argument of '" + name + "', but got " + args[0].str());
    }
    if (f.arity > 0 ? count != f.arity : count < std::max(2, -f.arity)) {
      fail(at, "expected " +
                   (f.arity > 0 ? std::to_string(f.arity) : "at least " + std::to_string(std::max(2, -f.arity))) +
                   " arguments of '" + name + "', but got " + std::to_string(count));
    }
    for (const Expr &a : args) {
      if (a->depth >= maxHeight) {
        fail(at, "expected a lower expression, but got too many operators");
      }
    }
    if (f.arity != 0) {
      return Expr::make(f.kind, std::move(args));
    }
    Expr e = args[0];
    for (size_t k = 1; k < args.size(); ++k) {
      e = combine(f.kind, std::move(e), args[k], at);
    }
    return e;
  }
  fail(at, "expected a name or a function, but got '" + name + "'");
}

Expr TextParser::parsePrimary() {
  skipSpace();
  size_t at = pos;
  if (take("(")) {
    Expr e = parseBinary(affine ? PrecAdd : PrecOr);
    expect(")");
    return e;
  }
  if (peekDigit()) {
    return parseNumber();
  }
  if (!affine && peek("%")) {
    return parseOperandExpr(ExprType::Int);
  }
  std::string word = takeWord();
  if (word.empty() && peek("!")) {
    fail(at, "expected 'not' in front of a condition, but got '!'");
  }
  if (word.empty()) {
    failExpected("an expression");
  }
  if (auto it = names->find(word); it != names->end()) {
    return it->second;
  }
  if (!affine) {
    if (word == "true" || word == "True" || word == "false" || word == "False") {
      return Expr::boolean(word[0] == 't' || word[0] == 'T');
    }
    if (word == "inf" || word == "nan") {
      return Expr::number(word == "inf" ? std::numeric_limits<double>::infinity()
                                        : std::numeric_limits<double>::quiet_NaN());
    }
    return parseCall(word, at);
  }
  fail(at, "expected a dimension or a symbol, but got '" + word + "'");
}

} // namespace heddle
