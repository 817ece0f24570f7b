"""Transformer-XL: a memory before the sequence, and a second dot with the row of the distance."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Transformer-XL"
SPEC = "causal, k_offset(-mem), dots(q+u, k; q+w, r[i - j])"
COST = "O(n (n + mem))"
VARIANTS: dict[str, dict[str, Any]] = {
    "causal": {"kind": "causal"},
    "same length": {"kind": "same length"},
    "clamp": {"kind": "clamp"},
    "learned": {"kind": "learned"},
}
MEM, CLAMP = 20, 9


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    q, k, v = rows(rng, 2, 2, n, 32), rows(rng, 2, 2, MEM + n, 32), rows(rng, 2, 2, MEM + n, 32)
    distances = CLAMP if kind == "clamp" else MEM + n
    last = rows(rng, 2, distances) if kind == "learned" else rows(rng, 2, 1, 32)
    return q, k, v, rows(rng, 1, 2, distances, 32), rows(rng, 2, 1, 32), last


def run(q: Any, k: Any, v: Any, r: Any, u: Any, w: Any, kind: str) -> Any:
    # Rows of r are W_R R of the distances 0, 1, ...; a distance past the last has the last (clamp_len).
    where = hd.window(MEM, 0) if kind == "same length" else hd.causal
    if kind == "learned":  # rows and biases of the distances are learned: w is r_bias
        bias = hd.tensor(w)
        segment = hd.segment(
            k, v, where, k_offset=-MEM, dots=[(q + u, k), (q, hd.relative(r))],
            score=lambda s, t, b, h, i, j: s + t + 32**-0.5 * bias[h, i - j],
        )  # fmt: skip
        return hd.attend(q, segments=[segment], q_offset=0)
    dots = [(q + u, k), (q + w, hd.relative(r))]
    return hd.attend(q, segments=[hd.segment(k, v, where, k_offset=-MEM, dots=dots)], q_offset=0)


def spec_args(q: Any, k: Any, v: Any, r: Any, u: Any, w: Any) -> tuple[Any, ...]:
    return q + u, q + w, k, v, r
