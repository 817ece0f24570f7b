"""Attention on complex numbers: four dots, their modulus as the score."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "complex embedding"
SPEC = "four dots, score = hypot(...)"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    return tuple(rows(rng, 2, 2, n, 16) for _ in range(6))


def run(qr: Any, qi: Any, kr: Any, ki: Any, vr: Any, vi: Any) -> Any:
    def modulus(a: Any, b: Any, c: Any, d: Any, *_: Any) -> Any:
        real, imaginary = a - b, c + d
        return hd.sqrt(real * real + imaginary * imaginary)

    dots = [(qr, kr), (qi, ki), (qr, ki), (qi, kr)]
    values = np.concatenate([vr, vi], -1)
    return hd.attend(qr, segments=[hd.segment(kr, values, score=modulus, dots=dots)])


def spec_args(qr: Any, qi: Any, kr: Any, ki: Any, vr: Any, vi: Any) -> tuple[Any, ...]:
    return qr, qi, kr, ki, np.concatenate([vr, vi], -1)
