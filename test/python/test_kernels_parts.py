"""Parts of a score that depend on the distance or the key alone: computed for squares of lanes and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sweep import sweep

import heddle as hd
from kernel_checks import array
from oracle import attention, random_patterns, scalars, tolerance

HEADS = 4
TARGETS = ["native", "x86-64-v3", "x86-64-v2"]

PATTERNS = [
    "full",
    "causal",
    "window(40, 3)",
    "window(9, 9, dilation = 4)",
    "window(20, 0) | window(6, 0, dilation = 32)",
    "stride(7) & causal",
    "block(24)",
    "keys([3, 5 to 9, 60, 61]) | window(2, 2)",
    "grid(12, window(1, 2), window(3, 3))",
    "per_head([causal, window(5, 5), stride(3)])",
    "remap(affine_map<(x) -> (x mod 5, x floordiv 5)>, full, window(2, 2))",
    "shift(3, stride(16)) | offsets([0, 1, 2, 40, 41])",
]


class Clamped:
    """A table whose indices are clamped, as the language says."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __getitem__(self, at: Any) -> Any:
        at = at if isinstance(at, tuple) else (at,)
        places = zip(np.broadcast_arrays(*at), self.data.shape, strict=True)
        return self.data[tuple(np.clip(np.asarray(x, int), 0, n - 1) for x, n in places)]


def tables(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "head": torch.randn(HEADS, generator=g),
        "distance": torch.randn(HEADS, 90, generator=g),
        "key": torch.randn(2, HEADS, 130, generator=g),
        "query": torch.randn(2, 150, generator=g),
        "half": torch.randn(64, generator=g).half(),
        "number": torch.randint(0, 80, (50,), generator=g, dtype=torch.int32),
    }


Term = Callable[[Any, Any, Any, Any, Any, Any], Any]
"""A term of a score: (namespace, tables, b, h, i, j)."""

TERMS: dict[str, Term] = {
    "logarithm of the distance": lambda ns, t, b, h, i, j: ns.log(1.0 + ns.maximum(i - j, 0)),
    "table of the distance": lambda ns, t, b, h, i, j: t["distance"][h, i - j + 30],
    "backwards": lambda ns, t, b, h, i, j: t["distance"][h, j - i + 30],
    "buckets": lambda ns, t, b, h, i, j: t["distance"][
        h, ns.select(i - j < 16, i - j, 10 + ns.minimum((i - j) * (i - j) // 50, 40))
    ],
    "table by a table": lambda ns, t, b, h, i, j: t["distance"][h, t["number"][i - j + 5]],
    "distance in f16": lambda ns, t, b, h, i, j: t["half"][(i - j) // 2 + 20] * 0.5,
    "sign": lambda ns, t, b, h, i, j: ns.select(i >= j, ns.sin(0.3 * (i - j)), ns.cos(0.2 * (j - i))),
    "shifted": lambda ns, t, b, h, i, j: ns.tanh(0.1 * ((i + 7) - (j - 2)) + t["head"][h]),
    "products of distances": lambda ns, t, b, h, i, j: ns.cos(0.01 * ((i - j) * (i - j)) + 0.5 * (i - j)),
    "key": lambda ns, t, b, h, i, j: t["key"][b, h, j],
    "logarithm of the key": lambda ns, t, b, h, i, j: ns.log(1.0 + ns.abs(t["key"][b, h, j])),
    "key by a table": lambda ns, t, b, h, i, j: t["distance"][h, t["number"][j // 3]],
    "query": lambda ns, t, b, h, i, j: ns.tanh(t["query"][b, i]),
    "both": lambda ns, t, b, h, i, j: t["query"][b, i] * ns.exp(-0.1 * ns.abs(i - j)) + ns.sin(0.1 * j),
    "pairs": lambda ns, t, b, h, i, j: ns.cos(0.05 * (i + j)) * ns.log(1.0 + ns.abs(i - j)),
    "twice the key": lambda ns, t, b, h, i, j: ns.sin(0.07 * (i - 2 * j)),
    "head": lambda ns, t, b, h, i, j: ns.sin(0.5 * h) * ns.log(2.0 + ns.abs(j - i)),
}


def score_of(ns: Any, t: Any, terms: list[str]) -> Callable[..., Any]:
    def score(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        for n, name in enumerate(terms):
            x = TERMS[name](ns, t, b, h, i, j)
            s = s * (1.0 + 0.1 * x) if n % 3 == 2 else s + x
        return s

    return score


def check(
    where: str, terms: list[str], n: int, m: int, offset: int = 0, target: str = "native", dtype: str = "f32",
    hk: int = 2,
) -> None:  # fmt: skip
    g = torch.Generator().manual_seed(n + m)
    q, k, v = (
        torch.randn(2, heads, rows, 24, generator=g).to({"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
        for heads, rows in ((HEADS, n), (hk, m), (hk, m))
    )
    data = tables(n)
    judged = {name: Clamped(x.numpy() if x.dtype == torch.int32 else x.double().numpy()) for name, x in data.items()}
    exact = [x.double().numpy() for x in (q, k, v)]
    kw: dict[str, Any] = {"where": where, "score": score_of(scalars, judged, terms), "q_offset": offset}
    want = attention.attend(*exact, **kw)
    rounded = None
    if dtype != "f32":
        rounded = attention.attend(*exact, round_weights=lambda w: tolerance.round_to(w, dtype), **kw)
    ours = {name: hd.tensor(x) for name, x in data.items()}
    spec = hd.spec(
        hd.parse(where), score_of(hd, ours, terms), d=24, heads=(HEADS, hk), q_offset=offset,
        dtype={"f32": "float32", "bf16": "bfloat16"}[dtype],
    )  # fmt: skip
    got = hd.compile(spec, target=target)(q, k, v)
    label = f"{where} {terms} {n} {m} {offset} {target} {dtype} {hk}"
    verdict = tolerance.check(array(got), want, dtype, rounded, label)
    assert verdict, verdict.message


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TERMS)
def test_a_term(name: str, target: str) -> None:
    check("causal", [name], 130, 130, target=target)


@pytest.mark.parametrize("where", PATTERNS)
def test_patterns(where: str) -> None:
    check(where, ["buckets", "logarithm of the key", "both"], 141, 120, 9)


@pytest.mark.parametrize("n", [1, 2, 5, 17])
def test_few_queries(n: int) -> None:
    """Lanes of several heads, and tiles that are not whole."""
    check("causal", ["table of the distance", "key", "head"], n, 90, 80)
    check("full", ["buckets", "query"], n, 90, 80, hk=1)


def random_check(seed: int) -> None:
    c = random_patterns.Seeded(seed)
    terms = [c.choice(list(TERMS)) for _ in range(c.integer(1, 4))]
    n, m = c.choice([1, 17, 64, 100, c.integer(2, 300)]), c.choice([1, 17, 64, 100, c.integer(2, 300)])
    where = c.choice([*PATTERNS, random_patterns.text(c, 2)])
    target = c.choice([*TARGETS, "native", "native"])
    check(where, terms, n, m, c.integer(-3, 60), target, c.choice(["f32", "bf16"]), c.choice([1, 2, 4]))


def test_random_scores() -> None:
    sweep(8, random_check, str, 700000)
