"""BigBird: a window of blocks, random blocks, and global blocks at both ends."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "BigBird"
SPEC = "coarse(b, window(1, 1) | listed(%random)) | global_tokens([0 to b, end - b to end]); or random_blocks"
COST = "O(n b)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"listed": {"drawn": False}, "drawn": {"drawn": True}}
B, RANDOM, SEED = 8, 2, 5


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, drawn: bool) -> tuple[Any, ...]:
    n = max(-(-n // B), 8) * B
    blocks = n // B
    chosen = np.full((1, 2, blocks, RANDOM), -1, np.int32)
    for h, u in np.ndindex(2, blocks):
        free = [w for w in range(1, blocks - 1) if abs(w - u) > 1]  # neither window nor global
        if 0 < u < blocks - 1:
            chosen[0, h, u] = rng.permutation(free)[:RANDOM]
    if drawn:  # what random_blocks draws, which docs/spec.md defines
        chosen = hd.random_blocks(1, RANDOM, SEED).mask(blocks, blocks)
    return *(rows(rng, 2, 2, n, 32) for _ in range(3)), chosen


def run(q: Any, k: Any, v: Any, chosen: Any, drawn: bool) -> Any:
    ends = hd.global_tokens([(0, B), (hd.end - B, hd.end)])
    if drawn:
        return hd.attend(q, k, v, where=hd.coarse(B, hd.window(1, 1)) | hd.random_blocks(B, RANDOM, SEED) | ends)
    return hd.attend(q, k, v, where=hd.coarse(B, hd.window(1, 1) | hd.listed(chosen)) | ends)
