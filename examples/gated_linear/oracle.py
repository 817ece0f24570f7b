"""The recurrences of GLA and HGRN2, token by token."""

from __future__ import annotations

from typing import Any

import numpy as np

TEMPERATURE = 16.0


def oracle(q: Any, k: Any, v: Any, x: Any, kind: str) -> np.ndarray:
    q, k, v, x = (t.astype(np.float64) for t in (q, k, v, x))
    gate = 1 / (1 + np.exp(-x))
    if kind == "hgrn2":
        k = 1 - gate
    else:
        q, gate = q / np.sqrt(q.shape[-1]), gate ** (1 / TEMPERATURE)
    out = np.zeros_like(v)
    for b, h in np.ndindex(q.shape[:2]):
        state = np.zeros((q.shape[3], v.shape[3]))
        for t in range(q.shape[2]):
            state = gate[b, h, t][:, None] * state + np.outer(k[b, h, t], v[b, h, t])
            out[b, h, t] = q[b, h, t] @ state
    return out
