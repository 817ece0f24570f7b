//===- KeyPlace.cpp - A coordinate of the key position --------------------===//
//
// Digits of digits, and conditions on them; see the header.
//
//===----------------------------------------------------------------------===//
#include "dialect/KeyPlace.h"

namespace heddle {

namespace {

Literal compareLiteral(LinearForm f) {
  Literal l;
  l.kind = Literal::Compare;
  l.form = std::move(f);
  return l;
}

/// Radices stay far from overflow.
bool fits(int64_t radix, int64_t n) { return radix <= (int64_t(1) << 45) / n; }

/// A digit of one value is that value.
KeyPlace withoutTrivialDigit(KeyPlace p) {
  if (p.isDigit && p.modulus != 0 && p.extent() == 1) {
    p.isDigit = false;
    p.expr = (p.offset * -1).expr();
  }
  return p;
}

bool isMultiple(const LinearForm &f, int64_t n) { return f.dividedBy(n).has_value(); }

} // namespace

KeyPlace KeyPlace::dividedBy(int64_t n) const {
  KeyPlace p = *this;
  p.expr = floorDiv(expr, Expr(n));
  p.isDigit = isDigit && fits(radix, n) && isMultiple(offset, n) && extent() % n == 0;
  if (p.isDigit) {
    p.radix = radix * n;
    p.offset = *offset.dividedBy(n);
  }
  return withoutTrivialDigit(std::move(p));
}

KeyPlace KeyPlace::modulo(int64_t n) const {
  KeyPlace p = *this;
  p.expr = floorMod(expr, Expr(n));
  if (isDigit && offset == LinearForm(0) && modulus != 0 && extent() <= n) {
    return p;
  }
  p.isDigit = isDigit && fits(radix, n) && isMultiple(offset, n) && extent() % n == 0;
  if (p.isDigit) {
    p.modulus = radix * n;
    p.offset = LinearForm(0);
  }
  return withoutTrivialDigit(std::move(p));
}

KeyPlace KeyPlace::plus(const LinearForm &a) const {
  KeyPlace p = *this;
  p.expr = expr + a.expr();
  p.offset.add(a, -1);
  return p;
}

KeyPlace KeyPlace::mapped(const Expr &map) const {
  auto isInt = [&](size_t k) { return map->args[k]->kind == ExprKind::Int; };
  switch (map->kind) {
  case ExprKind::Symbol:
    if (map->symbol == Sym::Query) {
      return *this;
    }
    break;
  case ExprKind::Add:
    if (isInt(1)) {
      return mapped(map->args[0]).plus(map->args[1]->value);
    }
    if (isInt(0)) {
      return mapped(map->args[1]).plus(map->args[0]->value);
    }
    break;
  case ExprKind::Sub:
    if (isInt(1)) {
      return mapped(map->args[0]).plus(-map->args[1]->value);
    }
    break;
  case ExprKind::FloorDiv:
    if (isInt(1) && map->args[1]->value > 0) {
      return mapped(map->args[0]).dividedBy(map->args[1]->value);
    }
    break;
  case ExprKind::Mod:
    if (isInt(1) && map->args[1]->value > 0) {
      return mapped(map->args[0]).modulo(map->args[1]->value);
    }
    break;
  default:
    break;
  }
  KeyPlace p;
  p.isDigit = false;
  p.expr = map.substitute(
      [&](const ExprNode &n) { return n.kind == ExprKind::Symbol && n.symbol == Sym::Query ? expr : Expr(); });
  return p;
}

Literal KeyPlace::lower(const LinearForm &e) const {
  if (!isDigit) {
    return compareLiteral(LinearForm::of(expr) - e);
  }
  Literal l;
  l.kind = Literal::Lower;
  l.form = e + offset;
  if (modulus == 0) {
    l.form = l.form * radix; // j floordiv r >= e iff j >= r * e
    return l;
  }
  l.radix = radix;
  l.modulus = modulus;
  return l;
}

Literal KeyPlace::upper(const LinearForm &e) const {
  if (!isDigit) {
    return compareLiteral(e - LinearForm::of(expr) - LinearForm(1));
  }
  Literal l = lower(e);
  l.kind = Literal::Upper;
  return l;
}

Literal KeyPlace::residue(const LinearForm &e, int64_t n) const {
  if (!isDigit) {
    // (y - e) mod n = 0, that is -((y - e) mod n) >= 0.
    return compareLiteral(floorMod(LinearForm::of(expr) - e, n) * -1);
  }
  Literal l;
  l.kind = Literal::Step;
  l.radix = radix;
  l.modulus = modulus;
  l.step = n;
  // Multiples of the step do not matter.
  LinearForm phase = e + offset;
  for (const auto &[key, t] : phase.terms) {
    if (t.factor % n != 0) {
      l.form.terms.emplace(key, t);
    }
  }
  l.form.constant = l.form.isConstant() ? floorRemainder(phase.constant, n) : phase.constant % n;
  return l;
}

Terms KeyPlace::run(const LinearForm &start, int64_t length, int64_t n) const {
  auto single = [](std::vector<Literal> literals) {
    Term t;
    bool live = true;
    for (Literal &l : literals) {
      live = live && t.add(std::move(l));
    }
    return live ? Terms{std::move(t)} : Terms{};
  };
  if (length == 1) {
    return single({residue(start, n)});
  }
  const LinearForm first = floorMod(start + offset, n);
  KeyPlace plain = *this; // the offset went into `first`
  plain.offset = LinearForm(0);
  plain.expr = (LinearForm::of(expr) + offset).expr();
  KeyPlace residues = plain.modulo(n);
  Terms out;
  if (!first.isConstant() && length <= 3 && isDigit) {
    for (int64_t k = 0; k < length; ++k) {
      out.push_back(single({residue(start + LinearForm(k), n)}).at(0));
    }
    return out;
  }
  if (!isDigit || !residues.isDigit) {
    return single({compareLiteral(LinearForm(length - 1) - floorMod(LinearForm::of(expr) - start, n))});
  }
  for (Terms part : {single({residues.lower(first), residues.upper(first + LinearForm(length))}),
                     single({residues.upper(first + LinearForm(length - n))})}) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

} // namespace heddle
