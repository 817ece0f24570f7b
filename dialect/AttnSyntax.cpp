//===- AttnSyntax.cpp - Text form of attn.attend --------------------------===//
//
// Parses and prints
//
//   %o = attn.attend %q segment(%k, %v) where(causal & same(%d, %d))
//     : tensor<...> segment(tensor<...>, tensor<...>) operands(tensor<...>) -> tensor<...>
//
// The grammar is in the op's description (AttnOps.td). Patterns are read as raw
// text (RawText.h), so an error in one is reported at its column in the file.
//
//===----------------------------------------------------------------------===//
#include "dialect/Attn.h"
#include "dialect/RawText.h"

#include "mlir/IR/Builders.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

using Operand = OpAsmParser::UnresolvedOperand;

//===----------------------------------------------------------------------===//
// Parsing
//===----------------------------------------------------------------------===//

namespace {

/// A literal or a value; neither where not given.
struct NumberOrOperand {
  std::optional<double> number;
  std::optional<int64_t> integer;
  std::optional<Operand> operand;
  bool given() const { return number || integer || operand; }
};

struct ParsedSegment {
  Operand key, value;
  PatternAttr pattern;
  NumberOrOperand kOffset, scale;
  int64_t dotCount = -1;
  std::unique_ptr<Region> score;
};

/// Parses one attend. Members are in the order of the text.
class AttendParser {
public:
  AttendParser(OpAsmParser &parser, OperationState &result) : parser(parser), result(result) {}

  ParseResult run();

private:
  ParseResult parseSegment();
  ParseResult parsePatternText(ParsedSegment &segment);
  ParseResult parseDots(ParsedSegment &segment);
  ParseResult parseScore(ParsedSegment &segment);
  ParseResult parseClauses();
  OptionalParseResult parseClause();
  ParseResult parseNumber(StringRef clause, NumberOrOperand &out, bool *end = nullptr);
  ParseResult parseNormalizer();
  ParseResult parseAttributes();
  ParseResult parseTypes();
  ParseResult resolve();
  ParseResult checkOnce(bool given, SMLoc loc, StringRef clause);

  /// Notes a `%name` whose type stands in `operands(...)`.
  void note(const Operand &operand) { named.insert({{operand.name, operand.number}, operand}); }
  ParseResult resolveOne(const Operand &operand, SmallVectorImpl<Value> &values);
  template <typename Range> ParseResult resolveGroup(Range &&operands, int64_t &count);

  OpAsmParser &parser;
  OperationState &result;
  Builder &builder = parser.getBuilder();

  Operand q;
  SmallVector<ParsedSegment, 1> segments;
  NumberOrOperand scale, qOffset;
  bool qOffsetEnd = false, hasCaptures = false, wantsLse = false;
  std::optional<Normalizer> normalizer;
  SmallVector<Operand> patternOperands, captures, dotQueries, dotKeys;
  SmallVector<int64_t> dotShifts;
  std::optional<Operand> sink;
  ScheduleAttr schedule;

  /// Every name in order of first appearance, except q, keys and values.
  llvm::MapVector<std::pair<StringRef, unsigned>, Operand> named;
  llvm::DenseMap<std::pair<StringRef, unsigned>, Type> types;
  SmallVector<Type> resultTypes;
};

} // namespace

ParseResult AttendParser::checkOnce(bool given, SMLoc loc, StringRef clause) {
  if (given) {
    return parser.emitError(loc, "expected '") << clause << "' at most once, but got it again";
  }
  return success();
}

/// `text`, a `%name` or `%name#n`, as an operand; its location is where it stands.
static std::optional<Operand> asOperand(StringRef text) {
  auto isNameChar = [](char c) { return llvm::isAlnum(c) || StringRef("_$.-").contains(c); };
  auto [base, number] = text.split('#');
  Operand operand{SMLoc::getFromPointer(text.data()), base, 0};
  if (base.size() < 2 || base.front() != '%' || !llvm::all_of(base.drop_front(), isNameChar) ||
      (base.size() < text.size() && number.getAsInteger(10, operand.number))) {
    return std::nullopt;
  }
  return operand;
}

/// `(` a literal or a value `)`. Raw text, because MLIR's tokens tell 1 from 1.0.
ParseResult AttendParser::parseNumber(StringRef clause, NumberOrOperand &out, bool *end) {
  StringRef text;
  if (parseRawParenthesized(parser, text)) {
    return failure();
  }
  text = text.trim();
  bool isScale = clause == "scale";
  int64_t integer = 0;
  double number = 0;
  if (end && text == "end") {
    *end = true;
  } else if (std::optional<Operand> operand = asOperand(text)) {
    note(*operand);
    out.operand = operand;
  } else if (isScale && !text.getAsDouble(number, /*AllowInexact=*/true)) {
    out.number = number;
  } else if (!isScale && !text.getAsInteger(10, integer)) {
    out.integer = integer;
  } else {
    return parser.emitError(SMLoc::getFromPointer(text.data()), "expected ")
           << (isScale ? "a number" : "an integer") << (end ? ", a value or end as " : " or a value as ") << clause
           << ", but got '" << text << "'";
  }
  return success();
}

/// The `%name` in `text` that a pattern calls `name`, with its location.
static Operand findOperand(StringRef text, StringRef name) {
  name.consume_front("%");
  auto isName = [](char c) { return llvm::isAlnum(c) || StringRef("_$.-#").contains(c); };
  for (size_t at = text.find('%'); at != StringRef::npos; at = text.find('%', at + 1)) {
    StringRef rest = text.substr(at + 1);
    if (rest.starts_with(name) && (rest.size() == name.size() || !isName(rest[name.size()]))) {
      auto [base, number] = rest.take_front(name.size()).split('#');
      Operand operand{SMLoc::getFromPointer(rest.data() - 1), StringRef(rest.data() - 1, base.size() + 1), 0};
      (void)number.getAsInteger(10, operand.number);
      return operand;
    }
  }
  return {SMLoc::getFromPointer(text.data()), text.take_front(0), 0};
}

ParseResult AttendParser::parsePatternText(ParsedSegment &segment) {
  StringRef text;
  if (parseRawParenthesized(parser, text)) {
    return failure();
  }
  auto resolveName = [&](const std::string &name, bool) -> int64_t {
    Operand operand = findOperand(text, name);
    for (auto [n, known] : llvm::enumerate(patternOperands)) {
      if (known.name == operand.name && known.number == operand.number) {
        return static_cast<int64_t>(n);
      }
    }
    note(operand);
    patternOperands.push_back(operand);
    return static_cast<int64_t>(patternOperands.size()) - 1;
  };
  auto parsed = parseVerified(text.str(), resolveName); // attend_c20
  if (auto *error = std::get_if<PatternError>(&parsed)) {
    size_t offset = std::min(error->offset, text.size());
    return parser.emitError(SMLoc::getFromPointer(text.data() + offset), error->message);
  }
  segment.pattern = PatternAttr::get(parser.getContext(), std::get<heddle::Pattern>(parsed));
  return success();
}

/// `(` (q `,` k (`;` q `,` k)*)? `)`, read as raw text: MLIR's lexer has no `;`.
ParseResult AttendParser::parseDots(ParsedSegment &segment) {
  StringRef text;
  if (parseRawParenthesized(parser, text)) {
    return failure();
  }
  segment.dotCount = 0;
  // `r[i - j + c]`: the shift c; leaves r.
  auto takeShift = [](StringRef &side) -> std::optional<int64_t> {
    StringRef inner = side.trim();
    size_t open = inner.find('[');
    if (open == StringRef::npos || !inner.consume_back("]")) {
      return std::nullopt;
    }
    std::string index;
    llvm::copy_if(inner.drop_front(open + 1), std::back_inserter(index), [](char c) { return !isspace(c); });
    StringRef rest(index);
    int64_t shift = 0;
    if (!rest.consume_front("i-j") || (!rest.empty() && (rest.consume_front("+") || rest.front() == '-') == false) ||
        (!rest.empty() && rest.getAsInteger(10, shift))) {
      return std::nullopt;
    }
    side = inner.take_front(open);
    return shift;
  };
  auto parseSide = [&](StringRef side, Operand &operand) -> ParseResult {
    std::optional<Operand> named = asOperand(side.trim());
    if (!named) {
      return parser.emitError(SMLoc::getFromPointer(side.trim().data()),
                              "expected a value as a side of a dot, but got '")
             << side.trim() << "'";
    }
    operand = *named;
    note(operand);
    return success();
  };
  for (StringRef rest = text; !rest.trim().empty();) {
    StringRef pair = rest.split(';').first;
    if (!pair.contains(',')) {
      return parser.emitError(SMLoc::getFromPointer(pair.trim().data()),
                              "expected two values separated by ',' for each dot, but got '")
             << pair.trim() << "'";
    }
    auto [query, key] = pair.split(',');
    dotShifts.push_back(takeShift(key).value_or(AttendOp::kNoShift));
    if (parseSide(query, dotQueries.emplace_back()) || parseSide(key, dotKeys.emplace_back())) {
      return failure();
    }
    ++segment.dotCount;
    rest = rest.drop_front(pair.size());
    rest.consume_front(";");
  }
  return success();
}

ParseResult AttendParser::parseScore(ParsedSegment &segment) {
  segment.score = std::make_unique<Region>();
  SmallVector<OpAsmParser::Argument> arguments;
  SMLoc loc = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalLParen())) {
    if (parser.parseArgumentList(arguments) || parser.parseRParen()) {
      return failure();
    }
    size_t dots = segment.dotCount < 0 ? 1 : segment.dotCount;
    if (arguments.size() != dots + 4) {
      return parser.emitError(loc, "expected ")
             << dots + 4 << " names, one for each dot and then b, h, i, j, but got " << arguments.size();
    }
    for (auto [n, argument] : llvm::enumerate(arguments)) {
      argument.type = n < dots ? Type(builder.getF32Type()) : builder.getIndexType();
    }
  }
  return parser.parseRegion(*segment.score, arguments);
}

ParseResult AttendParser::parseSegment() {
  ParsedSegment &segment = segments.emplace_back();
  if (parser.parseLParen() || parser.parseOperand(segment.key) || parser.parseComma() ||
      parser.parseOperand(segment.value) || parser.parseRParen()) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("where"))) {
    if (parsePatternText(segment)) {
      return failure();
    }
  } else {
    segment.pattern = PatternAttr::get(parser.getContext(), heddle::Pattern::full());
  }
  if (succeeded(parser.parseOptionalKeyword("k_offset")) && parseNumber("k_offset", segment.kOffset)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("scale")) && parseNumber("scale", segment.scale)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("dots")) && parseDots(segment)) {
    return failure();
  }
  if (succeeded(parser.parseOptionalKeyword("score")) && parseScore(segment)) {
    return failure();
  }
  return success();
}

ParseResult AttendParser::parseNormalizer() {
  SMLoc loc;
  StringRef keyword;
  if (parser.parseLParen() || parser.getCurrentLocation(&loc) || parser.parseKeyword(&keyword)) {
    return failure();
  }
  normalizer = symbolizeNormalizer(keyword);
  if (!normalizer) {
    return parser.emitError(loc, "expected softmax, none or sum, but got '") << keyword << "'";
  }
  return parser.parseRParen();
}

OptionalParseResult AttendParser::parseClause() {
  SMLoc loc = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalKeyword("scale"))) {
    return failure(checkOnce(scale.given(), loc, "scale") || parseNumber("scale", scale));
  }
  if (succeeded(parser.parseOptionalKeyword("q_offset"))) {
    return failure(checkOnce(qOffset.given() || qOffsetEnd, loc, "q_offset") ||
                   parseNumber("q_offset", qOffset, &qOffsetEnd));
  }
  if (succeeded(parser.parseOptionalKeyword("captures"))) {
    if (checkOnce(hasCaptures, loc, "captures") || parser.parseOperandList(captures, OpAsmParser::Delimiter::Paren)) {
      return failure();
    }
    hasCaptures = true;
    llvm::for_each(captures, [&](const Operand &operand) { note(operand); });
    return success();
  }
  if (succeeded(parser.parseOptionalKeyword("sink"))) {
    Operand operand;
    if (checkOnce(sink.has_value(), loc, "sink") || parser.parseLParen() || parser.parseOperand(operand)) {
      return failure();
    }
    note(operand);
    sink = operand;
    return parser.parseRParen();
  }
  if (succeeded(parser.parseOptionalKeyword("normalizer"))) {
    return failure(checkOnce(normalizer.has_value(), loc, "normalizer") || parseNormalizer());
  }
  if (succeeded(parser.parseOptionalKeyword("lse"))) {
    if (checkOnce(wantsLse, loc, "lse")) {
      return failure();
    }
    wantsLse = true;
    return success();
  }
  return std::nullopt;
}

ParseResult AttendParser::parseClauses() {
  while (true) {
    OptionalParseResult clause = parseClause();
    if (!clause.has_value()) {
      return success();
    }
    if (failed(*clause)) {
      return failure();
    }
  }
}

ParseResult AttendParser::parseAttributes() {
  SMLoc loc = parser.getCurrentLocation();
  NamedAttrList attributes;
  if (parser.parseOptionalAttrDict(attributes)) {
    return failure();
  }
  if (Attribute given = attributes.erase("schedule")) {
    schedule = dyn_cast<ScheduleAttr>(given);
    if (!schedule) {
      return parser.emitError(loc, "expected #attn.schedule<...> as schedule, but got ") << given;
    }
  }
  for (StringRef name : AttendOp::getAttributeNames()) {
    if (attributes.get(name)) {
      return parser.emitError(loc, "expected a clause for '") << name << "', but got an attribute";
    }
  }
  result.addAttributes(attributes);
  return success();
}

ParseResult AttendParser::parseTypes() {
  auto set = [&](const Operand &operand, Type type, SMLoc loc) -> ParseResult {
    Type &known = types[{operand.name, operand.number}];
    if (known && known != type) {
      return parser.emitError(loc, "expected ") << operand.name << " to keep type " << known << ", but got " << type;
    }
    known = type;
    return success();
  };
  auto parseOne = [&](const Operand &operand) -> ParseResult {
    SMLoc loc = parser.getCurrentLocation();
    Type type;
    return failure(parser.parseType(type) || set(operand, type, loc));
  };

  if (parser.parseColon() || parseOne(q)) {
    return failure();
  }
  for (ParsedSegment &segment : segments) {
    if (parser.parseKeyword("segment") || parser.parseLParen() || parseOne(segment.key) || parser.parseComma() ||
        parseOne(segment.value) || parser.parseRParen()) {
      return failure();
    }
  }

  // The rest by order of first appearance; those typed above are not repeated.
  SmallVector<Operand> rest;
  for (auto &[name, operand] : named) {
    if (!types.contains(name)) {
      rest.push_back(operand);
    }
  }
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<Type> given;
  if (succeeded(parser.parseOptionalKeyword("operands"))) {
    if (parser.parseLParen() || parser.parseTypeList(given) || parser.parseRParen()) {
      return failure();
    }
  }
  if (given.size() != rest.size()) {
    InFlightDiagnostic diag = parser.emitError(loc, "expected operands(...) with ")
                              << rest.size() << (rest.size() == 1 ? " type" : " types");
    if (!rest.empty()) {
      diag << ", for ";
      llvm::interleave(rest, [&](const Operand &o) { diag << o.name; }, [&] { diag << ", "; });
    }
    return diag << ", but got " << given.size();
  }
  for (auto [operand, type] : llvm::zip(rest, given)) {
    if (set(operand, type, loc)) {
      return failure();
    }
  }

  if (parser.parseArrow() || parser.parseTypeList(resultTypes)) {
    return failure();
  }
  size_t expected = wantsLse ? 2 : 1;
  if (resultTypes.size() != expected) {
    return parser.emitError(loc, "expected ")
           << expected << " result " << (expected == 1 ? "type" : "types")
           << (wantsLse ? ", out and lse" : " (lse is not asked for)") << ", but got " << resultTypes.size();
  }
  result.addTypes(resultTypes);
  return success();
}

template <typename Range> ParseResult AttendParser::resolveGroup(Range &&operands, int64_t &count) {
  count = 0;
  for (const Operand &operand : operands) {
    Type type = types.lookup({operand.name, operand.number});
    if (parser.resolveOperand(operand, type, result.operands)) {
      return failure();
    }
    ++count;
  }
  return success();
}

ParseResult AttendParser::resolve() {
  auto &props = result.getOrAddProperties<AttendOp::Properties>();
  auto collect = [&](auto get) {
    SmallVector<Operand> list;
    for (ParsedSegment &segment : segments) {
      if (std::optional<Operand> operand = get(segment)) {
        list.push_back(*operand);
      }
    }
    return list;
  };
  auto one = [](const std::optional<Operand> &operand) {
    return operand ? SmallVector<Operand>{*operand} : SmallVector<Operand>{};
  };
  using Segment = ParsedSegment;
  SmallVector<Operand> groups[] = {{q},
                                   collect([](Segment &s) { return std::optional(s.key); }),
                                   collect([](Segment &s) { return std::optional(s.value); }),
                                   one(qOffset.operand),
                                   collect([](Segment &s) { return s.kOffset.operand; }),
                                   one(scale.operand),
                                   collect([](Segment &s) { return s.scale.operand; }),
                                   dotQueries,
                                   dotKeys,
                                   patternOperands,
                                   captures,
                                   one(sink)};
  for (auto [n, group] : llvm::enumerate(groups)) {
    int64_t count = 0;
    if (resolveGroup(group, count)) {
      return failure();
    }
    props.operandSegmentSizes[n] = static_cast<int32_t>(count);
  }

  SmallVector<Attribute> patterns;
  SmallVector<int64_t> kOffsets, dotCounts;
  SmallVector<double> scales;
  SmallVector<bool> dynamicScales;
  for (ParsedSegment &segment : segments) {
    patterns.push_back(segment.pattern);
    kOffsets.push_back(segment.kOffset.operand ? ShapedType::kDynamic : segment.kOffset.integer.value_or(0));
    dotCounts.push_back(segment.dotCount);
    scales.push_back(segment.scale.number.value_or(std::nan("")));
    dynamicScales.push_back(segment.scale.operand.has_value());
    result.addRegion(segment.score ? std::move(segment.score) : std::make_unique<Region>());
  }
  props.patterns = builder.getArrayAttr(patterns);
  props.static_k_offsets = builder.getDenseI64ArrayAttr(kOffsets);
  props.dot_counts = builder.getDenseI64ArrayAttr(dotCounts);
  if (llvm::any_of(dotShifts, [](int64_t shift) { return shift != AttendOp::kNoShift; })) {
    props.dot_shifts = builder.getDenseI64ArrayAttr(dotShifts);
  }
  props.static_segment_scales = builder.getDenseF64ArrayAttr(scales);
  props.segment_scale_dynamic = builder.getDenseBoolArrayAttr(dynamicScales);
  if (qOffset.integer) {
    props.static_q_offset = builder.getI64IntegerAttr(*qOffset.integer);
  }
  if (qOffsetEnd) {
    props.q_offset_end = builder.getUnitAttr();
  }
  if (scale.number) {
    props.static_scale = builder.getF64FloatAttr(*scale.number);
  }
  props.normalizer = NormalizerAttr::get(parser.getContext(), normalizer.value_or(Normalizer::Softmax));
  props.schedule = schedule;
  return success();
}

ParseResult AttendParser::run() {
  if (parser.parseOperand(q) || parseClauses() || parser.parseKeyword("segment", " after the query") ||
      parseSegment()) {
    return failure();
  }
  while (succeeded(parser.parseOptionalKeyword("segment"))) {
    if (parseSegment()) {
      return failure();
    }
  }
  if (parseClauses() || parseAttributes() || parseTypes()) {
    return failure();
  }
  // With one segment its scale is the op's.
  if (segments.size() == 1 && !scale.given()) {
    std::swap(scale, segments.front().scale);
  }
  return resolve();
}

ParseResult AttendOp::parse(OpAsmParser &parser, OperationState &result) { return AttendParser(parser, result).run(); }

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

namespace {

/// Prints one attend and collects, on the way, the values whose types are due.
class AttendPrinter {
public:
  AttendPrinter(OpAsmPrinter &p, AttendOp op) : p(p), op(op) {
    typed.insert(op.getQ());
    typed.insert(op.getKeys().begin(), op.getKeys().end());
    typed.insert(op.getValues().begin(), op.getValues().end());
  }
  void run();

private:
  void printSegment(int64_t g);
  void printScore(Region &region, int64_t dots);
  void printClauses();
  void printTypes();
  void value(Value v) {
    p.printOperand(v);
    note(v);
  }
  void newline() {
    p.printNewline();
    p << "    ";
  }
  void note(Value v) {
    if (!typed.contains(v)) {
      due.insert(v);
    }
  }
  /// The shortest text that reads back as `v`.
  void number(double v) {
    char text[32];
    for (int digits = 1; digits <= 17; ++digits) {
      snprintf(text, sizeof(text), "%.*g", digits, v);
      if (strtod(text, nullptr) == v) {
        break;
      }
    }
    p << text;
  }
  void scaleClause(FloatAttr constant, Value dynamic) {
    p << " scale(";
    if (dynamic) {
      value(dynamic);
    } else {
      number(constant.getValueAsDouble());
    }
    p << ")";
  }

  OpAsmPrinter &p;
  AttendOp op;
  llvm::SmallDenseSet<Value> typed;
  llvm::SetVector<Value> due;
  size_t nextKOffset = 0, nextScale = 0, nextDot = 0;
};

} // namespace

void AttendPrinter::printScore(Region &region, int64_t dots) {
  p << " score";
  // The names are printed in parentheses where their types are the usual ones.
  Block &entry = region.front();
  bool usual = static_cast<int64_t>(entry.getNumArguments()) == dots + 4;
  for (BlockArgument argument : entry.getArguments()) {
    bool isDot = argument.getArgNumber() < dots;
    usual &= isDot ? argument.getType().isF32() : argument.getType().isIndex();
  }
  if (usual) {
    p << '(';
    llvm::interleaveComma(entry.getArguments(), p, [&](BlockArgument a) { p.printOperand(a); });
    p << ')';
  }
  p << ' ';
  p.printRegion(region, /*printEntryBlockArgs=*/!usual, /*printBlockTerminators=*/true);
}

void AttendPrinter::printSegment(int64_t g) {
  if (g > 0) {
    newline();
  } else {
    p << ' ';
  }
  p << "segment(" << op.getKeys()[g] << ", " << op.getValues()[g] << ")";
  const heddle::Pattern &pattern = op.getPattern(g);
  if (pattern->kind != PatternKind::Full) {
    auto name = [&](int64_t n) {
      std::string text;
      llvm::raw_string_ostream os(text);
      Value v = op.getPatternOperands()[n];
      p.printOperand(v, os);
      note(v);
      return text;
    };
    p << " where(" << pattern.str(name) << ")";
  }
  int64_t kOffset = op.getStaticKOffsets()[g];
  if (ShapedType::isDynamic(kOffset)) {
    p << " k_offset(";
    value(op.getKOffsets()[nextKOffset++]);
    p << ")";
  } else if (kOffset != 0) {
    p << " k_offset(" << kOffset << ")";
  }
  if (op.getSegmentScaleDynamic()[g]) {
    scaleClause({}, op.getSegmentScales()[nextScale++]);
  } else if (double s = op.getStaticSegmentScales()[g]; !std::isnan(s)) {
    scaleClause(FloatAttr::get(Float64Type::get(op.getContext()), s), {});
  }
  int64_t dots = op.getDotCounts()[g];
  if (dots >= 0) {
    p << " dots(";
    for (int64_t n = 0; n < dots; ++n, ++nextDot) {
      p << (n > 0 ? "; " : "");
      value(op.getDotQueries()[nextDot]);
      p << ", ";
      value(op.getDotKeys()[nextDot]);
      if (std::optional<int64_t> shift = op.getDotShift(g, n)) {
        p << "[i - j";
        if (*shift != 0) {
          p << (*shift < 0 ? " - " : " + ") << std::abs(*shift);
        }
        p << "]";
      }
    }
    p << ")";
  }
  if (Region *region = op.getScore(g)) {
    printScore(*region, dots < 0 ? 1 : dots);
  }
}

void AttendPrinter::printClauses() {
  if (op.getQOffsetEnd()) {
    p << " q_offset(end)";
  } else if (op.getQOffset()) {
    p << " q_offset(";
    value(op.getQOffset());
    p << ")";
  } else if (std::optional<int64_t> offset = op.getStaticQOffset()) {
    p << " q_offset(" << *offset << ")";
  }
  if (!op.getCaptures().empty()) {
    p << " captures(";
    llvm::interleaveComma(op.getCaptures(), p, [&](Value v) { value(v); });
    p << ")";
  }
  if (op.getSink()) {
    p << " sink(";
    value(op.getSink());
    p << ")";
  }
  if (op.getNormalizer() != Normalizer::Softmax) {
    p << " normalizer(" << stringifyNormalizer(op.getNormalizer()) << ")";
  }
  if (op.getLse()) {
    p << " lse";
  }
}

void AttendPrinter::printTypes() {
  newline();
  p << ": " << op.getQ().getType();
  for (auto [key, value] : llvm::zip(op.getKeys(), op.getValues())) {
    p << " segment(" << key.getType() << ", " << value.getType() << ")";
  }
  if (!due.empty()) {
    p << " operands(";
    llvm::interleaveComma(due, p, [&](Value v) { p << v.getType(); });
    p << ")";
  }
  p << " -> " << op.getOperation()->getResultTypes();
}

void AttendPrinter::run() {
  p << ' ' << op.getQ();
  bool hasScale = op.getScale() || op.getStaticScaleAttr();
  bool scaleFirst = hasScale && op.getNumSegments() > 1;
  if (scaleFirst) {
    scaleClause(op.getStaticScaleAttr(), op.getScale());
  }
  for (int64_t g = 0; g < op.getNumSegments(); ++g) {
    printSegment(g);
  }
  if (hasScale && !scaleFirst) {
    scaleClause(op.getStaticScaleAttr(), op.getScale());
  }
  printClauses();
  SmallVector<StringRef> elided;
  for (StringRef name : AttendOp::getAttributeNames()) {
    if (name != "schedule") {
      elided.push_back(name);
    }
  }
  p.printOptionalAttrDict(op->getAttrs(), elided);
  printTypes();
}

void AttendOp::print(OpAsmPrinter &p) { AttendPrinter(p, *this).run(); }
