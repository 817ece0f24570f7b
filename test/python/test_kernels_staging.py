"""Values of 16 bits are copied once for all tiles of a head: what a copy must not be taken for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array, compare
from oracle import attention, tolerance

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = hd.num_threads()
    hd.set_num_threads(request.param)
    yield
    hd.set_num_threads(before)


def tensors(seed: int, dtype: str, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g).to(DTYPES[dtype]) for s in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "where",
    ["full", "causal", "causal(5)", "window(4096, 3)", "~block(256) & causal", "window(126, 0)", "window(301, 50)"]
    + ["block(96)", "window(90, 0) | keys([3 to 140])"],
)
@pytest.mark.parametrize("nk", [640, 577])
def test_tiles_that_share_copies(where: str, nk: int, dtype: str, threads: None) -> None:
    q, k, v = tensors(1, dtype, (2, 4, 577, 40), (2, 2, nk, 40), (2, 2, nk, 24))
    compare(q, k, v, where, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_keys_than_places(dtype: str, threads: None) -> None:
    q, k, v = tensors(2, dtype, (1, 1, 130, 16), (1, 1, 9000, 16), (1, 1, 9000, 256))
    compare(q, k, v, "full", dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["full", "causal", "window(100, 0)"])
def test_values_that_change_between_calls(where: str, dtype: str, threads: None) -> None:
    q, k, v, w = tensors(3, dtype, *[(1, 2, 300, 32)] * 4)
    hd.attend(q, k, v, where=hd.parse(where))
    before = hd.attend(q, k, w, where=hd.parse(where)).clone()
    v.copy_(w)  # the same addresses
    after = hd.attend(q, k, v, where=hd.parse(where))
    assert torch.equal(before, after)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["full", "window(127, 0)", "window(511, 0)", "block(256)"])
def test_rows_of_one_address(where: str, dtype: str, threads: None) -> None:
    q, k, v = tensors(9, dtype, (2, 2, 1000, 64), (2, 2, 1000, 64), (2, 2, 1, 64))
    compare(q, k, v.expand(2, 2, 1000, 64), where, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_segments_of_one_address(dtype: str, threads: None) -> None:
    q, k, v = tensors(4, dtype, (1, 2, 200, 32), (1, 2, 400, 32), (1, 2, 400, 32))
    halves = [(k[:, :, ::2], v[:, :, ::2]), (k[:, :, :200], v[:, :, :200])]
    got = hd.attend(q, segments=[hd.segment(a, b, where=hd.causal) for a, b in halves])
    exact = [attention.Segment(array(a), array(b), "causal") for a, b in halves]
    want = attention.attend(array(q), segments=exact)
    rounded = attention.attend(array(q), segments=exact, round_weights=lambda x: tolerance.round_to(x, dtype))
    verdict = tolerance.check(array(got), want, dtype, rounded, "two views of one tensor")
    assert verdict, verdict.message


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dead_value_that_is_not_finite(dtype: str, threads: None) -> None:
    q, k, v = tensors(5, dtype, *[(1, 1, 257, 32)] * 3)
    want = hd.attend(q, k, v, where=hd.causal)
    v[:, :, 201:] = float("nan")
    got = hd.attend(q, k, v, where=hd.causal)
    assert torch.equal(got[:, :, :201], want[:, :, :201])
    assert np.isnan(array(got)[:, :, 201:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [31, 32, 33, 64, 65])
def test_a_value_beside_a_window_that_is_not_finite(row: int, dtype: str, threads: None) -> None:
    q, k, v = tensors(6, dtype, *[(1, 1, 257, 32)] * 3)
    want = hd.attend(q, k, v, where=hd.window(96, 0))
    v[:, :, row] = float("inf")
    got = hd.attend(q, k, v, where=hd.window(96, 0))
    apart = [i for i in range(257) if not row <= i <= row + 96]
    assert torch.allclose(got[:, :, apart], want[:, :, apart], rtol=0.02, atol=1e-3)
    assert np.isposinf(array(got)[:, :, row : row + 97]).all()
