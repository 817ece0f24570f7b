"""The kernels of sm_90a (tensor copies, wgmma, two consumer warpgroups) against the oracle, and assembled."""

from __future__ import annotations

import functools
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from heddle import _gpu
from kernel_checks import compare, compare_problem
from oracle import cases

from . import hopper, ptx, run

PTXAS = shutil.which("ptxas")
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mlir"))


@pytest.fixture(autouse=True)
def on_hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`heddle.attend` by the kernels for sm_90a; gives the names of those launched."""
    names: list[str] = []
    real = ptx.launch

    def launch(kernel: ptx.Kernel, *args: Any, **kw: Any) -> Any:
        names.append(kernel.name)
        return real(kernel, *args, **kw)

    monkeypatch.setattr(ptx, "launch", launch)
    monkeypatch.setattr(hd, "attend", functools.partial(run.attend, target="sm_90a"))
    yield names


def test_operands_hold_each_element_once() -> None:
    """What a tensor copy of 64 columns writes is what a descriptor of either kind reads."""
    panel = hopper.swizzle128(np.arange(0, 64 * 128, 2)).reshape(64, 64)  # [row, column]
    fixed = 1 << 62 | (1024 >> 4) << 32 | 1 << 16
    for k in range(4):
        assert (hopper.operand(fixed | (32 * k) >> 4, 64, 16, False) == panel[:, 16 * k : 16 * k + 16]).all()
        assert (hopper.operand(fixed | (2048 * k) >> 4, 64, 16, True) == panel[16 * k : 16 * k + 16].T).all()


@pytest.mark.parametrize("n", [8, 96, 256])
def test_accumulators_hold_each_element_once(n: int) -> None:
    seen = np.zeros((64, n), int)
    np.add.at(seen, hopper.wgmma_accumulators(n), 1)
    assert (seen == 1).all()


@pytest.mark.parametrize("order", ["together", "forward", "backward"])
@pytest.mark.parametrize("where", ["full", "causal"])
def test_dense(where: str, order: str, on_hopper: list[str]) -> None:
    g = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, n, 128, generator=g).to(torch.bfloat16) for n in (300, 400, 400))
    compare(q, k, v, where, dtype="bf16", q_offset=100, order=order, judge_ignores=("order",))
    assert on_hopper == ["heddle_tma_0"]


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_each_primitive(name: str, on_hopper: list[str]) -> None:
    group = 3 if "per_head" in name else 1
    dtype = ("f16", "bf16")[len(name) % 2]
    p = cases.Problem(
        nq=150, nk=390, d=16, dv=8, dtype=dtype, where=cases.PRIMITIVES[name], b=1, group=group, offset="five"
    )
    compare_problem(p)
    # Blocks of 16 are lists that few queries share.
    assert all("tma" in n for n in on_hopper) or name in ("empty", "random_blocks")


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize(
    ("d", "dv"), [(8, 40), (40, 8), (72, 64), (64, 64), (128, 128), (96, 256), (256, 192), (192, 128)]
)
def test_head_dimensions(d: int, dv: int, dtype: str, on_hopper: list[str]) -> None:
    compare_problem(cases.Problem(nq=140, nk=200, d=d, dv=dv, dtype=dtype, where="causal", b=1, offset="end"))
    assert on_hopper == ["heddle_tma_0"]


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_layouts(layout: str, on_hopper: list[str]) -> None:
    """Tensors without maps take the other kernels."""
    p = cases.Problem(
        nq=70, nk=190, d=40, dv=24, dtype="bf16", where="window(30, 3)", group=2, layout=layout, offset="batch"
    )
    compare_problem(p)
    assert on_hopper == ["heddle_gpu_0" if layout in ("sliced", "columns") else "heddle_tma_0"]


@pytest.mark.parametrize("nk", [1, 63, 128, 129, 300])
@pytest.mark.parametrize("where", ["full", "stride(5)", "window(9, 9, dilation = 3)"])
def test_lengths(nk: int, where: str) -> None:
    compare_problem(cases.Problem(nq=130, nk=nk, d=16, dv=16, dtype="f16", where=where, b=1, offset="five"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("where", "d"),
    [*((w, 32) for w in ("causal", "window(20, 0)", "stride(9)", "grid(8, window(1, 1), full)")),
     ("causal & (window(20, 0) | stride(9))", 256)],
)  # fmt: skip
def test_dead_keys_do_not_reach_a_row(where: str, d: int, value: float) -> None:
    g = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, 2, 260, d, generator=g).to(torch.bfloat16) for _ in range(3))
    v[:, :, 200] = value
    k[:, :, 201] = value
    compare(q, k, v, where, dtype="bf16", q_offset=0)


@pytest.mark.parametrize("score", ["alibi", "softcap"])
def test_scores(score: str) -> None:
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, h, 200, 64, generator=g).to(torch.float16) for h in (4, 2, 2))
    compare(q, k, v, "causal", dtype="f16", score=score, q_offset=0)


def hot(where: str, d: int, kind: str = "bf16") -> str:
    t = f"tensor<?x8x?x{d}x{kind}>"
    return f"""func.func @f(%q: {t}, %k: {t}, %v: {t}) -> {t} {{
  %o = attn.attend %q segment(%k, %v) where({where}) q_offset(0) : {t} segment({t}, {t}) -> {t}
  return %o : {t}
}}
"""


@pytest.mark.skipif(PTXAS is None, reason="no ptxas")
@pytest.mark.parametrize("d", [64, 128, 256])
@pytest.mark.parametrize(
    "where",
    ["full", "causal", "causal & window(1023, 0)", "window(255, 0, dilation = 8)", "causal & stride(128)",
     "grid(256, neighborhood(80, 256), neighborhood(80, 256))", "causal & (window(63, 0) | stride(64))"],
)  # fmt: skip
def test_hot_kernels_assemble(where: str, d: int, tmp_path: Path) -> None:
    """No spills, no serialised products, the registers that the block's warpgroups share."""
    bundle, kernels = run.compile_text(hot(where, d), "sm_90a")
    source = tmp_path / "k.ptx"
    source.write_bytes(bundle.ptx)
    done = subprocess.run(
        [str(PTXAS), "-v", "-arch=sm_90a", "-o", str(tmp_path / "k.cubin"), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "serialized" not in done.stderr, done.stderr
    assert "warning" not in done.stderr, done.stderr
    core = pytest.importorskip("heddle._core")
    shipped = _gpu.Bundle.parse(core.kernel_get(hot(where, d), hot(where, d), "sm_90a").artifact).manifest["gpu"]
    assert all(k["spill_bytes"] == 0 for k in shipped["kernels"] + shipped["tensor_kernels"])
    used = re.search(r"heddle_tma_0.*?Used (\d+) registers", done.stderr, re.S)
    assert used and int(used.group(1)) <= 168, done.stderr
    kernel = kernels["heddle_tma_0"]
    shape = bundle.manifest["gpu"]["tensor_kernels"][0]
    products = [i for i in kernel.code if i.opcode.startswith("wgmma.mma_async")]
    # S for the loop's tiles; P V for the loop's and the last one.
    assert len(products) == d // 16 + 2 * (shape["keys"] // 16)
    # Something that depends on the weights stands before the wait for P V, or ptxas moves the wait in front of them.
    loop = bundle.ptx.decode().split(".entry heddle_tma_0(")[1].split("wgmma.wait_group.sync.aligned 1")[1]
    softmax = loop.split("wgmma.wait_group.sync.aligned 0")[0]
    assert "nanosleep" in softmax[softmax.rindex("ex2.approx") :]
    (less,), (more,) = (
        [int(i.operands[0]) for i in kernel.code if i.parts[:2] == ["setmaxnreg", way]] for way in ("dec", "inc")
    )
    # Registers come in eights; what the consumers are given, the block must have got at its start.
    assert less % 8 == more % 8 == 0
    assert 2 * 128 * more + 128 * less <= int(used.group(1)) // 8 * 8 * 384


@pytest.mark.skipif(PTXAS is None, reason="no ptxas")
def test_shared_memory_is_aligned_for_the_swizzle(tmp_path: Path) -> None:
    """The cubin asks for 1024 bytes, and nothing but the dynamic shared memory lies before the panels."""
    bundle, _ = run.compile_text(hot("causal", 64), "sm_90a")
    declared = re.findall(rb"\.shared \.align[^;]*;", bundle.ptx)
    assert declared == [b".shared .align 1024 .b8 heddle_shared[];"]
    source, made = tmp_path / "k.ptx", tmp_path / "k.cubin"
    source.write_bytes(bundle.ptx)
    subprocess.run([str(PTXAS), "-arch=sm_90a", "-o", str(made), str(source)], check=True)
    assert sections(made.read_bytes())[".nv.shared.heddle_tma_0"] == 1024


def sections(elf: bytes) -> dict[str, int]:
    """Alignment of each section of an ELF64 file."""
    (start,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", elf, start + n * size) for n in range(count)]
    text = heads[names][4]
    return {elf[text + h[0] : elf.index(0, text + h[0])].decode(): h[8] for h in heads}


@pytest.mark.skipif(PTXAS is None, reason="no ptxas")
def test_cubins_hold_what_the_manifest_says() -> None:
    """Kernels are assembled in parts: each in the cubin that its entry names, and all of them in the PTX."""
    core = pytest.importorskip("heddle._core")
    text = hot("causal & (window(63, 0) | stride(64))", 64)
    bundle = _gpu.Bundle.parse(core.kernel_get(text, text, "sm_90a").artifact)
    gpu = bundle.manifest["gpu"]
    assert len(bundle.cubins) > 1
    for kernel in gpu["kernels"] + gpu["tensor_kernels"]:
        for n, cubin in enumerate(bundle.cubins):
            assert (f".text.{kernel['name']}" in sections(cubin)) == (n == kernel["cubin"])
        assert f".visible .entry {kernel['name']}(" in bundle.ptx.decode()
        # As they are shipped: those beside the ones on tensor copies are assembled in less time.
        assert kernel["spill_bytes"] == 0
        assert kernel["registers"] * kernel["threads"] * (1 if kernel["threads"] == 384 else 2) <= 65536
