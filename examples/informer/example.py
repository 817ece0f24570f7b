"""Informer: a few rows attend, the others take the mean or the running sum of V."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Informer ProbSparse"
SPEC = "gather_rows(top-u), attend, scatter_rows over mean(v) or cumsum(v)"
COST = "O(n log n)"
VARIANTS: dict[str, dict[str, Any]] = {"full": {"masked": False}, "masked": {"masked": True}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, masked: bool) -> tuple[Any, ...]:
    q, k, v = (rows(rng, 2, 2, n, 32) for _ in range(3))
    u = min(n, 5 * int(np.ceil(np.log(n + 1))))
    top = np.stack([rng.permutation(n)[:u] for _ in range(4)]).reshape(2, 2, u).astype(np.int64)
    return q, k, v, top


@hd.kernel
def full(q: Any, k: Any, v: Any, top: Any, base: Any) -> Any:
    return hd.scatter_rows(hd.attend(hd.gather_rows(q, top), k, v), top, base)


@hd.kernel
def masked_rows(q: Any, k: Any, v: Any, top: Any, base: Any) -> Any:
    past = hd.holds(lambda b, h, i, j: j <= top[b, h, i])
    return hd.scatter_rows(hd.attend(hd.gather_rows(q, top), k, v, where=past, q_offset=0), top, base)


def run(q: Any, k: Any, v: Any, top: Any, masked: bool) -> Any:
    base = v.cumsum(2) if masked else np.broadcast_to(v.mean(2, keepdims=True), v.shape)
    return (masked_rows if masked else full)(q, k, v, top, np.ascontiguousarray(base, np.float32))


def spec_args(q: Any, k: Any, v: Any, top: Any) -> tuple[Any, ...]:
    return q, k, v, top, np.ascontiguousarray(np.broadcast_to(v.mean(2, keepdims=True), v.shape))
