"""`attend` and what belongs to it: reference, merge, explain."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from . import _core
from ._compiled import gpu_kernel, kernel_of
from ._cuda import attend_on, driver, on_gpu
from ._errors import in_words
from ._pattern import compiling, full
from ._program import MLIR_TYPES, TensorValue
from ._spec import DTYPES, Call, Formula, Relative, Segment, prepare

_plans: dict[Any, tuple[Formula, _core.Plan]] = {}
_MAX_PLANS = 4096
_LAYOUTS = ("bhnd", "bnhd", "nhd")


def plan_of(call: Call) -> tuple[Formula, _core.Plan]:
    """The formula of a call and its plan, made once."""
    found = _plans.get(call.key)
    if found is None:
        formula = Formula(call.parts)

        def compile(signature: list[int]) -> Any:
            text = formula.text(signature)
            return kernel_of(text)

        found = (formula, formula.plan(compile))
        if len(_plans) >= _MAX_PLANS:
            _plans.clear()
        _plans[call.key] = found
    return found


def attend_gpu(formula: Formula, call: Call, out: Any) -> Any:
    """A call on CUDA tensors: the kernel for their device, on their library's current stream."""
    return attend_on(formula, call, out, lambda text, device: gpu_kernel(text, driver().target(device)))


def segments_of(
    q: Any, k: Any, v: Any, where: Any, score: Any, k_offset: Any, segments: Sequence[Segment] | None
) -> Sequence[Segment]:
    """The segments of a call, from either way to name them."""
    if segments is None:
        if k is None or v is None:
            raise TypeError("expected k and v, or segments=[hd.segment(k, v, ...), ...], but got neither")
        return (Segment(k, v, where, score, None, k_offset, None),)
    if k is not None or v is not None:
        raise TypeError("expected either k and v or segments, but got both")
    if (where is not full and where is not None) or score is not None or (isinstance(k_offset, int) and k_offset != 0):
        raise TypeError("expected where, score and k_offset on each segment, but got them on the call")
    if isinstance(segments, Segment):
        raise TypeError("expected a list of segments, but got one; write segments=[hd.segment(k, v, ...)]")
    segments = list(segments)
    if not segments:
        raise ValueError("expected at least one segment, but got none")
    for s in segments:
        if not isinstance(s, Segment):
            raise TypeError(f"expected segments made by hd.segment, but got {type(s).__name__}")
    return segments


def _with_dots(
    k: Any, v: Any, where: Any, score: Any, k_offset: Any, segments: Sequence[Segment] | None, dots: Any
) -> list[Segment]:
    """The one segment of a call that names its dots."""
    if segments is not None:
        raise TypeError("expected dots on each segment, but got them on the call")
    if k is None or v is None:
        raise TypeError("expected k and v with dots, but got neither")
    return [Segment(k, v, where, score, None, k_offset, dots)]


def attend(
    q: Any,
    k: Any = None,
    v: Any = None,
    *,
    where: Any = full,
    score: Any = None,
    dots: Any = None,
    scale: Any = None,
    sink: Any = None,
    segments: Sequence[Segment] | None = None,
    normalizer: str = "softmax",
    q_offset: Any = None,
    k_offset: Any = 0,
    layout: str = "bhnd",
    out: Any = None,
    return_lse: bool = False,
    max_waste: float | None = None,
) -> Any:
    """Attention of queries to the live keys: one fused kernel for this pattern and score.

    s(i, j) = scale * dot(q_i, k_j), then the score function; out_i = sum of exp(s(i, j) - m_i) v_j / Z_i
    over the live j of all segments, with one m_i and one Z_i for all.

    Parameters
    ----------
    q
        ``[B, Hq, Nq, D]``: a NumPy array, a torch tensor, or anything with DLPack; float32, float16 or bfloat16,
        any strides. On a CUDA tensor (torch, CuPy) the kernel runs on its GPU, asynchronously on the current stream.
    k, v
        ``[B, Hk, Nk, D]`` and ``[B, Hv, Nk, Dv]``; Hk and Hv divide Hq, B may be 1.
    where
        Which pairs are live: a `Pattern`, a function of (b, h, i, j) such as a FlexAttention ``mask_mod``, or a
        ``BlockMask``, of which only the ``mask_mod`` is used.
    score
        A function of (s, b, h, i, j) on traced scalars, after scaling; with `dots`, of one s for each.
    dots
        ``[(q1, k1), (q2, k2)]``: the dots that form the score instead of q·k; ``[]``: none. See `segment`.
    scale
        Default 1/sqrt(D). A run-time value.
    sink
        ``[Hq]`` or ``[1]``, float32: a logit per head that takes part in the sum and carries no value.
    segments
        Instead of k and v: several `segment`s under one softmax.
    normalizer
        "softmax"; "none": the score itself is the weight; "sum": divided by the sum of the weights.
    q_offset
        Position of the first query: int, 0-d or ``[B]`` integers, or "end" (Nk - Nq).
    k_offset
        Position of the first key: int, 0-d or ``[B]`` integers.
    layout
        "bhnd"; "bnhd" for ``[B, N, H, D]`` tensors; "nhd" for ``[N, H, D]`` (packed sequences, see `packed`), which
        gives lse ``[H, N]``.
    out
        Where to write; else a new tensor of q's kind, in q's order of strides.
    return_lse
        Also return m_i + log Z_i, float32 ``[B, Hq, Nq]``.
    max_waste
        Raise where a masked stratum would make more than this share of the computed pairs dead, or where
        the contents of tensors decide it.

    Returns
    -------
    out or (out, lse)
        ``[B, Hq, Nq, Dv]`` of q's dtype. A row without a live key is 0 and its lse is -inf.

    Raises
    ------
    ValueError, TypeError
        With what was expected and what came.
    """
    if dots is not None:
        segments = _with_dots(k, v, where, score, k_offset, segments, dots)
        k, v, where, score, k_offset = None, None, full, None, 0
    if layout == "nhd" and not isinstance(q, TensorValue):
        q, parts, out = _one_batch(q, segments_of(q, k, v, where, score, k_offset, segments), out)
        whole = attend(
            q, segments=parts, scale=scale, sink=sink, normalizer=normalizer, q_offset=q_offset, layout="bnhd",
            out=out, return_lse=return_lse, max_waste=max_waste,
        )  # fmt: skip
        return tuple(r[0] for r in whole) if return_lse else whole[0]
    if layout not in _LAYOUTS:
        raise ValueError(f"expected a layout among bhnd, bnhd, nhd, but got {layout!r}")
    if compiling():
        from ._torch import attend_compiling, attend_outside, is_outside

        if max_waste is not None:
            raise ValueError("expected no max_waste inside of torch.compile, but got one; ask outside of it")
        if is_outside(where, score, segments):
            return attend_outside(
                q, k, v, where=where, score=score, scale=scale, sink=sink, segments=segments, normalizer=normalizer,
                q_offset=q_offset, k_offset=k_offset, layout=layout, out=out, return_lse=return_lse,
            )  # fmt: skip
        return attend_compiling(
            q, k, v, where, score, scale, sink, segments, normalizer, q_offset, k_offset, layout, out, return_lse
        )
    torch = sys.modules.get("torch")
    if torch is not None and torch.jit.is_tracing():
        raise ValueError(
            "expected a call outside of torch.jit.trace, which records torch's operations only, but got one inside; "
            "use torch.compile or torch.export"
        )
    if isinstance(q, TensorValue):
        return attend_traced(
            q, segments_of(q, k, v, where, score, k_offset, segments), scale, sink, normalizer, q_offset, layout, out,
            return_lse,
        )  # fmt: skip
    call = prepare(
        q, segments_of(q, k, v, where, score, k_offset, segments), scale=scale, sink=sink, normalizer=normalizer,
        q_offset=q_offset, lse=return_lse, rows_first=layout == "bnhd",
    )  # fmt: skip
    found = _plans.get(call.key)
    formula, plan = plan_of(call) if found is None else found
    if max_waste is not None:
        check_waste(formula, plan, call, max_waste)
    if on_gpu(q):
        return attend_gpu(formula, call, out)
    with in_words(formula.words):
        result = plan.run(call.values, out)
    if type(q).__module__ in ("numpy", "torch") or out is not None:
        return result
    return _like(q, result)


def attend_traced(
    q: TensorValue, segments: Sequence[Segment], scale: Any, sink: Any, normalizer: str, q_offset: Any, layout: str,
    out: Any, lse: bool,
) -> Any:  # fmt: skip
    """`attend` as an op of the function that is traced."""
    if layout != "bhnd":
        raise ValueError(f"expected the layout bhnd inside of an hd.kernel function, but got {layout!r}")
    if out is not None:
        raise ValueError("expected no out inside of an hd.kernel function, but got one")
    call = prepare(q, segments, scale=scale, sink=sink, normalizer=normalizer, q_offset=q_offset, lse=lse, keep=True)
    formula = Formula(call.parts)
    names: dict[str, str] = {}
    types: dict[str, str] = {}
    signature: list[int] = []
    symbols: dict[str, TensorValue] = {}
    for (kind, _, what, name), value in zip(formula.arguments, call.values, strict=True):
        if kind in ("index", "float", "finite"):
            names[name] = q.trace.scalar(value, "index" if kind == "index" else "f32")
            continue
        symbol = symbols[name] = q.trace.constant(value)
        if kind != "tensor" and len(symbol.sizes) != 4:
            raise ValueError(f"expected {what} of shape [B, H, N, D], but got {list(symbol.sizes)}")
        if kind != "tensor":
            q.trace.feature(symbol)
        signature += [DTYPES.index(MLIR_TYPES[symbol.dtype]), len(symbol.sizes) if kind == "tensor" else symbol.size(3)]
        names[name] = symbol.name
        types[name] = symbol.type
    # The op stands in the formula's own function: its lines, with the names of this one.
    lines = formula.text(signature, given=types, names=names).split("{\n", 1)[1].rsplit("\n  return ", 1)[0]
    lines = re.sub(r"%([A-Za-z_]\w*)", lambda m: names.get(m[1], m[0]), lines)
    text = lines.strip().split(" = ", 1)[1]
    v = symbols["v" if "v" in symbols else "v0"]
    dims = (q.dims[0], q.dims[1], q.dims[2], v.dims[3])
    sizes = (*q.sizes[:3], v.sizes[3])
    results: list[Any] = [(q.dtype, dims, sizes)]
    if lse:
        results.append(("float32", dims[:3], sizes[:3]))
    made = q.trace.op(text, results)
    return made if lse else made[0]


def _one_batch(q: Any, parts: Sequence[Segment], out: Any) -> tuple[Any, list[Segment], Any]:
    """``[N, H, D]`` tensors as ``[1, N, H, D]``."""

    def one(x: Any, what: str) -> Any:
        if len(x.shape) != 3:
            raise ValueError(f"expected {what} of shape [N, H, D] for the layout nhd, but got {list(x.shape)}")
        return x[None]

    whole = []
    for s in parts:
        dots = s.dots and [
            (
                one(a, "a dot's query"),
                Relative(one(b.rows, "relative rows"), b.shift) if isinstance(b, Relative) else one(b, "a dot's key"),
            )
            for a, b in s.dots
        ]
        whole.append(Segment(one(s.k, "k"), one(s.v, "v"), s.where, s.score, s.scale, s.k_offset, dots))
    return one(q, "q"), whole, None if out is None else one(out, "out")


def _like(q: Any, result: Any) -> Any:
    """Results as the kind of array that q is."""
    if isinstance(result, tuple):
        return tuple(_like(q, r) for r in result)
    space = getattr(q, "__array_namespace__", None)
    from_dlpack = getattr(space(), "from_dlpack", None) if space is not None else None
    return result if from_dlpack is None or type(result) is type(q) else from_dlpack(result)


def check_waste(formula: Formula, plan: _core.Plan, call: Call, limit: float) -> None:
    """Raises ValueError where the schedule would spend more than `limit` of its pairs on dead ones."""
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise TypeError(f"expected a number for max_waste, but got {type(limit).__name__}")
    if not 0 <= limit <= 1:
        raise ValueError(f"expected max_waste between 0 and 1, but got {limit}")
    text = formula.text(plan.signature(call.values))
    waste = waste_of(json.loads(_core.explain(text, sizes_of(formula, call), True)))
    if waste is None:
        raise ValueError(
            "expected a pattern whose waste is known before it runs for max_waste, but got one that depends on the "
            "contents of tensors; see hd.explain"
        )
    if waste > limit:
        raise ValueError(f"expected at most {limit:.0%} of the computed pairs to be dead, but got {waste:.0%}")


def waste_of(report: dict[str, Any]) -> float | None:
    """The share of computed pairs that are dead, in masked strata only; None where tensors decide it."""
    masked = [s for g in report["segments"] for s in g["strata"] if s["kind"] == "masked"]
    if not masked:
        return 0.0
    live, executed = report["live_pairs"], report["executed_pairs"]
    if live is None or executed is None:
        return None
    return 1 - live / executed if executed else 0.0


def sizes_of(formula: Formula, call: Call) -> str:
    """The sizes of a call as `explain` takes them."""
    q = _core.describe(call.values[0], "q")[1]
    k = _core.describe(call.values[1], "k")[1]
    rows, heads = (1, 2) if formula.rows_first else (2, 1)
    return f"b={q[0]},h={q[heads]},hk={k[heads]},nq={q[rows]},nk={k[rows]},d={q[3]}"


def _swap(x: Any) -> Any:
    """[B, N, H, D] as [B, H, N, D], a view."""
    return x.swapaxes(1, 2) if hasattr(x, "swapaxes") else x.transpose(1, 2)


def reference(
    q: Any,
    k: Any = None,
    v: Any = None,
    *,
    where: Any = full,
    score: Any = None,
    dots: Any = None,
    scale: Any = None,
    sink: Any = None,
    segments: Sequence[Segment] | None = None,
    normalizer: str = "softmax",
    q_offset: Any = None,
    k_offset: Any = 0,
    layout: str = "bhnd",
    out: Any = None,
    return_lse: bool = False,
    max_waste: float | None = None,
) -> Any:
    """What `attend` should give, pair by pair in float64 by an interpreter that shares no code with the kernels.

    Parameters and shapes as in `attend`; results are float64 of q's kind. Slow: for checks.
    """
    if dots is not None:
        segments = _with_dots(k, v, where, score, k_offset, segments, dots)
        k, v, where, score, k_offset = None, None, full, None, 0
    if layout == "nhd":
        q, parts, out = _one_batch(q, segments_of(q, k, v, where, score, k_offset, segments), out)
        whole = reference(
            q, segments=parts, scale=scale, sink=sink, normalizer=normalizer, q_offset=q_offset, layout="bnhd",
            out=out, return_lse=return_lse, max_waste=max_waste,
        )  # fmt: skip
        return tuple(r[0] for r in whole) if return_lse else whole[0]
    if layout not in _LAYOUTS:
        raise ValueError(f"expected a layout among bhnd, bnhd, nhd, but got {layout!r}")
    call = prepare(
        q, segments_of(q, k, v, where, score, k_offset, segments), scale=scale, sink=sink, normalizer=normalizer,
        q_offset=q_offset, lse=return_lse, rows_first=layout == "bnhd",
    )  # fmt: skip
    formula, plan = plan_of(call)
    text = formula.text(plan.signature(call.values))
    values = list(call.values)
    v_at = next(n for n, a in enumerate(formula.arguments) if a[0] == "v")
    if formula.rows_first:
        for n, (kind, _, _, _) in enumerate(formula.arguments):
            if kind in ("q", "k", "v", "dot_q", "dot_k"):
                values[n] = _swap(values[n])
    for n, (kind, _, _, _) in enumerate(formula.arguments):
        if kind in ("float", "finite"):
            values[n] = float(values[n])
    shape = list(_core.describe(values[0], "q")[1])
    shape[3] = _core.describe(values[v_at], "v")[1][3]
    results = [_core.empty(values[0], shape, "float64")]
    if return_lse:
        results.append(_core.empty(values[0], shape[:3], "float64"))
    _core.reference(text, values, results)
    result = _swap(results[0]) if formula.rows_first else results[0]
    if out is not None:
        out[...] = result
        result = out
    return (result, results[1]) if return_lse else result
