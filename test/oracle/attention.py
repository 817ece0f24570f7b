"""Attention by the formula, in float64, pair by pair.

    s(i,j) = scale * dot(q_i, k_j), then the segment's score function
    out_i  = sum over segments and live j of exp(s(i,j) - m_i) v_j / Z_i
    lse_i  = m_i + log Z_i

A dead pair is *selected* away: its score and its value are never read into a
sum. NaN and inf of live pairs act as in the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import patterns


@dataclass
class Segment:
    """Keys and values with their pattern (text) and score function.

    `dots` replaces the usual dot by those of the listed (q, k) pairs, which may
    be none; the score function then gets one value per dot.
    """

    k: np.ndarray
    v: np.ndarray
    where: str | patterns.Pattern = "full"
    score: Callable[..., Any] | None = None
    scale: float | None = None
    k_offset: Any = 0
    dots: Sequence[tuple[np.ndarray, np.ndarray]] | None = None


@dataclass
class Relative:
    """The key of a dot with row clamp(i - j + shift, 0, Nr - 1) of `rows` ``[B, H, Nr, D]``."""

    rows: np.ndarray
    shift: int = 0


@dataclass
class Result:
    """What attention gives, and what a tolerance needs to know about it.

    Attributes
    ----------
    out, lse
        ``[B, Hq, Nq, Dv]`` and ``[B, Hq, Nq]``, float64.
    live
        Live pairs of each segment, ``[B, Hq, Nq, Nk]``.
    keys
        Number of live keys of each row.
    weight
        ``sum_j |p_ij| |v_j|`` for each output element, p being normalised.
    top
        ``max_j |s_ij|`` over live pairs of a row (0 for an empty row).
    terms
        The largest sum of absolute values of a live pair's dot (0 without dots): a
        dot's rounding is relative to this, not to the dot.
    """

    out: np.ndarray
    lse: np.ndarray
    live: list[np.ndarray] = field(default_factory=list)
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0))
    weight: np.ndarray = field(default_factory=lambda: np.zeros(0))
    top: np.ndarray = field(default_factory=lambda: np.zeros(0))
    terms: np.ndarray = field(default_factory=lambda: np.zeros(0))


def heads_of(x: np.ndarray, batch: int, heads: int) -> np.ndarray:
    """``[B, H, N, D]`` in float64, batch and heads repeated to (batch, heads)."""
    x = np.asarray(x, np.float64)
    x = np.repeat(x, heads // x.shape[1], axis=1)
    return np.broadcast_to(x, (batch, *x.shape[1:]))


def _dot(q: np.ndarray, k: np.ndarray, live: np.ndarray) -> np.ndarray:
    """``q @ k^T`` where a non-finite row touches only its own pairs."""
    with np.errstate(all="ignore"):
        s = q @ np.swapaxes(k, -1, -2)
        bad_k = ~np.isfinite(k).all(-1)
        bad_q = ~np.isfinite(q).all(-1)
        if not bad_k.any() and not bad_q.any():
            return s
        # BLAS may mix rows when it meets inf or NaN: redo those pairs alone.
        touched = (bad_q[..., :, None] | bad_k[..., None, :]) & live
        clean = np.where(bad_q[..., None], 0, q) @ np.swapaxes(np.where(bad_k[..., None], 0, k), -1, -2)
        for b, h, i, j in np.argwhere(touched):
            clean[b, h, i, j] = (q[b, h, i] * k[b, h, j]).sum()
        return clean


def _dot_of(a: np.ndarray, b: Any, g: Any, live: np.ndarray, q: np.ndarray) -> np.ndarray:
    """q (a with all heads) times the keys b, or times the rows of the distance, for every pair."""
    batch, heads = q.shape[:2]
    if not isinstance(b, Relative):
        return _dot(q, heads_of(b, batch, heads), live)
    every = q @ np.swapaxes(heads_of(b.rows, batch, heads), -1, -2)  # with every row
    at = np.clip(np.broadcast_to(g.i - g.j + b.shift, live.shape), 0, every.shape[-1] - 1)
    return np.take_along_axis(every, at.astype(np.int64), axis=-1)


def _size(x: Any) -> Any:
    """Absolute values, infinities and NaN as 0."""
    if isinstance(x, Relative):
        return Relative(_size(x.rows), x.shift)
    return np.nan_to_num(np.abs(x), nan=0, posinf=0)


def _weighted(w: np.ndarray, v: np.ndarray, live: np.ndarray) -> np.ndarray:
    """``sum_j w_ij v_j`` over live pairs only."""
    finite = np.isfinite(v)
    out = np.where(live, w, 0.0) @ np.where(finite, v, 0.0)
    for b, h, j in np.argwhere(~finite.all(-1)):
        rows = np.nonzero(live[b, h, :, j])[0]
        bad = ~finite[b, h, j]
        with np.errstate(all="ignore"):
            out[b, h][np.ix_(rows, bad)] += np.outer(w[b, h, rows, j], v[b, h, j, bad])
    return out


def attend(
    q: np.ndarray,
    k: np.ndarray | None = None,
    v: np.ndarray | None = None,
    *,
    where: str | patterns.Pattern = "full",
    score: Callable[..., Any] | None = None,
    scale: float | None = None,
    sink: np.ndarray | None = None,
    segments: Sequence[Segment] | None = None,
    normalizer: str = "softmax",
    q_offset: Any = 0,
    k_offset: Any = 0,
    operands: Mapping[str, Any] | None = None,
    round_weights: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Result:
    """Attention of `q` over all segments with one softmax.

    Parameters
    ----------
    q, k, v
        ``[B, H, N, D]``; the head count of q is a multiple of those of k and v.
    q_offset, k_offset
        A number, one per batch, or ``"end"`` (Nk - Nq).
    operands
        Run-time operands of the patterns, by name.
    round_weights
        Applied to the weights before they meet the values (for tolerances).
    """
    q = np.asarray(q, np.float64)
    if segments is None:
        assert k is not None and v is not None
        segments = [Segment(k, v, where, score, None, k_offset)]
    batch, heads, nq, d = q.shape
    batch = max([batch, *(s.v.shape[0] for s in segments)])
    q = np.broadcast_to(q, (batch, *q.shape[1:]))
    if scale is None:
        scale = 1.0 / np.sqrt(d)

    scores, lives, values = [], [], []
    terms = np.zeros((batch, heads, nq))
    for seg in segments:
        value = heads_of(seg.v, batch, heads)
        nk = value.shape[2]
        off = nk - nq if isinstance(q_offset, str) else q_offset
        koff = nk - nq if isinstance(seg.k_offset, str) else seg.k_offset
        pattern = patterns.parse(seg.where) if isinstance(seg.where, str) else seg.where
        g = patterns.grid(
            nq,
            nk,
            batch=batch,
            heads=(heads, np.asarray(seg.k).shape[1]),
            q_offset=off,
            k_offset=koff,
            operands=operands,
        )
        live = np.array(np.broadcast_to(pattern.live(g), (batch, heads, nq, nk)))
        factor = scale if seg.scale is None else seg.scale
        pairs = [(q, seg.k)] if seg.dots is None else seg.dots
        dots = [factor * _dot_of(a, b, g, live, heads_of(a, batch, heads)) for a, b in pairs]
        with np.errstate(all="ignore"):
            if seg.score is not None:
                s = seg.score(*dots, g.b, g.h, g.i, g.j)
                s = np.array(np.broadcast_to(s, live.shape), np.float64)
            else:
                s = sum(dots[1:], start=dots[0])
        live &= ~np.isneginf(s)
        for a, b in pairs:
            total = abs(factor) * _dot_of(_size(a), _size(b), g, live, heads_of(_size(a), batch, heads))
            terms = np.maximum(terms, np.where(live, total, 0).max(-1, initial=0))
        scores.append(s)
        lives.append(live)
        values.append(value)

    s = np.concatenate(scores, -1)
    live = np.concatenate(lives, -1)
    value = np.concatenate(values, -2)
    keys = live.sum(-1)
    top = np.abs(np.where(live, s, 0)).max(-1, initial=0)
    with np.errstate(all="ignore"):
        if normalizer == "softmax":
            m = np.where(live, s, -np.inf).max(-1, initial=-np.inf)
            if sink is not None:
                logits = np.broadcast_to(np.asarray(sink, np.float64), (heads,))[None, :, None]
                m = np.maximum(m, logits)
            w = np.where(live, np.exp(s - m[..., None]), 0)
            z = w.sum(-1)
            if sink is not None:
                z = z + np.exp(logits - m)
            lse = m + np.log(z)
        else:
            w = np.where(live, s, 0)
            z = w.sum(-1) if normalizer == "sum" else np.ones(s.shape[:-1])
            lse = np.full(s.shape[:-1], np.nan)
        if round_weights is not None:
            w = round_weights(w)
        out = _weighted(w, value, live) / z[..., None]
        weight = _weighted(np.abs(w), np.abs(value), live) / np.abs(z)[..., None]
    empty = (keys == 0)[..., None]
    out = np.where(empty, 0.0, out)
    weight = np.where(empty, 0.0, weight)
    if normalizer == "softmax":
        lse = np.where(keys == 0, -np.inf, lse)
    return Result(out, lse, lives, keys, weight, top, terms)


def merge(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One (out, lse) from partial ones, by the same formula."""
    lse = np.stack([np.asarray(p[1], np.float64) for p in parts])
    out = np.stack([np.asarray(p[0], np.float64) for p in parts])
    with np.errstate(all="ignore"):
        m = lse.max(0)
        w = np.where(np.isneginf(lse), 0, np.exp(lse - m))
        z = w.sum(0)
        total = np.where(z > 0, m + np.log(z), -np.inf)
        mixed = (np.where(w[..., None] > 0, w[..., None] * out, 0)).sum(0) / z[..., None]
    return np.where(z[..., None] > 0, mixed, 0), total
