"""Many segments with few keys each: summaries of many levels, global tokens, memories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array
from oracle import attention, tolerance

TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def tensors(seed: int, *shapes: tuple[int, ...], dtype: str = "f32") -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g).to(TORCH[dtype]) for s in shapes]


def level(size: int) -> str:
    return f"coarse({size}, 1, offsets([1])) & query_mod({2 * size}, {size}, {2 * size})"


def compare(q: Any, parts: list[tuple[Any, Any, str]], dtype: str, label: str, **kw: Any) -> None:
    """One attention over the parts (keys, values, pattern) against the oracle."""
    ours = [hd.segment(k, v, hd.parse(where)) for k, v, where in parts]
    theirs = [attention.Segment(array(k), array(v), where) for k, v, where in parts]
    want = attention.attend(array(q), segments=theirs, **kw)
    rounded = attention.attend(
        array(q), segments=theirs, round_weights=lambda w: tolerance.round_to(w, dtype), **kw
    )
    verdicts = []
    if "normalizer" in kw:
        out = hd.attend(q, segments=ours, **kw)
    else:
        out, lse = hd.attend(q, segments=ours, return_lse=True, **kw)
        verdicts.append(tolerance.check_lse(array(lse), want, label))
    verdicts.append(tolerance.check(array(out), want, dtype, rounded, label))
    for verdict in verdicts:
        assert verdict, verdict.message


def levels(n: int, count: int, heads: int, d: int, dtype: str, seed: int = 0) -> Any:
    """Queries, and a segment for each of `count` levels of summaries."""
    sizes = [2**t for t in range(count)]
    shapes = [(2, heads, max(n // s, 1), d) for s in sizes for _ in range(2)]
    q, *rest = tensors(seed, (2, 4, n, d), *shapes, dtype=dtype)
    parts = [(rest[2 * t], rest[2 * t + 1], level(s)) for t, s in enumerate(sizes)]
    return q, parts


@pytest.mark.parametrize("n", [1, 17, 130, 300])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("heads", [4, 2])
def test_levels(n: int, dtype: str, heads: int) -> None:
    q, parts = levels(n, 9, heads, 40 if dtype == "f32" else 64, dtype)
    q0, k, v = tensors(1, (2, 4, n, q.shape[3]), (2, heads, n, q.shape[3]), (2, heads, n, q.shape[3]), dtype=dtype)
    compare(q0, [(k, v, "offsets([0])"), *parts], dtype, f"levels {n} {dtype} {heads}", q_offset=0)


@pytest.mark.parametrize("normalizer", ["softmax", "none"])
@pytest.mark.parametrize("where", ["global_tokens([0, 30 to 33]) | stride(100)", "keys([3]) | offsets([0])"])
def test_within_a_segment(where: str, normalizer: str) -> None:
    q, k, v, mk, mv = tensors(2, (1, 4, 200, 32), *[(1, 2, 230, 32)] * 2, *[(1, 2, 7, 32)] * 2)
    parts = [(k, v, where), (mk, mv, "full"), (mk, mv, "keys([1, 5])")]
    kw = {} if normalizer == "softmax" else {"normalizer": normalizer}
    compare(q, parts, "f32", f"{where} {normalizer}", q_offset=0, **kw)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_few_keys_but_for_some_rows(dtype: str) -> None:
    """Where tiles have few keys on average, one of them may have many."""
    q, *rest = tensors(3, (1, 2, 200, 64), *[(1, 2, 500, 64)] * 4, dtype=dtype)
    k, v, mk, mv = rest
    wide = [(k, v, "queries([70]) | keys([2])"), (mk, mv, "queries([3, 71]) | keys([499])")]
    parts = [*wide, (mk, mv, "keys([0 to 3])")]
    compare(q, parts, dtype, f"many {dtype}", q_offset=0)


def test_dead_keys_do_not_leak() -> None:
    q, parts = levels(130, 6, 4, 32, "f32")
    for k, v, _ in parts:
        # Blocks with an even number are seen; of the others no query sees any.
        k[:, :, 1::2], v[:, :, 1::2] = float("nan"), float("inf")
    k0, v0 = tensors(4, (2, 4, 130, 32), (2, 4, 130, 32))
    ours = [hd.segment(k0, v0, hd.offsets([0]))] + [hd.segment(k, v, hd.parse(w)) for k, v, w in parts]
    assert torch.isfinite(hd.attend(q, segments=ours, q_offset=0)).all()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_bits_of_a_row_alone(dtype: str) -> None:
    q, parts = levels(700, 9, 4, 64, dtype)
    k0, v0 = tensors(5, (2, 4, 700, 64), (2, 4, 700, 64), dtype=dtype)
    segments = [hd.segment(k0, v0, hd.offsets([0]))] + [hd.segment(k, v, hd.parse(w)) for k, v, w in parts]
    whole = hd.attend(q, segments=segments, q_offset=0)
    for lo, hi in ((0, 1), (63, 66), (300, 301), (640, 700), (5, 500)):
        part = hd.attend(q[:, :, lo:hi], segments=segments, q_offset=lo)
        assert torch.equal(part, whole[:, :, lo:hi]), (lo, hi)


@pytest.mark.parametrize("axis", [2, 3])
def test_rows_that_are_not_adjacent(axis: int) -> None:
    """Every second element or row of a wider tensor."""
    q, parts = levels(150, 6, 4, 32, "f32")

    def spread(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x, torch.full_like(x, np.nan)], axis + 1).flatten(axis, axis + 1)[
            (*[slice(None)] * axis, slice(None, None, 2))
        ]

    k0, v0 = tensors(6, (2, 4, 150, 32), (2, 4, 150, 32))
    parts = [(k0, v0, "offsets([0])"), *parts]
    compare(q, [(spread(k), spread(v), w) for k, v, w in parts], "f32", f"spread {axis}", q_offset=0)
    one = [(spread(k) if n == 3 else k, v, w) for n, (k, v, w) in enumerate(parts)]
    compare(q, one, "f32", f"one spread {axis}", q_offset=0)
