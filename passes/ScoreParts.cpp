//===- ScoreParts.cpp - What many pairs of a score region share -----------===//

#include "passes/ScoreParts.h"

#include "dialect/Attn.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace heddle {

namespace {
/// What a value depends on, besides the batch, the head and values from outside.
enum class On : uint8_t { Nothing, Query, Key, Distance, Pair };

On join(On x, On y) { return x == On::Nothing || x == y ? y : y == On::Nothing ? x : On::Pair; }

/// An integer a * i + b * j + (what depends on neither).
struct Linear {
  int64_t query, key;
};

On dependence(const Linear &x) {
  if (x.query == 0) {
    return x.key == 0 ? On::Nothing : On::Key;
  }
  return x.key == 0 ? On::Query : x.query == -x.key ? On::Distance : On::Pair;
}

class Dependences {
public:
  Dependences(Region &region, bool headByLane)
      : block(&region.front()), first(region.getNumArguments() - 4), headByLane(headByLane) {}

  On of(Value v) {
    auto [known, fresh] = found.try_emplace(v, On::Pair);
    if (!fresh) {
      return known->second;
    }
    On on = compute(v);
    found[v] = on;
    return on;
  }

  /// About how many instructions it takes to compute `v` for lanes: of what depends on nothing, none.
  double cost(Value v) {
    Operation *op = inside(v);
    if (!op || of(v) == On::Nothing) {
      return 0;
    }
    double sum = ownCost(op);
    for (Value operand : op->getOperands()) {
      sum += cost(operand);
    }
    return sum;
  }

  /// The operation of the region that makes `v`, or null.
  Operation *inside(Value v) const {
    Operation *op = v.getDefiningOp();
    return op && op->getBlock() == block ? op : nullptr;
  }

  /// Measured in units of an addition.
  static double ownCost(Operation *op) {
    return llvm::TypeSwitch<Operation *, double>(op)
        .Case<arith::IndexCastOp, arith::ConstantOp>([](auto) { return 0; })
        .Case<attn::LoadOp>([](auto) { return 8; })
        .Case<arith::DivFOp, arith::DivSIOp, arith::FloorDivSIOp, arith::RemSIOp, math::SqrtOp>([](auto) { return 4; })
        .Case<math::AbsFOp, math::AbsIOp, math::FloorOp, math::CeilOp, math::FmaOp>([](auto) { return 1; })
        .Case<math::TanhOp>([](auto) { return 10; })
        .Case<math::ExpOp, math::Exp2Op, math::LogOp, math::Log2Op, math::ErfOp>([](auto) { return 25; })
        .Default([](Operation *other) {
          constexpr double kCalls = 190; // of the C library, for each lane
          return isa<math::MathDialect>(other->getDialect()) ? kCalls : 1;
        });
  }

private:
  Block *block;
  unsigned first;
  bool headByLane;
  llvm::DenseMap<Value, On> found;

  bool isInside(Value v) const { return v.getParentBlock() == block; }

  On compute(Value v) {
    if (std::optional<Linear> x = linear(v)) {
      return dependence(*x);
    }
    if (auto argument = dyn_cast<BlockArgument>(v)) {
      const unsigned n = argument.getArgNumber();
      return isInside(v) && (n < first || (n == first + 1 && headByLane)) ? On::Pair : On::Nothing;
    }
    if (!isInside(v)) {
      return On::Nothing;
    }
    Operation *op = v.getDefiningOp();
    if (auto compare = dyn_cast<arith::CmpIOp>(op)) {
      std::optional<Linear> x = linear(compare.getLhs()), y = linear(compare.getRhs());
      if (x && y) {
        return dependence({x->query - y->query, x->key - y->key});
      }
    }
    On on = On::Nothing;
    for (Value operand : op->getOperands()) {
      on = join(on, of(operand));
    }
    return on;
  }

  std::optional<Linear> linear(Value v) {
    if (!v.getType().isIntOrIndex() || v.getType().isInteger(1)) {
      return std::nullopt;
    }
    if (!isInside(v)) {
      return Linear{0, 0};
    }
    if (auto argument = dyn_cast<BlockArgument>(v)) {
      unsigned n = argument.getArgNumber();
      if (n == first + 1 && headByLane) {
        return std::nullopt;
      }
      return Linear{n == first + 2, n == first + 3};
    }
    Operation *op = v.getDefiningOp();
    if (isa<arith::IndexCastOp>(op) && !v.getType().isInteger(32)) {
      return linear(op->getOperand(0));
    }
    if (isa<arith::ConstantOp>(op)) {
      return Linear{0, 0};
    }
    if (!isa<arith::AddIOp, arith::SubIOp>(op)) {
      return std::nullopt;
    }
    std::optional<Linear> x = linear(op->getOperand(0)), y = linear(op->getOperand(1));
    if (!x || !y) {
      return std::nullopt;
    }
    const int64_t sign = isa<arith::AddIOp>(op) ? 1 : -1;
    return Linear{x->query + sign * y->query, x->key + sign * y->key};
  }
};
} // namespace

/// Reading a part back costs a load and its share of computing it.
static constexpr double kWorth = 4;

/// The parts of a region, and calls `other` for the values outside of them that its score needs.
static SmallVector<ScorePart> findParts(Region &region, Dependences &dependences,
                                        llvm::function_ref<void(Value)> other) {
  SmallVector<ScorePart> parts;
  llvm::DenseSet<Value> seen;
  std::function<void(Value)> visit = [&](Value v) {
    Operation *op = dependences.inside(v);
    if (!op || !seen.insert(v).second) {
      return;
    }
    const On on = dependences.of(v);
    if ((on == On::Distance || on == On::Key) && v.getType().isF32() && dependences.cost(v) >= kWorth) {
      parts.push_back({v, on == On::Key});
      return;
    }
    other(v);
    for (Value operand : op->getOperands()) {
      visit(operand);
    }
  };
  visit(region.front().getTerminator()->getOperand(0));
  return parts;
}

SmallVector<ScorePart> scoreParts(Region &region, bool headByLane, SmallVectorImpl<Operation *> &loads) {
  Dependences dependences(region, headByLane);
  llvm::DenseSet<Operation *> others;
  SmallVector<ScorePart> parts = findParts(region, dependences, [&](Value v) { others.insert(v.getDefiningOp()); });
  llvm::erase_if(loads, [&](Operation *load) { return !others.contains(load); });
  return parts;
}

double scoreWork(Region *region, size_t dots) {
  double sum = 3 + static_cast<double>(dots); // scores are read, written and compared with the greatest
  if (!region) {
    return dots == 1 ? 0 : sum;
  }
  Dependences dependences(*region, false);
  SmallVector<ScorePart> parts = findParts(*region, dependences, [&](Value v) {
    const On on = dependences.of(v); // what depends on the query alone stands before the loop
    sum += on == On::Nothing || on == On::Query ? 0 : Dependences::ownCost(v.getDefiningOp());
  });
  for (const ScorePart &part : parts) {
    sum += 1 + dependences.cost(part.value) / 8;
  }
  return sum;
}

static Value keyOf(Emitter &e, const KeySquare &square, Value n) {
  return e.toInt(e.load(e.i32, e.at(square.keys, e.mul(n, 4)), 4), e.i64);
}

/// The positions of the square's keys; the first stands in behind the last.
static Value keysOf(Emitter &e, const KeySquare &square) {
  Value all = e.toInt(e.load(e.vec(e.i32), square.keys, 4), e.i64);
  return e.select(e.lt(e.iota(), e.splat(square.count)), all, e.splat(keyOf(e, square, e.c(0))));
}

PartRows fillByDistance(Emitter &e, const KeySquare &square, Value memory,
                        llvm::function_ref<Value(Value, Value)> part) {
  const int64_t width = e.target.width;
  // Queries q + s l and keys j + s n have the distances base + s x, x from 0 to 2 width - 2: two registers.
  Value query = vector::ExtractOp::create(e.b, e.loc, square.queries, 0), key = keyOf(e, square, e.c(0));
  Value step = e.sub(vector::ExtractOp::create(e.b, e.loc, square.queries, 1), query);
  Value ramp = e.mul(e.iota(), e.splat(step));
  auto differ = [&](Value x, Value first) { return e.cmp(arith::CmpIPredicate::ne, x, e.add(ramp, e.splat(first))); };
  Value inside = e.lt(e.iota(), e.splat(square.count));
  Value uneven = e.either(differ(square.queries, query), e.both(inside, differ(keysOf(e, square), key)));
  Value even = e.flip(e.any(uneven));
  Value base = e.sub(e.sub(query, key), e.mul(step, width - 1));
  e.loop(e.c(0), e.select(even, e.c(2), square.count), 1, [&](Value n) {
    Value distances = e.add(ramp, e.splat(e.add(base, e.mul(step, e.mul(n, width)))));
    Value x = part(e.select(even, distances, square.queries), e.select(even, e.c(0), keyOf(e, square, n)));
    e.store(e.splat(x), e.at(memory, e.mul(n, width * 4)), 4);
  });
  return {e.at(memory, e.select(even, e.c((width - 1) * 4), e.c(0))), e.select(even, e.c(-4), e.c(width * 4))};
}

void fillByKey(Emitter &e, const KeySquare &square, Value memory, llvm::function_ref<Value(Value)> part) {
  e.store(e.splat(part(keysOf(e, square))), memory, 4);
}

} // namespace heddle
