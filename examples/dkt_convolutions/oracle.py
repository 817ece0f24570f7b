"""Knowledge tracing with 3-D convolutions and strictly past attention, from the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


HEADS, SIDE, K, QUESTIONS = 2, 8, 4, 20


def oracle(weights: Any, questions: Any, answers: Any) -> np.ndarray:
    w = {name: p.astype(np.float64) for name, p in weights.items()}
    batch, n = questions.shape

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def heads(y: np.ndarray) -> np.ndarray:
        return y.reshape(batch, n, HEADS, -1).swapaxes(1, 2)

    asked, seen = w["questions.weight"][questions], w["interactions.weight"][questions + QUESTIONS * answers]
    kernel = w["recent.weight"][:, 0]  # [channel, K, 3, 3]
    recent = np.zeros((batch, n, len(kernel), SIDE, SIDE)) + w["recent.bias"][:, None, None]
    for i in range(n):
        for t in range(max(K - i, 0), K):  # interaction i - K + t
            image = np.pad(seen[:, i - K + t].reshape(batch, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
            for y, x in np.ndindex(3, 3):
                part = image[:, None, y : y + SIDE, x : x + SIDE]
                recent[:, i] += kernel[:, t, y, x, None, None] * part
    recent = np.maximum(recent, 0).reshape(batch, n, -1)
    q, k, v = heads(linear("q", asked)), heads(linear("k", seen)), heads(linear("v", seen))
    past = np.tri(n, k=-1, dtype=bool)
    p = softmax(np.where(past, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf))
    long = (p @ v).swapaxes(1, 2).reshape(batch, n, -1)
    return 1 / (1 + np.exp(-linear("out", np.concatenate([asked, long, recent], -1))))
