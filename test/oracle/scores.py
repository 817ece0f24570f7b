"""Score functions, each written once for the judge and for the kernel.

``SCORES[name](ns, heads)`` gives the function; `ns` is `oracle.scalars` or the
package under test (both have ``tensor``, ``tanh``, ``select`` and so on).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def alibi(ns: Any, heads: int) -> Callable[..., Any]:
    """Linear bias with a slope for each head."""
    slope = ns.tensor((2.0 ** -(8.0 / heads * np.arange(1, heads + 1))).astype(np.float32))
    return lambda s, b, h, i, j: s - slope[h] * (i - j)


def softcap(ns: Any, heads: int) -> Callable[..., Any]:
    """Scores bounded by a hyperbolic tangent."""
    return lambda s, b, h, i, j: 5.0 * ns.tanh(s / 5.0)


def relative(ns: Any, heads: int) -> Callable[..., Any]:
    """A table of biases by head and clamped distance."""
    rng = np.random.default_rng(5)
    table = ns.tensor(rng.standard_normal((heads, 33)).astype(np.float32))
    return lambda s, b, h, i, j: s + table[h, ns.minimum(ns.maximum(j - i + 16, 0), 32)]


def clamped(ns: Any, heads: int) -> Callable[..., Any]:
    """The same table with indices out of range, which are clamped."""
    rng = np.random.default_rng(5)
    table = ns.tensor(rng.standard_normal((heads, 33)).astype(np.float32))
    return lambda s, b, h, i, j: s + table[h, j - i + 16]


def matrix(ns: Any, heads: int) -> Callable[..., Any]:
    """A learned matrix of biases by positions."""
    rng = np.random.default_rng(6)
    table = ns.tensor(rng.standard_normal((1100, 1100)).astype(np.float32))
    return lambda s, b, h, i, j: s + table[i, j]


def by_key(ns: Any, heads: int) -> Callable[..., Any]:
    """A bias of the key alone."""
    rng = np.random.default_rng(7)
    table = ns.tensor(rng.standard_normal(1100).astype(np.float32))
    return lambda s, b, h, i, j: s + table[j]


def by_query(ns: Any, heads: int) -> Callable[..., Any]:
    """A temperature of the query alone."""
    rng = np.random.default_rng(8)
    table = ns.tensor((0.5 + rng.random(1100)).astype(np.float32))
    return lambda s, b, h, i, j: s * table[i]


def selected(ns: Any, heads: int) -> Callable[..., Any]:
    """Scores halved on even distances, none at all at distance five."""
    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        halved = ns.select((i - j) % 2 == 0, 0.5 * s, s)
        return ns.select(i - j == 5, float("-inf"), halved)

    return score


def functions(ns: Any, heads: int) -> Callable[..., Any]:
    """Every scalar function, each kept in a tame range."""

    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        x = ns.clamp(s, -3.0, 3.0)
        t = ns.exp(0.1 * x) + ns.exp2(0.1 * x) + ns.log(x * x + 1.0) + ns.sqrt(x * x + 0.5)
        t = t + ns.tanh(x) + ns.abs(x) + ns.sigmoid(x) + ns.erf(x) + ns.sin(x) + ns.cos(x)
        return s + 0.1 * t + 0.01 * ns.floor((i - j) / 3.0) + 0.1 * ns.maximum(h, b) - ns.minimum(x, 1.0)

    return score


SCORES = {
    f.__name__: f
    for f in (alibi, softcap, relative, clamped, matrix, by_key, by_query, selected, functions)
}
