"""Native sparse attention for given blocks and gates, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


SIZE, STRIDE, BLOCK, W = 8, 4, 16, 20


def oracle(q: Any, k: Any, v: Any, wk: Any, wv: Any, top: Any, *gates: Any) -> np.ndarray:
    q, k, v, wk, wv, g1, g2, g3 = (x.astype(np.float64) for x in (q, k, v, wk, wv, *gates))
    n, d = q.shape[2:]
    out = np.zeros_like(q)
    for b, h in np.ndindex(q.shape[:2]):
        kh, vh = k[b, h // 2], v[b, h // 2]
        starts = range(0, n - SIZE + 1, STRIDE)
        ks, vs = (
            np.array([np.einsum("td,tde->e", x[s : s + SIZE], w[h // 2]) for s in starts]).reshape(-1, d)
            for x, w in ((kh, wk), (vh, wv))
        )

        def attend(i: int, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
            return softmax(keys @ q[b, h, i] / np.sqrt(d)) @ values

        for i in range(n):
            seen = [m for m, s in enumerate(starts) if s + SIZE <= i + 1]
            chosen = [j for u in top[b, h, i] if u >= 0 for j in range(u * BLOCK, min(u * BLOCK + BLOCK, i + 1))]
            near = slice(max(0, i - W + 1), i + 1)
            out[b, h, i] = g1[b, h, i] * attend(i, ks[seen], vs[seen])
            out[b, h, i] += g2[b, h, i] * attend(i, kh[chosen], vh[chosen])
            out[b, h, i] += g3[b, h, i] * attend(i, kh[near], vh[near])
    return out
