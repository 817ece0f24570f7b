"""Scores that load along the keys: squares of lanes and keys, and what they must not get wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array
from oracle import attention, scalars, tolerance

N, M = 150, 171

Score = Callable[[Any], Callable[..., Any]]


def table(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(4), dtype=torch.int32)


def cases() -> dict[str, tuple[str, list[torch.Tensor], Callable[..., Score]]]:
    """Pattern, captured tensors, and a score function of (namespace, tensors)."""
    return {
        "matrix": ("full", [table(N, M)], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "by batch and head": ("causal", [table(2, 3, N, M)], lambda ns, t: lambda s, b, h, i, j: s + t[b, h, i, j]),
        "two matrices": (
            "full",
            [table(3, N, M), table(N, M)],
            lambda ns, t, u: lambda s, b, h, i, j: s * t[h, i, j] + u[i, j],
        ),
        "transposed": ("full", [table(M, N).T], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "every other column": ("full", [table(N, 2 * M)[:, ::2]], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "keys far apart": ("stride(7)", [table(N, M)], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "window": ("window(9, 5)", [table(N, M)], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "taps": ("window(3, 3)", [table(N, 7)], lambda ns, t: lambda s, b, h, i, j: s + t[i, j - i + 3]),
        "narrower than a square": ("window(0, 0)", [table(N, 1)], lambda ns, t: lambda s, b, h, i, j: s + t[i, j - i]),
        "shifted": ("full", [table(N + 2, M + 4)], lambda ns, t: lambda s, b, h, i, j: s + t[i + 2, j + 4]),
        "clamped": ("full", [table(N - 20, M - 30)], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "ids": ("full", [ids(N, M), table(3, 9)], lambda ns, t, u: lambda s, b, h, i, j: s + u[h, t[i, j]]),
        "bf16": ("full", [table(N, M).bfloat16()], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "f16": ("full", [table(N, M).half()], lambda ns, t: lambda s, b, h, i, j: s + t[i, j]),
        "square of the position": ("full", [table(3 * N, M)], lambda ns, t: lambda s, b, h, i, j: s + t[3 * i, j]),
        "rows and columns": (
            "grid(16, block(8), block(8))",
            [table(3, 15, 15)],
            lambda ns, t: lambda s, b, h, i, j: s + t[h, i // 16 - j // 16 + 7, i % 16 - j % 16 + 7],
        ),
        "rows and columns in f16": (
            "grid(8, window(2, 2), window(3, 4))",
            [table(24, 30).half(), ids(24, 15)],
            lambda ns, t, u: lambda s, b, h, i, j: (
                s + t[i // 8 - j // 8 + 4, 2 * (i % 8 - j % 8) + 8] + u[i // 8, i % 8 + h]
            ),
        ),
        "rows and columns backwards": (
            "grid(8, full, window(2, 2))",
            [table(45, 15), table(3, 45, 30)],
            lambda ns, t, u: lambda s, b, h, i, j: (
                s + t[j // 8 - i // 8 + 20, j % 8 - i % 8 + 7] * u[h, i // 8 + 2, i % 8 + j % 8]
            ),
        ),
        "not along the keys": ("full", [table(N, 2 * M)], lambda ns, t: lambda s, b, h, i, j: s + t[i, 2 * j]),
    }


def judged(x: torch.Tensor) -> np.ndarray:
    return x.numpy() if x.dtype == torch.int32 else x.double().numpy()


class Clamped:
    """A table whose indices are clamped, as the language says."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __getitem__(self, at: Any) -> Any:
        places = zip(np.broadcast_arrays(*at), self.data.shape, strict=True)
        return self.data[tuple(np.clip(x, 0, n - 1) for x, n in places)]


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_loads_along_the_keys(name: str, target: str) -> None:
    where, tensors, score = cases()[name]
    q, k, v = (torch.randn(2, 3, n, 24, generator=torch.Generator().manual_seed(n)) for n in (N, M, M))
    judge = score(scalars, *(Clamped(judged(t)) for t in tensors))
    want = attention.attend(*map(array, (q, k, v)), where=where, score=judge, q_offset=0)
    ours = score(hd, *(hd.tensor(t) for t in tensors))
    spec = hd.spec(hd.parse(where), ours, d=24, heads=(3, 3), q_offset=0)
    got = hd.compile(spec, target=target)(q, k, v)
    verdict = tolerance.check(array(got), want, "f32", None, name)
    assert verdict, verdict.message
