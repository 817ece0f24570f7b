//===- Attn.cpp - The attn dialect: registration and attributes ------------===//
//
// Registers the dialect and gives its attributes their text. Attribute bodies
// are raw text (`#attn.pattern<causal & window(3, 0)>`): the pattern grammar
// has characters that MLIR's lexer rejects, so the body is taken whole.
//
//===----------------------------------------------------------------------===//
#include "dialect/Attn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/FoldInterfaces.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

#include "dialect/AttnDialect.cpp.inc"
#include "dialect/AttnEnums.cpp.inc"

// The generated dispatch of attribute bodies is not used: see parseAttribute.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunused-function"
#define GET_ATTRDEF_CLASSES
#include "dialect/AttnAttrs.cpp.inc"
#pragma clang diagnostic pop

namespace {
/// Constants stay inside a score or feature region, which lists the other values it reads.
struct AttnFoldInterface : DialectFoldInterface {
  using DialectFoldInterface::DialectFoldInterface;
  bool shouldMaterializeInto(Region *region) const override {
    return isa<AttendOp, LinearAttendOp>(region->getParentOp());
  }
};
} // namespace

void AttnDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialect/AttnOps.cpp.inc"
      >();
  registerAttributes();
  addInterfaces<AttnFoldInterface>();
}

void AttnDialect::registerAttributes() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/AttnAttrs.cpp.inc"
      >();
}

/// True where `text` survives between `<` and `>`: MLIR finds the end of an
/// attribute by matching brackets, so a lone comparison would end it early.
static bool bracketsMatch(StringRef text) {
  SmallVector<char> open;
  for (size_t n = 0; n < text.size(); ++n) {
    char c = text[n];
    if (c == '"' || c == '\\') {
      return false;
    }
    if (c == '-' && n + 1 < text.size() && text[n + 1] == '>') {
      ++n;
    } else if (StringRef("<([{").contains(c)) {
      open.push_back(c);
    } else if (size_t kind = StringRef(">)]}").find(c); kind != StringRef::npos) {
      if (open.empty() || open.pop_back_val() != StringRef("<([{")[kind]) {
        return false;
      }
    }
  }
  return open.empty();
}

static void printBody(raw_ostream &os, StringRef text) {
  if (bracketsMatch(text)) {
    os << '<' << text << '>';
    return;
  }
  os << "<\"";
  llvm::printEscapedString(text, os);
  os << "\">";
}

void PatternAttr::print(AsmPrinter &printer) const {
  printBody(printer.getStream(), getValue().str({}, /*words=*/true));
}
void ScheduleAttr::print(AsmPrinter &printer) const { printBody(printer.getStream(), heddle::str(getValue())); }

// Bodies are parsed by AttnDialect::parseAttribute from the raw text.
Attribute PatternAttr::parse(AsmParser &, Type) { return {}; }
Attribute ScheduleAttr::parse(AsmParser &, Type) { return {}; }

void AttnDialect::printAttribute(Attribute attr, DialectAsmPrinter &printer) const {
  llvm::TypeSwitch<Attribute>(attr)
      .Case<PatternAttr, ScheduleAttr>([&](auto a) {
        printer << a.getMnemonic();
        a.print(printer);
      })
      .Default([](Attribute) { llvm_unreachable("attribute of another dialect"); });
}

/// Splits `pattern<body>` into its parts; a quoted body is unescaped into
/// `storage`. `exact` says that offsets in body are offsets in the source.
static bool splitSpec(StringRef spec, StringRef &mnemonic, StringRef &body, std::string &storage, bool &exact) {
  size_t open = spec.find('<');
  if (open == StringRef::npos || !spec.ends_with(">")) {
    return false;
  }
  mnemonic = spec.take_front(open).rtrim();
  body = spec.substr(open + 1).drop_back();
  exact = true;
  StringRef trimmed = body.trim();
  if (trimmed.size() < 2 || trimmed.front() != '"' || trimmed.back() != '"') {
    return true;
  }
  exact = false;
  for (StringRef rest = trimmed.drop_front().drop_back(); !rest.empty();) {
    unsigned value = 0;
    if (rest.front() != '\\') {
      storage += rest.front();
      rest = rest.drop_front();
    } else if (rest.size() >= 3 && !rest.substr(1, 2).getAsInteger(16, value)) {
      storage += static_cast<char>(value);
      rest = rest.drop_front(3);
    } else {
      storage += rest.size() > 1 ? rest[1] : '\\';
      rest = rest.drop_front(std::min<size_t>(2, rest.size()));
    }
  }
  body = storage;
  return true;
}

Attribute AttnDialect::parseAttribute(DialectAsmParser &parser, Type) const {
  StringRef spec = parser.getFullSymbolSpec();
  SMLoc start = SMLoc::getFromPointer(spec.data());
  StringRef mnemonic, body;
  std::string storage;
  bool exact = false;
  if (!splitSpec(spec, mnemonic, body, storage, exact)) {
    parser.emitError(start, "expected pattern<...> or schedule<...>, but got '") << spec << "'";
    return {};
  }
  auto fail = [&](const PatternError &error) {
    size_t offset = exact ? std::min(error.offset, body.size()) : 0;
    parser.emitError(exact ? SMLoc::getFromPointer(body.data() + offset) : start, error.message);
    return Attribute();
  };
  MLIRContext *context = parser.getContext();
  if (mnemonic == PatternAttr::getMnemonic()) {
    auto parsed = parsePattern(body.str());
    if (auto *error = std::get_if<PatternError>(&parsed)) {
      return fail(*error);
    }
    return PatternAttr::get(context, std::get<Pattern>(parsed));
  }
  if (mnemonic == ScheduleAttr::getMnemonic()) {
    auto parsed = parseSchedule(body.str());
    if (auto *error = std::get_if<PatternError>(&parsed)) {
      return fail(*error);
    }
    return ScheduleAttr::get(context, std::get<Schedule>(parsed));
  }
  parser.emitError(start, "expected pattern<...> or schedule<...>, but got '") << mnemonic << "'";
  return {};
}
