"""Kernels by their text, and the compiler's warnings."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from . import _core
from ._cuda import GpuKernel, on_gpu, target_of
from ._gpu import Bundle
from ._scalars import Scalar, Tensor

_MAX_KERNELS = 4096
_gpu_kernels: dict[tuple[str, str], GpuKernel] = {}


class LeakWarning(UserWarning):
    """A causal pattern on a summary that holds later tokens."""


def kernel_of(text: str, target: str = "native") -> Any:
    """The kernel of a spec, compiled where no cache has it; what the compiler warns of becomes a warning."""
    before = _core.cache_stats()
    kernel = _core.kernel_get(text, text, target)
    after = _core.cache_stats()
    if after["write_failures"] != before["write_failures"]:
        _warn_of_cache(_core.cache_path())
    if after["compiles"] != before["compiles"]:
        for line in _core.last_remarks().splitlines():
            if " warning: " in line:
                warnings.warn(line.split(" warning: ", 1)[1], LeakWarning, stacklevel=2)
    return kernel


@functools.cache
def _warn_of_cache(path: str) -> None:
    """Once for each folder."""
    text = f"expected a folder that can be written for the kernel cache, but got {path}: each process compiles again"
    warnings.warn(f"{text}; HEDDLE_CACHE_DIR names another", RuntimeWarning, stacklevel=3)


def gpu_kernel(text: str, target: str) -> GpuKernel:
    """The GPU kernel of a spec, compiled once and cached as the CPU's are."""
    found = _gpu_kernels.get((text, target))
    if found is None:
        found = GpuKernel(Bundle.parse(kernel_of(text, target).artifact))
        if len(_gpu_kernels) >= _MAX_KERNELS:
            _gpu_kernels.clear()
        _gpu_kernels[text, target] = found
    return found


class CompiledOnGpu:
    """A kernel of any spec, by the interface of the extension's CPU kernels."""

    def __init__(self, kernel: GpuKernel) -> None:
        self.kernel = kernel

    def call(self, values: Sequence[Any], out: Any = None) -> tuple[Any, ...]:
        """Runs on CUDA tensors and numbers; the results."""
        plain = [x.get() if isinstance(x, Scalar) else x.data if isinstance(x, Tensor) else x for x in values]
        made = self.kernel(*plain, out=out)
        return made if isinstance(made, tuple) else (made,)


def target_for(tensors: Iterable[Any]) -> str:
    """The target that a call on these tensors compiles for: that of the first one's device."""
    first = next((t for t in tensors if hasattr(t, "shape")), None)
    return target_of(first) if on_gpu(first) else "native"


def kernel_for(text: str, target: str) -> Any:
    """A kernel with a method `call`."""
    return CompiledOnGpu(gpu_kernel(text, target)) if target.startswith("sm_") else kernel_of(text, target)
