"""Score functions, sinks, segments, several dots, normalizers, lse, offsets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array, built, compare
from oracle import attention, patterns, scalars, scores, tolerance


def tensors(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=g).to(dtype) for s in shapes]


@pytest.mark.parametrize("name", scores.SCORES)
@pytest.mark.parametrize("where", ["causal", "stride(4) | window(9, 9)"])
def test_score_functions(name: str, where: str) -> None:
    q, k, v = tensors(0, (2, 4, 75, 32), (2, 2, 110, 32), (2, 2, 110, 16))
    compare(q, k, v, where, score=name, q_offset=torch.tensor([35, 3]), label=name)


@pytest.mark.parametrize("name", ["alibi", "relative", "matrix", "selected"])
@pytest.mark.parametrize(
    "where",
    [
        "block(16) | keys([3])",
        "window(4, 2, dilation = 5)",
        "coarse(8, offsets([0, 2]))",
        "grid(8, window(1, 1), window(2, 0))",
        "global_tokens([0, 30 to 33])",
        "holds(b, h, i, j : ((i * j) % 3 == 1))",
        "per_head([neighborhood(7, 110), stride(6, 2)])",
    ],
)
def test_scores_see_positions_in_every_stratum(name: str, where: str) -> None:
    q, k, v = tensors(20, (1, 2, 75, 16), (1, 2, 110, 16), (1, 2, 110, 8))
    compare(q, k, v, where, score=name, q_offset=20, label=name)


@pytest.mark.parametrize("name", ["alibi", "softcap", "relative"])
def test_score_functions_in_bf16(name: str) -> None:
    q, k, v = tensors(1, (1, 4, 75, 64), (1, 4, 110, 64), (1, 4, 110, 64), dtype=torch.bfloat16)
    compare(q, k, v, "causal", score=name, q_offset="end", dtype="bf16", label=name)


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.3, 0.01])
def test_scales(scale: float) -> None:
    q, k, v = tensors(2, (1, 2, 40, 16), (1, 2, 40, 16), (1, 2, 40, 16))
    compare(q, k, v, "causal", scale=scale)


@pytest.mark.parametrize("where", ["full", "causal", "window(2, 0)", "queries([0 to 7]) & causal"])
def test_sinks(where: str) -> None:
    q, k, v = tensors(3, (2, 4, 40, 16), (2, 2, 40, 16), (2, 2, 40, 8))
    sink = torch.tensor([0.5, -3.0, 9.0, 0.0])
    compare(q, k, v, where, sink=sink, label="sink per head")
    compare(q, k, v, where, sink=torch.tensor([1.5]), label="one sink")


@pytest.mark.parametrize("normalizer", ["none", "sum"])
@pytest.mark.parametrize("where", ["full", "causal", "window(5, 2)", "queries([3 to 9]) & causal"])
def test_normalizers(normalizer: str, where: str) -> None:
    q, k, v = (x.abs() + 0.1 for x in tensors(4, (2, 4, 40, 16), (2, 2, 40, 16), (2, 2, 40, 8)))
    compare(q, k, v, where, normalizer=normalizer)


def segments_agree(q: torch.Tensor, parts: list[dict], dtype: str = "f32", operands: dict | None = None, **kw) -> None:
    """Several segments on both sides; a part's `score` is a name, its `where` a text."""
    operands, heads = operands or {}, q.shape[1]
    theirs, ours = [], []
    for part in parts:
        part = dict(part)
        name, where, k, v = part.pop("score", None), part.pop("where", "full"), part.pop("k"), part.pop("v")
        theirs.append(
            attention.Segment(array(k), array(v), where, name and scores.SCORES[name](scalars, heads), **part)
        )
        ours.append(
            hd.segment(
                k,
                v,
                built(patterns.parse(where), operands),
                score=name and scores.SCORES[name](hd, heads),
                **{n: torch.tensor(x) if isinstance(x, np.ndarray) else x for n, x in part.items()},
            )
        )
    spec = {n: array(x) if isinstance(x, torch.Tensor) else x for n, x in kw.items()}
    if isinstance(kw.get("q_offset"), torch.Tensor):
        spec["q_offset"] = kw["q_offset"].numpy()
    want = attention.attend(array(q), segments=theirs, operands=operands, **spec)
    rounded = attention.attend(
        array(q),
        segments=theirs,
        operands=operands,
        round_weights=lambda w: tolerance.round_to(w, dtype),
        **spec,
    )
    out, lse = hd.attend(q, segments=ours, return_lse=True, **kw)
    for verdict in (
        tolerance.check(array(out), want, dtype, rounded, "segments"),
        tolerance.check_lse(array(lse), want, "segments"),
    ):
        assert verdict, verdict.message


def test_two_segments_share_one_softmax() -> None:
    q, k, v, k2, v2 = tensors(5, (2, 4, 60, 32), (2, 2, 60, 32), (2, 2, 60, 16), (2, 2, 15, 32), (2, 2, 15, 16))
    segments_agree(
        q,
        [{"k": k, "v": v, "where": "causal & block(16)"}, {"k": k2, "v": v2, "where": "past_blocks(4)"}],
        q_offset=0,
    )


def test_segments_with_offsets_scales_scores_and_a_sink() -> None:
    q, k, v, k2, v2, k3, v3 = tensors(
        6,
        *[(2, 4, 50, 32), (2, 2, 70, 32), (2, 2, 70, 16), (2, 4, 33, 32), (2, 4, 33, 16)],
        *[(1, 1, 1, 32), (1, 1, 1, 16)],
    )
    segments_agree(
        q,
        [
            {"k": k, "v": v, "where": "causal & window(31, 0)", "score": "alibi", "k_offset": 7},
            {"k": k2, "v": v2, "where": "stride(3)", "scale": 0.05, "k_offset": np.array([0, 40])},
            {"k": k3, "v": v3, "where": "full"},
        ],
        q_offset=torch.tensor([20, 55]),
        sink=torch.tensor([0.1, 0.2, 0.3, 0.4]),
    )


def test_the_same_pair_in_two_segments_counts_twice() -> None:
    q, k, v = tensors(7, (1, 2, 30, 16), (1, 2, 30, 16), (1, 2, 30, 16))
    segments_agree(q, [{"k": k, "v": v, "where": "causal"}, {"k": k, "v": v, "where": "window(3, 3)"}])


def test_segments_in_bf16() -> None:
    q, k, v, k2, v2 = tensors(
        8,
        *[(1, 4, 90, 64), (1, 2, 90, 64), (1, 2, 90, 64), (1, 2, 30, 64), (1, 2, 30, 64)],
        dtype=torch.bfloat16,
    )
    segments_agree(
        q,
        [{"k": k, "v": v, "where": "causal & block(16)"}, {"k": k2, "v": v2, "where": "past_blocks(3)"}],
        "bf16",
        q_offset=0,
    )


def test_segments_with_operands_and_sparse_patterns() -> None:
    q, k, v, k2, v2 = tensors(21, (2, 4, 80, 16), (2, 2, 80, 16), (2, 2, 80, 8), (2, 1, 40, 16), (2, 1, 40, 8))
    rng = np.random.default_rng(0)
    operands = {
        "valid": rng.random((2, 80)) < 0.6,
        "coarse_valid": rng.random((2, 40)) < 0.6,
        "docs": np.sort(rng.integers(0, 4, (2, 80)), 1),
        "w": 9,
    }
    segments_agree(
        q,
        [
            {"k": k, "v": v, "where": "window(%w, 0) & cluster(%docs) | keys(%valid) & stride(7)"},
            {"k": k2, "v": v2, "where": "coarse(4, 2, causal(1)) & keys(%coarse_valid)", "score": "alibi"},
        ],
        operands=operands,
        q_offset=0,
    )


def test_keys_and_values_may_have_different_heads() -> None:
    q, k, v = tensors(22, (2, 8, 40, 16), (2, 4, 60, 16), (2, 2, 60, 8))
    compare(q, k, v, "causal", q_offset=20)
    compare(q, v.new_ones(2, 1, 60, 16), v, "window(9, 9)", q_offset=20)


def test_positions_far_from_zero() -> None:
    q, k, v = tensors(23, (2, 2, 70, 16), (2, 2, 90, 16), (2, 2, 90, 8))
    texts = ["causal", "window(9, 3)", "stride(7)", "block(48)", "coarse(16, causal)", "grid(8, causal, full)"]
    for base in (1_000_000, -1_000_003, 2**29):
        for where in texts:
            compare(q, k, v, where, q_offset=base + 20, k_offset=base, label=f"at {base}")


def test_long_sequences() -> None:
    """The last rows of a long sequence; only they are computed, at their positions."""
    q, k, v = tensors(24, (1, 2, 40, 32), (1, 2, 20_000, 32), (1, 2, 20_000, 16))
    texts = ["causal", "window(2000, 0)", "window(99, 0, dilation = 64)", "stride(128)", "block(4096)"]
    for where in [*texts, "key_mod(64, 3, 5)"]:
        compare(q, k, v, where, q_offset=19_950, label="long")


def test_a_segment_may_be_empty() -> None:
    q, k, v = tensors(9, (1, 2, 30, 16), (1, 2, 30, 16), (1, 2, 30, 16))
    segments_agree(q, [{"k": k, "v": v, "where": "causal"}, {"k": k[:, :, :0], "v": v[:, :, :0]}], q_offset=0)


def dots_agree(normalizer: str, score, dots, q, k, v, where: str) -> None:
    want = attention.attend(
        array(q),
        segments=[
            attention.Segment(array(k), array(v), where, score(scalars), dots=[(array(a), array(b)) for a, b in dots])
        ],
        normalizer=normalizer,
    )
    got = hd.attend(
        q,
        segments=[hd.segment(k, v, hd.parse(where), score=score(hd), dots=dots)],
        normalizer=normalizer,
    )
    verdict = tolerance.check(array(got), want, label=f"{len(dots)} dots")
    assert verdict, verdict.message


@pytest.mark.parametrize("where", ["full", "causal"])
def test_two_dots(where: str) -> None:
    q, k, v, q2, k2 = tensors(10, *[(2, 4, 33, 16)] * 5)
    dots_agree(
        "softmax",
        lambda ns: lambda a, c, b, h, i, j: ns.sqrt(a * a + c * c),
        [(q, k), (q2, k2)],
        q,
        k,
        v,
        where,
    )


@pytest.mark.parametrize("normalizer", ["softmax", "none", "sum"])
def test_no_dots_loads_a_matrix(normalizer: str) -> None:
    q, k, v = tensors(11, *[(2, 2, 33, 16)] * 3)
    w = np.abs(np.random.default_rng(0).standard_normal((2, 33, 33))).astype(np.float32) + 0.1

    def score(ns):
        t = ns.tensor(w)
        return lambda b, h, i, j: t[h, i, j]

    dots_agree(normalizer, score, [], q, k, v, "causal")


def test_lse_of_parts_merges_to_the_whole() -> None:
    q, k, v = tensors(12, (2, 4, 40, 32), (2, 4, 90, 32), (2, 4, 90, 16))
    parts = [
        hd.attend(
            q, k[:, :, a : a + 30], v[:, :, a : a + 30], where=hd.causal, q_offset=50, k_offset=a, return_lse=True
        )
        for a in (0, 30, 60)
    ]
    out, lse = hd.merge(parts)
    want = attention.attend(*(array(x) for x in (q, k, v)), where="causal", q_offset=50)
    for verdict in (tolerance.check(array(out), want), tolerance.check_lse(array(lse), want)):
        assert verdict, verdict.message


def test_offset_per_batch_of_queries_and_keys() -> None:
    q, k, v = tensors(13, (3, 2, 20, 16), (3, 2, 60, 16), (3, 2, 60, 16))
    for where in ("causal", "window(9, 3)", "stride(7)", "block(16)", "keys([0 to 5, 30])", "coarse(4, causal)"):
        compare(q, k, v, where, q_offset=torch.tensor([40, 0, 17]), label="q_offset per batch")
        for off in (11, torch.tensor([0, 25, -6])):
            compare(
                *(q, k, v, where),
                q_offset=torch.tensor([40, 0, 17]),
                k_offset=off.numpy() if isinstance(off, torch.Tensor) else off,
                label="k_offset",
            )


def test_decoding_one_query() -> None:
    for n in (1, 2, 63, 64, 65, 1000):
        q, k, v = tensors(n, (2, 8, 1, 64), (2, 2, n, 64), (2, 2, n, 64))
        for where in ("causal", "window(127, 0)", "full"):
            compare(q, k, v, where, q_offset=n - 1, label=f"decode {n}")


@pytest.mark.parametrize("where", ["causal", "stride(5) | block(8)", "per_head([full, causal])"])
def test_reference_equals_the_judge(where: str) -> None:
    q, k, v = tensors(14, (1, 2, 20, 8), (1, 2, 31, 8), (1, 2, 31, 4))
    want = attention.attend(*(array(x) for x in (q, k, v)), where=where, q_offset=11)
    got = hd.reference(q, k, v, where=hd.parse(where), q_offset=11)
    np.testing.assert_allclose(array(got), want.out, atol=1e-6)


TABLE = np.array([0, 3, -2, 70], np.int32)


def _shift(a: np.ndarray, n: np.ndarray, left: bool) -> np.ndarray:
    inside = (n >= 0) & (n < 64)
    amount = np.where(inside, n, 0)
    return np.where(inside, a << amount if left else a >> amount, 0)


# Beside each: floor division and modulus by 0 are 0, and so are shifts by a negative number or by more than 63.
INTEGER_SCORES = {
    "divide": (lambda i, j, t: i // j, lambda i, j, t: np.where(j != 0, i // np.where(j == 0, 1, j), 0)),
    "remainder": (lambda i, j, t: j % (i - 3), lambda i, j, t: np.where(i != 3, j % np.where(i == 3, 1, i - 3), 0)),
    "table": (lambda i, j, t: (i - 9) // t, lambda i, j, t: np.where(t != 0, (i - 9) // np.where(t == 0, 1, t), 0)),
    "selected": (
        lambda i, j, t: hd.select(t > 0, i // t, j),
        lambda i, j, t: np.where(t > 0, i // np.where(t == 0, 1, t), j),
    ),
    "left": (lambda i, j, t: (1 << (j - 5)) % 97, lambda i, j, t: _shift(np.int64(1), j - 5, True) % 97),
    "right": (lambda i, j, t: (i + 40) >> t, lambda i, j, t: _shift(i + 40, t, False)),
    "of negatives": (lambda i, j, t: (i - 40) >> t, lambda i, j, t: _shift(i - 40, t, False)),
}


@pytest.mark.parametrize("name", INTEGER_SCORES)
def test_integer_arithmetic_has_a_result_for_all_operands(name: str) -> None:
    code, formula = INTEGER_SCORES[name]
    q, k, v = (x.numpy() for x in tensors(31, (1, 4, 20, 8), (1, 4, 80, 8), (1, 4, 80, 8)))
    table = hd.tensor(TABLE)
    out = hd.attend(
        q, k, v, where=hd.causal(-40), score=lambda s, b, h, i, j: s + 0.01 * code(i, j, table[h]), q_offset=0
    )
    h, i, j = np.ogrid[:4, :20, :80]
    s = np.einsum("hid,hjd->hij", q[0].astype(float), k[0]) / np.sqrt(8) + 0.01 * formula(i, j, TABLE[h])
    s = np.where(j <= i + 40, s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    np.testing.assert_allclose(out[0], p @ v[0] / p.sum(-1, keepdims=True), atol=3e-6)


def test_integer_arithmetic_is_one_in_masks_and_scores() -> None:
    """A mask, and the same numbers made a score of -inf where they are 0."""
    q, k, v = (x.numpy() for x in tensors(33, (1, 1, 30, 8), (1, 1, 90, 8), (1, 1, 90, 8)))
    codes = (
        lambda i, j: j % (i - 5),
        lambda i, j: (i - 9) // (j - 4) + (i - 9) % (j - 4),
        lambda i, j: (i - 9) >> (j - 6),
        lambda i, j: (i - 9) << (j - 6),
    )
    for code in codes:
        masked = hd.attend(q, k, v, where=lambda b, h, i, j, code=code: code(i, j) != 0, q_offset=0)
        scored = hd.attend(
            q, k, v, score=lambda s, b, h, i, j, code=code: hd.select(code(i, j) != 0, s, -math.inf), q_offset=0
        )
        np.testing.assert_allclose(masked, scored, atol=2e-6)


@pytest.mark.parametrize("shift", ["left", "right"])
def test_shifts_in_masks_have_a_result_for_all_operands(shift: str) -> None:
    q, k, v = (x.numpy() for x in tensors(32, (1, 1, 20, 8), (1, 1, 90, 8), (1, 1, 90, 8)))
    left = shift == "left"
    out = hd.attend(
        q, k, v, where=lambda b, h, i, j: ((1 << (j - 9)) if left else ((i - 9) >> (j - 9))) % 3 == 1, q_offset=0
    )
    i, j = np.ogrid[:20, :90]
    bits = _shift(np.int64(1), j - 9, True) if left else _shift(i - 9, j - 9, False)
    s = np.where(bits % 3 == 1, np.einsum("id,jd->ij", q[0, 0].astype(float), k[0, 0]) / np.sqrt(8), -np.inf)
    with np.errstate(invalid="ignore"):
        p = np.nan_to_num(np.exp(s - s.max(-1, keepdims=True)))
    np.testing.assert_allclose(out[0, 0], p @ v[0, 0] / np.maximum(p.sum(-1, keepdims=True), 1e-9), atol=3e-6)


def scattered(seed: int, count: int, lo: int, hi: int) -> list[int]:
    return sorted(int(x) for x in np.random.default_rng(seed).choice(np.arange(lo, hi), count, replace=False))


# Conditions with more intervals of one integer than are compared one by one.
LONG_LISTS = {
    "offsets": f"offsets({scattered(0, 70, -40, 500)})",
    "complement": f"~offsets({scattered(1, 60, -20, 300)}) & window(220, 9)",
    "keys": f"causal & keys({scattered(2, 60, 0, 330)})",
    "queries": f"queries({scattered(3, 50, 0, 330)}) - window(5, 0)",
    "intervals": " | ".join(f"causal({n}) - causal({n + 3})" for n in scattered(4, 40, -30, 400)[::2]),
    "blocks": f"coarse(3, offsets({scattered(5, 40, -9, 90)})) - stride(4)",
    "heads": f"per_head([offsets({scattered(6, 40, 0, 300)}), keys({scattered(7, 45, 0, 330)})])",
    "both sides": f"offsets({scattered(8, 50, 0, 300)}) & keys({scattered(9, 90, 0, 330)}) | global_tokens([0 to 2])",
}


@pytest.mark.parametrize("name", LONG_LISTS)
def test_long_lists_of_intervals(name: str) -> None:
    q, k, v = tensors(34, (1, 2, 290, 16), (1, 2, 330, 16), (1, 2, 330, 24))
    compare(q, k, v, LONG_LISTS[name], q_offset=17, label=name)
