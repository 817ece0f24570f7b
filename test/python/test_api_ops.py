"""Ops on whole tensors, alone: against the oracle, for every dtype, stride and odd size."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from oracle import tensor_ops as oracle

DTYPES = ["f32", "f16", "bf16"]
_TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def rows(*shape: int, dtype: str = "f32", seed: int = 0, strided: str = "no") -> torch.Tensor:
    """Random rows; "gaps" between columns, "rows" first, or a "reversed" order of dimensions in memory."""
    make = torch.Generator().manual_seed(seed)
    if strided == "gaps":
        return torch.randn(*shape[:-1], shape[-1] * 2, generator=make).to(_TORCH[dtype])[..., ::2]
    if strided == "rows" and len(shape) == 4:
        return torch.randn(shape[0], shape[2], shape[1], shape[3], generator=make).to(_TORCH[dtype]).transpose(1, 2)
    if strided == "reversed":
        return torch.randn(*shape[::-1], generator=make).to(_TORCH[dtype]).permute(*range(len(shape) - 1, -1, -1))
    return torch.randn(*shape, generator=make).to(_TORCH[dtype])


def wide(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy()


def close(got: torch.Tensor, expected: oracle.Pair, terms: int, dtype: str) -> None:
    value, magnitude = expected
    assert tuple(got.shape) == value.shape
    assert got.dtype == _TORCH[dtype]
    error = np.abs(wide(got) - value)
    limit = oracle.bound(magnitude, terms, dtype)
    assert np.all(error <= limit), f"worst {np.max(error / limit)} of the bound"


STRIDES = ["no", "gaps", "rows", "reversed"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "mean", "sum"])
@pytest.mark.parametrize(
    ("shape", "size", "stride", "offset", "partial", "strided"),
    [
        ((2, 3, 100, 64), 16, None, 0, False, "no"),
        ((2, 3, 100, 64), 16, None, 0, True, "rows"),
        ((1, 2, 37, 17), 5, 3, -2, True, "gaps"),
        ((1, 1, 37, 80), 4, 4, 1, False, "reversed"),
        ((1, 1, 3, 8), 4, None, 0, False, "no"),
        ((1, 1, 3, 8), 4, 1, -9, True, "no"),
        ((0, 1, 9, 8), 4, None, 0, True, "no"),
    ],
)
def test_pool(
    dtype: str, kind: str, shape: tuple[int, ...], size: int, stride: int | None, offset: int, partial: bool,
    strided: str,
) -> None:  # fmt: skip
    x = rows(*shape, dtype=dtype, strided=strided)
    got = hd.pool(x, kind, size, stride=stride, offset=offset, partial=partial)
    close(got, oracle.pool(wide(x), kind, size, stride, offset, partial), size, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "mean", "sum"])
@pytest.mark.parametrize(
    ("shape", "stride", "block", "reverse", "exclusive", "strided"),
    [
        ((2, 3, 100, 64), 1, None, False, False, "no"),
        ((2, 1, 100, 64), 7, None, False, True, "rows"),
        ((1, 2, 50, 17), 1, 8, True, True, "gaps"),
        ((1, 1, 37, 80), 3, 10, True, False, "reversed"),
        ((1, 1, 37, 8), 5, 3, False, False, "no"),  # a stride beyond the block: each row alone
        ((1, 1, 3, 8), 40, None, False, True, "no"),
        ((1, 1, 1, 8), 1, 1, False, False, "no"),
        ((0, 1, 9, 8), 2, None, False, False, "no"),
    ],
)
def test_scan(
    dtype: str, kind: str, shape: tuple[int, ...], stride: int, block: int | None, reverse: bool, exclusive: bool,
    strided: str,
) -> None:  # fmt: skip
    x = rows(*shape, dtype=dtype, strided=strided)
    got = hd.scan(x, kind, stride=stride, block=block, reverse=reverse, exclusive=exclusive)
    value, size = oracle.scan(wide(x), kind, stride, block, reverse, exclusive)
    empty = np.isneginf(value)
    np.testing.assert_array_equal(np.isneginf(wide(got)), empty)
    close(torch.where(torch.from_numpy(empty), torch.zeros_like(got), got), (np.where(empty, 0, value), size), 100,
          dtype)  # fmt: skip
    again = hd.kernel(lambda x: hd.scan(x, kind, stride=stride, block=block, reverse=reverse, exclusive=exclusive))
    if shape[0]:
        np.testing.assert_allclose(again.reference(x).numpy(), value, rtol=1e-9, atol=1e-12)


def test_a_scan_keeps_nan_to_its_chain() -> None:
    x = rows(1, 1, 12, 8)
    x[0, 0, 5] = np.nan
    got = hd.scan(x, "max", stride=3)
    assert np.isnan(wide(got[0, 0, 5::3])).all()
    assert np.isfinite(wide(got[0, 0, [0, 1, 2, 3, 4, 6, 7, 9, 10]])).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "w", "bias", "stride", "offset", "partial", "strided"),
    [
        ((2, 3, 100, 64), (3, 3, 64, 64), True, None, 0, False, "no"),
        ((2, 3, 100, 64), (1, 3, 64, 32), False, None, 0, True, "rows"),
        ((1, 2, 50, 17), (2, 4, 17, 9), True, 1, -3, True, "gaps"),
        ((1, 1, 130, 200), (1, 2, 200, 300), False, 2, 0, False, "reversed"),
        ((2, 3, 100, 64), (3, 3, 64), True, 1, -2, True, "no"),
        ((1, 2, 50, 17), (1, 4, 17), False, 2, 0, False, "gaps"),
        ((1, 2, 203, 40), (2, 33, 40), True, 1, -16, True, "gaps"),
        ((1, 2, 20, 40), (1, 33, 40), False, 1, -16, True, "no"),
        ((1, 2, 90, 7), (1, 5, 7), False, 1, 3, False, "reversed"),
    ],
)
def test_convolve(
    dtype: str, shape: tuple[int, ...], w: tuple[int, ...], bias: bool, stride: int | None, offset: int, partial: bool,
    strided: str,
) -> None:  # fmt: skip
    x, weights = rows(*shape, dtype=dtype, strided=strided), rows(*w, dtype=dtype, seed=1, strided=strided)
    b = rows(w[0], w[-1], dtype=dtype, seed=2) if bias else None
    got = hd.convolve(x, weights, b, stride=stride, offset=offset, partial=partial)
    expected = oracle.convolve(wide(x), wide(weights), None if b is None else wide(b), stride, offset, partial)
    close(got, expected, w[1] * (shape[3] if len(w) == 4 else 1), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "e", "block", "strided"),
    [
        ((2, 3, 1000, 64), (1000, 77), 1, "no"),
        ((2, 3, 300, 64), (3, 300, 5), 1, "rows"),
        ((2, 3, 100, 17), (2, 1, 100, 50), 1, "gaps"),
        ((1, 1, 129, 300), (129, 1), 1, "reversed"),
        ((2, 2, 96, 64), (2, 2, 6, 6), 16, "no"),
        ((1, 2, 40, 24), (8, 3), 5, "rows"),
    ],
)
def test_project(dtype: str, shape: tuple[int, ...], e: tuple[int, ...], block: int, strided: str) -> None:
    x, weights = rows(*shape, dtype=dtype, strided=strided), rows(*e, dtype=dtype, seed=1, strided=strided)
    close(hd.project(x, weights, block=block), oracle.project(wide(x), wide(weights), block), e[-2], dtype)


def test_numpy_and_out() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 40, 8)).astype(np.float32)
    got = hd.pool(x, "sum", 8)
    assert isinstance(got, np.ndarray)
    place = np.full((1, 2, 5, 8), np.nan, np.float32)
    assert hd.pool(x, "sum", 8, out=place) is place
    np.testing.assert_array_equal(place, got)


def test_lengths_do_not_recompile() -> None:
    hd.pool(rows(1, 2, 40, 8), "sum", 8)
    count = hd.compile_count()
    hd.pool(rows(3, 5, 71, 24), "sum", 8)
    assert hd.compile_count() == count


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: hd.pool(x, "median", 4), ValueError, "expected a kind among max, mean, sum, but got 'median'"),
        (lambda x: hd.pool(x, "max", 0), ValueError, "expected size from 1 to 1073741823, but got 0"),
        (lambda x: hd.scan(x, "min"), ValueError, "expected a kind among max, mean, sum, but got 'min'"),
        (lambda x: hd.scan(x, "max", stride=0), ValueError, "expected stride from 1 to 1073741823, but got 0"),
        (lambda x: hd.scan(x, "max", block=2.5), TypeError, "expected an integer for block, but got float"),
        (lambda x: hd.pool(x[0], "max", 4), ValueError, "expected x with 4 dimensions"),
        (lambda x: hd.pool(x.double(), "max", 4), TypeError, "float64"),
        (lambda x: hd.project(x, rows(39, 5)), ValueError, "expected dimension 2 of .* to be 39, but got 40"),
        (lambda x: hd.project(x, rows(5, 40, 5)), ValueError, "expected dimension 0 of .* to be 1 or 2, but got 5"),
        (lambda x: hd.convolve(x, rows(2, 3, 7, 8)), ValueError, "expected dimension 2 of .* to be 8, but got 7"),
        (lambda x: hd.pool(x.requires_grad_(), "max", 4), ValueError, "requires grad"),
        (lambda x: hd.pool(x, "max", 4, out=torch.empty(1, 2, 9, 8)), ValueError, "but got \\[1, 2, 9, 8\\]"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(rows(1, 2, 40, 8))


def phi(x: Any) -> Any:
    return hd.select(x > 0, x + 1, hd.exp(x))


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("q", "k", "dv", "strided"),
    [
        ((2, 4, 200, 64), (2, 2, 200, 64), 64, "no"),
        ((1, 2, 65, 17), (1, 2, 65, 17), 100, "rows"),
        ((2, 1, 1, 8), (2, 1, 1, 8), 5, "gaps"),
        ((1, 3, 130, 32), (1, 1, 130, 32), 7, "reversed"),
    ],
)
def test_linear_attend(dtype: str, causal: bool, q: tuple[int, ...], k: tuple[int, ...], dv: int, strided: str) -> None:
    Q, K = rows(*q, dtype=dtype, strided=strided), rows(*k, dtype=dtype, seed=1, strided=strided)
    V = rows(*k[:3], dv, dtype=dtype, seed=2, strided=strided)
    got = hd.linear_attend(Q, K, V, feature=phi, causal=causal, eps=1e-6)
    out, size, _, _ = oracle.linear_attend(wide(Q), wide(K), wide(V), elu, causal, eps=1e-6)
    close(got, (out, size), k[2] * k[3], dtype)


@pytest.mark.parametrize("normalizer", ["sum", "none"])
@pytest.mark.parametrize("decayed", [False, True])
def test_linear_attend_goes_on_from_a_state(normalizer: str, decayed: bool) -> None:
    q, k, v = (rows(2, 4, 150, 24, seed=s) for s in range(3))
    k, v = k[:, :2], v[:, :2]
    g = -torch.rand(2, 2, 150) if decayed else None
    settings: Any = {"feature": phi, "causal": True, "normalizer": normalizer, "return_state": True}
    start = 0
    state: Any = None
    parts = []
    for end in (70, 71, 72, 150):
        part = None if g is None else g[:, :, start:end]
        out, *state = hd.linear_attend(*(x[:, :, start:end] for x in (q, k, v)), decay=part, state=state, **settings)
        parts.append(out)
        start = end
    expected, size, S, z = oracle.linear_attend(
        wide(q), wide(k), wide(v), elu, True, None if g is None else g.numpy(), normalize=normalizer == "sum"
    )
    close(torch.cat(parts, 2), (expected, size), 150 * 24, "f32")
    np.testing.assert_allclose(state[0].numpy(), S, rtol=1e-4, atol=1e-3)
    if normalizer == "sum":
        np.testing.assert_allclose(state[1].numpy(), z, rtol=1e-4, atol=1e-3)
    else:
        assert len(state) == 1


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("normalizer", ["sum", "none"])
@pytest.mark.parametrize(("n", "d", "dv", "heads"), [(150, 24, 70, 4), (65, 17, 5, 2), (1, 64, 64, 2), (0, 8, 8, 2)])
def test_linear_attend_decays_by_channel(n: int, d: int, dv: int, heads: int, normalizer: str, dtype: str) -> None:
    """Gates from nearly open to nearly shut, some of them entirely: sums of them are no use."""
    q, k = rows(2, heads, n, d, dtype=dtype), rows(2, 2, n, d, dtype=dtype, seed=1)
    v = rows(2, 2, n, dv, dtype=dtype, seed=2)
    g = -20 * torch.rand(2, 2, n, d, generator=torch.Generator().manual_seed(0)) ** 6
    g[torch.rand(g.shape, generator=torch.Generator().manual_seed(1)) < 0.02] = -torch.inf
    whole = normalizer == "sum"
    settings: Any = {"feature": phi, "causal": True, "normalizer": normalizer, "eps": 1e-6 if whole else 0.0}
    out, *state = hd.linear_attend(q, k, v, decay=g, return_state=True, **settings)
    want, size, S, z = oracle.linear_attend(
        wide(q), wide(k), wide(v), elu, True, g.numpy(), normalize=whole, eps=1e-6 if whole else 0.0
    )
    close(out, (want, size), max(n, 1) * d, dtype)
    np.testing.assert_allclose(state[0].numpy(), S, rtol=1e-4, atol=1e-3)
    if whole:
        np.testing.assert_allclose(state[1].numpy(), z, rtol=1e-4, atol=1e-3)
    if n > 100:  # in parts, from state to state
        parts, state = [], None
        for lo, hi in ((0, 70), (70, 71), (71, n)):
            part, *state = hd.linear_attend(
                *(x[:, :, lo:hi] for x in (q, k, v)), decay=g[:, :, lo:hi], state=state, return_state=True, **settings
            )
            parts.append(part)
        close(torch.cat(parts, 2), (want, size), n * d, dtype)


@pytest.mark.parametrize("decay", [None, "head", "channel"])
@pytest.mark.parametrize("normalizer", ["sum", "none"])
def test_linear_attend_is_causal_for_what_is_not_finite(decay: str | None, normalizer: str) -> None:
    """Rows before an infinity or NaN have the bits that they have without it, and those of a shorter sequence."""
    q, k, v = (rows(1, 2, 53, 24, seed=s).abs() for s in range(3))
    g = None if decay is None else -torch.rand(1, 2, 53, *([24] if decay == "channel" else []))
    run = functools.partial(hd.linear_attend, causal=True, normalizer=normalizer)
    want = run(q, k, v, decay=g)
    for row in (3, 21, 40):
        bad = v.clone()
        bad[:, :, row, 5], bad[:, :, row, 6] = torch.nan, torch.inf
        got = run(q, k, bad, decay=g)
        assert torch.equal(got[:, :, :row], want[:, :, :row])
        assert got[:, :, row:, 5].isnan().all() and not got[:, :, row:, 6].isfinite().any()
        part = run(*(t[:, :, :row] for t in (q, k, v)), decay=None if g is None else g[:, :, :row])
        assert torch.equal(part, want[:, :, :row])


def test_linear_attend_drops_its_state() -> None:
    """A decay of -inf: nothing from before is left, also inside of a chunk."""
    q, k, v = (rows(1, 2, 150, 16, seed=s) for s in range(3))
    g = torch.full((1, 2, 150), -0.1)
    g[:, :, [5, 60, 64, 65, 149]] = -torch.inf
    got = hd.linear_attend(q, k, v, causal=True, decay=g, normalizer="none")
    want, size, _, _ = oracle.linear_attend(wide(q), wide(k), wide(v), causal=True, decay=g.numpy(), normalize=False)
    close(got, (want, size), 150 * 16, "f32")


@pytest.mark.parametrize("shape", [(2, 3, 100), (3, 57), (1, 1, 0)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_group(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ids = torch.randint(-2, 9, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    permutation, offsets = hd.group(ids, 7)
    expected = oracle.group(ids.numpy(), 7)
    np.testing.assert_array_equal(permutation.numpy(), expected[0])
    np.testing.assert_array_equal(offsets.numpy(), expected[1])


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "int64"])
@pytest.mark.parametrize("strided", STRIDES)
@pytest.mark.parametrize("listed", [(2, 3, 20), (1, 3, 130), (2, 20), (1, 1, 1)])
def test_gather_rows(dtype: str, strided: str, listed: tuple[int, ...]) -> None:
    x = rows(2, 3, 40, 19, strided=strided)
    x = x.to(_TORCH.get(dtype) or getattr(torch, dtype))
    index = torch.randint(-3, 43, listed, generator=torch.Generator().manual_seed(0))
    for t in (x, x[..., 0]):
        got = hd.gather_rows(t, index)
        assert got.dtype == t.dtype
        np.testing.assert_array_equal(got.double().numpy(), oracle.gather_rows(wide(t), index.numpy()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["overwrite", "mean", "sum"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(
    ("listed", "n", "d", "strided"),
    [
        ((2, 3, 60), 40, 19, "no"),
        ((2, 50), 1500, 150, "rows"),
        ((1, 1, 7), 9, 64, "gaps"),
        ((1, 3, 5), 5, 8, "reversed"),
        ((2, 3, 2100), 1100, 33, "no"),  # more entries than are looked through at once
    ],
)
def test_scatter_rows(
    dtype: str, kind: str, zeros: bool, listed: tuple[int, ...], n: int, d: int, strided: str
) -> None:
    source, base = rows(2, 3, listed[-1], d, dtype=dtype, strided=strided), rows(2, 3, n, d, dtype=dtype, seed=1)
    index = torch.randint(-3, n + 3, listed, generator=torch.Generator().manual_seed(0)).to(torch.int32)
    eps = 0.01 if kind == "mean" else 0.0
    got = hd.scatter_rows(source, index, base, kind=kind, eps=eps, zeros=zeros)
    expected = oracle.scatter_rows(wide(source), index.numpy(), wide(base), kind, eps, zeros)
    close(got, expected, 1 if kind == "overwrite" else listed[-1], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_merge(dtype: str) -> None:
    parts = [rows(2, 3, 70, 33, dtype=dtype, seed=s, strided=STRIDES[s]) for s in range(3)]
    lses = [rows(2, 3, 70, seed=s + 9) * 20 for s in range(3)]
    lses[0][:, :, ::2] = -torch.inf
    lses[1][:, :, ::3] = -torch.inf
    lses[2][:, :, ::6] = -torch.inf
    parts[2][:, :, ::6] = torch.nan  # what has no key does not count
    out, lse = hd.merge(list(zip(parts, lses, strict=True)))
    expected, size, total = oracle.merge([wide(p) for p in parts], [wide(x) for x in lses])
    close(out, (expected, size), 40, dtype)
    np.testing.assert_allclose(lse.numpy(), total, rtol=1e-6, atol=1e-5)
    assert torch.isneginf(lse[:, :, ::6]).all()


def test_halves_of_the_keys_merge_to_the_whole() -> None:
    q, k, v = (rows(1, 2, 50, 16, seed=s) for s in range(3))
    halves = [hd.attend(q, k[:, :, s], v[:, :, s], return_lse=True) for s in (slice(0, 20), slice(20, 50))]
    out, lse = hd.merge(halves)
    whole, whole_lse = hd.attend(q, k, v, return_lse=True)
    np.testing.assert_allclose(out, whole, atol=1e-5)
    np.testing.assert_allclose(lse, whole_lse, atol=1e-5)


def test_results_of_integers_on_numpy() -> None:
    ids = np.array([[0, 7, -3, 1, 0]], np.int32)
    permutation, offsets = hd.group(ids, 2)
    expected = oracle.group(ids, 2)
    np.testing.assert_array_equal(permutation, expected[0])
    np.testing.assert_array_equal(offsets, expected[1])
    assert permutation.dtype == np.int32
    positions = np.arange(10, dtype=np.int64).reshape(1, 1, 10)
    np.testing.assert_array_equal(hd.gather_rows(positions, np.array([[3, -1, 9]])), [[[3, 0, 9]]])


X = np.ones((1, 2, 20, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hd.pool(X, "sum", 2, offset=1.5), "expected an integer for offset, but got float"),
        (lambda: hd.pool(X, "sum", 1 << 40), "expected size from 1 to 1073741823, but got 1099511627776"),
        (lambda: hd.pool(X, "sum", 1, out=X), "expected out that shares no memory with x"),
        (lambda: hd.convolve(X, np.ones((1, 0, 8, 8), np.float32)), "number of taps from 1 to 1073741823, but got 0"),
        (
            lambda: hd.convolve(X, np.ones((1, 3, 9, 8), np.float32)),
            "dimension 2 of weights to be 8, but got 9",
        ),
        (lambda: hd.project(X, np.ones((19, 4), np.float32)), "expected dimension 2 of x to be 19, but got 20"),
        (lambda: hd.linear_attend(X[:, :1], X[:, :1], X), "repeat q and k for the heads that share it"),
        (lambda: hd.linear_attend(X, X, X[:, :1]), "repeat v for the heads that share it"),
        (lambda: hd.linear_attend(X, X, X, eps=float("nan")), "expected a finite eps of at least 0, but got nan"),
        (lambda: hd.linear_attend(X, X, X, eps="a"), "expected a number for eps, but got str"),
        (lambda: hd.linear_attend(X, X, X, feature=3), "expected a feature function of one number, but got int"),
        (lambda: hd.linear_attend(X, X, X, feature=lambda x, y: x), "a feature function of 1 arguments"),
        (lambda: hd.merge([X, X]), r"expected \(out, lse\) pairs, but got ndarray"),
        (lambda: hd.kernel(3), r"expected a function of tensors for hd\.kernel, but got int"),
        (lambda: hd.set_num_threads(1.5), "expected an integer number of threads, but got float"),
        (lambda: hd.spec(d=8, heads="a"), "expected heads as an integer"),
    ],
)
def test_errors_say_what_is_wrong(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_errors_of_kernels_name_the_parameter() -> None:
    with pytest.raises(ValueError, match="expected dimension 2 of keys to be 19, but got 20"):
        hd.kernel(lambda keys, e: hd.project(keys, e))(X, np.ones((19, 4), np.float32))
    for name in ("s", "b", "x0", "v1", "c0", "a1", "old", "t0", "q", "o", "p0", "k_offset0", "größe"):
        made = eval(f"lambda {name}, w: hd.attend({name} * w, {name}, {name}, score=lambda s, b, h, i, j: s - (i - j))")
        np.testing.assert_allclose(hd.kernel(made)(X, X), X, atol=1e-6)
