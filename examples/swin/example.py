"""Swin: windows of an image, shifted in every other layer, with a learned bias by the offset of rows and columns."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Swin Transformer"
SPEC = "grid(W, shift(s, block(m)), shift(s, block(m))), bias loaded by both offsets"
COST = "O(n m^2)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"windows": {"shift": 0}, "shifted": {"shift": 2}}
W, M = 12, 4  # width of the image, side of a window


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, shift: int) -> tuple[Any, ...]:
    n = -(-n // (W * M)) * W * M  # whole windows
    return *(rows(rng, 2, 2, n, 32) for _ in range(3)), rows(rng, 2, 2 * M - 1, 2 * M - 1)


@hd.kernel
def attention(q: Any, k: Any, v: Any, table: Any, shift: int) -> Any:
    # Windows of a shifted image are cut off at its borders: the authors roll the image around and mask what met.
    side = hd.shift(shift, hd.block(M))

    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return s + table[h, i // W - j // W + M - 1, i % W - j % W + M - 1]

    return hd.attend(q, k, v, where=hd.grid(W, side, side), score=score)


def run(q: Any, k: Any, v: Any, table: Any, shift: int) -> Any:
    return attention(q, k, v, table, shift)


SPEC_VARIANT = "shifted"
