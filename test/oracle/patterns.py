"""What a pattern means: its text, parsed here, evaluated on grids of integers.

``parse(text).live(grid)`` gives, for each (b, h, i, j) of a grid, whether the
pair is in the set. The formulas are the table of the design's section 2, one
function each; nothing here knows about sets, tiles or strata.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import scalars

INF = 1 << 40
"""Farther than any position."""


class ParseError(ValueError):
    """The text is no pattern."""


# ----------------------------------------------------------------- expressions
# An expression is a nested tuple: ("int", 3), ("float", 0.5), ("name", "i"),
# ("operand", "t"), ("load", name, indices), ("call", name, args), or
# (operator, args...).

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ALIASES = {
    **{"floordiv": "//", "mod": "%", "and": "land", "or": "lor", "&&": "land", "||": "lor"},
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "shl": "<<", "shr": ">>"},
}
_LEVELS: list[set[str]] = [
    # Python's precedence; `not` stands between the second and the third.
    {"||", "or"},
    {"&&", "and"},
    {"<", "<=", ">", ">=", "==", "!=", "lt", "le", "gt", "ge"},
    {"|"},
    {"^"},
    {"&"},
    {"<<", ">>", "shl", "shr"},
    {"+", "-"},
    {"*", "/", "//", "%", "floordiv", "mod", "ceildiv"},
]
_NOT, _COMPARE, _SUM = 2, 2, 7


def truth(x: Any) -> Any:
    """An integer stands for the condition that it is not 0."""
    return x if np.asarray(x).dtype == bool else x != 0


def evaluate(e: tuple, names: Mapping[str, Any], ns: Any = scalars) -> Any:
    """The value of an expression; works on arrays and on traced values alike."""
    kind = e[0]
    if kind in ("int", "float", "bool"):
        return e[1]
    if kind in ("name", "operand"):
        return names[e[1]]
    if kind == "load":
        index = tuple(evaluate(x, names, ns) for x in e[2])
        return names[e[1]][index if len(index) > 1 else index[0]]
    if kind == "call" and e[1] in ("float", "bool"):  # the printer's casts of a load
        return evaluate(e[2][0], names, ns)
    if kind == "call":
        args = [evaluate(x, names, ns) for x in e[2]]
        fn = {"min": "minimum", "max": "maximum"}.get(e[1], e[1])
        return getattr(ns, fn)(*args)
    if kind == "neg":
        return -evaluate(e[1], names, ns)
    if kind == "not":
        x = evaluate(e[1], names, ns)
        return (not x) if isinstance(x, bool) else ~x  # of two literals, say ~(10 >= 1)
    if kind == "lnot":
        return ~truth(evaluate(e[1], names, ns))
    if kind in ("land", "lor"):
        a, b = (truth(evaluate(x, names, ns)) for x in e[1:])
        return a & b if kind == "land" else a | b
    a, b = evaluate(e[1], names, ns), evaluate(e[2], names, ns)
    if kind == "ceildiv":
        return -((-a) // b)
    return _BINARY[kind](a, b)


# -------------------------------------------------------------------- integers


@dataclass(frozen=True)
class Int:
    """A literal, ``inf``, ``end - value``, or a run-time integer ``%name`` plus `value`."""

    kind: str  # "literal" | "inf" | "end" | "operand"
    value: int = 0
    name: str = ""

    def of(self, grid: Grid, end: Any = None) -> Any:
        """The integer on a grid; `end` is what ``end`` stands for."""
        if self.kind == "literal":
            return self.value
        if self.kind == "inf":
            return INF
        if self.kind == "end":
            return end - self.value
        return int(np.asarray(grid.operands[self.name])) + self.value

    @property
    def literal(self) -> int:
        """The value of something that must be a literal (a divisor)."""
        if self.kind != "literal":
            raise ParseError(f"expected a literal, but got {self}")
        return self.value


# ------------------------------------------------------------------------ grid


@dataclass(frozen=True)
class Grid:
    """Coordinates of pairs, all broadcastable to [B, H, Nq, Nk].

    `i` and `j` are positions, `row_i` and `row_j` rows; `nq` and `nk` are one
    past the last positions. `heads` is (Hq, Hk).
    """

    b: Any
    h: Any
    i: Any
    j: Any
    row_i: Any
    row_j: Any
    nq: Any
    nk: Any
    heads: tuple[int, int] = (1, 1)
    operands: Mapping[str, Any] = field(default_factory=dict)

    def moved(self, i: Callable[[Any], Any], j: Callable[[Any], Any]) -> Grid:
        """The grid after a map of the query and one of the key coordinate."""
        return replace(self, i=i(self.i), j=j(self.j), row_i=i(self.row_i), row_j=j(self.row_j))

    def lookup(self, name: str, rows: Any | None, fill: Any) -> Any:
        """Operand ``[B]``, ``[B, N]`` or ``[B, H, N]`` at this grid's b, h and `rows`.

        Any B or H may be 1, H may be Hk; a row that does not exist reads the nearest one, of no rows `fill`.
        """
        t = np.asarray(self.operands[name])
        b = np.asarray(self.b) if t.shape[0] > 1 else 0
        if rows is None:
            return t[b]
        n = t.shape[-1]
        if n == 0:
            return np.full(np.broadcast_shapes(np.shape(rows), np.shape(b)), fill)
        rows = np.clip(rows, 0, n - 1)
        if t.ndim == 2:
            return t[b, rows]
        group = {1: self.heads[0], self.heads[0]: 1}.get(t.shape[1], 0) or (self.heads[0] // t.shape[1])
        return t[b, np.asarray(self.h) // group, rows]


def grid(
    nq: int,
    nk: int,
    *,
    batch: int = 1,
    heads: tuple[int, int] = (1, 1),
    head: int | None = None,
    q_offset: Any = 0,
    k_offset: Any = 0,
    operands: Mapping[str, Any] | None = None,
) -> Grid:
    """The grid of all rows: [B, Hq, Nq, Nk], or one head only."""
    off_q = np.asarray(q_offset, np.int64).reshape(-1, 1, 1, 1)
    off_k = np.asarray(k_offset, np.int64).reshape(-1, 1, 1, 1)
    row_i = np.arange(nq, dtype=np.int64).reshape(1, 1, -1, 1)
    row_j = np.arange(nk, dtype=np.int64).reshape(1, 1, 1, -1)
    h = np.arange(heads[0]) if head is None else np.array([head])
    return Grid(
        b=np.arange(batch).reshape(-1, 1, 1, 1),
        h=h.reshape(1, -1, 1, 1),
        i=row_i + off_q,
        j=row_j + off_k,
        row_i=row_i,
        row_j=row_j,
        nq=off_q + nq,
        nk=off_k + nk,
        heads=heads,
        operands=operands or {},
    )


# -------------------------------------------------------------------- patterns


@dataclass(frozen=True)
class Pattern:
    """One node of a pattern; `text` is what it was parsed from."""

    kind: str
    ints: tuple[Int, ...] = ()
    ranges: tuple[tuple[Int, Int], ...] = ()
    names: tuple[str, ...] = ()
    exprs: tuple[tuple, ...] = ()
    children: tuple[Pattern, ...] = ()
    text: str = ""

    def live(self, g: Grid) -> Any:
        """Booleans that broadcast to the grid: which pairs are in the set."""
        return _LIVE[self.kind](self, g)

    def operands(self) -> set[str]:
        """Names of all run-time operands."""
        found = set(self.names)
        found |= {x.name for x in self.ints if x.kind == "operand"}
        found |= {x.name for r in self.ranges for x in r if x.kind == "operand"}
        for e in self.exprs:
            found |= _expr_operands(e)
        return found.union(*(c.operands() for c in self.children))

    def __str__(self) -> str:
        return self.text


def _expr_operands(e: Any) -> set[str]:
    if not isinstance(e, (tuple, list)):
        return set()
    if isinstance(e, tuple) and e and e[0] in ("operand", "load"):
        return {e[1]}.union(*(_expr_operands(x) for x in e[2:]))
    return set().union(*(_expr_operands(x) for x in e))


def _in_ranges(p: Pattern, g: Grid, x: Any, end: Any) -> Any:
    found: Any = np.zeros((1, 1, 1, 1), bool)
    for lo, hi in p.ranges:
        found = found | ((x >= lo.of(g, end)) & (x < hi.of(g, end)))
    return found


def _keys(p: Pattern, g: Grid) -> Any:
    if p.names:
        return g.lookup(p.names[0], g.row_j, False).astype(bool)
    return _in_ranges(p, g, g.j, g.nk)


def _queries(p: Pattern, g: Grid) -> Any:
    if p.names:
        return g.lookup(p.names[0], g.row_i, False).astype(bool)
    return _in_ranges(p, g, g.i, g.nq)


def _window(p: Pattern, g: Grid) -> Any:
    left, right, dilation = (x.of(g) for x in p.ints)
    d = g.j - g.i
    return (-left * dilation <= d) & (d <= right * dilation) & (d % dilation == 0)


def _offsets(p: Pattern, g: Grid) -> Any:
    d = g.i - g.j
    found: Any = np.zeros((1, 1, 1, 1), bool)
    if p.names:  # [n], or a list for each head
        lists = np.atleast_2d(np.asarray(g.operands[p.names[0]]))
        own = lists[np.asarray(g.h) * len(lists) // g.heads[0]]  # [1, H, 1, 1, n]
        return (own == d[..., None]).any(-1)
    for x in p.ints:
        found = found | (d == x.of(g))
    return found


def _grid(p: Pattern, g: Grid) -> Any:
    w = p.ints[0].literal
    rows = g.moved(lambda x: x // w, lambda x: x // w)
    columns = g.moved(lambda x: x % w, lambda x: x % w)
    return p.children[0].live(rows) & p.children[1].live(columns)


def _remap(p: Pattern, g: Grid) -> Any:
    found: Any = np.ones((1, 1, 1, 1), bool)
    for e, child in zip(p.exprs, p.children, strict=True):

        def move(x: Any, e: tuple = e) -> Any:
            return evaluate(e, {"x": x}) + 0 * x

        found = found & child.live(g.moved(move, move))
    return found


def _shift(p: Pattern, g: Grid) -> Any:
    a = p.ints[0].of(g)
    return p.children[0].live(g.moved(lambda x: x - a, lambda x: x - a))


def _coarse(p: Pattern, g: Grid) -> Any:
    nq, nk = p.ints[0].literal, p.ints[1].literal
    return p.children[0].live(g.moved(lambda x: x // nq, lambda x: x // nk))


def _neighborhood(p: Pattern, g: Grid) -> Any:
    # NATTEN: inside a dilation group, a window of `size` keys around the leader
    # of the query's stride group, moved so that it stays inside the group.
    size, extent, stride, dilation, causal = (x.of(g) for x in p.ints)
    i, j = g.i // dilation, g.j // dilation
    residue = g.i % dilation
    same_group = residue == g.j % dilation
    length = (extent - residue + dilation - 1) // dilation
    inside = (g.i >= 0) & (g.i < extent) & (g.j >= 0) & (g.j < extent)
    if causal:
        leader = np.minimum((i // stride) * stride + stride - 1, length - 1)
        return inside & same_group & (j <= i) & (leader - j < size)
    leader = np.minimum((i // stride) * stride + stride // 2, length - 1)
    start = np.maximum(np.minimum(leader - size // 2, length - size), 0)
    return inside & same_group & (j >= start) & (j < start + size)


def _past_blocks(p: Pattern, g: Grid) -> Any:
    n, size, inclusive = (x.of(g) for x in p.ints)
    return g.j * n + size <= g.i + (1 if inclusive else 0)


_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: int) -> int:
    z &= _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def drawn_blocks(u: int, m: int, count: int, seed: int) -> set[int]:
    """Floyd's sample of `count` of the blocks 0 to m - 1 for query block u."""
    taken: set[int] = set()
    for t in range(m - min(count, m), m):
        z = _mix(_mix(_mix(seed + _GOLDEN) + u * _GOLDEN) + t * _GOLDEN)
        r = (z * (t + 1)) >> 64
        taken.add(t if r in taken else r)
    return taken


def _random_blocks(p: Pattern, g: Grid) -> Any:
    n, count, seed = (x.of(g) for x in p.ints)
    blocks = -(-np.asarray(g.nk) // n)
    u, x, m = np.broadcast_arrays(g.i // n, g.j // n, blocks)
    out = np.zeros(u.shape, bool)
    for one in np.unique(blocks):
        for row in np.unique(g.i // n):
            taken = sorted(drawn_blocks(int(row), int(one), count, seed))
            out |= (u == row) & (m == one) & np.isin(x, taken)
    return out


def _condition(p: Pattern, g: Grid) -> Any:
    names = {"b": g.b, "h": g.h, "i": g.i, "j": g.j, "nq": g.nq, "nk": g.nk}
    names |= {"qrow": g.row_i, "krow": g.row_j}
    for name in _expr_operands(p.exprs[0]):
        t = np.asarray(g.operands[name])
        names[name] = int(t) if t.ndim == 0 else _table(t)
    return truth(np.asarray(evaluate(p.exprs[0], names)))


class _table(scalars.tensor):  # noqa: N801
    """A captured table that keeps its type (ids stay integers)."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)


def _per_head(p: Pattern, g: Grid) -> Any:
    n = len(p.children)
    found: Any = np.zeros((1, 1, 1, 1), bool)
    for t, child in enumerate(p.children):
        found = found | ((np.asarray(g.h) % n == t) & child.live(g))
    return found


def _same(p: Pattern, g: Grid) -> Any:
    a = g.lookup(p.names[0], g.row_i, -1)
    b = g.lookup(p.names[-1], g.row_j, -1)
    return (a == b) & (a >= 0)


def _between(p: Pattern, g: Grid) -> Any:
    lo, hi = (g.lookup(n, g.row_i, 0) for n in p.names)
    return (lo <= g.row_j) & (g.row_j < hi)


def _between_queries(p: Pattern, g: Grid) -> Any:
    lo, hi = (g.lookup(n, g.row_j, 0) for n in p.names)
    return (lo <= g.row_i) & (g.row_i < hi)


def _whole(g: Grid, name: str, trailing: int) -> np.ndarray:
    """An operand as [B, Hq, ...] with `trailing` dimensions of its own, for every b and h of the grid."""
    t = np.asarray(g.operands[name])
    t = t.reshape((1,) * (2 + trailing - t.ndim) + t.shape) if t.ndim != 1 + trailing else t[:, None]
    b = np.asarray(g.b).reshape(-1)
    h = np.asarray(g.h).reshape(-1)
    return t[b % t.shape[0]][:, h * t.shape[1] // g.heads[0]]


def _full(g: Grid, x: Any) -> np.ndarray:
    """Coordinates for every pair of the grid, [B, H, Nq, Nk]."""
    shape = np.broadcast_shapes(*(np.shape(c) for c in (g.b, g.h, g.row_i, g.row_j)))
    return np.broadcast_to(x, shape)


def _listed(p: Pattern, g: Grid) -> Any:
    lists = _whole(g, p.names[0], 2)
    rows, keys = _full(g, g.row_i), _full(g, g.row_j)
    out = np.zeros(rows.shape, bool)
    for at in np.ndindex(rows.shape):
        if 0 <= rows[at] < lists.shape[2]:
            out[at] = keys[at] >= 0 and keys[at] in lists[at[0], at[1], rows[at]]
    return out


def _csr(p: Pattern, g: Grid) -> Any:
    ptr, idx = (_whole(g, n, 1) for n in p.names)
    rows, keys = _full(g, g.row_i), _full(g, g.row_j)
    out = np.zeros(rows.shape, bool)
    for at in np.ndindex(rows.shape):
        if 0 <= rows[at] < ptr.shape[2] - 1:
            lo, hi = ptr[at[0], at[1], rows[at] : rows[at] + 2]
            out[at] = keys[at] >= 0 and keys[at] in idx[at[0], at[1], lo:hi]
    return out


def _bits(p: Pattern, g: Grid) -> Any:
    bits = _whole(g, p.names[0], 2)
    nb, nh = bits.shape[:2]
    b, h = np.arange(nb).reshape(-1, 1, 1, 1), np.arange(nh).reshape(1, -1, 1, 1)
    i, j = (np.clip(x, 0, n - 1) for x, n in zip((g.row_i, g.row_j), bits.shape[2:], strict=True))
    return bits[b, h, i, j]


def _moved_positions(p: Pattern, g: Grid) -> Any:
    def at(name: str, rows: Any) -> Any:
        t = _whole(g, name, 1)
        b, h = np.arange(t.shape[0]).reshape(-1, 1, 1, 1), np.arange(t.shape[1]).reshape(1, -1, 1, 1)
        return t[b, h, np.clip(rows, 0, t.shape[2] - 1)].astype(np.int64)

    i, j = at(p.names[0], g.row_i), at(p.names[1], g.row_j)
    return p.children[0].live(replace(g, i=i, j=j, row_i=i, row_j=j))


def _packed(p: Pattern, g: Grid) -> Any:
    cu_q, cu_k = (np.asarray(g.operands[n], np.int64) for n in p.names)
    out: Any = np.zeros((1, 1, 1, 1), bool)
    for s in range(min(len(cu_q), len(cu_k)) - 1):
        a, b = cu_q[s], cu_k[s]
        one = (a <= g.row_i) & (g.row_i < cu_q[s + 1]) & (b <= g.row_j) & (g.row_j < cu_k[s + 1])
        # a and b are bound now: lambdas run at once
        out = out | (one & p.children[0].live(g.moved(lambda x: x - a, lambda x: x - b)))
    return out


def _fold(op: Callable[[Any, Any], Any]) -> Callable[[Pattern, Grid], Any]:
    def run(p: Pattern, g: Grid) -> Any:
        out = p.children[0].live(g)
        for c in p.children[1:]:
            out = op(out, c.live(g))
        return out

    return run


_LIVE: dict[str, Callable[[Pattern, Grid], Any]] = {
    "full": lambda p, g: np.ones((1, 1, 1, 1), bool),
    "causal": lambda p, g: g.j <= g.i - p.ints[0].of(g),
    "window": _window,
    "stride": lambda p, g: (g.i - g.j) % p.ints[0].literal == p.ints[1].of(g),
    "block": lambda p, g: g.i // p.ints[0].literal == g.j // p.ints[0].literal,
    "keys": _keys,
    "queries": _queries,
    "global_tokens": lambda p, g: _keys(p, g) | _queries(p, g),
    "key_mod": lambda p, g: _mod(p, g, g.j),
    "query_mod": lambda p, g: _mod(p, g, g.i),
    "offsets": _offsets,
    "coarse": _coarse,
    "grid": _grid,
    "remap": _remap,
    "shift": _shift,
    "neighborhood": _neighborhood,
    "past_blocks": _past_blocks,
    "parent": lambda p, g: g.i == g.j // p.ints[0].literal,
    "random_blocks": _random_blocks,
    "affine_set": _condition,
    "holds": _condition,
    "per_head": _per_head,
    "same": _same,
    "cluster": _same,
    "lengths": lambda p, g: g.row_j < g.lookup(p.names[0], None, 0),
    "between": _between,
    "between_queries": _between_queries,
    "listed": _listed,
    "csr": _csr,
    "mask": _bits,
    "positions": _moved_positions,
    "packed": _packed,
    "and": _fold(operator.and_),
    "or": _fold(operator.or_),
    "sub": _fold(lambda a, b: a & ~b),
    "not": lambda p, g: ~p.children[0].live(g),
}


def _mod(p: Pattern, g: Grid, x: Any) -> Any:
    n, lo, hi = (v.of(g) for v in p.ints)
    return (x % n >= lo) & (x % n < hi)


# ---------------------------------------------------------------------- parser

_TOKEN = re.compile(
    r"\s+|(?P<operand>%[A-Za-z0-9_]+)|(?P<float>\d+\.\d*(?:[eE][+-]?\d+)?)|(?P<int>\d+)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<op>->|//|<<|>>|<=|>=|==|!=|&&|\|\||.)"
)
_WORD_OPERATORS = {x for level in _LEVELS for x in level if x.isalpha()} | {"not", "to"}
_INT_ARGS: dict[str, list[tuple[str, int | None]]] = {
    # name: (argument, default) in order; None = required
    "causal": [("lag", 0)],
    "window": [("left", None), ("right", None), ("dilation", 1)],
    "stride": [("n", None), ("phase", 0)],
    "block": [("n", None)],
    "key_mod": [("n", None), ("lo", None), ("hi", None)],
    "query_mod": [("n", None), ("lo", None), ("hi", None)],
    "neighborhood": [
        ("size", None),
        ("extent", None),
        ("stride", 1),
        ("dilation", 1),
        ("causal", 0),
    ],
    "past_blocks": [("n", None), ("size", -1), ("inclusive", 0)],
    "parent": [("n", None)],
    "random_blocks": [("block", None), ("per_row", None), ("seed", None)],
}


class _Parser:
    """Recursive descent over the tokens; `~`, then `-`, then `&`, then `|`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(text):
            m = _TOKEN.match(text, at)
            if m is None:
                raise ParseError(f"unexpected {text[at]!r} in {text!r}")
            # In `i %4` a percent sign before an operand position is the operator.
            kind = m.lastgroup
            if kind == "operand" and self._operator_expected():
                self.tokens.append(("op", "%", at))
                at += 1
                continue
            if kind:
                self.tokens.append((kind, m.group(), at))
            at = m.end()
        self.tokens.append(("end", "", len(text)))
        self.at = 0

    def _operator_expected(self) -> bool:
        return bool(self.tokens) and (
            self.tokens[-1][0] in ("int", "float", "operand")
            or self.tokens[-1][1] in (")", "]")
            or (self.tokens[-1][0] == "word" and self.tokens[-1][1] not in _WORD_OPERATORS)
        )

    # -- tokens
    def peek(self, ahead: int = 0) -> str:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)][1]

    def kind(self) -> str:
        return self.tokens[self.at][0]

    def take(self, want: str | None = None) -> str:
        got = self.peek()
        if want is not None and got != want:
            start = self.tokens[self.at][2]
            raise ParseError(f"expected {want!r}, but got {got!r} at {start} in {self.text!r}")
        self.at += 1
        return got

    def accept(self, want: str) -> bool:
        if self.peek() == want:
            self.at += 1
            return True
        return False

    # -- patterns
    def union(self) -> Pattern:
        return self._left(self.intersection, "|", "or")

    def intersection(self) -> Pattern:
        return self._left(self.difference, "&", "and")

    def difference(self) -> Pattern:
        return self._left(self.unary, "-", "sub")

    def _left(self, sub: Callable[[], Pattern], op: str, kind: str) -> Pattern:
        start = self.at
        p = sub()
        while self.accept(op):
            p = self.make(start, kind, children=(p, sub()))
        return p

    def make(self, start: int, kind: str, **parts: Any) -> Pattern:
        lo = self.tokens[start][2]
        hi = self.tokens[self.at - 1][2] + len(self.tokens[self.at - 1][1])
        return Pattern(kind, text=self.text[lo:hi], **parts)

    def unary(self) -> Pattern:
        start = self.at
        if self.accept("~"):
            child = self.unary()
            return self.make(start, "not", children=(child,))
        if self.accept("("):
            p = self.union()
            self.take(")")
            return replace(p, text="(" + p.text + ")")
        return self.primitive()

    def primitive(self) -> Pattern:
        start = self.at
        if self.kind() != "word":
            raise ParseError(f"expected a pattern, but got {self.peek()!r} in {self.text!r}")
        name = self.take()
        if name == "full":
            return self.make(start, "full")
        if name == "causal" and self.peek() != "(":
            return self.make(start, "causal", ints=(Int("literal", 0),))
        if name in ("affine_set", "holds"):
            return self.condition(start, name)
        self.take("(")
        parts = self.arguments(name)
        self.take(")")
        return self.make(start, name, **parts)

    def arguments(self, name: str) -> dict[str, Any]:
        if name in _INT_ARGS:
            return {"ints": self.int_arguments(name)}
        if name in ("keys", "queries", "global_tokens"):
            if self.kind() == "operand":
                return {"names": (self.take()[1:],)}
            return {"ranges": tuple(self.list_of(self.range))}
        if name in ("positions", "packed"):
            names = [self.take()[1:]]
            self.take(",")
            names.append(self.take()[1:])
            self.take(",")
            return {"names": tuple(names), "children": (self.union(),)}
        if name == "offsets":
            if self.kind() == "operand":
                return {"names": (self.take()[1:],)}
            return {"ints": tuple(self.list_of(self.integer))}
        if name in ("same", "cluster", "lengths", "between", "between_queries", "listed", "csr", "mask"):
            names = [self.take()[1:]]
            while self.accept(","):
                names.append(self.take()[1:])
            return {"names": tuple(names)}
        if name == "per_head":
            return {"children": tuple(self.list_of(self.union))}
        if name == "coarse":
            ints = [self.integer()]
            self.take(",")
            if self.kind() in ("int", "operand"):
                ints.append(self.integer())
                self.take(",")
            return {"ints": (ints[0], ints[-1]), "children": (self.union(),)}
        if name == "grid":
            width = self.integer()
            self.take(",")
            rows = self.union()
            self.take(",")
            return {"ints": (width,), "children": (rows, self.union())}
        if name == "shift":
            a = self.integer()
            self.take(",")
            return {"ints": (a,), "children": (self.union(),)}
        if name == "remap":
            return self.remap()
        raise ParseError(f"unknown pattern {name!r} in {self.text!r}")

    def remap(self) -> dict[str, Any]:
        self.take("affine_map")
        self.take("<")
        self.take("(")
        var = self.take()
        for want in (")", "->", "("):
            self.take(want)
        exprs = [self.expr(level=_SUM)]
        while self.accept(","):
            exprs.append(self.expr(level=_SUM))
        self.take(")")
        self.take(">")
        children = []
        while self.accept(","):
            children.append(self.union())
        return {
            "exprs": tuple(_rename(e, {var: "x"}) for e in exprs),
            "children": tuple(children),
        }

    def condition(self, start: int, name: str) -> Pattern:
        """``affine_set<(i, j)[nq, nk] : (..)>`` or ``holds(b, h, i, j : ..)``."""
        if name == "holds":
            self.take("(")
            given = [self.take()]
            while self.accept(","):
                given.append(self.take())
            self.take(":")
            rename = dict(zip(given, ("b", "h", "i", "j"), strict=True))
            rename |= {x: x for x in ("nq", "nk", "qrow", "krow") if x not in rename}
            e = _rename(self.expr(), rename)
            self.take(")")
            return self.make(start, name, exprs=(e,))
        self.take("<")
        self.take("(")
        rename = {self.take(): "i"}
        self.take(",")
        rename[self.take()] = "j"
        self.take(")")
        if self.accept("["):
            rename[self.take()] = "nq"
            if self.accept(","):
                rename[self.take()] = "nk"
            self.take("]")
        self.take(":")
        self.take("(")
        e: tuple = self.constraint()
        while self.accept(","):
            e = ("&", e, self.constraint())
        self.take(")")
        self.take(">")
        return self.make(start, name, exprs=(_rename(e, rename),))

    def constraint(self) -> tuple:
        left = self.expr(level=_SUM)
        op = self.take()
        return (op, left, self.expr(level=_SUM))

    # -- integers
    def integer(self) -> Int:
        if self.kind() == "operand":
            return Int("operand", name=self.take()[1:])
        if self.accept("inf"):
            return Int("inf")
        if self.accept("end"):
            return Int("end", int(self.take()) if self.accept("-") else 0)
        if self.accept("true"):
            return Int("literal", 1)
        if self.accept("false"):
            return Int("literal", 0)
        sign = -1 if self.accept("-") else 1
        if self.kind() != "int":
            raise ParseError(f"expected an integer, but got {self.peek()!r} in {self.text!r}")
        return Int("literal", sign * int(self.take()))

    def range(self) -> tuple[Int, Int]:
        lo = self.integer()
        if self.accept("to"):
            return lo, self.integer()
        return lo, replace(lo, value=lo.value + (-1 if lo.kind == "end" else 1))

    def list_of(self, item: Callable[[], Any]) -> list[Any]:
        self.take("[")
        items = []
        while self.peek() != "]":
            items.append(item())
            if not self.accept(","):
                break
        self.take("]")
        return items

    def int_arguments(self, name: str) -> tuple[Int, ...]:
        names = [n for n, _ in _INT_ARGS[name]]
        values: dict[str, Int] = {}
        at = 0
        while self.peek() != ")":
            if self.kind() == "word" and self.peek(1) == "=":
                key = self.take()
                self.take("=")
            else:
                key = names[at]
            at = names.index(key) + 1
            values[key] = self.integer()
            if not self.accept(","):
                break
        for key, default in _INT_ARGS[name]:
            if key not in values:
                if default is None:
                    raise ParseError(f"{name} expected {key}")
                values[key] = Int("literal", default)
        if name == "past_blocks" and values["size"] == Int("literal", -1):
            values["size"] = values["n"]
        return tuple(values[n] for n in names)

    # -- expressions
    def expr(self, level: int = 0) -> tuple:
        # `>` closes affine_set<..> and affine_map<..>; those start at _SUM.
        if level == len(_LEVELS):
            return self.factor()
        if level == _NOT and self.accept("not"):
            return ("lnot", self.expr(_NOT))
        e = self.expr(level + 1)
        if level == _COMPARE:
            return self.comparisons(e)
        while self.peek() in _LEVELS[level]:
            op = self.take()
            e = (_ALIASES.get(op, op), e, self.expr(level + 1))
        return e

    def comparisons(self, left: tuple) -> tuple:
        """``a < b <= c`` is ``(a < b) and (b <= c)``."""
        out: tuple = ()
        while self.peek() in _LEVELS[_COMPARE]:
            op = self.take()
            right = self.expr(_COMPARE + 1)
            one = (_ALIASES.get(op, op), left, right)
            out = ("land", out, one) if out else one
            left = right
        return out or left

    def factor(self) -> tuple:
        if self.accept("-"):
            return ("neg", self.factor())
        if self.accept("~"):
            return ("not", self.factor())
        if self.accept("!"):
            return ("lnot", self.factor())
        if self.accept("("):
            e = self.expr()
            self.take(")")
            return e
        kind, text = self.kind(), self.take()
        if kind == "int":
            return ("int", int(text))
        if kind == "float":
            return ("float", float(text))
        if kind == "operand":
            if self.accept("["):
                index = [self.expr()]
                while self.accept(","):
                    index.append(self.expr())
                self.take("]")
                return ("load", text[1:], tuple(index))
            return ("operand", text[1:])
        if text in ("true", "false"):
            return ("bool", np.bool_(text == "true"))
        if kind == "word" and self.accept("("):
            args = [self.expr()]
            while self.accept(","):
                args.append(self.expr())
            self.take(")")
            return ("call", text, tuple(args))
        if kind == "word":
            return ("name", text)
        raise ParseError(f"expected an expression, but got {text!r} in {self.text!r}")


def _rename(e: Any, names: Mapping[str, str]) -> Any:
    if isinstance(e, tuple):
        if e and e[0] == "name":
            if e[1] not in names:
                raise ParseError(f"unknown name {e[1]!r}")
            return ("name", names[e[1]])
        return tuple(_rename(x, names) for x in e)
    return e


def parse(text: str) -> Pattern:
    """The pattern that `text` describes."""
    p = _Parser(text)
    out = p.union()
    if p.kind() != "end":
        raise ParseError(f"unexpected {p.peek()!r} after the pattern in {text!r}")
    return out


def mask(
    text: str | Pattern,
    nq: int,
    nk: int,
    *,
    h: int = 0,
    heads: tuple[int, int] | None = None,
    q_offset: Any = 0,
    k_offset: Any = 0,
    operands: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Live pairs of one head and the first batch, boolean ``[nq, nk]``."""
    p = parse(text) if isinstance(text, str) else text
    g = grid(
        nq,
        nk,
        heads=heads or (h + 1, 1),
        head=h,
        q_offset=q_offset,
        k_offset=k_offset,
        operands=operands,
    )
    full = np.broadcast_to(p.live(g), (1, 1, nq, nk))
    return np.array(full[0, 0])


def tiles(live: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Classes of tiles of a mask: 0 empty, 1 partial, 2 full, by counting."""
    nq, nk = live.shape
    out = np.zeros((-(-nq // rows), -(-nk // columns)), np.int64)
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            part = live[a * rows : (a + 1) * rows, b * columns : (b + 1) * columns]
            out[a, b] = 2 if part.all() else int(part.any())
    return out


def any_of(items: Sequence[np.ndarray]) -> np.ndarray:
    """Union of masks."""
    out = items[0]
    for x in items[1:]:
        out = out | x
    return out
