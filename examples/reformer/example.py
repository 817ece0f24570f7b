"""Reformer: hashed buckets in sorted chunks, several rounds under one softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Reformer"
SPEC = "per round: same(buckets) & positions(rank, rank, coarse(m, offsets([0, 1]))); bias -log N_ij, self -1e5"
COST = "O(n log n)"
VARIANTS: dict[str, dict[str, Any]] = {"causal": {"causal": True}, "full": {"causal": False}}
ROUNDS, BUCKETS, CHUNK = 2, 8, 8


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    q, v = rows(rng, 2, 2, n, 32), rows(rng, 2, 2, n, 32)
    k = q / np.linalg.norm(q, axis=-1, keepdims=True)
    buckets, ranks = [], []
    for _ in range(ROUNDS):
        turn = k @ rng.standard_normal((32, BUCKETS // 2))
        bucket = np.concatenate([turn, -turn], -1).argmax(-1).astype(np.int32)
        order = np.argsort(bucket, axis=-1, kind="stable")
        buckets.append(bucket)
        ranks.append(np.argsort(order, axis=-1).astype(np.int32))
    return q, k.astype(np.float32), v, *buckets, *ranks


def run(q: Any, k: Any, v: Any, b0: Any, b1: Any, r0: Any, r1: Any, causal: bool) -> Any:
    first, second = hd.tensor(b0), hd.tensor(b1)

    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        rounds = hd.select(first[b, h, i] == first[b, h, j], 1.0, 0.0)
        rounds = rounds + hd.select(second[b, h, i] == second[b, h, j], 1.0, 0.0)
        return hd.select(i == j, s - 1e5, s - hd.log(rounds))

    def part(bucket: Any, rank: Any) -> Any:
        where = hd.same(bucket) & hd.positions(rank, rank, hd.coarse(CHUNK, hd.offsets([0, 1])))
        return hd.segment(k, v, where & hd.causal if causal else where, score=score)

    return hd.attend(q, segments=[part(b0, r0), part(b1, r1)])
