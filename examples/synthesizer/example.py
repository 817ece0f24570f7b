"""Synthesizer: scores loaded from a matrix, from its factors, or mixed with the dot."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Synthesizer"
SPEC = "score loaded from the matrix / its factors / mixed with the dot"
COST = "O(n^2)"
KINDS = ("dense", "random", "factorised random", "factorised dense", "mixture", "plus", "causal")
VARIANTS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in KINDS}
BLOCK = 8


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    q, k, v = (rows(rng, 2, 2, n, 32) for _ in range(3))
    shapes = {
        "dense": [(2, 2, n, n)], "random": [(2, n, n)], "mixture": [(2, n, n)],
        "plus": [(2, n, n)], "causal": [(2, 2, n, n)],
        "factorised random": [(1, 2, n, 8), (1, 2, n, 8)],
        "factorised dense": [(2, 2, n, -(-n // BLOCK)), (2, 2, n, BLOCK)],
    }  # fmt: skip
    return q, k, v, *(rows(rng, *shape) for shape in shapes[kind])


def run(q: Any, k: Any, v: Any, r: Any, *rest: Any, kind: str) -> Any:
    R = hd.tensor(r)
    if kind == "mixture":
        return hd.attend(q, k, v, score=lambda s, b, h, i, j: 0.75 * s + 0.25 * R[h, i, j])
    if kind == "plus":
        return hd.attend(q, k, v, score=lambda s, b, h, i, j: s + R[h, i, j])
    if kind == "factorised random":
        r1, r2 = (np.broadcast_to(x, (q.shape[0], *x.shape[1:])) for x in (r, rest[0]))
        return hd.attend(q, segments=[hd.segment(k, v, dots=[(r1, r2)], scale=1.0)])
    if kind == "factorised dense":
        inner = hd.tensor(rest[0])
        score = lambda b, h, i, j: R[b, h, i, j // BLOCK] * inner[b, h, i, j % BLOCK]  # noqa: E731
    elif kind in ("dense", "causal"):
        score = lambda b, h, i, j: R[b, h, i, j]  # noqa: E731
    else:
        score = lambda b, h, i, j: R[h, i, j]  # noqa: E731
    where = hd.causal if kind == "causal" else hd.full
    return hd.attend(q, segments=[hd.segment(k, v, where, score=score, dots=[])])


SPEC_VARIANT = "random"
