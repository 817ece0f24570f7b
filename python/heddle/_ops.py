"""Ops on whole tensors: summaries, linear attention, row classes.

Each runs alone on arrays and tensors, and becomes an op of the spec inside of an `hd.kernel` function.
"""

from __future__ import annotations

from typing import Any

from . import _core
from ._program import TensorValue, Trace, run_op, tensor_type


def _sizes(x: Any, name: str) -> tuple[str, tuple[int, ...]]:
    if isinstance(x, TensorValue):
        return x.dtype, x.sizes
    dtype, sizes, _, _ = _core.describe(x.data if hasattr(x, "data") and not hasattr(x, "dtype") else x, name)
    return dtype, sizes


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
    if n < 1:
        raise ValueError(f"expected {name} of at least 1, but got {n}")
    return n


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
    _rank(x, "x", 4)

    def build(trace: Trace, x: TensorValue) -> tuple[TensorValue, ...]:
        b, h, n, d = x.sizes
        dims = (x.dims[0], x.dims[1], None, x.dims[3])
        text = f"attn.pool {kind} {x.name} size({size})" + _window_clauses(stride, offset, partial)
        result = (x.dtype, dims, (b, h, _windows(n, size, step, offset, partial), d))
        return trace.op(f"{text} : {x.type} -> {tensor_type(x.dtype, dims)}", [result])

    return run_op("pool", (kind, size, stride, offset, partial), [x], [set()], build, out)


def _window_clauses(stride: int | None, offset: int, partial: bool) -> str:
    text = "" if stride is None else f" stride({stride})"
    text += f" offset({offset})" if offset else ""
    return text + (" partial" if partial else "")


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
    taps = _rank(weights, "weights", 3, 4)[1]
    step = taps if stride is None else _positive(stride, "stride")

    def build(trace: Trace, x: TensorValue, w: TensorValue, *rest: TensorValue) -> tuple[TensorValue, ...]:
        b, h, n, _ = x.sizes
        e = w.dims[3] if len(w.dims) == 4 else x.dims[3]
        dims = (x.dims[0], x.dims[1], None, e)
        m = _windows(n, taps, step, offset, partial)
        text = f"attn.convolve {x.name}, {w.name}" + (f" bias({rest[0].name})" if rest else "")
        text += _window_clauses(stride, offset, partial)
        text += f" : {x.type}, {w.type}" + (f" bias({rest[0].type})" if rest else "")
        return trace.op(
            f"{text} -> {tensor_type(x.dtype, dims)}", [(x.dtype, dims, (b, h, m, (w if e else x).sizes[-1]))]
        )

    tensors = [x, weights] if bias is None else [x, weights, bias]
    static: list[set[int]] = [set(), {1, 3} if len(_sizes(weights, "weights")[1]) == 4 else {1}, set()]
    return run_op("convolve", (stride, offset, partial, bias is None), tensors, static[: len(tensors)], build, out)


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

    def build(trace: Trace, x: TensorValue, e: TensorValue) -> tuple[TensorValue, ...]:
        r = e.dims[-1]
        dims = (x.dims[0], x.dims[1], None if r is None else r * block, x.dims[3])
        sizes = (x.sizes[0], x.sizes[1], e.sizes[-1] * block, x.sizes[3])
        clause = f" block({block})" if block > 1 else ""
        text = f"attn.project {x.name}, {e.name}{clause} : {x.type}, {e.type} -> {tensor_type(x.dtype, dims)}"
        return trace.op(text, [(x.dtype, dims, sizes)])

    return run_op("project", block, [x, weights], [set(), set()], build, out)


__all__ = ["convolve", "pool", "project"]
