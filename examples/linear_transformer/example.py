"""Linear Transformer: elu + 1 feature maps, all keys or causal."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Linear Transformer"
SPEC = "linear_attend with elu + 1"
COST = "O(n)"
VARIANTS: dict[str, dict[str, Any]] = {"causal": {"causal": True}, "full": {"causal": False}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


def phi(x: Any) -> Any:
    return hd.select(x > 0, x + 1, hd.exp(x))


def run(q: Any, k: Any, v: Any, causal: bool) -> Any:
    return hd.linear_attend(q, k, v, feature=phi, causal=causal, eps=1e-6)
