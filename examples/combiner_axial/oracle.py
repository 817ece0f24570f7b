"""Combiner-Axial and Mixture, from the paper's formula (rowmajor: from the authors' code), row by row."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(s: np.ndarray) -> np.ndarray:
    """Over the last axis; an empty row (all -inf) gives zeros."""
    m = s.max(-1, keepdims=True, initial=-np.inf)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = p.sum(-1, keepdims=True)
    return p / np.where(z == 0, 1, z)


W = 6


def oracle(q: Any, k: Any, v: Any, kind: str) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    if kind == "mixture":
        return (attend(q, k, v, ["vertical"]) + attend(q, k, v, ["horizontal"])) / 2
    return attend(q, k, v, ["vertical", "horizontal"] if kind == "joint mixture" else [kind])


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, kinds: list[str]) -> np.ndarray:
    """One softmax over the tokens and the summaries of all kinds."""
    root, n = np.sqrt(q.shape[-1]), q.shape[2]
    out = np.empty_like(v)
    for i in range(n):
        row, col = divmod(i, W)
        # Tokens: the own row up to i, and (but rowmajor) the own column above.
        tokens = [r * W + col for r in range(row) if kinds != ["rowmajor"]] + list(range(row * W, i + 1))
        keys, values = [k[:, :, tokens]], [v[:, :, tokens]]
        for kind in kinds:
            for part, by in regions(kind, row, col):
                top = q[:, :, part].max(2, keepdims=True) if by is None else q[:, :, by : by + 1]
                p = softmax(top @ k[:, :, part].swapaxes(-1, -2) / root)
                values.append(p @ v[:, :, part])
                keys.append(k[:, :, part].max(2, keepdims=True) if by is None else k[:, :, by : by + 1])
        ks, vs = np.concatenate(keys, 2), np.concatenate(values, 2)
        out[:, :, i : i + 1] = softmax(q[:, :, i : i + 1] @ ks.swapaxes(-1, -2) / root) @ vs
    return out


def regions(kind: str, row: int, col: int) -> list[tuple[list[int], int | None]]:
    """The tokens of each summary that (row, col) sees, and the token whose q and k stand for it (None: maxima)."""
    if kind == "vertical":  # other columns, above the row
        return [([r * W + c for r in range(row)], None) for c in range(W) if c != col and row > 0]
    whole = [list(range(r * W, r * W + W)) for r in range(row)]  # rows before
    if kind == "rowmajor":
        return [(tokens, tokens[col]) for tokens in whole]
    return [([t for t in tokens if t % W != col], None) for tokens in whole]  # without the own column
