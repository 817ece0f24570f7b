"""torch.compile: `attend` as the custom op `heddle::attend`.

The op takes the tensors of the graph, offsets, scales, and the name of a call without
them, which is put together while tracing, by functions that are marked as having constant
results. Patterns and functions may be made inside or outside of the compiled function.
What they refer to (captured tensors, `scalar`s, variables) is looked up anew by each run,
as it is without torch.compile. A function that the graph itself makes around variables of
its own is beyond that: such a call runs outside of the graph.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from . import _pattern
from ._attend import attend, plan_of
from ._pattern import Pattern, Staged, Unbound, as_pattern, full
from ._scalars import Scalar
from ._spec import Call, Formula, Relative, Segment, offset_kind, prepare

_registry: dict[str, _Frozen] = {}
_names: dict[Any, str] = {}
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


class _GraphScalar(Scalar):
    """Stands for number `n` among the integers that patterns collected from the graph."""

    __slots__ = ("n",)
    known: ClassVar[dict[int, _GraphScalar]] = {}

    def __init__(self, n: int) -> None:
        super().__init__(0)
        self.n = n

    @classmethod
    def of(cls, n: int) -> _GraphScalar:
        return cls.known.setdefault(n, cls(n))


_SCALAR = "%scalar"


def _place(x: Any, scalars: list[Any]) -> Any:
    """An argument without its `scalar`s, which are collected and stand as names with their numbers."""
    if isinstance(x, Scalar):
        if isinstance(x.value, float):
            raise TypeError("expected an integer hd.scalar in a pattern, but got a float")
        n = 0
        for known in scalars:
            if known is x:
                break
            n += 1
        if n == len(scalars):
            scalars.append(x)
        return f"{_SCALAR}{n}"
    if isinstance(x, int):
        return operator.index(x)  # a literal is a constant of the graph, also where torch.compile would generalize it
    if isinstance(x, (tuple, list)):
        items = []
        for item in x:
            items.append(_place(item, scalars))
        return tuple(items) if isinstance(x, tuple) else items
    return x


def _placed(x: Any) -> Any:
    """What `_place` was given, with a `_GraphScalar` for each `scalar`."""
    if isinstance(x, str) and x.startswith(_SCALAR):
        return _GraphScalar.of(int(x[len(_SCALAR) :]))
    return type(x)(_placed(item) for item in x) if isinstance(x, (tuple, list)) else x


@constant
def _given(pattern: Any) -> int:
    as_pattern(pattern)
    return _keep(pattern)


@constant
def _full() -> int:
    return _keep(full)


@constant
def _primitive(name: str, args: Any, kwargs: Any) -> int:
    return _keep(getattr(_pattern, name)(*_placed(args), **{k: _placed(v) for k, v in kwargs.items()}))


@constant
def _runtime(name: str, tensors: Any) -> int:
    operands = ", ".join(f"%t{n}" for n in tensors)
    return _keep(_pattern.parse(f"{name}({operands})"))


@constant
def _runtime_nested(name: str, tensors: Any, child: int) -> int:
    builder = _pattern.parse(f"{name}({', '.join(f'%t{n}' for n in tensors)}, full)")
    whole = as_pattern(_table[child])
    operands, to = _pattern.merge_operands(builder.operands, whole.operands)
    core = _pattern.CorePattern.make(
        name, operands=list(range(len(builder.operands))), children=[whole._core.renumber(to) if to else whole._core]
    )
    return _keep(Pattern(core, operands))


@constant
def _combined(name: str, numbers: Any) -> int:
    first, *rest = (as_pattern(_table[n]) for n in numbers)
    return _keep(getattr(first, name)(*rest))


@constant
def _nested(name: str, before: Any, numbers: Any) -> int:
    children = [as_pattern(_table[n]) for n in numbers]
    if name == "per_head":
        return _keep(_pattern.per_head(children))
    return _keep(getattr(_pattern, name)(*_placed(before), *children))


_COMBINATIONS = ("__and__", "__or__", "__sub__", "__invert__", "__rand__", "__ror__", "__rsub__")
_NESTED = ("coarse", "grid", "shift", "remap")


def _freeze(p: Any, tensors: list[Any], scalars: list[Any]) -> int:
    """The number of a pattern in `_table`; tensors of the graph are collected and stand as %t0, %t1, ..., and so are
    run-time integers.
    """
    if p is None:
        return _full()
    if not isinstance(p, Staged):
        return _given(p)
    if p.name in _COMBINATIONS:
        numbers = []
        for a in p.args:
            numbers.append(_freeze(a, tensors, scalars))
        return _combined(p.name, tuple(numbers))
    if p.name == "holds":
        return _freeze(p.args[0], tensors, scalars)
    if p.name == "per_head":
        numbers = []
        for a in p.args[0]:
            numbers.append(_freeze(a, tensors, scalars))
        return _nested("per_head", (), tuple(numbers))
    if p.name in _NESTED:
        before = []
        numbers = []
        for a in p.args:
            if isinstance(a, (int, str, Scalar)):
                before.append(_place(a, scalars))
            else:
                numbers.append(_freeze(a, tensors, scalars))
        return _nested(p.name, tuple(before), tuple(numbers))
    if len(p.args) > 0 and isinstance(p.args[0], torch.Tensor):
        at = []
        args = p.args
        child = None
        if p.name in ("positions", "packed"):
            if not isinstance(args[-1], torch.Tensor):
                child = _freeze(args[-1], tensors, scalars)
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
    kwargs = {}
    for key, a in p.kwargs.items():
        kwargs[key] = _place(a, scalars)
    return _primitive(p.name, _place(p.args, scalars), kwargs)


class _Frozen:
    """A call without the tensors of the graph: put together while torch.compile traces, completed by each run."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.rest: dict[str, Any] = {}
        self.offsets_from_tensors: tuple[bool, ...] = ()  # of those that are single integers
        self.scalars_from_tensors: tuple[bool, ...] = ()

    def call(self) -> Call:
        """The call with `_Hole`, `_GraphTensor` and `_GraphScalar` for values of the graph, the rest as it is now."""
        return prepare(_Hole(), self.segments, keep=True, **self.rest)

    def complete(
        self, tensors: Sequence[Any], ints: Sequence[int], floats: Sequence[float]
    ) -> tuple[Formula, Any, tuple[Any, ...]]:
        """Formula, plan and values of a run."""
        call = self.call()
        formula, plan = plan_of(call)
        t, n, f = iter(tensors), iter(ints), iter(floats)
        last = len(call.values) - (1 if formula.sink else 0)
        first = last - len(call.parts[3])
        offsets = iter(self.offsets_from_tensors)
        values = []
        for at, (kind, _, _, _) in enumerate(formula.arguments):
            value = call.values[at]
            if first <= at < last and not isinstance(value, (_GraphTensor, _GraphScalar)):
                values.append(value.get() if isinstance(value, Scalar) else value)
            elif kind == "index":
                # A 0-d tensor may stand for an integer.
                tensor = self.scalars_from_tensors[value.n] if isinstance(value, _GraphScalar) else next(offsets)
                values.append(next(t) if tensor else next(n))
            else:
                values.append(next(f) if kind == "finite" else next(t))
        return formula, plan, tuple(values)


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
def _end(
    frozen: int, scale: bool, sink: bool, normalizer: str, q_offset: str, lse: bool, rows_first: bool, offsets: Any,
    scalars: Any,
) -> str:  # fmt: skip
    hole = _Hole()
    state: _Frozen = _table[frozen]
    state.offsets_from_tensors, state.scalars_from_tensors = tuple(offsets), tuple(scalars)
    # Tensors of the graph are bound to holes, each of its own, so that a call can be taken apart.
    for s in state.segments:
        if isinstance(s.where, Pattern):
            s.where = Pattern(
                s.where._core, tuple(_GraphTensor.of(o) if isinstance(o, Unbound) else o for o in s.where.operands)
            )
    state.rest = {
        "scale": 1.0 if scale else None, "sink": hole if sink else None, "normalizer": normalizer,
        "q_offset": {"none": None, "end": "end", "index": 1, "tensor": hole}[q_offset], "lse": lse,
        "rows_first": rows_first,
    }  # fmt: skip
    call = state.call()
    plan_of(call)
    if torch.is_grad_enabled():
        for x in _operands(call):
            if isinstance(x, torch.Tensor) and x.requires_grad:
                raise ValueError(_NO_BACKWARD)
    # Calls with one formula share a name where they share patterns and functions, too.
    identity = (
        call.key, state.offsets_from_tensors, state.scalars_from_tensors,
        tuple(id(x) for s in state.segments for x in (s.where, s.score)),
    )  # fmt: skip
    name = _names.get(identity)
    if name is None:
        of_key = hashlib.sha256(repr(call.key).encode()).hexdigest()[:24]
        name = _names[identity] = f"{of_key}_{sum(n.startswith(of_key) for n in _registry)}"
        _registry[name] = state
    return name


def _operands(call: Call) -> Sequence[Any]:
    """The values of a call that its patterns and functions name."""
    last = len(call.values) - (1 if call.parts[4] else 0)
    return call.values[last - len(call.parts[3]) : last]


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
def _order_of_graph_operands(frozen: int) -> tuple[tuple[bool, int], ...]:
    """Of tensors (True) and integers (False) that patterns collected, the numbers in the order of the arguments."""
    operands = _operands(_table[frozen].call())
    return tuple((isinstance(x, _GraphTensor), x.n) for x in operands if isinstance(x, (_GraphTensor, _GraphScalar)))


_NO_BACKWARD = (
    "expected tensors without gradient, but got one that requires grad: there is no backward pass yet; "
    "call it under torch.no_grad()"
)

attend_outside = torch.compiler.disable(
    attend,
    reason="expected where and score to be patterns, functions at module level or functions that come from outside of "
    "the compiled code, but got a bound method, or a function with variables of the compiled code (they are no "
    "constants of the graph): the call runs outside of it, which fullgraph=True forbids; make such a function outside "
    "of the compiled code, with run-time numbers as hd.scalar and arrays as hd.tensor",
)


def _is_outside(fn: Any, arguments: int) -> bool:
    """True for a function that torch.compile takes for a constant though it is none.

    Which variables of the graph a function made in it refers to is not to be seen (it has no `__closure__` there).
    A function from outside has, and is part of what the graph is compiled for.
    """
    if isinstance(fn, Staged):
        return any(_is_outside(part, 4) for part in (fn.args[0] if fn.name == "per_head" else fn.args))
    if isinstance(fn, types.MethodType):
        return True
    if isinstance(fn, (int, float, str)):  # not asked for attributes: torch.compile may hold a symbol
        return False
    code = getattr(fn, "__code__", None)
    if code is None:
        return False
    if len(code.co_freevars) > 0 or code.co_argcount > arguments or code.co_kwonlyargcount > 0:
        try:
            fn.__closure__  # noqa: B018
        except AttributeError:
            return True
        id(fn)
    return False


def is_outside(where: Any, score: Any, segments: Any) -> bool:
    """True where torch.compile cannot hold a call: see `attend_outside`."""
    if _is_outside(where, 4) or _is_outside(score, 5):
        return True
    for s in segments or ():
        if _is_outside(s.where, 4) or _is_outside(s.score, 5 if s.dots is None else 4 + len(s.dots)):
            return True
    return False


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
        raise ValueError(_NO_BACKWARD)
    tensors: list[Any] = [q]
    dots: list[Any] = []
    ints: list[Any] = []
    floats: list[Any] = []
    offsets: list[Any] = []
    collected: list[Any] = []
    scalars: list[Any] = []
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
            offsets.append(s.k_offset.value if isinstance(s.k_offset, Scalar) else s.k_offset)
        _add(frozen, _freeze(s.where, collected, scalars), s.score, shifts, kind, s.scale is not None)
    q_kind = _kind(q_offset, "q_offset")
    if q_kind in ("index", "tensor"):
        offsets.insert(0, q_offset.value if isinstance(q_offset, Scalar) else q_offset)
    single = []
    for x in offsets:
        if not isinstance(x, torch.Tensor) or x.dim() == 0:
            single.append(isinstance(x, torch.Tensor))
    given_scalars = [isinstance(x.value, torch.Tensor) for x in scalars]
    name = _end(
        frozen, scale is not None, sink is not None, normalizer, q_kind, return_lse, layout == "bnhd", tuple(single),
        tuple(given_scalars),
    )  # fmt: skip
    tensors.extend(dots)
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
    for is_tensor, n in _order_of_graph_operands(frozen):
        if is_tensor:
            tensors.append(collected[n])
        elif given_scalars[n]:
            tensors.append(scalars[n].value)
        else:
            ints.append(scalars[n].value)
    if sink is not None:
        tensors.append(sink)
    results = torch.ops.heddle.attend(tensors, ints, floats, name)
    if out is not None:
        out.copy_(results[0])
        results = [out, *results[1:]]
    return (results[0], results[1]) if return_lse else results[0]


@torch.library.custom_op("heddle::attend", mutates_args=(), device_types="cpu")
def attend_op(
    tensors: Sequence[torch.Tensor], ints: Sequence[int], floats: Sequence[float], plan: str
) -> list[torch.Tensor]:
    """Runs a registered call; see the module's text."""
    with torch.no_grad():
        formula, compiled, values = _registry[plan].complete(tensors, ints, floats)
        result = compiled.run(values)
    return list(result) if formula.lse else [result]


@attend_op.register_fake
def _(tensors: Sequence[torch.Tensor], ints: Sequence[int], floats: Sequence[float], plan: str) -> list[torch.Tensor]:
    form = _registry[plan].rest
    q, v = tensors[0], tensors[2]
    shape = [*q.shape[:3], v.shape[3]]
    order = sorted(range(4), key=lambda axis: -q.stride(axis)) if not _symbolic(q) else _order(q)
    out = q.new_empty([shape[axis] for axis in order]).permute([order.index(axis) for axis in range(4)])
    if not form["lse"]:
        return [out]
    heads, rows = (2, 1) if form["rows_first"] else (1, 2)
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


__all__ = ["attend_compiling", "attend_op", "attend_outside", "is_outside"]
