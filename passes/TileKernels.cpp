//===- TileKernels.cpp - The micro-kernels that tile loops call -----------===//

#include "passes/TileKernels.h"

#include <functional>

using namespace mlir;

namespace heddle {

static constexpr StringLiteral kKindAttr = "attn.tile", kDimAttr = "attn.d", kTypeAttr = "attn.type",
                               kFetchAttr = "attn.fetch";

static StringRef kindName(TileKernel kind) {
  switch (kind) {
  case TileKernel::Pack:
    return "pack";
  case TileKernel::PackPairs:
    return "pack_pairs";
  case TileKernel::Stage:
    return "stage";
  case TileKernel::StagePairs:
    return "stage_pairs";
  case TileKernel::StageRows:
    return "stage_rows";
  case TileKernel::Dots:
    return "dots";
  case TileKernel::Narrow:
    return "narrow";
  case TileKernel::DotsFew:
    return "dots_few";
  case TileKernel::Softmax:
    return "softmax";
  case TileKernel::Weights:
    return "weights";
  case TileKernel::Finite:
    return "finite";
  case TileKernel::Accumulate:
    return "accumulate";
  case TileKernel::SoftmaxAccumulate:
    return "accumulate_softmax";
  case TileKernel::AccumulateFew:
    return "accumulate_few";
  case TileKernel::AccumulateExact:
    return "accumulate_exact";
  case TileKernel::Finish:
    return "finish";
  }
  llvm_unreachable("a micro-kernel without a name");
}

std::string declareTileKernel(ModuleOp module, TileKernel kind, int64_t d, Type type, int64_t fetch) {
  MLIRContext *context = module.getContext();
  std::string name = ("tile_" + kindName(kind) + "_d" + Twine(d)).str();
  if (!type.isF32()) {
    name += type.isBF16() ? "_bf16" : "_f16";
  }
  if (fetch > 0) {
    name += ("_fetch" + Twine(fetch)).str();
  }
  if (module.lookupSymbol(name)) {
    return name;
  }
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Type p = LLVM::LLVMPointerType::get(context), i = b.getI64Type(), f = b.getF32Type();
  SmallVector<Type> ins, outs;
  switch (kind) {
  case TileKernel::Pack:
  case TileKernel::PackPairs:
    ins = {p, i, f, p};
    break;
  case TileKernel::Stage:
    ins = {p, i, i, p, i, i};
    break;
  case TileKernel::StagePairs:
    ins = {p, i, i, p, i};
    break;
  case TileKernel::StageRows:
    ins = {p, i, i, p};
    break;
  case TileKernel::Dots:
    ins = {p, i, p, p, p, i, p, p};
    break;
  case TileKernel::Narrow:
    ins = {p, i, p};
    break;
  case TileKernel::DotsFew:
    ins = {p, i, p, p, p, i, p, p};
    break;
  case TileKernel::Softmax:
    ins = {p, p, i, i, f, p, p, p, p};
    break;
  case TileKernel::Weights:
    ins = {p, p, i, i, p};
    break;
  case TileKernel::Finite:
    ins = {p, i, i};
    outs = {b.getI1Type()};
    break;
  case TileKernel::Accumulate:
    ins = {p, p, i, i, p, i, p};
    break;
  case TileKernel::SoftmaxAccumulate:
    ins = {p, p, i, i, f, p, p, p, p, p, i};
    break;
  case TileKernel::AccumulateFew:
    ins = {p, p, i, i, p, i, p, p, i, i};
    break;
  case TileKernel::AccumulateExact:
    ins = {p, p, i, i, p, i, i, p};
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
  if (fetch > 0) {
    fn->setAttr(kFetchAttr, b.getI64IntegerAttr(fetch));
  }
  return name;
}

namespace {

/// The body of one micro-kernel.
class Body : public Emitter {
public:
  Body(OpBuilder &b, func::FuncOp fn, const VectorTarget &target, int64_t d, Type storage)
      : Emitter(b, fn.getLoc(), target), args(fn.getArguments()), d(d), vl(target.width), storage(storage),
        bytes(storage.isF32() ? 4 : 2), pairs(storage.isBF16() && target.bf16) {}

  void pack();
  void stage();
  void stagePairs();
  void stageRows();
  void dots(int64_t fetch);
  void softmax();
  void weights();
  Value finite();
  void accumulate();
  void narrow();
  void softmaxAccumulate();
  void dotsFew();
  void accumulateFew(int64_t fetch);
  void accumulateExact();
  void finish();

private:
  ValueRange args;
  int64_t d, vl;
  Type storage;
  int64_t bytes; ///< of a storage element
  bool pairs;    ///< native: two bf16 in a 32-bit word are multiplied at once

  static constexpr int64_t kStep = 160;        ///< words of a row that are multiplied at once
  static constexpr int64_t kTurn = 8;          ///< words of a row between requests for the next
  static constexpr int64_t kRow = kColumn * 4; ///< bytes of a key in a column of S

  Value rowAddress(Value table, Value index) { return load(ptr, at(table, mul(index, 8)), 8); }
  /// f32 words of a row of Qt or K.
  int64_t words() const { return pairs ? (d + 1) / 2 : d; }
  /// Element `dim` of a row of V that is staged in blocks or has a block pitch of its own width.
  Value inBlocks(Value row, Value dim, Value blockPitch, Value stride) {
    Value block = mul(floorDiv(dim, kValueBlock), blockPitch);
    return at(row, add(block, mul(floorMod(dim, kValueBlock), stride)));
  }
  Value firstLanes(int64_t valid);
  /// One f32 register from element `first` of a row of d elements; lanes past the end are 0.
  Value loadTail(Value address, int64_t valid);
  /// The bits of vl adjacent bf16 elements, as the low half of words; those past the first `valid` are 0.
  Value loadHalves(Value address, int64_t valid);
  /// a * x + sum, on f32 or on pairs of bf16.
  Value multiplyAdd(Value a, Value x, Value sum);
  Value asPairs(Value v) { return LLVM::BitcastOp::create(b, loc, VectorType::get({2 * vl}, b.getBF16Type()), v); }
  /// The bits of two rows' bf16 elements [dim, dim + vl), lane by lane; a missing row is 0.
  Value interleave(Value even, Value odd);
  Value loadBits(Value row, Value dim, Value stride, bool adjacent, int64_t valid);
  void inPieces(int64_t from, int64_t end, int64_t step, llvm::function_ref<void(Value)> body);
  /// Emits the requests of one turn of a group's loop.
  using Ask = std::function<void(Value)>;
  void askBeside(Value turn, Value key, int64_t fetch);
  /// Turns of the first part of the rows.
  int64_t turns() const {
    int64_t n = words(), parts = (n + kStep - 1) / kStep;
    return ((n + parts - 1) / parts + kTurn - 1) / kTurn;
  }
  void dotsPass(Value from, Value until, bool fresh, bool last, int64_t fetch);
  void dotsBlock(ArrayRef<Value> rows, Value qt, Value s, Value tops, int64_t columns, Value from, Value until,
                 bool fresh, bool last, const Ask &ask);
  /// Words [dim, dim + 4) of 16 rows, of which the last `valid` exist, transposed: [word][row].
  Values columnsOf(ArrayRef<Value> rows, Value dim, int64_t valid);
  /// 4 registers of 4 x 4 words, each word and its place within 128 bits exchanged.
  Values transposed(ArrayRef<Value> four);
  /// The dots of up to `lanes` lanes and `blocks` times 16 keys from `key` on.
  void dotsNarrow(Value key, int64_t lanes, int64_t blocks);
  void dotsColumn();
  static constexpr int64_t kUnroll = 4, kSums = 2; ///< keys whose weights are computed at once, and sums of weights
  static constexpr double kSlack = 8;
  /// A register of lanes in softmax.
  struct Weighed {
    Value s, first, last, end, base, minusBase, sumAt;
  };
  Weighed beginSoftmax(Value lane);
  Values weigh(const Weighed &w, Value k, ValueRange sums, llvm::function_ref<void(int64_t)> beside = {});
  void endSoftmax(const Weighed &w, ValueRange sums);

  /// What accumulateBlock reads; `weighs`: S is not yet P.
  struct Sources {
    Value scores, columns, lanes, pitch, table, blockPitch, acc;
    bool weighs;
  };
  struct Rows;
  Values addRow(const Rows &r, Value k, ValueRange sum);
  Values loadSums(const Rows &r);
  void storeSums(const Rows &r, ValueRange sums);
  void weighAndAdd(const Rows &r, Value lane);
  void accumulateColumns(Sources of);
  void accumulateBlock(const Sources &of, Value column, int64_t vectors, int64_t lastValid);
  /// Keys [first, last), and the bytes [fetchFrom, fetchTo) of the rows at ahead[0], ... + distance that they ask for.
  struct FewKeys {
    Value first, last, ahead, distance;
    int64_t fetchFrom, fetchTo;
    Value turn, share; ///< many lanes ask for a line a turn: lines per 2^16 turns, and turns before this block
  };
  /// Rows of `size` bytes that few queries ask for ahead: what memory gives meanwhile.
  static int64_t rowsAhead(int64_t size) { return kRun * (kRun * size < 8192 ? 2 : 1); }
  static constexpr int64_t kRun = 2 * kNarrowKeys;
  /// Entries of the table from `number` on, or those of the other table, which follow on its last.
  Value fewAhead(Value number, Value count, Value table, Value other) {
    Value beyond = at(other, mul(max(sub(number, count), c(0)), 8));
    return select(lt(number, count), at(table, mul(number, 8)), beyond);
  }
  void accumulateFewBlock(Value lane, int64_t rows, int64_t column, int64_t width, const FewKeys &keys, Value run);
  std::pair<Value, Value> keysOf(Value columns, Value column) {
    Value p = at(columns, mul(column, 16));
    return {load(i64, p, 8), load(i64, at(p, 8), 8)};
  }
  Value columnCount(Value lanes) { return floorDiv(add(lanes, kColumn - 1), kColumn); }
};

} // namespace

Value Body::firstLanes(int64_t valid) {
  SmallVector<bool> lanes(vl);
  std::fill_n(lanes.begin(), valid, true);
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(i1), ArrayRef<bool>(lanes)));
}

Value Body::loadTail(Value address, int64_t valid) {
  if (valid == vl) {
    return loadRow(address);
  }
  return LLVM::MaskedLoadOp::create(b, loc, vec(f32), address, firstLanes(valid), constant(vec(f32), 0.0),
                                    b.getI32IntegerAttr(4), UnitAttr());
}

Value Body::loadHalves(Value address, int64_t valid) {
  Value halves = valid == vl
                     ? load(vec(i16), address, 2)
                     : LLVM::MaskedLoadOp::create(b, loc, vec(i16), address, firstLanes(valid),
                                                  constant(vec(i16), int64_t(0)), b.getI32IntegerAttr(2), UnitAttr())
                           .getResult();
  return arith::ExtUIOp::create(b, loc, vec(i32), halves);
}

Value Body::multiplyAdd(Value a, Value x, Value sum) {
  if (!pairs) {
    return fma(a, x, sum);
  }
  auto name = b.getStringAttr("llvm.x86.avx512bf16.dpbf16ps.512");
  return LLVM::CallIntrinsicOp::create(b, loc, vec(f32), name, ValueRange{sum, asPairs(a), asPairs(x)}).getResult(0);
}

/// Qt[d][lane] = scale * row[lane][d]: squares of vl x vl are transposed in registers where the elements of a
/// row are adjacent. Pairs of bf16 are words of 32 bits; they are exact, so the scale only gives its sign here.
void Body::pack() {
  Value rows = args[0], stride = args[1], scale = args[2], qt = args[3];
  int64_t count = words(), whole = pairs ? d / 2 : d; // the last pair of an odd d has one element
  Type word = pairs ? i32 : f32;
  Value flip;
  if (pairs) {
    Value negative = cmp(arith::CmpFPredicate::OLT, scale, constant(f32, 0.0));
    flip = select(negative, c32(int64_t(0x80008000)), c32(0));
  }
  auto scaled = [&](Value x) {
    if (pairs) {
      return arith::XOrIOp::create(b, loc, x, isVector(x) ? splat(flip) : flip).getResult();
    }
    return mul(x, isVector(x) ? splat(scale) : scale);
  };
  // Qt of the 64 lanes that `lane` is in, at that lane.
  auto target = [&](Value lane, Value dim) {
    Value block = kLanes == 64 ? qt : at(qt, mul(floorDiv(lane, 64), count * 256));
    return at(block, add(mul(dim, 256), mul(floorMod(lane, 64), 4)));
  };
  auto element = [&](Value row, Value dim) {
    Value bits = load(i16, at(row, mul(dim, stride)), 2);
    return arith::ExtUIOp::create(b, loc, i32, bits).getResult();
  };
  auto scalar = [&](Value lane, Value row, Value dim, bool lonely) {
    Value x;
    if (!pairs) {
      x = loadAsF32(storage, at(row, mul(dim, stride)), false);
    } else {
      x = element(row, mul(dim, 2));
      if (!lonely) {
        x = either(x, arith::ShLIOp::create(b, loc, element(row, add(mul(dim, 2), 1)), c32(16)));
      }
    }
    store(scaled(x), target(lane, dim), 4);
  };
  auto scalars = [&](Value lane, Value row, Value from) {
    loop(from, c(whole), 1, [&](Value dim) { scalar(lane, row, dim, false); });
    if (whole < count) {
      scalar(lane, row, c(whole), true);
    }
  };
  auto anyStride = [&] { loop(c(0), c(kLanes), 1, [&](Value lane) { scalars(lane, rowAddress(rows, lane), c(0)); }); };
  auto adjacent = [&] {
    int64_t square = whole / vl * vl;
    loop(c(0), c(kLanes), vl, [&](Value lane) {
      SmallVector<Value> addresses;
      for (int64_t r = 0; r < vl; ++r) {
        addresses.push_back(rowAddress(rows, add(lane, r)));
      }
      if (square) {
        loop(c(0), c(square), vl, [&](Value dim) {
          SmallVector<Value> r;
          for (Value a : addresses) {
            r.push_back(pairs ? load(vec(word), at(a, mul(dim, 4)), 2)
                              : loadAsF32(storage, at(a, mul(dim, bytes)), true));
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
            store(scaled(r[x]), target(lane, add(dim, x)), 4);
          }
        });
      }
      if (square < count) {
        for (int64_t x = 0; x < vl; ++x) {
          scalars(add(lane, x), addresses[x], c(square));
        }
      }
    });
  };
  ifElse(eq(stride, c(bytes)), adjacent, anyStride);
}

//===--- Staging ----------------------------------------------------------===//

/// Rows become f32 rows of the buffer, in blocks of kValueBlock elements, and the table points to them.
void Body::stage() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3], rowPitch = args[4], blockPitch = args[5];
  auto eachRow = [&](llvm::function_ref<void(Value, Value)> copy) {
    loop(c(0), count, 1, [&](Value k) {
      Value row = rowAddress(table, k), to = at(buffer, mul(k, rowPitch));
      copy(row, to);
      store(to, at(table, mul(k, 8)), 8);
    });
  };
  auto adjacent = [&](Value row, Value to) {
    // Whole registers, then ever narrower ones for the rest.
    int64_t done = 0;
    for (int64_t width = vl; width >= 1; width /= 2) {
      int64_t end = done + (d - done) / width * width;
      VectorTarget narrow = this->target;
      narrow.width = width;
      Emitter piece(b, loc, narrow);
      inPieces(done, end, width, [&](Value dim) {
        Value place = inBlocks(to, dim, blockPitch, c(4));
        piece.store(piece.loadAsF32(storage, at(row, mul(dim, bytes)), width > 1), place, 4);
      });
      done = end;
    }
  };
  auto anyStride = [&](Value row, Value to) {
    loop(c(0), c(d), 1, [&](Value dim) {
      Value x = loadAsF32(storage, at(row, mul(dim, stride)), false);
      store(x, inBlocks(to, dim, blockPitch, c(4)), 4);
    });
  };
  ifElse(eq(stride, c(bytes)), [&] { eachRow(adjacent); }, [&] { eachRow(anyStride); });
}

/// body(from), body(from + step), ... < end: straight code where it is short.
void Body::inPieces(int64_t from, int64_t end, int64_t step, llvm::function_ref<void(Value)> body) {
  if (end - from > 8 * step) {
    return loop(c(from), c(end), step, body);
  }
  for (; from < end; from += step) {
    body(c(from));
  }
}

/// 16 bits of each of vl elements from `dim`, as the low half of words; only `valid` of them exist.
Value Body::loadBits(Value row, Value dim, Value stride, bool adjacent, int64_t valid) {
  if (adjacent && valid == vl) {
    return arith::ExtUIOp::create(b, loc, vec(i32), load(vec(i16), at(row, mul(dim, 2)), 2));
  }
  Value v = constant(vec(i32), int64_t(0));
  for (int64_t x = 0; x < valid; ++x) {
    Value bits = load(i16, at(row, mul(add(dim, x), stride)), 2);
    v = vector::InsertOp::create(b, loc, arith::ExtUIOp::create(b, loc, i32, bits), v, x);
  }
  return v;
}

Value Body::interleave(Value even, Value odd) {
  return either(even, arith::ShLIOp::create(b, loc, odd, constant(vec(i32), int64_t(16))));
}

/// V[block][pair][column] = (row[2 pair][column], row[2 pair + 1][column]); the row after the last is 0.
void Body::stagePairs() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3], blockPitch = args[4];
  auto copy = [&](bool adjacent) {
    loop(c(0), count, 2, [&](Value k) {
      Value even = rowAddress(table, k);
      // Of an odd count, the last row stands in for its partner and is then cleared.
      Value has = lt(add(k, 1), count);
      Value odd = rowAddress(table, select(has, add(k, 1), k));
      Value keep = splat(select(has, c32(-1), c32(0)));
      Value to = at(buffer, mul(k, kRow));
      auto piece = [&](Value dim, int64_t valid) {
        Value x = loadBits(even, dim, stride, adjacent, valid);
        Value y = both(loadBits(odd, dim, stride, adjacent, valid), keep);
        store(interleave(x, y), inBlocks(to, dim, blockPitch, c(4)), 4);
      };
      int64_t whole = d / vl * vl;
      inPieces(0, whole, vl, [&](Value dim) { piece(dim, vl); });
      if (whole < d) {
        piece(c(whole), d - whole);
      }
    });
  };
  ifElse(eq(stride, c(2)), [&] { copy(true); }, [&] { copy(false); });
}

/// 16-bit rows become contiguous, with a zero behind an odd end; the table points to them.
void Body::stageRows() {
  Value table = args[0], count = args[1], stride = args[2], buffer = args[3];
  loop(c(0), count, 1, [&](Value k) {
    Value row = rowAddress(table, k), to = at(buffer, mul(k, paddedRow(d) * 4));
    loop(c(0), c(d), 1, [&](Value dim) { store(load(i16, at(row, mul(dim, stride)), 2), at(to, mul(dim, 2)), 2); });
    if (d % 2) {
      store(constant(i16, int64_t(0)), at(to, d * 2), 2);
    }
    store(to, at(table, mul(k, 8)), 8);
  });
}

//===--- Scores -----------------------------------------------------------===//

/// S[key][lane] = sum over d of row[key][d] * Qt[d][lane], six keys by as many columns as the group has. Long rows
/// are cut, so that the part of Qt in use stays in the first-level cache.
void Body::dots(int64_t fetch) {
  int64_t n = words();
  if (n <= kStep) {
    dotsPass(c(0), c(n), true, true, fetch);
    return;
  }
  int64_t parts = (n + kStep - 1) / kStep, step = (n + parts - 1) / parts;
  dotsPass(c(0), c(step), true, false, fetch);
  if (parts > 2) {
    loop(c(step), c((parts - 1) * step), step,
         [&](Value from) { dotsPass(from, add(from, step), false, false, fetch); });
  }
  dotsPass(c((parts - 1) * step), c(n), false, true, fetch);
}

/// One part of the rows. The table and S have room for whole groups of keys.
void Body::dotsPass(Value from, Value until, bool fresh, bool last, int64_t fetch) {
  Value table = args[0], count = args[1], groups = args[2], qt = args[3], scores = args[4], pitch = args[5],
        tops = args[6];
  Value groupCount = floorDiv(add(count, kKeyGroup - 1), c(kKeyGroup));
  loop(c(0), c(kLanes), 64, [&](Value lane) {
    Value half = kLanes == 64 ? qt : at(qt, mul(floorDiv(lane, 64), words() * 256));
    Value base = floorDiv(lane, kColumn);
    loop(c(0), groupCount, 1, [&](Value group) {
      Value key = mul(group, kKeyGroup), range = at(groups, mul(group, 8));
      auto bound = [&](int64_t offset) {
        Value column = sub(toInt(load(i32, at(range, offset), 4), i64), base);
        return max(min(column, c(64 / kColumn)), c(0));
      };
      Value first = bound(0), width = sub(bound(4), first);
      SmallVector<Value> rows;
      for (int64_t i = 0; i < kKeyGroup; ++i) {
        rows.push_back(rowAddress(table, add(key, i)));
      }
      // Requests go beside the multiplications of one pass where there are many, else before them.
      bool spread = fresh && fetch > 0 && this->target.registers >= 32;
      Value many = spread ? lt(c(0), load(i64, args[7], 8)) : constant(i1, int64_t(0));
      if (fresh) {
        ifElse(
            many, [] {},
            [&] {
              for (int64_t i = 0; i < kKeyGroup; ++i) {
                prefetch(rowAddress(table, add(key, kKeyGroup + i)), d * bytes);
              }
            });
      }
      auto block = [&](Value column, int64_t columns, bool asks) {
        Value s = at(scores, add(mul(add(base, column), pitch), mul(key, kRow)));
        Value top = at(tops, mul(add(base, column), kColumn * 4));
        auto ask = [&](Value turn) { askBeside(turn, key, fetch); };
        dotsBlock(rows, at(half, mul(column, kColumn * 4)), s, top, columns, from, until, fresh, last,
                  asks ? Ask(ask) : nullptr);
      };
      if (this->target.registers < 32) {
        loop(first, add(first, width), 1, [&](Value column) { block(column, 1, false); });
        return;
      }
      std::function<void(int64_t)> choose = [&](int64_t columns) {
        if (columns > 0) {
          ifElse(
              eq(width, c(columns)),
              [&] {
                if (spread && columns == 64 / kColumn) {
                  ifElse(many, [&] { block(first, columns, true); }, [&] { block(first, columns, false); });
                } else {
                  block(first, columns, spread);
                }
              },
              [&] { choose(columns - 1); });
        }
      };
      choose(64 / kColumn);
    });
  });
}

/// One turn's share of the requests for the next group's keys and for what the record names.
void Body::askBeside(Value turn, Value key, int64_t fetch) {
  Value table = args[0], record = args[7];
  auto lines = [&](Value rows, Value away, int64_t bytes, int level) {
    int64_t count = (bytes + 63) / 64, wanted = kKeyGroup * count, perTurn = (wanted + turns() - 1) / turns();
    Value line = mul(turn, perTurn);
    for (int64_t n = 0; n < perTurn; ++n) {
      Value number = add(line, n);
      if (perTurn * turns() > wanted) {
        number = min(number, c(wanted - 1));
      }
      Value offset = mul(floorMod(number, count), 64);
      prefetch(at(rowAddress(rows, floorDiv(number, count)), away ? add(offset, away) : offset), 64, level);
    }
  };
  lines(at(table, mul(add(key, kKeyGroup), 8)), {}, d * bytes, 1);
  loop(c(0), load(i64, record, 8), 1, [&](Value kind) {
    Value of = at(record, add(mul(kind, fetch::kKindBytes), 8));
    ifThen(lt(key, load(i64, at(of, fetch::kRows), 8)), [&] {
      Value rows = at(load(ptr, at(of, fetch::kTable), 8), mul(key, 8));
      lines(rows, load(i64, at(of, fetch::kAway), 8), fetch, 2);
    });
  });
}

/// The dots of one group of keys with `columns` columns, for elements [from, until) of the rows.
void Body::dotsBlock(ArrayRef<Value> rows, Value qt, Value s, Value tops, int64_t columns, Value from, Value until,
                     bool fresh, bool last, const Ask &ask) {
  Value pitch = args[5];
  int64_t keys = static_cast<int64_t>(rows.size());
  int64_t perColumn = kColumn / vl, registers = columns * perColumn;
  int64_t atOnce = target.registers >= 32 ? registers : std::min<int64_t>(registers, 2);
  for (int64_t r0 = 0; r0 < registers; r0 += atOnce) {
    SmallVector<Value> places; // of the first key
    for (int64_t r = r0; r < r0 + atOnce; ++r) {
      Value column = r < perColumn ? s : at(s, mul(pitch, r / perColumn));
      places.push_back(at(column, (r % perColumn) * vl * 4));
    }
    Values init;
    for (int64_t i = 0; i < keys; ++i) {
      for (Value place : places) {
        init.push_back(fresh ? constant(vec(f32), 0.0) : loadRow(at(place, i * kRow)));
      }
    }
    Value q = at(qt, r0 * vl * 4);
    auto step = [&](Value dim, ValueRange acc) {
      Value qd = at(q, mul(dim, 256)), byte = mul(dim, 4);
      SmallVector<Value> x;
      for (int64_t j = 0; j < atOnce; ++j) {
        x.push_back(loadRow(at(qd, j * vl * 4)));
      }
      Values next;
      for (int64_t i = 0; i < keys; ++i) {
        Value a = splat(load(f32, at(rows[i], byte), pairs ? 2 : 4));
        for (int64_t j = 0; j < atOnce; ++j) {
          next.push_back(multiplyAdd(a, x[j], acc[i * atOnce + j]));
        }
      }
      return next;
    };
    Values sums;
    if (ask) {
      // Spread over the loop: of requests in a burst, all that the cache has no room to note are lost.
      sums = loop(from, until, kTurn, init, [&](Value turn, ValueRange acc) {
        ask(floorDiv(sub(turn, from), kTurn));
        Value end = add(turn, kTurn);
        return loop(turn, words() % kTurn == 0 && words() <= kStep ? end : min(end, until), 1, acc, step);
      });
    } else {
      sums = loop(from, until, 1, init, step);
    }
    for (int64_t j = 0; j < atOnce; ++j) {
      for (int64_t i = 0; i < keys; ++i) {
        store(sums[i * atOnce + j], at(places[j], i * kRow), 4);
      }
      if (last) {
        Value address = at(tops, (r0 + j) * vl * 4), top = loadRow(address);
        for (int64_t i = 0; i < keys; ++i) {
          top = max(sums[i * atOnce + j], top);
        }
        store(top, address, 4);
      }
    }
  }
}

void Body::narrow() {
  Value qt = args[0], lanes = args[1], to = args[2];
  Type part = VectorType::get({kNarrow}, f32);
  ifThen(le(lanes, c(kNarrow)), [&] {
    loop(c(0), c(words()), 1,
         [&](Value dim) { store(load(part, at(qt, mul(dim, kLanes * 4)), 4), at(to, mul(dim, kNarrow * 4)), 4); });
  });
}

Body::Values Body::transposed(ArrayRef<Value> four) {
  auto mix = [&](Value x, Value y, ArrayRef<int64_t> order) {
    SmallVector<int64_t> all;
    for (int64_t base = 0; base < vl; base += 4) {
      for (int64_t n : order) {
        all.push_back(n < 4 ? base + n : vl + base + n - 4);
      }
    }
    return vector::ShuffleOp::create(b, loc, x, y, all).getResult();
  };
  Values low, high;
  for (int64_t n = 0; n < 4; n += 2) {
    low.push_back(mix(four[n], four[n + 1], {0, 4, 1, 5}));
    high.push_back(mix(four[n], four[n + 1], {2, 6, 3, 7}));
  }
  return {mix(low[0], low[1], {0, 1, 4, 5}), mix(low[0], low[1], {2, 3, 6, 7}), mix(high[0], high[1], {0, 1, 4, 5}),
          mix(high[0], high[1], {2, 3, 6, 7})};
}

Body::Values Body::columnsOf(ArrayRef<Value> rows, Value dim, int64_t valid) {
  Type part = VectorType::get({4}, f32);
  Value byte = mul(dim, 4);
  auto piece = [&](Value row) -> Value {
    Value address = at(row, byte);
    if (valid == 4) {
      return load(part, address, pairs ? 2 : 4);
    }
    Value some = constant(part, 0.0);
    for (int64_t x = 0; x < valid; ++x) {
      some = vector::InsertOp::create(b, loc, load(f32, at(address, x * 4), pairs ? 2 : 4), some, x);
    }
    return some;
  };
  Values four;
  for (int64_t n = 0; n < 4; ++n) {
    Value all = constant(vec(f32), 0.0);
    for (int64_t m = 0; m < 4; ++m) {
      all = vector::InsertStridedSliceOp::create(b, loc, piece(rows[4 * m + n]), all, ArrayRef<int64_t>{4 * m},
                                                 ArrayRef<int64_t>{1});
    }
    four.push_back(all);
  }
  return transposed(four);
}

/// Keys lie on lanes: rows are transposed on the way, four words at a time, and a query's word is the same for all. A
/// column of 16 lanes with few queries would do twice and more the multiply-adds. Each dot is summed in the same order.
void Body::dotsNarrow(Value key, int64_t lanes, int64_t blocks) {
  Value table = args[0], count = args[1], queries = args[2], scores = args[4], tops = args[6], values = args[7];
  constexpr int64_t kWords = 4;
  int64_t keys = blocks * kNarrowKeys;
  SmallVector<Value> rows;
  for (int64_t i = 0; i < keys; ++i) {
    rows.push_back(rowAddress(table, add(key, i)));
  }
  Value ahead = fewAhead(add(key, rowsAhead(d * bytes)), count, table, values);
  // In the order of memory, and spread over the loop: of requests in a burst, all that the cache has no room to note
  // are lost.
  int64_t whole = words() / kWords * kWords, steps = std::max<int64_t>(whole / kWords, 1),
          lines = (d * bytes + 63) / 64;
  int64_t rowsPerStep = (keys + steps - 1) / steps, stepsPerRow = std::max<int64_t>(steps / keys, 1);
  int64_t linesPerStep = (lines + stepsPerRow - 1) / stepsPerRow;
  auto ask = [&](Value number) {
    Value first = mul(floorDiv(number, stepsPerRow), rowsPerStep);
    Value offset = mul(floorMod(number, stepsPerRow), linesPerStep * 64);
    for (int64_t i = 0; i < rowsPerStep; ++i) {
      prefetch(at(rowAddress(ahead, min(add(first, i), c(keys - 1))), offset), linesPerStep * 64);
    }
  };
  auto step = [&](Value dim, int64_t valid, ValueRange sums) {
    std::vector<Values> columns;
    for (int64_t block = 0; block < blocks; ++block) {
      columns.push_back(columnsOf(ArrayRef<Value>(rows).slice(block * kNarrowKeys, kNarrowKeys), dim, valid));
    }
    Values now(sums);
    Value q = at(queries, mul(dim, kNarrow * 4));
    for (int64_t w = 0; w < valid; ++w) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        Value x = splat(load(f32, at(q, (w * kNarrow + lane) * 4), 4));
        for (int64_t block = 0; block < blocks; ++block) {
          Value &sum = now[lane * blocks + block];
          sum = multiplyAdd(columns[block][w], x, sum);
        }
      }
    }
    return now;
  };
  Values sums(lanes * blocks, constant(vec(f32), 0.0));
  if (whole > 0) {
    sums = loop(c(0), c(whole), kWords, sums, [&](Value dim, ValueRange acc) {
      ask(floorDiv(dim, kWords));
      return step(dim, kWords, acc);
    });
  } else {
    ask(c(0));
  }
  if (whole < words()) {
    sums = step(c(whole), words() - whole, sums);
  }
  // Back to S[key][lane]; lanes without a query repeat others.
  Value top = loadRow(tops);
  for (int64_t block = 0; block < blocks; ++block) {
    auto quarter = [&](int64_t lane) {
      Values four;
      for (int64_t n = 0; n < 4; ++n) {
        four.push_back(sums[(lane + n) * blocks + block]);
      }
      return transposed(four);
    };
    // low[n] has lanes 0 to 3 of keys n, 4 + n, 8 + n, 12 + n.
    Values low = quarter(0), high = lanes > 4 ? quarter(4) : low;
    for (int64_t i = 0; i < kNarrowKeys; ++i) {
      SmallVector<int64_t> order;
      for (int64_t x = 0; x < vl; ++x) {
        order.push_back((x % 8 < 4 ? 0 : vl) + i / 4 * 4 + x % 4);
      }
      Value row = vector::ShuffleOp::create(b, loc, low[i % 4], high[i % 4], order);
      store(row, at(scores, mul(add(key, block * kNarrowKeys + i), kRow)), 4);
      top = max(row, top);
    }
  }
  store(top, tops, 4);
}

void Body::dotsFew() {
  Value count = args[1], lanes = args[5];
  auto narrow = [&] {
    int64_t step = 2 * kNarrowKeys;
    Value whole = mul(floorDiv(count, step), step);
    ifElse(
        le(lanes, c(kNarrow / 2)),
        [&] { loop(c(0), whole, step, [&](Value key) { dotsNarrow(key, kNarrow / 2, 2); }); },
        [&] { loop(c(0), whole, step, [&](Value key) { dotsNarrow(key, kNarrow, 2); }); });
    loop(whole, count, kNarrowKeys, [&](Value key) { dotsNarrow(key, kNarrow, 1); });
  };
  ifElse(le(lanes, c(kNarrow)), narrow, [&] { dotsColumn(); });
}

/// The dots of one column, twelve keys at once: six would wait for their sums. Each group of keys asks for the rows of
/// the one after the next, the last ones for those of the first values.
void Body::dotsColumn() {
  Value table = args[0], count = args[1], qt = args[3], scores = args[4], tops = args[6], values = args[7];
  int64_t n = words(), parts = (n + kStep - 1) / kStep, step = (n + parts - 1) / parts;
  for (int64_t part = 0; part < parts; ++part) {
    int64_t from = part * step, until = std::min(n, from + step);
    // Lines of a row that this part reads, and those of each turn.
    int64_t line0 = from * 4 / 64, lines = (until * 4 + 63) / 64 - line0, turns = (until - from + kTurn - 1) / kTurn;
    int64_t perTurn = (kFewKeys * lines + turns - 1) / turns;
    loop(c(0), count, kFewKeys, [&](Value key) {
      SmallVector<Value> rows;
      for (int64_t i = 0; i < kFewKeys; ++i) {
        rows.push_back(rowAddress(table, add(key, i)));
      }
      Value s = at(scores, mul(key, kRow)), following = add(key, 2 * kFewKeys);
      Value beyond = at(values, mul(max(sub(following, count), c(0)), 8));
      Value ahead = select(lt(following, count), at(table, mul(following, 8)), beyond);
      auto ask = [&](Value turn) {
        for (int64_t n = 0; n < perTurn; ++n) {
          Value number = min(add(mul(turn, perTurn), n), c(kFewKeys * lines - 1));
          Value offset = add(mul(floorMod(number, lines), 64), line0 * 64);
          prefetch(at(rowAddress(ahead, floorDiv(number, lines)), offset), 64);
        }
      };
      dotsBlock(rows, qt, s, tops, 1, c(from), c(until), part == 0, part + 1 == parts, Ask(ask));
    });
  }
}

//===--- Softmax ----------------------------------------------------------===//

/// Where scale * tops exceeds m by more than kSlack it becomes m, and l and acc are rescaled; else m stays, and weights
/// up to 2^kSlack are none the worse.
Body::Weighed Body::beginSoftmax(Value lane) {
  Value scores = args[0], columns = args[1], pitch = args[3], scale = args[4], tops = args[5], maxima = args[6],
        sums = args[7], acc = args[8];
  Value column = floorDiv(lane, kColumn), byte = mul(lane, 4);
  auto [first, last] = keysOf(columns, column);
  Weighed w{
      at(scores, add(mul(column, pitch), mul(floorMod(lane, kColumn), 4))), first, last, {}, {}, {}, at(sums, byte)};
  Value minusInf = constant(vec(f32), -std::numeric_limits<double>::infinity());
  Value maxAt = at(maxima, byte), oldMax = loadRow(maxAt), top = loadRow(at(tops, byte));
  if (pairs) {
    top = mul(top, splat(scale));
  }
  Value moves = cmp(arith::CmpFPredicate::OGT, top, add(oldMax, constant(vec(f32), kSlack)));
  Value newMax = select(moves, top, oldMax);
  // A row without a live key yet subtracts 0, so that 2^(-inf) = 0 and not NaN.
  w.base = select(cmp(arith::CmpFPredicate::OEQ, newMax, minusInf), constant(vec(f32), 0.0), newMax);
  w.minusBase = sub(constant(vec(f32), 0.0), w.base);
  // Keys up to the next multiple of the unrolling are dead.
  w.end = add(first, both(add(sub(last, first), kUnroll - 1), c(-kUnroll)));
  loop(last, w.end, 1, [&](Value k) { store(minusInf, at(w.s, mul(k, kRow)), 4); });
  ifThen(any(moves), [&] {
    Value alpha = exp2(sub(oldMax, w.base));
    store(mul(loadRow(w.sumAt), alpha), w.sumAt, 4);
    store(newMax, maxAt, 4);
    store(alpha, at(tops, byte), 4); // the tops are used up
    // An acc without a key yet is 0.
    Value begun = any(cmp(arith::CmpFPredicate::UNE, oldMax, minusInf));
    loop(c(0), select(begun, c(vl), c(0)), 1, [&](Value q) {
      Value a = load(f32, at(tops, add(byte, mul(q, 4))), 4);
      ifThen(cmp(arith::CmpFPredicate::UNE, a, constant(f32, 1.0)), [&] {
        Value row = at(acc, mul(add(lane, q), paddedRow(d) * 4)), all = splat(a);
        loop(c(0), c(paddedRow(d)), vl, [&](Value dim) {
          Value address = at(row, mul(dim, 4));
          store(mul(loadRow(address), all), address, 4);
        });
      });
    });
  });
  return w;
}

/// P = 2^(scale * S - m) of keys [k, k + kUnroll), added to the sums. Native: P in pairs of keys, rounded to bf16.
/// beside(n) is called after each weight.
Emitter::Values Body::weigh(const Weighed &w, Value k, ValueRange sums, llvm::function_ref<void(int64_t)> beside) {
  Value from = at(w.s, mul(k, kRow));
  // Over scores that were read already: key k's pair lies at half its offset.
  Value to = pairs ? at(w.s, mul(k, kRow / 2)) : from;
  Values next(sums), p;
  for (int64_t u = 0; u < kUnroll; ++u) {
    Value x = loadRow(at(from, u * kRow));
    p.push_back(exp2(pairs ? fma(x, splat(args[4]), w.minusBase) : sub(x, w.base)));
    Value &sum = next[u % next.size()];
    sum = add(sum, p[u]);
    if (!pairs) {
      store(p[u], at(to, u * kRow), 4);
    } else if (u % 2 == 1) {
      auto name = b.getStringAttr("llvm.x86.avx512bf16.cvtne2ps2bf16.512");
      Type halves = VectorType::get({2 * vl}, b.getBF16Type());
      SmallVector<int64_t> order(2 * vl);
      for (int64_t x = 0; x < 2 * vl; ++x) {
        order[x] = x / 2 + (x % 2) * vl;
      }
      Value both = LLVM::CallIntrinsicOp::create(b, loc, halves, name, ValueRange{p[u], p[u - 1]}).getResult(0);
      store(vector::ShuffleOp::create(b, loc, both, both, order), at(to, u / 2 * kRow), 4);
    }
    if (beside) {
      beside(u);
    }
  }
  return next;
}

/// l += the sums.
void Body::endSoftmax(const Weighed &w, ValueRange sums) {
  Value sum = sums[0];
  for (Value more : sums.drop_front()) {
    sum = add(sum, more);
  }
  store(add(loadRow(w.sumAt), sum), w.sumAt, 4);
}

void Body::softmax() {
  Value columns = args[1], lanes = args[2];
  loop(c(0), mul(columnCount(lanes), kColumn), vl, [&](Value lane) {
    auto [first, last] = keysOf(columns, floorDiv(lane, kColumn));
    ifThen(lt(first, last), [&] {
      Weighed w = beginSoftmax(lane);
      Values none(kSums, constant(vec(f32), 0.0));
      endSoftmax(w, loop(w.first, w.end, kUnroll, none, [&](Value k, ValueRange sums) { return weigh(w, k, sums); }));
    });
  });
}

/// l += sum over keys of S.
void Body::weights() {
  Value scores = args[0], columns = args[1], lanes = args[2], pitch = args[3], sums = args[4];
  loop(c(0), mul(columnCount(lanes), kColumn), vl, [&](Value lane) {
    Value column = floorDiv(lane, kColumn);
    auto [first, last] = keysOf(columns, column);
    Value s = at(scores, add(mul(column, pitch), mul(floorMod(lane, kColumn), 4))), lAt = at(sums, mul(lane, 4));
    Values sum = loop(first, last, 1, Values{loadRow(lAt)},
                      [&](Value k, ValueRange acc) { return Values{add(acc[0], loadRow(at(s, mul(k, kRow))))}; });
    store(sum[0], lAt, 4);
  });
}

//===--- Values -----------------------------------------------------------===//

/// x * 0 is 0 for finite x and NaN otherwise; of bf16, the exponent tells.
Value Body::finite() {
  Value rows = args[0], count = args[1], blockPitch = args[2];
  if (pairs) {
    Value most = constant(vec(i32), int64_t(0x7f80));
    Value bad = constant(vec(i1), int64_t(0));
    auto sweep = [&](int64_t block, int64_t registers, Value found) {
      Value base = at(rows, mul(blockPitch, block));
      return loop(c(0), count, 1, Values{found}, [&](Value k, ValueRange acc) {
        Value worst = acc[0];
        for (int64_t r = 0; r < registers; ++r) {
          Value x = load(vec(i32), at(base, add(mul(k, kValueBlock * 4), r * vl * 4)), 4);
          for (Value half : {x, Value(arith::ShRUIOp::create(b, loc, x, constant(vec(i32), int64_t(16))))}) {
            worst = either(worst, eq(both(half, most), most));
          }
        }
        return Values{worst};
      })[0];
    };
    for (int64_t block = 0; block < valueBlocks(d); ++block) {
      int64_t left = std::min(d - block * kValueBlock, kValueBlock);
      bad = sweep(block, (left + vl - 1) / vl, bad);
    }
    return arith::XOrIOp::create(b, loc, any(bad), constant(i1, int64_t(1)));
  }
  Value zero = constant(vec(f32), 0.0);
  Values sum = loop(c(0), count, 1, Values{zero}, [&](Value k, ValueRange acc) {
    Value row = rowAddress(rows, k);
    int64_t whole = d / vl * vl;
    Value s = acc[0];
    if (whole) {
      s = loop(c(0), c(whole), vl, Values{s}, [&](Value dim, ValueRange a) {
        return Values{fma(loadRow(inBlocks(row, dim, blockPitch, c(4))), zero, a[0])};
      })[0];
    }
    if (whole < d) {
      s = fma(loadTail(inBlocks(row, c(whole), blockPitch, c(4)), d - whole), zero, s);
    }
    return Values{s};
  });
  Value bad = any(cmp(arith::CmpFPredicate::UNO, sum[0], sum[0]));
  return arith::XOrIOp::create(b, loc, bad, constant(i1, int64_t(1)));
}

/// Sums of `rows` lanes by `vectors` registers of columns of V.
struct Body::Rows {
  int64_t rows, vectors, lastValid;
  Value to, p, table, inRow; ///< acc and P of the first lane; V, and the bytes of the columns in a row
};

/// sum += P[k] * row[k] of key, or pair of keys, k.
Emitter::Values Body::addRow(const Rows &r, Value k, ValueRange sum) {
  Value v = pairs ? at(r.table, add(r.inRow, mul(k, kValueBlock * 4))) : at(rowAddress(r.table, k), r.inRow);
  Value pk = at(r.p, mul(k, kRow));
  SmallVector<Value> x;
  for (int64_t j = 0; j < r.vectors; ++j) {
    x.push_back(loadTail(at(v, j * vl * 4), j + 1 == r.vectors ? r.lastValid : vl));
  }
  Values next;
  for (int64_t i = 0; i < r.rows; ++i) {
    Value a = splat(load(f32, at(pk, i * 4), 4));
    for (int64_t j = 0; j < r.vectors; ++j) {
      next.push_back(multiplyAdd(a, x[j], sum[i * r.vectors + j]));
    }
  }
  return next;
}

/// The sums of a block as they are in acc, and back.
Emitter::Values Body::loadSums(const Rows &r) {
  Values sums;
  for (int64_t i = 0; i < r.rows; ++i) {
    for (int64_t j = 0; j < r.vectors; ++j) {
      sums.push_back(loadRow(at(r.to, (i * paddedRow(d) + j * vl) * 4)));
    }
  }
  return sums;
}

void Body::storeSums(const Rows &r, ValueRange sums) {
  for (int64_t i = 0; i < r.rows; ++i) {
    for (int64_t j = 0; j < r.vectors; ++j) {
      store(sums[i * r.vectors + j], at(r.to, (i * paddedRow(d) + j * vl) * 4), 4);
    }
  }
}

/// The first sums of a column, whose weights are computed on the way: those of the keys kAhead later, in the slots that
/// the multiply-adds leave free.
void Body::weighAndAdd(const Rows &r, Value lane) {
  constexpr int64_t kAhead = 16;
  int64_t together = pairs ? 2 : 1;
  Weighed w = beginSoftmax(lane);
  auto unit = [&](Value k) { return pairs ? floorDiv(k, 2) : k; };
  Values weights(kSums, constant(vec(f32), 0.0));
  weights = loop(w.first, min(add(w.first, kAhead), w.end), kUnroll, weights,
                 [&](Value k, ValueRange sums) { return weigh(w, k, sums); });
  Values carried = loadSums(r);
  carried.append(weights.begin(), weights.end());
  Value rest = max(sub(w.end, c(kAhead)), w.first);
  carried = loop(w.first, rest, kUnroll, carried, [&](Value k, ValueRange both) {
    Values sums(both.drop_back(kSums));
    auto addNext = [&](int64_t u) {
      if (u % together == together - 1) {
        sums = addRow(r, add(unit(k), u / together), sums);
      }
    };
    Values weights = weigh(w, add(k, kAhead), both.take_back(kSums), addNext);
    sums.append(weights.begin(), weights.end());
    return sums;
  });
  ValueRange both(carried);
  endSoftmax(w, both.take_back(kSums));
  Values sums = loop(unit(rest), unit(add(w.last, together - 1)), 1, Values(both.drop_back(kSums)),
                     [&](Value k, ValueRange sum) { return addRow(r, k, sum); });
  storeSums(r, sums);
}

/// acc[lane] += sum over keys of P[key][lane] * row[key], for as many lanes at once as there are registers, by
/// `vectors` registers of columns of V that begin at element `column`; only `lastValid` elements of the last register
/// exist in V.
void Body::accumulateBlock(const Sources &of, Value column, int64_t vectors, int64_t lastValid) {
  Value inRow = add(mul(floorDiv(column, kValueBlock), of.blockPitch), mul(floorMod(column, kValueBlock), 4));
  Value accColumn = at(of.acc, mul(column, 4));
  loop(c(0), of.lanes, kColumn, [&](Value lane0) {
    Value strip = at(of.scores, mul(floorDiv(lane0, kColumn), of.pitch));
    auto [from, until] = keysOf(of.columns, floorDiv(lane0, kColumn));
    Value first = from, last = until;
    if (pairs) {
      first = floorDiv(from, 2);
      last = floorDiv(add(until, 1), 2);
    }
    auto rowsAt = [&](Value lane, int64_t rows) {
      return Rows{rows,
                  vectors,
                  lastValid,
                  at(accColumn, mul(lane, paddedRow(d) * 4)),
                  at(strip, mul(floorMod(lane, kColumn), 4)),
                  of.table,
                  inRow};
    };
    // Each register of sums needs the latency of a multiply-add to itself: 8 and more in flight.
    auto blocks = [&](int64_t from, int64_t until, int64_t rows) {
      loop(add(lane0, from), min(add(lane0, until), of.lanes), rows, [&](Value lane) {
        Rows r = rowsAt(lane, rows);
        storeSums(r, loop(first, last, 1, loadSums(r), [&](Value k, ValueRange sum) { return addRow(r, k, sum); }));
      });
    };
    ifThen(lt(first, last), [&] {
      if (target.registers < 32) {
        blocks(0, 12, 6);
        blocks(12, kColumn, 4);
        return;
      }
      int64_t rows = vectors == 1 ? kColumn : 8;
      if (of.weighs) {
        weighAndAdd(rowsAt(lane0, rows), lane0);
      }
      blocks(of.weighs ? rows : 0, kColumn, rows);
    });
  });
}

/// Blocks of two registers of columns; the last block may be narrower.
void Body::accumulateColumns(Sources of) {
  int64_t vectors = 2, block = vectors * vl, whole = d / block * block, done = 0;
  if (of.weighs && whole) {
    accumulateBlock(of, c(0), vectors, vl);
    of.weighs = false;
    done = block;
  }
  if (done < whole) {
    loop(c(done), c(whole), block, [&](Value column) { accumulateBlock(of, column, vectors, vl); });
  }
  if (int64_t rest = d - whole) {
    int64_t narrow = (rest + vl - 1) / vl;
    // Staged pairs are padded with zeros.
    accumulateBlock(of, c(whole), narrow, pairs ? vl : rest - (narrow - 1) * vl);
  }
}

void Body::accumulate() { accumulateColumns({args[0], args[1], args[2], args[3], args[4], args[5], args[6], false}); }

void Body::softmaxAccumulate() {
  accumulateColumns({args[0], args[1], args[2], args[3], args[9], args[10], args[8], true});
}

/// For one column: the rows of a few keys stay in the first-level cache until all lanes have them; meanwhile those of
/// the next keys are asked for, by the last keys the rows that come next. Pairs are made of adjacent bf16 on the way.
void Body::accumulateFew(int64_t fetch) {
  int64_t rows = pairs ? 8 : 4, block = (pairs ? 2 : 4) * vl;
  int64_t turns = kRun / (pairs ? 2 : 1);
  Value lanes = args[2], last = args[9];
  Value laneBlocks = floorDiv(add(lanes, rows - 1), rows);
  loop(c(0), last, kRun, [&, last = last](Value key) {
    Value end = min(add(key, kRun), last), following = add(key, rowsAhead(fetch));
    Value ahead = fewAhead(following, last, args[4], args[7]);
    FewKeys keys{key, end, ahead, select(lt(following, last), c(0), args[8]), 0, 0, {}, {}};
    for (int64_t column = 0; column < d; column += block) {
      int64_t from = std::min(column * bytes, fetch), to = std::min((column + block) * bytes, fetch);
      int64_t lines = (to - from + 63) / 64, half = from + (lines + 1) / 2 * 64, all = kRun * lines;
      Value share = floorDiv(c(all << 16), mul(laneBlocks, turns));
      loop(c(0), lanes, rows, [&](Value lane) {
        auto piece = [&](int64_t from, int64_t to, bool spread) {
          FewKeys own = keys;
          own.fetchFrom = from, own.fetchTo = to;
          if (spread) {
            own.turn = mul(floorDiv(lane, rows), turns), own.share = share;
          }
          // Of a column, only its own keys; without any, other keys' weights are 0.
          auto [begin, until] = keysOf(args[1], floorDiv(lane, kColumn));
          own.first = max(begin, key), own.last = min(until, end);
          accumulateFewBlock(lane, rows, column, std::min(block, d - column), own, key);
        };
        Value few = le(laneBlocks, c((all + turns - 1) / turns - 1)), begins = eq(lane, c(0));
        auto whole = [&] { piece(from, to, false); };
        auto first = [&] { piece(from, std::min(half, to), false); };
        auto second = [&] { piece(std::min(half, to), to, false); };
        auto spread = [&] { piece(from, to, true); };
        ifElse(
            both(few, le(lane, c(rows))),
            [&] { ifElse(begins, [&] { ifElse(le(lanes, c(rows)), whole, first); }, second); }, spread);
      });
    }
  });
}

/// `rows` lanes by `width` elements of V from `column`, for keys of the run that begins at `run`.
void Body::accumulateFewBlock(Value lane, int64_t rows, int64_t column, int64_t width, const FewKeys &keys, Value run) {
  Value scores = args[0], table = args[4], blockPitch = args[5], acc = args[6];
  int64_t vectors = (width + vl - 1) / vl, pitch = paddedRow(d) * 4, together = pairs ? 2 : 1;
  Value to = at(acc, add(mul(lane, pitch), column * 4));
  Value p = at(scores, add(mul(floorDiv(lane, kColumn), args[3]), mul(floorMod(lane, kColumn), 4)));
  Values init;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < vectors; ++j) {
      init.push_back(loadRow(at(to, i * pitch + j * vl * 4)));
    }
  }
  Values sums = loop(keys.first, keys.last, together, init, [&](Value k, ValueRange sum) {
    Value number = sub(k, run);
    if (keys.turn) {
      int64_t lines = (keys.fetchTo - keys.fetchFrom + 63) / 64;
      if (lines > 0) {
        Value turn = add(keys.turn, floorDiv(number, together)), line = floorDiv(mul(turn, keys.share), 1 << 16);
        Value row = at(rowAddress(keys.ahead, floorDiv(line, lines)), keys.distance);
        prefetch(at(row, add(mul(floorMod(line, lines), 64), keys.fetchFrom)), 64);
      }
    }
    for (int64_t n = 0; !keys.turn && keys.fetchFrom < keys.fetchTo && n < together; ++n) {
      Value row = at(rowAddress(keys.ahead, add(number, n)), keys.distance);
      prefetch(at(row, keys.fetchFrom), keys.fetchTo - keys.fetchFrom);
    }
    Value even = rowAddress(table, k), odd, keep;
    if (pairs) {
      // Of an odd count, the last row stands in for its partner and is then cleared.
      Value has = lt(add(k, 1), keys.last);
      odd = rowAddress(table, select(has, add(k, 1), k));
      keep = splat(select(has, c32(-1), c32(0)));
    }
    SmallVector<Value> x;
    for (int64_t j = 0; j < vectors; ++j) {
      int64_t dim = column + j * vl, valid = std::min(vl, d - dim);
      if (pairs) {
        x.push_back(interleave(loadHalves(at(even, dim * 2), valid), both(loadHalves(at(odd, dim * 2), valid), keep)));
      } else {
        Value inRow = add(mul(blockPitch, dim / kValueBlock), dim % kValueBlock * 4);
        x.push_back(loadTail(at(even, inRow), valid));
      }
    }
    Value pk = at(p, mul(pairs ? floorDiv(k, 2) : k, kRow));
    Values next;
    for (int64_t i = 0; i < rows; ++i) {
      Value a = splat(load(f32, at(pk, i * 4), 4));
      for (int64_t j = 0; j < vectors; ++j) {
        next.push_back(multiplyAdd(a, x[j], sum[i * vectors + j]));
      }
    }
    return next;
  });
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < vectors; ++j) {
      store(sums[i * vectors + j], at(to, i * pitch + j * vl * 4), 4);
    }
  }
}

void Body::accumulateExact() {
  Value scores = args[0], columns = args[1], lanes = args[2], pitch = args[3], table = args[4], blockPitch = args[5],
        stride = args[6], acc = args[7];
  loop(c(0), lanes, 1, [&](Value lane) {
    Value column = floorDiv(lane, kColumn), in = floorMod(lane, kColumn);
    auto [first, last] = keysOf(columns, column);
    Value strip = at(scores, mul(column, pitch)), to = at(acc, mul(lane, paddedRow(d) * 4));
    loop(first, last, 1, [&](Value k) {
      Value p;
      if (pairs) {
        Value word = at(strip, add(mul(floorDiv(k, 2), kRow), mul(in, 4)));
        p = loadAsF32(storage, at(word, mul(floorMod(k, 2), 2)), false);
      } else {
        p = load(f32, at(strip, add(mul(k, kRow), mul(in, 4))), 4);
      }
      ifThen(cmp(arith::CmpFPredicate::UNE, p, constant(f32, 0.0)), [&] {
        Value row = rowAddress(table, k);
        loop(c(0), c(d), 1, [&](Value dim) {
          Value address = at(to, mul(dim, 4));
          Value v = loadAsF32(pairs ? storage : f32, inBlocks(row, dim, blockPitch, stride), false);
          store(fma(p, v, load(f32, address, 4)), address, 4);
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
  auto fetchAttr = fn->getAttrOfType<IntegerAttr>(kFetchAttr);
  int64_t fetch = fetchAttr ? fetchAttr.getInt() : 0;
  OpBuilder b(fn.getContext());
  b.setInsertionPointToStart(fn.addEntryBlock());
  // What is multiplied as f32 is packed as f32, also of bf16 rows.
  VectorTarget own = target;
  own.bf16 = target.bf16 && kind != "pack";
  Body body(b, fn, own, d, type);
  SmallVector<Value> results;
  if (kind == "pack" || kind == "pack_pairs") {
    body.pack();
  } else if (kind == "stage") {
    body.stage();
  } else if (kind == "stage_pairs") {
    body.stagePairs();
  } else if (kind == "stage_rows") {
    body.stageRows();
  } else if (kind == "dots") {
    body.dots(fetch);
  } else if (kind == "narrow") {
    body.narrow();
  } else if (kind == "dots_few") {
    body.dotsFew();
  } else if (kind == "softmax") {
    body.softmax();
  } else if (kind == "weights") {
    body.weights();
  } else if (kind == "finite") {
    results.push_back(body.finite());
  } else if (kind == "accumulate") {
    body.accumulate();
  } else if (kind == "accumulate_softmax") {
    body.softmaxAccumulate();
  } else if (kind == "accumulate_few") {
    body.accumulateFew(fetch);
  } else if (kind == "accumulate_exact") {
    body.accumulateExact();
  } else {
    body.finish();
  }
  func::ReturnOp::create(b, fn.getLoc(), results);
  for (StringRef name : {kKindAttr, kDimAttr, kTypeAttr, kFetchAttr}) {
    fn->removeAttr(name);
  }
}

} // namespace heddle
