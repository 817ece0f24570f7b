"""Mamba-2's state space duality and RetNet's retention: linear attention whose state decays."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Mamba-2 (SSD), RetNet"
SPEC = "linear_attend(C, B, dt x) causal decay(dt A), normaliser none; + D x"
COST = "O(n)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {
    "ssd": {"kind": "ssd"},
    "in parts": {"kind": "parts"},
    "retention": {"kind": "retention"},
}
STATE = 16


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    heads = 4
    shared = heads if kind == "retention" else 1  # Mamba-2's heads share B and C, as values of one query
    x, b, c = rows(rng, 2, heads, n, 32), rows(rng, 2, shared, n, STATE), rows(rng, 2, shared, n, STATE)
    dt = np.ones((2, heads, n), np.float32) if kind == "retention" else np.log1p(np.exp(rows(rng, 2, heads, n)))
    a = -np.exp(rows(rng, heads) - 1)
    d = np.zeros(heads, np.float32) if kind == "retention" else rows(rng, heads)
    return x, b, c, dt, a, d


@hd.kernel
def scan(x: Any, b: Any, c: Any, dt: Any, column: Any, a: Any, d: Any, state: Any) -> Any:
    # dt times the rows: as a tensor with one column. a and d: one number for each head.
    y, after = hd.linear_attend(
        c, b, x * column, causal=True, decay=dt * a, normalizer="none", state=state, return_state=True
    )
    return y + x * d, after


def run(x: Any, b: Any, c: Any, dt: Any, a: Any, d: Any, kind: str) -> Any:
    heads = x.shape[1]
    b, c = (np.broadcast_to(t, (t.shape[0], heads, *t.shape[2:])) for t in (b, c))  # by strides of 0
    a, d = a[:, None], d[:, None, None]
    n = x.shape[2]
    cuts = [0, n // 3, n // 3 + 1, n] if kind == "parts" else [0, n]  # the middle part is one step of decoding
    out, state = [], np.zeros((x.shape[0], heads, STATE, x.shape[3]), np.float32)
    for lo, hi in itertools.pairwise(cuts):
        if lo < hi:
            y, state = scan(*(t[:, :, lo:hi] for t in (x, b, c, dt)), dt[:, :, lo:hi, None], a, d, state)
            out.append(y)
    return np.concatenate(out, 2)


SPEC_VARIANT = "retention"


def spec_args(x: Any, b: Any, c: Any, dt: Any, a: Any, d: Any) -> tuple[Any, ...]:
    return c, b, x, np.ascontiguousarray(dt * a[:, None])
