"""Kernels by their text, and the compiler's warnings."""

from __future__ import annotations

import warnings
from typing import Any

from . import _core


class LeakWarning(UserWarning):
    """A causal pattern on a summary that holds later tokens."""


def kernel_of(text: str, target: str = "native") -> Any:
    """The kernel of a spec, compiled where no cache has it; what the compiler warns of becomes a warning."""
    before = _core.cache_stats()["compiles"]
    kernel = _core.kernel_get(text, text, target)
    if _core.cache_stats()["compiles"] != before:
        for line in _core.last_remarks().splitlines():
            if " warning: " in line:
                warnings.warn(line.split(" warning: ", 1)[1], LeakWarning, stacklevel=2)
    return kernel
