//===- IntervalTable.cpp - Long lists of intervals as data ----------------===//

#include "passes/IntervalTable.h"

#include "dialect/LinearForm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"

#include <algorithm>

using namespace mlir;

namespace heddle {

/// Fewer are compared one by one.
static constexpr size_t kMinIntervals = 16;
/// Beyond every position.
static constexpr int64_t kFarEnd = int64_t(1) << 62;

namespace {
struct Interval {
  int64_t lo = -kFarEnd, hi = kFarEnd; ///< half-open
};

/// Reads intervals of one integer x, which the first one names.
class IntervalReader {
public:
  LinearForm x;
  bool known = false;

  /// The interval that a disjunct stands for; nullopt where it is none.
  std::optional<Interval> read(const Expr &e) {
    Interval out;
    return readInto(e, out) && out.lo < out.hi ? std::optional(out) : std::nullopt;
  }

private:
  bool readInto(const Expr &e, Interval &out) {
    if (e->type != ExprType::Bool) {
      return false;
    }
    switch (e->kind) {
    case ExprKind::And:
      return llvm::all_of(e->args, [&](const Expr &a) { return readInto(a, out); });
    case ExprKind::Ge:
      return atLeast(e->args[0], e->args[1], 0, out);
    case ExprKind::Gt:
      return atLeast(e->args[0], e->args[1], 1, out);
    case ExprKind::Le:
      return atLeast(e->args[1], e->args[0], 0, out);
    case ExprKind::Lt:
      return atLeast(e->args[1], e->args[0], 1, out);
    case ExprKind::Eq:
      return atLeast(e->args[0], e->args[1], 0, out) && atLeast(e->args[1], e->args[0], 0, out);
    default:
      return false;
    }
  }

  /// a - b >= least, narrowing the interval.
  bool atLeast(const Expr &a, const Expr &b, int64_t least, Interval &out) {
    if (a->type != ExprType::Int || b->type != ExprType::Int) {
      return false;
    }
    LinearForm f = LinearForm::of(a) - LinearForm::of(b);
    const int64_t bound = least - f.constant; // of f without its constant
    f.constant = 0;
    if (f.isConstant() || bound <= -kFarEnd || bound >= kFarEnd) {
      return false;
    }
    if (!known) {
      x = f;
      known = true;
    }
    if (f == x) {
      out.lo = std::max(out.lo, bound);
      return true;
    }
    if (f == x * -1) {
      out.hi = std::min(out.hi, 1 - bound);
      return true;
    }
    return false;
  }
};
} // namespace

static void collect(const Expr &e, std::vector<Expr> &disjuncts) {
  if (e->kind != ExprKind::Or || e->type != ExprType::Bool) {
    disjuncts.push_back(e);
    return;
  }
  for (const Expr &arg : e->args) {
    collect(arg, disjuncts);
  }
}

std::optional<IntervalTable> intervalTableOf(const Expr &e) {
  if (e->kind != ExprKind::Or || e->type != ExprType::Bool) {
    return std::nullopt;
  }
  std::vector<Expr> disjuncts;
  collect(e, disjuncts);
  if (disjuncts.size() < kMinIntervals) {
    return std::nullopt;
  }
  IntervalReader reader;
  std::vector<Interval> intervals;
  IntervalTable table;
  for (const Expr &d : disjuncts) {
    if (std::optional<Interval> found = reader.read(d)) {
      intervals.push_back(*found);
    } else {
      table.rest.push_back(d);
    }
  }
  if (intervals.size() < kMinIntervals) {
    return std::nullopt;
  }
  llvm::sort(intervals, [](const Interval &a, const Interval &b) { return a.lo < b.lo; });
  for (const Interval &i : intervals) {
    if (!table.ends.empty() && i.lo <= table.ends.back()) {
      table.ends.back() = std::max(table.ends.back(), i.hi);
    } else {
      table.ends.push_back(i.lo);
      table.ends.push_back(i.hi);
    }
  }
  table.x = reader.x.expr();
  return table;
}

/// The table as data of the module, filled up to a power of two less one with ends that no integer reaches.
static LLVM::GlobalOp declareTable(Emitter &e, ModuleOp module, StringRef name, ArrayRef<int64_t> ends, int64_t size) {
  if (auto known = module.lookupSymbol<LLVM::GlobalOp>(name)) {
    return known;
  }
  SmallVector<int64_t> all(ends);
  all.resize(size, std::numeric_limits<int64_t>::max());
  OpBuilder::InsertionGuard guard(e.b);
  e.b.setInsertionPointToStart(module.getBody());
  auto type = RankedTensorType::get({size}, e.i64);
  return LLVM::GlobalOp::create(e.b, e.loc, LLVM::LLVMArrayType::get(e.i64, size), /*isConstant=*/true,
                                LLVM::Linkage::Internal, name, DenseElementsAttr::get(type, ArrayRef(all)),
                                /*alignment=*/8);
}

Value emitEndsUpTo(Emitter &e, ModuleOp module, const std::vector<int64_t> &ends, Value x) {
  const bool lanes = Emitter::isVector(x);
  ArrayRef bytes(reinterpret_cast<const uint8_t *>(ends.data()), ends.size() * sizeof(int64_t));
  std::string name = "attend_ends_" + llvm::utohexstr(llvm::xxh3_64bits(bytes)) + (lanes ? "_lanes" : "");
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(e.b);
    const int64_t size = static_cast<int64_t>(llvm::NextPowerOf2(ends.size())) - 1;
    LLVM::GlobalOp table = declareTable(e, module, name.substr(0, name.find("_lanes")) + "_table", ends, size);
    e.b.setInsertionPointToEnd(module.getBody());
    auto fn = func::FuncOp::create(e.b, e.loc, name, e.b.getFunctionType({x.getType()}, {x.getType()}));
    fn.setPrivate();
    e.b.setInsertionPointToStart(fn.addEntryBlock());
    Value given = fn.getArgument(0), count = e.constant(x.getType(), int64_t(0));
    Value base = LLVM::AddressOfOp::create(e.b, e.loc, table);
    for (int64_t half = (size + 1) / 2; half > 0; half /= 2) {
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

} // namespace heddle
