"""Lite Transformer: half attention, half dynamic convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Lite Transformer LSRA"
SPEC = "half the channels attend, half seg(x, window(P, K-1-P)) with loaded taps, normaliser none"
COST = "O(n^2 + n K)"
VARIANTS: dict[str, dict[str, Any]] = {"causal": {"causal": True}, "full": {"causal": False}}
K = 7


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    q, k, v, x = (rows(rng, 2, 2, n, 32) for _ in range(4))
    taps = np.exp(rows(rng, 2, 2, n, K))
    return q, k, v, x, taps / taps.sum(-1, keepdims=True)


def run(q: Any, k: Any, v: Any, x: Any, taps: Any, causal: bool) -> Any:
    before = K - 1 if causal else K // 2
    tap = hd.tensor(taps)
    where = hd.window(before, K - 1 - before)
    near = hd.segment(x, x, where, score=lambda b, h, i, j: tap[b, h, i, j - i + before], dots=[])
    mixed = hd.attend(q, segments=[near], normalizer="none")
    return np.concatenate([hd.attend(q, k, v, where=hd.causal if causal else hd.full), mixed], -1)


def spec_args(q: Any, k: Any, v: Any, x: Any, taps: Any) -> tuple[Any, ...]:
    return q, k, v, x, taps


def from_spec(out: Any, *_: Any) -> Any:
    return np.concatenate(out, -1)
