"""Tree attention with hierarchical accumulation, from the formulas, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


def oracle(
    qn: Any, kn: Any, vn: Any, ql: Any, kl: Any, vl: Any, w: Any, down: Any, across: Any, nodes: Any, leaves: Any
) -> np.ndarray:
    qn, kn, vn, ql, kl, vl, w, down, across = (x.astype(np.float64) for x in (qn, kn, vn, ql, kl, vl, w, down, across))
    root = np.sqrt(qn.shape[-1])
    out_n = np.zeros_like(vn)
    for b in range(len(nodes)):
        known = [t for t in range(len(nodes[b])) if nodes[b][t] >= -1]  # -2: no node
        above = []  # the ancestors of each leaf, nearest first
        for t in leaves[b]:
            path = []
            while t >= 0:
                path.append(t)
                t = nodes[b][t]
            above.append(path)
        below = {i: [j for j, path in enumerate(above) if i in path] for i in known}  # leaves of a node
        subtree: dict[int, list[int]] = {i: [] for i in known}
        for t in known:
            up = t
            while up >= 0:
                subtree[up].append(t)
                up = nodes[b][up]

        def place(t: int, j: int) -> np.ndarray:
            """E_tj: how far leaf j is below node t, and which of its leaves it is, counted from the left."""
            return np.concatenate([down[:, above[j].index(t)], across[:, below[t].index(j)]], -1)

        accumulated = {}
        for i in known:
            total = np.zeros_like(vn[b, :, 0])
            for j in below[i]:
                branch = above[j][: above[j].index(i) + 1]  # nodes of the subtree over leaf j
                parts = [vl[b, :, j], *(vn[b, :, t] + place(t, j) for t in branch)]
                total += w[b, :, j, None] * sum(parts) / len(parts)
            accumulated[i] = total / len(below[i])
        for i in known:
            ks = np.concatenate([kn[b][:, subtree[i]], kl[b][:, below[i]]], 1)
            vs = np.concatenate([np.stack([accumulated[t] for t in subtree[i]], 1), vl[b][:, below[i]]], 1)
            p = softmax(np.einsum("hd,hjd->hj", qn[b, :, i], ks) / root)
            out_n[b, :, i] = np.einsum("hj,hjd->hd", p, vs)
    out_l = softmax(ql @ kl.swapaxes(-1, -2) / root) @ vl
    return np.concatenate([out_n, out_l], 2)
