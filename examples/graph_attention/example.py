"""Graph attention with features of the edges: additive scores, LeakyReLU, a softmax over each node's neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "graph attention (GAT) with edge features"
SPEC = "edges as keys: between(%first, %end), score leaky(a_i + c_j + e) loaded, values gather_rows(v, idx)"
COST = "O(edges)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
SLOPE = 0.2


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    degree = rng.integers(0, min(n, 6) + 1, n)
    ptr = np.concatenate([[0], np.cumsum(degree)])
    idx = np.concatenate([np.zeros(0, np.int64), *(rng.permutation(n)[:m] for m in degree)]).astype(np.int64)
    return rows(rng, 2, 2, n, 32), rows(rng, 2, 2, n), rows(rng, 2, 2, n), rows(rng, 2, len(idx)), ptr, idx


@hd.kernel
def attention(v: Any, a: Any, c: Any, e: Any, first: Any, end: Any, idx: Any) -> Any:
    def score(b: Any, h: Any, i: Any, j: Any) -> Any:
        x = a[b, h, i] + c[b, h, idx[0, j]] + e[h, j]
        return hd.select(x > 0, x, SLOPE * x)

    # A key is an edge, so the score knows which one: the edges of a node are a range.
    values = hd.gather_rows(v, idx)
    return hd.attend(v, segments=[hd.segment(values, values, hd.between(first, end), score=score, dots=[])], q_offset=0)


def run(v: Any, a: Any, c: Any, e: Any, ptr: Any, idx: Any) -> Any:
    return attention(v, a, c, e, ptr[None, :-1], ptr[None, 1:], idx[None])


def spec_args(v: Any, a: Any, c: Any, e: Any, ptr: Any, idx: Any) -> tuple[Any, ...]:
    return v, a, c, e, ptr[None, :-1], ptr[None, 1:], idx[None]
