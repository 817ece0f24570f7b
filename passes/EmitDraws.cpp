//===- EmitDraws.cpp - The generator of random_blocks as functions --------===//
//
//   drawn(seed, u, first, last, block):        draw(seed, u, first, t):
//     while true:                                r = r(t)
//       if r(t) = block for a t in [first, last)     return drawn(.., first, t, r) ? t : r
//         return true
//       if block < first or block >= last
//         return false
//       block, last = r(block), block            taken in its own draw: r was taken before
//
// with r(t) = floor(hash(seed, u, t) * (t + 1) / 2^64) as in PatternMeaning.cpp. Lanes run until the last is done.
//
//===----------------------------------------------------------------------===//

#include "passes/EmitDraws.h"

using namespace mlir;

namespace heddle {

namespace {

constexpr auto kGolden = static_cast<int64_t>(0x9e3779b97f4a7c15u);

class DrawEmitter {
public:
  DrawEmitter(Emitter &e, Value seed, Value u) : e(e) {
    row = mixed(e.add(mixed(e.add(seed, kGolden)), e.mul(u, kGolden)));
  }

  /// floor(hash * (t + 1) / 2^64) for t + 1 < 2^31, by halves of 32 bits.
  Value draw(Value t) {
    Value hash = mixed(e.add(row, e.mul(t, kGolden))), range = e.add(t, 1);
    Value low = e.mul(e.both(hash, e.constant(hash.getType(), (int64_t(1) << 32) - 1)), range);
    return shifted(e.add(e.mul(shifted(hash, 32), range), shifted(low, 32)), 32);
  }

  Value drawn(Value first, Value last, Value block) {
    Type bit = e.typeLike(row, e.i1);
    Value no = e.constant(bit, int64_t(0)), yes = e.constant(bit, int64_t(1));
    Type integer = row.getType();
    auto done = scf::WhileOp::create(
        e.b, e.loc, TypeRange{bit, bit, integer, integer}, ValueRange{no, yes, last, block},
        [&](OpBuilder &, Location, ValueRange v) { scf::ConditionOp::create(e.b, e.loc, anyOf(v[1]), v); },
        [&](OpBuilder &, Location, ValueRange v) {
          Value active = v[1], end = v[2], wanted = v[3];
          Value from = reduced(vector::CombiningKind::MINSI, first), to = reduced(vector::CombiningKind::MAXSI, end);
          Value found = e.loop(from, to, 1, {no}, [&](Value t, ValueRange acc) {
            Value at = like(t);
            Value hit = e.both(e.eq(draw(at), wanted), e.both(e.ge(at, first), e.lt(at, end)));
            return Emitter::Values{e.either(acc[0], hit)};
          })[0];
          found = e.either(v[0], e.both(found, active));
          Value next = e.both(e.ge(wanted, first), e.lt(wanted, end));
          next = e.both(e.both(next, active), arith::XOrIOp::create(e.b, e.loc, found, yes));
          scf::YieldOp::create(
              e.b, e.loc, ValueRange{found, next, e.select(next, wanted, end), e.select(next, draw(wanted), wanted)});
        });
    return done.getResult(0);
  }

private:
  Emitter &e;
  Value row;

  Value like(Value scalar) { return Emitter::isVector(row) ? e.splat(scalar) : scalar; }
  Value anyOf(Value bits) { return Emitter::isVector(bits) ? e.any(bits) : bits; }
  Value reduced(vector::CombiningKind kind, Value v) {
    return Emitter::isVector(v) ? vector::ReductionOp::create(e.b, e.loc, kind, v).getResult() : v;
  }
  Value shifted(Value z, int64_t n) { return arith::ShRUIOp::create(e.b, e.loc, z, e.constant(z.getType(), n)); }
  /// The finaliser of SplitMix64.
  Value mixed(Value z) {
    auto fold = [&](Value v, int64_t n) -> Value { return arith::XOrIOp::create(e.b, e.loc, v, shifted(v, n)); };
    z = e.mul(fold(z, 30), static_cast<int64_t>(0xbf58476d1ce4e5b9u));
    z = e.mul(fold(z, 27), static_cast<int64_t>(0x94d049bb133111ebu));
    return fold(z, 31);
  }
};

} // namespace

llvm::StringRef declareDraws(Emitter &e, ModuleOp module, bool isDraw, bool lanes) {
  llvm::StringRef name =
      isDraw ? (lanes ? "attend_draw_lanes" : "attend_draw") : (lanes ? "attend_drawn_lanes" : "attend_drawn");
  if (module.lookupSymbol(name)) {
    return name;
  }
  OpBuilder::InsertionGuard guard(e.b);
  e.b.setInsertionPointToEnd(module.getBody());
  Type integer = lanes ? Type(e.vec(e.i64)) : e.i64, bit = lanes ? Type(e.vec(e.i1)) : e.i1;
  SmallVector<Type> arguments(isDraw ? 4 : 5, integer);
  auto fn = func::FuncOp::create(e.b, e.loc, name, e.b.getFunctionType(arguments, {isDraw ? integer : bit}));
  fn.setPrivate();
  e.b.setInsertionPointToStart(fn.addEntryBlock());
  auto a = fn.getArguments();
  DrawEmitter draws(e, a[0], a[1]);
  Value result;
  if (isDraw) {
    Value r = draws.draw(a[3]);
    result = e.select(draws.drawn(a[2], a[3], r), a[3], r);
  } else {
    result = draws.drawn(a[2], a[3], a[4]);
  }
  func::ReturnOp::create(e.b, e.loc, result);
  return name;
}

} // namespace heddle
