//===- RowKernels.cpp - Micro-kernels for one query and its own keys ------===//

#include "passes/RowKernels.h"

#include <cmath>

using namespace mlir;

namespace heddle {

static constexpr StringLiteral kKindAttr = "attn.row", kDimAttr = "attn.d", kTypeAttr = "attn.type";

static StringRef kindName(RowKernel kind) {
  switch (kind) {
  case RowKernel::Dots:
    return "dots";
  case RowKernel::Softmax:
    return "softmax";
  case RowKernel::Values:
    return "values";
  case RowKernel::ValuesExact:
    return "values_exact";
  }
  llvm_unreachable("a micro-kernel without a name");
}

std::string declareRowKernel(ModuleOp module, RowKernel kind, int64_t d, Type storage) {
  std::string name = ("row_" + kindName(kind)).str();
  if (kind != RowKernel::Softmax) {
    name += ("_d" + Twine(d)).str();
    name += storage.isF32() ? "" : storage.isBF16() ? "_bf16" : "_f16";
  }
  if (module.lookupSymbol(name)) {
    return name;
  }
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Type p = LLVM::LLVMPointerType::get(module.getContext()), i = b.getI64Type(), f = b.getF32Type();
  SmallVector<Type> ins, outs;
  switch (kind) {
  case RowKernel::Dots:
    ins = {p, i, p, i, i, p, p};
    break;
  case RowKernel::Softmax:
    ins = {p, i, p, p};
    outs = {f};
    break;
  case RowKernel::Values:
  case RowKernel::ValuesExact:
    ins = {p, i, p, i, i, p, f, p};
    break;
  }
  auto fn = func::FuncOp::create(b, module.getLoc(), name, b.getFunctionType(ins, outs));
  fn.setPrivate();
  fn->setAttr(kKindAttr, b.getStringAttr(kindName(kind)));
  fn->setAttr(kDimAttr, b.getI64IntegerAttr(d));
  fn->setAttr(kTypeAttr, TypeAttr::get(storage));
  return name;
}

bool isRowKernel(func::FuncOp fn) { return fn->hasAttr(kKindAttr); }

namespace {

class Body : public Emitter {
public:
  Body(OpBuilder &b, func::FuncOp fn, const VectorTarget &target, int64_t d, Type storage)
      : Emitter(b, fn.getLoc(), target), args(fn.getArguments()), d(d), vl(target.width), storage(storage),
        bytes(storage.isF32() ? 4 : 2) {}

  void dots();
  Value softmax();
  void values(bool exact);

private:
  ValueRange args;
  int64_t d, vl;
  Type storage;
  int64_t bytes; ///< of a storage element

  /// Registers of a row.
  int64_t registers() const { return (d + vl - 1) / vl; }
  /// Elements of a row that register r has.
  int64_t valid(int64_t r) const { return std::min(vl, d - r * vl); }
  /// Register r of the row of `type` at an address; what lies behind the row is 0 and not read.
  Value loadPart(Type type, Value row, int64_t r);
  /// Rows of keys t and t + 1, whose numbers are read at once.
  std::pair<Value, Value> rowPair(Value t);
  Value rowOf(Value t) {
    Value number = toInt(load(i32, at(args[0], mul(t, 4)), 4), i64);
    return at(args[2], mul(number, args[3]));
  }
  /// The sums of four registers, as a vector of four.
  Value sumsOf(ArrayRef<Value> four);
  void valuesBlock(int64_t first, int64_t count, bool exact);
};

} // namespace

Value Body::loadPart(Type type, Value row, int64_t r) {
  int64_t size = type.isF32() ? 4 : 2, left = valid(r);
  if (left == vl) {
    return loadAsF32(type, at(row, r * vl * size), true);
  }
  Value all = constant(vec(f32), 0.0);
  for (int64_t done = 0, width = vl / 2; width >= 1; width /= 2) {
    if (left - done < width) {
      continue;
    }
    VectorTarget narrow = target;
    narrow.width = width;
    Value part = Emitter(b, loc, narrow).loadAsF32(type, at(row, (r * vl + done) * size), true);
    all = vector::InsertStridedSliceOp::create(b, loc, part, all, ArrayRef<int64_t>{done}, ArrayRef<int64_t>{1});
    done += width;
  }
  return all;
}

std::pair<Value, Value> Body::rowPair(Value t) {
  Value both = load(i64, at(args[0], mul(t, 4)), 4), half = c(32);
  Value first = arith::ShRSIOp::create(b, loc, arith::ShLIOp::create(b, loc, both, half), half);
  Value second = arith::ShRSIOp::create(b, loc, both, half);
  return {at(args[2], mul(first, args[3])), at(args[2], mul(second, args[3]))};
}

Value Body::sumsOf(ArrayRef<Value> four) {
  // Within each 128 bits: halves of two registers side by side, twice.
  auto combine = [&](Value x, Value y, ArrayRef<int64_t> low, ArrayRef<int64_t> high) {
    SmallVector<int64_t> lows, highs;
    for (int64_t base = 0; base < vl; base += 4) {
      for (int64_t n = 0; n < 4; ++n) {
        auto lane = [&](int64_t from) { return from < 4 ? base + from : vl + base + from - 4; };
        lows.push_back(lane(low[n]));
        highs.push_back(lane(high[n]));
      }
    }
    return add(vector::ShuffleOp::create(b, loc, x, y, lows), vector::ShuffleOp::create(b, loc, x, y, highs));
  };
  Value ab = combine(four[0], four[1], {0, 4, 1, 5}, {2, 6, 3, 7});
  Value cd = combine(four[2], four[3], {0, 4, 1, 5}, {2, 6, 3, 7});
  Value sums = combine(ab, cd, {0, 1, 4, 5}, {2, 3, 6, 7});
  for (int64_t width = vl / 2; width >= 4; width /= 2) {
    auto half = [&](int64_t from) {
      return vector::ExtractStridedSliceOp::create(b, loc, sums, ArrayRef<int64_t>{from}, ArrayRef<int64_t>{width},
                                                   ArrayRef<int64_t>{1})
          .getResult();
    };
    sums = arith::AddFOp::create(b, loc, half(0), half(width));
  }
  return sums;
}

void Body::dots() {
  static_assert(kRowGroup == 4);
  constexpr int64_t kHeld = 8; // registers of q that stay in registers
  Value count = args[1], stride = args[4], q = args[5], scores = args[6];
  auto adjacent = [&] {
    Values query;
    for (int64_t r = 0; r < std::min(registers(), kHeld); ++r) {
      query.push_back(loadPart(f32, q, r));
    }
    loop(c(0), count, kRowGroup, [&](Value t) {
      SmallVector<Value> rows, sums(kRowGroup);
      for (int64_t pair = 0; pair < kRowGroup; pair += 2) {
        auto [x, y] = rowPair(add(t, pair));
        rows.append({x, y});
      }
      for (int64_t r = 0; r < registers(); ++r) {
        Value x = r < kHeld ? query[r] : loadPart(f32, q, r);
        for (auto [row, sum] : llvm::zip(rows, sums)) {
          Value k = loadPart(storage, row, r);
          sum = sum ? fma(k, x, sum) : mul(k, x);
        }
      }
      store(sumsOf(sums), at(scores, mul(t, 4)), 4);
    });
  };
  auto apart = [&] {
    loop(c(0), count, 1, [&](Value t) {
      Value row = rowOf(t);
      Values sum = loop(c(0), c(d), 1, {constant(f32, 0.0)}, [&](Value n, ValueRange acc) {
        Value x = loadAsF32(storage, at(row, mul(n, stride)), false);
        return Values{fma(x, load(f32, at(q, mul(n, 4)), 4), acc[0])};
      });
      store(sum[0], at(scores, mul(t, 4)), 4);
    });
  };
  ifElse(eq(stride, c(bytes)), adjacent, apart);
}

Value Body::softmax() {
  Value scores = args[0], count = args[1], mAt = args[2], lAt = args[3];
  Value minusInf = constant(f32, -INFINITY), zero = constant(f32, 0.0);
  Value lanes = toInt(iota(), i32);
  auto reduce = [&](vector::CombiningKind kind, Value v, arith::FastMathFlags flags) {
    return vector::ReductionOp::create(b, loc, kind, v, flags).getResult();
  };
  // What lies behind the last key does not count. S is not written here: a load of what was just written waits for it.
  auto score = [&](Value t) {
    Value inside = lt(lanes, splat(toInt(sub(count, t), i32)));
    return select(inside, loadRow(at(scores, mul(t, 4))), splat(minusInf));
  };
  Value top = loop(c(0), count, vl, {splat(minusInf)},
                   [&](Value t, ValueRange acc) { return Values{max(score(t), acc[0])}; })[0];
  Value oldMax = load(f32, mAt, 4);
  Value newMax = max(reduce(vector::CombiningKind::MAXNUMF, top, arith::FastMathFlags::nnan), oldMax);
  Value base = select(cmp(arith::CmpFPredicate::OEQ, newMax, minusInf), zero, newMax);
  Value bases = splat(base);
  Value parts = loop(c(0), count, vl, {splat(zero)}, [&](Value t, ValueRange acc) {
    Value p = exp2(sub(score(t), bases));
    store(p, at(scores, mul(t, 4)), 4);
    return Values{add(acc[0], p)};
  })[0];
  Value sum = reduce(vector::CombiningKind::ADD, parts, arith::FastMathFlags::reassoc);
  store(newMax, mAt, 4);
  return ifElse(
      cmp(arith::CmpFPredicate::OEQ, oldMax, minusInf), {f32},
      [&] {
        store(sum, lAt, 4);
        return Values{zero};
      },
      [&] {
        Value factor = vector::ExtractOp::create(b, loc, exp2(splat(sub(oldMax, base))), ArrayRef<int64_t>{0});
        store(fma(load(f32, lAt, 4), factor, sum), lAt, 4);
        return Values{factor};
      })[0];
}

/// Registers [first, first + count) of all rows.
void Body::valuesBlock(int64_t first, int64_t count, bool exact) {
  Value keys = args[1], scores = args[5], factor = splat(args[6]), acc = at(args[7], first * vl * 4);
  Value zero = constant(vec(f32), 0.0);
  // A register of sums needs the latency of a multiply-add to itself: several keys at once where there are few.
  const int64_t unroll = std::max<int64_t>(std::min<int64_t>(8 / count, 4), 1);
  Values init;
  for (int64_t u = 0; u < unroll; ++u) {
    for (int64_t r = 0; r < count; ++r) {
      init.push_back(u == 0 ? mul(loadRow(at(acc, r * vl * 4)), factor) : zero);
    }
  }
  auto addKey = [&](Value row, Value t, ValueRange sums, Values &next) {
    Value p = splat(load(f32, at(scores, mul(t, 4)), 4));
    Value none = exact ? cmp(arith::CmpFPredicate::OEQ, p, zero) : Value();
    for (int64_t r = 0; r < count; ++r) {
      Value v = loadPart(storage, row, first + r);
      next.push_back(fma(exact ? select(none, zero, v) : v, p, sums[r]));
    }
  };
  Value whole = sub(keys, floorMod(keys, unroll));
  Values sums = loop(c(0), whole, unroll, init, [&](Value t, ValueRange sum) {
    Values next;
    SmallVector<Value> rows;
    if (unroll == 1) {
      rows.push_back(rowOf(t));
    }
    for (int64_t u = 0; u + 1 < unroll; u += 2) {
      auto [x, y] = rowPair(add(t, u));
      rows.append({x, y});
    }
    for (int64_t u = 0; u < unroll; ++u) {
      addKey(rows[u], add(t, u), sum.slice(u * count, count), next);
    }
    return next;
  });
  if (unroll > 1) {
    Values head(sums.begin(), sums.begin() + count);
    Values rest = loop(whole, keys, 1, head, [&](Value t, ValueRange sum) {
      Values next;
      addKey(rowOf(t), t, sum, next);
      return next;
    });
    std::copy(rest.begin(), rest.end(), sums.begin());
  }
  for (int64_t r = 0; r < count; ++r) {
    Value sum = sums[r];
    for (int64_t u = 1; u < unroll; ++u) {
      sum = add(sum, sums[u * count + r]);
    }
    store(sum, at(acc, r * vl * 4), 4);
  }
}

void Body::values(bool exact) {
  Value count = args[1], stride = args[4], scores = args[5], factor = args[6], acc = args[7];
  constexpr int64_t kBlock = 8;
  auto adjacent = [&] {
    for (int64_t first = 0; first < registers(); first += kBlock) {
      valuesBlock(first, std::min(kBlock, registers() - first), exact);
    }
  };
  auto apart = [&] {
    loop(c(0), c(d), 1, [&](Value n) {
      Value address = at(acc, mul(n, 4));
      store(mul(load(f32, address, 4), factor), address, 4);
    });
    loop(c(0), count, 1, [&](Value t) {
      Value p = load(f32, at(scores, mul(t, 4)), 4), row = rowOf(t);
      Value adds = exact ? cmp(arith::CmpFPredicate::UNE, p, constant(f32, 0.0)) : constant(i1, int64_t(1));
      ifThen(adds, [&] {
        loop(c(0), c(d), 1, [&](Value n) {
          Value x = loadAsF32(storage, at(row, mul(n, stride)), false), address = at(acc, mul(n, 4));
          store(fma(x, p, load(f32, address, 4)), address, 4);
        });
      });
    });
  };
  ifElse(eq(stride, c(bytes)), adjacent, apart);
}

void emitRowKernel(func::FuncOp fn, const VectorTarget &target) {
  StringRef kind = cast<StringAttr>(fn->getAttr(kKindAttr)).getValue();
  int64_t d = cast<IntegerAttr>(fn->getAttr(kDimAttr)).getInt();
  Type type = cast<TypeAttr>(fn->getAttr(kTypeAttr)).getValue();
  OpBuilder b(fn.getContext());
  b.setInsertionPointToStart(fn.addEntryBlock());
  Body body(b, fn, target, d, type);
  SmallVector<Value> results;
  if (kind == "dots") {
    body.dots();
  } else if (kind == "softmax") {
    results.push_back(body.softmax());
  } else {
    body.values(kind == "values_exact");
  }
  func::ReturnOp::create(b, fn.getLoc(), results);
  for (StringRef name : {kKindAttr, kDimAttr, kTypeAttr}) {
    fn->removeAttr(name);
  }
}

} // namespace heddle
