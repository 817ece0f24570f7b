"""Random compositions of the pieces: segments over summaries, run-time patterns, scores, sinks.

`composition(seed)` is plain data: tensors by name, and for each segment where its keys come from, its pattern and
what else it has. A package under test builds the same thing from it; `judged` says what must come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import attention, cases, random_patterns, scalars, scores, tensor_ops
from .random_patterns import Chooser, Seeded

SOURCES = ("raw", "raw", "pool", "project", "convolve", "gather", "memory", "glue")
"""Where the keys of a segment come from; raw ones come often."""

CLOSED = [
    "full", "causal", "causal(2)", "window(7, 3)", "causal & window(31, 0)", "window(3, 2, dilation = 5)", "stride(6)",
    "causal & stride(16)", "block(24)", "keys([0 to 3, 8, end - 4 to end])", "queries([0, 5 to 9])",
    "global_tokens([0, 3])", "key_mod(4, 1, 3)", "query_mod(3, 0, 2)", "offsets([0, 1, 2, 4, 8, 16])",
    "coarse(8, causal)", "coarse(4, 2, window(1, 1))", "grid(8, window(1, 1), window(2, 2))", "shift(3, block(16))",
    "neighborhood(7, 60)", "past_blocks(4)", "past_blocks(4, size = 2, inclusive = true)", "parent(4)",
    "random_blocks(8, 2, 7)", "affine_set<(i, j)[nq, nk] : (2 * i - j >= 0, nk - 1 - j >= 0)>",
    "holds(b, h, i, j : (i * 3 + j) % 5 < 3)", "per_head([causal, window(8, 8), stride(5)])",
    "per_head([full, causal(1)])", "~window(2, 2)", "causal - block(8)", "causal & (window(15, 0) | stride(16))",
    "window(6, 0) | keys([0 to 2])", "~full", "remap(affine_map<(x) -> (x mod 5)>, causal)",
]  # fmt: skip
"""Closed-form patterns that meet the others."""


@dataclass
class Part:
    """One segment: its keys are summary `source` of tensors `k` and `v`."""

    source: str
    k: str
    v: str
    where: str = "full"
    operands: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    score: str | None = None
    scale: float | None = None
    k_offset: Any = 0
    second: tuple[str, str] | None = None  # another dot: (query, key), both tensors
    relative: tuple[str, int] | None = None  # another dot, with relative rows: (tensor, shift)


@dataclass
class Composition:
    """What is attended to, and how."""

    seed: int
    dtype: str
    tensors: dict[str, np.ndarray]
    layouts: dict[str, str]
    parts: list[Part]
    q_offset: Any = 0
    scale: float | None = None
    sink: np.ndarray | None = None
    normalizer: str = "softmax"
    rows: np.ndarray | None = None  # a row class: these queries attend to all keys of the first part

    @property
    def label(self) -> str:
        """A line that says what it is."""
        sizes = {n: list(x.shape) for n, x in self.tensors.items()}
        parts = [
            f"{p.source}{p.options or ''}: where {p.where} score={p.score} scale={p.scale} k_offset={p.k_offset} "
            f"second={p.second} relative={p.relative} operands={ {n: np.shape(x) for n, x in p.operands.items()} }"
            for p in self.parts
        ]
        return (
            f"seed {self.seed} {self.dtype} q_offset={self.q_offset} scale={self.scale} sink={self.sink is not None} "
            f"normalizer={self.normalizer} rows={self.rows is not None} {sizes} {set(self.layouts.values())}\n  "
            + "\n  ".join(parts)
        )


class _Maker:
    """Draws one composition."""

    def __init__(self, seed: int) -> None:
        self.c: Chooser = Seeded(seed)
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}"

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape)

    def ids(self, n: int, kinds: int, b: int, heads: tuple[int, int]) -> np.ndarray:
        """``[B, N]`` or ``[B, H, N]``, any B or H 1; sorted or not, with some that match nothing."""
        c = self.c
        shape = (c.choice([1, b]),) if c.integer(0, 1) else (c.choice([1, b]), c.choice([1, *heads]))
        x = self.rng.integers(c.choice([-1, 0]), kinds, (*shape, n))
        if c.integer(0, 1):
            x = np.sort(x, -1)
        return x.astype(c.choice([np.int32, np.int64]))

    def lists(self, rows: int, keys: int, b: int, heads: tuple[int, int]) -> np.ndarray:
        """Distinct entries with gaps (-1) and entries that name no row."""
        c = self.c
        shape = c.choice([(), (c.choice([1, b]),), (c.choice([1, b]), c.choice([1, *heads]))])
        n = c.choice([1, 3, 8, 17])
        out = np.empty((*shape, rows, n), np.int64)
        for at in np.ndindex(out.shape[:-1]):
            out[at] = self.rng.permutation(max(keys + 2, n))[:n]
        out[self.rng.random(out.shape) < 0.2] = -1
        return out.astype(c.choice([np.int32, np.int64]))

    def leaf(self, nq: int, nk: int, b: int, heads: tuple[int, int], own: dict[str, Any], deep: bool = True) -> str:
        """A run-time pattern; its operands go to `own`."""
        c = self.c

        def put(x: Any, what: str) -> str:
            name = self.name(what)
            own[name] = x
            return f"%{name}"

        def bounds(rows: int, ends: int) -> tuple[str, str]:
            shape = (c.choice([1, b]), rows) if c.integer(0, 1) else (c.choice([1, b]), c.choice([1, *heads]), rows)
            lo = self.rng.integers(-2, ends + 1, shape)
            hi = lo + self.rng.integers(0, max(2, ends // 2), shape)
            kind = c.choice([np.int32, np.int64])
            return put(lo.astype(kind), "lo"), put(hi.astype(kind), "hi")

        kinds = ["same", "cluster", "keys", "queries", "lengths", "between", "between_queries", "listed", "csr"]
        kinds += ["offsets", "mask", "holds", "scalar_window", "scalar_keys"]
        kinds += ["positions", "packed", "coarse", "shift", "per_head"] if deep else []
        kind = c.choice(kinds)
        if kind == "cluster" and nq != nk:
            kind = "same"
        if kind == "same":
            n = c.choice([1, 3, 9])
            return f"same({put(self.ids(nq, n, b, heads), 'ids')}, {put(self.ids(nk, n, b, heads), 'ids')})"
        if kind == "cluster":
            return f"cluster({put(self.ids(nq, c.choice([2, 7]), b, heads), 'ids')})"
        if kind in ("keys", "queries"):
            n = nk if kind == "keys" else nq
            return f"{kind}({put(self.rng.random((c.choice([1, b]), n)) < c.choice([0.1, 0.8]), 'flags')})"
        if kind == "lengths":
            return f"lengths({put(self.rng.integers(0, nk + 2, c.choice([1, b])), 'len')})"
        if kind in ("between", "between_queries"):
            lo, hi = bounds(nq, nk) if kind == "between" else bounds(nk, nq)
            return f"{kind}({lo}, {hi})"
        if kind == "listed":
            return f"listed({put(self.lists(nq, nk, b, heads), 'idx')})"
        if kind == "csr":
            counts = self.rng.integers(0, min(nk, 6) + 1, nq)
            ptr = np.concatenate([[0], counts.cumsum()])
            idx = np.concatenate([np.zeros(0, np.int64), *(self.rng.permutation(nk)[:n] for n in counts)])
            t = c.choice([np.int32, np.int64])
            return f"csr({put(ptr.astype(t), 'ptr')}, {put(idx.astype(t), 'idx')})"
        if kind == "offsets":
            n = c.choice([1, 4])
            some = [self.rng.permutation(40)[:n] - 12 for _ in range(heads[0])]
            return f"offsets({put(np.stack(some) if c.integer(0, 1) else some[0], 'list')})"
        if kind == "mask":
            shape = c.choice([(), (c.choice([1, b]),), (c.choice([1, b]), c.choice([1, *heads]))])
            return f"mask({put(self.rng.random((*shape, nq, nk)) < c.choice([0.03, 0.6]), 'bits')})"
        if kind == "holds":
            t, u = put(self.rng.integers(0, 9, nq + 60), "t"), put(self.rng.integers(0, 9, nk + 60), "t")
            return f"holds(b, h, i, j : ({t}[i] > {u}[j]) | ((i + h) % 3 == 0))"
        if kind == "scalar_window":
            return f"window({put(int(self.rng.integers(0, 9)), 'w')}, {put(int(self.rng.integers(0, 5)), 'w')})"
        if kind == "scalar_keys":
            lo = int(self.rng.integers(0, 9))
            return f"keys([{put(lo, 'n')} to {put(lo + int(self.rng.integers(0, 20)), 'n')}])"
        if kind == "per_head":
            return f"per_head([{self.leaf(nq, nk, b, heads, own, False)}, {c.choice(CLOSED)}])"
        if kind == "shift":
            n = c.choice([2, 5])
            ids = put(self.ids(nq, n, b, heads), "ids"), put(self.ids(nk, n, b, heads), "ids")
            return f"shift({c.integer(-4, 4)}, same({ids[0]}, {ids[1]}))"
        if kind == "coarse":
            bq, bk = c.choice([1, 4, 16]), c.choice([1, 4, 16])
            inner = self.leaf(-(-nq // bq), -(-nk // bk), b, heads, own, False)
            return f"coarse({bq}, {bk}, {inner})"
        if kind == "positions":
            p, q = (put(self.rng.integers(0, 60, (c.choice([1, b]), n)), "p") for n in (nq, nk))
            return f"positions({p}, {q}, {c.choice(CLOSED[:14])})"
        assert kind == "packed"
        n = c.choice([1, 2, 4])
        cuts = [np.concatenate([[0], np.sort(self.rng.integers(0, m + 1, n))]) for m in (nq, nk)]
        t = c.choice([np.int32, np.int64])
        return f"packed({put(cuts[0].astype(t), 'cu')}, {put(cuts[1].astype(t), 'cu')}, {c.choice(CLOSED[:14])})"

    def where(self, nq: int, nk: int, b: int, heads: tuple[int, int], own: dict[str, Any]) -> str:
        """A closed-form pattern, a run-time one, or both under an operator."""
        c = self.c
        kind = c.integer(0, 7)
        if kind <= 1:
            return c.choice(CLOSED)
        if kind == 2:
            return random_patterns.text(c, 2)
        mine = self.leaf(nq, nk, b, heads, own)
        if kind <= 4:
            return mine
        other = c.choice(CLOSED) if kind <= 6 else self.leaf(nq, nk, b, heads, own)
        op = c.choice(["&", "&", "|", "-"])
        return f"({mine}) {op} ({other})" if c.integer(0, 1) else f"({other}) {op} ({mine})"


def composition(seed: int) -> Composition:
    """The composition of a seed."""
    m = _Maker(seed)
    c = m.c
    dtype = c.choice(["f32", "f32", "f16", "bf16"])
    b, hk, group = c.choice([1, 2, 3]), c.choice([1, 2]), c.choice([1, 1, 3, 4])
    hq = hk * group
    heads = (hq, hk)
    d, dv = (c.choice([1, 8, 40, 64, 72, 80, 96]) for _ in range(2))
    nq = c.choice([1, 2, 17, 64, 100, 130, 0 if c.integer(0, 9) == 0 else 33])
    n = nq if c.integer(0, 1) else c.choice([1, 17, 48, 96, 150])
    if c.integer(0, 19) == 0:
        nq, n, b, hk, hq, heads = 1000, c.choice([1000, 300]), 1, 1, 1, (1, 1)
    tensors: dict[str, np.ndarray] = {"q": m.normal(b, hq, nq, d)}
    parts = []
    normalizer = c.choice(["softmax"] * 5 + ["none", "sum"])
    pair: tuple[str, str] | None = None
    for _ in range(c.choice([1, 2, 2, 3])):
        source = c.choice(SOURCES)
        rows = n if source != "memory" else c.choice([1, 5, 40])
        bk = c.choice([b, b, 1])
        hv = c.choice([hk, hq])
        if pair is None or source == "memory" or c.integer(0, 2) == 0:
            pair = m.name("k"), m.name("v")
            tensors[pair[0]] = m.normal(bk, hk, rows, d)
            tensors[pair[1]] = m.normal(bk, hv, rows, dv)
        p = Part(source, *pair)
        nk = _summarise(m, p, tensors)
        p.where = m.where(nq, nk, b, heads, p.operands)
        p.score = c.choice([None, None, None, *scores.SCORES])
        if normalizer != "softmax":
            p.score = "positive"
        if c.integer(0, 3) == 0:
            p.scale = 0.25
        p.k_offset = c.choice([0, 0, 3, -2, np.arange(b) * 5])
        if c.integer(0, 7) == 0 and p.score in (None, "positive"):
            p.second = m.name("q"), m.name("k")
            e = c.choice([4, 24])
            tensors[p.second[0]] = m.normal(b, hq, nq, e)
            tensors[p.second[1]] = m.normal(c.choice([1, b]), c.choice([1, hk, hq]), nk, e)
        elif c.integer(0, 7) == 0 and p.score in (None, "positive"):
            p.relative = m.name("r"), c.choice([0, 5, -3])
            tensors[p.relative[0]] = m.normal(1, c.choice([1, hq]), c.choice([1, 30]), d)
        parts.append(p)
    out = Composition(seed, dtype, tensors, {}, parts, normalizer=normalizer)
    out.layouts = {n: c.choice(cases.LAYOUTS[:-1]) for n in tensors}
    out.q_offset = c.choice([0, 0, 4, "end", np.arange(b) * 7 + 1])
    out.scale = c.choice([None, None, 0.3])
    if normalizer == "softmax" and c.integer(0, 2) == 0:
        out.sink = m.normal(c.choice([1, hq])).astype(np.float32)
    if normalizer == "softmax" and c.integer(0, 3) == 0 and nq > 0:
        taken = [m.rng.permutation(nq)[: min(nq, 5)] for _ in range(b)]
        out.rows = np.stack(taken).astype(c.choice([np.int32, np.int64]))
    return out


def _summarise(m: _Maker, p: Part, tensors: dict[str, np.ndarray]) -> int:
    """Draws the options of a part's summary and its weights; the rows that it has."""
    c = m.c
    b, h, n, d = tensors[p.k].shape
    hv, dv = tensors[p.v].shape[1], tensors[p.v].shape[3]
    if p.source == "pool":
        size, stride, partial = c.choice([1, 4, 7]), c.choice([None, 3]), bool(c.integer(0, 1))
        p.options = {"kind": c.choice(["max", "mean", "sum"]), "size": size, "stride": stride, "partial": partial}
        return len(tensor_ops.windows(n, size, stride or size, 0, partial))
    if p.source == "project":
        r = c.choice([1, 6, 16])
        p.options = {"weights": (m.name("e"), m.name("e"))}
        tensors[p.options["weights"][0]] = m.normal(n, r) / max(n, 1) ** 0.5
        tensors[p.options["weights"][1]] = m.normal(n, r) / max(n, 1) ** 0.5
        return r
    if p.source == "convolve":
        t, stride, partial = c.choice([1, 3]), c.choice([None, 1, 2]), bool(c.integer(0, 1))
        p.options = {"weights": (m.name("w"), m.name("w")), "bias": m.name("bias") if c.integer(0, 1) else None}
        p.options |= {"stride": stride, "partial": partial}
        tensors[p.options["weights"][0]] = m.normal(c.choice([1, h]), t, d, d) / (t * d) ** 0.5
        tensors[p.options["weights"][1]] = m.normal(c.choice([1, hv]), t, dv)
        if p.options["bias"]:
            tensors[p.options["bias"]] = m.normal(1, d)
        return len(tensor_ops.windows(n, t, stride or t, 0, partial))
    if p.source == "gather":
        rows = m.rng.integers(0, max(n, 1), (c.choice([1, b]), c.choice([1, 7, 30])))
        p.options = {"rows": rows.astype(c.choice([np.int32, np.int64]))}
        return rows.shape[1]
    return n


def positive(ns: Any, heads: int) -> Callable[..., Any]:
    """Weights that are well above zero, for the normalizers that take scores as they are."""
    return lambda s, b, h, i, j: ns.abs(s) + 0.5


def score_of(ns: Any, name: str, dots: int, heads: int) -> Callable[..., Any]:
    """A part's score function on `ns`, of the sum of its dots."""
    fn = positive(ns, heads) if name == "positive" else scores.SCORES[name](ns, heads)
    return fn if dots == 1 else lambda s, t, b, h, i, j: fn(s + t, b, h, i, j)


def exact_offset(x: Composition, keys: int) -> Any:
    """q_offset as a number; `keys` is what the first segment has."""
    return keys - x.tensors["q"].shape[2] if isinstance(x.q_offset, str) else x.q_offset


def summary(p: Part, x: Mapping[str, np.ndarray], name: str) -> tuple[tensor_ops.Pair, int]:
    """((value, magnitude), terms of a sum) of a part's keys or values (`name` is "k" or "v")."""
    t = x[getattr(p, name)]
    o = p.options
    which = 0 if name == "k" else 1
    if p.source == "pool":
        return tensor_ops.pool(t, **o), o["size"]
    if p.source == "project":
        e = x[o["weights"][which]]
        return tensor_ops.project(t, e), e.shape[-2]
    if p.source == "convolve":
        w = x[o["weights"][which]]
        bias = x[o["bias"]] if o["bias"] and name == "k" else None
        made = tensor_ops.convolve(t, w, bias, o["stride"], 0, o["partial"])
        return made, w.shape[1] * (w.shape[2] if w.ndim == 4 else 1)
    if p.source == "gather":
        made = tensor_ops.gather_rows(t, o["rows"])
        return (made, np.abs(made)), 1
    if p.source == "glue" and name == "k":
        return (t * 0.5 + 0.25, np.abs(t) + 0.25), 1
    return (t, np.abs(t)), 1


def judged(
    x: Composition,
    exact: Mapping[str, np.ndarray],
    summaries: list[tuple[np.ndarray, np.ndarray]],
    only: int | None = None,
    **kw: Any,
) -> attention.Result:
    """What attention to these summaries must give; `only` one of the parts."""
    segments = []
    operands: dict[str, Any] = {}
    q = exact["q"]
    offset = exact_offset(x, summaries[0][0].shape[2])
    for n, (p, (k, v)) in enumerate(zip(x.parts, summaries, strict=True)):
        if only is not None and n != only:
            continue
        dots = None
        if p.second:
            dots = [(q, k), (exact[p.second[0]], exact[p.second[1]])]
        elif p.relative:
            dots = [(q, k), (q, attention.Relative(exact[p.relative[0]], p.relative[1]))]
        score = p.score and score_of(scalars, p.score, 2 if dots else 1, q.shape[1])
        segments.append(attention.Segment(k, v, p.where, score or None, p.scale, p.k_offset, dots))
        operands |= p.operands
    return attention.attend(
        q, segments=segments, scale=x.scale, sink=x.sink, normalizer=x.normalizer, q_offset=offset, operands=operands,
        **kw,
    )  # fmt: skip


def class_of(x: Composition, exact: Mapping[str, np.ndarray], k: np.ndarray, v: np.ndarray, **kw: Any) -> Any:
    """The rows of the row class: attention of the listed queries to all keys."""
    assert x.rows is not None
    return attention.attend(tensor_ops.gather_rows(exact["q"], x.rows), k, v, q_offset=0, **kw)
