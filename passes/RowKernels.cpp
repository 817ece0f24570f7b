//===- RowKernels.cpp - Micro-kernels for one query and its own keys ------===//

#include "passes/RowKernels.h"

#include <cmath>

using namespace mlir;

namespace heddle {

static constexpr StringLiteral kKindAttr = "attn.row", kDimAttr = "attn.d", kTypeAttr = "attn.type",
                               kPairsAttr = "attn.pairs";

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

std::string declareRowKernel(ModuleOp module, RowKernel kind, int64_t d, Type storage, bool pairs) {
  std::string name = ("row_" + kindName(kind)).str();
  if (kind != RowKernel::Softmax) {
    name += ("_d" + Twine(d)).str();
    name += storage.isF32() ? "" : storage.isBF16() ? "_bf16" : "_f16";
  }
  name += pairs ? "_pairs" : "";
  if (module.lookupSymbol(name)) {
    return name;
  }
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Type p = LLVM::LLVMPointerType::get(module.getContext()), i = b.getI64Type(), f = b.getF32Type();
  SmallVector<Type> ins, outs;
  switch (kind) {
  case RowKernel::Dots:
    ins = {p, i, p, i, i, p, f, p};
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
  fn->setAttr(kPairsAttr, b.getBoolAttr(pairs));
  return name;
}

bool isRowKernel(func::FuncOp fn) { return fn->hasAttr(kKindAttr); }

namespace {

class Body : public Emitter {
public:
  Body(OpBuilder &b, func::FuncOp fn, const VectorTarget &target, int64_t d, Type storage, bool pairs)
      : Emitter(b, fn.getLoc(), target), args(fn.getArguments()), d(d), vl(target.width), storage(storage),
        bytes(storage.isF32() ? 4 : 2), pairs(pairs) {}

  void dots();
  Value softmax();
  void values(bool exact);

private:
  ValueRange args;
  int64_t d, vl;
  Type storage;
  int64_t bytes; ///< of a storage element
  bool pairs;    ///< bf16 is multiplied as it is

  /// Elements of a register.
  int64_t elements() const { return pairs ? 2 * vl : vl; }
  /// Registers of a row.
  int64_t registers() const { return (d + elements() - 1) / elements(); }
  /// Elements of a row that register r has.
  int64_t valid(int64_t r) const { return std::min(elements(), d - r * elements()); }
  /// Register r of the row at an address, as f32 or pairs; what lies behind the row is 0 and not read.
  Value loadPart(Value row, int64_t r);
  Value loadPairs(Value row, int64_t r);
  /// Rows of keys t and t + 1, whose numbers are read at once.
  std::pair<Value, Value> rowPair(Value t);
  Value rowOf(Value t) {
    Value number = toInt(load(i32, at(args[0], mul(t, 4)), 4), i64);
    return at(args[2], mul(number, args[3]));
  }
  /// The sums of four registers, as a vector of four.
  Value sumsOf(ArrayRef<Value> four);
  void valuesBlock(int64_t first, int64_t count, bool exact);
  /// What a register of two keys' interleaved elements adds up to, from and to the order of a row.
  std::pair<Value, Value> apart(Value first, Value second);
  std::pair<Value, Value> together(Value low, Value high);
  void pairedBlock(int64_t first, int64_t count, bool exact);
  void eachKey(bool exact);
};

} // namespace

Value Body::loadPart(Value row, int64_t r) {
  int64_t left = valid(r);
  if (pairs) {
    return loadPairs(row, r);
  }
  if (left == vl) {
    return loadAsF32(storage, at(row, r * vl * bytes), true);
  }
  Value all = constant(vec(f32), 0.0);
  for (int64_t done = 0, width = vl / 2; width >= 1; width /= 2) {
    if (left - done < width) {
      continue;
    }
    VectorTarget narrow = target;
    narrow.width = width;
    Value part = Emitter(b, loc, narrow).loadAsF32(storage, at(row, (r * vl + done) * bytes), true);
    all = vector::InsertStridedSliceOp::create(b, loc, part, all, ArrayRef<int64_t>{done}, ArrayRef<int64_t>{1});
    done += width;
  }
  return all;
}

Value Body::loadPairs(Value row, int64_t r) {
  auto type = VectorType::get({elements()}, i16);
  Value address = at(row, r * elements() * bytes);
  if (valid(r) == elements()) {
    return load(type, address, 2);
  }
  SmallVector<bool> lanes(elements());
  std::fill_n(lanes.begin(), valid(r), true);
  auto exists = DenseElementsAttr::get(VectorType::get({elements()}, i1), ArrayRef<bool>(lanes));
  return LLVM::MaskedLoadOp::create(b, loc, type, address, arith::ConstantOp::create(b, loc, exists),
                                    constant(type, int64_t(0)), b.getI32IntegerAttr(2), UnitAttr());
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
  Value count = args[1], stride = args[4], q = args[5], scale = args[6], scores = args[7];
  auto adjacent = [&] {
    Values query;
    for (int64_t r = 0; r < std::min(registers(), kHeld); ++r) {
      query.push_back(loadPart(q, r));
    }
    Value none = constant(vec(f32), 0.0);
    Value scales = vector::BroadcastOp::create(b, loc, VectorType::get({kRowGroup}, f32), scale);
    loop(c(0), count, kRowGroup, [&](Value t) {
      SmallVector<Value> rows, sums(kRowGroup);
      for (int64_t pair = 0; pair < kRowGroup; pair += 2) {
        auto [x, y] = rowPair(add(t, pair));
        rows.append({x, y});
      }
      for (int64_t r = 0; r < registers(); ++r) {
        Value x = r < kHeld ? query[r] : loadPart(q, r);
        for (auto [row, sum] : llvm::zip(rows, sums)) {
          Value k = loadPart(row, r);
          sum = pairs ? fmaPairs(k, x, sum ? sum : none) : sum ? fma(k, x, sum) : mul(k, x);
        }
      }
      store(mul(sumsOf(sums), scales), at(scores, mul(t, 4)), 4);
    });
  };
  auto apart = [&] {
    loop(c(0), count, 1, [&](Value t) {
      Value row = rowOf(t);
      Values sum = loop(c(0), c(d), 1, {constant(f32, 0.0)}, [&](Value n, ValueRange acc) {
        Value x = loadAsF32(storage, at(row, mul(n, stride)), false);
        return Values{fma(x, loadAsF32(storage, at(q, mul(n, bytes)), false), acc[0])};
      });
      store(mul(sum[0], scale), at(scores, mul(t, 4)), 4);
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
    // Pairs: over scores that were read already.
    pairs ? storeF32As(storage, p, at(scores, mul(t, 2))) : store(p, at(scores, mul(t, 4)), 4);
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
      Value v = loadPart(row, first + r);
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

// vpunpcklwd and vpunpckhwd take the first and the last four of each eight elements.

std::pair<Value, Value> Body::apart(Value first, Value second) {
  SmallVector<int64_t> low, high;
  for (int64_t n = 0; n < 2 * vl; ++n) {
    (n % 8 < 4 ? low : high).push_back(n);
  }
  return {vector::ShuffleOp::create(b, loc, first, second, low),
          vector::ShuffleOp::create(b, loc, first, second, high)};
}

std::pair<Value, Value> Body::together(Value low, Value high) {
  SmallVector<int64_t> order;
  for (int64_t n = 0; n < 2 * vl; ++n) {
    order.push_back(n / 8 * 4 + n % 4 + (n % 8 < 4 ? 0 : vl));
  }
  ArrayRef<int64_t> all(order);
  return {vector::ShuffleOp::create(b, loc, low, high, all.take_front(vl)),
          vector::ShuffleOp::create(b, loc, low, high, all.drop_front(vl))};
}

/// Registers [first, first + count) of all rows, in pairs.
void Body::pairedBlock(int64_t first, int64_t count, bool exact) {
  static_assert(kRowGroup == 4);
  constexpr int64_t kSets = kRowGroup / 2; // sums have the latency of a multiply-add to themselves
  Value keys = args[1], scores = args[5], factor = splat(args[6]), acc = at(args[7], first * elements() * 4);
  Value zero = constant(vec(f32), 0.0), none = constant(VectorType::get({elements()}, i16), int64_t(0));
  auto place = [&](int64_t half) { return at(acc, half * vl * 4); }; // of half a register's sums
  auto exists = [&](int64_t half) { return first * elements() + half * vl < d; };
  Values init;
  for (int64_t r = 0; r < count; ++r) {
    Value even = mul(loadRow(place(2 * r)), factor);
    auto [low, high] = apart(even, exists(2 * r + 1) ? mul(loadRow(place(2 * r + 1)), factor) : zero);
    init.append({low, high});
  }
  init.append(init.size() * (kSets - 1), zero);
  SmallVector<int64_t> low, high;
  for (int64_t n = 0; n < elements(); ++n) {
    (n % 8 < 4 ? low : high).append({n, elements() + n});
  }
  auto addGroup = [&](Value t, ValueRange sums, bool masked) {
    Values next;
    for (int64_t set = 0; set < kSets; ++set) {
      Value key = add(t, 2 * set);
      auto [even, odd] = rowPair(key);
      Value p = splat(load(i32, at(scores, mul(key, 2)), 2)), live;
      if (masked) {
        Value halves = LLVM::BitcastOp::create(b, loc, none.getType(), p);
        live = cmp(arith::CmpIPredicate::ne, halves, none);
      }
      for (int64_t r = 0; r < count; ++r) {
        Value x = loadPairs(even, first + r), y = loadPairs(odd, first + r);
        for (ArrayRef<int64_t> half : {ArrayRef<int64_t>(low), ArrayRef<int64_t>(high)}) {
          Value v = vector::ShuffleOp::create(b, loc, x, y, half);
          next.push_back(fmaPairs(masked ? select(live, v, none) : v, p, sums[next.size()]));
        }
      }
    }
    return next;
  };
  Value whole = sub(keys, floorMod(keys, kRowGroup));
  Values sums = loop(c(0), whole, kRowGroup, init, [&](Value t, ValueRange s) { return addGroup(t, s, exact); });
  // The rest of a group has P = 0.
  sums = loop(whole, keys, kRowGroup, sums, [&](Value t, ValueRange s) { return addGroup(t, s, true); });
  for (int64_t r = 0; r < count; ++r) {
    auto sumOf = [&](int64_t n) {
      Value sum = sums[n];
      for (int64_t set = 1; set < kSets; ++set) {
        sum = add(sum, sums[set * 2 * count + n]);
      }
      return sum;
    };
    auto [even, odd] = together(sumOf(2 * r), sumOf(2 * r + 1));
    store(even, place(2 * r), 4);
    if (exists(2 * r + 1)) {
      store(odd, place(2 * r + 1), 4);
    }
  }
}

/// Values of rows whose elements are not adjacent.
void Body::eachKey(bool exact) {
  Value count = args[1], stride = args[4], scores = args[5], factor = args[6], acc = args[7];
  loop(c(0), c(d), 1, [&](Value n) {
    Value address = at(acc, mul(n, 4));
    store(mul(load(f32, address, 4), factor), address, 4);
  });
  loop(c(0), count, 1, [&](Value t) {
    Value row = rowOf(t);
    Value p = loadAsF32(pairs ? storage : f32, at(scores, mul(t, pairs ? 2 : 4)), false);
    Value adds = exact ? cmp(arith::CmpFPredicate::UNE, p, constant(f32, 0.0)) : constant(i1, int64_t(1));
    ifThen(adds, [&] {
      loop(c(0), c(d), 1, [&](Value n) {
        Value x = loadAsF32(storage, at(row, mul(n, stride)), false), address = at(acc, mul(n, 4));
        store(fma(x, p, load(f32, address, 4)), address, 4);
      });
    });
  });
}

void Body::values(bool exact) {
  const int64_t block = pairs ? 4 : 8;
  auto adjacent = [&] {
    for (int64_t first = 0; first < registers(); first += block) {
      int64_t count = std::min(block, registers() - first);
      pairs ? pairedBlock(first, count, exact) : valuesBlock(first, count, exact);
    }
  };
  ifElse(eq(args[4], c(bytes)), adjacent, [&] { eachKey(exact); });
}

void emitRowKernel(func::FuncOp fn, const VectorTarget &target) {
  StringRef kind = cast<StringAttr>(fn->getAttr(kKindAttr)).getValue();
  int64_t d = cast<IntegerAttr>(fn->getAttr(kDimAttr)).getInt();
  Type type = cast<TypeAttr>(fn->getAttr(kTypeAttr)).getValue();
  bool pairs = cast<BoolAttr>(fn->getAttr(kPairsAttr)).getValue();
  OpBuilder b(fn.getContext());
  b.setInsertionPointToStart(fn.addEntryBlock());
  Body body(b, fn, target, d, type, pairs);
  SmallVector<Value> results;
  if (kind == "dots") {
    body.dots();
  } else if (kind == "softmax") {
    results.push_back(body.softmax());
  } else {
    body.values(kind == "values_exact");
  }
  func::ReturnOp::create(b, fn.getLoc(), results);
  for (StringRef name : {kKindAttr, kDimAttr, kTypeAttr, kPairsAttr}) {
    fn->removeAttr(name);
  }
}

} // namespace heddle
