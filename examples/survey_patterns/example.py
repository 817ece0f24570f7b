"""The fixed patterns that surveys list: blockwise, strided, compressed."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "blockwise, strided, compressed (survey)"
SPEC = "block(b) / stride(s) / seg(pool(k, b), pool(v, b), full)"
COST = "O(n b), O(n^2 / s), O(n^2 / b)"
VARIANTS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in ("blockwise", "strided", "compressed", "heads")}
B, S = 16, 7


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


@hd.kernel
def compressed(q: Any, k: Any, v: Any) -> Any:
    return hd.attend(q, hd.pool(k, "mean", B, partial=True), hd.pool(v, "mean", B, partial=True))


def run(q: Any, k: Any, v: Any, kind: str) -> Any:
    if kind == "compressed":
        return compressed(q, k, v)
    where = {"blockwise": hd.block(B), "strided": hd.stride(S), "heads": hd.per_head([hd.block(B), hd.stride(S)])}
    return hd.attend(q, k, v, where=where[kind])
