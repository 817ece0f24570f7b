"""Glue that ops compute while they read: pool, scan, project, convolve and linear_attend over expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from oracle import tensor_ops as oracle

DTYPES = {"f32": (torch.float32, 2e-5), "f16": (torch.float16, 4e-3), "bf16": (torch.bfloat16, 3e-2)}


def exp64(x: Any) -> np.ndarray:
    return np.exp(np.asarray(x, np.float64))


def tensors(n: int, d: int, dtype: torch.dtype, heads: int = 3) -> dict[str, torch.Tensor]:
    """Everything that the functions below may read, by name."""
    g = torch.Generator().manual_seed(n * 100 + d)
    rand = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    made = {
        "q": rand(2, heads, n, d),
        "k": rand(2, heads, n, d),
        "v": rand(2, heads, n, 20),
        "row": rand(2, heads, n, 1),
        "col": rand(2, heads, 1, d),
        "g": -rand(2, heads, n).abs(),
        "gd": -rand(2, heads, n, d).abs(),
        "few": rand(n, 2) / n**0.5,
        "many": rand(heads, n, 19) / n**0.5,
        "w1": rand(1, 1, d, 21) / d**0.5,
        "w3": rand(1, 3, d, 9) / (3 * d) ** 0.5,
    }
    return {name: x.to(dtype) for name, x in made.items()}


Case = tuple[Callable[..., Any], Callable[..., Any]]


def linear(q: Any, k: Any, v: Any, **more: Any) -> Any:
    return oracle.linear_attend(q, k, v, **more)[0]


CASES: dict[str, Case] = {
    "pool of a product": (
        lambda t: hd.pool(t.q * t.k, "mean", 4, partial=True),
        lambda t: oracle.pool(t.q * t.k, "mean", 4, partial=True)[0],
    ),
    "pool with a column": (
        lambda t: hd.pool(hd.exp(t.q - t.col), "max", 1 << 20, partial=True),
        lambda t: exp64(t.q - t.col).max(2, keepdims=True),
    ),
    "scan of a row's factor": (lambda t: hd.scan(t.q * t.row, "sum"), lambda t: np.cumsum(t.q * t.row, 2)),
    "project of an exponential": (
        lambda t: hd.project(hd.exp(t.k), t.many),
        lambda t: oracle.project(exp64(t.k), t.many)[0],
    ),
    "two projects of what is shared": (
        lambda t: hd.project(hd.exp(t.k - t.col) * t.q, t.few) + hd.project(hd.exp(t.k - t.col), t.few),
        lambda t: oracle.project(exp64(t.k - t.col) * (t.q + 1), t.few)[0],
    ),
    "convolve of a square": (
        lambda t: hd.convolve(t.q * t.q, t.w1),
        lambda t: oracle.convolve(t.q * t.q, t.w1)[0],
    ),
    "convolve of three rows": (
        lambda t: hd.convolve(t.q - t.k, t.w3, stride=1, offset=-1, partial=True),
        lambda t: oracle.convolve(t.q - t.k, t.w3, stride=1, offset=-1, partial=True)[0],
    ),
    "linear_attend": (
        lambda t: hd.linear_attend(hd.exp(t.q), hd.exp(t.k) + 0.5, t.v * t.row, causal=False),
        lambda t: linear(exp64(t.q), exp64(t.k) + 0.5, t.v * t.row, causal=False),
    ),
    "linear_attend causal": (
        lambda t: hd.linear_attend(hd.exp(t.q), hd.exp(t.k), t.v + t.row, causal=True, decay=t.g * 0.25),
        lambda t: linear(exp64(t.q), exp64(t.k), t.v + t.row, causal=True, decay=t.g * 0.25),
    ),
    "linear_attend by channel": (
        lambda t: hd.linear_attend(
            t.q * 0.5, t.k * t.col, t.v * t.row, causal=True, decay=t.gd * 0.5, normalizer="none"
        ),
        lambda t: linear(t.q * 0.5, t.k * t.col, t.v * t.row, causal=True, decay=t.gd * 0.5, normalize=False),
    ),
}


class Named:
    """Tensors as attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def kernel_of(name: str) -> Any:
    run = CASES[name][0]

    @hd.kernel
    def glued(
        q: Any, k: Any, v: Any, row: Any, col: Any, g: Any, gd: Any, few: Any, many: Any, w1: Any, w3: Any
    ) -> Any:  # fmt: skip
        own = {"q": q, "k": k, "v": v, "row": row, "col": col, "g": g, "gd": gd}
        return run(Named(own | {"few": few, "many": many, "w1": w1, "w3": w3}))

    return glued


KERNELS: dict[str, Any] = {}


def run(name: str, given: dict[str, torch.Tensor]) -> torch.Tensor:
    if name not in KERNELS:
        KERNELS[name] = kernel_of(name)
    return KERNELS[name](**given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(1, 16), (17, 33), (130, 64), (1000, 7)])
@pytest.mark.parametrize("name", CASES)
def test_ops_over_expressions(name: str, n: int, d: int, dtype: str) -> None:
    torch_dtype, tolerance = DTYPES[dtype]
    if dtype != "f32" and (n == 1000 or "linear_attend " in name):
        pytest.skip("once is enough, and a decay is f32")
    given = tensors(n, d, torch_dtype)
    expected = np.asarray(CASES[name][1](Named({key: x.double().numpy() for key, x in given.items()})))
    got = run(name, given).double().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", CASES)
def test_strides_change_nothing_but_the_order(name: str) -> None:
    """Rows that lie apart, and columns that do."""
    given = tensors(45, 24, torch.float32)
    plain = run(name, given)
    for axes in ((0, 2, 1, 3), (0, 1, 3, 2)):
        strided = {key: x if x.ndim < 4 else x.permute(axes).contiguous().permute(axes) for key, x in given.items()}
        np.testing.assert_allclose(run(name, strided), plain, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_threads_change_no_bit(name: str) -> None:
    given = tensors(333, 24, torch.float32)
    before = hd.num_threads()
    try:
        hd.set_num_threads(1)
        one = run(name, given).clone()
        hd.set_num_threads(3)
        assert torch.equal(run(name, given), one)
    finally:
        hd.set_num_threads(before)


def test_sizes_are_checked_where_glue_has_no_kernel() -> None:
    @hd.kernel
    def weighed(q: Any, k: Any, w: Any) -> Any:
        return hd.project(q * k, w)

    q = torch.zeros(1, 2, 9, 16)
    weighed(q, q, torch.zeros(9, 3))
    text = str(weighed.spec(q, q, torch.zeros(9, 3)))
    assert "linalg.generic" in text
    program = hd.compile("""
        func.func @f(%q: tensor<?x?x?x16xf32>, %k: tensor<?x?x?x16xf32>, %w: tensor<?x3xf32>) -> tensor<?x?x3x16xf32> {
          %x = arith.mulf %q, %k : tensor<?x?x?x16xf32>
          %y = attn.project %x, %w : tensor<?x?x?x16xf32>, tensor<?x3xf32> -> tensor<?x?x3x16xf32>
          return %y : tensor<?x?x3x16xf32>
        }""")
    good = np.ones((1, 2, 9, 16), np.float32)
    np.testing.assert_allclose(program(good, good, np.ones((9, 3), np.float32)), np.full((1, 2, 3, 16), 9.0))
    with pytest.raises(ValueError, match="expected dimension 2 of k to be 9, but got 8"):
        program(good, good[:, :, :8], np.ones((9, 3), np.float32))
    with pytest.raises(ValueError, match="expected dimension 2 of q to be 8, but got 9"):
        program(good, good, np.ones((8, 3), np.float32))


def test_run_time_scalars_in_what_an_op_reads() -> None:
    factor = hd.scalar(0.5)

    @hd.kernel
    def scaled(x: Any, w: Any) -> Any:
        return hd.project(x * factor, w)

    x, w = torch.randn(1, 2, 30, 16), torch.randn(30, 4)
    for value in (0.5, -2.0):
        factor.value = value
        expected = oracle.project(x.double().numpy() * value, w.double().numpy())[0]
        np.testing.assert_allclose(scaled(x, w), expected, rtol=0, atol=1e-4)


def test_exponentials_of_every_size() -> None:
    """All of f32's exponentials, and what is not finite; alone and among others."""

    @hd.kernel
    def exp(x: Any) -> Any:
        return hd.exp(x)

    x = np.concatenate(
        [
            np.linspace(-104, 89, 40_001),
            np.linspace(-1e-3, 1e-3, 1001),
            [0, -0.0, math.inf, -math.inf, math.nan, 88.72283, 88.72284, -87.3, -103.9, -104, 1e30, -1e30, 1e-40],
        ]
    ).astype(np.float32)
    for width in (x.size, 1):
        given = x.reshape(1, 1, -1, width)
        got = np.asarray(exp(given)).reshape(-1).astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            want = np.exp(x.astype(np.float64))
        normal = (want >= 2.0**-126) & (want < 3.4028234e38)
        assert np.max(np.abs(got[normal] / want[normal] - 1)) < 3e-7
        small = want < 2.0**-126
        assert np.max(np.abs(got[small] - want[small])) <= 2.0**-148
        assert np.all(np.isinf(got[want > 3.41e38]))
        assert got[np.isnan(x)].size == 1 and np.all(np.isnan(got[np.isnan(x)]))
        assert got[x == 0].tolist() == [1.0] * int((x == 0).sum())


def pooled(x: torch.Tensor) -> torch.Tensor:
    """The largest of blocks of 4096 rows."""
    return torch.stack([part.amax(2) for part in x.split(4096, 2)], 2)


# In a function, sizes are known where its kernel is compiled.
@hd.kernel
def project(x: Any, w: Any) -> Any:
    return hd.project(x, w)


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("d", [7, 64, 129, 512])
@pytest.mark.parametrize("n", [1, 17, 1000, 4096, 5001])
def test_long_sequences_are_dealt_out_where_heads_are_few(n: int, d: int, heads: int) -> None:
    """One window, one chain, one row of y."""
    g = torch.Generator().manual_seed(n)
    x, w = torch.randn(1, heads, n, d, generator=g), torch.randn(n, 1, generator=g)
    a, e = x.double().numpy(), w.double().numpy()
    np.testing.assert_array_equal(hd.pool(x, "max", 1 << 29, partial=True), x.amax(2, keepdim=True))
    np.testing.assert_array_equal(hd.pool(x.half(), "max", 4096, partial=True), pooled(x.half()))
    np.testing.assert_allclose(hd.pool(x, "sum", 1 << 29, partial=True), a.sum(2, keepdims=True), rtol=0, atol=1e-3)
    np.testing.assert_allclose(hd.scan(x, "sum"), np.cumsum(a, 2), rtol=0, atol=1e-3)
    np.testing.assert_allclose(project(x, w), oracle.project(a, e)[0], rtol=0, atol=2e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(("n", "d", "e", "taps", "more"), [
    (1, 16, 1, 1, {}), (17, 7, 3, 1, {}), (300, 33, 4, 3, {"stride": 1, "offset": -2, "partial": True}),
    (1000, 64, 1, 2, {}), (5, 16, 2, 9, {}), (40, 48, 1, 3, {"stride": 2, "offset": 1, "partial": True}),
])  # fmt: skip
def test_convolutions_of_few_columns(
    n: int, d: int, e: int, taps: int, more: dict[str, Any], strided: bool, bias: bool, dtype: str
) -> None:
    torch_dtype, tolerance = DTYPES[dtype]
    g = torch.Generator().manual_seed(n)
    x, w = torch.randn(2, 3, n, d, generator=g), torch.randn(1, taps, d, e, generator=g) / (d * taps) ** 0.5
    b = torch.randn(3, e, generator=g) if bias else None
    x, w, b = (t if t is None else t.to(torch_dtype) for t in (x, w, b))
    x = x.transpose(2, 3).contiguous().transpose(2, 3) if strided else x
    arrays = [None if t is None else t.double().numpy() for t in (x, w, b)]
    expected = oracle.convolve(arrays[0], arrays[1], bias=arrays[2], **more)[0]

    @hd.kernel
    def convolve(x: Any, w: Any, b: Any) -> Any:
        return hd.convolve(x, w, bias=b, **more)

    got = convolve(x, w, b).double().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max([1.0, *np.abs(expected).reshape(-1)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_else_reads_a_value_of_glue_changes_no_bit(dtype: torch.dtype) -> None:
    """Glue reads glue unrounded, whether the value is also returned, read by an op, or neither; rows repeat."""

    def chain(x: Any, row: Any) -> tuple[Any, Any, Any]:
        y = x / (1.0 + hd.abs(x))
        rows = hd.exp(row * 0.5)
        return y, rows, y * y * 0.75 + y * rows

    def value(x: Any, row: Any) -> Any:
        return chain(x, row)[2]

    def returned(x: Any, row: Any) -> Any:
        return chain(x, row)

    def read(x: Any, row: Any) -> Any:
        y, _, z = chain(x, row)
        return hd.pool(y, "max", 4), hd.attend(y, y, y), z

    x, row = torch.randn(2, 3, 57, 40).to(dtype), torch.randn(2, 3, 1, 40).to(dtype)
    alone = hd.kernel(value)(x, row)
    exact = x.double() / (1 + x.double().abs())
    exact = exact * exact * 0.75 + exact * torch.exp(row.double() * 0.5)
    assert (alone != exact.to(dtype)).double().mean() < 1e-3  # rounded once; f32 may lie beside a tie
    y, _, z = hd.kernel(returned)(x, row)
    assert torch.equal(z, alone)
    pooled, out, z = hd.kernel(read)(x, row)
    assert torch.equal(z, alone)
    assert torch.equal(pooled, hd.pool(y, "max", 4))
    assert torch.equal(out, hd.attend(y, y, y))
