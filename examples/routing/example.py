"""Routing: attention inside of clusters, scattered back as a mean."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Routing"
SPEC = "group / listed, positions(%p, %p, causal), scatter_rows mean"
COST = "O(n sqrt n)"
VARIANTS: dict[str, dict[str, Any]] = {"causal": {"causal": True}, "full": {"causal": False}}
W = 16


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    q, k, v = (rows(rng, 2, 2, max(n, W), 32) / 2 for _ in range(3))
    n = q.shape[2]
    lists = [np.sort(rng.permutation(n)[:W]) for _ in range(4 * max(n // W, 1))]
    return q, k, v, np.stack(lists).reshape(2, 2, -1).astype(np.int64)


@hd.kernel
def full(q: Any, k: Any, v: Any, members: Any) -> Any:
    g = [hd.gather_rows(x, members) for x in (q, k, v)]
    out = hd.attend(*g, where=hd.block(W), scale=1.0)
    return hd.scatter_rows(out, members, q, kind="mean", eps=0.01, zeros=True)


@hd.kernel
def causal_lists(q: Any, k: Any, v: Any, members: Any) -> Any:
    # Members are in order of position, so causal among them is causal in the sequence.
    g = [hd.gather_rows(x, members) for x in (q, k, v)]
    out = hd.attend(*g, where=hd.block(W) & hd.causal, scale=1.0)
    return hd.scatter_rows(out, members, q, kind="mean", eps=0.01, zeros=True)


def run(q: Any, k: Any, v: Any, members: Any, causal: bool) -> Any:
    return (causal_lists if causal else full)(q, k, v, members)
