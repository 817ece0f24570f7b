"""Combiner-Logsparse: one summary segment for each power of two."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Combiner Logsparse"
SPEC = "one summary segment per level l: coarse(2^l, 1, offsets([1])) & query_mod(2^(l+1), 2^l, 2^(l+1))"
COST = "O(n log n)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
LEVELS = 8  # up to 256 tokens


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, **_: Any) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


@hd.kernel
def combiner(q: Any, k: Any, v: Any, levels: int) -> Any:
    raw = hd.offsets([0]) | (hd.offsets([1]) & hd.query_mod(2, 1, 2))
    segments = [hd.segment(k, v, raw)]
    for level in range(1, levels):
        size = 2**level
        values = hd.attend(hd.pool(q, "max", size), k, v, where=hd.parent(size), q_offset=0)
        where = hd.coarse(size, 1, hd.offsets([1])) & hd.query_mod(2 * size, size, 2 * size)
        segments.append(hd.segment(hd.pool(k, "max", size), values, where))
    return hd.attend(q, segments=segments, q_offset=0)


def run(q: Any, k: Any, v: Any) -> Any:
    return combiner(q, k, v, LEVELS)


SPEC_LENGTHS = (1, 2, 3)  # the spec has one level of summaries
