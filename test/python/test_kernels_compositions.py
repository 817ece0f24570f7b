"""Random compositions of the pieces against the oracle, op by op and as one kernel.

HEDDLE_SWEEP (seconds) tries as many seeds as fit; HEDDLE_SWEEP_SEED says from where.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sweep import sweep

import heddle as hd
from kernel_checks import array, built
from oracle import attention, compositions, patterns, scalars, tensor_ops, tolerance
from oracle.cases import TORCH, laid_out
from oracle.compositions import Composition, Part, composition

FEW = 24


def stored(x: Composition) -> dict[str, torch.Tensor]:
    """The tensors in the type and the layout asked for."""
    return {
        n: laid_out(t, x.dtype, x.layouts[n])
        if t.ndim == 4
        else torch.tensor(t, dtype=torch.float32).to(TORCH[x.dtype])
        for n, t in x.tensors.items()
    }


def summary(p: Part, x: dict[str, Any], name: str) -> Any:
    """A part's keys or values by the package's ops."""
    t = x[getattr(p, name)]
    o = p.options
    which = 0 if name == "k" else 1
    if p.source == "pool":
        return hd.pool(t, **o)
    if p.source == "project":
        return hd.project(t, x[o["weights"][which]])
    if p.source == "convolve":
        bias = x[o["bias"]] if o["bias"] and name == "k" else None
        return hd.convolve(t, x[o["weights"][which]], bias, stride=o["stride"], partial=o["partial"])
    if p.source == "gather":
        return hd.gather_rows(t, o["rows"])
    if p.source == "glue" and name == "k":
        return t * 0.5 + 0.25
    return t


def pattern(p: Part, by_name: bool) -> Any:
    """The part's pattern, its operands bound by name to the text or given to the Python form."""
    if not by_name:
        return built(patterns.parse(p.where), p.operands)
    names = patterns.parse(p.where).operands()
    return hd.parse(p.where).bind(**{n: p.operands[n] for n in names})


def run(x: Composition, t: dict[str, Any], heads: int) -> tuple[Any, ...]:
    """(out, lse or None, *summaries), of tensors or symbols."""
    segments, between = [], []
    for n, p in enumerate(x.parts):
        k, v = summary(p, t, "k"), summary(p, t, "v")
        between += [k, v]
        dots = None
        if p.second:
            dots = [(t["q"], k), (t[p.second[0]], t[p.second[1]])]
        elif p.relative:
            dots = [(t["q"], k), (t["q"], hd.relative(t[p.relative[0]], p.relative[1]))]
        score = compositions.score_of(hd, p.score, 2 if dots else 1, heads) if p.score else None
        segments.append(
            hd.segment(
                k, v, pattern(p, (x.seed + n) % 2 == 0), score=score, scale=p.scale, k_offset=p.k_offset, dots=dots
            )
        )
    lse = x.normalizer == "softmax"
    made = hd.attend(
        t["q"], segments=segments, scale=x.scale, sink=x.sink, normalizer=x.normalizer, q_offset=x.q_offset,
        return_lse=lse,
    )  # fmt: skip
    out, log = made if lse else (made, None)
    if x.rows is not None:
        special = hd.attend(hd.gather_rows(t["q"], x.rows), between[0], between[1], q_offset=0)
        out = hd.scatter_rows(special, x.rows, out)
    return (out, log, *between)


def judge(x: Composition, out: Any, lse: Any, between: list[Any], t: dict[str, torch.Tensor], label: str) -> None:
    """Compares summaries with their formulas, and the result with attention to these summaries."""
    exact = {n: array(v) for n, v in t.items()}
    pairs = [(array(between[2 * n]), array(between[2 * n + 1])) for n in range(len(x.parts))]
    for p, (k, v) in zip(x.parts, pairs, strict=True):
        for name, got in (("k", k), ("v", v)):
            (want, size), terms = compositions.summary(p, exact, name)
            assert got.shape == want.shape, f"{label}: {name} has shape {got.shape}, not {want.shape}"
            error = np.abs(got - want) - tensor_ops.bound(size, terms, x.dtype)
            assert not (error > 0).any(), f"{label}: {name} of {p.source} is {error.max():.3g} too far"
    want = compositions.judged(x, exact, pairs)
    rounded = None
    if x.dtype != "f32":
        rounded = compositions.judged(x, exact, pairs, round_weights=lambda w: tolerance.round_to(w, x.dtype))
    if x.rows is not None:
        for result in (want, rounded):
            if result is None:
                continue
            more = {} if result is want else {"round_weights": lambda w: tolerance.round_to(w, x.dtype)}
            special = compositions.class_of(x, exact, *pairs[0], **more)
            for b, h, m in np.ndindex(want.out.shape[0], want.out.shape[1], x.rows.shape[1]):
                at, source = (b, h, x.rows[b, m]), (b, h, m)
                result.out[at], result.weight[at] = special.out[source], special.weight[source]
                result.keys[at], result.top[at] = special.keys[source], max(result.top[at], special.top[source])
    verdict = tolerance.check(array(out), want, x.dtype, rounded, label)
    assert verdict, verdict.message
    if lse is not None:
        kept = compositions.judged(x, exact, pairs) if x.rows is not None else want
        verdict = tolerance.check_lse(array(lse), kept, label)
        assert verdict, verdict.message


def kernel_of(x: Composition, names: list[str], heads: int, keep: bool) -> Any:
    """The composition as one kernel; with `keep` its summaries come back as well."""

    def composed(*args: Any) -> Any:
        out, lse, *between = run(x, dict(zip(names, args, strict=True)), heads)
        made = [v for v in between if type(v).__name__ == "TensorValue" and not v.name.startswith("%a")]
        unique = [v for n, v in enumerate(made) if all(v is not w for w in made[:n])]
        return (out, *([] if lse is None else [lse]), *(unique if keep else []))

    return hd.kernel(composed)


def check(seed: int) -> None:
    """Runs the composition of a seed op by op, and as one kernel, which gives the same bits for the same strides."""
    x = composition(seed)
    t = stored(x)
    heads = t["q"].shape[1]
    keep = any(p.source == "glue" for p in x.parts)
    eager = x
    if keep:  # arithmetic between ops exists in kernels only
        t = dict(t)
        eager = composition(seed)
        for p in eager.parts:
            if p.source == "glue":
                t[p.k + "_glued"] = (t[p.k].float() * 0.5 + 0.25).to(t[p.k].dtype).contiguous()
                p.k, p.source = p.k + "_glued", "raw"
    out, lse, *between = run(eager, t, heads)
    judge(eager, out, lse, between, t, x.label)
    if x.tensors["q"].shape[2] == 0:
        return
    names = list(x.tensors)
    got = kernel_of(x, names, heads, False)(*(t[n] for n in names))
    got = got if isinstance(got, tuple) else (got,)
    if all(v.is_contiguous() for v in between if isinstance(v, torch.Tensor)):
        assert np.array_equal(array(got[0]), array(out), equal_nan=True), f"{x.label}: the kernel's bits differ"
        if lse is not None:
            assert np.array_equal(array(got[1]), array(lse), equal_nan=True), f"{x.label}: the kernel's lse differs"
    else:  # summaries of a kernel are dense; rows with gaps are added up in another order
        judge(eager, got[0], None if lse is None else got[1], between, t, x.label)


def test_compositions() -> None:
    sweep(FEW, check, lambda seed: composition(seed).label)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("normalizer", ["none", "sum"])
def test_weights_that_are_scores_in_every_type(dtype: str, normalizer: str) -> None:
    q, k, v = (torch.randn(1, 2, 40, n, generator=torch.Generator().manual_seed(n)).to(TORCH[dtype]) for n in (8, 8, 9))
    kw: dict[str, Any] = {"normalizer": normalizer}
    expected = attention.attend(
        array(q), array(k), array(v), where="causal", score=compositions.positive(scalars, 2), **kw
    ).out
    got = hd.attend(q, k, v, where=hd.causal, score=compositions.positive(hd, 2), **kw)
    assert np.abs(array(got) - expected).max() <= {"f16": 2e-3, "bf16": 2e-2}[dtype] * np.abs(expected).max()


def test_one_tensor_in_several_places() -> None:
    @hd.kernel
    def twice(q: Any, k: Any) -> Any:
        near = hd.segment(k, k, hd.causal, dots=[(q, k), (q, k)])
        return hd.attend(q, segments=[near, hd.segment(q, k)], q_offset=0)

    q, k = (torch.randn(1, 2, 20, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    Q, K = array(q), array(k)
    near = attention.Segment(K, K, "causal", dots=[(Q, K), (Q, K)])
    expected = attention.attend(Q, segments=[near, attention.Segment(Q, K)]).out
    np.testing.assert_allclose(array(twice(q, k)), expected, atol=1e-5)


def test_numbers_of_scores_beside_arithmetic() -> None:
    @hd.kernel
    def capped(q: Any, k: Any) -> Any:
        return hd.attend(q, k * 2.0, k, score=lambda s, b, h, i, j: 2.0 * hd.tanh(s / 2.0) + (i - j) * 2)

    q, k = (torch.randn(1, 2, 20, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    Q, K = array(q), array(k)
    expected = attention.attend(Q, 2 * K, K, score=lambda s, b, h, i, j: 2 * np.tanh(s / 2) + (i - j) * 2).out
    np.testing.assert_allclose(array(capped(q, k)), expected, atol=1e-5)


def test_bits_of_kernels_of_several_ops_do_not_depend_on_threads() -> None:
    before = hd.num_threads()
    try:
        for seed in (4, 7, 15):
            x = composition(seed)
            t = stored(x)
            names = list(x.tensors)
            results = []
            for threads in (1, 2, 5):
                hd.set_num_threads(threads)
                made = kernel_of(x, names, t["q"].shape[1], True)(*(t[n] for n in names))
                results.append([array(r).tobytes() for r in (made if isinstance(made, tuple) else (made,))])
            assert results[0] == results[1] == results[2], x.label
    finally:
        hd.set_num_threads(before)
