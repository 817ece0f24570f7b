"""The launcher in C against the one in Python: the same kernels, grids, argument blocks and tensor maps."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heddle import _gpu, _maps

from . import run

ROOT = Path(__file__).resolve().parents[2]
CC = shutil.which("cc") or shutil.which("clang-22") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(CC is None or sys.platform != "linux", reason="no C compiler")

DTYPES = {"f32": 0, "f16": 1, "bf16": 2, "i64": 7}
HEADER = 16


class Tensor(ctypes.Structure):
    """heddle_tensor of heddle/runtime.h."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 6), ("strides", ctypes.c_int64 * 6),
    ]  # fmt: skip

    @staticmethod
    def of(v: _gpu.View) -> Tensor:
        pad = [0] * (6 - len(v.shape))
        six = ctypes.c_int64 * 6
        return Tensor(v.pointer, DTYPES[v.dtype], len(v.shape), six(*v.shape, *pad), six(*v.strides, *pad))


class Launcher:
    """heddle_gpu_launch on the driver that takes notes."""

    def __init__(self, folder: Path) -> None:
        path = folder / "libstub.so"
        source = ROOT / "test" / "runtime" / "stub_cuda.c"
        subprocess.run([str(CC), "-shared", "-fPIC", "-O1", str(source), "-o", str(path)], check=True)
        os.environ["HEDDLE_CUDA_LIBRARY"] = str(path)
        self.stub = ctypes.CDLL(str(path))
        self.stub.stub_log.restype = ctypes.c_char_p
        self.stub.stub_block.restype = ctypes.c_void_p
        build = ROOT / "build" / "lib" / "libheddle-compiler.so"
        self.library = ctypes.CDLL(os.environ.get("HEDDLE_COMPILER_LIBRARY", str(build)))
        for name in ("heddle_kernel_load", "heddle_gpu_launch"):
            getattr(self.library, name).restype = ctypes.c_void_p
        self.library.heddle_error_message.restype = ctypes.c_char_p

    def check(self, error: Any) -> None:
        assert not error, self.library.heddle_error_message(ctypes.c_void_p(error)).decode()

    def launch(self, bundle: _gpu.Bundle, args: list[Any], results: list[_gpu.View], refuse: int = 0) -> list[str]:
        """Lines that the driver wrote down."""
        gpu = bundle.manifest["gpu"]
        slots = HEADER + 9 * (len(args) + len(results)) + 2 + 2 * len(bundle.manifest["segments"])
        maps = len(gpu.get("tensor_maps", [])) * 128
        lines = [f"kernel {k['name']} {slots * 8}" for k in gpu["kernels"]]
        lines += [f"kernel {k['name']} {slots * 8} {maps}" for k in gpu.get("tensor_kernels", [])]
        code = ("ptx " + "\n".join(lines) + "\n").encode()
        plain = {k: v for k, v in gpu.items() if k != "cubins"}
        head = json.dumps({**bundle.manifest, "gpu": {**plain, "ptx_bytes": len(code), "cubin_bytes": 0}}).encode()
        body = head + code
        data = b"HEDDLE\0\1" + struct.pack("<QQ", len(head), len(code)) + hashlib.sha256(body).digest() + body
        kernel = ctypes.c_void_p()
        self.check(self.library.heddle_kernel_load(data, ctypes.c_size_t(len(data)), ctypes.byref(kernel)))
        self.stub.stub_reset(ctypes.c_void_p(1), 9, 0, 0)
        self.stub.stub_refuse_map(refuse)
        given = (Tensor * len(args))(*[Tensor.of(a) for a in args])
        made = (Tensor * len(results))(*[Tensor.of(r) for r in results])
        self.check(
            self.library.heddle_gpu_launch(
                kernel, given, len(args), made, len(results), ctypes.c_void_p(1 << 20),
                ctypes.c_size_t(1 << 40), ctypes.c_void_p(0),
            )
        )  # fmt: skip
        self.block = list(struct.unpack(f"<{slots}q", ctypes.string_at(self.stub.stub_block(), slots * 8)))
        self.library.heddle_kernel_release(kernel)
        return [line for line in self.stub.stub_log().decode().splitlines() if line.startswith(("map", "launch"))]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    before = os.environ.get("HEDDLE_CUDA_LIBRARY")
    yield Launcher(tmp_path_factory.mktemp("stub"))
    if before is None:
        os.environ.pop("HEDDLE_CUDA_LIBRARY", None)
    else:
        os.environ["HEDDLE_CUDA_LIBRARY"] = before


def spec(where: str, kind: str = "bf16", d: int = 64, dv: int = 64) -> str:
    q, kv, vv = (f"tensor<?x{h}x?x{n}x{kind}>" for h, n in ((8, d), (2, d), (2, dv)))
    out = f"tensor<?x8x?x{dv}x{kind}>"
    return f"""func.func @f(%q: {q}, %k: {kv}, %v: {vv}) -> {out} {{
  %o = attn.attend %q segment(%k, %v) where({where}) q_offset(0) : {q} segment({kv}, {vv}) -> {out}
  return %o : {out}
}}
"""


def dense(pointer: int, kind: str, *shape: int, order: tuple[int, ...] = (0, 1, 2, 3)) -> _gpu.View:
    """A view whose axes lie in memory in this order, outermost first."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return _gpu.View(pointer, kind, shape, tuple(strides))


def lines_of(plan: _gpu.Plan, refused: bool = False) -> list[str]:
    """What the driver should write down for Python's plan."""
    out = []
    for m in () if refused else plan.maps:
        said: list[str] = []

        class Library:
            @staticmethod
            def cuTensorMapEncodeTiled(
                into: Any, kind: Any, rank: Any, address: Any, dims: Any, strides: Any, box: Any, every: Any,
                interleave: Any, swizzle: Any, promotion: Any, fill: Any, said: list[str] = said,
            ) -> int:  # fmt: skip
                words = [f"map type {kind.value} at {address.value}"]
                words += [n + "".join(f" {x}" for x in v) for n, v in (("dims", dims), ("strides", strides))]
                words += [n + "".join(f" {x}" for x in v) for n, v in (("box", box), ("every", every))]
                words.append(f"modes {interleave.value} {swizzle.value} {promotion.value} {fill.value}")
                said.append(" ".join(words))
                return 0

        assert _maps.encoded([m], Library)
        out += said
    for s in plan.otherwise if refused else plan.steps:
        out.append(f"launch {s.name} {s.blocks} x {s.threads}, {s.shared_bytes} shared, stream 0")
    return out


WHERE = {
    "dense": "full",
    "dilated": "window(9, 9, dilation = 5)",
    "sparse": "causal & (window(63, 0) | stride(64))",
    "grid": "grid(16, window(1, 1), window(1, 1))",
    "none": "~full",
}
ORDERS = {"bhnd": (0, 1, 2, 3), "bnhd": (0, 2, 1, 3), "columns": (0, 1, 3, 2)}


@pytest.mark.parametrize("kind", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("where", WHERE)
def test_both_launch_alike(launcher: Launcher, where: str, order: str, kind: str) -> None:
    bundle = run.compile_bundle(spec(WHERE[where], kind), "sm_90a")
    for batch, nq, nk, kv_batch, at in ((2, 300, 300, 2, 0), (1, 1, 5000, 1, 0), (3, 200, 130, 1, 8), (2, 0, 9, 2, 0)):
        q = dense(0x10000, kind, batch, 8, nq, 64, order=ORDERS[order])
        k, v = (dense(a + at, kind, kv_batch, 2, nk, 64, order=ORDERS[order]) for a in (0x4000000, 0x8000000))
        out = dense(0xC000000, kind, batch, 8, nq, 64)
        plan = _gpu.pack(bundle.manifest, [q, k, v], [out])
        assert launcher.launch(bundle, [q, k, v], [out]) == lines_of(plan)
        if plan.steps:
            want = list(plan.block)
            want[3] = launcher.block[3]  # super-tiles: a CPU's
            want[9] = (1 << 20) if plan.workspace_bytes else 0
            assert launcher.block == want


@pytest.mark.parametrize("refuse", [1, 2])
def test_a_map_that_the_driver_refuses(launcher: Launcher, refuse: int) -> None:
    bundle = run.compile_bundle(spec("causal"), "sm_90a")
    q = dense(0x10000, "bf16", 1, 8, 300, 64)
    k, v = (dense(a, "bf16", 1, 2, 300, 64) for a in (0x4000000, 0x8000000))
    plan = _gpu.pack(bundle.manifest, [q, k, v], [q])
    assert [s.name for s in plan.steps] == ["heddle_tma_0"]
    assert [s.name for s in plan.otherwise] == ["heddle_gpu_0"]
    said = launcher.launch(bundle, [q, k, v], [q], refuse)
    assert [line for line in said if line.startswith("launch")] == lines_of(plan, refused=True)


def test_views_that_no_map_can_show(launcher: Launcher) -> None:
    """Heads that repeat have one; rows that repeat, or far strides, have none."""
    bundle = run.compile_bundle(spec("window(9, 9, dilation = 5)"), "sm_90a")
    q = dense(0x10000, "bf16", 1, 8, 300, 64)
    v = dense(0x8000000, "bf16", 1, 2, 300, 64)
    good = [(38400, 0, 64, 1), (38400, 19200, 72, 1)]
    bad = [
        (38400, 19200, 0, 1), (38400, 19200, 68, 1), (38400, 1 << 39, 64, 1), (38400, 19200, 1 << 38, 1),
        (38400, -19200, 64, 1), (8, 19200, 64, 2),
    ]  # fmt: skip
    for strides in good + bad:
        k = _gpu.View(0x4000000, "bf16", (1, 2, 300, 64), strides)
        plan = _gpu.pack(bundle.manifest, [q, k, v], [q])
        assert launcher.launch(bundle, [q, k, v], [q]) == lines_of(plan)
        assert bool(plan.maps) == (strides in good)
