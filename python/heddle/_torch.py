"""torch.compile: `attend` as the custom op `heddle::attend`.

The op takes all tensors of a call, its run-time integers and floats, and the name of a
plan, so that a formula is a constant of the graph and everything else an input. Under
torch.compile the formula is built while tracing, by functions that are marked as having
constant results; patterns and score functions may be made inside or outside of the
compiled function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from ._attend import plan_of
from ._pattern import full
from ._spec import Segment, offset_kind, prepare
from ._trace import constant

_registry: dict[str, tuple[Any, Any]] = {}


class _Frozen:
    """A call's formula while it is put together under torch.compile."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.name = ""
        self.operands: list[Any] = []
        self.kinds = ""


class _Hole:
    """Stands for a tensor of the graph."""

    shape = (0,)
    dtype = "int64"


@constant
def _begin() -> _Frozen:
    return _Frozen()


@constant
def _add(frozen: _Frozen, where: Any, score: Any, dots: int, k_offset: str, scale: bool) -> _Frozen:
    hole = _Hole()
    offset: Any = {"none": 0, "index": 1, "tensor": hole}[k_offset]
    pairs = None if dots < 0 else [(hole, hole)] * dots
    frozen.segments.append(Segment(hole, hole, where, score, 1.0 if scale else None, offset, pairs))
    return frozen


@constant
def _end(
    frozen: _Frozen, scale: bool, sink: bool, normalizer: str, q_offset: str, lse: bool, rows_first: bool
) -> _Frozen:
    hole = _Hole()
    offset: Any = {"none": None, "end": "end", "index": 1, "tensor": hole}[q_offset]
    call = prepare(
        hole, frozen.segments, scale=1.0 if scale else None, sink=hole if sink else None, normalizer=normalizer,
        q_offset=offset, lse=lse, rows_first=rows_first,
    )  # fmt: skip
    formula, plan = plan_of(call)
    frozen.name = hashlib.sha256(repr(call.key).encode()).hexdigest()[:24]
    _registry[frozen.name] = (formula, plan)
    frozen.kinds = call.parts[3]
    last = len(call.values) - (1 if sink else 0)
    frozen.operands = list(call.values[last - len(frozen.kinds) : last])
    return frozen


@constant
def _name(frozen: _Frozen) -> str:
    return frozen.name


@constant
def _operand_kinds(frozen: _Frozen) -> str:
    return frozen.kinds


@constant
def _operand(frozen: _Frozen, n: int) -> Any:
    x = frozen.operands[n]
    return x if isinstance(x, (int, float, torch.Tensor)) else torch.as_tensor(x)


@constant
def _full() -> Any:
    return full


def _kind(x: Any, name: str) -> str:
    if isinstance(x, torch.Tensor):
        return "index" if x.dim() == 0 else "tensor"
    if x is None:
        return "none"
    if isinstance(x, str):
        return offset_kind(x, name)[0]
    return "index"


def attend_compiling(
    q: Any, k: Any, v: Any, where: Any, score: Any, scale: Any, sink: Any, segments: Any, normalizer: str,
    q_offset: Any, k_offset: Any, layout: str, out: Any, return_lse: bool,
) -> Any:  # fmt: skip
    """`attend` as torch.compile sees it: one call of `heddle::attend`."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (q, k, v)):
        raise ValueError(
            "expected tensors without gradient, but got one that requires grad: there is no backward pass yet; "
            "call it under torch.no_grad()"
        )
    if segments is None:
        segments = [Segment(k, v, where, score, None, k_offset, None)]
    tensors: list[Any] = [q]
    dots: list[Any] = []
    ints: list[Any] = []
    floats: list[Any] = []
    offsets: list[Any] = []
    frozen = _begin()
    for s in segments:
        tensors.append(s.k)
        tensors.append(s.v)
        count = -1
        if s.dots is not None:
            count = len(s.dots)
            for a, b in s.dots:
                dots.append(a)
                dots.append(b)
        kind = "none"
        if not (isinstance(s.k_offset, int) and s.k_offset == 0):
            kind = _kind(s.k_offset, "k_offset")
            offsets.append(s.k_offset)
        pattern = _full() if s.where is None else s.where
        frozen = _add(frozen, pattern, s.score, count, kind, s.scale is not None)
    q_kind = _kind(q_offset, "q_offset")
    frozen = _end(frozen, scale is not None, sink is not None, normalizer, q_kind, return_lse, layout == "bnhd")
    tensors.extend(dots)
    if q_kind in ("index", "tensor"):
        offsets.insert(0, q_offset)
    for x in offsets:
        if isinstance(x, torch.Tensor):
            tensors.append(x if x.dim() == 0 else x.long())
        else:
            ints.append(x)
    if scale is not None:
        floats.append(scale)
    for s in segments:
        if s.scale is not None:
            floats.append(s.scale)
    for n, kind in enumerate(_operand_kinds(frozen)):
        x = _operand(frozen, n)
        if kind in "iI":
            ints.append(x)
        elif kind == "F":
            floats.append(x)
        else:
            tensors.append(x)
    if sink is not None:
        tensors.append(sink)
    results = torch.ops.heddle.attend(tensors, ints, floats, _name(frozen))
    if out is not None:
        out.copy_(results[0])
        results = [out, *results[1:]]
    return (results[0], results[1]) if return_lse else results[0]


def _values(name: str, tensors: Sequence[Any], ints: Sequence[int], floats: Sequence[float]) -> tuple[Any, Any, Any]:
    formula, plan = _registry[name]
    t, n, f = iter(tensors), iter(ints), iter(floats)
    values = []
    # A 0-d tensor may stand for an integer: then there are fewer integers than places for them.
    spare = sum(kind == "index" for kind, _, _, _ in formula.arguments) - len(ints)
    for kind, _, _, _ in formula.arguments:
        if kind == "index" and spare > 0:
            spare -= 1
            values.append(next(t))
        else:
            values.append(next(n) if kind == "index" else next(f) if kind in ("float", "finite") else next(t))
    return formula, plan, tuple(values)


@torch.library.custom_op("heddle::attend", mutates_args=(), device_types="cpu")
def attend_op(tensors: Sequence[torch.Tensor], ints: Sequence[int], floats: Sequence[float], plan: str) -> list[torch.Tensor]:
    """Runs a registered plan; see the module's text."""
    formula, compiled, values = _values(plan, tensors, ints, floats)
    with torch.no_grad():
        result = compiled.run(values)
    return list(result) if formula.lse else [result]


@attend_op.register_fake
def _(tensors: Sequence[torch.Tensor], ints: Sequence[int], floats: Sequence[float], plan: str) -> list[torch.Tensor]:
    formula, _ = _registry[plan]
    q, v = tensors[0], tensors[2]
    shape = [*q.shape[:3], v.shape[3]]
    order = sorted(range(4), key=lambda axis: -q.stride(axis)) if not _symbolic(q) else _order(q)
    out = q.new_empty([shape[axis] for axis in order]).permute([order.index(axis) for axis in range(4)])
    if not formula.lse:
        return [out]
    heads, rows = (2, 1) if formula.rows_first else (1, 2)
    return [out, q.new_empty([q.shape[0], q.shape[heads], q.shape[rows]], dtype=torch.float32)]


def _symbolic(q: torch.Tensor) -> bool:
    return any(not isinstance(n, int) for n in (*q.shape, *q.stride()))


def _order(q: torch.Tensor) -> list[int]:
    """Axes by decreasing stride, by torch's own rule for symbolic sizes."""
    like = torch.empty_like(q)
    try:
        return sorted(range(4), key=lambda axis: -int(like.stride(axis)))
    except Exception:
        return [0, 1, 2, 3]


__all__ = ["attend_compiling", "attend_op"]

