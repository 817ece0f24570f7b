"""HEDDLE_CHECK=1: contents of index tensors that kernels otherwise trust."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd

N = 20


@pytest.fixture(autouse=True)
def checking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDDLE_CHECK", "1")


def run(where: Any) -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, N, 8, generator=g) for _ in range(3))
    hd.attend(q, k, v, where=where)


def lists(**at: int) -> np.ndarray:
    x = np.tile(np.arange(4, dtype=np.int32), (1, N, 1))
    for place, value in at.items():
        row, column = (int(n) for n in place[1:].split("_"))
        x[0, row, column] = value
    return x


def test_what_is_right_passes() -> None:
    run(hd.listed(lists(_3_1=-1, _3_2=-1)))
    run(hd.coarse(4, hd.listed(np.tile(np.arange(5), (1, 5, 1)))))
    run(hd.csr(np.array([0, *range(N)]), np.zeros(N - 1, np.int64)))
    run(hd.packed(np.array([0, 0, 7, N])) & hd.lengths(np.array([0, N])) & hd.offsets(np.array([3, -3])))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            lambda: hd.listed(lists(_3_1=3)),
            r"expected distinct entries in each list of p0 of listed\(p0\), but got 3 at \[0, 3, 1\]",
        ),
        (lambda: hd.listed(lists(_7_2=N)), rf"from 0 to {N - 1}, or -1 for none, but got {N} at \[0, 7, 2\]"),
        (lambda: hd.listed(lists(_7_2=-2)), r"or -1 for none, but got -2"),
        (lambda: hd.coarse(4, hd.listed(np.full((1, 5, 1), 5))), r"from 0 to 4, or -1 for none, but got 5"),
        (lambda: hd.csr(np.array([0] * 19 + [2, 1]), np.array([4, 5])), r"from 0 to at most 2 .*got 1 at \[20\]"),
        (lambda: hd.csr(np.array([0] * 20 + [3]), np.array([4, 5])), r"at most 2 \(the number of indices\), but got 3"),
        (lambda: hd.csr(np.array([0] * 20 + [2]), np.array([4, 4])), r"distinct entries .*got 4 at \[0\] and at \[1\]"),
        (lambda: hd.csr(np.array([0] * 20 + [2]), np.array([4, N])), rf"from 0 to {N - 1}.*got {N} at \[1\]"),
        (lambda: hd.packed(np.array([0, 9, 5, N])), r"to ascend from 0 to at most 20 .*got 5 at \[2\] after 9"),
        (lambda: hd.packed(np.array([0, N + 1])), r"the number of queries\), but got 21"),
        (lambda: hd.offsets(np.array([1, 2, 1])), r"distinct entries .*got 1 at \[0\] and at \[2\]"),
        (
            lambda: hd.lengths(np.array([3, N + 2])),
            rf"expected lengths in p0 of lengths\(p0\) from 0 to {N}, but got {N + 2} at \[1\]",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(where: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(where())


def test_without_it_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEDDLE_CHECK")
    run(hd.listed(lists(_7_2=N)))
