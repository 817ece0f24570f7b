"""Launches GPU bundles through the CUDA driver's own library, by ctypes: no compiler, no extension module.

Tensors are torch's or anything with ``__cuda_array_interface__`` (CuPy, Numba). A launch is asynchronous on the stream
that the tensors' library calls current, and may be captured in a CUDA graph.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._gpu import Bundle, View, infer, places, plans
from ._maps import encoded

_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_ERROR_LOG, _ERROR_LOG_BYTES = 5, 6  # CU_JIT_ERROR_LOG_BUFFER*

_TORCH = {
    "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "bool": "i1", "int8": "i8",
    "uint8": "u8", "int32": "i32", "int64": "i64",
}  # fmt: skip
_CODES = {"f32": 0, "f16": 1, "bf16": 2, "f64": 3, "i1": 4, "i8": 5, "i32": 6, "i64": 7}  # as _spec.DTYPES
_INTERFACE = {"<f4": "f32", "<f2": "f16", "<f8": "f64", "|b1": "i1", "|i1": "i8", "<i4": "i32", "<i8": "i64"}


class CudaError(RuntimeError):
    """What the driver said."""


class Driver:
    """The part of the driver API that a launch needs."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, name: str, *args: Any) -> None:
        """Calls a function; raises CudaError unless it returns 0."""
        code = getattr(self.library, name)(*args)
        if code:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(code, ctypes.byref(text))
            raise CudaError(f"{name} failed: {(text.value or b'unknown error').decode()} ({code})")

    def capability(self, device: int) -> tuple[int, int]:
        """(major, minor) of a device."""
        handle, out = ctypes.c_int(), []
        self.call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), handle)
            out.append(value.value)
        return out[0], out[1]

    def target(self, device: int) -> str:
        """The compiler's target for a device."""
        capability = self.capability(device)
        if capability < (8, 0):
            raise CudaError(f"expected a GPU of capability 8.0 or higher, but got {capability[0]}.{capability[1]}")
        known = {(8, 6): "sm_86", (8, 9): "sm_89", (9, 0): "sm_90a"}
        return known.get(capability, "sm_80")

    def enter(self, device: int) -> None:
        """Makes the device's primary context (the one that torch and CuPy use) current, until `leave`."""
        handle, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
        found = _contexts.get(device)
        if found is None:
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
            found = _contexts[device] = context
        self.call("cuCtxPushCurrent_v2", found)

    def leave(self) -> None:
        """Undoes `enter`."""
        context = ctypes.c_void_p()
        self.call("cuCtxPopCurrent_v2", ctypes.byref(context))

    def cubin_for(self, bundle: Bundle, kernel: dict[str, Any], device: int) -> int:
        """Which cubin to load for a kernel of the manifest; -1 where the driver must compile the PTX."""
        chip = bundle.manifest["gpu"]["chip"]
        if bundle.cubins and _runs(chip, self.capability(device)):
            return int(kernel.get("cubin", 0))
        if not bundle.ptx:
            raise CudaError(f"expected a device for {chip} code, but got capability {self.capability(device)}")
        return -1

    def load(self, bundle: Bundle, cubin: int) -> ctypes.c_void_p:
        """A module of a cubin, or (-1) of the PTX."""
        module = ctypes.c_void_p()
        if cubin >= 0:
            self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(bundle.cubins[cubin]))
            return module
        log = ctypes.create_string_buffer(8192)
        options = (ctypes.c_int * 2)(_ERROR_LOG, _ERROR_LOG_BYTES)
        values = (ctypes.c_void_p * 2)(ctypes.cast(log, ctypes.c_void_p), ctypes.c_void_p(len(log)))
        text = ctypes.c_char_p(bundle.ptx + b"\0")
        try:
            self.call("cuModuleLoadDataEx", ctypes.byref(module), text, 2, options, values)
        except CudaError as error:
            raise CudaError(f"{error}: {log.value.decode(errors='replace')}") from None
        return module


_contexts: dict[int, ctypes.c_void_p] = {}


def _runs(chip: str, capability: tuple[int, int]) -> bool:
    """Whether a cubin for `chip` (sm_80, sm_90a) runs on a device."""
    digits = chip[3:].rstrip("a")
    major, minor = int(digits[:-1]), int(digits[-1])
    if chip.endswith("a"):
        return capability == (major, minor)
    return capability[0] == major and capability[1] >= minor


@functools.lru_cache(1)
def driver() -> Driver:
    """The driver; raises CudaError where there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise CudaError(f"expected the CUDA driver ({name}), but got: {error}") from None
    return Driver(library)


def on_gpu(x: Any) -> bool:
    """Whether a tensor lies in CUDA memory."""
    cuda = getattr(x, "is_cuda", None)  # of torch's tensors, whose interface would raise an error first
    return hasattr(x, "__cuda_array_interface__") if cuda is None else bool(cuda)


def view(x: Any, name: str, device: int | None = None) -> View:
    """The view of a tensor; TypeError or ValueError where it is none, or on another device."""
    if hasattr(x, "data_ptr") and hasattr(x, "stride"):
        if not x.is_cuda or (device is not None and x.device.index != device):
            where = "the GPU" if device is None else f"cuda:{device}"
            raise ValueError(f"expected {name} on {where}, but got it on {x.device}; move it there")
        dtype = _TORCH.get(str(x.dtype).rsplit(".", 1)[-1], str(x.dtype))
        return View(x.data_ptr(), dtype, tuple(x.shape), tuple(x.stride()))
    interface = getattr(x, "__cuda_array_interface__", None)
    if interface is None:
        raise TypeError(f"expected {name} to be a CUDA tensor (torch, CuPy), but got {type(x).__name__}")
    dtype = _INTERFACE.get(interface["typestr"], interface["typestr"])
    shape, size = tuple(interface["shape"]), int(interface["typestr"][2:])
    strides = interface.get("strides")
    if strides is None:
        strides, step = [], size
        for n in reversed(shape):
            strides.insert(0, step)
            step *= max(n, 1)
    return View(interface["data"][0], dtype, shape, tuple(s // size for s in strides))


def device_of(x: Any) -> int:
    """The number of a tensor's device."""
    device = getattr(x, "device", None)
    number = getattr(device, "index", None)
    if not isinstance(number, int):
        number = getattr(device, "id", 0)
    return int(number or 0)


def stream_of(x: Any) -> int:
    """The current stream of a tensor's library."""
    module = type(x).__module__.split(".")[0]
    if module == "torch":
        return int(sys.modules["torch"].cuda.current_stream(x.device).cuda_stream)
    if module == "cupy":
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return 0


def _bytes_like(x: Any, size: int) -> tuple[Any, int]:
    """Memory from the library of `x` (which orders its reuse by stream), and its address."""
    module = type(x).__module__.split(".")[0]
    if module == "torch":
        torch = sys.modules["torch"]
        memory = torch.empty(size, dtype=torch.uint8, device=x.device)
        return memory, int(memory.data_ptr())
    if module == "cupy":
        memory = sys.modules["cupy"].empty(size, dtype="uint8")
        return memory, int(memory.data.ptr)
    raise TypeError(f"expected torch or CuPy tensors where a kernel needs a workspace, but got {type(x).__name__}")


def _kernels_of(part: Bundle) -> dict[str, dict[str, Any]]:
    """The manifest's kernels by name."""
    gpu = part.manifest["gpu"]
    return {kernel["name"]: kernel for kernel in [*gpu["kernels"], *gpu.get("tensor_kernels", [])]}


class GpuKernel:
    """A bundle that can be launched: call it with the spec's arguments in order."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._modules: dict[tuple[int, int, int], ctypes.c_void_p] = {}
        self._functions: dict[tuple[int, int, str], ctypes.c_void_p] = {}
        self._lock = threading.Lock()

    @property
    def manifest(self) -> dict[str, Any]:
        """Signature and plan, as docs/abi.md defines them."""
        return self.bundle.manifest

    @staticmethod
    def open(path: str | Path) -> GpuKernel:
        """Reads a bundle from a file."""
        return GpuKernel(Bundle.parse(Path(path).read_bytes()))

    def load(self, device: int = 0) -> None:
        """Loads the code on a device, as the first launch would: call it before a CUDA graph is captured."""
        api = driver()
        api.enter(device)
        try:
            for part in self.bundle.parts or (self.bundle,):
                for name in _kernels_of(part):
                    self.function(device, part, name)
        finally:
            api.leave()

    def function(self, device: int, part: Bundle, name: str) -> ctypes.c_void_p:
        """A kernel on a device, whose context is current; loads the cubin that holds it, or the PTX."""
        found = self._functions.get((device, id(part), name))
        if found is not None:
            return found
        with self._lock:
            kernel = _kernels_of(part)[name]
            number = driver().cubin_for(part, kernel, device)
            module = self._modules.get((device, id(part), number))
            if module is None:
                module = self._modules[device, id(part), number] = driver().load(part, number)
            function = ctypes.c_void_p()
            driver().call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(name.encode()))
            if kernel["shared_bytes"] > 48 * 1024:
                driver().call(
                    "cuFuncSetAttribute", function, ctypes.c_int(_DYNAMIC_SHARED), ctypes.c_int(kernel["shared_bytes"])
                )
            self._functions[device, id(part), name] = function
        return function

    def views(self, args: Sequence[Any]) -> list[Any]:
        """Views of the tensors among the arguments, numbers as they are."""
        device = device_of(next(x for x in args if on_gpu(x)))
        packed: list[Any] = []
        for formal, x in zip(self.manifest["args"], args, strict=False):
            number = formal["scalar"] or (isinstance(x, (int, float)) and not isinstance(x, bool))
            packed.append(x if number else view(x, formal["name"], device))
        return packed + list(args[len(packed) :])

    def launch(self, args: Sequence[Any], *results: Any, stream: int | None = None) -> None:
        """Launches asynchronously; the results (out, and lse or None) are written when the stream gets there."""
        first = next(x for x in results if x is not None)
        device, packed = device_of(first), self.views(args)
        given = [*results, *[None] * (len(self.manifest["results"]) - len(results))]
        views = [None if x is None else view(x, f"result {n}", device) for n, x in enumerate(given)]
        stream = stream_of(first) if stream is None else stream
        # Their library hands these out again only behind this launch.
        kept: list[Any] = []

        def memory(size: int) -> int:
            if not size:
                return 0
            held, address = _bytes_like(first, size)
            kept.append(held)
            return address

        between = memory(places(self.bundle, packed)[1]) if self.bundle.is_program else 0
        launches = plans(self.bundle, packed, views, between)
        workspace = memory(max(plan.workspace_bytes for _, plan in launches))
        api = driver()
        api.enter(device)
        try:
            for part, plan in launches:
                block = ctypes.create_string_buffer(plan.parameters(workspace))
                maps = encoded(plan.maps, api.library) if plan.maps else None
                parameters = (ctypes.c_void_p * 2)(ctypes.cast(block, ctypes.c_void_p), maps[1] if maps else 0)
                for step in plan.otherwise if plan.maps and not maps else plan.steps:
                    api.call(
                        "cuLaunchKernel", self.function(device, part, step.name), step.blocks, 1, 1, step.threads, 1, 1,
                        step.shared_bytes, ctypes.c_void_p(stream), parameters, None,
                    )  # fmt: skip
                del maps  # the launch has a copy
        finally:
            api.leave()

    def __call__(self, *args: Any, out: Any = None, stream: int | None = None) -> Any:
        """Runs on new tensors like the first argument (torch or CuPy), or with the first result in `out`."""
        like = next(x for x in args if on_gpu(x))
        shapes = infer(self.bundle, self.views(args))
        results = [_empty(like, shape, dtype) for dtype, shape in shapes[1:]]
        results.insert(0, _empty(like, shapes[0][1], shapes[0][0]) if out is None else out)
        self.launch(args, *results, stream=stream)
        return results[0] if len(results) == 1 else tuple(results)


def _empty(like: Any, shape: Sequence[int], dtype: str) -> Any:
    """A new tensor of a library, of four dimensions in the order of `like`'s strides. `dtype` is the dialect's."""
    module = type(like).__module__.split(".")[0]
    if module == "torch":
        torch = sys.modules["torch"]
        kind = getattr(torch, next(name for name, known in _TORCH.items() if known == dtype))
        if len(shape) != 4 or len(like.shape) != 4:
            return torch.empty(tuple(shape), dtype=kind, device=like.device)
        order = sorted(range(3), key=lambda n: -like.stride(n)) + [3]
        made = torch.empty([shape[n] for n in order], dtype=kind, device=like.device)
        return made.permute([order.index(n) for n in range(4)])
    if module == "cupy":
        name = next((name for name, known in _INTERFACE.items() if known == dtype), None)
        if name is None:
            raise TypeError(f"expected a dtype that CuPy has, but got {dtype}; use torch, or pass out")
        return sys.modules["cupy"].empty(tuple(shape), dtype=name)
    raise TypeError(f"expected torch or CuPy tensors, or out, but got {type(like).__name__}")


_LONG = {short: name for name, short in _TORCH.items()}


def describe(x: Any, name: str) -> tuple[str, tuple[int, ...]]:
    """Dtype (as NumPy spells it) and sizes of a CUDA tensor."""
    if getattr(x, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
        raise ValueError(
            f"expected {name} without gradient, but got a tensor that requires grad: there is no backward pass yet; "
            f"call it under torch.no_grad() or pass {name}.detach()"
        )
    found = view(x, name)
    return _LONG.get(found.dtype, found.dtype), found.shape


def target_of(x: Any) -> str:
    """The compiler's target for the device that a tensor is on."""
    return driver().target(device_of(x))


def attend_on(formula: Any, call: Any, out: Any, kernel: Any) -> Any:
    """`heddle.attend` on CUDA tensors. `kernel(text, device)` gives the GpuKernel of a spec for a device."""
    values = list(call.values)
    device = device_of(values[0])
    signature: list[int] = []
    for n, ((kind, _, what, _), value) in enumerate(zip(formula.arguments, values, strict=True)):
        if kind in ("index", "float", "finite"):
            values[n] = int(value) if kind == "index" else float(value)
            continue
        if getattr(value, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
            raise ValueError(
                f"expected {what} without gradient, but got a tensor that requires grad: there is no backward "
                f"pass yet; call it under torch.no_grad() or pass {what}.detach()"
            )
        attention = kind in ("q", "k", "v", "dot_q", "dot_k")
        found = view(value, what, device)
        if attention and len(found.shape) != 4:
            raise ValueError(f"expected {what} with 4 dimensions, but got shape {list(found.shape)}")
        if found.dtype not in _CODES or found.dtype == "f64":
            raise TypeError(f"expected float32, float16 or bfloat16 for {what}, but got {found.dtype}; convert it")
        if attention and formula.rows_first:
            values[n] = value.swapaxes(1, 2)
        signature += [_CODES[found.dtype], found.shape[3] if attention else len(found.shape)]
    made = None if out is None else out.swapaxes(1, 2) if formula.rows_first else out
    result = kernel(formula.text(signature), device)(*values, out=made)
    first, *rest = result if isinstance(result, tuple) else (result,)
    first = out if out is not None else first.swapaxes(1, 2) if formula.rows_first else first
    return (first, *rest) if rest else first
