"""Compiled kernels: compile, save, load, and the cache."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from . import _core
from ._compiled import kernel_of
from ._cuda import GpuKernel
from ._errors import in_words
from ._gpu import Bundle
from ._program import KernelFunction
from ._scalars import Scalar, Tensor
from ._spec import Spec


class Kernel:
    """A compiled function: call it with the spec's arguments in order.

    Parameters of a call are tensors (NumPy, torch CPU, DLPack), ints and floats; the results are new
    tensors of the kind of the first.
    """

    __slots__ = ("_core", "_manifest", "_operands", "_target", "_text")

    def __init__(self, core: _core.Kernel, text: str | None, target: str, operands: tuple[Any, ...] = ()) -> None:
        self._core = core
        self._text = text
        self._target = target
        self._operands = operands
        self._manifest: dict[str, Any] = json.loads(core.manifest)

    @property
    def manifest(self) -> dict[str, Any]:
        """Signature and plan, as docs/abi.md defines them."""
        return self._manifest

    def __call__(self, *args: Any, out: Any = None) -> Any:
        """Runs the kernel.

        Parameters
        ----------
        *args
            The function's arguments in order; trailing ones may be left out where the spec carries their values.
        out
            Where to write the first result.

        Returns
        -------
        out or (out, lse)
        """
        formal = self._manifest["args"]
        missing = len(formal) - len(args)
        if 0 < missing <= len(self._operands):
            args = (*args, *self._operands[len(self._operands) - missing :])
        if len(args) != len(formal):
            names = ", ".join(a["name"] for a in formal)
            raise ValueError(f"expected {len(formal)} arguments ({names}), but got {len(args)}")
        values = [self._argument(a, x) for a, x in zip(formal, args, strict=True)]
        if "segments" not in self._manifest:  # not one attend: the runtime knows what it gives
            with in_words(lambda: {f"argument {n}": a["name"] for n, a in enumerate(formal)}):
                made = self._core.call(values, out)
            return made[0] if len(made) == 1 else made
        results = self._results(values, out)
        self._core.run(values, results)
        return results[0] if len(results) == 1 else tuple(results)

    @staticmethod
    def _argument(formal: dict[str, Any], x: Any) -> Any:
        if isinstance(x, Tensor):
            x = x.data
        if isinstance(x, Scalar):
            x = x.get()
        if formal["scalar"]:
            if formal["type"] in ("f32", "f64"):
                return float(x)
            if isinstance(x, bool) or not hasattr(x, "__index__"):
                raise TypeError(f"expected an integer for {formal['name']}, but got {x!r} ({type(x).__name__})")
            return x.__index__()
        return x

    def _results(self, values: list[Any], out: Any) -> list[Any]:
        formal = self._manifest["args"]
        roles = {r["role"]: n for n in reversed(range(len(formal))) for r in formal[n]["roles"]}
        q = values[roles["q"]]
        b, h, n, _ = _core.describe(q, "q")[1]
        dv = _core.describe(values[roles["v"]], "v")[1][3]
        results = [out if out is not None else _core.empty(q, [b, h, n, dv], "same")]
        if len(self._manifest["results"]) > 1:
            results.append(_core.empty(q, [b, h, n], "float32"))
        return results

    def ir(self, stage: str = "attn") -> str:
        """The IR after a stage: "attn", "schedule", "tiles", "vector", "llvm", "llvm-ir" or "asm"."""
        return _core.print_ir(self._source("ir"), self._target, stage)

    def explain(self, *args: Any, as_json: bool = False, **sizes: int) -> Any:
        """The schedule in words (or as a dictionary) for sizes such as ``b=1, h=8, nq=4096, nk=4096, d=64``.

        With the arguments of a call, the kernel also runs (three times or more) on them, and the measured time is
        set beside the predicted one; sizes that are not given are theirs.
        """
        if args:
            sizes = {**self._sizes(args), **sizes, "measured_ns": round(self._time(args) * 1e9)}
        text = _core.explain(self._source("explain"), ",".join(f"{k}={v}" for k, v in sizes.items()), as_json)
        return json.loads(text) if as_json else text

    def _sizes(self, args: tuple[Any, ...]) -> dict[str, int]:
        roles = {r["role"]: n for n, a in reversed(list(enumerate(self._manifest["args"]))) for r in a["roles"]}
        q, k = (_core.describe(args[roles[name]], name)[1] for name in ("q", "k"))
        return {"b": q[0], "h": q[1], "nq": q[2], "nk": k[2], "threads": _core.num_threads()}

    def _time(self, args: tuple[Any, ...]) -> float:
        out = self(*args)
        times: list[float] = []
        while len(times) < 3 or (sum(times) < 0.2 and len(times) < 100):
            begin = time.perf_counter()
            self(*args, out=out[0] if isinstance(out, tuple) else out)
            times.append(time.perf_counter() - begin)
        return sorted(times)[len(times) // 2]

    def _source(self, what: str) -> str:
        if self._text is None:
            raise ValueError(f"expected a kernel that was compiled here for {what}, but got one loaded from a bundle")
        return self._text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the kernel; `load` needs no compiler to read it."""
        self._core.save(os.fspath(path))

    def __reduce__(self) -> tuple[Any, ...]:
        # By its source: the process that reads it takes the kernel from the cache, or compiles it for its machine.
        return _recompile, (self._source("pickle or deepcopy"), self._target, self._operands)

    def __repr__(self) -> str:
        return f"<heddle.Kernel {self._manifest.get('name', '')} for {self._target}>"


def compile(spec: Spec | KernelFunction | str | os.PathLike[str], target: str = "native") -> Kernel | GpuKernel:
    """Compiles a spec, or takes it from the cache.

    Parameters
    ----------
    spec
        A `Spec`, an `hd.kernel` function that has been traced for one signature (by a call or its `spec`), the
        dialect's text, or the path of a file with it.
    target
        "native", "x86-64-v2", "x86-64-v3", "x86-64-v4" or "sapphirerapids" (with AMX); "emulated-amx": the kernels of
        the latter, its matrix tiles computed by vector loops, to test them on other machines; "sm_80", "sm_86",
        "sm_89", "sm_90" or "sm_90a" for a kernel that takes CUDA tensors.

    Raises
    ------
    ValueError
        With the diagnostics, where the spec does not compile.
    """
    operands: tuple[Any, ...] = ()
    if isinstance(spec, KernelFunction):
        spec = spec.traced()
    if isinstance(spec, Spec):
        text, operands = spec.text, spec.operands
    elif isinstance(spec, str) and ("\n" in spec or "func.func" in spec):
        text = spec
    elif isinstance(spec, (str, os.PathLike)):
        try:
            with open(spec, encoding="utf-8-sig") as file:
                text = file.read()
        except (FileNotFoundError, IsADirectoryError) as e:
            raise type(e)(
                f"expected a spec's text or the path of a file with it, but got {os.fspath(spec)!r}"
            ) from None
    else:
        raise TypeError(f"expected a Spec, an hd.kernel function, text or a path, but got {type(spec).__name__}")
    core = kernel_of(text, target)
    if target.startswith("sm_"):
        return GpuKernel(Bundle.parse(core.artifact))
    return Kernel(core, text, target, operands)


def _recompile(text: str, target: str, operands: tuple[Any, ...]) -> Kernel:
    return Kernel(kernel_of(text, target), text, target, operands)


def load(path: str | os.PathLike[str]) -> Kernel | GpuKernel:
    """Loads a kernel that `Kernel.save` or the compiler wrote, for the CPU or a GPU. Needs no compiler."""
    core = _core.kernel_open(os.fspath(path))
    if "gpu" in json.loads(core.manifest):
        return GpuKernel(Bundle.parse(core.artifact))
    return Kernel(core, None, "native")


def compile_count() -> int:
    """How many kernels this process has compiled so far (not those it found in the cache)."""
    return int(_core.cache_stats()["compiles"])


def cache_stats() -> dict[str, int]:
    """Hits, compiles and sizes of the kernel cache."""
    return dict(_core.cache_stats())


def cache_clear() -> None:
    """Removes every kernel from the disk, and from this process's memory."""
    _core.cache_clear()
    _core.cache_drop_memory()


def cache_list() -> list[dict[str, Any]]:
    """The entries on disk: key, bytes, last use, first line of the spec."""
    return list(json.loads(_core.cache_list()))


def cache_path() -> str:
    """The folder of the cache; "" where there is none (``HEDDLE_CACHE_DIR`` chooses it)."""
    return _core.cache_path()


def num_threads() -> int:
    """How many threads a kernel uses."""
    return _core.num_threads()


def set_num_threads(n: int) -> None:
    """Limits the threads of this process's kernels; n >= 1."""
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"expected an integer number of threads, but got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"expected at least 1 thread, but got {n}")
    _core.set_num_threads(n)
