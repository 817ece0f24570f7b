"""A layer of BERT and the heads of its kin, from the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2))) / 2


HEADS = 2


def oracle(weights: Any, x: Any, lengths: Any, kind: str) -> np.ndarray:
    w = {name: p.astype(np.float64) for name, p in weights.items()}
    x = x.astype(np.float64)

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, y: np.ndarray) -> np.ndarray:
        y = y - y.mean(-1, keepdims=True)
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    q, k, v = (linear(f"layer.{f}", x).reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2) for f in "qkv")
    live = np.arange(x.shape[1]) < lengths[:, None, None, None]
    p = softmax(np.where(live, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf))
    y = norm("layer.norm", x + linear("layer.o", (p @ v).swapaxes(1, 2).reshape(x.shape)))
    y = norm("layer.last", y + linear("layer.down", gelu(linear("layer.up", y))))
    if kind == "wklm":
        return linear("head", np.concatenate([y, np.roll(y, -1, 1)], -1))
    if kind == "structbert":
        return linear("head", np.tanh(linear("dense", y[:, :1])))
    return linear("head", gelu(linear("dense", y)))
