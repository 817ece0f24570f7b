"""A kernel for every primitive and for random expressions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import compare, compare_problem
from oracle import cases, patterns, random_patterns

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import _cases as bench_cases


@pytest.mark.parametrize("name", bench_cases.every_text())
def test_each_pattern_of_the_bench(name: str) -> None:
    """What is measured is right, and the peer's mask function means the same."""
    where = bench_cases.every_text()[name]
    operands = bench_cases.operands(name, 700)
    compare_problem(cases.Problem(700, 700, 64, 64, where=where, b=1), operands=operands)
    if name in bench_cases.FLEX:
        theirs = np.asarray(hd.holds(bench_cases.FLEX[name]).mask(700, 700))
        grid = patterns.grid(700, 700, operands=operands)
        assert (theirs == np.broadcast_to(patterns.parse(where).live(grid), (1, 1, 700, 700))[0, 0]).all()


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_each_primitive(name: str) -> None:
    """One compiled kernel over lengths and offsets."""
    for nq, nk, offset in [
        (64, 64, "zero"),
        (1, 1, "zero"),
        (2, 17, "end"),
        (17, 2, "five"),
        (200, 333, "batch"),
        (333, 200, "zero"),
        (1, 300, "end"),
        (0, 5, "zero"),
        (5, 0, "zero"),
    ]:
        where = cases.PRIMITIVES[name]
        compare_problem(cases.Problem(nq, nk, 24, 16, "f32", 3, "plain", where, offset))


@pytest.mark.parametrize(
    "where",
    [
        "random_blocks(8, 11, 3)",
        "random_blocks(3, 500, 3)",
        "random_blocks(3, 65536, 3)",
        "grid(12, random_blocks(2, 7000, 2), random_blocks(3, 65536, 5)) & causal",
        "~random_blocks(8, 5, 3)",
        "causal & (window(9, 0) | keys([0 to 3]) | random_blocks(16, 3, 1))",
        "coarse(4, 2, random_blocks(5, 6, 2)) - stride(3)",
        "grid(12, random_blocks(2, 4, 2), random_blocks(3, 2, 5))",
        "random_blocks(8, 6, 1) & random_blocks(7, 9, 2)",
        "random_blocks(8, 6, 1) | random_blocks(7, 9, 2) | causal(40)",
    ],
)
def test_random_blocks_anywhere(where: str) -> None:
    """More blocks than a row has, complements, and random blocks inside other patterns."""
    for nq, nk, offset in [(200, 333, "zero"), (70, 40, "five"), (3, 2, "end")]:
        compare_problem(cases.Problem(nq, nk, 24, 16, "f32", 3, "plain", where, offset))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    "where",
    [
        "grid(16, window(6, 6), window(5, 2))",
        "grid(12, window(1, 3), window(2, 2)) & key_mod(5, 1, 4)",
        "grid(200, window(2, 2), window(70, 71))",
        "grid(300, window(2, 1), window(140, 140))",
        "grid(4, grid(8, window(1, 1), window(2, 2)), window(1, 0))",
        "grid(16, window(3, 3), window(9, 9)) | keys([0 to 3])",
    ],
)
def test_boxes_of_digits(where: str, dtype: str) -> None:
    """Tiles with few and with many values of a digit, and queries that fill them in part."""
    for nq, nk, offset in [(700, 700, "zero"), (333, 450, "five"), (20, 300, "end")]:
        compare_problem(cases.Problem(nq, nk, 24, 16, dtype, 3, "plain", where, offset))


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_each_primitive_over_many_tiles(name: str) -> None:
    where = cases.PRIMITIVES[name]
    compare_problem(cases.Problem(1025, 1000, 16, 8, "f32", 3, "plain", where, "five", b=1))


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_each_primitive_in_bf16(name: str) -> None:
    where = cases.PRIMITIVES[name]
    compare_problem(cases.Problem(150, 190, 64, 40, "bf16", 2, "bnhd", where, "five", b=1))


@pytest.mark.parametrize("seed", range(60))
def test_random_expressions(seed: int) -> None:
    where = random_patterns.seeded(seed, 1 + seed % 5)
    compare_problem(cases.Problem(100, 100, 16, 8, group=3, where=where, b=1))
    compare_problem(cases.Problem(70, 180, 16, 8, group=3, where=where, offset="batch"))


def test_runtime_flags_lengths_and_ids() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 4, 90, 16), torch.randn(3, 2, 90, 16), torch.randn(3, 2, 90, 8)
    docs = torch.sort(torch.randint(0, 5, (3, 90)), dim=1).values
    docs[1, 70:] = -1
    operands = {
        "valid": torch.rand(3, 90) < 0.7,
        "shared": torch.rand(1, 90) < 0.5,
        "len": torch.tensor([0, 33, 90]),
        "docs": docs,
        "buckets": torch.randint(0, 4, (3, 4, 90)),
        "kv_buckets": torch.randint(0, 4, (3, 2, 90)),
        "one_bucket": torch.randint(0, 4, (1, 1, 90)),
        "lo": torch.randint(0, 60, (3, 90)),
        "hi": torch.randint(20, 120, (3, 90)),
        "head_lo": torch.randint(0, 60, (3, 4, 90)),
        "head_hi": torch.randint(0, 90, (3, 2, 90)),
        "w": 7,
        "lag": 2,
    }
    operands = {n: x.numpy() if isinstance(x, torch.Tensor) else x for n, x in operands.items()}
    for where in [
        "keys(%valid)",
        "keys(%shared) & causal",
        "queries(%valid) & causal",
        "global_tokens(%valid) | window(3, 3)",
        "lengths(%len)",
        "lengths(%len) & window(9, 2)",
        "cluster(%docs)",
        "cluster(%docs) & causal",
        "same(%docs, %docs) | keys([0, 1])",
        "cluster(%buckets)",
        "same(%buckets, %kv_buckets) & stride(2)",
        "cluster(%one_bucket) - block(8)",
        "between(%lo, %hi)",
        "between(%head_lo, %head_hi) & causal",
        "window(%w, 0)",
        "window(%w, inf) & causal(%lag)",
        "window(%w, 1, dilation = 3)",
        "shift(%lag, block(16))",
        "keys([%lag to %w])",
        "offsets([0, %w])",
        "holds(b, h, i, j : (i - j < %w) & (i >= j))",
        "~keys(%valid) & causal | cluster(%docs)",
        "per_head([cluster(%docs), keys(%valid)])",
    ]:
        compare(q, k, v, where, operands=operands, label="runtime")
    used = {n: operands[n] for n in ("w", "docs")}
    text = "window(%w, 0) & cluster(%docs)"
    by_text = hd.attend(q, k, v, where=hd.parse(text, **used))
    assert torch.equal(by_text, hd.attend(q, k, v, where=hd.window(hd.scalar(7), 0) & hd.cluster(used["docs"])))


def test_condition_on_tables() -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(2, 2, 70, 16), torch.randn(2, 2, 70, 16), torch.randn(2, 2, 70, 8)
    docs = torch.sort(torch.randint(0, 5, (70,))).values
    operands = {"doc": docs.numpy()}
    compare(q, k, v, "holds(b, h, i, j : (%doc[i] == %doc[j]) & (i >= j))", operands=operands)
    compare(q, k, v, "holds(b, h, i, j : (%doc[i] <= %doc[j]) & (b == 1))", operands=operands)


@pytest.mark.parametrize("nq, nk, offset", [(300, 300, 0), (70, 700, 500), (1, 400, 399), (130, 64, -9)])
@pytest.mark.parametrize(
    "where",
    [
        "(keys([3 to 9, 600 to 640]) | queries([50 to 60])) - holds(b, h, i, j : ((j * 3) // 7 + i) // 5 % 3 == 0)",
        "holds(b, h, i, j : ((i // 7 + j // 5) % 3 == 0) & ((j < 40) | (abs(i - 2 * j) < 9)))",
        "~holds(b, h, i, j : ((i // 7 + j // 5) % 3 == 0) & ((i < 400) & (j > 500)))",
        "holds(b, h, i, j : abs(i // 24 - j // 24) + abs(i % 24 - j % 24) <= 5)",
        "holds(b, h, i, j : 9 >= (i // 24 - j // 24) * (i // 24 - j // 24) + (i % 24 - j % 24) * (i % 24 - j % 24))",
        "holds(b, h, i, j : (max(-i, j - i) - min(i * -3, j * -2) > 70) != (j % 64 < 3))",
    ],
)
def test_boxes_without_live_pairs(where: str, nq: int, nk: int, offset: int) -> None:
    """Of a condition per pair, boxes of keys are left out, and others are full, by the ranges of its parts."""
    q, k, v = (torch.randn(1, 2, n, 24, generator=torch.Generator().manual_seed(n)) for n in (nq, nk, nk))
    compare(q, k, v, where, q_offset=offset, label=f"{nq} {nk} {offset}")


def test_boxes_of_sorted_keys() -> None:
    """Keys sorted by id lie anywhere: no box of their ranks says what their positions are."""
    generator = torch.Generator().manual_seed(8)
    q, k, v = (torch.randn(1, 2, 1500, 24, generator=generator) for _ in range(3))
    operands = {"id": torch.randint(0, 3, (1, 2, 1500), generator=generator, dtype=torch.int32)}
    for where in (
        "cluster(%id) & holds(b, h, i, j : ((i + j) // 256) % 4 == 1)",
        "(cluster(%id) - window(40, 0)) & holds(b, h, i, j : (i // 64 + j // 256) % 3 == 0)",
    ):
        compare(q, k, v, where, operands=operands)


def test_what_a_condition_per_pair_computes() -> None:
    where = hd.parse("(keys([3 to 9]) | queries([50 to 60])) - holds(b, h, i, j : (j // 2 + i) // 5 % 3 == 0)")
    kernel = hd.compile(hd.spec(where=where, heads=(1, 1), d=64, dtype="f32"))
    (segment,) = kernel.explain(as_json=True, b=1, nq=4096, nk=4096)["segments"]
    assert [s["kind"] for s in segment["strata"]] == ["masked"]
    assert segment["executed_pairs"] < 0.05 * 4096 * 4096
