//===- Emitter.cpp - Short spellings for the IR that kernels are made of --===//

#include "passes/Emitter.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <bit>

using namespace mlir;

namespace heddle {

Value Emitter::constant(Type type, int64_t v) {
  Type element = getElementTypeOrSelf(type);
  if (isa<FloatType>(element)) {
    return constant(type, static_cast<double>(v));
  }
  TypedAttr attr = b.getIntegerAttr(element, v);
  if (auto vt = dyn_cast<VectorType>(type)) {
    attr = DenseElementsAttr::get(vt, Attribute(attr));
  }
  return arith::ConstantOp::create(b, loc, attr);
}

Value Emitter::constant(Type type, double v) {
  Type element = getElementTypeOrSelf(type);
  TypedAttr attr = b.getFloatAttr(element, v);
  if (auto vt = dyn_cast<VectorType>(type)) {
    attr = DenseElementsAttr::get(vt, Attribute(attr));
  }
  return arith::ConstantOp::create(b, loc, attr);
}

Value Emitter::iota() {
  SmallVector<int64_t> lanes(target.width);
  for (int64_t l = 0; l < target.width; ++l) {
    lanes[l] = l;
  }
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(i64), ArrayRef<int64_t>(lanes)));
}

Value Emitter::splat(Value v) {
  return isVector(v) ? v : vector::BroadcastOp::create(b, loc, vec(v.getType()), v).getResult();
}

/// Broadcasts the scalar one of two operands where the other is a vector.
static void match(Emitter &e, Value &x, Value &y) {
  if (Emitter::isVector(x) && !Emitter::isVector(y)) {
    y = e.splat(y);
  } else if (Emitter::isVector(y) && !Emitter::isVector(x)) {
    x = e.splat(x);
  }
}

Value Emitter::add(Value x, Value y) {
  match(*this, x, y);
  return isa<FloatType>(elementType(x)) ? arith::AddFOp::create(b, loc, x, y).getResult()
                                        : arith::AddIOp::create(b, loc, x, y).getResult();
}

Value Emitter::sub(Value x, Value y) {
  match(*this, x, y);
  return isa<FloatType>(elementType(x)) ? arith::SubFOp::create(b, loc, x, y).getResult()
                                        : arith::SubIOp::create(b, loc, x, y).getResult();
}

Value Emitter::mul(Value x, Value y) {
  match(*this, x, y);
  return isa<FloatType>(elementType(x)) ? arith::MulFOp::create(b, loc, x, y).getResult()
                                        : arith::MulIOp::create(b, loc, x, y).getResult();
}

Value Emitter::fma(Value x, Value y, Value z) {
  if (!target.fma) {
    return add(mul(x, y), z);
  }
  return math::FmaOp::create(b, loc, x, y, z);
}

Value Emitter::fmaPairs(Value x, Value y, Value z) {
  Type type = VectorType::get({2 * target.width}, b.getBF16Type());
  auto halves = [&](Value v) { return LLVM::BitcastOp::create(b, loc, type, v).getResult(); };
  auto name = b.getStringAttr("llvm.x86.avx512bf16.dpbf16ps.512");
  return LLVM::CallIntrinsicOp::create(b, loc, vec(f32), name, ValueRange{z, halves(x), halves(y)}).getResult(0);
}

Value Emitter::min(Value x, Value y) {
  match(*this, x, y);
  if (isa<FloatType>(elementType(x))) {
    return select(cmp(arith::CmpFPredicate::OLT, x, y), x, y);
  }
  return arith::MinSIOp::create(b, loc, x, y);
}

Value Emitter::max(Value x, Value y) {
  match(*this, x, y);
  if (isa<FloatType>(elementType(x))) {
    return select(cmp(arith::CmpFPredicate::OGT, x, y), x, y);
  }
  return arith::MaxSIOp::create(b, loc, x, y);
}

Value Emitter::cmp(arith::CmpIPredicate p, Value x, Value y) {
  match(*this, x, y);
  return arith::CmpIOp::create(b, loc, p, x, y);
}

Value Emitter::cmp(arith::CmpFPredicate p, Value x, Value y) {
  match(*this, x, y);
  return arith::CmpFOp::create(b, loc, p, x, y);
}

Value Emitter::select(Value cond, Value x, Value y) {
  match(*this, x, y);
  if (isVector(cond) && !isVector(x)) {
    x = splat(x);
    y = splat(y);
  }
  return arith::SelectOp::create(b, loc, cond, x, y);
}

Value Emitter::both(Value x, Value y) {
  match(*this, x, y);
  return arith::AndIOp::create(b, loc, x, y);
}

Value Emitter::either(Value x, Value y) {
  match(*this, x, y);
  return arith::OrIOp::create(b, loc, x, y);
}

Value Emitter::floorDiv(Value x, int64_t n) {
  if (n == 1) {
    return x;
  }
  if (std::has_single_bit(static_cast<uint64_t>(n))) {
    return arith::ShRSIOp::create(b, loc, x,
                                  constant(x.getType(), int64_t(std::countr_zero(static_cast<uint64_t>(n)))));
  }
  if (!isVector(x)) {
    return floorDiv(x, c(n));
  }
  Value f = arith::SIToFPOp::create(b, loc, vec(f64), x);
  Value q = floorQuotient(f, constant(vec(f64), 1 / static_cast<double>(n)));
  return arith::FPToSIOp::create(b, loc, x.getType(), q);
}

/// (x + 1/2) / n is at least 1/(2 n) from an integer, and its two roundings move it by less where |x| < 2^50.
Value Emitter::floorQuotient(Value x, Value reciprocal) {
  return math::FloorOp::create(b, loc, mul(add(x, constant(x.getType(), 0.5)), reciprocal));
}

Value Emitter::floorDiv(Value x, Value n) {
  // q = x / n rounds to zero; one less where the remainder is negative (n > 0).
  Value q = arith::DivSIOp::create(b, loc, x, n);
  Value r = arith::SubIOp::create(b, loc, x, arith::MulIOp::create(b, loc, q, n));
  Value low = arith::ExtSIOp::create(b, loc, x.getType(), lt(r, c(0)));
  return add(q, low);
}

Value Emitter::floorMod(Value x, int64_t n) {
  if (n == 1) {
    return constant(x.getType(), int64_t(0));
  }
  if (std::has_single_bit(static_cast<uint64_t>(n))) {
    return arith::AndIOp::create(b, loc, x, constant(x.getType(), n - 1));
  }
  if (isVector(x) && static_cast<double>(n) < kExactQuotient) {
    Value f = arith::SIToFPOp::create(b, loc, vec(f64), x), size = constant(vec(f64), static_cast<double>(n));
    Value q = floorQuotient(f, constant(vec(f64), 1 / static_cast<double>(n)));
    return arith::FPToSIOp::create(b, loc, x.getType(), sub(f, mul(q, size)));
  }
  return sub(x, mul(floorDiv(x, n), n));
}

Value Emitter::toInt(Value v, Type element) {
  Type from = elementType(v);
  if (from == element) {
    return v;
  }
  Type to = typeLike(v, element);
  if (from.getIntOrFloatBitWidth() == 1) {
    return arith::ExtUIOp::create(b, loc, to, v);
  }
  if (from.getIntOrFloatBitWidth() > element.getIntOrFloatBitWidth()) {
    return arith::TruncIOp::create(b, loc, to, v);
  }
  return arith::ExtSIOp::create(b, loc, to, v);
}

/// 2^x = 2^n 2^(j/32) 2^f with 32 n + j = round(32 x), |f| <= 1/64. Multiply-adds are what a kernel has none to spare
/// of: 2^(j/32) comes from a table of two registers, which leaves a polynomial of degree 2 with p(0) = 1.
Value Emitter::exp2OfParts(Value shifted, Value whole, Value f) {
  Type type = f.getType();
  auto half = [&](int64_t from) {
    SmallVector<float> table;
    for (int64_t j = from; j < from + 16; ++j) {
      table.push_back(static_cast<float>(std::exp2(static_cast<double>(j) / 32)));
    }
    auto values = DenseElementsAttr::get(cast<ShapedType>(type), ArrayRef<float>(table));
    return arith::ConstantOp::create(b, loc, values).getResult();
  };
  Value index = arith::BitcastOp::create(b, loc, typeLike(f, i32), shifted);
  auto permute = b.getStringAttr("llvm.x86.avx512.vpermi2var.ps.512");
  Value t = LLVM::CallIntrinsicOp::create(b, loc, type, permute, ValueRange{half(0), index, half(16)}).getResult(0);
  Value p = fma(f, constant(type, 0.2402265), constant(type, 0.69315733));
  p = fma(mul(t, f), p, t);
  // vscalefps rounds `whole` down to n. For -inf, p is NaN, and it gives 0 for (NaN, -inf); for NaN both are NaN.
  auto scale = b.getStringAttr("llvm.x86.avx512.mask.scalef.ps.512");
  Value all = arith::ConstantOp::create(b, loc, b.getI16IntegerAttr(-1));
  Value current = c32(4); // round as the current mode does
  return LLVM::CallIntrinsicOp::create(b, loc, type, scale, ValueRange{p, whole, p, all, current}).getResult(0);
}

Value Emitter::exp2(Value x) {
  if (target.avx512 && isVector(x)) {
    // The low bits of x + 1.5 * 2^18 are round(32 x); those below the lowest five are n.
    Value magic = constant(x.getType(), 393216.0), shifted = add(x, magic), whole = sub(shifted, magic);
    return exp2OfParts(shifted, whole, sub(x, whole));
  }
  // 2^x = 2^n 2^f with n = round(x), |f| <= 1/2, and a minimax polynomial of degree 5 for 2^f.
  static constexpr double kCoefficients[] = {1.32647285e-3, 9.67151299e-3, 5.55073358e-2,
                                             2.40222424e-1, 6.93147004e-1, 1.0};
  Type type = x.getType();
  // 2^-127 comes out as exactly 0 below: its exponent bits are 0, its polynomial exactly 1. The constant is the
  // first operand, so that a NaN stays.
  Value low = constant(type, -127.0);
  x = select(cmp(arith::CmpFPredicate::OGT, low, x), low, x);
  // In x + 1.5 * 2^23 the low bits are round(x).
  Value magic = constant(type, 12582912.0), shifted = add(x, magic), f = sub(x, sub(shifted, magic));
  Value p = constant(type, kCoefficients[0]);
  for (double k : ArrayRef<double>(kCoefficients).drop_front()) {
    p = fma(p, f, constant(type, k));
  }
  // Adds n to the exponent's bits; a NaN is put back.
  Type ints = typeLike(x, i32);
  Value bits =
      arith::ShLIOp::create(b, loc, arith::BitcastOp::create(b, loc, ints, shifted), constant(ints, int64_t(23)));
  Value sum = arith::AddIOp::create(b, loc, arith::BitcastOp::create(b, loc, ints, p), bits);
  Value nan = cmp(arith::CmpFPredicate::UNO, x, x);
  return select(nan, x, arith::BitcastOp::create(b, loc, type, sum));
}

Value Emitter::any(Value lanes) {
  Type bits = b.getIntegerType(target.width);
  Value word = LLVM::BitcastOp::create(b, loc, bits, lanes);
  return cmp(arith::CmpIPredicate::ne, word, constant(bits, int64_t(0)));
}

Value Emitter::countTrue(Value lanes) {
  if (target.width < 8) { // no processor's word
    Value ones = arith::ExtUIOp::create(b, loc, vec(i64), lanes);
    return vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, ones);
  }
  Value word = LLVM::BitcastOp::create(b, loc, b.getIntegerType(target.width), lanes);
  return LLVM::CtPopOp::create(b, loc, i64, arith::ExtUIOp::create(b, loc, i64, word));
}

Value Emitter::compress(Value v, Value lanes) {
  Value rest = LLVM::UndefOp::create(b, loc, v.getType());
  auto name = b.getStringAttr("llvm.experimental.vector.compress");
  return LLVM::CallIntrinsicOp::create(b, loc, v.getType(), name, ValueRange{v, lanes, rest}).getResult(0);
}

Value Emitter::at(Value base, Value byteOffset) {
  return LLVM::GEPOp::create(b, loc, ptr, i8, base, ArrayRef<LLVM::GEPArg>{byteOffset});
}

Value Emitter::at(Value base, int64_t byteOffset) {
  if (byteOffset == 0) {
    return base;
  }
  return LLVM::GEPOp::create(b, loc, ptr, i8, base, ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(byteOffset)});
}

Value Emitter::load(Type type, Value address, unsigned align) {
  return LLVM::LoadOp::create(b, loc, type, address, align);
}

void Emitter::store(Value v, Value address, unsigned align) { LLVM::StoreOp::create(b, loc, v, address, align); }

void Emitter::prefetch(Value address, int64_t bytes, int level) {
  for (int64_t line = 0; line < bytes; line += 64) {
    LLVM::Prefetch::create(b, loc, at(address, line), /*rw=*/0, /*hint=*/4 - level, /*cache=*/1);
  }
}

Value Emitter::toPtr(Value i) { return LLVM::IntToPtrOp::create(b, loc, ptr, i); }
Value Emitter::toInt(Value pointer) { return LLVM::PtrToIntOp::create(b, loc, i64, pointer); }

Value Emitter::halfToFloat(Value h) {
  Type ints = h.getType(), floats = typeLike(h, f32);
  auto k = [&](int64_t v) { return constant(ints, v); };
  Value magnitude = arith::ShLIOp::create(b, loc, both(h, k(0x7fff)), k(13));
  Value exponent = both(magnitude, k(0x0f800000));
  Value o = add(magnitude, k((127 - 15) << 23));
  Value special = add(o, k((128 - 16) << 23)); // inf and NaN
  Value magic = k(113 << 23);
  Value tiny = arith::SubFOp::create(b, loc, arith::BitcastOp::create(b, loc, floats, add(o, k(1 << 23))),
                                     arith::BitcastOp::create(b, loc, floats, magic));
  Value subnormal = arith::BitcastOp::create(b, loc, ints, tiny);
  o = select(eq(exponent, k(0x0f800000)), special, select(eq(exponent, k(0)), subnormal, o));
  Value sign = arith::ShLIOp::create(b, loc, both(h, k(0x8000)), k(16));
  return arith::BitcastOp::create(b, loc, floats, either(o, sign));
}

/// f32 bits (i32) to f16 bits (in i32), rounding to nearest even.
Value Emitter::floatToHalf(Value u) {
  Type ints = u.getType(), floats = typeLike(u, f32);
  auto k = [&](int64_t v) { return constant(ints, v); };
  auto asFloat = [&](Value v) { return arith::BitcastOp::create(b, loc, floats, v).getResult(); };
  auto asInt = [&](Value v) { return arith::BitcastOp::create(b, loc, ints, v).getResult(); };
  Value sign = both(u, k(int64_t(0x80000000)));
  Value m = arith::XOrIOp::create(b, loc, u, sign);
  Value special = select(cmp(arith::CmpIPredicate::sgt, m, k(255 << 23)), k(0x7e00), k(0x7c00));
  Value magic = k(((127 - 15) + (23 - 10) + 1) << 23);
  Value tiny = sub(asInt(add(asFloat(m), asFloat(magic))), magic);
  Value odd = both(arith::ShRUIOp::create(b, loc, m, k(13)), k(1));
  Value normal = arith::ShRUIOp::create(b, loc, add(add(m, k(0xfff - ((127 - 15) << 23))), odd), k(13));
  Value r = select(ge(m, k((127 + 16) << 23)), special, select(lt(m, k(113 << 23)), tiny, normal));
  return either(r, arith::ShRUIOp::create(b, loc, sign, k(16)));
}

Value Emitter::loadAsF32(Type storage, Value address, bool vector) {
  auto typed = [&](Type t) { return vector ? Type(vec(t)) : t; };
  if (storage.isF32()) {
    return load(typed(f32), address, 4);
  }
  if (storage.isF16() && target.f16c) {
    return arith::ExtFOp::create(b, loc, typed(f32), load(typed(b.getF16Type()), address, 2));
  }
  Value bits = arith::ExtUIOp::create(b, loc, typed(i32), load(typed(i16), address, 2));
  if (storage.isF16()) {
    return halfToFloat(bits);
  }
  bits = arith::ShLIOp::create(b, loc, bits, constant(bits.getType(), int64_t(16)));
  return arith::BitcastOp::create(b, loc, typed(f32), bits);
}

void Emitter::storeF32As(Type storage, Value v, Value address) {
  if (storage.isF32()) {
    return store(v, address, 4);
  }
  if (storage.isF16() && target.f16c) {
    return store(arith::TruncFOp::create(b, loc, typeLike(v, b.getF16Type()), v), address, 2);
  }
  if (storage.isBF16() && target.bf16 && v.getType() == vec(f32) && target.width == 16) {
    auto name = b.getStringAttr("llvm.x86.avx512bf16.cvtneps2bf16.512");
    return store(LLVM::CallIntrinsicOp::create(b, loc, vec(b.getBF16Type()), name, v).getResult(0), address, 2);
  }
  Type ints = typeLike(v, i32);
  Value u = arith::BitcastOp::create(b, loc, ints, v);
  if (storage.isF16()) {
    u = floatToHalf(u);
  } else {
    // Round to nearest even on the upper half; a NaN keeps its top bits and turns quiet.
    auto k = [&](int64_t x) { return constant(ints, x); };
    Value odd = both(arith::ShRUIOp::create(b, loc, u, k(16)), k(1));
    Value rounded = add(add(u, k(0x7fff)), odd);
    Value nan = cmp(arith::CmpFPredicate::UNO, v, v);
    u = arith::ShRUIOp::create(b, loc, select(nan, either(u, k(0x400000)), rounded), k(16));
  }
  store(arith::TruncIOp::create(b, loc, typeLike(v, i16), u), address, 2);
}

Emitter::Values Emitter::loop(Value lo, Value hi, int64_t step, ValueRange init,
                              llvm::function_ref<Values(Value, ValueRange)> body) {
  auto op = scf::ForOp::create(b, loc, lo, hi, c(step), init, [&](OpBuilder &, Location, Value iv, ValueRange args) {
    // The builder's insertion point is inside the body here.
    Values next = body(iv, args);
    scf::YieldOp::create(b, loc, next);
  });
  return Values(op.getResults());
}

void Emitter::loop(Value lo, Value hi, int64_t step, llvm::function_ref<void(Value)> body) {
  loop(lo, hi, step, {}, [&](Value iv, ValueRange) {
    body(iv);
    return Values{};
  });
}

void Emitter::ifThen(Value cond, llvm::function_ref<void()> then) {
  scf::IfOp::create(b, loc, cond, [&](OpBuilder &, Location) {
    then();
    scf::YieldOp::create(b, loc);
  });
}

void Emitter::ifElse(Value cond, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise) {
  scf::IfOp::create(
      b, loc, cond,
      [&](OpBuilder &, Location) {
        then();
        scf::YieldOp::create(b, loc);
      },
      [&](OpBuilder &, Location) {
        otherwise();
        scf::YieldOp::create(b, loc);
      });
}

Emitter::Values Emitter::ifElse(Value cond, TypeRange, llvm::function_ref<Values()> then,
                                llvm::function_ref<Values()> otherwise) {
  auto op = scf::IfOp::create(
      b, loc, cond,
      [&](OpBuilder &, Location) {
        Values v = then();
        scf::YieldOp::create(b, loc, v);
      },
      [&](OpBuilder &, Location) {
        Values v = otherwise();
        scf::YieldOp::create(b, loc, v);
      });
  return Values(op.getResults());
}

Emitter::Values Emitter::call(StringRef callee, TypeRange results, ValueRange args) {
  auto op = func::CallOp::create(b, loc, callee, results, args);
  return Values(op.getResults());
}

} // namespace heddle
