//===- SpecParser.h - From a spec's text to a verified module -------------===//
//
// The one way in which spec text becomes IR: `heddle compile`, Python and the
// reference interpreter all come through here, so they refuse the same texts
// with the same words. Diagnostics are collected as text, never printed.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_CODEGEN_SPECPARSER_H
#define HEDDLE_CODEGEN_SPECPARSER_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/OwningOpRef.h"

#include "llvm/ADT/StringRef.h"

#include <memory>
#include <string>

namespace mlir {
namespace func {
class FuncOp;
} // namespace func
} // namespace mlir

namespace heddle {

/// The name that locations in spec text carry: `<spec>:line:column`. A caller
/// that knows the file replaces it.
inline constexpr llvm::StringLiteral kSpecName = "<spec>";

/// A context without threads (starting a pool costs more than compiling a
/// spec), with the dialects of loadDialects.
std::unique_ptr<mlir::MLIRContext> createContext();

/// Loads the dialects that a spec is written in, and registers those that it
/// may also use (arith, math, tensor, linalg), which load on first mention.
void loadDialects(mlir::MLIRContext &context);

/// While it lives, collects what `context` reports, one report after another as
///   <spec>:3:12: error: expected ..., but got ...
///     %o = attn.attend ...
///          ^
/// Errors (with their notes) go to `errors`, warnings and remarks, without the
/// source line, to `remarks`.
class DiagnosticCollector {
public:
  DiagnosticCollector(mlir::MLIRContext &context, llvm::StringRef text);
  ~DiagnosticCollector();
  DiagnosticCollector(const DiagnosticCollector &) = delete;
  DiagnosticCollector &operator=(const DiagnosticCollector &) = delete;

  std::string errors, remarks;

private:
  void add(mlir::Diagnostic &diagnostic);
  mlir::MLIRContext &context;
  llvm::StringRef text;
  mlir::DiagnosticEngine::HandlerID id;
};

/// The argument attribute that keeps an argument's name (without `%`), which
/// messages, manifests and `--shape w=64` go by.
inline constexpr llvm::StringLiteral kArgumentName = "heddle.name";

/// Parses and verifies a module with exactly one function that has a body, and
/// notes the names of its arguments (kArgumentName). Null where the text is no
/// such module; then `diagnostics` says why, else it holds what warnings there were.
mlir::OwningOpRef<mlir::ModuleOp> parseSpec(mlir::MLIRContext &context, llvm::StringRef text, std::string &diagnostics);

/// The function of a module that parseSpec returned.
mlir::func::FuncOp specFunction(mlir::ModuleOp module);

} // namespace heddle

#endif // HEDDLE_CODEGEN_SPECPARSER_H
