"""NaN and inf in what a row may not see never reach it, and do reach who sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernel_checks import compare

PATTERNS = [
    "causal",
    "window(7, 2)",
    "stride(3)",
    "block(16)",
    "window(3, 3, dilation = 4)",
    "coarse(8, causal)",
    "grid(8, window(1, 1), window(1, 1))",
    "keys([0 to 70])",
    "causal & (window(15, 0) | stride(16))",
    "holds(b, h, i, j : ((i * j) % 3 == 1))",
    "neighborhood(9, 100)",
    "per_head([causal, window(9, 9)])",
    "offsets([0, 1, 2, 4, 8, 16, 32, 64])",
]


def poisoned(seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 2, 100, 32, generator=g).to(dtype) for _ in range(3)]


@pytest.mark.parametrize("where", PATTERNS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_poison_in_values(where: str, bad: float) -> None:
    """Every element of a row is as the formula says: dead rows clean, live ones not."""
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
        q, k, v = poisoned(0, dtype)
        v[0, 0, 50, 7] = bad
        v[1, 1, 99] = bad
        v[1, 0, 0, 31] = bad
        compare(q, k, v, where, dtype=name, label=f"{bad} in v")


@pytest.mark.parametrize("where", PATTERNS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_poison_in_keys(where: str, bad: float) -> None:
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
        q, k, v = poisoned(1, dtype)
        k[0, 0, 50, 3] = bad
        k[1, 1, 99, 0] = bad
        k[1, 0, 0, 31] = bad
        compare(q, k, v, where, dtype=name, label=f"{bad} in k")


@pytest.mark.parametrize("where", PATTERNS)
def test_poison_in_keys_and_values_dead_for_all(where: str) -> None:
    q, k, v = poisoned(2, torch.float32)
    dead = np.zeros((2, 100), bool)
    dead[0, 30:41] = True
    dead[1, [0, 63, 64, 99]] = True
    for b, j in np.argwhere(dead):
        k[b, :, j] = float("nan")
        v[b, :, j] = float("inf") if j % 2 else float("nan")
    out = compare(q, k, v, f"({where}) & keys(%valid)", operands={"valid": ~dead})
    assert np.isfinite(out).all()


@pytest.mark.parametrize("where", PATTERNS)
def test_poison_in_queries_stays_in_its_row(where: str) -> None:
    q, k, v = poisoned(3, torch.float32)
    q[0, 0, 17, 5] = float("nan")
    q[1, 1, 64] = float("nan")
    compare(q, k, v, where, label="nan in q")


@pytest.mark.parametrize("d", [3, 17, 40, 64, 136, 200, 264])
@pytest.mark.parametrize("where", ["window(7, 2)", "causal & stride(3)", "causal & (window(15, 0) | stride(16))"])
def test_poison_by_width(where: str, d: int) -> None:
    """Whatever the registers of a row of results, and where its elements are not adjacent."""
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16"), (torch.float16, "f16")):
        for apart in (False, True):
            g = torch.Generator().manual_seed(d)
            q, k, v = (torch.randn(1, 2, 150, d, generator=g).to(dtype) for _ in range(3))
            for column in (0, d // 2, d - 1):
                v[0, column % 2, 20 + column % 97, column] = float("nan") if column else float("inf")
            if apart:
                q, k, v = (t.transpose(2, 3).contiguous().transpose(2, 3) for t in (q, k, v))
            compare(q, k, v, where, dtype=name, label=f"width {d}, apart {apart}")


def test_memory_beyond_the_tensors_is_never_used() -> None:
    """Rows around a slice are NaN; a tile that reads past the end must not show it."""
    for n in (1, 17, 63, 65, 100):
        big = [torch.full((1, 2, n + 128, 96), float("nan")) for _ in range(3)]
        g = torch.Generator().manual_seed(n)
        for t in big:
            t[:, :, 64 : 64 + n, 32:64] = torch.randn(1, 2, n, 32, generator=g)
        q, k, v = (t[:, :, 64 : 64 + n, 32:64] for t in big)
        for where in ("full", "causal", "stride(3)", "window(5, 5)"):
            out = compare(q, k, v, where, label=f"slice {n}")
            assert np.isfinite(out).all()


def test_rows_without_live_keys_are_zero() -> None:
    q, k, v = poisoned(4, torch.float32)
    for where in (
        "causal(40)",
        "queries([3 to 60])",
        "keys([50 to 60]) & causal",
        "~full",
        "window(0, 0) & query_mod(4, 1, 2)",
    ):
        compare(q, k, v, where, label="empty rows")
    v[:] = float("nan")
    out = compare(q, k, v, "causal(40)")
    assert (out[:, :, :40] == 0).all()


def test_all_scores_minus_infinity_is_an_empty_row() -> None:
    q, k, v = poisoned(5, torch.float32)
    k[:, :, :5] = 0
    k[:, :, :5, 0] = float("-inf")
    q[:, :, :, 0] = q[:, :, :, 0].abs() + 0.1
    out = compare(q, k, v, "causal & keys([0 to 5]) | window(0, 0) & queries([50 to 100])")
    assert (out[:, :, :50] == 0).all()
