"""Memory compressed attention: strided convolutions of K and V, visible once they are past."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Memory Compressed"
SPEC = "seg(null) + seg(convolve(k, 3, 3), convolve(v, 3, 3), past_blocks(3))"
COST = "O(n^2 / 3)"
VARIANTS: dict[str, dict[str, Any]] = {x: {"rule": x} for x in ("strictly past", "inclusive", "local")}
LOCAL = 16  # 256 in the paper


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, rule: str) -> tuple[Any, ...]:
    q, k, v = (rows(rng, 2, 2, n, 32) for _ in range(3))
    wk, wv = (rows(rng, 2, 3, 32, 32) / 10 for _ in range(2))
    bk, bv = rows(rng, 2, 32), rows(rng, 2, 32)
    return q, k, v, wk, bk, wv, bv, rows(rng, 1, 2, 1, 32), rows(rng, 1, 2, 1, 32)


@hd.kernel
def inclusive(q: Any, k: Any, v: Any, wk: Any, bk: Any, wv: Any, bv: Any, k0: Any, v0: Any, pad: int) -> Any:
    # Zeros before the sequence make whole blocks; block m ends at token 3 m + 2 - pad.
    past = hd.shift(-pad, hd.past_blocks(3, inclusive=True))
    keys, values = (hd.convolve(x, *w, offset=-pad) for x, w in ((k, (wk, bk)), (v, (wv, bv))))
    return hd.attend(q, segments=[hd.segment(k0, v0), hd.segment(keys, values, past, k_offset=-pad)], q_offset=0)


@hd.kernel
def compressed(q: Any, k: Any, v: Any, wk: Any, bk: Any, wv: Any, bv: Any, k0: Any, v0: Any) -> Any:
    null = hd.segment(k0, v0)
    past = hd.segment(hd.convolve(k, wk, bk), hd.convolve(v, wv, bv), hd.past_blocks(3))
    return hd.attend(q, segments=[null, past], q_offset=0)


def run(q: Any, k: Any, v: Any, *rest: Any, rule: str = "strictly past") -> Any:
    if rule == "local":  # the layers between: blocks that see only themselves
        return hd.attend(q, k, v, where=hd.causal & hd.block(LOCAL))
    return inclusive(q, k, v, *rest, -q.shape[2] % 3) if rule == "inclusive" else compressed(q, k, v, *rest)
