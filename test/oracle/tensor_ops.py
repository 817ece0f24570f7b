"""Ops on whole tensors by their formulas, in float64.

Each function returns (value, magnitude): the magnitude is the sum of the absolute values of what was added up, which
an error of float sums is relative to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .tolerance import UNIT

Pair = tuple[np.ndarray, np.ndarray]


def windows(n: int, size: int, stride: int, offset: int, partial: bool) -> list[list[int]]:
    """The rows of each window."""
    starts = range(0, n, stride) if partial else range(0, max(0, n - offset - size + 1), stride)
    return [[r for r in range(s + offset, s + offset + size) if 0 <= r < n] for s in starts]


def pool(
    x: np.ndarray, kind: str, size: int, stride: int | None = None, offset: int = 0, partial: bool = False
) -> Pair:
    """Maximum, mean or sum of windows; an empty window gives 0."""
    x = x.astype(np.float64)
    values, sizes = [], []
    for rows in windows(x.shape[2], size, stride or size, offset, partial):
        w = x[:, :, rows]
        if not rows:
            values.append(np.zeros_like(x[:, :, 0]))
            sizes.append(np.zeros_like(x[:, :, 0]))
            continue
        values.append({"max": w.max, "mean": w.mean, "sum": w.sum}[kind](axis=2))
        below = len(rows) if kind == "mean" else 1
        sizes.append(np.abs(w).max(axis=2) if kind == "max" else np.abs(w).sum(axis=2) / below)
    empty = np.zeros((*x.shape[:2], 0, x.shape[3]))
    return (np.stack(values, 2), np.stack(sizes, 2)) if values else (empty, empty)


def scan(
    x: np.ndarray, kind: str, stride: int = 1, block: int | None = None, reverse: bool = False, exclusive: bool = False
) -> Pair:
    """Running maximum, mean or sum; of nothing, -inf or 0."""
    x = x.astype(np.float64)
    n = x.shape[2]
    value, size = np.zeros_like(x), np.zeros_like(x)
    for r in range(n):
        seen = [
            t for t in range(n)
            if (t >= r if reverse else t <= r) and (r - t) % stride == 0
            and (block is None or t // block == r // block) and not (exclusive and t == r)
        ]  # fmt: skip
        if not seen:
            value[:, :, r] = -np.inf if kind == "max" else 0
            continue
        w = x[:, :, seen]
        value[:, :, r] = {"max": w.max, "mean": w.mean, "sum": w.sum}[kind](axis=2)
        size[:, :, r] = np.abs(w).max(axis=2) if kind == "max" else np.abs(w).sum(axis=2)
        size[:, :, r] /= len(seen) if kind == "mean" else 1
    return value, size


def convolve(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None, stride: int | None = None, offset: int = 0,
    partial: bool = False,
) -> Pair:  # fmt: skip
    """A convolution along the rows, zeros outside."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    taps = w.shape[1]
    n = x.shape[2]
    starts = range(0, n, stride or taps) if partial else range(0, max(0, n - offset - taps + 1), stride or taps)
    width = w.shape[3] if w.ndim == 4 else x.shape[3]
    w = np.broadcast_to(w, (x.shape[1], *w.shape[1:]))
    out = []
    for absolute in (False, True):
        f: Callable[[np.ndarray], np.ndarray] = np.abs if absolute else np.asarray
        y = np.zeros((*x.shape[:2], len(starts), width))
        if bias is not None:
            y += f(bias.astype(np.float64))[:, None, :]
        for m, s in enumerate(starts):
            for t in range(taps):
                r = s + offset + t
                if 0 <= r < n and w.ndim == 4:
                    y[:, :, m] += np.einsum("bhd,hde->bhe", f(x[:, :, r]), f(w[:, t]))
                elif 0 <= r < n:
                    y[:, :, m] += f(x[:, :, r]) * f(w[:, t])
        out.append(y)
    return out[0], out[1]


def project(x: np.ndarray, e: np.ndarray, block: int = 1) -> Pair:
    """E^T X, of rows or of whole blocks of rows."""
    x, e = x.astype(np.float64), e.astype(np.float64)
    b, h, n, d = x.shape
    e = np.broadcast_to(e, (b, h, *e.shape[-2:]))
    blocks = x.reshape(b, h, n // block, block, d)
    shape = (b, h, e.shape[-1] * block, d)
    value = np.einsum("bhnr,bhnod->bhrod", e, blocks).reshape(shape)
    return value, np.einsum("bhnr,bhnod->bhrod", np.abs(e), np.abs(blocks)).reshape(shape)


def linear_attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, feature: Callable[[np.ndarray], np.ndarray] = np.asarray,
    causal: bool = False, decay: np.ndarray | None = None, states: tuple[np.ndarray, ...] = (), normalize: bool = True,
    eps: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(out, magnitude, S, z) by the recurrence, one token at a time (all keys at once where it is not causal)."""
    q, k = feature(q.astype(np.float64)), feature(k.astype(np.float64))
    v = v.astype(np.float64)
    b, heads, nq, d = q.shape
    own, dv = k.shape[1], v.shape[3]
    S = states[0].astype(np.float64).copy() if states else np.zeros((b, own, d, dv))
    z = states[1].astype(np.float64).copy() if len(states) > 1 else np.zeros((b, own, d))
    A = np.abs(S)
    out, size = np.zeros((b, heads, nq, dv)), np.zeros((b, heads, nq, dv))
    group = heads // own

    def read(i: int) -> None:
        x = q[:, :, i].reshape(b, own, group, d)
        top = np.einsum("bhgd,bhde->bhge", x, S)
        below = np.einsum("bhgd,bhd->bhg", x, z)[..., None] + eps if normalize else 1.0
        out[:, :, i] = (top / below).reshape(b, heads, dv)
        size[:, :, i] = (np.einsum("bhgd,bhde->bhge", np.abs(x), A) / np.abs(below)).reshape(b, heads, dv)

    for j in range(k.shape[2]):
        if decay is not None:
            g = np.exp(decay[:, :, j].astype(np.float64))  # of each channel where there are four dimensions
            g = g if decay.ndim == 4 else g[..., None]
            S, z, A = S * g[..., None], z * g, A * g[..., None]
        S = S + np.einsum("bhd,bhe->bhde", k[:, :, j], v[:, :, j])
        A = A + np.einsum("bhd,bhe->bhde", np.abs(k[:, :, j]), np.abs(v[:, :, j]))
        z = z + k[:, :, j]
        if causal:
            read(j)
    if not causal:
        for i in range(nq):
            read(i)
    return out, size, S, z


def group(ids: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows ordered by id, those out of range last, and where each group begins."""
    flat = ids.reshape(int(np.prod(ids.shape[:-1])), ids.shape[-1])
    inside = (flat >= 0) & (flat < groups)
    key = np.where(inside, flat, groups)
    permutation = np.argsort(key, axis=-1, kind="stable").reshape(ids.shape)
    counts = np.stack([np.bincount(row, minlength=groups + 1)[:groups] for row in key])
    offsets = np.concatenate([np.zeros((len(flat), 1), np.int64), counts.cumsum(-1)], -1)
    return permutation, offsets.reshape(*ids.shape[:-1], groups + 1)


def _rows(rows: np.ndarray, b: int, h: int) -> np.ndarray:
    if rows.ndim == 2:
        rows = rows[:, None]
    return np.broadcast_to(rows, (b, h, rows.shape[-1]))


def gather_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Listed rows; zeros for one that is not there."""
    b, h, n = x.shape[:3]
    rows = _rows(rows, b, h)
    y = np.zeros((b, h, rows.shape[-1], *x.shape[3:]), x.dtype)
    for at in np.ndindex(rows.shape):
        if 0 <= rows[at] < n:
            y[at] = x[at[0], at[1], rows[at]]
    return y


def scatter_rows(
    source: np.ndarray, rows: np.ndarray, base: np.ndarray, kind: str = "overwrite", eps: float = 0.0,
    zeros: bool = False,
) -> Pair:  # fmt: skip
    """Rows put to listed places."""
    b, h, n, _ = base.shape
    rows = _rows(rows, b, h)
    y = np.zeros(base.shape) if zeros else base.astype(np.float64)
    size = np.abs(y)
    for at in np.ndindex(b, h, n):
        here = [m for m in range(rows.shape[-1]) if rows[at[0], at[1], m] == at[2]]
        if here:
            x = source[at[0], at[1], here].astype(np.float64)
            below = len(here) + eps if kind == "mean" else 1.0
            y[at] = x[-1] if kind == "overwrite" else x.sum(0) / below
            size[at] = np.abs(x).sum(0) / below
    return y, size


def merge(parts: list[np.ndarray], lses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(out, magnitude, lse) of disjoint parts."""
    lse = np.stack([x.astype(np.float64) for x in lses])
    m = lse.max(0)
    m = np.where(np.isneginf(m), 0, m)
    w = np.exp(lse - m)
    z = w.sum(0)
    share = w / np.where(z == 0, 1, z)
    out = np.zeros(parts[0].shape)
    size = np.zeros(parts[0].shape)
    for s, p in zip(share, parts, strict=True):
        live = (s > 0)[..., None]
        out += np.where(live, s[..., None] * p.astype(np.float64), 0)
        size += np.where(live, s[..., None] * np.abs(p.astype(np.float64)), 0)
    with np.errstate(divide="ignore"):
        return out, size, m + np.log(z)


def bound(magnitude: np.ndarray, terms: int, dtype: str = "f32") -> np.ndarray:
    """How far a kernel's result may be: f32 sums of `terms` products, and one rounding to the storage type."""
    stored = 0.0 if dtype == "f32" else 2 * UNIT[dtype]
    return (4e-7 * np.sqrt(max(terms, 1)) + 4e-7 + stored) * magnitude + (2.0**-24 if dtype == "f16" else 1e-37)
