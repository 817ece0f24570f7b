"""Combiner-Axial (vertical, horizontal, rowmajor) and Mixture, on an image in raster order."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Combiner Axial, Mixture"
SPEC = (
    "seg(k, v, row prefix | column above) + seg(scan_max(k, stride=w), attend(scan_max(q), k, "
    "v), grid(w, offsets([0]), ~offsets([0])))"
)
COST = "O(n sqrt n)"
VARIANTS: dict[str, dict[str, Any]] = {
    kind: {"kind": kind} for kind in ("vertical", "horizontal", "rowmajor", "mixture", "joint mixture")
}
W = 6  # of the image

SAME = hd.offsets([0])


def own_row() -> hd.Pattern:
    """The row up to the query."""
    return hd.grid(W, SAME, hd.causal)


def above() -> hd.Pattern:
    """The column, above the query."""
    return hd.grid(W, hd.causal(1), SAME)


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, **_: Any) -> tuple[Any, ...]:
    # Whole rows of the image: a summary of a row needs all of it.
    return tuple(rows(rng, 2, 2, -(-n // W) * W, 32) for _ in range(3))


def summaries(q: Any, k: Any, v: Any, kind: str) -> Any:
    """The segment of summaries: one for each place of the image, since what a query sees ends at its row or column."""
    if kind == "vertical":  # summary (r, c): column c above row r; query (r, c') sees those of its row, c' != c
        top, key = (hd.scan(x, "max", stride=W, exclusive=True) for x in (q, k))
        seen = hd.grid(W, SAME, ~SAME) & hd.queries([(W, hd.end)])  # nothing is above row 0
        return hd.segment(key, hd.attend(top, k, v, where=above()), seen)
    if kind == "rowmajor":  # summary (r, c): row r as (r, c) sees it; query (r', c) sees those of its column
        return hd.segment(k, hd.attend(q, k, v, where=hd.block(W)), above())

    # horizontal: summary (r, c): row r without column c; query (r', c) sees those of its column.
    def others(x: Any) -> Any:
        left, right = (hd.scan(x, "max", block=W, reverse=back, exclusive=True) for back in (False, True))
        return hd.maximum(left, right)

    return hd.segment(others(k), hd.attend(others(q), k, v, where=hd.grid(W, SAME, ~SAME)), above())


@hd.kernel
def combiner(q: Any, k: Any, v: Any, kinds: tuple[str, ...]) -> Any:
    tokens = own_row() if kinds == ("rowmajor",) else own_row() | above()
    return hd.attend(q, segments=[hd.segment(k, v, tokens), *(summaries(q, k, v, kind) for kind in kinds)])


@hd.kernel
def mixture(q: Any, k: Any, v: Any) -> Any:
    return (combiner(q, k, v, ("vertical",)) + combiner(q, k, v, ("horizontal",))) / 2


def run(q: Any, k: Any, v: Any, kind: str) -> Any:
    if kind == "mixture":
        return mixture(q, k, v)
    return combiner(q, k, v, ("vertical", "horizontal") if kind == "joint mixture" else (kind,))
