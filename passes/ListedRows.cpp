//===- ListedRows.cpp - Rows that are read through a list -----------------===//
//
// An argument of a step may be the tensor that attn.gather_rows would read, beside
// its list (FuseGather.h). Everything but addresses goes by places in the list; a
// row that the list does not find is one of zeros, which the runtime has ready.
//
//===----------------------------------------------------------------------===//

#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {

int64_t AttendTiler::listedAt(int64_t record) const {
  const auto *found = llvm::find_if(sig.listed, [&](const ListedRows &l) { return sig.argSlot(l.arg) == record; });
  return found == sig.listed.end() ? -1 : found - sig.listed.begin();
}

/// The entries at places of a list (a scalar or lanes, clamped to those that exist) for head `head` of what it is of.
Value AttendTiler::listEntry(const Uniform &u, const ListedRows &l, Value place, Value head) {
  auto type = cast<RankedTensorType>(sig.func.getArgumentTypes()[l.list]);
  const int64_t record = sig.argSlot(l.list), rank = type.getRank();
  const Type element = type.getElementType();
  auto fit = [&](Value v) { return Emitter::isVector(place) ? e.splat(v) : v; };
  Value last = e.add(slot(u.args, sig.argSlot(l.arg) + 3), -1), zero = e.c(0);
  place = e.max(e.min(place, fit(last)), fit(zero));
  Value offset = e.add(e.mul(place, fit(slot(u.args, record + 4 + rank))), fit(e.mul(u.b, slot(u.args, record + 5))));
  if (rank == 3) {
    offset = e.add(offset, e.mul(fit(head), fit(slot(u.args, record + 6))));
  }
  Value base = e.toPtr(slot(u.args, record));
  if (!Emitter::isVector(place)) {
    const int64_t size = element.getIntOrFloatBitWidth() / 8;
    return e.toInt(e.load(element, e.at(base, e.mul(offset, size)), size), e.i64);
  }
  Value addresses = LLVM::GEPOp::create(builder, e.loc, e.vec(e.ptr), element, base, ArrayRef<LLVM::GEPArg>{offset});
  Value all = e.constant(e.vec(e.i1), int64_t(1));
  Value loaded = LLVM::masked_gather::create(builder, e.loc, e.vec(element), addresses, all, ValueRange{},
                                             builder.getI32IntegerAttr(element.getIntOrFloatBitWidth() / 8));
  return e.toInt(loaded, e.i64);
}

Value AttendTiler::rowAddress(const Uniform &u, int64_t record, Value base, Value row, Value head) {
  auto fit = [&](Value v) { return Emitter::isVector(row) ? e.splat(v) : v; };
  Value stride = fit(rowStride(u, record));
  const int64_t n = listedAt(record);
  if (n < 0) {
    return e.add(e.mul(row, stride), fit(base));
  }
  Value number = listEntry(u, sig.listed[n], row, head);
  Value rows = fit(slot(u.args, sig.listedSlot(n))), zeros = fit(slot(u.args, sig.listedSlot(n) + 1));
  Value inside = e.both(e.ge(number, fit(e.c(0))), e.lt(number, rows));
  return e.select(inside, e.add(e.mul(number, stride), fit(base)), zeros);
}

Value AttendTiler::headOf(const Uniform &u, int64_t record, bool keyHead) {
  if (!keyHead) {
    return u.h;
  }
  Value group = arith::DivSIOp::create(builder, e.loc, u.heads, slot(u.args, record + 2));
  return arith::DivSIOp::create(builder, e.loc, u.h, group);
}

} // namespace heddle
