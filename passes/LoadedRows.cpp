//===- LoadedRows.cpp - Loads of a score region along the keys ------------===//

#include "passes/LoadedRows.h"

#include "passes/EmitExpr.h"
#include "passes/Transpose.h"

using namespace mlir;

namespace heddle {

using Values = Emitter::Values;

namespace {
/// Index expressions of sums, differences and products, over the block arguments (b, h, i, j).
class Indices {
public:
  explicit Indices(Region &region) : first(region.getNumArguments() - 4), block(&region.front()) {}

  /// The factor of j, where the expression is such a one.
  std::optional<int64_t> factorOfKey(Value v) const {
    if (auto argument = dyn_cast<BlockArgument>(v)) {
      if (argument.getOwner() != block || argument.getArgNumber() < first) {
        return std::nullopt;
      }
      return argument.getArgNumber() == first + 3 ? 1 : 0;
    }
    Operation *op = v.getDefiningOp();
    if (isa<arith::ConstantOp>(op)) {
      return 0;
    }
    if (isa<arith::IndexCastOp>(op)) {
      return factorOfKey(op->getOperand(0));
    }
    if (!isa<arith::AddIOp, arith::SubIOp, arith::MulIOp>(op)) {
      return std::nullopt;
    }
    std::optional<int64_t> x = factorOfKey(op->getOperand(0)), y = factorOfKey(op->getOperand(1));
    if (!x || !y) {
      return std::nullopt;
    }
    if (isa<arith::MulIOp>(op)) {
      return *x == 0 && *y == 0 ? std::optional<int64_t>(0) : std::nullopt;
    }
    return isa<arith::AddIOp>(op) ? *x + *y : *x - *y;
  }

  bool dependsOnQuery(Value v) const {
    if (auto argument = dyn_cast<BlockArgument>(v)) {
      return argument.getArgNumber() == first + 2;
    }
    return llvm::any_of(v.getDefiningOp()->getOperands(), [&](Value x) { return dependsOnQuery(x); });
  }

  /// Its value where b, h, i and j are `at`: an i64, scalar or of lanes.
  Value emit(Emitter &e, Value v, ArrayRef<Value> at) const {
    if (auto argument = dyn_cast<BlockArgument>(v)) {
      return at[argument.getArgNumber() - first];
    }
    Operation *op = v.getDefiningOp();
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      return e.c(cast<IntegerAttr>(constant.getValue()).getInt());
    }
    Value x = emit(e, op->getOperand(0), at);
    if (isa<arith::IndexCastOp>(op)) {
      return x;
    }
    Value y = emit(e, op->getOperand(1), at);
    if (Emitter::isVector(x) || Emitter::isVector(y)) {
      x = e.splat(x);
      y = e.splat(y);
    }
    return isa<arith::AddIOp>(op) ? e.add(x, y) : isa<arith::SubIOp>(op) ? e.sub(x, y) : e.mul(x, y);
  }

private:
  unsigned first;
  Block *block;
};
} // namespace

SmallVector<Operation *> loadsAlongKeys(Region &region) {
  SmallVector<Operation *> out;
  Indices indices(region);
  region.walk([&](attn::LoadOp load) {
    Type element = cast<RankedTensorType>(load.getTensor().getType()).getElementType();
    if (load.getIndices().empty() ||
        !(element.isF32() || element.isF16() || element.isBF16() || element.isInteger(32))) {
      return;
    }
    bool good = indices.factorOfKey(load.getIndices().back()) == 1, byQuery = false;
    for (Value v : load.getIndices()) {
      std::optional<int64_t> factor = indices.factorOfKey(v);
      good &= factor && (v == load.getIndices().back() || *factor == 0);
      byQuery |= good && indices.dependsOnQuery(v);
    }
    if (good && byQuery) {
      out.push_back(load);
    }
  });
  return out;
}

static Value asWord(Emitter &e, Value v) {
  Type type = e.typeLike(v, e.f32);
  return v.getType() == type ? v : LLVM::BitcastOp::create(e.b, e.loc, type, v).getResult();
}

/// Bytes of a row that are asked for before they are loaded.
static constexpr int64_t kAhead = 128;

void fillSquare(Emitter &e, const KernelSignature &sig, Value args, Operation *op, ArrayRef<Value> arguments,
                Value keys, Value count, Value square, Value offsets) {
  auto load = cast<attn::LoadOp>(op);
  auto type = cast<RankedTensorType>(load.getTensor().getType());
  int64_t vl = e.target.width, rank = type.getRank();
  OperandRecord record{sig.argSlot(cast<BlockArgument>(load.getTensor()).getArgNumber()), type.getElementType(), rank};
  int64_t bytes = record.element.getIntOrFloatBitWidth() / 8;
  Indices indices(*load->getParentRegion());
  auto keyAt = [&](Value n) { return e.toInt(e.load(e.i32, e.at(keys, e.mul(n, 4)), 4), e.i64); };
  auto indicesAt = [&](Value key) {
    SmallVector<Value> at(arguments), out;
    at.push_back(key);
    for (Value v : load.getIndices()) {
      out.push_back(indices.emit(e, v, at));
    }
    return out;
  };
  auto rowOf = [&](Value n) { return e.at(square, e.mul(n, vl * 4)); };
  auto slot = [&](int64_t s) { return e.load(e.i64, e.at(args, (record.slot + s) * 8), 8); };
  // Neighbouring keys, adjacent elements, and as many as a register holds behind the first of each lane.
  Value first = keyAt(e.c(0)), last = keyAt(e.sub(count, e.c(1)));
  SmallVector<Value> at = indicesAt(first);
  Value start = e.splat(at.back()), end = e.splat(e.sub(slot(rank), e.c(vl)));
  Value zero = e.constant(e.vec(e.i64), int64_t(0));
  Value outside = e.any(e.either(e.lt(start, zero), e.lt(end, start)));
  Value fits = e.both(e.eq(e.sub(last, first), e.sub(count, e.c(1))), e.eq(slot(4 + rank), e.c(1)));
  e.ifElse(
      e.both(fits, e.flip(outside)),
      [&] {
        Value offset = start;
        for (int64_t k = 0; k + 1 < rank; ++k) {
          Value x = e.splat(at[k]), most = e.splat(e.add(slot(1 + k), -1));
          x = e.max(e.min(x, most), zero);
          offset = e.add(offset, e.mul(x, e.splat(slot(5 + k))));
        }
        e.store(e.mul(offset, bytes), offsets, 8);
        Value base = e.toPtr(slot(0));
        Values rows;
        for (int64_t lane = 0; lane < vl; ++lane) {
          Value from = e.at(base, e.load(e.i64, e.at(offsets, lane * 8), 8));
          // Rows lie far apart: no stream of the hardware's own asks for so many.
          e.prefetch(e.at(from, kAhead), 1, 1);
          Value v = record.element.isInteger(32) ? e.load(e.vec(e.i32), from, 4)
                                                 : e.loadAsF32(record.element, from, /*vector=*/true);
          rows.push_back(asWord(e, v));
        }
        transposeSquare(e, rows);
        for (int64_t n = 0; n < vl; ++n) {
          e.store(rows[n], e.at(square, n * vl * 4), 4);
        }
      },
      [&] {
        e.loop(e.c(0), count, 1, [&](Value n) {
          Value v = emitLoad(e, args, record, indicesAt(keyAt(n)));
          if (record.element.isF16() && Emitter::elementType(v).isF16()) {
            v = arith::ExtFOp::create(e.b, e.loc, e.typeLike(v, e.f32), v);
          }
          e.store(asWord(e, e.splat(v)), rowOf(n), 4);
        });
      });
}

Value squareRow(Emitter &e, Operation *op, Value address) {
  Type element = cast<RankedTensorType>(cast<attn::LoadOp>(op).getTensor().getType()).getElementType();
  Value words = e.loadRow(address);
  if (element.isInteger(32)) {
    return LLVM::BitcastOp::create(e.b, e.loc, e.vec(e.i32), words);
  }
  return element.isF32() ? words : arith::TruncFOp::create(e.b, e.loc, e.vec(element), words).getResult();
}

} // namespace heddle
