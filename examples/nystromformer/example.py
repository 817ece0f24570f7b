"""Nystroemformer: softmax attention through landmarks, with an iterated inverse between them."""

from __future__ import annotations

from typing import Any

import numpy as np

import heddle as hd

SYSTEM = "Nystroemformer"
SPEC = "attend(q, kl, project(attend(ql, k, v), pinv(attend(ql, kl, 1)))) + convolve(v), landmarks ql, kl by pool"
COST = "O(n m)"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
LANDMARKS, TAPS = 8, 5


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    n = -(-n // LANDMARKS) * LANDMARKS
    return *(rows(rng, 2, 2, n, 32) for _ in range(3)), rows(rng, 2, TAPS)


@hd.kernel
def to_landmarks(q: Any, k: Any, v: Any, one: Any, size: int) -> Any:
    ql, kl = hd.pool(q, "mean", size), hd.pool(k, "mean", size)
    return hd.attend(ql, kl, one), hd.attend(ql, k, v), kl  # softmax(ql kl^T) itself: values are the unit matrix


@hd.kernel
def from_landmarks(q: Any, kl: Any, far: Any, inverse: Any, v: Any, taps: Any) -> Any:
    near = hd.convolve(v, taps, stride=1, offset=-(TAPS // 2), partial=True)
    return hd.attend(q, kl, hd.project(far, inverse)) + near


def inverted(a: Any) -> Any:
    """Six steps of the iteration of Razavi et al. towards the pseudo-inverse, on m x m matrices."""
    one = np.eye(a.shape[-1])
    z = a.swapaxes(-1, -2) / np.abs(a).sum(-2).max() / np.abs(a).sum(-1).max()
    for _ in range(6):
        az = a @ z
        z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
    return z


def mean_weights(n: int) -> np.ndarray:
    """The spec's way to means of n / m rows each: a run-time matrix, so that a new length compiles nothing."""
    return np.kron(np.eye(LANDMARKS), np.full((n // LANDMARKS, 1), LANDMARKS / n)).astype(np.float32)


def units(q: Any) -> np.ndarray:
    return np.broadcast_to(np.eye(LANDMARKS, dtype=np.float32), (1, q.shape[1], LANDMARKS, LANDMARKS))


def wide(taps: Any, q: Any) -> np.ndarray:
    """A head's taps, for all of its features."""
    return np.broadcast_to(taps[..., None], (*taps.shape, q.shape[-1]))


def run(q: Any, k: Any, v: Any, taps: Any) -> Any:
    a, far, kl = to_landmarks(q, k, v, units(q), q.shape[2] // LANDMARKS)
    return finish(q, v, taps, a, far, kl, from_landmarks)


def finish(q: Any, v: Any, taps: Any, a: Any, far: Any, kl: Any, last: Any) -> Any:
    inverse = inverted(a.astype(np.float64)).astype(np.float32)
    return last(q, kl, far, inverse.swapaxes(-1, -2), v, wide(taps, q))


def spec_args(q: Any, k: Any, v: Any, taps: Any) -> tuple[Any, ...]:
    return q, k, v, mean_weights(q.shape[2]), units(q)


def from_spec(out: Any, q: Any, k: Any, v: Any, taps: Any) -> Any:
    return finish(q, v, taps, *out, from_landmarks)
