"""The systems of the zoo at sizes of real use: Heddle's call, the formula in PyTorch, rewrites of it by hand.

A system is the code of its folder in examples/ with larger constants, on [1, 2, n, 64] in f32 unless it says otherwise.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _peers
import numpy as np
import torch
from _peers import NEVER, flash, in_blocks, merge

HEADS, DIM = 2, 64
MASKED = 8192  # longest n with a mask
# Examples without a row: their attention is that of `transformer` or `knowledge_tracing`.
UNMEASURED = {"albert", "bert", "dkt_convolutions", "r_transformer", "universal_transformer"}
F = torch.nn.functional
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@dataclass
class Case:
    """A system at one length."""

    heddle: Callable[[], Any]
    inputs: tuple[Any, ...]
    formula: Callable[..., Any]  # of `inputs`, as the paper writes it
    flops: float  # of live pairs, and of what makes the summaries
    bytes: float  # inputs and results, each once
    rewrites: list[Callable[..., Any]] = field(default_factory=list)  # of `inputs`


@dataclass(frozen=True)
class System:
    """A row: `make(n)` gives the case, `work(n)` what the paper's cost counts."""

    id: str
    promise: str
    work: Callable[[int], float]
    make: Callable[[int], Case]
    kind: str  # "dense", "sparse", "run-time" (known when it runs), "lists" (that, few keys), "linear" (no pairs)
    most: int = 32768  # longest n that fits
    compare: int = 4096  # n of the comparison with PyTorch


def example(name: str, **constants: Any) -> Any:
    """A fresh copy of an example's code with other constants."""
    spec = importlib.util.spec_from_file_location(f"zoo_{name}", EXAMPLES / name / "example.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    for key, value in constants.items():
        assert hasattr(module, key), f"expected {key} in the example {name}"
        setattr(module, key, value)
    return module


def rand(*shape: int) -> Any:
    return torch.randn(*shape)


def qkv(n: int, d: int = DIM, dtype: Any = torch.float32) -> tuple[Any, Any, Any]:
    """q, k and v."""
    q, k, v = (rand(1, HEADS, n, d).to(dtype) for _ in range(3))
    return q, k, v


def size(*tensors: Any) -> float:
    """Bytes."""
    return float(sum(t.numel() * t.element_size() for t in tensors))


def root(n: int) -> int:
    """The power of two next to the square root."""
    return int(2 ** round(math.log2(math.sqrt(n))))


def attention(q: Any, k: Any, v: Any, live: Any = None, scale: float | None = None, add: Any = None) -> Any:
    """softmax(scale q k^T + add) v over live pairs, as a paper writes it."""
    s = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if add is not None:
        s = s + add
    if live is not None:
        s = s.masked_fill(~live, NEVER)
    return torch.softmax(s, -1) @ v


def grids(n: int, m: int = 0) -> tuple[Any, Any]:
    """Positions of queries as a column, of keys as a row."""
    return torch.arange(n)[:, None], torch.arange(m or n)[None]


def pairs_flops(pairs: float, d: int = DIM, dv: int = 0) -> float:
    """Of pairs of one head."""
    return 2.0 * HEADS * pairs * (d + (dv or d))


def patterned(
    n: int, where: Any, live: Callable[[Any, Any], Any], call: Callable[..., Any], rewrites: list[Any], pairs: float = 0
) -> Case:
    """q, k, v and a closed-form pattern."""
    q, k, v = qkv(n)
    mask = live(*grids(n)) if n <= MASKED else None

    def formula(q: Any, k: Any, v: Any) -> Any:
        return attention(q, k, v, mask)

    def masked(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    pairs = pairs or float(where.count(n, n))
    flops = pairs_flops(pairs)
    return Case(lambda: call(q, k, v), (q, k, v), formula, flops, size(q, k, v, q), [*rewrites, masked])


# ------------------------------------------------------- fixed patterns


def knowledge_tracing(n: int) -> Case:
    import heddle as hd

    e = example("knowledge_tracing")

    def strict(q: Any, k: Any, v: Any) -> Any:
        out = F.scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], is_causal=True)
        return F.pad(out, (0, 0, 1, 0))

    case = patterned(
        n, hd.causal(1), lambda i, j: j < i, lambda q, k, v: e.run(q, k, v, lag=1), [strict], n * (n - 1) / 2
    )

    def formula(q: Any, k: Any, v: Any) -> Any:
        i, j = grids(n)
        return torch.nan_to_num(attention(q, k, v, j < i))  # row 0 sees nothing

    case.formula, case.rewrites = formula, [strict]
    return case


def dense(n: int) -> Case:
    import heddle as hd

    q, k, v = qkv(n)

    def rewrite(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def formula(q: Any, k: Any, v: Any) -> Any:
        i, j = grids(n)
        return attention(q, k, v, j <= i)

    return Case(
        lambda: hd.attend(q, k, v, where=hd.causal), (q, k, v), formula, pairs_flops(n * (n + 1) / 2),
        size(q, k, v, q), [rewrite],
    )  # fmt: skip


def sparse_transformer(kind: str, n: int) -> Case:
    l, c = root(n), 8
    e = example("sparse_transformer", L=l, C=c)
    where = e.pattern(kind)

    def live(i: Any, j: Any) -> Any:
        near = (i - j < l) if kind == "strided" else (i // l == j // l)
        far = ((i - j) % l == 0) if kind == "strided" else (j % l >= l - c)
        return (j <= i) & (near | far)

    rewrites = _peers.sparse_transformer(l) if kind == "strided" else _peers.sparse_transformer_fixed(l, c)
    return patterned(n, where, live, lambda q, k, v: e.run(q, k, v, kind), list(rewrites))


def image_transformer(kind: str, n: int) -> Case:
    side = 16  # of a 2-D block
    width = max(1, int(math.sqrt(n)) // side)
    e = example("image_transformer", B=256, FILTER=128, ACROSS=width, BLOCK=side, FLANGE=(8, 16))
    b = e.B

    def live(i: Any, j: Any) -> Any:
        if kind == "1d":
            return (j <= i) & ((i // b == j // b) | (i // b - j // b == 1))
        if kind == "1d full":
            return (j >= i // b * b - e.FILTER) & (j < i // b * b + b + e.FILTER)
        return live_2d(i, j, width, side, e.FLANGE)

    def blocks(q: Any, k: Any, v: Any) -> Any:
        before, after = (b, 0) if kind == "1d" else (e.FILTER, e.FILTER)
        kp, vp = (F.pad(x, (0, 0, before, after)).flatten(0, 1).unfold(1, before + b + after, b) for x in (k, v))
        i = torch.arange(n).view(n // b, b, 1)
        j = torch.arange(n // b)[:, None, None] * b - before + torch.arange(before + b + after)
        mask = (j >= 0) & (j < n) & ((j <= i) if kind == "1d" else True)
        out, _ = flash(in_blocks(q, b), kp.mT, vp.mT, mask=torch.where(mask, 0.0, NEVER)[None])
        return out.reshape(q.shape)

    pairs = float(live(*grids(n)).sum()) if n <= 8192 else 0.0
    if not pairs:  # the same for every block but those at the border
        pairs = float(live(torch.arange(n - 2048, n)[:, None], torch.arange(n)[None]).sum()) * n / 2048
    return patterned(
        n, None, live, lambda q, k, v: e.run(q, k, v, kind), [blocks] if kind != "2d" else [], pairs
    )  # fmt: skip


def live_2d(i: Any, j: Any, across: int, side: int, flange: tuple[int, int]) -> Any:
    """Image Transformer 2-D by rows and columns of the image."""

    def place(p: Any) -> tuple[Any, Any, Any]:
        block, inside = p // (side * side), p % (side * side)
        return block, block // across * side + inside // side, block % across * side + inside % side

    (mine, _, _), (other, y, x) = place(i), place(j)
    top, left = mine // across * side, mine % across * side
    above = (top - flange[0] <= y) & (y < top) & (left - flange[1] <= x) & (x < left + side + flange[1])
    beside = (top <= y) & (y < top + side) & (left - flange[1] <= x) & (x < left)
    return ((mine == other) & (j <= i)) | above | beside


def ngram(n: int) -> Case:
    e = example("ngram")
    left = 6

    def shifted(q: Any, k: Any, v: Any) -> Any:
        k, v = (F.pad(x, (0, 0, left, 0)) for x in (k, v))
        s = torch.stack([(q * k[:, :, t : t + n]).sum(-1) for t in range(left + 1)], -1) * DIM**-0.5
        seen = torch.arange(n)[:, None] - left + torch.arange(left + 1) >= 0
        p = torch.softmax(s.masked_fill(~seen, NEVER), -1)
        return sum(p[..., t, None] * v[:, :, t : t + n] for t in range(left + 1))

    import heddle as hd

    call = lambda q, k, v: e.run(q, k, v, order=left + 2)  # noqa: E731
    live = lambda i, j: (j <= i) & (i - j <= left)  # noqa: E731
    return patterned(n, hd.window(left, 0), live, call, [shifted, *_peers.band(left)])


def survey(kind: str, n: int) -> Case:
    b, stride = 256, 64
    e = example("survey_patterns", B=b, S=stride)
    import heddle as hd

    def blocks(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(*(in_blocks(x, b) for x in (q, k, v))).reshape(q.shape)

    def classes(q: Any, k: Any, v: Any) -> Any:
        parts = (_peers.classes(x, stride, True) for x in (q, k, v))
        return _peers.unclasses(F.scaled_dot_product_attention(*parts))

    near = kind == "blockwise"
    live = (lambda i, j: i // b == j // b) if near else (lambda i, j: (i - j) % stride == 0)
    return patterned(
        n, hd.block(b) if near else hd.stride(stride), live, lambda q, k, v: e.run(q, k, v, kind),
        [blocks if near else classes],
    )  # fmt: skip


def longformer(n: int, w: int = 256, count: int = 16) -> Case:
    e = example("longformer", W=w, GLOBALS=count)
    q, k, v = qkv(n)
    qg, kg, vg = qkv(n)
    tokens = torch.sort(torch.randperm(n)[:count])[0][None]
    flags = torch.zeros(1, n, dtype=torch.bool)
    flags[0, tokens[0]] = True
    valid = torch.ones(1, n, dtype=torch.bool)
    inputs = (q, k, v, qg, kg, vg, valid, flags, tokens)

    def globals_(out: Any, qg: Any, kg: Any, vg: Any, tokens: Any) -> Any:
        out = out.clone()
        out[:, :, tokens[0]] = F.scaled_dot_product_attention(qg[:, :, tokens[0]], kg, vg)
        return out

    def formula(q: Any, k: Any, v: Any, qg: Any, kg: Any, vg: Any, valid: Any, flags: Any, tokens: Any) -> Any:
        i, j = grids(n)
        live = ((abs(i - j) <= w) | flags[:, None, None]) & valid[:, None, None]
        return globals_(attention(q, k, v, live), qg, kg, vg, tokens)

    def banded(
        q: Any, k: Any, v: Any, qg: Any, kg: Any, vg: Any, valid: Any, flags: Any, tokens: Any, chunk: int
    ) -> Any:
        drop = F.pad(flags[0] | ~valid[0], (w, w), value=True).unfold(0, chunk + 2 * w, chunk)[:, None]
        mask = _peers.band_mask(n, w, chunk, w, q.dtype)[0].masked_fill(drop, NEVER)[None]
        kp, vp = (F.pad(x, (0, 0, w, w)).flatten(0, 1).unfold(1, chunk + 2 * w, chunk) for x in (k, v))
        out, lse = flash(in_blocks(q, chunk), kp.mT, vp.mT, mask=mask)
        near = out.reshape(q.shape), lse.reshape(q.shape[:3])
        far = flash(q, k[:, :, tokens[0]], v[:, :, tokens[0]])
        return globals_(merge([near, far]), qg, kg, vg, tokens)

    pairs = n * (2 * w + 1) - w * (w + 1) + n * count + count * n
    return Case(
        lambda: e.run(*inputs, dilation=(1, 1)), inputs, formula, pairs_flops(pairs), size(*inputs, q),
        [functools.partial(banded, chunk=c) for c in (64, 128, 256, 512) if c <= n],
    )  # fmt: skip


def etc(n: int, r: int = 128, count: int = 128) -> Case:
    e = example("etc", R=r, GLOBALS=count, IDS=32)
    long = [rand(1, HEADS, n, DIM) for _ in range(5)]
    few = [rand(1, HEADS, count, DIM) for _ in range(5)]
    bias, table = rand(HEADS, 32), rand(HEADS, 32, DIM)
    shapes = ((1, n, 2 * r + 1), (1, n, count), (1, count, count), (1, count, n))
    ids = [torch.randint(0, 32, s, dtype=torch.int32) for s in shapes]
    inputs = (*long, *few, table, bias, *ids)

    def formula(
        q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, table: Any,
        bias: Any, ll: Any, lg: Any, gg: Any, gl: Any,
    ) -> Any:  # fmt: skip
        def part(q: Any, k: Any, ids: Any) -> Any:
            at = ids.long()[:, None].expand(-1, HEADS, -1, -1)
            return (q @ k.mT + (q @ table.mT).gather(-1, at)) * DIM**-0.5 + bias[:, ids.long()].transpose(0, 1)

        i, j = grids(n)
        ll = ll[:, i, (j - i + r).clamp(0, 2 * r)]
        s = torch.cat([part(q, kll, ll).masked_fill(abs(i - j) > r, NEVER), part(q, klg, lg)], -1)
        out = torch.softmax(s, -1) @ torch.cat([vll, vlg], 2)
        t = torch.cat([part(qg, kgg, gg), part(qg, kgl, gl)], -1)
        return torch.cat([torch.softmax(t, -1) @ torch.cat([vgg, vgl], 2), out], 2)

    def blocked(
        q: Any, kll: Any, vll: Any, kgl: Any, vgl: Any, qg: Any, klg: Any, vlg: Any, kgg: Any, vgg: Any, table: Any,
        bias: Any, ll: Any, lg: Any, gg: Any, gl: Any,
    ) -> Any:  # fmt: skip
        c = 128
        wide = c + 2 * r
        at = (torch.arange(n // c)[:, None, None] * c - r + torch.arange(wide)).expand(n // c, c, wide)
        rows = torch.arange(n).view(n // c, c, 1)
        near = ll[0][rows, (at - rows + r).clamp(0, 2 * r)].long()
        own = (q @ table.mT)[0] * DIM**-0.5
        rows_of = own.view(HEADS, n // c, c, -1).gather(-1, near.expand(HEADS, -1, -1, -1))
        add = rows_of + bias[:, near] + torch.where((at >= 0) & (at < n) & (abs(at - rows) <= r), 0.0, NEVER)
        kp, vp = (F.pad(x, (0, 0, r, r)).flatten(0, 1).unfold(1, wide, c) for x in (kll, vll))
        out, lse = flash(in_blocks(q, c), kp.mT, vp.mT, mask=add)
        band = out.reshape(q.shape), lse.reshape(q.shape[:3])
        far = bias[:, lg[0].long()] + own.gather(-1, lg.long().expand(HEADS, -1, -1))
        long_rows = merge([band, flash(q, klg, vlg, mask=far[None])])
        keys, values = torch.cat([kgg, kgl], 2), torch.cat([vgg, vgl], 2)
        joint = torch.cat([gg[0], gl[0]], -1).long()
        both = bias[:, joint][None] + (qg @ table.mT).gather(-1, joint.expand(1, HEADS, -1, -1)) * DIM**-0.5
        return torch.cat([F.scaled_dot_product_attention(qg, keys, values, attn_mask=both), long_rows], 2)

    pairs = n * (2 * r + 1 + count) + count * (count + n)
    tables = size(*ids)
    return Case(
        lambda: torch.from_numpy(np.asarray(e.run(*inputs))), inputs, formula, pairs_flops(pairs),
        size(*long, *few, table, bias, *long[:1], *few[:1]) + tables, [blocked],
    )  # fmt: skip


# ------------------------------------------------------- summaries


def combiner_fixed(n: int) -> Case:
    s = root(n)
    e = example("combiner_fixed", S=s)
    q, k, v = qkv(n)

    def summaries(q: Any, k: Any, v: Any) -> tuple[Any, Any]:
        qb, kb, vb = (x.view(1, HEADS, n // s, s, DIM) for x in (q, k, v))
        p = torch.softmax((qb.amax(3)[:, :, :, None] @ kb.mT) * DIM**-0.5, -1)
        return kb.amax(3), (p @ vb)[:, :, :, 0]

    def formula(q: Any, k: Any, v: Any) -> Any:
        keys, values = summaries(q, k, v)
        i, j = grids(n)
        own = (q @ k.mT * DIM**-0.5).masked_fill((j > i) | (i // s != j // s), NEVER)
        far = (q @ keys.mT * DIM**-0.5).masked_fill(torch.arange(n // s)[None] >= i // s, NEVER)
        return torch.softmax(torch.cat([own, far], -1), -1) @ torch.cat([v, values], 2)

    def blocked(q: Any, k: Any, v: Any) -> Any:
        keys, values = summaries(q, k, v)
        qb, kb, vb = (x.view(1, HEADS, n // s, s, DIM) for x in (q, k, v))
        i, j = grids(s)
        own = (qb @ kb.mT * DIM**-0.5).masked_fill(j > i, NEVER)
        past = torch.arange(n // s)[None] >= torch.arange(n // s)[:, None]
        far = (q @ keys.mT * DIM**-0.5).view(1, HEADS, n // s, s, n // s).masked_fill(past[:, None], NEVER)
        p = torch.softmax(torch.cat([own, far], -1), -1)
        near = (p[..., :s] @ vb).view(1, HEADS, n, DIM)
        return near + p[..., s:].reshape(1, HEADS, n, n // s) @ values

    pairs = n * (s + 1) / 2 + n * (n // s - 1) / 2 + n
    return Case(lambda: e.run(q, k, v), (q, k, v), formula, pairs_flops(pairs), size(q, k, v, q), [blocked])


def combiner_axial(kind: str, n: int) -> Case:
    w = root(n)
    e = example("combiner_axial", W=w)
    q, k, v = qkv(n)
    lines = n // w

    def scores(a: Any, b: Any, live: Any) -> Any:
        return (a @ b.mT * DIM**-0.5).masked_fill(~live, NEVER)

    def formula(q: Any, k: Any, v: Any) -> Any:
        rq, rk, rv = (x.view(1, HEADS, lines, w, DIM) for x in (q, k, v))  # by rows
        cq, ck, cv = (x.transpose(2, 3) for x in (rq, rk, rv))  # by columns
        i, j = grids(w)
        up, down = grids(lines)
        own = scores(rq, rk, j <= i)
        if kind == "rowmajor":
            rows = torch.softmax(rq @ rk.mT * DIM**-0.5, -1) @ rv
            far = scores(cq, ck, down < up).transpose(2, 3)
            p = torch.softmax(torch.cat([own, far], -1), -1)
            out = p[..., :w] @ rv + (p[..., w:].transpose(2, 3) @ rows.transpose(2, 3)).transpose(2, 3)
            return out.reshape(q.shape)
        tops, keys = (F.pad(x.cummax(3)[0][:, :, :, :-1], (0, 0, 1, 0)) for x in (cq, ck))
        first = (up == 0) & (down == 0)  # sees nothing; any weight will do
        values = torch.softmax(scores(tops, ck, (down < up) | first), -1) @ cv
        keys, values = keys.transpose(2, 3), values.transpose(2, 3)
        over = scores(cq, ck, down < up).transpose(2, 3)
        far = scores(rq, keys, (i != j) & (torch.arange(lines) > 0)[:, None, None])
        p = torch.softmax(torch.cat([own, over, far], -1), -1)
        near, column, rest = p.split([w, lines, w], -1)
        return (near @ rv + (column.transpose(2, 3) @ cv).transpose(2, 3) + rest @ values).reshape(q.shape)

    pairs = n * (w + 1) / 2 + n * (lines - 1) / 2 + (n * w if kind == "rowmajor" else n * (w - 1 + (lines - 1) / 2))
    return Case(lambda: e.run(q, k, v, kind), (q, k, v), formula, pairs_flops(pairs), size(q, k, v, q))


def combiner_logsparse(n: int) -> Case:
    levels = int(math.log2(n))
    e = example("combiner_logsparse", LEVELS=levels)
    q, k, v = qkv(n)

    def formula(q: Any, k: Any, v: Any) -> Any:
        i = torch.arange(n)
        scores, values = [(q * k).sum(-1) * DIM**-0.5], [v]
        for level in range(levels):
            s = 2**level
            keys, mixed = k, v
            if level:
                qb, kb, vb = (x.view(1, HEADS, n // s, s, DIM) for x in (q, k, v))
                p = torch.softmax((qb.amax(3)[:, :, :, None] @ kb.mT) * DIM**-0.5, -1)
                keys, mixed = kb.amax(3), (p @ vb)[:, :, :, 0]
            at = (i >> level) - 1
            seen = ((i >> level) & 1) == 1
            scores.append(((q * keys[:, :, at]).sum(-1) * DIM**-0.5).masked_fill(~seen, NEVER))
            values.append(mixed[:, :, at])
        p = torch.softmax(torch.stack(scores), 0)
        return sum(a[..., None] * b for a, b in zip(p, values, strict=True))

    def halves(q: Any, k: Any, v: Any) -> Any:
        """Queries of the odd blocks of a level, block by block: every one sees the block before it."""
        keys = [(k[:, :, 0::2], v[:, :, 0::2])]
        scores = [(q * k).sum(-1) * DIM**-0.5]
        for level in range(1, levels):
            s = 2**level
            qb, kb, vb = (x.view(1, HEADS, n // s, s, DIM)[:, :, 0::2] for x in (q, k, v))
            p = torch.softmax((qb.amax(3)[:, :, :, None] @ kb.mT) * DIM**-0.5, -1)
            keys.append((kb.amax(3), (p @ vb)[:, :, :, 0]))
        for level, (key, _) in enumerate(keys):
            s = 2**level
            odd = q.view(1, HEADS, n // s, s, DIM)[:, :, 1::2]
            score = (odd * key[:, :, :, None]).sum(-1) * DIM**-0.5
            full = torch.full((1, HEADS, n // s, s), NEVER)
            full[:, :, 1::2] = score
            scores.append(full.view(1, HEADS, n))
        p = torch.softmax(torch.stack(scores), 0)
        out = p[0, ..., None] * v
        for level, (_, value) in enumerate(keys):
            s = 2**level
            out.view(1, HEADS, n // s, s, DIM)[:, :, 1::2] += (
                p[level + 1].view(1, HEADS, n // s, s, 1)[:, :, 1::2] * value[:, :, :, None]
            )
        return out

    pairs = n * (1 + levels / 2) + n * (levels - 1)
    return Case(lambda: e.run(q, k, v), (q, k, v), formula, pairs_flops(pairs), size(q, k, v, q), [halves])


def bigbird(n: int, b: int = 64, drawn: int = 3) -> Case:
    e = example("bigbird", B=b, RANDOM=drawn)
    q, k, v = qkv(n)
    blocks = n // b
    chosen = torch.full((1, HEADS, blocks, drawn), -1, dtype=torch.int32)
    for h in range(HEADS):
        for u in range(1, blocks - 1):
            free = [w for w in range(1, blocks - 1) if abs(w - u) > 1]
            at = torch.randperm(len(free))[:drawn]
            chosen[0, h, u, : len(at)] = torch.tensor([free[int(x)] for x in at], dtype=torch.int32)
    live = torch.zeros(HEADS, blocks, blocks, dtype=torch.bool)
    i, j = grids(blocks)
    live |= (abs(i - j) <= 1) | (i == 0) | (j == 0) | (i == blocks - 1) | (j == blocks - 1)
    for t in range(drawn):
        at = chosen[0, :, :, t].long()
        live |= (j == at[..., None]) & (at >= 0)[..., None]
    mask = live.repeat_interleave(b, 1).repeat_interleave(b, 2)[None] if n <= MASKED else None

    def formula(q: Any, k: Any, v: Any, chosen: Any) -> Any:
        return attention(q, k, v, mask)

    def gathered(q: Any, k: Any, v: Any, chosen: Any) -> Any:
        """As HF does it: for each block of queries its blocks of keys; the first and the last block see all."""
        u = torch.arange(1, blocks - 1)
        near = torch.stack([0 * u, 0 * u + blocks - 1, u - 1, u, u + 1], -1).expand(HEADS, -1, -1)
        seen = torch.cat([near, chosen[0, :, 1:-1].long()], -1)
        twice = (seen[..., :, None] == seen[..., None, :]).tril(-1).any(-1) | (seen < 0)
        kb, vb = (x.view(HEADS, blocks, b, DIM) for x in (k, v))
        h = torch.arange(HEADS)[:, None, None]
        ks, vs = (x[h, seen.clamp(min=0)].flatten(2, 3) for x in (kb, vb))
        add = torch.where(twice, NEVER, 0.0).repeat_interleave(b, -1)[:, :, None]
        qb = q.view(HEADS, blocks, b, DIM)
        inner = F.scaled_dot_product_attention(qb[:, 1:-1], ks, vs, attn_mask=add)
        ends = F.scaled_dot_product_attention(qb[:, [0, -1]].flatten(1, 2), k[0], v[0]).view(HEADS, 2, b, DIM)
        return torch.cat([ends[:, :1], inner, ends[:, 1:]], 1).view(q.shape)

    pairs = float(live.sum()) / HEADS * b * b
    return Case(
        lambda: e.run(q, k, v, chosen, drawn=False), (q, k, v, chosen), formula, pairs_flops(pairs),
        size(q, k, v, q, chosen), [gathered],
    )  # fmt: skip


def swin(n: int, width: int = 64, side: int = 8) -> Case:
    e = example("swin", W=width, M=side)
    q, k, v = qkv(n)
    table = rand(HEADS, 2 * side - 1, 2 * side - 1)
    row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
    down, across = (x[:, None] - x[None] + side - 1 for x in (row, column))

    def windows(x: Any) -> Any:
        x = x.view(HEADS, n // width // side, side, width // side, side, DIM)
        return x.transpose(2, 3).reshape(HEADS, -1, side * side, DIM)

    def formula(q: Any, k: Any, v: Any, table: Any, fused: bool = False) -> Any:
        parts, bias = [windows(x) for x in (q, k, v)], table[:, down, across][:, None]
        call = F.scaled_dot_product_attention
        out = call(*parts, attn_mask=bias) if fused else attention(*parts, add=bias)
        out = out.view(HEADS, n // width // side, width // side, side, side, DIM)
        return out.transpose(2, 3).reshape(q.shape)

    return Case(
        lambda: e.run(q, k, v, table, shift=0), (q, k, v, table), formula, pairs_flops(n * side * side),
        size(q, k, v, q), [functools.partial(formula, fused=True)],
    )  # fmt: skip


def performer(n: int, d: int = 32, features: int = 64) -> Case:
    e = example("performer", FEATURES=features)
    q, k, v = qkv(n, d)
    w, halves = rand(1, 1, d, features), torch.full((1, 1, d, 1), 0.5)

    def formula(q: Any, k: Any, v: Any, w: Any) -> Any:
        def phi(x: Any) -> Any:
            x = x * d**-0.25
            return torch.exp(x @ w[0, 0] - (x * x).sum(-1, keepdim=True) / 2) + e.EPS

        q, k = phi(q), phi(k)
        return q @ (k.mT @ v) / (q * k.sum(2, keepdim=True)).sum(-1, keepdim=True)

    flops = 2.0 * HEADS * n * features * (2 * d + 2 * d)
    call = lambda: e.attention(q, k, v, w, halves, False)  # noqa: E731
    return Case(call, (q, k, v, w), formula, flops, size(q, k, v, q))


def memory_compressed(dtype: Any, n: int) -> Case:
    e = example("memory_compressed")
    q, k, v = qkv(n, dtype=dtype)
    wk, wv = (rand(HEADS, 3, DIM, DIM).to(dtype) / 14 for _ in range(2))
    bk, bv = rand(HEADS, DIM).to(dtype), rand(HEADS, DIM).to(dtype)
    k0, v0 = rand(1, HEADS, 1, DIM).to(dtype), rand(1, HEADS, 1, DIM).to(dtype)
    inputs = (q, k, v, wk, bk, wv, bv, k0, v0)
    m = (n - 3) // 3 + 1

    def shrink(x: Any, w: Any, b: Any) -> Any:
        """A product of blocks of 3 rows."""
        blocks = x[:, :, : 3 * m].reshape(1, HEADS, m, 3 * DIM)
        return blocks @ w.reshape(HEADS, 3 * DIM, DIM) + b[:, None]

    def conv(x: Any, w: Any, b: Any) -> Any:
        kernel = w.permute(0, 3, 2, 1).flatten(0, 1)
        y = F.conv1d(x.transpose(2, 3).reshape(1, HEADS * DIM, n), kernel, b.flatten(), 3, groups=HEADS)
        return y.view(1, HEADS, DIM, m).transpose(2, 3)

    def compressed(shrink: Any, fused: bool) -> Callable[..., Any]:
        def run(q: Any, k: Any, v: Any, wk: Any, bk: Any, wv: Any, bv: Any, k0: Any, v0: Any) -> Any:
            keys, values = torch.cat([k0, shrink(k, wk, bk)], 2), torch.cat([v0, shrink(v, wv, bv)], 2)
            i, j = torch.arange(n)[:, None], torch.arange(m + 1)[None]
            live = j * 3 <= i
            if fused:
                mask = torch.where(live, 0.0, NEVER).to(q.dtype)
                return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            return attention(q, keys, values, live)

        return run

    pairs = n + n * (n - 3) / 6
    flops = pairs_flops(pairs) + 2 * 2.0 * HEADS * m * 3 * DIM * DIM
    rewrites = [compressed(shrink, True), compressed(conv, True), compressed(shrink, False)]
    return Case(lambda: e.run(*inputs), inputs, compressed(conv, False), flops, size(*inputs, q), rewrites)


def linformer(dtype: Any, n: int, rank: int = 256) -> Case:
    e = example("linformer")
    q, k, v = qkv(n, dtype=dtype)
    p, f = (rand(n, rank).to(dtype) / n**0.5 for _ in range(2))
    inputs = (q, k, v, p, f)

    def formula(q: Any, k: Any, v: Any, p: Any, f: Any) -> Any:
        return attention(q, torch.einsum("bhnd,nk->bhkd", k, p), torch.einsum("bhnd,nk->bhkd", v, f))

    def fused(q: Any, k: Any, v: Any, p: Any, f: Any) -> Any:
        return F.scaled_dot_product_attention(q, p.mT @ k, f.mT @ v)

    flops = pairs_flops(n * rank) + 2 * 2.0 * HEADS * n * rank * DIM
    return Case(lambda: e.run(*inputs), inputs, formula, flops, size(*inputs, q), [fused])


def set_transformer(n: int, m: int = 64) -> Case:
    e = example("set_transformer", SCALE=(HEADS * DIM) ** -0.5)
    inputs = (rand(1, HEADS, m, DIM), *qkv(n))

    def formula(points: Any, q: Any, k: Any, v: Any) -> Any:
        summary = attention(points, k, v, scale=e.SCALE)
        return attention(q, summary, summary, scale=e.SCALE)

    def fused(points: Any, q: Any, k: Any, v: Any) -> Any:
        summary = F.scaled_dot_product_attention(points, k, v, scale=e.SCALE)
        return F.scaled_dot_product_attention(q, summary, summary, scale=e.SCALE)

    return Case(lambda: e.run(*inputs), inputs, formula, pairs_flops(2 * n * m), size(*inputs, inputs[1]), [fused])


def sinkhorn(n: int) -> Case:
    b = root(n)
    e = example("sinkhorn", BLOCK=b)
    q, k, v = qkv(n)
    s = torch.softmax(rand(1, HEADS, n // b, n // b), -1)  # as the last normalisation leaves it
    inputs = (q, k, v, s)
    by_source = s.mT.contiguous()

    def formula(q: Any, k: Any, v: Any, s: Any) -> Any:
        def mixed(x: Any) -> Any:
            return torch.einsum("bhuv,bhvod->bhuod", s, x.view(1, HEADS, n // b, b, DIM))

        def own(x: Any) -> Any:
            return x.view(1, HEADS, n // b, b, DIM)

        keys, values = (torch.cat([mixed(x), own(x)], 3) for x in (k, v))
        return attention(own(q), keys, values).view(q.shape)

    def fused(q: Any, k: Any, v: Any, s: Any) -> Any:
        def both(x: Any) -> Any:
            own = x.view(HEADS, n // b, b * DIM)
            return torch.cat([(s[0] @ own).view(HEADS, n // b, b, DIM), own.view(HEADS, n // b, b, DIM)], 2)

        return F.scaled_dot_product_attention(q.view(HEADS, n // b, b, DIM), both(k), both(v)).view(q.shape)

    flops = pairs_flops(n * 2 * b) + 2 * 2.0 * HEADS * (n // b) ** 2 * b * DIM
    return Case(lambda: e.sinkhorn(q, k, v, by_source), inputs, formula, flops, size(*inputs, q), [fused])


def compressive(n: int, ratio: int = 3) -> Case:
    old, mem = 512 * ratio, 512
    e = example("compressive", OLD=old, C=ratio, MEM=mem)
    tensors = [rand(1, HEADS, m, DIM) for m in (old, old, mem, mem, n, n)]
    r = rand(1, HEADS, 512 + mem + n, DIM)
    u, w = rand(HEADS, 1, DIM), rand(HEADS, 1, DIM)
    inputs = (rand(1, HEADS, n, DIM), *tensors, r, u, w)

    def formula(q: Any, ko: Any, vo: Any, km: Any, vm: Any, k: Any, v: Any, r: Any, u: Any, w: Any) -> Any:
        kc, vc = (x.view(1, HEADS, 512, ratio, DIM).mean(3) for x in (ko, vo))
        return relative_attention(q + u, q + w, torch.cat([kc, km, k], 2), torch.cat([vc, vm, v], 2), r)

    pairs = n * (n + 1) / 2 + n * (512 + mem)
    flops = pairs_flops(pairs, 2 * DIM, DIM)
    return Case(lambda: e.run(*inputs, pool="mean"), inputs, formula, flops, size(*inputs, inputs[0]))


def relative_attention(qu: Any, qw: Any, k: Any, v: Any, r: Any) -> Any:
    """Transformer-XL: causal, the second dot with the row of the distance, by the skew of its code."""
    n, m = qu.shape[2], k.shape[2]
    far = qw @ r.flip(2).mT  # column c is of distance m - 1 - c
    skewed = F.pad(far, (1, 0)).reshape(1, HEADS, m + 1, n)[:, :, 1:].reshape(1, HEADS, n, m)
    i, j = grids(n, m)
    s = (qu @ k.mT + skewed) * DIM**-0.5
    return torch.softmax(s.masked_fill(j > i + m - n, NEVER), -1) @ v


def transformer_xl(n: int) -> Case:
    e = example("transformer_xl", MEM=n)
    q, k, v, r = rand(1, HEADS, n, DIM), *(rand(1, HEADS, 2 * n, DIM) for _ in range(3))
    u, w = rand(HEADS, 1, DIM), rand(HEADS, 1, DIM)
    inputs = (q, k, v, r, u, w)

    def formula(q: Any, k: Any, v: Any, r: Any, u: Any, w: Any) -> Any:
        return relative_attention(q + u, q + w, k, v, r)

    flops = pairs_flops(n * (n + 1) / 2 + n * n, 2 * DIM, DIM)
    return Case(lambda: e.run(*inputs, kind="causal"), inputs, formula, flops, size(*inputs, q))


# ------------------------------------------------------- data-dependent patterns


def reformer(n: int, chunk: int = 128) -> Case:
    buckets = max(2, n // chunk)
    e = example("reformer", CHUNK=chunk, BUCKETS=buckets)
    q, _, v = qkv(n)
    k = q / q.norm(dim=-1, keepdim=True)
    found, ranks, orders = [], [], []
    for _ in range(2):
        turn = k @ rand(DIM, buckets // 2)
        found.append(torch.cat([turn, -turn], -1).argmax(-1).int())
        orders.append(torch.sort(found[-1].long(), dim=-1, stable=True)[1])
        ranks.append(torch.argsort(orders[-1], -1).int())
    inputs = (q, k, v, *found, *ranks)

    def formula(q: Any, k: Any, v: Any, b0: Any, b1: Any, r0: Any, r1: Any) -> Any:
        i, j = grids(n)
        same = [(b[..., :, None] == b[..., None, :]) for b in (b0, b1)]
        shared = torch.log(same[0].float() + same[1].float())
        s = q @ k.mT * DIM**-0.5 - torch.where(i == j, 1e5, shared)
        scores = []
        for one, rank in zip(same, (r0, r1), strict=True):
            apart = rank[..., :, None] // chunk - rank[..., None, :] // chunk
            scores.append(s.masked_fill(~(one & (j <= i) & ((apart == 0) | (apart == 1))), NEVER))
        return torch.softmax(torch.cat(scores, -1), -1) @ torch.cat([v, v], 2)

    def sorted_(q: Any, k: Any, v: Any, b0: Any, b1: Any, r0: Any, r1: Any) -> Any:
        """As the packages do it: sort, chunks with the one before, merge by lse."""
        parts = []
        for b, rank in ((b0, r0), (b1, r1)):
            order = torch.argsort(rank, -1)
            at = order[..., None].expand(1, HEADS, n, DIM)
            qs, ks, vs = (x.gather(2, at).view(1, HEADS, n // chunk, chunk, DIM) for x in (q, k, v))
            place = order.view(1, HEADS, n // chunk, chunk)
            ids = [x.gather(2, order).view(1, HEADS, n // chunk, chunk) for x in (b0, b1)]
            mine = ids[0] if b is b0 else ids[1]

            def back(x: Any, fill: Any = 0) -> Any:
                before = torch.full_like(x[:, :, :1], fill)
                return torch.cat([torch.cat([before, x[:, :, :-1]], 2), x], 3)

            kk, vv, pp, bb, other = back(ks), back(vs), back(place, n), back(mine, -1), [back(x, -1) for x in ids]
            count = sum((x[..., :, None] == y[..., None, :]).float() for x, y in zip(ids, other, strict=True))
            s = qs @ kk.mT * DIM**-0.5
            s = s - torch.where(place[..., :, None] == pp[..., None, :], 1e5, torch.log(count))
            live = (mine[..., :, None] == bb[..., None, :]) & (pp[..., None, :] <= place[..., :, None])
            s = s.masked_fill(~live, NEVER)
            lse = torch.logsumexp(s, -1)
            out = (torch.exp(s - lse[..., None]) @ vv).view(1, HEADS, n, DIM)
            to = rank.long()
            parts.append((out.gather(2, to[..., None].expand_as(out)), lse.view(1, HEADS, n).gather(2, to)))
        return merge(parts)

    pairs = sum(live_in_chunks(b, r, chunk) for b, r in zip(found, ranks, strict=True)) / HEADS
    return Case(
        lambda: e.run(*inputs, causal=True), inputs, formula, pairs_flops(pairs), size(*inputs, q), [sorted_]
    )  # fmt: skip


def live_in_chunks(bucket: Any, rank: Any, chunk: int) -> float:
    """Causal pairs of equal buckets in the same chunk or the one before, all heads."""
    n = bucket.shape[-1]
    order = torch.argsort(rank, -1)
    sorted_ = bucket.gather(2, order).view(-1, n // chunk, chunk)
    place = order.view(-1, n // chunk, chunk)
    total = 0
    for back in (0, 1):
        b, p = sorted_[:, back:], place[:, back:]
        c, o = (sorted_[:, :-1], place[:, :-1]) if back else (sorted_, place)
        total += int(((b[..., :, None] == c[..., None, :]) & (o[..., None, :] <= p[..., :, None])).sum())
    return float(total)


def routing(n: int) -> Case:
    w = root(n)
    e = example("routing", W=w)
    q, k, v = (x / 3 for x in qkv(n))
    lists = [torch.sort(torch.randperm(n)[:w])[0] for _ in range(HEADS * (n // w))]
    members = torch.stack(lists).view(1, HEADS, -1)
    inputs = (q, k, v, members)

    def clusters(q: Any, k: Any, v: Any, members: Any, fused: bool) -> Any:
        at = members[..., None].expand(1, HEADS, members.shape[2], DIM)
        g = [x.gather(2, at).view(HEADS, n // w, w, DIM) for x in (q, k, v)]
        i, j = grids(w)
        if fused:
            out = F.scaled_dot_product_attention(*g, is_causal=True, scale=1.0)
        else:
            out = attention(*g, j <= i, scale=1.0)
        total = torch.zeros_like(q).scatter_add_(2, at, out.view(1, HEADS, -1, DIM))
        count = torch.zeros(q.shape[:3]).scatter_add_(2, members, torch.ones(members.shape))
        return total / (count[..., None] + 0.01)

    formula, fused = (functools.partial(clusters, fused=f) for f in (False, True))
    pairs = (n // w) * w * (w + 1) / 2
    return Case(lambda: e.run(*inputs, causal=True), inputs, formula, pairs_flops(pairs), size(*inputs, q), [fused])


def informer(n: int) -> Case:
    import heddle as hd

    e = example("informer")
    q, k, v = qkv(n)
    u = min(n, 5 * math.ceil(math.log(n)))
    top = torch.stack([torch.randperm(n)[:u] for _ in range(HEADS)]).view(1, HEADS, u)
    inputs = (q, k, v, top)

    def heddle() -> Any:
        return e.full(q, k, v, top, hd.pool(v, "mean", 1 << 29, partial=True).expand_as(v))

    def select(q: Any, k: Any, v: Any, top: Any, fused: bool) -> Any:
        at = top[..., None].expand(1, HEADS, u, DIM)
        rows = q.gather(2, at)
        some = F.scaled_dot_product_attention(rows, k, v) if fused else attention(rows, k, v)
        return v.mean(2, keepdim=True).expand_as(v).contiguous().scatter(2, at, some)

    formula, fused = (functools.partial(select, fused=f) for f in (False, True))
    return Case(heddle, inputs, formula, pairs_flops(u * n), size(k, v, q, top), [fused])


def transformer_xh(n: int, length: int = 64) -> Case:
    e = example("transformer_xh", LENGTH=length)
    t = n // length
    q, k, v = (rand(t, HEADS, length, DIM) for _ in range(3))
    degree = torch.randint(1, min(t, 8) + 1, (t,))
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(degree, 0)])
    idx = torch.cat([torch.randperm(t)[:m] for m in degree.tolist()])
    w = rand(2 * DIM, DIM) / 11
    inputs = (q, k, v, ptr, idx, w)
    host = [x.numpy() for x in inputs]
    row = torch.repeat_interleave(torch.arange(t), degree)

    def formula(q: Any, k: Any, v: Any, ptr: Any, idx: Any, w: Any, fused: bool = False) -> Any:
        out = F.scaled_dot_product_attention(q, k, v) if fused else attention(q, k, v)
        qn, kn, vn = (x[:, :, 0] for x in (q, k, v))
        s = (qn[row] * kn[idx]).sum(-1) * DIM**-0.5
        top = torch.full((t, HEADS), NEVER).scatter_reduce(0, row[:, None].expand_as(s), s, "amax")
        p = torch.exp(s - top[row])
        z = torch.zeros(t, HEADS).index_add(0, row, p)
        hops = torch.zeros(t, HEADS, DIM).index_add(0, row, p[..., None] * vn[idx]) / z[..., None]
        first = torch.cat([out[:, :, 0], hops], -1) @ w
        return torch.cat([first[:, :, None], out[:, :, 1:]], 2)

    pairs = n * length + float(degree.sum())
    flops = pairs_flops(pairs) + 2.0 * t * HEADS * 2 * DIM * DIM
    return Case(
        lambda: torch.from_numpy(e.run(*host)), inputs, formula, flops, size(*inputs, q),
        [functools.partial(formula, fused=True)],
    )  # fmt: skip


# ------------------------------------------------------- scores, normalisers, linear


def complex_embedding(n: int) -> Case:
    inputs = tuple(rand(1, HEADS, n, DIM) for _ in range(6))
    qr, qi, kr, ki, vr, vi = inputs
    values = torch.cat([vr, vi], -1)

    def heddle() -> Any:
        import heddle as hd

        def modulus(a: Any, b: Any, c: Any, d: Any, *_: Any) -> Any:
            real, imaginary = a - b, c + d
            return hd.sqrt(real * real + imaginary * imaginary)

        dots = [(qr, kr), (qi, ki), (qr, ki), (qi, kr)]
        return hd.attend(qr, segments=[hd.segment(kr, values, score=modulus, dots=dots)])

    def formula(qr: Any, qi: Any, kr: Any, ki: Any, vr: Any, vi: Any) -> Any:
        real, imaginary = qr @ kr.mT - qi @ ki.mT, qr @ ki.mT + qi @ kr.mT
        p = torch.softmax(torch.sqrt(real * real + imaginary * imaginary) * DIM**-0.5, -1)
        return torch.cat([p @ vr, p @ vi], -1)

    return Case(heddle, inputs, formula, pairs_flops(n * n, 4 * DIM, 2 * DIM), size(*inputs, vr, vi))


def synthesizer(kind: str, n: int) -> Case:
    e = example("synthesizer")
    q, k, v = qkv(n)
    if kind == "factorised random":
        extra: tuple[Any, ...] = (rand(1, HEADS, n, 8), rand(1, HEADS, n, 8))
    else:
        extra = (rand(*((1,) if kind == "dense" else ()), HEADS, n, n),)
    inputs = (q, k, v, *extra)

    def formula(q: Any, k: Any, v: Any, r: Any, *rest: Any) -> Any:
        if kind == "mixture":
            return torch.softmax(0.75 * (q @ k.mT) * DIM**-0.5 + 0.25 * r, -1) @ v
        return torch.softmax(r @ rest[0].mT if rest else r, -1) @ v

    def fused(q: Any, k: Any, v: Any, r: Any, *rest: Any) -> Any:
        if rest:
            return F.scaled_dot_product_attention(r, rest[0], v, scale=1.0)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=0.25 * r.view(1, HEADS, n, n), scale=0.75 * DIM**-0.5)

    d = {"mixture": DIM, "factorised random": 8}.get(kind, 0)
    used = inputs if kind == "mixture" else inputs[2:]
    rewrites = [fused] if d else []
    return Case(
        lambda: e.run(*inputs, kind=kind), inputs, formula, pairs_flops(n * n, d, DIM), size(*used, q), rewrites
    )  # fmt: skip


def lite_transformer(n: int, taps: int = 7) -> Case:
    e = example("lite_transformer", K=taps)
    q, k, v, x = (rand(1, HEADS, n, DIM) for _ in range(4))
    tap = torch.softmax(rand(1, HEADS, n, taps), -1)
    inputs = (q, k, v, x, tap)

    def formula(q: Any, k: Any, v: Any, x: Any, tap: Any, fused: bool = False) -> Any:
        padded = F.pad(x, (0, 0, taps - 1, 0))
        mixed = sum(tap[..., t, None] * padded[:, :, t : t + n] for t in range(taps))
        i, j = grids(n)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True) if fused else attention(q, k, v, j <= i)
        return torch.cat([out, mixed], -1)

    def heddle() -> Any:
        return torch.from_numpy(np.asarray(e.run(*inputs, causal=True)))

    flops = pairs_flops(n * (n + 1) / 2) + 2.0 * HEADS * n * taps * DIM
    return Case(heddle, inputs, formula, flops, size(*inputs, q, x), [functools.partial(formula, fused=True)])


def linear_transformer(causal: bool, n: int) -> Case:
    e = example("linear_transformer")
    inputs = qkv(n)

    def phi(x: Any) -> Any:
        return F.elu(x) + 1

    def formula(q: Any, k: Any, v: Any) -> Any:
        q, k = phi(q), phi(k)
        if causal:
            s = torch.cumsum(k[..., :, None] * v[..., None, :], 2) if n <= 4096 else None
            z = torch.cumsum(k, 2)
            top = torch.einsum("bhnd,bhnde->bhne", q, s)
        else:
            z = k.sum(2, keepdim=True)
            top = q @ (k.mT @ v)
        return top / ((q * z).sum(-1, keepdim=True) + 1e-6)

    def chunked(q: Any, k: Any, v: Any, c: int) -> Any:
        q, k = phi(q).view(HEADS, n // c, c, DIM), phi(k).view(HEADS, n // c, c, DIM)
        v = v.view(HEADS, n // c, c, DIM)
        own = k.mT @ v
        before = torch.cumsum(own, 1) - own
        sums = k.sum(2, keepdim=True)
        z = torch.cumsum(sums, 1) - sums + torch.cumsum(k, 2)
        inside = (q @ k.mT).tril()
        top = q @ before + inside @ v
        return (top / ((q * z).sum(-1, keepdim=True) + 1e-6)).view(1, HEADS, n, DIM)

    rewrites = [functools.partial(chunked, c=c) for c in (32, 64, 128)] if causal else []
    flops = 2 * 2.0 * HEADS * n * DIM * DIM  # the state, and what is read from it
    call = lambda: e.run(*inputs, causal=causal)  # noqa: E731
    return Case(call, inputs, formula, flops, size(*inputs, inputs[0]), rewrites)


def aft(kind: str, n: int, s: int = 64) -> Case:
    import heddle as hd

    e = example("aft", S=s)
    q, k, v = qkv(n)
    weight = rand(HEADS, 2 * s - 1) / 4 if kind == "conv" else rand(n, n) / 4
    if kind == "conv":
        k = k[..., :1].contiguous()
    if kind == "simple":
        weight = weight[:1, :1]
    inputs = (q, k, v, weight)
    ones = torch.ones(n, 1)
    table = hd.tensor(weight)

    def heddle() -> Any:
        if kind == "full":
            x = torch.exp(k - k.amax(2, keepdim=True))
            sums = e.mix(q, torch.cat([x * v, x], -1), hd.full, lambda b, h, i, j: hd.exp(table[i, j]))
            return sums[..., :DIM] / sums[..., DIM:] * torch.sigmoid(q)
        if kind == "simple":
            return e.simple(q, k, v, e.largest(k), ones)
        return e.windowed(q, k, v, weight, e.largest(k), ones, kind == "conv")

    def formula(q: Any, k: Any, v: Any, w: Any) -> Any:
        x = torch.exp(k - k.amax(2, keepdim=True))
        if kind == "simple":
            return torch.sigmoid(q) * (x * v).sum(2, keepdim=True) / x.sum(2, keepdim=True)
        i, j = grids(n)
        if kind == "conv":
            w = w[:, (i - j + s - 1).clamp(0, 2 * s - 2)]
        if kind != "full":
            w = w.masked_fill(abs(i - j) >= s, 0.0)
        a = torch.exp(w)
        return torch.sigmoid(q) * (a @ (x * v)) / (a @ x)

    def banded(q: Any, k: Any, v: Any, w: Any, c: int) -> Any:
        """Totals, and the band by blocks of c rows."""
        x = torch.exp(k - k.amax(2, keepdim=True))
        both = torch.cat([x * v, x.expand_as(v)], -1)[0]
        wide = c + 2 * (s - 1)
        rows = torch.arange(n).view(n // c, c, 1)
        at = torch.arange(n // c)[:, None, None] * c - (s - 1) + torch.arange(wide)
        live = (abs(at - rows) < s) & (at >= 0) & (at < n)
        near = w[:, (rows - at + s - 1).clamp(0, 2 * s - 2)] if kind == "conv" else w[rows, at.clamp(0, n - 1)]
        a = torch.where(live, torch.exp(near) - 1, 0.0)
        blocks = F.pad(both, (0, 0, s - 1, s - 1)).unfold(1, wide, c).mT
        sums = (a @ blocks).view(1, HEADS, n, 2 * DIM) + both.sum(1, keepdim=True)
        return torch.sigmoid(q) * sums[..., :DIM] / sums[..., DIM:]

    rewrites = [functools.partial(banded, c=c) for c in (32, 64, 128)] if kind in ("local", "conv") else []
    pairs = {"full": n * n, "simple": 0}.get(kind, n * (2 * s - 1))
    read = {"full": 4.0 * n * n, "local": 4.0 * n * (2 * s - 1)}.get(kind, size(weight))
    flops = 2.0 * HEADS * (pairs + n) * (DIM + k.shape[-1])
    return Case(heddle, inputs, formula, flops, size(q, k, v, q) + read, rewrites)


def gmlp(n: int, d: int = 512) -> Case:
    e = example("gmlp")
    z1, z2 = rand(1, 1, n, d), rand(1, 1, n, d)
    w, bias = rand(n, n) / n**0.5, torch.ones(n) + rand(n)
    few = rand(1, 1, 1, 16)
    inputs = (z1, z2, w, bias)

    def formula(z1: Any, z2: Any, w: Any, bias: Any) -> Any:
        return z1 * (w @ z2 + bias[:, None])

    call = lambda: e.run(*inputs, few, few, few, causal=False, tiny=False)  # noqa: E731
    return Case(call, inputs, formula, 2.0 * n * n * d, size(*inputs, z1))


# ------------------------------------------------------- the list


def systems() -> list[System]:
    """All rows, in order."""
    import _zoobeyond

    f32, bf16 = torch.float32, torch.bfloat16
    part = functools.partial
    square = lambda n: float(n) * n  # noqa: E731
    line = lambda n: float(n)  # noqa: E731
    logged = lambda n: n * math.log2(n)  # noqa: E731
    rows = [
        System("dense", "O(n^2)", square, dense, "dense", 16384),
        System("knowledge_tracing", "O(n^2)", square, knowledge_tracing, "dense", 16384),
        System("sparse_transformer", "O(n sqrt n)", lambda n: float(n) * (root(n) + n / root(n) / 2),
               part(sparse_transformer, "strided"), "sparse"),
        System("sparse_transformer/fixed", "O(n sqrt n)", lambda n: float(n) * (root(n) + 8 * n / root(n)),
               part(sparse_transformer, "fixed"), "sparse"),
        System("longformer", "O(n w)", line, longformer, "sparse"),
        System("etc", "O(n (r + g))", line, etc, "sparse", 8192),
        System("image_transformer", "O(n B)", line, part(image_transformer, "1d"), "sparse"),
        System("image_transformer/1d full", "O(n B)", line, part(image_transformer, "1d full"), "sparse"),
        System("image_transformer/2d", "O(n B)", line, part(image_transformer, "2d"), "sparse"),
        System("ngram", "O(n N)", line, ngram, "sparse"),
        System("survey_patterns/blockwise", "O(n b)", line, part(survey, "blockwise"), "sparse"),
        System("survey_patterns/strided", "O(n^2 / s)", square, part(survey, "strided"), "sparse"),
        System("combiner_fixed", "O(n sqrt n)", lambda n: float(n) * (root(n) + n / root(n)), combiner_fixed,
               "sparse"),
        *(System(f"combiner_axial/{kind}", "O(n sqrt n)", lambda n: float(n) * (1.5 * root(n) + n / root(n)),
                 part(combiner_axial, kind), "sparse") for kind in ("vertical", "rowmajor")),
        System("combiner_logsparse", "O(n log n)", logged, combiner_logsparse, "sparse"),
        System("memory_compressed", "O(n^2 / 3)", square, part(memory_compressed, f32), "sparse", 16384),
        System("memory_compressed/bf16", "O(n^2 / 3)", square, part(memory_compressed, bf16), "sparse", 16384),
        System("compressive", "O(n (n + mem + cmem))", lambda n: n * (n / 2 + 1024), compressive, "dense", 8192),
        System("transformer_xl", "O(n (n + mem))", square, transformer_xl, "dense", 8192, 2048),
        System("linformer", "O(n k)", line, part(linformer, f32), "sparse"),
        System("linformer/bf16", "O(n k)", line, part(linformer, bf16), "sparse"),
        System("set_transformer", "O(n m)", line, set_transformer, "sparse"),
        System("sinkhorn", "O(n b + n^2 / b)", lambda n: float(n) * (2 * root(n) + n / root(n)), sinkhorn, "sparse"),
        System("reformer", "O(n log n)", logged, reformer, "run-time"),
        System("routing", "O(n sqrt n)", lambda n: float(n) * root(n), routing, "run-time"),
        System("informer", "O(n log n)", logged, informer, "run-time"),
        System("transformer_xh", "O(n L + edges)", line, transformer_xh, "run-time"),
        System("bigbird", "O(n b)", line, bigbird, "run-time"),
        System("swin", "O(n m^2)", line, swin, "sparse"),
        System("complex_embedding", "O(n^2)", square, complex_embedding, "dense", 8192),
        *(System(f"synthesizer/{kind}", "O(n^2)", square, part(synthesizer, kind), "dense", 8192)
          for kind in ("random", "dense", "mixture", "factorised random")),
        System("lite_transformer", "O(n^2 + n K)", square, lite_transformer, "dense", 16384),
        System("linear_transformer", "O(n)", line, part(linear_transformer, True), "linear"),
        System("linear_transformer/full", "O(n)", line, part(linear_transformer, False), "linear"),
        System("performer", "O(n m)", line, performer, "linear"),
        System("aft/full", "O(n^2)", square, part(aft, "full"), "dense", 8192),
        System("aft/simple", "O(n)", line, part(aft, "simple"), "linear"),
        System("aft/local", "O(n s)", line, part(aft, "local"), "sparse", 16384),
        System("aft/conv", "O(n s)", line, part(aft, "conv"), "sparse"),
        System("gmlp", "O(n^2)", square, gmlp, "dense", 8192),
        *_zoobeyond.systems(),
    ]  # fmt: skip
    return rows
