"""Sinkhorn and SortCut: blocks mixed by a balanced matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Sinkhorn"
SPEC = "project over the block axis by S; seg(own block) + seg(sorted block), SortCut: seg of the first n"
COST = "O(n b + (n / b)^2)"
VARIANTS: dict[str, dict[str, Any]] = {"sinkhorn": {"cut": 0}, "sortcut": {"cut": 2}}
BLOCK = 16


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, cut: int) -> tuple[Any, ...]:
    blocks = max(n // BLOCK, 2)
    q, k, v = (rows(rng, 2, 2, blocks * BLOCK, 32) for _ in range(3))
    s = rows(rng, 2, 2, blocks, blocks).astype(np.float64)
    for _ in range(5):
        s -= np.log(np.exp(s).sum(-1, keepdims=True))
        s -= np.log(np.exp(s).sum(-2, keepdims=True))
    return q, k, v, np.exp(s).astype(np.float32)


@hd.kernel
def sinkhorn(q: Any, k: Any, v: Any, s: Any) -> Any:
    own = hd.segment(k, v, hd.block(BLOCK))
    mixed = hd.segment(hd.project(k, s, block=BLOCK), hd.project(v, s, block=BLOCK), hd.block(BLOCK))
    return hd.attend(q, segments=[mixed, own])


@hd.kernel
def sortcut(q: Any, k: Any, v: Any, s: Any) -> Any:
    first = hd.keys([(0, 2 * BLOCK)])
    return hd.attend(q, hd.project(k, s, block=BLOCK), hd.project(v, s, block=BLOCK), where=first)


def run(q: Any, k: Any, v: Any, s: Any, cut: int) -> Any:
    by_source = np.ascontiguousarray(s.swapaxes(-1, -2))  # e[n, r]: from block n to block r
    return (sortcut if cut else sinkhorn)(q, k, v, by_source)


def spec_args(q: Any, k: Any, v: Any, s: Any) -> tuple[Any, ...]:
    return q, k, v, np.ascontiguousarray(s.swapaxes(-1, -2))
