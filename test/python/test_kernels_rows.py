"""Strata whose queries are taken one at a time (`by_row` in the schedule): widths, layouts, long lists, features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import compare
from oracle import attention, tolerance

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
FEW = "offsets([0, 1, 2, 4, 8, 16, 32, 64])"
NEAR = "grid(16, window(0, 0), window(2, 2)) | grid(16, window(2, 2), window(0, 0))"
# More than sixteen distances are a table.
SCATTERED = [-90, -41, -40, -17, 0, 1, 5, 9, 14, 22, 31, 33, 47, 60, 61, 62, 80, 97, 101, 120, 133, 150, 171, 240, 255]
TABLE = f"offsets({SCATTERED})"
BESIDE_TILES = "window(127, 0) | offsets([100, 220, 305, 411, 517])"


def tensors(seed: int, *shapes: tuple[int, ...], dtype: str = "f32") -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g).to(DTYPES[dtype]) for s in shapes]


def by_row(where: str) -> tuple[int, int]:
    """Strata that take queries one at a time, and all strata."""
    schedule = hd.compile(hd.spec(where=hd.parse(where), heads=(2, 2), d=64, dtype="f32")).ir("schedule")
    return schedule.count("by_row = 1"), schedule.count("query = [")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d, dv", [(64, 64), (128, 128), (40, 72), (1, 3), (33, 100), (16, 8), (192, 256)])
@pytest.mark.parametrize("where", [FEW, NEAR, TABLE])
def test_widths(where: str, d: int, dv: int, dtype: str) -> None:
    q, k, v = tensors(d, (1, 4, 150, d), (1, 2, 171, d), (1, 2, 171, dv), dtype=dtype)
    compare(q, k, v, where, dtype=dtype, q_offset=21, label=f"{d} {dv}")


@pytest.mark.parametrize(
    "where",
    [
        FEW,
        BESIDE_TILES,
        TABLE,
        f"causal & {TABLE}",
        f"{TABLE} | window(127, 0)",
        f"{TABLE} & stride(3) | window(2, 0)",
        f"{TABLE} - keys([3 to 9])",
        f"{TABLE} & key_mod(7, 1, 4) | keys([0 to 2])",
        f"remap(affine_map<(x) -> (-x)>, {TABLE})",
        f"queries([3 to 90]) & {TABLE}",
        f"per_head([{TABLE}, offsets({[3 * x for x in SCATTERED]})])",
        f"offsets({SCATTERED + [2 * x + 400 for x in range(90)]})",
        f"coarse(2, {TABLE})",
        f"coarse(3, offsets({SCATTERED})) | window(3, 0)",
        f"{TABLE} & random_blocks(8, 3, 5)",
        "grid(12, offsets([0, 1, 3, -2, -4]), offsets([0, 2, -3, 5, 6]))",
        "causal & grid(11, offsets([0, 1, 3, -2, 7]), offsets([0, 2, -3, 6, -9, 4, -1]) | window(0, 1))",
        "causal & offsets([0, 3, 500])",
        "window(3, 0) | offsets([9, 40])",
        "window(2, 1, dilation = 7)",
        "grid(16, window(1, 1), window(2, 2))",
        "per_head([offsets([0, 5, 77]), grid(16, window(1, 1), window(1, 1))])",
        "queries([3 to 9]) & offsets([0, 1, 30])",
        "stride(50)",
        "offsets([-1, 0, 60]) & stride(3)",
        "random_blocks(1, 3, 5)",
        "causal & random_blocks(4, 2, 9) | window(2, 0)",
        "per_head([random_blocks(2, 40, 3), offsets([0, 9])])",
    ],
)
@pytest.mark.parametrize("nq, nk, offset", [(1, 1, 0), (1, 90, 89), (17, 300, 283), (130, 130, 0), (70, 40, -5)])
def test_patterns_and_lengths(where: str, nq: int, nk: int, offset: int) -> None:
    q, k, v = tensors(nq, (2, 2, nq, 24), (2, 2, nk, 24), (2, 2, nk, 24))
    compare(q, k, v, where, q_offset=offset, label=f"{nq} {nk} {offset}")


def test_tables_longer_than_a_chunk() -> None:
    """More scattered keys than a chunk holds."""
    distances = torch.randperm(900, generator=torch.Generator().manual_seed(3))[:430].tolist()
    q, k, v = tensors(15, (1, 2, 40, 32), (1, 2, 900, 32), (1, 2, 900, 32))
    compare(q, k, v, f"offsets({sorted(distances)})", q_offset=860)


def test_tables_with_conditions() -> None:
    """What else a pair must meet is tried key by key; the rows of queries may lie anywhere."""
    q, k, v = tensors(16, (2, 2, 70, 32), (2, 2, 300, 32), (2, 2, 300, 32))
    flags = torch.rand(2, 300, generator=torch.Generator().manual_seed(4)) < 0.6
    where = f"{TABLE} & keys(%f)"
    compare(q, k, v, where, operands={"f": flags.numpy()}, q_offset=torch.tensor([230, 40]))
    compare(q, k, v, f"{TABLE} & holds(b, h, i, j : ((i * j) mod 3) < 2)", q_offset=100)


def test_lists_longer_than_a_chunk() -> None:
    """A query whose keys fill several chunks merges them."""
    index = torch.stack([torch.randperm(900, generator=torch.Generator().manual_seed(i))[:500] for i in range(20)])
    q, k, v = tensors(5, (1, 2, 20, 32), (1, 2, 900, 32), (1, 2, 900, 32))
    compare(q, k, v, "listed(%i)", operands={"i": index.expand(1, 2, 20, 500).to(torch.int32).numpy()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["strided", "transposed", "transposed q"])
def test_layouts(layout: str, dtype: str) -> None:
    q, k, v = tensors(6, (1, 100, 2, 64), (1, 100, 2, 64), (1, 100, 2, 64), dtype=dtype)
    if layout == "transposed":
        q, k, v = (x.permute(0, 2, 3, 1).contiguous().transpose(2, 3) for x in (q, k, v))
    else:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if layout == "transposed q":
            q = q.transpose(2, 3).contiguous().transpose(2, 3)
    compare(q, k, v, FEW, dtype=dtype, label=layout)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("score", ["alibi", "relative", "selected", "softcap"])
def test_scores(score: str, dtype: str) -> None:
    q, k, v = tensors(7, (2, 4, 75, 32), (2, 2, 110, 32), (2, 2, 110, 16), dtype=dtype)
    compare(q, k, v, FEW, dtype=dtype, score=score, q_offset=torch.tensor([35, 3]), label=score)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_not_finite(dtype: str) -> None:
    """They reach the queries that have their keys, and no other: also none whose list is filled up with them."""
    q, k, v = tensors(12, (1, 2, 90, 32), (1, 2, 90, 32), (1, 2, 90, 24), dtype=dtype)
    v[:, :, 40] = float("inf")
    out = hd.attend(q, k, v, where=hd.offsets([0, 1, 2, 4, 8, 16, 32])).float()
    reached = torch.zeros(90, dtype=torch.bool)
    reached[[40 + n for n in (0, 1, 2, 4, 8, 16, 32)]] = True
    assert torch.isposinf(out[:, :, reached]).all()
    assert torch.isfinite(out[:, :, ~reached]).all()


@pytest.mark.parametrize("normalizer", ["none", "sum"])
def test_normalizers(normalizer: str) -> None:
    q, k, v = (x.abs() for x in tensors(8, (1, 2, 75, 16), (1, 2, 75, 16), (1, 2, 75, 16)))
    compare(q, k, v, FEW, normalizer=normalizer)


def test_sink_and_rows_without_keys() -> None:
    q, k, v = tensors(9, (1, 2, 75, 16), (1, 2, 40, 16), (1, 2, 40, 16))
    compare(q, k, v, "offsets([0, 1, 7])", sink=torch.tensor([0.5, -2.0]))


def test_the_choice_follows_the_cost() -> None:
    """Few keys that neighbors do not share: one by one. Many, or shared ones: tiles."""
    for where in (FEW, NEAR, TABLE, f"offsets({[x * x for x in range(1, 20)]})"):
        some, strata = by_row(where)
        assert some == strata > 0, where
    assert by_row(TABLE) == (1, 1)
    some, strata = by_row(BESIDE_TILES)
    assert 0 < some < strata
    for where in ("causal", "block(64)", "window(511, 0)", "causal & stride(64)", "window(63, 0)"):
        assert by_row(where)[0] == 0, where
    assert by_row("random_blocks(64, 3, 5)")[0] == 0
    assert by_row("random_blocks(4, 3, 5)")[0] == 1
    # Summaries, each of its own tokens; most positions have none at equal lengths.
    for size in (2, 16, 1024):
        assert by_row(f"parent({size})")[0] == 1, size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["causal & stride(1000)", "window(9, 3, dilation = 900)"])
@pytest.mark.parametrize("queries, keys", [(1, 1), (77, 2500), (150, 20000), (1, 2001), (1, 30001), (1100, 3100)])
def test_far_lattices_take_rows_where_tiles_would_be_empty(where: str, queries: int, keys: int, dtype: str) -> None:
    schedule = hd.compile(hd.spec(where=hd.parse(where), heads=(2, 1), d=16, dtype=dtype)).ir("schedule")
    limit = int(schedule.split("rows_up_to = ")[1].split(",")[0])
    assert 4096 <= limit < 20000
    q, k, v = tensors(keys, (1, 2, queries, 16), (1, 1, keys, 16), (1, 1, keys, 16), dtype=dtype)
    compare(q, k, v, where, dtype=dtype, q_offset=keys - queries, label=f"{queries} {keys}")


def test_a_list_is_of_one_segment() -> None:
    """One key of each of many segments: a list for each of them costs more than tiles."""
    sizes = [2**n for n in range(6)]
    shapes = [(1, 2, -(-96 // s), 32) for s in sizes for _ in range(2)]
    q, *rows = tensors(11, (1, 2, 96, 32), *shapes)

    @hd.kernel
    def combine(q: Any, *rows: Any) -> Any:
        segments = []
        for n, s in enumerate(sizes):
            where = hd.coarse(s, 1, hd.offsets([1])) & hd.query_mod(2 * s, s, 2 * s)
            segments.append(hd.segment(rows[2 * n], rows[2 * n + 1], where))
        return hd.attend(q, segments=segments, q_offset=0)

    assert "by_row = 1" not in hd.compile(combine.spec(q, *rows)).ir("schedule")
    assert np.abs(combine(q, *rows).numpy() - combine.reference(q, *rows).numpy()).max() < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_targets(target: str, dtype: str) -> None:
    """Registers of 4 and of 8 lanes."""
    q, k, v = tensors(10, (1, 2, 90, 44), (1, 2, 90, 44), (1, 2, 90, 20), dtype=dtype)
    for where in (FEW, BESIDE_TILES, TABLE):
        spec = hd.spec(where=hd.parse(where), heads=(2, 2), d=44, dv=20, dtype=dtype)
        got = hd.compile(spec, target=target)(q, k, v)
        want = attention.attend(*(x.double().numpy() for x in (q, k, v)), where=where)
        rounded = None
        if dtype != "f32":
            rounded = attention.attend(
                *(x.double().numpy() for x in (q, k, v)),
                where=where,
                round_weights=lambda w: tolerance.round_to(w, dtype),
            )
        verdict = tolerance.check(got.double().numpy(), want, dtype, rounded, f"{target} {where}")
        assert verdict, verdict.message
