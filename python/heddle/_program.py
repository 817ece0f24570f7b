"""Specs of several ops: symbolic tensors, `@hd.kernel`, and how an op runs alone.

A function of tensors is called once with `TensorValue`s that stand for its arguments; each op that it calls writes
a line of the dialect's text. What comes out is one function, compiled as one unit: the runtime runs its ops in order
and owns what lies between them.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import _core
from ._compiled import kernel_for, target_for
from ._emit import element_lines
from ._errors import in_words, parameter_names
from ._scalars import Scalar, Tensor, Traced, _is_tensor, as_traced, capture_identity, ufunc_of
from ._tensors import describe_tensor
from ._torchnames import METHODS, is_elementwise, torch_mode
from ._trace import Wrapper, function_key

MLIR_TYPES = {
    "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "bool": "i1", "int8": "i8",
    "int32": "i32", "int64": "i64",
}  # fmt: skip
DTYPE_NAMES = {v: k for k, v in MLIR_TYPES.items()}

Source = tuple[str, Any]
"""Where an argument of the compiled function comes from: ("arg", number) or ("object", tensor, scalar or number)."""


class Shape(Sequence[int]):
    """Sizes of a symbolic tensor; a size that is read becomes part of the kernel."""

    __slots__ = ("_value",)

    def __init__(self, value: TensorValue) -> None:
        self._value = value

    def __len__(self) -> int:
        return len(self._value.sizes)

    def __getitem__(self, axis: Any) -> Any:
        if isinstance(axis, slice):
            return tuple(self[n] for n in range(*axis.indices(len(self))))
        if not -len(self) <= axis < len(self):
            raise IndexError(f"expected an axis of {len(self)} dimensions, but got {axis}")
        return self._value.size(axis % len(self))

    def __iter__(self) -> Iterator[int]:
        return (self[n] for n in range(len(self)))

    def __repr__(self) -> str:
        return repr(tuple(self._value.sizes))


class TensorValue:
    """A tensor of a function that is being traced."""

    __slots__ = ("dims", "dtype", "name", "sizes", "trace")
    heddle_symbolic = True

    def __init__(self, trace: Trace, name: str, dtype: str, dims: Sequence[int | None], sizes: Sequence[int]) -> None:
        self.trace = trace
        self.name = name
        self.dtype = dtype
        self.dims = tuple(dims)
        """Sizes that the kernel is compiled for; None: read when it runs."""
        self.sizes = tuple(sizes)
        """All sizes in the call that is traced."""

    @property
    def shape(self) -> Shape:
        """The sizes; reading one makes it part of the kernel."""
        return Shape(self)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.sizes)

    def dim(self) -> int:
        """torch's name for `ndim`."""
        return len(self.sizes)

    @property
    def type(self) -> str:
        """The MLIR type."""
        return tensor_type(self.dtype, self.dims)

    def size(self, axis: int) -> int:
        """A size of this call, on which the kernel then depends."""
        self.trace.demand(self, axis)
        return self.sizes[axis]

    def __getitem__(self, index: Any) -> Any:
        from ._scalars import _load

        items = index if isinstance(index, tuple) else (index,)
        if any(x is None or x is Ellipsis or isinstance(x, slice) for x in items):
            return _view(self, items)
        return _load(self, index)

    def swapaxes(self, first: int, second: int) -> TensorView:
        """Two dimensions in each other's place: a view in arithmetic, a copy where an op reads it."""
        axes: list[int | None] = list(range(len(self.sizes)))
        axes[first], axes[second] = axes[second], axes[first]
        return TensorView(self, axes)

    def transpose(self, first: int, second: int) -> TensorView:
        """torch's name for `swapaxes`."""
        return self.swapaxes(first, second)

    def __len__(self) -> int:
        return self.size(0)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("expected an op on a whole tensor of an hd.kernel function, but got an iteration over its rows")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in METHODS and name not in ("to", "type_as", "squeeze", "max", "min"):
            method = METHODS[name]
            return lambda *args, **kwargs: elementwise(lambda *x: method(*x, **kwargs), self, *args)
        raise AttributeError(
            f"expected an op of heddle, arithmetic or hd.elementwise on a tensor of an hd.kernel function, but got "
            f".{name}{_CURES.get(name, '')}"
        )

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", str(function))
        if name in ("transpose", "swapaxes"):
            return args[0].swapaxes(*args[1:], *kwargs.values())
        reduces = name in ("max", "min") and len(args) < 2
        if reduces or not is_elementwise(name) or any(isinstance(x, (list, tuple)) for x in args):
            raise TypeError(_WHOLE.format(f"torch's {name}"))
        return elementwise(lambda *x: function(*x, **kwargs), *args)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function.__name__ in ("swapaxes", "where"):
            from ._scalars import select

            return args[0].swapaxes(*args[1:]) if function.__name__ == "swapaxes" else select(*args)
        raise TypeError(_WHOLE.format(f"numpy.{function.__name__}"))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        function = ufunc_of(ufunc, method)
        return elementwise(function, *inputs)

    def __repr__(self) -> str:
        return f"<tensor {self.name}: {self.type}>"

    def __bool__(self) -> bool:
        raise TypeError("expected code that does not depend on the contents of tensors in an hd.kernel function")


_SUMS = (
    "; hd.pool, hd.scan, hd.convolve, hd.project and hd.attend are the ops that mix elements (a sum over features is "
    "hd.convolve(x, ones) with ones [1, 1, D, 1])"
)
_WHOLE = "expected an op of heddle or a function of single elements on a tensor of an hd.kernel function, but got {}"
_WHOLE += _SUMS
_CURES = {
    **dict.fromkeys(("sum", "mean", "max", "min", "amax", "softmax", "norm", "cumsum", "std", "var", "argmax"), _SUMS),
    **dict.fromkeys(("reshape", "view", "flatten", "permute", "repeat", "expand"), "; do it outside, on arguments"),
}


class TensorView(TensorValue):
    """A tensor with its dimensions in another order, or with new ones of size 1.

    Arithmetic reads it in place; an op that needs a tensor gets a copy.
    """

    __slots__ = ("axes", "copy", "source")
    axes: tuple[int | None, ...]
    source: TensorValue

    def __init__(self, source: TensorValue, axes: Sequence[int | None]) -> None:
        if isinstance(source, TensorView) and source.copy is None:
            own: tuple[int | None, ...] = source.axes
            axes = [None if a is None else own[a] for a in axes]
            source = source.source
        self.trace = source.trace
        self.dtype = source.dtype
        self.dims = tuple(1 if a is None else source.dims[a] for a in axes)
        self.sizes = tuple(1 if a is None else source.sizes[a] for a in axes)
        self.source = source
        self.axes = tuple(axes)
        """For each dimension that of the source, None: a new one of size 1."""
        self.copy: TensorValue | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """The SSA name of a copy, which the first to ask for it makes."""
        if self.copy is None:
            if all(a is not None for a in self.axes):
                self.copy = elementwise(lambda x: x, self)
            else:
                import numpy as np

                one = np.ones((1,) * len(self.axes), np.float32)  # a loop needs an operand that has its size
                self.copy = elementwise(operator.mul, self, one)
        return self.copy.name

    def size(self, axis: int) -> int:
        """A size of this call, on which the kernel then depends."""
        own = self.axes[axis]
        return 1 if own is None else self.source.size(own)


def _view(x: TensorValue, items: Sequence[Any]) -> TensorView:
    """x[:, None, ..., None]: new dimensions of size 1 among all of its own."""
    rank, named = len(x.sizes), sum(i is not None and i is not Ellipsis for i in items)
    if sum(i is Ellipsis for i in items) > 1 or named > rank:
        raise IndexError(f"expected at most {rank} indices and one ellipsis, but got {list(items)}")
    if not any(i is Ellipsis for i in items):
        items = [*items, Ellipsis]
    axes: list[int | None] = []
    at = 0
    for i in items:
        if i is None:
            axes.append(None)
            continue
        count = rank - named if i is Ellipsis else 1
        if i is not Ellipsis and i != slice(None):
            ends = [i.start, i.stop] if isinstance(i, slice) else [i]
            what = ":".join("" if e is None else repr(e) for e in ends)
            raise TypeError(
                f"expected whole dimensions and new ones (x[..., None]) of a tensor of an hd.kernel function, but got "
                f"[{what}]; give a slice as an argument of its own, hd.gather_rows takes rows out, a pattern such as "
                "hd.keys([(0, 4)]) leaves keys out"
            )
        axes.extend(range(at, at + count))
        at += count
    return TensorView(x, axes)


class Condition:
    """A comparison of tensors of a function that is being traced: for hd.select, `&`, `|`, `~` and arithmetic."""

    __slots__ = ("args", "function", "trace")
    heddle_symbolic = True

    def __init__(self, trace: Trace, function: Callable[..., Any], args: Sequence[Any]) -> None:
        self.trace = trace
        self.function = function
        self.args = tuple(args)

    def __bool__(self) -> bool:
        raise TypeError("expected code that does not depend on the contents of tensors in an hd.kernel function")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return TensorValue.__torch_function__(function, types, args, kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        return elementwise(ufunc_of(ufunc, method), *inputs)

    __array_function__ = TensorValue.__array_function__

    def __invert__(self) -> Condition:
        return Condition(self.trace, operator.invert, (self,))


def elementwise(function: Callable[..., Any], *args: Any) -> TensorValue:
    """`function` of traced scalars, for each element of tensors that broadcast as NumPy's do.

    A tensor of the function that is traced must be among the arguments; arrays are captured, numbers stay numbers.
    Computed in f32, rounded to the type of the first tensor.
    """
    trace = trace_of(args)
    if trace is None:
        raise TypeError("expected a tensor of an hd.kernel function among the arguments, but got none")
    leaves: list[TensorView] = []

    def value_of(a: Any) -> Any:
        if isinstance(a, Condition):
            return a.function(*(value_of(x) for x in a.args))
        if not isinstance(a, (TensorValue, Tensor)) and not _is_tensor(a):
            return a
        t = trace.constant(a)
        trace.feature(t.source if isinstance(t, TensorView) else t)
        if t.dtype not in ("float32", "float16", "bfloat16"):
            raise TypeError(f"expected tensors of floats in arithmetic, but got {t.dtype}")
        view = TensorView(t, range(len(t.sizes)))
        n = next((n for n, x in enumerate(leaves) if x.source is view.source and x.axes == view.axes), len(leaves))
        if n == len(leaves):
            leaves.append(view)
        return Traced("dot", (), "float", n)

    values = [value_of(a) for a in args]
    if not leaves:
        raise TypeError("expected a tensor of an hd.kernel function among the arguments, but got none")
    rank = max(len(t.sizes) for t in leaves)
    if rank < 1 or rank > 4:
        raise ValueError(f"expected tensors of 1 to 4 dimensions in arithmetic, but got {rank}")
    new = [all(axis < rank - len(t.axes) or t.axes[axis - rank] is None for t in leaves) for axis in range(rank)]
    if any(new):  # without them, and a view of the result
        kept = [[a for axis, a in enumerate(t.axes, rank - len(t.axes)) if not new[axis]] for t in leaves]
        leaves[:] = [TensorView(t.source, axes) for t, axes in zip(leaves, kept, strict=True)]
        made = _loops(trace, function, values, leaves, rank - sum(new))
        own = iter(range(rank))
        return TensorView(made, [None if n else next(own) for n in new])
    return _loops(trace, function, values, leaves, rank)


def _loops(
    trace: Trace, function: Callable[..., Any], values: Sequence[Any], leaves: Sequence[TensorView], rank: int
) -> TensorValue:
    """The linalg op of `function` of `values`, whose dots stand for the elements of `leaves`."""
    trace.broadcasts |= len(leaves) > 1
    sizes, dims, owners = _broadcast(leaves, rank)
    with torch_mode():
        root = as_traced(function(*values))
    lines, value = element_lines(root, lambda x: trace.scalar(x, "f32" if x.is_float else "index"))
    made = tensor_type(leaves[0].dtype, dims)
    unknown = []
    for axis, owner in enumerate(owners):
        if dims[axis] is None:
            which, size = trace.fresh(), trace.fresh()
            source, own = owner.source, owner.axes[axis - rank + len(owner.sizes)]
            trace.lines.append(f"{which} = arith.constant {own} : index")
            trace.lines.append(f"{size} = tensor.dim {source.name}, {which} : {source.type}")
            unknown.append(size)
    init = trace.fresh()
    trace.lines.append(f"{init} = tensor.empty({', '.join(unknown)}) : {made}")
    loops = ", ".join(f"d{n}" for n in range(rank))
    maps = []
    for t in leaves:
        shift = rank - len(t.sizes)
        at = ["0"] * len(t.source.sizes)
        for axis, own in enumerate(t.axes):
            if own is not None and (t.sizes[axis] != 1 or sizes[axis + shift] == 1):
                at[own] = f"d{axis + shift}"
        maps.append(f"affine_map<({loops}) -> ({', '.join(at)})>")
    maps.append(f"affine_map<({loops}) -> ({loops})>")
    head, tail, names = [], [], []
    for n, t in enumerate(leaves):
        element, name = MLIR_TYPES[t.dtype], f"%s{n or ''}"
        names.append(f"{name if element == 'f32' else f'%x{n}'}: {element}")
        if element != "f32":
            head.append(f"{name} = arith.extf %x{n} : {element} to f32")
    element = MLIR_TYPES[leaves[0].dtype]
    if element != "f32":
        tail.append(f"%rounded = arith.truncf {value} : f32 to {element}")
        value = "%rounded"
    body = "\n  ".join([*head, *lines, *tail, f"linalg.yield {value} : {element}"])
    iterators = ", ".join(['"parallel"'] * rank)
    text = (
        f"linalg.generic {{indexing_maps = [{', '.join(maps)}], "
        f"iterator_types = [{iterators}]}} "
        f"ins({', '.join(t.source.name for t in leaves)} : {', '.join(t.source.type for t in leaves)}) "
        f"outs({init} : {made}) {{\n"
        f"^bb0({', '.join([*names, f'%old: {element}'])}):\n  {body}\n}} -> {made}"
    )
    return trace.op(text, [(leaves[0].dtype, dims, sizes)])[0]


def _broadcast(leaves: Sequence[TensorView], rank: int) -> tuple[list[int], list[int | None], list[TensorView]]:
    """Sizes, static sizes, and a tensor that has each size, of what the tensors broadcast to."""
    sizes, dims, owners = [], [], []
    for axis in range(rank):
        having = [(t, axis - rank + len(t.sizes)) for t in leaves if axis - rank + len(t.sizes) >= 0]
        size = next((t.sizes[a] for t, a in having if t.sizes[a] != 1), 1)
        for t, a in having:
            if t.sizes[a] == 1 and size != 1:
                t.size(a)  # a size of 1 that repeats is part of the kernel
            elif t.sizes[a] != size:
                shapes = " and ".join(str(list(x.sizes)) for x in leaves)
                raise ValueError(f"expected shapes that broadcast, but got {shapes}")
        owner, own = next((t, a) for t, a in having if t.sizes[a] == size and t.axes[a] is not None)
        sizes.append(size)
        new = size == 1 and any(t.axes[a] is None for t, a in having)
        dims.append(1 if new else owner.dims[own])
        owners.append(owner)
    return sizes, dims, owners


def _operator(name: str, swapped: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def method(self: TensorValue, *other: Any) -> TensorValue:
        if swapped:
            return elementwise(lambda x, y: function(y, x), self, *other)
        return elementwise(function, self, *other)

    return method


def _refused(symbol: str, cure: str) -> Callable[..., Any]:
    def method(self: TensorValue, *_: Any) -> Any:
        raise TypeError(f"expected arithmetic on tensors of an hd.kernel function, but got {symbol}; {cure}")

    return method


def _compared(name: str, swapped: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def method(self: Any, other: Any) -> Condition:
        return Condition(self.trace, function, (other, self) if swapped else (self, other))

    return method


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(TensorValue, f"__{_name}__", _operator(_name))
    setattr(TensorValue, f"__r{_name}__", _operator(_name, swapped=True))
for _name in ("neg", "abs"):
    setattr(TensorValue, f"__{_name}__", _operator(_name))
for _name in ("lt", "le", "gt", "ge"):
    setattr(TensorValue, f"__{_name}__", _compared(_name))
for _name in ("and_", "or_", "xor"):
    setattr(Condition, f"__{_name.rstrip('_')}__", _compared(_name))
    setattr(Condition, f"__r{_name.rstrip('_')}__", _compared(_name, swapped=True))
for _name in ("add", "sub", "mul"):  # a condition counts as 1.0 or 0.0
    setattr(Condition, f"__{_name}__", _operator(_name))
    setattr(Condition, f"__r{_name}__", _operator(_name, swapped=True))
setattr(  # noqa: B010
    TensorValue, "__matmul__",
    _refused("@", "x @ y is hd.linear_attend(x, unit, y, normalizer='none'), hd.project and hd.convolve take weights"),
)  # fmt: skip
setattr(TensorValue, "__floordiv__", _refused("//", "hd.floor(x / y) rounds down"))  # noqa: B010


def tensor_type(dtype: str, dims: Sequence[int | None]) -> str:
    """`tensor<?x8x?x64xf32>`."""
    sizes = "".join("?x" if d is None else f"{d}x" for d in dims)
    return f"tensor<{sizes}{MLIR_TYPES[dtype]}>"


class Trace:
    """One function while it is written."""

    def __init__(self, name: str, fixed: set[tuple[str, int]] | None = None, leading: bool = False) -> None:
        self.name = name
        self.leading = leading  # batches and heads of all arguments are static
        self.fixed = fixed or set()  # captured tensor, axis: sizes that an earlier tracing asked for
        self.arguments: list[tuple[str, str]] = []  # SSA name, type
        self.sources: list[Source] = []
        self.lines: list[str] = []
        self.demands: set[tuple[int, int]] = set()  # argument, axis
        self.asked: set[tuple[str, int]] = set()  # captured tensor, axis
        self.inputs: dict[str, int] = {}  # SSA name of an argument: its number among the function's own
        self.everything = False
        self.wants_leading = False
        self.features: set[int] = set()
        self.broadcasts = False  # which sizes are 1 matters
        self._objects: dict[int, Any] = {}
        self._count = 0

    def argument(self, n: int, value: Any, static: set[int], called: str = "") -> Any:
        """Stands for argument `n` of the function; `called` is its name there, which errors use."""
        name = f"%a{n}"
        if isinstance(value, Scalar):
            self.inputs[name] = n
            self._objects[id(value)] = name
            self.arguments.append((name, "f32" if value.is_float else "index"))
            self.sources.append(("arg", n))
            return value
        dtype, sizes = describe_tensor(value, called or f"argument {n}")
        check_dtype(dtype, called or f"argument {n}")
        dims = [s if axis in static else None for axis, s in enumerate(sizes)]
        made = TensorValue(self, name, dtype, dims, sizes)
        self.inputs[name] = n
        self.arguments.append((name, made.type))
        self.sources.append(("arg", n))
        return made

    def demand(self, value: TensorValue, axis: int) -> None:
        """A size that the text depends on."""
        if value.dims[axis] is not None:
            return
        n = self.inputs.get(value.name)
        if value.name.startswith("%c"):
            self.asked.add((value.name, axis))
        elif n is None and axis < 2 and not self.leading:
            self.wants_leading = True  # of a result: batch and heads mostly follow from those of the arguments
        elif n is None:
            self.everything = True
        else:
            self.demands.add((n, axis))

    def feature(self, value: TensorValue) -> TensorValue:
        """A tensor that an op or arithmetic reads, so that its features are part of the kernel."""
        if value.name in self.inputs:
            self.features.add(self.inputs[value.name])
        return value

    def fresh(self) -> str:
        """A new SSA name."""
        self._count += 1
        return f"%v{self._count}"

    def constant(self, x: Any) -> Any:
        """A tensor that the function captures, as a symbolic one."""
        if isinstance(x, Condition):
            raise TypeError(
                "expected a tensor, but got a comparison of tensors; hd.select(x > 0, 1.0, 0.0) makes numbers of it"
            )
        if isinstance(x, TensorValue):
            if x.trace is not self:
                raise ValueError("expected tensors of the function that is traced, but got one of another call")
            return x
        if isinstance(x, Tensor):
            x = x.data
        identity = capture_identity(x)
        known = self._objects.get(id(identity))
        if known is None:
            dtype, sizes = describe_tensor(x, "a captured tensor")
            check_dtype(dtype, "a captured tensor")
            name = f"%c{len(self.sources)}"
            last = len(sizes) == 4 and "float" in dtype
            dims = [s if (last and a == 3) or (name, a) in self.fixed else None for a, s in enumerate(sizes)]
            known = TensorValue(self, name, dtype, dims, sizes)
            self._objects[id(identity)] = known
            self.arguments.append((known.name, known.type))
            self.sources.append(("object", x))
        return known

    def scalar(self, x: Any, type: str) -> str:
        """A run-time number: the SSA name of the argument that holds it."""
        if isinstance(x, Scalar):
            known = self._objects.get(id(x))
            if known is not None:
                return known
        name = f"%c{len(self.sources)}"
        self.arguments.append((name, type))
        self.sources.append(("object", x))
        if isinstance(x, Scalar):
            self._objects[id(x)] = name
        return name

    def op(
        self, text: str, results: Sequence[tuple[str, Sequence[int | None], Sequence[int]]]
    ) -> tuple[TensorValue, ...]:
        """Adds an op; each result is (dtype, static sizes, sizes)."""
        made = tuple(TensorValue(self, self.fresh(), *r) for r in results)
        self.lines.append(f"{', '.join(v.name for v in made)} = {text}")
        return made

    def text(self, returned: Sequence[TensorValue]) -> str:
        """The whole function."""
        header = ", ".join(f"{name}: {type}" for name, type in self.arguments)
        types = [v.type for v in returned]
        body = "\n".join("  " + line for op in self.lines for line in op.split("\n"))
        values = ", ".join(v.name for v in returned)
        one = types[0] if len(types) == 1 else f"({', '.join(types)})"
        return (
            f"func.func @{self.name}({header})\n    -> {one} {{\n{body}\n  return {values} : {', '.join(types)}\n}}\n"
        )


def check_dtype(dtype: str, name: str) -> None:
    """float64 has no kernels."""
    if dtype == "float64":
        raise TypeError(
            f"expected float32, float16 or bfloat16 for {name}, but got float64; convert it (NumPy: "
            "x.astype(np.float32), torch: x.float())"
        )


def trace_of(values: Sequence[Any]) -> Trace | None:
    """The trace that symbolic tensors among `values` belong to."""
    for v in values:
        if isinstance(v, (TensorValue, Condition)):
            return v.trace
    return None


# One op alone

_alone: dict[Any, Any] = {}


def run_op(
    name: str, key: Any, tensors: Sequence[Any], static: Sequence[set[int]], build: Callable[..., Any], out: Any = None,
    names: Sequence[str] = (),
) -> Any:  # fmt: skip
    """Runs the op that `build(trace, *tensors)` writes, or adds it to the trace that its tensors belong to.

    Parameters
    ----------
    key
        What the text depends on beside the tensors' types.
    static
        For each tensor, the axes whose sizes are part of the kernel.
    names
        What errors call the tensors.
    """
    names = [*names, *(f"argument {n} of {name}" for n in range(len(names), len(tensors)))]
    tensors = [t.data if isinstance(t, Tensor) else t for t in tensors]
    trace = trace_of(tensors)
    if trace is not None:
        values = [trace.feature(trace.constant(t)) for t in tensors]
        for value, axes in zip(values, static, strict=True):
            for axis in axes:
                value.size(axis)
        result = build(trace, *values)
        return result[0] if len(result) == 1 else result
    target = target_for(tensors)
    signature: list[Any] = [name, key, target]
    for t, axes, called in zip(tensors, static, names, strict=True):
        dtype, sizes = describe_tensor(t, called)
        signature.append((dtype, len(sizes), tuple(sizes[a] for a in sorted(axes) if a < len(sizes))))
    found = _alone.get(tuple(signature))
    if found is None:
        trace = Trace(name)
        every = enumerate(zip(tensors, static, names, strict=True))
        values = [trace.argument(n, t, axes, called) for n, (t, axes, called) in every]
        text = trace.text(build(trace, *values))
        if len(_alone) >= _MAX_ENTRIES:
            _alone.clear()
        found = _alone[tuple(signature)] = kernel_for(text, target)
    with in_words(lambda: parameter_names(build, skip=1)):
        result = found.call(tensors, out)
    return result[0] if len(result) == 1 else result


# Functions of several ops

_MAX_ENTRIES = 1024


def _shape_key(x: Any) -> Any:
    """The sizes of a captured tensor: a function may read them."""
    return tuple(x.shape) if _is_tensor(x) else None


def _value_key(a: Any, n: int) -> Any:
    """The key of an argument that is no tensor."""
    if isinstance(a, (tuple, list)):
        return (type(a), tuple(_value_key(x, n) for x in a))
    if isinstance(a, TensorValue) or _is_tensor(a):
        raise TypeError(f"expected tensors as arguments of their own, but got one inside of argument {n}")
    try:
        hash(a)
    except TypeError:
        raise TypeError(
            f"expected a tensor, a scalar, a number, a string or a tuple as argument {n}, but got {type(a).__name__}"
        ) from None
    return (type(a), repr(a) if isinstance(a, float) else a)


class _Entry:
    __slots__ = ("cores", "sources", "text")

    def __init__(self, text: str, sources: list[Source]) -> None:
        self.text = text
        self.sources = sources
        self.cores: dict[str, Any] = {}
        """Kernels by target."""


class KernelFunction(Wrapper):
    """A Python function of tensors, compiled as one kernel; see `kernel`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"expected a function of tensors for hd.kernel, but got {type(function).__name__}")
        functools.update_wrapper(self, function)
        try:
            parameters = inspect.signature(function).parameters.values()
            self._names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
        except (TypeError, ValueError):
            self._names = []
        self.function = function
        self._demands: dict[Any, set[tuple[int, int]]] = {}
        self._entries: dict[Any, _Entry] = {}

    def __call__(self, *args: Any, out: Any = None, **named: Any) -> Any:
        """Runs the kernel for these tensors; a call inside of another `hd.kernel` function joins its spec.

        Arguments are tensors, `scalar`s, and values (numbers, strings, tuples, None) that the kernel is compiled for.
        """
        if named:
            args = self._in_order(args, named)
        if trace_of(args) is not None:
            return self.function(*args)
        entry, values = self._find(args)
        target = target_for(values)
        core = entry.cores.get(target)
        if core is None:
            core = entry.cores[target] = kernel_for(entry.text, target)
        with in_words(self._words):
            result = core.call(values, out)
        return result[0] if len(result) == 1 else result

    def __reduce__(self) -> str | tuple[Any, ...]:
        # As functions are: by name; without one (a closure, say) a copy has kernels of its own.
        name = getattr(self.function, "__qualname__", "")
        named = getattr(sys.modules.get(self.__module__), name, None) is self
        return name if named else (KernelFunction, (self.function,))

    def _words(self) -> dict[str, str]:
        return parameter_names(self.function)

    def spec(self, *args: Any) -> Any:
        """The spec for arguments like these: `hd.compile` takes it, `str` is the dialect's text."""
        from ._spec import Spec

        entry, values = self._find(args)
        own = sum(kind == "arg" for kind, _ in entry.sources)
        return Spec(entry.text, tuple(values[own:]))

    def traced(self) -> Any:
        """The spec of the one signature that the function has been traced for; ValueError where it is not one."""
        from ._spec import Spec

        if len(self._entries) != 1:
            raise ValueError(
                f"expected an hd.kernel function that has been traced for one signature, but got one traced for "
                f"{len(self._entries)}; compile f.spec(q, k, v)"
            )
        (entry,) = self._entries.values()
        if any(kind == "capture" for kind, _ in entry.sources):
            raise ValueError(
                "expected an hd.kernel function that captures no tensor, but got one that does; compile f.spec(q, k, v)"
            )
        return Spec(entry.text, tuple(x for kind, x in entry.sources if kind == "object"))

    def reference(self, *args: Any) -> Any:
        """What the kernel should give, in float64 by the interpreter. Slow: for checks."""
        entry, values = self._find(args)
        _, returned, _ = self._traced(args, set())
        model = next(v for v in values if _is_tensor(v))
        results = [_core.empty(model, list(v.sizes), "float64" if "float" in v.dtype else v.dtype) for v in returned]
        _core.reference(entry.text, values, results)
        return results[0] if len(results) == 1 else tuple(results)

    def _in_order(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        bound = inspect.signature(self.function).bind(*args, **named)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(f"expected parameters that have a place, but got {', '.join(bound.kwargs)} by keyword only")
        return bound.args

    def _key(self, args: Sequence[Any]) -> tuple[Any, ...]:
        key: list[Any] = []
        for n, a in enumerate(args):
            if isinstance(a, Scalar):
                key.append(("scalar", a.is_float))
            elif _is_tensor(a):
                dtype, sizes = describe_tensor(a, f"argument {n}")
                key.append((dtype, len(sizes), sizes[3] if len(sizes) == 4 else 0))
            else:
                key.append(_value_key(a, n))
        return tuple(key)

    def _statics(self, args: Sequence[Any]) -> set[tuple[int, int]]:
        """Features of tensors of floats; ids, lists and masks have none."""
        four = ((n, a) for n, a in enumerate(args) if _is_tensor(a) and len(a.shape) == 4)
        return {(n, 3) for n, a in four if "float" in describe_tensor(a, f"argument {n}")[0]}

    def _trace(
        self, args: Sequence[Any], static: set[tuple[int, int]], fixed: set[tuple[str, int]], leading: bool
    ) -> tuple[Trace, Sequence[TensorValue]]:
        name = re.sub(r"\W", "_", getattr(self.function, "__name__", "kernel")) or "kernel"
        trace = Trace("kernel" if name == "_lambda_" else name, fixed, leading)
        values: list[Any] = []
        for n, a in enumerate(args):
            if isinstance(a, Scalar) or _is_tensor(a):
                called = self._names[n] if n < len(self._names) else ""
                values.append(trace.argument(n, a, {axis for m, axis in static if m == n}, called))
            else:
                values.append(a)
        made = self.function(*values)
        returned = made if isinstance(made, (tuple, list)) else (made,)
        for v in returned:
            if isinstance(v, Condition):
                v = trace.constant(v)
            if not isinstance(v, TensorValue):
                raise TypeError(f"expected an hd.kernel function that returns tensors, but got {type(v).__name__}")
            _ = v.name  # a view is copied
        return trace, returned

    def _find(self, args: Sequence[Any]) -> tuple[_Entry, list[Any]]:
        found = function_key(self.function)
        own = self._key(args)
        base = None if found is None else (found[0], own, tuple(_shape_key(c) for c in found[1]))
        demands = self._demands.get(base) if base is not None else None
        entry = None
        if base is not None and demands is not None:
            entry = self._entries.get((base, self._sizes(args, demands)))
        if entry is None:
            trace, returned, static = self._traced(args, demands or set())
            entry = _Entry(trace.text(returned), self._positions(trace, found))
            # What the function made of a tensor that it captures is no function of what the key says.
            made = any(kind == "object" and _is_tensor(x) for kind, x in entry.sources)
            if base is not None and found is not None and not (made and found[1]):
                if len(self._entries) >= _MAX_ENTRIES:
                    self._entries.clear()
                    self._demands.clear()
                self._demands[base] = static
                self._entries[(base, self._sizes(args, static))] = entry
        captures = [] if found is None else found[1]
        values = []
        for kind, x in entry.sources:
            value = args[x] if kind == "arg" else captures[x] if kind == "capture" else x
            if isinstance(value, Tensor):
                value = value.data
            values.append(value.get() if isinstance(value, Scalar) else value)
        return entry, values

    def _traced(
        self, args: Sequence[Any], demands: set[tuple[int, int]]
    ) -> tuple[Trace, Sequence[TensorValue], set[tuple[int, int]]]:
        """The trace, what the function returns, and which sizes of the arguments it depends on."""
        static, fixed = self._statics(args) | demands, set[tuple[str, int]]()
        leading, unread = False, set[tuple[int, int]]()  # features of tensors that only scores load from
        # A size that the function reads is part of the text: trace until no new one appears.
        while True:
            trace, returned = self._trace(args, static, fixed, leading)
            more = {(n, a) for n, x in enumerate(args) if _is_tensor(x) for a in range(len(x.shape))}
            wanted = static | (more if trace.everything else trace.demands)
            if trace.wants_leading:
                leading = True
                wanted = wanted | {(n, a) for n, a in more if a < len(args[n].shape) - 2}
            if trace.broadcasts:  # a size that is 1 may repeat: so whether it is belongs to the kernel
                wanted = wanted | {(n, -1 - a) for n, a in more}
            unread = {(n, a) for n, a in self._statics(args) - unread if n not in trace.features} | unread
            wanted = wanted - (unread - trace.demands)
            if wanted == static and trace.asked <= fixed and not trace.wants_leading:
                return trace, returned, static
            static, fixed = wanted, fixed | trace.asked

    @staticmethod
    def _sizes(args: Sequence[Any], demands: set[tuple[int, int]]) -> tuple[int, ...]:
        return tuple(int(args[n].shape[a]) if a >= 0 else int(args[n].shape[-1 - a] == 1) for n, a in sorted(demands))

    @staticmethod
    def _positions(trace: Trace, found: Any) -> list[Source]:
        """Sources in which captured objects are numbers among the captures, so that new ones are found again."""
        reach = {} if found is None else {id(capture_identity(c)): n for n, c in enumerate(found[1])}
        out: list[Source] = []
        for kind, x in trace.sources:
            n = reach.get(id(capture_identity(x))) if kind == "object" else None
            out.append((kind, x) if n is None else ("capture", n))
        return out


def kernel(function: Callable[..., Any]) -> KernelFunction:
    """Makes one kernel of a Python function of tensors.

    The function is traced with symbolic tensors: `attend`, `pool`, `scan`, `convolve`, `project`, `linear_attend`,
    `group`, `gather_rows`, `scatter_rows` and `merge` become ops of one spec, compiled as one unit for each combination
    of dtypes and head dimensions (and of sizes that the function reads). Tensors that it captures are run-time
    operands.

    Between the ops stands arithmetic on single elements, of tensors that broadcast as NumPy's do: operators,
    comparisons for `select`, the functions of `heddle` and of torch (``F.silu``, ``torch.where``), `elementwise`; with
    ``x[..., None]`` and ``x.swapaxes(-1, -2)`` tensors meet in other dimensions. Sums over features are
    ``hd.convolve(x, ones)`` with ones ``[1, 1, D, 1]``, products of two results
    ``hd.linear_attend(x, unit, y, normalizer="none")``; slices, sorting and reshapes are done outside.

    Examples
    --------
    >>> @hd.kernel
    ... def linformer(q, k, v, e, f):
    ...     return hd.attend(q, hd.project(k, e), hd.project(v, f))
    >>> out = linformer(q, k, v, e, f)
    """
    return KernelFunction(function)
