"""`attend` from Python: kinds of tensors, layouts, arguments, errors, merge, specs, kernels."""

from __future__ import annotations

import array
import ctypes
import math
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import heddle as hd

RNG = np.random.default_rng(7)


def inputs(b=2, h=4, n=40, d=16, hk=2, nk=None, dv=None, dtype=np.float32):
    nk = n if nk is None else nk
    q = RNG.standard_normal((b, h, n, d)).astype(dtype)
    k = RNG.standard_normal((b, hk, nk, d)).astype(dtype)
    v = RNG.standard_normal((b, hk, nk, d if dv is None else dv)).astype(dtype)
    return q, k, v


def formula(q, k, v, live, scale=None, bias=0.0, sink=None):
    """out and lse of the definition, in float64, with a boolean mask that broadcasts to [B, H, Nq, Nk]."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    s = q @ np.swapaxes(k, 2, 3) * (1 / math.sqrt(q.shape[3]) if scale is None else scale) + bias
    s = np.where(np.broadcast_to(live, s.shape), s, -np.inf)
    m = s.max(axis=3, keepdims=True)
    if sink is not None:
        m = np.maximum(m, np.asarray(sink, np.float64)[None, :, None, None])
    m = np.where(np.isneginf(m), 0, m)
    p = np.exp(s - m)
    z = p.sum(axis=3, keepdims=True)
    if sink is not None:
        z = z + np.exp(np.asarray(sink, np.float64)[None, :, None, None] - m)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(z > 0, (p @ v) / z, 0), (m + np.log(z))[..., 0]


def close(got, want, tolerance=2e-5):
    got = np.asarray(got.double() if isinstance(got, torch.Tensor) else got, np.float64)
    assert got.shape == want.shape
    assert (np.isneginf(got) == np.isneginf(want)).all()
    finite = np.isfinite(want)
    assert np.abs(got[finite] - want[finite]).max(initial=0) < tolerance


# Kinds of tensors


def test_numpy() -> None:
    q, k, v = inputs()
    out, lse = hd.attend(q, k, v, where=hd.causal & hd.window(5, 0), return_lse=True)
    assert isinstance(out, np.ndarray) and isinstance(lse, np.ndarray)
    assert out.dtype == lse.dtype == np.float32
    want, want_lse = formula(q, k, v, hd.window(5, 0).mask(40))
    close(out, want)
    close(lse, want_lse)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_torch(dtype: torch.dtype) -> None:
    q, k, v = (torch.from_numpy(x).to(dtype) for x in inputs())
    out = hd.attend(q, k, v, where=hd.causal)
    assert isinstance(out, torch.Tensor) and out.dtype == dtype and not out.requires_grad
    want, _ = formula(*(x.float() for x in (q, k, v)), hd.causal.mask(40))
    close(out, want, {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype])


def test_numpy_float16() -> None:
    q, k, v = inputs(dtype=np.float16)
    out = hd.attend(q, k, v)
    assert out.dtype == np.float16
    close(out, formula(q, k, v, True)[0], 4e-3)


class OnlyDlpack:
    """A tensor of some other library: DLPack and nothing else."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __dlpack__(self, **kw):
        return self.x.__dlpack__(**kw)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


def test_dlpack_and_buffers() -> None:
    q, k, v = inputs()
    want, _ = formula(q, k, v, True)
    close(hd.attend(*(OnlyDlpack(x) for x in (q, k, v))), want)
    flat = array.array("f", q.reshape(-1))
    close(hd.attend(memoryview(flat).cast("B").cast("f", q.shape), k, v), want)
    assert isinstance(ctypes.c_float(0).value, float)


def test_mixed_kinds_follow_q() -> None:
    q, k, v = inputs()
    out = hd.attend(torch.from_numpy(q), k, v)
    assert isinstance(out, torch.Tensor)
    assert isinstance(hd.attend(q, torch.from_numpy(k), v), np.ndarray)


# Layouts and strides


def test_bnhd() -> None:
    q, k, v = inputs(dv=24)
    want, lse = formula(q, k, v, hd.causal.mask(40))
    got, got_lse = hd.attend(
        *(np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)), where=hd.causal, layout="bnhd", return_lse=True
    )
    close(got, want.swapaxes(1, 2))
    close(got_lse, lse)
    assert got.flags.c_contiguous


def test_out_follows_the_strides_of_q() -> None:
    q, k, v = inputs()
    rows_first = np.ascontiguousarray(q.swapaxes(1, 2)).swapaxes(1, 2)
    assert hd.attend(rows_first, k, v).swapaxes(1, 2).flags.c_contiguous
    t = torch.from_numpy(rows_first.copy())
    t = t.transpose(1, 2).contiguous().transpose(1, 2)
    assert hd.attend(t, k, v).stride() == t.stride()
    wide = hd.attend(t, k, np.concatenate([v, v], 3))
    assert wide.transpose(1, 2).is_contiguous() and wide.shape[3] == 32


@pytest.mark.parametrize("kind", ["negative", "inner", "offset", "expanded"])
def test_strides(kind: str) -> None:
    q, k, v = inputs(d=16)
    want, _ = formula(q, k, v, hd.causal.mask(40))
    if kind == "negative":
        args = [np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1] for x in (q, k, v)]
        assert args[0].strides[3] < 0
    elif kind == "inner":
        args = [np.asfortranarray(x) for x in (q, k, v)]
        assert args[0].strides[3] != 4
    elif kind == "offset":
        args = [np.pad(x, ((1, 1), (0, 2), (3, 1), (5, 7)))[1:-1, :-2, 3:-1, 5:-7] for x in (q, k, v)]
    else:
        k, v = k[:1], v[:1]
        want, _ = formula(q, np.repeat(k, 2, 0), np.repeat(v, 2, 0), hd.causal.mask(40))
        args = [q, np.broadcast_to(k, (2, *k.shape[1:])), v]
        assert args[1].strides[0] == 0
    close(hd.attend(*args, where=hd.causal), want)


def test_out_argument() -> None:
    q, k, v = inputs()
    out = np.full((2, 4, 80, 16), np.nan, np.float32)[:, :, ::2]
    assert hd.attend(q, k, v, out=out) is out
    close(out, formula(q, k, v, True)[0])
    assert np.isnan(out.base[:, :, 1::2]).all()


# Arguments


def test_scale_sink_and_score() -> None:
    q, k, v = inputs()
    slope = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
    sink = RNG.standard_normal(4).astype(np.float32)
    i, j = np.arange(40)[:, None], np.arange(40)[None, :]
    bias = -slope[None, :, None, None].astype(np.float64) * (i - j)
    table = hd.tensor(slope)
    out, lse = hd.attend(
        q, k, v, where=hd.causal, scale=0.2, sink=sink, score=lambda s, b, h, i, j: s - table[h] * (i - j),
        return_lse=True,
    )  # fmt: skip
    want, want_lse = formula(q, k, v, i >= j, 0.2, bias, sink)
    close(out, want)
    close(lse, want_lse)


@pytest.mark.parametrize(
    "offset", [5, "end", np.array([5, 2]), torch.tensor([5, 2]), torch.tensor(5), hd.scalar(5), np.int64(5)]
)
def test_q_offset(offset) -> None:
    q, k, v = inputs(n=7, nk=40)
    first = {"end": [33, 33]}.get(offset) if isinstance(offset, str) else None
    if first is None:
        first = [5, 2] if getattr(offset, "shape", ()) == (2,) else [5, 5]
    i = np.arange(7)[None, None, :, None] + np.array(first)[:, None, None, None]
    close(hd.attend(q, k, v, where=hd.causal, q_offset=offset), formula(q, k, v, np.arange(40) <= i)[0])


def test_k_offset_and_segments() -> None:
    q, k, v = inputs(n=10, nk=30)
    i, j = np.arange(10)[:, None] + 20, np.arange(30)[None, :]
    want, want_lse = formula(q, k, v, j <= i)
    parts = [hd.segment(k[:, :, :12], v[:, :, :12]), hd.segment(k[:, :, 12:], v[:, :, 12:], hd.causal, k_offset=12)]
    out, lse = hd.attend(q, segments=parts, q_offset=20, return_lse=True)
    close(out, want)
    close(lse, want_lse)
    halves = [
        hd.attend(q, k[:, :, :12], v[:, :, :12], return_lse=True),
        hd.attend(q, k[:, :, 12:], v[:, :, 12:], where=hd.causal, q_offset=20, k_offset=12, return_lse=True),
    ]
    for convert in (lambda x: x, torch.from_numpy):
        merged, merged_lse = hd.merge([(convert(o), convert(z)) for o, z in halves])
        close(merged, want)
        close(merged_lse, want_lse)


def test_merge_of_empty_rows() -> None:
    q, k, v = inputs(n=4)
    nothing = hd.attend(q, k, v, where=~hd.full, return_lse=True)
    some = hd.attend(q, k, v, where=hd.keys([1]), return_lse=True)
    out, lse = hd.merge([nothing, some])
    close(out, some[0].astype(np.float64))
    out, lse = hd.merge([nothing, nothing])
    assert (out == 0).all() and np.isneginf(lse).all()


def test_dots_and_normalizers() -> None:
    q, k, v = inputs(hk=4)
    r = RNG.standard_normal(k.shape).astype(np.float32)
    want, _ = formula(q, k, v, True, scale=0.25, bias=0.25 * (q.astype(np.float64) @ r.swapaxes(2, 3)))
    got = hd.attend(q, segments=[hd.segment(k, v, dots=[(q, k), (q, r)], score=lambda s, t, b, h, i, j: s + t)])
    alone = hd.attend(q, k, v, dots=[(q, k), (q, r)], score=lambda s, t, b, h, i, j: s + t)
    np.testing.assert_array_equal(alone, got)
    close(got, want)
    weights = 0.25 * (q.astype(np.float64) @ k.swapaxes(2, 3))
    close(hd.attend(q, k, v, normalizer="none"), weights @ v, 1e-4)
    positive = np.abs(weights) + 1
    got = hd.attend(q, k, v, normalizer="sum", score=lambda s, b, h, i, j: hd.abs(s) + 1)
    close(got, positive @ v / positive.sum(3, keepdims=True))
    mixed = hd.attend(
        q, segments=[hd.segment(k, v, dots=[], score=lambda b, h, i, j: (i + 1) * 0.5 - j)], normalizer="none"
    )
    i, j = np.arange(40)[:, None], np.arange(40)[None, :]
    close(mixed, np.broadcast_to((i + 1) * 0.5 - j, weights.shape) @ v, 1e-3)


def test_runtime_operands() -> None:
    q, k, v = inputs()
    docs = RNG.integers(0, 3, (2, 40))
    valid = RNG.random((2, 40)) < 0.7
    live = (docs[:, None, :, None] == docs[:, None, None, :]) & valid[:, None, None, :] & hd.causal.mask(40)
    want, _ = formula(q, k, v, live)
    close(hd.attend(q, k, v, where=hd.causal & hd.same(docs) & hd.keys(valid)), want)
    ids, flags = torch.from_numpy(docs), torch.from_numpy(valid)

    def mask_mod(b, h, q_idx, kv_idx):
        return (q_idx >= kv_idx) & (ids[b, q_idx] == ids[b, kv_idx]) & flags[b, kv_idx]

    close(hd.attend(q, k, v, where=mask_mod), want)
    lens = np.array([3, 31], np.int64)
    close(hd.attend(q, k, v, where=hd.lengths(lens)), formula(q, k, v, np.arange(40) < lens[:, None, None, None])[0])


def test_reference_agrees() -> None:
    q, k, v = (torch.from_numpy(x) for x in inputs(n=17))
    kw = {"where": hd.causal & hd.stride(3), "score": lambda s, b, h, i, j: s * 0.5 - (i - j) * 0.1, "return_lse": True}
    out, lse = hd.attend(q, k, v, **kw)
    want, want_lse = hd.reference(q, k, v, **kw)
    assert want.dtype == torch.float64
    close(out, want.numpy())
    close(lse, want_lse.numpy())
    swapped = hd.reference(*(x.transpose(1, 2) for x in (q, k, v)), layout="bnhd", **kw)[0]
    close(swapped.transpose(1, 2), want.numpy(), 1e-12)


def test_empty_sizes() -> None:
    q, k, v = inputs()
    assert hd.attend(q[:, :, :0], k, v).shape == (2, 4, 0, 16)
    out, lse = hd.attend(q, k[:, :, :0], v[:, :, :0], return_lse=True)
    assert (out == 0).all() and np.isneginf(lse).all()
    assert hd.attend(q[:0], k[:0], v[:0]).shape == (0, 4, 40, 16)


# Errors


def bad(**changes):
    q, k, v = inputs()
    call = {"q": q, "k": k, "v": v, **changes}
    return hd.attend(call.pop("q"), call.pop("k"), call.pop("v"), **call)


Q, K, V = inputs()
ERRORS = [
    ({"q": Q[0]}, ValueError, r"expected q of shape \[B, H, N, D\], but got \[4, 40, 16\]"),
    ({"q": Q[0], "layout": "bnhd"}, ValueError, r"\[B, N, H, D\]"),
    ({"q": Q.astype(np.float64)}, TypeError, r"got float64; convert it .*astype\(np.float32\)"),
    ({"q": Q.astype(np.int32)}, TypeError, "expected float32, float16 or bfloat16 for q, but got int32"),
    ({"k": K.astype(np.float16)}, TypeError, "expected k of q's type float32, but got float16"),
    ({"v": V.astype(np.float64)}, TypeError, "for v, but got float64"),
    ({"k": K[..., :8]}, ValueError, "expected k with q's head dimension 16, but got 8"),
    ({"v": V[:, :, :39]}, ValueError, r"expected v with as many rows as its keys \(40\), but got 39"),
    ({"k": np.zeros((2, 3, 40, 16), np.float32)}, ValueError, "expected k with a number of heads that divides q's 4"),
    ({"k": np.zeros((3, 2, 40, 16), np.float32)}, ValueError, "expected k with batch 2 or 1, but got 3"),
    ({"q": Q[:, :, :7], "where": hd.causal}, ValueError, r"q_offset .*\(7\) differs .* keys \(40\)"),
    ({"scale": math.nan}, ValueError, "expected a scale that is finite in float32, but got nan"),
    ({"scale": math.inf}, ValueError, "expected a scale that is finite in float32, but got inf"),
    ({"scale": 1e300}, ValueError, r"expected a scale that is finite in float32, but got 1e\+300"),
    ({"scale": torch.tensor(1.0, requires_grad=True)}, ValueError, "expected scale without gradient"),
    ({"scale": "big"}, TypeError, "expected a number for scale"),
    ({"q": [1, 2]}, TypeError, "expected a NumPy array, a torch tensor or an object with DLPack for q, but got list"),
    ({"q": torch.zeros(2, 4, 40, 16, device="meta")}, TypeError, "expected a CPU tensor for q, but got meta"),
    ({"q": torch.zeros(2, 4, 40, 16, requires_grad=True)}, ValueError, "requires grad"),
    ({"k": torch.zeros(2, 2, 40, 16, requires_grad=True)}, ValueError, "expected k without gradient"),
    ({"layout": "nhwc"}, ValueError, "expected a layout among bhnd, bnhd, nhd, but got 'nhwc'"),
    ({"normalizer": "max"}, ValueError, "expected a normalizer among softmax, none, sum, but got 'max'"),
    ({"normalizer": "none", "return_lse": True}, ValueError, "lse"),
    ({"q_offset": "start"}, ValueError, '"end" for q_offset'),
    ({"q_offset": 1.5}, TypeError, "expected an integer for q_offset, but got float"),
    ({"q_offset": np.zeros((2, 2), np.int64)}, ValueError, "for q_offset, but got shape"),
    ({"q_offset": np.zeros(2)}, TypeError, "expected integers for q_offset"),
    ({"q_offset": [1.5, 2]}, TypeError, "expected integers for q_offset, but got float64"),
    ({"q_offset": 2**63}, ValueError, r"expected q_offset to be below 2\^30 in magnitude, but got 9223372036854775808"),
    ({"k_offset": 2**40}, ValueError, r"expected k_offset to be below 2\^30 in magnitude, but got 1099511627776"),
    ({"q": Q[..., :0], "k": K[..., :0]}, ValueError, "expected q with a head dimension from 1 to 1024, but got 0"),
    ({"v": V[..., :0]}, ValueError, "expected v with a head dimension from 1 to 1024, but got 0"),
    ({"sink": np.zeros((1, 4), np.float32)}, TypeError, r"expected float32 of shape \[heads\] or \[1\] for sink, but"),
    ({"sink": np.zeros(4, np.float16)}, TypeError, "for sink, but got float16"),
    (
        {"where": hd.keys(list(range(0, 40000, 3)) + list(range(1, 40000, 7)))}, ValueError,
        r"take at most 20000 operations, but got \d+; a long list can be a run-time one, as in keys\(%flags\)",
    ),
    ({"scale": "1"}, TypeError, "expected a number for scale, but got str"),
    ({"score": lambda s, b, h, i, j: None}, TypeError, "expected a score function that returns a number, but got None"),
    ({"max_waste": "much"}, TypeError, "expected a number for max_waste, but got str"),
    (
        {"score": lambda s, b, h, i, j: s + hd.tensor(np.zeros(5, np.float32))[5]}, IndexError,
        "expected an index from 0 to 4 in dimension 0 of a captured tensor, but got 5",
    ),
    (
        {"score": lambda s, b, h, i, j: s + hd.tensor(np.zeros((4, 5), np.float32))[h, -1]}, IndexError,
        "expected an index from 0 to 4 in dimension 1 of a captured tensor, but got -1",
    ),
    ({"score": lambda s, b, h, i, j: s + i * 2**70}, ValueError, "expected an integer of 64 bits in a traced function"),
    ({"q_offset": np.zeros(3, np.int64)}, ValueError, "expected .*but got"),
    ({"k_offset": "end"}, ValueError, "k_offset"),
    ({"where": 3}, TypeError, "expected a pattern or a function"),
    ({"score": 3}, TypeError, "expected a score function, but got int"),
    ({"k": None, "v": None}, TypeError, "expected k and v, or segments"),
    ({"segments": [hd.segment(K, V)]}, TypeError, "either k and v or segments, but got both"),
    ({"k": None, "v": None, "segments": []}, ValueError, "at least one segment"),
    ({"k": None, "v": None, "segments": [(K, V)]}, TypeError, "hd.segment"),
    ({"k": None, "v": None, "segments": [hd.segment(K, V)], "where": hd.causal}, TypeError, "on each segment"),
    ({"dots": []}, ValueError, "no dots"),
    ({"k": None, "v": None, "dots": []}, TypeError, "expected k and v with dots"),
    ({"k": None, "v": None, "segments": [hd.segment(K, V)], "dots": []}, TypeError, "dots on each segment"),
    ({"k": None, "v": None, "segments": [hd.segment(K, V, dots=[])]}, ValueError, "no dots"),
    ({"out": np.zeros((2, 4, 40, 8), np.float32)}, ValueError, "expected out of shape"),
    ({"out": np.zeros((2, 4, 40, 16), np.float16)}, TypeError, "expected out of q's type float32, but got float16"),
    ({"where": hd.parse("keys(%valid)")}, ValueError, "expected a value for the operand %valid"),
    ({"where": hd.keys(np.zeros((2, 39), bool))}, ValueError, "expected .*but got"),
    ({"where": hd.same(np.zeros((3, 40), np.int64))}, ValueError, "expected .*but got"),
    ({"k": None, "v": None, "segments": hd.segment(K, V)}, TypeError, "expected a list of segments, but got one"),
    ({"sink": np.zeros(3, np.float32)}, ValueError, "expected .*but got"),
]  # fmt: skip


@pytest.mark.parametrize("n", range(len(ERRORS)))
def test_errors_say_what_was_expected(n: int) -> None:
    changes, error, text = ERRORS[n]
    with pytest.raises(error, match=text):
        bad(**changes)


def test_gradients_are_refused_only_in_grad_mode() -> None:
    q, k, v = (torch.from_numpy(x) for x in inputs())
    q.requires_grad_()
    with torch.no_grad():
        assert not hd.attend(q, k, v).requires_grad
    with pytest.raises(ValueError, match="detach"):
        hd.attend(q, k, v)
    with pytest.raises(ValueError, match=r"expected x without gradient.* pass x\.detach\(\)"):
        hd.pool(q, "mean", 4)
    slope = hd.scalar(torch.tensor(0.5, requires_grad=True))
    with pytest.raises(ValueError, match="expected a scalar without gradient"):
        hd.attend(q.detach(), k, v, score=lambda s, b, h, i, j: s * slope)


def test_bad_out_is_refused() -> None:
    q, k, v = inputs(hk=4)
    with pytest.raises(ValueError, match=r"stride 0|read-only"):
        hd.attend(q, k, v, out=np.broadcast_to(np.zeros((1, 4, 40, 16), np.float32), (2, 4, 40, 16)))
    frozen = np.zeros_like(q)
    frozen.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        hd.attend(q, k, v, out=frozen)
    for name, x in (("q", q), ("k", k), ("v", v)):
        before = x.copy()
        with pytest.raises(ValueError, match=f"shares no memory with {name}"):
            hd.attend(q, k, v, out=x)
        assert (x == before).all()
    with pytest.raises(ValueError, match="expected out without gradient"):
        hd.attend(*(torch.from_numpy(x) for x in (q, k, v)), out=torch.zeros(2, 4, 40, 16, requires_grad=True))
    longer = np.zeros((2, 4, 60, 16), np.float32)  # a view with gaps
    with pytest.raises(ValueError, match="shares no memory with k"):
        hd.attend(q, longer[:, :, :40], v, out=longer[:, :, 20:])
    with pytest.raises(ValueError, match="shares no memory with v"):
        hd.attend(q, k, longer[:, :, 59:19:-1], out=longer[:, :, :40])
    hd.attend(q, longer[:, :, :20], longer[:, :, :20], out=np.zeros_like(longer)[:, :, 20:])
    short = longer[:, :, :20]
    hd.attend(short, short, short, out=longer[:, :, 20:40])
    packed = np.zeros((2, 4, 40, 4, 16), np.float32)
    for n, x in enumerate((q, k, v)):
        packed[:, :, :, n] = x
    hd.attend(*(packed[:, :, :, n] for n in range(3)), out=packed[:, :, :, 3])
    close(packed[:, :, :, 3], formula(q, k, v, True)[0])


# One kernel, many calls


def fresh(body: str, tmp_path: Path) -> str:
    """Runs code in a new process with an empty cache."""
    import os

    env = {**os.environ, "HEDDLE_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", body], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


COUNTS = """
import numpy as np, heddle as hd
rng = np.random.default_rng(0)
def call(b, n, w, h=4, hk=2, **kw):
    q, k, v = (rng.standard_normal((b, x, n, 32)).astype(np.float32) for x in (h, hk, hk))
    out = hd.attend(q, k, v, where=hd.causal & hd.window(w, 0), **kw)
    live = np.tril(np.ones((n, n), bool)) & ~np.tril(np.ones((n, n), bool), -(w.get() + 1))
    s = q.astype(float) @ np.repeat(k, h // hk, 1).swapaxes(2, 3) * kw.get("scale", 32 ** -0.5)
    p = np.exp(np.where(live, s, -np.inf)); p /= p.sum(3, keepdims=True)
    assert np.abs(out - p @ np.repeat(v, h // hk, 1)).max() < 2e-5, (b, n, w)
call(1, 64, hd.scalar(3))
assert hd.compile_count() == 1, hd.compile_count()
for n in range(1, 100, 2): call(1, n, hd.scalar(3))
for b in range(1, 6): call(b, 33, hd.scalar(3))
for w in range(10): call(2, 50, hd.scalar(w))
for h, hk in ((1, 1), (8, 2), (6, 6)): call(2, 20, hd.scalar(4), h, hk)
assert hd.compile_count() == 1, hd.compile_count()
for s in (0.1, 0.2, 0.3): call(2, 20, hd.scalar(4), scale=s)
assert hd.compile_count() == 2, hd.compile_count()
"""


def test_one_kernel_for_lengths_batches_widths_heads(tmp_path: Path) -> None:
    fresh(COUNTS, tmp_path)


SHARED = """
import numpy as np, heddle as hd
q = np.ones((1, 1, 8, 8), np.float32)
hd.attend(q, q, q, where=hd.window(63, 0))
hd.attend(q, q, q, where=hd.causal & hd.window(63, 63))
hd.attend(q, q, q, where=lambda b, h, i, j: (i >= j) & (i - j < 64))
print(hd.compile_count())
hd.attend(q, q, q, where=hd.window(62, 0))
print(hd.compile_count())
"""


def test_spellings_share_a_kernel(tmp_path: Path) -> None:
    assert fresh(SHARED, tmp_path).split() == ["1", "2"]


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    body = SHARED.replace("print(hd.compile_count())", "print(hd.compile_count(), hd.cache_stats()['disk_hits'])")
    assert fresh(body, tmp_path).split() == ["1", "0", "2", "0"]
    assert fresh(body, tmp_path).split() == ["0", "1", "0", "2"]


def test_threads_may_call_at_once() -> None:
    q, k, v = inputs(n=50)
    want, _ = formula(q, k, v, hd.stride(3).mask(50))
    failures = []

    def work() -> None:
        try:
            for _ in range(20):
                close(hd.attend(q, k, v, where=hd.stride(3)), want)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not failures


def test_the_lock_is_released_while_a_kernel_runs() -> None:
    q, k, v = inputs(b=4, h=8, n=1500, d=64, hk=8)
    hd.attend(q[:, :, :8], k, v)
    ticks, done = [], threading.Event()

    def count() -> None:
        while not done.is_set():
            ticks.append(1)

    ticker = threading.Thread(target=count)
    ticker.start()
    before = len(ticks)
    hd.attend(q, k, v)
    after = len(ticks)
    done.set()
    ticker.join()
    assert after > before


# Specs and kernels


def test_spec_is_the_dialects_text() -> None:
    text = str(hd.spec(where=hd.causal & hd.stride(4), heads=(32, 8), d=128, dtype="bf16"))
    assert text.startswith("func.func @attend(%q: tensor<?x32x?x128xbf16>, %k: tensor<?x8x?x128xbf16>")
    assert "attn.attend %q" in text
    assert str(hd.spec(d=8)) == str(hd.spec(where=hd.full, d=8))
    with pytest.raises(TypeError, match="expected a dtype among"):
        hd.spec(d=8, dtype="f64")
    with pytest.raises(ValueError, match="expected d between 1 and 1024"):
        hd.spec(d=0)
    with pytest.raises(ValueError, match="query heads"):
        hd.spec(d=8, heads=(4, 3))


def test_compile_save_and_load(tmp_path: Path) -> None:
    q, k, v = inputs(d=24)
    spec = hd.spec(where=hd.causal & hd.window(hd.scalar(6), 0), d=24, return_lse=True)
    kernel = hd.compile(spec)
    want, want_lse = formula(q, k, v, hd.window(6, 0).mask(40))
    out, lse = kernel(q, k, v)
    close(out, want)
    close(lse, want_lse)
    close(kernel(q, k, v, 2)[0], formula(q, k, v, hd.window(2, 0).mask(40))[0])
    path = tmp_path / "k.bundle"
    kernel.save(path)
    loaded = hd.load(path)
    close(loaded(*(torch.from_numpy(x) for x in (q, k, v)), 6)[0], want)
    with pytest.raises(ValueError, match="expected 4 arguments"):
        loaded(q, k)
    with pytest.raises(ValueError, match="loaded from a bundle"):
        loaded.ir()
    with pytest.raises(
        FileNotFoundError, match="expected a spec's text or the path of a file with it, but got 'casual'"
    ):
        hd.compile("casual")
    file = tmp_path / "spec.mlir"
    file.write_text(str(spec))
    close(hd.compile(file)(q, k, v, 6)[0], want)
    close(hd.compile(str(spec))(q, k, v, 6)[0], want)


def test_kernel_shows_its_ir_and_schedule() -> None:
    kernel = hd.compile(hd.spec(where=hd.causal, d=16))
    assert "attn.attend" in kernel.ir("attn")
    assert "#attn.schedule" in kernel.ir("schedule")
    assert "define" in kernel.ir("llvm-ir")
    words = kernel.explain(b=1, h=2, nq=64, nk=64, d=16)
    assert "live pairs" in words
    report = kernel.explain(b=1, h=2, nq=64, nk=64, d=16, as_json=True)
    assert isinstance(report, dict)
    with pytest.raises(ValueError, match="expected"):
        kernel.ir("nonsense")


def test_a_spec_that_does_not_compile_says_where() -> None:
    text = str(hd.spec(where=hd.causal, d=16))
    with pytest.raises(ValueError, match=r":\d+:\d+: error: .*expected a pattern, but got 'casual'"):
        hd.compile(text.replace("causal", "casual"))


def test_damaged_bundles_are_refused(tmp_path: Path) -> None:
    kernel = hd.compile(hd.spec(d=16))
    path = tmp_path / "k.bundle"
    kernel.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((ValueError, RuntimeError)):
        hd.load(path)
    with pytest.raises((ValueError, RuntimeError, OSError)):
        hd.load(tmp_path / "missing.bundle")


def test_explain_predicts_and_measures() -> None:
    """Less work is predicted to take less time; a run sets the measured time beside it."""
    dense, window = (hd.explain(p, 2048, as_json=True)["time"] for p in (hd.full, hd.window(63, 0)))
    assert 0 < window["predicted_seconds"] < dense["predicted_seconds"]
    assert window["dense_seconds"] == pytest.approx(dense["predicted_seconds"])
    run = hd.explain(hd.causal, 64, heads=1, d=16, run=True, as_json=True)["time"]
    assert run["measured_seconds"] > 0
    assert "measured" in hd.explain(hd.causal, 64, heads=1, d=16, dtype="bf16", run=True)
    with pytest.raises(ValueError, match="run-time operands"):
        hd.explain(hd.cluster(np.zeros((1, 64), np.int32)), 64, run=True)


@pytest.mark.parametrize(("nq", "lanes"), [(1, 4), (2, 8), (3, 16), (5, 32), (20, 48)])
def test_explain_counts_tiles_that_heads_share(nq: int, lanes: int) -> None:
    """Four query heads read one key head: their few queries are lanes of one tile, which takes whole columns."""
    kernel = hd.compile(hd.spec(heads=(8, 2), d=64, q_offset="end"))
    told = kernel.explain(as_json=True, b=3, h=8, nq=nq, nk=6000, threads=1)
    tiles = 3 * 2 * (2 if nq == 20 else 1)  # twenty queries of two heads fill a tile
    assert told["executed_pairs"] == pytest.approx(tiles * lanes * 6000, rel=0.01)
    assert told["live_pairs"] == 3 * 8 * nq * 6000
    alone = hd.compile(hd.spec(heads=(8, 8), d=64, q_offset="end"))
    apart = alone.explain(as_json=True, b=3, h=8, nq=nq, nk=6000, threads=1)
    assert told["time"]["compute_seconds"] < apart["time"]["compute_seconds"]


def test_show_and_explain(tmp_path: Path) -> None:
    path = hd.show(hd.causal & (hd.window(7, 0) | hd.stride(8)), 64, tmp_path / "p.png", tile=16)
    data = Path(path).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    text = hd.explain(hd.causal, 128, heads=2)
    assert "live pairs" in text
    live = hd.causal.count(128) * 2
    assert f"{live:,}" in text


def test_tiles_by_kind() -> None:
    from heddle._draw import tile_kinds

    assert tile_kinds(hd.causal.mask(6), 2).tolist() == [[1, 0, 0], [2, 1, 0], [2, 2, 1]]


def test_max_waste() -> None:
    q, k, v = inputs(n=64)
    want, _ = formula(q, k, v, True)
    close(hd.attend(q, k, v, max_waste=0.0), want)
    close(hd.attend(q, k, v, where=hd.causal, max_waste=0.0), formula(q, k, v, hd.causal.mask(64))[0])

    def scattered(b, h, i, j):
        return (i * i + j) % 7 == 0

    with pytest.raises(ValueError, match="expected at most 10% of the computed pairs to be dead"):
        hd.attend(q, k, v, where=scattered, max_waste=0.1)
    close(hd.attend(q, k, v, where=scattered, max_waste=0.95), formula(q, k, v, hd.holds(scattered).mask(64))[0])
    table = hd.tensor(RNG.integers(0, 64, 64))
    with pytest.raises(ValueError, match="depends on the contents of tensors"):
        hd.attend(q, k, v, where=lambda b, h, i, j: table[i] == j, max_waste=0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        hd.attend(q, k, v, max_waste=2)


WARNS = """
import numpy as np, warnings, heddle as hd
x = np.ones((1, 1, 8, 16), np.float32)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for where in (hd.full, hd.causal): hd.attend(x, x, x, where=where)
    hd.num_threads()
print(*(w.message for w in seen), sep="\\n")
"""


def test_a_cache_that_cannot_be_written_and_a_bad_thread_count_are_told(tmp_path: Path) -> None:
    import os

    file = tmp_path / "file"
    file.write_text("")
    env = {**os.environ, "HEDDLE_CACHE_DIR": str(file / "cache"), "HEDDLE_NUM_THREADS": "many"}
    done = subprocess.run([sys.executable, "-c", WARNS], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    assert f"for the kernel cache, but got {file / 'cache'}: each process compiles again" in line
    assert "expected HEDDLE_NUM_THREADS to be a number of threads, but got 'many'" in done.stderr
    assert fresh(WARNS, tmp_path).strip() == ""


def test_threads_setting() -> None:
    n = hd.num_threads()
    hd.set_num_threads(1)
    assert hd.num_threads() == 1
    hd.set_num_threads(n)
    with pytest.raises(ValueError, match="at least 1"):
        hd.set_num_threads(0)


def test_lazily_negated_views_are_refused() -> None:
    z = torch.randn(1, 1, 4, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).conj()
    q = torch.ones(1, 1, 4, 8)
    with pytest.raises(ValueError, match=r"for k, but got a lazily negated view .*; call resolve_neg\(\)"):
        hd.attend(q, z.imag, q)
    x = z.imag.resolve_neg()
    np.testing.assert_allclose(hd.attend(x, x, x), hd.reference(x, x, x), atol=1e-5)


def test_starts_of_a_compiled_kernel() -> None:
    """As many of the queries as of the keys, whatever the spec left open."""
    q = RNG.standard_normal((1, 2, 10, 16)).astype(np.float32)
    starts = np.array([0, 4, 10], np.int32)
    kernel = hd.compile(hd.spec(hd.packed(starts, starts.copy(), hd.causal), d=16))
    np.testing.assert_allclose(
        kernel(q, q, q, starts, starts), hd.reference(q, q, q, where=hd.packed(starts, starts, hd.causal)), atol=1e-5
    )
    with pytest.raises(ValueError, match=r"expected as many starts of the queries as of the keys, but got 3 .* and 2"):
        kernel(q, q, q, starts, starts[1:])


def test_one_position_that_is_a_scalar() -> None:
    w = hd.scalar(3)
    with pytest.raises(TypeError, match=r"write hd.holds\(lambda b, h, i, j: j == x\)"):
        hd.keys([w])
    assert hd.holds(lambda b, h, i, j: j == w).mask(2, 5).tolist() == [[False, False, False, True, False]] * 2
