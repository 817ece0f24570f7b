"""Scalar functions under the names that score and mask functions use, on NumPy arrays.

A score or mask function of a test is written once, against a namespace: with
this module it runs here, with ``heddle`` it is traced and compiled.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

exp, exp2, log, sqrt, tanh = np.exp, np.exp2, np.log, np.sqrt, np.tanh
floor, sin, cos, abs = np.floor, np.sin, np.cos, np.abs
maximum, minimum = np.maximum, np.minimum
clamp = np.clip
_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Any) -> Any:
    """The error function."""
    return _erf(x)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def select(cond: Any, x: Any, y: Any) -> Any:
    """``x`` where ``cond`` holds, else ``y``."""
    return np.where(cond, x, y)


def scalar(x: Any) -> int:
    """A run-time integer; here just the integer."""
    return int(x)


class tensor:  # noqa: N801  (it stands for heddle.tensor)
    """A captured table: indexed by position, an index out of range is clamped."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, np.float64)

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        clamped = tuple(
            np.clip(np.asarray(x, np.int64), 0, n - 1)
            for x, n in zip(index, self.values.shape, strict=True)
        )
        return self.values[clamped]
