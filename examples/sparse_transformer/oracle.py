"""Sparse Transformer, from the formula."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


L, C = 12, 3


def oracle(q: Any, k: Any, v: Any, kind: str) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    i, j = np.arange(q.shape[2])[:, None], np.arange(q.shape[2])[None]
    local, strided = (i - L < j) & (j <= i), (j <= i) & ((i - j) % L == 0)
    if kind == "strided":
        live = local | strided
    elif kind == "fixed":
        live = (j <= i) & ((i // L == j // L) | (j % L >= L - C))
    elif kind == "fixed heads":
        columns = [(j % L >= L - C * m) & (j % L < L - C * (m - 1)) for m in (1, 2)]
        live = (j <= i) & ((i // L == j // L) | np.stack(columns))
    elif kind == "paper":
        live = (j <= i) & ((i - L <= j) | ((i - j) % L == 0))
    else:
        live = np.stack([local, strided])
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    return softmax(np.where(live, s, -np.inf)) @ v
