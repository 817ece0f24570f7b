"""Complex attention, with NumPy's complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


def oracle(qr: Any, qi: Any, kr: Any, ki: Any, vr: Any, vi: Any) -> np.ndarray:
    q, k, v = (a.astype(np.float64) + 1j * b.astype(np.float64) for a, b in ((qr, qi), (kr, ki), (vr, vi)))
    out = softmax(np.abs(q @ k.swapaxes(-1, -2)) / np.sqrt(q.shape[-1])) @ v
    return np.concatenate([out.real, out.imag], -1)
