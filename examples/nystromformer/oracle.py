"""Nystroemformer, from the formula."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


LANDMARKS, TAPS = 8, 5


def oracle(q: Any, k: Any, v: Any, taps: Any) -> np.ndarray:
    q, k, v, taps = (x.astype(np.float64) for x in (q, k, v, taps))
    n, d = q.shape[2:]
    ql, kl = (x.reshape(*x.shape[:2], LANDMARKS, n // LANDMARKS, d).mean(3) for x in (q, k))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return softmax(x @ y.swapaxes(-1, -2) / np.sqrt(d))

    a = kernel(ql, kl)
    z = a.swapaxes(-1, -2) / (np.abs(a).sum(-2).max() * np.abs(a).sum(-1).max())
    one = np.eye(LANDMARKS)
    for _ in range(6):
        z = z @ (13 * one - a @ z @ (15 * one - a @ z @ (7 * one - a @ z))) / 4
    out = kernel(q, kl) @ z @ (kernel(ql, k) @ v)
    for t in range(TAPS):  # zeros outside of the sequence
        for i in range(n):
            if 0 <= i + t - TAPS // 2 < n:
                out[:, :, i] += taps[:, t, None] * v[:, :, i + t - TAPS // 2]
    return out
