"""Knowledge tracing, by its set."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


def masked(q: np.ndarray, k: np.ndarray, v: np.ndarray, live: np.ndarray) -> np.ndarray:
    s = np.where(live, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    return softmax(s) @ v


def oracle(q: Any, k: Any, v: Any, lag: int) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    i, j = np.arange(q.shape[2])[:, None], np.arange(q.shape[2])[None]
    return masked(q, k, v, j <= i - lag)
