"""Sparse-MLP, from the formulas, vector by vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])


def oracle(weights: Any, x: Any, top: int) -> np.ndarray:
    w = {name: p.astype(np.float64) for name, p in weights.items()}
    x = x.astype(np.float64)

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def along(name: str, y: np.ndarray) -> np.ndarray:
        return linear(name, y.swapaxes(1, 2)).swapaxes(1, 2)

    def norm(name: str, y: np.ndarray) -> np.ndarray:
        y = y - y.mean(-1, keepdims=True)
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def experts(name: str, y: np.ndarray) -> np.ndarray:
        out = np.zeros_like(y)
        for place in np.ndindex(y.shape[:-1]):
            vector = y[place]
            gate = np.exp(w[f"{name}.gate.weight"] @ vector)
            gate /= gate.sum()
            for e in np.argsort(-gate)[:top]:
                h = vector @ w[f"{name}.up"][e]
                out[place] += gate[e] * ((h * (1 + erf(h / np.sqrt(2))) / 2) @ w[f"{name}.down"][e])
        return out

    x = linear("narrower", along("longer", x))
    x = x + experts("rows", norm("first", x).swapaxes(1, 2)).swapaxes(1, 2)
    x = x + experts("channels", norm("second", x))
    return linear("wider", along("shorter", x))
