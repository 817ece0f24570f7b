"""Linformer: keys and values projected along the sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Linformer"
SPEC = "seg(project(k, E), project(v, F), full)"
COST = "O(n k)"
VARIANTS: dict[str, dict[str, Any]] = {"shared": {"heads": 0}, "headwise": {"heads": 2}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, heads: int) -> tuple[Any, ...]:
    q, k, v = (rows(rng, 2, 2, n, 32) for _ in range(3))
    shape = (heads, n, 16) if heads else (n, 16)
    return q, k, v, rows(rng, *shape) / n**0.5, rows(rng, *shape) / n**0.5


@hd.kernel
def linformer(q: Any, k: Any, v: Any, e: Any, f: Any) -> Any:
    return hd.attend(q, hd.project(k, e), hd.project(v, f))


def run(q: Any, k: Any, v: Any, e: Any, f: Any, **_: Any) -> Any:
    return linformer(q, k, v, e, f)
