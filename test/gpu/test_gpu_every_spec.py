"""Every spec that compiles for the CPU compiles for GPUs, and what is compiled is as it should be.

Without HEDDLE_SWEEP a share of the specs, of which a few are assembled; with it all of them, and random ones for as
many seconds.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_kernels_runtime import TEXTS, operands
from test_kernels_sweep import random_problem

import heddle as hd
from heddle import _gpu
from kernel_checks import built
from oracle import cases, patterns
from oracle.scores import SCORES

from . import run

PTXAS = shutil.which("ptxas")
SECONDS = float(os.environ.get("HEDDLE_SWEEP", "0"))
TARGETS = ["sm_80", "sm_86", "sm_90a"]
SHARED = {"sm_80": 99 << 10, "sm_86": 99 << 10, "sm_90a": 227 << 10}
"""Bytes that a block may take."""
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def share(items: Any, part: int) -> Any:
    """One in `part`, or all in a sweep."""
    return list(items)[:: 1 if "HEDDLE_SWEEP" in os.environ else part]


def tensors(dtype: str, d: int = 16, dv: int = 8, heads: tuple[int, int] = (4, 2), b: int = 2) -> list[torch.Tensor]:
    shapes = (b, heads[0], 150, d), (b, heads[1], 170, d), (b, heads[1], 170, dv)
    return [torch.zeros(s, dtype=TYPES[dtype]) for s in shapes]


def compiles_for_the_cpu(text: str) -> bool:
    try:
        hd.compile(text)
    except ValueError:
        return False
    return True


def bundle_of(text: str, target: str) -> _gpu.Bundle:
    """The bundle; where the compiler refuses, the CPU's must do so too."""
    try:
        return run.compile_bundle(text, target)
    except run.CompileError:
        if compiles_for_the_cpu(text):
            pytest.fail(f"compiles for the CPU and not for {target}:\n{text}")
        pytest.skip("no target takes it")


def plain_products(bundle: _gpu.Bundle, kernel: dict[str, Any]) -> tuple[int, ...]:
    """`mma.sync` of a tile of one segment with one dot, as they may be: loops over many steps of d hold one step, rows
    that fit no tile have no products for S, and a kernel without strata has none."""
    q = bundle.manifest["args"][0]
    depth, times, unrolled = (8, 3, 8) if q["type"] == "f32" else (16, 1, 16)
    steps = math.ceil(q["dims"][3] / depth)
    scores = times * (kernel["keys"] // 8) * (steps if steps <= unrolled else 1)
    values = times * (kernel["keys"] // depth) * (kernel["columns"] // 8)
    return (0, scores + values, *([values] if steps * depth > 512 else []))


def check(text: str, target: str, folder: Path | None = None, counts: bool = True, most: int = 1 << 20) -> None:
    """PTX that needs nothing else and holds the products of one tile; `folder`: assembled too, with at most `most`
    bytes spilled (and as many read again)."""
    bundle = bundle_of(text, target)
    ptx = bundle.ptx.decode()
    assert not re.search(r"\.extern \.(func|global)", ptx)
    assert "call" not in re.findall(r"^\s*(\w+)", ptx, re.M)
    assert ".local" not in ptx
    gpu = bundle.manifest["gpu"]
    bodies = {part.split("(")[0]: part for part in ptx.split(".entry ")[1:]}
    shapes = [k for k in gpu["kernels"] if "merge" not in k]
    fast = gpu.get("tensor_kernels", [])
    for kernel in [*shapes, *fast]:
        assert kernel["shared_bytes"] <= SHARED[target]
    if counts:
        for kernel in shapes:
            assert bodies[kernel["name"]].count("\tmma.sync") in plain_products(bundle, kernel), kernel["name"]
        d = math.ceil(bundle.manifest["args"][0]["dims"][3] / 16)
        for kernel in fast:
            assert bodies[kernel["name"]].count("wgmma.mma_async") in (0, d + 2 * (kernel["keys"] // 16))
    if folder is None or PTXAS is None:
        return
    source = folder / "k.ptx"
    source.write_bytes(bundle.ptx)
    command = [PTXAS, "-v", f"-arch={target}", "-o", str(folder / "k.cubin"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "serialized" not in done.stderr, done.stderr
    assert "warning" not in done.stderr, done.stderr
    for part in done.stderr.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        used = re.search(r"Used (\d+) registers", part)
        threads = next(k["threads"] for k in [*gpu["kernels"], *fast] if k["name"] == name)
        assert used and int(used.group(1)) * threads <= 65536, part
    # Spills as shipped: kernels whose registers are given may be assembled at another level.
    core = pytest.importorskip("heddle._core")
    shipped = _gpu.Bundle.parse(core.kernel_get(text, text, target).artifact).manifest["gpu"]
    for kernel in [*shipped["kernels"], *shipped.get("tensor_kernels", [])]:
        assert kernel["spill_bytes"] <= 2 * most, kernel


def spec_of(where: str, n: int, **kw: Any) -> str:
    """A spec whose other properties follow from n."""
    dtype = cases.DTYPES[n % 3]
    q, k, v = tensors(dtype, (16, 64, 128, 40)[n % 4], (64, 8, 128)[n // 4 % 3])
    values = operands(n)
    options: dict[str, Any] = {"q_offset": [0, "end", torch.tensor([3, 5])][n % 3], "return_lse": n % 2 == 0}
    if n % 5 == 1:
        options["sink"] = torch.zeros(4)
    if n % 5 == 2:
        options["score"] = list(SCORES.values())[n // 5 % len(SCORES)](hd, 4)
    if n % 7 == 3:
        options |= {"normalizer": ("none", "sum")[n % 2], "return_lse": False}
        options.pop("sink", None)
    return run.text_of(q, k, v, where=built(patterns.parse(where), values), **(options | kw))


WHERES = [*cases.PRIMITIVES.values(), *TEXTS]


@pytest.mark.parametrize("n", share(range(len(WHERES)), 9))
def test_every_pattern(n: int, tmp_path: Path) -> None:
    """Closed forms and run-time patterns, with scores, sinks, offsets and normalisers in turn."""
    for target in (TARGETS[0], TARGETS[-1]) if SECONDS else (TARGETS[-(n % 2)],):
        check(spec_of(WHERES[n], n), target, tmp_path if SECONDS or n % 27 == 0 else None)


SIZES = [1, 3, 16, 40, 64, 80, 96, 128, 192, 256, 257, 320, 512, 576, 1024]


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize(
    ("d", "dv"), [*((d, d) for d in SIZES), *share([(1, 1024), (1024, 1), (576, 512), (64, 512), (512, 64)], 2)]
)
def test_every_head_dimension(d: int, dv: int, dtype: str, tmp_path: Path) -> None:
    text = run.text_of(*tensors(dtype, d, dv), where=hd.causal, q_offset=0, return_lse=True)
    assembled = SECONDS > 0 or (dtype == "bf16" and d in (64, 256))
    # For rarer sizes ptxas now and then gives up a register or two, to fit one more block.
    most = 1 << 20 if dtype == "f32" or d > 256 else 0 if d in (64, 96, 128, 256) else 32
    for target in TARGETS if SECONDS else (TARGETS[-1 if assembled else d % 3],):
        check(text, target, tmp_path if assembled else None, most=most)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tanh": lambda s, b, h, i, j: hd.tanh(s),
    "exp": lambda s, b, h, i, j: hd.exp(s),
    "exp2": lambda s, b, h, i, j: hd.exp2(s),
    "log": lambda s, b, h, i, j: hd.log(hd.abs(s) + 1.0),
    "sqrt": lambda s, b, h, i, j: hd.sqrt(hd.abs(s)),
    "floor": lambda s, b, h, i, j: hd.floor(s),
    "sigmoid": lambda s, b, h, i, j: hd.sigmoid(s),
    "erf": lambda s, b, h, i, j: hd.erf(s),
    "sin and cos": lambda s, b, h, i, j: hd.sin(s) + hd.cos(s),
    "clamp": lambda s, b, h, i, j: hd.clamp(s, -2.0, 3.0),
    "maximum": lambda s, b, h, i, j: hd.maximum(s, 0.0) + hd.minimum(s, 1.0),
    "select": lambda s, b, h, i, j: hd.select((i > j) & (h < 2) | (b == 1), s, -s),
    "integers": lambda s, b, h, i, j: s + ((i ^ j) & 7) + ((i | 1) >> 1) + ((j << 1) % 5) + (i - j) // 3,
    "division": lambda s, b, h, i, j: s / (1.0 + hd.abs(s)) + (i + 1) / (j + 2),
    "power": lambda s, b, h, i, j: s * s * s - 2.0 * s,
    "dead": lambda s, b, h, i, j: hd.select((i + j) % 3 == 0, -float("inf"), s),
    "scalar": lambda s, b, h, i, j: s,
}


@pytest.mark.parametrize("name", share(FUNCTIONS, 3))
def test_every_function_of_scores(name: str, tmp_path: Path) -> None:
    for dtype in cases.DTYPES if SECONDS else ("bf16",):
        text = run.text_of(*tensors(dtype), where=hd.causal, q_offset=0, score=FUNCTIONS[name])
        for target in (TARGETS[0], TARGETS[-1]):
            check(text, target, tmp_path if SECONDS else None)


def several(count: int, dtype: str) -> str:
    """Segments of other lengths, patterns, offsets and scales."""
    wheres = [hd.causal, hd.window(20, 5), hd.stride(9), hd.keys([(0, 4)]), hd.coarse(16, hd.causal), hd.full]
    parts = []
    for n in range(count):
        _, k, v = tensors(dtype, 16, 24)
        parts.append(hd.segment(k[:, :, n:], v[:, :, n:], wheres[n % 6], k_offset=n, scale=0.5 if n == 1 else None))
    return run.text_of(tensors(dtype)[0], segments=parts, q_offset=0, sink=torch.zeros(4))


@pytest.mark.parametrize("count", [2, 5, 12, 24])
def test_many_segments(count: int, tmp_path: Path) -> None:
    for dtype in cases.DTYPES if SECONDS else ("f16",):
        for target in (TARGETS[0], TARGETS[-1]):
            check(several(count, dtype), target, tmp_path if SECONDS or count == 24 else None, counts=False)


def dots(count: int, d: int, dtype: str, region: bool) -> str:
    """Several dots, of other head dimensions than q, as one score."""
    q, k, v = tensors(dtype)
    own = [tensors(dtype, d + 8 * n)[:2] for n in range(count)]
    score = (lambda *a: sum(a[:count], 0.0) + a[-1] * 0.1) if region or count == 0 else None
    part = hd.segment(k, v, hd.causal, score=score, dots=[(a, b) for a, b in own])
    return run.text_of(q, segments=[part], q_offset=0)


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("d", share([16, 128, 256, 512, 1000], 2))
@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_several_dots(count: int, d: int, region: bool) -> None:
    for dtype in cases.DTYPES if SECONDS else ("f32",):
        for target in TARGETS:
            check(dots(count, d, dtype, region), target, counts=False)


def test_random_specs(tmp_path: Path) -> None:
    """Random patterns, head dimensions, layouts and offsets."""
    begin, count = time.monotonic(), 0
    while count < 6 or time.monotonic() - begin < SECONDS:
        p = random_problem(700000 + count)
        q, k, v = tensors(p.dtype, p.d, p.dv, (p.group * p.hk, p.hk), p.b)
        text = run.text_of(q, k, v, where=hd.parse(p.where), q_offset=3)
        for target in (TARGETS[0], TARGETS[-1]):
            try:
                check(text, target, tmp_path if SECONDS or count == 0 else None)
            except pytest.skip.Exception:
                continue
            except AssertionError as e:
                raise AssertionError(f"{p.where}: {e}") from e
        count += 1
    assert np.isfinite(count)
