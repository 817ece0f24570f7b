"""Formulas and specs: what a call computes, as the dialect's text.

A `Formula` is a call without types: patterns in canonical form, traced scores and the
kinds of the other arguments. With the types of the tensors it becomes the text of one
function, `@attend`, which is also the key of the kernel: two spellings with one
canonical form share it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import _core
from ._emit import score_lines
from ._pattern import Canonical, Pattern, Unbound, as_pattern, compiling, full
from ._scalars import Scalar, Tensor, capture_identity, dtype_name
from ._tensors import describe_tensor
from ._trace import Trace, run_traced

DTYPES = ("f32", "f16", "bf16", "f64", "i1", "i8", "i32", "i64")
"""The dialect's names of the runtime's dtypes, by code."""

_DTYPE_NAMES = {
    "f32": "f32", "float32": "f32", "f16": "f16", "float16": "f16", "half": "f16", "bf16": "bf16", "bfloat16": "bf16",
}  # fmt: skip

NORMALIZERS = ("softmax", "none", "sum")


class Segment:
    """Keys and values with their own pattern, score and offset; see `segment`."""

    __slots__ = ("dots", "k", "k_offset", "scale", "score", "v", "where")

    def __init__(self, k: Any, v: Any, where: Any, score: Any, scale: Any, k_offset: Any, dots: Any) -> None:
        self.k = k
        self.v = v
        self.where = where
        self.score = score
        self.scale = scale
        self.k_offset = k_offset
        self.dots = dots


class Relative:
    """Rows of the distance as the key of a dot; see `relative`."""

    __slots__ = ("rows", "shift")

    def __init__(self, rows: Any, shift: int) -> None:
        self.rows = rows
        self.shift = shift


def relative(rows: Any, shift: int = 0) -> Relative:
    """The key of a dot with a relative row: row clamp(i - j + shift, 0, Nr - 1) of `rows`.

    Parameters
    ----------
    rows
        ``[B, H, Nr, D]``, B may be 1.
    shift
        Added to the distance: Nr // 2 where keys after the query have rows as well.

    Examples
    --------
    >>> hd.segment(k, v, hd.causal, dots=[(q + u, k), (q + w, hd.relative(r))])
    """
    if isinstance(shift, bool) or not isinstance(shift, int):
        raise TypeError(f"expected an integer shift, but got {type(shift).__name__}")
    return Relative(rows, shift)


def segment(
    k: Any, v: Any, where: Any = full, *, score: Any = None, scale: Any = None, k_offset: Any = 0, dots: Any = None
) -> Segment:
    """One segment of a joint softmax.

    Parameters
    ----------
    k, v
        ``[B, Hk, Nk, D]`` and ``[B, Hv, Nk, Dv]``.
    where
        A `Pattern`, or a function of (b, h, i, j).
    score
        A function of (s, b, h, i, j), one s for each dot.
    scale
        What multiplies the dots; default: the call's.
    k_offset
        Position of the first key: int, 0-d or ``[B]`` integers.
    dots
        ``[(q1, k1), (q2, k2)]``: the dots that form the score instead of q·k; ``[]``: none. A key may be
        `relative` rows.
    """
    if not compiling():  # what a function captures is what it is now: a loop may make one for each segment
        where = as_pattern(where)
        if callable(score) and (dots is None or isinstance(dots, (list, tuple))):
            score = run_traced(score, "score", 1 if dots is None else len(dots))
    return Segment(k, v, where, score, scale, k_offset, dots)


_interned: dict[Any, int] = {}
_counter = itertools.count()


def intern(key: Any) -> int:
    """A small number for a large key."""
    n = _interned.get(key)
    if n is None:
        n = _interned[key] = next(_counter)
    return n


class SegmentForm:
    """A segment without its tensors."""

    __slots__ = ("captures", "dots", "k_offset", "operands", "pattern", "scale", "score", "shifts")

    def __init__(
        self, pattern: Canonical, operands: tuple[int, ...], score: Trace | None, captures: tuple[int, ...],
        shifts: tuple[int | None, ...] | None, k_offset: str, scale: bool,
    ) -> None:  # fmt: skip
        self.pattern = pattern
        self.operands = operands  # numbers among all patterns' operands
        self.score = score
        self.captures = captures  # numbers among all scores' captures
        self.dots = None if shifts is None else len(shifts)
        self.shifts = shifts  # of each dot: that of its relative rows, None for a key's own
        self.k_offset = k_offset  # "none", "index" or "tensor"
        self.scale = scale


class Call:
    """One call, taken apart: the formula's key and parts, and the arguments in the function's order."""

    __slots__ = ("key", "parts", "values")

    def __init__(self, key: Any, parts: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        self.key = key
        self.parts = parts
        self.values = values


def offset_kind(x: Any, name: str) -> tuple[str, Any]:
    """("none" | "end" | "index" | "tensor", value) of an offset."""
    if x is None:
        return "none", None
    if isinstance(x, str):
        if x == "end" and name == "q_offset":
            return "end", None
        raise ValueError(f'expected an integer, integers [B] or "end" for {name}, but got {x!r}')
    if isinstance(x, Scalar):
        x = x.get()
    if isinstance(x, Tensor):
        x = x.data
    shape = getattr(x, "shape", None)
    if shape is not None and len(shape) == 1:
        dtype = dtype_name(x)
        if dtype == "int64":
            return "tensor", x
        if not dtype.startswith(("int", "uint")):
            raise TypeError(f"expected integers for {name}, but got {dtype}")
        return "tensor", x.long() if hasattr(x, "long") else x.astype("int64")
    if shape is not None and len(shape) > 1:
        raise ValueError(f"expected an integer or integers [B] for {name}, but got shape {list(shape)}")
    if isinstance(x, (list, tuple)):
        import numpy as np

        return offset_kind(np.asarray(x), name)
    if isinstance(x, bool) or not hasattr(x, "__index__"):
        raise TypeError(f"expected an integer for {name}, but got {type(x).__name__}")
    try:
        return "index", x.__index__()
    except TypeError:
        raise TypeError(f"expected an integer for {name}, but got {getattr(x, 'dtype', type(x).__name__)}") from None


def prepare(
    q: Any, segments: Sequence[Segment], *, scale: Any = None, sink: Any = None, normalizer: str = "softmax",
    q_offset: Any = None, lse: bool = False, rows_first: bool = False, keep: bool = False,
) -> Call:  # fmt: skip
    """Takes a call apart. Raises ValueError or TypeError on what needs no tensor's contents.

    With `keep`, run-time scalars stay objects among the values instead of the numbers that they hold now.
    """
    if normalizer not in NORMALIZERS:
        raise ValueError(f"expected a normalizer among softmax, none, sum, but got {normalizer!r}")
    if lse and normalizer != "softmax":
        raise ValueError(f"expected the softmax normalizer where lse is asked for, but got {normalizer}")
    values: list[Any] = [q]
    dots: list[Any] = []
    offsets: list[Any] = []
    scales: list[Any] = []
    operands: list[Any] = []
    operand_numbers: dict[int, int] = {}
    captures: list[Any] = []
    capture_numbers: dict[int, int] = {}
    parts: list[Any] = []
    forms: list[tuple[Any, ...]] = []
    for g in segments:
        values.append(g.k)
        values.append(g.v)
        pattern = g.where if isinstance(g.where, Pattern) else as_pattern(g.where)
        form = pattern.canonical()
        mine = _number(form.operands, operands, operand_numbers) if form.operands else ()
        count = None
        shifts: tuple[int | None, ...] | None = None
        if g.dots is not None:
            for pair in g.dots:
                if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                    raise TypeError(f"expected dots as pairs (query, key), but got {type(pair).__name__}")
            count = len(g.dots)
            shifts = tuple(b.shift if isinstance(b, Relative) else None for _, b in g.dots)
            for a, b in g.dots:
                dots.extend((a, b.rows if isinstance(b, Relative) else b))
        score = None
        heard: tuple[int, ...] = ()
        if g.score is not None:
            if not isinstance(g.score, Trace) and not callable(g.score):
                raise TypeError(f"expected a score function, but got {type(g.score).__name__}")
            made = isinstance(g.score, Trace)
            score = g.score if made else run_traced(g.score, "score", 1 if count is None else count)
            heard = _number(score.captures, captures, capture_numbers)
        elif count == 0:
            raise ValueError("expected a score function where a segment has no dots, but got none")
        kind = "none"
        if type(g.k_offset) is not int or g.k_offset != 0:
            kind, value = offset_kind(g.k_offset, "k_offset")
            if kind != "none":
                offsets.append(value)
        if g.scale is not None:
            scales.append(g.scale)
        parts.append((form, mine, score, heard, shifts, kind, g.scale is not None))
        forms.append(
            (form.text, mine, None if score is None else intern(score.key), heard, shifts, kind, g.scale is not None)
        )
    values.extend(dots)
    q_kind, q_value = ("none", None) if q_offset is None else offset_kind(q_offset, "q_offset")
    if q_value is not None:
        values.append(q_value)
    values.extend(offsets)
    if scale is not None:
        values.append(scale)
    values.extend(scales)
    kinds = ""
    for o in operands:
        if isinstance(o, Unbound):
            raise ValueError(f"expected a value for the operand %{o.name}, but got none; use P.bind({o.name}=...)")
        if isinstance(o, Scalar):
            kinds += "i"
            values.append(o if keep else o.get())
        else:
            kinds += "t"
            values.append(o)
    for c in captures:
        if isinstance(c, Scalar):
            kinds += "F" if c.is_float else "I"
            values.append(c if keep else c.get())
        else:
            kinds += "T"
            values.append(c)
    if sink is not None:
        values.append(sink.data if isinstance(sink, Tensor) else sink)
    key = (tuple(forms), q_kind, scale is not None, kinds, sink is not None, normalizer, lse, rows_first)
    return Call(
        key, (parts, q_kind, scale is not None, kinds, sink is not None, normalizer, lse, rows_first), tuple(values)
    )


def _number(found: Sequence[Any], every: list[Any], numbers: dict[int, int]) -> tuple[int, ...]:
    out = []
    for x in found:
        identity = id(capture_identity(x))
        n = numbers.setdefault(identity, len(every))
        if n == len(every):
            every.append(x)
        out.append(n)
    return tuple(out)


class Formula:
    """A call's text once its types are known.

    Arguments in order: q; k, v of each segment; q, k of each dot; q_offset; k_offsets; scale; the segments'
    scales; the patterns' operands; the scores' captures; sink.
    """

    def __init__(self, parts: tuple[Any, ...]) -> None:
        segments, q_offset, scale, kinds, sink, normalizer, lse, rows_first = parts
        self.segments = [SegmentForm(*s) for s in segments]
        self.q_offset: str = q_offset
        self.scale: bool = scale
        self.sink: bool = sink
        self.normalizer: str = normalizer
        self.lse: bool = lse
        self.rows_first: bool = rows_first
        self.arguments: list[tuple[str, int, str, str]] = []  # kind, segment, what errors call it, SSA name
        self._add_tensors()
        self._add_scalars(kinds)

    def _add_tensors(self) -> None:
        one = len(self.segments) == 1
        self.arguments.append(("q", 0, "q", "q"))
        for g, _ in enumerate(self.segments):
            n, of = ("", "") if one else (str(g), f" of segment {g}")
            self.arguments.append(("k", g, f"k{of}", f"k{n}"))
            self.arguments.append(("v", g, f"v{of}", f"v{n}"))
        for g, s in enumerate(self.segments):
            for d in range(s.dots or 0):
                self.arguments.append(("dot_q", g, f"the query of dot {d} of segment {g}", f"dq{g}_{d}"))
                self.arguments.append(("dot_k", g, f"the key of dot {d} of segment {g}", f"dk{g}_{d}"))

    def _add_scalars(self, kinds: str) -> None:
        add = self.arguments.append
        offsets = {"index": "index", "tensor": "tensor"}
        if self.q_offset in offsets:
            add((offsets[self.q_offset], 0, "q_offset", "q_offset"))
        for g, s in enumerate(self.segments):
            if s.k_offset in offsets:
                of = "" if len(self.segments) == 1 else f" of segment {g}"
                add((offsets[s.k_offset], g, f"k_offset{of}", f"k_offset{g}"))
        if self.scale:
            add(("finite", 0, "scale", "scale"))
        for g, s in enumerate(self.segments):
            if s.scale:
                add(("finite", g, f"scale of segment {g}", f"scale{g}"))
        types = {"i": "index", "t": "tensor", "F": "float", "I": "index", "T": "tensor"}
        operands = [x for x in kinds if x in "it"]
        for n, x in enumerate(kinds):
            if n < len(operands):
                add((types[x], 0, f"operand {n} of the patterns", f"p{n}"))
            else:
                m = n - len(operands)
                add((types[x], 0, f"capture {m} of the scores", f"c{m}"))
        if self.sink:
            add(("tensor", 0, "sink", "sink"))

    def plan(self, compile: Callable[[list[int]], Any]) -> _core.Plan:
        """The extension's plan for this formula."""
        rules = [
            (
                s.dots is None,
                self.q_offset == "none" and (s.pattern.depends_on_query or any(x is not None for x in s.shifts or ())),
            )
            for s in self.segments
        ]
        arguments = [(name if name == "sink" else kind, g, what) for kind, g, what, name in self.arguments]
        return _core.Plan(arguments, rules, self.rows_first, self.lse, compile)

    def words(self) -> dict[str, str]:
        """What errors call the arguments: operands of patterns with the primitive that has them."""
        found = {name: what for _, _, what, name in self.arguments}
        for s in self.segments:
            text = s.pattern.core.text([f"p{n}" for n in s.operands]).replace("%", "")
            for call in re.findall(r"\w+\([^()]*\)", text):
                found |= {name: f"{name} of {call}" for name in re.findall(r"\bp\d+\b", call)}
        return found

    def types(self, signature: Sequence[int], heads: tuple[int, ...] | None = None) -> dict[str, str]:
        """MLIR types by SSA name. `heads`: (Hq, Hk[, Hv]), where they are to be static."""
        found = {}
        at = 0
        for kind, _, _, name in self.arguments:
            if kind == "index":
                found[name] = "index"
            elif kind in ("float", "finite"):
                found[name] = "f32"
            else:
                dtype, n = DTYPES[signature[at]], signature[at + 1]
                at += 2
                if kind == "tensor":
                    found[name] = f"tensor<{'?x' * n}{dtype}>"
                else:
                    h = "?"
                    if heads is not None:
                        h = str(heads[0] if kind in ("q", "dot_q") else heads[-1] if kind == "v" else heads[1])
                    found[name] = f"tensor<?x{h}x?x{n}x{dtype}>"
        return found

    def text(
        self, signature: Sequence[int], heads: tuple[int, ...] | None = None, given: dict[str, str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """The function `@attend` for tensors of these dtypes and sizes.

        `given` has types that are known better. With `names`, what the arguments are called elsewhere, one type is
        given for all that are one value there.
        """
        types = self.types(signature, heads) | (given or {})
        operands: list[str] = []

        def use(name: str) -> str:
            if name not in operands:
                operands.append(name)
            return f"%{name}"

        lines = ["%o, %lse = attn.attend %q" if self.lse else "%o = attn.attend %q"]
        if self.scale:
            lines[0] += f" scale({use('scale')})"
        for g, s in enumerate(self.segments):
            lines.extend("    " + line for line in self._segment(g, s, types, use))
        clauses = self._clauses(use)
        if clauses:
            lines.append("    " + " ".join(clauses))
        k, v = self._names(0)
        width = types[v].rsplit("x", 2)[-2]
        q_parts = types["q"][7:-1].split("x")
        out = f"tensor<{'x'.join([*q_parts[:3], width, q_parts[4]])}>"
        results = [out] + ([f"tensor<{'x'.join(q_parts[:3])}xf32>"] if self.lse else [])
        pairs = (self._names(g) for g in range(len(self.segments)))
        signature_text = [types["q"], *(f"segment({types[k]}, {types[v]})" for k, v in pairs)]
        names = names or {}
        known = {names.get(n, n) for n in ("q", *(x for g in range(len(self.segments)) for x in self._names(g)))}
        distinct = {names.get(n, n): types[n] for n in reversed(operands)}
        listed = [distinct[n] for n in dict.fromkeys(names.get(n, n) for n in operands) if n not in known]
        if listed:
            signature_text.append(f"operands({', '.join(listed)})")
        lines.append(f"  : {' '.join(signature_text)}")
        lines.append(f"  -> {', '.join(results)}")
        header = ", ".join(f"%{name}: {types[name]}" for _, _, _, name in self.arguments)
        returned = f"({', '.join(results)})" if self.lse else out
        body = "\n".join("  " + line for line in lines)
        values = "%o, %lse" if self.lse else "%o"
        return (
            f"func.func @attend({header})\n    -> {returned} {{\n{body}\n  return {values} : {', '.join(results)}\n}}\n"
        )

    def _names(self, g: int) -> tuple[str, str]:
        return ("k", "v") if len(self.segments) == 1 else (f"k{g}", f"v{g}")

    def _segment(self, g: int, s: SegmentForm, types: dict[str, str], use: Callable[[str], str]) -> list[str]:
        k, v = self._names(g)
        names = [f"p{n}" for n in s.operands]
        for name in names:
            use(name)
        head = f"segment(%{k}, %{v}) where({s.pattern.core.text(names)})"
        if s.k_offset != "none":
            head += f" k_offset({use(f'k_offset{g}')})"
        if s.scale:
            head += f" scale({use(f'scale{g}')})"
        if s.dots is not None:
            index = ["" if x is None else f"[i - j {'-' if x < 0 else '+'} {abs(x)}]" for x in s.shifts or ()]
            pairs = (f"{use(f'dq{g}_{d}')}, {use(f'dk{g}_{d}')}{x}" for d, x in enumerate(index))
            head += f" dots({'; '.join(pairs)})"
        if s.score is None:
            return [head]
        dots = 1 if s.dots is None else s.dots
        lines = score_lines(s.score, lambda slot: (f"%c{s.captures[slot.n]}", types[f"c{s.captures[slot.n]}"]))
        arguments = [f"%s{d or ''}" for d in range(dots)] + ["%b", "%h", "%i", "%j"]
        return [head, f"  score({', '.join(arguments)}) {{", *("    " + line for line in lines), "  }"]

    def _clauses(self, use: Callable[[str], str]) -> list[str]:
        clauses = []
        if self.q_offset == "end":
            clauses.append("q_offset(end)")
        elif self.q_offset != "none":
            clauses.append(f"q_offset({use('q_offset')})")
        captured = sorted({n for s in self.segments for n in s.captures})
        if captured:
            clauses.append(f"captures({', '.join(use(f'c{n}') for n in captured)})")
        if self.sink:
            clauses.append(f"sink({use('sink')})")
        if self.normalizer != "softmax":
            clauses.append(f"normalizer({self.normalizer})")
        if self.lse:
            clauses.append("lse")
        return clauses


class Spec:
    """A formula with types: one function in the dialect's text.

    ``str(spec)`` is what `heddle compile` and `heddle-opt` read.
    """

    __slots__ = ("operands", "text")

    def __init__(self, text: str, operands: tuple[Any, ...] = ()) -> None:
        self.text = text
        self.operands = operands
        """Values of the arguments after q, k and v that the formula carries."""

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Spec({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def spec(
    where: Any = full, score: Any = None, *, heads: int | tuple[int, ...] | None = None, d: int, dv: int | None = None,
    dtype: Any = "f32", scale: float | None = None, sink: Any = None, normalizer: str = "softmax", q_offset: Any = None,
    return_lse: bool = False,
) -> Spec:  # fmt: skip
    """The spec of a call with one segment.

    Parameters
    ----------
    where, score, scale, sink, normalizer, q_offset, return_lse
        As in `attend`; run-time values are kept as the spec's operands.
    heads
        Hq, or (Hq, Hk), or (Hq, Hk, Hv); left out: any.
    d, dv
        Sizes of the rows of q and k, and of v (default: d).
    dtype
        "f32", "f16", "bf16" (or a NumPy or torch dtype).
    """
    name = str(getattr(dtype, "__name__", dtype)).rsplit(".", 1)[-1]
    if name not in _DTYPE_NAMES:
        raise TypeError(f"expected a dtype among f32, f16, bf16, but got {dtype}")
    for what, n in (("d", d), ("dv", d if dv is None else dv)):
        if not isinstance(n, int) or not 1 <= n <= 1024:
            raise ValueError(f"expected {what} between 1 and 1024, but got {n}")
    if isinstance(heads, int):
        heads = (heads, heads)
    if heads is not None and not all(isinstance(h, int) for h in heads):
        raise TypeError(f"expected heads as an integer, (Hq, Hk) or (Hq, Hk, Hv), but got {heads!r}")
    if heads is not None and any(h < 1 or heads[0] % h for h in heads):
        raise ValueError(f"expected a number of query heads that the others divide, but got {heads}")
    hole = object()
    call = prepare(
        hole, [Segment(hole, hole, where, score, None, 0, None)], scale=scale, sink=sink, normalizer=normalizer,
        q_offset=q_offset, lse=return_lse,
    )  # fmt: skip
    formula = Formula(call.parts)
    code = DTYPES.index(_DTYPE_NAMES[name])
    sizes = {"q": d, "k": d, "v": d if dv is None else dv}
    signature: list[int] = []
    names = ("float32", "float16", "bfloat16", "float64", "bool", "int8", "int32", "int64")
    for (kind, _, what, _), value in zip(formula.arguments, call.values, strict=True):
        if kind in sizes:
            signature += [code, sizes[kind]]
        elif kind == "tensor":
            found, shape = describe_tensor(value, what)
            signature += [names.index(found), len(shape)]
    return Spec(formula.text(signature, heads), call.values[3:])
