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


def model(weights: Any, x: Any) -> np.ndarray:
    w = {name: p.astype(np.float64) for name, p in weights.items()}
    x = x.astype(np.float64)

    def mab(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        def linear(part: str, z: np.ndarray) -> np.ndarray:
            return z @ w[f"{name}.{part}.weight"].T + w[f"{name}.{part}.bias"]

        def norm(part: str, z: np.ndarray) -> np.ndarray:
            z = z - z.mean(-1, keepdims=True)
            z = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-5)
            return z * w[f"{name}.{part}.weight"] + w[f"{name}.{part}.bias"]

        q = linear("q", x)
        parts = (t.reshape(*t.shape[:2], 2, -1).swapaxes(1, 2) for t in (q, linear("k", y), linear("v", y)))
        qh, kh, vh = parts
        o = q + (softmax(qh @ kh.swapaxes(-1, -2) / np.sqrt(64)) @ vh).swapaxes(1, 2).reshape(q.shape)
        o = norm("norm", o)
        return norm("last", o + np.maximum(linear("o", o), 0))

    points, seeds = (np.repeat(w[name], len(x), 0) for name in ("points", "seeds"))
    x = mab("induced", x, mab("induce", points, x))
    return mab("pool", seeds, mab("own", x, x))


def oracle(*args: Any, blocks: bool) -> np.ndarray:
    if blocks:
        return model(*args)
    points, q, k, v = (x.astype(np.float64) for x in args)
    summary = softmax(points @ k.swapaxes(-1, -2) / 8) @ v
    return softmax(q @ summary.swapaxes(-1, -2) / 8) @ summary
