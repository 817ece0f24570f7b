"""Dots with relative rows r[i - j + c]."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array
from oracle import attention, scalars, tolerance


def tensors(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g).to(dtype) for s in shapes]


def agrees(q, k, v, r, where, *, shift=0, dtype="f32", score=None, alone=False, **kw) -> None:  # type: ignore[no-untyped-def]
    """q . k + q2 . r[i - j + shift] on both sides; `alone`: the second dot only."""
    q2 = torch.roll(q, 1, dims=2)
    theirs = [(array(q), array(k)), (array(q2), attention.Relative(array(r), shift))][alone:]
    ours = [(q, k), (q2, hd.relative(r, shift))][alone:]

    def add(ns):  # type: ignore[no-untyped-def]
        return (lambda *a: ns.tanh(a[0]) + 0.5 * sum(a[1:-4]) - 0.01 * abs(a[-2] - a[-1])) if score else None

    spec = {n: x.numpy() if isinstance(x, torch.Tensor) else x for n, x in kw.items()}
    segment = attention.Segment(array(k), array(v), where, add(scalars), dots=theirs)
    want = attention.attend(array(q), segments=[segment], **spec)
    rounded = attention.attend(
        array(q), segments=[segment], round_weights=lambda w: tolerance.round_to(w, dtype), **spec
    )
    got = hd.attend(q, segments=[hd.segment(k, v, hd.parse(where), score=add(hd), dots=ours)], return_lse=True, **kw)
    verdict = tolerance.check(array(got[0]), want, dtype, rounded, where)
    assert verdict, verdict.message
    verdict = tolerance.check_lse(array(got[1]), want, where)
    assert verdict, verdict.message


WHERE = ["causal", "window(40, 0)", "full", "stride(37) & causal", "window(6, 3, dilation = 50)", "block(16)"]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("alone", [False, True])
def test_distances(where: str, alone: bool) -> None:
    q, k, v, r = tensors(0, (2, 4, 190, 24), (2, 2, 190, 24), (2, 2, 190, 16), (1, 4, 60, 24))
    agrees(q, k, v, r, where, alone=alone)
    agrees(q, k, v, r[:, :1], where, shift=30, alone=alone)


@pytest.mark.parametrize("where", WHERE)
def test_offsets_and_scores(where: str) -> None:
    q, k, v, r = tensors(1, (2, 4, 90, 32), (2, 2, 170, 32), (2, 2, 170, 8), (2, 2, 200, 32))
    agrees(q, k, v, r, where, shift=-3, score=True, q_offset=torch.tensor([80, 5]))
    agrees(q, k, v, r, where, score=True, q_offset="end", scale=-0.2)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("where", ["causal", "stride(37)"])
def test_sixteen_bits(where: str, dtype: str) -> None:
    kind = {"bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    q, k, v, r = tensors(2, (1, 2, 150, 64), (1, 2, 150, 64), (1, 2, 150, 64), (1, 2, 150, 64), dtype=kind)
    agrees(q, k, v, r, where, dtype=dtype)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("where", ["causal", "full", "stride(37)"])
def test_few_rows_reach_all_keys(where: str, dtype: str, rows: int) -> None:
    """Past the first and the last row all keys share it: chunks of one row, of some, and of both ends."""
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    q, k, v, r = tensors(4, (1, 2, 330, 32), (1, 2, 330, 32), (1, 2, 330, 16), (1, 2, rows, 32), dtype=kind)
    for shift in (rows // 2, -400, 400, 100):
        agrees(q, k, v, r, where, shift=shift, dtype=dtype)


def test_gathered_keys() -> None:
    q, k, v, r = tensors(3, (1, 2, 100, 16), (1, 2, 100, 16), (1, 2, 100, 16), (1, 2, 100, 16))
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(100)[:9] for _ in range(100)]).astype(np.int32)
    ids = rng.integers(0, 4, (1, 100))
    for where, text in ((hd.listed(rows), "listed(%x)"), (hd.cluster(ids), "cluster(%x)")):
        operands = {"x": rows if text.startswith("listed") else ids}
        dots = [(array(q), array(k)), (array(q), attention.Relative(array(r)))]
        segment = attention.Segment(array(k), array(v), text, dots=dots)
        want = attention.attend(array(q), segments=[segment], operands=operands)
        got = hd.attend(q, segments=[hd.segment(k, v, where, dots=[(q, k), (q, hd.relative(r))])])
        verdict = tolerance.check(array(got), want, "f32", None, text)
        assert verdict, verdict.message


def test_text_and_reference() -> None:
    q, k, v, r = tensors(4, (1, 2, 30, 8), (1, 2, 30, 8), (1, 2, 30, 8), (1, 1, 12, 8))
    parts = [hd.segment(k, v, hd.causal, dots=[(q, hd.relative(r, -2))])]
    out, exact = hd.attend(q, segments=parts), hd.reference(q, segments=parts)
    assert (out - exact).abs().max() < 1e-5
    with pytest.raises(ValueError, match="expected q_offset"):
        hd.attend(q[:, :, :7], segments=[hd.segment(k, v, dots=[(q[:, :, :7], hd.relative(r))])])
    with pytest.raises(ValueError, match="at least one row"):
        hd.attend(q, segments=[hd.segment(k, v, dots=[(q, hd.relative(r[:, :, :0]))])])
