"""Dtype and sizes of tensors, wherever they are."""

from __future__ import annotations

from typing import Any

from . import _core
from ._cuda import describe, on_gpu


def describe_tensor(x: Any, name: str) -> tuple[str, tuple[int, ...]]:
    """Dtype and sizes of a tensor in memory or on a GPU; TypeError or ValueError where it is none that kernels take."""
    return describe(x, name) if on_gpu(x) else _core.describe(x, name)[:2]
