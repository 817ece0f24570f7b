"""Run-time patterns: index lists, graphs, packed sequences, moved positions, masks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array, built, compare
from oracle import patterns

NQ, NK, HEADS = 150, 170, 4


def lists(rng: np.random.Generator, rows: int, keys: int, n: int, lead: tuple[int, ...] = ()) -> np.ndarray:
    """Distinct entries, some of them none and some out of range, in any order."""
    out = np.empty((*lead, rows, n), np.int32)
    for at in np.ndindex(out.shape[:-1]):
        row = rng.permutation(keys + 3)[:n]
        row[rng.random(n) < 0.15] = -1
        out[at] = row
    return out


def operands(seed: int = 0, nq: int = NQ, nk: int = NK) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    ptr = np.concatenate([[0], np.cumsum(rng.integers(0, 9, nq))]).astype(np.int64)
    idx = np.concatenate([rng.permutation(nk)[: b - a] for a, b in itertools.pairwise(ptr)]).astype(np.int32)
    head_ptr = np.stack([np.minimum(ptr, m) for m in (len(idx), 5, 90, len(idx) // 2)])[None]
    cu_q, cu_k = np.array([0, 3, 3, 70, 141, nq]), np.array([0, 40, 41, 100, 100, nk])
    lo = rng.integers(0, nq, (1, nk))
    return {
        "rows": lists(rng, nq, nk, 11, (2, HEADS)),
        "shared_rows": lists(rng, nq, nk, 7, (1,)),
        "plain_rows": lists(rng, nq, nk, 5),
        "blocks": lists(rng, -(-nq // 64), -(-nk // 64), 2, (2, 1)),
        "small_blocks": lists(rng, -(-nq // 16), -(-nk // 8), 6, (1, 2)),
        "block_rows": lists(rng, nq, -(-nk // 32), 3, (1,)),
        "ptr": ptr,
        "idx": idx,
        "head_ptr": head_ptr,
        "head_idx": np.stack([idx, idx[::-1], idx, idx])[None],
        "cu_q": cu_q,
        "cu_k": cu_k,
        "cu": cu_q.astype(np.int32),
        "far": np.array([0, 1, 5, -3, 44, 300]),
        "far_by_head": np.array([[0, 2], [1, 7], [-1, 30], [4, 5]], np.int32),
        "p": rng.permutation(nq).astype(np.int32),
        "p_by_head": np.stack([rng.integers(0, nk, nq) for _ in range(2 * HEADS)]).reshape(2, HEADS, nq),
        "pk": rng.permutation(nk)[None],
        "bits": rng.random((2, HEADS, nq, nk)) < 0.2,
        "shared_bits": rng.random((nq, nk)) < 0.5,
        "lo": lo,
        "hi": lo + rng.integers(0, 40, (1, nk)),
        "head_lo": rng.integers(0, nq, (2, HEADS, nk)).astype(np.int32),
        "head_hi": rng.integers(0, nq, (2, HEADS, nk)).astype(np.int32),
        "docs_q": rng.integers(-1, 9, (2, nq)),
        "docs_k": rng.integers(-1, 9, (2, nk)),
        "head_ids": rng.integers(0, 5, (1, HEADS, nq)),
        "head_kids": rng.integers(0, 5, (1, HEADS, nk)),
    }


TEXTS = [
    "listed(%rows)",
    "listed(%shared_rows) & causal",
    "listed(%plain_rows) | window(4, 0)",
    "window(30, 30) - listed(%rows)",
    "~listed(%plain_rows) & window(20, 20)",
    "listed(%rows) & listed(%shared_rows)",
    "coarse(64, listed(%blocks))",
    "coarse(64, listed(%blocks)) & causal",
    "coarse(64, listed(%blocks)) | block(16) | keys([0 to 2])",
    "coarse(16, 8, listed(%small_blocks))",
    "coarse(16, 8, listed(%small_blocks)) & window(60, 20)",
    "coarse(1, 32, listed(%block_rows))",
    "coarse(1, 32, listed(%block_rows)) & stride(3)",
    "shift(5, listed(%shared_rows))",
    "csr(%ptr, %idx)",
    "csr(%ptr, %idx) | keys([0])",
    "csr(%head_ptr, %head_idx) & causal",
    "per_head([listed(%shared_rows), causal, coarse(64, listed(%blocks))])",
    "offsets(%far)",
    "offsets(%far_by_head) & key_mod(3, 0, 2)",
    "offsets(%far_by_head) | window(0, 0)",
    "positions(%p, %pk, causal)",
    "positions(%p_by_head, %pk, causal & window(40, 0))",
    "positions(%p, %pk, block(16)) & causal",
    "packed(%cu_q, %cu_k, full)",
    "packed(%cu_q, %cu_k, causal)",
    "packed(%cu_q, %cu_k, window(7, 3) | keys([0 to 2]))",
    "packed(%cu_q, %cu_k, stride(4)) | window(2, 2)",
    "window(50, 50) - packed(%cu_q, %cu_k, causal)",
    "mask(%bits)",
    "mask(%shared_bits) & causal",
    "~mask(%shared_bits) & window(9, 9)",
    "between_queries(%lo, %hi)",
    "between_queries(%head_lo, %head_hi) | window(3, 3)",
    "between_queries(%lo, %hi) & causal",
    "same(%docs_q, %docs_k)",
    "same(%docs_q, %docs_k) & causal",
    "same(%docs_q, %docs_k) & window(40, 10)",
    "same(%docs_q, %docs_k) | window(2, 2)",
    "same(%head_ids, %head_kids) & causal",
    "same(%docs_q, %docs_k) & stride(3)",
]


def inputs(seed: int, nq: int = NQ, nk: int = NK, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = (2, HEADS, nq, 32), (2, 2, nk, 32), (2, 2, nk, 16)
    return [torch.randn(s, generator=g).to(dtype) for s in shapes]


@pytest.mark.parametrize("where", TEXTS)
def test_a_kernel_is_the_formula(where: str) -> None:
    q, k, v = inputs(1)
    compare(q, k, v, where, operands=operands(), q_offset=0)


@pytest.mark.parametrize("where", TEXTS)
def test_offsets_move_positions_and_not_rows(where: str) -> None:
    q, k, v = inputs(2)
    compare(q, k, v, where, operands=operands(3), q_offset=torch.tensor([20, 5]), k_offset=7)


@pytest.mark.parametrize("where", TEXTS[::5])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_sixteen_bits(where: str, dtype: str) -> None:
    q, k, v = inputs(4, dtype={"bf16": torch.bfloat16, "f16": torch.float16}[dtype])
    compare(q, k, v, where, operands=operands(5), q_offset=0, dtype=dtype)


@pytest.mark.parametrize("where", TEXTS[::4])
def test_scores_see_positions(where: str) -> None:
    q, k, v = inputs(6)
    compare(q, k, v, where, operands=operands(7), q_offset=3, score="relative")


@pytest.mark.parametrize("where", TEXTS)
def test_masks_and_counts(where: str) -> None:
    own = operands(8)
    theirs = patterns.mask(where, NQ, NK, h=1, heads=(HEADS, 2), q_offset=4, k_offset=2, operands=own)
    if "by_head" not in where and "head_" not in where and "rows" not in where and "blocks" not in where:
        p = built(patterns.parse(where), own)
        ours = p.mask(NQ, NK, 4, h=1, k_offset=2)
        assert (ours == theirs).all()
        assert p.count(NQ, NK, 4, h=1, k_offset=2) == theirs.sum()


@pytest.mark.parametrize("where", TEXTS)
def test_the_reference_is_the_formula(where: str) -> None:
    own = operands(9)
    q, k, v = (x[:, :, :, :4].contiguous() for x in inputs(9))
    out = hd.reference(q, k, v, where=built(patterns.parse(where), own), q_offset=6)
    from oracle import attention

    want = attention.attend(*(array(x) for x in (q, k, v)), where=where, operands=own, q_offset=6)
    assert np.abs(array(out) - want.out).max() < 1e-9


@pytest.mark.parametrize("where", ["listed(%rows)", "csr(%ptr, %idx)", "coarse(64, listed(%blocks))", "mask(%bits)"])
def test_what_a_row_may_not_see_does_not_reach_it(where: str) -> None:
    own = operands(10)
    q, k, v = inputs(11)
    live = np.stack([patterns.mask(where, NQ, NK, h=h, heads=(HEADS, 2), operands=own) for h in range(HEADS)])
    dead = ~live.any(axis=(0, 1))
    k[:, :, dead], v[:, :, dead] = float("nan"), float("inf")
    if where.startswith("csr"):
        assert dead.any()
        compare(q, k, v, where, operands=own, q_offset=0)


def test_a_list_is_of_the_right_shape() -> None:
    q, k, v = inputs(12)
    with pytest.raises(ValueError, match=r"expected dimension 1 of .* \(queries\) to be 3, but got 4"):
        hd.attend(q, k, v, where=hd.coarse(64, hd.listed(np.zeros((1, 4, 2), np.int32))), q_offset=0)
    with pytest.raises(ValueError, match="expected the lists of shape"):
        hd.listed(np.zeros(4, np.int32))
    with pytest.raises(TypeError, match="expected a boolean tensor for mask"):
        hd.mask(np.zeros((4, 4), np.int32))
    with pytest.raises(ValueError, match="expected the starts of the queries of shape"):
        hd.packed(np.zeros((1, 4), np.int32))


def test_packed_sequences_lie_row_after_row() -> None:
    g = torch.Generator().manual_seed(0)
    lengths = [5, 0, 64, 130]
    cu = np.concatenate([[0], np.cumsum(lengths)])
    q, k, v = (torch.randn(int(cu[-1]), h, 16, generator=g) for h in (4, 2, 2))
    out, lse = hd.attend(q, k, v, where=hd.packed(cu, hd.causal), layout="nhd", return_lse=True)
    assert out.shape == q.shape and lse.shape == (4, len(q))
    for a, b in itertools.pairwise(cu):
        if a < b:
            one = [x[None, a:b] for x in (q, k, v)]
            want, log = hd.attend(*one, where=hd.causal, layout="bnhd", return_lse=True)
            assert (out[a:b] - want[0]).abs().max() < 1e-5
            assert (lse[:, a:b] - log[0]).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"expected k of shape \[N, H, D\] for the layout nhd"):
        hd.attend(q, k[None], v, layout="nhd")


def test_two_lists_of_intervals_in_one_condition() -> None:
    """Tables of i - j and of j - i: each is found by the integer that it is of, not by where that integer was kept."""
    generator = torch.Generator().manual_seed(8)
    q, k, v = (torch.randn(1, 2, n, 24, generator=generator) for n in (258, 419, 419))
    far = [178, 185, 187, 213, 216, 243, 251, 280, 324, 335, 371, 383, 392, 404, 473, 474, 498]
    some = "holds(b, h, i, j : j * j <= 25 or (i % 4) * ((i - j) % 128) == 48)"
    loaded = "holds(b, h, i, j : %t[h + j] < select(abs(j) + abs(i) <= 1, j, h))"
    compare(q, k, v, f"{some} & {loaded} | offsets({far})", operands={"t": torch.arange(300) // 2}, q_offset=0)
