"""A row's bits depend on neither the batch, the thread count, nor other rows."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import heddle as hd

PATTERNS = [
    "full",
    "causal",
    "window(50, 3)",
    "window(63, 0)",
    "stride(7)",
    "causal & stride(700)",
    "causal & (window(15, 0) | stride(16))",
    "block(48) | keys([0 to 5])",
    "coarse(16, causal) - block(8)",
    "offsets([0, 1, 2, 4, 8, 16, 32, 64])",
    "window(127, 0) | offsets([150, 170, 193, 211, 267])",
]


def inputs(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(3, h, 300, 64, generator=g).to(dtype) for h in (4, 2, 2)]


def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, where: str, **kw) -> torch.Tensor:
    return hd.attend(q, k, v, where=hd.parse(where), **kw)


@pytest.mark.parametrize("where", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_the_batch(where: str, dtype: torch.dtype) -> None:
    q, k, v = inputs(dtype)
    whole = run(q, k, v, where)
    for b in range(3):
        one = slice(b, b + 1)
        assert torch.equal(run(q[one], k[one], v[one], where), whole[one])


@pytest.mark.parametrize("where", PATTERNS)
def test_bits_do_not_depend_on_other_rows(where: str) -> None:
    q, k, v = inputs()
    whole = run(q, k, v, where)
    other = torch.randn_like(q) * 3
    other[:, :, 100:110] = q[:, :, 100:110]
    assert torch.equal(run(other, k, v, where)[:, :, 100:110], whole[:, :, 100:110])


@pytest.mark.parametrize("where", PATTERNS)
@pytest.mark.parametrize("rows", [(100, 101), (64, 128), (37, 300), (0, 1)])
def test_bits_do_not_depend_on_how_many_rows_there_are(where: str, rows: tuple[int, int]) -> None:
    q, k, v = inputs()
    lo, hi = rows
    part = run(q[:, :, lo:hi], k, v, where, q_offset=lo)
    assert torch.equal(part, run(q, k, v, where)[:, :, lo:hi])


@pytest.mark.parametrize("where", PATTERNS)
def test_bits_are_the_same_twice(where: str) -> None:
    q, k, v = inputs()
    first = run(q, k, v, where)
    for _ in range(5):
        assert torch.equal(run(q, k, v, where), first)


def test_bits_do_not_depend_on_callers_at_the_same_time() -> None:
    cases = [(where, run(*inputs(), where)) for where in PATTERNS]
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda c: run(*inputs(), c[0]), cases * 6))
    for got, (_, want) in zip(again, cases * 6, strict=True):
        assert torch.equal(got, want)


SCRIPT = """
import hashlib, torch
from test_kernels_determinism import PATTERNS, inputs, run
h = hashlib.sha256()
for where in PATTERNS:
    h.update(run(*inputs(), where).contiguous().numpy().tobytes())
print(h.hexdigest())
"""


def test_bits_do_not_depend_on_the_thread_count() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    digests = set()
    for threads in ("1", "2", "3", "7"):
        path = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "HEDDLE_NUM_THREADS": threads, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
