"""Gated linear attention and HGRN2: linear attention whose state decays channel by channel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "gated linear attention (GLA), HGRN2"
SPEC = "linear_attend(q, k, v) causal decay(g [B, H, N, D]), normaliser none; HGRN2: k = 1 - exp(g)"
COST = "O(n)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {
    "gla": {"kind": "gla"},
    "in parts": {"kind": "parts"},
    "hgrn2": {"kind": "hgrn2"},
}
TEMPERATURE = 16.0  # of GLA's gate


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, d) for d in (16, 16, 32, 16))  # q, k, v and what the gate is made of


@hd.kernel
def gla(q: Any, k: Any, v: Any, x: Any, state: Any, scale: float) -> Any:
    # log sigmoid(x) / temperature: what a channel keeps, mostly near 1.
    g = hd.elementwise(lambda a: (hd.minimum(a, 0.0) - hd.log(1 + hd.exp(-hd.abs(a)))) / TEMPERATURE, x)
    settings: dict[str, Any] = {"causal": True, "normalizer": "none", "return_state": True}
    return hd.linear_attend(q * scale, k, v, decay=g, state=state, **settings)


@hd.kernel
def hgrn2(q: Any, v: Any, x: Any) -> Any:
    # What is forgotten makes room for what comes: the key is 1 - f of the forget gate f.
    f = hd.sigmoid(x)
    return hd.linear_attend(q, 1 - f, v, causal=True, decay=hd.log(f), normalizer="none")


def run(q: Any, k: Any, v: Any, x: Any, kind: str) -> Any:
    if kind == "hgrn2":
        return hgrn2(q, v, x)
    n = q.shape[2]
    cuts = [0, n // 3, n // 3 + 1, n] if kind == "parts" else [0, n]  # the middle part is one step of decoding
    out, state = [], np.zeros((*q.shape[:2], q.shape[3], v.shape[3]), np.float32)
    for lo, hi in itertools.pairwise(cuts):
        if lo < hi:
            y, state = gla(*(t[:, :, lo:hi] for t in (q, k, v, x)), state, q.shape[3] ** -0.5)
            out.append(y)
    return np.concatenate(out, 2)


def spec_args(q: Any, k: Any, v: Any, x: Any) -> tuple[Any, ...]:
    gate = -np.logaddexp(0, -x) / np.float32(TEMPERATURE)
    return q * np.float32(q.shape[3] ** -0.5), k, v, gate.astype(np.float32)
