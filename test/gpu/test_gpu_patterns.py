"""Every primitive, shape and layout through the GPU kernels' PTX."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from sweep import sweep
from test_kernels_sweep import random_problem

import heddle as hd
from kernel_checks import compare, compare_problem
from oracle import cases

from . import ptx, run


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_each_primitive(name: str) -> None:
    dtype = cases.DTYPES[len(name) % 3]
    group = 3 if "per_head" in name else 1
    p = cases.Problem(
        nq=150, nk=190, d=16, dv=8, dtype=dtype, where=cases.PRIMITIVES[name], b=1, group=group, offset="five"
    )
    compare_problem(p)


@pytest.mark.parametrize(
    "where",
    [
        f"offsets({[n * n - 9 for n in range(20)]}) | window(2, 0)",
        "grid(12, offsets([0, 1, 3, -2, -4]), offsets([0, 2, -3, 5, 6]))",
    ],
)
def test_scattered_distances(where: str) -> None:
    """What a CPU takes from a table, query by query."""
    compare_problem(cases.Problem(nq=90, nk=130, d=16, dv=16, dtype="f16", where=where, b=1, offset="five"))


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize(
    ("d", "dv"), [(1, 1), (8, 40), (40, 8), (72, 64), (128, 128), (96, 256), (256, 192), (576, 512)]
)
def test_head_dimensions(d: int, dv: int, dtype: str) -> None:
    compare_problem(cases.Problem(nq=40, nk=70, d=d, dv=dv, dtype=dtype, where="causal", b=1, offset="end"))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_layouts(layout: str, dtype: str) -> None:
    p = cases.Problem(
        nq=70, nk=90, d=40, dv=24, dtype=dtype, where="window(30, 3)", group=2, layout=layout, offset="batch"
    )
    compare_problem(p)


@pytest.mark.parametrize("nq", [1, 17, 64, 200])
@pytest.mark.parametrize("nk", [0, 1, 63, 64, 65, 300])
def test_lengths(nq: int, nk: int) -> None:
    compare_problem(cases.Problem(nq=nq, nk=nk, d=16, dv=16, dtype="f16", where="causal", b=1, offset="end"))


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("where", ["causal", "causal & (window(15, 0) | stride(16))", "grid(8, window(1, 1), full)"])
def test_warps_that_run_one_by_one(order: str, where: str) -> None:
    """A barrier that is missing shows when one warp runs ahead of the others."""
    g = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 1, n, 16, generator=g).to(torch.bfloat16) for n in (130, 200, 200))
    compare(q, k, v, where, dtype="bf16", q_offset=0, order=order, judge_ignores=("order",))


@pytest.mark.parametrize("mirrored", [False, True])
def test_many_scattered_distances(mirrored: bool) -> None:
    """A condition of many intervals is found by bisection, in code."""
    distances = sorted({n * n * 7 % 181 for n in range(60)} | {5, 6, 7})
    assert len(distances) > 40
    where = f"offsets([{', '.join(str(-x if mirrored else x) for x in distances)}])"
    compare_problem(cases.Problem(nq=190, nk=200, d=16, dv=16, dtype="f32", where=where, b=1, offset="five"))


def wide_problem(seed: int) -> cases.Problem:
    """A random problem, one in three with wide heads."""
    p = random_problem(seed)
    return p if seed % 3 else dataclasses.replace(p, d=(72, 96, 128, 256)[seed % 4], dv=(128, 80, 256)[seed // 3 % 3])


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_random_problems(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hd, "attend", functools.partial(run.attend, target=target))
    sweep(4, lambda seed: compare_problem(wide_problem(seed), seed), lambda seed: wide_problem(seed).label, 400000)


@pytest.mark.parametrize("nq", [2, 20])
def test_rows_that_fit_no_tile(nq: int) -> None:
    """Dots as sums of their own: of one head a tile, and of heads that share one."""
    g = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, h, n, d, generator=g) for h, n, d in ((2, nq, 1000), (1, 9, 1000), (1, 9, 8)))
    compare(q, k, v, "causal", q_offset="end")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relative_rows_are_products(dtype: torch.dtype, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a tile's distances are multiplied once: at most 3.5 times the products of keys alone."""
    products, real = [0], ptx.launch

    def launch(*args: Any, **kw: Any) -> Any:
        done = real(*args, **kw)
        products[0] += done["products"]
        return done

    monkeypatch.setattr(ptx, "launch", launch)
    g = torch.Generator().manual_seed(5)
    q, k, v, r = (torch.randn(1, 1, 192, 32, generator=g).to(dtype) for _ in range(4))
    where = hd.window(60, 0)
    run.attend(q, k, v, where=where, q_offset=0)
    plain, products[0] = products[0], 0
    part = hd.segment(k, v, where, dots=[(q, k), (q, hd.relative(r))])
    out = run.attend(q, segments=[part], q_offset=0, target=target)
    assert plain < products[0] <= 3.5 * plain
    want = hd.reference(q.float(), segments=[hd.segment(k.float(), v.float(), where, dots=[
        (q.float(), k.float()), (q.float(), hd.relative(r.float()))])], q_offset=0)  # fmt: skip
    torch.testing.assert_close(out.float(), torch.as_tensor(want).float(), rtol=2e-2, atol=2e-2)
