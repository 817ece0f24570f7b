"""LSH attention of given buckets and ranks, from the formula."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


CHUNK = 8


def circle(q: Any, k: Any, v: Any, ranks: tuple[Any, ...], causal: bool) -> np.ndarray:
    """Sorted rounds one after the other, in chunks; each sees itself and the one before, the first sees the last."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    n = q.shape[2]
    out = np.zeros_like(v)
    for b, h in np.ndindex(q.shape[:2]):
        tokens = np.concatenate([np.argsort(r[b, h]) for r in ranks]).reshape(-1, CHUNK)
        keys: list[list[int]] = [[] for _ in range(n)]
        for c, chunk in enumerate(tokens):
            for i in chunk:
                keys[i] += [*tokens[c - 1], *chunk]
        for i, js in enumerate(keys):
            seen = [j for j in js if j <= i or not causal]
            s = np.where(np.equal(seen, i), -1e5, k[b, h, seen] @ q[b, h, i])
            out[b, h, i] = softmax(s) @ v[b, h, seen]
    return out


def oracle(
    q: Any, k: Any, v: Any, b0: Any, b1: Any, r0: Any, r1: Any, causal: bool, packages: bool = False
) -> np.ndarray:
    if packages:
        return circle(q, k, v, (r0, r1), causal)
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    n, d = q.shape[2:]
    i, j = np.arange(n)[:, None], np.arange(n)[None]
    shared = sum((b[..., :, None] == b[..., None, :]).astype(float) for b in (b0, b1))
    scores = []
    for bucket, rank in ((b0, r0), (b1, r1)):
        mine, other = rank[..., :, None] // CHUNK, rank[..., None, :] // CHUNK
        live = (bucket[..., :, None] == bucket[..., None, :]) & (mine - 1 <= other) & (other <= mine)
        if causal:
            live = live & (j <= i)
        with np.errstate(divide="ignore"):
            s = q @ k.swapaxes(-1, -2) / np.sqrt(d) - np.where(i == j, 1e5, np.log(shared))
        scores.append(np.where(live, s, -np.inf))
    p = softmax(np.concatenate(scores, -1))
    return p @ np.concatenate([v, v], 2)
