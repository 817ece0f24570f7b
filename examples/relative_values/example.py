"""Relative position representations (Shaw et al.): learned rows by distance on the keys and on the values."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "relative position representations"
SPEC = "dots(q, k; q, r[i - j + K]), and weights exp(s - lse) of each near distance times its row, normaliser none"
COST = "O(n^2)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"full": {"causal": False}, "causal": {"causal": True}}
K = 3  # largest distance with a row of its own


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    return *(rows(rng, 2, 2, n, 32) for _ in range(3)), rows(rng, 1, 1, 2 * K + 1, 32), rows(rng, 2 * K + 1, 32)


@hd.kernel
def attention(q: Any, k: Any, v: Any, by_key: Any, base: Any, causal: bool, *by_value: Any) -> Any:
    dots = [(q, k), (q, hd.relative(by_key, K))]
    past = hd.causal if causal else hd.full
    out, lse = hd.attend(q, segments=[hd.segment(k, v, past, dots=dots)], return_lse=True)

    def weight(s: Any, t: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return hd.exp(s + t - lse[b, h, i])

    # Every pair of one distance has the same row: a segment whose values are that row throughout. Weights add up to
    # 1, so pairs at K or more have their row in `base`, and the others what differs from it.
    segments = []
    for distance, row in zip(range(K - 1, -K - 1, -1), by_value, strict=False):
        where = ~hd.causal(1 - K) if distance == -K else hd.offsets([distance])
        if not causal or distance >= 0:
            segments.append(hd.segment(k, row, where, score=weight, dots=dots))
    return out + base + hd.attend(q, segments=segments, normalizer="none")


def run(q: Any, k: Any, v: Any, by_key: Any, by_value: Any, causal: bool) -> Any:
    # by_key, by_value: rows of the distances -K ... K of i - j.
    values = differences(q, by_value)
    by_key = np.broadcast_to(by_key, (1, q.shape[1], *by_key.shape[2:]))
    return attention(q, k, v, by_key, by_value[-1], causal, *values[: K if causal else 2 * K])


def differences(q: Any, by_value: Any) -> list[Any]:
    """From the row of K, of the distances K - 1 down to -K; one row of values for all keys, by strides of 0."""
    return [np.broadcast_to(row - by_value[-1], (1, 1, *q.shape[2:])) for row in by_value[-2::-1]]


SPEC_VARIANT = "causal"


def spec_args(q: Any, k: Any, v: Any, by_key: Any, by_value: Any) -> tuple[Any, ...]:
    by_key = np.broadcast_to(by_key, (1, q.shape[1], *by_key.shape[2:]))
    return q, k, v, by_key, by_value[-1], *differences(q, by_value)[:K]
