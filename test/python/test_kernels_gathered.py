"""Attention that reads queries, keys and values through lists of rows: the bits of attention on copies of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from oracle.cases import TORCH

PATTERNS = {
    "block": hd.causal & hd.block(64),
    "window": hd.window(70, 9),
    "full": hd.full,
    "lattice": hd.stride(16) & hd.window(200, 0),
    "coarse": hd.coarse(32, hd.window(1, 0)),
}
LAYOUTS = ("dense", "bnhd", "columns", "halves")


def tensor(rng: np.random.Generator, dtype: str, layout: str, b: int, h: int, n: int, d: int) -> torch.Tensor:
    """Random [b, h, n, d] of some layout."""

    def made(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.standard_normal(shape), dtype=torch.float32).to(TORCH[dtype])

    if layout == "bnhd":
        return made(b, n, h, d).transpose(1, 2)
    if layout == "columns":
        return made(b, h, d, n).transpose(2, 3)
    return made(b, h, n, d) if layout == "dense" else made(b, h, n, 2 * d)[..., d:]


def same(got: Any, want: Any) -> None:
    """Equal bits."""
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        assert torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("name", PATTERNS)
def test_as_on_copies(name: str, dtype: str) -> None:
    where = PATTERNS[name]

    @hd.kernel
    def listed(q: Any, k: Any, v: Any, rows: Any, keys: Any, values: Any) -> Any:
        gathered = hd.gather_rows(q, rows), hd.gather_rows(k, keys), hd.gather_rows(v, values)
        return hd.attend(*gathered, where=where, return_lse=True)

    for seed, layout in enumerate(LAYOUTS):
        rng = np.random.default_rng(seed)
        q, k, v = (tensor(rng, dtype, layout, 2, h, 90, d) for h, d in ((4, 33), (2, 33), (2, 16)))
        for n, shapes in ((130, ((2, 4), (1, 2), (2,))), (17, ((1,), (2, 1), (1, 1))), (200, ((1, 1), (1,), (2, 2)))):
            # Some entries name no row.
            kind = (torch.int32, torch.int64)[n % 2]
            lists = [torch.tensor(rng.integers(-3, 95, (*s, n))).to(kind) for s in shapes]
            copies = [hd.gather_rows(x, rows) for x, rows in zip((q, k, v), lists, strict=True)]
            same(listed(q, k, v, *lists), hd.attend(*copies, where=where, return_lse=True))


def test_one_tensor_in_several_orders() -> None:
    # Rows of x as they are, and by two lists; a list is an operand of the pattern as well.
    @hd.kernel
    def shared(x: Any, a: Any, b: Any) -> Any:
        q, k = hd.gather_rows(x, a), hd.gather_rows(x, b)
        here = hd.attend(q, q, x, where=hd.block(32) & hd.positions(a, a, hd.causal))
        return hd.attend(here, k, k, where=hd.window(40, 0)), hd.attend(x, k, q, where=hd.block(16))

    rng = np.random.default_rng(0)
    x = tensor(rng, "f32", "dense", 1, 2, 100, 32)
    a, b = (torch.tensor(np.stack([rng.permutation(100) for _ in range(2)])[None]) for _ in range(2))
    q, k = hd.gather_rows(x, a), hd.gather_rows(x, b)
    here = hd.attend(q, q, x, where=hd.block(32) & hd.positions(a, a, hd.causal))
    want = hd.attend(here, k, k, where=hd.window(40, 0)), hd.attend(x, k, q, where=hd.block(16))
    same(shared(x, a, b), want)


def test_few_queries_of_many_keys() -> None:
    @hd.kernel
    def decoded(q: Any, k: Any, v: Any, rows: Any, keys: Any) -> Any:
        return hd.attend(hd.gather_rows(q, rows), hd.gather_rows(k, keys), hd.gather_rows(v, keys), where=hd.full)

    rng = np.random.default_rng(0)
    for dtype in ("f32", "bf16"):
        q, k, v = (tensor(rng, dtype, "dense", 1, h, 3000, 64) for h in (4, 2, 2))
        rows, keys = torch.tensor([[7, 5, 2999]]), torch.tensor(rng.integers(0, 3000, (1, 2, 5000)).astype(np.int32))
        copies = hd.gather_rows(q, rows), hd.gather_rows(k, keys), hd.gather_rows(v, keys)
        same([decoded(q, k, v, rows, keys)], [hd.attend(*copies)])


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_merged_as_copies(dtype: str) -> None:
    @hd.kernel
    def merged(x: Any, y: Any, s: Any, t: Any, a: Any, b: Any) -> Any:
        return hd.merge([(hd.gather_rows(x, a), hd.gather_rows(s, b)), (y, t), (hd.gather_rows(x, b), t)])

    for seed, layout in enumerate(LAYOUTS):
        rng = np.random.default_rng(seed)
        for n, shapes, d in ((130, ((2, 4), (1, 1)), 33), (1, ((1,), (2, 1)), 64), (200, ((2, 1), (1, 4)), 16)):
            x, y = (tensor(rng, dtype, layout, 2, 4, rows, d) for rows in (90, n))
            s, t = (tensor(rng, "f32", "columns", 2, 4, rows, 1)[..., 0] * 9 for rows in (90, n))
            t[:, :, ::3] = -torch.inf
            # Some entries name no row: zeros, whatever lies there.
            a, b = (torch.tensor(rng.integers(-3, 95, (*shape, n))) for shape in shapes)
            copies = [(hd.gather_rows(x, a), hd.gather_rows(s, b)), (y, t), (hd.gather_rows(x, b), t)]
            same(merged(x, y, s, t, a.int(), b), hd.merge(copies))
    none, lists = torch.ones(1, 1, 0, 4), [torch.zeros(1, 2).int()] * 2
    empty = merged(none, torch.ones(1, 1, 2, 4), none[..., 0], torch.zeros(1, 1, 2), *lists)
    assert torch.allclose(empty[0], torch.full((1, 1, 2, 4), 1 / 3))


def test_rows_that_are_not_listed_do_not_matter() -> None:
    @hd.kernel
    def listed(q: Any, k: Any, v: Any, keys: Any) -> Any:
        return hd.attend(q, hd.gather_rows(k, keys), hd.gather_rows(v, keys), where=hd.window(9, 0), q_offset=0)

    rng = np.random.default_rng(0)
    q, k, v = (tensor(rng, "f32", "dense", 1, 1, 64, 16) for _ in range(3))
    keys = torch.arange(0, 64, 2)[None]
    want = hd.attend(q, k[:, :, ::2], v[:, :, ::2], where=hd.window(9, 0), q_offset=0)
    k[:, :, 1::2], v[:, :, 1::2] = torch.nan, torch.inf
    np.testing.assert_array_equal(listed(q, k, v, keys), want)


def test_nothing_to_read() -> None:
    @hd.kernel
    def listed(q: Any, k: Any, rows: Any) -> Any:
        return hd.attend(hd.gather_rows(q, rows), k, k, where=hd.full)

    q, k = torch.ones(1, 1, 0, 8), torch.arange(8.0).expand(1, 1, 3, 8)
    np.testing.assert_array_equal(listed(q, k, torch.tensor([[0, 4]])), k[:, :, :2])
    assert listed(torch.ones(1, 1, 5, 8), k, torch.zeros(1, 0, dtype=torch.int32)).shape == (1, 1, 0, 8)


def test_lists_of_wrong_sizes() -> None:
    @hd.kernel
    def listed(q: Any, k: Any, rows: Any) -> Any:
        return hd.attend(hd.gather_rows(q, rows), k, k, where=hd.full)

    q, k = torch.ones(2, 4, 5, 8), torch.ones(2, 4, 6, 8)
    with pytest.raises(ValueError, match=r"expected dimension 1 of rows to be 1 or 4, but got 2"):
        listed(q, k, torch.zeros(2, 2, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"expected dimension 0 of rows to be 1 or 2, but got 3"):
        listed(q, k, torch.zeros(3, 3, dtype=torch.int32))
