"""Combiner-Fixed: tokens of the own segment and attention summaries of earlier ones."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Combiner Fixed"
SPEC = "seg(k, v, causal & block(s)) + seg(pool_max(k), attend(pool_max(q), k, v, parent(s)), past_blocks(s))"
COST = "O(n sqrt n)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
S = 16


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


@hd.kernel
def combiner(q: Any, k: Any, v: Any) -> Any:
    values = hd.attend(hd.pool(q, "max", S), k, v, where=hd.parent(S), q_offset=0)
    own = hd.segment(k, v, hd.causal & hd.block(S))
    past = hd.segment(hd.pool(k, "max", S), values, hd.past_blocks(S))
    return hd.attend(q, segments=[own, past], q_offset=0)


def run(q: Any, k: Any, v: Any) -> Any:
    return combiner(q, k, v)
