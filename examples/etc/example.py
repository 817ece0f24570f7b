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
        for s in ((2, n, n), (2, n, GLOBALS), (2, GLOBALS, GLOBALS), (2, GLOBALS, n))
    ]
    return *long, *few, table, bias, *ids


@hd.kernel
def attention(q: Any, near: Any, far: Any, table: Any, bias: Any, near_ids: Any, far_ids: Any, where: Any) -> Any:
    """One softmax over two kinds of keys; near and far are (k, v)."""
    # q_i . E[id] for each id of the vocabulary once, a product with the table; the score loads the one it needs.
    products, scale = hd.convolve(q, table), q.shape[-1] ** -0.5

    def relative(ids: Any) -> Any:
        return lambda s, b, h, i, j: s + scale * products[b, h, i, ids[b, i, j]] + bias[h, ids[b, i, j]]

    segments = [hd.segment(*near, where, score=relative(near_ids)), hd.segment(*far, score=relative(far_ids))]
    return hd.attend(q, segments=segments, q_offset=0)


@hd.kernel
def long_rows(q: Any, k: Any, v: Any, kg: Any, vg: Any, table: Any, bias: Any, ids: Any, global_ids: Any) -> Any:
    return attention(q, (k, v), (kg, vg), table, bias, ids, global_ids, hd.window(R, R))


@hd.kernel
def global_rows(q: Any, k: Any, v: Any, kl: Any, vl: Any, table: Any, bias: Any, ids: Any, long_ids: Any) -> Any:
    return attention(q, (k, v), (kl, vl), table, bias, ids, long_ids, hd.full)


def run(
    q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, table: Any,
    bias: Any, ll: Any, lg: Any, gg: Any, gl: Any,
) -> Any:  # fmt: skip
    columns = table.swapaxes(1, 2)[:, None]  # [H, 1, D, ids]
    long = long_rows(q, kll, vll, klg, vlg, columns, bias, ll, lg)
    few = global_rows(qg, kgg, vgg, kgl, vgl, columns, bias, gg, gl)
    return np.concatenate([few, long], 2)


def spec_args(
    q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, table: Any,
    bias: Any, ll: Any, lg: Any, gg: Any, gl: Any,
) -> tuple[Any, ...]:  # fmt: skip
    return q, kll, vll, klg, vlg, table.swapaxes(1, 2)[:, None], bias, ll, lg


def from_spec(long: Any, *x: Any) -> Any:
    return np.concatenate([run(*x)[:, :, :GLOBALS], long], 2)
