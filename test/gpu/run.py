"""Runs attention through a GPU kernel's PTX on the CPU, from the package's own description of the call."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import heddle as hd
from heddle import _attend, _gpu
from heddle._spec import DTYPES, prepare

from . import hopper, ptx

_NAMES = {
    torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64",
    torch.bool: "i1", torch.int8: "i8", torch.float64: "f64",
}  # fmt: skip


class _Api(ctypes.Structure):
    _fields_ = [("version", ctypes.c_int32), ("compile", ctypes.c_void_p)]


@functools.lru_cache(None)
def _library() -> ctypes.CDLL:
    build = Path(__file__).resolve().parents[2] / "build" / "lib" / "libheddle-compiler.so"
    return ctypes.CDLL(os.environ.get("HEDDLE_COMPILER_LIBRARY", str(build)))


@functools.lru_cache(None)
def _compiler() -> Callable[..., Any]:
    library = _library()
    library.heddle_compiler.restype = ctypes.POINTER(_Api)
    p = ctypes.POINTER
    kind = ctypes.CFUNCTYPE(
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, p(ctypes.c_void_p), p(ctypes.c_size_t), p(ctypes.c_void_p)
    )
    return kind(library.heddle_compiler().contents.compile)


class CompileError(ValueError):
    """What the compiler said."""


def compile_bytes(text: str, target: str) -> tuple[bytes, str]:
    """The artefact of a spec, compiled anew, or nothing and what the compiler said."""
    data, size = ctypes.c_void_p(), ctypes.c_size_t()
    error = _compiler()(text.encode(), target.encode(), ctypes.byref(data), ctypes.byref(size), None)
    if error:
        message = _library().heddle_error_message
        message.restype, message.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        return b"", message(error).decode()
    return ctypes.string_at(data, size.value), ""


@functools.lru_cache(64)
def compile_bundle(text: str, target: str = "sm_80") -> _gpu.Bundle:
    """The bundle of a spec, without ptxas."""
    os.environ["HEDDLE_PTXAS"] = ""
    try:
        data, message = compile_bytes(text, target)
    finally:
        del os.environ["HEDDLE_PTXAS"]
    if message:
        raise CompileError(f"{target}: the compiler refuses: {message}\n{text}")
    return _gpu.Bundle.parse(data)


@functools.lru_cache(64)
def _kernels(text: bytes) -> dict[str, ptx.Kernel]:
    return ptx.parse(text.decode())


def compile_text(text: str, target: str = "sm_80") -> tuple[_gpu.Bundle, dict[str, ptx.Kernel]]:
    """The bundle of a spec of one op, and its kernels."""
    bundle = compile_bundle(text, target)
    return bundle, _kernels(bundle.ptx)


def _storage(x: torch.Tensor) -> tuple[np.ndarray, int]:
    """The bytes that a tensor's elements lie in, and the byte offset of its first element."""
    raw = torch.tensor([], dtype=torch.uint8).set_(x.untyped_storage())
    return raw.numpy(), x.storage_offset() * x.element_size()


class Device:
    """Tensors in the interpreter's memory."""

    def __init__(self) -> None:
        self.memory = ptx.Memory()
        self.back: list[tuple[int, torch.Tensor]] = []
        self.stored: dict[int, int] = {}

    def view(self, x: Any, misalign: int = 0) -> _gpu.View:
        """A copy of a tensor with its strides."""
        t = x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x))
        data, offset = _storage(t)
        base = self.stored.get(data.ctypes.data)
        if base is None or not data.size:
            base = self.memory.put(data, misalign)
            self.stored[data.ctypes.data] = base
        return _gpu.View(base + offset, _NAMES[t.dtype], tuple(t.shape), tuple(t.stride()))

    def result(self, x: torch.Tensor) -> _gpu.View:
        """The same for a tensor that `fetch` fills."""
        v = self.view(x)
        data, offset = _storage(x)
        self.back.append((v.pointer - offset, x))
        return v

    def fetch(self) -> None:
        """Copies results back."""
        for base, x in self.back:
            data, _ = _storage(x)
            data[:] = self.memory.get(base, data.size)


def launch(
    device: Device, bundle: _gpu.Bundle, args: Sequence[Any], results: Sequence[_gpu.View | None],
    order: str = "together",
) -> None:
    """Runs all kernels of a bundle, with poison where they are to write first."""

    def memory(size: int) -> int:
        return device.memory.reserve(size) if size else 0

    between = memory(_gpu.places(bundle, args)[1]) if bundle.is_program else 0
    for part, plan in _gpu.plans(bundle, args, results, between):
        kernels, block = _kernels(part.ptx), [plan.parameters(memory(plan.workspace_bytes))]
        if plan.maps:
            block.append(maps_of(plan))
        for step in plan.steps:
            ptx.launch(kernels[step.name], device.memory, block, step.blocks, step.shared_bytes, order)


def spec(text: str, *values: Any, target: str = "sm_80", order: str = "together") -> list[torch.Tensor]:
    """The results of any spec: a kernel or a program."""
    device, bundle = Device(), compile_bundle(text, target)
    args = [
        x if formal["scalar"] or isinstance(x, (int, float)) else device.view(x)
        for formal, x in zip(bundle.manifest["args"], values, strict=True)
    ]
    types = {n: t for t, n in _NAMES.items()}
    outs = []
    for dtype, shape in _gpu.infer(bundle, args):
        fill = float("nan") if types[dtype].is_floating_point else 77
        outs.append(torch.full(shape, fill, dtype=types[dtype]))
    launch(device, bundle, args, [device.result(o) for o in outs], order)
    device.fetch()
    return outs


class Interpreted:
    """What the package takes for a compiled kernel."""

    def __init__(self, text: str, target: str) -> None:
        self.text = text

    def call(self, values: Sequence[Any], out: Any = None) -> tuple[torch.Tensor, ...]:
        """The results for tensors and numbers."""
        plain = [x.get() if isinstance(x, hd.Scalar) else x for x in values]
        return tuple(spec(self.text, *plain))


def maps_of(plan: _gpu.Plan) -> bytes:
    """The tensor maps in the interpreter's encoding."""
    return b"".join(hopper.encode(m.pointer, m.dims, m.strides, m.box) for m in plan.maps)


def _text(formula: Any, values: Sequence[Any]) -> str:
    """The spec of a call with these arguments."""
    signature: list[int] = []
    for (kind, _, _, _), x in zip(formula.arguments, values, strict=True):
        if kind not in ("index", "float", "finite"):
            t = x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x))
            wide = kind in ("q", "k", "v", "dot_q", "dot_k")
            signature += [DTYPES.index(_NAMES[t.dtype]), t.shape[3] if wide else t.dim()]
    return str(formula.text(signature))


def formula_of(
    q: Any, k: Any = None, v: Any = None, *, where: Any = None, score: Any = None, scale: Any = None, sink: Any = None,
    segments: Sequence[Any] | None = None, normalizer: str = "softmax", q_offset: Any = None, k_offset: Any = 0,
    return_lse: bool = False,
) -> tuple[Any, Sequence[Any]]:
    """What `heddle.attend` makes of its arguments: the spec as a function of their types, and their values."""
    where = _attend.full if where is None else where
    call = prepare(
        q, _attend.segments_of(q, k, v, where, score, k_offset, segments), scale=scale, sink=sink,
        normalizer=normalizer, q_offset=q_offset, lse=return_lse,
    )
    return _attend.plan_of(call)[0], call.values


def text_of(*args: Any, **options: Any) -> str:
    """The spec that `heddle.attend` would compile."""
    return _text(*formula_of(*args, **options))


def attend(
    *args: Any, target: str = "sm_80", order: str = "together", misalign: int = 0, out_stride: bool = False,
    **options: Any,
) -> Any:
    """`heddle.attend` by the GPU kernel. Results are poisoned before the launch."""
    formula, values = formula_of(*args, **options)
    device = Device()
    views = [
        value if kind in ("index", "float", "finite") else device.view(value, misalign)
        for (kind, _, _, _), value in zip(formula.arguments, values, strict=True)
    ]
    bundle = compile_bundle(_text(formula, values), target)
    v = next(a for a, f in zip(views, formula.arguments, strict=True) if f[0] == "v")
    shape = [*views[0].shape[:3], v.shape[3]]
    dtype = next(t for t, n in _NAMES.items() if n == views[0].dtype)
    width = shape[-1] + (3 if out_stride else 0)
    outs = [torch.full([*shape[:-1], width], float("nan"), dtype=dtype)[..., : shape[-1]]]
    if options.get("return_lse"):
        outs.append(torch.full(shape[:3], 12345.0))
    launch(device, bundle, views, [device.result(o) for o in outs], order)
    device.fetch()
    return tuple(outs) if options.get("return_lse") else outs[0]
