//===- IntervalTable.cpp - Long lists of intervals as data ----------------===//

#include "passes/IntervalTable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"

using namespace mlir;

namespace heddle {

/// Entries behind the last one, for registers that are read whole.
static constexpr int64_t kBehind = 16;

static std::string nameOf(const std::vector<int64_t> &ends) {
  ArrayRef bytes(reinterpret_cast<const uint8_t *>(ends.data()), ends.size() * sizeof(int64_t));
  return "attend_ends_" + llvm::utohexstr(llvm::xxh3_64bits(bytes));
}

/// What bisection reads: a power of two less one, filled up with ends that no integer reaches.
static int64_t sizeOf(const std::vector<int64_t> &ends) {
  return static_cast<int64_t>(llvm::NextPowerOf2(ends.size())) - 1;
}

/// The table as data of the module.
static LLVM::GlobalOp declareTable(Emitter &e, ModuleOp module, const std::vector<int64_t> &ends) {
  std::string name = nameOf(ends) + "_table";
  if (auto known = module.lookupSymbol<LLVM::GlobalOp>(name)) {
    return known;
  }
  SmallVector<int64_t> all(ends.begin(), ends.end());
  const int64_t size = sizeOf(ends) + kBehind;
  all.resize(size, std::numeric_limits<int64_t>::max());
  OpBuilder::InsertionGuard guard(e.b);
  e.b.setInsertionPointToStart(module.getBody());
  auto type = RankedTensorType::get({size}, e.i64);
  return LLVM::GlobalOp::create(e.b, e.loc, LLVM::LLVMArrayType::get(e.i64, size), /*isConstant=*/true,
                                LLVM::Linkage::Internal, name, DenseElementsAttr::get(type, ArrayRef(all)),
                                /*alignment=*/8);
}

Value emitEnds(Emitter &e, ModuleOp module, const std::vector<int64_t> &ends) {
  return LLVM::AddressOfOp::create(e.b, e.loc, declareTable(e, module, ends));
}

Value emitEndsUpTo(Emitter &e, ModuleOp module, const std::vector<int64_t> &ends, Value x) {
  const bool lanes = Emitter::isVector(x);
  std::string name = nameOf(ends) + (lanes ? "_lanes" : "");
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(e.b);
    LLVM::GlobalOp table = declareTable(e, module, ends);
    e.b.setInsertionPointToEnd(module.getBody());
    auto fn = func::FuncOp::create(e.b, e.loc, name, e.b.getFunctionType({x.getType()}, {x.getType()}));
    fn.setPrivate();
    e.b.setInsertionPointToStart(fn.addEntryBlock());
    Value given = fn.getArgument(0), count = e.constant(x.getType(), int64_t(0));
    Value base = LLVM::AddressOfOp::create(e.b, e.loc, table);
    for (int64_t half = (sizeOf(ends) + 1) / 2; half > 0; half /= 2) {
      // The ends before `count` are <= x; does that hold of `half` more?
      Value last = e.mul(e.add(count, half - 1), 8), end;
      if (lanes) {
        Value at = LLVM::GEPOp::create(e.b, e.loc, e.vec(e.ptr), e.i8, base, ArrayRef<LLVM::GEPArg>{last});
        end = LLVM::masked_gather::create(e.b, e.loc, x.getType(), at, e.constant(e.vec(e.i1), int64_t(1)),
                                          ValueRange{}, e.b.getI32IntegerAttr(8));
      } else {
        end = e.load(e.i64, e.at(base, last), 8);
      }
      count = e.select(e.le(end, given), e.add(count, half), count);
    }
    func::ReturnOp::create(e.b, e.loc, count);
  }
  return e.call(name, {x.getType()}, {x})[0];
}

/// `odd`: of the ends before these, which are <= x.
static Value emitOddBehind(Emitter &e, ArrayRef<int64_t> ends, bool odd, Value x) {
  constexpr size_t kFew = 4;
  if (ends.size() <= kFew) {
    auto known = [&](bool v) { return e.constant(e.i1, int64_t(v)); };
    Value out = known(odd);
    for (auto [n, end] : llvm::enumerate(ends)) {
      bool next = odd != (n % 2 == 0);
      out = e.select(e.le(e.c(end), x), known(next), out);
    }
    return out;
  }
  const size_t half = ends.size() / 2;
  auto op = scf::IfOp::create(
      e.b, e.loc, e.le(e.c(ends[half]), x),
      [&](OpBuilder &, Location) {
        const bool next = odd != (half % 2 == 0); // half + 1 more
        scf::YieldOp::create(e.b, e.loc, emitOddBehind(e, ends.drop_front(half + 1), next, x));
      },
      [&](OpBuilder &, Location) {
        scf::YieldOp::create(e.b, e.loc, emitOddBehind(e, ends.take_front(half), odd, x));
      });
  return op.getResult(0);
}

Value emitOddUpTo(Emitter &e, ArrayRef<int64_t> ends, Value x) { return emitOddBehind(e, ends, false, x); }

} // namespace heddle
