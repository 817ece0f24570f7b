"""Kernels for AMX, whose matrix tiles are computed by vector loops here: `emulated-amx`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import heddle as hd
from kernel_checks import array
from oracle import attention, tolerance

pytestmark = pytest.mark.skipif(
    "+avx512bf16" not in hd._core.host_features(), reason="needs AVX512_BF16, which values are multiplied with"
)


def rows(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g).to(torch.bfloat16) for shape in shapes]


def kernel(where: str, heads: tuple[int, int], d: int, dv: int, score: Any = None) -> Any:
    spec = hd.spec(hd.parse(where), score, heads=heads, d=d, dv=dv, dtype="bf16", q_offset="end")
    return hd.compile(spec, target="emulated-amx")


def judge(got: torch.Tensor, q: Any, k: Any, v: Any, where: str, score: Any = None) -> None:
    options = {"where": where, "q_offset": k.shape[2] - q.shape[2], "score": score}
    want = attention.attend(*map(array, (q, k, v)), **options)
    rounded = attention.attend(*map(array, (q, k, v)), **options, round_weights=lambda w: tolerance.round_to(w, "bf16"))
    verdict = tolerance.check(array(got), want, "bf16", rounded, where)
    assert verdict, verdict.message


PATTERNS = [
    "full",
    "causal",
    "window(50, 3)",
    "stride(7)",
    "causal & (window(15, 0) | stride(16))",
    "keys([0 to 5, 9])",
]


@pytest.mark.parametrize("where", PATTERNS)
@pytest.mark.parametrize(("d", "nq", "nk"), [(64, 150, 230), (72, 70, 70), (33, 20, 49), (8, 1, 97), (576, 65, 100)])
def test_against_the_formula(where: str, d: int, nq: int, nk: int) -> None:
    q, k, v = rows(d + nq, (2, 4, nq, d), (2, 2, nk, d), (2, 2, nk, 40))
    judge(kernel(where, (4, 2), d, 40)(q, k, v), q, k, v, where)


@pytest.mark.parametrize("where", ["causal", "window(70, 0, dilation=3)"])
def test_rows_anywhere(where: str) -> None:
    """Keys in the order of n, heads, d, and backwards elements that are copied first."""
    q, k, v = rows(5, (1, 90, 4, 64), (1, 90, 4, 64), (1, 90, 4, 64))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    judge(kernel(where, (4, 4), 64, 64)(q, k, v), q, k, v, where)
    k = rows(6, (1, 4, 64, 90))[0].transpose(2, 3)
    judge(kernel(where, (4, 4), 64, 64)(q, k, v), q, k, v, where)


def test_scores() -> None:
    q, k, v = rows(7, (1, 2, 80, 48), (1, 2, 80, 48), (1, 2, 80, 48))

    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        return s - 0.03 * (i - j)

    judge(kernel("causal", (2, 2), 48, 48, score)(q, k, v), q, k, v, "causal", score)


@pytest.mark.parametrize("where", ["full", "causal"])
@pytest.mark.parametrize("row", [0, 37, 149])
def test_a_row_alone_has_the_same_bits(where: str, row: int) -> None:
    """A lone query has the micro-kernels of decoding."""
    q, k, v = rows(8, (2, 4, 150, 64), (2, 4, 150, 64), (2, 4, 150, 64))
    one = slice(row, row + 1)
    alone, among = (
        hd.compile(hd.spec(hd.parse(where), heads=(4, 4), d=64, dtype="bf16", q_offset=n), target="emulated-amx")
        for n in (row, 0)
    )
    assert torch.equal(alone(q[:, :, one], k, v), among(q, k, v)[:, :, one])


def test_nan_in_a_dead_key_stays_there() -> None:
    q, k, v = rows(9, (1, 2, 100, 64), (1, 2, 100, 64), (1, 2, 100, 64))
    bad_k, bad_v = k.clone(), v.clone()
    bad_k[:, :, 60] = float("nan")
    bad_v[:, :, 60] = float("nan")
    run = kernel("causal", (2, 2), 64, 64)
    assert torch.equal(run(q, bad_k, bad_v)[:, :, :60], run(q, k, v)[:, :, :60])
    assert run(q, bad_k, bad_v)[:, :, 60:].isnan().all()


@pytest.mark.parametrize("where", ["causal", "stride(37)"])
def test_relative_rows(where: str) -> None:
    q, k, v, r = rows(10, (1, 2, 150, 40), (1, 2, 150, 40), (1, 2, 150, 40), (1, 2, 150, 40))

    @hd.kernel
    def relative(q: Any, k: Any, v: Any, r: Any) -> Any:
        return hd.attend(q, segments=[hd.segment(k, v, hd.parse(where), dots=[(q, k), (q, hd.relative(r))])])

    dots = [(array(q), array(k)), (array(q), attention.Relative(array(r)))]
    segment = attention.Segment(array(k), array(v), where, dots=dots)
    want = attention.attend(array(q), segments=[segment])
    rounded = attention.attend(array(q), segments=[segment], round_weights=lambda w: tolerance.round_to(w, "bf16"))
    got = hd.compile(relative.spec(q, k, v, r), target="emulated-amx")(q, k, v, r)
    verdict = tolerance.check(array(got), want, "bf16", rounded, where)
    assert verdict, verdict.message
