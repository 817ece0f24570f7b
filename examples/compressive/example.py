"""Compressive Transformer: compressed memory, memory and sequence under one softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Compressive"
SPEC = "segments [pool(old), memory, x], causal, dots(q+u, k; q+w, r[i - j])"
COST = "O(n (n + mem + cmem))"
VARIANTS: dict[str, dict[str, Any]] = {"mean": {"pool": "mean"}, "max": {"pool": "max"}}
OLD, C, MEM = 24, 3, 10


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, pool: str) -> tuple[Any, ...]:
    old, memory, now = ([rows(rng, 2, 2, m, 32) for _ in range(2)] for m in (OLD, MEM, n))
    r = rows(rng, 1, 2, OLD // C + MEM + n, 32)
    return rows(rng, 2, 2, n, 32), *old, *memory, *now, r, rows(rng, 2, 1, 32), rows(rng, 2, 1, 32)


def run(q: Any, ko: Any, vo: Any, km: Any, vm: Any, k: Any, v: Any, r: Any, u: Any, w: Any, pool: str) -> Any:
    kc, vc = hd.pool(ko, pool, C), hd.pool(vo, pool, C)
    compressed = OLD // C
    second = (q + w, hd.relative(r))

    def part(keys: Any, values: Any, first: int) -> Any:
        return hd.segment(keys, values, hd.causal, k_offset=first, dots=[(q + u, keys), second])

    parts = [part(kc, vc, 0), part(km, vm, compressed), part(k, v, compressed + MEM)]
    return hd.attend(q, segments=parts, q_offset=compressed + MEM)


def spec_args(q: Any, *rest: Any) -> tuple[Any, ...]:
    *kv, r, u, w = rest
    return q + u, q + w, *kv, r
