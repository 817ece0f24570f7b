"""Synthesizer, from the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


def oracle(q: Any, k: Any, v: Any, r: Any, *rest: Any, kind: str) -> np.ndarray:
    q, k, v, r = (x.astype(np.float64) for x in (q, k, v, r))
    n = q.shape[2]
    s = r
    if kind == "mixture":
        s = 0.75 * (q @ k.swapaxes(-1, -2)) / np.sqrt(q.shape[-1]) + 0.25 * r
    if kind == "plus":
        s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + r
    if kind == "causal":
        s = np.where(np.tri(n, dtype=bool), r, -np.inf)
    if kind == "factorised random":
        s = r @ rest[0].astype(np.float64).swapaxes(-1, -2)
    if kind == "factorised dense":
        s = (r[..., :, None] * rest[0].astype(np.float64)[..., None, :]).reshape(*r.shape[:3], -1)[..., :n]
    return softmax(np.broadcast_to(s, (*q.shape[:2], n, n))) @ v
