"""Transformer-XH: dense attention in a sequence, and a graph on the first tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Transformer-XH"
SPEC = "csr(%ptr, %idx) on the first rows"
COST = "O(n L + edges)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
LENGTH = 6


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    q, k, v = (rows(rng, n, 2, LENGTH, 32) for _ in range(3))
    degree = rng.integers(0, min(n, 5) + 1, n)
    ptr = np.concatenate([[0], np.cumsum(degree)])
    idx = np.concatenate([np.zeros(0, np.int64), *(rng.permutation(n)[:m] for m in degree)])
    return q, k, v, ptr.astype(np.int64), idx.astype(np.int64), rows(rng, 64, 32) / 8


def nodes(x: Any) -> Any:
    """Row 0 of every sequence, [T, H, L, D], as one sequence of nodes, [1, H, T, D]."""
    return np.ascontiguousarray(x[:, :, 0].swapaxes(0, 1))[None]


def join(out: Any, hops: Any, w: Any) -> Any:
    """Row 0 becomes Linear([h; hop]), in place."""
    out[:, :, 0] = np.concatenate([out[:, :, 0], hops[0].swapaxes(0, 1)], -1) @ w
    return out


def run(q: Any, k: Any, v: Any, ptr: Any, idx: Any, w: Any) -> Any:
    hops = hd.attend(nodes(q), nodes(k), nodes(v), where=hd.csr(ptr, idx))
    return join(hd.attend(q, k, v), hops, w)


def spec_args(q: Any, k: Any, v: Any, ptr: Any, idx: Any, w: Any) -> tuple[Any, ...]:
    return nodes(q), nodes(k), nodes(v), ptr, idx


def from_spec(hops: Any, q: Any, k: Any, v: Any, ptr: Any, idx: Any, w: Any) -> Any:
    return join(hd.attend(q, k, v), hops, w)
