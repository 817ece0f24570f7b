//===- LowerConvolve.cpp - attn.convolve as a kernel ----------------------===//
//
// Full weights: for each tap, the rows that it meets (zeros outside of the
// sequence) times its matrix, added up in y where it is f32 in whole registers,
// else in scratch; rows of x are read in place where all are in the sequence, also
// as pairs of bf16. Of few columns, each is a dot of a row. Depthwise: columns on lanes; weights that are not f32 in
// adjacent elements are copied to such; with a stride of 1, four rows at once, which share a tap's weights, and of
// whose rows of x each tap loads one.
//
//===----------------------------------------------------------------------===//

#include "passes/OpKernel.h"

using namespace mlir;

namespace heddle {

static constexpr int64_t kStrip = 256; // columns of weights by channel that are copied at once
static constexpr int64_t kThin = 4;    // columns at most that are dots of rows
static constexpr int64_t kAtOnce = 4;  // rows of a depthwise convolution that share a tap's weights

namespace {
/// The pieces that both forms share.
struct Convolution {
  Convolution(attn::ConvolveOp op, OpKernel &k) : op(op), k(k), kCols(k.tile(256, 64)), kDepth(k.tile(128, 32)) {
    auto type = cast<RankedTensorType>(op.getWeights().getType());
    taps = type.getDimSize(1);
    full = type.getRank() == 4;
    thin = full && !k.gpu && !type.isDynamicDim(3) && type.getDimSize(3) <= kThin && !type.isDynamicDim(2) &&
           type.getDimSize(2) <= 4096;
    kRows = full && !thin ? 48 : k.tile(192, 48);
    step = op.getStride().value_or(taps);
    offset = op.getOffset();
    hasBias = static_cast<bool>(op.getBias());
    AffineExpr B = k.sizeOf(op.getInput(), 0), H = k.sizeOf(op.getInput(), 1), N = k.sizeOf(op.getInput(), 2),
               D = k.sizeOf(op.getInput(), 3);
    rows = op.getPartial() ? N.ceilDiv(step) : (N - (offset + taps)).floorDiv(step) + 1;
    k.expectOf(op.getWeights(), 0, H, true);
    k.expectOf(op.getWeights(), 2, D);
    AffineExpr E = full ? k.sizeOf(op.getWeights(), 3) : D;
    if (hasBias) {
      k.expectOf(op.getBias(), 0, H, true);
      k.expectOf(op.getBias(), 1, E);
    }
    k.result({B, H, rows, E});
    AffineExpr all = B * H * rows * D * taps;
    k.launch(B * H * rows.ceilDiv(kRows) * (full ? E.ceilDiv(kCols) : k.number(1)),
             full ? all * E : all * (OpKernel::kMoved / 4));
    x = k.operand(op.getInput());
    w = k.operand(op.getWeights());
    y = k.resultView(0);
    if (hasBias) {
      bias = k.operand(op.getBias());
    }
  }

  void emitFull();
  void emitThin();
  void emitDepthwise();
  /// Weights by channel, or a bias.
  struct Weights {
    Value base, tapStride, colStride;
    Type type;
  };
  /// Where the columns of a strip lie.
  struct Strip {
    Value count, contiguous, from, to;
    Weights weights, bias;
  };
  void depthwiseRows(Value row, Value end, const Strip &strip);
  void rowByRow(Value row, Value end, const Strip &strip);
  void fourRows(Value row, const Strip &strip);
  Value loaded(const Weights &w, Value tap, Value col, bool vector) {
    return k.loadAsF32(w.type, k.at(k.at2(w.base, tap, w.tapStride), k.mul(col, w.colStride)), vector);
  }
  Emitter::Values startOf(ArrayRef<Value> cols, bool vector, const Strip &strip);

  attn::ConvolveOp op;
  OpKernel &k;
  TensorView x, w, y, bias;
  const int64_t kCols, kDepth;
  int64_t kRows, taps, step, offset;
  bool full, hasBias;
  bool thin = false; ///< of few columns
  AffineExpr rows;
};
} // namespace

void Convolution::emitFull() {
  Value depth = x.size[3], cols = w.size[3];
  Emitter::Values t = k.split(k.task, {x.size[0], x.size[1], k.ceilDiv(y.size[2], kRows), k.ceilDiv(cols, kCols)});
  Value row = k.mul(t[2], kRows), col = k.mul(t[3], kCols);
  Value height = k.min(k.sub(y.size[2], row), k.c(kRows)), width = k.min(k.sub(cols, col), k.c(kCols));
  Value wide = k.padded(width), line = k.mul(wide, 4);
  Value sums = k.allocate(kRows * kCols * 4), stagedX = k.allocate(kRows * kDepth * 4),
        stagedW = k.allocate(kDepth * kCols * 4);
  Value no = k.constant(k.i1, int64_t(0));
  Value whole = k.gpu ? no : k.eq(wide, width);
  Value to = k.address(y, {t[0], t[1], row, col});
  // A convolution of no channels is its bias: sums then begin in scratch.
  Value outInPlace = y.type.isF32() ? k.both(k.both(whole, k.adjacent(y)), k.lt(k.c(0), depth)) : no;
  Value out = k.select(outInPlace, to, sums), outLine = k.select(outInPlace, y.stride[2], line);
  if (hasBias) {
    k.stage(out, outLine, k.address(bias, {t[1], col}), k.c(0), bias.stride[1], height, width, bias.type);
  } else {
    k.ifThen(k.flip(outInPlace), [&] { k.fillZero(sums, k.mul(line, height)); });
  }
  Value firstRow = k.add(k.mul(row, step), offset), last = k.add(k.mul(k.sub(height, k.c(1)), step), taps);
  Value inside = k.gpu ? no : k.both(k.ge(firstRow, k.c(0)), k.le(k.add(firstRow, last), x.size[2]));
  Value xInPlace = x.type.isF32() && !x.glue ? inside : no;
  Value wInPlace = w.type.isF32() ? k.both(whole, k.adjacent(w)) : no;
  Value from = x.glue ? stagedX : k.address(x, {t[0], t[1]}), weights = k.address(w, {t[1]});
  weights = k.at(weights, k.mul(col, w.stride[3]));
  Value xLine = x.glue ? k.c(kDepth * 4) : k.mul(x.stride[2], step), xStride = x.glue ? k.c(4) : x.stride[3];
  auto forParts = [&](llvm::function_ref<void(Value, Value, Value, Value, Value, Value)> body) {
    k.loop(k.c(0), k.c(taps), 1, [&](Value tap) {
      Value start = k.add(firstRow, tap);
      k.loop(k.c(0), depth, kDepth, [&](Value d) {
        Value here = x.glue ? from : k.at(k.at2(from, start, x.stride[2]), k.mul(d, x.stride[3]));
        Value there = k.at(k.at2(weights, tap, w.stride[1]), k.mul(d, w.stride[2]));
        Value begins = k.both(k.eq(tap, k.c(0)), k.eq(d, k.c(0)));
        body(start, d, here, there, k.min(k.sub(depth, d), k.c(kDepth)), begins);
      });
    });
  };
  // y[m, :] += sum over d of x[m step + tap, d] w[tap, d, :]
  auto product = [&](Value begins, Value A, Value aRow, Value aDepth, Value B, Value bRow, Value many, bool pairs) {
    auto multiply = [&](bool fresh) {
      k.multiply(out, outLine, A, aRow, aDepth, B, bRow, height, many, wide, fresh, pairs);
    };
    if (hasBias || k.gpu) {
      return multiply(false);
    }
    k.ifElse(begins, [&] { multiply(true); }, [&] { multiply(false); });
  };
  auto asFloats = [&] {
    forParts([&](Value start, Value d, Value here, Value there, Value many, Value begins) {
      k.ifThen(k.flip(xInPlace), [&] {
        // Rows outside of the sequence are zeros.
        auto inside = [&](Value r) {
          Value n = k.add(start, k.mul(r, step));
          return k.both(k.ge(n, k.c(0)), k.lt(n, x.size[2]));
        };
        k.stage({{stagedX, k.c(kDepth * 4), &x}}, {t[0], t[1]}, start, step, d, height, many, {inside});
      });
      k.ifThen(k.flip(wInPlace), [&] { k.stage(stagedW, line, there, w.stride[2], w.stride[3], many, width, w.type); });
      product(begins, k.select(xInPlace, here, stagedX), k.select(xInPlace, xLine, k.c(kDepth * 4)),
              k.select(xInPlace, xStride, k.c(4)), k.select(wInPlace, there, stagedW),
              k.select(wInPlace, w.stride[2], line), many, /*pairs=*/false);
    });
  };
  if (k.multipliesPairs(x, w)) {
    Value even = k.eq(k.floorMod(depth, 2), k.c(0));
    k.ifElse(
        k.both(k.both(inside, k.adjacent(x)), even),
        [&] {
          forParts([&](Value, Value, Value here, Value there, Value many, Value begins) {
            k.stagePairs(stagedW, line, there, w.stride[2], w.stride[3], many, width);
            product(begins, here, xLine, k.c(4), stagedW, line, k.floorDiv(many, 2), /*pairs=*/true);
          });
        },
        asFloats);
  } else {
    asFloats();
  }
  k.ifThen(k.flip(outInPlace), [&] { k.unstage(to, y.stride[2], y.stride[3], sums, line, height, width, y.type); });
}

/// y[m, e] = sum over taps of the dots of x[m step + tap] and w[tap, :, e]
void Convolution::emitThin() {
  auto type = cast<RankedTensorType>(op.getWeights().getType());
  const int64_t depth = type.getDimSize(2), cols = type.getDimSize(3), vl = k.target.width;
  const int64_t line = llvm::alignTo(depth, vl) * 4;
  Emitter::Values t = k.split(k.task, {x.size[0], x.size[1], k.ceilDiv(y.size[2], kRows)});
  Value row = k.mul(t[2], kRows), end = k.min(k.add(row, k.c(kRows)), y.size[2]);
  // A tap's columns of w, each in a row.
  Value turned = k.allocate(taps * cols * line);
  auto weight = [&](Value tap, int64_t e, Value d) {
    return k.at(k.at(turned, k.mul(k.add(k.mul(tap, cols), e), line)), k.mul(d, 4));
  };
  k.loop(k.c(0), k.c(taps), 1, [&](Value tap) {
    k.loop(k.c(0), k.c(depth), 1, [&](Value d) {
      for (int64_t e = 0; e < cols; ++e) {
        k.store(k.loadAsF32(w.type, k.address(w, {t[1], tap, d, k.c(e)}), false), weight(tap, e, d), 4);
      }
    });
  });
  Value registers = k.select(k.adjacent(x), k.c(depth / vl * vl), k.c(0));
  k.loop(row, end, 1, [&](Value m) {
    Value start = k.add(k.mul(m, step), offset);
    Value lo = k.max(k.sub(k.c(0), start), k.c(0)), hi = k.min(k.sub(x.size[2], start), k.c(taps));
    // Sums on lanes, then those of single elements.
    Emitter::Values sums(cols, k.constant(k.vec(k.f32), 0.0));
    sums.append(cols, k.constant(k.f32, 0.0));
    sums = k.loop(lo, hi, 1, sums, [&](Value tap, ValueRange sums) {
      Value n = k.add(start, tap);
      auto add = [&](Value from, Value to, int64_t by, ValueRange some) {
        return k.loop(from, to, by, some, [&](Value d, ValueRange acc) {
          Emitter::Values next;
          Value v = k.read(x, {t[0], t[1], n, d}, by > 1);
          for (int64_t e = 0; e < cols; ++e) {
            next.push_back(k.fma(v, k.load(v.getType(), weight(tap, e, d), 4), acc[e]));
          }
          return next;
        });
      };
      Emitter::Values next = add(k.c(0), registers, vl, sums.take_front(cols));
      llvm::append_range(next, add(registers, k.c(depth), 1, sums.drop_front(cols)));
      return next;
    });
    for (int64_t e = 0; e < cols; ++e) {
      Value sum = k.add(k.sumOfLanes(sums[e]), sums[cols + e]);
      if (hasBias) {
        sum = k.add(sum, k.loadAsF32(bias.type, k.address(bias, {t[1], k.c(e)}), false));
      }
      k.storeF32As(y.type, sum, k.address(y, {t[0], t[1], m, k.c(e)}));
    }
  });
}

void Convolution::emitDepthwise() {
  Emitter::Values t = k.split(k.task, {x.size[0], x.size[1], k.ceilDiv(y.size[2], kRows)});
  Value from = k.address(x, {t[0], t[1]}), to = k.address(y, {t[0], t[1]}), weights = k.address(w, {t[1]}), add;
  Value contiguous = k.both(k.adjacent(x), k.adjacent(y));
  if (hasBias) {
    add = k.address(bias, {t[1]});
  }
  Value row = k.mul(t[2], kRows), end = k.min(k.add(row, k.c(kRows)), y.size[2]);
  if (k.gpu) {
    rowByRow(row, end,
             {x.size[3],
              contiguous,
              from,
              to,
              {weights, w.stride[1], w.stride[2], w.type},
              {add, k.c(0), hasBias ? bias.stride[1] : Value(), hasBias ? bias.type : Type()}});
    return;
  }
  Value copied = k.allocate(taps * kStrip * 4), copiedBias = k.allocate(kStrip * 4);
  Value inPlace = w.type.isF32() ? k.adjacent(w) : k.constant(k.i1, int64_t(0));
  k.loop(k.c(0), x.size[3], kStrip, [&](Value left) {
    Value cols = k.min(k.sub(x.size[3], left), k.c(kStrip)), here = k.at2(weights, left, w.stride[2]);
    k.ifThen(k.flip(inPlace),
             [&] { k.stage(copied, k.c(kStrip * 4), here, w.stride[1], w.stride[2], k.c(taps), cols, w.type); });
    if (hasBias) {
      k.stage(copiedBias, k.c(0), k.at2(add, left, bias.stride[1]), k.c(0), bias.stride[1], k.c(1), cols, bias.type);
    }
    depthwiseRows(row, end,
                  {cols,
                   contiguous,
                   k.at2(from, left, x.stride[3]),
                   k.at2(to, left, y.stride[3]),
                   {k.select(inPlace, here, copied), k.select(inPlace, w.stride[1], k.c(kStrip * 4)), k.c(4), k.f32},
                   {copiedBias, k.c(0), k.c(4), k.f32}});
  });
}

/// Rows [row, end) of y.
void Convolution::depthwiseRows(Value row, Value end, const Strip &strip) {
  if (step != 1) {
    return rowByRow(row, end, strip);
  }
  // Rows whose taps all meet rows of the sequence: 0 <= m + offset, m + offset + taps <= N.
  Value n = x.size[2];
  Value first = k.min(k.max(row, k.c(-offset)), end);
  Value last = k.max(k.min(end, k.sub(n, k.c(offset + taps - 1))), first);
  last = k.add(first, k.mul(k.floorDiv(k.sub(last, first), kAtOnce), kAtOnce));
  rowByRow(row, first, strip);
  k.loop(first, last, kAtOnce, [&](Value m) { fourRows(m, strip); });
  rowByRow(last, end, strip);
}

/// What sums begin with.
Emitter::Values Convolution::startOf(ArrayRef<Value> cols, bool vector, const Strip &strip) {
  Emitter::Values sums;
  for (Value col : cols) {
    sums.push_back(hasBias ? loaded(strip.bias, k.c(0), col, vector)
                           : k.constant(vector ? Type(k.vec(k.f32)) : k.f32, 0.0));
  }
  return sums;
}

void Convolution::rowByRow(Value row, Value end, const Strip &strip) {
  k.rows(row, end, [&](Value m) {
    Value start = k.add(k.mul(m, step), offset);
    // Taps that meet rows of the sequence.
    Value lo = k.max(k.sub(k.c(0), start), k.c(0)), hi = k.min(k.sub(x.size[2], start), k.c(taps));
    k.columns(strip.count, strip.contiguous, 4, [&](ArrayRef<Value> cols, bool vector) {
      Emitter::Values sums = startOf(cols, vector, strip);
      // y[m] += w[tap] x[m step + offset + tap]
      sums = k.loop(lo, hi, 1, sums, [&](Value tap, ValueRange acc) {
        Emitter::Values next;
        for (auto [col, a] : llvm::zip(cols, acc)) {
          Value v = k.loadAsF32(
              x.type, k.at(k.at2(strip.from, k.add(start, tap), x.stride[2]), k.mul(col, x.stride[3])), vector);
          next.push_back(k.fma(loaded(strip.weights, tap, col, vector), v, a));
        }
        return next;
      });
      for (auto [col, sum] : llvm::zip(cols, sums)) {
        k.storeF32As(y.type, sum, k.at(k.at2(strip.to, m, y.stride[2]), k.mul(col, y.stride[3])));
      }
    });
  });
}

/// Rows [row, row + kAtOnce) of y, all of whose taps meet rows of the sequence.
void Convolution::fourRows(Value row, const Strip &strip) {
  Value start = k.add(row, offset);
  k.columns(strip.count, strip.contiguous, 2, [&](ArrayRef<Value> cols, bool vector) {
    auto rowOfX = [&](Value n, Value col) {
      return k.loadAsF32(x.type, k.at(k.at2(strip.from, n, x.stride[2]), k.mul(col, x.stride[3])), vector);
    };
    // Carried by columns: sums of the rows, then x[start + tap] ... but the last, which a tap loads.
    Emitter::Values carried;
    for (auto [col, begin] : llvm::zip(cols, startOf(cols, vector, strip))) {
      carried.append(kAtOnce, begin);
      for (int64_t r = 0; r + 1 < kAtOnce; ++r) {
        carried.push_back(rowOfX(k.add(start, k.c(r)), col));
      }
    }
    constexpr int64_t each = 2 * kAtOnce - 1;
    // y[m + r] += w[tap] x[m + offset + tap + r]
    carried = k.loop(k.c(0), k.c(taps), 1, carried, [&](Value tap, ValueRange now) {
      Emitter::Values next;
      for (auto [c, col] : llvm::enumerate(cols)) {
        Emitter::Values window = llvm::to_vector(now.slice(c * each + kAtOnce, kAtOnce - 1));
        window.push_back(rowOfX(k.add(k.add(start, tap), k.c(kAtOnce - 1)), col));
        Value weight = loaded(strip.weights, tap, col, vector);
        for (int64_t r = 0; r < kAtOnce; ++r) {
          next.push_back(k.fma(weight, window[r], now[c * each + r]));
        }
        next.append(window.begin() + 1, window.end());
      }
      return next;
    });
    for (auto [c, col] : llvm::enumerate(cols)) {
      for (int64_t r = 0; r < kAtOnce; ++r) {
        k.storeF32As(y.type, carried[c * each + r],
                     k.at(k.at2(strip.to, k.add(row, k.c(r)), y.stride[2]), k.mul(col, y.stride[3])));
      }
    }
  });
}

void lowerConvolve(attn::ConvolveOp op, OpKernel &kernel) {
  Convolution c(op, kernel);
  if (c.thin) {
    c.emitThin();
  } else if (c.full) {
    c.emitFull();
  } else {
    c.emitDepthwise();
  }
}

} // namespace heddle
