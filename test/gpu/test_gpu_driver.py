"""Bundles through the launcher, on a driver that runs PTX in the interpreter."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import heddle as hd
from heddle import _attend, _compiled, _cuda, _gpu, _program
from oracle import attention, scalars, tensor_ops, tolerance

from . import hopper, ptx, run

SPEC = """func.func @f(%q: tensor<?x4x?x16xf32>, %k: tensor<?x2x?x16xf32>, %v: tensor<?x2x?x16xf32>, %w: index,
                %off: tensor<?xi64>) -> tensor<?x4x?x16xf32> {
  %o = attn.attend %q segment(%k, %v) where(window(%w, 0)) q_offset(%off)
    : tensor<?x4x?x16xf32> segment(tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>) operands(index, tensor<?xi64>)
      -> tensor<?x4x?x16xf32>
  return %o : tensor<?x4x?x16xf32>
}
"""


class FakeDriver:
    """The driver's functions on the interpreter's memory. It is older than tensor maps."""

    capability = (8, 6)

    def __init__(self) -> None:
        self.memory = ptx.Memory()
        self.kernels: dict[str, ptx.Kernel] = {}
        self.launched: list[tuple[Any, ...]] = []
        self.names: list[str] = []

    def cuInit(self, flags: Any) -> int:
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = b"no such thing"
        return 0

    def cuDeviceGet(self, handle: Any, device: Any) -> int:
        handle._obj.value = device.value
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:
        value._obj.value = self.capability[attribute.value - 75]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        context._obj.value = 1
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        return 0

    def cuModuleLoadDataEx(self, module: Any, image: Any, count: int, options: Any, values: Any) -> int:
        if b".entry" not in image.value:
            return 218
        self.kernels = ptx.parse(image.value.decode())
        module._obj.value = 7
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: Any) -> int:
        self.names.append(name.value.decode())
        function._obj.value = len(self.names)
        return 0

    def cuFuncSetAttribute(self, function: Any, attribute: Any, value: Any) -> int:
        return 0

    def cuLaunchKernel(self, function: Any, x: int, y: int, z: int, threads: int, ty: int, tz: int, shared: int,
                       stream: Any, parameters: Any, extra: Any) -> int:  # fmt: skip
        kernel = self.kernels[self.names[function.value - 1]]
        block = [ctypes.string_at(parameters[n], size) for n, size in enumerate(kernel.parameter_bytes)]
        assert (y, z, ty, tz, threads) == (1, 1, 1, 1, kernel.threads)
        self.launched.append((kernel.name, x, stream.value))
        ptx.launch(kernel, self.memory, block, x, shared)
        return 0


class HopperDriver(FakeDriver):
    """With tensor maps; refuses the one of this number."""

    capability, refused = (9, 0), 0

    def cuTensorMapEncodeTiled(
        self, into: Any, kind: Any, rank: Any, address: Any, dims: Any, strides: Any, box: Any, every: Any,
        interleave: Any, swizzle: Any, promotion: Any, fill: Any,
    ) -> int:  # fmt: skip
        self.refused -= 1
        if self.refused == 0:
            return 1
        assert into.value % 64 == 0 and rank.value == len(dims) == len(box) == len(strides) + 1
        assert list(every) == [1] * len(dims) and (interleave.value, swizzle.value, fill.value) == (0, 3, 0)
        ctypes.memmove(into.value, hopper.encode(address.value, list(dims), list(strides), list(box)), 128)
        return 0


class FakeArray:
    """What CuPy's arrays show."""

    def __init__(self, memory: ptx.Memory, x: np.ndarray) -> None:
        self.memory, self.shape, self.dtype = memory, x.shape, x.dtype
        self.__cuda_array_interface__ = {
            "data": (memory.put(x), False), "typestr": x.dtype.str, "shape": x.shape, "version": 3,
        }  # fmt: skip

    def get(self) -> np.ndarray:
        raw = self.memory.get(self.__cuda_array_interface__["data"][0], int(np.prod(self.shape)) * self.dtype.itemsize)
        return raw.view(self.dtype).reshape(self.shape)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    library = FakeDriver()
    monkeypatch.setattr(_cuda, "driver", lambda: _cuda.Driver(library))
    monkeypatch.setattr(_cuda, "_contexts", {})
    return library


def test_a_bundle_runs(fake: FakeDriver) -> None:
    bundle, _ = run.compile_text(SPEC)
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, h, n, 16)).astype(np.float32) for h, n in ((4, 50), (2, 70), (2, 70)))
    offset = np.array([20, 3])
    tensors = [FakeArray(fake.memory, x) for x in (q, k, v)]
    out = FakeArray(fake.memory, np.full(q.shape, np.nan, np.float32))
    kernel = _cuda.GpuKernel(bundle)
    kernel.launch([*tensors, 9, FakeArray(fake.memory, offset)], out, stream=5)
    want = attention.attend(q, k, v, where="window(%w, 0)", q_offset=offset, operands={"w": 9})
    verdict = tolerance.check(out.get(), want)
    assert verdict, verdict.message
    assert [(name, stream) for name, _, stream in fake.launched] == [("heddle_gpu_0", 5)]


@pytest.mark.parametrize(
    ("old", "refused", "kernel"),
    [(False, 0, "heddle_tma_0"), (False, 1, "heddle_gpu_0"), (False, 2, "heddle_gpu_0"), (True, 0, "heddle_gpu_0")],
)
def test_maps_that_the_driver_refuses(
    old: bool, refused: int, kernel: str, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then, and on a driver that is older than them, the kernels without maps run."""
    library = FakeDriver() if old else HopperDriver()
    library.capability = (9, 0)
    if isinstance(library, HopperDriver):
        library.refused = refused
    monkeypatch.setattr(_cuda, "driver", lambda: _cuda.Driver(library))
    half = SPEC.replace("f32", "f16")
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((1, h, n, 16)).astype(np.float16) for h, n in ((4, 150), (2, 170), (2, 170)))
    tensors = [FakeArray(library.memory, x) for x in (q, k, v)]
    out = FakeArray(library.memory, np.full(q.shape, np.nan, np.float16))
    compiled = _cuda.GpuKernel(run.compile_text(half, "sm_90a")[0])
    compiled.launch([*tensors, 30, 20], out, stream=2)
    assert [name for name, _, _ in library.launched] == [kernel]
    wide = [x.astype(np.float64) for x in (q, k, v)]
    given: dict[str, Any] = {"where": "window(%w, 0)", "q_offset": 20, "operands": {"w": 30}}
    rounded = attention.attend(*wide, round_weights=lambda w: tolerance.round_to(w, "f16"), **given)
    verdict = tolerance.check(out.get(), attention.attend(*wide, **given), "f16", rounded)
    assert verdict, verdict.message


def test_a_cubin_is_loaded_when_it_is_needed(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    library = HopperDriver()
    loaded: list[bytes] = []

    def load(module: Any, image: Any) -> int:
        loaded.append(image.value)
        module._obj.value = len(loaded)
        return 0

    library.cuModuleLoadData = load  # type: ignore[attr-defined]
    monkeypatch.setattr(_cuda, "driver", lambda: _cuda.Driver(library))
    bundle = run.compile_text(SPEC.replace("f32", "f16"), "sm_90a")[0]
    gpu = bundle.manifest["gpu"]
    parts = {kernel["name"]: n for n, kernel in enumerate([*gpu["tensor_kernels"], *gpu["kernels"]])}
    numbered = {
        **gpu,
        **{key: [{**k, "cubin": parts[k["name"]]} for k in gpu[key]] for key in ("kernels", "tensor_kernels")},
    }
    cubins = tuple(name.encode() for name in parts)
    kernel = _cuda.GpuKernel(_gpu.Bundle({**bundle.manifest, "gpu": numbered}, b"", cubins))
    with monkeypatch.context() as m:
        m.setattr(_cuda, "driver", lambda: _cuda.Driver(library))
        for name in ("heddle_gpu_0", "heddle_gpu_0", "heddle_tma_0"):
            kernel.function(0, kernel.bundle, name)
    assert loaded == [b"heddle_gpu_0", b"heddle_tma_0"]
    kernel.load()
    assert loaded == [b"heddle_gpu_0", b"heddle_tma_0", b"heddle_gpu_1"]


@pytest.fixture
def ptx_only(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """The package compiles for the device (8.6); its cubins are left alone."""
    monkeypatch.setattr(_cuda, "_runs", lambda chip, capability: False)
    monkeypatch.setattr(_cuda, "_bytes_like", lambda x, size: (None, fake.memory.reserve(size)))
    monkeypatch.setattr(_attend, "driver", _cuda.driver)
    monkeypatch.setattr(_compiled, "_gpu_kernels", {})
    monkeypatch.setattr(_program, "kernel_for", _compiled.kernel_for)
    return fake


def test_attend_on_device_arrays(ptx_only: FakeDriver) -> None:
    """Compiled once; scalars, captured tensors and offsets per batch come from the device."""
    rng = np.random.default_rng(1)
    slopes = rng.random(4).astype(np.float32)
    there = hd.tensor(FakeArray(ptx_only.memory, slopes))
    for n in (40, 70):
        q, k, v = (rng.standard_normal((2, h, n, 16)).astype(np.float32) for h in (4, 2, 2))
        out = FakeArray(ptx_only.memory, np.full(q.shape, np.nan, np.float32))
        tensors = [FakeArray(ptx_only.memory, x) for x in (q, k, v)]
        offset = np.array([0, 7])
        _attend.attend(
            *tensors, where=hd.window(hd.scalar(9), 0), score=lambda s, b, h, i, j: s - there[h] * (i - j),
            q_offset=FakeArray(ptx_only.memory, offset), out=out,
        )  # fmt: skip
        captured = scalars.tensor(slopes)
        want = attention.attend(
            q, k, v, where="window(%w, 0)", q_offset=offset, operands={"w": 9},
            score=lambda s, b, h, i, j: s - captured[h] * (i - j),
        )  # fmt: skip
        verdict = tolerance.check(out.get(), want)
        assert verdict, verdict.message
    assert len(_compiled._gpu_kernels) == 1
    assert next(iter(_compiled._gpu_kernels))[1] == "sm_86"


def test_ops_on_device_arrays(ptx_only: FakeDriver) -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 40, 24)).astype(np.float32)
    out = FakeArray(ptx_only.memory, np.full((2, 3, 5, 24), np.nan, np.float32))
    hd.pool(FakeArray(ptx_only.memory, x), "sum", 8, out=out)
    assert np.abs(out.get() - tensor_ops.pool(x, "sum", 8)[0]).max() < 1e-5

    @hd.kernel
    def twice(a: Any) -> Any:
        return hd.pool(hd.pool(a, "max", 2) * 2.0, "mean", 4)

    out = FakeArray(ptx_only.memory, np.full((2, 3, 5, 24), np.nan, np.float32))
    twice(FakeArray(ptx_only.memory, x), out=out)
    want = 2 * x.reshape(2, 3, 5, 4, 2, 24).max(4).mean(3)
    assert np.abs(out.get() - want).max() < 1e-5


def test_calls_that_do_not_fit_are_refused(fake: FakeDriver) -> None:
    bundle, _ = run.compile_text(SPEC)
    q, k, v = (FakeArray(fake.memory, np.zeros((2, h, 8, 16), np.float32)) for h in (4, 2, 2))
    kernel = _cuda.GpuKernel(bundle)
    three = FakeArray(fake.memory, np.zeros((2, 3, 8, 16), np.float32))
    half = FakeArray(fake.memory, np.zeros((2, 2, 8, 16), np.float16))
    with pytest.raises(ValueError, match="shape"):
        kernel.launch([q, three, v, 9, 0], q)
    with pytest.raises(TypeError, match="expected v to be f32, but got f16"):
        kernel.launch([q, k, half, 9, 0], q)
    with pytest.raises(ValueError, match="at least 0, but got -1"):
        kernel.launch([q, k, v, -1, 0], q)
    with pytest.raises(ValueError, match="expected 5 arguments"):
        kernel.launch([q, k, v], q)
    with pytest.raises(ValueError, match=r"below 2\^30"):
        kernel.launch([q, k, v, 9, 1 << 30], q)
    assert not fake.launched


def test_damaged_bundles_are_refused() -> None:
    for data in (b"", b"HEDDLE\0\1" + b"\0" * 60):
        with pytest.raises(ValueError, match="expected"):
            _gpu.Bundle.parse(data)


def test_cubins_run_where_they_may() -> None:
    assert _cuda._runs("sm_80", (8, 6))
    assert not _cuda._runs("sm_86", (8, 0))
    assert not _cuda._runs("sm_80", (9, 0))
    assert _cuda._runs("sm_90a", (9, 0))
    assert not _cuda._runs("sm_90a", (10, 0))
