"""Knowledge tracing: causal, or strictly past."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "knowledge tracing"
SPEC = "causal, or strictly past: causal(1)"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {"strict": {"lag": 1}, "inclusive": {"lag": 0}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, **_: Any) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


def run(q: Any, k: Any, v: Any, lag: int) -> Any:
    return hd.attend(q, k, v, where=hd.causal(lag))
