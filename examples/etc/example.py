"""ETC: long and global tokens, each kind with segments of its own under one softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "ETC"
SPEC = (
    "long rows: seg(kll, vll, window(r, r)) + seg(klg, vlg, full), score + (q E)[id] + b[id]; "
    "global rows: two segments, full"
)
COST = "O(n (r + g))"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
R, GLOBALS, IDS = 6, 5, 9


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    long = [rows(rng, 2, 2, n, 32) for _ in range(5)]  # q, and k, v for long rows, k, v for global rows
    few = [rows(rng, 2, 2, GLOBALS, 32) for _ in range(5)]  # q, and k, v for long rows, k, v for global rows
    table, bias = rows(rng, 2, IDS, 32), rows(rng, 2, IDS)
    ids = [
        rng.integers(0, IDS, s).astype(np.int32)
        for s in ((2, n, 2 * R + 1), (2, n, GLOBALS), (2, GLOBALS, GLOBALS), (2, GLOBALS, n))
    ]
    return *long, *few, table, bias, *ids


@hd.kernel
def attention(q: Any, near: Any, far: Any, table: Any, bias: Any, near_ids: Any, far_ids: Any, band: bool) -> Any:
    """One softmax over two kinds of keys; near and far are (k, v). A band's ids stand by distance."""
    # q_i . E[id] + b[id] for each id of the vocabulary once, a product with the table; the score loads what it needs.
    products = hd.convolve(q, table, bias)
    segments = [
        hd.segment(
            *near, hd.window(R, R) if band else hd.full,
            score=lambda s, b, h, i, j: s + products[b, h, i, near_ids[b, i, j - i + R if band else j]],
        ),
        hd.segment(*far, score=lambda s, b, h, i, j: s + products[b, h, i, far_ids[b, i, j]]),
    ]  # fmt: skip
    return hd.attend(q, segments=segments, q_offset=0)


@hd.kernel
def long_rows(q: Any, k: Any, v: Any, kg: Any, vg: Any, table: Any, bias: Any, ids: Any, global_ids: Any) -> Any:
    return attention(q, (k, v), (kg, vg), table, bias, ids, global_ids, True)


@hd.kernel
def global_rows(q: Any, k: Any, v: Any, kl: Any, vl: Any, table: Any, bias: Any, ids: Any, long_ids: Any) -> Any:
    return attention(q, (k, v), (kl, vl), table, bias, ids, long_ids, False)


def columns(table: Any) -> Any:
    """The table as weights of a product with q, [H, 1, D, ids], scaled as scores are."""
    return table.swapaxes(1, 2)[:, None] * table.shape[-1] ** -0.5


def run(
    q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, table: Any,
    bias: Any, ll: Any, lg: Any, gg: Any, gl: Any,
) -> Any:  # fmt: skip
    long = long_rows(q, kll, vll, klg, vlg, columns(table), bias, ll, lg)
    few = global_rows(qg, kgg, vgg, kgl, vgl, columns(table), bias, gg, gl)
    return np.concatenate([few, long], 2)


def spec_args(
    q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, table: Any,
    bias: Any, ll: Any, lg: Any, gg: Any, gl: Any,
) -> tuple[Any, ...]:  # fmt: skip
    return q, kll, vll, klg, vlg, columns(table), bias, ll, lg


def from_spec(long: Any, *x: Any) -> Any:
    return np.concatenate([run(*x)[:, :, :GLOBALS], long], 2)
