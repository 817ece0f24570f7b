"""Reformer: hashed buckets in sorted chunks, several rounds under one softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Reformer"
SPEC = "per round: group, gather_rows, same(buckets) & coarse(m, offsets([0, 1])); bias -log N_ij, self -1e5; merge"
COST = "O(n log n)"
VARIANTS: dict[str, dict[str, Any]] = {
    "causal": {"causal": True},
    "full": {"causal": False},
    "packages": {"causal": True, "packages": True},
}
ROUNDS, BUCKETS, CHUNK = 2, 8, 8


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, causal: bool, packages: bool = False) -> tuple[Any, ...]:
    n = -(-n // CHUNK) * CHUNK if packages else n  # whole chunks
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


def trax(q: Any, k: Any, v: Any, ranks: tuple[Any, ...], causal: bool) -> Any:
    """As trax and its kin: any bucket, no counts, and one circle through the chunks of all rounds."""

    def part(own: Any, other: Any, chunks: hd.Pattern) -> Any:
        where = hd.positions(own, other, chunks)
        score = lambda s, b, h, i, j: hd.select(i == j, -1e5, s)  # noqa: E731
        return hd.segment(k, v, where & hd.causal if causal else where, score=score, scale=1.0)

    near = hd.coarse(CHUNK, hd.offsets([0, 1]))
    # The first chunk of a round looks back at the last one of the round before.
    around = hd.queries([(0, CHUNK)]) & hd.keys([(hd.end - CHUNK, hd.end)])
    parts = [part(r, r, near) for r in ranks]
    parts += [part(r, ranks[n - 1], around) for n, r in enumerate(ranks)]
    return hd.attend(q, segments=parts)


@hd.kernel
def attend(q: Any, k: Any, v: Any, b0: Any, b1: Any, r0: Any, r1: Any, causal: bool) -> Any:
    parts = []
    for bucket, other, rank in ((b0, b1, r0), (b1, b0, r1)):
        order, _ = hd.group(bucket, BUCKETS)  # by bucket, then by position
        queries, keys, values = (hd.gather_rows(x, order) for x in (q, k, v))
        mine, theirs = hd.gather_rows(bucket, order), hd.gather_rows(other, order)
        where = hd.same(mine) & hd.coarse(CHUNK, hd.offsets([0, 1]))
        if causal:
            where = where & hd.positions(order, order, hd.causal)
        score = self_and_rounds(hd.tensor(theirs))
        out, lse = hd.attend(queries, keys, values, where=where, score=score, return_lse=True)
        parts.append((hd.gather_rows(out, rank), hd.gather_rows(lse, rank)))
    return hd.merge(parts)[0]


def self_and_rounds(theirs: Any) -> Any:
    """-1e5 for a token itself, -log N for a pair that N rounds put together; one of them did."""

    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        again = hd.select(theirs[b, h, i] == theirs[b, h, j], s - math.log(2), s)
        return hd.select(i == j, s - 1e5, again)

    return score


def run(q: Any, k: Any, v: Any, b0: Any, b1: Any, r0: Any, r1: Any, causal: bool, packages: bool = False) -> Any:
    if packages:
        return trax(q, k, v, (r0, r1), causal)
    return attend(q, k, v, b0, b1, r0, r1, causal)
