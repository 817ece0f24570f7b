"""ETC: long and global tokens, each kind with segments of its own under one softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "ETC"
SPEC = "long rows: seg(kll, vll, window(r, r)) + seg(klg, vlg, full); global rows: two segments, full"
COST = "O(n (r + g))"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
R, GLOBALS, IDS = 6, 5, 9


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    long = [rows(rng, 2, 2, n, 32) for _ in range(5)]  # q, and k, v for long rows, k, v for global rows
    few = [rows(rng, 2, 2, GLOBALS, 32) for _ in range(5)]  # q, and k, v for long rows, k, v for global rows
    bias = rows(rng, 2, IDS)
    ids = [
        rng.integers(0, IDS, s).astype(np.int32)
        for s in ((2, n, n), (2, n, GLOBALS), (2, GLOBALS, GLOBALS), (2, GLOBALS, n))
    ]
    return *long, *few, bias, *ids


def run(
    q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, bias: Any,
    ll: Any, lg: Any, gg: Any, gl: Any,
) -> Any:  # fmt: skip
    table = hd.tensor(bias)

    def relative(ids: Any) -> Any:
        which = hd.tensor(ids)
        return lambda s, b, h, i, j: s + table[h, which[b, i, j]]

    long = hd.attend(
        q,
        segments=[
            hd.segment(kll, vll, hd.window(R, R), score=relative(ll)),
            hd.segment(klg, vlg, score=relative(lg)),
        ],
        q_offset=0,
    )
    few = hd.attend(
        qg,
        segments=[hd.segment(kgg, vgg, score=relative(gg)), hd.segment(kgl, vgl, score=relative(gl))],
        q_offset=0,
    )
    return np.concatenate([few, long], 2)


def spec_args(
    q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, bias: Any,
    ll: Any, lg: Any, gg: Any, gl: Any,
) -> tuple[Any, ...]:  # fmt: skip
    return q, kll, vll, klg, vlg, bias, ll, lg


def from_spec(long: Any, *x: Any) -> Any:
    return np.concatenate([run(*x)[:, :, :GLOBALS], long], 2)
