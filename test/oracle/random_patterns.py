"""Random pattern texts over every closed-form primitive, as deep as asked.

One grammar, two sources of choices: a seeded generator (long sweeps, kernels)
and Hypothesis (small counterexamples).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hypothesis import strategies as st


class Chooser(Protocol):
    """A source of choices."""

    def integer(self, lo: int, hi: int) -> int:
        """An integer in [lo, hi]."""

    def choice(self, items: Sequence[Any]) -> Any:
        """One of `items`."""


class Seeded:
    """Choices from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, lo: int, hi: int) -> int:
        """An integer in [lo, hi]."""
        return self.random.randint(lo, hi)

    def choice(self, items: Sequence[Any]) -> Any:
        """One of `items`."""
        return self.random.choice(items)


class Drawn:
    """Choices that Hypothesis draws, and shrinks."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw

    def integer(self, lo: int, hi: int) -> int:
        """An integer in [lo, hi]."""
        return self.draw(st.integers(lo, hi))

    def choice(self, items: Sequence[Any]) -> Any:
        """One of `items`."""
        return self.draw(st.sampled_from(list(items)))


def _range_list(c: Chooser, ends: bool) -> str:
    items = []
    for _ in range(c.integer(1, 3)):
        kind = c.integer(0, 3 if ends else 2)
        a = c.integer(0, 40)
        if kind == 0:
            items.append(str(a))
        elif kind in (1, 2):
            items.append(f"{a} to {a + c.integer(0, 12)}")
        else:
            items.append(c.choice([f"end - {1 + a % 9} to end", f"{a} to end", f"end - {1 + a % 9}"]))
    return "[" + ", ".join(items) + "]"


def _window(c: Chooser) -> str:
    left = c.choice(["0", "1", "2", "3", "7", "16", "inf"])
    right = c.choice(["0", "0", "1", "2", "5", "inf"])
    dilation = c.choice([1, 1, 2, 3, 4])
    return f"window({left}, {right})" if dilation == 1 else (
        f"window({left}, {right}, dilation = {dilation})"
    )


def _stride(c: Chooser) -> str:
    n = c.choice([1, 2, 3, 4, 5, 8, 16])
    phase = c.integer(0, n - 1)
    return f"stride({n}, {phase})" if phase else f"stride({n})"


def _mod(name: str) -> Callable[[Chooser], str]:
    def make(c: Chooser) -> str:
        n = c.choice([2, 3, 4, 6, 8])
        lo = c.integer(0, n - 1)
        return f"{name}({n}, {lo}, {c.integer(lo + 1, n)})"

    return make


def _offsets(c: Chooser) -> str:
    return "offsets([" + ", ".join(str(c.integer(-6, 20)) for _ in range(c.integer(1, 4))) + "])"


def _neighborhood(c: Chooser) -> str:
    size = c.integer(1, 7)
    dilation = c.choice([1, 1, 2, 3])
    extent = size * dilation + c.integer(0, 40)
    text = f"neighborhood({size}, {extent}"
    stride = c.choice([1, 1, 2, 3])
    if stride > 1 and stride <= size:
        text += f", stride = {stride}"
    if dilation > 1:
        text += f", dilation = {dilation}"
    return text + c.choice(["", ", causal = true"]) + ")"


def _past_blocks(c: Chooser) -> str:
    n = c.choice([1, 2, 3, 4, 8])
    size = c.integer(1, 9)
    return f"past_blocks({n}, size = {size}" + c.choice(["", ", inclusive = true"]) + ")"


def affine(c: Chooser, names: Sequence[str], depth: int = 2, words: bool = False) -> str:
    """A quasi-affine expression in `names`; `words` asks for MLIR's spelling."""
    div, mod = ("floordiv", "mod") if words else ("//", "%")
    if depth == 0 or c.integer(0, 3) == 0:
        return c.choice([*names, *names, str(c.integer(0, 12))])
    kind = c.integer(0, 4)
    a = affine(c, names, depth - 1, words)
    if kind == 0:
        return f"({a} + {affine(c, names, depth - 1, words)})"
    if kind == 1:
        return f"({a} - {affine(c, names, depth - 1, words)})"
    if kind == 2:
        return f"({a} * {c.integer(1, 3)})"
    if kind == 3:
        return f"({a} {div} {c.integer(2, 6)})"
    return f"({a} {mod} {c.integer(2, 6)})"


def condition(c: Chooser, depth: int = 2) -> str:
    """A condition on i and j for ``holds``."""
    if depth == 0 or c.integer(0, 2) == 0:
        op = c.choice(["<", "<=", ">", ">=", "==", "!="])
        return f"({affine(c, ['i', 'j'])} {op} {affine(c, ['i', 'j'])})"
    kind = c.integer(0, 2)
    if kind == 0:
        return f"(~{condition(c, depth - 1)})"
    op = "&" if kind == 1 else "|"
    return f"({condition(c, depth - 1)} {op} {condition(c, depth - 1)})"


def _affine_set(c: Chooser) -> str:
    parts = []
    for _ in range(c.integer(1, 3)):
        e = affine(c, ["i", "j", "i", "j", "nk" if c.integer(0, 3) == 0 else "i"], words=True)
        parts.append(f"{e} == {c.integer(0, 3)}" if c.integer(0, 4) == 0 else f"{e} - {c.integer(0, 9)} >= 0")
    return "affine_set<(i, j)[nq, nk] : (" + ", ".join(parts) + ")>"


def _remap(c: Chooser, sub: Callable[[], str], depth: int) -> str:
    maps = ["x floordiv 4", "x mod 4", "x floordiv 3", "x mod 5", "x - 3", "x + 2", "x * 2", "-x"]
    count = 1 if depth < 1 else c.integer(1, 2)
    chosen = [c.choice(maps) for _ in range(count)]
    return f"remap(affine_map<(x) -> ({', '.join(chosen)})>, {', '.join(sub() for _ in chosen)})"


LEAVES: dict[str, Callable[[Chooser], str]] = {
    "full": lambda c: "full",
    "causal": lambda c: c.choice(["causal", "causal", "causal(1)", "causal(-2)", "causal(5)"]),
    "window": _window,
    "stride": _stride,
    "block": lambda c: f"block({c.choice([1, 2, 3, 4, 7, 8, 16])})",
    "keys": lambda c: f"keys({_range_list(c, True)})",
    "queries": lambda c: f"queries({_range_list(c, True)})",
    "global_tokens": lambda c: f"global_tokens({_range_list(c, False)})",
    "key_mod": _mod("key_mod"),
    "query_mod": _mod("query_mod"),
    "offsets": _offsets,
    "neighborhood": _neighborhood,
    "past_blocks": _past_blocks,
    "parent": lambda c: f"parent({c.choice([1, 2, 3, 4])})",
    "random_blocks": lambda c: f"random_blocks({c.integer(2, 9)}, {c.integer(0, 4)}, {c.integer(0, 99)})",
    "affine_set": _affine_set,
    "holds": lambda c: f"holds(b, h, i, j : {condition(c)})",
}
"""A random instance of each primitive without children."""

NODES: dict[str, Callable[[Chooser, Callable[[], str], int], str]] = {
    "coarse": lambda c, sub, depth: (
        f"coarse({c.integer(1, 6)}, {sub()})"
        if c.integer(0, 1)
        else f"coarse({c.integer(1, 6)}, {c.integer(1, 6)}, {sub()})"
    ),
    "grid": lambda c, sub, depth: f"grid({c.integer(2, 8)}, {sub()}, {sub()})",
    "remap": _remap,
    "shift": lambda c, sub, depth: f"shift({c.integer(-5, 9)}, {sub()})",
    "per_head": lambda c, sub, depth: (
        "per_head([" + ", ".join(sub() for _ in range(c.integer(1, 3))) + "])"
    ),
    "not": lambda c, sub, depth: f"~({sub()})",
    "and": lambda c, sub, depth: f"({sub()}) & ({sub()})",
    "or": lambda c, sub, depth: f"({sub()}) | ({sub()})",
    "sub": lambda c, sub, depth: f"({sub()}) - ({sub()})",
}
"""A random instance of each pattern with children."""

_OPERATORS = ("and", "or", "sub", "not")


def text(
    c: Chooser,
    depth: int,
    leaves: Sequence[str] | None = None,
    nodes: Sequence[str] | None = None,
) -> str:
    """A pattern of at most `depth` levels above its leaves."""
    leaves = list(leaves if leaves is not None else LEAVES)
    nodes = list(nodes if nodes is not None else NODES)
    if depth == 0 or not nodes or c.integer(0, 5) == 0:
        return LEAVES[c.choice(leaves)](c)
    # Operators are what combines: they come as often as everything else.
    operators = [x for x in nodes if x in _OPERATORS]
    kind = c.choice(operators) if operators and c.integer(0, 1) else c.choice(nodes)
    return NODES[kind](c, lambda: text(c, depth - 1, leaves, nodes), depth)


def seeded(seed: int, depth: int, **kinds: Any) -> str:
    """The pattern text of a seed."""
    return text(Seeded(seed), depth, **kinds)


@st.composite
def texts(draw: Any, depth: int = 3, **kinds: Any) -> str:
    """Hypothesis strategy of pattern texts."""
    return text(Drawn(draw), depth, **kinds)
