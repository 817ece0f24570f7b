"""More rows of the bench of the zoo (_zoo.py): trees, and the systems that Heddle was not built for."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from _peers import NEVER, flash, in_blocks, merge
from _zoo import DIM, HEADS, Case, System, attention, example, grids, pairs_flops, qkv, rand, size

F = torch.nn.functional


def transformer(n: int) -> Case:
    """The attention of BERT, ELECTRA, ALBERT and the like: all keys that are no padding."""
    import heddle as hd

    q, k, v = qkv(n)
    length = torch.tensor([n - n // 8])

    def formula(q: Any, k: Any, v: Any, length: Any) -> Any:
        return attention(q, k, v, torch.arange(n) < length[:, None, None, None])

    def fused(q: Any, k: Any, v: Any, length: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.arange(n) < length[:, None, None, None])

    run = lambda: hd.attend(q, k, v, where=hd.lengths(length))  # noqa: E731
    flops = pairs_flops(float(n) * int(length))
    return Case(run, (q, k, v, length), formula, flops, size(q, k, v, q), [fused])


def mixed_precision(n: int, w: int = 512, b: int = 64) -> Case:
    e = example("mixed_precision", W=w, B=b)
    q, k, v = qkv(n, dtype=torch.bfloat16)

    def means(x: Any) -> Any:
        return x.view(1, HEADS, n // b, b, DIM).mean(3)

    def live(i: Any) -> Any:
        j, r = torch.arange(n)[None], torch.arange(n // b)[None]
        return torch.cat([(i - w < j) & (j <= i), r * b + b <= i], -1)

    def formula(q: Any, k: Any, v: Any) -> Any:
        keys, values = torch.cat([k, means(k)], 2), torch.cat([v, means(v)], 2)
        return attention(q, keys, values, live(torch.arange(n)[:, None]))

    def fused(q: Any, k: Any, v: Any) -> Any:
        keys, values = torch.cat([k, means(k)], 2), torch.cat([v, means(v)], 2)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=live(torch.arange(n)[:, None]))

    def banded(q: Any, k: Any, v: Any) -> Any:
        kp, vp = (F.pad(x, (0, 0, w, 0)).flatten(0, 1).unfold(1, 2 * w, w).mT for x in (k, v))
        i = torch.arange(w)[:, None] + w
        j = torch.arange(2 * w)[None]
        first = (torch.arange(n // w) == 0)[:, None, None] & (j < w)
        add = torch.where((i - w < j) & (j <= i) & ~first, 0.0, NEVER).to(q.dtype)
        out, lse = flash(in_blocks(q, w), kp, vp, mask=add[None])
        near = out.reshape(q.shape), lse.reshape(q.shape[:3])
        seen = torch.arange(n // b)[None] * b + b <= torch.arange(n)[:, None]
        few = torch.where(seen, 0.0, NEVER).to(q.dtype)
        rest = flash(q[:, :, b:], means(k), means(v), mask=few[b:].expand(1, HEADS, -1, -1))
        last = merge([(near[0][:, :, b:], near[1][:, :, b:]), rest]).to(q.dtype)
        return torch.cat([near[0][:, :, :b].to(q.dtype), last], 2)

    pairs = n * w - w * (w - 1) / 2 + n * (n // b) / 2
    rewrites = [fused, banded] if n <= 8192 and n % w == 0 else [fused]
    return Case(lambda: e.attention(q, k, v), (q, k, v), formula, pairs_flops(pairs), size(q, k, v, q), rewrites)


def native_sparse(n: int, window: int = 512, top: int = 16) -> Case:
    short, step, block = 32, 16, 64
    e = example("native_sparse", SIZE=short, STRIDE=step, BLOCK=block, TOP=top, W=window)
    q, (k, v) = rand(1, HEADS, n, DIM), (rand(1, 1, n, DIM) for _ in range(2))
    wk, wv = (rand(1, short, DIM, DIM) / (short * DIM) ** 0.5 for _ in range(2))
    blocks, rows = n // block, (n - short) // step + 1
    # The own block, the first one, and others of the past; -1 where there are fewer. Heads of a group share them.
    own, u = torch.arange(n)[:, None] // block, torch.arange(blocks)[None]
    score = torch.where(u < own, torch.rand(n, blocks), -1.0) + 2.0 * (u == 0) + 4.0 * (u == own)
    best, at = score.topk(min(top, blocks), -1)
    chosen = F.pad(torch.where(best >= 0, at, -1), (0, top - at.shape[1]), value=-1).int()
    chosen = chosen.expand(1, HEADS, n, top).contiguous()
    gates = [torch.sigmoid(rand(1, HEADS, n, 1)) for _ in range(3)]
    inputs = (q, k, v, wk, wv, chosen, *gates)

    def shrink(x: Any, w: Any) -> Any:
        return x[0, 0].unfold(0, short, step).mT.flatten(1) @ w[0].flatten(0, 1)

    def branches(q: Any, k: Any, v: Any, wk: Any, wv: Any, chosen: Any, *g: Any, attend: Any) -> Any:
        i, j = grids(n)
        past = torch.arange(rows) * step + short <= i + 1
        far = attend(q, shrink(k, wk).expand(1, HEADS, -1, -1), shrink(v, wv).expand(1, HEADS, -1, -1), past)
        far = torch.where(past.any(-1)[:, None], far, 0.0)
        listed = torch.zeros(1, HEADS, n, blocks + 1, dtype=torch.bool)
        listed = listed.scatter(-1, torch.where(chosen < 0, blocks, chosen).long(), True)[..., :blocks]
        k, v = k.expand(1, HEADS, -1, -1), v.expand(1, HEADS, -1, -1)
        picked = attend(q, k, v, listed.repeat_interleave(block, -1) & (j <= i))
        near = attend(q, k, v, (j <= i) & (i - j < window))
        return far * g[0] + picked * g[1] + near * g[2]

    def fused(q: Any, k: Any, v: Any, live: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=live)

    full = torch.clamp(torch.arange(n) // block + 1, max=top) * block  # the own block is cut at i
    picked = float(full.sum()) - n * (block - 1) / 2
    pairs = n * rows / 2 + picked + n * window
    flops = pairs_flops(pairs) + 2 * 2.0 * rows * short * DIM * DIM
    return Case(
        lambda: e.attention(*inputs), inputs, partial(branches, attend=attention), flops, size(*inputs, q),
        [partial(branches, attend=fused)],
    )  # fmt: skip


def nystromformer(n: int, landmarks: int = 64, taps: int = 33) -> Case:
    e = example("nystromformer", LANDMARKS=landmarks, TAPS=taps)
    q, k, v = qkv(n)
    w = rand(HEADS, taps) / taps
    inputs = (q, k, v, w)
    hq, hk, hv, hw = (x.numpy() for x in inputs)
    units = e.units(hq)

    def heddle() -> Any:
        a, far, kl = e.to_landmarks(hq, hk, hv, units, n // landmarks)
        return torch.from_numpy(e.finish(hq, hv, hw, a, far, kl, e.from_landmarks))

    def formula(q: Any, k: Any, v: Any, w: Any, attend: Any = attention) -> Any:
        ql, kl = (x.view(1, HEADS, landmarks, n // landmarks, DIM).mean(3) for x in (q, k))
        a = torch.softmax(ql @ kl.mT * DIM**-0.5, -1).double()
        one = torch.eye(landmarks, dtype=torch.float64)
        z = a.mT / a.abs().sum(-2).max() / a.abs().sum(-1).max()
        for _ in range(6):
            az = a @ z
            z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
        near = torch.stack([
            F.conv1d(v[0, h].mT[:, None], w[h].view(1, 1, taps), padding=taps // 2)[:, 0].mT for h in range(HEADS)
        ])  # fmt: skip
        return attend(q, kl, z.float() @ attend(ql, k, v)) + near[None]

    flops = pairs_flops(2.0 * n * landmarks) + 2.0 * HEADS * n * taps * DIM
    return Case(
        heddle, inputs, formula, flops, size(*inputs, q), [partial(formula, attend=F.scaled_dot_product_attention)]
    )  # fmt: skip


def longt5(n: int, r: int = 127, g: int = 16) -> Case:
    e = example("longt5", R=r, G=g)
    m, most = n // g, e.FAR
    q, k, v = qkv(n)
    ks, vs = rand(1, HEADS, m, DIM), rand(1, HEADS, m, DIM)
    near, far = rand(HEADS, 2 * r + 1), rand(HEADS, 2 * most + 1)
    inputs = (q * DIM**-0.5, k, v, ks, vs, near, far)
    valid, known = torch.ones(1, n, dtype=torch.bool), torch.ones(1, m, dtype=torch.bool)
    blocks = (torch.arange(n) // g)[None]

    def distant(far: Any) -> Any:
        return far[:, (torch.arange(m) - blocks[0, :, None] + most).clamp(0, 2 * most)]

    def formula(q: Any, k: Any, v: Any, ks: Any, vs: Any, near: Any, far: Any) -> Any:
        i, j = grids(n)
        add = torch.where(abs(i - j) <= r, near[:, (j - i + r).clamp(0, 2 * r)], NEVER)
        s = torch.cat([q @ k.mT + add, q @ ks.mT + distant(far)], -1)
        return torch.softmax(s, -1) @ torch.cat([v, vs], 2)

    def blocked(q: Any, k: Any, v: Any, ks: Any, vs: Any, near: Any, far: Any) -> Any:
        c = 128
        wide, q = c + 2 * r, q * DIM**0.5
        at = torch.arange(n // c)[:, None, None] * c - r + torch.arange(wide)
        apart = at - torch.arange(n).view(n // c, c, 1)
        add = torch.where((abs(apart) <= r) & (at >= 0) & (at < n), near[:, (apart + r).clamp(0, 2 * r)], NEVER)
        kp, vp = (F.pad(x, (0, 0, r, r)).flatten(0, 1).unfold(1, wide, c).mT for x in (k, v))
        out, lse = flash(in_blocks(q, c), kp, vp, mask=add)
        band = out.reshape(q.shape), lse.reshape(q.shape[:3])
        return merge([band, flash(q, ks, vs, mask=distant(far)[None])])

    q, *rest = inputs
    call = lambda: e.attention(q, *rest[:4], valid, known, *rest[4:], blocks)  # noqa: E731
    pairs = n * (2 * r + 1) - r * (r + 1) + n * m
    return Case(call, inputs, formula, pairs_flops(pairs), size(*inputs, q), [blocked])


def graph_attention(n: int, most: int = 32) -> Case:
    e = example("graph_attention")
    v, a, c = rand(1, HEADS, n, DIM), rand(1, HEADS, n), rand(1, HEADS, n)
    degree = torch.randint(1, most + 1, (n,))
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(degree, 0)])
    idx = torch.randint(0, n, (int(ptr[-1]),))
    edge = rand(HEADS, len(idx))
    row = torch.repeat_interleave(torch.arange(n), degree)
    inputs = (v, a, c, edge, ptr, idx)

    def formula(v: Any, a: Any, c: Any, edge: Any, ptr: Any, idx: Any) -> Any:
        s = F.leaky_relu(a[0, :, row] + c[0, :, idx] + edge, e.SLOPE)
        top = torch.full((HEADS, n), NEVER).scatter_reduce(1, row.expand(HEADS, -1), s, "amax")
        p = torch.exp(s - top[:, row])
        z = torch.zeros(HEADS, n).index_add(1, row, p)
        return (torch.zeros(HEADS, n, DIM).index_add(1, row, p[..., None] * v[0][:, idx]) / z[..., None])[None]

    call = lambda: e.attention(v, a, c, edge, ptr[None, :-1], ptr[None, 1:], idx[None])  # noqa: E731
    return Case(call, inputs, formula, 2.0 * HEADS * len(idx) * DIM, size(*inputs, v))


def relative_values(n: int, most: int = 8) -> Case:
    e = example("relative_values", K=most)
    q, k, v = qkv(n)
    by_key, by_value = rand(1, 1, 2 * most + 1, DIM), rand(2 * most + 1, DIM)
    inputs = (q, k, v, by_key, by_value)
    host = [x.numpy() for x in inputs]

    def formula(q: Any, k: Any, v: Any, by_key: Any, by_value: Any) -> Any:
        i, j = grids(n)
        which = (i - j).clamp(-most, most) + most
        own = (q @ by_key.mT).gather(-1, which.expand(1, HEADS, n, n))
        p = torch.softmax(((q @ k.mT + own) * DIM**-0.5).masked_fill(j > i, NEVER), -1)
        shares = torch.zeros(1, HEADS, n, 2 * most + 1).scatter_add(-1, which.expand_as(p), p)
        return p @ v + shares @ by_value

    run = lambda: torch.from_numpy(e.run(*host, causal=True))  # noqa: E731
    return Case(run, inputs, formula, pairs_flops(n * (n + 1) / 2), size(*inputs, q))


def deberta(n: int, most: int = 256) -> Case:
    e = example("deberta", K=most)
    q, k, v = qkv(n)
    rk, rq = rand(HEADS, 2 * most, DIM), rand(HEADS, 2 * most, DIM)
    inputs = (q, k, v, rk, rq)
    by_query, by_key = rk[None], rq.mT.contiguous()[:, None]

    def formula(q: Any, k: Any, v: Any, rk: Any, rq: Any) -> Any:
        i, j = grids(n)
        apart = (i - j + most).clamp(0, 2 * most - 1).expand(1, HEADS, n, n)
        s = q @ k.mT + (q @ rk.mT).gather(-1, apart) + (k @ rq.mT).gather(-1, apart).mT
        return torch.softmax(s * (3 * DIM) ** -0.5, -1) @ v

    def fused(q: Any, k: Any, v: Any, rk: Any, rq: Any) -> Any:
        scale = (3 * DIM) ** -0.5
        i, j = grids(n)
        apart = (i - j + most).clamp(0, 2 * most - 1).expand(1, HEADS, n, n)
        add = (q @ rk.mT).gather(-1, apart) + (k @ rq.mT).gather(-1, apart).mT
        return F.scaled_dot_product_attention(q, k, v, attn_mask=add * scale, scale=scale)

    run = lambda: e.attention(q, k, v, by_query, by_key, True)  # noqa: E731
    flops = pairs_flops(float(n) * n) + 2 * 2.0 * HEADS * n * 2 * most * DIM
    return Case(run, inputs, formula, flops, size(*inputs, q), [fused])


def mamba2(n: int, state: int = 64) -> Case:
    e = example("mamba2", STATE=state)
    x = rand(1, HEADS, n, DIM)
    b, c = (rand(1, 1, n, state) / state**0.5 for _ in range(2))
    dt, a, d = F.softplus(rand(1, HEADS, n) - 2), -torch.exp(rand(HEADS)), rand(HEADS)
    inputs = (x, b, c, dt, a, d)
    shared = [t.expand(1, HEADS, n, state) for t in (b, c)]
    column, rate, skip, before = dt[..., None], a[:, None], d[:, None, None], torch.zeros(1, HEADS, state, DIM)

    def formula(x: Any, b: Any, c: Any, dt: Any, a: Any, d: Any) -> Any:
        i, j = grids(n)
        total = torch.cumsum(dt * a[:, None], -1)
        decay = torch.exp((total[..., :, None] - total[..., None, :]).masked_fill(j > i, NEVER))
        return ((c @ b.mT) * decay) @ (x * dt[..., None]) + x * d[:, None, None]

    def chunked(x: Any, b: Any, c: Any, dt: Any, a: Any, d: Any, size: int) -> Any:
        """As the paper's listing does it: inside of chunks by pairs, between them by states."""
        m = n // size
        total = torch.cumsum((dt * a[:, None]).view(HEADS, m, size), -1)
        rows = (x * dt[..., None]).view(HEADS, m, size, DIM)
        bs, cs = (t.view(1, m, size, state) for t in (b, c))
        i, j = grids(size)
        decay = torch.exp((total[..., :, None] - total[..., None, :]).masked_fill(j > i, NEVER))
        inside = ((cs @ bs.mT) * decay) @ rows
        last = total[..., -1:]
        own = (bs * torch.exp(last - total)[..., None]).mT @ rows
        ends = F.pad(torch.cumsum(last[..., 0], -1), (1, 0))
        p, r = grids(m)
        between = torch.exp((ends[:, :-1, None] - ends[:, None, 1:]).masked_fill(r >= p, NEVER))
        states = torch.einsum("hpr,hrsd->hpsd", between, own)
        out = inside + (cs * torch.exp(total)[..., None]) @ states
        return out.view(x.shape) + x * d[:, None, None]

    run = lambda: e.scan(x, *shared, dt, column, rate, skip, before)[0]  # noqa: E731
    flops = 2 * 2.0 * HEADS * n * state * DIM
    return Case(run, inputs, formula, flops, size(*inputs, x), [partial(chunked, size=s) for s in (64, 128, 256)])


def gated_linear(n: int, d: int = DIM) -> Case:
    e = example("gated_linear")
    q, k, v = qkv(n)
    x = rand(1, HEADS, n, d) + 2
    before = torch.zeros(1, HEADS, d, DIM)

    def gates(x: Any) -> Any:
        return F.logsigmoid(x) / e.TEMPERATURE

    def formula(q: Any, k: Any, v: Any, x: Any) -> Any:
        total = torch.cumsum(gates(x), 2)
        i, j = grids(n)
        gap = (total[:, :, :, None] - total[:, :, None]).masked_fill((j > i)[..., None], NEVER)
        return torch.einsum("bhic,bhjc,bhijc->bhij", q * d**-0.5, k, torch.exp(gap)) @ v

    def chunked(q: Any, k: Any, v: Any, x: Any, c: int) -> Any:
        """As the packages do it: inside of small chunks by pairs, between them by states."""
        qs, ks, vs, g = (t.view(HEADS, n // c, c, -1) for t in (q * d**-0.5, k, v, gates(x)))
        total = torch.cumsum(g, 2)
        i, j = grids(c)
        gap = (total[:, :, :, None] - total[:, :, None]).masked_fill((j > i)[..., None], NEVER)
        inside = torch.einsum("hmic,hmjc,hmijc->hmij", qs, ks, torch.exp(gap)) @ vs
        last = total[:, :, -1:]
        own, kept = (ks * torch.exp(last - total)).mT @ vs, torch.exp(last.mT)
        states, state = [], torch.zeros(HEADS, d, DIM)
        for m in range(n // c):
            states.append(state)
            state = kept[:, m] * state + own[:, m]
        return (inside + (qs * torch.exp(total)) @ torch.stack(states, 1)).view(v.shape)

    flops = 2 * 2.0 * HEADS * n * d * DIM
    inputs = (q, k, v, x)
    rewrites = [partial(chunked, c=c) for c in (16, 32)]
    return Case(lambda: e.gla(*inputs, before, d**-0.5)[0], inputs, formula, flops, size(*inputs, v), rewrites)


def sparse_mlp(n: int, channels: int = 256) -> Case:
    import heddle as hd

    x, w = rand(1, 1, n, channels), rand(n, n) / n**0.5

    def formula(x: Any, w: Any) -> Any:
        return w.mT @ x

    return Case(lambda: hd.project(x, w), (x, w), formula, 2.0 * n * n * channels, size(x, w, x))


def tree(n: int) -> Case:
    """A balanced binary tree over n leaves."""
    import heddle as hd

    e = example("tree")
    nodes: list[int] = []
    leaves = [0] * n

    def grow(lo: int, hi: int, parent: int) -> None:
        if hi - lo == 1:
            leaves[lo] = parent
            return
        mine = len(nodes)
        nodes.append(parent)
        grow(lo, (lo + hi) // 2, mine)
        grow((lo + hi) // 2, hi, mine)

    grow(0, n, -1)
    flat = [torch.from_numpy(x) for x in e.flatten([nodes], [leaves])]
    m, half = len(nodes), DIM // 2
    qn, kn, vn = (rand(1, HEADS, m, DIM) for _ in range(3))
    ql, kl, vl = qkv(n)
    w = rand(1, HEADS, n)
    down, across = F.pad(rand(1, HEADS, n, half), (0, half)), F.pad(rand(1, HEADS, n, half), (half, 0))
    inputs = (qn, kn, vn, ql, kl, vl, w, down, across, *flat)

    def heddle() -> Any:
        inner = e.attention(qn, kn, vn, kl, vl, w, down, across, *flat)
        return torch.cat([inner, hd.attend(ql, kl, vl)], 2)

    def formula(
        qn: Any, kn: Any, vn: Any, ql: Any, kl: Any, vl: Any, w: Any, down: Any, across: Any, *flat: Any,
        outer: Any = attention,
    ) -> Any:  # fmt: skip
        lo, hi, first, end, _, _, level, leaf_level, node, leaf, depth, place = (x[0].long() for x in flat)
        j, t = torch.arange(n)[None], torch.arange(m)[None]
        below = (lo[:, None] <= j) & (j < hi[:, None])
        inside = (first[:, None] <= t) & (t < end[:, None])
        share = below / ((hi - lo)[:, None] * (leaf_level[None] - level[:, None] + 1))
        weight = w[:, :, None] * share
        pairs = vn[:, :, node] + down[:, :, depth] + across[:, :, place]
        values = weight @ vl + (weight[..., leaf] * inside[:, node]) @ pairs
        keys = torch.cat([kn, kl], 2)
        nodes = attention(qn, keys, torch.cat([values, vl], 2), torch.cat([inside, below], 1))
        return torch.cat([nodes, outer(ql, kl, vl)], 2)

    lo, hi, first, end, pairs_lo, pairs_hi = (x.long() for x in flat[:6])
    summed, seen = float((hi - lo + pairs_hi - pairs_lo).sum()), float((end - first + hi - lo).sum())
    flops = 2.0 * HEADS * summed * DIM + pairs_flops(seen + float(n) * n)
    return Case(
        heddle, inputs, formula, flops, size(*inputs, qn, ql), [partial(formula, outer=F.scaled_dot_product_attention)]
    )  # fmt: skip


def systems() -> list[System]:
    """The rows."""
    square = lambda n: float(n) * n  # noqa: E731
    line = lambda n: float(n)  # noqa: E731
    return [
        System("transformer", "O(n^2)", square, transformer, "dense", 8192),
        System("tree", "O(n^2)", lambda n: float(n) * n + n * math.log2(n) ** 2, tree, "dense", 8192, 1024),
        System("mixed_precision/bf16", "O(n^2 / b + n w)", lambda n: n * (n / 128 + 512), mixed_precision, "sparse"),
        System("native_sparse", "O(n^2 / s + n (t b + w))", lambda n: n * (n / 32 + 1536), native_sparse, "run-time"),
        System("nystromformer", "O(n m)", line, nystromformer, "sparse"),
        System("longt5", "O(n (r + n / g))", lambda n: n * (n / 16 + 255), longt5, "sparse"),
        System("graph_attention", "O(edges)", line, graph_attention, "lists"),
        System("relative_values", "O(n^2)", square, relative_values, "dense", 8192, 2048),
        System("deberta", "O(n^2)", square, deberta, "dense", 8192, 2048),
        System("mamba2", "O(n)", line, mamba2, "linear"),
        System("gated_linear", "O(n)", line, gated_linear, "linear", compare=512),
        System("sparse_mlp", "O(n^2)", square, sparse_mlp, "dense", 8192),
    ]
