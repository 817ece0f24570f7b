//===- ModuleFuzzer.cpp - Any bytes as a module ---------------------------===//
//
// Whole spec files: the parser and the verifiers of the attn dialect take any
// bytes and either refuse with a diagnostic or give a module, whose text, custom
// and generic, parses to the same module. docs/testing.md says how to run it.
//
//===----------------------------------------------------------------------===//

#include "dialect/Attn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <cstdio>
#include <cstdlib>
#include <string>

using namespace mlir;

static std::string print(ModuleOp module, bool generic) {
  std::string text;
  llvm::raw_string_ostream os(text);
  OpPrintingFlags flags;
  flags.printGenericOpForm(generic);
  module.print(os, flags);
  return text;
}

static void require(bool holds, const char *what, const std::string &text) {
  if (!holds) {
    std::fprintf(stderr, "expected %s for:\n%s\n", what, text.c_str());
    std::abort();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string text(reinterpret_cast<const char *>(data), size);
  // A context for each run: attributes are never freed within one.
  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<heddle::attn::AttnDialect, func::FuncDialect, arith::ArithDialect, math::MathDialect>();
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
  if (!module) {
    return 0;
  }
  require(succeeded(verify(*module)), "a parsed module to be verified", text);
  std::string printed = print(*module, /*generic=*/false);
  for (bool generic : {false, true}) {
    std::string form = print(*module, generic);
    OwningOpRef<ModuleOp> again = parseSourceString<ModuleOp>(form, &context);
    require(static_cast<bool>(again), "the print to parse", form);
    require(print(*again, /*generic=*/false) == printed, "the print to be the same module", form);
  }
  return 0;
}
