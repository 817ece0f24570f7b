//===- heddle-lsp-server.cpp - The language server for spec files ---------===//
//
// Diagnostics, hover, definitions and completion for .mlir files of the attn
// dialect, in any editor that speaks the language server protocol.
//
//===----------------------------------------------------------------------===//
#include "tools/Dialects.h"

#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  heddle::registerDialects(registry);
  return mlir::failed(mlir::MlirLspServerMain(argc, argv, registry));
}
