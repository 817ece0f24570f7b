"""Encoder and decoder layers, from the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


HEADS = 2


def oracle(weights: Any, x: Any, memory: Any, lengths: Any, decoder: bool) -> np.ndarray:
    w = {name: p.astype(np.float64) for name, p in weights.items()}
    x, memory = x.astype(np.float64), memory.astype(np.float64)

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, y: np.ndarray) -> np.ndarray:
        y = y - y.mean(-1, keepdims=True)
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(name: str, y: np.ndarray, keys: np.ndarray, live: np.ndarray) -> np.ndarray:
        def heads(z: np.ndarray) -> np.ndarray:
            return z.reshape(*z.shape[:2], HEADS, -1).swapaxes(1, 2)

        q, k, v = heads(linear(f"{name}.q", y)), heads(linear(f"{name}.k", keys)), heads(linear(f"{name}.v", keys))
        p = softmax(np.where(live, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf))
        return linear(f"{name}.o", (p @ v).swapaxes(1, 2).reshape(y.shape))

    known = np.arange((memory if decoder else x).shape[1])[None, None, None] < lengths[:, None, None, None]
    x = norm("norm", x + attention("own", x, x, np.tri(x.shape[1], dtype=bool) if decoder else known))
    if decoder:
        x = norm("cross_norm", x + attention("cross", x, memory, known))
    return norm("last", x + linear("down", np.maximum(linear("up", x), 0)))
