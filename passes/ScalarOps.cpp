//===- ScalarOps.cpp - Scalar operations that LLVM has not, or not everywhere =//
//
// A division by zero stops the processor, and shifts of the width or more are
// poison; both happen in lanes whose result nobody reads. Hence, for all lanes:
//
//   x / 0 = 0     x mod 0 = 0     x << n = x >> n = 0 for n < 0 and n >= width
//
//===----------------------------------------------------------------------===//

#include "passes/ScalarOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cfloat>
#include <cmath>

using namespace mlir;

namespace heddle {

namespace {
struct ScalarOps {
  OpBuilder &b;
  Location loc;
  Operation &op;
  ArrayRef<Value> x;

  Value k(Type type, int64_t v) {
    TypedAttr element = b.getIntegerAttr(getElementTypeOrSelf(type), v);
    return constant(type, element);
  }
  Value k(Type type, double v) {
    TypedAttr element = b.getFloatAttr(getElementTypeOrSelf(type), v);
    return constant(type, element);
  }
  Value constant(Type type, TypedAttr element) {
    auto shaped = dyn_cast<ShapedType>(type);
    return arith::ConstantOp::create(b, loc,
                                     shaped ? cast<TypedAttr>(DenseElementsAttr::get(shaped, element)) : element);
  }
  Value cmp(arith::CmpIPredicate p, Value l, Value r) { return arith::CmpIOp::create(b, loc, p, l, r); }
  Value select(Value c, Value l, Value r) { return arith::SelectOp::create(b, loc, c, l, r); }
  Value add(Value l, Value r) { return arith::AddFOp::create(b, loc, l, r); }
  Value sub(Value l, Value r) { return arith::SubFOp::create(b, loc, l, r); }
  Value mul(Value l, Value r) { return arith::MulFOp::create(b, loc, l, r); }
  Value div(Value l, Value r) { return arith::DivFOp::create(b, loc, l, r); }
  Value sqrt(Value v) { return math::SqrtOp::create(b, loc, v); }
  Value log1p(Value v) { return math::Log1pOp::create(b, loc, v); }
  Value abs(Value v) { return math::AbsFOp::create(b, loc, v); }

  /// The operation itself, on other operands.
  Value same(Value l, Value r) {
    OperationState state(loc, op.getName(), {l, r}, {l.getType()}, op.getAttrs());
    return b.create(state)->getResult(0);
  }

  Value division(bool isSigned, bool isRemainder) {
    Type type = x[0].getType();
    APInt known;
    if (matchPattern(op.getOperand(1), m_ConstantInt(&known)) && !known.isZero() && !known.isAllOnes()) {
      return {};
    }
    Value zero = k(type, int64_t(0)), one = k(type, int64_t(1));
    Value none = cmp(arith::CmpIPredicate::eq, x[1], zero);
    Value negation = isSigned ? cmp(arith::CmpIPredicate::eq, x[1], k(type, int64_t(-1))) : Value();
    Value special = isSigned ? arith::OrIOp::create(b, loc, none, negation).getResult() : none;
    Value result = same(x[0], select(special, one, x[1]));
    if (isSigned) { // the least integer has no negation, and stops the processor as well
      result = select(negation, isRemainder ? zero : arith::SubIOp::create(b, loc, zero, x[0]).getResult(), result);
    }
    return select(none, zero, result);
  }

  Value shift() {
    Type type = x[0].getType();
    Type element = getElementTypeOrSelf(type);
    int64_t width = element.isIndex() ? 64 : element.getIntOrFloatBitWidth();
    APInt known;
    if (matchPattern(op.getOperand(1), m_ConstantInt(&known)) && known.ult(width)) {
      return {};
    }
    Value zero = k(type, int64_t(0));
    Value good =
        width == 1 ? cmp(arith::CmpIPredicate::eq, x[1], zero) : cmp(arith::CmpIPredicate::ult, x[1], k(type, width));
    return select(good, same(x[0], select(good, x[1], zero)), zero);
  }

  // asinh |x| = log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))), with the sign of x
  Value asinh() {
    Value one = k(x[0].getType(), 1.0), y = abs(x[0]), square = mul(y, y);
    Value z = log1p(add(y, div(square, add(one, sqrt(add(square, one))))));
    return math::CopySignOp::create(b, loc, z, x[0]);
  }
  // acosh x = log1p(t + sqrt(2 t + t^2)), t = x - 1
  Value acosh() {
    Value t = sub(x[0], k(x[0].getType(), 1.0));
    return log1p(add(t, sqrt(add(add(t, t), mul(t, t)))));
  }
  // atanh x = log1p(2 x / (1 - x)) / 2
  Value atanh() {
    Value r = div(add(x[0], x[0]), sub(k(x[0].getType(), 1.0), x[0]));
    return mul(log1p(r), k(x[0].getType(), 0.5));
  }
  Value compare(arith::CmpFPredicate p, double with) {
    return arith::CmpFOp::create(b, loc, p, abs(x[0]), k(x[0].getType(), with));
  }
  Value isNormal() {
    bool wide = getElementTypeOrSelf(x[0].getType()).isF64();
    Value least = compare(arith::CmpFPredicate::OGE, wide ? DBL_MIN : FLT_MIN);
    return arith::AndIOp::create(b, loc, least, compare(arith::CmpFPredicate::OLT, INFINITY));
  }
  Value power() {
    Value n = arith::SIToFPOp::create(b, loc, x[0].getType(), x[1]);
    return math::PowFOp::create(b, loc, x[0], n);
  }
  Value clamp() {
    Value low = arith::MaximumFOp::create(b, loc, x[0], x[1]);
    return arith::MinimumFOp::create(b, loc, low, x[2]);
  }
};
} // namespace

Value emitScalarOp(OpBuilder &b, Location loc, Operation &op, ArrayRef<Value> operands) {
  ScalarOps make{b, loc, op, operands};
  return llvm::TypeSwitch<Operation *, Value>(&op)
      .Case<arith::DivSIOp, arith::FloorDivSIOp, arith::CeilDivSIOp>([&](auto) { return make.division(true, false); })
      .Case<arith::RemSIOp>([&](auto) { return make.division(true, true); })
      .Case<arith::DivUIOp, arith::CeilDivUIOp, arith::RemUIOp>([&](auto) { return make.division(false, false); })
      .Case<arith::ShLIOp, arith::ShRSIOp, arith::ShRUIOp>([&](auto) { return make.shift(); })
      .Case<math::AsinhOp>([&](auto) { return make.asinh(); })
      .Case<math::AcoshOp>([&](auto) { return make.acosh(); })
      .Case<math::AtanhOp>([&](auto) { return make.atanh(); })
      .Case<math::IsInfOp>([&](auto) { return make.compare(arith::CmpFPredicate::OEQ, INFINITY); })
      .Case<math::IsNormalOp>([&](auto) { return make.isNormal(); })
      .Case<math::FPowIOp>([&](auto) { return make.power(); })
      .Case<math::ClampFOp>([&](auto) { return make.clamp(); })
      .Default([](Operation *) { return Value(); });
}

} // namespace heddle
