"""Image Transformer: local attention in one and two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Image Transformer 1-D, 2-D"
SPEC = "causal & (block(B) | coarse(B, offsets([1]))); 2-D in raster order of blocks"
COST = "O(n B)"
VARIANTS: dict[str, dict[str, Any]] = {"1d": {"kind": "1d"}, "1d full": {"kind": "1d full"}, "2d": {"kind": "2d"}}
B, FILTER = 16, 5
ACROSS, BLOCK, FLANGE = 3, 4, (2, 3)


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 32) for _ in range(3))


def seen(b: Any, h: Any, i: Any, j: Any) -> Any:
    """2-D, masked: positions count through blocks in raster order, and in raster order inside of a block."""

    def place(p: Any) -> tuple[Any, Any, Any]:
        block, inside = p // (BLOCK * BLOCK), p % (BLOCK * BLOCK)
        return block, block // ACROSS * BLOCK + inside // BLOCK, block % ACROSS * BLOCK + inside % BLOCK

    (mine, _, _), (other, y, x) = place(i), place(j)
    top, left = mine // ACROSS * BLOCK, mine % ACROSS * BLOCK
    above = (top - FLANGE[0] <= y) & (y < top) & (left - FLANGE[1] <= x) & (x < left + BLOCK + FLANGE[1])
    beside = (top <= y) & (y < top + BLOCK) & (left - FLANGE[1] <= x) & (x < left)
    return ((mine == other) & (j <= i)) | above | beside


def pattern(kind: str) -> hd.Pattern:
    if kind == "1d":
        return hd.causal & (hd.block(B) | hd.coarse(B, hd.offsets([1])))
    if kind == "1d full":
        return hd.holds(lambda b, h, i, j: (j >= i // B * B - FILTER) & (j < i // B * B + B + FILTER))
    return hd.holds(seen)


def run(q: Any, k: Any, v: Any, kind: str) -> Any:
    return hd.attend(q, k, v, where=pattern(kind))
