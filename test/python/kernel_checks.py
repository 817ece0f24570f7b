"""Runs one problem through the public API and through the judge, and compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import heddle as hd
from oracle import attention, cases, patterns, scalars, scores, tolerance


def built(p: patterns.Pattern, operands: Mapping[str, Any]) -> Any:
    """The package's pattern for `p`, with run-time operands bound by its Python form."""
    if not p.operands():
        return hd.parse(p.text)
    sub = [built(c, operands) for c in p.children]
    if p.kind in ("and", "or", "sub"):
        out = sub[0]
        for s in sub[1:]:
            out = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "sub": lambda a, b: a - b}[p.kind](out, s)
        return out
    if p.kind == "not":
        return ~sub[0]
    ints = [_integer(x, operands) for x in p.ints]
    if p.kind == "causal":
        return hd.causal(*ints)
    if p.kind == "per_head":
        return hd.per_head(sub)
    if p.kind in ("holds", "affine_set"):
        names = {n: operands[n] for n in p.operands()}
        bound = {n: hd.scalar(int(x)) if np.ndim(x) == 0 else hd.tensor(x) for n, x in names.items()}
        expr = p.exprs[0]
        return hd.holds(lambda b, h, i, j: patterns.evaluate(expr, {**bound, "b": b, "h": h, "i": i, "j": j}, hd))
    if p.kind == "offsets" and not p.names:
        return hd.offsets(ints)
    if p.ranges:
        return getattr(hd, p.kind)([(_integer(lo, operands), _integer(hi, operands)) for lo, hi in p.ranges])
    tensors = [operands[n] for n in p.names]
    return getattr(hd, p.kind)(*tensors, *ints, *sub)


def _integer(x: patterns.Int, operands: Mapping[str, Any]) -> Any:
    if x.kind == "literal":
        return x.value
    if x.kind == "inf":
        return float("inf")
    assert x.kind == "operand", x
    return hd.scalar(int(operands[x.name]) + x.value)


def compare(
    q: Any,
    k: Any,
    v: Any,
    where: str = "full",
    *,
    dtype: str = "f32",
    label: str = "",
    operands: Mapping[str, Any] | None = None,
    score: str | None = None,
    q_offset: Any = 0,
    k_offset: Any = 0,
    lse: bool = True,
    judge_ignores: tuple[str, ...] = (),
    **kw: Any,
) -> np.ndarray:
    """Runs one attention on both sides; fails with the first difference. `judge_ignores`: keywords of ours alone."""
    operands = operands or {}
    heads = q.shape[1]
    exact = [np.asarray(x.double() if isinstance(x, torch.Tensor) else x, np.float64) for x in (q, k, v)]
    spec: dict[str, Any] = {"q_offset": q_offset, "k_offset": k_offset, "operands": operands}
    spec.update({n: x for n, x in kw.items() if n not in judge_ignores})
    if score is not None:
        spec["score"] = scores.SCORES[score](scalars, heads)
    want = attention.attend(*exact, where=where, **spec)
    rounded = None
    if dtype != "f32":
        rounded = attention.attend(*exact, where=where, round_weights=lambda w: tolerance.round_to(w, dtype), **spec)
    lse = lse and kw.get("normalizer", "softmax") == "softmax"
    got = hd.attend(
        q,
        k,
        v,
        where=built(patterns.parse(where), operands),
        score=None if score is None else scores.SCORES[score](hd, heads),
        q_offset=q_offset,
        k_offset=k_offset,
        return_lse=lse,
        **kw,
    )
    label = f"{where} {label}"
    out, log = got if lse else (got, None)
    assert type(out) is type(q), label
    assert out.dtype == q.dtype, label
    verdict = tolerance.check(array(out), want, dtype, rounded, label)
    assert verdict, verdict.message
    if log is not None:
        verdict = tolerance.check_lse(array(log), want, label)
        assert verdict, verdict.message
    return array(out)


def array(x: Any) -> np.ndarray:
    """A result as a float64 array."""
    return x.detach().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, np.float64)


def compare_problem(p: cases.Problem, seed: int = 0, **kw: Any) -> np.ndarray:
    """`compare` on generated inputs."""
    x = cases.inputs(p, seed)
    offset = p.q_offset()
    if isinstance(offset, np.ndarray):
        offset = torch.tensor(offset)
    return compare(x.q, x.k, x.v, p.where, dtype=p.dtype, q_offset=offset, label=p.label, **kw)
