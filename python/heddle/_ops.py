"""Ops on whole tensors: summaries, linear attention, row classes.

Each runs alone on arrays and tensors, and becomes an op of the spec inside of an `hd.kernel` function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._emit import score_lines
from ._program import Condition, TensorValue, Trace, run_op, tensor_type
from ._tensors import describe_tensor
from ._trace import run_traced


def _sizes(x: Any, name: str) -> tuple[str, tuple[int, ...]]:
    if isinstance(x, Condition):
        x = x.trace.constant(x)
    if isinstance(x, TensorValue):
        return x.dtype, x.sizes
    return describe_tensor(x.data if hasattr(x, "data") and not hasattr(x, "dtype") else x, name)


def _rank(x: Any, name: str, *ranks: int) -> tuple[int, ...]:
    _, sizes = _sizes(x, name)
    if len(sizes) not in ranks:
        text = " or ".join(str(r) for r in ranks)
        raise ValueError(f"expected {name} with {text} dimensions, but got shape {list(sizes)}")
    return sizes


def _positive(n: Any, name: str) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"expected an integer for {name}, but got {type(n).__name__}")
    n = n.__index__()
    if not 1 <= n < 1 << 30:
        raise ValueError(f"expected {name} from 1 to {(1 << 30) - 1}, but got {n}")
    return n


def _offset(n: Any) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"expected an integer for offset, but got {type(n).__name__}")
    return int(n.__index__())


def _eps(x: Any) -> float:
    if isinstance(x, bool) or not hasattr(x, "__float__"):
        raise TypeError(f"expected a number for eps, but got {type(x).__name__}")
    x = float(x)
    if not 0 <= x < float("inf"):
        raise ValueError(f"expected a finite eps of at least 0, but got {x}")
    return x


def _literal(x: float) -> str:
    """A float as MLIR reads it."""
    mantissa, _, exponent = repr(x).partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


def _windows(rows: int, size: int, step: int, offset: int, partial: bool) -> int:
    if partial:
        return -(-rows // step)
    return max(0, (rows - offset - size) // step + 1)


def pool(
    x: Any, kind: str, size: int, *, stride: int | None = None, offset: int = 0, partial: bool = False, out: Any = None
) -> Any:
    """Maximum, mean or sum of the rows of strided windows: a summary of a sequence.

    y[b, h, m] is of the rows n of x with m stride + offset <= n < m stride + offset + size.

    Parameters
    ----------
    x
        ``[B, H, N, D]``.
    kind
        "max", "mean" or "sum".
    size
        Rows of a window.
    stride
        Rows from one window to the next; default: `size` (blocks).
    partial
        Also windows that the ends of the sequence cut: ceil(N / stride) of them.
    """
    if kind not in ("max", "mean", "sum"):
        raise ValueError(f"expected a kind among max, mean, sum, but got {kind!r}")
    size = _positive(size, "size")
    step = size if stride is None else _positive(stride, "stride")
    offset, partial = _offset(offset), bool(partial)
    _rank(x, "x", 4)

    def build(trace: Trace, x: TensorValue) -> tuple[TensorValue, ...]:
        b, h, n, d = x.sizes
        dims = (x.dims[0], x.dims[1], None, x.dims[3])
        text = f"attn.pool {kind} {x.name} size({size})" + _window_clauses(stride, offset, partial)
        result = (x.dtype, dims, (b, h, _windows(n, size, step, offset, partial), d))
        return trace.op(f"{text} : {x.type} -> {tensor_type(x.dtype, dims)}", [result])

    return run_op("pool", (kind, size, stride, offset, partial), [x], [set()], build, out, ["x"])


def _window_clauses(stride: int | None, offset: int, partial: bool) -> str:
    text = "" if stride is None else f" stride({stride})"
    text += f" offset({offset})" if offset else ""
    return text + (" partial" if partial else "")


def scan(
    x: Any, kind: str, *, stride: int = 1, block: int | None = None, reverse: bool = False, exclusive: bool = False,
    out: Any = None,
) -> Any:  # fmt: skip
    """Running maximum, mean or sum of rows: a summary of all that lies before each row.

    y[b, h, n] is of the rows t <= n of x with (n - t) mod stride = 0 and t floordiv block = n floordiv block.

    Parameters
    ----------
    x
        ``[B, H, N, D]``.
    kind
        "max", "mean" or "sum"; of no rows at all, -inf for "max" and 0 for the others.
    stride
        Residue classes: with the width of an image, each column is a sequence of its own.
    block
        Rows after which the scan begins anew: with the width of an image, each row is a sequence of its own.
    reverse
        t >= n instead: what lies behind each row.
    exclusive
        Without row n itself.
    """
    if kind not in ("max", "mean", "sum"):
        raise ValueError(f"expected a kind among max, mean, sum, but got {kind!r}")
    stride = _positive(stride, "stride")
    block = None if block is None else _positive(block, "block")
    _rank(x, "x", 4)

    def build(trace: Trace, x: TensorValue) -> tuple[TensorValue, ...]:
        text = f"attn.scan {kind} {x.name}" + (f" stride({stride})" if stride != 1 else "")
        text += "" if block is None else f" block({block})"
        text += " reverse" * reverse + " exclusive" * exclusive
        return trace.op(f"{text} : {x.type} -> {x.type}", [(x.dtype, x.dims, x.sizes)])

    return run_op("scan", (kind, stride, block, reverse, exclusive), [x], [set()], build, out)


def convolve(
    x: Any, weights: Any, bias: Any = None, *, stride: int | None = None, offset: int = 0, partial: bool = False,
    out: Any = None,
) -> Any:  # fmt: skip
    """Convolution along the sequence, strided or not.

    y[b, h, m, e] = bias[h, e] + sum over t, d of weights[h, t, d, e] x[b, h, m stride + offset + t, d]; rows outside
    of the sequence count as 0.

    Parameters
    ----------
    x
        ``[B, H, N, D]``.
    weights
        ``[1 or H, T, D, E]``, or depthwise ``[1 or H, T, D]``.
    bias
        ``[1 or H, E]``.
    stride
        Default: T (blocks).
    partial
        ceil(N / stride) windows, also those that the ends cut.
    """
    _rank(x, "x", 4)
    taps = _positive(_rank(weights, "weights", 3, 4)[1], "weights' number of taps")
    step = taps if stride is None else _positive(stride, "stride")
    offset, partial = _offset(offset), bool(partial)

    def build(trace: Trace, x: TensorValue, weights: TensorValue, *rest: TensorValue) -> tuple[TensorValue, ...]:
        b, h, n, _ = x.sizes
        e = weights.dims[3] if len(weights.dims) == 4 else x.dims[3]
        dims = (x.dims[0], x.dims[1], None, e)
        m = _windows(n, taps, step, offset, partial)
        text = f"attn.convolve {x.name}, {weights.name}" + (f" bias({rest[0].name})" if rest else "")
        text += _window_clauses(stride, offset, partial)
        text += f" : {x.type}, {weights.type}" + (f" bias({rest[0].type})" if rest else "")
        return trace.op(
            f"{text} -> {tensor_type(x.dtype, dims)}", [(x.dtype, dims, (b, h, m, (weights if e else x).sizes[-1]))]
        )

    tensors = [x, weights] if bias is None else [x, weights, bias]
    static: list[set[int]] = [set(), {1, 3} if len(_sizes(weights, "weights")[1]) == 4 else {1}, set()]
    key = (stride, offset, partial, bias is None)
    return run_op(
        "convolve", key, tensors, static[: len(tensors)], build, out, ["x", "weights", "bias"][: len(tensors)]
    )


def project(x: Any, weights: Any, *, block: int = 1, out: Any = None) -> Any:
    """Rows mixed by a matrix, E^T X: Linformer's low-rank summary, Sinkhorn's soft permutation of blocks.

    y[b, h, r block + o] = sum over n of weights[b, h, n, r] x[b, h, n block + o]

    Parameters
    ----------
    x
        ``[B, H, N, D]``.
    weights
        ``[N, R]``, ``[1 or H, N, R]`` or ``[1 or B, 1 or H, N, R]``; N / block rows with `block`.
    block
        Mix whole blocks of so many rows.
    """
    block = _positive(block, "block")
    _rank(x, "x", 4)
    _rank(weights, "weights", 2, 3, 4)

    def build(trace: Trace, x: TensorValue, weights: TensorValue) -> tuple[TensorValue, ...]:
        r = weights.dims[-1]
        dims = (x.dims[0], x.dims[1], None if r is None else r * block, x.dims[3])
        sizes = (x.sizes[0], x.sizes[1], weights.sizes[-1] * block, x.sizes[3])
        clause = f" block({block})" if block > 1 else ""
        text = (
            f"attn.project {x.name}, {weights.name}{clause} : {x.type}, {weights.type} -> {tensor_type(x.dtype, dims)}"
        )
        return trace.op(text, [(x.dtype, dims, sizes)])

    return run_op("project", block, [x, weights], [set(), set()], build, out, ["x", "weights"])


def linear_attend(
    q: Any, k: Any, v: Any, *, feature: Callable[[Any], Any] | None = None, causal: bool = False, decay: Any = None,
    state: Any = None, normalizer: str = "sum", eps: float = 0.0, return_state: bool = False, out: Any = None,
) -> Any:  # fmt: skip
    """Attention by feature maps: a state instead of pairs.

    S_i = exp(g_i) S_(i-1) + phi(k_i) v_i^T, z_i = exp(g_i) z_(i-1) + phi(k_i), out_i = phi(q_i)^T S_i /
    (phi(q_i) . z_i + eps); without `causal`, S and z are those of all keys.

    Parameters
    ----------
    q, k, v
        ``[B, Hq, Nq, D]``, ``[B, H, Nk, D]``, ``[B, H, Nk, Dv]``; H divides Hq; Nq = Nk where it is causal.
    feature
        phi, a function of one traced number, such as ``lambda x: hd.select(x > 0, x + 1, hd.exp(x))``; default: x.
    decay
        ``[B, H, Nk]``, float32: logarithm of what is kept of the state at each row, at most 0 (-inf drops it); with
        ``[B, H, Nk, D]``, of each row of the state by itself (gated linear attention). Causal only.
    state
        (S, z) as `return_state` gave them, ``[B, H, D, Dv]`` and ``[B, H, D]``, float32; S alone without normalizer.
    normalizer
        "sum", or "none": no division, and no z.
    return_state
        Also return the state after the last row: a sequence can go on from it, token by token.

    Returns
    -------
    out or (out, S, z) or (out, S)
    """
    if normalizer not in ("sum", "none"):
        raise ValueError(f"expected a normalizer among sum, none, but got {normalizer!r}")
    if decay is not None and not causal:
        raise ValueError("expected causal=True where there is a decay, but got attention to all keys")
    heads_q, heads_k, heads_v = (_rank(x, name, 4)[1] for x, name in ((q, "q"), (k, "k"), (v, "v")))
    if heads_v != heads_k:
        cure = "q and k" if heads_v > heads_k else "v"
        raise ValueError(
            f"expected k and v to have one number of heads, since each has a state of its own, but got {heads_k} and "
            f"{heads_v}: repeat {cure} for the heads that share it, without a copy (np.broadcast_to, Tensor.expand)"
        )
    if heads_q % max(heads_k, 1):
        raise ValueError(f"expected q's heads to be a multiple of the {heads_k} of k and v, but got {heads_q}")
    eps = _eps(eps)
    normalized = normalizer == "sum"
    states = [] if state is None else list(state) if isinstance(state, (tuple, list)) else [state]
    if states and len(states) != 1 + normalized:
        raise ValueError(f"expected a state of {1 + normalized} tensors, but got {len(states)}")
    region, feature_key = "", None
    if feature is not None:
        if not callable(feature):
            raise TypeError(f"expected a feature function of one number, but got {type(feature).__name__}")
        trace = run_traced(feature, "feature")
        if trace.captures:
            raise ValueError("expected a feature function of x alone, but got one that captures tensors")
        lines = "\n  ".join(score_lines(trace, lambda slot: ("", "")))
        region, feature_key = f" feature {{\n^bb0(%s: f32):\n  {lines}\n}}", trace.key

    def build(trace: Trace, q: TensorValue, k: TensorValue, v: TensorValue, *rest: TensorValue) -> Any:
        more = list(rest)
        text = f"attn.linear_attend {q.name}, {k.name}, {v.name}" + (" causal" if causal else "")
        if decay is not None:
            text += f" decay({more.pop(0).name})"
        if more:
            text += f" state({', '.join(x.name for x in more)})"
        text += "" if normalized else " normalizer(none)"
        text += f" eps({_literal(eps)})" if eps else ""
        results: list[Any] = [(q.dtype, (*q.dims[:3], v.dims[3]), (*q.sizes[:3], v.sizes[3]))]
        if return_state:
            dims, sizes = (*k.dims[:2], k.dims[3], v.dims[3]), (*k.sizes[:2], k.sizes[3], v.sizes[3])
            results.append(("float32", dims, sizes))
            if normalized:
                results.append(("float32", dims[:3], sizes[:3]))
        ins = ", ".join(x.type for x in (q, k, v, *rest))
        outs = ", ".join(tensor_type(dtype, dims) for dtype, dims, _ in results)
        return trace.op(f"{text}{region} : ({ins}) -> ({outs})", results)

    tensors = [q, k, v, *([] if decay is None else [decay]), *states]
    static: list[set[int]] = [{3}, {3}, {3}] + [set()] * (len(tensors) - 3)
    key = (feature_key, causal, decay is None, len(states), normalizer, eps, return_state)
    names = ["q", "k", "v", *([] if decay is None else ["decay"]), *["state_S", "state_z"][: len(states)]]
    return run_op("linear_attend", key, tensors, static, build, out, names)


def group(ids: Any, groups: int) -> Any:
    """Ids to a permutation and offsets, by a stable counting sort.

    Group c holds the rows ``permutation[offsets[c] : offsets[c + 1]]``; rows whose id is out of range come last.

    Parameters
    ----------
    ids
        ``[B, N]`` or ``[B, H, N]``, int32 or int64.
    groups
        Number of groups.

    Returns
    -------
    (permutation, offsets)
        int32, ``[B, H, N]`` and ``[B, H, groups + 1]``.
    """
    groups = _positive(groups, "groups")
    _rank(ids, "ids", 2, 3)

    def build(trace: Trace, ids: TensorValue) -> Any:
        results = [
            ("int32", ids.dims, ids.sizes), ("int32", (*ids.dims[:-1], groups + 1), (*ids.sizes[:-1], groups + 1)),
        ]  # fmt: skip
        types = ", ".join(tensor_type(dtype, dims) for dtype, dims, _ in results)
        return trace.op(f"attn.group {ids.name} groups({groups}) : {ids.type} -> {types}", results)

    return run_op("group", groups, [ids], [set()], build, None, ["ids"])


def gather_rows(x: Any, rows: Any, *, out: Any = None) -> Any:
    """Listed rows of a tensor; zeros for a row that is not there (-1, say).

    Parameters
    ----------
    x
        ``[B, H, N, D]`` or ``[B, H, N]``.
    rows
        ``[1 or B, M]`` or ``[1 or B, 1 or H, M]``, int32 or int64.
    """
    _rank(x, "x", 3, 4)
    _rank(rows, "rows", 2, 3)

    def build(trace: Trace, x: TensorValue, rows: TensorValue) -> Any:
        dims = (*x.dims[:2], rows.dims[-1], *x.dims[3:])
        sizes = (*x.sizes[:2], rows.sizes[-1], *x.sizes[3:])
        text = f"attn.gather_rows {x.name}[{rows.name}] : {x.type}, {rows.type} -> {tensor_type(x.dtype, dims)}"
        return trace.op(text, [(x.dtype, dims, sizes)])

    return run_op("gather_rows", None, [x, rows], [set(), set()], build, out, ["x", "rows"])


def scatter_rows(
    source: Any,
    rows: Any,
    base: Any,
    *,
    kind: str = "overwrite",
    eps: float = 0.0,
    zeros: bool = False,
    out: Any = None,
) -> Any:
    """Rows put to listed places of `base`; a row out of range goes nowhere.

    Parameters
    ----------
    source
        ``[B, H, M, D]``.
    rows
        ``[1 or B, M]`` or ``[1 or B, 1 or H, M]``, int32 or int64.
    base
        ``[B, H, N, D]``: what stands where nothing is put; with `zeros`, only the shape.
    kind
        "overwrite" (of several sources of a place the last), "mean" (sum / (count + eps)) or "sum".
    """
    if kind not in ("overwrite", "mean", "sum"):
        raise ValueError(f"expected a kind among overwrite, mean, sum, but got {kind!r}")
    eps = _eps(eps)
    if eps and kind != "mean":
        raise ValueError(f"expected eps only with mean, but got it with {kind}")
    _rank(source, "source", 4)
    _rank(base, "base", 4)
    _rank(rows, "rows", 2, 3)

    def build(trace: Trace, source: TensorValue, rows: TensorValue, base: TensorValue) -> Any:
        text = f"attn.scatter_rows {kind} {source.name}[{rows.name}] into {base.name}"
        text += (f" eps({_literal(eps)})" if eps else "") + (" zeros" if zeros else "")
        text += f" : {source.type}, {rows.type}, {base.type} -> {base.type}"
        return trace.op(text, [(base.dtype, base.dims, base.sizes)])

    names = ["source", "rows", "base"]
    return run_op("scatter_rows", (kind, eps, zeros), [source, rows, base], [set(), set(), set()], build, out, names)


def merge(parts: Sequence[tuple[Any, Any]]) -> Any:
    """Partial results over disjoint sets of keys as one.

    m = max of lse_p; Z = sum of exp(lse_p - m); out = sum of out_p exp(lse_p - m) / Z; lse = m + log Z.

    Parameters
    ----------
    parts
        Pairs (out ``[B, H, N, D]``, lse ``[B, H, N]``) as `attend` with ``return_lse=True`` gives them.

    Returns
    -------
    (out, lse)
        A row that no part has a live key for is 0 and -inf.
    """
    parts = list(parts)
    for p in parts:
        if not isinstance(p, (tuple, list)) or len(p) != 2:
            raise TypeError(f"expected (out, lse) pairs, but got {type(p).__name__}")
    if not parts:
        raise ValueError("expected at least one (out, lse) pair, but got none")
    outs, lses = [o for o, _ in parts], [lse for _, lse in parts]
    first = _rank(outs[0], "out", 4)
    for o, lse in parts:
        if _rank(o, "out", 4) != first or _rank(lse, "lse", 3) != first[:3]:
            raise ValueError(
                f"expected parts of shape {list(first)} and {list(first[:3])}, "
                f"but got {list(_sizes(o, 'out')[1])} and {list(_sizes(lse, 'lse')[1])}"
            )

    def build(trace: Trace, *values: TensorValue) -> Any:
        outs, lses = values[: len(parts)], values[len(parts) :]
        names = [", ".join(v.name for v in group) for group in (outs, lses)]
        o, lse = outs[0], lses[0]
        ins = ", ".join(v.type for v in values)
        return trace.op(
            f"attn.merge {names[0]} lse({names[1]}) : ({ins}) -> ({o.type}, {lse.type})",
            [(o.dtype, o.dims, o.sizes), (lse.dtype, lse.dims, lse.sizes)],
        )

    return run_op("merge", len(parts), [*outs, *lses], [set()] * (2 * len(parts)), build)


__all__ = ["convolve", "gather_rows", "group", "linear_attend", "merge", "pool", "project", "scan", "scatter_rows"]
