"""Longformer: a window, global columns, and global rows with projections of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Longformer"
SPEC = "(window(w, w, dilation=d_h) | keys(%global)) & keys(%valid) & queries(%valid), global rows by scatter_rows"
COST = "O(n w)"
VARIANTS: dict[str, dict[str, Any]] = {
    "window": {"dilation": (1, 1), "causal": False},
    "dilated": {"dilation": (1, 3), "causal": False},
    "autoregressive": {"dilation": (1, 2), "causal": True},
}
W, GLOBALS = 8, 3


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, dilation: tuple[int, ...], causal: bool) -> tuple[Any, ...]:
    q, k, v, qg, kg, vg = (rows(rng, 2, 2, n, 32) for _ in range(6))
    valid = np.arange(n)[None] < np.array([[n], [max(n - 5, 1)]])
    tokens = np.stack([np.sort(rng.permutation(max(n - 5, 1))[: min(GLOBALS, max(n - 5, 1))]) for _ in range(2)])
    flags = np.zeros((2, n), bool)
    np.put_along_axis(flags, tokens, True, 1)
    return q, k, v, qg, kg, vg, valid, flags, tokens.astype(np.int64)


def run(
    q: Any, k: Any, v: Any, qg: Any, kg: Any, vg: Any, valid: Any, flags: Any, tokens: Any,
    dilation: tuple[int, ...], causal: bool = False,
) -> Any:  # fmt: skip
    window = hd.per_head([hd.window(W, 0 if causal else W, dilation=d) for d in dilation])
    if causal:  # no global tokens: their columns would show the future
        return hd.attend(q, k, v, where=window & hd.keys(valid) & hd.queries(valid))
    out = hd.attend(q, k, v, where=(window | hd.keys(flags)) & hd.keys(valid) & hd.queries(valid))
    # Rows of global tokens: all tokens, with their own q, k and v.
    whole = hd.attend(hd.gather_rows(qg, tokens), kg, vg, where=hd.keys(valid))
    return hd.scatter_rows(whole, tokens, out)
