"""Sparse Transformer: strided and fixed."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Sparse Transformer"
SPEC = "causal & (window(l-1, 0) | stride(l)); causal & (block(l) | key_mod(l, l-c, l))"
COST = "O(n sqrt n)"
VARIANTS: dict[str, dict[str, Any]] = {x: {"kind": x} for x in ("strided", "fixed", "heads", "fixed heads", "paper")}
L, C = 12, 3


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


def pattern(kind: str) -> hd.Pattern:
    if kind == "strided":
        return hd.causal & (hd.window(L - 1, 0) | hd.stride(L))
    if kind == "fixed":
        return hd.causal & (hd.block(L) | hd.key_mod(L, L - C, L))
    if kind == "fixed heads":  # each head its own c columns of the block, counted from its end
        return hd.causal & hd.per_head([hd.block(L) | hd.key_mod(L, L - C * m, L - C * (m - 1)) for m in (1, 2)])
    if kind == "paper":  # the local part as printed, with l + 1 entries
        return hd.causal & (hd.window(L, 0) | hd.stride(L))
    # Heads with one half of the strided pattern each.
    return hd.per_head([hd.window(L - 1, 0), hd.causal & hd.stride(L)])


def run(q: Any, k: Any, v: Any, kind: str) -> Any:
    return hd.attend(q, k, v, where=pattern(kind))
