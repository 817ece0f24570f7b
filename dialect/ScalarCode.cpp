//===- ScalarCode.cpp - Interpreter of scalar code ------------------------===//
//
// One table entry for each operation; what arith leaves undefined (division by
// zero, shifts past the width, conversion of NaN) gives 0 here.
//
//===----------------------------------------------------------------------===//
#include "dialect/ScalarCode.h"

#include "dialect/Attn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

#include "llvm/ADT/StringMap.h"

#include <cmath>

using namespace mlir;
using namespace heddle;

namespace {

using Function = Scalar (*)(const Scalar *, int64_t);

/// Sign-extends the low `width` bits.
int64_t wrap(uint64_t v, int64_t width) {
  int64_t shift = 64 - width;
  return static_cast<int64_t>(v << shift) >> shift;
}
/// The same bits as an unsigned number.
uint64_t bits(int64_t v, int64_t width) {
  return width == 64 ? static_cast<uint64_t>(v) : static_cast<uint64_t>(v) & ((uint64_t(1) << width) - 1);
}
int64_t truth(bool b) { return b ? -1 : 0; }

int64_t divide(int64_t a, int64_t b, int64_t round) { // round: -1 floor, 0 to zero, 1 ceil
  if (b == 0) {
    return 0;
  }
  if (b == -1) {
    return static_cast<int64_t>(0 - static_cast<uint64_t>(a));
  }
  int64_t q = a / b, r = a % b;
  bool negative = (r < 0) != (b < 0);
  return q - (round < 0 && r != 0 && negative) + (round > 0 && r != 0 && !negative);
}

int64_t toInteger(double v, int64_t width) {
  if (!(v > -9.3e18 && v < 9.3e18)) {
    return 0;
  }
  if (v < -9223372036854775808.0 || v >= 9223372036854775808.0) {
    return 0;
  }
  return wrap(static_cast<uint64_t>(static_cast<int64_t>(v)), width);
}

bool compareFloats(arith::CmpFPredicate predicate, double a, double b) {
  bool unordered = std::isnan(a) || std::isnan(b);
  using P = arith::CmpFPredicate;
  switch (predicate) {
  case P::AlwaysFalse:
    return false;
  case P::OEQ:
    return a == b;
  case P::OGT:
    return a > b;
  case P::OGE:
    return a >= b;
  case P::OLT:
    return a < b;
  case P::OLE:
    return a <= b;
  case P::ONE:
    return !unordered && a != b;
  case P::ORD:
    return !unordered;
  case P::UEQ:
    return unordered || a == b;
  case P::UGT:
    return unordered || a > b;
  case P::UGE:
    return unordered || a >= b;
  case P::ULT:
    return unordered || a < b;
  case P::ULE:
    return unordered || a <= b;
  case P::UNE:
    return a != b;
  case P::UNO:
    return unordered;
  case P::AlwaysTrue:
    return true;
  }
  return false;
}

bool compareIntegers(arith::CmpIPredicate predicate, int64_t a, int64_t b) {
  auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b); // Sign extension keeps the order.
  using P = arith::CmpIPredicate;
  switch (predicate) {
  case P::eq:
    return a == b;
  case P::ne:
    return a != b;
  case P::slt:
    return a < b;
  case P::sle:
    return a <= b;
  case P::sgt:
    return a > b;
  case P::sge:
    return a >= b;
  case P::ult:
    return ua < ub;
  case P::ule:
    return ua <= ub;
  case P::ugt:
    return ua > ub;
  case P::uge:
    return ua >= ub;
  }
  return false;
}

double maximum(double a, double b) { // NaN where one is; +0 above -0.
  if (std::isnan(a) || std::isnan(b)) {
    return std::nan("");
  }
  return a == b ? (std::signbit(a) ? b : a) : std::max(a, b);
}
double minimum(double a, double b) { return -maximum(-a, -b); }

#define FLOAT1(name, expression)                                                                                       \
  {name, [](const Scalar *x, int64_t) {                                                                                \
     double a = x[0].number;                                                                                           \
     return Scalar::of(static_cast<double>(expression));                                                               \
   }}
#define FLOAT2(name, expression)                                                                                       \
  {name, [](const Scalar *x, int64_t) {                                                                                \
     double a = x[0].number, b = x[1].number;                                                                          \
     return Scalar::of(static_cast<double>(expression));                                                               \
   }}
#define FLOAT_TEST(name, expression)                                                                                   \
  {name, [](const Scalar *x, int64_t) {                                                                                \
     double a = x[0].number;                                                                                           \
     return Scalar::of(truth(expression));                                                                             \
   }}
// `w` is the width; the result is wrapped to it.
#define INTEGER2(name, expression)                                                                                     \
  {name, [](const Scalar *x, [[maybe_unused]] int64_t w) {                                                             \
     int64_t a = x[0].integer, b = x[1].integer;                                                                       \
     [[maybe_unused]] uint64_t ua = bits(a, w), ub = bits(b, w);                                                       \
     return Scalar::of(wrap(static_cast<uint64_t>(expression), w));                                                    \
   }}

const llvm::StringMap<Function> &table() {
  static const llvm::StringMap<Function> entries = {
      FLOAT2("arith.addf", a + b),
      FLOAT2("arith.subf", a - b),
      FLOAT2("arith.mulf", a *b),
      FLOAT2("arith.divf", a / b),
      FLOAT2("arith.remf", std::fmod(a, b)),
      FLOAT2("arith.maximumf", maximum(a, b)),
      FLOAT2("arith.minimumf", minimum(a, b)),
      FLOAT2("arith.maxnumf", std::fmax(a, b)),
      FLOAT2("arith.minnumf", std::fmin(a, b)),
      FLOAT1("arith.negf", -a),
      FLOAT1("arith.extf", a),
      FLOAT1("arith.truncf", a),
      INTEGER2("arith.addi", ua + ub),
      INTEGER2("arith.subi", ua - ub),
      INTEGER2("arith.muli", ua *ub),
      INTEGER2("arith.divsi", divide(a, b, 0)),
      INTEGER2("arith.floordivsi", divide(a, b, -1)),
      INTEGER2("arith.ceildivsi", divide(a, b, 1)),
      INTEGER2("arith.remsi", b == 0 || b == -1 ? 0 : a % b),
      INTEGER2("arith.divui", ub == 0 ? 0 : ua / ub),
      INTEGER2("arith.ceildivui", ub == 0 ? 0 : ua / ub + (ua % ub != 0)),
      INTEGER2("arith.remui", ub == 0 ? 0 : ua % ub),
      INTEGER2("arith.andi", ua &ub),
      INTEGER2("arith.ori", ua | ub),
      INTEGER2("arith.xori", ua ^ ub),
      INTEGER2("arith.shli", ub >= bits(w, 64) ? 0 : ua << ub),
      INTEGER2("arith.shrui", ub >= bits(w, 64) ? 0 : ua >> ub),
      INTEGER2("arith.shrsi", ub >= bits(w, 64) ? 0 : a >> ub),
      INTEGER2("arith.maxsi", std::max(a, b)),
      INTEGER2("arith.minsi", std::min(a, b)),
      INTEGER2("arith.maxui", std::max(ua, ub)),
      INTEGER2("arith.minui", std::min(ua, ub)),
      {"arith.cmpf", [](const Scalar *x, int64_t p) {
         return Scalar::of(truth(compareFloats(static_cast<arith::CmpFPredicate>(p), x[0].number, x[1].number)));
       }},
      {"arith.cmpi", [](const Scalar *x, int64_t p) {
         return Scalar::of(truth(compareIntegers(static_cast<arith::CmpIPredicate>(p), x[0].integer, x[1].integer)));
       }},
      {"arith.select", [](const Scalar *x, int64_t) { return x[0].integer != 0 ? x[1] : x[2]; }},
      // Casts: the parameter is the width of the integer side.
      {"arith.extsi", [](const Scalar *x, int64_t) { return x[0]; }},
      {"arith.extui", [](const Scalar *x, int64_t w) { return Scalar::of(static_cast<int64_t>(bits(x[0].integer, w))); }},
      {"arith.trunci", [](const Scalar *x, int64_t w) { return Scalar::of(wrap(x[0].integer, w)); }},
      {"arith.index_cast", [](const Scalar *x, int64_t w) { return Scalar::of(wrap(x[0].integer, w)); }},
      {"arith.index_castui",
       [](const Scalar *x, int64_t w) { return Scalar::of(static_cast<int64_t>(bits(x[0].integer, w))); }},
      {"arith.sitofp", [](const Scalar *x, int64_t) { return Scalar::of(static_cast<double>(x[0].integer)); }},
      {"arith.uitofp",
       [](const Scalar *x, int64_t w) { return Scalar::of(static_cast<double>(bits(x[0].integer, w))); }},
      {"arith.fptosi", [](const Scalar *x, int64_t w) { return Scalar::of(toInteger(x[0].number, w)); }},
      {"arith.fptoui", [](const Scalar *x, int64_t w) { return Scalar::of(toInteger(x[0].number, w)); }},
      FLOAT1("math.absf", std::fabs(a)),
      FLOAT1("math.ceil", std::ceil(a)),
      FLOAT1("math.floor", std::floor(a)),
      FLOAT1("math.trunc", std::trunc(a)),
      FLOAT1("math.round", std::round(a)),
      FLOAT1("math.roundeven", std::nearbyint(a)),
      FLOAT1("math.exp", std::exp(a)),
      FLOAT1("math.exp2", std::exp2(a)),
      FLOAT1("math.expm1", std::expm1(a)),
      FLOAT1("math.log", std::log(a)),
      FLOAT1("math.log2", std::log2(a)),
      FLOAT1("math.log10", std::log10(a)),
      FLOAT1("math.log1p", std::log1p(a)),
      FLOAT1("math.sqrt", std::sqrt(a)),
      FLOAT1("math.rsqrt", 1 / std::sqrt(a)),
      FLOAT1("math.cbrt", std::cbrt(a)),
      FLOAT1("math.sin", std::sin(a)),
      FLOAT1("math.cos", std::cos(a)),
      FLOAT1("math.tan", std::tan(a)),
      FLOAT1("math.asin", std::asin(a)),
      FLOAT1("math.acos", std::acos(a)),
      FLOAT1("math.atan", std::atan(a)),
      FLOAT1("math.sinh", std::sinh(a)),
      FLOAT1("math.cosh", std::cosh(a)),
      FLOAT1("math.tanh", std::tanh(a)),
      FLOAT1("math.asinh", std::asinh(a)),
      FLOAT1("math.acosh", std::acosh(a)),
      FLOAT1("math.atanh", std::atanh(a)),
      FLOAT1("math.erf", std::erf(a)),
      FLOAT1("math.erfc", std::erfc(a)),
      FLOAT2("math.powf", std::pow(a, b)),
      FLOAT2("math.atan2", std::atan2(a, b)),
      FLOAT2("math.copysign", std::copysign(a, b)),
      {"math.fma", [](const Scalar *x, int64_t) { return Scalar::of(std::fma(x[0].number, x[1].number, x[2].number)); }},
      {"math.clampf",
       [](const Scalar *x, int64_t) { return Scalar::of(minimum(maximum(x[0].number, x[1].number), x[2].number)); }},
      {"math.fpowi",
       [](const Scalar *x, int64_t) { return Scalar::of(std::pow(x[0].number, static_cast<double>(x[1].integer))); }},
      FLOAT_TEST("math.isnan", std::isnan(a)),
      FLOAT_TEST("math.isinf", std::isinf(a)),
      FLOAT_TEST("math.isfinite", std::isfinite(a)),
      FLOAT_TEST("math.isnormal", std::isnormal(a)),
      {"math.absi",
       [](const Scalar *x, int64_t w) {
         int64_t a = x[0].integer;
         return Scalar::of(wrap(a < 0 ? 0 - static_cast<uint64_t>(a) : a, w));
       }},
  };
  return entries;
}

int64_t widthOf(Type type) { return type.isIndex() ? 64 : type.isInteger() ? type.getIntOrFloatBitWidth() : 64; }

} // namespace

ScalarCode::Function ScalarCode::functionOf(Operation *op, int64_t &parameter) {
  if (auto compare = dyn_cast<arith::CmpFOp>(op)) {
    parameter = static_cast<int64_t>(compare.getPredicate());
  } else if (auto compare = dyn_cast<arith::CmpIOp>(op)) {
    parameter = static_cast<int64_t>(compare.getPredicate());
  } else {
    // An unsigned widening looks at the operand's width, all else at the result's.
    bool fromOperand = isa<arith::ExtUIOp, arith::UIToFPOp>(op) ||
                       (isa<arith::IndexCastUIOp>(op) && op->getResult(0).getType().isIndex());
    parameter = widthOf(fromOperand ? op->getOperand(0).getType() : op->getResult(0).getType());
  }
  return table().lookup(op->getName().getStringRef());
}

double heddle::roundTo(const llvm::fltSemantics &type, double v) {
  llvm::APFloat rounded(v);
  bool loses = false;
  rounded.convert(type, llvm::APFloat::rmNearestTiesToEven, &loses);
  return rounded.convertToDouble();
}

bool ScalarCode::knows(Operation *op) {
  int64_t parameter = 0;
  return op->getNumResults() == 1 && op->getNumRegions() == 0 && op->getNumOperands() <= 3 &&
         op->getResult(0).getType().isIntOrIndexOrFloat() &&
         (op->hasTrait<OpTrait::ConstantLike>() || functionOf(op, parameter) != nullptr);
}

int64_t ScalarCode::input(Value value) {
  registers[value] = count;
  return count++;
}

int64_t ScalarCode::operandRegister(Value value, std::string &error) {
  if (int64_t known = registerOf(value); known >= 0) {
    return known;
  }
  Attribute constant;
  if (matchPattern(value, m_Constant(&constant))) {
    Scalar scalar = Scalar::of(int64_t(0));
    if (auto integer = dyn_cast<IntegerAttr>(constant)) {
      scalar = Scalar::of(integer.getValue().getSExtValue());
    } else if (auto number = dyn_cast<FloatAttr>(constant)) {
      scalar = Scalar::of(number.getValueAsDouble());
    } else {
      error = "expected a scalar constant in scalar code, but got another one";
      return -1;
    }
    constants.emplace_back(input(value), scalar);
    return registerOf(value);
  }
  error = "expected scalar code to use values of its own, arguments and constants, but got another value";
  return -1;
}

bool ScalarCode::add(Operation *op, const std::function<int64_t(Value)> &tensorNumber, std::string &error) {
  if (op->hasTrait<OpTrait::ConstantLike>()) {
    return operandRegister(op->getResult(0), error) >= 0;
  }
  Instruction instruction;
  OperandRange operands = op->getOperands();
  if (auto load = dyn_cast<attn::LoadOp>(op)) {
    instruction.parameter = tensorNumber(load.getTensor());
    operands = load.getIndices();
  } else {
    if (!knows(op)) {
      error =
          "expected a scalar operation of arith or math that heddle has, but got " + op->getName().getStringRef().str();
      return false;
    }
    instruction.function = functionOf(op, instruction.parameter);
    auto type = dyn_cast<FloatType>(op->getResult(0).getType());
    if (halves == Halves::Rounded && type && type.getWidth() < 32) {
      instruction.roundedTo = &type.getFloatSemantics();
    }
  }
  for (Value operand : operands) {
    int64_t from = operandRegister(operand, error);
    if (from < 0) {
      return false;
    }
    instruction.operands.push_back(from);
  }
  instruction.result = input(op->getResult(0));
  instructions.push_back(std::move(instruction));
  return true;
}

void ScalarCode::run(Scalar *file, const ScalarLoad &load) const {
  for (auto &[index, value] : constants) {
    file[index] = value;
  }
  SmallVector<int64_t, 6> indices;
  for (const Instruction &instruction : instructions) {
    if (instruction.function) {
      Scalar operands[3];
      for (auto [n, from] : llvm::enumerate(instruction.operands)) {
        operands[n] = file[from];
      }
      Scalar result = instruction.function(operands, instruction.parameter);
      file[instruction.result] =
          instruction.roundedTo ? Scalar::of(roundTo(*instruction.roundedTo, result.number)) : result;
      continue;
    }
    indices.clear();
    for (int64_t from : instruction.operands) {
      indices.push_back(file[from].integer);
    }
    file[instruction.result] = load(instruction.parameter, indices);
  }
}
