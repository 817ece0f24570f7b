//===- SpecParser.cpp - From a spec's text to a verified module -----------===//

#include "codegen/SpecParser.h"

#include "dialect/Attn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace heddle {

void loadDialects(MLIRContext &context) {
  DialectRegistry registry;
  registry.insert<arith::ArithDialect, linalg::LinalgDialect, math::MathDialect, tensor::TensorDialect>();
  context.appendDialectRegistry(registry);
  context.loadDialect<attn::AttnDialect, func::FuncDialect>();
}

std::unique_ptr<MLIRContext> createContext() {
  auto context = std::make_unique<MLIRContext>(MLIRContext::Threading::DISABLED);
  loadDialects(*context);
  return context;
}

namespace {

llvm::StringRef severityName(DiagnosticSeverity severity) {
  switch (severity) {
  case DiagnosticSeverity::Note:
    return "note";
  case DiagnosticSeverity::Warning:
    return "warning";
  case DiagnosticSeverity::Error:
    return "error";
  case DiagnosticSeverity::Remark:
    return "remark";
  }
  return "error";
}

/// Line `line` (from 1) of the text, without its end; empty past the last.
llvm::StringRef lineOf(llvm::StringRef text, unsigned line) {
  for (; line > 1; --line) {
    size_t end = text.find('\n');
    if (end == llvm::StringRef::npos) {
      return {};
    }
    text = text.drop_front(end + 1);
  }
  return text.take_until([](char c) { return c == '\n' || c == '\r'; });
}

/// The innermost place in spec text that a location tells of.
FileLineColLoc findPlace(Location loc) {
  FileLineColLoc found;
  loc->walk([&](Location inner) {
    if (auto place = dyn_cast<FileLineColLoc>(inner)) {
      found = place;
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return found;
}

void print(llvm::raw_ostream &os, Location loc, DiagnosticSeverity severity, llvm::StringRef message,
           llvm::StringRef text, bool withSource) {
  FileLineColLoc place = findPlace(loc);
  if (place) {
    os << place.getFilename().getValue() << ':' << place.getLine() << ':' << place.getColumn() << ": ";
  }
  os << severityName(severity) << ": " << message << '\n';
  if (!place || !withSource || place.getFilename().getValue() != kSpecName) {
    return;
  }
  llvm::StringRef line = lineOf(text, place.getLine());
  if (line.empty() || line.size() > 400) {
    return;
  }
  os << "  " << line << "\n  ";
  for (unsigned c = 1; c < place.getColumn(); ++c) {
    os << (c <= line.size() && line[c - 1] == '\t' ? '\t' : ' ');
  }
  os << "^\n";
}

/// The `%name` that stands where an argument was parsed, without `%`; may be empty.
llvm::StringRef nameAt(llvm::StringRef text, Location loc) {
  FileLineColLoc place = findPlace(loc);
  if (!place || place.getFilename().getValue() != kSpecName) {
    return {};
  }
  llvm::StringRef rest = lineOf(text, place.getLine()).drop_front(std::max(place.getColumn(), 1u) - 1);
  if (!rest.consume_front("%")) {
    return {};
  }
  return rest.take_while([](char c) { return llvm::isAlnum(c) || llvm::StringRef("_$.-").contains(c); });
}

void nameArguments(func::FuncOp function, llvm::StringRef text) {
  Builder builder(function.getContext());
  for (BlockArgument arg : function.getArguments()) {
    unsigned n = arg.getArgNumber();
    llvm::StringRef name = nameAt(text, arg.getLoc());
    if (!name.empty() && !function.getArgAttr(n, kArgumentName)) {
      function.setArgAttr(n, kArgumentName, builder.getStringAttr(name));
    }
  }
}

} // namespace

DiagnosticCollector::DiagnosticCollector(MLIRContext &context, llvm::StringRef text) : context(context), text(text) {
  id = context.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) {
    add(diagnostic);
    return success();
  });
}

DiagnosticCollector::~DiagnosticCollector() { context.getDiagEngine().eraseHandler(id); }

void DiagnosticCollector::add(Diagnostic &diagnostic) {
  bool isError = diagnostic.getSeverity() == DiagnosticSeverity::Error;
  llvm::raw_string_ostream os(isError ? errors : remarks);
  print(os, diagnostic.getLocation(), diagnostic.getSeverity(), diagnostic.str(), text, isError);
  for (Diagnostic &note : diagnostic.getNotes()) {
    // MLIR attaches a dump of the whole operation to some errors; the place says more.
    if (!llvm::StringRef(note.str()).starts_with("see current operation")) {
      print(os, note.getLocation(), DiagnosticSeverity::Note, note.str(), text, isError);
    }
  }
}

func::FuncOp specFunction(ModuleOp module) {
  func::FuncOp found;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function.isDeclaration()) {
      found = function;
    }
  }
  return found;
}

OwningOpRef<ModuleOp> parseSpec(MLIRContext &context, llvm::StringRef text, std::string &diagnostics) {
  DiagnosticCollector collector(context, text);
  auto sources = std::make_shared<llvm::SourceMgr>();
  sources->AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text, kSpecName), llvm::SMLoc());
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(sources, ParserConfig(&context));
  if (module) {
    unsigned count = 0;
    for (auto function : module->getOps<func::FuncOp>()) {
      count += !function.isDeclaration();
    }
    if (count != 1) {
      emitError(FileLineColLoc::get(&context, kSpecName, 1, 1))
          << "expected a module with one function, but got " << count;
      module = nullptr;
    } else {
      nameArguments(specFunction(*module), text);
    }
  }
  diagnostics = module ? collector.remarks : collector.errors;
  if (!module && diagnostics.empty()) {
    diagnostics = "error: the spec does not parse\n";
  }
  return module;
}

} // namespace heddle
