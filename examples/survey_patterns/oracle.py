"""Fixed patterns by their sets."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


B, S = 16, 7


def oracle(q: Any, k: Any, v: Any, kind: str) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    n, d = q.shape[2:]
    if kind == "compressed":
        k, v = (np.stack([x[:, :, s : s + B].mean(2) for s in range(0, n, B)], 2) for x in (k, v))
    i, j = np.arange(n)[:, None], np.arange(k.shape[2])[None]
    block, stride = i // B == j // B, (i - j) % S == 0
    live = j >= 0
    if kind != "compressed":
        live = {"blockwise": block, "strided": stride, "heads": np.stack([block, stride])}[kind]
    s = np.where(live, q @ k.swapaxes(-1, -2) / np.sqrt(d), -np.inf)
    return softmax(s) @ v
