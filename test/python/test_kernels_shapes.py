"""Kernels over lengths, head sizes, types, head groups and memory layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import compare, compare_problem
from oracle import cases

WHERE = [
    "full",
    "causal",
    "window(20, 5)",
    "stride(9)",
    "block(48)",
    "causal & (window(15, 0) | stride(16))",
    "window(5, 4, dilation = 7)",
    "coarse(16, causal)",
]
AXES = {
    "nq": cases.LENGTHS,
    "nk": cases.LENGTHS,
    "d": cases.DIMS,
    "dv": cases.DIMS,
    "dtype": cases.DTYPES,
    "group": (1, 4, 8),
    "layout": cases.LAYOUTS,
    "where": WHERE,
    "offset": ("zero", "end", "five", "batch"),
}
PROBLEMS = [cases.Problem(**row) for row in cases.pairwise(AXES)]


@pytest.mark.parametrize("p", PROBLEMS, ids=lambda p: p.label.replace(" ", ","))
def test_shapes(p: cases.Problem) -> None:
    compare_problem(p)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("where", ["full", "causal", "window(20, 5)"])
def test_all_lengths_with_one_kernel(dtype: str, where: str) -> None:
    for nq in cases.LENGTHS:
        for nk in cases.LENGTHS:
            compare_problem(cases.Problem(nq, nk, 40, 24, dtype, 2, "plain", where, "end", b=1))


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize(
    "where", ["window(127, 0)", "window(40, 0)", "window(7, 31)", "causal & window(70, 9) & stride(3)"]
)
def test_groups_of_keys_that_few_columns_see(dtype: str, where: str) -> None:
    for d in (40, 64, 200):  # 200 in two parts
        compare_problem(cases.Problem(333, 350, d, 24, dtype, 2, "plain", where, "five", b=1))


@pytest.mark.parametrize("name", ["f32", "f16"])
def test_numpy_inputs_and_negative_strides(name: str) -> None:
    rng = np.random.default_rng(0)
    kind = np.float32 if name == "f32" else np.float16
    q, k, v = (rng.standard_normal((2, 3, n, 32)).astype(kind) for n in (30, 50, 50))
    compare(q, k, v, "window(9, 3)", q_offset=20, dtype=name)
    compare(q[:, :, ::-1], k[:, :, ::-1], v[:, ::-1, :, ::-1], "causal", q_offset=20, dtype=name)
    fortran = [np.asfortranarray(x) for x in (q, k, v)]
    compare(*fortran, "causal", q_offset=20, dtype=name)


def test_batch_of_keys_may_be_one() -> None:
    p = cases.Problem(nq=33, nk=70, group=2, layout="one_batch", where="causal", offset="batch", b=3)
    compare_problem(p)


def test_large_scores() -> None:
    for where in ("full", "causal", "stride(5)"):
        for dtype in cases.DTYPES:
            p = cases.Problem(130, 130, 64, 64, dtype, where=where, magnitude=2500.0)
            compare_problem(p)


def test_wide_heads() -> None:
    for d, dv in [(576, 512), (512, 576), (1024, 1), (1, 1024), (1024, 1024)]:
        compare_problem(cases.Problem(20, 70, d, dv, where="causal", offset="end"))


def test_result_follows_the_stride_order_of_q() -> None:
    x = cases.inputs(cases.Problem(40, 40, group=4, layout="bnhd"))
    out = hd.attend(x.q, x.k, x.v, where=hd.causal)
    assert out.transpose(1, 2).is_contiguous()


def test_result_into_a_given_tensor() -> None:
    x = cases.inputs(cases.Problem(40, 40, group=4))
    out = torch.full((2, 4, 40, 64), float("nan"))
    got = hd.attend(x.q, x.k, x.v, where=hd.causal, out=out)
    assert got.data_ptr() == out.data_ptr()
    assert torch.equal(out, hd.attend(x.q, x.k, x.v, where=hd.causal))


def test_layouts_of_arguments() -> None:
    x = cases.inputs(cases.Problem(40, 40, group=4))
    want = hd.attend(x.q, x.k, x.v, where=hd.causal)
    got = hd.attend(*(t.transpose(1, 2) for t in (x.q, x.k, x.v)), where=hd.causal, layout="bnhd")
    assert torch.equal(got.transpose(1, 2), want)


def test_no_recompile_over_lengths_batches_and_scalars() -> None:
    def run(n: int, b: int, w: int, scale: float) -> None:
        q, k, v = (torch.randn(b, 2, n, 16) for _ in range(3))
        hd.attend(q, k, v, where=hd.window(hd.scalar(w), 0), scale=scale)

    run(100, 1, 3, 0.5)
    before = hd.compile_count()
    for n in range(1, 100, 2):
        run(n, 1 + n % 5, n % 10, 0.1 * n)
    assert hd.compile_count() == before


@pytest.mark.parametrize("where", [
    "stride(1000000)", "causal & stride(300000, 299999)", "stride(4611686018427387904, 2305843009213693952)",
    "window(3, 3, dilation = 1099511627776)", "offsets([1099511627776, 0, -1099511627776])",
    "stride(1000000) & holds(b, h, i, j: (i * j) % 3 == 0)",
])  # fmt: skip
def test_residues_further_apart_than_the_sequence(where: str) -> None:
    """Each residue has one query: only those that there are may be walked."""
    compare_problem(cases.Problem(100, 100, 16, 16, "f32", 1, "plain", where, "zero"))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("dv", [16, 64, 20])
@pytest.mark.parametrize("where", [
    "causal & (window(15, 0) | stride(16))", "grid(20, full, window(0, 0)) | grid(20, window(0, 0), full)",
    "causal & (window(3, 0) | stride(5) | stride(7))", "queries([9 to 20]) & stride(3) | window(2, 1)",
])  # fmt: skip
def test_strata_that_take_the_queries_differently_share_rows_of_any_layout(where: str, dv: int, dtype: str) -> None:
    """Between groups of strata, a result of f32 may hold what is not yet divided."""
    x = cases.inputs(cases.Problem(300, 300, 32, dv, dtype, 2, "plain", where, "zero"))
    compare(x.q, x.k, x.v, where, dtype=dtype, sink=torch.linspace(-1, 1, x.q.shape[1]))
    plain = hd.attend(x.q, x.k, x.v, where=hd.parse(where))
    b, h, n, _ = x.q.shape
    wide = torch.empty((b, h, n, 2 * dv + 3), dtype=x.q.dtype)
    between = torch.empty((b, n, h, dv), dtype=x.q.dtype).transpose(1, 2)
    for out in (wide[..., 3 : 3 + dv], wide[..., : 2 * dv : 2], between):
        out.fill_(float("nan"))
        hd.attend(x.q, x.k, x.v, where=hd.parse(where), out=out)
        assert torch.equal(out, plain)
