"""Longformer, from the formula."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


W = 8


def oracle(
    q: Any, k: Any, v: Any, qg: Any, kg: Any, vg: Any, valid: Any, flags: Any, tokens: Any,
    dilation: tuple[int, ...], causal: bool,
) -> np.ndarray:  # fmt: skip
    q, k, v, qg, kg, vg = (x.astype(np.float64) for x in (q, k, v, qg, kg, vg))
    n, d = q.shape[2:]
    i, j = np.arange(n)[:, None], np.arange(n)[None]
    out = np.zeros_like(v)
    for b, h in np.ndindex(q.shape[:2]):
        step = dilation[h % len(dilation)]
        near = (abs(j - i) <= W * step) & ((j - i) % step == 0)
        live = (near & (j <= i) if causal else near | flags[b][None]) & valid[b][None] & valid[b][:, None]
        out[b, h] = softmax(np.where(live, q[b, h] @ k[b, h].T / np.sqrt(d), -np.inf)) @ v[b, h]
        for t in [] if causal else tokens[b]:
            s = np.where(valid[b], qg[b, h, t] @ kg[b, h].T / np.sqrt(d), -np.inf)
            out[b, h, t] = softmax(s) @ vg[b, h]
    return out
