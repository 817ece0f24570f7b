"""Set Transformer: attention through inducing points."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Set Transformer"
SPEC = "two attends, full"
COST = "O(n m)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
SCALE = 64**-0.5  # of the whole layer: 2 heads of 32


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    points = rows(rng, 2, 2, 8, 32)
    return points, *(rows(rng, 2, 2, n, 32) for _ in range(3))


@hd.kernel
def induced(points: Any, q: Any, k: Any, v: Any) -> Any:
    summary = hd.attend(points, k, v, scale=SCALE)
    return hd.attend(q, summary, summary, scale=SCALE)


def run(points: Any, q: Any, k: Any, v: Any) -> Any:
    return induced(points, q, k, v)
