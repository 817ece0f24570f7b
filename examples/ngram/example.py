"""N-gram masked self-attention: the last N - 1 inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "N-gram masked"
SPEC = "window(N-2, 0)"
COST = "O(n N)"
VARIANTS: dict[str, dict[str, Any]] = {"5-gram": {"order": 5}, "8-gram": {"order": 8}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, order: int) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


def run(q: Any, k: Any, v: Any, order: int) -> Any:
    return hd.attend(q, k, v, where=hd.window(order - 2, 0))
