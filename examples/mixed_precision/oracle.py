"""A window and means of blocks before it, on what the storage type holds, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


W, B = 24, 8


def oracle(q: Any, k: Any, v: Any, dtype: str) -> np.ndarray:
    q, k, v = (x.double().numpy() for x in (q, k, v))
    k, v = (np.repeat(x, 2, 1) for x in (k, v))  # two query heads share a key head
    n, m = q.shape[2], q.shape[2] // B
    i, j, r = np.arange(n)[:, None], np.arange(n)[None], np.arange(m)[None]
    ks, vs = (x[:, :, : m * B].reshape(*x.shape[:2], m, B, x.shape[3]).mean(3) for x in (k, v))
    near = np.where((i - W < j) & (j <= i), q @ k.swapaxes(-1, -2), -np.inf)
    far = np.where(r * B + B <= i, q @ ks.swapaxes(-1, -2), -np.inf)
    return softmax(np.concatenate([near, far], -1) / np.sqrt(q.shape[-1])) @ np.concatenate([v, vs], 2)
