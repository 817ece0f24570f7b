"""Running a function once on traced scalars, and remembering it.

A function is keyed by its code and by the values that its closure and its globals
reach; tensors among them count by their type only, and are found again in the next
function with the same key. So a lambda that is made anew for every call is traced once.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ._scalars import Scalar, Tensor, Traced, _is_tensor, as_traced, capture_identity, symbols
from ._torchnames import torch_mode


class Wrapper:
    """Base of what stands for one function; it has the key of that function."""

    function: Callable[..., Any]


class _Uncacheable(Exception):
    """The function reaches something that has no key."""


_LIBRARIES = frozenset({*sys.stdlib_module_names, "heddle", "numpy", "torch"}) - {"__main__"}
"""Modules whose attributes do not change."""
_SIMPLE = (type(None), bool, builtins.int, builtins.float, str, bytes, complex)


class _Key:
    """The key of a function, and the tensors and scalars it reaches, in order."""

    __slots__ = ("captures", "pinned", "seen")

    def __init__(self) -> None:
        self.captures: list[Any] = []
        self.seen: dict[builtins.int, builtins.int] = {}
        self.pinned: list[Any] = []

    def function(self, fn: Any) -> tuple[Any, ...]:
        if id(fn) in self.seen:
            return ("again", self.seen[id(fn)])
        self.seen[id(fn)] = len(self.seen)
        cells = fn.__closure__ or ()
        parts: list[Any] = ["fn", fn.__code__]
        for cell in cells:
            try:
                parts.append(self.value(cell.cell_contents))
                self._attributes(cell.cell_contents, fn.__code__, parts)
            except ValueError as e:  # an empty cell
                raise _Uncacheable from e
        parts.extend(self.value(d) for d in fn.__defaults__ or ())
        parts.extend((n, self.value(d)) for n, d in (fn.__kwdefaults__ or {}).items())
        self._globals(fn.__code__, fn.__globals__, parts)
        return tuple(parts)

    def _globals(self, code: types.CodeType, names: dict[str, Any], parts: list[Any]) -> None:
        for name in code.co_names:
            if name in names:
                parts.append((name, self.value(names[name])))
                self._attributes(names[name], code, parts)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self._globals(const, names, parts)

    def _attributes(self, v: Any, code: types.CodeType, parts: list[Any]) -> None:
        """What the code may read of a module or a class: attributes that have one of its names."""
        if not isinstance(v, (types.ModuleType, type)) or id(v) in self.seen:
            return
        module = v.__name__ if isinstance(v, types.ModuleType) else v.__module__
        if module.split(".")[0] in _LIBRARIES:
            return
        self.seen[id(v)] = len(self.seen)
        for name in code.co_names:
            if hasattr(v, name):
                parts.append((name, self.value(getattr(v, name))))
                self._attributes(getattr(v, name), code, parts)

    def value(self, v: Any) -> Any:
        if isinstance(v, builtins.float):
            return (type(v), repr(v))  # 0.0 == -0.0
        if isinstance(v, _SIMPLE):
            return (type(v), v)
        if type(v).__module__ == f"{__package__}._pattern" and hasattr(v, "canonical"):
            form = v.canonical()
            return ("pattern", form.text, tuple(self.value(x) for x in form.operands))
        if isinstance(v, type) or (str(getattr(v, "__module__", "")).startswith(__package__) and callable(v)):
            self.pinned.append(v)  # a class, or one of our own functions
            return ("object", id(v))
        if isinstance(v, (Tensor, Scalar)) or _is_tensor(v):
            data = v.data if isinstance(v, Tensor) else v
            self.captures.append(data)
            if isinstance(v, Scalar):
                return ("scalar", v.is_float)
            return ("tensor", str(data.dtype), len(data.shape))
        if isinstance(v, types.FunctionType):
            return self.function(v)
        if isinstance(v, Wrapper):
            return ("wrapper", self.function(v.function))
        if isinstance(v, (tuple, list)):
            return (type(v), tuple(self.value(x) for x in v))
        if isinstance(v, dict):
            return ("dict", tuple((self.value(k), self.value(x)) for k, x in v.items()))
        if isinstance(v, functools.partial):
            return ("partial", self.value(v.func), self.value(v.args), self.value(v.keywords))
        if isinstance(v, (types.ModuleType, types.BuiltinFunctionType)) or type(v).__module__ == "torch":
            self.pinned.append(v)
            return ("object", id(v))
        raise _Uncacheable


def function_key(fn: Any) -> tuple[Any, list[Any], list[Any]] | None:
    """(key, captured tensors and scalars in order, objects to keep alive); None without a key."""
    key = _Key()
    try:
        if isinstance(fn, types.FunctionType):
            return key.function(fn), key.captures, key.pinned
        if isinstance(fn, functools.partial):
            return key.value(fn), key.captures, key.pinned
    except _Uncacheable:
        pass
    return None


# Traces


class Slot:
    """Stands for a captured tensor or scalar in a finished trace: capture number `n`."""

    __slots__ = ("n",)

    def __init__(self, n: builtins.int) -> None:
        self.n = n


class Trace:
    """A traced function: the expression, whose leaves are slots, and what fills them in this call."""

    __slots__ = ("captures", "key", "root")

    def __init__(self, root: Traced, captures: list[Any], key: Any) -> None:
        self.root = root
        self.captures = captures
        self.key = key


def _captures(root: Traced) -> list[Any]:
    """Captured tensors and scalars, each once, in order of first use."""
    found: list[Any] = []
    ids: set[builtins.int] = set()
    done: set[builtins.int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if node.op in ("load", "scalar"):
            thing = capture_identity(node.value)
            if id(thing) not in ids:
                ids.add(id(thing))
                found.append(node.value)
        stack.extend(reversed(node.args))
    return found


_CACHE_SIZE = 512
_cache: OrderedDict[Any, Any] = OrderedDict()


class _Entry:
    """A finished trace without the tensors it captured."""

    __slots__ = ("key", "pinned", "positions", "root")

    def __init__(self, root: Traced, key: Any, positions: list[builtins.int], pinned: list[Any]) -> None:
        self.root = root
        self.key = key
        self.positions = positions
        self.pinned = pinned


_PARAMETERS = {"score": "one number for each dot, then b, h, i, j", "feature": "x"}


def _check_parameters(fn: Callable[..., Any], kind: str, count: builtins.int) -> None:
    """Raises TypeError where `fn` does not take `count` arguments."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*[None] * count)
    except TypeError:
        what = _PARAMETERS.get(kind, "b, h, i, j")
        raise TypeError(
            f"expected a {kind} function of {count} arguments ({what}), but got one of {signature}"
        ) from None


def run_traced(fn: Callable[..., Any], kind: str, dots: builtins.int = 1) -> Trace:
    """Traces `fn` of (b, h, i, j) (kind "mask" or "map"), of (dots…, b, h, i, j) ("score") or of x ("feature").

    Functions with one code and equal closure values share one trace; captured tensors
    are operands, so a new tensor of the same type shares it too.
    """
    found = function_key(fn)
    if found is not None:
        key = (kind, dots, found[0])
        entry = _cache.get(key)
        if entry is not None:
            _cache.move_to_end(key)
            captures = [found[1][p] for p in entry.positions]
            captures = [Scalar(c) if _is_tensor(c) and len(c.shape) == 0 else c for c in captures]
            return Trace(entry.root, captures, entry.key)
    args = list(symbols())
    if kind == "score":
        args = [Traced("dot", (), "float", n) for n in range(dots)] + args
    elif kind == "feature":
        args = [Traced("dot", (), "float", 0)]
    _check_parameters(fn, kind, len(args))
    with torch_mode():
        result = fn(*args)
    what = "condition" if kind == "mask" else "number"
    if result is None:
        raise TypeError(f"expected a {kind} function that returns a {what}, but got None; does it lack a return?")
    root = as_traced(result)
    if kind == "mask" and root.type == "float":
        raise TypeError("expected a mask function that returns a condition, but got a float; write x != 0, or score=")
    captures = _captures(root)
    root, structure = _finish(root, captures)
    trace = Trace(root, captures, structure)
    if found is not None:
        reach = {id(capture_identity(c)): n for n, c in reversed(list(enumerate(found[1])))}
        positions = [reach.get(id(capture_identity(c)), -1) for c in captures]
        if all(p >= 0 for p in positions):
            _cache[(kind, dots, found[0])] = _Entry(root, structure, positions, found[2])
            if len(_cache) > _CACHE_SIZE:
                _cache.popitem(last=False)
    return trace


def _finish(root: Traced, captures: list[Any]) -> tuple[Traced, Any]:
    """The expression with slots for captures, equal parts shared; and a hashable form of it."""
    slots = {id(capture_identity(c)): Slot(n) for n, c in enumerate(captures)}
    memo: dict[builtins.int, builtins.int] = {}
    rows: dict[Any, builtins.int] = {}
    nodes: list[Traced] = []

    def visit(node: Traced) -> builtins.int:
        if id(node) in memo:
            return memo[id(node)]
        args = tuple(visit(a) for a in node.args)
        slot = slots[id(capture_identity(node.value))] if node.op in ("load", "scalar") else None
        row = (node.op, node.type, repr(node.value) if slot is None else slot.n, args)
        if row not in rows:
            rows[row] = len(nodes)
            nodes.append(
                Traced(node.op, tuple(nodes[a] for a in args), node.type, node.value if slot is None else slot)
            )
        memo[id(node)] = rows[row]
        return memo[id(node)]

    return nodes[visit(root)], tuple(rows)
