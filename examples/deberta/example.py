"""DeBERTa's disentangled attention: content to content, content to position, position to content."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "DeBERTa (disentangled attention)"
SPEC = "dots(q, k; q, rk[i - j + K]), score + (k rq^T)[j, clamp(j - i + K)]"
COST = "O(n^2)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"paper": {"swapped": True}, "package": {"swapped": False}}
K = 6  # distances with rows of their own: -K to K - 1


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, swapped: bool) -> tuple[Any, ...]:
    return *(rows(rng, 2, 2, n, 32) for _ in range(3)), rows(rng, 2, 2 * K, 32), rows(rng, 2, 2 * K, 32)


@hd.kernel
def attention(q: Any, k: Any, v: Any, by_query: Any, by_key: Any, swapped: bool) -> Any:
    scale = (3 * q.shape[3]) ** -0.5
    products = hd.convolve(k, by_key * scale)  # of each key with the row of each distance

    def score(s: Any, t: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        apart = j - i if swapped else i - j
        return s + t + products[b, h, j, hd.clamp(apart + K, 0, 2 * K - 1)]

    dots = [(q, k), (q, hd.relative(by_query, K))]
    return hd.attend(q, segments=[hd.segment(k, v, dots=dots, score=score, scale=scale)], q_offset=0)


def places(rk: Any, rq: Any) -> tuple[Any, ...]:
    """Rows for the second dot, and columns for the product with the keys."""
    return rk[None], np.ascontiguousarray(rq.swapaxes(-1, -2))[:, None]


def run(q: Any, k: Any, v: Any, rk: Any, rq: Any, swapped: bool) -> Any:
    return attention(q, k, v, *places(rk, rq), swapped)


def spec_args(q: Any, k: Any, v: Any, rk: Any, rq: Any) -> tuple[Any, ...]:
    by_query, by_key = places(rk, rq)
    return q, k, v, by_query, by_key * np.float32((3 * 32) ** -0.5)
