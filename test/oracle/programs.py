"""Random programs of several ops: each step reads results of steps before it.

`program(seed, n)` is plain data. The choices depend on the seed alone, and sizes on `n` as well: programs of one seed
are one kernel at several lengths. `judged` says what a step must give for the inputs that it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import attention, scalars, scores, tensor_ops, tolerance
from .compositions import _Maker

SIZES = (8, 24, 40)
SUMMARIES = ("pool", "scan", "convolve", "project", "gather_rows", "scatter_rows", "glue")
MIXERS = ("attend", "attend", "attend", "linear_attend", "merged", "routed", "gated")


@dataclass
class Step:
    """One op (or a few that belong together): results named `outs` of the values named `ins`."""

    op: str
    ins: tuple[str, ...]
    outs: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Program:
    """Arguments by name, steps in order, and the values that come back."""

    seed: int
    dtype: str
    tensors: dict[str, np.ndarray]  # float64, stored in `dtype`
    operands: dict[str, Any]  # as they are: integers, flags, decays
    steps: list[Step]
    results: list[str]

    @property
    def label(self) -> str:
        """What it is."""
        sizes = {n: list(x.shape) for n, x in self.tensors.items()}
        lines = [f"{', '.join(s.outs)} = {s.op}({', '.join(s.ins)}) {s.options}" for s in self.steps]
        return f"seed {self.seed} {self.dtype} {sizes} returns {self.results}\n  " + "\n  ".join(lines)


class _Writer(_Maker):
    """Draws one program; `shapes` are the sizes of all values so far."""

    def __init__(self, seed: int, n: int) -> None:
        super().__init__(seed)
        c = self.c
        self.b, hk, group = c.choice([1, 2]), c.choice([1, 2]), c.choice([1, 1, 2])
        self.heads = (hk * group, hk)
        self.d = c.choice(SIZES)
        self.p = Program(seed, c.choice(["f32", "f32", "f32", "bf16", "f16"]), {}, {}, [], [])
        self.shapes: dict[str, tuple[int, ...]] = {}
        for rows in [n] * c.choice([2, 3, 4]) + [5]:
            self.tensor("x", self.b if rows != 5 else c.choice([1, self.b]), c.choice(self.heads), rows, self.d)

    def tensor(self, what: str, *shape: int, by: float = 1.0) -> str:
        """A float argument."""
        name = self.name(what)
        self.p.tensors[name] = self.normal(*shape) * by
        self.shapes[name] = shape
        return name

    def operand(self, what: str, value: Any) -> str:
        """Another argument."""
        name = self.name(what)
        self.p.operands[name] = value
        return name

    def add(self, op: str, ins: tuple[str, ...], shape: tuple[int, ...], **options: Any) -> str:
        """A step with one result."""
        name = self.name("y")
        self.p.steps.append(Step(op, ins, (name,), options))
        self.shapes[name] = shape
        return name

    def any(self, heads: int | None = None, batch: int | None = None) -> str:
        """One of the values, later ones more often; `heads` must be a multiple of its own."""
        fit = [
            x
            for x, s in self.shapes.items()
            if x[0] in "xy" and len(s) == 4 and s[3] == self.d
            and (heads is None or heads % s[1] == 0) and (batch is None or s[0] == batch)
        ]  # fmt: skip
        return self.c.choice([*fit, *fit[-3:], *fit[-1:]])

    def like(self, x: str) -> list[str]:
        """Values that have the shape of `x`."""
        return [y for y, s in self.shapes.items() if s == self.shapes[x]]

    def where_operands(self, nq: int, nk: int, heads: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
        """A pattern's text; its operands become arguments."""
        own: dict[str, Any] = {}
        text = self.where(nq, nk, self.b, heads, own)
        self.p.operands.update(own)
        return text, tuple(own)

    def summary(self) -> None:
        """A step that makes another sequence of a sequence."""
        c = self.c
        kind, x = c.choice(SUMMARIES), self.any()
        b, h, n, d = self.shapes[x]
        if kind == "pool":
            o = {"kind": c.choice(["max", "mean", "sum"]), "size": c.choice([1, 2, 4]), "stride": c.choice([None, 3])}
            o |= {"partial": bool(c.integer(0, 1)), "offset": c.choice([0, 0, -1, 2])}
            rows = len(tensor_ops.windows(n, o["size"], o["stride"] or o["size"], o["offset"], o["partial"]))
            self.add(kind, (x,), (b, h, rows, d), **o)
        elif kind == "scan":
            o = {"kind": c.choice(["max", "mean", "sum"]), "stride": c.choice([1, 3]), "block": c.choice([None, 6])}
            o |= {"reverse": bool(c.integer(0, 1)), "exclusive": o["kind"] != "max" and bool(c.integer(0, 1))}
            self.add(kind, (x,), (b, h, n, d), **o)
        elif kind == "convolve":
            t, stride, partial = c.choice([1, 3]), c.choice([None, 1, 2]), bool(c.integer(0, 1))
            weights = (self.tensor("w", c.choice([1, h]), t, d, d, by=(t * d) ** -0.5), self.tensor("w", 1, t, d))
            rows = len(tensor_ops.windows(n, t, stride or t, c.choice([0]), partial))
            self.add(kind, (x, c.choice(weights)), (b, h, rows, d), stride=stride, partial=partial)
        elif kind == "project":
            e = self.tensor("e", c.choice([1, h]), n, c.choice([3, 8]), by=max(n, 1) ** -0.5)
            self.add(kind, (x, e), (b, h, self.shapes[e][2], d))
        elif kind == "gather_rows":
            rows = self.rng.integers(-1, n + 1, (c.choice([1, b]), c.choice([1, h]), 7)).astype(np.int32)
            self.add(kind, (x, self.operand("rows", rows)), (b, h, 7, d))
        elif kind == "scatter_rows":
            base = c.choice([y for y in self.shapes if self.shapes[y][:2] == (b, h) and self.shapes[y][3:] == (d,)])
            o = {"kind": c.choice(["overwrite", "mean", "sum"]), "zeros": bool(c.integer(0, 1))}
            rows = self.rng.integers(-1, self.shapes[base][2] + 1, (b, n)).astype(np.int64)
            self.add(kind, (x, self.operand("rows", rows), base), self.shapes[base], **o)
        else:
            self.add("glue", (x, c.choice(self.like(x))), (b, h, n, d), form=c.choice(GLUE))

    def segments(self, nq: int, heads: int) -> list[dict[str, Any]]:
        """One to three segments over values."""
        c, parts = self.c, []
        for _ in range(c.choice([1, 1, 2, 3])):
            k = self.any(heads)
            size = self.shapes[k]
            four = ((y, t) for y, t in self.shapes.items() if len(t) == 4 and heads % t[1] == 0)
            same = [y for y, t in four if (t[0], *t[2:]) == (size[0], *size[2:])]
            where, names = self.where_operands(nq, self.shapes[k][2], (heads, self.shapes[k][1]))
            parts.append(
                {"k": k, "v": c.choice(same), "where": where, "names": names,
                 "score": c.choice([None, None, *SCORES]), "k_offset": c.choice([0, 0, 3])}
            )  # fmt: skip
        return parts

    def attended(self, q: str, lse: bool) -> list[str]:
        """One attend."""
        b, h, n, d = self.shapes[q]
        parts = self.segments(n, h)
        outs = [self.name("y"), *([self.name("l")] if lse else [])]
        ins = tuple(x for p in parts for x in (p["k"], p["v"]))
        options = {"segments": parts, "q_offset": self.c.choice([0, 2])}
        self.p.steps.append(Step("attend", (q, *ins), tuple(outs), options))
        self.shapes[outs[0]] = (b, h, n, d)
        if lse:
            self.shapes[outs[1]] = (b, h, n)
        return outs

    def mixer(self) -> None:
        """A step of attention, or some that belong together."""
        c = self.c
        kind = c.choice(MIXERS)
        q = self.any(batch=self.b)
        b, h, n, d = self.shapes[q]
        if kind == "attend":
            self.attended(q, bool(c.integer(0, 1)))
        elif kind == "merged":
            (o1, l1), (o2, l2) = self.attended(q, True), self.attended(q, True)
            self.p.steps.append(Step("merge", (o1, o2, l1, l2), (self.name("y"), self.name("l"))))
            self.shapes |= dict(zip(self.p.steps[-1].outs, ((b, h, n, d), (b, h, n)), strict=True))
        elif kind == "gated":
            o, lse = self.attended(q, True)
            self.add("gate", (o, lse), (b, h, n, d))
        elif kind == "routed":
            ids = self.operand("ids", self.rng.integers(0, 4, (b, h, n)).astype(np.int32))
            perm, offsets, sorted_ids = (self.name("i") for _ in range(3))
            self.p.steps.append(Step("group", (ids,), (perm, offsets), {"groups": 3}))
            self.p.steps.append(Step("gather_ids", (ids, perm), (sorted_ids,)))
            x = self.add("gather_rows", (q, perm), (b, h, n, d))
            y = self.add("clustered", (x, sorted_ids, perm), (b, h, n, d), causal=bool(c.integer(0, 1)))
            self.add("scatter_rows", (y, perm, q), (b, h, n, d), kind=c.choice(["overwrite", "mean"]), zeros=False)
        else:
            k = self.any(h, batch=b)
            causal = bool(c.integer(0, 1)) and self.shapes[k][2] == n
            decay = None
            if causal and c.integer(0, 1):
                channels = (d,) if c.integer(0, 1) else ()
                g = -self.rng.random((b, self.shapes[k][1], n, *channels))
                decay = self.operand("g", g.astype(np.float32))
            v = c.choice(self.like(k))
            ins = (q, k, v, *([] if decay is None else [decay]))
            y = self.add("linear_attend", ins, (b, h, n, d), causal=causal, normalizer=c.choice(["sum", "none"]))
            self.add("glue", (y, y), (b, h, n, d), form="squashed")  # scores of large keys would lose all digits


GLUE = ("product", "halved", "chosen", "sigmoid")
SCORES = ("softcap", "alibi", "by_query")


def program(seed: int, n: int) -> Program:
    """The program of a seed at length `n`."""
    w = _Writer(seed, n)
    for _ in range(w.c.choice([2, 3, 4, 5])):
        if w.c.integer(0, 1):
            w.summary()
        else:
            w.mixer()
    if not any(s.op in ("attend", "linear_attend") for s in w.p.steps):
        w.attended(w.any(batch=w.b), False)
    made = [x for s in w.p.steps for x in s.outs]
    w.p.results = [made[-1]] if w.c.integer(0, 1) else sorted({made[-1], w.c.choice(made)})
    return w.p


def glued(ns: Any, form: str, x: Any, y: Any) -> Any:
    """Arithmetic between ops, on `ns`."""
    if form == "product":
        return x * y / (1.0 + ns.abs(y)) + 0.5
    if form == "squashed":
        return x / (1.0 + ns.abs(x))
    if form == "halved":
        return 0.5 * x
    if form == "sigmoid":
        return x * ns.sigmoid(y)
    return ns.select(x > y, x, 0.25 * y)


def gate(ns: Any, out: Any, lse: Any) -> Any:
    """A result weighed by its own log-sum-exp."""
    return out * ns.sigmoid(lse[..., None])


class _Float64:
    """Glue in NumPy."""

    abs = staticmethod(np.abs)

    @staticmethod
    def sigmoid(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-x))

    select = staticmethod(np.where)


def feature(x: np.ndarray) -> np.ndarray:
    """The feature map of linear attention."""
    return np.abs(x) + 0.5


def attended(p: Program, s: Step, x: Mapping[str, np.ndarray], **kw: Any) -> attention.Result:
    """What an attend must give."""
    q = x[s.ins[0]]
    parts = []
    for g in s.options["segments"]:
        score = g["score"] and scores.SCORES[g["score"]](scalars, q.shape[1])
        parts.append(attention.Segment(x[g["k"]], x[g["v"]], g["where"], score or None, None, g["k_offset"]))
    operands = {n: p.operands[n] for g in s.options["segments"] for n in g["names"]}
    return attention.attend(q, segments=parts, q_offset=s.options["q_offset"], operands=operands, **kw)


def judged(
    p: Program, s: Step, x: Mapping[str, np.ndarray], got: list[np.ndarray], unrounded: dict[str, np.ndarray]
) -> str:
    """"" where a step's results are what they must be for the inputs that it had, else what is wrong.

    Glue reads results of glue as they were before they were rounded to 16 bits: `unrounded`, which glue adds to.
    """
    if s.op in ("attend", "clustered"):
        return _judged_attend(p, s, x, got)
    given = [unrounded.get(n, x[n]) if s.op in ("glue", "gate") else x[n] for n in s.ins]
    o = s.options
    exact: list[np.ndarray] = []
    if s.op == "group":
        exact = list(tensor_ops.group(given[0], o["groups"]))
    elif s.op == "gather_ids":
        exact = [tensor_ops.gather_rows(*given)]
    if exact:
        same = all(np.array_equal(a, b) for a, b in zip(got, exact, strict=True))
        return "" if same else f"{s.op} differs"
    terms = 1
    if s.op == "pool":
        pair, terms = tensor_ops.pool(given[0], **o), o["size"]
    elif s.op == "scan":
        pair, terms = tensor_ops.scan(given[0], **o), given[0].shape[2]
    elif s.op == "convolve":
        pair, terms = tensor_ops.convolve(*given, None, o["stride"], 0, o["partial"]), given[1].shape[1] * 40
    elif s.op == "project":
        pair, terms = tensor_ops.project(*given), given[0].shape[2]
    elif s.op == "gather_rows":
        made = tensor_ops.gather_rows(*given)
        pair = made, np.abs(made)
    elif s.op == "scatter_rows":
        pair, terms = tensor_ops.scatter_rows(*given, o["kind"], 0.0, o["zeros"]), given[0].shape[2]
    elif s.op == "linear_attend":
        decay = given[3] if len(given) > 3 else None
        pair = tensor_ops.linear_attend(
            *given[:3], feature, o["causal"], decay, normalize=o["normalizer"] == "sum"
        )[:2]  # fmt: skip
        terms = 4 * given[1].shape[2] * given[1].shape[3]
    elif s.op == "merge":
        out, size, lse = tensor_ops.merge(given[:2], given[2:])
        error = np.abs(got[1] - lse) > 1e-5 + 1e-6 * np.abs(lse)
        if (error & np.isfinite(lse)).any() or not np.array_equal(np.isfinite(got[1]), np.isfinite(lse)):
            return "merge's lse differs"
        pair, terms = (out, size), 40
    elif s.op == "gate":
        made = gate(_Float64, *given)
        pair, terms = (made, np.abs(given[0])), 40
    else:
        made = glued(_Float64, o["form"], *given)
        pair, terms = (made, np.abs(given[0]) * (1 + np.abs(given[1])) + np.abs(given[1]) + 1), 4
    want, size = pair
    if s.op in ("glue", "gate") and p.dtype != "f32":
        unrounded[s.outs[0]] = want
    if got[0].shape != want.shape:
        return f"{s.op} has shape {got[0].shape}, not {want.shape}"
    allowed = tensor_ops.bound(size, terms, p.dtype)
    with np.errstate(invalid="ignore"):
        error = np.abs(got[0] - want) - allowed
    bad = (error > 0) | (np.isfinite(want) & ~np.isfinite(got[0]))
    bad &= ~tolerance.may_overflow(got[0], want, allowed, p.dtype)
    return f"{s.op} is {np.nanmax(error):.3g} too far" if bad.any() else ""


def clustered(s: Step, x: Mapping[str, np.ndarray], **kw: Any) -> attention.Result:
    """Attention in clusters, of rows sorted by cluster."""
    rows, ids, perm = (x[n] for n in s.ins)
    where = f"cluster(%i) & positions(%p, %p, {'causal' if s.options['causal'] else 'full'})"
    operands = {"i": ids.astype(np.int64), "p": perm.astype(np.int64)}
    return attention.attend(rows, rows, rows, where=where, operands=operands, **kw)


def _judged_attend(p: Program, s: Step, x: Mapping[str, np.ndarray], got: list[np.ndarray]) -> str:
    def run(**kw: Any) -> attention.Result:
        return attended(p, s, x, **kw) if s.op == "attend" else clustered(s, x, **kw)

    want, rounded = run(), None
    if p.dtype != "f32":
        rounded = run(round_weights=lambda w: tolerance.round_to(w, p.dtype))
    verdict = tolerance.check(got[0], want, p.dtype, rounded, "attend")
    if not verdict:
        return verdict.message
    if len(got) > 1:
        verdict = tolerance.check_lse(got[1], want, "attend")
    return "" if verdict else verdict.message


__all__ = ["Program", "Step", "gate", "glued", "judged", "program"]
