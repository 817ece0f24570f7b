//===- GpuDraws.cpp - The blocks of random_blocks as lists ----------------===//
//
// A stratum of n choices, of which each gives a query one block of keys,
//
//   choices = n; draw(seed, i floordiv m, first, first + choice) * run <= j < .. + run; first + choice < last
//
// is a list of n blocks that m queries share. A block of threads draws the blocks
// of its rows once, all side by side, into shared memory; from there on they are
// entries like those of a run-time list, whatever n is.
//
//===----------------------------------------------------------------------===//

#include "dialect/LinearForm.h"
#include "dialect/ListKeys.h"
#include "passes/StratumCost.h"
#include "passes/gpu/GpuKernel.h"

using namespace mlir;

namespace heddle {

/// Past this many bytes of drawn blocks, choices are strata of their own.
static constexpr int64_t kMostDrawnBytes = 8 * 1024;

static bool onChoice(const Expr &e) { return bool(e) && e.mentions(Sym::Choice); }

/// The conjuncts that do not mention the choice; null where there is none.
static Expr withoutChoice(const Expr &guard) {
  if (guard.isNull() || !onChoice(guard)) {
    return guard;
  }
  Expr out;
  if (guard->kind == ExprKind::And) {
    for (const Expr &part : guard->args) {
      Expr own = withoutChoice(part);
      out = out.isNull() ? own : own.isNull() ? out : out && own;
    }
  }
  return out;
}

/// Takes the one bound that mentions the choice from a list; null where there is not exactly one.
static Expr takeChosen(std::vector<Expr> &bounds) {
  auto chosen = llvm::find_if(bounds, onChoice);
  if (chosen == bounds.end() || llvm::count_if(bounds, onChoice) != 1) {
    return {};
  }
  Expr out = *chosen;
  bounds.erase(chosen);
  return out;
}

static Expr findDraw(const Expr &e) {
  if (e->kind == ExprKind::Draw) {
    return e;
  }
  for (const Expr &arg : e->args) {
    if (Expr found = findDraw(arg); !found.isNull()) {
      return found;
    }
  }
  return {};
}

/// Rows of the generator that the rows of a block may have: consecutive queries, from any one on.
static int64_t drawnRows(const Stratum &s, int64_t rows) { return (rows - 1) / listSharing(s.list) + 2; }

int64_t drawnBytes(const Stratum &s, int64_t rows) { return isDrawn(s) ? drawnRows(s, rows) * s.choices * 4 : 0; }

bool isDrawn(const Stratum &s) { return bool(s.list) && s.list->kind == ExprKind::Draw; }

std::optional<Stratum> drawnList(const Stratum &s, int64_t rows) {
  bool plain = s.choices > 0 && s.list.isNull() && s.key.size() == 1 && s.key[0].radix == 1 && s.key[0].step == 1 &&
               s.query.size() == 1 && s.query[0].radix == 1;
  Stratum out = s;
  Expr lower = takeChosen(out.lower), upper = takeChosen(out.upper);
  if (!plain || lower.isNull() || upper.isNull()) {
    return std::nullopt;
  }
  LinearForm run = LinearForm::of(upper) - LinearForm::of(lower);
  Expr draw = findDraw(lower), end = endOfChoices(s);
  out.guard = withoutChoice(s.guard);
  if (!run.terms.empty() || run.constant <= 0 || draw.isNull() || end.isNull()) {
    return std::nullopt;
  }
  out.run = run.constant;
  LinearForm first = LinearForm::of(lower);
  auto term = llvm::find_if(first.terms, [](const auto &t) { return t.second.atom->kind == ExprKind::Draw; });
  if (term == first.terms.end()) {
    return std::nullopt;
  }
  const int64_t factor = term->second.factor;
  first.add(LinearForm::of(draw), -factor);
  first.add(LinearForm::of(Expr::symbol(Sym::Entry)), factor);
  out.first = first.expr();
  Expr last = (LinearForm::of(draw->args[2]) + LinearForm::of(end)).expr();
  out.list = Expr::make(ExprKind::Draw, {draw->args[0], draw->args[1], draw->args[2], last});
  const KeyDigit &d = out.key[0];
  bool left = onChoice(out.first) || onChoice(out.list) || onChoice(d.phase) || llvm::any_of(d.lower, onChoice) ||
              llvm::any_of(d.upper, onChoice) || onChoice(out.keep) || onChoice(out.residual);
  bool shared = listSharing(out.list) > 0 && !hasOwnLists(out);
  if (left || !shared || drawnBytes(out, rows) > kMostDrawnBytes) {
    return std::nullopt;
  }
  return out;
}

/// The first row of the generator that the block has.
Value GpuKernel::firstDrawn(const Stratum &s) { return e.floorDiv(reduced(0, true), listSharing(s.list)); }

void GpuKernel::fillDrawn(const Member &m) {
  const Stratum &s = schedule.strata[m.stratum];
  Value from = firstDrawn(s), count = e.k(drawnRows(s, shape.rows) * s.choices);
  loop(tid, count, blockThreads, {}, [&](Value x, ValueRange) {
    Value row = e.divu(x, s.choices), n = e.sub(x, e.mul(row, s.choices));
    const std::vector<Expr> &args = s.list->args;
    ExprScope at = scope(s.segment, {}, {});
    at.entry = e.add(emitExpr(e, args[2], at), e.wide(n));
    Expr draw = Expr::make(ExprKind::Draw, {args[0], args[1], args[2], Expr::symbol(Sym::Entry)});
    at.give(draw, args[1], e.add(from, e.wide(row)));
    e.storeShared(e.narrow(emitExpr(e, draw, at)), e.add(e.shl(x, 2), m.lists.drawn), 4);
    return Values{};
  });
}

GpuKernel::Entries GpuKernel::entriesOf(const Member &m, const ExprScope &at) {
  const Stratum &s = schedule.strata[m.stratum];
  if (!isDrawn(s)) {
    EmittedList list = emitList(e, s.list, at);
    return {list.lo, list.hi, [this, list](Value n) { return list.entry(e, e.add(list.lo, e.wide(n))); }};
  }
  Value lo = emitExpr(e, s.list->args[2], at), hi = emitExpr(e, s.list->args[3], at);
  return {lo, hi, [this, &s, at, drawn = m.lists.drawn](Value n) {
            Value row = e.narrow(e.sub(emitExpr(e, s.list->args[1], at), firstDrawn(s)));
            Value place = e.add(e.mul(row, s.choices), n);
            return e.wide(e.loadShared(e.i32, e.add(e.shl(place, 2), drawn), 4));
          }};
}

} // namespace heddle
