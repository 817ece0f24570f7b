"""torch's functions on traced scalars, by name.

Mask and score functions written for FlexAttention or transformers call torch on their
arguments and index plain tensors by them. `__torch_function__` and, while tracing, a
function mode bring those calls here. torch itself is never imported by this module.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ._scalars import (
    Partial,
    Traced,
    _bits,
    _cast,
    _compare,
    _constant_like,
    _floor_div,
    _load,
    _mod,
    _pow,
    _shift,
    _true_div,
    as_traced,
    clamp,
    cos,
    erf,
    exp,
    exp2,
    floor,
    log,
    maximum,
    minimum,
    select,
    sigmoid,
    sin,
    sqrt,
    tanh,
)


def _torch_div(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode == "floor":
        return _floor_div(a, b)
    if rounding_mode is None:
        return _true_div(a, b)
    return _cast(_true_div(a, b), "int")


def _logical(op: str) -> Callable[[Any, Any], Any]:
    return lambda a, b: _bits(op, _cast(as_traced(a), "bool"), _cast(as_traced(b), "bool"))


def _same(x: Any, *_: Any, **__: Any) -> Any:
    return x


def _torch_max(a: Any, b: Any) -> Any:
    return maximum(a, b)


def _elu(x: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    return select(as_traced(x) > 0, x, alpha * (exp(minimum(x, 0.0)) - 1))


def _gelu(x: Any, approximate: str = "none") -> Any:
    x = as_traced(x)
    if approximate == "tanh":
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    y = as_traced(x) * beta
    return select(y > threshold, x, log(1 + exp(minimum(y, threshold))) / beta)


def _leaky_relu(x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    return select(as_traced(x) > 0, x, as_traced(x) * negative_slope)


METHODS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, alpha=1: as_traced(a) + (b if alpha == 1 else as_traced(b) * alpha),
    "sub": lambda a, b, alpha=1: as_traced(a) - (b if alpha == 1 else as_traced(b) * alpha),
    "subtract": lambda a, b: as_traced(a) - b,
    "rsub": lambda a, b: as_traced(b) - a,
    "mul": lambda a, b: as_traced(a) * b,
    "multiply": lambda a, b: as_traced(a) * b,
    "div": _torch_div,
    "divide": _torch_div,
    "true_divide": _true_div,
    "floor_divide": _floor_div,
    "remainder": _mod,
    "pow": _pow,
    "square": lambda a: as_traced(a) * a,
    "neg": lambda a: -as_traced(a),
    "negative": lambda a: -as_traced(a),
    "abs": lambda a: builtins.abs(as_traced(a)),
    "absolute": lambda a: builtins.abs(as_traced(a)),
    "lt": lambda a, b: _compare("lt", a, b),
    "less": lambda a, b: _compare("lt", a, b),
    "le": lambda a, b: _compare("le", a, b),
    "less_equal": lambda a, b: _compare("le", a, b),
    "gt": lambda a, b: _compare("gt", a, b),
    "greater": lambda a, b: _compare("gt", a, b),
    "ge": lambda a, b: _compare("ge", a, b),
    "greater_equal": lambda a, b: _compare("ge", a, b),
    "eq": lambda a, b: _compare("eq", a, b),
    "ne": lambda a, b: _compare("ne", a, b),
    "not_equal": lambda a, b: _compare("ne", a, b),
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "logical_not": lambda a: ~_cast(as_traced(a), "bool"),
    "bitwise_and": lambda a, b: _bits("and", a, b),
    "bitwise_or": lambda a, b: _bits("or", a, b),
    "bitwise_xor": lambda a, b: _bits("xor", a, b),
    "bitwise_not": lambda a: ~as_traced(a),
    "bitwise_left_shift": lambda a, b: _shift("shl", a, b),
    "bitwise_right_shift": lambda a, b: _shift("shr", a, b),
    "where": lambda c, x, y: select(c, x, y),
    "maximum": maximum,
    "minimum": minimum,
    "max": _torch_max,
    "min": lambda a, b: minimum(a, b),
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": lambda x, min: maximum(x, min),
    "clamp_max": lambda x, max: minimum(x, max),
    "relu": lambda x, inplace=False: maximum(x, 0),
    "elu": _elu,
    "gelu": _gelu,
    "silu": lambda x, inplace=False: as_traced(x) * sigmoid(x),
    "softplus": _softplus,
    "leaky_relu": _leaky_relu,
    "log_sigmoid": lambda x: -_softplus(-as_traced(x)),
    "floor": lambda x: floor(as_traced(x)),
    "ceil": lambda x: -floor(-as_traced(x)),
    "exp": exp,
    "exp2": exp2,
    "log": log,
    "log2": lambda x: log(x) * (1 / math.log(2)),
    "log1p": lambda x: log(as_traced(x) + 1),
    "sqrt": sqrt,
    "rsqrt": lambda x: 1 / sqrt(x),
    "tanh": tanh,
    "sigmoid": sigmoid,
    "erf": erf,
    "sin": sin,
    "cos": cos,
    "masked_fill": lambda x, m, v: select(m, v, x),
    "ones_like": lambda x, dtype=None, **_: _constant_like(1, dtype, x.type),
    "zeros_like": lambda x, dtype=None, **_: _constant_like(0, dtype, x.type),
    "clone": _same,
    "detach": _same,
    "contiguous": _same,
    "squeeze": _same,
    "to": lambda x, *a, **k: x.to(*a, **k),
    "type_as": lambda x, o: x.type_as(o),
}
_DUNDER = {
    "__add__": "add", "__radd__": "add", "__sub__": "sub", "__rsub__": "rsub", "__mul__": "mul", "__rmul__": "mul",
    "__truediv__": "div", "__floordiv__": "floor_divide", "__mod__": "remainder", "__and__": "bitwise_and",
    "__rand__": "bitwise_and", "__or__": "bitwise_or", "__ror__": "bitwise_or", "__xor__": "bitwise_xor",
    "__rxor__": "bitwise_xor", "__lshift__": "bitwise_left_shift", "__rshift__": "bitwise_right_shift",
    "__lt__": "lt", "__le__": "le", "__gt__": "gt", "__ge__": "ge", "__eq__": "eq", "__ne__": "ne",
    "__pow__": "pow",
}  # fmt: skip
_SWAPPED = {
    "__rtruediv__": "div", "__rdiv__": "div", "__rfloordiv__": "floor_divide", "__rmod__": "remainder",
    "__rpow__": "pow", "__rlshift__": "bitwise_left_shift", "__rrshift__": "bitwise_right_shift",
}  # fmt: skip


def is_elementwise(name: str) -> bool:
    """Whether a torch function of this name is known here: each computes elements one by one."""
    return name in METHODS or name in _DUNDER or name in _SWAPPED or name.rstrip("_") in METHODS


def torch_call(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", str(func))
    if name == "__getitem__":
        return _load(args[0], args[1])
    if name in _SWAPPED:
        return METHODS[_SWAPPED[name]](args[1], args[0])
    fn = METHODS.get(_DUNDER.get(name, name.rstrip("_") if not name.startswith("__") else name))
    if fn is None:
        raise TypeError(f"expected a function that can be traced, but got torch's {name} on a traced scalar")
    kwargs.pop("out", None)
    return fn(*args, **kwargs)


def _mentions_traced(x: Any) -> bool:
    if isinstance(x, (Traced, Partial)):
        return True
    if isinstance(x, (tuple, list)):
        return any(_mentions_traced(y) for y in x)
    return False


@contextlib.contextmanager
def torch_mode() -> Iterator[None]:
    """Lets torch functions on plain tensors see traced arguments, where torch is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with _torch_mode_class()():
        yield


@functools.lru_cache(maxsize=1)
def _torch_mode_class() -> Any:
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if _mentions_traced(args) or _mentions_traced(tuple(kwargs.values())):
                return torch_call(func, args, kwargs)
            return func(*args, **kwargs)

    return Mode
