//===- HeadTables.cpp - What a stratum makes of the head ------------------===//

#include "passes/HeadTables.h"

namespace heddle {

static bool collect(const Expr &x, llvm::ArrayRef<OperandRecord> records, HeadTables &out) {
  if (x.isNull() || !x.mentions(Sym::Head)) {
    return true;
  }
  if (x->kind == ExprKind::Symbol) {
    return false;
  }
  for (size_t k = 0, dim = 0; k < x->args.size(); ++k) {
    if (x->kind == ExprKind::Load) {
      const int64_t rank = records[x->value].rank;
      if (droppedIndex(x->args.size(), rank, k)) {
        continue;
      }
      if (x->args[k]->kind == ExprKind::Symbol && x->args[k]->symbol == Sym::Head) {
        out.insert({x->value, static_cast<int64_t>(dim++)});
        continue;
      }
      ++dim;
    }
    if (!collect(x->args[k], records, out)) {
      return false;
    }
  }
  return true;
}

bool collectHeadTables(const Stratum &s, llvm::ArrayRef<OperandRecord> records, HeadTables &out) {
  auto one = [&](const Expr &x) { return collect(x, records, out); };
  auto digit = [&](const KeyDigit &d) {
    return one(d.phase) && llvm::all_of(d.lower, one) && llvm::all_of(d.upper, one);
  };
  // Lists and ids have tables of their own for each head, and rows that are taken by themselves share nothing.
  return s.headPeriod <= 1 && !s.byRow && s.list.isNull() && s.ids.isNull() && one(s.guard) && one(s.keep) &&
         one(s.residual) && llvm::all_of(s.lower, one) && llvm::all_of(s.upper, one) && llvm::all_of(s.key, digit);
}

} // namespace heddle
