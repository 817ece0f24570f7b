//===- OpKernel.cpp - What kernels of ops on whole tensors are made of ----===//

#include "passes/OpKernel.h"

#include "passes/ScalarOps.h"

#include "mlir/IR/IRMapping.h"
#include "passes/KernelSignature.h"

using namespace mlir;

namespace heddle {

OpKernel::OpKernel(ModuleOp module, func::FuncOp spec, OpBuilder &builder, VectorTarget target, GpuLimits limits)
    : Emitter(builder, spec.getLoc(), target), gpu(limits.sharedBytes > 0), module(module), spec(spec), limits(limits) {
  if (gpu) {
    beginGpu();
    return;
  }
  builder.setInsertionPointToEnd(module.getBody());
  auto fn = func::FuncOp::create(builder, loc, "heddle_task", builder.getFunctionType({ptr, i64, ptr}, {}));
  Block *body = fn.addEntryBlock();
  builder.setInsertionPointToStart(body);
  block = body->getArgument(0);
  task = body->getArgument(1);
  scratch = body->getArgument(2);
}

void OpKernel::expect(int64_t a, int64_t axis, AffineExpr want, bool orOne) {
  checks.push_back({a, axis, want, orOne ? "or_one" : "is"});
}

void OpKernel::expectDivides(int64_t a, int64_t axis, AffineExpr want) { checks.push_back({a, axis, want, "divides"}); }

void OpKernel::launch(AffineExpr newTasks, AffineExpr newWork) {
  tasks = newTasks;
  work = newWork;
}

void OpKernel::finish() {
  if (gpu) {
    finishGpu();
  } else {
    func::ReturnOp::create(b, loc);
  }
  unsigned symbols = 4 * spec.getNumArguments();
  auto map = [&](ArrayRef<AffineExpr> exprs) {
    return AffineMapAttr::get(AffineMap::get(0, symbols, exprs, b.getContext()));
  };
  SmallVector<Attribute> shapes, conditions;
  for (ArrayRef<AffineExpr> dims : results) {
    shapes.push_back(map(dims));
  }
  for (const Check &check : checks) {
    conditions.push_back(b.getDictionaryAttr(
        {b.getNamedAttr("arg", b.getI64IntegerAttr(check.arg)), b.getNamedAttr("axis", b.getI64IntegerAttr(check.axis)),
         b.getNamedAttr("kind", b.getStringAttr(check.kind)), b.getNamedAttr("size", map(check.want))}));
  }
  module->setAttr("heddle.launch",
                  b.getDictionaryAttr({b.getNamedAttr("checks", b.getArrayAttr(conditions)),
                                       b.getNamedAttr("results", b.getArrayAttr(shapes)),
                                       b.getNamedAttr("tasks", map(tasks)), b.getNamedAttr("work", map(work))}));
  module->setAttr("heddle.scratch_bytes", b.getI64IntegerAttr(used));
}

TensorView OpKernel::view(int64_t record, Type type) {
  TensorView v;
  int64_t slot = header::kSlots + 9 * record;
  v.base = toPtr(load(i64, at(block, slot * 8), 8));
  auto tensor = cast<RankedTensorType>(type);
  v.type = tensor.getElementType();
  v.bytes = v.type.isIndex() ? 8 : (v.type.getIntOrFloatBitWidth() + 7) / 8;
  for (int64_t n = 0; n < tensor.getRank(); ++n) {
    v.size.push_back(load(i64, at(block, (slot + 1 + n) * 8), 8));
    v.stride.push_back(mul(load(i64, at(block, (slot + 5 + n) * 8), 8), v.bytes));
  }
  return v;
}

int64_t OpKernel::listOf(int64_t a) {
  auto list = spec.getArgAttrOfType<IntegerAttr>(a, kRowsAttr);
  return list ? list.getInt() : -1;
}

Value OpKernel::scalarAddress(int64_t a) {
  int64_t record = header::kSlots + 9 * a;
  // A device cannot follow the host's pointer: there the record holds the value itself.
  return gpu ? at(block, (record + 1) * 8) : toPtr(load(i64, at(block, record * 8), 8));
}

Value OpKernel::allocate(int64_t bytes) {
  Value place = at(scratch, used);
  used += (bytes + 63) / 64 * 64;
  return place;
}

Value OpKernel::product(ValueRange factors) {
  Value all = factors[0];
  for (Value factor : factors.drop_front()) {
    all = arith::MulIOp::create(b, loc, all, factor);
  }
  return all;
}

Emitter::Values OpKernel::split(Value index, ValueRange sizes) {
  Values digits(sizes.size());
  for (size_t n = sizes.size(); n-- > 1;) {
    Value quotient = arith::DivSIOp::create(b, loc, index, sizes[n]);
    digits[n] = sub(index, mul(quotient, sizes[n]));
    index = quotient;
  }
  digits[0] = index;
  return digits;
}

Value OpKernel::address(const TensorView &v, ValueRange indices) {
  Value place = v.base;
  for (auto [index, stride] : llvm::zip(indices, v.stride)) {
    place = at(place, mul(index, stride));
  }
  return place;
}

void OpKernel::columns(Value count, Value contiguous, int64_t unroll,
                       llvm::function_ref<void(ArrayRef<Value>, bool)> body) {
  if (gpu) {
    return deal(c(0), count, 1, [&](Value col) { body(col, false); });
  }
  int64_t vl = target.width;
  auto whole = [&](int64_t step) { return select(contiguous, mul(floorDiv(count, step), step), c(0)); };
  Value groups = unroll > 1 ? whole(vl * unroll) : c(0), registers = whole(vl);
  if (unroll > 1) {
    loop(c(0), groups, vl * unroll, [&](Value col) {
      Values cols;
      for (int64_t n = 0; n < unroll; ++n) {
        cols.push_back(add(col, c(n * vl)));
      }
      body(cols, true);
    });
  }
  loop(groups, registers, vl, [&](Value col) { body(col, true); });
  loop(registers, count, 1, [&](Value col) { body(col, false); });
}

void OpKernel::rows(Value lo, Value hi, llvm::function_ref<void(Value)> body) {
  if (!gpu || inRows) {
    return loop(lo, hi, 1, body);
  }
  barrier();
  inRows = true;
  Value warp = arith::DivUIOp::create(b, loc, thread, c(kWarp));
  loop(add(lo, warp), hi, kThreads / kWarp, body);
  inRows = false;
  barrier();
}

void OpKernel::each(Value lo, Value hi, llvm::function_ref<void(Value)> body) {
  if (!gpu) {
    return loop(lo, hi, 1, body);
  }
  barrier();
  deal(lo, hi, 1, body);
  barrier();
}

void OpKernel::lanes(Value count, llvm::function_ref<void(Value)> body) {
  if (gpu) {
    return deal(c(0), count, 1, body);
  }
  loop(c(0), count, target.width, body);
}

void OpKernel::alone(llvm::function_ref<void()> body) {
  if (!gpu) {
    return body();
  }
  barrier();
  ifThen(eq(thread, c(0)), body);
  barrier();
}

func::FuncOp OpKernel::helper(StringRef name, TypeRange inputs, bool &isNew) {
  if (auto known = module.lookupSymbol<func::FuncOp>(name)) {
    isNew = false;
    return known;
  }
  isNew = true;
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(module.getBody());
  auto fn = func::FuncOp::create(b, loc, name, b.getFunctionType(inputs, {}));
  fn.setPrivate();
  fn.addEntryBlock();
  return fn;
}

static StringRef suffix(Type type) { return type.isF32() ? "f32" : type.isBF16() ? "bf16" : "f16"; }

void OpKernel::stage(Value to, Value toStride, Value from, Value rowStride, Value colStride, Value rows, Value cols,
                     Type type, const Staging &how) {
  bool mapped = how.region && !how.region->empty();
  auto map = [&](Value x) { return mapped ? applyRegion(*how.region, x) : x; };
  int64_t bytes = type.isF32() ? 4 : 2;
  if (gpu) {
    return this->rows(c(0), rows, [&](Value row) {
      Value there = at2(to, row, toStride), here = at2(from, row, rowStride);
      Value wanted = how.keep ? how.keep(row) : constant(i1, int64_t(1));
      deal(c(0), cols, 1, [&](Value col) {
        Value x = ifElse(
            wanted, TypeRange{f32}, [&] { return Values{map(loadAsF32(type, at(here, mul(col, colStride)), false))}; },
            [&] { return Values{constant(f32, 0.0)}; })[0];
        store(x, at(there, mul(col, 4)), 4);
      });
    });
  }
  bool isNew = false;
  std::string name = ((mapped ? "stage_mapped_row_" : "stage_row_") + suffix(type)).str();
  func::FuncOp fn = helper(name, {ptr, ptr, i64, i64}, isNew);
  if (isNew) {
    // (to, from, column stride, columns): one row, padded.
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&fn.getBody().front());
    ValueRange a = fn.getArguments();
    columns(a[3], eq(a[2], c(bytes)), 4, [&](ArrayRef<Value> at_, bool vector) {
      for (Value col : at_) {
        store(map(loadAsF32(type, at(a[1], mul(col, a[2])), vector)), at(a[0], mul(col, 4)), 4);
      }
    });
    loop(a[3], padded(a[3]), 1, [&](Value col) { store(constant(f32, 0.0), at(a[0], mul(col, 4)), 4); });
    func::ReturnOp::create(b, loc);
  }
  loop(c(0), rows, 1, [&](Value row) {
    Value there = at2(to, row, toStride);
    if (how.beside) {
      how.beside(row);
    }
    auto copy = [&] { call(name, {}, {there, at2(from, row, rowStride), colStride, cols}); };
    if (!how.keep) {
      return copy();
    }
    ifElse(how.keep(row), copy, [&] { fillZero(there, mul(padded(cols), 4)); });
  });
}

void OpKernel::stagePairs(Value to, Value toStride, Value from, Value rowStride, Value colStride, Value rows,
                          Value cols) {
  bool isNew = false;
  func::FuncOp fn = helper("stage_pairs", {ptr, ptr, ptr, i32, i64, i64}, isNew);
  if (isNew) {
    // (to, even row, odd row, bits of a word that count, column stride, columns)
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&fn.getBody().front());
    ValueRange a = fn.getArguments();
    columns(a[5], eq(a[4], c(2)), 4, [&](ArrayRef<Value> cols, bool vector) {
      auto half = [&](Value row, Value col) {
        Value bits = load(vector ? Type(vec(i16)) : i16, at2(row, col, a[4]), 2);
        return arith::ExtUIOp::create(b, loc, typeLike(bits, i32), bits).getResult();
      };
      for (Value col : cols) {
        Value even = half(a[1], col), odd = half(a[2], col);
        odd = arith::ShLIOp::create(b, loc, odd, constant(odd.getType(), int64_t(16)));
        store(both(either(even, odd), vector ? splat(a[3]) : a[3]), at(a[0], mul(col, 4)), 4);
      }
    });
    loop(a[5], padded(a[5]), 1, [&](Value col) { store(c32(0), at(a[0], mul(col, 4)), 4); });
    func::ReturnOp::create(b, loc);
  }
  loop(c(0), rows, 2, [&](Value row) {
    Value paired = lt(add(row, 1), rows), even = at2(from, row, rowStride);
    call("stage_pairs", {},
         {at2(to, floorDiv(row, 2), toStride), even, select(paired, at(even, rowStride), even),
          select(paired, c32(-1), c32(0xffff)), colStride, cols});
  });
}

void OpKernel::unstage(Value to, Value rowStride, Value colStride, Value from, Value fromStride, Value rows, Value cols,
                       Type type) {
  int64_t bytes = type.isF32() ? 4 : 2;
  Value contiguous = eq(colStride, c(bytes));
  this->rows(c(0), rows, [&](Value row) {
    Value there = at2(to, row, rowStride), here = at2(from, row, fromStride);
    columns(cols, contiguous, 4, [&](ArrayRef<Value> at_, bool vector) {
      for (Value col : at_) {
        Value x = load(vector ? Type(vec(f32)) : f32, at(here, mul(col, 4)), 4);
        storeF32As(type, x, at(there, mul(col, colStride)));
      }
    });
  });
}

void OpKernel::fillZero(Value to, Value bytes) {
  if (gpu) {
    barrier();
    deal(c(0), bytes, 4, [&](Value n) { store(c32(0), at(to, n), 4); });
    return barrier();
  }
  LLVM::MemsetOp::create(b, loc, to, constant(i8, int64_t(0)), bytes, /*isVolatile=*/false);
}

/// `rows` rows of C by `vectors` registers of columns, over the whole depth.
void OpKernel::multiplyBlock(ValueRange args, Value row, Value col, int64_t rows, int64_t vectors, bool fresh,
                             bool pairs) {
  Value C = args[0], cStride = args[1], A = args[2], aRow = args[3], aDepth = args[4], B = args[5], bStride = args[6],
        depth = args[8];
  Values places, sums, starts;
  for (int64_t r = 0; r < rows; ++r) {
    Value n = add(row, c(r));
    places.push_back(at(at2(C, n, cStride), mul(col, 4)));
    starts.push_back(at2(A, n, aRow));
    for (int64_t v = 0; v < vectors; ++v) {
      sums.push_back(fresh ? constant(vec(f32), 0.0) : loadRow(at(places[r], v * target.width * 4)));
    }
  }
  auto product = [&](Value x, Value y, Value sum) { return pairs ? fmaPairs(x, y, sum) : fma(x, y, sum); };
  Value first = at(B, mul(col, 4));
  Values done = loop(c(0), depth, 1, sums, [&](Value k, ValueRange acc) {
    Value line = at2(first, k, bStride), step = mul(k, aDepth);
    Values columns, next(acc.begin(), acc.end());
    for (int64_t v = 0; v < vectors; ++v) {
      columns.push_back(loadRow(at(line, v * target.width * 4)));
    }
    for (int64_t r = 0; r < rows; ++r) {
      Value x = splat(load(f32, at(starts[r], step), 4));
      for (int64_t v = 0; v < vectors; ++v) {
        next[r * vectors + v] = product(x, columns[v], next[r * vectors + v]);
      }
    }
    return next;
  });
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t v = 0; v < vectors; ++v) {
      store(done[r * vectors + v], at(places[r], v * target.width * 4), 4);
    }
  }
}

void OpKernel::multiply(Value C, Value cStride, Value A, Value aRow, Value aDepth, Value B, Value bStride, Value rows,
                        Value depth, Value cols, bool fresh, bool pairs) {
  if (gpu) {
    return multiplyGpu({C, cStride, A, aRow, aDepth, B, bStride, rows, depth, cols}, fresh);
  }
  bool isNew = false;
  Value args[] = {C, cStride, A, aRow, aDepth, B, bStride, rows, depth, cols};
  std::string name = std::string("multiply") + (pairs ? "_pairs" : "") + (fresh ? "_fresh" : "");
  func::FuncOp fn = helper(name, ValueRange(args).getTypes(), isNew);
  if (isNew) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&fn.getBody().front());
    ValueRange a = fn.getArguments();
    // The register tile: 6 rows by 4 registers of 32, or by 2 of 16; what is left by smaller ones.
    auto down = [&](Value col, int64_t vectors) {
      Value row = c(0);
      for (int64_t tall : {kTall, int64_t(2), int64_t(1)}) {
        Value end = tall == 1 ? a[7] : mul(floorDiv(a[7], tall), tall);
        loop(row, end, tall, [&](Value r) { multiplyBlock(a, r, col, tall, vectors, fresh, pairs); });
        row = end;
      }
    };
    Value col = c(0);
    for (int64_t vectors = target.registers >= 32 ? 4 : 2; vectors >= 1; vectors /= 2) {
      int64_t step = vectors * target.width;
      Value end = vectors == 1 ? a[9] : mul(floorDiv(a[9], step), step);
      loop(col, end, step, [&](Value n) { down(n, vectors); });
      col = end;
    }
    func::ReturnOp::create(b, loc);
  }
  call(name, {}, args);
}

Value OpKernel::sumOfLanes(Value v) {
  if (!isVector(v)) {
    return v;
  }
  auto any = arith::FastMathFlagsAttr::get(b.getContext(), arith::FastMathFlags::reassoc);
  return vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, v, any.getValue());
}

Value OpKernel::applyRegion(Region &region, Value x) {
  if (region.empty()) {
    return x;
  }
  IRMapping map;
  map.map(region.getArgument(0), x);
  auto lanes = [&](Type t) { return isVector(x) ? Type(vec(t)) : t; };
  for (Operation &op : region.front()) {
    if (auto yield = dyn_cast<attn::YieldOp>(op)) {
      return map.lookup(yield.getScore());
    }
    if (auto known = dyn_cast<arith::ConstantOp>(op)) {
      Value v = arith::ConstantOp::create(b, loc, cast<TypedAttr>(known.getValue()));
      map.map(known.getResult(), isVector(x) ? splat(v) : v);
      continue;
    }
    SmallVector<Value> operands;
    for (Value operand : op.getOperands()) {
      operands.push_back(map.lookup(operand));
    }
    if (Value made = emitScalarOp(b, loc, op, operands)) {
      map.map(op.getResult(0), made);
      continue;
    }
    OperationState state(loc, op.getName());
    state.addOperands(operands);
    for (Type t : op.getResultTypes()) {
      state.addTypes(lanes(t));
    }
    state.addAttributes(op.getAttrs());
    Operation *copy = b.create(state);
    map.map(op.getResult(0), copy->getResult(0));
  }
  llvm_unreachable("a feature region without a yield");
}

} // namespace heddle
