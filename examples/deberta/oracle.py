"""Disentangled attention, pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np


def oracle(q: Any, k: Any, v: Any, rk: Any, rq: Any, swapped: bool) -> np.ndarray:
    q, k, v, rk, rq = (x.astype(np.float64) for x in (q, k, v, rk, rq))
    n, most = q.shape[2], rk.shape[1] // 2
    out = np.zeros_like(q)

    def delta(i: int, j: int) -> int:
        return 0 if i - j <= -most else 2 * most - 1 if i - j >= most else i - j + most

    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            s = np.zeros((n, n))
            for i in range(n):
                for j in range(n):
                    other = delta(j, i) if swapped else delta(i, j)
                    s[i, j] = q[b, h, i] @ k[b, h, j] + q[b, h, i] @ rk[h, delta(i, j)] + k[b, h, j] @ rq[h, other]
            p = np.exp((s - s.max(-1, keepdims=True)) / np.sqrt(3 * q.shape[-1]))
            out[b, h] = p / p.sum(-1, keepdims=True) @ v[b, h]
    return out
