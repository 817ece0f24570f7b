"""Linear Transformer, from the formula."""

from __future__ import annotations

from typing import Any

import numpy as np


def oracle(q: Any, k: Any, v: Any, causal: bool) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k))
    similarity = q @ k.swapaxes(-1, -2)
    if causal:
        similarity = np.tril(similarity)
    return similarity @ v / (similarity.sum(-1, keepdims=True) + 1e-6)
