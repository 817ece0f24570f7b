"""Tracing: Python functions of (b, h, i, j) become expressions.

A mask or score function runs once, on traced scalars. Arithmetic, comparisons and
indexing of captured tensors build a small expression tree; a mask becomes a
`holds(...)` pattern, a score becomes the MLIR text of a score region. Plain torch
code works too (``torch.where``, ``torch.tanh``, ``slopes[h]``), so that the mask and
score functions of FlexAttention and of HF transformers run unchanged.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import math
import struct
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

from . import _core

Number = Union[bool, int, float]

_RAISE_BOOL = (
    "expected a condition built with &, | and ~ (or hd.select), but got the truth value of a traced scalar: "
    "`and`, `or`, `not`, `if`, `min`, `max` and chained comparisons such as `0 <= i < n` cannot be traced; "
    "write `(0 <= i) & (i < n)`, hd.select(cond, x, y), hd.minimum(x, y)"
)


class Scalar:
    """A run-time number: changing it never recompiles.

    Parameters
    ----------
    value
        An integer (for patterns and scores) or a float (for scores). May be
        assigned later: ``w.value = 128``.
    """

    __slots__ = ("value",)

    value: Any

    def __init__(self, value: Any) -> None:
        if isinstance(value, Scalar):
            value = value.value
        if isinstance(value, bool) or not (hasattr(value, "__index__") or hasattr(value, "__float__")):
            raise TypeError(f"expected an integer or a float for a scalar, but got {type(value).__name__}")
        self.value = value

    @property
    def is_float(self) -> bool:
        """True where the value is a floating-point number."""
        v = self.value
        if isinstance(v, (int, float)):
            return isinstance(v, float)
        dtype = str(getattr(v, "dtype", ""))
        return "float" in dtype

    def get(self) -> int | float:
        """The value as a Python number."""
        return float(self.value) if self.is_float else int(self.value)

    def __repr__(self) -> str:
        return f"hd.scalar({self.get()})"


def scalar(value: Any) -> Scalar:
    """A run-time integer or float for patterns and score functions.

    Examples
    --------
    >>> w = hd.scalar(64)
    >>> out = hd.attend(q, k, v, where=hd.causal & hd.window(w, 0))
    """
    return Scalar(value)


def _dtype_of(data: Any) -> str:
    name = str(getattr(data, "dtype", ""))
    return name.rsplit(".", 1)[-1]


def _type_of_dtype(name: str) -> str:
    if name == "bool":
        return "bool"
    if name.startswith(("int", "uint")):
        return "int"
    if "float" in name:
        return "float"
    raise TypeError(f"expected a tensor of bool, integers or floats, but got {name or 'no dtype'}")


class Tensor:
    """A captured tensor: a run-time operand that traced values may index.

    Indices are positions; one that is out of range is clamped.
    """

    __slots__ = ("data",)

    data: Any

    def __init__(self, data: Any) -> None:
        if isinstance(data, Tensor):
            data = data.data
        if isinstance(data, (list, tuple)):
            raise TypeError(f"expected a NumPy array or a torch tensor, but got {type(data).__name__}")
        _core.describe(data, "the captured tensor")
        if _dtype_of(data) == "float64":
            raise TypeError(
                "expected a captured tensor of float32, float16, bfloat16, bool or integers, but got float64; "
                "convert it (NumPy: x.astype(np.float32), torch: x.float())"
            )
        self.data = data

    def __getitem__(self, index: Any) -> Any:
        return _load(self.data, index)

    def __repr__(self) -> str:
        return f"hd.tensor({_dtype_of(self.data)}{list(self.data.shape)})"


def tensor(data: Any) -> Tensor:
    """Marks `data` (NumPy array or torch CPU tensor, any rank) as captured by score and mask functions.

    Examples
    --------
    >>> slope = hd.tensor(slopes)  # [H], float32
    >>> out = hd.attend(q, k, v, score=lambda s, b, h, i, j: s - slope[h] * (i - j))
    """
    return Tensor(data)


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, (Traced, Partial))


def _load(data: Any, index: Any) -> Any:
    return Partial(data, ()).extend(index)


class Partial:
    """A captured tensor with fewer indices than dimensions (so far)."""

    __slots__ = ("at", "data")

    def __init__(self, data: Any, at: tuple[Any, ...]) -> None:
        self.data = data
        self.at = at

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions that have no index yet."""
        return tuple(self.data.shape)[len(self.at) :]

    def extend(self, index: Any) -> Any:
        """More indices; a `Traced` once every dimension has one."""
        more = index if isinstance(index, tuple) else (index,)
        at = self.at
        for x in more:
            if isinstance(x, (slice, type(None), type(Ellipsis), list)):
                raise TypeError(
                    f"expected integers or traced integers as indices of a captured tensor, but got {x!r}; "
                    "index every dimension"
                )
            x = as_traced(x)
            if x.type != "int":
                raise TypeError(f"expected integer indices of a captured tensor, but got a traced {x.type}")
            at = (*at, x)
        rank = len(self.data.shape)
        if len(at) > rank:
            raise IndexError(f"expected {rank} indices of a captured tensor, but got {len(at)}")
        if len(at) < rank:
            return Partial(self.data, at)
        return Traced("load", at, _type_of_dtype(_dtype_of(self.data)), self.data)

    def __getitem__(self, index: Any) -> Any:
        return self.extend(index)


class Traced:
    """A scalar of a traced function: one of `int`, `float`, `bool`."""

    __slots__ = ("args", "op", "type", "value")

    # numpy must not try to broadcast over us.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, op: str, args: tuple[Any, ...], type: str, value: Any = None) -> None:
        self.op = op
        self.args = args
        self.type = type
        self.value = value

    # Truth and conversion

    def __bool__(self) -> bool:
        raise TypeError(_RAISE_BOOL)

    def _refuse(self, what: str) -> Any:
        raise TypeError(f"expected traced code, but got {what} of a traced scalar, which has no value while tracing")

    def __index__(self) -> int:
        raise TypeError(
            "expected an index that is known while tracing, but got a traced scalar; wrap the array in hd.tensor(...) "
            "to index it by traced values"
        )

    def __int__(self) -> int:
        return self._refuse("int()")

    def __float__(self) -> float:
        return self._refuse("float()")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("expected a traced scalar, but got an iteration over it")

    def __repr__(self) -> str:
        return f"<traced {self.type}>"

    # Arithmetic

    def __add__(self, o: Any) -> Traced:
        return _arith("add", self, o)

    def __radd__(self, o: Any) -> Traced:
        return _arith("add", o, self)

    def __sub__(self, o: Any) -> Traced:
        return _arith("sub", self, o)

    def __rsub__(self, o: Any) -> Traced:
        return _arith("sub", o, self)

    def __mul__(self, o: Any) -> Traced:
        return _arith("mul", self, o)

    def __rmul__(self, o: Any) -> Traced:
        return _arith("mul", o, self)

    def __truediv__(self, o: Any) -> Traced:
        return _true_div(self, o)

    def __rtruediv__(self, o: Any) -> Traced:
        return _true_div(o, self)

    def __floordiv__(self, o: Any) -> Traced:
        return _floor_div(self, o)

    def __rfloordiv__(self, o: Any) -> Traced:
        return _floor_div(o, self)

    def __mod__(self, o: Any) -> Traced:
        return _mod(self, o)

    def __rmod__(self, o: Any) -> Traced:
        return _mod(o, self)

    def __divmod__(self, o: Any) -> tuple[Traced, Traced]:
        return _floor_div(self, o), _mod(self, o)

    def __pow__(self, o: Any) -> Traced:
        return _pow(self, o)

    def __rpow__(self, o: Any) -> Traced:
        return _pow(o, self)

    def __neg__(self) -> Traced:
        x = _numeric(self)
        return Traced("neg", (x,), x.type)

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Traced:
        x = _numeric(self)
        return Traced("abs", (x,), x.type)

    def __floor__(self) -> Traced:
        return floor(self)

    def __ceil__(self) -> Traced:
        return -floor(-self)

    # Bits and logic

    def __and__(self, o: Any) -> Traced:
        return _bits("and", self, o)

    def __rand__(self, o: Any) -> Traced:
        return _bits("and", o, self)

    def __or__(self, o: Any) -> Traced:
        return _bits("or", self, o)

    def __ror__(self, o: Any) -> Traced:
        return _bits("or", o, self)

    def __xor__(self, o: Any) -> Traced:
        return _bits("xor", self, o)

    def __rxor__(self, o: Any) -> Traced:
        return _bits("xor", o, self)

    def __invert__(self) -> Traced:
        if self.type == "bool":
            return Traced("not", (self,), "bool")
        if self.type == "int":
            return -self - 1
        raise TypeError("expected a bool or an integer for ~, but got a traced float")

    def __lshift__(self, o: Any) -> Traced:
        return _shift("shl", self, o)

    def __rlshift__(self, o: Any) -> Traced:
        return _shift("shl", o, self)

    def __rshift__(self, o: Any) -> Traced:
        return _shift("shr", self, o)

    def __rrshift__(self, o: Any) -> Traced:
        return _shift("shr", o, self)

    # Comparisons

    def __lt__(self, o: Any) -> Traced:
        return _compare("lt", self, o)

    def __le__(self, o: Any) -> Traced:
        return _compare("le", self, o)

    def __gt__(self, o: Any) -> Traced:
        return _compare("gt", self, o)

    def __ge__(self, o: Any) -> Traced:
        return _compare("ge", self, o)

    def __eq__(self, o: Any) -> Traced:  # type: ignore[override]
        return _compare("eq", self, o)

    def __ne__(self, o: Any) -> Traced:  # type: ignore[override]
        return _compare("ne", self, o)

    # What torch code asks of a 0-d tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(): a scalar."""
        return ()

    @property
    def ndim(self) -> int:
        """0: a scalar."""
        return 0

    @property
    def dtype(self) -> Any:
        """The torch dtype that stands for the traced type."""
        torch = sys.modules["torch"]
        return {"int": torch.int64, "float": torch.float32, "bool": torch.bool}[self.type]

    @property
    def device(self) -> Any:
        """The CPU."""
        return sys.modules["torch"].device("cpu")

    def new_ones(self, *_: Any, dtype: Any = None, **__: Any) -> Traced:
        """The constant 1 (or true)."""
        return _constant_like(1, dtype, self.type)

    def new_zeros(self, *_: Any, dtype: Any = None, **__: Any) -> Traced:
        """The constant 0 (or false)."""
        return _constant_like(0, dtype, self.type)

    def new_full(self, _: Any, value: Any, dtype: Any = None, **__: Any) -> Traced:
        """The constant `value`."""
        return _cast(as_traced(value), _kind_of(dtype) or self.type)

    def to(self, *args: Any, dtype: Any = None, **_: Any) -> Traced:
        """Conversion to another dtype; devices are ignored."""
        for a in args:
            if _kind_of(a) is not None:
                dtype = a
        kind = _kind_of(dtype)
        return self if kind is None else _cast(self, kind)

    def float(self) -> Traced:
        """As a float."""
        return _cast(self, "float")

    def int(self) -> Traced:
        """As an integer, rounded toward zero."""
        return _cast(self, "int")

    long = int

    def bool(self) -> Traced:
        """True where it is not 0."""
        return _cast(self, "bool")

    def type_as(self, o: Traced) -> Traced:
        """Conversion to the type of `o`."""
        return _cast(self, o.type)

    def item(self) -> Any:
        """Refused: a traced scalar has no value."""
        return self._refuse("item()")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        fn = _TORCH.get(name)
        if fn is None:
            raise AttributeError(f"a traced scalar has no '{name}'")
        return functools.partial(fn, self)

    def __getitem__(self, index: Any) -> Traced:
        if index is Ellipsis or index is None or index == ():
            return self
        raise TypeError("expected a traced scalar, but got an index into it")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _torch_call(func, args, kwargs or {})


# Construction


def as_traced(x: Any) -> Traced:
    """A Python number, a run-time scalar or a 0-d tensor as a traced value."""
    if isinstance(x, Traced):
        return x
    if isinstance(x, bool):
        return Traced("const", (), "bool", x)
    if isinstance(x, builtins.int):
        return Traced("const", (), "int", x)
    if isinstance(x, builtins.float):
        return Traced("const", (), "float", x)
    if isinstance(x, Scalar):
        return Traced("scalar", (), "float" if x.is_float else "int", x)
    if isinstance(x, Tensor):
        x = x.data
    if isinstance(x, Partial):
        raise TypeError(
            f"expected {len(x.data.shape)} indices of a captured tensor, but got {len(x.at)}; index every dimension"
        )
    if _is_tensor(x):
        if type(x).__module__ == "numpy" and not hasattr(x, "__setitem__"):  # a NumPy scalar
            return as_traced(x.item())
        if len(x.shape) == 0:
            return Traced("scalar", (), "float" if _type_of_dtype(_dtype_of(x)) == "float" else "int", Scalar(x))
        raise TypeError(
            f"expected a scalar in a traced function, but got a tensor of shape {list(x.shape)}; index it by b, h, i, j"
        )
    if hasattr(x, "item") and type(x).__module__.startswith("numpy"):
        return as_traced(x.item())
    raise TypeError(f"expected a number or a traced scalar, but got {type(x).__name__}")


def _kind_of(dtype: Any) -> str | None:
    """The traced type of a dtype; None where `dtype` is not one."""
    if dtype is None:
        return None
    if dtype is builtins.bool:
        return "bool"
    if dtype is builtins.int:
        return "int"
    if dtype is builtins.float:
        return "float"
    name = str(dtype)
    if name.startswith("torch.") and hasattr(dtype, "is_floating_point"):
        return _type_of_dtype(name.rsplit(".", 1)[-1])
    return None


def _constant_like(value: int, dtype: Any, default: str) -> Traced:
    kind = _kind_of(dtype) or default
    return Traced("const", (), kind, {"bool": builtins.bool, "int": builtins.int, "float": builtins.float}[kind](value))


def _cast(x: Traced, kind: str) -> Traced:
    if x.type == kind:
        return x
    if x.op == "const":
        convert = {"bool": builtins.bool, "int": builtins.int, "float": builtins.float}[kind]
        return Traced("const", (), kind, convert(x.value))
    if kind == "bool":
        return _compare("ne", x, 0)
    if x.type == "bool":
        return Traced("select", (x, _cast(as_traced(1), kind), _cast(as_traced(0), kind)), kind)
    if kind == "float":
        return Traced("to_float", (x,), "float")
    return Traced("to_int", (x,), "int")


def _numeric(x: Any) -> Traced:
    x = as_traced(x)
    return _cast(x, "int") if x.type == "bool" else x


def _pair(a: Any, b: Any) -> tuple[Traced, Traced]:
    a, b = _numeric(a), _numeric(b)
    kind = "float" if "float" in (a.type, b.type) else "int"
    return _cast(a, kind), _cast(b, kind)


def _arith(op: str, a: Any, b: Any) -> Traced:
    x, y = _pair(a, b)
    return Traced(op, (x, y), x.type)


def _true_div(a: Any, b: Any) -> Traced:
    return Traced("div", (_cast(_numeric(a), "float"), _cast(_numeric(b), "float")), "float")


def _check_divisor(y: Traced) -> None:
    if y.op == "const" and y.value == 0:
        raise ZeroDivisionError("expected a divisor that is not 0 in a traced function, but got 0")


def _floor_div(a: Any, b: Any) -> Traced:
    x, y = _pair(a, b)
    _check_divisor(y)
    if x.type == "int":
        return Traced("floordiv", (x, y), "int")
    return Traced("floor", (_true_div(x, y),), "float")


def _mod(a: Any, b: Any) -> Traced:
    x, y = _pair(a, b)
    _check_divisor(y)
    if x.type == "int":
        return Traced("mod", (x, y), "int")
    return x - Traced("floor", (_true_div(x, y),), "float") * y


def _pow(a: Any, b: Any) -> Traced:
    if isinstance(b, builtins.int) and not isinstance(b, bool) and 0 <= b <= 64:
        x = _numeric(a)
        result = _cast(as_traced(1), x.type)
        first = True
        while b:
            if b & 1:
                result, first = (x if first else result * x), False
            b >>= 1
            if b:
                x = x * x
        return result
    if b == 0.5 and not isinstance(b, Traced):
        return sqrt(a)
    x, y = _cast(_numeric(a), "float"), _cast(_numeric(b), "float")
    if x.op == "const" and x.value == 2:
        return exp2(y)
    return exp(y * log(x))


def _bits(op: str, a: Any, b: Any) -> Traced:
    x, y = as_traced(a), as_traced(b)
    if "float" in (x.type, y.type):
        raise TypeError("expected bools or integers for & | ^, but got a traced float")
    if x.type == "bool" and y.type == "bool":
        # Neutral and absorbing constants: masks of HF start from new_ones(()).
        for p, q in ((x, y), (y, x)):
            if p.op == "const" and op == "and":
                return q if p.value else p
            if p.op == "const" and op == "or":
                return p if p.value else q
        return Traced(op, (x, y), "bool")
    return Traced(op, (_cast(x, "int"), _cast(y, "int")), "int")


def _shift(op: str, a: Any, b: Any) -> Traced:
    x, y = _numeric(a), _numeric(b)
    if x.type != "int" or y.type != "int":
        raise TypeError("expected integers for << and >>, but got a traced float")
    return Traced(op, (x, y), "int")


def _compare(op: str, a: Any, b: Any) -> Traced:
    x, y = as_traced(a), as_traced(b)
    if x.type == "bool" and y.type == "bool" and op in ("eq", "ne"):
        both = Traced("xor", (x, y), "bool")
        return both if op == "ne" else Traced("not", (both,), "bool")
    x, y = _pair(x, y)
    return Traced(op, (x, y), "bool")


def _float_function(name: str) -> Callable[[Any], Any]:
    plain = getattr(math, name, None)

    def function(x: Any) -> Any:
        if isinstance(x, (builtins.int, builtins.float)) and plain is not None:
            return plain(x)
        return Traced(name, (_cast(_numeric(x), "float"),), "float")

    function.__name__ = name
    function.__qualname__ = name
    function.__doc__ = f"`{name}` of a traced scalar (in float32) or of a number."
    return function


tanh = _float_function("tanh")
exp = _float_function("exp")
exp2 = _float_function("exp2")
log = _float_function("log")
sqrt = _float_function("sqrt")
erf = _float_function("erf")
sin = _float_function("sin")
cos = _float_function("cos")


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) of a traced scalar or of a number."""
    if isinstance(x, (builtins.int, builtins.float)):
        return 1 / (1 + math.exp(-x))
    return Traced("sigmoid", (_cast(_numeric(x), "float"),), "float")


def floor(x: Any) -> Any:
    """The largest integral value that is not above x; a traced integer stays as it is."""
    if isinstance(x, (builtins.int, builtins.float)):
        return math.floor(x)
    x = _numeric(x)
    return x if x.type == "int" else Traced("floor", (x,), "float")


def abs(x: Any) -> Any:
    """The absolute value of a traced scalar or of a number."""
    return builtins.abs(x)


def maximum(x: Any, y: Any) -> Any:
    """The larger of two traced scalars or numbers."""
    if not isinstance(x, (Traced, Scalar)) and not isinstance(y, (Traced, Scalar)):
        return builtins.max(x, y)
    a, b = _pair(x, y)
    return Traced("max", (a, b), a.type)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two traced scalars or numbers."""
    if not isinstance(x, (Traced, Scalar)) and not isinstance(y, (Traced, Scalar)):
        return builtins.min(x, y)
    a, b = _pair(x, y)
    return Traced("min", (a, b), a.type)


def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """x limited to [min, max]; either may be missing."""
    if min is not None:
        x = maximum(x, min)
    if max is not None:
        x = minimum(x, max)
    return x


def select(cond: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y: the `if` of traced functions."""
    if isinstance(cond, bool):
        return x if cond else y
    c = _cast(as_traced(cond), "bool")
    a, b = as_traced(x), as_traced(y)
    if a.type != b.type or a.type != "bool":
        a, b = _pair(a, b)
    if c.op == "const":
        return a if c.value else b
    return Traced("select", (c, a, b), a.type)


# torch functions by name


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


_TORCH: dict[str, Callable[..., Any]] = {
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
    "relu": lambda x: maximum(x, 0),
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


def _torch_call(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", str(func))
    if name == "__getitem__":
        return _load(args[0], args[1])
    if name in _SWAPPED:
        return _TORCH[_SWAPPED[name]](args[1], args[0])
    fn = _TORCH.get(_DUNDER.get(name, name.rstrip("_") if not name.startswith("__") else name))
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
def _torch_mode() -> Iterator[None]:
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
                return _torch_call(func, args, kwargs)
            return func(*args, **kwargs)

    return Mode


def symbols() -> tuple[Traced, Traced, Traced, Traced]:
    """Traced (b, h, i, j)."""
    return tuple(Traced("sym", (), "int", n) for n in "bhij")  # type: ignore[return-value]


# Keys of functions: code and closure values


class _Uncacheable(Exception):
    """The function reaches something that has no key."""


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
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self._globals(const, names, parts)

    def value(self, v: Any) -> Any:
        if isinstance(v, _SIMPLE):
            return (type(v), v)
        if isinstance(v, type) or (getattr(v, "__module__", None) == __name__ and callable(v)):
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


def capture_identity(value: Any) -> Any:
    """What decides whether two captures are one operand: the tensor, or the scalar's own object."""
    if isinstance(value, Scalar) and _is_tensor(value.value):
        return value.value
    return value


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


def run_traced(fn: Callable[..., Any], kind: str, dots: builtins.int = 1) -> Trace:
    """Traces `fn` of (b, h, i, j) (kind "mask" or "map") or of (dots…, b, h, i, j) (kind "score").

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
    with _torch_mode():
        result = fn(*args)
    root = as_traced(result)
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


# A mask as an expression of the pattern algebra


def to_expr(root: Traced, number: Callable[[Any], builtins.int] = lambda slot: slot.n) -> _core.Expr:
    """The expression for `holds`; `number` gives the operand number of what a leaf holds."""
    memo: dict[builtins.int, _core.Expr] = {}
    E = _core.Expr

    def visit(node: Traced) -> _core.Expr:
        done = memo.get(id(node))
        if done is None:
            done = memo[id(node)] = build(node)
        return done

    def build(node: Traced) -> _core.Expr:
        op = node.op
        if op == "const":
            if node.type == "float":
                return E.number(node.value)
            if node.type == "bool":
                zero = E.integer(0)
                return E.make("eq" if node.value else "ne", [zero, zero])
            return E.integer(node.value)
        if op == "sym":
            return E.symbol(node.value)
        if op == "scalar":
            if node.type != "int":
                raise TypeError("expected an integer hd.scalar in a mask function, but got a float")
            return E.scalar(number(node.value))
        args = [visit(a) for a in node.args]
        if op == "load":
            return E.load(number(node.value), args, node.type)
        if op == "to_float":  # expressions compute in doubles
            return args[0]
        if op == "to_int":
            x, zero = args[0], E.integer(0)
            below = E.make("lt", [x, zero])
            up = E.make("neg", [E.make("floor", [E.make("neg", [x])])])
            return E.make("select", [below, up, E.make("floor", [x])])
        return E.make(op, args)

    return visit(root)


# A score as MLIR text

_BINARY = {
    ("add", "int"): "arith.addi", ("sub", "int"): "arith.subi", ("mul", "int"): "arith.muli",
    ("floordiv", "int"): "arith.floordivsi", ("max", "int"): "arith.maxsi", ("min", "int"): "arith.minsi",
    ("and", "int"): "arith.andi", ("or", "int"): "arith.ori", ("xor", "int"): "arith.xori",
    ("and", "bool"): "arith.andi", ("or", "bool"): "arith.ori", ("xor", "bool"): "arith.xori",
    ("shl", "int"): "arith.shli", ("shr", "int"): "arith.shrsi",
    ("add", "float"): "arith.addf", ("sub", "float"): "arith.subf", ("mul", "float"): "arith.mulf",
    ("div", "float"): "arith.divf", ("max", "float"): "arith.maximumf", ("min", "float"): "arith.minimumf",
}  # fmt: skip
_UNARY = {
    "tanh": "math.tanh", "exp": "math.exp", "exp2": "math.exp2", "log": "math.log", "sqrt": "math.sqrt",
    "floor": "math.floor", "erf": "math.erf", "sin": "math.sin", "cos": "math.cos",
}  # fmt: skip
_CMPI = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}
_CMPF = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_MLIR = {"int": "index", "float": "f32", "bool": "i1"}


def float_text(x: builtins.float) -> str:
    """An f32 literal of MLIR; infinities and NaN as bits."""
    if math.isnan(x):
        return "0x7FC00000"
    try:
        (rounded,) = struct.unpack("f", struct.pack("f", x))
    except OverflowError:
        rounded = math.copysign(math.inf, x)
    if math.isinf(rounded):
        return "0x7F800000" if rounded > 0 else "0xFF800000"
    text = next(t for t in (f"{rounded:.{digits}g}" for digits in range(1, 10)) if _round_trips(t, rounded))
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


def _round_trips(text: str, x: builtins.float) -> builtins.bool:
    return struct.unpack("f", struct.pack("f", builtins.float(text)))[0] == x


class _Emitter:
    """Writes the body of one score region."""

    def __init__(self, capture: Callable[[Slot], tuple[str, str]], prefix: str) -> None:
        self.capture = capture
        self.prefix = prefix
        self.lines: list[str] = []
        self.memo: dict[Any, str] = {}
        self.ids: dict[builtins.int, str] = {}

    def line(self, text: str, type: str) -> str:
        key = (text, type)
        if key not in self.memo:
            name = f"%{self.prefix}{len(self.memo)}"
            self.memo[key] = name
            self.lines.append(f"{name} = {text}")
        return self.memo[key]

    def visit(self, node: Traced) -> str:
        done = self.ids.get(id(node))
        if done is None:
            done = self.ids[id(node)] = self.build(node)
        return done

    def constant(self, value: Any, type: str) -> str:
        if type == "bool":
            return self.line(f"arith.constant {'true' if value else 'false'}", "i1")
        if type == "int":
            return self.line(f"arith.constant {value} : index", "index")
        return self.line(f"arith.constant {float_text(value)} : f32", "f32")

    def load(self, node: Traced) -> str:
        name, type = self.capture(node.value)
        at = ", ".join(self.visit(a) for a in node.args)
        element = type[type.rindex("x") + 1 : -1] if "x" in type else type[7:-1]
        value = self.line(f"attn.load {name}[{at}] : {type}", element)
        if node.type == "int":
            return self.line(f"arith.index_cast {value} : {element} to index", "index")
        if element in ("f16", "bf16"):
            return self.line(f"arith.extf {value} : {element} to f32", "f32")
        return value

    def build(self, node: Traced) -> str:
        op, kind = node.op, node.type
        if op == "const":
            return self.constant(node.value, kind)
        if op == "sym":
            return f"%{node.value}"
        if op == "dot":
            return f"%s{node.value or ''}"
        if op == "scalar":
            return self.capture(node.value)[0]
        if op == "load":
            return self.load(node)
        args = [self.visit(a) for a in node.args]
        type = _MLIR[kind]
        if (op, kind) in _BINARY:
            return self.line(f"{_BINARY[op, kind]} {args[0]}, {args[1]} : {type}", type)
        if op in _UNARY:
            return self.line(f"{_UNARY[op]} {args[0]} : f32", "f32")
        return self.special(op, kind, node, args)

    def special(self, op: str, kind: str, node: Traced, args: list[str]) -> str:
        x = args[0]
        if op in _CMPI:
            if node.args[0].type == "float":
                return self.line(f"arith.cmpf {_CMPF[op]}, {x}, {args[1]} : f32", "i1")
            return self.line(f"arith.cmpi {_CMPI[op]}, {x}, {args[1]} : index", "i1")
        if op == "select":
            return self.line(f"arith.select {x}, {args[1]}, {args[2]} : {_MLIR[kind]}", _MLIR[kind])
        if op == "mod":  # the floor modulus
            quotient = self.line(f"arith.floordivsi {x}, {args[1]} : index", "index")
            product = self.line(f"arith.muli {quotient}, {args[1]} : index", "index")
            return self.line(f"arith.subi {x}, {product} : index", "index")
        if op == "neg" and kind == "float":
            return self.line(f"arith.negf {x} : f32", "f32")
        if op == "neg":
            return self.line(f"arith.subi {self.constant(0, 'int')}, {x} : index", "index")
        if op == "abs" and kind == "float":
            return self.line(f"math.absf {x} : f32", "f32")
        if op == "abs":
            minus = self.line(f"arith.subi {self.constant(0, 'int')}, {x} : index", "index")
            return self.line(f"arith.maxsi {x}, {minus} : index", "index")
        if op == "not":
            return self.line(f"arith.xori {x}, {self.constant(True, 'bool')} : i1", "i1")
        if op == "sigmoid":
            grown = self.line(f"math.exp {self.line(f'arith.negf {x} : f32', 'f32')} : f32", "f32")
            one = self.constant(1.0, "float")
            below = self.line(f"arith.addf {grown}, {one} : f32", "f32")
            return self.line(f"arith.divf {one}, {below} : f32", "f32")
        if op == "to_float":
            wide = self.line(f"arith.index_cast {x} : index to i64", "i64")
            return self.line(f"arith.sitofp {wide} : i64 to f32", "f32")
        if op == "to_int":
            wide = self.line(f"arith.fptosi {x} : f32 to i64", "i64")
            return self.line(f"arith.index_cast {wide} : i64 to index", "index")
        raise TypeError(f"expected an operation that scores know, but got {op}")


def score_lines(trace: Trace, capture: Callable[[Slot], tuple[str, str]], prefix: str = "t") -> list[str]:
    """The lines of the score region; `capture` gives the name and type of a captured operand."""
    emitter = _Emitter(capture, prefix)
    root = _cast(trace.root, "float") if trace.root.type != "bool" else None
    if root is None:
        raise TypeError("expected a score function that returns a number, but got a condition; use where=")
    emitter.lines.append(f"attn.yield {emitter.visit(root)} : f32")
    return emitter.lines
