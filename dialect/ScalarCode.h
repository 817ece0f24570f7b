//===- ScalarCode.h - Interpreter of scalar code ----------------*- C++ -*-===//
//
// Score regions for the reference interpreter: a block of scalar arith and math
// operations and attn.load becomes a list of instructions on numbered registers,
// which runs in doubles and 64-bit integers. f32 and f64 stand for numbers, which are not
// rounded; what has a type of 16 bits is rounded to it, as kernels do.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_DIALECT_SCALARCODE_H
#define HEDDLE_DIALECT_SCALARCODE_H

#include "mlir/IR/Block.h"
#include "mlir/IR/Operation.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace heddle {

/// A float as a double, an integer sign-extended from its width (true of i1 is -1).
union Scalar {
  int64_t integer;
  double number;
  static Scalar of(int64_t v) { return Scalar{.integer = v}; }
  static Scalar of(double v) { return Scalar{.number = v}; }
};

/// The nearest number of a float type, ties to even.
double roundTo(const llvm::fltSemantics &type, double v);

/// Reads an element of captured tensor `tensor` at `indices`, clamped.
using ScalarLoad = std::function<Scalar(int64_t tensor, llvm::ArrayRef<int64_t> indices)>;

class ScalarCode {
public:
  /// Of elementwise glue, which computes in f32 whatever the types, no result is rounded.
  enum class Halves { Rounded, Exact };
  explicit ScalarCode(Halves halves = Halves::Rounded) : halves(halves) {}
  /// True for an operation of arith or math on scalars that has a meaning here; kernels have the same ones.
  static bool knows(mlir::Operation *op);
  /// Gives `value`, which later code may use, a register of its own.
  int64_t input(mlir::Value value);
  /// Translates one operation whose operands have registers or are constants.
  /// False with `error` set where it is unknown. A tensor that attn.load reads is
  /// numbered by `tensorNumber`.
  bool add(mlir::Operation *op, const std::function<int64_t(mlir::Value)> &tensorNumber, std::string &error);
  /// The register of `value`, -1 where it has none.
  int64_t registerOf(mlir::Value value) const { return registers.lookup_or(value, -1); }
  int64_t numRegisters() const { return count; }
  /// Runs all instructions; `file` has numRegisters() entries, inputs set.
  void run(Scalar *file, const ScalarLoad &load) const;

private:
  /// Computes a result from up to three operands.
  using Function = Scalar (*)(const Scalar *operands, int64_t parameter);
  struct Instruction {
    Function function = nullptr;                   ///< null: a load
    const llvm::fltSemantics *roundedTo = nullptr; ///< null: the result is as computed
    llvm::SmallVector<int64_t, 3> operands;
    int64_t result = 0;
    int64_t parameter = 0; ///< width, predicate, or tensor number
  };
  int64_t operandRegister(mlir::Value value, std::string &error);
  static Function functionOf(mlir::Operation *op, int64_t &parameter);

  Halves halves;
  llvm::DenseMap<mlir::Value, int64_t> registers;
  std::vector<Instruction> instructions;
  std::vector<std::pair<int64_t, Scalar>> constants;
  int64_t count = 0;
};

} // namespace heddle

#endif // HEDDLE_DIALECT_SCALARCODE_H
