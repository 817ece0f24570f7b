"""Traced functions: masks as sets, scores as text, torch code unchanged, keys, refusals."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

import heddle as hd
from heddle import _emit, _spec, _trace

# Well-known mask functions, as a FlexAttention user writes them, and their one-line specs.

W, PREFIX, S, T, SINKS, DIL, K1, N1 = 64, 37, 8, 4, 4, 3, 7, 40
HEIGHT, WIDTH, K2 = 12, 16, 5


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def sliding_window(b, h, q_idx, kv_idx):
    return (q_idx >= kv_idx) & (q_idx - kv_idx < W)


def prefix_lm(b, h, q_idx, kv_idx):
    return (kv_idx < PREFIX) | (q_idx >= kv_idx)


def dilated(b, h, q_idx, kv_idx):
    d = q_idx - kv_idx
    return (d >= 0) & (d <= 5 * DIL) & (d % DIL == 0)


def natten_1d(b, h, q_idx, kv_idx):
    half = K1 // 2
    centre = torch.clamp(q_idx, half, N1 - 1 - half)
    return torch.abs(centre - kv_idx) <= half


def natten_2d(b, h, q_idx, kv_idx):
    half = K2 // 2
    qy, qx = q_idx // WIDTH, q_idx % WIDTH
    ky, kx = kv_idx // WIDTH, kv_idx % WIDTH
    cy, cx = qy.clamp(half, HEIGHT - 1 - half), qx.clamp(half, WIDTH - 1 - half)
    return ((cy - ky).abs() <= half) & ((cx - kx).abs() <= half)


def sliding_tile_2d(b, h, q_idx, kv_idx):
    qy, qx = (q_idx // WIDTH) // T, (q_idx % WIDTH) // T
    ky, kx = (kv_idx // WIDTH) // T, (kv_idx % WIDTH) // T
    return (torch.abs(qy - ky) <= 1) & (torch.abs(qx - kx) <= 1)


def block_causal(b, h, q_idx, kv_idx):
    return q_idx // S >= kv_idx // S


def block_diffusion(b, h, q_idx, kv_idx, n=32):
    """Noisy tokens first, clean ones after: the mask of block diffusion language models."""
    noisy_q, noisy_k = q_idx < n, kv_idx < n
    block_q = torch.where(noisy_q, q_idx // S, (q_idx - n) // S)
    block_k = torch.where(noisy_k, kv_idx // S, (kv_idx - n) // S)
    diagonal = (block_q == block_k) & (noisy_q == noisy_k)
    offset = (block_q > block_k) & ~noisy_k & noisy_q
    clean = (block_q >= block_k) & ~noisy_k & ~noisy_q
    return diagonal | offset | clean


def streaming_llm(b, h, q_idx, kv_idx):
    return (q_idx >= kv_idx) & ((kv_idx < SINKS) | (q_idx - kv_idx <= W))


WELL_KNOWN = {
    "causal": (causal, hd.causal),
    "sliding window": (sliding_window, hd.window(W - 1, 0)),
    "prefix LM": (prefix_lm, hd.causal | hd.affine_set(f"(i, j) : ({PREFIX - 1} - j >= 0)")),
    "dilated": (dilated, hd.window(5, 0, DIL)),
    "block causal": (block_causal, hd.coarse(S, hd.causal)),
    "sliding tile 2-D": (sliding_tile_2d, hd.grid(WIDTH, hd.coarse(T, hd.window(1, 1)), hd.coarse(T, hd.window(1, 1)))),
    "StreamingLLM": (streaming_llm, hd.causal & (hd.window(W, 0) | hd.affine_set(f"(i, j) : ({SINKS - 1} - j >= 0)"))),
    "block diffusion": (
        block_diffusion,
        (hd.parse("affine_set<(i, j) : (31 - i >= 0, 31 - j >= 0)>") & hd.block(S))
        | (hd.parse("affine_set<(i, j) : (31 - i >= 0, j - 32 >= 0)>") & hd.coarse(S, hd.causal(-3)))
        | (hd.parse("affine_set<(i, j) : (i - 32 >= 0, j - 32 >= 0)>") & hd.coarse(S, hd.causal)),
    ),
}  # fmt: skip


def _flex(fn, nq: int, nk: int, q_offset: int = 0) -> np.ndarray:
    """The mask as torch itself computes it."""
    i, j = torch.arange(nq)[:, None] + q_offset, torch.arange(nk)[None, :]
    zero = torch.zeros((), dtype=torch.int64)
    return torch.broadcast_to(fn(zero, zero, i, j), (nq, nk)).numpy()


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_traced_mask_is_the_function(name: str) -> None:
    fn, _ = WELL_KNOWN[name]
    assert (hd.holds(fn).mask(90, 100, 3) == _flex(fn, 90, 100, 3)).all()


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_traced_mask_equals_its_one_line_spec(name: str) -> None:
    fn, spec = WELL_KNOWN[name]
    assert hd.holds(fn) == spec
    assert hd.holds(fn) != spec - hd.affine_set("(i, j) : (i - 40 == 0, j - 40 == 0)")


def _inside(n: int) -> hd.Pattern:
    """Both positions in [0, n): NATTEN's window is only defined there."""
    return hd.affine_set(f"(i, j) : (i >= 0, {n - 1} - i >= 0, j >= 0, {n - 1} - j >= 0)")


def test_natten_1d_equals_neighborhood() -> None:
    inside = _inside(N1)
    assert (hd.holds(natten_1d).mask(N1) == hd.neighborhood(K1, N1).mask(N1)).all()
    assert hd.holds(natten_1d) & inside == hd.neighborhood(K1, N1) & inside


def test_natten_2d_equals_a_grid_of_neighborhoods() -> None:
    spec = hd.grid(WIDTH, hd.neighborhood(K2, HEIGHT), hd.neighborhood(K2, WIDTH))
    inside = _inside(HEIGHT * WIDTH)
    assert (hd.holds(natten_2d).mask(HEIGHT * WIDTH) == spec.mask(HEIGHT * WIDTH)).all()
    assert hd.holds(natten_2d) & inside == spec & inside


def test_document_mask_is_same() -> None:
    docs = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2, 3, 3]])

    def document(b, h, q_idx, kv_idx):
        return (docs[b, q_idx] == docs[b, kv_idx]) & (q_idx >= kv_idx)

    assert hd.holds(document) == hd.same(docs) & hd.causal
    assert hd.holds(document) != hd.same(docs)
    for b in range(2):
        assert (hd.holds(document).mask(8, b=b) == (hd.same(docs) & hd.causal).mask(8, b=b)).all()


# The language of traced functions

EXPRESSIONS = [
    lambda i, j: i // 3 == j % 4,
    lambda i, j: -i // 3 < -(j % 5),
    lambda i, j: (i - 20) % 7 == (j - 20) // 2,
    lambda i, j: (i ^ j) & 3 == 0,
    lambda i, j: (i << 1) - (j >> 1) > 4,
    lambda i, j: ~(i > j) | (i == 2),
    lambda i, j: ~i + j > 0,
    lambda i, j: (i > 3) ^ (j > 5),
    lambda i, j: i / 3 > j / 7 + 0.5,
    lambda i, j: i * j % 6 == 0,
    lambda i, j: i**2 <= 3 * j,
    lambda i, j: i - j < 2,
    lambda i, j: (i > j) == (i > 3),
]


@pytest.mark.parametrize("n", range(len(EXPRESSIONS)))
def test_operators_mean_what_they_mean_on_integers(n: int) -> None:
    fn = EXPRESSIONS[n]
    i, j = np.arange(-5, 25)[:, None], np.arange(-3, 20)[None, :]
    want = np.broadcast_to(fn(i, j), (30, 23))
    got = hd.holds(lambda b, h, i, j: fn(i, j)).mask(30, 23, -5, k_offset=-3)
    assert (got == want).all()


@pytest.mark.parametrize(
    "fn",
    [
        lambda b, h, i, j: torch.where(i > 3, j < 5, i >= j),
        lambda b, h, i, j: torch.logical_and(i >= j, torch.remainder(i, 3) == 0),
        lambda b, h, i, j: torch.logical_or(i == j, torch.logical_not(i > 2)),
        lambda b, h, i, j: torch.maximum(i, j) - torch.minimum(i, j) < 4,
        lambda b, h, i, j: torch.floor_divide(i, 4) == torch.div(j, 4, rounding_mode="floor"),
        lambda b, h, i, j: (i - j).abs().le(3),
        lambda b, h, i, j: i.clamp(2, 6).eq(j),
        lambda b, h, i, j: torch.exp(-(i - j) * 0.1) < 0.7,
        lambda b, h, i, j: torch.sqrt(i * 1.0) > torch.tanh(j * 0.1) * 3,
        lambda b, h, i, j: (i.float() / 2).floor() == j.to(torch.float32),
    ],
)
def test_torch_functions_are_traced(fn) -> None:
    assert (hd.holds(fn).mask(12, 14, 1) == _flex(fn, 12, 14, 1)).all()


def test_heddle_functions_are_those_of_numbers() -> None:
    for name in ("tanh", "exp", "log", "sqrt", "sin", "cos", "erf"):
        fn = getattr(hd, name)
        assert fn(0.5) == getattr(math, name)(0.5)
    assert hd.clamp(7, 1, 5) == 5
    assert hd.select(True, 1, 2) == 1
    p = hd.holds(lambda b, h, i, j: hd.sigmoid(i - j) > 0.75)
    assert (p.mask(9) == (1 / (1 + np.exp(-(np.arange(9)[:, None] - np.arange(9)))) > 0.75)).all()


def test_constants_and_calls() -> None:
    assert hd.holds(lambda b, h, i, j: True) is hd.full
    assert hd.holds(lambda b, h, i, j: False).is_empty()
    assert hd.holds(hd.causal) is hd.causal
    near = hd.holds(functools.partial(lambda w, b, h, i, j: i - j < w, 3))
    assert (near.mask(9) == hd.affine_set("(i, j) : (2 - i + j >= 0)").mask(9)).all()


def test_functions_take_part_in_the_algebra() -> None:
    p = hd.causal & (lambda b, h, i, j: i - j < 3)
    assert (p.mask(9) == hd.window(2, 0).mask(9)).all()


def test_captured_scalars_are_operands() -> None:
    w = hd.scalar(2)
    p = hd.holds(lambda b, h, i, j: (i >= j) & (i - j <= w))
    assert (p.mask(9) == hd.window(2, 0).mask(9)).all()
    w.value = 4
    assert (p.mask(9) == hd.window(4, 0).mask(9)).all()
    offset = torch.tensor(3)
    assert (hd.holds(lambda b, h, i, j: j <= i + offset).mask(9) == hd.causal(-3).mask(9)).all()


def test_captured_tensors_are_indexed_by_position_and_clamped() -> None:
    flags = torch.tensor([True, False, True])
    live = hd.holds(lambda b, h, i, j: flags[j]).mask(1, 6)[0]
    assert list(live) == [True, False, True, True, True, True]
    table = hd.tensor(np.arange(6, dtype=np.int32).reshape(2, 3))
    p = hd.holds(lambda b, h, i, j: table[i % 2][j % 3] == 4)
    assert list(zip(*np.nonzero(p.mask(2, 3)), strict=True)) == [(1, 1)]


# Keys: code and closure values


def _formula(**kw) -> tuple:
    q = torch.zeros(1, 2, 4, 8)
    return _spec.prepare(q, [hd.segment(q, q, kw.get("where", hd.full), score=kw.get("score"))]).key


def _alibi(slope, factor: float):
    return lambda s, b, h, i, j: s - slope[h] * (i - j) * factor


def test_functions_are_keyed_by_code_and_closure_values() -> None:
    one, two = torch.rand(2), torch.rand(2)
    assert _formula(score=_alibi(one, 1.0)) == _formula(score=_alibi(two, 1.0))
    assert _formula(score=_alibi(one, 1.0)) != _formula(score=_alibi(one, 2.0))

    def mask(w: int):
        return lambda b, h, i, j: (i >= j) & (i - j < w)

    assert _formula(where=mask(5)) == _formula(where=mask(5))
    assert _formula(where=mask(5)) != _formula(where=mask(6))


def test_a_function_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    roots = []
    finish = _trace._finish
    monkeypatch.setattr(_trace, "_finish", lambda root, captures: roots.append(root) or finish(root, captures))

    def make(factor: float):
        table = torch.rand(3)
        return lambda s, b, h, i, j: s * factor + table[h]

    keys = {_formula(score=make(0.375)) for _ in range(5)}
    assert len(keys) == 1
    assert len(roots) == 1
    _formula(score=make(0.875))
    assert len(roots) == 2


def test_a_cached_trace_holds_no_tensors() -> None:
    import gc
    import weakref

    table = torch.rand(5)
    alive = weakref.ref(table)
    _formula(score=_alibi(table, 0.625))
    del table
    gc.collect()
    assert alive() is None


def test_what_has_no_key_is_traced_anew() -> None:
    class Settings:
        factor = 2.0

    settings = Settings()

    def score(s, b, h, i, j):
        return s * settings.factor

    first = _formula(score=score)
    assert _formula(score=score) == first
    settings.factor = 3.0
    assert _formula(score=score) != first


def test_global_values_are_part_of_the_key() -> None:
    global GLOBAL_FACTOR
    GLOBAL_FACTOR = 2.0

    def score(s, b, h, i, j):
        return s * GLOBAL_FACTOR

    first = _formula(score=score)
    GLOBAL_FACTOR = 3.0
    assert _formula(score=score) != first


GLOBAL_FACTOR = 1.0


# Scores as text


def _text(score, **kw) -> str:
    return str(hd.spec(score=score, d=16, **kw))


def test_score_text() -> None:
    slope = hd.tensor(np.ones(4, np.float32))
    text = _text(lambda s, b, h, i, j: hd.tanh(s / 30) * 30 - slope[h] * (i - j))
    for piece in (
        "score(%s, %b, %h, %i, %j) {",
        "arith.divf %s, %t",
        "math.tanh",
        "attn.load %c0[%h] : tensor<?xf32>",
        "arith.subi %i, %j : index",
        "arith.sitofp",
        "attn.yield",
        "captures(%c0)",
    ):
        assert piece in text, piece


def test_equal_parts_of_a_score_are_computed_once() -> None:
    text = _text(lambda s, b, h, i, j: hd.exp(s) + hd.exp(s))
    assert text.count("math.exp") == 1


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1.0, "1.0"),
        (1e-5, "1.0e-05"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (1e30, "1.0e+30"),
        (math.inf, "0x7F800000"),
        (-math.inf, "0xFF800000"),
        (1e300, "0x7F800000"),
    ],
)
def test_float_literals(x: float, text: str) -> None:
    assert _emit.float_text(x) == text


def test_float_literals_round_trip() -> None:
    rng = np.random.default_rng(0)
    for x in rng.integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32):
        if np.isfinite(x):
            assert np.float32(float(_emit.float_text(float(x)))) == x


# Refusals


@pytest.mark.parametrize(
    ("fn", "error", "text"),
    [
        (lambda b, h, i, j: i >= j and i < 4, TypeError, "cannot be traced"),
        (lambda b, h, i, j: 0 <= i - j < 4, TypeError, "chained comparisons"),
        (lambda b, h, i, j: (j > 2) if i > j else (j > 1), TypeError, "cannot be traced"),
        (lambda b, h, i, j: min(i, j) > 3, TypeError, "hd.minimum"),
        (lambda b, h, i, j: int(i) > 3, TypeError, "int\\(\\)"),
        (lambda b, h, i, j: float(i) > 3, TypeError, "float\\(\\)"),
        (lambda b, h, i, j: i.item() > 3, TypeError, "item"),
        (lambda b, h, i, j: range(i), TypeError, "hd.tensor"),
        (lambda b, h, i, j: [1, 2, 3][i] > 1, TypeError, "hd.tensor"),
        (lambda b, h, i, j: np.arange(5)[i] > 1, (TypeError, IndexError), "hd.tensor|valid indices"),
        (lambda b, h, i, j: i % 0 == 1, ZeroDivisionError, "not 0"),
        (lambda b, h, i, j: ~(i * 0.5), TypeError, "bool or an integer"),
        (lambda b, h, i, j: torch.zeros(3)[i, j] > 0, IndexError, "expected 1 indices"),
        (lambda b, h, i, j: torch.zeros(3, 3)[i] > 0, TypeError, "expected 2 indices"),
        (lambda b, h, i, j: torch.zeros(3)[i * 0.5] > 0, TypeError, "integer indices"),
        (lambda b, h, i, j: torch.fft.fft(i), TypeError, "can be traced"),
        (lambda b, h, i, j: torch.zeros(3) > i, TypeError, "expected a scalar"),
        (lambda b, h, i, j: "yes", TypeError, "expected a number"),
        (lambda b, h, i, j: None, TypeError, "returns a condition, but got None"),
        (lambda b, h, i, j: i * 0.5, TypeError, "returns a condition, but got a float"),
    ],
)
def test_what_cannot_be_traced_is_refused(fn, error, text: str) -> None:
    with pytest.raises(error, match=text):
        hd.holds(fn)


def test_a_condition_is_no_score() -> None:
    with pytest.raises(TypeError, match="use where="):
        _text(lambda s, b, h, i, j: i > j)


def test_captured_tensors_are_checked() -> None:
    with pytest.raises(TypeError, match="float64"):
        hd.tensor(np.zeros(3))
    with pytest.raises(TypeError, match="expected a NumPy array or a torch tensor, but got list"):
        hd.tensor([1.0, 2.0])


def test_numpy_functions_are_traced_and_arrays_are_refused() -> None:
    q = np.ones((1, 1, 4, 8), np.float32)
    table = np.ones(4, np.float32)
    by_ours = hd.attend(q, q, q, score=lambda s, b, h, i, j: hd.tanh(s) * 2)
    np.testing.assert_array_equal(by_ours, hd.attend(q, q, q, score=lambda s, b, h, i, j: np.tanh(s) * np.float32(2)))
    for score, message in (
        (lambda s, b, h, i, j: s + table[i], r"wrap (the|an) array in hd\.tensor"),
        (lambda s, b, h, i, j: s + table, r"but got a tensor of shape \[4\]; index it by b, h, i, j"),
        (lambda s, b, h, i, j: np.arctan(s), r"but got numpy\.arctan"),
        (lambda s: s, r"expected a score function of 5 arguments .* but got one of \(s\)"),
    ):
        with pytest.raises((TypeError, IndexError), match=message):
            hd.attend(q, q, q, score=score)
    with pytest.raises(
        TypeError, match=r"expected a mask function of 4 arguments \(b, h, i, j\), but got one of \(i, j\)"
    ):
        hd.attend(q, q, q, where=lambda i, j: i >= j)
    with pytest.raises(TypeError, match=r"expected dots as pairs \(query, key\), but got ndarray"):
        hd.attend(q, segments=[hd.segment(q, q, dots=[q])])


def test_signed_zeros_are_other_values() -> None:
    q = np.ones((1, 1, 4, 8), np.float32)
    v = np.eye(4, 8, dtype=np.float32)[None, None]

    def run(zero: float) -> np.ndarray:
        return hd.attend(q, q, v, score=lambda s, b, h, i, j: hd.select(1.0 / ((s * 0 + 1) * zero) > 0, s, -s * j))

    assert not np.array_equal(run(0.0), run(-0.0))
