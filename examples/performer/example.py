"""Performer: positive random features of the softmax kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Performer (FAVOR+)"
SPEC = "linear_attend(phi(q), phi(k), v), phi(x) = exp(convolve(x, w) - |x|^2 / 2) + eps"
COST = "O(n m)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"causal": {"causal": True}, "full": {"causal": False}}
FEATURES, EPS = 24, 1e-4


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    return *(rows(rng, 2, 2, n, 32) for _ in range(3)), rows(rng, 1, 1, 32, FEATURES)


@hd.kernel
def attention(q: Any, k: Any, v: Any, w: Any, halves: Any, causal: bool) -> Any:
    # x / d^(1/4) in the small tensors that it meets.
    w, halves = w * 32**-0.25, halves * 32**-0.5

    def features(x: Any) -> Any:
        half = hd.convolve(x * x, halves)  # |x|^2 / 2: products with a column of halves
        return hd.elementwise(lambda a, b: hd.exp(a - b) + EPS, hd.convolve(x, w), half)

    return hd.linear_attend(features(q), features(k), v, causal=causal)


def run(q: Any, k: Any, v: Any, w: Any, causal: bool) -> Any:
    return attention(q, k, v, w, np.full((1, 1, 32, 1), 0.5, np.float32), causal)


def spec_args(q: Any, k: Any, v: Any, w: Any) -> tuple[Any, ...]:
    def features(x: Any) -> Any:
        x = x * 32**-0.25
        return np.exp(x @ w[0, 0] - (x * x).sum(-1, keepdims=True) / 2) + np.float32(EPS)

    return features(q), features(k), v
