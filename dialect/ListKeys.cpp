//===- ListKeys.cpp - The keys that an entry of a run-time list stands for ===//

#include "dialect/ListKeys.h"

#include "dialect/LinearForm.h"

namespace heddle {

namespace {

/// f = factor * atom + rest with one atom on the key and factor 1 or -1.
struct Solved {
  Expr atom;
  int64_t factor;
  LinearForm rest;
};

std::optional<Solved> splitKey(const LinearForm &f) {
  std::optional<Solved> found;
  LinearForm rest = f;
  for (const auto &[name, term] : f.terms) {
    if (!term.atom.onKey()) {
      continue;
    }
    if (found || (term.factor != 1 && term.factor != -1)) {
      return std::nullopt;
    }
    found = Solved{term.atom, term.factor, {}};
    rest.add(LinearForm::of(term.atom), -term.factor);
  }
  if (found) {
    if (rest.expr().onKey()) {
      return std::nullopt;
    }
    found->rest = std::move(rest);
  }
  return found;
}

} // namespace

std::optional<ListKeys> listKeys(const Expr &member) {
  if (member.isNull() || member->kind != ExprKind::Member) {
    return std::nullopt;
  }
  for (size_t k = 1; k + 1 < member->args.size(); ++k) {
    if (member->args[k].onKey()) {
      return std::nullopt;
    }
  }
  std::optional<Solved> solved = splitKey(LinearForm::of(member->args.back()));
  if (!solved) {
    return std::nullopt;
  }
  // The atom's value: entry - rest, or rest - entry.
  LinearForm entry = LinearForm::of(Expr::symbol(Sym::Entry));
  LinearForm value = solved->factor > 0 ? entry - solved->rest : solved->rest - entry;
  int64_t run = 1;
  Expr atom = solved->atom;
  if (atom->kind == ExprKind::FloorDiv && atom->args[1]->kind == ExprKind::Int && atom->args[1]->value > 0 &&
      atom->args[1]->value < (int64_t(1) << 30)) {
    run = atom->args[1]->value;
    std::optional<Solved> inner = splitKey(LinearForm::of(atom->args[0]));
    if (!inner || inner->factor != 1) {
      return std::nullopt;
    }
    value = value * run - inner->rest;
    atom = inner->atom;
  }
  if (!atom.isSymbol(Sym::Key)) {
    return std::nullopt;
  }
  return ListKeys{value.expr(), run};
}

Expr listRow(const Expr &member) {
  const std::vector<Expr> &args = member->args;
  if (member->kind == ExprKind::Draw) {
    return args[1];
  }
  if (args.size() >= 7) { // {operand, b, h, row, lo, hi, x}
    return args[args.size() - 4];
  }
  const Expr &lo = args[args.size() - 3]; // rows of a graph begin at loaded places
  return lo->kind == ExprKind::Load && !lo->args.empty() ? lo->args.back() : Expr();
}

int64_t listSharing(const Expr &member) {
  Expr row = listRow(member);
  if (row.isNull() || !row.onQuery()) {
    return 0;
  }
  Sym rows = member->kind == ExprKind::Draw ? Sym::Query : Sym::QueryRow;
  if (row->kind == ExprKind::FloorDiv && row->args[1]->kind == ExprKind::Int && row->args[0].isSymbol(rows)) {
    return row->args[1]->value;
  }
  return 1;
}

bool gathersByRow(const Expr &member) {
  constexpr int64_t kWorthSharing = 8;
  std::optional<ListKeys> keys = listKeys(member);
  int64_t sharing = listSharing(member);
  return (keys && keys->first.onQuery()) || (sharing > 0 && sharing < kWorthSharing);
}

bool isSameIds(const Expr &condition) {
  if (condition->kind != ExprKind::Eq) {
    return false;
  }
  auto isIds = [](const Expr &e, Sym row) {
    return e->kind == ExprKind::Load && e->type == ExprType::Int && e->args.size() == 3 &&
           e->args[0].isSymbol(Sym::Batch) && e->args[1].isSymbol(Sym::Head) && e->args[2].isSymbol(row);
  };
  return isIds(condition->args[0], Sym::QueryRow) && isIds(condition->args[1], Sym::KeyRow);
}

std::optional<std::pair<Expr, Expr>> matchedIds(const Expr &condition) {
  if (condition->kind == ExprKind::And) {
    for (const Expr &arg : condition->args) {
      if (auto ids = matchedIds(arg)) {
        return ids;
      }
    }
    return std::nullopt;
  }
  if (condition->kind != ExprKind::Eq) {
    return std::nullopt;
  }
  Expr q = condition->args[0], k = condition->args[1];
  if (q.onKey()) {
    std::swap(q, k);
  }
  auto isIds = [](const Expr &x) { return x->kind == ExprKind::Load && x->type == ExprType::Int; };
  if (!isIds(q) || !isIds(k) || q.onKey() || k.onQuery()) {
    return std::nullopt;
  }
  return std::pair(q, k);
}

} // namespace heddle
