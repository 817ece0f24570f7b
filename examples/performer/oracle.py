"""Performer with given random directions, pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np

EPS = 1e-4


def oracle(q: Any, k: Any, v: Any, w: Any, causal: bool) -> np.ndarray:
    q, k, v, w = (x.astype(np.float64) for x in (q, k, v, w))

    def features(x: np.ndarray) -> np.ndarray:
        x = x / x.shape[-1] ** 0.25
        return np.exp(x @ w[0, 0] - (x**2).sum(-1, keepdims=True) / 2) + EPS

    a = features(q) @ features(k).swapaxes(-1, -2)
    a = a * np.tri(q.shape[2]) if causal else a
    return a @ v / a.sum(-1, keepdims=True)
