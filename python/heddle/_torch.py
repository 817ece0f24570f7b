"""torch.compile: `attend` as the custom op `heddle::attend`.

The op takes all tensors of a call, its run-time integers and floats, and the name of a
plan, so that a formula is a constant of the graph and everything else an input. Under
torch.compile the formula is built while tracing, by functions that are marked as having
constant results; patterns and score functions may be made inside or outside of the
compiled function.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from . import _pattern
from ._attend import plan_of
from ._pattern import Pattern, Staged, Unbound, as_pattern, full
from ._spec import Relative, Segment, offset_kind, prepare

_registry: dict[str, tuple[Any, Any]] = {}
_table: list[Any] = []
"""What constant functions made while tracing; torch.compile holds the numbers."""


def constant(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Tells torch.compile that the function's result is a constant for constant arguments."""

    @functools.wraps(fn)
    def run(*args: Any) -> Any:
        _pattern.executing.append(True)
        try:
            return fn(*args)
        finally:
            _pattern.executing.pop()

    run._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return run


class _Hole:
    """Stands for a tensor of the graph."""

    shape = (0,)
    dtype = "int64"


def _keep(x: Any) -> int:
    _table.append(x)
    return len(_table) - 1


@constant
def _given(pattern: Any) -> int:
    return _keep(as_pattern(pattern))


@constant
def _full() -> int:
    return _keep(full)


@constant
def _primitive(name: str, args: Any, kwargs: Any) -> int:
    return _keep(getattr(_pattern, name)(*args, **kwargs))


@constant
def _runtime(name: str, tensors: Any) -> int:
    operands = ", ".join(f"%t{n}" for n in tensors)
    return _keep(_pattern.parse(f"{name}({operands})"))


@constant
def _runtime_nested(name: str, tensors: Any, child: int) -> int:
    builder = _pattern.parse(f"{name}({', '.join(f'%t{n}' for n in tensors)}, full)")
    whole = _table[child]
    operands, to = _pattern.merge_operands(builder.operands, whole.operands)
    core = _pattern.CorePattern.make(
        name, operands=list(range(len(builder.operands))), children=[whole._core.renumber(to) if to else whole._core]
    )
    return _keep(Pattern(core, operands))


@constant
def _combined(name: str, numbers: Any) -> int:
    first, *rest = (_table[n] for n in numbers)
    return _keep(getattr(first, name)(*rest))


@constant
def _nested(name: str, before: Any, numbers: Any) -> int:
    children = [_table[n] for n in numbers]
    return _keep(_pattern.per_head(children) if name == "per_head" else getattr(_pattern, name)(*before, *children))


_COMBINATIONS = ("__and__", "__or__", "__sub__", "__invert__", "__rand__", "__ror__", "__rsub__")
_NESTED = ("coarse", "grid", "shift", "remap")


def _freeze(p: Any, tensors: list[Any]) -> int:
    """The number of a pattern in `_table`; tensors of the graph are collected and stand as %t0, %t1, ..."""
    if p is None:
        return _full()
    if not isinstance(p, Staged):
        return _given(p)
    if p.name in _COMBINATIONS:
        numbers = []
        for a in p.args:
            numbers.append(_freeze(a, tensors))
        return _combined(p.name, tuple(numbers))
    if p.name == "per_head":
        numbers = []
        for a in p.args[0]:
            numbers.append(_freeze(a, tensors))
        return _nested("per_head", (), tuple(numbers))
    if p.name in _NESTED:
        before = []
        numbers = []
        for a in p.args:
            if isinstance(a, (int, str)):
                before.append(a)
            else:
                numbers.append(_freeze(a, tensors))
        return _nested(p.name, tuple(before), tuple(numbers))
    if len(p.args) > 0 and isinstance(p.args[0], torch.Tensor):
        at = []
        args = p.args
        child = None
        if p.name in ("positions", "packed"):
            if not isinstance(args[-1], torch.Tensor):
                child = _freeze(args[-1], tensors)
                args = args[:-1]
            else:
                child = _full()
        if p.name in ("same", "packed") and len(args) == 1:
            args = (args[0], args[0])
        for a in args:
            at.append(len(tensors))
            tensors.append(a)
        if child is not None:
            return _runtime_nested(p.name, tuple(at), child)
        return _runtime(p.name, tuple(at))
    return _primitive(p.name, p.args, p.kwargs)


class _Frozen:
    """A call's formula, put together while torch.compile traces."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.name = ""
        self.operands: list[Any] = []
        self.kinds = ""


@constant
def _begin() -> int:
    return _keep(_Frozen())


@constant
def _add(frozen: int, where: int, score: Any, dots: Any, k_offset: str, scale: bool) -> int:
    hole = _Hole()
    offset: Any = {"none": 0, "index": 1, "tensor": hole}[k_offset]
    pairs = None if dots == -1 else [(hole, hole if s is None else Relative(hole, s)) for s in dots]
    _table[frozen].segments.append(Segment(hole, hole, _table[where], score, 1.0 if scale else None, offset, pairs))
    return 0


@constant
def _end(frozen: int, scale: bool, sink: bool, normalizer: str, q_offset: str, lse: bool, rows_first: bool) -> str:
    hole = _Hole()
    offset: Any = {"none": None, "end": "end", "index": 1, "tensor": hole}[q_offset]
    state: _Frozen = _table[frozen]
    # Tensors of the graph are bound to holes, each of its own, so that a call can be taken apart.
    for s in state.segments:
        s.where = Pattern(
            s.where._core, tuple(_GraphTensor.of(o) if isinstance(o, Unbound) else o for o in s.where.operands)
        )
    call = prepare(
        hole, state.segments, scale=1.0 if scale else None, sink=hole if sink else None, normalizer=normalizer,
        q_offset=offset, lse=lse, rows_first=rows_first,
    )  # fmt: skip
    formula, plan = plan_of(call)
    state.name = hashlib.sha256(repr(call.key).encode()).hexdigest()[:24]
    _registry[state.name] = (formula, plan)
    state.kinds = call.parts[3]
    last = len(call.values) - (1 if sink else 0)
    state.operands = list(call.values[last - len(state.kinds) : last])
    return state.name


class _GraphTensor:
    """Stands for tensor number `n` among those that patterns collected from the graph."""

    shape = (0, 0)
    dtype = "int64"
    known: ClassVar[dict[int, _GraphTensor]] = {}

    def __init__(self, n: int) -> None:
        self.n = n

    @classmethod
    def of(cls, o: Unbound) -> _GraphTensor:
        n = int(o.name[1:])
        return cls.known.setdefault(n, cls(n))


@constant
def _operand_kinds(frozen: int) -> str:
    return "".join(
        "g" if isinstance(x, _GraphTensor) else k
        for k, x in zip(_table[frozen].kinds, _table[frozen].operands, strict=True)
    )


@constant
def _graph_number(frozen: int, n: int) -> int:
    return _table[frozen].operands[n].n


# A captured tensor becomes an attribute of the graph. torch.compile names it after the function
# that gave it, and wants different names for different tensors: hence a bank of functions.
_BANK = 512
_bank: list[Any] = [None] * _BANK
_next = itertools.count()


@constant
def _slot(frozen: int, n: int) -> int:
    slot = next(_next) % _BANK
    x = _table[frozen].operands[n]
    _bank[slot] = x if isinstance(x, (int, float, torch.Tensor)) else torch.as_tensor(x)
    return slot


def _from_bank(slot: int) -> Callable[[], Any]:
    def fetch() -> Any:
        return _bank[slot]

    fetch.__name__ = f"heddle_operand_{slot}"
    fetch.__code__ = fetch.__code__.replace(co_name=fetch.__name__)
    fetch._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return fetch


_fetch = [_from_bank(slot) for slot in range(_BANK)]


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
    if segments is None:
        segments = [Segment(k, v, where, score, None, k_offset, None)]
    given = [q, out, sink, scale]
    for s in segments:
        given.append(s.k)
        given.append(s.v)
    if torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in given):
        raise ValueError(
            "expected tensors without gradient, but got one that requires grad: there is no backward pass yet; "
            "call it under torch.no_grad()"
        )
    tensors: list[Any] = [q]
    dots: list[Any] = []
    ints: list[Any] = []
    floats: list[Any] = []
    offsets: list[Any] = []
    collected: list[Any] = []
    frozen = _begin()
    for s in segments:
        tensors.append(s.k)
        tensors.append(s.v)
        shifts: Any = -1
        if s.dots is not None:
            shifts = tuple([b.shift if isinstance(b, Relative) else None for _, b in s.dots])
            for a, b in s.dots:
                dots.append(a)
                dots.append(b.rows if isinstance(b, Relative) else b)
        kind = "none"
        if not (isinstance(s.k_offset, int) and s.k_offset == 0):
            kind = _kind(s.k_offset, "k_offset")
            offsets.append(s.k_offset)
        _add(frozen, _freeze(s.where, collected), s.score, shifts, kind, s.scale is not None)
    q_kind = _kind(q_offset, "q_offset")
    name = _end(frozen, scale is not None, sink is not None, normalizer, q_kind, return_lse, layout == "bnhd")
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
        if kind == "g":
            tensors.append(collected[_graph_number(frozen, n)])
            continue
        x = _fetch[_slot(frozen, n)]()
        if kind in "iI":
            ints.append(x)
        elif kind == "F":
            floats.append(x)
        else:
            tensors.append(x)
    if sink is not None:
        tensors.append(sink)
    results = torch.ops.heddle.attend(tensors, ints, floats, name)
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
def attend_op(
    tensors: Sequence[torch.Tensor], ints: Sequence[int], floats: Sequence[float], plan: str
) -> list[torch.Tensor]:
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
