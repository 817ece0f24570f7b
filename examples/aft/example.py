"""AFT full, simple, local and conv: token mixing with loaded weights, plus totals."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "AFT"
SPEC = "normaliser none, score exp(w) loaded, over [exp(k) v, exp(k)]; totals for the background weight 1"
COST = "O(n^2), O(n), O(n s), O(n s)"
KINDS = ("full", "simple", "local", "conv", "full causal", "simple causal")
VARIANTS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in KINDS}
S = 5


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    q, k, v = (rows(rng, 2, 2, n, 16) for _ in range(3))
    if kind == "conv":
        k = k[..., :1]
    return q, k, v, rows(rng, 2, 2 * S - 1) if kind == "conv" else rows(rng, n, n)


def largest(k: Any) -> Any:
    """The greatest of each channel, so that exp stays finite: one window holds the whole sequence."""
    return hd.pool(k, "max", 1 << 29, partial=True)


@hd.kernel
def simple(q: Any, k: Any, v: Any, top: Any, ones: Any) -> Any:
    e = hd.exp(k - top)
    return hd.project(e * v, ones) / hd.project(e, ones) * hd.sigmoid(q)


@hd.kernel
def windowed(q: Any, k: Any, v: Any, w: Any, top: Any, ones: Any, conv: bool) -> Any:
    """Totals, and exp(w) - 1 inside of the window."""

    by_distance = hd.exp(w) - 1 if conv else None  # few enough to be made once

    def weight(b: Any, h: Any, i: Any, j: Any) -> Any:
        return by_distance[h, i - j + S - 1] if conv else hd.exp(w[i, j]) - 1

    def sums(x: Any) -> Any:
        return hd.project(x, ones) + mix(q, x, hd.window(S - 1, S - 1), weight)

    e = hd.exp(k - top)
    return sums(e * v) / sums(e) * hd.sigmoid(q)


def run(q: Any, k: Any, v: Any, w: Any, kind: str) -> Any:
    if kind in ("simple", "local", "conv"):
        ones = np.ones((k.shape[2], 1), np.float32)
        if kind == "simple":
            return simple(q, k, v, largest(k), ones)
        return windowed(q, k, v, w, largest(k), ones, kind == "conv")
    e = np.exp(k - k.max(2, keepdims=True)) * np.ones_like(v)
    both = np.concatenate([e * v, e], -1)
    if kind == "simple causal":
        sums = hd.scan(both, "sum")
    else:
        weight = hd.tensor(w)
        past = hd.causal if kind == "full causal" else hd.full
        sums = mix(q, both, past, lambda b, h, i, j: hd.exp(weight[i, j]))
    top, below = np.split(sums, 2, -1)
    return top / below / (1 + np.exp(-q))


def mix(q: Any, values: Any, where: Any, weight: Any) -> Any:
    segment = hd.segment(q, values, where, score=weight, dots=[])  # no dot: the keys are only counted
    return hd.attend(q, segments=[segment], normalizer="none")


def spec_args(q: Any, k: Any, v: Any, w: Any) -> tuple[Any, ...]:
    e = np.exp(k - k.max(2, keepdims=True))
    return q, np.concatenate([e * v, e], -1), w


def from_spec(out: Any, q: Any, *_: Any) -> Any:
    top, below = np.split(out, 2, -1)
    return top / below / (1 + np.exp(-q))
