"""Attention through inducing points, from the formula."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


def oracle(points: Any, q: Any, k: Any, v: Any) -> np.ndarray:
    points, q, k, v = (x.astype(np.float64) for x in (points, q, k, v))
    summary = softmax(points @ k.swapaxes(-1, -2) / 8) @ v
    return softmax(q @ summary.swapaxes(-1, -2) / 8) @ summary
