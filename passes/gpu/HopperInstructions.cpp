//===- HopperInstructions.cpp - What only sm_90a has ----------------------===//

#include "passes/gpu/HopperInstructions.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;

namespace heddle::hopper {

static StringRef letterOf(Type type) {
  if (type.isF32()) {
    return "f";
  }
  return type.isInteger(64) ? "l" : type.isInteger(1) ? "b" : "r";
}

/// Inline PTX. Operands are numbered: `made` results, `changed` ones (which are results too), then `read` ones.
static Values ptx(WarpEmitter &e, const Twine &text, ArrayRef<Type> made, ValueRange changed, ValueRange read) {
  SmallVector<Type> results(made);
  std::string constraints;
  auto more = [&](const Twine &c) { constraints += (constraints.empty() ? "" : ",") + c.str(); };
  for (Value v : changed) {
    results.push_back(v.getType());
  }
  for (Type t : results) {
    more("=" + letterOf(t));
  }
  Values operands(read);
  for (Value v : read) {
    more(letterOf(v.getType()));
  }
  for (auto [n, v] : llvm::enumerate(changed)) {
    more(Twine(made.size() + n));
    operands.push_back(v);
  }
  more("~{memory}");
  MLIRContext *context = e.b.getContext();
  Type type = results.empty()       ? Type(LLVM::LLVMVoidType::get(context))
              : results.size() == 1 ? results[0]
                                    : Type(LLVM::LLVMStructType::getLiteral(context, results));
  auto op = LLVM::InlineAsmOp::create(e.b, e.loc, results.empty() ? TypeRange() : TypeRange(type), operands, text.str(),
                                      constraints,
                                      /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
                                      LLVM::AsmDialectAttr(), ArrayAttr());
  if (results.size() == 1) {
    return {op.getRes()};
  }
  Values out;
  for (size_t n = 0; n < results.size(); ++n) {
    out.push_back(LLVM::ExtractValueOp::create(e.b, e.loc, op.getRes(), int64_t(n)));
  }
  return out;
}

static void ptx(WarpEmitter &e, const Twine &text, ValueRange read = {}) { ptx(e, text, {}, {}, read); }

/// "$first, .., $last" of `count` operands.
static std::string list(size_t first, size_t count) {
  std::string out;
  for (size_t n = 0; n < count; ++n) {
    out += (n == 0 ? "$" : ", $") + std::to_string(first + n);
  }
  return out;
}

Value address(WarpEmitter &e, Value byteOffset) {
  return e.add(LLVM::PtrToIntOp::create(e.b, e.loc, e.i32, e.smem).getResult(), byteOffset);
}

//===--- Barriers ---------------------------------------------------------===//

void initBarrier(WarpEmitter &e, Value at, int64_t arrivals) {
  ptx(e, "mbarrier.init.shared::cta.b64 [$0], $1;", {at, e.k(arrivals)});
}

void fenceBarriers(WarpEmitter &e) { ptx(e, "fence.mbarrier_init.release.cluster;"); }

void arrive(WarpEmitter &e, Value at) { ptx(e, "mbarrier.arrive.shared::cta.b64 _, [$0];", at); }

void arriveExpecting(WarpEmitter &e, Value at, int64_t bytes) {
  ptx(e, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", {at, e.k(bytes)});
}

void wait(WarpEmitter &e, Value at, Value parity) {
  scf::WhileOp::create(
      e.b, e.loc, TypeRange{}, ValueRange{},
      [&](OpBuilder &, Location, ValueRange) {
        Value done = ptx(e, "mbarrier.try_wait.parity.shared::cta.b64 $0, [$1], $2;", {e.i1}, {}, {at, parity})[0];
        scf::ConditionOp::create(e.b, e.loc, e.invert(done), ValueRange{});
      },
      [&](OpBuilder &, Location, ValueRange) { scf::YieldOp::create(e.b, e.loc); });
}

void sync(WarpEmitter &e, Value id, int64_t threads) { ptx(e, "bar.sync $0, $1;", {id, e.k(threads)}); }
void signal(WarpEmitter &e, Value id, int64_t threads) { ptx(e, "bar.arrive $0, $1;", {id, e.k(threads)}); }
void syncWarp(WarpEmitter &e) { NVVM::SyncWarpOp::create(e.b, e.loc, e.k(-1)); }

Value uniform(WarpEmitter &e, Value v) {
  return NVVM::ShflOp::create(e.b, e.loc, v.getType(), e.k(-1), v, e.k(0), e.k(31), NVVM::ShflKind::idx, UnitAttr());
}

//===--- Registers and copies ----------------------------------------------===//

void setRegisters(WarpEmitter &e, int64_t count, bool more) {
  ptx(e, Twine("setmaxnreg.") + (more ? "inc" : "dec") + ".sync.aligned.u32 " + Twine(count) + ";");
}

void fenceStores(WarpEmitter &e) { ptx(e, "fence.proxy.async.shared::cta;"); }

void copyBox(WarpEmitter &e, Value to, Value map, ValueRange coordinates, Value barrier) {
  Values read = {to, map};
  llvm::append_range(read, coordinates);
  read.push_back(barrier);
  size_t rank = coordinates.size();
  ptx(e,
      "cp.async.bulk.tensor." + Twine(rank) +
          "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [$0], [$1, {" + list(2, rank) + "}], [$" +
          Twine(2 + rank) + "];",
      read);
}

//===--- Matrix instructions -----------------------------------------------===//

Value describe(WarpEmitter &e, Value at, int64_t leading) {
  // PTX ISA, "matrix descriptor": address, leading and stride byte offsets / 16, swizzle of 128 bytes.
  uint64_t fixed = uint64_t(1) << 62 | uint64_t(kAtom >> 4) << 32 | uint64_t(std::max<int64_t>(leading >> 4, 1)) << 16;
  Value low = e.shr(e.bitAnd(at, 0x3ffff), 4);
  return e.either(arith::ExtUIOp::create(e.b, e.loc, e.i64, low).getResult(), e.c(int64_t(fixed)));
}

Value advance(WarpEmitter &e, Value descriptor, int64_t bytes) { return e.add(descriptor, bytes >> 4); }

static void passThrough(WarpEmitter &e, const Twine &text, ArrayRef<Values *> registers, ValueRange kept) {
  Values all;
  for (Values *r : registers) {
    llvm::append_range(all, *r);
  }
  Values next = ptx(e, text, {}, all, kept);
  size_t at = 0;
  for (Values *r : registers) {
    for (Value &v : *r) {
      v = next[at++];
    }
  }
}

void fence(WarpEmitter &e, ArrayRef<Values *> registers) { passThrough(e, "wgmma.fence.sync.aligned;", registers, {}); }

static std::string shapeOf(Type storage, size_t accumulators) {
  std::string type = storage.isF16() ? "f16" : "bf16";
  return "wgmma.mma_async.sync.aligned.m64n" + std::to_string(accumulators * 2) + "k16.f32." + type + "." + type + " ";
}

Values multiply(WarpEmitter &e, Type storage, const Values &acc, Value a, Value b, bool accumulate) {
  size_t n = acc.size();
  return ptx(e,
             shapeOf(storage, n) + "{" + list(0, n) + "}, $" + Twine(n) + ", $" + Twine(n + 1) + ", " +
                 Twine(accumulate ? 1 : 0) + ", 1, 1, 0, 0;",
             {}, acc, {a, b});
}

Values multiplyRegisters(WarpEmitter &e, Type storage, const Values &acc, ValueRange a, Value b) {
  size_t n = acc.size();
  Values read(a);
  read.push_back(b);
  return ptx(e, shapeOf(storage, n) + "{" + list(0, n) + "}, {" + list(n, 4) + "}, $" + Twine(n + 4) + ", 1, 1, 1, 1;",
             {}, acc, read);
}

void commit(WarpEmitter &e) { ptx(e, "wgmma.commit_group.sync.aligned;"); }

void keepBehind(WarpEmitter &e, Value x) {
  // A nap that is never taken.
  ptx(e, "@$0 nanosleep.u32 0;", {e.cmp(arith::CmpFPredicate::OLT, x, e.f(-1.0))});
}

void waitGroups(WarpEmitter &e, int64_t pending, ArrayRef<Values *> registers, ValueRange kept) {
  passThrough(e, "wgmma.wait_group.sync.aligned " + Twine(pending) + ";", registers, kept);
}

} // namespace heddle::hopper
