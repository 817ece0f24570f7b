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


def blocks() -> hd.Pattern:
    """2-D, masked: positions count through blocks in raster order, and in raster order inside of a block.

    A query sees its own block up to itself, and of the blocks above and to the left what lies within the flange.
    """
    size = BLOCK * BLOCK
    above = hd.key_mod(size, size - FLANGE[0] * BLOCK, size)  # the last rows of a block
    left, right = hd.key_mod(BLOCK, BLOCK - FLANGE[1], BLOCK), hd.key_mod(BLOCK, 0, FLANGE[1])  # its columns

    def at(down: int, across: int) -> hd.Pattern:
        """Keys in the block so far up and to the left."""
        return hd.coarse(size, hd.grid(ACROSS, hd.offsets([down]), hd.offsets([across])))

    own = hd.causal & hd.block(size)
    return own | (at(1, 0) & above) | (at(1, 1) & above & left) | (at(1, -1) & above & right) | (at(0, 1) & left)


def pattern(kind: str) -> hd.Pattern:
    if kind == "1d":
        return hd.causal & (hd.block(B) | hd.coarse(B, hd.offsets([1])))
    if kind == "1d full":
        return hd.holds(lambda b, h, i, j: (j >= i // B * B - FILTER) & (j < i // B * B + B + FILTER))
    return blocks()


def run(q: Any, k: Any, v: Any, kind: str) -> Any:
    return hd.attend(q, k, v, where=pattern(kind))
