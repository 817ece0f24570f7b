//===- TextParser.h - Cursor and expression grammar -----------------------===//
//
// What the parsers of patterns and of schedules share: a cursor over the text
// (there are no tokens: `<`, `-` and `%` mean different things in different
// places) and the grammar of scalar expressions. Nesting is limited, so that
// hostile text cannot exhaust the stack. Failures are thrown inside and turned
// into a PatternError at the entry points.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_TEXTPARSER_H
#define HEDDLE_DIALECT_TEXTPARSER_H

#include "dialect/Pattern.h"

#include <map>
#include <string_view>

namespace heddle {

/// Thrown by the parsers; never leaves this library.
struct ParseFailure {
  size_t offset;
  std::string message;
};

class TextParser {
public:
  TextParser(const std::string &text, const OperandResolver &resolve) : text(text), resolve(resolve) {}

  /// A scalar expression with Python's precedence. `names` gives the meaning of
  /// identifiers; `affine` allows only what MLIR's affine expressions have.
  Expr parseExpr(const std::map<std::string, Expr> &names, bool affine = false);

  /// Fails unless only space is left.
  void expectEnd();

  [[noreturn]] void fail(size_t offset, std::string message) const;
  /// "expected WHAT, but got ..." at the next token.
  [[noreturn]] void failExpected(const std::string &what);

protected:
  /// Enters one level of nesting for as long as it lives.
  struct Nest {
    TextParser &p;
    explicit Nest(TextParser &p);
    ~Nest() { --p.depth; }
  };

  void skipSpace();
  bool atEnd();
  /// The next token, quoted, for messages.
  std::string describeNext();
  /// Takes `token` if it is next (a word only if it ends there).
  bool take(std::string_view token);
  bool peek(std::string_view token);
  void expect(std::string_view token);
  /// The identifier that is next, or empty; `peekWord` leaves it there.
  std::string peekWord();
  std::string takeWord();
  /// Unsigned digits; fails past 2^63 (`negated` allows 2^63 itself).
  int64_t parseDigits(bool negated);
  int64_t parseInteger();
  bool peekDigit();
  /// `%name`, resolved.
  int64_t parseOperand(bool isScalar);

  const std::string &text;
  const OperandResolver &resolve;
  size_t pos = 0;
  int depth = 0;

private:
  struct Operator {
    ExprKind kind;
    int precedence;
    size_t length;
  };

  std::optional<Operator> peekOperator();
  Expr parseBinary(int precedence);
  Expr parseUnary();
  Expr parsePrimary();
  Expr parseNumber();
  Expr parseCall(const std::string &name, size_t at);
  Expr parseOperandExpr(ExprType type);
  Expr combine(ExprKind kind, Expr a, Expr b, size_t at);
  void checkAffine(ExprKind kind, const Expr &a, const Expr &b, size_t at);
  void requireInteger(const Expr &e, size_t at);

  const std::map<std::string, Expr> *names = nullptr;
  bool affine = false;
  std::optional<size_t> bits; ///< where the expression just parsed has its `&` or `|`, unless parentheses close it
};

} // namespace heddle

#endif // HEDDLE_DIALECT_TEXTPARSER_H
