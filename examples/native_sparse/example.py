"""Native sparse attention: compressed blocks, selected blocks and a window, mixed by gates."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Native sparse attention (NSA)"
SPEC = "g1 attend(past_blocks over convolve(k)) + g2 attend(coarse(1, b, listed(%top)) & causal) + g3 attend(window)"
COST = "O(n^2 / s + n (t b + w))"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
SIZE, STRIDE, BLOCK, TOP, W = 8, 4, 16, 3, 20


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    q, k, v = rows(rng, 2, 4, n, 32), rows(rng, 2, 2, n, 32), rows(rng, 2, 2, n, 32)
    wk, wv = (rows(rng, 2, SIZE, 32, 32) / 16 for _ in range(2))
    blocks = -(-n // BLOCK)
    # Of the host, by the compressed scores: the own block, the first one, and others; -1 where there are fewer.
    top = np.full((2, 2, n, TOP), -1)
    for b, h, i in np.ndindex(2, 2, n):
        own = i // BLOCK
        others = rng.permutation(blocks)
        chosen = list(dict.fromkeys([own, 0, *(int(u) for u in others if u < own)]))[:TOP]
        top[b, h, i, : len(chosen)] = chosen
    gates = 1 / (1 + np.exp(-rows(rng, 3, 2, 4, n, 1)))
    return q, k, v, wk, wv, np.repeat(top, 2, 1).astype(np.int32), *gates


@hd.kernel
def attention(q: Any, k: Any, v: Any, wk: Any, wv: Any, top: Any, g1: Any, g2: Any, g3: Any) -> Any:
    short = hd.convolve(k, wk, stride=STRIDE), hd.convolve(v, wv, stride=STRIDE)
    far = hd.attend(q, *short, where=hd.past_blocks(STRIDE, SIZE, inclusive=True), q_offset=0)
    chosen = hd.attend(q, k, v, where=hd.coarse(1, BLOCK, hd.listed(top)) & hd.causal)
    near = hd.attend(q, k, v, where=hd.window(W - 1, 0))
    return far * g1 + chosen * g2 + near * g3


def run(*args: Any) -> Any:
    return attention(*args)
