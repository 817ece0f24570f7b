"""Tree attention: nodes hold the accumulated values of their subtrees, under one softmax with the leaves."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Tree (hierarchical accumulation)"
SPEC = (
    "seg(kn, attend(leaves, pairs by branch; normaliser none, score w_j / (|L_i| |C_ij|)), "
    "between(i, end_i)) + seg(kl, vl, between(lo, hi))"
)
COST = "O(n^2), accumulation O(n log^2 n)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    """Two random trees over n leaves: parents of nodes (-1 the root's, -2 no node) in preorder, and of leaves."""
    trees = [tree(rng, n) for _ in range(2)]
    m = max(len(t[0]) for t in trees)
    nodes = np.stack([np.pad(t[0], (0, m - len(t[0])), constant_values=-2) for t in trees])
    leaves = np.stack([t[1] for t in trees])
    inner, outer = [rows(rng, 2, 2, m, 32) for _ in range(3)], [rows(rng, 2, 2, n, 32) for _ in range(3)]
    return *inner, *outer, rows(rng, 2, 2, n), rows(rng, 2, n, 16), rows(rng, 2, n, 16), nodes, leaves


def tree(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    nodes: list[int] = []
    leaves = np.zeros(n, np.int64)

    def grow(lo: int, hi: int, parent: int) -> None:
        if hi - lo == 1 and parent >= 0:
            leaves[lo] = parent
            return
        mine = len(nodes)
        nodes.append(parent)
        cuts = sorted({lo, hi, *(int(c) for c in rng.integers(lo, hi, 2))})
        if len(cuts) == 2 and hi - lo > 1:
            cuts = [lo, (lo + hi) // 2, hi]
        for a, b in itertools.pairwise(cuts):
            grow(a, b, mine)

    grow(0, n, -1)
    return np.array(nodes), leaves


def flatten(nodes: Any, leaves: Any) -> tuple[np.ndarray, ...]:
    """Index tensors of the trees: spans in preorder, and all pairs of a node and a leaf below it, by node."""
    found = []
    for parents, under in zip(nodes, leaves, strict=True):
        m, n = len(parents), len(under)
        end, level = np.arange(m), np.zeros(m, np.int64)  # past the subtree; nodes up to the root
        lo, hi = np.full(m, n), np.zeros(m, np.int64)
        leaf_level = np.zeros(n, np.int64)
        pairs: list[list[tuple[int, int]]] = [[] for _ in range(m)]
        for t in range(m):
            if parents[t] >= -1:
                level[t] = level[parents[t]] + 1 if parents[t] >= 0 else 1
            up = t if parents[t] >= -1 else -1
            while up >= 0:
                end[up] = t + 1
                up = parents[up]
        for j, t in enumerate(under):
            leaf_level[j] = level[t] + 1
            distance = 0
            while t >= 0:
                lo[t], hi[t] = min(lo[t], j), max(hi[t], j + 1)
                pairs[t].append((j, distance))
                distance, t = distance + 1, parents[t]
        start = np.cumsum([0, *(len(p) for p in pairs)])
        flat = np.array([(t, j, d, j - lo[t]) for t, p in enumerate(pairs) for j, d in p]).T
        found.append((lo, hi, np.arange(m), end, start[:-1], start[end], level, leaf_level, *flat))
    wide = max(len(f[-1]) for f in found)
    for n, f in enumerate(found):
        found[n] = (*f[:8], *(np.pad(x, (0, wide - len(x)), constant_values=-1) for x in f[8:]))
    return tuple(np.stack(x).astype(np.int32) for x in zip(*found, strict=True))


@hd.kernel
def attention(
    qn: Any, kn: Any, vn: Any, kl: Any, vl: Any, w: Any, down: Any, across: Any, lo: Any, hi: Any, first: Any,
    end: Any, pairs_lo: Any, pairs_hi: Any, level: Any, leaf_level: Any, node: Any, leaf: Any, depth: Any, place: Any,
) -> Any:  # fmt: skip
    # n_t + E_tj for each leaf j below each node t.
    pairs = hd.gather_rows(vn, node) + hd.gather_rows(down, depth) + hd.gather_rows(across, place)

    def weight(b: Any, h: Any, i: Any, j: Any) -> Any:
        """w_j over the leaves of node i, and over the nodes from it down to j with j itself."""
        return w[b, h, j] / ((hi[b, i] - lo[b, i]) * (leaf_level[b, j] - level[b, i] + 1))

    own = hd.segment(vl, vl, hd.between(lo, hi), score=weight, dots=[])
    branch = hd.segment(
        pairs, pairs, hd.between(pairs_lo, pairs_hi), score=lambda b, h, i, j: weight(b, h, i, leaf[b, j]), dots=[]
    )
    values = hd.attend(vn, segments=[own, branch], normalizer="none", q_offset=0)
    return hd.attend(
        qn, segments=[hd.segment(kn, values, hd.between(first, end)), hd.segment(kl, vl, hd.between(lo, hi))],
        q_offset=0,
    )  # fmt: skip


def wide(down: Any, across: Any) -> tuple[np.ndarray, np.ndarray]:
    """[e_v; 0] and [0; e_h], whose sums are the rows [e_v; e_h]; for each batch, as what is gathered has batches."""
    tables = np.concatenate([down, 0 * across], -1), np.concatenate([0 * down, across], -1)
    return tuple(np.repeat(t[None], 2, 0) for t in tables)  # type: ignore[return-value]


def run(
    qn: Any, kn: Any, vn: Any, ql: Any, kl: Any, vl: Any, w: Any, down: Any, across: Any, nodes: Any, leaves: Any
) -> Any:
    inner = attention(qn, kn, vn, kl, vl, w, *wide(down, across), *flatten(nodes, leaves))
    return np.concatenate([inner, hd.attend(ql, kl, vl)], 2)


def spec_args(
    qn: Any, kn: Any, vn: Any, ql: Any, kl: Any, vl: Any, w: Any, down: Any, across: Any, nodes: Any, leaves: Any
) -> tuple[Any, ...]:
    return qn, kn, vn, ql, kl, vl, w, *wide(down, across), *flatten(nodes, leaves)


def from_spec(out: Any, *_: Any) -> Any:
    return np.concatenate(out, 2)
