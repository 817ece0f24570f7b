"""BigBird, by its set."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


B = 8


def oracle(q: Any, k: Any, v: Any, chosen: Any, drawn: bool) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    n, d = q.shape[2:]
    u, w = np.arange(n)[:, None] // B, np.arange(n)[None] // B
    last = n // B - 1
    live = (abs(u - w) <= 1) | (u == 0) | (w == 0) | (u == last) | (w == last)
    far = chosen[None] if drawn else (chosen[0, :, :, :, None] == np.arange(last + 1)).any(2)  # [heads, blocks, blocks]
    return softmax(np.where(live | far[:, u, w], q @ k.swapaxes(-1, -2) / np.sqrt(d), -np.inf)) @ v
