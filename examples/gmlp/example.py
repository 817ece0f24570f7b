"""gMLP and aMLP: token mixing by a learned matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "gMLP, aMLP"
SPEC = "score loaded from W, normaliser none, causal = lower triangle; gate outside"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {
    "gmlp": {"causal": False, "tiny": False},
    "gmlp causal": {"causal": True, "tiny": False},
    "amlp": {"causal": False, "tiny": True},
}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool, tiny: bool) -> tuple[Any, ...]:
    z1, z2 = rows(rng, 2, 1, n, 48), rows(rng, 2, 1, n, 48)
    q, k = rows(rng, 2, 1, n, 16), rows(rng, 2, 1, n, 16)
    return z1, z2, rows(rng, n, n) / n**0.5, np.ones(n, np.float32) + rows(rng, n), q, k, rows(rng, 2, 1, n, 48)


def run(z1: Any, z2: Any, w: Any, bias: Any, q: Any, k: Any, v: Any, causal: bool, tiny: bool) -> Any:
    weight = hd.tensor(w)
    where = hd.causal if causal else hd.full
    segment = hd.segment(z2, z2, where, score=lambda b, h, i, j: weight[i, j], dots=[])
    mixed = hd.attend(z1, segments=[segment], normalizer="none") + bias[:, None]
    if tiny:
        mixed = mixed + hd.attend(q, k, v, where=where)
    return z1 * mixed


SPEC_VARIANT = "gmlp causal"


def spec_args(z1: Any, z2: Any, w: Any, *_: Any) -> tuple[Any, ...]:
    return z2, w


def from_spec(out: Any, z1: Any, z2: Any, w: Any, bias: Any, *_: Any) -> Any:
    return z1 * (out + bias[:, None])
