"""Few queries: heads that share keys share tiles, keys are split over tasks, groups of strata take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array, compare
from oracle import attention, scalars, scores, tolerance


@pytest.fixture
def threads() -> Iterator[None]:
    """Three threads, so that tasks are shared out whatever the machine has."""
    before = hd.num_threads()
    hd.set_num_threads(3)
    yield
    hd.set_num_threads(before)


def tensors(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g).to(dtype) for s in shapes]


HEADS = [(8, 1), (12, 2), (16, 2), (7, 1), (64, 8), (3, 3), (70, 1)]
LONG = 4500  # keys: several splits


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("nq", [1, 2, 5, 8, 33])
def test_heads_that_share_keys(heads: tuple[int, int], nq: int, threads: None) -> None:
    h, hk = heads
    q, k, v = tensors(nq, (2, h, nq, 32), (2, hk, 700, 32), (2, hk, 700, 24))
    for where in ("full", "causal", "window(99, 0)", "stride(3) & causal", "causal & (window(20, 0) | stride(64))"):
        compare(q, k, v, where, q_offset="end", label=f"{heads} {nq}")


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("d", [(64, 64), (128, 40), (17, 5)])
@pytest.mark.parametrize("nq", [1, 7, 100])
def test_split_keys(dtype: str, d: tuple[int, int], nq: int, threads: None) -> None:
    to = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    q, k, v = tensors(nq, (1, 4, nq, d[0]), (1, 2, LONG, d[0]), (1, 2, LONG, d[1]), dtype=to)
    for where in ("full", "causal", "causal(2300)", "keys([4400 to end])", "~window(9, 9)"):
        compare(q, k, v, where, dtype=dtype, q_offset="end", label=f"{d} {nq}")


@pytest.mark.parametrize("name", scores.SCORES)
def test_scores_by_head(name: str, threads: None) -> None:
    q, k, v = tensors(3, (2, 12, 3, 32), (2, 3, 900, 32), (2, 3, 900, 16))
    compare(q, k, v, "causal", score=name, q_offset=torch.tensor([500, 896]), label=name)


@pytest.mark.parametrize("nq", [1, 6])
@pytest.mark.parametrize("normalizer", ["softmax", "sum", "none"])
def test_sinks_and_normalizers_over_splits(nq: int, normalizer: str, threads: None) -> None:
    q, k, v = tensors(4, (2, 8, nq, 32), (2, 2, LONG, 32), (2, 2, LONG, 32))
    if normalizer == "softmax":
        compare(q, k, v, "causal", q_offset="end", sink=torch.linspace(-3.0, 9.0, 8))
        return
    kw = {"q_offset": "end", "normalizer": normalizer, "score": lambda s, b, h, i, j: s * s}
    want = attention.attend(*(x.double().numpy() for x in (q, k, v)), where="causal", **kw)
    verdict = tolerance.check(array(hd.attend(q, k, v, where=hd.causal, **kw)), want, "f32", None, normalizer)
    assert verdict, verdict.message


PATTERNS_BY_HEAD = [
    "per_head([causal, window(50, 0)])",
    "per_head([causal, stride(2), full]) & causal",
    "holds(b, h, i, j : ((i + j + h) % 3 == 1)) & causal",
]


@pytest.mark.parametrize("where", PATTERNS_BY_HEAD)
@pytest.mark.parametrize("nq", [1, 8])
def test_patterns_that_differ_by_head(where: str, nq: int, threads: None) -> None:
    q, k, v = tensors(5, (2, 8, nq, 32), (2, 2, 2600, 32), (2, 2, 2600, 32))
    compare(q, k, v, where, q_offset="end")


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("share", [0.01, 0.6])
def test_masks_of_heads(heads: int, share: float, threads: None) -> None:
    """Heads share tiles where the mask's heads let them; few keys are taken query by query, each with its own head."""
    rng = np.random.default_rng(heads)
    q, k, v = tensors(9, (2, 8, 3, 32), (2, 2, 2600, 32), (2, 2, 2600, 32))
    compare(q, k, v, "mask(%m)", operands={"m": rng.random((2, heads, 3, 2600)) < share}, q_offset=0)


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_operands_of_heads(heads: int, threads: None) -> None:
    rng = np.random.default_rng(heads)
    q, k, v = tensors(6, (2, 8, 4, 32), (2, 2, 2600, 32), (2, 2, 2600, 32))
    ids = {"q": rng.integers(0, 3, (2, heads, 4)), "k": rng.integers(0, 3, (2, heads, 2600))}
    compare(q, k, v, "same(%q, %k)", operands=ids)


def test_everything_at_once(threads: None) -> None:
    """Two segments with offsets, grouped heads, split keys, a score by head, a captured table, a sink, strides."""
    h, hk, nq = 8, 2, 5
    q, k, v = tensors(7, (3, nq, h, 32), (3, 5000, hk, 32), (3, 5000, hk, 24))
    mk, mv = tensors(8, (1, hk, 70, 32), (1, hk, 70, 24))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    offsets = np.array([4995, 2047, 13])
    slopes = np.linspace(0.001, 0.01, h).astype(np.float32)
    table = np.random.default_rng(0).standard_normal((h, 16)).astype(np.float32)
    sink = torch.linspace(-2, 4, h)
    where = "causal & (keys([0 to 9]) | window(3000, 0))"

    def score(ns: Any) -> Any:
        s, t = ns.tensor(slopes), ns.tensor(table)
        return lambda x, b, h, i, j: x - s[h] * (i - j) + t[h, j % 16]

    ours = [hd.segment(mk, mv), hd.segment(k, v, hd.parse(where), score=score(hd))]
    out = hd.attend(q, segments=ours, sink=sink, q_offset=torch.tensor(offsets))
    q, k, v, mk, mv = (x.double().numpy() for x in (q, k, v, mk, mv))
    judged = [attention.Segment(mk, mv), attention.Segment(k, v, where, score=score(scalars))]
    want = attention.attend(q, segments=judged, sink=sink.double().numpy(), q_offset=offsets)
    verdict = tolerance.check(array(out), want, "f32", None, "everything")
    assert verdict, verdict.message


@pytest.mark.parametrize("where", ["full", "causal", "stride(2)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_of_one_row_alone(where: str, dtype: torch.dtype, threads: None) -> None:
    """One row decoded has the bits that it has among all rows, whatever the batch and the heads beside it."""
    n = 2500
    q, k, v = tensors(8, (2, 4, n, 64), (2, 2, n, 64), (2, 2, n, 64), dtype=dtype)
    pattern = hd.parse(where)
    whole = hd.attend(q, k, v, where=pattern)
    for lo, hi in ((0, 1), (63, 66), (2047, 2049), (2496, 2500), (1000, 1100)):
        part = hd.attend(q[:1, :, lo:hi], k[:1], v[:1], where=pattern, q_offset=lo)
        assert torch.equal(part, whole[:1, :, lo:hi]), (lo, hi)
        part = hd.attend(q[:, 1:2, lo:hi], k[:, :1], v[:, :1], where=pattern, q_offset=lo)
        assert torch.equal(part, whole[:, 1:2, lo:hi]), (lo, hi)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 40, 72, 80, 96, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_of_few_lanes(d: int, dtype: torch.dtype, threads: None) -> None:
    """With up to 8 lanes keys lie on lanes, with more queries do: the sums are the same, of any width and any keys."""
    nq = 20
    for nk in (1, 15, 17, 33, 100, 192, 193, 2085):
        q, k, v = tensors(10, (1, 9, nq, d), (1, 1, nk, d), (1, 1, nk, d), dtype=dtype)
        whole = hd.attend(q, k, v)
        for heads, lo, hi in ((1, 0, 1), (2, 3, 4), (3, 7, 8), (4, 11, 13), (5, 19, 20), (8, 0, 1), (9, 2, 3)):
            part = hd.attend(q[:, :heads, lo:hi], k, v)
            assert torch.equal(part, whole[:, :heads, lo:hi]), (nk, heads, lo, hi)


SHAPES = [(1, 1, 1, 1, 40000), (1, 8, 1, 8, 9000), (1, 1, 1, 300, 5000), (2, 2, 2, 64, 2200), (1, 1, 1, 5000, 5000)]
SHARED = ["full", "causal", "causal & (window(63, 0) | stride(64))", "window(100, 100) | global_tokens([0 to 4])"]


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_do_not_depend_on_the_thread_count(shape: tuple[int, ...]) -> None:
    b, h, hk, nq, nk = shape
    q, k, v = tensors(9, (b, h, nq, 64), (b, hk, nk, 64), (b, hk, nk, 64))
    before = hd.num_threads()
    try:
        for where in SHARED:
            found = []
            for n in (1, 2, 3, 16):
                hd.set_num_threads(n)
                found.append(hd.attend(q, k, v, where=hd.parse(where), q_offset="end", return_lse=True))
            for out, lse in found[1:]:
                assert torch.equal(out, found[0][0]) and torch.equal(lse, found[0][1]), where
    finally:
        hd.set_num_threads(before)


def test_dead_splits_do_not_leak(threads: None) -> None:
    q, k, v = tensors(10, (1, 8, 4, 32), (1, 1, 9000, 32), (1, 1, 9000, 32))
    want = hd.attend(q, k[:, :, :3000], v[:, :, :3000], where=hd.causal, q_offset=2996)
    for bad in (float("nan"), float("inf")):
        k[:, :, 3000:] = v[:, :, 3000:] = bad
        got = hd.attend(q, k, v, where=hd.causal, q_offset=2996)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    k[:, :, 8000] = float("nan")
    assert torch.isfinite(hd.attend(q, k, v, where=hd.parse("causal(3)"), q_offset=2996)).all()


MEMORY = """
import sys, torch, heddle as hd
def peak():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1])
hd.set_num_threads(2)
nq, nk, where = int(sys.argv[1]), int(sys.argv[2]), hd.parse(sys.argv[3])
q, k, v = (torch.randn(1, 1, n, 64) for n in (nq, nk, nk))
out = torch.zeros_like(q)
torch.set_num_threads(1)
hd.attend(q[:, :, :2], k[:, :, :2], v[:, :, :2], where=where, q_offset="end", out=out[:, :, :2])  # compiles
open("/proc/self/clear_refs", "w").write("5")
before = peak()
hd.attend(q, k, v, where=where, q_offset="end", out=out)
print(peak() - before)
"""


@pytest.mark.parametrize("where", SHARED[1:])
@pytest.mark.parametrize("shape", [(16384, 16384), (1, 200000), (64, 100000)])
def test_extra_memory_is_bounded(where: str, shape: tuple[int, int]) -> None:
    """Scratch of two threads and 2 MiB of shared states for each: nothing of the size of Nq x Nk."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs the kernel's clear_refs to reset the peak")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(shape[0]), str(shape[1]), where], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10 * 1024, f"{done.stdout} KiB"
