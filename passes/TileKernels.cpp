//===- TileKernels.cpp - The micro-kernels that tile loops call -----------===//

#include "passes/TileKernels.h"

using namespace mlir;

namespace heddle {

static constexpr StringLiteral kKindAttr = "attn.tile", kDimAttr = "attn.d", kTypeAttr = "attn.type";

static StringRef kindName(TileKernel kind) {
  switch (kind) {
  case TileKernel::Pack:
    return "pack";
  case TileKernel::Stage:
    return "stage";
  case TileKernel::Dots:
    return "dots";
  case TileKernel::Softmax:
    return "softmax";
  case TileKernel::Weights:
    return "weights";
  case TileKernel::Finite:
    return "finite";
  case TileKernel::Accumulate:
    return "accumulate";
  case TileKernel::AccumulateExact:
    return "accumulate_exact";
  case TileKernel::Finish:
    return "finish";
  }
  llvm_unreachable("a micro-kernel without a name");
}

std::string declareTileKernel(ModuleOp module, TileKernel kind, int64_t d, Type type) {
  MLIRContext *context = module.getContext();
  std::string name = ("tile_" + kindName(kind) + "_d" + Twine(d)).str();
  if (!type.isF32()) {
    name += type.isBF16() ? "_bf16" : "_f16";
  }
  if (module.lookupSymbol(name)) {
    return name;
  }
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Type p = LLVM::LLVMPointerType::get(context), i = b.getI64Type(), f = b.getF32Type();
  SmallVector<Type> ins, outs;
  switch (kind) {
  case TileKernel::Pack:
    ins = {p, i, f, p};
    break;
  case TileKernel::Stage:
    ins = {p, i, i, p};
    break;
  case TileKernel::Dots:
    ins = {p, i, i, p, p};
    break;
  case TileKernel::Softmax:
    ins = {p, i, i, p, p, p, p};
    break;
  case TileKernel::Weights:
    ins = {p, i, i, p};
    break;
  case TileKernel::Finite:
    ins = {p, i};
    outs = {b.getI1Type()};
    break;
  case TileKernel::Accumulate:
  case TileKernel::AccumulateExact:
    ins = {p, p, i, i, p};
    break;
  case TileKernel::Finish:
    ins = {p, f, p, i};
    break;
  }
  auto fn = func::FuncOp::create(b, module.getLoc(), name, b.getFunctionType(ins, outs));
  fn.setPrivate();
  fn->setAttr(kKindAttr, b.getStringAttr(kindName(kind)));
  fn->setAttr(kDimAttr, b.getI64IntegerAttr(d));
  fn->setAttr(kTypeAttr, TypeAttr::get(type));
  return name;
}

namespace {

/// The body of one micro-kernel.
class Body : public Emitter {
public:
  Body(OpBuilder &b, func::FuncOp fn, const VectorTarget &target, int64_t d, Type storage)
      : Emitter(b, fn.getLoc(), target), args(fn.getArguments()), d(d), vl(target.width), storage(storage),
        bytes(storage.isF32() ? 4 : 2) {}

  void pack();
  void stage();
  void dots();
  void softmax();
  void weights();
  Value finite();
  void accumulate();
  void accumulateExact();
  void finish();

private:
  ValueRange args;
  int64_t d, vl;
  Type storage;
  int64_t bytes; ///< of a storage element

  Value rowAddress(Value table, Value index) { return load(ptr, at(table, mul(index, 8)), 8); }
  Value scoreRow(Value scores, Value key) { return at(scores, mul(key, kLanes * 4)); }
  /// One f32 register from element `first` of a row of d elements; lanes past the end are 0.
  Value loadTail(Value address, int64_t valid);
  void dotsBlock(Value end, int64_t columns);
  void accumulateBlock(Value column, int64_t vectors, int64_t lastValid, int64_t rows);
};

} // namespace

Value Body::loadTail(Value address, int64_t valid) {
  if (valid == vl) {
    return loadRow(address);
  }
  SmallVector<bool> lanes(vl);
  std::fill_n(lanes.begin(), valid, true);
  Value mask = arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(i1), ArrayRef<bool>(lanes)));
  return LLVM::MaskedLoadOp::create(b, loc, vec(f32), address, mask, constant(vec(f32), 0.0), b.getI32IntegerAttr(4),
                                    UnitAttr());
}

/// Qt[d][lane] = scale * row[lane][d]: squares of vl x vl are transposed in registers where the elements of a
/// row are adjacent.
void Body::pack() {
  Value rows = args[0], stride = args[1], scale = args[2], qt = args[3];
  auto scalar = [&](Value lane, Value row, Value dim) {
    Value x = mul(loadAsF32(storage, at(row, mul(dim, stride)), false), scale);
    store(x, at(qt, add(mul(dim, kLanes * 4), mul(lane, 4))), 4);
  };
  auto anyStride = [&] {
    loop(c(0), c(kLanes), 1, [&](Value lane) {
      Value row = rowAddress(rows, lane);
      loop(c(0), c(d), 1, [&](Value dim) { scalar(lane, row, dim); });
    });
  };
  auto adjacent = [&] {
    int64_t square = d / vl * vl;
    Value scales = splat(scale);
    loop(c(0), c(kLanes), vl, [&](Value lane) {
      SmallVector<Value> addresses;
      for (int64_t r = 0; r < vl; ++r) {
        addresses.push_back(rowAddress(rows, add(lane, r)));
      }
      if (square) {
        loop(c(0), c(square), vl, [&](Value dim) {
          SmallVector<Value> r;
          for (Value a : addresses) {
            r.push_back(loadAsF32(storage, at(a, mul(dim, bytes)), true));
          }
          // Transposition by swapping the bit `h` of row and column numbers.
          for (int64_t h = vl / 2; h >= 1; h /= 2) {
            SmallVector<int64_t> upper(vl), lower(vl);
            for (int64_t x = 0; x < vl; ++x) {
              upper[x] = (x & h) ? vl + x - h : x;
              lower[x] = (x & h) ? vl + x : x + h;
            }
            for (int64_t x = 0; x < vl; ++x) {
              if (x & h) {
                continue;
              }
              Value top = r[x], bottom = r[x + h];
              r[x] = vector::ShuffleOp::create(b, loc, top, bottom, upper);
              r[x + h] = vector::ShuffleOp::create(b, loc, top, bottom, lower);
            }
          }
          for (int64_t x = 0; x < vl; ++x) {
            store(mul(r[x], scales), at(qt, add(mul(add(dim, x), kLanes * 4), mul(lane, 4))), 4);
          }
        });
      }
      if (square < d) {
        for (int64_t x = 0; x < vl; ++x) {
          loop(c(square), c(d), 1, [&](Value dim) { scalar(add(lane, x), addresses[x], dim); });
        }
      }
    });
  };
  ifElse(eq(stride, c(bytes)), adjacent, anyStride);
}

/// Rows become contiguous f32 rows of the buffer, and the table points to them.
void Body::stage() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3];
  loop(c(0), count, 1, [&](Value k) {
    Value row = rowAddress(table, k), to = at(buffer, mul(k, paddedRow(d) * 4));
    auto scalars = [&](Value first) {
      loop(first, c(d), 1,
           [&](Value dim) { store(loadAsF32(storage, at(row, mul(dim, stride)), false), at(to, mul(dim, 4)), 4); });
    };
    ifElse(
        eq(stride, c(bytes)),
        [&] {
          int64_t whole = d / vl * vl;
          if (whole) {
            loop(c(0), c(whole), vl,
                 [&](Value dim) { store(loadAsF32(storage, at(row, mul(dim, bytes)), true), at(to, mul(dim, 4)), 4); });
          }
          if (whole < d) {
            scalars(c(whole));
          }
        },
        [&] { scalars(c(0)); });
    store(to, at(table, mul(k, 8)), 8);
  });
}

/// S[key][lane] = sum over d of row[key][d] * Qt[d][lane], six keys by as many lanes as registers hold, or by one
/// register where the tile has no more queries (decoding). The table and S have room for whole groups of keys.
void Body::dots() {
  int64_t columns = target.registers >= 32 ? 4 : 2;
  ifElse(le(args[2], c(vl)), [&] { dotsBlock(c(vl), 1); }, [&] { dotsBlock(c(kLanes), columns); });
}

/// The dots of lanes [0, end), `columns` registers at once.
void Body::dotsBlock(Value end, int64_t columns) {
  Value table = args[0], count = args[1], qt = args[3], scores = args[4];
  loop(c(0), count, kKeyGroup, [&](Value group) {
    SmallVector<Value> rows;
    for (int64_t i = 0; i < kKeyGroup; ++i) {
      rows.push_back(rowAddress(table, add(group, i)));
    }
    loop(c(0), end, columns * vl, [&](Value lane) {
      Value q = at(qt, mul(lane, 4));
      Values zero(kKeyGroup * columns, constant(vec(f32), 0.0));
      Values sums = loop(c(0), c(d), 1, zero, [&](Value dim, ValueRange acc) {
        Value qd = at(q, mul(dim, kLanes * 4)), byte = mul(dim, 4);
        SmallVector<Value> x;
        for (int64_t j = 0; j < columns; ++j) {
          x.push_back(loadRow(at(qd, j * vl * 4)));
        }
        Values next;
        for (int64_t i = 0; i < kKeyGroup; ++i) {
          Value a = splat(load(f32, at(rows[i], byte), 4));
          for (int64_t j = 0; j < columns; ++j) {
            next.push_back(fma(a, x[j], acc[i * columns + j]));
          }
        }
        return next;
      });
      for (int64_t i = 0; i < kKeyGroup; ++i) {
        Value row = at(scoreRow(scores, add(group, i)), mul(lane, 4));
        for (int64_t j = 0; j < columns; ++j) {
          store(sums[i * columns + j], at(row, j * vl * 4), 4);
        }
      }
    });
  });
}

/// newMax = max(oldMax, max over keys of S); P = 2^(S - newMax); l = l * 2^(oldMax - newMax) + sum of P;
/// acc *= 2^(oldMax - newMax), only for lanes whose maximum moved.
void Body::softmax() {
  Value scores = args[0], count = args[1], lanes = args[2], maxima = args[3], sums = args[4], rows = args[5],
        temp = args[6];
  constexpr int64_t kUnroll = 4;
  Value minusInf = constant(vec(f32), -std::numeric_limits<double>::infinity());
  // Keys up to the next multiple of the unrolling are dead.
  Value padded = arith::AndIOp::create(b, loc, add(count, kUnroll - 1), c(-kUnroll));
  loop(count, padded, 1, [&](Value k) {
    loop(c(0), c(kLanes), vl, [&](Value lane) { store(minusInf, at(scoreRow(scores, k), mul(lane, 4)), 4); });
  });
  loop(c(0), lanes, vl, [&](Value lane) {
    Value byte = mul(lane, 4);
    Value column = at(scores, byte), mAt = at(maxima, byte), lAt = at(sums, byte);
    Value oldMax = loadRow(mAt);
    Values tops = loop(c(0), padded, kUnroll, Values(kUnroll, oldMax), [&](Value k, ValueRange acc) {
      Values next;
      for (int64_t u = 0; u < kUnroll; ++u) {
        next.push_back(max(loadRow(at(scoreRow(column, k), u * kLanes * 4)), acc[u]));
      }
      return next;
    });
    Value newMax = max(max(tops[0], tops[1]), max(tops[2], tops[3]));
    // A row without a live key yet subtracts 0, so that 2^(-inf) = 0 and not NaN.
    Value base = select(cmp(arith::CmpFPredicate::OEQ, newMax, minusInf), constant(vec(f32), 0.0), newMax);
    Values parts = loop(c(0), padded, kUnroll, Values(kUnroll, constant(vec(f32), 0.0)), [&](Value k, ValueRange acc) {
      Values next;
      for (int64_t u = 0; u < kUnroll; ++u) {
        Value address = at(scoreRow(column, k), u * kLanes * 4);
        Value p = exp2(sub(loadRow(address), base));
        store(p, address, 4);
        next.push_back(add(acc[u], p));
      }
      return next;
    });
    Value sum = add(add(parts[0], parts[1]), add(parts[2], parts[3]));
    Value moved = any(cmp(arith::CmpFPredicate::UNE, newMax, oldMax));
    ifElse(
        moved,
        [&] {
          Value alpha = exp2(sub(oldMax, base));
          store(fma(loadRow(lAt), alpha, sum), lAt, 4);
          store(newMax, mAt, 4);
          store(alpha, temp, 4);
          loop(c(0), c(vl), 1, [&](Value q) {
            Value a = load(f32, at(temp, mul(q, 4)), 4);
            ifThen(cmp(arith::CmpFPredicate::UNE, a, constant(f32, 1.0)), [&] {
              Value row = rowAddress(rows, add(lane, q)), all = splat(a);
              loop(c(0), c(paddedRow(d)), vl, [&](Value dim) {
                Value address = at(row, mul(dim, 4));
                store(mul(loadRow(address), all), address, 4);
              });
            });
          });
        },
        [&] { store(add(loadRow(lAt), sum), lAt, 4); });
  });
}

/// l += sum over keys of S.
void Body::weights() {
  Value scores = args[0], count = args[1], lanes = args[2], sums = args[3];
  loop(c(0), lanes, vl, [&](Value lane) {
    Value byte = mul(lane, 4);
    Value column = at(scores, byte), lAt = at(sums, byte);
    Values sum = loop(c(0), count, 1, Values{loadRow(lAt)},
                      [&](Value k, ValueRange acc) { return Values{add(acc[0], loadRow(scoreRow(column, k)))}; });
    store(sum[0], lAt, 4);
  });
}

/// x * 0 is 0 for finite x and NaN otherwise.
Value Body::finite() {
  Value table = args[0], count = args[1];
  Value zero = constant(vec(f32), 0.0);
  Values sum = loop(c(0), count, 1, Values{zero}, [&](Value k, ValueRange acc) {
    Value row = rowAddress(table, k);
    int64_t whole = d / vl * vl;
    Value s = acc[0];
    if (whole) {
      s = loop(c(0), c(whole), vl, Values{s},
               [&](Value dim, ValueRange a) { return Values{fma(loadRow(at(row, mul(dim, 4))), zero, a[0])}; })[0];
    }
    if (whole < d) {
      s = fma(loadTail(at(row, whole * 4), d - whole), zero, s);
    }
    return Values{s};
  });
  Value bad = any(cmp(arith::CmpFPredicate::UNO, sum[0], sum[0]));
  return arith::XOrIOp::create(b, loc, bad, constant(i1, int64_t(1)));
}

/// acc[lane] += sum over keys of P[key][lane] * row[key], for `rows` lanes by `vectors` registers of columns
/// that begin at element `column`; only `lastValid` elements of the last register exist in V.
void Body::accumulateBlock(Value column, int64_t vectors, int64_t lastValid, int64_t rows) {
  Value scores = args[0], table = args[1], count = args[2], lanes = args[3], accRows = args[4];
  Value byte = mul(column, 4);
  loop(c(0), lanes, rows, [&](Value lane) {
    SmallVector<Value> to;
    Values init;
    for (int64_t i = 0; i < rows; ++i) {
      to.push_back(at(rowAddress(accRows, add(lane, i)), byte));
      for (int64_t j = 0; j < vectors; ++j) {
        init.push_back(loadRow(at(to[i], j * vl * 4)));
      }
    }
    Value p = at(scores, mul(lane, 4));
    Values sums = loop(c(0), count, 1, init, [&](Value k, ValueRange acc) {
      Value v = at(rowAddress(table, k), byte), pk = scoreRow(p, k);
      SmallVector<Value> x;
      for (int64_t j = 0; j < vectors; ++j) {
        x.push_back(loadTail(at(v, j * vl * 4), j + 1 == vectors ? lastValid : vl));
      }
      Values next;
      for (int64_t i = 0; i < rows; ++i) {
        Value a = splat(load(f32, at(pk, i * 4), 4));
        for (int64_t j = 0; j < vectors; ++j) {
          next.push_back(fma(a, x[j], acc[i * vectors + j]));
        }
      }
      return next;
    });
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < vectors; ++j) {
        store(sums[i * vectors + j], at(to[i], j * vl * 4), 4);
      }
    }
  });
}

void Body::accumulate() {
  // Blocks of `vectors` registers by `rows` lanes fill the register file; the last block may be narrower.
  int64_t vectors = 2, rows = target.registers >= 32 ? 8 : 4;
  int64_t block = vectors * vl, whole = d / block * block;
  if (whole) {
    loop(c(0), c(whole), block, [&](Value column) { accumulateBlock(column, vectors, vl, rows); });
  }
  if (int64_t rest = d - whole) {
    int64_t narrow = (rest + vl - 1) / vl;
    accumulateBlock(c(whole), narrow, rest - (narrow - 1) * vl, rows);
  }
}

void Body::accumulateExact() {
  Value scores = args[0], table = args[1], count = args[2], lanes = args[3], accRows = args[4];
  loop(c(0), count, 1, [&](Value k) {
    Value row = rowAddress(table, k), pk = scoreRow(scores, k);
    loop(c(0), lanes, 1, [&](Value lane) {
      Value p = load(f32, at(pk, mul(lane, 4)), 4);
      ifThen(cmp(arith::CmpFPredicate::UNE, p, constant(f32, 0.0)), [&] {
        Value to = rowAddress(accRows, lane);
        loop(c(0), c(d), 1, [&](Value dim) {
          Value byte = mul(dim, 4), address = at(to, byte);
          store(fma(p, load(f32, at(row, byte), 4), load(f32, address, 4)), address, 4);
        });
      });
    });
  });
}

/// out[d] = acc[d] * factor. A factor of 0 gives 0 whatever acc holds.
void Body::finish() {
  Value row = args[0], factor = args[1], out = args[2], stride = args[3];
  Value dead = cmp(arith::CmpFPredicate::OEQ, factor, constant(f32, 0.0));
  auto scalars = [&](Value first) {
    loop(first, c(d), 1, [&](Value dim) {
      Value x = mul(load(f32, at(row, mul(dim, 4)), 4), factor);
      storeF32As(storage, select(dead, constant(f32, 0.0), x), at(out, mul(dim, stride)));
    });
  };
  ifElse(
      eq(stride, c(bytes)),
      [&] {
        int64_t whole = d / vl * vl;
        if (whole) {
          Value all = splat(factor), deads = splat(dead);
          loop(c(0), c(whole), vl, [&](Value dim) {
            Value x = mul(loadRow(at(row, mul(dim, 4))), all);
            storeF32As(storage, select(deads, constant(vec(f32), 0.0), x), at(out, mul(dim, bytes)));
          });
        }
        if (whole < d) {
          scalars(c(whole));
        }
      },
      [&] { scalars(c(0)); });
}

void emitTileKernel(func::FuncOp fn, const VectorTarget &target) {
  StringRef kind = cast<StringAttr>(fn->getAttr(kKindAttr)).getValue();
  int64_t d = cast<IntegerAttr>(fn->getAttr(kDimAttr)).getInt();
  Type type = cast<TypeAttr>(fn->getAttr(kTypeAttr)).getValue();
  OpBuilder b(fn.getContext());
  b.setInsertionPointToStart(fn.addEntryBlock());
  Body body(b, fn, target, d, type);
  SmallVector<Value> results;
  if (kind == "pack") {
    body.pack();
  } else if (kind == "stage") {
    body.stage();
  } else if (kind == "dots") {
    body.dots();
  } else if (kind == "softmax") {
    body.softmax();
  } else if (kind == "weights") {
    body.weights();
  } else if (kind == "finite") {
    results.push_back(body.finite());
  } else if (kind == "accumulate") {
    body.accumulate();
  } else if (kind == "accumulate_exact") {
    body.accumulateExact();
  } else {
    body.finish();
  }
  func::ReturnOp::create(b, fn.getLoc(), results);
  for (StringRef name : {kKindAttr, kDimAttr, kTypeAttr}) {
    fn->removeAttr(name);
  }
}

} // namespace heddle
