//===- AttnDialect.td - The attn dialect -----------------------*- tablegen -*-===//
//
// Declares the dialect. Attributes are in AttnAttrs.td, operations in AttnOps.td.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_ATTNDIALECT_TD
#define HEDDLE_DIALECT_ATTNDIALECT_TD

include "mlir/IR/OpBase.td"

def Attn_Dialect : Dialect {
  let name = "attn";
  let cppNamespace = "::heddle::attn";
  let summary = "attention over patterns: which query attends to which key";
  let description = [{
    A program in this dialect says which query attends to which key and how the
    scores are formed. Tensors are values; nothing says how it is computed. A
    pattern is a set of pairs (i, j) of a query position and a key position,
    written in an algebra over closed-form and run-time primitives
    (docs/spec.md has the table).
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect"
  ];
  let extraClassDeclaration = [{
    /// Dialect attributes are read from and written to raw text, because the
    /// pattern grammar has characters that MLIR's lexer does not know.
    ::mlir::Attribute parseAttribute(::mlir::DialectAsmParser &parser,
                                     ::mlir::Type type) const override;
    void printAttribute(::mlir::Attribute attr,
                        ::mlir::DialectAsmPrinter &printer) const override;

  private:
    void registerAttributes();

  public:
  }];
}

#endif // HEDDLE_DIALECT_ATTNDIALECT_TD
