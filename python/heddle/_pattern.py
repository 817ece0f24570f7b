"""Patterns: sets of (query position, key position) pairs in an algebra.

A `Pattern` is a syntax tree of the extension and the tensors and run-time integers
it refers to. Operators combine trees and merge operands: one tensor used twice is
one operand.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Union, cast

from . import _core
from ._core import Pattern as CorePattern
from ._emit import to_expr
from ._scalars import Scalar, Tensor, Traced, as_traced, capture_identity, dtype_name, is_symbolic, scalar, symbols
from ._tensors import describe_tensor
from ._trace import run_traced

_USE_OPERATORS = (
    "expected patterns combined with & | - ~, but got a truth value of a pattern (`and`, `or`, `not` or `if`); "
    "write P & Q, P | Q, ~P, or ask P.is_empty()"
)


executing: list[bool] = []
"""Not empty while code runs on behalf of torch.compile instead of being read by it."""


def compiling() -> bool:
    """True where torch.compile reads this code: patterns are then only noted down."""
    if executing:
        return False
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


class Staged:
    """A pattern as torch.compile sees it: what was called with what (see `_torch`)."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: Any = None) -> None:
        self.name = name
        self.args = args
        self.kwargs = {} if kwargs is None else kwargs

    def __and__(self, other: Any) -> Staged:
        return Staged("__and__", (self, other))

    def __or__(self, other: Any) -> Staged:
        return Staged("__or__", (self, other))

    def __sub__(self, other: Any) -> Staged:
        return Staged("__sub__", (self, other))

    def __rand__(self, other: Any) -> Staged:
        return Staged("__and__", (other, self))

    def __ror__(self, other: Any) -> Staged:
        return Staged("__or__", (other, self))

    def __rsub__(self, other: Any) -> Staged:
        return Staged("__sub__", (other, self))

    def __invert__(self) -> Staged:
        return Staged("__invert__", (self,))


_F = TypeVar("_F", bound=Callable[..., Any])


def staged(fn: _F) -> _F:
    """A constructor that torch.compile notes down instead of running it."""

    @functools.wraps(fn)
    def constructor(*args: Any, **kwargs: Any) -> Any:
        if compiling():
            return Staged(fn.__name__, args, kwargs)
        return fn(*args, **kwargs)

    return cast(_F, constructor)


class End:
    """`end` or `end - n` in a list of positions: one past the last position."""

    __slots__ = ("back",)

    def __init__(self, back: int = 0) -> None:
        self.back = back

    def __sub__(self, n: int) -> End:
        return End(self.back + n)

    def __repr__(self) -> str:
        return f"hd.end - {self.back}" if self.back else "hd.end"


class Infinity:
    """An unbounded side of a window."""

    __slots__ = ()

    def __neg__(self) -> Infinity:
        raise ValueError("expected a count of at least 0 or hd.inf, but got -inf")

    def __repr__(self) -> str:
        return "hd.inf"


class Unbound:
    """An operand that has a name but no value yet (from `parse`)."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"%{self.name}"


end = End()
inf = Infinity()

Int = Union[int, Scalar, End, Infinity, float]
Positions = Sequence[Union[int, tuple[Int, Int], range, End, Scalar]]


class Canonical:
    """A pattern in canonical form: equal text means one kernel."""

    __slots__ = ("core", "depends_on_query", "operands", "text")

    def __init__(self, core: _core.Pattern, operands: tuple[Any, ...]) -> None:
        found = _canonical_cores.get(id(core))
        if found is None:
            found = _canonical_cores[id(core)] = _canonical_core(core)
            if len(_canonical_cores) > 1024:
                _canonical_cores.pop(next(iter(_canonical_cores)))
        _, self.core, order, self.text, self.depends_on_query = found
        self.operands = tuple(operands[n] for n in order)


_canonical_cores: dict[int, tuple[Any, ...]] = {}
"""By the tree's identity: the tree (so that its identity stays its own) and what `_canonical_core` found."""


def _canonical_core(given: CorePattern) -> tuple[Any, ...]:
    """(given, canonical tree with operands in order of first use, that order, its text, depends on i)."""
    core = given.canonical()
    order = core.operand_order()
    if order:
        to = [0] * (max(order) + 1)
        for new, old in enumerate(order):
            to[old] = new
        core = core.renumber(to)
    return given, core, order, core.text(), core.depends_on_query


class Pattern:
    """A set of (i, j): query position i attends to key position j.

    Built by the functions of this module, by `parse`, or by `holds`; combined with
    ``&`` (intersection), ``|`` (union), ``-`` (difference) and ``~`` (complement).
    ``P == Q``, ``P <= Q`` and ``P >= Q`` compare the sets, exactly; ``hash`` agrees.
    ``repr(P)`` is its text, ``print(P)`` adds a drawing.
    """

    __slots__ = ("_canonical", "_core", "_memo", "_operands")

    _core: CorePattern
    _operands: tuple[Any, ...]
    _canonical: Canonical | None
    _memo: dict[Any, Any] | None

    def __init__(self, core: CorePattern, operands: tuple[Any, ...] = ()) -> None:
        self._core = core
        self._operands = operands
        self._canonical = None
        self._memo = None

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self is full:
            return "full"
        return _restore, (self._core.text([str(n) for n in range(len(self._operands))]), self._operands)

    # Combination

    def _combine(self, other: Any, op: str) -> Pattern:
        if not isinstance(other, Pattern):
            if callable(other):
                other = holds(other)
            else:
                return NotImplemented
        memo = None
        if not self._operands and not other._operands:
            memo = self._memo
            if memo is None:
                memo = self._memo = {}
            found = memo.get((op, id(other)))
            if found is not None:
                return found[1]
        right, operands = other._core, self._operands
        if other._operands:
            operands, to = merge_operands(operands, other._operands)
            right = right.renumber(to)
        result = Pattern(getattr(self._core, op)(right), operands)
        if memo is not None:
            if len(memo) >= 32:
                memo.clear()
            memo[op, id(other)] = (other, result)
        return result

    def __and__(self, other: Any) -> Pattern:
        if compiling():
            return Staged("__and__", (self, other))  # type: ignore[return-value]
        return self._combine(other, "__and__")

    def __or__(self, other: Any) -> Pattern:
        if compiling():
            return Staged("__or__", (self, other))  # type: ignore[return-value]
        return self._combine(other, "__or__")

    def __sub__(self, other: Any) -> Pattern:
        if compiling():
            return Staged("__sub__", (self, other))  # type: ignore[return-value]
        return self._combine(other, "__sub__")

    def __rand__(self, other: Any) -> Pattern:
        if compiling():
            return Staged("__rand__", (self, other))  # type: ignore[return-value]
        return as_pattern(other) & self

    def __ror__(self, other: Any) -> Pattern:
        if compiling():
            return Staged("__ror__", (self, other))  # type: ignore[return-value]
        return as_pattern(other) | self

    def __rsub__(self, other: Any) -> Pattern:
        if compiling():
            return Staged("__rsub__", (self, other))  # type: ignore[return-value]
        return as_pattern(other) - self

    def __invert__(self) -> Pattern:
        if compiling():
            return Staged("__invert__", (self,))  # type: ignore[return-value]
        return Pattern(~self._core, self._operands)

    def __bool__(self) -> bool:
        raise TypeError(_USE_OPERATORS)

    # Text

    def __repr__(self) -> str:
        return self.text

    def __format__(self, spec: str) -> str:
        return format(self.text, spec)

    def __str__(self) -> str:
        drawing = self.draw()
        return f"{self.text}\n{drawing}" if drawing else self.text

    @property
    def text(self) -> str:
        """The text form; `parse` reads it. Operands are %0, %1, ... or have their names."""
        return self._core.text(operand_names(self._operands))

    def draw(self, nq: int = 16, nk: int | None = None, **where: Any) -> str:
        """The pattern in characters, queries downward: ■ live, · not. Empty where an operand has no value."""
        if any(isinstance(o, Unbound) for o in self._operands):
            return ""
        live = self.mask(nq, nk, **where)
        return "\n".join(" ".join("■" if x else "·" for x in row) for row in live)

    # Meaning

    def canonical(self) -> Canonical:
        """The canonical form (cached)."""
        if self._canonical is None:
            self._canonical = Canonical(self._core, self._operands)
        return self._canonical

    @property
    def operands(self) -> tuple[Any, ...]:
        """Run-time tensors and scalars, in order of their numbers."""
        return self._operands

    def bind(self, **tensors: Any) -> Pattern:
        """The same pattern with values for operands that have names (from `parse`)."""
        names = {o.name for o in self._operands if isinstance(o, Unbound)}
        unknown = sorted(set(tensors) - names)
        if unknown:
            raise ValueError(f"expected names among {sorted(names)}, but got {unknown}")
        operands = tuple(
            as_operand(tensors[o.name]) if isinstance(o, Unbound) and o.name in tensors else o for o in self._operands
        )
        return Pattern(self._core, operands)

    def _values(self, tensors: dict[str, Any]) -> list[Any]:
        bound = self.bind(**tensors) if tensors else self
        return [operand_value(o) for o in bound._operands]

    def mask(
        self, nq: int, nk: int | None = None, q_offset: Any = 0, h: int = 0, *, b: int = 0, k_offset: int = 0,
        **tensors: Any,
    ) -> Any:  # fmt: skip
        """Membership pair by pair.

        Parameters
        ----------
        nq, nk
            Numbers of queries and of keys (default: as many keys as queries).
        q_offset
            Position of the first query; ``"end"`` means nk - nq.
        h, b
            Query head and batch entry.
        k_offset
            Position of the first key.
        **tensors
            Values of operands that have names.

        Returns
        -------
        numpy.ndarray
            Booleans ``[nq, nk]``.
        """
        places = _places_of(nq, nk, q_offset, k_offset, b, h)
        try:
            return self._core.mask(*places, self._values(tensors))
        except MemoryError:
            raise MemoryError(
                f"expected a mask that fits the memory, but got one of {places[0]} x {places[1]} pairs; "
                "P.count counts them without it"
            ) from None

    def count(
        self, nq: int, nk: int | None = None, q_offset: Any = 0, h: int = 0, *, b: int = 0, k_offset: int = 0,
        **tensors: Any,
    ) -> int:  # fmt: skip
        """The number of live pairs; arguments as in `mask`."""
        return self._core.count(*_places_of(nq, nk, q_offset, k_offset, b, h), self._values(tensors))

    # Comparison

    def _closed_text(self, what: str) -> str:
        if self._operands:
            raise ValueError(
                f"expected a pattern without run-time operands for {what}, but got {self.text}; compare masks instead"
            )
        return self._core.text()

    def _identical(self, other: Pattern) -> bool:
        a, b = self.canonical(), other.canonical()
        return (
            a.text == b.text
            and len(a.operands) == len(b.operands)
            and all(capture_identity(x) is capture_identity(y) for x, y in zip(a.operands, b.operands, strict=True))
        )

    def _same_masks(self, other: Pattern) -> bool:
        """Equality of patterns with run-time tensors: pair by pair on the positions that the tensors cover."""
        shapes: list[tuple[int, ...]] = [
            tuple(getattr(o, "shape", ())) for o in (*self._values({}), *other._values({}))
        ]
        if not shapes or not all(len(s) >= 1 for s in shapes):
            for pattern in (self, other):
                pattern._closed_text("==")
        n = max(s[-1] for s in shapes)
        batch = max((s[0] for s in shapes if len(s) > 1), default=1)
        heads = max((s[1] for s in shapes if len(s) > 2), default=1)
        return all(
            bool((self.mask(n, b=b, h=h) == other.mask(n, b=b, h=h)).all()) for b in range(batch) for h in range(heads)
        )

    def __eq__(self, other: object) -> bool:
        """The same set of pairs of positions (i >= 0, j >= 0), proved for all lengths.

        Patterns with run-time tensors are compared with the tensors they hold, on the positions that these cover.
        """
        if not isinstance(other, Pattern):
            return NotImplemented
        if self is other or self._identical(other):
            return True
        if self._operands or other._operands:
            return self._same_masks(other)
        if self._core.fingerprint() != other._core.fingerprint():
            return False
        return _core.pattern_is_equal(self._closed_text("=="), other._closed_text("=="))

    def __hash__(self) -> int:
        if self._operands:
            form = self.canonical()
            return hash((form.text, *(id(capture_identity(o)) for o in form.operands)))
        return hash(self._core.fingerprint())

    def _within(self, other: Pattern) -> bool:
        if self._identical(other):
            return True
        return _core.pattern_is_subset(self._closed_text("a comparison"), other._closed_text("a comparison"))

    def __le__(self, other: Any) -> bool:
        return self._within(as_pattern(other))

    def __ge__(self, other: Any) -> bool:
        return as_pattern(other)._within(self)

    def __lt__(self, other: Any) -> bool:
        other = as_pattern(other)
        return self._within(other) and not other._within(self)

    def __gt__(self, other: Any) -> bool:
        other = as_pattern(other)
        return other._within(self) and not self._within(other)

    def is_empty(self) -> bool:
        """True where no pair of positions (i >= 0, j >= 0) is in the set."""
        return _core.pattern_is_empty(self._closed_text("is_empty"))

    def example(self, other: Any = None) -> tuple[int, int] | None:
        """A pair (i, j) that is in this pattern and not in `other` (default: any member); None where there is none."""
        other = ~full if other is None else as_pattern(other)
        return _core.pattern_example(self._closed_text("example"), other._closed_text("example"))


def _restore(text: str, operands: tuple[Any, ...]) -> Pattern:
    """The pattern of a text in which the names of operands are their numbers (from a pickle, or a copy)."""
    core, names = CorePattern.parse(text)
    return Pattern(core, tuple(operands[int(name)] for name, _ in names))


def _places_of(nq: Any, nk: Any, q_offset: Any, k_offset: Any, b: Any, h: Any) -> tuple[int, int, int, int, int, int]:
    """(nq, nk, q_offset, k_offset, b, h) as integers; ValueError or TypeError that says which is none."""

    def integer(x: Any, name: str) -> int:
        if isinstance(x, bool) or not hasattr(x, "__index__"):
            raise TypeError(f"expected an integer for {name}, but got {x!r} ({type(x).__name__})")
        n = int(x.__index__())
        if abs(n) > 1 << 30:
            raise ValueError(f"expected {name} of at most 2^30 in magnitude, but got {n}")
        return n

    nq = integer(nq, "nq")
    nk = nq if nk is None else integer(nk, "nk")
    offset = nk - nq if isinstance(q_offset, str) and q_offset == "end" else integer(q_offset, "q_offset")
    return nq, nk, offset, integer(k_offset, "k_offset"), integer(b, "b"), integer(h, "h")


# Operands


def as_operand(x: Any) -> Any:
    """A tensor (hd.tensor unwrapped) or a `Scalar` as an operand of a pattern."""
    if isinstance(x, Scalar):
        if x.is_float:
            raise TypeError("expected an integer hd.scalar in a pattern, but got a float")
        return x
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, int) and not isinstance(x, bool):
        return Scalar(x)
    if not is_symbolic(x):
        describe_tensor(x, "the pattern's operand")
    return x


def operand_value(o: Any) -> Any:
    """What the extension takes for an operand: an int or a tensor."""
    if isinstance(o, Unbound):
        raise ValueError(f"expected a value for the operand %{o.name}, but got none; pass {o.name}=...")
    return o.get() if isinstance(o, Scalar) else o


def operand_names(operands: Sequence[Any]) -> list[str] | None:
    """Names for the text form: their own, or their number."""
    if not operands:
        return None
    return [o.name if isinstance(o, Unbound) else str(n) for n, o in enumerate(operands)]


def merge_operands(left: tuple[Any, ...], right: Sequence[Any]) -> tuple[tuple[Any, ...], list[int]]:
    """One list of both, each object once; and the new numbers of `right`."""
    merged = list(left)
    numbers = {_identity(o): n for n, o in enumerate(left)}
    to = []
    for o in right:
        n = numbers.setdefault(_identity(o), len(merged))
        if n == len(merged):
            merged.append(o)
        to.append(n)
    return tuple(merged), to


def _identity(o: Any) -> Any:
    return ("name", o.name) if isinstance(o, Unbound) else id(capture_identity(o))


class _Builder:
    """Collects the operands of one constructor."""

    def __init__(self) -> None:
        self.operands: tuple[Any, ...] = ()

    def operand(self, x: Any) -> int:
        self.operands, to = merge_operands(self.operands, (as_operand(x),))
        return to[0]

    def integer(self, x: Any, name: str) -> Any:
        """An integer argument: a literal, inf, end - n, or a run-time scalar."""
        if isinstance(x, Scalar):
            return ("operand", self.operand(x))
        if isinstance(x, Infinity) or (isinstance(x, float) and x == float("inf")):
            return ("inf",)
        if isinstance(x, End):
            return ("end", self._within_64_bits(x.back, name))
        if isinstance(x, bool) or not hasattr(x, "__index__"):
            raise TypeError(f"expected an integer or hd.scalar for {name}, but got {x!r} ({type(x).__name__})")
        if hasattr(x, "shape") and len(x.shape) != 0:
            raise TypeError(f"expected an integer or hd.scalar for {name}, but got a tensor of shape {list(x.shape)}")
        return self._within_64_bits(x.__index__(), name)

    @staticmethod
    def _within_64_bits(n: int, name: str) -> int:
        if not -(1 << 63) <= n < 1 << 63:
            raise ValueError(f"expected an integer of 64 bits for {name}, but got {n}")
        return n

    def child(self, p: Any) -> _core.Pattern:
        p = as_pattern(p)
        if not p._operands:
            return p._core
        self.operands, to = merge_operands(self.operands, p._operands)
        return p._core.renumber(to)

    def build(
        self, kind: str, ints: Sequence[tuple[str, Any]] = (), children: Sequence[Any] = (), **rest: Any
    ) -> Pattern:
        values = [self.integer(x, f"{name} of {kind}") for name, x in ints]
        patterns = [self.child(p) for p in children]
        return Pattern(_core.Pattern.make(kind, values, children=patterns, **rest), self.operands)


_literals: dict[Any, Pattern] = {}


def _literal(kind: str, names: tuple[str, ...], values: tuple[Any, ...], children: tuple[Any, ...] = ()) -> Pattern:
    """A primitive; those of plain integers are made once."""
    key = None
    if not children and all(type(v) is int for v in values):
        key = (kind, values)
        found = _literals.get(key)
        if found is not None:
            return found
    result = _Builder().build(kind, tuple(zip(names, values, strict=True)), children)
    if key is not None and len(_literals) < 4096:
        _literals[key] = result
    return result


def as_pattern(x: Any) -> Pattern:
    """A pattern as it is; a function of (b, h, i, j), or FlexAttention's BlockMask, traced; None means `full`."""
    if isinstance(x, Pattern):
        return x
    if x is None:
        return full
    if callable(getattr(x, "mask_mod", None)):
        return holds(x.mask_mod)
    if callable(x):
        return holds(x)
    cure = "; hd.parse reads a pattern's text" if isinstance(x, str) else ""
    cure = "; a boolean matrix is hd.mask(x)" if hasattr(x, "dtype") else cure
    raise TypeError(f"expected a pattern or a function of (b, h, i, j), but got {type(x).__name__}{cure}")


# Closed-form patterns


class _Causal(Pattern):
    """`causal`: j <= i; called with a lag: j <= i - lag."""

    __slots__ = ()

    def __call__(self, lag: Int = 0) -> Pattern:
        """j <= i - lag; `lag` is any integer or a run-time scalar."""
        if compiling():
            return Staged("causal", (lag,))  # type: ignore[return-value]
        return _literal("causal", ("lag",), (lag,))

    def __reduce__(self) -> str:
        return "causal"


full: Pattern = Pattern(_core.Pattern.make("full"))
causal: _Causal = _Causal(_core.Pattern.make("causal", [0]))


@staged
def window(left: Int, right: Int, dilation: int = 1) -> Pattern:
    """-left*dilation <= j - i <= right*dilation and (j - i) mod dilation = 0.

    Parameters
    ----------
    left, right
        Counts of keys on either side: >= 0, ``hd.inf`` or ``hd.scalar``.
    dilation
        Distance between live keys, >= 1.
    """
    return _literal("window", ("left", "right", "dilation"), (left, right, dilation))


@staged
def stride(n: int, phase: Int = 0) -> Pattern:
    """(i - j) mod n = phase, with 0 <= phase < n."""
    return _literal("stride", ("n", "phase"), (n, phase))


@staged
def block(n: int) -> Pattern:
    """i floordiv n = j floordiv n."""
    return _literal("block", ("n",), (n,))


def _places(kind: str, positions: Any) -> Pattern:
    if isinstance(positions, Tensor):
        positions = positions.data
    if hasattr(positions, "dtype") and hasattr(positions, "shape"):
        return _flags(kind, positions)
    return _ranges(kind, positions)


def _flags(kind: str, data: Any) -> Pattern:
    if dtype_name(data) != "bool":
        raise TypeError(f"expected a list of positions or boolean flags [B, N] for {kind}, but got {data.dtype}")
    if len(data.shape) != 2:
        cure = ""
        if len(data.shape) == 3 and kind == "keys":
            cure = "; by head: hd.same(x, y), x zeros of the queries [1, 1, Nq], y 0 where live and -1 elsewhere"
        raise ValueError(f"expected flags of shape [B, N] for {kind}, but got {list(data.shape)}{cure}")
    if kind == "global_tokens":
        return keys(data) | queries(data)
    builder = _Builder()
    return builder.build(kind, operands=[builder.operand(data)])


def _ranges(kind: str, positions: Any) -> Pattern:
    builder = _Builder()
    if isinstance(positions, (int, range, End, Scalar)) or not hasattr(positions, "__iter__"):
        positions = [positions]
    ranges = []
    for item in positions:
        if isinstance(item, range):
            if item.step != 1:
                raise ValueError(f"expected a range of step 1 for {kind}, but got {item}")
            item = (item.start, item.stop)
        if isinstance(item, tuple):
            if len(item) != 2:
                raise ValueError(f"expected half-open ranges (lo, hi) for {kind}, but got {item}")
            lo, hi = (builder.integer(x, f"a position of {kind}") for x in item)
        else:
            lo = builder.integer(item, f"a position of {kind}")
            if isinstance(item, Scalar):
                raise TypeError(
                    f"expected a literal or a range for a position of {kind}, but got a run-time scalar alone; "
                    "write hd.holds(lambda b, h, i, j: j == x), or i == x for queries"
                )
            hi = ("end", lo[1] - 1) if isinstance(lo, tuple) else lo + 1
        ranges.append((lo, hi))
    return builder.build(kind, ranges=ranges)


@staged
def keys(positions: Any) -> Pattern:
    """j is in the list, or is flagged at run time.

    Parameters
    ----------
    positions
        Integers and half-open ranges, e.g. ``[(0, 4), 9]`` or ``[(0, 2), (hd.end - 4, hd.end)]``; or
        boolean flags ``[B, Nk]``, indexed by rows (padding, left or right).
    """
    return _places("keys", positions)


@staged
def queries(positions: Any) -> Pattern:
    """i is in the list, or is flagged at run time; as `keys`."""
    return _places("queries", positions)


@staged
def global_tokens(positions: Any) -> Pattern:
    """i or j is in the list: keys(list) | queries(list)."""
    return _places("global_tokens", positions)


@staged
def key_mod(n: int, lo: Int, hi: Int) -> Pattern:
    """lo <= j mod n < hi, with 0 <= lo < hi <= n."""
    return _literal("key_mod", ("n", "lo", "hi"), (n, lo, hi))


@staged
def query_mod(n: int, lo: Int, hi: Int) -> Pattern:
    """lo <= i mod n < hi, with 0 <= lo < hi <= n."""
    return _literal("query_mod", ("n", "lo", "hi"), (n, lo, hi))


@staged
def offsets(distances: Any) -> Pattern:
    """i - j is in the list (logsparse is ``offsets([0, 1, 2, 4, 8])``).

    Parameters
    ----------
    distances
        Integers; or a tensor of integers ``[n]``, or ``[H, n]`` with a list for each head, whose entries are distinct.
    """
    if isinstance(distances, Tensor) or (hasattr(distances, "dtype") and hasattr(distances, "shape")):
        return _tensors("offsets", (("the offsets", distances, (1, 2), "[n] or [H, n]"),))
    distances = tuple(distances)
    return _literal("offsets", ("distance",) * len(distances), distances)


@staged
def coarse(nq: int, nk: Any, pattern: Any = None) -> Pattern:
    """The pattern on blocks: ``coarse(n, P)`` or ``coarse(nq, nk, P)``; P holds on (i floordiv nq, j floordiv nk)."""
    if pattern is None:
        nk, pattern = nq, nk
    return _literal("coarse", ("nq", "nk"), (nq, nk), (pattern,))


@staged
def grid(width: int, rows: Any, columns: Any) -> Pattern:
    """`rows` on (i floordiv width, j floordiv width) and `columns` on (i mod width, j mod width); nests for 3-D."""
    return _literal("grid", ("width",), (width,), (rows, columns))


@staged
def shift(a: Int, pattern: Any) -> Pattern:
    """The pattern on (i - a, j - a)."""
    return _literal("shift", ("a",), (a,), (pattern,))


@staged
def remap(map: Any, *patterns: Any) -> Pattern:
    """Patterns on mapped positions: P on (e(i), e(j)), Q on (f(i), f(j)), and so on.

    Parameters
    ----------
    map
        ``"affine_map<(x) -> (x floordiv 8, x mod 8)>"``, or a Python function of x that returns one
        expression for each pattern.
    *patterns
        As many as the map has results.
    """
    builder = _Builder()
    children = [builder.child(p) for p in patterns]
    if callable(map):
        x = symbols()[2]
        results = map(x)
        results = results if isinstance(results, (tuple, list)) else (results,)
        exprs = [to_expr(as_traced(r), builder.operand) for r in results]
    else:
        text = map if map.strip().startswith("affine_map") else f"affine_map<{map}>"
        names = ", ".join(["full"] * max(len(patterns), 1))
        probe, _ = _core.Pattern.parse(f"remap({text}, {names})")
        exprs = probe.exprs
    if len(exprs) != len(children):
        raise ValueError(f"expected {len(exprs)} patterns, one for each result of the map, but got {len(children)}")
    core = _core.Pattern.make("remap", exprs=exprs, children=children)
    return Pattern(core, builder.operands)


@staged
def neighborhood(size: int, extent: Int, stride: int = 1, dilation: int = 1, causal: bool = False) -> Pattern:
    """NATTEN's window: clamped at the borders, so that every query has `size` keys of `extent` positions.

    Source: Hassani et al., Neighborhood Attention Transformer, and NATTEN's documentation.
    """
    return _literal(
        "neighborhood", ("size", "extent", "stride", "dilation", "causal"),
        (size, extent, stride, dilation, int(causal)),
    )  # fmt: skip


@staged
def past_blocks(n: int, size: int | None = None, inclusive: bool = False) -> Pattern:
    """j*n + size <= i (inclusive: <= i + 1): summary j of the tokens [jn, jn + size) is all past."""
    return _literal("past_blocks", ("n", "size", "inclusive"), (n, n if size is None else size, int(inclusive)))


@staged
def parent(n: int) -> Pattern:
    """i = j floordiv n: query i is the summary of the tokens j."""
    return _literal("parent", ("n",), (n,))


@staged
def random_blocks(block: int, per_row: int, seed: int) -> Pattern:
    """`per_row` distinct key blocks for each query block, drawn by the generator that docs/spec.md defines."""
    return _literal("random_blocks", ("block", "per_row", "seed"), (block, per_row, seed))


@staged
def per_head(patterns: Sequence[Any]) -> Pattern:
    """P of the query head: patterns[h mod len]."""
    if isinstance(patterns, Pattern) or not isinstance(patterns, (list, tuple)):
        raise TypeError(f"expected a list of patterns for per_head, but got {type(patterns).__name__}")
    return _Builder().build("per_head", children=list(patterns))


@staged
def affine_set(text: str) -> Pattern:
    """A quasi-affine relation in MLIR's integer-set syntax.

    Examples
    --------
    >>> hd.affine_set("(i, j)[nq, nk] : (i - j >= 0, j - i + 64 >= 0)")
    """
    text = text.strip()
    return parse(text if text.startswith("affine_set") else f"affine_set<{text}>")


# Run-time patterns


def _ids(name: str, x: Any, ranks: tuple[int, ...] = (2, 3), shapes: str = "[B, N] or [B, H, N]") -> Any:
    x = as_operand(x)
    if isinstance(x, Unbound):
        return x
    if isinstance(x, Scalar) or not dtype_name(x).startswith("int"):
        raise TypeError(f"expected a tensor of integers for {name}, but got {getattr(x, 'dtype', x)}")
    if len(x.shape) not in ranks:
        raise ValueError(f"expected {name} of shape {shapes}, but got {list(x.shape)}")
    return x


def _tensors(kind: str, operands: Sequence[tuple[str, Any, tuple[int, ...], str]], child: Any = None) -> Pattern:
    """A primitive of integer tensors: (what it is, the tensor, its ranks, its shapes in words)."""
    builder = _Builder()
    numbers = [builder.operand(_ids(name, x, ranks, shapes)) for name, x, ranks, shapes in operands]
    return builder.build(kind, operands=numbers, children=() if child is None else (child,))


@staged
def same(qids: Any, kids: Any = None) -> Pattern:
    """Ids equal (documents, clusters, buckets); negative ids match nothing.

    Parameters
    ----------
    qids, kids
        Integers ``[B, N]`` or ``[B, H, N]``, indexed by rows. Without `kids`: those of the queries.
    """
    builder = _Builder()
    kids = qids if kids is None else kids
    return builder.build(
        "same", operands=[builder.operand(_ids("the query ids", qids)), builder.operand(_ids("the key ids", kids))]
    )


@staged
def cluster(ids: Any) -> Pattern:
    """same(ids, ids)."""
    builder = _Builder()
    return builder.build("cluster", operands=[builder.operand(_ids("the ids", ids))])


@staged
def lengths(len: Any) -> Pattern:
    """j's row < len[b]; `len` is integers ``[B]``."""
    builder = _Builder()
    x = as_operand(len)
    if isinstance(x, Scalar) or not dtype_name(x).startswith("int"):
        raise TypeError(f"expected a tensor of integers for lengths, but got {getattr(x, 'dtype', x)}")
    if x.ndim != 1:
        raise ValueError(f"expected lengths of shape [B], but got {list(x.shape)}")
    return builder.build("lengths", operands=[builder.operand(x)])


@staged
def between(lo: Any, hi: Any) -> Pattern:
    """lo[i] <= j's row < hi[i]; `lo` and `hi` are integers ``[B, Nq]`` or ``[B, H, Nq]``."""
    builder = _Builder()
    return builder.build(
        "between", operands=[builder.operand(_ids("the lower ends", lo)), builder.operand(_ids("the upper ends", hi))]
    )


@staged
def between_queries(lo: Any, hi: Any) -> Pattern:
    """lo[j] <= i's row < hi[j]; `lo` and `hi` are integers ``[B, Nk]`` or ``[B, H, Nk]``: the queries of each key."""
    return _tensors(
        "between_queries",
        [(name, x, (2, 3), "[B, Nk] or [B, H, Nk]") for name, x in (("the lower ends", lo), ("the upper ends", hi))],
    )


@staged
def positions(p: Any, q: Any, pattern: Any) -> Pattern:
    """The pattern on (p[i], q[j]) in place of (i, j).

    Parameters
    ----------
    p, q
        Integers ``[N]``, ``[B, N]`` or ``[B, H, N]``: the positions of the query rows and of the key rows. They are
        the rows of run-time operands inside as well.
    pattern
        For example ``hd.causal``: key j is not after query i where both were moved.
    """
    shapes = "[N], [B, N] or [B, H, N]"
    return _tensors(
        "positions", [("the queries' positions", p, (1, 2, 3), shapes), ("the keys' positions", q, (1, 2, 3), shapes)],
        pattern,
    )  # fmt: skip


@staged
def packed(cu_q: Any, cu_k: Any = None, pattern: Any = None) -> Pattern:
    """Both rows are in one packed sequence, and the pattern holds on their places in it (plus the offsets).

    Parameters
    ----------
    cu_q, cu_k
        Integers ``[S + 1]``, ascending: sequence s is the rows from cu[s] to cu[s + 1]. Without `cu_k`: those of
        the queries.
    pattern
        Default: all pairs of a sequence.

    Examples
    --------
    >>> hd.packed(cu, cu, hd.causal)
    """
    if pattern is None and isinstance(cu_k, (Pattern, Staged)):
        cu_k, pattern = None, cu_k
    ends = (("the starts of the queries", cu_q), ("the starts of the keys", cu_q if cu_k is None else cu_k))
    built = _tensors("packed", [(n, x, (1,), "[S + 1]") for n, x in ends], full if pattern is None else pattern)
    counts = [x.shape[0] for _, x in ends if hasattr(x, "shape")]
    if len(counts) == 2 and counts[0] != counts[1]:
        raise ValueError(f"expected as many starts of the queries as of the keys, but got {counts[0]} and {counts[1]}")
    return built


@staged
def listed(idx: Any) -> Pattern:
    """j's row is in the list of i's row.

    Parameters
    ----------
    idx
        Integers ``[B, H, Nq, n]``, ``[B, Nq, n]`` or ``[Nq, n]``; -1 is no entry. The entries of one list must be
        distinct (``HEDDLE_CHECK=1`` finds violations). Inside ``coarse(nq, nk, listed(idx))`` a list holds blocks of
        keys and serves a block of queries.
    """
    return _tensors("listed", [("the lists", idx, (2, 3, 4), "[Nq, n], [B, Nq, n] or [B, H, Nq, n]")])


@staged
def csr(ptr: Any, idx: Any) -> Pattern:
    """j's row is in idx[ptr[i] to ptr[i + 1]]: a graph in compressed sparse rows.

    Parameters
    ----------
    ptr, idx
        Integers ``[Nq + 1]`` and ``[nnz]``, or with leading dimensions ``[B]`` or ``[B, H]``.
    """
    shapes = "[n], [B, n] or [B, H, n]"
    return _tensors("csr", [("the row pointers", ptr, (1, 2, 3), shapes), ("the indices", idx, (1, 2, 3), shapes)])


@staged
def mask(bits: Any) -> Pattern:
    """The pair's own boolean, of ``[Nq, Nk]``, ``[B, Nq, Nk]`` or ``[B, H, Nq, Nk]``.

    The last resort: the tensor is read for every tile, and nothing of it is known before. Where no pair of a tile's
    64 queries and 48 neighboring keys is set, nothing else is computed of them.
    """
    x = as_operand(bits)
    if not isinstance(x, Unbound):
        if isinstance(x, Scalar) or dtype_name(x) != "bool":
            raise TypeError(f"expected a boolean tensor for mask (x != 0 is one), but got {getattr(x, 'dtype', x)}")
        if len(x.shape) not in (2, 3, 4):
            raise ValueError(
                f"expected a mask of shape [Nq, Nk], [B, Nq, Nk] or [B, H, Nq, Nk], but got {list(x.shape)}"
            )
    builder = _Builder()
    return builder.build("mask", operands=[builder.operand(x)])


@staged
def holds(fn: Callable[..., Any]) -> Pattern:
    """The pairs for which a function of (b, h, i, j) is true, traced once.

    A FlexAttention ``mask_mod`` works unchanged. Quasi-affine parts become exact sets; what depends on
    captured tensors is asked pair by pair.

    Examples
    --------
    >>> hd.holds(lambda b, h, i, j: (i >= j) & (i - j < 64)) == hd.window(63, 0)
    True
    """
    if isinstance(fn, Pattern):
        return fn
    if not callable(fn):
        raise TypeError(f"expected a function of (b, h, i, j), but got {type(fn).__name__}")
    trace = run_traced(fn, "mask")
    key = ("holds", trace.key)
    core = _literals.get(key)
    if core is None:
        core = _holds_core(trace.root)
        if len(_literals) < 4096:
            _literals[key] = core
    if not trace.captures:
        return core
    return Pattern(core._core, tuple(as_operand(c) for c in trace.captures))


def _holds_core(root: Traced) -> Pattern:
    if root.type != "bool":
        root = root.bool()
    if root.op == "const":
        return full if root.value else ~full
    return Pattern(_core.Pattern.make("holds", exprs=[to_expr(root)]))


@staged
def parse(text: str, **operands: Any) -> Pattern:
    """Reads the text form of a pattern.

    Parameters
    ----------
    text
        For example ``"causal & (window(63, 0) | stride(64))"``. A drawing below it, as `print` makes it,
        is passed over.
    **operands
        Values for ``%name``; names without a value can be bound later.

    Raises
    ------
    ValueError
        With the place and what was expected.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected the text of a pattern, but got {type(text).__name__}")
    lines = [line for line in text.splitlines() if not line.strip() or set(line) - set("■· ")]
    core, names = _core.Pattern.parse("\n".join(lines).strip())
    unknown = sorted(set(operands) - {name for name, _ in names})
    if unknown:
        raise ValueError(f"expected names among {[name for name, _ in names]}, but got {unknown}")
    values = tuple(as_operand(operands[name]) if name in operands else Unbound(name) for name, _ in names)
    if core.text() == "full" and not values:
        return full
    return Pattern(core, values)


__all__ = [
    "Pattern", "affine_set", "between", "between_queries", "block", "causal", "cluster", "coarse", "csr", "end",
    "full", "global_tokens", "grid", "holds", "inf", "key_mod", "keys", "lengths", "listed", "mask", "neighborhood",
    "offsets", "packed", "parent", "parse", "past_blocks", "per_head", "positions", "queries", "query_mod",
    "random_blocks", "remap", "same", "scalar", "shift", "stride", "window",
]  # fmt: skip
