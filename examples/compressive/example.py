"""Compressive Transformer: compressed memory, memory and sequence under one softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Compressive"
SPEC = "segments [pool(old), memory, x (causal)], dots(q+u, k; q+w, r[i - j])"
COST = "O(n (n + mem + cmem))"
KINDS = ("mean", "max", "convolution", "dilated", "most used")
VARIANTS: dict[str, dict[str, Any]] = {kind: {"pool": kind} for kind in KINDS}
OLD, C, MEM = 24, 3, 10


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int, pool: str) -> tuple[Any, ...]:
    old, memory, now = ([rows(rng, 2, 2, m, 32) for _ in range(2)] for m in (OLD, MEM, n))
    r = rows(rng, 1, 2, OLD // C + MEM + n, 32)
    more: tuple[Any, ...] = ()
    if pool in ("convolution", "dilated"):  # [H, taps, D, D] and a bias, for keys and for values
        more = tuple(rows(rng, *shape) / 8 for _ in range(2) for shape in ((2, C, 32, 32), (2, 32)))
    if pool == "most used":  # rows of the old memory by the attention that they got, which the host keeps
        kept = [np.sort(rng.permutation(OLD)[: OLD // C]) for _ in range(4)]
        more = (np.stack(kept).reshape(2, 2, -1).astype(np.int64),)
    return rows(rng, 2, 2, n, 32), *old, *memory, *now, r, rows(rng, 2, 1, 32), rows(rng, 2, 1, 32), *more


def compress(ko: Any, vo: Any, more: tuple[Any, ...], pool: str) -> tuple[Any, Any]:
    if pool == "convolution":
        return hd.convolve(ko, *more[:2]), hd.convolve(vo, *more[2:])
    if pool == "dilated":  # taps two rows apart: zeros between them
        wide = [np.zeros((2, 2 * C - 1, 32, 32), np.float32) for _ in range(2)]
        for w, given in zip(wide, more[::2], strict=True):
            w[:, ::2] = given
        return tuple(
            hd.convolve(x, w, b, stride=C, partial=True) for x, w, b in zip((ko, vo), wide, more[1::2], strict=True)
        )  # type: ignore[return-value]
    if pool == "most used":
        return hd.gather_rows(ko, more[0]), hd.gather_rows(vo, more[0])
    return hd.pool(ko, pool, C), hd.pool(vo, pool, C)


def run(
    q: Any, ko: Any, vo: Any, km: Any, vm: Any, k: Any, v: Any, r: Any, u: Any, w: Any, *more: Any, pool: str
) -> Any:
    kc, vc = compress(ko, vo, more, pool)
    compressed = OLD // C
    second = (q + w, hd.relative(r))

    def part(keys: Any, values: Any, first: int, where: hd.Pattern = hd.full) -> Any:
        return hd.segment(keys, values, where, k_offset=first, dots=[(q + u, keys), second])

    parts = [part(kc, vc, 0), part(km, vm, compressed), part(k, v, compressed + MEM, hd.causal)]
    return hd.attend(q, segments=parts, q_offset=compressed + MEM)


def spec_args(q: Any, *rest: Any) -> tuple[Any, ...]:
    *kv, r, u, w = rest
    return q + u, q + w, *kv, r
