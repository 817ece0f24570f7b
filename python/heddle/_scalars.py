"""Traced scalars: what the arguments of a traced function are.

Arithmetic, comparisons and indexing of captured tensors build a small expression tree
of `Traced` nodes; a value never exists while tracing, so `and`, `if` and `int()` are
refused with a message that says what to write.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from ._tensors import describe_tensor

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
        number = isinstance(value, (builtins.int, builtins.float)) or hasattr(value, "__index__")
        if isinstance(value, builtins.bool) or not (number or hasattr(value, "__float__")):
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
        """The value as a Python number. ValueError where it is a tensor whose gradient would be lost."""
        if type(self.value) in (builtins.int, builtins.float):
            return self.value
        if getattr(self.value, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
            raise ValueError(
                "expected a scalar without gradient, but got a tensor that requires grad: there is no backward pass "
                "yet; call it under torch.no_grad() or pass x.detach()"
            )
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


_dtype_names: dict[Any, str] = {}


def dtype_name(data: Any) -> str:
    """The name of a tensor's dtype without its module: "float32"; "" where it has none."""
    dtype = getattr(data, "dtype", "")
    try:
        return _dtype_names[dtype]
    except KeyError:
        name = _dtype_names[dtype] = str(dtype).rsplit(".", 1)[-1]
        return name


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
        if not is_symbolic(data):
            describe_tensor(data, "the captured tensor")
        if dtype_name(data) == "float64":
            raise TypeError(
                "expected a captured tensor of float32, float16, bfloat16, bool or integers, but got float64; "
                "convert it (NumPy: x.astype(np.float32), torch: x.float())"
            )
        self.data = data

    def __getitem__(self, index: Any) -> Any:
        return _load(self.data, index)

    def __repr__(self) -> str:
        return f"hd.tensor({dtype_name(self.data)}{list(self.data.shape)})"


def tensor(data: Any) -> Tensor:
    """Marks `data` (NumPy array or torch CPU tensor, any rank) as captured by score and mask functions.

    Examples
    --------
    >>> slope = hd.tensor(slopes)  # [H], float32
    >>> out = hd.attend(q, k, v, score=lambda s, b, h, i, j: s - slope[h] * (i - j))
    """
    return Tensor(data)


def is_symbolic(x: Any) -> bool:
    """True for a tensor of a function that is being traced (`_program.TensorValue`), which has no contents."""
    return hasattr(x, "heddle_symbolic")


def _is_tensor(x: Any) -> bool:
    if isinstance(x, (Traced, Partial, types.ModuleType, type)):
        return False
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _load(data: Any, index: Any) -> Any:
    return Partial(data, ()).extend(index)


def _check_constant(index: Traced, axis: int, data: Any) -> None:
    """IndexError where a known index is in no row of the captured tensor; others are clamped."""
    size = data.sizes[axis] if is_symbolic(data) else data.shape[axis]
    if index.op == "const" and size > 0 and not 0 <= index.value < size:
        raise IndexError(
            f"expected an index from 0 to {size - 1} in dimension {axis} of a captured tensor, but got {index.value}"
        )


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
                cure = "; x.int() drops the fraction" if x.type == "float" else "; x.int() makes 0 or 1 of it"
                raise TypeError(f"expected integer indices of a captured tensor, but got a traced {x.type}{cure}")
            at = (*at, x)
        rank = len(self.data.shape)
        if len(at) > rank:
            raise IndexError(f"expected {rank} indices of a captured tensor, but got {len(at)}")
        for axis in range(len(self.at), len(at)):
            _check_constant(at[axis], axis, self.data)
        if len(at) < rank:
            return Partial(self.data, at)
        return Traced("load", at, _type_of_dtype(dtype_name(self.data)), self.data)

    def __getitem__(self, index: Any) -> Any:
        return self.extend(index)

    def _incomplete(self, *_: Any) -> Any:
        rank = len(self.data.shape)
        raise TypeError(f"expected {rank} indices of a captured tensor, but got {len(self.at)}; index every dimension")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _incomplete
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __neg__ = __abs__ = __pow__ = __rpow__ = _incomplete
    __lt__ = __le__ = __gt__ = __ge__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _incomplete
    __eq__ = __ne__ = __bool__ = __invert__ = _incomplete
    __hash__ = None  # type: ignore[assignment]


class Traced:
    """A scalar of a traced function: one of `int`, `float`, `bool`."""

    __slots__ = ("args", "op", "type", "value")

    __hash__ = None  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        function = ufunc_of(ufunc, method)
        for x in inputs:
            if getattr(x, "shape", ()) != ():
                raise TypeError(
                    f"expected traced scalars and numbers, but got an array of shape {list(x.shape)}; wrap it in "
                    "hd.tensor(...) and index it"
                )
        return function(*inputs)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "expected traced code, but got a traced scalar where NumPy wants values; wrap an array in hd.tensor(...) "
            "to index it by traced values"
        )

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
        from ._torchnames import METHODS

        fn = METHODS.get(name)
        if fn is None:
            raise AttributeError(f"a traced scalar has no '{name}'")
        return functools.partial(fn, self)

    def __getitem__(self, index: Any) -> Traced:
        if index is Ellipsis or index is None or index == ():
            return self
        raise TypeError("expected a traced scalar, but got an index into it")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from ._torchnames import torch_call

        return torch_call(func, args, kwargs or {})


# Construction


def as_traced(x: Any) -> Traced:
    """A Python number, a run-time scalar or a 0-d tensor as a traced value."""
    if isinstance(x, Traced):
        return x
    if isinstance(x, bool):
        return Traced("const", (), "bool", x)
    if isinstance(x, builtins.int):
        if not -(1 << 63) <= x < 1 << 63:
            raise ValueError(f"expected an integer of 64 bits in a traced function, but got {x}")
        return Traced("const", (), "int", x)
    if isinstance(x, builtins.float):
        return Traced("const", (), "float", x)
    if isinstance(x, Scalar):
        return Traced("scalar", (), "float" if x.is_float else "int", x)
    if isinstance(x, Tensor):
        x = x.data
    if isinstance(x, Partial):
        x._incomplete()
    if _is_tensor(x):
        if type(x).__module__ == "numpy" and not hasattr(x, "__setitem__"):  # a NumPy scalar
            return as_traced(x.item())
        if len(x.shape) == 0:
            return Traced("scalar", (), "float" if _type_of_dtype(dtype_name(x)) == "float" else "int", Scalar(x))
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


def _on_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a function of traced scalars take tensors of an hd.kernel function too, element by element."""

    @functools.wraps(function)
    def on_any(*args: Any, **kwargs: Any) -> Any:
        if any(is_symbolic(a) for a in args):
            from ._program import elementwise

            return elementwise(lambda *x: function(*x, **kwargs), *args)
        return function(*args, **kwargs)

    return on_any


def _float_function(name: str) -> Callable[[Any], Any]:
    plain = getattr(math, name, None)

    def function(x: Any) -> Any:
        if isinstance(x, (builtins.int, builtins.float)) and plain is not None:
            return plain(x)
        return Traced(name, (_cast(_numeric(x), "float"),), "float")

    function.__name__ = name
    function.__qualname__ = name
    function.__doc__ = f"`{name}` of a traced scalar (in float32), of a number, or of a tensor in hd.kernel."
    return _on_tensors(function)


tanh = _float_function("tanh")
exp = _float_function("exp")
exp2 = _float_function("exp2")
log = _float_function("log")
sqrt = _float_function("sqrt")
erf = _float_function("erf")
sin = _float_function("sin")
cos = _float_function("cos")


@_on_tensors
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) of a traced scalar or of a number."""
    if isinstance(x, (builtins.int, builtins.float)):
        return 1 / (1 + math.exp(-x))
    return Traced("sigmoid", (_cast(_numeric(x), "float"),), "float")


@_on_tensors
def floor(x: Any) -> Any:
    """The largest integral value that is not above x; a traced integer stays as it is."""
    if isinstance(x, (builtins.int, builtins.float)):
        return math.floor(x)
    x = _numeric(x)
    return x if x.type == "int" else Traced("floor", (x,), "float")


def abs(x: Any) -> Any:
    """The absolute value of a traced scalar or of a number."""
    return builtins.abs(x)


@_on_tensors
def maximum(x: Any, y: Any) -> Any:
    """The larger of two traced scalars or numbers."""
    if not isinstance(x, (Traced, Scalar)) and not isinstance(y, (Traced, Scalar)):
        return builtins.max(x, y)
    a, b = _pair(x, y)
    return Traced("max", (a, b), a.type)


@_on_tensors
def minimum(x: Any, y: Any) -> Any:
    """The smaller of two traced scalars or numbers."""
    if not isinstance(x, (Traced, Scalar)) and not isinstance(y, (Traced, Scalar)):
        return builtins.min(x, y)
    a, b = _pair(x, y)
    return Traced("min", (a, b), a.type)


@_on_tensors
def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    """x limited to [min, max]; either may be missing."""
    if min is not None:
        x = maximum(x, min)
    if max is not None:
        x = minimum(x, max)
    return x


@_on_tensors
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


def symbols() -> tuple[Traced, Traced, Traced, Traced]:
    """Traced (b, h, i, j)."""
    return tuple(Traced("sym", (), "int", n) for n in "bhij")  # type: ignore[return-value]


def capture_identity(value: Any) -> Any:
    """What decides whether two captures are one operand: the tensor, or the scalar's own object."""
    if isinstance(value, Scalar) and _is_tensor(value.value):
        return value.value
    return value


_UFUNCS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "true_divide": operator.truediv, "floor_divide": operator.floordiv, "remainder": operator.mod,
    "power": operator.pow, "float_power": operator.pow, "negative": operator.neg, "absolute": abs, "fabs": abs,
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
    "equal": operator.eq, "not_equal": operator.ne, "bitwise_and": operator.and_, "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor, "logical_and": operator.and_, "logical_or": operator.or_, "invert": operator.invert,
    "logical_not": operator.invert, "left_shift": operator.lshift, "right_shift": operator.rshift,
    "maximum": maximum, "minimum": minimum, "fmax": maximum, "fmin": minimum, "exp": exp, "exp2": exp2, "log": log,
    "sqrt": sqrt, "tanh": tanh, "floor": floor, "sin": sin, "cos": cos, "square": lambda x: x * x,
}  # fmt: skip
"""NumPy's functions by their names, on traced values."""


def ufunc_of(ufunc: Any, method: str) -> Callable[..., Any]:
    """What stands for a NumPy function while tracing."""
    function = _UFUNCS.get(ufunc.__name__) if method == "__call__" else None
    if function is None:
        known = ", ".join(sorted(_UFUNCS))
        raise TypeError(f"expected a function that can be traced ({known}), but got numpy.{ufunc.__name__}")
    return function
